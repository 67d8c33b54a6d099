// Nests with reductions as launches of their own.
//
// Two forms, by what lies along memory. Where reduced axes are innermost, a team of threads (one, a warp or a block, by the length)
// shares each result: it walks the reduced points side by side and joins its accumulators in a tree. Where the innermost axis is
// kept (a bias gradient over channels-last pictures), threads lie along it and several rows of them share the reduced points. Where
// that leaves most of a GPU idle, the reduced points are cut into chunks, each block leaves partial results in the scratch memory,
// and of the blocks that share a piece of the results the one that finishes last joins them in order. All is cut by shape alone, so the bits do not depend on the device.
#include <stdio.h>

#include "codegen/cuda/nests.h"
#include "codegen/expression.h"

// ---- accumulators

static LvDType value_type(const Nest *nest, const Output *output) { return nest->body.data[output->value].dtype; }
static bool is_search(const Output *output) { return output->op == OP_argmax || output->op == OP_argmin; }
static bool is_two_sum(const Nest *nest, const Output *output) {
    return output->op == OP_reduce_sum && c_is_float(value_type(nest, output)) && value_type(nest, output) != LV_F64;
}

const char *cuda_accumulator_type(const Nest *nest, const Output *output) {
    LvDType dtype = value_type(nest, output);
    if (is_search(output)) return dtype == LV_F64 ? "LvBestF64" : c_is_float(dtype) ? "LvBestF32" : dtype == LV_I64 ? "LvBestI64" : "LvBestI32";
    if (output->op != OP_reduce_sum) return c_type(dtype);
    return is_two_sum(nest, output) ? "LvSum" : dtype == LV_F64 ? "double" : "int64_t";
}

const char *cuda_joiner(Op op) {
    switch (op) {
        case OP_reduce_sum: return "sum";
        case OP_reduce_max: return "max";
        case OP_reduce_min: return "min";
        case OP_argmax: return "most";
        default: return "least";
    }
}

static void put_first(const Nest *nest, const Output *output, LvText *out) {
    if (output->op == OP_reduce_sum) {
        lv_text_puts(out, is_two_sum(nest, output) ? "{0.f, 0.f}" : "0");
        return;
    }
    if (is_search(output)) lv_text_puts(out, "{");
    c_put_extreme(value_type(nest, output), output->op == OP_reduce_min || output->op == OP_argmin, out);
    if (is_search(output)) lv_text_puts(out, ", 0}");
}

void cuda_put_accumulators(CudaPrinter *c, int width) {
    Printer *p = &c->p;
    EACH_REDUCTION(p->nest, o) {
        const Output *output = &p->nest->outputs.data[o];
        const char *type = cuda_accumulator_type(p->nest, output);
        LvText first = {0};
        put_first(p->nest, output, &first);
        if (width > 1) {
            printer_line(p, "%s a%zu[%d];", type, o, width);
            printer_line(p, "LV_LANES(%d) { const %s first = %s; a%zu[l] = first; }", width, type, lv_text_get(&first), o);
        } else {
            printer_line(p, "%s a%zu = %s;", type, o, lv_text_get(&first));
        }
        lv_text_free(&first);
    }
}

void cuda_accumulate(CudaPrinter *c, const char *place) {
    Printer *p = &c->p;
    EACH_REDUCTION(p->nest, o) {
        const Output *output = &p->nest->outputs.data[o];
        char value[16], at[32];
        LvText text = {0};
        printer_value(p, output->value, value);
        snprintf(at, sizeof at, "a%zu%s", o, place);
        if (is_two_sum(p->nest, output)) {
            lv_text_printf(&text, "lv_sum_add(&%s, %s);", at, value);
        } else if (output->op == OP_reduce_sum) {
            lv_text_printf(&text, "%s += %s;", at, value);
        } else if (is_search(output)) {
            lv_text_printf(&text, "if (%s %s %s.value) %s.value = %s, %s.at = (int)(", value, output->op == OP_argmax ? ">" : "<", at, at,
                           value, at);
            printer_affine(p, &output->position, &text);
            lv_text_puts(&text, ");");
        } else {
            lv_text_printf(&text, "%s = lv_join_%s(%s, %s);", at, cuda_joiner(output->op), at, value);
        }
        printer_line(p, p->lanes > 1 ? "LV_LANES(%2$d) %1$s" : "%s", lv_text_get(&text), p->lanes);
        lv_text_free(&text);
    }
    cuda_stores(c);
}

