// Arithmetic of indices: sums of factor * variable, and their division by a constant.
// A division comes out exact where each term is a multiple of the divisor or the rest stays below it, as in mixed-radix
// numbers; otherwise it names the axis that would have to be cut, or makes a quotient and a remainder variable.
#include "schedule/loop.h"

#include "schedule/internal.h"

Affine affine_constant(int64_t constant) { return (Affine){.constant = constant}; }

Affine affine_var(int var) {
    Affine a = {.count = 1};
    a.term[0].var = var, a.term[0].factor = 1;
    return a;
}

static void add_term(Affine *a, int var, int64_t factor) {
    if (factor == 0) return;
    int i = 0;
    while (i < a->count && a->term[i].var < var) i++;
    if (i < a->count && a->term[i].var == var) {
        a->term[i].factor += factor;
        if (a->term[i].factor == 0) {
            for (int k = i; k + 1 < a->count; k++) a->term[k] = a->term[k + 1];
            a->count--;
        }
        return;
    }
    if (a->count == LOOP_MAX_TERMS) schedule_internal_error("index", NULL, "more terms in an index than the loop IR holds");
    for (int k = a->count; k > i; k--) a->term[k] = a->term[k - 1];
    a->term[i].var = var, a->term[i].factor = factor;
    a->count++;
}

Affine affine_add(Affine a, Affine b) {
    a.constant += b.constant;
    for (int i = 0; i < b.count; i++) add_term(&a, b.term[i].var, b.term[i].factor);
    return a;
}

Affine affine_scale(Affine a, int64_t factor) {
    if (factor == 0) return affine_constant(0);
    a.constant *= factor;
    for (int i = 0; i < a.count; i++) a.term[i].factor *= factor;
    return a;
}

bool affine_equal(const Affine *a, const Affine *b) {
    if (a->constant != b->constant || a->count != b->count) return false;
    for (int i = 0; i < a->count; i++) {
        if (a->term[i].var != b->term[i].var || a->term[i].factor != b->term[i].factor) return false;
    }
    return true;
}

int64_t affine_factor(const Affine *a, int var) {
    for (int i = 0; i < a->count; i++) {
        if (a->term[i].var == var) return a->term[i].factor;
    }
    return 0;
}

void affine_drop(Affine *a, int var) { add_term(a, var, -affine_factor(a, var)); }

void affine_range(const Nest *nest, const Affine *a, int64_t *low, int64_t *high) {
    *low = *high = a->constant;
    for (int i = 0; i < a->count; i++) {
        int64_t extent = nest->vars.data[a->term[i].var].extent, far = a->term[i].factor * (extent > 0 ? extent - 1 : 0);
        if (far < 0) *low += far;
        else *high += far;
    }
}

static int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

static int add_derived(Nest *nest, VarKind kind, const Affine *of, int64_t by, int64_t extent) {
    for (size_t i = 0; i < nest->vars.count; i++) {
        Var *var = &nest->vars.data[i];
        if (var->kind == kind && var->by == by && affine_equal(&var->of, of)) return (int)i;
    }
    lv_vec_push(&nest->vars, (Var){.kind = kind, .extent = extent, .of = *of, .by = by});
    return (int)nest->vars.count - 1;
}

void affine_divide(Nest *nest, const Affine *a, int64_t by, Affine *quotient, Affine *remainder, int *split_axis,
                   int64_t *split_inner) {
    *split_axis = -1;
    int64_t whole = floor_divide(a->constant, by);
    Affine multiples = affine_constant(whole), rest = affine_constant(a->constant - whole * by);
    for (int i = 0; i < a->count; i++) {
        int64_t factor = a->term[i].factor;
        if (factor % by == 0) add_term(&multiples, a->term[i].var, factor / by);
        else add_term(&rest, a->term[i].var, factor);
    }
    int64_t low, high;
    affine_range(nest, &rest, &low, &high);
    if (low >= 0 && high < by) {
        *quotient = multiples, *remainder = rest;
        return;
    }
    for (int i = 0; i < rest.count && *split_axis < 0; i++) {
        const Var *var = &nest->vars.data[rest.term[i].var];
        int64_t factor = rest.term[i].factor, inner = factor > 0 ? by / factor : 0;
        if (var->kind != VAR_AXIS || factor <= 0 || by % factor || inner <= 1 || inner >= var->extent) continue;
        if (var->extent % inner) continue;
        *split_axis = rest.term[i].var, *split_inner = inner;
    }
    // The quotient's range may begin below zero (the region of the load rules that out at run time): shift it up.
    int64_t shift = low < 0 ? -floor_divide(low, by) : 0;
    Affine shifted = rest;
    shifted.constant += shift * by;
    int q = add_derived(nest, VAR_QUOTIENT, &shifted, by, (high + shift * by) / by + 1);
    int r = add_derived(nest, VAR_REMAINDER, &shifted, by, by);
    *quotient = affine_add(multiples, affine_var(q));
    quotient->constant -= shift;
    *remainder = affine_var(r);
}
