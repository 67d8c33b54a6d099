// PNG through libspng: every colour type and depth (16 bits are cut to 8), interlaced, palette, transparency over white.
#include <spng.h>
#include <stdlib.h>

#include "data/decoders.h"

enum { MAX_CHUNK = 64 * 1024 * 1024, MAX_CHUNK_CACHE = 128 * 1024 * 1024 };  // text and profiles in a file

static bool fail(LvError *error, int status) {
    return lv_error_set(error, status == SPNG_EMEM ? LV_ERROR_MEMORY : LV_ERROR_FORMAT, "PNG: %s", spng_strerror(status));
}

static bool has_alpha(spng_ctx *context, const struct spng_ihdr *header) {
    struct spng_trns transparency;
    return (header->color_type & 4) || !spng_get_trns(context, &transparency);
}

static bool decode_rgba(spng_ctx *context, LvPicture *picture, LvError *error) {
    size_t count = (size_t)picture->width * (size_t)picture->height;
    uint8_t *rgba = malloc(count * 4);
    if (!rgba) return lv_error_set(error, LV_ERROR_MEMORY, "PNG: no memory");
    int status = spng_decode_image(context, rgba, count * 4, SPNG_FMT_RGBA8, SPNG_DECODE_TRNS);
    if (!status) rgba_over_white(rgba, picture->pixels, count);
    free(rgba);
    return status ? fail(error, status) : true;
}

static bool decode(spng_ctx *context, LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    struct spng_ihdr header;
    spng_set_image_limits(context, LV_PICTURE_MAX_SIDE, LV_PICTURE_MAX_SIDE);
    spng_set_chunk_limits(context, MAX_CHUNK, MAX_CHUNK_CACHE);
    int status = spng_set_png_buffer(context, bytes, length);
    if (!status) status = spng_get_ihdr(context, &header);
    if (status == SPNG_EUSER_WIDTH || status == SPNG_EUSER_HEIGHT) return lv_error_set(error, LV_ERROR_FORMAT, "PNG: absurdly large");
    if (status) return fail(error, status);
    if (!lv_picture_alloc(picture, header.width, header.height, error)) return false;
    if (has_alpha(context, &header)) return decode_rgba(context, picture, error);
    size_t size = (size_t)picture->width * (size_t)picture->height * 3;
    status = spng_decode_image(context, picture->pixels, size, SPNG_FMT_RGB8, 0);
    return status ? fail(error, status) : true;
}

bool decode_png(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    spng_ctx *context = spng_ctx_new(0);
    if (!context) return lv_error_set(error, LV_ERROR_MEMORY, "PNG: no memory");
    bool good = decode(context, picture, bytes, length, error);
    spng_ctx_free(context);
    if (!good) lv_picture_free(picture);
    return good;
}
