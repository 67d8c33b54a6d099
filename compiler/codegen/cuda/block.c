// Kernels whose nests follow each other without leaving the chip: row-wise kernels, in which a team of threads does everything to a
// row, and batches of small nests, which one block does: alone, or as the tail of a kernel whose results they read, that block which
// finishes last. A team is a warp (several to a block) where rows are short, else a block.
// Between nests the team waits for itself, which also shows each thread what the others wrote. Locals are in shared memory, one
// set a team, or in the scratch memory where that is too small.
//
// Where the last nest folds the rows into columns a block does tile after tile of rows: its warps do all else, a row each, then its
// threads lie along the columns, go over the tile's rows and keep their sums in registers. What the blocks have in the end is joined
// by a launch of its own, always in the same order.
#include <stdio.h>

#include "codegen/cuda/nests.h"
#include "codegen/expression.h"

enum { SHORT_ROW = 1024, ALIGNMENT = 16 };

typedef struct {
    CudaPrinter *c;
    int team;          // threads: 32 or CUDA_BLOCK
    int64_t local;     // bytes of a team's locals
    bool brief;        // one block does it all: loops stay short, so that the registers of what goes before it are not exceeded
} Block;

static int64_t local_bytes(const Buffer *b) {
    int64_t elements = b->elements > 0 ? b->elements : 1;
    return (elements * (int64_t)lv_dtype_size(b->dtype) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void wait(Block *b) {
    printer_line(&b->c->p, b->team == CUDA_WARP ? "__syncwarp();" : "__syncthreads();");
}

static void open_turns(Block *b, const char *name, int64_t count, const char *first, int step) {
    if (b->brief) printer_line(&b->c->p, "#pragma unroll %d", *name == 't' ? 1 : 4);
    printer_line(&b->c->p, "for (LvIndex %s = %s; %s < %lld; %s += %d) {", name, first, name, (long long)count, name, step);
    b->c->p.indent++;
}

static void points(Block *b, const Nest *nest) {
    Printer *p = &b->c->p;
    int64_t total = 1;
    p->lanes = nest->axis_count > p->base ? nest_lanes(p, nest) : 1;
    for (int i = p->base; i < nest->axis_count; i++) total *= printer_axis_extent(nest, i);
    printer_depths(p, 0, p->base);
    open_turns(b, "t", total / p->lanes, "lane", b->team);
    if (nest->axis_count > p->base) cuda_put_axes(b->c, p->base, nest->axis_count, "t");
    printer_depths(p, p->base + 1, nest->axis_count);
    cuda_stores(b->c);
    printer_close_loops(p, 1);
    p->lanes = 1;
}

static void put_element(Block *b, const NestShape *s) {
    Printer *p = &b->c->p;
    if (s->inner_kept) {
        printer_line(p, "const LvIndex item = t/%lld, i%d = t%%%lld;", (long long)s->width, s->axes - 1, (long long)s->width);
    } else {
        printer_line(p, "const LvIndex item = t;");
    }
    if (s->kept > p->base) cuda_put_axes(b->c, p->base, s->kept, "item");
    printer_depths(p, p->base + 1, s->kept);
    cuda_put_accumulators(b->c, 1);
}

static void put_results(Block *b) {
    EACH_REDUCTION(b->c->p.nest, o) {
        char accumulator[32];
        snprintf(accumulator, sizeof accumulator, "a%zu", o);
        cuda_put_result(b->c, o, accumulator);
    }
}

// Each result by the whole team, or by a thread of its own where there are enough of them.
static bool is_shared_out(const Block *b, const NestShape *s) { return s->items * s->width < b->team / 4 && s->reduced > 8; }

static void reduction(Block *b, const Nest *nest) {
    Printer *p = &b->c->p;
    NestShape s = nest_shape(nest, p->base);
    int64_t results = s.items * s.width;
    bool together = is_shared_out(b, &s);
    printer_depths(p, 0, p->base);
    open_turns(b, "t", results, together ? "0" : "lane", together ? 1 : b->team);
    put_element(b, &s);
    p->lanes = together && !s.inner_kept && s.axes > s.kept ? nest_lanes(p, nest) : 1;
    open_turns(b, "r", s.reduced / p->lanes, together ? "lane" : "0", together ? b->team : 1);
    if (s.axes > s.kept) cuda_put_axes(b->c, s.kept, s.axes - s.inner_kept, "r");
    printer_depths(p, s.kept + 1, s.axes);
    cuda_accumulate(b->c, "");
    printer_close_loops(p, 1);
    p->lanes = 1;
    if (together) {
        cuda_join_team(b->c, b->team);
        printer_line(p, "if (lane == 0) {");
        p->indent++;
        put_results(b);
        printer_close_loops(p, 1);
    } else {
        put_results(b);
    }
    printer_close_loops(p, 1);
}

// `team`: which set of the block's, an expression.
static void locals(Block *b, const char *team, bool in_scratch) {
    Printer *p = &b->c->p;
    const Kernel *kernel = p->kernel;
    if (!b->local) return;
    if (in_scratch) {
        printer_line(p, "char *local = scratch + (long long)%s * %lld;", kernel->shared ? "i0" : "0", (long long)b->local);
    } else {
        printer_line(p, "LV_SHARED(char, locals);");
        printer_line(p, "char *local = locals + %s * %lld;", team, (long long)b->local);
    }
    int64_t at = 0;
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        const Buffer *buffer = &kernel->buffers.data[i];
        if (!buffer->local) continue;
        printer_line(p, "%s *b%zu = (%s *)(local + %lld);", c_storage_type(buffer->dtype), i, c_storage_type(buffer->dtype), (long long)at);
        at += local_bytes(buffer);
    }
}

// Points of the longest nest's row.
static int64_t row_length(const Kernel *kernel) {
    int64_t longest = 0;
    for (size_t i = 0; i < kernel->nests.count; i++) {
        const Nest *nest = &kernel->nests.data[i];
        int64_t points_each = kernel->shared ? nest_points(nest) / printer_axis_extent(nest, 0) : nest_points(nest);
        if (points_each > longest) longest = points_each;
    }
    return longest;
}

// Does the block, somewhere, join what its threads have?
static bool joins(const Block *b) {
    const Kernel *kernel = b->c->p.kernel;
    for (size_t i = 0; i < kernel->nests.count; i++) {
        NestShape s = nest_shape(&kernel->nests.data[i], kernel->shared);
        if (printer_reduces(&kernel->nests.data[i]) && is_shared_out(b, &s)) return true;
    }
    return false;
}

static void put_nests(Block *b, size_t first, size_t end) {
    Printer *p = &b->c->p;
    for (size_t i = first; i < end; i++) {
        const Nest *nest = &p->kernel->nests.data[i];
        if (i > first) wait(b);
        printer_enter(p, nest);
        printer_line(p, "{");
        p->indent++;
        if (printer_reduces(nest)) reduction(b, nest);
        else points(b, nest);
        printer_close_loops(p, 1);
        printer_leave(p);
    }
}

static int64_t all_locals(const Kernel *kernel) {
    int64_t bytes = 0;
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (kernel->buffers.data[i].local) bytes += local_bytes(&kernel->buffers.data[i]);
    }
    return bytes;
}

