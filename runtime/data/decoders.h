// Private to picture.c and the decoders: one function a format. Each gets bytes whose first ones are that format's mark,
// fills an empty picture, and on failure leaves it empty and the error set. `bytes` stay the caller's.
#ifndef LV_DATA_DECODERS_H
#define LV_DATA_DECODERS_H

#include "data/picture.h"

bool decode_jpeg(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error);
bool decode_png(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error);
bool decode_webp(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error);
bool decode_bmp(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error);
bool decode_pnm(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error);

// Pillow's rounding of a * b / 255.
static inline uint8_t multiply_255(int a, int b) {
    int t = a * b + 128;
    return (uint8_t)((t + (t >> 8)) >> 8);
}

// One RGBA pixel over white, as Pillow's paste with a mask rounds it.
static inline void over_white(const uint8_t rgba[4], uint8_t rgb[3]) {
    for (int c = 0; c < 3; c++) {
        int t = rgba[3] * rgba[c] + (255 - rgba[3]) * 255 + 128;
        rgb[c] = (uint8_t)((t + (t >> 8)) >> 8);
    }
}

// `count` pixels; in and out may be the same memory.
void rgba_over_white(const uint8_t *rgba, uint8_t *rgb, size_t count);

#endif
