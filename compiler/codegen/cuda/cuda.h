// Printing for GPUs: loop IR and templates as CUDA C, for NVRTC.
//
// A kernel becomes one or more functions NAME_0, NAME_1 ... (the form: base/plan.h), each launched once, in this order, with the
// launch of the same number. Launches see all that those before them wrote; within one, blocks run in any order.
#ifndef LV_CODEGEN_CUDA_H
#define LV_CODEGEN_CUDA_H

#include "base/plan.h"
#include "driver/target.h"
#include "ops/each.h"
#include "schedule/loop.h"

typedef struct {
    LV_VEC(LvScalar) scalars;
    LV_VEC(LvLaunch) launches;
    int64_t scratch;
} CudaKernel;

void cuda_kernel_free(CudaKernel *kernel);

// The kernel's operands are its buffers that are not local.
void cuda_print_kernel(const Kernel *kernel, const char *name, LvText *out, CudaKernel *made);

// Ops with a template of their own (template.c lists them). Operands of a kernel: the node's inputs, then its results. Of a
// convolution, which is a library call with a kernel to fall back on: its result, its inputs, then moments, as in LV_STEP_CONV.
bool cuda_template_takes(const Node *node, const Target *target);
// Appends text and launches. False, and nothing is appended, where cuda_template_takes is false.
bool cuda_template_print(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made);

// Strips by which conv2d_moments would make moments of this convolution's result, or conv2d_data_grad_sums the sums `each` (NULL: moments)
// over that of this data gradient and `maps` other maps, at less cost than a kernel that reads them; 0: by none.
int64_t cuda_conv_strips(const Node *node, const Each *each, int maps, const Target *target);

void cuda_put_prelude(LvText *out);  // types, functions and the wrappers of instructions that the kernels use

#endif
