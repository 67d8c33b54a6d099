// Nests with reductions -> C.
//
// Deterministic for any number of threads: the work is cut by shape alone, never by threads. Sums are accumulated in f64, in
// one accumulator per lane; where too few kept elements are there to keep threads busy, a reduced axis is cut into a fixed
// number of chunks whose partial results are folded in order. A search for the largest computes the values of a chunk first, by
// vectors, then looks through them: a loop that does both at once is no vector code.
#include <stdio.h>

#include "codegen/expression.h"
#include "codegen/c/loops.h"

typedef struct {
    int kept;            // outer kept axes: places [0, kept)
    int axes;
    bool inner_kept;     // the innermost axis is kept: an accumulator for each of its elements
    bool lanes;          // it is reduced and short: an accumulator for each of its elements, folded at the end
    int64_t width;       // accumulators for each output
    int64_t items;       // points of the outer kept axes
    int64_t chunks;      // pieces of the chunked axis
    int chunk_axis;      // -1: none
    bool values_first;   // a search in chunks of no more than MAX_SEARCHED values
} Shape;

enum { SEARCHED = 128, MAX_SEARCHED = 2048 };

#define EACH_REDUCTION(p, o) \
    for (size_t o = 0; o < (p)->nest->outputs.count; o++) \
        if ((p)->nest->outputs.data[o].kind == OUTPUT_REDUCE)

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

// A long search along the innermost axis.
static void cut_search(const Printer *p, Shape *s) {
    int last = s->axes - 1;
    int64_t extent = printer_axis_extent(p->nest, last), chunks = extent / SEARCHED;
    while (chunks > 1 && chunks * s->items > MAX_PARTIALS) chunks /= 2;
    if (!p->parallel || s->inner_kept || s->kept != last || chunks <= 1 || extent / chunks >= MAX_SEARCHED) return;
    s->values_first = true;
    s->chunks = chunks;
    s->chunk_axis = last;
}

static Shape find_shape(const Printer *p) {
    const Nest *nest = p->nest;
    Shape s = {.axes = nest->axis_count, .width = 1, .items = 1, .chunks = 1, .chunk_axis = -1};
    bool search = false;
    int64_t sums = 0;
    EACH_REDUCTION(p, o) search |= is_search(&nest->outputs.data[o]), sums++;
    s.kept = p->base;
    while (s.kept < s.axes && !nest->axes[s.kept].reduced) s.items *= printer_axis_extent(nest, s.kept++);
    if (s.kept == s.axes) return s;  // nothing is reduced: extents of 1, or a single element
    int last = s.axes - 1;
    int64_t inner = printer_axis_extent(nest, last);
    s.inner_kept = !nest->axes[last].reduced;
    s.lanes = !s.inner_kept && !search && inner <= 64 && s.kept < last;
    if (s.inner_kept || s.lanes) s.width = inner;
    if (search) cut_search(p, &s);
    if (!p->parallel || search || s.items >= 32) return s;
    int64_t longest = 1;
    for (int i = s.kept; i < s.axes; i++) {
        if (nest->axes[i].reduced && !(s.lanes && i == last) && printer_axis_extent(nest, i) > longest)
            longest = printer_axis_extent(nest, s.chunk_axis = i);
    }
    if (s.chunk_axis < 0 || s.items < 1 || s.width < 1) return s;
    s.chunks = (PARALLEL_ITEMS + s.items - 1) / s.items;
    // Accumulators for a row's every element are folded one by one: many rows to each, or folding takes longer than they do.
    if (s.inner_kept) longest /= CHUNK_ROWS;
    if (s.chunks > longest) s.chunks = longest;
    while (s.chunks > 1 && s.chunks * s.items * s.width * sums > MAX_PARTIALS) s.chunks /= 2;
    if (s.chunks <= 1) s.chunk_axis = -1, s.chunks = 1;
    return s;
}

static void put_fold(Printer *p, const Output *output, const char *accumulator, const char *value, const char *at,
                     const char *position) {
    switch (output->op) {
        case OP_reduce_sum: printer_line(p, "%s += %s;", accumulator, value); break;
        case OP_reduce_max:
            printer_line(p, "%s = %s > %s ? %s : %s;", accumulator, value, accumulator, value, accumulator);
            break;
        case OP_reduce_min:
            printer_line(p, "%s = %s < %s ? %s : %s;", accumulator, value, accumulator, value, accumulator);
            break;
        default: {
            const char *sign = output->op == OP_argmax ? ">" : "<";
            printer_line(p, "%s = %s %s %s ? %s : %s;", at, value, sign, accumulator, position, at);
            printer_line(p, "%s = %s %s %s ? %s : %s;", accumulator, value, sign, accumulator, value, accumulator);
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
            printer_line(p, "%s a%zu[%lld];", type, o, width);
            printer_line(p, "for (long l = 0; l < %lld; l++) a%zu[l] = %s;", width, o, first);
            if (is_search(output)) printer_line(p, "int32_t n%zu[%lld] = {0};", o, width);
        } else {
            printer_line(p, "%s a%zu = %s;", type, o, first);
            if (is_search(output)) printer_line(p, "int32_t n%zu = 0;", o);
        }
        lv_text_free(&initial);
    }
}

