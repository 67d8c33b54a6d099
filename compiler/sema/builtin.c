// The functions that the language has by itself: those of numbers and lists, and the primitives of ops.def on tensors.
// Each says its parameters in one string: "x axes? keep?", a ? after what may be left out.
#include <math.h>

#include "sema/value.h"

enum { MAX_ARGUMENTS = 8 };

typedef struct {
    Val at[MAX_ARGUMENTS];      // VAL_NONE where left out
    LvSpan span[MAX_ARGUMENTS];
    LvSpan call;
    const struct Builtin *self;
} Arguments;

typedef Val BuiltinRule(Elaborator *e, const Arguments *a);

typedef struct Builtin {
    const char *name, *parameters;
    BuiltinRule *rule;
    Op op;
    double (*number)(double);   // of elementwise ones: the same on compile-time numbers
} Builtin;

// ---- reading arguments

static bool want_int(Elaborator *e, const Arguments *a, int i, int64_t otherwise, int64_t *out) {
    if (a->at[i].kind == VAL_NONE) *out = otherwise;
    else if (a->at[i].kind == VAL_INT) *out = a->at[i].i;
    else {
        fail(e, a->span[i], "expected an int, not %s", val_kind_name(a->at[i]));
        return false;
    }
    return true;
}

static bool want_bool(Elaborator *e, const Arguments *a, int i, bool *out) {
    *out = a->at[i].kind == VAL_BOOL && a->at[i].i;
    if (a->at[i].kind == VAL_NONE || a->at[i].kind == VAL_BOOL) return true;
    fail(e, a->span[i], "expected a bool, not %s", val_kind_name(a->at[i]));
    return false;
}

static bool want_number(Elaborator *e, const Arguments *a, int i, double otherwise, double *out) {
    *out = val_is_number(a->at[i]) ? val_number(a->at[i]) : otherwise;
    if (a->at[i].kind == VAL_NONE || val_is_number(a->at[i])) return true;
    fail(e, a->span[i], "expected a number, not %s", val_kind_name(a->at[i]));
    return false;
}

static bool want_ints(Elaborator *e, const Arguments *a, int i, int limit, int *count, int64_t *out) {
    Val v = a->at[i];
    if (v.kind != VAL_LIST || v.list->count > limit) {
        fail(e, a->span[i], v.kind == VAL_LIST ? "at most %d numbers stand here" : "expected a list of at most %d ints", limit);
        return false;
    }
    *count = v.list->count;
    for (int k = 0; k < v.list->count; k++) {
        if (v.list->at[k].kind != VAL_INT) {
            fail(e, a->span[i], "expected a list of ints, not %s", val_text(e, v));
            return false;
        }
        out[k] = v.list->at[k].i;
    }
    return true;
}

static bool want_shape(Elaborator *e, const Arguments *a, int i, LvShape *shape) {
    size_t bytes;
    *shape = (LvShape){0};
    if (!want_ints(e, a, i, LV_MAX_RANK, &shape->rank, shape->dim)) return false;
    for (int d = 0; d < shape->rank; d++) {
        if (shape->dim[d] >= 0) continue;
        fail(e, a->span[i], "an extent of %lld", (long long)shape->dim[d]);
        return false;
    }
    if (lv_shape_bytes(*shape, LV_F64, &bytes) && bytes < (size_t)1 << 45) return true;
    fail(e, a->span[i], "this tensor is too large");
    return false;
}

static bool want_axis(Elaborator *e, const Arguments *a, int i, int rank, int64_t otherwise, int64_t *axis) {
    if (!want_int(e, a, i, otherwise, axis)) return false;
    if (*axis < 0) *axis += rank;
    if (*axis >= 0 && *axis < rank) return true;
    fail(e, a->at[i].kind == VAL_NONE ? a->call : a->span[i], "there is no dimension %lld in a tensor of rank %d", (long long)(*axis < 0 ? *axis - rank : *axis), rank);
    return false;
}

