// What of CUDA this machine has: for lvrun doctor.
#ifndef LV_DEVICE_CUDA_REPORT_H
#define LV_DEVICE_CUDA_REPORT_H

#include "base/text.h"

// A line a library (version, path, or which package brings it) and a line a GPU, each begun by a name of `width` columns. Returns
// whether lv_cuda_open has all that it needs.
bool lv_cuda_report(int width, LvText *out);

#endif
