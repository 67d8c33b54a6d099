// Short builders for writing graphs in C: gradients, decompositions, passes.
#include <string.h>

#include "ops/rules.h"

Value *build_node(Graph *g, Op op, int input_count, Value *const *inputs, const Attrs *attrs) {
    const char *reason = NULL;
    Value *value = graph_add(g, op, input_count, inputs, attrs, &reason);
    if (!value) lv_internal_error("build: %s", reason);
    return value;
}

Value *build_constant(Graph *g, double value, LvDType dtype, LvShape shape) {
    Attrs attrs = {0};
    attrs_float(&attrs, ATTR_value, value);
    return graph_add_typed(g, OP_constant, 0, NULL, &attrs, dtype, shape);
}

Value *build_state_read(Graph *g, int64_t variable) {
    const Variable *v = &g->variables.data[variable];
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, variable);
    return graph_add_typed(g, OP_state_read, 0, NULL, &attrs, v->dtype, v->shape);
}

void build_state_write(Graph *g, int64_t variable, Value *value) {
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, variable);
    build_node(g, OP_state_write, 1, &value, &attrs);
}

Value *build_like(Graph *g, double value, const Value *like) { return build_constant(g, value, like->dtype, like->shape); }
Value *build_unary(Graph *g, Op op, Value *a) { return build_node(g, op, 1, &a, NULL); }

Value *build_binary(Graph *g, Op op, Value *a, Value *b) {
    if (a->shape.rank == 0 && b->shape.rank) a = build_expand(g, a, b->shape, NULL);
    if (b->shape.rank == 0 && a->shape.rank) b = build_expand(g, b, a->shape, NULL);
    return build_node(g, op, 2, (Value *[]){a, b}, NULL);
}

Value *build_select(Graph *g, Value *condition, Value *a, Value *b) {
    return build_node(g, OP_select, 3, (Value *[]){condition, a, b}, NULL);
}

Value *build_cast(Graph *g, Value *a, LvDType dtype) {
    if (a->dtype == dtype) return a;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_dtype, dtype);
    return build_node(g, OP_cast, 1, &a, &attrs);
}

Value *build_reduce(Graph *g, Op op, Value *a, int axis_count, const int64_t *axes) {
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_axes, axis_count, axes);
    return build_node(g, op, 1, &a, &attrs);
}

Value *build_reshape(Graph *g, Value *a, LvShape shape) {
    if (lv_shape_equal(a->shape, shape)) return a;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    return build_node(g, OP_reshape, 1, &a, &attrs);
}

Value *build_transpose(Graph *g, Value *a, const int64_t *perm) {
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_perm, a->shape.rank, perm);
    return build_node(g, OP_transpose, 1, &a, &attrs);
}

Value *build_expand(Graph *g, Value *a, LvShape shape, const int64_t *axes) {
    if (lv_shape_equal(a->shape, shape)) return a;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    attrs_list(&attrs, ATTR_axes, a->shape.rank, axes);
    return build_node(g, OP_expand, 1, &a, &attrs);
}

Value *build_slice(Graph *g, Value *a, const int64_t *starts, LvShape shape, const int64_t *steps) {
    static const int64_t ones[LV_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_starts, a->shape.rank, starts);
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    attrs_list(&attrs, ATTR_steps, a->shape.rank, steps ? steps : ones);
    return build_node(g, OP_slice, 1, &a, &attrs);
}

Value *build_pad(Graph *g, Value *a, const int64_t *low, const int64_t *high, double value) {
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_low, a->shape.rank, low);
    attrs_list(&attrs, ATTR_high, a->shape.rank, high);
    attrs_float(&attrs, ATTR_value, value);
    return build_node(g, OP_pad, 1, &a, &attrs);
}

Value *build_concat(Graph *g, int count, Value *const *parts, int axis) {
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    return build_node(g, OP_concat, count, parts, &attrs);
}

Value *build_matmul(Graph *g, Value *a, Value *b, bool transpose_a, bool transpose_b) {
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_transpose_a, transpose_a);
    attrs_bool(&attrs, ATTR_transpose_b, transpose_b);
    return build_node(g, OP_matmul, 2, (Value *[]){a, b}, &attrs);
}
