// Loop IR -> C. Every nest becomes one loop nest: outer axes that are independent run in parallel, the innermost is a simd
// loop, and an instruction stands at the outermost depth at which all that it needs is known.
#include "codegen/c/print.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codegen/c/expression.h"
#include "codegen/c/printer.h"
#include "ops/op.h"

void printer_line(Printer *p, const char *format, ...) {
    for (int i = 0; i < p->indent; i++) lv_text_putc(p->out, ' ');
    va_list args;
    va_start(args, format);
    lv_text_vprintf(p->out, format, args);
    va_end(args);
    lv_text_putc(p->out, '\n');
}

// ---- indices

static int axis_place(const Nest *nest, int var) {
    for (int i = 0; i < nest->axis_count; i++) {
        if (nest->axes[i].var == var) return i;
    }
    return -1;
}

static void put_var(const Printer *p, int var, LvText *out) {
    if (p->nest->vars.data[var].kind == VAR_AXIS) lv_text_printf(out, "i%d", axis_place(p->nest, var));
    else lv_text_printf(out, "q%d", var);
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

// ---- instructions

static void put_region(const Printer *p, int region, bool parents, LvText *out) {
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
        put_region(p, instr->region, true, out);
        lv_text_puts(out, ")?");
    }
    const char *convert = c_load_conversion(instr->dtype);
    lv_text_printf(out, "%sb%d[", convert, instr->buffer);
    printer_affine(p, &instr->index, out);
    lv_text_puts(out, *convert ? "])" : "]");
    if (instr->region >= 0) lv_text_puts(out, ":0");
}

static void put_constant(const Printer *p, const Instr *instr, LvText *out) {
    double value = instr->value;
    bool plain = value == 0 || fabs(value) == 1 || fabs(value) == 2 || fabs(value) == 0.5;
    if (!plain && isfinite(value) && c_is_float(instr->dtype)) {
        // Not in the text, so that kernels which differ in a constant alone are one.
        lv_vec_push(p->scalars, (LvScalar){.f = value});
        lv_text_printf(out, "(%s)scalars[%zu].f", c_type(instr->dtype), p->scalars->count - 1);
    } else {
        c_put_constant(instr->dtype, value, out);
    }
}

static void put_args(const Printer *p, const Instr *instr, char args[3][16]) {
    for (int k = 0; k < 3; k++) {
        args[k][0] = 0;
        if (instr->args[k] >= 0) snprintf(args[k], sizeof args[k], "v%d", p->name[instr->args[k]]);
    }
}

static void put_instr(Printer *p, size_t at) {
    const Instr *instr = &p->nest->body.data[at];
    LvText text = {0};
    char args[3][16];
    put_args(p, instr, args);
    switch (instr->kind) {
        case INSTR_CONSTANT: put_constant(p, instr, &text); break;
        case INSTR_LOAD: put_load(p, instr, &text); break;
        case INSTR_INDEX: {
            int64_t low, high;
            affine_range(p->nest, &instr->index, &low, &high);
            lv_text_printf(&text, high < INT32_MAX && low > INT32_MIN ? "(%s)(int32_t)(" : "(%s)(", c_type(instr->dtype));
            printer_affine(p, &instr->index, &text);
            lv_text_puts(&text, ")");
            break;
        }
        case INSTR_OP:
            c_put_op(instr->op, p->nest->body.data[instr->args[instr->op == OP_select ? 1 : 0]].dtype, instr->dtype, args,
                     &text);
            break;
        case INSTR_CAST: c_put_cast(p->nest->body.data[instr->args[0]].dtype, instr->dtype, args[0], &text); break;
        case INSTR_CHOOSE:
            lv_text_puts(&text, "(");
            put_region(p, instr->region, false, &text);
            lv_text_printf(&text, ")?%s:%s", args[0], args[1]);
            break;
        case INSTR_UNIFORM: case INSTR_NORMAL:
            // The stream is not in the text: every parameter has its own, and their kernels would else all differ.
            lv_vec_push(p->scalars, (LvScalar){.i = instr->stream});
            lv_text_printf(&text, "lv_%s(%s,(uint32_t)scalars[%zu].i,%s,", instr->kind == INSTR_UNIFORM ? "uniform" : "normal",
                           args[0], p->scalars->count - 1, args[1]);
            printer_affine(p, &instr->index, &text);
            lv_text_puts(&text, ")");
            break;
    }
    printer_line(p, "const %s v%d = %s;", c_type(instr->dtype), p->name[at], lv_text_get(&text));
    lv_text_free(&text);
}

