// Kernels in C that are not printed from loop IR: data-dependent places (gather, scatter_add, dynamic_slice, dynamic_update),
// nearest_code, attention and its gradient. Extents are literals in the text; OpenMP inside. Of linear_cross_entropy the template
// is only what happens between the library's matmuls (template_linear_loss.c): it is a call with a kernel.
//
// A kernel has the ABI of base/plan.h. Buffers: the node's inputs in order, then its results in order, all row-major and
// none sharing storage with another, except that dynamic_update's result may be its input 0 (then only the update is written).
// Nothing is read beyond a buffer's end, alignment is that of the element. The text stands after c_prelude (print.h); all it defines
// begins with the kernel's name.
#ifndef LV_CODEGEN_TEMPLATES_H
#define LV_CODEGEN_TEMPLATES_H

#include "graph/graph.h"

bool template_takes(const Node *node);  // whether there is a template for this op and its types
// Appends the kernel's text. False, and nothing is appended, where template_takes is false.
bool template_print(const Node *node, const char *kernel_name, LvText *out);

#endif
