// The functions that the language has by itself: those of numbers and lists, and the primitives of ops.def on tensors.
// Each says its parameters in one string: "x axes? keep?", a ? after what may be left out.
#include "sema/builtin.h"

// ---- reading arguments

bool want_int(Elaborator *e, const Arguments *a, int i, int64_t otherwise, int64_t *out) {
    if (a->at[i].kind == VAL_NONE) *out = otherwise;
    else if (a->at[i].kind == VAL_INT) *out = a->at[i].i;
    else {
        fail(e, a->span[i], "expected an int, not %s", val_kind_name(a->at[i]));
        return false;
    }
    return true;
}

bool want_bool(Elaborator *e, const Arguments *a, int i, bool *out) {
    *out = a->at[i].kind == VAL_BOOL && a->at[i].i;
    if (a->at[i].kind == VAL_NONE || a->at[i].kind == VAL_BOOL) return true;
    fail(e, a->span[i], "expected a bool, not %s", val_kind_name(a->at[i]));
    return false;
}

bool want_number(Elaborator *e, const Arguments *a, int i, double otherwise, double *out) {
    *out = val_is_number(a->at[i]) ? val_number(a->at[i]) : otherwise;
    if (a->at[i].kind == VAL_NONE || val_is_number(a->at[i])) return true;
    fail(e, a->span[i], "expected a number, not %s", val_kind_name(a->at[i]));
    return false;
}

