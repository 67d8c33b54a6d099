// The two transforms and their draws.
#include "data/transforms.h"

#include <math.h>

#include "base/random.h"

uint32_t lv_draw_word(const LvDraws *draws, uint32_t stream, int word) {
    uint32_t key[2] = {(uint32_t)draws->seed, (uint32_t)(draws->seed >> 32)}, out[4];
    uint32_t counter[4] = {(uint32_t)draws->sample, (uint32_t)(draws->sample >> 32), stream, draws->epoch};
    lv_philox(key, counter, out);
    return out[word & 3];
}

double lv_draw_uniform(const LvDraws *draws, uint32_t stream, int word) {
    return lv_draw_word(draws, stream, word) * 0x1p-32;
}

enum { CROP_STREAM = 0x63726F70, CROP_TRIES = 10 };  // one block of words a try

static int draw_below(const LvDraws *draws, uint32_t stream, int word, int limit) {
    return (int)((uint64_t)lv_draw_word(draws, stream, word) * (uint64_t)limit >> 32);
}

LvBox lv_crop_random(int width, int height, double scale_min, double scale_max, const LvDraws *draws) {
    double area = (double)width * height;
    for (uint32_t try = 0; try < CROP_TRIES; try++) {
        uint32_t stream = CROP_STREAM + try;
        double share = scale_min + (scale_max - scale_min) * lv_draw_uniform(draws, stream, 0);
        int side = (int)nearbyint(sqrt(area * share));
        if (side < 1 || side > width || side > height) continue;  // a long picture has no square of that area
        int y = draw_below(draws, stream, 1, height - side + 1), x = draw_below(draws, stream, 2, width - side + 1);
        return (LvBox){x, y, side, side};
    }
    int side = width < height ? width : height;
    return (LvBox){(width - side) / 2, (height - side) / 2, side, side};
}

// The size's rounding is Python's: to the nearest, halves to even.
void lv_transform_center(const LvPicture *picture, int side, LvFilter filter, uint8_t *out) {
    int shorter = picture->width < picture->height ? picture->width : picture->height;
    double k = (double)side / shorter;
    double wide = nearbyint(picture->width * k), high = nearbyint(picture->height * k);
    int width = wide < side ? side : (int)wide, height = high < side ? side : (int)high;
    LvBox all = {0, 0, picture->width, picture->height}, window = {(width - side) / 2, (height - side) / 2, side, side};
    lv_resize_window(picture, all, width, height, window, filter, out);
}

void lv_transform_random(const LvPicture *picture, LvBox box, int side, LvFilter filter, uint8_t *out) {
    lv_resize_window(picture, box, side, side, (LvBox){0, 0, side, side}, filter, out);
}

void lv_transform_to_planes(const uint8_t *rgb, int side, bool flip, uint8_t *out) {
    size_t plane = (size_t)side * (size_t)side;
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++, rgb += 3) {
            uint8_t *to = out + (size_t)y * (size_t)side + (size_t)(flip ? side - 1 - x : x);
            for (int c = 0; c < 3; c++) to[(size_t)c * plane] = rgb[c];
        }
    }
}

void lv_transform_to_floats(const uint8_t *bytes, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) out[i] = (float)bytes[i] / 127.5f - 1.0f;
}

void lv_transform_to_bytes(const float *planes, int side, uint8_t *rgb) {
    size_t plane = (size_t)side * (size_t)side;
    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < 3; c++) {
            float value = (planes[c * plane + i] + 1.0f) * 127.5f;
            rgb[i * 3 + c] = (uint8_t)(!(value > 0) ? 0 : value > 255 ? 255 : value + 0.5f);
        }
    }
}
