// Operators over numbers, bools, strings, lists and tensors; NumPy's broadcasting; indexing.
#include <math.h>

#include "sema/value.h"

bool is_tensor(Val v) { return v.kind == VAL_TENSOR || v.kind == VAL_VARIABLE; }

static void place_nodes(Elaborator *e, LvSpan span) {
    e->graph->span = span;
    e->graph->scope = e->path;
}

Value *add_checked(Elaborator *e, Op op, int count, Value *const *inputs, const Attrs *attrs, LvSpan span) {
    const char *reason = NULL;
    for (int i = 0; i < count; i++)
        if (!inputs[i]) return NULL;
    place_nodes(e, span);
    Value *value = graph_add(e->graph, op, count, inputs, attrs, &reason);
    if (!value) fail(e, span, "%s", reason);
    return value;
}

static Value *constant(Elaborator *e, double value, LvDType dtype, LvShape shape, LvSpan span) {
    place_nodes(e, span);
    return build_constant(e->graph, value, dtype, shape);
}

Value *tensor_of(Elaborator *e, Val v, const Value *like, LvSpan span) {
    LvShape scalar = {0};
    switch (v.kind) {
    case VAL_TENSOR: return v.tensor;
    case VAL_VARIABLE: return variable_read(e, (int)v.i);
    case VAL_INT:
    case VAL_FLOAT: {
        LvDType dtype = like ? like->dtype : LV_F32;
        double number = val_number(v);
        if (dtype == LV_BOOL || (lv_dtype_is_int(dtype) && (number != floor(number) || fabs(number) > 9e15))) {
            fail(e, span, "%s does not go with a tensor of %s", val_text(e, v), lv_dtype_name(dtype));
            return NULL;
        }
        return constant(e, number, dtype, like ? like->shape : scalar, span);
    }
    case VAL_BOOL: return constant(e, (double)v.i, LV_BOOL, like && like->dtype == LV_BOOL ? like->shape : scalar, span);
    case VAL_POISON: return NULL;
    default: fail(e, span, "expected a tensor or a number, not %s", val_kind_name(v)); return NULL;
    }
}

// ---- broadcasting

bool broadcast_shapes(LvShape a, LvShape b, LvShape *out) {
    int rank = a.rank > b.rank ? a.rank : b.rank;
    out->rank = rank;
    for (int i = 0; i < rank; i++) {
        int ia = i - (rank - a.rank), ib = i - (rank - b.rank);
        int64_t da = ia >= 0 ? a.dim[ia] : 1, db = ib >= 0 ? b.dim[ib] : 1;
        if (da != db && da != 1 && db != 1) return false;
        out->dim[i] = da == 1 ? db : da;
    }
    return true;
}

Value *broadcast(Elaborator *e, Value *v, LvShape shape) {
    int64_t axes[LV_MAX_RANK];
    if (!v || lv_shape_equal(v->shape, shape)) return v;
    for (int i = 0; i < v->shape.rank; i++) axes[i] = i + shape.rank - v->shape.rank;
    return build_expand(e->graph, v, shape, axes);
}

static Value *elementwise(Elaborator *e, Op op, Val a, Val b, LvSpan span) {
    Value *x = is_tensor(a) ? tensor_of(e, a, NULL, span) : NULL, *y = is_tensor(b) ? tensor_of(e, b, NULL, span) : NULL;
    if (!x) x = tensor_of(e, a, y, span);
    if (!y) y = tensor_of(e, b, x, span);
    if (!x || !y) return NULL;
    LvShape shape;
    if (x->dtype != y->dtype) {
        fail(e, span, "the element types differ: %s and %s; use cast", tensor_text(e, x), tensor_text(e, y));
        return NULL;
    }
    if (!broadcast_shapes(x->shape, y->shape, &shape)) {
        fail(e, span, "the shapes do not go together: %s and %s", tensor_text(e, x), tensor_text(e, y));
        return NULL;
    }
    place_nodes(e, span);
    return add_checked(e, op, 2, (Value *[]){broadcast(e, x, shape), broadcast(e, y, shape)}, NULL, span);
}

// x ** 2 and x ** 0.5 are cheaper and more exact as what they are.
static Value *power(Elaborator *e, Val a, Val b, LvSpan span) {
    if (is_tensor(a) && val_is_number(b)) {
        Value *x = tensor_of(e, a, NULL, span);
        if (val_number(b) == 2) return add_checked(e, OP_mul, 2, (Value *[]){x, x}, NULL, span);
        if (val_number(b) == 0.5) return add_checked(e, OP_sqrt, 1, &x, NULL, span);
        if (val_number(b) == 1) return x;
    }
    return elementwise(e, OP_pow, a, b, span);
}