static int var_depth(const Printer *p, int var) {
    Affine a = affine_var(var);
    return nest_affine_depth(p->nest, &a);
}

void printer_depth(Printer *p, int depth) {
    for (size_t i = 0; i < p->nest->vars.count; i++) {
        const Var *var = &p->nest->vars.data[i];
        if (var->kind == VAR_AXIS || !p->needed_vars[i] || var_depth(p, (int)i) != depth) continue;
        LvText text = {0};
        printer_affine(p, &var->of, &text);
        printer_line(p, "const long q%zu = (%s)%s%lld;", i, lv_text_get(&text), var->kind == VAR_QUOTIENT ? "/" : "%",
                     (long long)var->by);
        lv_text_free(&text);
    }
    for (size_t i = 0; i < p->nest->body.count; i++) {
        if (p->live[i] && p->nest->body.data[i].depth == depth) put_instr(p, i);
    }
}

void printer_depths(Printer *p, int from, int to) {
    for (int depth = from; depth <= to; depth++) printer_depth(p, depth);
}

void printer_store(Printer *p, const Output *output, const char *value) {
    LvText text = {0};
    printer_affine(p, &output->index, &text);
    LvDType dtype = p->kernel->buffers.data[output->buffer].dtype;
    const char *convert = c_store_conversion(dtype);
    printer_line(p, "b%d[%s] = %s%s%s;", output->buffer, lv_text_get(&text), convert, value, *convert ? ")" : "");
    lv_text_free(&text);
}

void printer_stores(Printer *p) {
    for (size_t i = 0; i < p->nest->outputs.count; i++) {
        const Output *output = &p->nest->outputs.data[i];
        if (output->kind != OUTPUT_STORE) continue;
        char value[16];
        snprintf(value, sizeof value, "v%d", p->name[output->value]);
        printer_store(p, output, value);
    }
}

void printer_open_loop(Printer *p, int place) {
    printer_line(p, "for (long i%d = 0; i%d < %lld; i%d++) {", place, place, (long long)printer_axis_extent(p->nest, place),
                 place);
    p->indent++;
}

void printer_close_loops(Printer *p, int count) {
    for (int i = 0; i < count; i++) {
        p->indent--;
        printer_line(p, "}");
    }
}

void printer_open_flat(Printer *p, int count, int64_t extra, bool parallel) {
    int64_t total = extra;
    for (int i = p->base; i < count; i++) total *= printer_axis_extent(p->nest, i);
    if (parallel) printer_line(p, "#pragma omp parallel for schedule(static)");
    if (count == p->base + 1 && extra == 1) {
        printer_open_loop(p, p->base);
        return;
    }
    printer_line(p, "for (long p = 0; p < %lld; p++) {", (long long)total);
    p->indent++;
    int64_t below = extra;
    if (extra > 1) printer_line(p, "const long q = p%%%lld;", (long long)extra);
    for (int i = count - 1; i >= p->base; i--) {
        int64_t extent = printer_axis_extent(p->nest, i);
        if (i == p->base) printer_line(p, "const long i%d = p/%lld;", i, (long long)below);
        else printer_line(p, "const long i%d = p/%lld%%%lld;", i, (long long)below, (long long)extent);
        below *= extent;
    }
}

// ---- nests without reductions