static bool want_dtype(Elaborator *e, const Arguments *a, int i, LvDType otherwise, LvDType *out) {
    *out = a->at[i].kind == VAL_DTYPE ? (LvDType)a->at[i].i : otherwise;
    if (a->at[i].kind == VAL_DTYPE || a->at[i].kind == VAL_NONE) return true;
    fail(e, a->span[i], "expected an element type, such as f32, not %s", val_kind_name(a->at[i]));
    return false;
}

static Value *tensor_at(Elaborator *e, const Arguments *a, int i) { return tensor_of(e, a->at[i], NULL, a->span[i]); }

static Value *real_tensor(Elaborator *e, const Arguments *a, int i) {
    if (is_tensor(a->at[i])) return tensor_at(e, a, i);
    fail(e, a->span[i], "expected a tensor, not %s", val_kind_name(a->at[i]));
    return NULL;
}

static void mark(Elaborator *e, LvSpan span) {
    e->graph->span = span;
    e->graph->scope = e->path;
}

static Val add(Elaborator *e, const Arguments *a, int count, Value *const *inputs, const Attrs *attrs) {
    return val_tensor(add_checked(e, a->self->op, count, inputs, attrs, a->call));
}

// ---- numbers and lists

static Val rule_range(Elaborator *e, const Arguments *a) {
    int64_t start = 0, stop, step = 1;
    if (a->at[1].kind == VAL_NONE) {
        if (!want_int(e, a, 0, 0, &stop)) return VAL_BAD;
    } else if (!want_int(e, a, 0, 0, &start) || !want_int(e, a, 1, 0, &stop) || !want_int(e, a, 2, 1, &step)) return VAL_BAD;
    if (step == 0) return fail(e, a->call, "range by steps of 0");
    double span = ((double)stop - (double)start) / (double)step;
    int64_t count = span > 0 ? (int64_t)ceil(span) : 0;
    if (span > 100000) return fail(e, a->call, "a range of more than 100000 numbers");
    Val out = val_list(e, (int)count);
    e->work += count;
    for (int64_t i = 0; i < count; i++) out.list->at[i] = val_int(start + i * step);
    return out;
}

static Val rule_len(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind == VAL_LIST || a->at[0].kind == VAL_TUPLE) return val_int(a->at[0].list->count);
    if (a->at[0].kind == VAL_STRING) return val_int((int64_t)strlen(a->at[0].s));
    return fail(e, a->span[0], "%s has no length", val_kind_name(a->at[0]));
}

// min, max: of the arguments, or of the one list
static Val extreme(Elaborator *e, const Arguments *a, Operator op) {
    Val best = VAL_BAD;
    const Val *items = a->at;
    int count = 0;
    if (a->at[0].kind == VAL_LIST) items = a->at[0].list->at, count = a->at[0].list->count;
    else
        while (count < MAX_ARGUMENTS && a->at[count].kind != VAL_NONE) count++;
    if (count == 0) return fail(e, a->call, "%s of nothing", a->self->name);
    for (int i = 0; i < count; i++) {
        if (is_tensor(items[i])) return fail(e, a->call, "%s is of compile-time numbers; for tensors there are %simum and reduce_%s", a->self->name, a->self->name, a->self->name);
        if (!val_is_number(items[i])) return fail(e, a->call, "%s is of numbers, not of %s", a->self->name, val_kind_name(items[i]));
        Val better = i ? operate(e, op, items[i], best, a->call) : val_bool(true);
        if (better.kind == VAL_BOOL && better.i) best = items[i];
    }
    return best;
}

static Val rule_min(Elaborator *e, const Arguments *a) { return extreme(e, a, OPERATOR_LT); }
static Val rule_max(Elaborator *e, const Arguments *a) { return extreme(e, a, OPERATOR_GT); }

static Val fold(Elaborator *e, const Arguments *a, Operator op, Val start) {
    if (a->at[0].kind != VAL_LIST) return fail(e, a->span[0], "%s is of a list, not of %s", a->self->name, val_kind_name(a->at[0]));
    for (int i = 0; i < a->at[0].list->count; i++) start = i ? operate(e, op, start, a->at[0].list->at[i], a->call) : a->at[0].list->at[i];
    return start;
}

