// How fast this machine multiplies at best: what a run's speed is a share of.
#ifndef LV_DRIVER_PEAK_H
#define LV_DRIVER_PEAK_H

#include "exec/program.h"

// FLOP/s of large f32 matrix products on the device, measured in a tenth of a second; the best that was ever measured is kept in
// the user's cache, since a machine that is busy just now is none the slower. 0: it could not be measured.
double peak_of(LvDevice *device);

#endif
