// Library calls: what calls.c, matmul.c, linear_loss.c and conv.c share.
#ifndef LV_DEVICE_CUDA_CALLS_H
#define LV_DEVICE_CUDA_CALLS_H

#include "device/cuda/blas.h"

typedef struct MatmulCall MatmulCall;  // matmul.c
typedef struct LossCall LossCall;      // linear_loss.c
typedef struct ConvCall ConvCall;      // conv.c

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

// Always made: where it is not cuDNN's, it is the module's kernel. `scratch` likewise, and of the kernel's own `step->scratch` bytes.
size_t cuda_conv_call_scratch(LvCuda *gpu, const LvStep *step);  // gpu NULL: on any that there may be
ConvCall *cuda_conv_call_create(LvCuda *gpu, LvModule *module, const LvStep *step, char *scratch);
void cuda_conv_call_destroy(LvCuda *gpu, ConvCall *call);
bool cuda_conv_call_run(LvCuda *gpu, LvModule *module, const LvStep *step, ConvCall *call, char *const *buffers, char *scratch,
                        LvError *error);
const char *cuda_conv_call_describe(const ConvCall *call);

static inline size_t cuda_align(size_t bytes) { return (bytes + 255) / 256 * 256; }

#endif