static Val rule_sum(Elaborator *e, const Arguments *a) { return fold(e, a, OPERATOR_ADD, val_int(0)); }
static Val rule_prod(Elaborator *e, const Arguments *a) { return fold(e, a, OPERATOR_MUL, val_int(1)); }

static Val rule_reversed(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_LIST) return fail(e, a->span[0], "reversed is of a list, not of %s", val_kind_name(a->at[0]));
    int n = a->at[0].list->count;
    Val out = val_list(e, n);
    for (int i = 0; i < n; i++) out.list->at[i] = a->at[0].list->at[n - 1 - i];
    e->work += n;
    return list_done(e, out, a->call);
}

static Val pair(Elaborator *e, Val a, Val b, LvSpan span) {
    Val out = val_list(e, 2);
    out.list->at[0] = a, out.list->at[1] = b;
    return list_done(e, out, span);
}

static Val rule_zip(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_LIST || a->at[1].kind != VAL_LIST) return fail(e, a->call, "zip is of two lists");
    if (a->at[0].list->count != a->at[1].list->count) return fail(e, a->call, "zip of lists of %d and %d items", a->at[0].list->count, a->at[1].list->count);
    Val out = val_list(e, a->at[0].list->count);
    for (int i = 0; i < out.list->count; i++) out.list->at[i] = pair(e, a->at[0].list->at[i], a->at[1].list->at[i], a->call);
    e->work += out.list->count;
    return list_done(e, out, a->call);
}

static Val rule_enumerate(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_LIST) return fail(e, a->span[0], "enumerate is of a list, not of %s", val_kind_name(a->at[0]));
    Val out = val_list(e, a->at[0].list->count);
    for (int i = 0; i < out.list->count; i++) out.list->at[i] = pair(e, val_int(i), a->at[0].list->at[i], a->call);
    e->work += out.list->count;
    return list_done(e, out, a->call);
}

static Val rule_int(Elaborator *e, const Arguments *a) {
    double x;
    if (a->at[0].kind == VAL_INT || a->at[0].kind == VAL_BOOL) return val_int(a->at[0].i);
    if (!want_number(e, a, 0, 0, &x)) return VAL_BAD;
    if (!(fabs(x) < 9e18)) return fail(e, a->span[0], "%g does not fit in an int", x);
    return val_int((int64_t)x);
}

static Val rule_float(Elaborator *e, const Arguments *a) {
    double x;
    return want_number(e, a, 0, 0, &x) ? val_float(x) : VAL_BAD;
}

static Val rule_assert(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_BOOL) return fail(e, a->span[0], "assert checks a bool when compiling, not %s", val_kind_name(a->at[0]));
    if (a->at[0].i) return val_none();
    return fail(e, a->call, "%s", a->at[1].kind == VAL_STRING ? a->at[1].s : "this does not hold");
}

static Val rule_error(Elaborator *e, const Arguments *a) {
    return fail(e, a->call, "%s", a->at[0].kind == VAL_STRING ? a->at[0].s : "error");
}

// ---- elementwise

static Val rule_unary(Elaborator *e, const Arguments *a) {
    if (val_is_number(a->at[0]) && a->self->number) {
        double y = a->self->number(val_number(a->at[0]));
        if (isnan(y)) return fail(e, a->call, "%s of %s is no number", a->self->name, val_text(e, a->at[0]));
        bool whole = a->at[0].kind == VAL_INT && a->self->op == OP_abs;
        return whole || a->self->op == OP_floor ? val_int((int64_t)y) : val_float(y);
    }
    Value *x = tensor_at(e, a, 0);
    return add(e, a, 1, &x, NULL);
}

// Broadcasting, numbers take the tensor's type: as the operators do.
static Val rule_binary(Elaborator *e, const Arguments *a) {
    Value *x = is_tensor(a->at[0]) ? tensor_at(e, a, 0) : NULL, *y = is_tensor(a->at[1]) ? tensor_at(e, a, 1) : NULL;
    LvShape shape;
    if (!x) x = tensor_of(e, a->at[0], y, a->span[0]);
    if (!y) y = tensor_of(e, a->at[1], x, a->span[1]);
    if (!x || !y) return VAL_BAD;
    if (!broadcast_shapes(x->shape, y->shape, &shape)) return fail(e, a->call, "the shapes do not go together: %s and %s", tensor_text(e, x), tensor_text(e, y));
    mark(e, a->call);
    return add(e, a, 2, (Value *[]){broadcast(e, x, shape), broadcast(e, y, shape)}, NULL);
}

