// Pieces that all nests are printed from: how a nest is walked, several elements at once, numbers into axes, functions.
//
// Threads walk the innermost axis side by side, so that a warp's accesses are coalesced; a thread takes several neighbouring
// elements of it where loads and stores of 16 bytes come of that. A number is taken apart into axes by divisions by constants,
// once a thread or once a turn: multiplications and shifts after the compiler has been over them.
#include "codegen/cuda/nests.h"

#include <stdio.h>
#include <string.h>

#include "codegen/cuda/templates.h"
#include "codegen/expression.h"

NestShape nest_shape(const Nest *nest, int base) {
    NestShape s = {.axes = nest->axis_count, .items = 1, .reduced = 1, .width = 1};
    s.kept = base;
    while (s.kept < s.axes && !nest->axes[s.kept].reduced) s.items *= printer_axis_extent(nest, s.kept++);
    if (s.kept == s.axes) return s;
    s.inner_kept = !nest->axes[s.axes - 1].reduced;
    if (s.inner_kept) s.width = printer_axis_extent(nest, s.axes - 1);
    for (int i = s.kept; i < s.axes - s.inner_kept; i++) s.reduced *= printer_axis_extent(nest, i);
    return s;
}

// ---- several elements at once

// Is buffer[index] for the lanes of the innermost axis one aligned piece of memory?
static bool is_piece(const Nest *nest, const Buffer *buffer, const Affine *index, int lanes) {
    int inner = nest->axes[nest->axis_count - 1].var;
    bool along = false;
    if (index->constant % lanes || buffer->offset % lanes) return false;
    for (int i = 0; i < index->count; i++) {
        int var = index->term[i].var;
        Affine own = affine_var(var);
        if (var == inner) {
            if (index->term[i].factor != 1) return false;
            along = true;
        } else if (nest_affine_depth(nest, &own) == nest->axis_count || index->term[i].factor % lanes) {
            return false;
        }
    }
    return along;
}

static bool has_vector(LvDType dtype, int lanes) {
    return cuda_is_small_float(dtype) || (dtype == LV_I32 && lanes <= 4);
}

// Of the functions of the prelude that load and store elements of that type.
static const char *infix(LvDType dtype) { return dtype == LV_BF16 ? "_bf16_" : dtype == LV_F16 ? "_f16_" : ""; }

static bool region_in_lanes(const Nest *nest, int region) {
    for (; region >= 0; region = nest->regions.data[region].parent) {
        if (nest_affine_depth(nest, &nest->regions.data[region].index) == nest->axis_count) return true;
    }
    return false;
}

static bool loads_piece(const Printer *p, const Nest *nest, const Instr *instr, int lanes) {
    const Buffer *buffer = &p->kernel->buffers.data[instr->buffer];
    return has_vector(buffer->dtype, lanes) && !region_in_lanes(nest, instr->region) && is_piece(nest, buffer, &instr->index, lanes);
}

static bool stores_piece(const Printer *p, const Nest *nest, const Output *output, int lanes) {
    const Buffer *buffer = &p->kernel->buffers.data[output->buffer];
    return output->kind == OUTPUT_STORE && has_vector(buffer->dtype, lanes) && is_piece(nest, buffer, &output->index, lanes);
}

// Of accesses that go along the innermost axis, those that become pieces, less those that do not.
static int gain(const Printer *p, const Nest *nest, int lanes) {
    int sum = 0, inner = nest->axes[nest->axis_count - 1].var;
    for (size_t i = 0; i < nest->body.count; i++) {
        const Instr *instr = &nest->body.data[i];
        if (!p->live[i] || instr->kind != INSTR_LOAD || instr->depth != nest->axis_count) continue;
        if (loads_piece(p, nest, instr, lanes)) sum += lv_dtype_size(p->kernel->buffers.data[instr->buffer].dtype) * lanes > 16 ? -1 : 1;
        else if (affine_factor(&instr->index, inner) == 1) sum--;
    }
    for (size_t i = 0; i < nest->outputs.count; i++) {
        const Output *output = &nest->outputs.data[i];
        if (output->kind != OUTPUT_STORE) continue;
        if (stores_piece(p, nest, output, lanes)) sum += lv_dtype_size(p->kernel->buffers.data[output->buffer].dtype) * lanes > 16 ? -1 : 1;
        else if (affine_factor(&output->index, inner) == 1) sum--;
    }
    return sum;
}

