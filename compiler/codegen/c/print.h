// Prints loop IR as C: one function a kernel, OpenMP inside.
#ifndef LV_CODEGEN_C_PRINT_H
#define LV_CODEGEN_C_PRINT_H

#include "codegen/printer.h"

// `void NAME(char *const *buffers, const LvScalar *scalars)`; buffers in the order of the kernel's operands (its buffers
// that are not local), scalars as appended to `scalars`.
void c_print_kernel(const Kernel *kernel, const char *name, LvText *out, ScalarList *scalars);
extern const char *const c_prelude;  // types and functions that the kernels use

#endif
