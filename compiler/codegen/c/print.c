// Loop IR -> C. Every nest becomes one loop nest: outer axes that are independent run in parallel, the innermost is a simd
// loop, and an instruction stands at the outermost depth at which all that it needs is known.
//
// Reductions are deterministic for any number of threads: the work is cut by shape alone, never by threads. Sums are
// accumulated in f64, in one accumulator per lane; where too few kept elements are there to keep threads busy, a reduced
// axis is cut into a fixed number of chunks whose partial results are folded in order.
#include "codegen/c/print.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codegen/c/expression.h"
#include "ops/op.h"

enum {
    PARALLEL_COST = 40000,    // additions below which threads cost more than they save
    PARALLEL_ITEMS = 64,      // pieces of work wanted: enough for many threads, few enough to be large
    SIMD_EXTENT = 8,
    MAX_PARTIALS = 32768,     // elements of partial results in the frame
};

typedef struct {
    const Kernel *kernel;
    const Nest *nest;
    LvText *out;
    ScalarList *scalars;
    int indent;
    bool parallel;        // the nest may open a parallel region
    int base;             // so many outermost axes are open already
    bool *live, *needed_vars;
    int *name;            // by instruction: its number in the text
} Printer;

static void line(Printer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(Printer *p, const char *format, ...) {
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

static void put_affine(const Printer *p, const Affine *a, LvText *out) {
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

static int64_t axis_extent(const Nest *nest, int place) { return nest->vars.data[nest->axes[place].var].extent; }

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
        if (below) lv_text_puts(out, "("), put_affine(p, &r->index, out), lv_text_printf(out, ">=%lld)", (long long)r->low);
        if (above) {
            lv_text_puts(out, below ? "&(" : "("), put_affine(p, &r->index, out);
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
    put_affine(p, &instr->index, out);
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
            put_affine(p, &instr->index, &text);
            lv_text_puts(&text, ")");
            break;
        }
        case INSTR_OP: c_put_op(instr->op, p->nest->body.data[instr->args[instr->op == OP_select ? 1 : 0]].dtype, instr->dtype, args, &text); break;
        case INSTR_CAST: c_put_cast(p->nest->body.data[instr->args[0]].dtype, instr->dtype, args[0], &text); break;
        case INSTR_CHOOSE:
            lv_text_puts(&text, "(");
            put_region(p, instr->region, false, &text);
            lv_text_printf(&text, ")?%s:%s", args[0], args[1]);
            break;
        case INSTR_UNIFORM: case INSTR_NORMAL:
            lv_text_printf(&text, "lv_%s(%s,%lldu,%s,", instr->kind == INSTR_UNIFORM ? "uniform" : "normal", args[0],
                           (long long)instr->stream, args[1]);
            put_affine(p, &instr->index, &text);
            lv_text_puts(&text, ")");
            break;
    }
    line(p, "const %s v%d = %s;", c_type(instr->dtype), p->name[at], lv_text_get(&text));
    lv_text_free(&text);
}

static int var_depth(const Printer *p, int var) {
    Affine a = affine_var(var);
    return nest_affine_depth(p->nest, &a);
}

// Derived indices and instructions that become known when `depth` axes are open.
static void put_depth(Printer *p, int depth) {
    for (size_t i = 0; i < p->nest->vars.count; i++) {
        const Var *var = &p->nest->vars.data[i];
        if (var->kind == VAR_AXIS || !p->needed_vars[i] || var_depth(p, (int)i) != depth) continue;
        LvText text = {0};
        put_affine(p, &var->of, &text);
        line(p, "const long q%zu = (%s)%s%lld;", i, lv_text_get(&text), var->kind == VAR_QUOTIENT ? "/" : "%", (long long)var->by);
        lv_text_free(&text);
    }
    for (size_t i = 0; i < p->nest->body.count; i++) {
        if (p->live[i] && p->nest->body.data[i].depth == depth) put_instr(p, i);
    }
}

static void put_depths(Printer *p, int from, int to) {
    for (int depth = from; depth <= to; depth++) put_depth(p, depth);
}

static void put_store(Printer *p, const Output *output, const char *value) {
    LvText text = {0};
    put_affine(p, &output->index, &text);
    LvDType dtype = p->kernel->buffers.data[output->buffer].dtype;
    const char *convert = c_store_conversion(dtype);
    line(p, "b%d[%s] = %s%s%s;", output->buffer, lv_text_get(&text), convert, value, *convert ? ")" : "");
    lv_text_free(&text);
}

static void put_stores(Printer *p) {
    for (size_t i = 0; i < p->nest->outputs.count; i++) {
        const Output *output = &p->nest->outputs.data[i];
        if (output->kind != OUTPUT_STORE) continue;
        char value[16];
        snprintf(value, sizeof value, "v%d", p->name[output->value]);
        put_store(p, output, value);
    }
}

static void open_loop(Printer *p, int place) {
    line(p, "for (long i%d = 0; i%d < %lld; i%d++) {", place, place, (long long)axis_extent(p->nest, place), place);
    p->indent++;
}

static void close_loops(Printer *p, int count) {
    for (int i = 0; i < count; i++) {
        p->indent--;
        line(p, "}");
    }
}

// One loop over the axes before `count` taken together, `extra` more iterations for each point; opens a scope.
static void open_flat(Printer *p, int count, int64_t extra, bool parallel) {
    int64_t total = extra;
    for (int i = p->base; i < count; i++) total *= axis_extent(p->nest, i);
    if (parallel) line(p, "#pragma omp parallel for schedule(static)");
    if (count == p->base + 1 && extra == 1) {
        open_loop(p, p->base);
        return;
    }
    line(p, "for (long p = 0; p < %lld; p++) {", (long long)total);
    p->indent++;
    int64_t below = extra;
    if (extra > 1) line(p, "const long q = p%%%lld;", (long long)extra);
    for (int i = count - 1; i >= p->base; i--) {
        int64_t extent = axis_extent(p->nest, i);
        if (i == p->base) line(p, "const long i%d = p/%lld;", i, (long long)below);
        else line(p, "const long i%d = p/%lld%%%lld;", i, (long long)below, (long long)extent);
        below *= extent;
    }
}

// ---- nests without reductions

static void print_points(Printer *p) {
    const Nest *nest = p->nest;
    int axes = nest->axis_count, flat = p->base;
    put_depths(p, 0, p->base);
    if (axes == p->base) {
        put_stores(p);
        return;
    }
    int64_t outer = 1, inner = axis_extent(nest, axes - 1);
    for (int i = 0; i < axes - 1; i++) outer *= axis_extent(nest, i);
    bool inner_parallel = p->parallel && (axes == 1 || (outer < 8 && inner >= 4096));
    if (p->parallel && !inner_parallel) {
        for (int64_t items = 1; flat < axes - 1 && items < PARALLEL_ITEMS; flat++) items *= axis_extent(nest, flat);
        open_flat(p, flat, 1, true);
        put_depths(p, p->base + 1, flat);
    }
    for (int i = flat; i < axes - 1; i++) {
        open_loop(p, i);
        put_depth(p, i + 1);
    }
    // Short loops are left to the compiler's judgement: to insist on vectors costs it time, and the loop too.
    if (inner_parallel) line(p, "#pragma omp parallel for simd schedule(static)");
    else if (inner >= SIMD_EXTENT) line(p, "#pragma omp simd");
    if (axes == 1 && !p->base) {  // the extent is not in the text: kernels over flat tensors of any size are one
        lv_vec_push(p->scalars, (LvScalar){.i = inner});
        line(p, "for (long i0 = 0; i0 < scalars[%zu].i; i0++) {", p->scalars->count - 1);
        p->indent++;
    } else {
        open_loop(p, axes - 1);
    }
    put_depth(p, axes);
    put_stores(p);
    close_loops(p, axes - flat + (flat > p->base));
}

// ---- nests with reductions

typedef struct {
    int kept;            // outer kept axes: places [0, kept)
    int axes;
    bool inner_kept;     // the innermost axis is kept: an accumulator for each of its elements
    bool lanes;          // it is reduced and short: an accumulator for each of its elements, folded at the end
    int64_t width;       // accumulators for each output
    int64_t items;       // points of the outer kept axes
    int64_t chunks;      // pieces of the chunked axis
    int chunk_axis;      // -1: none
} Shape;

static bool is_search(const Output *output) { return output->op == OP_argmax || output->op == OP_argmin; }

static const char *accumulator_type(const Printer *p, const Output *output) {
    LvDType dtype = p->nest->body.data[output->value].dtype;
    if (output->op == OP_reduce_sum) return c_is_float(dtype) ? "double" : "int64_t";
    return c_type(dtype);
}

static void put_initial(const Printer *p, const Output *output, LvText *out) {
    LvDType dtype = p->nest->body.data[output->value].dtype;
    bool most = output->op == OP_reduce_max || output->op == OP_argmax;
    if (output->op == OP_reduce_sum) lv_text_puts(out, "0");
    else c_put_extreme(dtype, !most, out);
}

static Shape find_shape(const Printer *p) {
    const Nest *nest = p->nest;
    Shape s = {.axes = nest->axis_count, .width = 1, .items = 1, .chunks = 1, .chunk_axis = -1};
    bool search = false;
    for (size_t i = 0; i < nest->outputs.count; i++) search |= nest->outputs.data[i].kind == OUTPUT_REDUCE && is_search(&nest->outputs.data[i]);
    s.kept = p->base;
    while (s.kept < s.axes && !nest->axes[s.kept].reduced) s.items *= axis_extent(nest, s.kept++);
    if (s.axes == p->base) return s;
    int last = s.axes - 1;
    int64_t inner = axis_extent(nest, last);
    if (s.kept == s.axes) {  // nothing is reduced (extents of 1): keep the innermost as lanes
        s.kept--, s.items /= inner ? inner : 1;
        if (!inner) s.items = 0;
    }
    s.inner_kept = !nest->axes[last].reduced;
    s.lanes = !s.inner_kept && !search && inner <= 64 && s.kept < last;
    if (s.inner_kept || s.lanes) s.width = inner;
    if (!p->parallel || search || s.items >= 32) return s;
    int64_t longest = 1;
    for (int i = s.kept; i < s.axes; i++) {
        if (nest->axes[i].reduced && !(s.lanes && i == last) && axis_extent(nest, i) > longest) longest = axis_extent(nest, s.chunk_axis = i);
    }
    if (s.chunk_axis < 0 || s.items < 1 || s.width < 1) return s;
    s.chunks = (PARALLEL_ITEMS + s.items - 1) / s.items;
    if (s.chunks > longest) s.chunks = longest;
    while (s.chunks > 1 && s.chunks * s.items * s.width > MAX_PARTIALS) s.chunks /= 2;
    if (s.chunks <= 1) s.chunk_axis = -1, s.chunks = 1;
    return s;
}

#define EACH_REDUCTION(p, o) \
    for (size_t o = 0; o < (p)->nest->outputs.count; o++) \
        if ((p)->nest->outputs.data[o].kind == OUTPUT_REDUCE)

static void put_fold(Printer *p, const Output *output, const char *accumulator, const char *value, const char *at, const char *position) {
    switch (output->op) {
        case OP_reduce_sum: line(p, "%s += %s;", accumulator, value); break;
        case OP_reduce_max: line(p, "%s = %s > %s ? %s : %s;", accumulator, value, accumulator, value, accumulator); break;
        case OP_reduce_min: line(p, "%s = %s < %s ? %s : %s;", accumulator, value, accumulator, value, accumulator); break;
        default: {
            const char *sign = output->op == OP_argmax ? ">" : "<";
            line(p, "%s = %s %s %s ? %s : %s;", at, value, sign, accumulator, position, at);
            line(p, "%s = %s %s %s ? %s : %s;", accumulator, value, sign, accumulator, value, accumulator);
        }
    }
}

static void declare_accumulators(Printer *p, const Shape *s) {
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        LvText initial = {0};
        put_initial(p, output, &initial);
        const char *type = accumulator_type(p, output), *first = lv_text_get(&initial);
        if (s->width > 1) {
            long long width = (long long)s->width;
            line(p, "%s a%zu[%lld];", type, o, width);
            line(p, "for (long l = 0; l < %lld; l++) a%zu[l] = %s;", width, o, first);
            if (is_search(output)) line(p, "int32_t n%zu[%lld] = {0};", o, width);
        } else {
            line(p, "%s a%zu = %s;", type, o, first);
            if (is_search(output)) line(p, "int32_t n%zu = 0;", o);
        }
        lv_text_free(&initial);
    }
}

