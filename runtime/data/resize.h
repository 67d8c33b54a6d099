// Antialiased resampling, bit for bit as Pillow's 8-bit `Image.resize`: separable, coefficients in
// 22-bit fixed point, the intermediate rounded to 8 bits; the filter widens with the scale when shrinking.
#ifndef LV_DATA_RESIZE_H
#define LV_DATA_RESIZE_H

#include "data/picture.h"

typedef enum { LV_FILTER_BICUBIC, LV_FILTER_BILINEAR, LV_FILTER_LANCZOS, LV_FILTER_BOX } LvFilter;

typedef struct {
    int x, y, width, height;
} LvBox;

bool lv_filter_parse(const char *name, LvFilter *filter);

// Crops `box` out of `source`, resizes that to width x height and keeps `window` of it: only what the window needs is
// computed. `out` receives [window.height, window.width, 3]. Boxes must lie inside what they are cut from.
void lv_resize_window(const LvPicture *source, LvBox box, int width, int height, LvBox window, LvFilter filter, uint8_t *out);

// The whole picture to width x height.
bool lv_resize(const LvPicture *source, int width, int height, LvFilter filter, LvPicture *out, LvError *error);

#endif
