// Loop IR -> C. Every nest becomes one loop nest: outer axes that are independent run in parallel, the innermost is a simd
// loop, and an instruction stands at the outermost depth at which all that it needs is known.
#include "codegen/c/print.h"

#include <stdio.h>

#include "codegen/c/loops.h"
#include "codegen/expression.h"

static void put_store(Printer *p, const Output *output, const char *value, const char *convert) {
    LvText text = {0};
    printer_affine(p, &output->index, &text);
    printer_line(p, "b%d[%s] = %s%s%s;", output->buffer, lv_text_get(&text), convert, value, *convert ? ")" : "");
    lv_text_free(&text);
}

void printer_store(Printer *p, const Output *output, const char *value) {
    put_store(p, output, value, c_store_conversion(p->kernel->buffers.data[output->buffer].dtype));
}

// What was cast to bf16, or read as such, is rounded already.
static bool is_rounded(const Printer *p, const Output *output) {
    const Instr *instr = &p->nest->body.data[output->value];
    bool narrow = instr->dtype == LV_BF16 && p->kernel->buffers.data[output->buffer].dtype == LV_BF16;
    return narrow && (instr->kind == INSTR_CAST || instr->kind == INSTR_LOAD);
}

void printer_stores(Printer *p) {
    for (size_t i = 0; i < p->nest->outputs.count; i++) {
        const Output *output = &p->nest->outputs.data[i];
        if (output->kind != OUTPUT_STORE) continue;
        char value[16];
        printer_value(p, output->value, value);
        if (is_rounded(p, output)) put_store(p, output, value, "lv_high_half(");
        else printer_store(p, output, value);
    }
}

void printer_open_loop(Printer *p, int place) {
    printer_line(p, "for (long i%d = 0; i%d < %lld; i%d++) {", place, place, (long long)printer_axis_extent(p->nest, place),
                 place);
    p->indent++;
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
    printer_enter(p, nest);
    p->parallel = !p->kernel->serial && !p->base && nest_cost(nest) >= PARALLEL_COST;
    printer_line(p, "{");
    p->indent++;
    if (printer_reduces(nest)) printer_reduction(p);
    else print_points(p);
    printer_close_loops(p, 1);
    printer_leave(p);
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