int cuda_put_tail(CudaPrinter *c) {
    Printer *p = &c->p, outer = *p;  // the nest that is open stays so
    Block b = {.c = c, .team = CUDA_BLOCK, .local = all_locals(p->kernel), .brief = true};
    bool in_scratch = b.local > CUDA_MAX_LOCAL;
    if (in_scratch) cuda_need_scratch(c, b.local);
    printer_line(p, "const int lane = threadIdx.x;");
    if (joins(&b)) cuda_put_joined(c);
    locals(&b, "0", in_scratch);
    put_nests(&b, (size_t)p->kernel->tail, p->kernel->nests.count);
    *p = outer;
    return in_scratch ? 0 : (int)b.local;
}

// ---- rows folded into columns

enum { TILE = CUDA_BLOCK / CUDA_WARP };  // rows of a block at a time

typedef struct {
    const Nest *nest;
    int64_t rows, columns, blocks;
    int64_t pieces;      // of the columns, `lanes` of them each, one a thread at a time
    int lanes, turns;    // a thread has so many pieces
    int64_t offset[16];  // by output: where in the scratch memory the blocks leave their sums, [blocks][columns]
} Columns;

static Columns plan_columns(CudaPrinter *c, int64_t locals_in_scratch) {
    Printer *p = &c->p;
    Columns s = {.nest = &p->kernel->nests.data[p->kernel->columns], .rows = printer_axis_extent(&p->kernel->nests.data[0], 0)};
    int64_t tiles = (s.rows + TILE - 1) / TILE, bytes = (locals_in_scratch + 63) / 64 * 64;
    s.blocks = tiles < CUDA_BLOCKS_WANTED ? tiles : CUDA_BLOCKS_WANTED;
    s.columns = nest_points(s.nest) / s.rows;
    s.lanes = nest_lanes(p, s.nest);
    s.pieces = s.columns / s.lanes;
    s.turns = (int)((s.pieces + CUDA_BLOCK - 1) / CUDA_BLOCK);
    EACH_REDUCTION(s.nest, o) {
        s.offset[o] = bytes;
        bytes += (s.blocks * s.columns * cuda_accumulator_bytes(s.nest, &s.nest->outputs.data[o]) + 15) / 16 * 16;
    }
    cuda_need_scratch(c, bytes);
    return s;
}