int nest_lanes(const Printer *p, const Nest *nest) {
    if (nest->axis_count == 0) return 1;
    int64_t extent = printer_axis_extent(nest, nest->axis_count - 1);
    for (int lanes = 8; lanes > 1; lanes /= 2) {
        if (extent % lanes == 0 && gain(p, nest, lanes) > 0) return lanes;
    }
    return 1;
}

static void put_piece_index(Printer *p, const Affine *index, LvText *out) {
    int lanes = p->lanes;
    p->lanes = 1;  // the first lane's
    printer_affine(p, index, out);
    p->lanes = lanes;
}

bool cuda_vector_load(Printer *p, const Instr *instr, int name) {
    if (!loads_piece(p, p->nest, instr, p->lanes)) return false;
    LvText index = {0}, region = {0};
    put_piece_index(p, &instr->index, &index);
    printer_line(p, "%s v%d[%d];", c_type(instr->dtype), name, p->lanes);
    const char *narrow = infix(p->kernel->buffers.data[instr->buffer].dtype);
    if (instr->region >= 0) {
        printer_put_region(p, instr->region, true, &region);
        printer_line(p, "LV_LANES(%d) v%d[l] = 0;", p->lanes, name);
        printer_line(p, "if (%s) lv_load%s%d(v%d, b%d+%s);", lv_text_get(&region), narrow, p->lanes, name, instr->buffer, lv_text_get(&index));
    } else {
        printer_line(p, "lv_load%s%d(v%d, b%d+%s);", narrow, p->lanes, name, instr->buffer, lv_text_get(&index));
    }
    lv_text_free(&index), lv_text_free(&region);
    return true;
}

// ---- axes and stores

void cuda_put_axes(CudaPrinter *c, int from, int to, const char *number) {
    Printer *p = &c->p;
    int64_t below = 1;
    for (int i = to - 1; i >= from; i--) {
        int64_t extent = printer_axis_extent(p->nest, i), step = 1;
        if (i == p->nest->axis_count - 1 && p->lanes > 1) step = p->lanes, extent /= step;
        LvText text = {0};
        lv_text_puts(&text, number);
        if (below > 1) lv_text_printf(&text, "/%lld", (long long)below);
        if (i > from) lv_text_printf(&text, "%%%lld", (long long)extent);
        if (step > 1) lv_text_printf(&text, "*%lld", (long long)step);
        printer_line(p, "const LvIndex i%d = %s;", i, lv_text_get(&text));
        lv_text_free(&text);
        below *= extent;
    }
}

void cuda_store(CudaPrinter *c, const Output *output, const char *value) {
    LvText text = {0};
    printer_affine(&c->p, &output->index, &text);
    const char *convert = c_store_conversion(c->p.kernel->buffers.data[output->buffer].dtype);
    printer_line(&c->p, "b%d[%s] = %s%s%s;", output->buffer, lv_text_get(&text), convert, value, *convert ? ")" : "");
    lv_text_free(&text);
}

static void store_piece(CudaPrinter *c, const Output *output, int value) {
    Printer *p = &c->p;
    LvText index = {0};
    put_piece_index(p, &output->index, &index);
    LvDType dtype = p->kernel->buffers.data[output->buffer].dtype;
    printer_line(p, "lv_store%s%d(b%d+%s, v%d);", infix(dtype), p->lanes, output->buffer, lv_text_get(&index), value);
    lv_text_free(&index);
}