static void print_points(Printer *p) {
    const Nest *nest = p->nest;
    int axes = nest->axis_count, flat = p->base;
    printer_depths(p, 0, p->base);
    if (axes == p->base) {
        printer_stores(p);
        return;
    }
    int64_t outer = 1, inner = printer_axis_extent(nest, axes - 1);
    for (int i = 0; i < axes - 1; i++) outer *= printer_axis_extent(nest, i);
    bool inner_parallel = p->parallel && (axes == 1 || (outer < 8 && inner >= 4096));
    if (p->parallel && !inner_parallel) {
        for (int64_t items = 1; flat < axes - 1 && items < PARALLEL_ITEMS; flat++) items *= printer_axis_extent(nest, flat);
        printer_open_flat(p, flat, 1, true);
        printer_depths(p, p->base + 1, flat);
    }
    for (int i = flat; i < axes - 1; i++) {
        printer_open_loop(p, i);
        printer_depth(p, i + 1);
    }
    // Short loops are left to the compiler's judgement: to insist on vectors costs it time, and the loop too.
    if (inner_parallel) printer_line(p, "#pragma omp parallel for simd schedule(static)");
    else if (inner >= SIMD_EXTENT) printer_line(p, "#pragma omp simd");
    if (axes == 1 && !p->base) {  // the extent is not in the text: kernels over flat tensors of any size are one
        lv_vec_push(p->scalars, (LvScalar){.i = inner});
        printer_line(p, "for (long i0 = 0; i0 < scalars[%zu].i; i0++) {", p->scalars->count - 1);
        p->indent++;
    } else {
        printer_open_loop(p, axes - 1);
    }
    printer_depth(p, axes);
    printer_stores(p);
    printer_close_loops(p, axes - flat + (flat > p->base));
}

// ---- kernels

static void print_nest(Printer *p, const Nest *nest) {
    p->nest = nest;
    p->base = p->kernel->shared;
    p->live = lv_calloc(nest->body.count + 1, sizeof *p->live);
    p->needed_vars = lv_calloc(nest->vars.count + 1, sizeof *p->needed_vars);
    p->name = lv_calloc(nest->body.count + 1, sizeof *p->name);
    find_live(p);
    bool reduces = false;
    for (size_t i = 0; i < nest->outputs.count; i++) reduces |= nest->outputs.data[i].kind == OUTPUT_REDUCE;
    p->parallel = !p->kernel->serial && !p->base && nest_cost(nest) >= PARALLEL_COST;
    printer_line(p, "{");
    p->indent++;
    if (reduces) printer_reduction(p);
    else print_points(p);
    printer_close_loops(p, 1);
    free(p->live), free(p->needed_vars), free(p->name);
}

static void print_locals(Printer *p) {
    for (size_t i = 0; i < p->kernel->buffers.count; i++) {
        const Buffer *b = &p->kernel->buffers.data[i];
        if (b->local)
            printer_line(p, "%s b%zu[%lld];", c_storage_type(b->dtype), i, (long long)(b->elements > 0 ? b->elements : 1));
    }
}

static void print_buffers(Printer *p) {
    int operand = 0;
    for (size_t i = 0; i < p->kernel->buffers.count; i++) {
        const Buffer *b = &p->kernel->buffers.data[i];
        const char *type = c_storage_type(b->dtype), *limit = b->may_share ? "" : "restrict ";
        if (b->local) continue;
        if (b->written) printer_line(p, "%s *%sb%zu = (%s *)buffers[%d];", type, limit, i, type, operand++);
        else printer_line(p, "const %s *%sb%zu = (const %s *)buffers[%d];", type, limit, i, type, operand++);
    }
}

void c_print_kernel(const Kernel *kernel, const char *name, LvText *out, ScalarList *scalars) {
    Printer p = {.kernel = kernel, .out = out, .scalars = scalars};
    printer_line(&p, "void %s(char *const *buffers, const LvScalar *scalars)\n{", name);
    p.indent++;
    print_buffers(&p);
    if (kernel->shared) {  // a row-wise kernel: one iteration does everything to a row
        const Nest *first = &kernel->nests.data[0];
        double cost = 0;
        for (size_t i = 0; i < kernel->nests.count; i++) cost += nest_cost(&kernel->nests.data[i]);
        if (cost >= PARALLEL_COST) printer_line(&p, "#pragma omp parallel for schedule(static)");
        printer_line(&p, "for (long i0 = 0; i0 < %lld; i0++) {", (long long)printer_axis_extent(first, 0));
        p.indent++;
    }
    print_locals(&p);
    for (size_t i = 0; i < kernel->nests.count; i++) print_nest(&p, &kernel->nests.data[i]);
    printer_close_loops(&p, kernel->shared);
    printer_line(&p, "(void)scalars;");
    printer_close_loops(&p, 1);
}
