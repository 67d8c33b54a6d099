// nearest_code: x [N,D], codes [K,D] -> index i32 [N] of the code at the least squared distance, the lower index on ties.
// The CPU's kernel (codegen/c/template_nearest_code.c) never holds the N x K distances; the decomposition does.
#include <math.h>

#include "ops/composite.h"

const char *shape_nearest_code(Graph *graph, Node *node) {
    const Value *x = node->inputs[0], *codes = node->inputs[1];
    if (!lv_dtype_is_float(x->dtype) || x->dtype != codes->dtype)
        return refuse(graph, "nearest_code: vectors and codes are of one float type, not %s and %s", lv_dtype_name(x->dtype),
                      lv_dtype_name(codes->dtype));
    if (x->shape.rank != 2 || codes->shape.rank != 2 || x->shape.dim[1] != codes->shape.dim[1])
        return refuse(graph, "nearest_code: vectors are [N, D] and codes [K, D], not %s and %s", shape_text(graph, x->shape),
                      shape_text(graph, codes->shape));
    if (codes->shape.dim[0] < 1 || codes->shape.dim[0] > INT32_MAX)
        return refuse(graph, "nearest_code: from 1 to 2^31 - 1 codes, not %s", shape_text(graph, codes->shape));
    set_result(node, 0, LV_I32, lv_shape(1, x->shape.dim));
    return NULL;
}

void evaluate_nearest_code(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)node;
    int64_t n = inputs[0]->shape.dim[0], d = inputs[0]->shape.dim[1], count = inputs[1]->shape.dim[0];
    for (int64_t row = 0; row < n; row++) {
        double least = INFINITY;
        for (int64_t code = 0; code < count; code++) {
            double distance = 0;
            for (int64_t i = 0; i < d; i++) {
                double apart = inputs[0]->f[row * d + i] - inputs[1]->f[code * d + i];
                distance += apart * apart;
            }
            if (distance < least) least = distance, results[0].i[row] = code;
        }
    }
}

// argmin over codes of |c|^2 - 2 x.c: the distance but for |x|^2, which is the same for all
bool decompose_nearest_code(Graph *g, Node *node, Value **with) {
    Value *x = composite_widen(g, node->inputs[0]), *codes = composite_widen(g, node->inputs[1]);
    Value *dot = build_matmul(g, x, codes, false, true);
    Value *norm = composite_along(g, composite_sum(g, BINARY(mul, codes, codes), 1), 1, dot->shape);
    Value *distance = BINARY(sub, norm, BINARY(mul, dot, composite_number(g, 2, dot)));
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, 1);
    with[0] = build_node(g, OP_argmin, 1, &distance, &attrs);
    return true;
}