void cuda_put_result(CudaPrinter *c, size_t o, const char *accumulator) {
    char value[64];
    snprintf(value, sizeof value, "lv_value(%s)", accumulator);
    cuda_store(c, &c->p.nest->outputs.data[o], value);
}

void cuda_put_joined(CudaPrinter *c) {
    printer_line(&c->p, "__shared__ __align__(16) unsigned char joined[%d];", 16 * CUDA_BLOCK / CUDA_WARP);
}

void cuda_join_team(CudaPrinter *c, int team) {
    EACH_REDUCTION(c->p.nest, o) {
        const Output *output = &c->p.nest->outputs.data[o];
        const char *joiner = cuda_joiner(output->op);
        if (team == CUDA_BLOCK) {
            printer_line(&c->p, "a%zu = lv_block_%s(a%zu, (%s *)joined, %d);", o, joiner, o, cuda_accumulator_type(c->p.nest, output), team);
        } else if (team == CUDA_WARP) {
            printer_line(&c->p, "a%zu = lv_warp_%s(a%zu, 32);", o, joiner, o);
        }
    }
}

void cuda_need_scratch(CudaPrinter *c, int64_t bytes) {
    if (bytes > c->made->scratch) c->made->scratch = bytes;
}

int64_t cuda_accumulator_bytes(const Nest *nest, const Output *output) {
    LvDType dtype = value_type(nest, output);
    bool wide = dtype == LV_F64 || dtype == LV_I64;
    if (is_search(output)) return wide ? 16 : 8;
    return output->op == OP_reduce_sum || wide ? 8 : 4;
}

// ---- partial results in the scratch memory

typedef struct {
    NestShape s;
    int64_t chunks, length;  // of the reduced points, `length` of them in each (in steps of the lanes where these are reduced)
    int64_t offset[16];      // by output: bytes
} Partials;

static bool plan_partials(CudaPrinter *c, const Nest *nest, Partials *parts) {
    int64_t bytes = 0, elements = parts->s.items * parts->chunks * parts->s.width;
    if (nest->outputs.count > 16) return false;
    EACH_REDUCTION(nest, o) {
        parts->offset[o] = bytes;
        bytes += (elements * cuda_accumulator_bytes(nest, &nest->outputs.data[o]) + 15) / 16 * 16;
    }
    if (bytes > 64 << 20) return false;
    cuda_need_scratch(c, bytes);
    return true;
}

// `index` is the number of the partial result, an expression.
static void store_partial(CudaPrinter *c, const Partials *parts, size_t o, const char *index, const char *value) {
    const char *type = cuda_accumulator_type(c->p.nest, &c->p.nest->outputs.data[o]);
    printer_line(&c->p, "((%s *)(scratch + %lld))[%s] = %s;", type, (long long)parts->offset[o], index, value);
}

// The blocks of one piece of the results have each left their part: all but the last of them are done.
static void leave_to_last(CudaPrinter *c, const Partials *parts) {
    printer_line(&c->p, "if (!lv_is_last(scratch, 1 + blockIdx.x, %lld, &is_last)) return;", (long long)parts->chunks);
}

// The launch ends; after the last of the kernel's nests before it comes its tail.
static void finish(CudaPrinter *c, const Partials *parts, int64_t blocks) {
    const Kernel *kernel = c->p.kernel;
    bool tail = kernel->tail && c->p.nest == &kernel->nests.data[kernel->tail - 1];
    c->p.lanes = 1;
    if (parts->chunks > 1 || tail) cuda_need_scratch(c, 64);  // before it blocks are counted
    int shared = 0;
    if (tail) {
        cuda_begin_after(c);
        printer_line(&c->p, "if (!lv_is_last(scratch, 0, %lld, &is_last)) return;", (long long)blocks);
        shared = cuda_put_tail(c);
    }
    cuda_end(c, blocks, parts->chunks, CUDA_BLOCK, shared);
}

enum { MAX_COUNTED = LV_SCRATCH_HEAD / 4 - 1 };  // pieces of the results that can have a counter, beside that of the whole launch