static Val rule_select(Elaborator *e, const Arguments *a) {
    Value *c = real_tensor(e, a, 0), *x = NULL, *y = NULL;
    LvShape shape;
    if (is_tensor(a->at[1])) x = tensor_at(e, a, 1);
    if (is_tensor(a->at[2])) y = tensor_at(e, a, 2);
    Value like = {.dtype = LV_F32};
    if (!x) x = tensor_of(e, a->at[1], y ? &(Value){.dtype = y->dtype} : &like, a->span[1]);
    if (!y) y = tensor_of(e, a->at[2], x ? &(Value){.dtype = x->dtype} : &like, a->span[2]);
    if (!c || !x || !y) return VAL_BAD;
    if (!broadcast_shapes(x->shape, y->shape, &shape) || !broadcast_shapes(shape, c->shape, &shape))
        return fail(e, a->call, "the shapes do not go together: %s, %s and %s", tensor_text(e, c), tensor_text(e, x), tensor_text(e, y));
    mark(e, a->call);
    return add(e, a, 3, (Value *[]){broadcast(e, c, shape), broadcast(e, x, shape), broadcast(e, y, shape)}, NULL);
}

static Val rule_cast(Elaborator *e, const Arguments *a) {
    LvDType dtype;
    Value *x = tensor_at(e, a, 0);
    if (!x || !want_dtype(e, a, 1, LV_F32, &dtype)) return VAL_BAD;
    if (x->dtype == dtype) return val_tensor(x);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_dtype, dtype);
    return add(e, a, 1, &x, &attrs);
}

static Val rule_same(Elaborator *e, const Arguments *a) {  // stop_gradient, all_reduce
    Value *x = tensor_at(e, a, 0);
    return add(e, a, 1, &x, NULL);
}

// ---- reductions

static Val rule_reduce(Elaborator *e, const Arguments *a) {
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
            return fail(e, a->span[1], axis < 0 || axis >= x->shape.rank ? "there is no dimension %lld in %s" : "dimension %lld of %s is named twice", (long long)given[i], tensor_text(e, x));
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

static Val rule_argreduce(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t axis;
    if (!x || !want_axis(e, a, 1, x->shape.rank, -1, &axis)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    return add(e, a, 1, &x, &attrs);
}

// ---- movement

static Val rule_reshape(Elaborator *e, const Arguments *a) {
    Value *x = tensor_at(e, a, 0);
    LvShape shape = {0};
    int open = -1;
    int64_t known = 1;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &shape.rank, shape.dim)) return VAL_BAD;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] == -1 && open < 0) open = i;
        else if (shape.dim[i] < 0 || __builtin_mul_overflow(known, shape.dim[i], &known)) return fail(e, a->span[1], "no shape: %s", val_text(e, a->at[1]));
    }
    int64_t all = lv_shape_elements(x->shape);
    if (open >= 0) {
        if (known == 0 || all % known) return fail(e, a->span[1], "%s does not divide into %s", tensor_text(e, x), val_text(e, a->at[1]));
        shape.dim[open] = all / known;
    }
    if (lv_shape_equal(shape, x->shape)) return val_tensor(x);
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    return add(e, a, 1, &x, &attrs);
}

static Val rule_transpose(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t perm[LV_MAX_RANK];
    int count;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count, perm)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_perm, count, perm);
    return add(e, a, 1, &x, &attrs);
}

static Val rule_expand(Elaborator *e, const Arguments *a) {
    Value *x = tensor_at(e, a, 0);
    LvShape shape, both;
    if (!x || !want_shape(e, a, 1, &shape)) return VAL_BAD;
    if (!broadcast_shapes(x->shape, shape, &both) || !lv_shape_equal(both, shape)) return fail(e, a->call, "%s does not expand to %s", tensor_text(e, x), val_text(e, a->at[1]));
    mark(e, a->call);
    return val_tensor(broadcast(e, x, shape));
}

