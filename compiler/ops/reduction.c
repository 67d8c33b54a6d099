// Reductions: sums and extremes over some dimensions, which are dropped; places of extremes along one.
#include <math.h>

#include "ops/rules.h"

const char *shape_reduce(Graph *graph, Node *node) {
    const Value *x = node->inputs[0];
    const Attr *axes = list_attr(node, ATTR_axes, -1);
    if (!axes) return refuse(graph, "%s without axes", op_name(node->op));
    if (x->dtype == LV_BOOL) return refuse(graph, "%s is of numbers, not of bool", op_name(node->op));
    int64_t before = -1;
    for (int i = 0; i < axes->list.count; i++) {
        int64_t axis = axes->list.at[i];
        if (axis < 0 || axis >= x->shape.rank)
            return refuse(graph, "%s over dimension %lld of a tensor of rank %d", op_name(node->op), (long long)axis, x->shape.rank);
        if (axis <= before) return refuse(graph, "%s: the axes must ascend, each named once", op_name(node->op));
        if (node->op != OP_reduce_sum && x->shape.dim[axis] == 0)
            return refuse(graph, "%s over an empty dimension", op_name(node->op));
        before = axis;
    }
    set_result(node, 0, x->dtype, shape_without(x->shape, axes->list.count, axes->list.at));
    return NULL;
}

const char *shape_argreduce(Graph *graph, Node *node) {
    const Value *x = node->inputs[0];
    int64_t axis = node_int(node, ATTR_axis, -1);
    if (axis < 0 || axis >= x->shape.rank)
        return refuse(graph, "%s along dimension %lld of a tensor of rank %d", op_name(node->op), (long long)axis, x->shape.rank);
    if (x->shape.dim[axis] == 0) return refuse(graph, "%s along an empty dimension", op_name(node->op));
    if (x->dtype == LV_BOOL) return refuse(graph, "%s is of numbers, not of bool", op_name(node->op));
    set_result(node, 0, LV_I32, shape_without(x->shape, 1, &axis));
    return NULL;
}

// ---- evaluation: the strides of the result seen from the input, 0 along reduced dimensions

static void result_strides(LvShape in, LvShape out, int axis_count, const int64_t *axes, int64_t *stride) {
    int64_t own[LV_MAX_RANK];
    shape_strides(out, own);
    int at = 0;
    for (int i = 0; i < in.rank; i++) {
        bool reduced = false;
        for (int j = 0; j < axis_count; j++) reduced |= axes[j] == i;
        stride[i] = reduced ? 0 : own[at++];
    }
}

typedef enum { SUM, MAX, MIN } Combine;

static void reduce(const Node *node, const Tensor *x, Tensor *y, Combine how) {
    const Attr *axes = node_attr(node, ATTR_axes);
    int64_t stride[LV_MAX_RANK], index[LV_MAX_RANK] = {0}, at = 0;
    result_strides(x->shape, y->shape, axes->list.count, axes->list.at, stride);
    for (int64_t i = 0, n = lv_shape_elements(y->shape); i < n; i++) {
        if (y->f) y->f[i] = how == SUM ? 0 : how == MAX ? -INFINITY : INFINITY;
        else y->i[i] = how == SUM ? 0 : how == MAX ? INT64_MIN : INT64_MAX;
    }
    if (!lv_shape_elements(x->shape)) return;
    do {
        int64_t to = 0;
        for (int i = 0; i < x->shape.rank; i++) to += index[i] * stride[i];
        if (y->f) {
            double v = x->f[at];
            y->f[to] = how == SUM ? y->f[to] + v : (how == MAX ? v > y->f[to] : v < y->f[to]) || v != v ? v : y->f[to];
        } else {
            int64_t v = x->i[at];
            y->i[to] = how == SUM ? (int64_t)((uint64_t)y->i[to] + (uint64_t)v)
                                  : (how == MAX ? v > y->i[to] : v < y->i[to]) ? v : y->i[to];
        }
        at++;
    } while (index_next(x->shape, index));
    if (y->dtype == LV_I32)
        for (int64_t i = 0, n = lv_shape_elements(y->shape); i < n; i++) y->i[i] = (int32_t)(uint32_t)y->i[i];
}

#define EVALUATE(name) \
    void evaluate_##name(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results)

EVALUATE(reduce_sum) { (void)evaluation, reduce(node, inputs[0], results, SUM); }
EVALUATE(reduce_max) { (void)evaluation, reduce(node, inputs[0], results, MAX); }
EVALUATE(reduce_min) { (void)evaluation, reduce(node, inputs[0], results, MIN); }

static void find_extreme(const Node *node, const Tensor *x, Tensor *y, double sign) {
    int axis = (int)node_int(node, ATTR_axis, 0);
    int64_t stride[LV_MAX_RANK], extent = x->shape.dim[axis], outer = 1;
    shape_strides(x->shape, stride);
    for (int i = 0; i < axis; i++) outer *= x->shape.dim[i];
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t in = 0; in < stride[axis]; in++) {
            int64_t base = o * extent * stride[axis] + in, best = 0;
            for (int64_t k = 1; k < extent; k++)
                if (sign * tensor_get(x, base + k * stride[axis]) > sign * tensor_get(x, base + best * stride[axis])) best = k;
            y->i[o * stride[axis] + in] = best;
        }
    }
}

EVALUATE(argmax) { (void)evaluation, find_extreme(node, inputs[0], results, 1); }
EVALUATE(argmin) { (void)evaluation, find_extreme(node, inputs[0], results, -1); }

// ---- gradients

// A value of the result's shape, repeated along the reduced dimensions.
static Value *spread(Graph *g, Node *node, Value *value) {
    const Value *x = node->inputs[0];
    const Attr *axes = node_attr(node, ATTR_axes);
    int64_t kept[LV_MAX_RANK];
    int count = 0;
    for (int i = 0; i < x->shape.rank; i++) {
        bool reduced = false;
        for (int j = 0; j < axes->list.count; j++) reduced |= axes->list.at[j] == i;
        if (!reduced) kept[count++] = i;
    }
    return build_expand(g, value, x->shape, kept);
}

void gradient_reduce_sum(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    input_grads[0] = spread(g, node, result_grads[0]);
}

// The gradient goes to the first extreme in row-major order: its row-major number along the reduced dimensions is the
// least among those that equal the result.
void gradient_reduce_extreme(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    Value *x = node->inputs[0];
    const Attr *axes = node_attr(node, ATTR_axes);
    Value *number = build_constant(g, 0, LV_I32, x->shape);
    int64_t step = 1;
    for (int i = axes->list.count - 1; i >= 0; i--) {
        Attrs attrs = {0};
        attrs_int(&attrs, ATTR_axis, axes->list.at[i]);
        Value *iota = graph_add_typed(g, OP_iota, 0, NULL, &attrs, LV_I32, x->shape);
        number = build_binary(g, OP_add, number, build_binary(g, OP_mul, iota, build_like(g, (double)step, iota)));
        step *= x->shape.dim[axes->list.at[i]];
    }
    Value *equal = build_binary(g, OP_eq, x, spread(g, node, &node->results[0]));
    Value *candidate = build_select(g, equal, number, build_like(g, 2147483647.0, number));
    Value *first = build_reduce(g, OP_reduce_min, candidate, axes->list.count, axes->list.at);
    Value *chosen = build_binary(g, OP_eq, candidate, spread(g, node, first));
    input_grads[0] = build_select(g, chosen, spread(g, node, result_grads[0]), build_like(g, 0, x));
}
