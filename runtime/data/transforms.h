// From a decoded picture to what a network reads: the original's two transforms (random resized crop at ratio 1; resize
// the shorter side and crop the centre), flip, planes of bytes; what those stand for in [-1, 1].
// Each is a pure function of the picture and the given draws.
#ifndef LV_DATA_TRANSFORMS_H
#define LV_DATA_TRANSFORMS_H

#include "data/picture.h"
#include "data/resize.h"

typedef enum { LV_CROP_CENTER, LV_CROP_RANDOM } LvCrop;

// What one sample draws in one epoch: words of Philox, a function of (seed, epoch, sample) alone.
typedef struct {
    uint64_t seed;
    uint32_t epoch;
    uint64_t sample;
} LvDraws;

uint32_t lv_draw_word(const LvDraws *draws, uint32_t stream, int word);  // word 0..3 of the stream's block
double lv_draw_uniform(const LvDraws *draws, uint32_t stream, int word);  // [0, 1)

// torchvision's RandomResizedCrop with ratio (1, 1): area share uniform in [scale_min, scale_max], then a uniform place.
LvBox lv_crop_random(int width, int height, double scale_min, double scale_max, const LvDraws *draws);

// Both write [side, side, 3].
void lv_transform_center(const LvPicture *picture, int side, LvFilter filter, uint8_t *out);
void lv_transform_random(const LvPicture *picture, LvBox box, int side, LvFilter filter, uint8_t *out);

// [side, side, 3] -> [3, side, side], mirrored left to right when `flip`.
void lv_transform_to_planes(const uint8_t *rgb, int side, bool flip, uint8_t *out);
// byte / 127.5 - 1, in f32: what the compiler's from_byte makes of them.
void lv_transform_to_floats(const uint8_t *bytes, size_t count, float *out);
void lv_transform_to_bytes(const float *planes, int side, uint8_t *rgb);  // clamps, rounds

#endif