static Val rule_slice(Elaborator *e, const Arguments *a) {
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
    return add(e, a, 1, &x, &attrs);
}

static Val rule_pad(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t low[LV_MAX_RANK], high[LV_MAX_RANK];
    int count_low, count_high;
    double value;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count_low, low) || !want_ints(e, a, 2, LV_MAX_RANK, &count_high, high) || !want_number(e, a, 3, 0, &value)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_low, count_low, low);
    attrs_list(&attrs, ATTR_high, count_high, high);
    attrs_float(&attrs, ATTR_value, value);
    return add(e, a, 1, &x, &attrs);
}

static Val rule_concat(Elaborator *e, const Arguments *a) {
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
    return add(e, a, count, parts, &attrs);
}

static Val rule_reverse(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t axes[LV_MAX_RANK];
    int count;
    if (!x || !want_ints(e, a, 1, LV_MAX_RANK, &count, axes)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_axes, count, axes);
    return add(e, a, 1, &x, &attrs);
}

// ---- data-dependent places

static Val rule_gather(Elaborator *e, const Arguments *a) {
    return add(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, NULL);
}

static Val rule_scatter_add(Elaborator *e, const Arguments *a) {
    int64_t rows;
    if (!want_int(e, a, 2, 0, &rows)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_rows, rows);
    return add(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

static Val rule_dynamic_slice(Elaborator *e, const Arguments *a) {
    LvShape shape;
    if (!want_shape(e, a, 2, &shape)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, shape.rank, shape.dim);
    return add(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

static Val rule_three(Elaborator *e, const Arguments *a) {  // dynamic_update
    return add(e, a, 3, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1), real_tensor(e, a, 2)}, NULL);
}

// ---- contractions and composites

static Val rule_matmul(Elaborator *e, const Arguments *a) {
    bool ta, tb;
    if (!want_bool(e, a, 2, &ta) || !want_bool(e, a, 3, &tb)) return VAL_BAD;
    if (!ta && !tb && is_tensor(a->at[0]) && is_tensor(a->at[1])) return operate(e, OPERATOR_MATMUL, a->at[0], a->at[1], a->call);
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_transpose_a, ta);
    attrs_bool(&attrs, ATTR_transpose_b, tb);
    return add(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

static Val rule_conv2d(Elaborator *e, const Arguments *a) {
    int64_t stride[2] = {1, 1}, pad[4] = {0};
    int count;
    if (a->at[2].kind != VAL_NONE && (!want_ints(e, a, 2, 2, &count, stride) || count != 2)) return fail(e, a->span[2], "stride is [rows, columns]");
    if (a->at[3].kind != VAL_NONE && (!want_ints(e, a, 3, 4, &count, pad) || count != 4)) return fail(e, a->span[3], "pad is [left, right, top, bottom]");
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_stride, 2, stride);
    attrs_list(&attrs, ATTR_pad, 4, pad);
    return add(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

static Val rule_softmax(Elaborator *e, const Arguments *a) {
    Value *x = real_tensor(e, a, 0);
    int64_t axis;
    if (!x || !want_axis(e, a, 1, x->shape.rank, -1, &axis)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    return add(e, a, 1, &x, &attrs);
}

static Val rule_layer_norm(Elaborator *e, const Arguments *a) {
    double eps;
    if (!want_number(e, a, 3, 1e-5, &eps)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_float(&attrs, ATTR_eps, eps);
    return add(e, a, 3, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1), real_tensor(e, a, 2)}, &attrs);
}

static Val rule_group_norm(Elaborator *e, const Arguments *a) {
    double eps;
    int64_t groups;
    if (!want_int(e, a, 3, 1, &groups) || !want_number(e, a, 4, 1e-5, &eps)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_groups, groups);
    attrs_float(&attrs, ATTR_eps, eps);
    return add(e, a, 3, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1), real_tensor(e, a, 2)}, &attrs);
}

static Val rule_attention(Elaborator *e, const Arguments *a) {
    Value *q = real_tensor(e, a, 0);
    double scale;
    bool causal;
    if (!q) return VAL_BAD;
    if (q->shape.rank < 1) return fail(e, a->span[0], "attention: q is [B, heads, positions, channels], not one number");
    double width = (double)q->shape.dim[q->shape.rank - 1];
    if (!want_bool(e, a, 3, &causal) || !want_number(e, a, 4, 1 / sqrt(width > 0 ? width : 1), &scale)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_causal, causal);
    attrs_float(&attrs, ATTR_scale, scale);
    return add(e, a, 3, (Value *[]){q, real_tensor(e, a, 1), real_tensor(e, a, 2)}, &attrs);
}

static Val rule_cross_entropy(Elaborator *e, const Arguments *a) {
    int64_t ignore;
    if (!want_int(e, a, 2, -1, &ignore)) return VAL_BAD;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_ignore, ignore);
    return add(e, a, 2, (Value *[]){real_tensor(e, a, 0), real_tensor(e, a, 1)}, &attrs);
}

static Val rule_gradient(Elaborator *e, const Arguments *a) { return rule_gather(e, a); }

// ---- making tensors

// Whether an element type holds the number: reported at argument `i` if not.
static bool fits_dtype(Elaborator *e, const Arguments *a, int i, double value, LvDType dtype) {
    double limit = dtype == LV_BOOL ? 1 : dtype == LV_I32 ? 2147483647 : 9e15;
    if (lv_dtype_is_float(dtype) || (value == floor(value) && value <= limit && value >= (dtype == LV_BOOL ? 0 : -limit - 1))) return true;
    fail(e, a->span[i], "%.10g is no %s", value, lv_dtype_name(dtype));
    return false;
}

static Val filled(Elaborator *e, const Arguments *a, double value, int dtype_at) {
    LvShape shape;
    LvDType dtype;
    if (!want_shape(e, a, 0, &shape) || !want_dtype(e, a, dtype_at, LV_F32, &dtype) || !fits_dtype(e, a, 1, value, dtype)) return VAL_BAD;
    mark(e, a->call);
    return val_tensor(build_constant(e->graph, value, dtype, shape));
}

static Val rule_zeros(Elaborator *e, const Arguments *a) { return filled(e, a, 0, 1); }
static Val rule_ones(Elaborator *e, const Arguments *a) { return filled(e, a, 1, 1); }

static Val rule_full(Elaborator *e, const Arguments *a) {
    double value;
    return want_number(e, a, 1, 0, &value) ? filled(e, a, value, 2) : VAL_BAD;
}

static Val rule_iota(Elaborator *e, const Arguments *a) {
    LvShape shape;
    LvDType dtype;
    int64_t axis;
    if (!want_shape(e, a, 0, &shape) || !want_dtype(e, a, 2, LV_I32, &dtype) || !want_axis(e, a, 1, shape.rank, -1, &axis)) return VAL_BAD;
    if (dtype == LV_BOOL) return fail(e, a->span[2], "iota counts in numbers, not in bool");
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, axis);
    mark(e, a->call);
    return val_tensor(graph_add_typed(e->graph, OP_iota, 0, NULL, &attrs, dtype, shape));
}