static void put_simd(Printer *p, const Shape *s) {
    if (axis_extent(p->nest, s->axes - 1) < SIMD_EXTENT) return;
    if (s->width > 1 || s->inner_kept) {
        line(p, "#pragma omp simd");
        return;
    }
    LvText clauses = {0};
    bool search = false;
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        search |= is_search(output);
        lv_text_printf(&clauses, " reduction(%s:a%zu)", output->op == OP_reduce_sum ? "+" : output->op == OP_reduce_max ? "max" : "min", o);
    }
    if (!search) line(p, "#pragma omp simd%s", lv_text_get(&clauses));
    lv_text_free(&clauses);
}

static void open_reduced(Printer *p, const Shape *s, int place) {
    if (place == s->chunk_axis) {
        long long extent = (long long)axis_extent(p->nest, place), chunks = (long long)s->chunks;
        line(p, "for (long i%d = q*%lld/%lld; i%d < (q+1)*%lld/%lld; i%d++) {", place, extent, chunks, place, extent, chunks, place);
        p->indent++;
    } else {
        open_loop(p, place);
    }
}

static void accumulate(Printer *p, const Shape *s) {
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char value[16], accumulator[48], at[48];
        LvText position = {0};
        if (is_search(output)) {
            lv_text_puts(&position, "(int32_t)("), put_affine(p, &output->position, &position), lv_text_puts(&position, ")");
        }
        snprintf(value, sizeof value, "v%d", p->name[output->value]);
        snprintf(accumulator, sizeof accumulator, s->width > 1 ? "a%zu[i%d]" : "a%zu", o, s->axes - 1);
        snprintf(at, sizeof at, s->width > 1 ? "n%zu[i%d]" : "n%zu", o, s->axes - 1);
        put_fold(p, output, accumulator, value, at, lv_text_get(&position));
        lv_text_free(&position);
    }
    put_stores(p);
}

