// Builtin functions on tensors: each checks what only the language knows (axes counted from the end, numbers in place of tensors,
// broadcasting) and leaves shapes and types to the operation's own rule in ops/.
#include "sema/builtin.h"

// ---- elementwise

Val rule_unary(Elaborator *e, const Arguments *a) {
    if (val_is_number(a->at[0]) && a->self->number) {
        double y = a->self->number(val_number(a->at[0]));
        if (isnan(y)) return fail(e, a->call, "%s of %s is no number", a->self->name, val_text(e, a->at[0]));
        bool whole = a->at[0].kind == VAL_INT && a->self->op == OP_abs;
        return whole || a->self->op == OP_floor ? val_int((int64_t)y) : val_float(y);
    }
    Value *x = tensor_at(e, a, 0);
    return add_builtin(e, a, 1, &x, NULL);
}

// Broadcasting, numbers take the tensor's type: as the operators do.
Val rule_binary(Elaborator *e, const Arguments *a) {
    Value *x = is_tensor(a->at[0]) ? tensor_at(e, a, 0) : NULL, *y = is_tensor(a->at[1]) ? tensor_at(e, a, 1) : NULL;
    LvShape shape;
    if (!x) x = tensor_of(e, a->at[0], y, a->span[0]);
    if (!y) y = tensor_of(e, a->at[1], x, a->span[1]);
    if (!x || !y) return VAL_BAD;
    if (!broadcast_shapes(x->shape, y->shape, &shape))
        return fail(e, a->call, "the shapes do not go together: %s and %s", tensor_text(e, x), tensor_text(e, y));
    mark_nodes(e, a->call);
    return add_builtin(e, a, 2, (Value *[]){broadcast(e, x, shape), broadcast(e, y, shape)}, NULL);
}

Val rule_select(Elaborator *e, const Arguments *a) {
    Value *c = real_tensor(e, a, 0), *x = NULL, *y = NULL;
    LvShape shape;
    if (is_tensor(a->at[1])) x = tensor_at(e, a, 1);
    if (is_tensor(a->at[2])) y = tensor_at(e, a, 2);
    Value like = {.dtype = LV_F32};
    if (!x) x = tensor_of(e, a->at[1], y ? &(Value){.dtype = y->dtype} : &like, a->span[1]);
    if (!y) y = tensor_of(e, a->at[2], x ? &(Value){.dtype = x->dtype} : &like, a->span[2]);
    if (!c || !x || !y) return VAL_BAD;
    if (!broadcast_shapes(x->shape, y->shape, &shape) || !broadcast_shapes(shape, c->shape, &shape))
        return fail(e, a->call, "the shapes do not go together: %s, %s and %s", tensor_text(e, c), tensor_text(e, x),
                    tensor_text(e, y));
    mark_nodes(e, a->call);
    return add_builtin(e, a, 3, (Value *[]){broadcast(e, c, shape), broadcast(e, x, shape), broadcast(e, y, shape)}, NULL);
}

Val rule_cast(Elaborator *e, const Arguments *a) {
    LvDType dtype;
    Value *x = tensor_at(e, a, 0);
    if (!x || !want_dtype(e, a, 1, LV_F32, &dtype)) return VAL_BAD;
    if (x->dtype == dtype) return val_tensor(x);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_dtype, dtype);
    return add_builtin(e, a, 1, &x, &attrs);
}

Val rule_same(Elaborator *e, const Arguments *a) {  // stop_gradient, all_reduce, bits
    Value *x = tensor_at(e, a, 0);
    return add_builtin(e, a, 1, &x, NULL);
}

// ---- reductions

