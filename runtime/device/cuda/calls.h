// Library calls: what calls.c, matmul.c and linear_loss.c share.
#ifndef LV_DEVICE_CUDA_CALLS_H
#define LV_DEVICE_CUDA_CALLS_H

#include "device/cuda/blas.h"

typedef struct MatmulCall MatmulCall;  // matmul.c
typedef struct LossCall LossCall;      // linear_loss.c

// `scratch` is the step's own: as many bytes as `..._scratch` says. It holds the library's workspace first.
size_t cuda_matmul_call_scratch(const LvStep *step);
bool cuda_matmul_call_create(LvCuda *gpu, const LvModule *module, const LvStep *step, MatmulCall **call, LvError *error);
void cuda_matmul_call_destroy(LvCuda *gpu, MatmulCall *call);
bool cuda_matmul_call_run(LvCuda *gpu, const MatmulCall *call, char *const *buffers, char *scratch, LvError *error);
const char *cuda_matmul_call_describe(const MatmulCall *call);

size_t cuda_loss_call_scratch(const LvStep *step);
bool cuda_loss_call_create(LvCuda *gpu, const LvModule *module, const LvStep *step, LossCall **call, LvError *error);
void cuda_loss_call_destroy(LvCuda *gpu, LossCall *call);
bool cuda_loss_call_run(LvCuda *gpu, const LossCall *call, char *const *buffers, char *scratch, LvError *error);
const char *cuda_loss_call_describe(const LossCall *call);

static inline size_t cuda_align(size_t bytes) { return (bytes + 255) / 256 * 256; }

#endif
