// See codegen.h.
#include "codegen/codegen.h"

#include "codegen/c/print.h"
#include "codegen/c/templates.h"

bool codegen_takes(const Node *node, const Target *target) {
    return target->cuda ? cuda_template_takes(node, target) : template_takes(node);
}

bool codegen_print_template(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    return target->cuda ? cuda_template_print(node, target, name, out, made) : template_print(node, name, out);
}

int64_t codegen_conv_strips(const Node *node, const Each *each, int maps, const Target *target) {
    return target->cuda ? cuda_conv_strips(node, each, maps, target) : 0;
}

void codegen_print_kernel(const Kernel *kernel, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    if (target->cuda) {
        cuda_print_kernel(kernel, name, out, made);
        return;
    }
    ScalarList scalars = {0};
    c_print_kernel(kernel, name, out, &scalars);
    for (size_t i = 0; i < scalars.count; i++) lv_vec_push(&made->scalars, scalars.data[i]);
    lv_vec_free(&scalars);
}

void codegen_put_prelude(const Target *target, LvText *out) {
    if (target->cuda) cuda_put_prelude(out);
    else lv_text_puts(out, c_prelude);
}