// Folds the lanes into the first, then writes every accumulator to its place, or to the partial results.
static void put_results(Printer *p, const Shape *s) {
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char value[64];
        if (s->lanes && s->width > 1) {
            char first[32], next[32];
            snprintf(first, sizeof first, "a%zu[0]", o), snprintf(next, sizeof next, "a%zu[l]", o);
            line(p, "for (long l = 1; l < %lld; l++)", (long long)s->width);
            p->indent++;
            put_fold(p, output, first, next, "", "");
            p->indent--;
        }
        bool loop = s->width > 1 && !s->lanes;
        const char *prefix = is_search(output) ? "n" : "a";
        if (s->width > 1) snprintf(value, sizeof value, s->lanes ? "%s%zu[0]" : "%s%zu[i%d]", prefix, o, s->axes - 1);
        else snprintf(value, sizeof value, "%s%zu", prefix, o);
        if (loop) open_loop(p, s->axes - 1);
        else if (s->inner_kept && s->axes > p->base) line(p, "const long i%d = 0;", s->axes - 1);
        if (s->chunks > 1) {
            if (loop) line(p, "w%zu[p*%lld+i%d] = %s;", o, (long long)s->width, s->axes - 1, value);
            else line(p, "w%zu[p] = %s;", o, value);
        } else {
            put_store(p, output, value);
        }
        if (loop) close_loops(p, 1);
    }
}