Val rule_reduce(Elaborator *e, const Arguments *a) {
    Value *x = tensor_at(e, a, 0);
    int64_t given[LV_MAX_RANK], axes[LV_MAX_RANK];
    int count = 0, kept = 0;
    bool keep, reduced[LV_MAX_RANK] = {false};
    if (!x || !want_bool(e, a, 2, &keep)) return VAL_BAD;
    if (a->at[1].kind == VAL_INT) given[0] = a->at[1].i, count = 1;
    else if (a->at[1].kind == VAL_NONE)
        for (count = 0; count < x->shape.rank; count++) given[count] = count;
    else if (!want_ints(e, a, 1, LV_MAX_RANK, &count, given)) return VAL_BAD;
    for (int i = 0; i < count; i++) {
        int64_t axis = given[i] < 0 ? given[i] + x->shape.rank : given[i];
        if (axis < 0 || axis >= x->shape.rank || reduced[axis])
            return fail(e, a->span[1],
                        axis < 0 || axis >= x->shape.rank ? "there is no dimension %lld in %s"
                                                          : "dimension %lld of %s is named twice",
                        (long long)given[i], tensor_text(e, x));
        reduced[axis] = true;
    }
    LvShape shape = x->shape;
    for (int d = 0; d < x->shape.rank; d++)
        if (reduced[d]) axes[kept++] = d, shape.dim[d] = 1;
    if (kept == 0) return val_tensor(x);
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_axes, kept, axes);
    Value *y = add_checked(e, a->self->op, 1, &x, &attrs, a->call);
    return val_tensor(y && keep ? build_reshape(e->graph, y, shape) : y);
}

Val rule_along_axis(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t axis;
    if (!x || !want_axis(e, a, 1, x->shape.rank, -1, &axis)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    return add_builtin(e, a, 1, &x, &attrs);
}

// ---- movement

Val rule_reshape(Elaborator *e, const Arguments *a) {
    Value *x = tensor_at(e, a, 0);
    LvShape shape = {0};
    int open = -1;
    int64_t known = 1;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &shape.rank, shape.dim)) return VAL_BAD;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] == -1 && open < 0) open = i;
        else if (shape.dim[i] < 0 || __builtin_mul_overflow(known, shape.dim[i], &known))
            return fail(e, a->span[1], "no shape: %s", val_text(e, a->at[1]));
    }
    int64_t all = lv_shape_elements(x->shape);
    if (open >= 0) {
        if (known == 0 || all % known)
            return fail(e, a->span[1], "%s does not divide into %s", tensor_text(e, x), val_text(e, a->at[1]));
        shape.dim[open] = all / known;
    }
    if (lv_shape_equal(shape, x->shape)) return val_tensor(x);
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    return add_builtin(e, a, 1, &x, &attrs);
}

Val rule_transpose(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t perm[LV_MAX_RANK];
    int count;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count, perm)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_perm, count, perm);
    return add_builtin(e, a, 1, &x, &attrs);
}

Val rule_expand(Elaborator *e, const Arguments *a) {
    Value *x = tensor_at(e, a, 0);
    LvShape shape, both;
    if (!x || !want_shape(e, a, 1, &shape)) return VAL_BAD;
    if (!broadcast_shapes(x->shape, shape, &both) || !lv_shape_equal(both, shape))
        return fail(e, a->call, "%s does not expand to %s", tensor_text(e, x), val_text(e, a->at[1]));
    mark_nodes(e, a->call);
    return val_tensor(broadcast(e, x, shape));
}

Val rule_slice(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t starts[LV_MAX_RANK], steps[LV_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    int count, step_count;
    LvShape shape;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count, starts) || !want_shape(e, a, 2, &shape)) return VAL_BAD;
    step_count = count;
    if (a->at[3].kind != VAL_NONE && !want_ints(e, a, 3, LV_MAX_RANK, &step_count, steps)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_starts, count, starts);
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    attrs_list(&attrs, ATTR_steps, step_count, steps);
    return add_builtin(e, a, 1, &x, &attrs);
}

Val rule_pad(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t low[LV_MAX_RANK], high[LV_MAX_RANK];
    int count_low, count_high;
    double value;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count_low, low) ||
        !want_ints(e, a, 2, LV_MAX_RANK, &count_high, high) || !want_number(e, a, 3, 0, &value))
        return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_low, count_low, low);
    attrs_list(&attrs, ATTR_high, count_high, high);
    attrs_float(&attrs, ATTR_value, value);
    return add_builtin(e, a, 1, &x, &attrs);
}

Val rule_concat(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_LIST || a->at[0].list->count == 0) return fail(e, a->span[0], "concat is of a list of tensors");
    int count = a->at[0].list->count;
    Value **parts = LV_NEW_ARRAY(e->arena, Value *, count);
    for (int i = 0; i < count; i++)
        if (!(parts[i] = tensor_of(e, a->at[0].list->at[i], NULL, a->span[0]))) return VAL_BAD;
    int64_t axis;
    if (!want_axis(e, a, 1, parts[0]->shape.rank, 0, &axis)) return VAL_BAD;
    if (count == 1) return val_tensor(parts[0]);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    return add_builtin(e, a, count, parts, &attrs);
}

