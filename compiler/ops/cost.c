// What products cost, for reports and for whoever weighs one against memory.
#include "ops/op.h"

int64_t op_product_flops(const Node *node) {
    // Every product of a contraction is counted through its largest operands: 2 * results * (elements of the summed dimensions).
    const LvShape a = node->inputs[0]->shape, y = node->results[0].shape;
    if (node->op == OP_matmul || node->op == OP_matmul_sums)
        return 2 * lv_shape_elements(y) * (node_bool(node, ATTR_transpose_a, false) ? a.dim[a.rank - 2] : a.dim[a.rank - 1]);
    if (node->op == OP_linear_cross_entropy || node->op == OP_linear_cross_entropy_grad) {  // if every row counts
        int products = node->op == OP_linear_cross_entropy ? 1 : 3;
        return 2 * products * lv_shape_elements(a) * node->inputs[1]->shape.dim[0];
    }
    if (node->op == OP_nearest_code) return 2 * lv_shape_elements(a) * node->inputs[1]->shape.dim[0];
    if (node->op == OP_attention || node->op == OP_attention_grad) {  // over all S keys where a length says how many there are
        const LvShape v = node->inputs[2]->shape;
        int64_t queries = a.dim[2], keys = v.dim[2], pairs = queries * keys;
        if (node_bool(node, ATTR_causal, false) && keys >= queries) pairs -= queries * (queries - 1) / 2;
        int64_t each = node->op == OP_attention ? a.dim[3] + v.dim[3] : 3 * a.dim[3] + 2 * v.dim[3];
        return 2 * a.dim[0] * a.dim[1] * pairs * each;
    }
    if (node->op == OP_conv2d || node->op == OP_conv2d_moments) {
        const LvShape w = node->inputs[1]->shape;
        return 2 * lv_shape_elements(y) * w.dim[1] * w.dim[2] * w.dim[3];
    }
    if (node->op == OP_conv2d_data_grad || node->op == OP_conv2d_data_grad_sums) {
        const LvShape w = node->inputs[1]->shape;
        return 2 * lv_shape_elements(a) * w.dim[1] * w.dim[2] * w.dim[3];
    }
    if (node->op == OP_conv2d_weight_grad) {
        const LvShape dy = node->inputs[1]->shape;
        return 2 * lv_shape_elements(dy) * y.dim[1] * y.dim[2] * y.dim[3];
    }
    return 0;
}
