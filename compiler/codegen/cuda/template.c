// Kernels for GPUs that are not printed from loop IR: which op has which template, and what the templates share.
//
// Operands and meaning of each are those of the CPU's (codegen/c/templates.h) but for convolutions, whose operands are
// in the order of LV_STEP_CONV. Values are row-major; addresses are multiples of the element, of 64 bytes for whole values:
// wider accesses are chosen where the shape allows them and the address, looked at as the kernel runs, agrees.
#include "codegen/cuda/templates.h"
#include "ops/op.h"

static CudaPrintTemplate *find_template(const Node *node, const Target *target) {
    switch (node->op) {
    case OP_gather: return cuda_print_gather;
    case OP_scatter_add: return cuda_print_scatter_add;
    case OP_dynamic_slice: return cuda_print_dynamic_slice;
    case OP_dynamic_update: return cuda_print_dynamic_update;
    case OP_nearest_code: return cuda_print_nearest_code;
    case OP_linear_cross_entropy:
    case OP_linear_cross_entropy_grad: return cuda_print_linear_loss;
    case OP_attention: return cuda_print_attention_few(node, target, NULL, NULL, NULL) ? cuda_print_attention_few : cuda_print_attention;
    case OP_attention_grad: return cuda_print_attention_grad;
    case OP_matmul: return cuda_print_matvec;
    case OP_conv2d:
    case OP_conv2d_moments:
    case OP_conv2d_data_grad:
    case OP_conv2d_data_grad_sums:
    case OP_conv2d_weight_grad: return cuda_print_conv;
    default: return NULL;
    }
}

bool cuda_template_takes(const Node *node, const Target *target) {
    CudaPrintTemplate *print = find_template(node, target);
    return print && print(node, target, NULL, NULL, NULL);
}

bool cuda_template_print(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    CudaPrintTemplate *print = find_template(node, target);
    return print && print(node, target, name, out, made);
}

// ---- shared

const char *cuda_type(LvDType dtype) {
    static const char *const types[LV_DTYPE_COUNT] = {
        [LV_F32] = "float", [LV_BF16] = "unsigned short", [LV_F16] = "unsigned short",    [LV_F64] = "double",
        [LV_I32] = "int",   [LV_I64] = "long long",       [LV_BOOL] = "unsigned char",
        [LV_U8] = "unsigned char",
    };
    return types[dtype];
}

const char *cuda_from(LvDType dtype) { return dtype == LV_BF16 ? "lv_from_bf16" : dtype == LV_F16 ? "lv_from_f16" : ""; }
const char *cuda_to(LvDType dtype) { return dtype == LV_BF16 ? "lv_to_bf16" : dtype == LV_F16 ? "lv_to_f16" : ""; }
bool cuda_is_small_float(LvDType dtype) { return dtype == LV_F32 || dtype == LV_BF16 || dtype == LV_F16; }

bool cuda_all_row_major(const Node *node) {
    for (int i = 0; i < node->input_count; i++)
        if (!lv_layout_is_row_major(node->inputs[i]->layout, node->inputs[i]->shape.rank)) return false;
    for (int i = 0; i < node->result_count; i++)
        if (!lv_layout_is_row_major(node->results[i].layout, node->results[i].shape.rank)) return false;
    return true;
}

int cuda_piece(int64_t bytes) {
    int piece = 16;
    while (bytes % piece) piece /= 2;
    return piece;
}

const char *cuda_piece_type(int bytes) {
    return bytes == 16 ? "int4" : bytes == 8 ? "int2" : bytes == 4 ? "int" : bytes == 2 ? "unsigned short" : "unsigned char";
}

void cuda_print_load(LvDType dtype, int count, const char *to, const char *from, LvText *out) {
    if (count == 1) lv_text_printf(out, "    %s[0] = %s(*(%s));\n", to, cuda_from(dtype), from);
    else if (dtype == LV_F32) lv_text_printf(out, "    lv_load%d(%s, %s);\n", count, to, from);
    else lv_text_printf(out, "    lv_load_%s_%d(%s, %s);\n", lv_dtype_name(dtype), count, to, from);
}

const char *cuda_index_type(int64_t most) { return most < INT32_MAX ? "unsigned" : "unsigned long long"; }

int64_t cuda_shared_room(const Target *target) {
    if (target->any || target->sm == 86 || target->sm == 89 || target->sm >= 120) return 99 << 10;
    return target->sm >= 90 ? 227 << 10 : 163 << 10;
}

void cuda_push_launch(CudaKernel *made, int64_t x, int64_t y, int64_t z, int block, int64_t shared) {
    if (x > INT32_MAX || y > UINT16_MAX || z > UINT16_MAX) lv_internal_error("cuda template: a grid of %lld blocks", (long long)x);
    // An empty result still has its launch; the kernels look for themselves whether there is work.
    LvLaunch launch = {{x > 0 ? (int32_t)x : 1, y > 0 ? (int32_t)y : 1, z > 0 ? (int32_t)z : 1}, block, (int32_t)shared};
    lv_vec_push(&made->launches, launch);
}

int64_t cuda_take_scratch(CudaKernel *made, int64_t bytes) {
    int64_t at = made->scratch;
    made->scratch += (bytes + 63) / 64 * 64;
    return at;
}