void cuda_stores(CudaPrinter *c) {
    Printer *p = &c->p;
    for (size_t i = 0; i < p->nest->outputs.count; i++) {
        const Output *output = &p->nest->outputs.data[i];
        if (output->kind != OUTPUT_STORE) continue;
        const Instr *instr = &p->nest->body.data[output->value];
        bool lanes = p->lanes > 1, own = printer_in_lanes(p, instr->depth);
        bool fits = own && (instr->dtype == LV_I32) == (p->kernel->buffers.data[output->buffer].dtype == LV_I32) && instr->dtype != LV_F64;
        char value[16];
        printer_value(p, output->value, value);
        if (lanes && fits && stores_piece(p, p->nest, output, p->lanes)) {
            store_piece(c, output, p->name[output->value]);
            continue;
        }
        if (lanes) printer_line(p, "LV_LANES(%d)", p->lanes);
        cuda_store(c, output, value);
    }
}

// ---- functions

void cuda_begin(CudaPrinter *c) {
    c->p.out = &c->body;
    c->body.length = c->after.length = 0;
    c->p.indent = 1;
}

void cuda_begin_after(CudaPrinter *c) {
    c->p.out = &c->after;
}

static void put_parameters(CudaPrinter *c, LvText *out) {
    const Kernel *kernel = c->p.kernel;
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        const Buffer *b = &kernel->buffers.data[i];
        if (b->local) continue;
        const char *promise = b->may_share || (b->written && b->read) ? "" : "__restrict__ ";
        lv_text_printf(out, "%s%s *%sb%zu, ", b->written ? "" : "const ", c_storage_type(b->dtype), promise, i);
    }
    lv_text_puts(out, "char *scratch");
    for (size_t i = 0; i < c->made->scalars.count; i++) lv_text_printf(out, ", long long s%zu", i);
}

// Functions are gathered with a mark where their parameters go: each takes all the scalars of the kernel.
#define PARAMETERS "\001"

void cuda_end(CudaPrinter *c, int64_t blocks, int64_t layers, int threads, int shared) {
    const char *index = c->wide ? "long long" : "int";
    // of few blocks none shares a multiprocessor with another: left alone the compiler spills for that, too
    bool alone = blocks * (layers > 0 ? layers : 1) <= CUDA_BLOCKS_WANTED / 2;
    LvText *out = &c->text;
    lv_text_printf(out, "extern \"C\" __global__ void __launch_bounds__(%d%s) %s_%d(" PARAMETERS ")\n{\n typedef %s LvIndex;\n", threads,
                   alone ? ", 1" : c->reduces ? ", 2" : "", c->name, c->functions++, index);
    if (layers > 1 || c->after.length) lv_text_puts(out, " __shared__ int is_last;\n");
    lv_text_puts(out, " do {\n");
    lv_text_append(out, c->body.data, c->body.length);
    lv_text_puts(out, " } while (0);\n");
    lv_text_append(out, lv_text_get(&c->after), c->after.length);
    lv_text_puts(out, "}\n");
    LvLaunch launch = {{(int32_t)(blocks > 0 ? blocks : 1), (int32_t)(layers > 0 ? layers : 1), 1}, threads, shared};
    lv_vec_push(&c->made->launches, launch);
}

// ---- kernels

// The nests of a kernel that do not wait for each other (parts of a concatenation, weights in new layouts), one launch for all: each has
// blocks of its own.
static void put_points(CudaPrinter *c, const Nest *nest, int64_t first_block, bool flat) {
    Printer *p = &c->p;
    int axes = nest->axis_count;
    int64_t items = nest_points(nest) / p->lanes;
    LvText block = {0};
    if (first_block) lv_text_printf(&block, "(blockIdx.x-%lld)", (long long)first_block);
    else lv_text_puts(&block, "blockIdx.x");
    if (flat) {  // the extent is not in the text: kernels over flat tensors of any size are one
        lv_vec_push(p->scalars, (LvScalar){.i = items});
        printer_line(p, "const long long t = (long long)%s * %d + threadIdx.x;", lv_text_get(&block), CUDA_BLOCK);
        printer_line(p, "if (t >= s%zu) break;", p->scalars->count - 1);
        printer_line(p, "const LvIndex i0 = (LvIndex)t%s;", p->lanes == 8 ? "*8" : p->lanes == 4 ? "*4" : p->lanes == 2 ? "*2" : "");
    } else {
        printer_line(p, "const LvIndex t = (LvIndex)%s * %d + threadIdx.x;", lv_text_get(&block), CUDA_BLOCK);
        printer_line(p, "if (t >= %lld) break;", (long long)items);
        cuda_put_axes(c, 0, axes, "t");
    }
    printer_depths(p, 0, axes);
    cuda_stores(c);
    lv_text_free(&block);
}

