// Timing the candidates for a product of matrices, within bounds.
#ifndef LV_DEVICE_CUDA_TUNE_H
#define LV_DEVICE_CUDA_TUNE_H

#include "device/cuda/cuda.h"

enum { TUNE_CANDIDATES = 8 };

typedef struct {
    size_t a, b, y, vector, workspace;  // bytes; `vector`: of a bias, of sums, or of a bias and what lies behind it
} TuneSizes;

typedef struct {
    void *y;
    const void *a, *b, *add;  // `add` is laid out like y
} TuneBuffers;

// Runs each of the candidates over memory of its own. False where that memory cannot be had, or none runs; else the fastest, the
// first of those that are as fast, and the least time of each in milliseconds; FLT_MAX: it does not run.
bool tune_timed(LvCuda *gpu, TuneSizes sizes, int count, bool run(void *user, int candidate, const TuneBuffers *at, void *workspace),
                void use_vector(void *user, const void *vector), void *user, int *best, float times[TUNE_CANDIDATES]);
// The fastest alone.
bool tune_candidates(LvCuda *gpu, TuneSizes sizes, int count,
                     bool run(void *user, int candidate, const TuneBuffers *at, void *workspace),
                     void use_vector(void *user, const void *vector), void *user, int *best);

#endif