// a [.., M, K] @ b [.., K, N]; a matrix meets a batch by being repeated
static Value *matmul(Elaborator *e, Val a, Val b, LvSpan span) {
    Value *x = tensor_of(e, a, NULL, span), *y = tensor_of(e, b, NULL, span);
    if (!x || !y) return NULL;
    if (x->shape.rank < 2 || y->shape.rank < 2) {
        fail(e, span, "@ is of matrices; these are %s and %s", tensor_text(e, x), tensor_text(e, y));
        return NULL;
    }
    LvShape batch_x = x->shape, batch_y = y->shape, batch;
    batch_x.rank -= 2, batch_y.rank -= 2;
    if (!broadcast_shapes(batch_x, batch_y, &batch) || batch.rank + 2 > LV_MAX_RANK) {
        fail(e, span, "the batch dimensions do not go together: %s and %s", tensor_text(e, x), tensor_text(e, y));
        return NULL;
    }
    LvShape full_x = batch, full_y = batch;
    for (int i = 2; i > 0; i--) {
        full_x.dim[full_x.rank++] = x->shape.dim[x->shape.rank - i];
        full_y.dim[full_y.rank++] = y->shape.dim[y->shape.rank - i];
    }
    place_nodes(e, span);
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_transpose_a, false);
    attrs_bool(&attrs, ATTR_transpose_b, false);
    return add_checked(e, OP_matmul, 2, (Value *[]){broadcast(e, x, full_x), broadcast(e, y, full_y)}, &attrs, span);
}

// ---- numbers

static Val overflow(Elaborator *e, LvSpan span) { return fail(e, span, "this integer does not fit in 64 bits"); }

