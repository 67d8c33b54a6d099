// Builtin functions of compile-time numbers and lists.
#include "sema/builtin.h"

Val rule_range(Elaborator *e, const Arguments *a) {
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

Val rule_len(Elaborator *e, const Arguments *a) {
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
        if (is_tensor(items[i]))
            return fail(e, a->call, "%s is of compile-time numbers; for tensors there are %simum and reduce_%s",
                        a->self->name, a->self->name, a->self->name);
        if (!val_is_number(items[i]))
            return fail(e, a->call, "%s is of numbers, not of %s", a->self->name, val_kind_name(items[i]));
        Val better = i ? operate(e, op, items[i], best, a->call) : val_bool(true);
        if (better.kind == VAL_BOOL && better.i) best = items[i];
    }
    return best;
}

Val rule_min(Elaborator *e, const Arguments *a) { return extreme(e, a, OPERATOR_LT); }
Val rule_max(Elaborator *e, const Arguments *a) { return extreme(e, a, OPERATOR_GT); }

static Val fold(Elaborator *e, const Arguments *a, Operator op, Val start) {
    if (a->at[0].kind != VAL_LIST)
        return fail(e, a->span[0], "%s is of a list, not of %s", a->self->name, val_kind_name(a->at[0]));
    for (int i = 0; i < a->at[0].list->count; i++)
        start = i ? operate(e, op, start, a->at[0].list->at[i], a->call) : a->at[0].list->at[i];
    return start;
}

Val rule_sum(Elaborator *e, const Arguments *a) { return fold(e, a, OPERATOR_ADD, val_int(0)); }
Val rule_prod(Elaborator *e, const Arguments *a) { return fold(e, a, OPERATOR_MUL, val_int(1)); }

Val rule_reversed(Elaborator *e, const Arguments *a) {
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

Val rule_zip(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_LIST || a->at[1].kind != VAL_LIST) return fail(e, a->call, "zip is of two lists");
    if (a->at[0].list->count != a->at[1].list->count)
        return fail(e, a->call, "zip of lists of %d and %d items", a->at[0].list->count, a->at[1].list->count);
    Val out = val_list(e, a->at[0].list->count);
    for (int i = 0; i < out.list->count; i++) out.list->at[i] = pair(e, a->at[0].list->at[i], a->at[1].list->at[i], a->call);
    e->work += out.list->count;
    return list_done(e, out, a->call);
}

Val rule_enumerate(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_LIST) return fail(e, a->span[0], "enumerate is of a list, not of %s", val_kind_name(a->at[0]));
    Val out = val_list(e, a->at[0].list->count);
    for (int i = 0; i < out.list->count; i++) out.list->at[i] = pair(e, val_int(i), a->at[0].list->at[i], a->call);
    e->work += out.list->count;
    return list_done(e, out, a->call);
}

Val rule_int(Elaborator *e, const Arguments *a) {
    double x;
    if (a->at[0].kind == VAL_INT || a->at[0].kind == VAL_BOOL) return val_int(a->at[0].i);
    if (!want_number(e, a, 0, 0, &x)) return VAL_BAD;
    if (!(fabs(x) < 9e18)) return fail(e, a->span[0], "%g does not fit in an int", x);
    return val_int((int64_t)x);
}

Val rule_float(Elaborator *e, const Arguments *a) {
    double x;
    return want_number(e, a, 0, 0, &x) ? val_float(x) : VAL_BAD;
}

Val rule_assert(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_BOOL)
        return fail(e, a->span[0], "assert checks a bool when compiling, not %s", val_kind_name(a->at[0]));
    if (a->at[0].i) return val_none();
    return fail(e, a->call, "%s", a->at[1].kind == VAL_STRING ? a->at[1].s : "this does not hold");
}

Val rule_error(Elaborator *e, const Arguments *a) {
    return fail(e, a->call, "%s", a->at[0].kind == VAL_STRING ? a->at[0].s : "error");
}