static void put_simd(Printer *p, const Shape *s) {
    if (printer_axis_extent(p->nest, s->axes - 1) < SIMD_EXTENT) return;
    if (s->width > 1 || s->inner_kept) {
        printer_line(p, "#pragma omp simd");
        return;
    }
    LvText clauses = {0};
    bool search = false;
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        search |= is_search(output);
        lv_text_printf(&clauses, " reduction(%s:a%zu)",
                       output->op == OP_reduce_sum   ? "+"
                       : output->op == OP_reduce_max ? "max"
                                                     : "min",
                       o);
    }
    if (!search) printer_line(p, "#pragma omp simd%s", lv_text_get(&clauses));
    lv_text_free(&clauses);
}

static void open_reduced(Printer *p, const Shape *s, int place) {
    if (place == s->chunk_axis) {
        long long extent = (long long)printer_axis_extent(p->nest, place), chunks = (long long)s->chunks;
        printer_line(p, "for (long i%d = q*%lld/%lld; i%d < (q+1)*%lld/%lld; i%d++) {", place, extent, chunks, place, extent,
                     chunks, place);
        p->indent++;
    } else {
        printer_open_loop(p, place);
    }
}

// The search of a chunk, whose values are computed in one loop and looked through in a second.
static void search_values(Printer *p, const Shape *s) {
    int last = s->axes - 1;
    long long extent = (long long)printer_axis_extent(p->nest, last), chunks = (long long)s->chunks;
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        printer_line(p, "%s t%zu[%lld];", accumulator_type(p, output), o, extent / chunks + 1);
    }
    printer_line(p, "#pragma omp simd");
    open_reduced(p, s, last);
    printer_depth(p, s->axes);
    EACH_REDUCTION(p, o) {
        printer_line(p, "t%zu[i%d-q*%lld/%lld] = v%d;", o, last, extent, chunks, p->name[p->nest->outputs.data[o].value]);
    }
    printer_stores(p);
    printer_close_loops(p, 1);
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char value[80], accumulator[32], at[32];
        LvText position = {0};
        lv_text_puts(&position, "(int32_t)("), printer_affine(p, &output->position, &position), lv_text_puts(&position, ")");
        snprintf(value, sizeof value, "t%zu[i%d-q*%lld/%lld]", o, last, extent, chunks);
        snprintf(accumulator, sizeof accumulator, "a%zu", o), snprintf(at, sizeof at, "n%zu", o);
        open_reduced(p, s, last);
        put_fold(p, output, accumulator, value, at, lv_text_get(&position));
        printer_close_loops(p, 1);
        lv_text_free(&position);
    }
}

static void accumulate(Printer *p, const Shape *s) {
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char value[16], accumulator[48], at[48];
        LvText position = {0};
        if (is_search(output)) {
            lv_text_puts(&position, "(int32_t)("), printer_affine(p, &output->position, &position), lv_text_puts(&position, ")");
        }
        snprintf(value, sizeof value, "v%d", p->name[output->value]);
        snprintf(accumulator, sizeof accumulator, s->width > 1 ? "a%zu[i%d]" : "a%zu", o, s->axes - 1);
        snprintf(at, sizeof at, s->width > 1 ? "n%zu[i%d]" : "n%zu", o, s->axes - 1);
        put_fold(p, output, accumulator, value, at, lv_text_get(&position));
        lv_text_free(&position);
    }
    printer_stores(p);
}

static void accumulate_values(Printer *p, const Shape *s) {
    for (int i = s->kept; i < s->axes - 1; i++) {
        open_reduced(p, s, i);
        printer_depth(p, i + 1);
    }
    if (s->axes > s->kept) {
        put_simd(p, s);
        open_reduced(p, s, s->axes - 1);
        printer_depth(p, s->axes);
    }
    accumulate(p, s);
    printer_close_loops(p, s->axes - s->kept);
}

