// Kernels whose nests follow each other without leaving the chip: row-wise kernels, in which a team of threads does everything to a
// row, and batches of small nests, which one block does: alone, or as the tail of a kernel whose results they read, that block which
// finishes last. A team is a warp (several to a block) where rows are short, else a block.
// Between nests the team waits for itself, which also shows each thread what the others wrote. Locals are in shared memory, one
// set a team, or in the scratch memory where that is too small.
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
    cuda_accumulate(b->c, false);
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

static void locals(Block *b, int teams, bool in_scratch) {
    Printer *p = &b->c->p;
    const Kernel *kernel = p->kernel;
    if (!b->local) return;
    if (in_scratch) {
        printer_line(p, "char *local = scratch + (long long)%s * %lld;", kernel->shared ? "i0" : "0", (long long)b->local);
    } else {
        printer_line(p, "LV_SHARED(char, locals);");
        printer_line(p, "char *local = locals + %s * %lld;", teams > 1 ? "threadIdx.x / 32" : "0", (long long)b->local);
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

static void put_nests(Block *b, size_t first) {
    Printer *p = &b->c->p;
    for (size_t i = first; i < p->kernel->nests.count; i++) {
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
    locals(&b, 1, in_scratch);
    put_nests(&b, (size_t)p->kernel->tail);
    *p = outer;
    return in_scratch ? 0 : (int)b.local;
}

void cuda_block_kernel(CudaPrinter *c) {
    Printer *p = &c->p;
    const Kernel *kernel = p->kernel;
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
    locals(&b, teams, in_scratch);
    put_nests(&b, 0);
    cuda_end(c, (rows + teams - 1) / teams, 1, CUDA_BLOCK, in_scratch ? 0 : (int)(b.local * teams));
}