// How many chunks bring `blocks` blocks near to what a GPU wants, each at least `least` steps long.
static void cut_chunks(CudaPrinter *c, const Nest *nest, Partials *parts, int64_t blocks, int64_t steps, int64_t least) {
    int64_t chunks = blocks >= MAX_COUNTED ? 1 : (CUDA_BLOCKS_WANTED + blocks - 1) / (blocks > 0 ? blocks : 1);
    if (chunks > steps / least) chunks = steps / least;
    if (chunks > 1024) chunks = 1024;
    if (chunks < 1) chunks = 1;
    for (parts->chunks = chunks; parts->chunks > 1 && !plan_partials(c, nest, parts);) parts->chunks /= 2;
    parts->length = (steps + parts->chunks - 1) / parts->chunks;
    if (parts->chunks > 1) parts->chunks = (steps + parts->length - 1) / parts->length;
}

// ---- reduced axes innermost

// One thread of a team has aN of all: they go to their places, or to the partial results.
static void put_results_of_team(CudaPrinter *c, const Partials *parts, const char *chosen) {
    Printer *p = &c->p;
    printer_line(p, parts->chunks > 1 ? "if (%s && inside) {" : "if (%s) {", chosen);
    p->indent++;
    EACH_REDUCTION(p->nest, o) {
        char name[32], index[64];
        snprintf(name, sizeof name, "a%zu", o);
        snprintf(index, sizeof index, "item*%lld+blockIdx.y", (long long)parts->chunks);
        if (parts->chunks > 1) store_partial(c, parts, o, index, name);
        else cuda_put_result(c, o, name);
    }
    printer_close_loops(p, 1);
}

// A warp joins the chunks of a result, its lanes side by side.
static void join_along(CudaPrinter *c, const Partials *parts, int team) {
    Printer *p = &c->p;
    Partials joined = *parts;
    joined.chunks = 1;
    leave_to_last(c, parts);
    printer_line(p, team == CUDA_WARP ? "if (inside) {" : "if (threadIdx.x < 32) {");
    p->indent++;
    cuda_put_accumulators(c, 1);
    printer_line(p, "for (int q = threadIdx.x %% 32; q < %lld; q += 32) {", (long long)parts->chunks);
    EACH_REDUCTION(p->nest, o) {
        const Output *output = &p->nest->outputs.data[o];
        printer_line(p, " a%zu = lv_join_%s(a%zu, ((const %s *)(scratch + %lld))[item*%lld+q]);", o, cuda_joiner(output->op), o,
                     cuda_accumulator_type(p->nest, output), (long long)parts->offset[o], (long long)parts->chunks);
    }
    printer_line(p, "}");
    cuda_join_team(c, CUDA_WARP);
    put_results_of_team(c, &joined, "threadIdx.x % 32 == 0");
    printer_close_loops(p, 1);
}

static void reduce_along(CudaPrinter *c, const Nest *nest, NestShape s) {
    Printer *p = &c->p;
    p->lanes = s.axes > s.kept ? nest_lanes(p, nest) : 1;  // where nothing but extents of 1 is reduced, the innermost axis is kept
    int64_t steps = s.reduced / p->lanes;
    int team = steps <= 8 ? 1 : steps < 1024 || s.items >= 4096 ? CUDA_WARP : CUDA_BLOCK;
    int64_t teams = CUDA_BLOCK / team, blocks = (s.items + teams - 1) / teams;
    Partials parts = {.s = s, .chunks = 1, .length = steps};
    if (team > 1) cut_chunks(c, nest, &parts, blocks, steps, 4 * team);
    cuda_begin(c);
    if (team == CUDA_BLOCK) {
        printer_line(p, "const LvIndex item = blockIdx.x;");
        if (parts.chunks > 1) printer_line(p, "const bool inside = true;");
    } else {
        printer_line(p, "const LvIndex item = (LvIndex)blockIdx.x * %lld + threadIdx.x / %d;", (long long)teams, team);
        printer_line(p, parts.chunks > 1 ? "const bool inside = item < %lld;" : "if (item >= %lld) break;", (long long)s.items);
    }
    if (s.kept > p->base) cuda_put_axes(c, p->base, s.kept, "item");
    printer_depths(p, 0, s.kept);
    cuda_put_accumulators(c, 1);
    const char *first = team == 1 ? "0" : team == CUDA_WARP ? "threadIdx.x % 32" : "threadIdx.x";
    if (parts.chunks > 1) {
        printer_line(p, "const LvIndex end = !inside ? 0 : min((long long)%lld, ((long long)blockIdx.y + 1) * %lld);", (long long)steps,
                     (long long)parts.length);
        printer_line(p, "#pragma unroll 4\n for (LvIndex r = (LvIndex)blockIdx.y * %lld + %s; r < end; r += %d) {", (long long)parts.length, first,
                     team);
    } else {
        printer_line(p, "#pragma unroll 4\n for (LvIndex r = %s; r < %lld; r += %d) {", first, (long long)steps, team);
    }
    p->indent++;
    cuda_put_axes(c, s.kept, s.axes, "r");
    printer_depths(p, s.kept + 1, s.axes);
    cuda_accumulate(c, "");
    printer_close_loops(p, 1);
    p->lanes = 1;
    if (team == CUDA_BLOCK) cuda_put_joined(c);
    cuda_join_team(c, team);
    put_results_of_team(c, &parts, team == 1 ? "true" : team == CUDA_WARP ? "threadIdx.x % 32 == 0" : "threadIdx.x == 0");
    if (parts.chunks > 1) join_along(c, &parts, team);
    finish(c, &parts, blocks);
}

