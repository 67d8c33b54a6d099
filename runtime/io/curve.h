// The curve of a run drawn as PNG: loss over steps on a logarithmic axis, validation's PSNR (or loss) on a second one.
#ifndef LV_IO_CURVE_H
#define LV_IO_CURVE_H

#include <stddef.h>

#include "base/error.h"

typedef struct {
    double x, y;
} LvPoint;

typedef struct {
    const char *title;
    const LvPoint *loss, *validation;
    size_t loss_count, validation_count;
    const char *validation_name;  // "val_psnr (dB)"
} LvCurve;

bool lv_curve_draw(const LvCurve *curve, const char *path, LvError *error);
// The curve of a run's log.jsonl; false and an error when there is nothing in it to draw.
bool lv_curve_draw_log(const char *log, const char *title, const char *path, LvError *error);

#endif