Val rule_reverse(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t axes[LV_MAX_RANK];
    int count;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count, axes)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_axes, count, axes);
    return add_builtin(e, a, 1, &x, &attrs);
}

// ---- data-dependent places

Val rule_two(Elaborator *e, const Arguments *a) {
    return add_builtin(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, NULL);
}

Val rule_scatter_add(Elaborator *e, const Arguments *a) {
    int64_t rows;
    if (!want_int(e, a, 2, 0, &rows)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_rows, rows);
    return add_builtin(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

Val rule_dynamic_slice(Elaborator *e, const Arguments *a) {
    LvShape shape;
    if (!want_shape(e, a, 2, &shape)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    return add_builtin(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

Val rule_three(Elaborator *e, const Arguments *a) {  // dynamic_update
    return add_builtin(e, a, 3, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1), real_tensor(e, a, 2)}, NULL);
}

// ---- contractions and composites

Val rule_matmul(Elaborator *e, const Arguments *a) {
    bool ta, tb;
    if (!want_bool(e, a, 2, &ta) || !want_bool(e, a, 3, &tb)) return VAL_BAD;
    if (!ta && !tb && is_tensor(a->at[0]) && is_tensor(a->at[1])) return operate(e, OPERATOR_MATMUL, a->at[0], a->at[1], a->call);
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_transpose_a, ta);
    attrs_bool(&attrs, ATTR_transpose_b, tb);
    return add_builtin(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

Val rule_conv2d(Elaborator *e, const Arguments *a) {
    int64_t stride[2] = {1, 1}, pad[4] = {0};
    int count;
    if (a->at[2].kind != VAL_NONE && (!want_ints(e, a, 2, 2, &count, stride) || count != 2))
        return fail(e, a->span[2], "stride is [rows, columns]");
    if (a->at[3].kind != VAL_NONE && (!want_ints(e, a, 3, 4, &count, pad) || count != 4))
        return fail(e, a->span[3], "pad is [left, right, top, bottom]");
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_stride, 2, stride);
    attrs_list(&attrs, ATTR_pad, 4, pad);
    return add_builtin(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

Val rule_layer_norm(Elaborator *e, const Arguments *a) {
    double eps;
    if (!want_number(e, a, 3, 1e-5, &eps)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_float(&attrs, ATTR_eps, eps);
    return add_builtin(e, a, 3, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1), real_tensor(e, a, 2)}, &attrs);
}

Val rule_group_norm(Elaborator *e, const Arguments *a) {
    double eps;
    int64_t groups;
    if (!want_int(e, a, 3, 1, &groups) || !want_number(e, a, 4, 1e-5, &eps)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_groups, groups);
    attrs_float(&attrs, ATTR_eps, eps);
    return add_builtin(e, a, 3, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1), real_tensor(e, a, 2)}, &attrs);
}

Val rule_attention(Elaborator *e, const Arguments *a) {
    Value *q = real_tensor(e, a, 0);
    double scale, dropout;
    bool causal;
    if (!q || !want_number(e, a, 6, 0, &dropout)) return VAL_BAD;
    if (q->shape.rank < 1) return fail(e, a->span[0], "attention: q is [B, heads, positions, channels], not one number");
    double width = (double)q->shape.dim[q->shape.rank - 1];
    if (!want_bool(e, a, 3, &causal) || !want_number(e, a, 4, 1 / sqrt(width > 0 ? width : 1), &scale)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_causal, causal);
    attrs_float(&attrs, ATTR_scale, scale);
    bool has_length = a->at[5].kind != VAL_NONE;
    if (has_length) attrs_bool(&attrs, ATTR_length, true);
    Value *inputs[6] = {q, real_tensor(e, a, 1), real_tensor(e, a, 2)};
    int count = 3;
    if (has_length) inputs[count++] = real_tensor(e, a, 5);
    if (dropout != 0) {
        attrs_float(&attrs, ATTR_dropout, dropout);
        random_source(e, &attrs, &inputs[count]);
        count += 2;
    }
    return add_builtin(e, a, count, inputs, &attrs);
}

Val rule_cross_entropy(Elaborator *e, const Arguments *a) {
    int64_t ignore;
    if (!want_int(e, a, 2, -1, &ignore)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_ignore, ignore);
    return add_builtin(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