// ---- the innermost axis kept

enum { MAX_ACCUMULATORS = 8, MAX_LOADED = 88 };  // of a thread: two registers each, and each wants several loads under way; values read

// A thread joins the chunks of its lanes of the innermost axis.
static void join_across(CudaPrinter *c, const Partials *parts) {
    Printer *p = &c->p;
    leave_to_last(c, parts);
    printer_line(p, "if (y == 0 && inside) LV_LANES(%d) {", p->lanes);
    p->indent++;
    EACH_REDUCTION(p->nest, o) {
        const Output *output = &p->nest->outputs.data[o];
        const char *type = cuda_accumulator_type(p->nest, output), *joiner = cuda_joiner(output->op);
        printer_line(p, "{");
        p->indent++;
        printer_line(p, "const %s *part = (const %s *)(scratch + %lld) + (LvIndex)item*%lld+i%d+l;", type, type, (long long)parts->offset[o],
                     (long long)(parts->chunks * parts->s.width), parts->s.axes - 1);
        printer_line(p, "%s all = part[0];", type);
        printer_line(p, "#pragma unroll 4\n for (int q = 1; q < %lld; q++) all = lv_join_%s(all, part[q*%lld]);", (long long)parts->chunks, joiner,
                     (long long)parts->s.width);
        cuda_put_result(c, o, "all");
        printer_close_loops(p, 1);
    }
    printer_close_loops(p, 1);
}

static int64_t factor_of(const Affine *index, int var) {
    for (int i = 0; i < index->count; i++)
        if (index->term[i].var == var) return index->term[i].factor;
    return 0;
}

// Extent of the last of the outer kept axes where it lies directly outside the innermost one, as groups of channels do: then threads lie
// along both, or of 128 channels in groups of 4 each would read 8 bytes far from the others'. Else 1.
static int64_t outer_run(const Printer *p, const Nest *nest, NestShape s) {
    if (s.kept == p->base) return 1;
    int outer = nest->axes[s.kept - 1].var, inner = nest->axes[s.axes - 1].var, found = 0;
    for (size_t i = 0; i < nest->body.count; i++) {
        const Instr *instr = &nest->body.data[i];
        if (instr->kind != INSTR_LOAD || !p->live[i] || factor_of(&instr->index, inner) != 1) continue;
        if (factor_of(&instr->index, outer) != s.width) return 1;
        found++;
    }
    return found ? printer_axis_extent(nest, s.kept - 1) : 1;
}

static int loads_in_lanes(const Printer *p) {
    int loads = 0;
    for (size_t i = 0; i < p->nest->body.count; i++) {
        const Instr *instr = &p->nest->body.data[i];
        loads += instr->kind == INSTR_LOAD && p->live[i] && printer_in_lanes(p, instr->depth);
    }
    return loads;
}