// Opens a loop over a thread's pieces, t; u is how many it has had.
static void open_pieces(Printer *p, const Columns *s) {
    printer_line(p, "#pragma unroll\n for (int u = 0; u < %d; u++) {", s->turns);
    p->indent++;
    printer_line(p, "const LvIndex t = u*%d + threadIdx.x;", CUDA_BLOCK);
    if (s->pieces % CUDA_BLOCK) printer_line(p, "if (t >= %lld) break;", (long long)s->pieces);
}

static void put_place(const Columns *s, char place[32]) {
    if (s->turns * s->lanes == 1) *place = 0;
    else if (s->lanes == 1) snprintf(place, 32, "[u]");
    else snprintf(place, 32, "[u*%d+l]", s->lanes);
}

// The tile's rows, once all else has been done to them.
static void add_to_columns(Block *b, const Columns *s, bool in_scratch) {
    Printer *p = &b->c->p;
    char place[32];
    put_place(s, place);
    printer_line(p, "#pragma unroll 4\n for (int q = 0; q < %d; q++) {", TILE);
    p->indent++;
    printer_line(p, "const LvIndex i0 = tile*%d + q;", TILE);
    if (s->rows % TILE) printer_line(p, "if (i0 >= %lld) break;", (long long)s->rows);
    locals(b, "q", in_scratch);
    p->lanes = s->lanes;
    printer_depths(p, 0, p->base);
    open_pieces(p, s);
    cuda_put_axes(b->c, p->base, s->nest->axis_count, "t");
    printer_depths(p, p->base + 1, s->nest->axis_count);
    cuda_accumulate(b->c, place);
    printer_close_loops(p, 2);
}

static void leave_columns(Block *b, const Columns *s) {
    Printer *p = &b->c->p;
    char place[32];
    put_place(s, place);
    open_pieces(p, s);
    EACH_REDUCTION(s->nest, o)
        printer_line(p, "LV_LANES(%d) ((%s *)(scratch + %lld))[(LvIndex)blockIdx.x*%lld+t*%d+l] = a%zu%s;", s->lanes,
                     cuda_accumulator_type(s->nest, &s->nest->outputs.data[o]), (long long)s->offset[o], (long long)s->columns, s->lanes, o, place);
    printer_close_loops(p, 1);
}

// A launch: a warp's lanes lie along the columns, its block's warps share the blocks that left something.
static void join_columns(CudaPrinter *c, const Columns *s) {
    Printer *p = &c->p;
    cuda_begin(c);
    p->lanes = 1;
    printer_line(p, "const int x = threadIdx.x %% 32, y = threadIdx.x / 32;");
    printer_line(p, "const LvIndex t = blockIdx.x*32 + x;");
    printer_line(p, "__shared__ __align__(16) unsigned char shared[%d];", 16 * CUDA_BLOCK);
    EACH_REDUCTION(s->nest, o) {
        const Output *output = &s->nest->outputs.data[o];
        const char *type = cuda_accumulator_type(s->nest, output), *joiner = cuda_joiner(output->op);
        printer_line(p, "{");
        p->indent++;
        printer_line(p, "const %s *part = (const %s *)(scratch + %lld) + t;", type, type, (long long)s->offset[o]);
        printer_line(p, "%s (*w)[32] = (%s (*)[32])shared;", type, type);
        // a warp whose first would be behind the last block's takes that one, and is not asked
        printer_line(p, "if (t < %lld && y < %lld) {", (long long)s->columns, (long long)s->blocks);
        printer_line(p, " %s all = part[(LvIndex)y*%lld];", type, (long long)s->columns);
        printer_line(p, " #pragma unroll 4\n for (int q = y + %d; q < %lld; q += %d) all = lv_join_%s(all, part[(LvIndex)q*%lld]);", TILE,
                     (long long)s->blocks, TILE, joiner, (long long)s->columns);
        printer_line(p, " w[y][x] = all;");
        printer_line(p, "}");
        printer_line(p, "__syncthreads();");
        printer_line(p, "if (t < %lld && y == 0) {", (long long)s->columns);
        p->indent++;
        printer_line(p, "%s all = w[0][x];", type);
        printer_line(p, "for (int q = 1; q < %lld; q++) all = lv_join_%s(all, w[q][x]);", (long long)(s->blocks < TILE ? s->blocks : TILE), joiner);
        cuda_put_axes(c, p->base, s->nest->axis_count, "t");
        cuda_put_result(c, o, "all");
        printer_close_loops(p, 1);
        printer_line(p, "__syncthreads();");
        printer_close_loops(p, 1);
    }
    cuda_end(c, (s->columns + 31) / 32, 1, CUDA_BLOCK, 0);
}