static void fold_partials(Printer *p, const Shape *s) {
    if (s->kept) {
        open_flat(p, s->kept, 1, false);
        if (s->kept == 1) line(p, "const long p = i0;");
    } else {
        line(p, "{"), p->indent++;
        line(p, "const long p = 0;");
    }
    bool loop = s->width > 1 && !s->lanes;
    long long width = loop ? (long long)s->width : 1;
    if (loop) open_loop(p, s->axes - 1);
    else if (s->inner_kept && s->axes > p->base) line(p, "const long i%d = 0;", s->axes - 1);
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char accumulator[32], next[96], lane[16] = "";
        if (loop) snprintf(lane, sizeof lane, "+i%d", s->axes - 1);
        snprintf(accumulator, sizeof accumulator, "a%zu", o);
        snprintf(next, sizeof next, "w%zu[(p*%lld+q)*%lld%s]", o, (long long)s->chunks, width, lane);
        line(p, "%s %s = w%zu[p*%lld%s];", accumulator_type(p, output), accumulator, o, (long long)s->chunks * width, lane);
        line(p, "for (long q = 1; q < %lld; q++)", (long long)s->chunks);
        p->indent++;
        put_fold(p, output, accumulator, next, "", "");
        p->indent--;
        put_store(p, output, accumulator);
    }
    close_loops(p, 1 + loop);
}