static void reduce_across(CudaPrinter *c, const Nest *nest, NestShape s) {
    Printer *p = &c->p;
    p->lanes = nest_lanes(p, nest);
    int sums = 0;
    EACH_REDUCTION(nest, o) sums++;
    while (p->lanes > 1 && (p->lanes * sums > MAX_ACCUMULATORS || p->lanes * loads_in_lanes(p) > MAX_LOADED)) p->lanes /= 2;
    int64_t run = outer_run(p, nest, s), pieces = s.width / p->lanes, places = run * pieces;  // along the innermost axis, and the run
    int along = 1;
    while (along < 32 && along < places) along *= 2;
    int rows = CUDA_BLOCK / along;
    int64_t across = (places + along - 1) / along, blocks = s.items / run * across;
    Partials parts = {.s = s, .chunks = 1, .length = s.reduced};
    cut_chunks(c, nest, &parts, blocks, s.reduced, 4 * rows);
    int lanes = p->lanes, inner = s.axes - 1;
    cuda_begin(c);
    printer_line(p, "const int x = threadIdx.x %% %d, y = threadIdx.x / %d;", along, along);
    printer_line(p, "const bool inside = blockIdx.x%%%lld * %d + x < %lld;", (long long)across, along, (long long)places);
    printer_line(p, "const LvIndex place = inside ? blockIdx.x%%%lld * %d + x : 0;", (long long)across, along);
    printer_line(p, "const LvIndex item = blockIdx.x/%lld*%lld + place/%lld, i%d = place%%%lld*%d;", (long long)across, (long long)run,
                 (long long)pieces, inner, (long long)pieces, lanes);
    if (s.kept > p->base) cuda_put_axes(c, p->base, s.kept, "item");
    printer_depths(p, 0, s.kept);
    cuda_put_accumulators(c, lanes);
    printer_line(p, "const LvIndex end = !inside ? 0 : min((long long)%lld, ((long long)blockIdx.y + 1) * %lld);", (long long)s.reduced,
                 (long long)parts.length);
    printer_line(p, "#pragma unroll 4\n for (LvIndex r = (LvIndex)blockIdx.y * %lld + y; r < end; r += %d) {", (long long)parts.length, rows);
    p->indent++;
    p->lanes = 1;
    cuda_put_axes(c, s.kept, inner, "r");
    p->lanes = lanes;
    printer_depths(p, s.kept + 1, s.axes);
    cuda_accumulate(c, lanes > 1 ? "[l]" : "");
    printer_close_loops(p, 1);
    int warps = CUDA_BLOCK / CUDA_WARP;
    int64_t shared = 0;
    EACH_REDUCTION(nest, o) {
        int64_t bytes = cuda_accumulator_bytes(nest, &nest->outputs.data[o]) * warps * along * lanes;
        if (bytes > shared) shared = bytes;
    }
    printer_line(p, "__shared__ __align__(16) unsigned char shared[%lld];", (long long)shared);
    bool again = false;
    EACH_REDUCTION(nest, o) {
        const Output *output = &nest->outputs.data[o];
        const char *type = cuda_accumulator_type(nest, output), *joiner = cuda_joiner(output->op);
        char name[32], index[96];
        if (again) printer_line(p, "__syncthreads();");
        again = true;
        printer_line(p, "{");
        p->indent++;
        printer_line(p, "%s (*w)[%d] = (%s (*)[%d])shared;", type, along * lanes, type, along * lanes);
        const char *lane = lanes > 1 ? "[l]" : "";
        if (along < CUDA_WARP) {  // the rows of a warp, then the warps: rows in one loop would be as many as 256, and compilers unroll it
            printer_line(p, "#pragma unroll\n for (int n = 16; n >= %d; n /= 2) LV_LANES(%d) a%zu%s = lv_join_%s(a%zu%s, lv_shuffle(a%zu%s, n));", along,
                         lanes, o, lane, joiner, o, lane, o, lane);
        }
        printer_line(p, "if (threadIdx.x %% 32 < %d) LV_LANES(%d) w[threadIdx.x / 32][x*%d+l] = a%zu%s;", along, lanes, lanes, o, lane);
        printer_line(p, "__syncthreads();");
        printer_line(p, "if (y == 0 && inside) LV_LANES(%d) {", lanes);
        p->indent++;
        printer_line(p, "%s all = w[0][x*%d+l];", type, lanes);
        printer_line(p, "for (int q = 1; q < %d; q++) all = lv_join_%s(all, w[q][x*%d+l]);", warps, joiner, lanes);
        snprintf(name, sizeof name, "all");
        snprintf(index, sizeof index, "((LvIndex)item*%lld+blockIdx.y)*%lld+i%d+l", (long long)parts.chunks, (long long)s.width, inner);
        if (parts.chunks > 1) store_partial(c, &parts, o, index, name);
        else cuda_put_result(c, o, name);
        printer_close_loops(p, 2);
    }
    if (parts.chunks > 1) join_across(c, &parts);
    finish(c, &parts, blocks);
}

void cuda_reduction(CudaPrinter *c, const Nest *nest) {
    NestShape s = nest_shape(nest, c->p.base);
    if (s.items == 0 || s.width == 0) return;  // no results
    if (s.inner_kept) reduce_across(c, nest, s);
    else reduce_along(c, nest, s);
}