static int64_t floor_mod(int64_t a, int64_t b) {
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

static Val int_power(Elaborator *e, int64_t a, int64_t b, LvSpan span) {
    int64_t out = 1;
    if (b < 0) return val_float(pow((double)a, (double)b));
    if (a == 0 || a == 1) return val_int(b == 0 ? 1 : a);
    for (int64_t i = 0; i < b; i++)
        if (__builtin_mul_overflow(out, a, &out) || i > 64) return overflow(e, span);
    return val_int(out);
}

static Val operate_ints(Elaborator *e, Operator op, int64_t a, int64_t b, LvSpan span) {
    int64_t out = 0;
    bool over = false;
    switch (op) {
    case OPERATOR_ADD: over = __builtin_add_overflow(a, b, &out); break;
    case OPERATOR_SUB: over = __builtin_sub_overflow(a, b, &out); break;
    case OPERATOR_MUL: over = __builtin_mul_overflow(a, b, &out); break;
    case OPERATOR_DIV:
    case OPERATOR_MOD:
        if (b == 0) return fail(e, span, "division by zero");
        if (b == -1) {
            over = op == OPERATOR_DIV && __builtin_sub_overflow((int64_t)0, a, &out);
            break;
        }
        out = op == OPERATOR_MOD ? floor_mod(a, b) : (a - floor_mod(a, b)) / b;
        break;
    case OPERATOR_POW: return int_power(e, a, b, span);
    default: return VAL_BAD;
    }
    return over ? overflow(e, span) : val_int(out);
}

static Val operate_floats(Elaborator *e, Operator op, double a, double b, LvSpan span) {
    switch (op) {
    case OPERATOR_ADD: return val_float(a + b);
    case OPERATOR_SUB: return val_float(a - b);
    case OPERATOR_MUL: return val_float(a * b);
    case OPERATOR_DIV: return b == 0 ? fail(e, span, "division by zero") : val_float(a / b);
    case OPERATOR_MOD: return b == 0 ? fail(e, span, "division by zero") : val_float(a - b * floor(a / b));
    case OPERATOR_POW: return val_float(pow(a, b));
    default: return VAL_BAD;
    }
}

static bool is_comparison(Operator op) { return op >= OPERATOR_EQ && op <= OPERATOR_GE; }

static bool compare(Operator op, int order) {
    switch (op) {
    case OPERATOR_EQ: return order == 0;
    case OPERATOR_NE: return order != 0;
    case OPERATOR_LT: return order < 0;
    case OPERATOR_LE: return order <= 0;
    case OPERATOR_GT: return order > 0;
    default: return order >= 0;
    }
}

static Op tensor_op(Operator op) {
    switch (op) {
    case OPERATOR_ADD: return OP_add;
    case OPERATOR_SUB: return OP_sub;
    case OPERATOR_MUL: return OP_mul;
    case OPERATOR_DIV: return OP_div;
    case OPERATOR_MOD: return OP_mod;
    case OPERATOR_EQ: return OP_eq;
    case OPERATOR_NE: return OP_ne;
    case OPERATOR_LT: return OP_lt;
    case OPERATOR_LE: return OP_le;
    case OPERATOR_GT: return OP_gt;
    case OPERATOR_GE: return OP_ge;
    case OPERATOR_AND: return OP_and;
    case OPERATOR_OR: return OP_or;
    default: return OP_COUNT;
    }
}

static Val concat_lists(Elaborator *e, Val a, Val b, LvSpan span) {
    if (a.list->count + b.list->count > 1000000) return fail(e, span, "this list has more than a million items");
    Val out = val_list(e, a.list->count + b.list->count);
    e->work += out.list->count;
    for (int i = 0; i < a.list->count; i++) out.list->at[i] = a.list->at[i];
    for (int i = 0; i < b.list->count; i++) out.list->at[a.list->count + i] = b.list->at[i];
    out.list->depth = a.list->depth > b.list->depth ? a.list->depth : b.list->depth;
    return out;
}

static Val contains(Elaborator *e, Operator op, Val a, Val b, LvSpan span) {
    if (b.kind != VAL_LIST) return fail(e, span, "'in' looks into a list, not into %s", val_kind_name(b));
    bool found = false;
    e->work += b.list->count;
    for (int i = 0; i < b.list->count && !found; i++) found |= val_equal(e, a, b.list->at[i]);
    return val_bool(found == (op == OPERATOR_IN));
}

static Val operate_tensors(Elaborator *e, Operator op, Val a, Val b, LvSpan span) {
    if (op == OPERATOR_MATMUL) return val_tensor(matmul(e, a, b, span));
    if (op == OPERATOR_POW) return val_tensor(power(e, a, b, span));
    return val_tensor(elementwise(e, tensor_op(op), a, b, span));
}

Val operate(Elaborator *e, Operator op, Val a, Val b, LvSpan span) {
    if (a.kind == VAL_POISON || b.kind == VAL_POISON) return VAL_BAD;
    if (op == OPERATOR_IN || op == OPERATOR_NOT_IN) return contains(e, op, a, b, span);
    bool none = a.kind == VAL_NONE || b.kind == VAL_NONE;
    if ((op == OPERATOR_EQ || op == OPERATOR_NE) && (none || (!is_tensor(a) && !is_tensor(b))))
        return val_bool(val_equal(e, a, b) == (op == OPERATOR_EQ));
    if (is_tensor(a) || is_tensor(b)) {
        bool fits = (is_tensor(a) || val_is_number(a) || a.kind == VAL_BOOL) &&
                    (is_tensor(b) || val_is_number(b) || b.kind == VAL_BOOL);
        if (fits) return operate_tensors(e, op, a, b, span);
    }
    if (val_is_number(a) && val_is_number(b)) {
        double x = val_number(a), y = val_number(b);
        if (a.kind == VAL_INT && b.kind == VAL_INT) {
            if (is_comparison(op)) return val_bool(compare(op, (a.i > b.i) - (a.i < b.i)));
            if (op <= OPERATOR_POW) return operate_ints(e, op, a.i, b.i, span);
        }
        if (is_comparison(op)) return val_bool(compare(op, (x > y) - (x < y)));
        if (op <= OPERATOR_POW) return operate_floats(e, op, x, y, span);
    }
    if (op == OPERATOR_ADD && a.kind == VAL_LIST && b.kind == VAL_LIST) return concat_lists(e, a, b, span);
    if (op == OPERATOR_ADD && a.kind == VAL_STRING && b.kind == VAL_STRING) {
        if (strlen(a.s) + strlen(b.s) > 100000) return fail(e, span, "this string is too long");
        return val_string(lv_arena_printf(e->arena, "%s%s", a.s, b.s));
    }
    return fail(e, span, "'%s' does not work on %s and %s", operator_text(op), val_kind_name(a), val_kind_name(b));
}

Val negate(Elaborator *e, Val a, LvSpan span) {
    if (a.kind == VAL_POISON) return a;
    if (a.kind == VAL_INT) return a.i == INT64_MIN ? overflow(e, span) : val_int(-a.i);
    if (a.kind == VAL_FLOAT) return val_float(-a.f);
    if (!is_tensor(a)) return fail(e, span, "'-' does not work on %s", val_kind_name(a));
    Value *x = tensor_of(e, a, NULL, span);
    return val_tensor(add_checked(e, OP_neg, 1, &x, NULL, span));
}

// ---- indexing

static bool index_int(Elaborator *e, const Expr *expr, int64_t otherwise, int64_t *out) {
    if (!expr) {
        *out = otherwise;
        return true;
    }
    Val v = evaluate(e, expr);
    if (v.kind == VAL_INT) *out = v.i;
    else if (v.kind != VAL_POISON) fail(e, expr->span, "an index is an int, not %s", val_kind_name(v));
    return v.kind == VAL_INT;
}

// start, count and step of `a:b:c` over `extent` elements, as Python cuts
static bool slice_range(Elaborator *e, const Expr *expr, int64_t extent, int64_t *start, int64_t *count, int64_t *step) {
    int64_t stop;
    if (!index_int(e, expr->items.data[0], 0, start) || !index_int(e, expr->items.data[1], extent, &stop) ||
        !index_int(e, expr->items.data[2], 1, step))
        return false;
    if (*step < 1) {
        fail(e, expr->span, "the step of a slice is at least 1; use reverse");
        return false;
    }
    if (*start < 0) *start += extent;
    if (stop < 0) stop += extent;
    if (*start < 0) *start = 0;
    if (*start > extent) *start = extent;
    if (stop > extent) stop = extent;
    *count = stop > *start ? (stop - *start - 1) / *step + 1 : 0;
    return true;
}

static Val index_list(Elaborator *e, Val base, const Expr *expr) {
    const Expr *what = expr->items.data[1];
    int64_t start, count, step, extent = base.list->count;
    if (expr->items.count != 2) return fail(e, expr->span, "a list has one index");
    if (what->kind == EXPR_SLICE) {
        if (!slice_range(e, what, extent, &start, &count, &step)) return VAL_BAD;
        Val out = val_list(e, (int)count);
        for (int64_t i = 0; i < count; i++) out.list->at[i] = base.list->at[start + i * step];
        e->work += count;
        return list_done(e, out, expr->span);
    }
    if (!index_int(e, what, 0, &start)) return VAL_BAD;
    if (start < -extent || start >= extent)
        return fail(e, what->span, "index %lld of a list of %lld items", (long long)start, (long long)extent);
    return base.list->at[start < 0 ? start + extent : start];
}

static Val index_tensor(Elaborator *e, Val base, const Expr *expr) {
    Value *x = tensor_of(e, base, NULL, expr->span);
    if (!x) return VAL_BAD;
    int rank = x->shape.rank, given = 0, dim = 0;
    int64_t starts[LV_MAX_RANK] = {0}, steps[LV_MAX_RANK];
    LvShape cut = x->shape, kept = {0};
    bool dropped[LV_MAX_RANK] = {false};
    for (int i = 0; i < LV_MAX_RANK; i++) steps[i] = 1;
    for (int i = 1; i < expr->items.count; i++) given += expr->items.data[i]->kind != EXPR_ELLIPSIS;
    if (given > rank) return fail(e, expr->span, "%d indices into %s", given, tensor_text(e, x));
    for (int i = 1; i < expr->items.count; i++) {
        const Expr *what = expr->items.data[i];
        if (what->kind == EXPR_ELLIPSIS) {
            dim += rank - given;
            given = rank;  // a second one stands for nothing
            continue;
        }
        if (what->kind == EXPR_SLICE) {
            if (!slice_range(e, what, x->shape.dim[dim], &starts[dim], &cut.dim[dim], &steps[dim])) return VAL_BAD;
        } else {
            if (!index_int(e, what, 0, &starts[dim])) return VAL_BAD;
            if (starts[dim] < 0) starts[dim] += x->shape.dim[dim];
            if (starts[dim] < 0 || starts[dim] >= x->shape.dim[dim])
                return fail(e, what->span, "index %lld of a dimension of %lld in %s", (long long)(starts[dim]),
                            (long long)x->shape.dim[dim], tensor_text(e, x));
            cut.dim[dim] = 1;
            dropped[dim] = true;
        }
        dim++;
    }
    place_nodes(e, expr->span);
    if (!lv_shape_equal(cut, x->shape)) x = build_slice(e->graph, x, starts, cut, steps);
    for (int i = 0; i < rank; i++)
        if (!dropped[i]) kept.dim[kept.rank++] = cut.dim[i];
    return val_tensor(build_reshape(e->graph, x, kept));
}

Val index_value(Elaborator *e, Val base, const Expr *expr) {
    if (base.kind == VAL_POISON) return base;
    if (base.kind == VAL_LIST || base.kind == VAL_TUPLE) return index_list(e, base, expr);
    if (is_tensor(base)) return index_tensor(e, base, expr);
    return fail(e, expr->span, "%s has no indices", val_kind_name(base));
}
