// softmax along one axis: y = exp(x - max) / sum exp(x - max). The maximum keeps every exponential within (0, 1].
#include <math.h>

#include "ops/composite.h"

static int softmax_axis(const Node *node) {
    int64_t axis = node_int(node, ATTR_axis, -1);
    return (int)(axis < 0 ? axis + node->inputs[0]->shape.rank : axis);
}

const char *shape_softmax(Graph *graph, Node *node) {
    const Value *x = node->inputs[0];
    int64_t axis = softmax_axis(node);
    if (!lv_dtype_is_float(x->dtype)) return refuse(graph, "softmax is of floats, not of %s", lv_dtype_name(x->dtype));
    if (axis < 0 || axis >= x->shape.rank)
        return refuse(graph, "softmax: %s has no dimension %lld", shape_text(graph, x->shape), (long long)node_int(node, ATTR_axis, -1));
    if (x->shape.dim[axis] == 0) return refuse(graph, "softmax along an empty dimension of %s", shape_text(graph, x->shape));
    set_result(node, 0, x->dtype, x->shape);
    return NULL;
}

void evaluate_softmax(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    int axis = softmax_axis(node);
    LvShape shape = inputs[0]->shape;
    int64_t stride[LV_MAX_RANK], n = shape.dim[axis], total = lv_shape_elements(shape);
    shape_strides(shape, stride);
    for (int64_t at = 0; at < total; at++) {
        if (at / stride[axis] % n) continue;  // at: first element of a row along the axis
        const double *x = inputs[0]->f + at;
        double *y = results[0].f + at, top = -INFINITY, sum = 0;
        for (int64_t i = 0; i < n; i++) top = fmax(top, x[i * stride[axis]]);
        for (int64_t i = 0; i < n; i++) sum += y[i * stride[axis]] = exp(x[i * stride[axis]] - top);
        for (int64_t i = 0; i < n; i++) y[i * stride[axis]] /= sum;
    }
}

// dx = y (dy - sum(y dy))
void gradient_softmax(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    int axis = softmax_axis(node);
    LvShape shape = node->inputs[0]->shape;
    Value *y = composite_widen(g, &node->results[0]), *dy = composite_widen(g, result_grads[0]);
    Value *dot = composite_sum(g, BINARY(mul, y, dy), axis);
    Value *dx = BINARY(mul, y, BINARY(sub, dy, composite_unreduce(g, dot, axis, shape)));
    input_grads[0] = build_cast(g, dx, node->inputs[0]->dtype);
}

bool decompose_softmax(Graph *g, Node *node, Value **with) {
    int axis = softmax_axis(node);
    Value *x = composite_widen(g, node->inputs[0]);
    Value *top = build_reduce(g, OP_reduce_max, x, 1, (int64_t[]){axis});
    Value *e = UNARY(exp, BINARY(sub, x, composite_unreduce(g, top, axis, x->shape)));
    Value *y = BINARY(div, e, composite_unreduce(g, composite_sum(g, e, axis), axis, x->shape));
    with[0] = build_cast(g, y, node->inputs[0]->dtype);
    return true;
}
