// BMP, own reader: headers of 12 to 124 bytes, 1 to 32 bits a pixel, colour masks, RLE4 and RLE8, either row order.
#include <stdlib.h>
#include <string.h>

#include "data/decoders.h"

enum { BI_RGB, BI_RLE8, BI_RLE4, BI_BITFIELDS, BI_ALPHABITFIELDS = 6 };

typedef struct {
    const uint8_t *bytes;
    size_t length;
    size_t pixels;  // offset of the first row
    int width, height, bits, compression;
    bool top_down;
    uint32_t masks[4];  // red, green, blue, alpha
    int colours;
    uint8_t palette[256][3];
} Bmp;

static uint32_t read16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t read32(const uint8_t *p) { return read16(p) | read16(p + 2) << 16; }

static bool cut(LvError *error) { return lv_error_set(error, LV_ERROR_FORMAT, "BMP: ends too early"); }

static void default_masks(Bmp *bmp) {
    static const uint32_t of16[4] = {0x7C00, 0x03E0, 0x001F, 0}, of32[4] = {0xFF0000, 0xFF00, 0xFF, 0};
    memcpy(bmp->masks, bmp->bits == 16 ? of16 : of32, sizeof bmp->masks);
}

static bool read_palette(Bmp *bmp, size_t at, size_t entry, uint32_t colours, LvError *error) {
    if (colours == 0 || colours > (1u << bmp->bits)) colours = 1u << bmp->bits;
    if (at > bmp->length || (bmp->length - at) / entry < colours) return cut(error);
    for (uint32_t i = 0; i < colours; i++) {
        const uint8_t *bgr = bmp->bytes + at + i * entry;
        for (int c = 0; c < 3; c++) bmp->palette[i][c] = bgr[2 - c];
    }
    bmp->colours = (int)colours;
    return true;
}

static bool legal(const Bmp *bmp) {
    bool masks = bmp->bits == 16 || bmp->bits == 32, depth = bmp->bits == 1 || bmp->bits == 4 || bmp->bits == 8 || bmp->bits == 24;
    switch (bmp->compression) {
        case BI_RGB: return masks || depth;
        case BI_RLE8: return bmp->bits == 8 && !bmp->top_down;
        case BI_RLE4: return bmp->bits == 4 && !bmp->top_down;
        case BI_BITFIELDS: case BI_ALPHABITFIELDS: return masks;
        default: return false;
    }
}

static bool read_header(Bmp *bmp, LvPicture *picture, LvError *error) {
    const uint8_t *bytes = bmp->bytes;
    if (bmp->length < 26) return cut(error);
    bmp->pixels = read32(bytes + 10);
    uint32_t size = read32(bytes + 14);
    bool old = size == 12;
    if (!old && (size < 40 || size > 1024)) return lv_error_set(error, LV_ERROR_FORMAT, "BMP: unknown header of %u bytes", size);
    if (bmp->length - 14 < size) return cut(error);
    int64_t width = old ? (int64_t)read16(bytes + 18) : (int32_t)read32(bytes + 18);
    int64_t height = old ? (int64_t)read16(bytes + 20) : (int32_t)read32(bytes + 22);
    bmp->top_down = height < 0;
    bmp->bits = (int)read16(bytes + (old ? 24 : 28));
    bmp->compression = old ? BI_RGB : (int)(read32(bytes + 30) & 0x7FFFFFFF);
    if (!legal(bmp)) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "BMP: %d bits with compression %d", bmp->bits, bmp->compression);
    if (!lv_picture_alloc(picture, width, height < 0 ? -height : height, error)) return false;
    bmp->width = picture->width, bmp->height = picture->height;
    size_t after = 14 + (size_t)size;
    default_masks(bmp);
    if (bmp->compression == BI_BITFIELDS || bmp->compression == BI_ALPHABITFIELDS) {
        int masks = size >= 56 || bmp->compression == BI_ALPHABITFIELDS ? 4 : 3;
        if (size < 52 && bmp->length < 54 + (size_t)masks * 4) return cut(error);  // they follow the short header
        for (int c = 0; c < 4; c++) bmp->masks[c] = c < masks ? read32(bytes + 54 + c * 4) : 0;
    }
    return bmp->bits > 8 ? true : read_palette(bmp, after, old ? 3 : 4, old ? 0 : read32(bytes + 46), error);
}