static void columns_kernel(CudaPrinter *c) {
    Printer *p = &c->p;
    const Kernel *kernel = p->kernel;
    Block b = {.c = c, .team = CUDA_WARP, .local = all_locals(kernel)};
    bool in_scratch = b.local * TILE > CUDA_MAX_LOCAL;
    int64_t rows = printer_axis_extent(&kernel->nests.data[0], 0);
    printer_enter(p, &kernel->nests.data[kernel->columns]);
    Columns s = plan_columns(c, in_scratch ? rows * b.local : 0);
    c->reduces = true;
    cuda_begin(c);
    printer_line(p, "const int lane = threadIdx.x %% 32;");
    cuda_put_accumulators(c, s.turns * s.lanes);
    printer_leave(p);
    printer_line(p, "for (LvIndex tile = blockIdx.x; tile < %lld; tile += %lld) {", (long long)((rows + TILE - 1) / TILE), (long long)s.blocks);
    p->indent++;
    printer_line(p, "if (tile*%d + threadIdx.x / 32 < %lld) {", TILE, (long long)rows);
    p->indent++;
    printer_line(p, "const LvIndex i0 = tile*%d + threadIdx.x / 32;", TILE);
    locals(&b, "threadIdx.x / 32", in_scratch);
    put_nests(&b, 0, (size_t)kernel->columns);
    printer_close_loops(p, 1);
    printer_line(p, "__syncthreads();");
    printer_enter(p, s.nest);
    add_to_columns(&b, &s, in_scratch);
    printer_line(p, "__syncthreads();");
    printer_close_loops(p, 1);
    leave_columns(&b, &s);
    cuda_end(c, s.blocks, 1, CUDA_BLOCK, in_scratch ? 0 : (int)(b.local * TILE));
    join_columns(c, &s);
    printer_leave(p);
    p->lanes = 1;
}

void cuda_block_kernel(CudaPrinter *c) {
    Printer *p = &c->p;
    const Kernel *kernel = p->kernel;
    if (kernel->columns) {
        columns_kernel(c);
        return;
    }
    Block b = {.c = c, .team = CUDA_BLOCK, .brief = !kernel->shared};
    int64_t rows = kernel->shared ? printer_axis_extent(&kernel->nests.data[0], 0) : 1;
    if (rows == 0) return;
    b.local = all_locals(kernel);
    if (kernel->shared && row_length(kernel) <= SHORT_ROW && b.local * (CUDA_BLOCK / CUDA_WARP) <= CUDA_MAX_LOCAL / 2) b.team = CUDA_WARP;
    int teams = CUDA_BLOCK / b.team;
    bool in_scratch = b.local > CUDA_MAX_LOCAL;
    if (in_scratch) cuda_need_scratch(c, rows * b.local);
    cuda_begin(c);
    if (b.team == CUDA_WARP) {
        printer_line(p, "const int lane = threadIdx.x %% 32;");
        printer_line(p, "const LvIndex i0 = (LvIndex)blockIdx.x * %d + threadIdx.x / 32;", teams);
        printer_line(p, "if (i0 >= %lld) break;", (long long)rows);
    } else {
        printer_line(p, "const int lane = threadIdx.x;");
        if (joins(&b)) cuda_put_joined(c);
        if (kernel->shared) printer_line(p, "const LvIndex i0 = blockIdx.x;");
    }
    locals(&b, teams > 1 ? "threadIdx.x / 32" : "0", in_scratch);
    put_nests(&b, 0, kernel->nests.count);
    cuda_end(c, (rows + teams - 1) / teams, 1, CUDA_BLOCK, in_scratch ? 0 : (int)(b.local * teams));
}
