// Three kernels of the backend's own, for what the library leaves undone. They are compiled, cached and launched like a plan's.
#ifndef LV_DEVICE_CUDA_OWN_H
#define LV_DEVICE_CUDA_OWN_H

#include "device/cuda/cuda.h"

bool cuda_own_load(LvCuda *gpu, LvError *error);
// The kernels as those of a plan with a step for each, to be destroyed; `device`: "cuda:sm_90".
LvPlan *cuda_own_plan(const char *device);

// to = activation(from + bias) + add, element by element, a bias for each of `columns`; NULL: nothing is added. f32, bf16 and f16,
// `to` may be `from` or `add`.
typedef struct {
    void *to;
    const void *from, *bias, *add;
    LvDType to_type, from_type, bias_type, add_type;
    LvActivation activation;
    int64_t count, columns;
} OwnFinish;
bool cuda_own_finish(LvCuda *gpu, const OwnFinish *finish, LvError *error);

// A batch of products as plain sums in f64, of any types and strides: what the library has no algorithm for.
typedef struct {
    LvDType type_y, type_a, type_b, type_bias, type_add;
    int64_t m, n, k, count;
    int64_t y_row, y_column, y_step, a_row, a_column, a_step, b_row, b_column, b_step;  // strides in elements
    double alpha;
    LvActivation activation;
} OwnMatmul;
bool cuda_own_matmul(LvCuda *gpu, const OwnMatmul *matmul, void *y, const void *a, const void *b, const void *bias,
                     const void *add, LvError *error);

// The sums of a matrix's rows, in f64, of any type and strides.
typedef struct {
    LvDType to_type, from_type;
    int64_t rows, columns, row, column;  // how many; strides in elements
} OwnSums;
bool cuda_own_sums(LvCuda *gpu, const OwnSums *sums, void *to, const void *from, LvError *error);

#endif