static void print_points(CudaPrinter *c) {
    Printer *p = &c->p;
    const Kernel *kernel = p->kernel;
    int64_t blocks = 0;
    size_t count = kernel->nests.count;
    cuda_begin(c);
    for (size_t i = 0; i < count; i++) {
        const Nest *nest = &kernel->nests.data[i];
        if (nest_points(nest) == 0) continue;
        printer_enter(p, nest);
        p->lanes = nest_lanes(p, nest);
        int64_t own = (nest_points(nest) / p->lanes + CUDA_BLOCK - 1) / CUDA_BLOCK;
        if (count > 1) {
            printer_line(p, "if (blockIdx.x < %lld) {", (long long)(blocks + own));
            p->indent++;
        }
        put_points(c, nest, blocks, count == 1 && nest->axis_count == 1);
        if (count > 1) {
            printer_line(p, "break;");
            printer_close_loops(p, 1);
        }
        printer_leave(p);
        p->lanes = 1;
        blocks += own;
    }
    if (blocks) cuda_end(c, blocks, 1, CUDA_BLOCK, 0);
}

// Nests with reductions: a launch each.
static void print_nests(CudaPrinter *c) {
    const Kernel *kernel = c->p.kernel;
    size_t count = kernel->tail ? (size_t)kernel->tail : kernel->nests.count;
    for (size_t i = 0; i < count; i++) {
        printer_enter(&c->p, &kernel->nests.data[i]);
        c->reduces = true;
        cuda_reduction(c, &kernel->nests.data[i]);
        printer_leave(&c->p);
        c->p.lanes = 1;
    }
}

static bool all_points(const Kernel *kernel) {
    for (size_t i = 0; i < kernel->nests.count; i++) {
        if (printer_reduces(&kernel->nests.data[i])) return false;
    }
    return true;
}

static bool needs_wide(const Kernel *kernel) {
    const int64_t most = INT32_MAX - 65536;  // threads beyond the last element have numbers too
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (kernel->buffers.data[i].elements > most) return true;
    }
    for (size_t i = 0; i < kernel->nests.count; i++) {
        if (nest_points(&kernel->nests.data[i]) > most) return true;
    }
    return false;
}

static void put_functions(CudaPrinter *c, LvText *out) {
    LvText parameters = {0};
    put_parameters(c, &parameters);
    lv_text_printf(out, "// %s\n", c->name);
    for (const char *at = lv_text_get(&c->text); *at;) {
        size_t plain = strcspn(at, PARAMETERS);
        lv_text_append(out, at, plain);
        at += plain;
        if (*at) lv_text_puts(out, lv_text_get(&parameters)), at++;
    }
    lv_text_free(&parameters);
}

void cuda_print_kernel(const Kernel *kernel, const char *name, LvText *out, CudaKernel *made) {
    ScalarList scalars = {0};
    CudaPrinter c = {.made = made, .name = name, .wide = needs_wide(kernel)};
    c.p = (Printer){.kernel = kernel, .out = &c.body, .scalars = &scalars, .cuda = true, .put_vector_load = cuda_vector_load};
    if (kernel->shared || kernel->serial) cuda_block_kernel(&c);
    else if (all_points(kernel)) print_points(&c);
    else print_nests(&c);
    if (!c.functions) {  // nothing to write
        cuda_begin(&c);
        cuda_end(&c, 1, 1, CUDA_WARP, 0);
    }
    for (size_t i = 0; i < scalars.count; i++) lv_vec_push(&made->scalars, scalars.data[i]);
    put_functions(&c, out);
    lv_vec_free(&scalars);
    lv_text_free(&c.body), lv_text_free(&c.after), lv_text_free(&c.text);
}

void cuda_kernel_free(CudaKernel *kernel) {
    lv_vec_free(&kernel->scalars);
    lv_vec_free(&kernel->launches);
    kernel->scratch = 0;
}
