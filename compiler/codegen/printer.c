// See printer.h.
#include "codegen/printer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/expression.h"
#include "ops/op.h"

void printer_line(Printer *p, const char *format, ...) {
    for (int i = 0; i < p->indent; i++) lv_text_putc(p->out, ' ');
    va_list args;
    va_start(args, format);
    lv_text_vprintf(p->out, format, args);
    va_end(args);
    lv_text_putc(p->out, '\n');
}

void printer_close_loops(Printer *p, int count) {
    for (int i = 0; i < count; i++) {
        p->indent--;
        printer_line(p, "}");
    }
}

// ---- indices

static int axis_place(const Nest *nest, int var) {
    for (int i = 0; i < nest->axis_count; i++) {
        if (nest->axes[i].var == var) return i;
    }
    return -1;
}

bool printer_in_lanes(const Printer *p, int depth) { return p->lanes > 1 && depth == p->nest->axis_count; }

static void put_var(const Printer *p, int var, LvText *out) {
    bool axis = p->nest->vars.data[var].kind == VAR_AXIS;
    int place = axis ? axis_place(p->nest, var) : -1;
    Affine own = affine_var(var);
    if (axis) lv_text_printf(out, p->lanes > 1 && place == p->nest->axis_count - 1 ? "(i%d+l)" : "i%d", place);
    else lv_text_printf(out, printer_in_lanes(p, nest_affine_depth(p->nest, &own)) ? "q%d[l]" : "q%d", var);
}

void printer_affine(const Printer *p, const Affine *a, LvText *out) {
    if (!a->count) {
        lv_text_printf(out, "%lld", (long long)a->constant);
        return;
    }
    for (int i = 0; i < a->count; i++) {
        int64_t factor = a->term[i].factor, size = factor < 0 ? -factor : factor;
        lv_text_puts(out, factor < 0 ? "-" : i ? "+" : "");
        if (size != 1) lv_text_printf(out, "%lld*", (long long)size);
        put_var(p, a->term[i].var, out);
    }
    if (a->constant) lv_text_printf(out, "%+lld", (long long)a->constant);
}

int64_t printer_axis_extent(const Nest *nest, int place) { return nest->vars.data[nest->axes[place].var].extent; }

// ---- what of the nest is used

static void need_affine(Printer *p, const Affine *a) {
    for (int i = 0; i < a->count; i++) {
        int var = a->term[i].var;
        if (p->needed_vars[var]) continue;
        p->needed_vars[var] = true;
        if (p->nest->vars.data[var].kind != VAR_AXIS) need_affine(p, &p->nest->vars.data[var].of);
    }
}

static bool has_index(const Instr *instr) {
    return instr->kind == INSTR_LOAD || instr->kind == INSTR_INDEX || instr->kind == INSTR_UNIFORM || instr->kind == INSTR_NORMAL;
}

static void find_live(Printer *p) {
    const Nest *nest = p->nest;
    for (size_t i = 0; i < nest->outputs.count; i++) {
        p->live[nest->outputs.data[i].value] = true;
        need_affine(p, &nest->outputs.data[i].index);
        if (nest->outputs.data[i].kind == OUTPUT_REDUCE) need_affine(p, &nest->outputs.data[i].position);
    }
    int names = 0;
    for (size_t i = nest->body.count; i-- > 0;) {
        const Instr *instr = &nest->body.data[i];
        if (!p->live[i]) continue;
        for (int k = 0; k < 3; k++) {
            if (instr->args[k] >= 0) p->live[instr->args[k]] = true;
        }
        if (has_index(instr)) need_affine(p, &instr->index);
        for (int r = instr->region; r >= 0; r = nest->regions.data[r].parent) need_affine(p, &nest->regions.data[r].index);
    }
    for (size_t i = 0; i < nest->body.count; i++) p->name[i] = p->live[i] ? names++ : -1;
}

void printer_enter(Printer *p, const Nest *nest) {
    p->nest = nest;
    p->base = p->kernel->shared;
    p->live = lv_calloc(nest->body.count + 1, sizeof *p->live);
    p->needed_vars = lv_calloc(nest->vars.count + 1, sizeof *p->needed_vars);
    p->name = lv_calloc(nest->body.count + 1, sizeof *p->name);
    find_live(p);
}

void printer_leave(Printer *p) {
    free(p->live), free(p->needed_vars), free(p->name);
}

bool printer_reduces(const Nest *nest) {
    bool reduces = false;
    for (size_t i = 0; i < nest->outputs.count; i++) reduces |= nest->outputs.data[i].kind == OUTPUT_REDUCE;
    return reduces;
}

// ---- instructions

void printer_put_region(const Printer *p, int region, bool parents, LvText *out) {
    for (bool first = true; region >= 0; region = parents ? p->nest->regions.data[region].parent : -1, first = false) {
        const Region *r = &p->nest->regions.data[region];
        int64_t low, high;
        affine_range(p->nest, &r->index, &low, &high);
        bool below = low < r->low, above = high >= r->high;
        if (!first) lv_text_puts(out, "&");
        if (!below && !above) lv_text_puts(out, "1");
        if (below) lv_text_puts(out, "("), printer_affine(p, &r->index, out), lv_text_printf(out, ">=%lld)", (long long)r->low);
        if (above) {
            lv_text_puts(out, below ? "&(" : "("), printer_affine(p, &r->index, out);
            lv_text_printf(out, "<%lld)", (long long)r->high);
        }
    }
}

static void put_load(const Printer *p, const Instr *instr, LvText *out) {
    if (instr->region >= 0) {
        lv_text_puts(out, "(");
        printer_put_region(p, instr->region, true, out);
        lv_text_puts(out, ")?");
    }
    const char *convert = c_load_conversion(instr->dtype);
    lv_text_printf(out, "%sb%d[", convert, instr->buffer);
    printer_affine(p, &instr->index, out);
    lv_text_puts(out, *convert ? "])" : "]");
    if (instr->region >= 0) lv_text_puts(out, ":0");
}