static void print_reduction(Printer *p) {
    Shape s = find_shape(p);
    put_depths(p, 0, p->base);
    if (s.chunks > 1) {
        long long width = s.lanes ? 1 : (long long)s.width;
        EACH_REDUCTION(p, o) {
            line(p, "%s w%zu[%lld];", accumulator_type(p, &p->nest->outputs.data[o]), o, (long long)(s.items * s.chunks) * width);
        }
    }
    bool outer = s.kept > p->base || s.chunks > 1;
    if (outer) {
        open_flat(p, s.kept, s.chunks, p->parallel && s.items * s.chunks > 1);
        put_depths(p, p->base + 1, s.kept);
    } else {
        line(p, "{"), p->indent++;
    }
    declare_accumulators(p, &s);
    for (int i = s.kept; i < s.axes - 1; i++) {
        open_reduced(p, &s, i);
        put_depth(p, i + 1);
    }
    if (s.axes > s.kept) {
        put_simd(p, &s);
        open_reduced(p, &s, s.axes - 1);
        put_depth(p, s.axes);
    }
    accumulate(p, &s);
    close_loops(p, s.axes - s.kept);
    put_results(p, &s);
    close_loops(p, 1);
    if (s.chunks > 1) fold_partials(p, &s);
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
    line(p, "{");
    p->indent++;
    if (reduces) print_reduction(p);
    else print_points(p);
    close_loops(p, 1);
    free(p->live), free(p->needed_vars), free(p->name);
}

static void print_locals(Printer *p) {
    for (size_t i = 0; i < p->kernel->buffers.count; i++) {
        const Buffer *b = &p->kernel->buffers.data[i];
        if (b->local) line(p, "%s b%zu[%lld];", c_storage_type(b->dtype), i, (long long)(b->elements > 0 ? b->elements : 1));
    }
}

static void print_buffers(Printer *p) {
    int operand = 0;
    for (size_t i = 0; i < p->kernel->buffers.count; i++) {
        const Buffer *b = &p->kernel->buffers.data[i];
        const char *type = c_storage_type(b->dtype), *limit = b->may_share ? "" : "restrict ";
        if (b->local) continue;
        if (b->written) line(p, "%s *%sb%zu = (%s *)buffers[%d];", type, limit, i, type, operand++);
        else line(p, "const %s *%sb%zu = (const %s *)buffers[%d];", type, limit, i, type, operand++);
    }
}

void c_print_kernel(const Kernel *kernel, const char *name, LvText *out, ScalarList *scalars) {
    Printer p = {.kernel = kernel, .out = out, .scalars = scalars};
    line(&p, "void %s(char *const *buffers, const LvScalar *scalars)\n{", name);
    p.indent++;
    print_buffers(&p);
    if (kernel->shared) {  // a row-wise kernel: one iteration does everything to a row
        const Nest *first = &kernel->nests.data[0];
        double cost = 0;
        for (size_t i = 0; i < kernel->nests.count; i++) cost += nest_cost(&kernel->nests.data[i]);
        if (cost >= PARALLEL_COST) line(&p, "#pragma omp parallel for schedule(static)");
        line(&p, "for (long i0 = 0; i0 < %lld; i0++) {", (long long)axis_extent(first, 0));
        p.indent++;
    }
    print_locals(&p);
    for (size_t i = 0; i < kernel->nests.count; i++) print_nest(&p, &kernel->nests.data[i]);
    close_loops(&p, kernel->shared);
    line(&p, "(void)scalars;");
    close_loops(&p, 1);
}
