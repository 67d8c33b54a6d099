// Private to the CUDA templates: which files print what, and what they share. Each prints its kernel's functions and pushes their
// launches, or returns false and prints nothing where it does not take the node. `out` NULL: only asks.
#ifndef LV_CODEGEN_CUDA_TEMPLATES_H
#define LV_CODEGEN_CUDA_TEMPLATES_H

#include "codegen/c/template_text.h"
#include "codegen/cuda/cuda.h"

typedef bool CudaPrintTemplate(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made);

CudaPrintTemplate cuda_print_gather, cuda_print_scatter_add, cuda_print_dynamic_slice, cuda_print_dynamic_update;
CudaPrintTemplate cuda_print_nearest_code, cuda_print_linear_loss, cuda_print_matvec;
CudaPrintTemplate cuda_print_attention, cuda_print_attention_few, cuda_print_attention_grad;
CudaPrintTemplate cuda_print_conv;  // conv2d, conv2d_moments, conv2d_data_grad, conv2d_data_grad_sums, conv2d_weight_grad

// C names of element types as they are stored, and the functions from and to f32 ("" for f32 itself).
const char *cuda_type(LvDType dtype);
const char *cuda_from(LvDType dtype);
const char *cuda_to(LvDType dtype);
bool cuda_is_small_float(LvDType dtype);  // f32, bf16, f16: what kernels compute with in f32

bool cuda_all_row_major(const Node *node);
int cuda_piece(int64_t bytes);            // the widest access that divides so many bytes: 16, 8, 4, 2, 1
const char *cuda_piece_type(int bytes);   // the type of such an access
// Statements that read `count` (1, 4, 8) elements at `from` into the floats `to`, by accesses as wide as they are together, up to 16 bytes.
void cuda_print_load(LvDType dtype, int count, const char *to, const char *from, LvText *out);
// "unsigned", or "unsigned long long" where numbers up to `most` need it.
const char *cuda_index_type(int64_t most);

int64_t cuda_shared_room(const Target *target);  // bytes of shared memory that a block may have

void cuda_push_launch(CudaKernel *made, int64_t x, int64_t y, int64_t z, int block, int64_t shared);
int64_t cuda_take_scratch(CudaKernel *made, int64_t bytes);  // offset of so many bytes, 64-byte aligned

#endif