// A number that is not in the text, so that kernels which differ in it alone are one.
static void put_scalar(const Printer *p, LvScalar scalar, bool real, LvText *out) {
    lv_vec_push(p->scalars, scalar);
    size_t at = p->scalars->count - 1;
    if (p->cuda) lv_text_printf(out, real ? "__longlong_as_double(s%zu)" : "s%zu", at);
    else lv_text_printf(out, "scalars[%zu].%c", at, real ? 'f' : 'i');
}

static void put_constant(const Printer *p, const Instr *instr, LvText *out) {
    double value = instr->value;
    bool plain = value == 0 || fabs(value) == 1 || fabs(value) == 2 || fabs(value) == 0.5;
    if (!plain && isfinite(value) && c_is_float(instr->dtype)) {
        lv_text_printf(out, "(%s)", c_type(instr->dtype));
        put_scalar(p, (LvScalar){.f = value}, true, out);
    } else {
        c_put_constant(instr->dtype, value, out);
    }
}

void printer_value(const Printer *p, int instr, char name[16]) {
    snprintf(name, 16, printer_in_lanes(p, p->nest->body.data[instr].depth) ? "v%d[l]" : "v%d", p->name[instr]);
}

static void put_args(const Printer *p, const Instr *instr, char args[3][16]) {
    for (int k = 0; k < 3; k++) {
        args[k][0] = 0;
        if (instr->args[k] >= 0) printer_value(p, instr->args[k], args[k]);
    }
}

void printer_put_instr(Printer *p, const Instr *instr, LvText *out) {
    char args[3][16];
    put_args(p, instr, args);
    switch (instr->kind) {
        case INSTR_CONSTANT: put_constant(p, instr, out); break;
        case INSTR_LOAD: put_load(p, instr, out); break;
        case INSTR_INDEX: {
            int64_t low, high;
            affine_range(p->nest, &instr->index, &low, &high);
            lv_text_printf(out, high < INT32_MAX && low > INT32_MIN ? "(%s)(int32_t)(" : "(%s)(", c_type(instr->dtype));
            printer_affine(p, &instr->index, out);
            lv_text_puts(out, ")");
            break;
        }
        case INSTR_OP:
            c_put_op(instr->op, p->nest->body.data[instr->args[instr->op == OP_select ? 1 : 0]].dtype, instr->dtype, args, out);
            break;
        case INSTR_CAST: c_put_cast(p->nest->body.data[instr->args[0]].dtype, instr->dtype, args[0], out); break;
        case INSTR_CHOOSE:
            lv_text_puts(out, "(");
            printer_put_region(p, instr->region, false, out);
            lv_text_printf(out, ")?%s:%s", args[0], args[1]);
            break;
        case INSTR_UNIFORM: case INSTR_NORMAL:
            // The stream is not in the text: every parameter has its own, and their kernels would else all differ.
            lv_text_printf(out, "lv_%s(%s,(uint32_t)", instr->kind == INSTR_UNIFORM ? "uniform" : "normal", args[0]);
            put_scalar(p, (LvScalar){.i = instr->stream}, false, out);
            lv_text_printf(out, ",%s,", args[1]);
            printer_affine(p, &instr->index, out);
            lv_text_puts(out, ")");
            break;
    }
}

static void put_derived(Printer *p, int var, bool lanes) {
    const Var *v = &p->nest->vars.data[var];
    const char *type = p->cuda ? "LvIndex" : "long", *sign = v->kind == VAR_QUOTIENT ? "/" : "%";
    LvText of = {0};
    printer_affine(p, &v->of, &of);
    if (lanes) {
        printer_line(p, "%s q%d[%d];", type, var, p->lanes);
        printer_line(p, "LV_LANES(%d) q%d[l] = (%s)%s%lld;", p->lanes, var, lv_text_get(&of), sign, (long long)v->by);
    } else {
        printer_line(p, "const %s q%d = (%s)%s%lld;", type, var, lv_text_get(&of), sign, (long long)v->by);
    }
    lv_text_free(&of);
}

static void put_assignment(Printer *p, int at, bool lanes) {
    const Instr *instr = &p->nest->body.data[at];
    const char *type = c_type(instr->dtype);
    if (lanes && instr->kind == INSTR_LOAD && p->put_vector_load && p->put_vector_load(p, instr, p->name[at])) return;
    LvText text = {0};
    printer_put_instr(p, instr, &text);
    if (lanes) {
        printer_line(p, "%s v%d[%d];", type, p->name[at], p->lanes);
        printer_line(p, "LV_LANES(%d) v%d[l] = %s;", p->lanes, p->name[at], lv_text_get(&text));
    } else {
        printer_line(p, "const %s v%d = %s;", type, p->name[at], lv_text_get(&text));
    }
    lv_text_free(&text);
}

void printer_depth(Printer *p, int depth) {
    bool lanes = printer_in_lanes(p, depth);
    for (size_t i = 0; i < p->nest->vars.count; i++) {
        Affine own = affine_var((int)i);
        if (p->nest->vars.data[i].kind == VAR_AXIS || !p->needed_vars[i]) continue;
        if (nest_affine_depth(p->nest, &own) == depth) put_derived(p, (int)i, lanes);
    }
    for (size_t i = 0; i < p->nest->body.count; i++) {
        if (p->live[i] && p->nest->body.data[i].depth == depth) put_assignment(p, (int)i, lanes);
    }
}

void printer_depths(Printer *p, int from, int to) {
    for (int depth = from; depth <= to; depth++) printer_depth(p, depth);
}
