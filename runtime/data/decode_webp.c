// WebP through libwebp: lossy, lossless, transparency over white; of an animation the first frame.
#include <stdlib.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "data/decoders.h"

static bool decode_animation(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    WebPAnimDecoderOptions options;
    WebPData data = {bytes, length};
    uint8_t *rgba;
    int when;
    if (!WebPAnimDecoderOptionsInit(&options)) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "WebP: another version of libwebp");
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, &options);
    bool good = decoder && WebPAnimDecoderGetNext(decoder, &rgba, &when);
    if (good) rgba_over_white(rgba, picture->pixels, (size_t)picture->width * (size_t)picture->height);
    else lv_error_set(error, LV_ERROR_FORMAT, "WebP: damaged or cut off");
    if (decoder) WebPAnimDecoderDelete(decoder);
    return good;
}

static bool decode_still(LvPicture *picture, const uint8_t *bytes, size_t length, bool alpha, LvError *error) {
    size_t count = (size_t)picture->width * (size_t)picture->height;
    if (!alpha) {
        if (WebPDecodeRGBInto(bytes, length, picture->pixels, count * 3, picture->width * 3)) return true;
        return lv_error_set(error, LV_ERROR_FORMAT, "WebP: damaged or cut off");
    }
    uint8_t *rgba = malloc(count * 4);
    if (!rgba) return lv_error_set(error, LV_ERROR_MEMORY, "WebP: no memory");
    bool good = WebPDecodeRGBAInto(bytes, length, rgba, count * 4, picture->width * 4);
    if (good) rgba_over_white(rgba, picture->pixels, count);
    free(rgba);
    return good ? true : lv_error_set(error, LV_ERROR_FORMAT, "WebP: damaged or cut off");
}

bool decode_webp(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(bytes, length, &features) != VP8_STATUS_OK) return lv_error_set(error, LV_ERROR_FORMAT, "WebP: damaged or cut off");
    if (!lv_picture_alloc(picture, features.width, features.height, error)) return false;
    bool good = features.has_animation ? decode_animation(picture, bytes, length, error)
                                       : decode_still(picture, bytes, length, features.has_alpha, error);
    if (!good) lv_picture_free(picture);
    return good;
}
