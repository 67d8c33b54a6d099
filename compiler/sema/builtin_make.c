// Builtin functions that make tensors: of one number, counting, random, literal.
#include "sema/builtin.h"

// Whether an element type holds the number: reported at argument `i` if not.
static bool fits_dtype(Elaborator *e, const Arguments *a, int i, double value, LvDType dtype) {
    double limit = dtype == LV_BOOL ? 1 : dtype == LV_I32 ? 2147483647 : 9e15;
    if (lv_dtype_is_float(dtype) ||
        (value == floor(value) && value <= limit && value >= (dtype == LV_BOOL ? 0 : -limit - 1)))
        return true;
    fail(e, a->span[i], "%.10g is no %s", value, lv_dtype_name(dtype));
    return false;
}

static Val filled(Elaborator *e, const Arguments *a, double value, int dtype_at) {
    LvShape shape;
    LvDType dtype;
    if (!want_shape(e, a, 0, &shape) || !want_dtype(e, a, dtype_at, LV_F32, &dtype) ||
        !fits_dtype(e, a, 1, value, dtype))
        return VAL_BAD;
    mark_nodes(e, a->call);
    return val_tensor(build_constant(e->graph, value, dtype, shape));
}

Val rule_zeros(Elaborator *e, const Arguments *a) { return filled(e, a, 0, 1); }
Val rule_ones(Elaborator *e, const Arguments *a) { return filled(e, a, 1, 1); }

Val rule_full(Elaborator *e, const Arguments *a) {
    double value;
    return want_number(e, a, 1, 0, &value) ? filled(e, a, value, 2) : VAL_BAD;
}

Val rule_iota(Elaborator *e, const Arguments *a) {
    LvShape shape;
    LvDType dtype;
    int64_t axis;
    if (!want_shape(e, a, 0, &shape) || !want_dtype(e, a, 2, LV_I32, &dtype) ||
        !want_axis(e, a, 1, shape.rank, -1, &axis))
        return VAL_BAD;
    if (dtype == LV_BOOL) return fail(e, a->span[2], "iota counts in numbers, not in bool");
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    mark_nodes(e, a->call);
    return val_tensor(graph_add_typed(e->graph, OP_iota, 0, NULL, &attrs, dtype, shape));
}

Val rule_random(Elaborator *e, const Arguments *a) {
    LvShape shape;
    Value *seed = NULL;
    if (!want_shape(e, a, 0, &shape)) return VAL_BAD;
    if (a->at[1].kind != VAL_NONE) {
        if (!(seed = real_tensor(e, a, 1))) return VAL_BAD;
        if (seed->dtype != LV_I64 || seed->shape.rank != 1 || shape.rank == 0 || seed->shape.dim[0] != shape.dim[0])
            return fail(e, a->span[1], "the seeds are one a row, i64[%lld], not %s", (long long)(shape.rank ? shape.dim[0] : 1),
                        tensor_text(e, seed));
    }
    mark_nodes(e, a->call);
    return val_tensor(random_node(e, a->self->op, shape, seed));
}

// Numbers of nested lists, row-major; false (reported) if ragged or no numbers.
static bool collect(Elaborator *e, Val v, int depth, LvShape *shape, double *out, int64_t *count, bool *whole, LvSpan span) {
    if (v.kind != VAL_LIST) {
        if (!val_is_number(v) || depth != shape->rank) {
            fail(e, span, "constant is of numbers in lists of equal length");
            return false;
        }
        *whole &= v.kind == VAL_INT;
        if (out) out[*count] = val_number(v);
        (*count)++;
        return true;
    }
    if (depth >= shape->rank || v.list->count != shape->dim[depth]) {
        fail(e, span, "constant is of numbers in lists of equal length");
        return false;
    }
    for (int i = 0; i < v.list->count; i++)
        if (!collect(e, v.list->at[i], depth + 1, shape, out, count, whole, span)) return false;
    return true;
}

Val rule_constant(Elaborator *e, const Arguments *a) {
    LvShape shape = {0};
    LvDType dtype;
    int64_t count = 0;
    bool whole = true;
    for (Val v = a->at[0]; v.kind == VAL_LIST; v = v.list->at[0]) {
        if (shape.rank == LV_MAX_RANK) return fail(e, a->span[0], "lists nested more than %d deep", LV_MAX_RANK);
        shape.dim[shape.rank++] = v.list->count;
        if (v.list->count == 0) break;
    }
    e->work += lv_shape_elements(shape) / 16;
    if (lv_shape_elements(shape) > 10000000) return fail(e, a->span[0], "a constant of more than ten million numbers");
    if (!collect(e, a->at[0], 0, &shape, NULL, &count, &whole, a->span[0])) return VAL_BAD;
    if (!want_dtype(e, a, 1, whole && shape.rank ? LV_I32 : LV_F32, &dtype)) return VAL_BAD;
    double *numbers = LV_NEW_ARRAY(e->arena, double, count + 1);
    count = 0;
    collect(e, a->at[0], 0, &shape, numbers, &count, &whole, a->span[0]);
    for (int64_t i = 0; i < count; i++)
        if (!fits_dtype(e, a, 0, numbers[i], dtype)) return VAL_BAD;
    char *data = lv_arena_alloc(e->graph->arena, (size_t)(count + 1) * lv_dtype_size(dtype));
    for (int64_t i = 0; i < count; i++) lv_element_set(data, dtype, i, numbers[i]);
    Attrs attrs = {0};
    attrs_data(&attrs, ATTR_data, data);
    mark_nodes(e, a->call);
    return val_tensor(graph_add_typed(e->graph, OP_literal, 0, NULL, &attrs, dtype, shape));
}
