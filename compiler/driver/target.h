// What a plan is made for: the processor this runs on, or a GPU of some architecture. Precisions: compiler.h.
#ifndef LV_DRIVER_TARGET_H
#define LV_DRIVER_TARGET_H

#include "base/error.h"

typedef struct {
    bool cuda;
    int sm;     // architecture, 80 or later: cuda
    bool any;   // no architecture was named: `sm` is the oldest, and a block asks for no more than all later ones have: cuda
    bool tf32;  // products of f32 may be made in TF32: cuda
} Target;

enum { TARGET_OLDEST_SM = 80 };  // cp.async and mma of bf16 are there

// "cpu", "cuda" for any GPU there is support for, "cuda:sm_90". NULL is the CPU.
bool target_parse(const char *device, Target *target, LvError *error);

#endif