static Val rule_random(Elaborator *e, const Arguments *a) {
    LvShape shape;
    if (!want_shape(e, a, 0, &shape)) return VAL_BAD;
    mark(e, a->call);
    return val_tensor(random_node(e, a->self->op, shape));
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

static Val rule_constant(Elaborator *e, const Arguments *a) {
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
    mark(e, a->call);
    return val_tensor(graph_add_typed(e->graph, OP_literal, 0, NULL, &attrs, dtype, shape));
}

static Val rule_rate(Elaborator *e, const Arguments *a) {
    mark(e, a->call);
    return val_tensor(builtin_input(e, "$lr", LV_F32));
}

static Val rule_step(Elaborator *e, const Arguments *a) {
    mark(e, a->call);
    return val_tensor(builtin_input(e, "$step", LV_I32));
}

static double number_rsqrt(double x) { return 1 / sqrt(x); }
static double number_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double number_sign(double x) { return (x > 0) - (x < 0); }

// ---- the table

static const Builtin builtins[] = {
    {"range", "a b? step?", rule_range, OP_COUNT, NULL},
    {"len", "list", rule_len, OP_COUNT, NULL},
    {"min", "a b? c? d?", rule_min, OP_COUNT, NULL},
    {"max", "a b? c? d?", rule_max, OP_COUNT, NULL},
    {"sum", "list", rule_sum, OP_COUNT, NULL},
    {"prod", "list", rule_prod, OP_COUNT, NULL},
    {"reversed", "list", rule_reversed, OP_COUNT, NULL},
    {"zip", "a b", rule_zip, OP_COUNT, NULL},
    {"enumerate", "list", rule_enumerate, OP_COUNT, NULL},
    {"int", "x", rule_int, OP_COUNT, NULL},
    {"float", "x", rule_float, OP_COUNT, NULL},
    {"assert", "condition message?", rule_assert, OP_COUNT, NULL},
    {"error", "message", rule_error, OP_COUNT, NULL},
    {"exp", "x", rule_unary, OP_exp, exp},
    {"log", "x", rule_unary, OP_log, log},
    {"sqrt", "x", rule_unary, OP_sqrt, sqrt},
    {"rsqrt", "x", rule_unary, OP_rsqrt, number_rsqrt},
    {"abs", "x", rule_unary, OP_abs, fabs},
    {"sin", "x", rule_unary, OP_sin, sin},
    {"cos", "x", rule_unary, OP_cos, cos},
    {"tanh", "x", rule_unary, OP_tanh, tanh},
    {"erf", "x", rule_unary, OP_erf, erf},
    {"sigmoid", "x", rule_unary, OP_sigmoid, number_sigmoid},
    {"floor", "x", rule_unary, OP_floor, floor},
    {"sign", "x", rule_unary, OP_sign, number_sign},
    {"maximum", "a b", rule_binary, OP_max, NULL},
    {"minimum", "a b", rule_binary, OP_min, NULL},
    {"select", "condition a b", rule_select, OP_select, NULL},
    {"cast", "x dtype", rule_cast, OP_cast, NULL},
    {"stop_gradient", "x", rule_same, OP_stop_gradient, NULL},
    {"all_reduce", "x", rule_same, OP_all_reduce, NULL},
    {"reduce_sum", "x axes? keep?", rule_reduce, OP_reduce_sum, NULL},
    {"reduce_max", "x axes? keep?", rule_reduce, OP_reduce_max, NULL},
    {"reduce_min", "x axes? keep?", rule_reduce, OP_reduce_min, NULL},
    {"argmax", "x axis?", rule_argreduce, OP_argmax, NULL},
    {"argmin", "x axis?", rule_argreduce, OP_argmin, NULL},
    {"reshape", "x shape", rule_reshape, OP_reshape, NULL},
    {"transpose", "x perm", rule_transpose, OP_transpose, NULL},
    {"expand", "x shape", rule_expand, OP_expand, NULL},
    {"slice", "x starts shape steps?", rule_slice, OP_slice, NULL},
    {"pad", "x low high value?", rule_pad, OP_pad, NULL},
    {"concat", "parts axis?", rule_concat, OP_concat, NULL},
    {"reverse", "x axes", rule_reverse, OP_reverse, NULL},
    {"gather", "table index", rule_gather, OP_gather, NULL},
    {"scatter_add", "updates index rows", rule_scatter_add, OP_scatter_add, NULL},
    {"dynamic_slice", "x starts shape", rule_dynamic_slice, OP_dynamic_slice, NULL},
    {"dynamic_update", "x update starts", rule_three, OP_dynamic_update, NULL},
    {"matmul", "a b transpose_a? transpose_b?", rule_matmul, OP_matmul, NULL},
    {"conv2d", "x weight stride? pad?", rule_conv2d, OP_conv2d, NULL},
    {"softmax", "x axis?", rule_softmax, OP_softmax, NULL},
    {"layer_norm", "x weight bias eps?", rule_layer_norm, OP_layer_norm, NULL},
    {"group_norm", "x weight bias groups eps?", rule_group_norm, OP_group_norm, NULL},
    {"attention", "q k v causal? scale?", rule_attention, OP_attention, NULL},
    {"cross_entropy", "logits target ignore?", rule_cross_entropy, OP_cross_entropy, NULL},
    {"nearest_code", "x codes", rule_gather, OP_nearest_code, NULL},
    {"gradient", "loss x", rule_gradient, OP_gradient, NULL},
    {"zeros", "shape dtype?", rule_zeros, OP_constant, NULL},
    {"ones", "shape dtype?", rule_ones, OP_constant, NULL},
    {"full", "shape value dtype?", rule_full, OP_constant, NULL},
    {"iota", "shape axis? dtype?", rule_iota, OP_iota, NULL},
    {"uniform", "shape", rule_random, OP_random_uniform, NULL},
    {"normal", "shape", rule_random, OP_random_normal, NULL},
    {"constant", "values dtype?", rule_constant, OP_literal, NULL},
    {"rate", "", rule_rate, OP_COUNT, NULL},
    {"step", "", rule_step, OP_COUNT, NULL},
    {"minimize", "loss optimizer", NULL, OP_COUNT, NULL},
};

int builtin_count(void) { return (int)(sizeof builtins / sizeof *builtins); }
const char *builtin_name(int index) { return builtins[index].name; }

int builtin_find(const char *name) {
    for (int i = 0; i < builtin_count(); i++)
        if (!strcmp(builtins[i].name, name)) return i;
    return -1;
}

// ---- binding arguments to the parameter string

typedef struct {
    int count;
    const char *name[MAX_ARGUMENTS];
    bool optional[MAX_ARGUMENTS];
} Parameters;

static Parameters parameters_of(Elaborator *e, const Builtin *builtin) {
    Parameters p = {0};
    for (const char *at = builtin->parameters; *at;) {
        size_t length = strcspn(at, " ?");
        p.name[p.count] = lv_arena_copy(e->arena, at, length);
        p.optional[p.count++] = at[length] == '?';
        at += length + (at[length] == '?');
        if (*at == ' ') at++;
    }
    return p;
}

static bool place_argument(Elaborator *e, const Builtin *builtin, const Parameters *p, const Expr *call, int i, int *place) {
    const Name *name = &call->names.data[i];
    *place = i;
    if (!name->text) {
        if (i < p->count) return true;
        fail(e, call->items.data[i + 1]->span, "'%s' takes %d argument%s, this is one more", builtin->name, p->count, p->count == 1 ? "" : "s");
        return false;
    }
    for (*place = 0; *place < p->count; ++*place)
        if (!strcmp(p->name[*place], name->text)) return true;
    LvText hint = {0};
    suggest(e, name->text, p->name, (size_t)p->count, &hint);
    fail(e, name->span, "'%s' has no parameter '%s'%s", builtin->name, name->text, lv_text_get(&hint));
    lv_text_free(&hint);
    return false;
}

Val builtin_call(Elaborator *e, int index, const Expr *call) {
    const Builtin *builtin = &builtins[index];
    if (!builtin->rule) return minimize(e, call);
    Parameters p = parameters_of(e, builtin);
    Arguments a = {.call = call->span, .self = builtin};
    bool given[MAX_ARGUMENTS] = {false}, fine = true;
    for (int i = 0; i < MAX_ARGUMENTS; i++) a.at[i] = val_none(), a.span[i] = call->span;
    for (int i = 0; i + 1 < call->items.count; i++) {
        int place;
        Val v = evaluate(e, call->items.data[i + 1]);
        fine &= v.kind != VAL_POISON;
        if (!place_argument(e, builtin, &p, call, i, &place)) {
            fine = false;
            continue;
        }
        if (given[place]) fail(e, call->items.data[i + 1]->span, "'%s' is given twice", p.name[place]), fine = false;
        given[place] = true;
        a.at[place] = v;
        a.span[place] = call->items.data[i + 1]->span;
    }
    for (int i = 0; fine && i < p.count; i++)
        if (!given[i] && !p.optional[i]) fail(e, call->span, "'%s' needs an argument '%s'", builtin->name, p.name[i]), fine = false;
    return fine ? builtin->rule(e, &a) : VAL_BAD;
}
