// What this machine does at best: what a run's speed is a share of. Each is measured in a tenth of a second on the device; the best
// that was ever measured is kept in the user's cache, since a machine that is busy just now is none the slower. 0: it could not
// be measured.
#ifndef LV_DRIVER_PEAK_H
#define LV_DRIVER_PEAK_H

#include "exec/program.h"

// FLOP/s of large matrix products of f32, or of bf16 or f16 summed in f32.
double peak_of(LvDevice *device, LvDType dtype);
// Bytes a second, read and written together, of a kernel that copies memory far larger than the caches.
double peak_copy(LvDevice *device);

#endif
