// What the formats share: telling them apart, limits, alpha over white, whole files, writing PNG.
#include "data/picture.h"

#include <errno.h>
#include <spng.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/text.h"
#include "data/decoders.h"

void lv_picture_free(LvPicture *picture) {
    free(picture->pixels);
    *picture = (LvPicture){0};
}

bool lv_picture_alloc(LvPicture *picture, int64_t width, int64_t height, LvError *error) {
    *picture = (LvPicture){0};
    if (width < 1 || height < 1) return lv_error_set(error, LV_ERROR_FORMAT, "no pixels: %lld x %lld", (long long)width, (long long)height);
    if (width > LV_PICTURE_MAX_SIDE || height > LV_PICTURE_MAX_SIDE || width * height > LV_PICTURE_MAX_PIXELS) {
        return lv_error_set(error, LV_ERROR_FORMAT, "absurdly large: %lld x %lld pixels, %d million is the limit",
                            (long long)width, (long long)height, LV_PICTURE_MAX_PIXELS / (1024 * 1024));
    }
    picture->pixels = malloc((size_t)(width * height) * 3);
    if (!picture->pixels) return lv_error_set(error, LV_ERROR_MEMORY, "no memory for %lld x %lld pixels", (long long)width, (long long)height);
    picture->width = (int)width, picture->height = (int)height;
    return true;
}

void rgba_over_white(const uint8_t *rgba, uint8_t *rgb, size_t count) {
    for (size_t i = 0; i < count; i++, rgba += 4, rgb += 3) {
        uint8_t pixel[4] = {rgba[0], rgba[1], rgba[2], rgba[3]};
        over_white(pixel, rgb);
    }
}

typedef struct {
    const char *mark;
    int length, at;
    bool (*decode)(LvPicture *, const uint8_t *, size_t, LvError *);
    const char *name;  // of a format that is known and not read
} Format;

static const Format formats[] = {
    {"\xFF\xD8\xFF", 3, 0, decode_jpeg, NULL},
    {"\x89PNG\r\n\x1A\n", 8, 0, decode_png, NULL},
    {"WEBP", 4, 8, decode_webp, NULL},
    {"BM", 2, 0, decode_bmp, NULL},
    {"GIF8", 4, 0, NULL, "a GIF"},
    {"II*\0", 4, 0, NULL, "a TIFF"},
    {"MM\0*", 4, 0, NULL, "a TIFF"},
    {"ftypavif", 8, 4, NULL, "an AVIF"},
    {"ftyphei", 7, 4, NULL, "a HEIC"},
    {"<", 1, 0, NULL, "a text (HTML or SVG?)"},
};

bool lv_picture_decode(LvPicture *picture, const void *data, size_t length, LvError *error) {
    const uint8_t *bytes = data;
    *picture = (LvPicture){0};
    if (length == 0) return lv_error_set(error, LV_ERROR_FORMAT, "empty file");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const Format *format = &formats[i];
        if (length < (size_t)(format->at + format->length) || memcmp(bytes + format->at, format->mark, (size_t)format->length)) continue;
        if (format->decode) return format->decode(picture, bytes, length, error);
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "is %s; JPEG, PNG, WebP, BMP and PNM can be read", format->name);
    }
    if (length > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6') return decode_pnm(picture, bytes, length, error);
    return lv_error_set(error, LV_ERROR_FORMAT, "is no picture: JPEG, PNG, WebP, BMP and PNM can be read");
}

bool lv_picture_load(LvPicture *picture, const char *path, LvError *error) {
    char *data;
    size_t length;
    *picture = (LvPicture){0};
    if (!lv_file_read(path, LV_PICTURE_MAX_FILE, &data, &length, error)) return false;
    bool good = lv_picture_decode(picture, data, length, error);
    free(data);
    return good ? true : lv_error_prefix(error, "%s", path);
}

bool lv_picture_known_suffix(const char *name) {
    static const char *const suffixes[] = {"png", "jpg", "jpeg", "webp", "bmp", "ppm", "pgm", "pbm", "pnm"};
    const char *dot = strrchr(name, '.');
    if (!dot || strchr(dot, '/')) return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (!strcasecmp(dot + 1, suffixes[i])) return true;
    }
    return false;
}

bool lv_picture_save_png(const LvPicture *picture, const char *path, LvError *error) {
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!context) return lv_error_set(error, LV_ERROR_MEMORY, "%s: no memory to write a PNG", path);
    struct spng_ihdr header = {.width = (uint32_t)picture->width, .height = (uint32_t)picture->height, .bit_depth = 8,
                               .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    size_t length = 0, size = (size_t)picture->width * (size_t)picture->height * 3;
    void *png = NULL;
    int status = spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    if (!status) status = spng_set_ihdr(context, &header);
    if (!status) status = spng_encode_image(context, picture->pixels, size, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    if (!status) png = spng_get_png_buffer(context, &length, &status);
    spng_ctx_free(context);
    bool good = png ? lv_file_write(path, png, length, error)
                    : lv_error_set(error, LV_ERROR_FORMAT, "%s: PNG: %s", path, spng_strerror(status));
    free(png);
    return good;
}