// Folds the lanes into the first, then writes every accumulator to its place, or to the partial results.
static void put_results(Printer *p, const Shape *s) {
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char value[64];
        if (s->lanes && s->width > 1) {
            char first[32], next[32];
            snprintf(first, sizeof first, "a%zu[0]", o), snprintf(next, sizeof next, "a%zu[l]", o);
            printer_line(p, "for (long l = 1; l < %lld; l++)", (long long)s->width);
            p->indent++;
            put_fold(p, output, first, next, "", "");
            p->indent--;
        }
        bool loop = s->width > 1 && !s->lanes;
        const char *prefix = is_search(output) ? "n" : "a";
        if (s->width > 1) snprintf(value, sizeof value, s->lanes ? "%s%zu[0]" : "%s%zu[i%d]", prefix, o, s->axes - 1);
        else snprintf(value, sizeof value, "%s%zu", prefix, o);
        if (loop) printer_open_loop(p, s->axes - 1);
        else if (s->inner_kept && s->axes > p->base) printer_line(p, "const long i%d = 0;", s->axes - 1);
        if (s->chunks > 1) {
            if (loop) printer_line(p, "w%zu[p*%lld+i%d] = %s;", o, (long long)s->width, s->axes - 1, value);
            else if (is_search(output)) printer_line(p, "w%zu[p] = a%zu, m%zu[p] = n%zu;", o, o, o, o);
            else printer_line(p, "w%zu[p] = %s;", o, value);
        } else {
            printer_store(p, output, value);
        }
        if (loop) printer_close_loops(p, 1);
    }
}

static void fold_partials(Printer *p, const Shape *s) {
    if (s->kept) {
        printer_open_flat(p, s->kept, 1, false);
        if (s->kept == 1) printer_line(p, "const long p = i0;");
    } else {
        printer_line(p, "{"), p->indent++;
        printer_line(p, "const long p = 0;");
    }
    bool loop = s->width > 1 && !s->lanes;
    long long width = loop ? (long long)s->width : 1;
    if (loop) printer_open_loop(p, s->axes - 1);
    else if (s->inner_kept && s->axes > p->base) printer_line(p, "const long i%d = 0;", s->axes - 1);
    EACH_REDUCTION(p, o) {
        const Output *output = &p->nest->outputs.data[o];
        char accumulator[32], next[96], lane[16] = "", at[32], position[96];
        if (loop) snprintf(lane, sizeof lane, "+i%d", s->axes - 1);
        snprintf(accumulator, sizeof accumulator, "a%zu", o), snprintf(at, sizeof at, "n%zu", o);
        snprintf(position, sizeof position, "m%zu[p*%lld+q]", o, (long long)s->chunks);
        snprintf(next, sizeof next, "w%zu[(p*%lld+q)*%lld%s]", o, (long long)s->chunks, width, lane);
        printer_line(p, "%s %s = w%zu[p*%lld%s];", accumulator_type(p, output), accumulator, o, (long long)s->chunks * width,
                     lane);
        if (is_search(output)) printer_line(p, "int32_t n%zu = m%zu[p*%lld];", o, o, (long long)s->chunks);
        printer_line(p, "for (long q = 1; q < %lld; q++)", (long long)s->chunks);
        p->indent++;
        if (is_search(output)) printer_line(p, "{"), p->indent++;
        put_fold(p, output, accumulator, next, at, position);
        if (is_search(output)) printer_close_loops(p, 1);
        p->indent--;
        printer_store(p, output, is_search(output) ? at : accumulator);
    }
    printer_close_loops(p, 1 + loop);
}

void printer_reduction(Printer *p) {
    Shape s = find_shape(p);
    printer_depths(p, 0, p->base);
    if (s.chunks > 1) {
        long long width = s.lanes ? 1 : (long long)s.width;
        EACH_REDUCTION(p, o) {
            printer_line(p, "%s w%zu[%lld];", accumulator_type(p, &p->nest->outputs.data[o]), o,
                         (long long)(s.items * s.chunks) * width);
            if (s.values_first) printer_line(p, "int32_t m%zu[%lld];", o, (long long)(s.items * s.chunks));
        }
    }
    bool outer = s.kept > p->base || s.chunks > 1;
    if (outer) {
        printer_open_flat(p, s.kept, s.chunks, p->parallel && s.items * s.chunks > 1);
        printer_depths(p, p->base + 1, s.kept);
    } else {
        printer_line(p, "{"), p->indent++;
    }
    declare_accumulators(p, &s);
    if (s.values_first) search_values(p, &s);
    else accumulate_values(p, &s);
    put_results(p, &s);
    printer_close_loops(p, 1);
    if (s.chunks > 1) fold_partials(p, &s);
}