bool want_ints(Elaborator *e, const Arguments *a, int i, int limit, int *count, int64_t *out) {
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

bool want_shape(Elaborator *e, const Arguments *a, int i, LvShape *shape) {
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

bool want_axis(Elaborator *e, const Arguments *a, int i, int rank, int64_t otherwise, int64_t *axis) {
    if (!want_int(e, a, i, otherwise, axis)) return false;
    if (*axis < 0) *axis += rank;
    if (*axis >= 0 && *axis < rank) return true;
    fail(e, a->at[i].kind == VAL_NONE ? a->call : a->span[i], "there is no dimension %lld in a tensor of rank %d",
         (long long)(*axis < 0 ? *axis - rank : *axis), rank);
    return false;
}

bool want_dtype(Elaborator *e, const Arguments *a, int i, LvDType otherwise, LvDType *out) {
    *out = a->at[i].kind == VAL_DTYPE ? (LvDType)a->at[i].i : otherwise;
    if (a->at[i].kind == VAL_DTYPE || a->at[i].kind == VAL_NONE) return true;
    fail(e, a->span[i], "expected an element type, such as f32, not %s", val_kind_name(a->at[i]));
    return false;
}

Value *tensor_at(Elaborator *e, const Arguments *a, int i) { return tensor_of(e, a->at[i], NULL, a->span[i]); }

Value *real_tensor(Elaborator *e, const Arguments *a, int i) {
    if (is_tensor(a->at[i])) return tensor_at(e, a, i);
    fail(e, a->span[i], "expected a tensor, not %s", val_kind_name(a->at[i]));
    return NULL;
}

void mark_nodes(Elaborator *e, LvSpan span) {
    e->graph->span = span;
    e->graph->scope = e->path;
}

Val add_builtin(Elaborator *e, const Arguments *a, int count, Value *const *inputs, const Attrs *attrs) {
    return val_tensor(add_checked(e, a->self->op, count, inputs, attrs, a->call));
}

// ---- what the runtime knows

static Val rule_rate(Elaborator *e, const Arguments *a) {
    mark_nodes(e, a->call);
    return val_tensor(builtin_input(e, "$lr", LV_F32));
}

static Val rule_step(Elaborator *e, const Arguments *a) {
    mark_nodes(e, a->call);
    return val_tensor(builtin_input(e, "$step", LV_I32));
}

static Val rule_rank(Elaborator *e, const Arguments *a) {
    mark_nodes(e, a->call);
    return val_tensor(builtin_input(e, "$rank", LV_I32));
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
    {"bits", "x", rule_same, OP_bits, NULL},
    {"cast", "x dtype", rule_cast, OP_cast, NULL},
    {"stop_gradient", "x", rule_same, OP_stop_gradient, NULL},
    {"all_reduce", "x", rule_same, OP_all_reduce, NULL},
    {"reduce_sum", "x axes? keep?", rule_reduce, OP_reduce_sum, NULL},
    {"reduce_max", "x axes? keep?", rule_reduce, OP_reduce_max, NULL},
    {"reduce_min", "x axes? keep?", rule_reduce, OP_reduce_min, NULL},
    {"argmax", "x axis?", rule_along_axis, OP_argmax, NULL},
    {"argmin", "x axis?", rule_along_axis, OP_argmin, NULL},
    {"reshape", "x shape", rule_reshape, OP_reshape, NULL},
    {"transpose", "x perm", rule_transpose, OP_transpose, NULL},
    {"expand", "x shape", rule_expand, OP_expand, NULL},
    {"slice", "x starts shape steps?", rule_slice, OP_slice, NULL},
    {"pad", "x low high value?", rule_pad, OP_pad, NULL},
    {"concat", "parts axis?", rule_concat, OP_concat, NULL},
    {"reverse", "x axes", rule_reverse, OP_reverse, NULL},
    {"gather", "table index", rule_two, OP_gather, NULL},
    {"scatter_add", "updates index rows", rule_scatter_add, OP_scatter_add, NULL},
    {"dynamic_slice", "x starts shape", rule_dynamic_slice, OP_dynamic_slice, NULL},
    {"dynamic_update", "x update starts", rule_three, OP_dynamic_update, NULL},
    {"matmul", "a b transpose_a? transpose_b?", rule_matmul, OP_matmul, NULL},
    {"conv2d", "x weight stride? pad?", rule_conv2d, OP_conv2d, NULL},
    {"softmax", "x axis?", rule_along_axis, OP_softmax, NULL},
    {"layer_norm", "x weight bias eps?", rule_layer_norm, OP_layer_norm, NULL},
    {"group_norm", "x weight bias groups eps?", rule_group_norm, OP_group_norm, NULL},
    {"attention", "q k v causal? scale? length? dropout?", rule_attention, OP_attention, NULL},
    {"cross_entropy", "logits target ignore?", rule_cross_entropy, OP_cross_entropy, NULL},
    {"nearest_code", "x codes", rule_two, OP_nearest_code, NULL},
    {"gradient", "loss x", rule_two, OP_gradient, NULL},
    {"zeros", "shape dtype?", rule_zeros, OP_constant, NULL},
    {"ones", "shape dtype?", rule_ones, OP_constant, NULL},
    {"full", "shape value dtype?", rule_full, OP_constant, NULL},
    {"iota", "shape axis? dtype?", rule_iota, OP_iota, NULL},
    {"uniform", "shape seed?", rule_random, OP_random_uniform, NULL},
    {"normal", "shape seed?", rule_random, OP_random_normal, NULL},
    {"constant", "values dtype?", rule_constant, OP_literal, NULL},
    {"rate", "", rule_rate, OP_COUNT, NULL},
    {"step", "", rule_step, OP_COUNT, NULL},
    {"rank", "", rule_rank, OP_COUNT, NULL},
    {"group", "param name", rule_group, OP_COUNT, NULL},
    {"in_group", "name", rule_in_group, OP_COUNT, NULL},
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
        fail(e, call->items.data[i + 1]->span, "'%s' takes %d argument%s, this is one more", builtin->name, p->count,
             p->count == 1 ? "" : "s");
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
        if (!given[i] && !p.optional[i])
            fail(e, call->span, "'%s' needs an argument '%s'", builtin->name, p.name[i]), fine = false;
    return fine ? builtin->rule(e, &a) : VAL_BAD;
}