static uint8_t masked(uint32_t pixel, uint32_t mask, uint8_t absent) {
    if (!mask) return absent;
    int shift = __builtin_ctz(mask);
    uint32_t top = mask >> shift, value = (pixel & mask) >> shift;
    return (uint8_t)(((uint64_t)value * 255 + top / 2) / top);
}

static void put_masked(const Bmp *bmp, uint32_t pixel, uint8_t *out) {
    uint8_t rgba[4];
    for (int c = 0; c < 4; c++) rgba[c] = masked(pixel, bmp->masks[c], c == 3 ? 255 : 0);
    over_white(rgba, out);
}

static void put_index(const Bmp *bmp, int index, uint8_t *out) {
    memcpy(out, bmp->palette[index < bmp->colours ? index : 0], 3);
}

static void decode_row(const Bmp *bmp, const uint8_t *in, uint8_t *out) {
    for (int x = 0; x < bmp->width; x++, out += 3) {
        int bits = bmp->bits;
        if (bits <= 8) put_index(bmp, in[(size_t)x * (size_t)bits / 8] >> (8 - bits - x * bits % 8) & ((1 << bits) - 1), out);
        else if (bits == 16) put_masked(bmp, read16(in + (size_t)x * 2), out);
        else if (bits == 32) put_masked(bmp, read32(in + (size_t)x * 4), out);
        else for (int c = 0; c < 3; c++) out[c] = in[(size_t)x * 3 + (size_t)(2 - c)];
    }
}

static uint8_t *row_of(const Bmp *bmp, LvPicture *picture, int y) {
    int row = bmp->top_down ? y : bmp->height - 1 - y;
    return picture->pixels + (size_t)row * (size_t)bmp->width * 3;
}

static bool decode_rows(const Bmp *bmp, LvPicture *picture, LvError *error) {
    size_t stride = ((size_t)bmp->width * (size_t)bmp->bits + 31) / 32 * 4;
    if (bmp->pixels > bmp->length || (bmp->length - bmp->pixels) / stride < (size_t)bmp->height) return cut(error);
    for (int y = 0; y < bmp->height; y++) decode_row(bmp, bmp->bytes + bmp->pixels + (size_t)y * stride, row_of(bmp, picture, y));
    return true;
}

// Pairs (count, value); (0, 0) ends a row, (0, 1) the picture, (0, 2) skips, (0, n) is followed by n plain pixels.
static bool decode_runs(const Bmp *bmp, LvPicture *picture, LvError *error) {
    const uint8_t *at = bmp->bytes + bmp->pixels, *end = bmp->bytes + bmp->length;
    bool nibbles = bmp->compression == BI_RLE4;
    int x = 0, y = 0;
    if (bmp->pixels > bmp->length) return cut(error);
    for (size_t i = 0; i < (size_t)bmp->width * (size_t)bmp->height; i++) put_index(bmp, 0, picture->pixels + i * 3);
    while (y < bmp->height) {
        if (end - at < 2) return cut(error);
        int count = at[0], value = at[1];
        at += 2;
        if (count == 0 && value == 0) x = 0, y++;
        else if (count == 0 && value == 1) break;
        else if (count == 0 && value == 2) {
            if (end - at < 2) return cut(error);
            x += at[0], y += at[1], at += 2;
        } else {
            bool plain = count == 0;
            int pixels = plain ? value : count, bytes = plain ? (nibbles ? (pixels + 1) / 2 : pixels) : 0;
            if (end - at < bytes) return cut(error);
            for (int i = 0; i < pixels; i++, x++) {
                int byte = plain ? at[nibbles ? i / 2 : i] : value;
                int index = nibbles ? (i % 2 ? byte & 15 : byte >> 4) : byte;
                if (x < bmp->width) put_index(bmp, index, row_of(bmp, picture, y) + (size_t)x * 3);
            }
            at += bytes + (bytes & 1);  // plain pixels end on an even byte
            if (at > end) return cut(error);
        }
    }
    return true;
}

bool decode_bmp(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    Bmp bmp = {.bytes = bytes, .length = length};
    bool good = read_header(&bmp, picture, error);
    bool runs = bmp.compression == BI_RLE4 || bmp.compression == BI_RLE8;
    if (good) good = runs ? decode_runs(&bmp, picture, error) : decode_rows(&bmp, picture, error);
    if (!good) lv_picture_free(picture);
    return good;
}
