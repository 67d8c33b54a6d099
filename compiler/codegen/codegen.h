// The printers behind one door: a kernel's text for a target.
#ifndef LV_CODEGEN_H
#define LV_CODEGEN_H

#include "codegen/cuda/cuda.h"

// Whether there is a kernel template for this op and its types: whoever decomposes composites leaves it whole.
bool codegen_takes(const Node *node, const Target *target);
// Appends a template's text. False, and nothing is appended, where codegen_takes is false.
bool codegen_print_template(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made);
// Strips by which a convolution makes moments of its result as it stores it (conv2d_moments; `each` NULL), or a data gradient the sums
// `each` over that and `maps` other maps (conv2d_data_grad_sums); 0: it does not, or not at a gain.
int64_t codegen_conv_strips(const Node *node, const Each *each, int maps, const Target *target);
void codegen_print_kernel(const Kernel *kernel, const Target *target, const char *name, LvText *out, CudaKernel *made);
void codegen_put_prelude(const Target *target, LvText *out);

#endif
