// What a plan is made for: the processor this runs on, or a GPU of some architecture. Precisions: compiler.h.
#ifndef LV_DRIVER_TARGET_H
#define LV_DRIVER_TARGET_H

#include "base/error.h"

typedef struct {
    bool cuda;
    int sm;     // architecture, 80 or later: cuda
    bool tf32;  // products of f32 may be made in TF32: cuda
} Target;

enum { TARGET_OLDEST_SM = 80 };  // what "cuda" alone means: cp.async and mma of bf16 are there

// "cpu", "cuda", "cuda:sm_90". NULL is the CPU.
bool target_parse(const char *device, Target *target, LvError *error);

#endif
