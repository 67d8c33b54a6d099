// Convolutions' kernels for GPUs against the reference evaluation, on whatever libcuda and libnvrtc are found: a GPU's, or the stand-ins
// that tests/cuda_sim/run puts on the path. Every direction, type and epilogue; shapes that divide by nothing; and some with every tile
// of which template_conv_tile.c may choose, split and whole. f32 also in TF32: the reference then has rounded operands, and sums
// as exact as f32's are asked for. Cases of the chosen tile run twice, over memory full of other things: the same bits; a residual
// once more in the result's place. `test_cuda_conv 'conv2d *'` runs some. Skipped where there is no device.
#include <fnmatch.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases.h"
#include "codegen/cuda/template_conv.h"
#include "cuda_device.h"
#include "ops/each.h"

// T is f32, bf16 or f16; R the type of the result, where it is not T: f32.
static const char *const shapes[] = {
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1]} T[2, 32, 9, 7] T[64, 32, 3, 3]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true} T[2, 32, 9, 7] T[64, 32, 3, 3] T[64]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, activation = 1} T[1, 24, 9, 7] T[40, 24, 3, 3] f32[40]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, activation = 2} T[1, 24, 9, 7] T[40, 24, 3, 3] T[40]",
    "conv2d {stride = [1, 1], pad = [0, 0, 0, 0], bias = true, residual = true, activation = 3, dtype = R} T[3, 16, 5, 4] T[24, 16, 1, 1] T[24] R[3, 24, 5, 4]",
    "conv2d {stride = [1, 1], pad = [0, 0, 0, 0], residual = true} T[1, 12, 5, 4] T[28, 12, 1, 1] T[1, 28, 5, 4]",
    "conv2d {stride = [2, 2], pad = [0, 1, 0, 1], dtype = R} T[2, 8, 10, 9] T[16, 8, 3, 3]",
    "conv2d {stride = [2, 2], pad = [1, 1, 1, 1], bias = true} T[1, 3, 12, 12] T[20, 3, 4, 4] T[20]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, dtype = R} T[1, 40, 7, 7] T[3, 40, 3, 3] T[3]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, residual = true, activation = 2} T[3, 5, 6, 7] T[7, 5, 3, 3] T[7] T[3, 7, 6, 7]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1]} T[1, 130, 5, 5] T[6, 130, 3, 3]",
    "conv2d {stride = [2, 3], pad = [2, 0, 1, 3], dtype = R} T[1, 2, 7, 5] T[2, 2, 5, 2]",
    "conv2d {stride = [2, 2], pad = [0, 0, 0, 0]} T[2, 12, 1, 1] T[4, 12, 1, 1]",
    "conv2d {stride = [1, 1], pad = [0, 0, 0, 0]} T[0, 2, 3, 3] T[3, 2, 2, 2]",
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, residual = true, dtype = R} T[2, 128, 6, 6] T[136, 128, 3, 3] T[136] R[2, 136, 6, 6]",
    "conv2d_data_grad {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 32, 9, 7]} T[2, 64, 9, 7] T[64, 32, 3, 3]",
    "conv2d_data_grad {stride = [1, 1], pad = [0, 0, 0, 0], shape = [1, 16, 5, 4], dtype = R} T[1, 24, 5, 4] T[24, 16, 1, 1]",
    "conv2d_data_grad {stride = [2, 2], pad = [0, 1, 0, 1], shape = [2, 8, 10, 9]} T[2, 16, 5, 4] T[16, 8, 3, 3]",
    "conv2d_data_grad {stride = [2, 2], pad = [1, 1, 1, 1], shape = [1, 3, 12, 12], dtype = R} T[1, 32, 6, 6] T[32, 3, 4, 4]",
    "conv2d_data_grad {stride = [1, 1], pad = [1, 1, 1, 1], shape = [1, 40, 7, 7]} T[1, 3, 7, 7] T[3, 40, 3, 3]",
    "conv2d_data_grad {stride = [1, 1], pad = [1, 1, 1, 1], shape = [3, 5, 6, 7]} T[3, 7, 6, 7] T[7, 5, 3, 3]",
    "conv2d_data_grad {stride = [2, 3], pad = [2, 0, 1, 3], shape = [1, 2, 7, 5], dtype = R} T[1, 2, 4, 2] T[2, 2, 5, 2]",
    "conv2d_data_grad {stride = [2, 2], pad = [0, 0, 0, 0], shape = [2, 12, 1, 1]} T[2, 4, 1, 1] T[4, 12, 1, 1]",
    "conv2d_data_grad {stride = [2, 2], pad = [0, 0, 0, 0], shape = [1, 8, 5, 6], dtype = R} T[1, 64, 3, 3] T[64, 8, 1, 1]",
    "conv2d_data_grad {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 128, 6, 6], dtype = R} T[2, 136, 6, 6] T[136, 128, 3, 3]",
    "conv2d_data_grad {stride = [2, 2], pad = [1, 1, 1, 1], shape = [2, 24, 10, 8], bias = true} T[2, 16, 5, 4] T[16, 24, 4, 4] T[24]",
    "conv2d_data_grad {stride = [2, 2], pad = [1, 1, 1, 1], shape = [1, 3, 6, 8], bias = true, residual = true, activation = 2, dtype = R} T[1, 40, 3, 4] T[40, 3, 4, 4] f32[3] R[1, 3, 6, 8]",
    "conv2d_data_grad {stride = [2, 3], pad = [2, 1, 1, 0], shape = [2, 20, 8, 9], residual = true, activation = 1} T[2, 12, 4, 3] T[12, 20, 3, 5] T[2, 20, 8, 9]",
    "conv2d_weight_grad {stride = [1, 1], pad = [1, 1, 1, 1], kernel = [3, 3], dtype = R} T[2, 32, 9, 7] T[2, 64, 9, 7]",
    "conv2d_weight_grad {stride = [1, 1], pad = [0, 0, 0, 0], kernel = [1, 1]} T[1, 16, 5, 4] T[1, 24, 5, 4]",
    "conv2d_weight_grad {stride = [2, 2], pad = [0, 1, 0, 1], kernel = [3, 3], dtype = R} T[2, 8, 10, 9] T[2, 16, 5, 4]",
    "conv2d_weight_grad {stride = [2, 2], pad = [1, 1, 1, 1], kernel = [4, 4]} T[1, 3, 12, 12] T[1, 20, 6, 6]",
    "conv2d_weight_grad {stride = [1, 1], pad = [1, 1, 1, 1], kernel = [3, 3]} T[3, 5, 6, 7] T[3, 7, 6, 7]",
    "conv2d_weight_grad {stride = [2, 3], pad = [2, 0, 1, 3], kernel = [5, 2], dtype = R} T[1, 2, 7, 5] T[1, 2, 4, 2]",
    "conv2d_weight_grad {stride = [1, 1], pad = [0, 0, 0, 0], kernel = [2, 2]} T[0, 2, 3, 3] T[0, 3, 2, 2]",
    "conv2d_weight_grad {stride = [1, 1], pad = [1, 1, 1, 1], kernel = [3, 3], dtype = R} T[1, 40, 5, 64] T[1, 136, 5, 64]",
};

// Which each tile gets: more than one of its rows and columns, none of which they fill.
static const char *const tile_shapes[] = {
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, residual = true, activation = 1, dtype = R} T[2, 32, 13, 12] T[136, 32, 3, 3] T[136] R[2, 136, 13, 12]",
    "conv2d_data_grad {stride = [2, 2], pad = [0, 1, 0, 1], shape = [2, 130, 26, 22], dtype = R} T[2, 24, 13, 11] T[24, 130, 3, 3]",
    "conv2d_data_grad {stride = [2, 2], pad = [1, 1, 1, 1], shape = [1, 136, 26, 24], bias = true, residual = true, dtype = R} T[1, 32, 13, 12] T[32, 136, 4, 4] T[136] R[1, 136, 26, 24]",
    "conv2d_weight_grad {stride = [1, 1], pad = [1, 1, 1, 1], kernel = [3, 3], dtype = R} T[1, 40, 5, 64] T[1, 136, 5, 64]",
    "conv2d {stride = [2, 2], pad = [0, 1, 0, 1], activation = 2, dtype = R} T[1, 3, 33, 26] T[129, 3, 3, 3]",
};

// Moments of the result, and sums of what is made of it with other maps and numbers (swish's and the rectifier's gradients before a
// normalization), by S strips where the tile is given. Columns that a tile does not fill, of every width of an access.
#define OF_SWISH \
    "each = \"sub x1 x2; mul x3 t0; add t1 x4; sigmoid t2; mul x0 t3; mul x0 t2; number 1; sub t6 t3; mul t3 t7; mul t5 t8; add t4 t9; mul t10 t0; " \
    "sum t10; sum t11\""
#define OF_RECTIFIER "each = \"number 0; gt x1 t0; select t1 x0 t0; pixel x1 5; sub x2 t3; mul t2 t4; sum t2; sum t5; sum x0\""
static const char *const strip_shapes[] = {
    "conv2d_moments {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, strips = 2} T[2, 32, 16, 8] T[40, 32, 3, 3] T[40]",
    "conv2d_moments {stride = [1, 1], pad = [0, 0, 0, 0], bias = true, residual = true, strips = 1} T[3, 16, 8, 8] T[24, 16, 1, 1] T[24] T[3, 24, 8, 8]",
    "conv2d_moments {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, dtype = R, strips = 4} T[1, 8, 32, 16] T[130, 8, 3, 3] f32[130]:100:200",
    "conv2d_moments {stride = [2, 2], pad = [0, 1, 0, 1], bias = true, activation = 2, strips = 1} T[2, 3, 16, 16] T[7, 3, 3, 3] T[7]",
    "conv2d_moments {stride = [1, 1], pad = [1, 1, 1, 1], residual = true, strips = 1} T[2, 256, 8, 8] T[72, 256, 3, 3] T[2, 72, 8, 8]",
    "conv2d_moments {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, strips = 2} T[1, 5, 8, 16] T[64, 5, 3, 3] f32[64]:9:10",
    "conv2d_data_grad_sums {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 40, 16, 8], strips = 2, " OF_SWISH "} T[2, 32, 16, 8] T[32, 40, 3, 3] T[2, 40, 16, 8] f32[2, 40] f32[2, 40] f32[2, 40]",
    "conv2d_data_grad_sums {stride = [1, 1], pad = [0, 0, 0, 0], shape = [3, 24, 8, 8], dtype = R, strips = 1, " OF_SWISH "} T[3, 16, 8, 8] T[16, 24, 1, 1] T[3, 24, 8, 8] T[24] f32[24] f32[3, 24]",
    "conv2d_data_grad_sums {stride = [1, 1], pad = [1, 1, 1, 1], shape = [1, 130, 32, 16], strips = 4, " OF_RECTIFIER "} T[1, 8, 32, 16] T[8, 130, 3, 3] T[1, 130, 32, 16] f32[130]",
    "conv2d_data_grad_sums {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 7, 8, 8], strips = 1, " OF_RECTIFIER "} T[2, 3, 8, 8] T[3, 7, 3, 3] T[2, 7, 8, 8] T[2, 7, 8, 8]",
    "conv2d_data_grad_sums {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 72, 8, 8], strips = 1, " OF_SWISH "} T[2, 256, 8, 8] T[256, 72, 3, 3] T[2, 72, 8, 8] f32[2, 72] f32[72] f32[72]",
};
enum { STRIP_PIXELS = 512 };
static const char *const strip_tile_shapes[] = {
    "conv2d_moments {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, residual = true, dtype = R, strips = S} T[2, 8, 16, 32] T[136, 8, 3, 3] T[136] R[2, 136, 16, 32]",
    "conv2d_moments {stride = [2, 2], pad = [0, 1, 0, 1], bias = true, strips = S} T[1, 12, 32, 64] T[40, 12, 3, 3] f32[40]:100:200",
    "conv2d_data_grad_sums {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 136, 16, 32], dtype = R, strips = S, " OF_SWISH "} T[2, 8, 16, 32] T[8, 136, 3, 3] R[2, 136, 16, 32] f32[2, 136] f32[2, 136] f32[136]",
};

static CudaDevice device;
static bool found;
static const char *const *patterns;
static int pattern_count;
static bool as_parameters;  // weight gradients alone, in their parameters' order

typedef struct {
    OpCase *c;
    Graph *graph;
    TensorSet inputs, reference;  // the reference's are rounded to TF32
    CudaKernel made;
    char name[32];
    bool tf32;
    int tile;
} Job;

typedef LV_VEC(Job) Jobs;

static bool wanted(const char *text) {
    for (int i = 0; i < pattern_count; i++)
        if (fnmatch(patterns[i], text, 0) == 0) return true;
    return pattern_count == 0;
}

// ---- values in memory

static size_t bytes_of(const Value *v) { return (size_t)lv_shape_elements(v->shape) * lv_dtype_size(v->dtype); }

static int64_t place_of(const Value *v, int64_t i) {
    int64_t index[LV_MAX_RANK];
    for (int k = v->shape.rank - 1; k >= 0; k--) index[k] = i % v->shape.dim[k], i /= v->shape.dim[k];
    return lv_layout_offset(v->layout, v->shape, index);
}

// To nearest, ties away from zero, as cvt.rna does.
static Tensor *as_tf32(const Tensor *t, LvArena *arena) {
    Tensor *out = tensor_new(arena, t->dtype, t->shape);
    for (int64_t i = 0, n = lv_shape_elements(t->shape); i < n; i++) {
        float x = (float)t->f[i];
        uint32_t bits;
        memcpy(&bits, &x, 4);
        bits = (bits + 0x1000u) & ~0x1FFFu;
        memcpy(&x, &bits, 4);
        out->f[i] = x;
    }
    return out;
}

static void put(CuPointer to, const Value *v, const Tensor *t) {
    char *bytes = calloc(bytes_of(v) + 8, 1);
    for (int64_t i = 0, n = lv_shape_elements(v->shape); i < n; i++) lv_element_set(bytes, v->dtype, place_of(v, i), t->f[i]);
    cuda_device_put(to, bytes, bytes_of(v));
    free(bytes);
}

static Tensor *from_bytes(const Value *v, const char *bytes, LvArena *arena) {
    Tensor *t = tensor_new(arena, v->dtype, v->shape);
    for (int64_t i = 0, n = lv_shape_elements(v->shape); i < n; i++) t->f[i] = lv_element_get(bytes, v->dtype, place_of(v, i));
    return t;
}

// ---- cases

// `tile` >= 0: with that tile, else with the one that is chosen. Half of those have split sums.
static bool print_job(Job *job, const Node *node, const Target *target, int tile, LvText *text) {
    if (tile < 0) return cuda_template_print(node, target, job->name, text, &job->made);
    Conv conv;
    if (!conv_read(node, target, &conv)) return false;
    int splits = 1 + tile % 2 * 2;
    ConvTile forced = conv_tile(&conv, tile, splits);
    while (!conv_can_join(&conv, &forced, splits)) splits--;
    forced = conv_tile(&conv, tile, splits);
    conv_print(&conv, &forced, job->name, text, &job->made);
    return true;
}

static bool can_have(const Node *node, const Target *target, int tile) {
    Conv conv;
    if (tile < 0 || !conv_read(node, target, &conv)) return true;
    ConvTile forced = conv_tile(&conv, tile, 1);
    return conv_can_tile(&conv, &forced);
}

static void add_job(Jobs *jobs, LvText *text, const char *line, bool tf32, int tile, LvArena *arena) {
    Job job = {.c = case_parse(line, arena), .tf32 = tf32, .tile = tile};
    Target target = {.cuda = true, .sm = device.sm, .tf32 = tf32};
    job.graph = case_graph(job.c);
    Node *node = job.graph->last;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i]->shape.rank == 4) node->inputs[i]->layout = lv_layout_nhwc();
    node->results[0].layout = as_parameters ? lv_layout_row_major() : lv_layout_nhwc();
    snprintf(job.name, sizeof job.name, "case%zu", jobs->count);
    if (!can_have(node, &target, tile)) {
        graph_destroy(job.graph);
        return;
    }
    if (!print_job(&job, node, &target, tile, text)) fail_msg("%s: no kernel", line);
    for (int i = 0; i < job.c->input_count; i++) {
        Tensor *input = case_input(job.c, i);
        const char *name = lv_arena_printf(arena, "x%d", i);
        set_add(&job.inputs, name, input);
        set_add(&job.reference, name, tf32 && i < 2 ? as_tf32(input, arena) : input);
    }
    lv_vec_push(jobs, job);
}

static size_t result_bytes(const Node *node, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += bytes_of(&node->results[i]);
    return bytes;
}

// Of the results those before the inputs: of what may be a call of the library the first, of a template's none.
static int results_first(const Node *node) { return op_info(node->op)->kind == OP_KIND_CONTRACTION; }

// Where a result is among the operands.
static int operand_of_result(const Node *node, int result) { return result < results_first(node) ? result : node->input_count + result; }

// The results' bytes, one behind the other. `in_place`: the first is where the residual was.
static char *run_job(const Job *job, CuModule module, int fill, bool in_place) {
    const Node *node = job->graph->last;
    CuPointer memory[12];
    unsigned long long parameters[12];
    int count = 0, inputs = node->input_count, first = results_first(node);
    for (int i = 0; i < first; i++) memory[count++] = cuda_device_memory(bytes_of(&node->results[i]), fill);
    for (int i = 0; i < inputs; i++) {
        memory[count++] = cuda_device_memory(bytes_of(node->inputs[i]), fill);
        put(memory[count - 1], node->inputs[i], job->inputs.at[i].tensor);
    }
    for (int i = first; i < node->result_count; i++) memory[count++] = cuda_device_memory(bytes_of(&node->results[i]), fill);
    memory[count] = cuda_device_memory((size_t)job->made.scratch + LV_SCRATCH_HEAD, fill);
    char head[LV_SCRATCH_HEAD] = {0};
    cuda_device_put(memory[count], head, sizeof head);
    for (int i = 0; i <= count; i++) parameters[i] = memory[i];
    parameters[count] += LV_SCRATCH_HEAD;
    if (in_place) parameters[0] = memory[inputs];
    cuda_device_launch(module, job->name, job->made.launches.data, job->made.launches.count, parameters, count + 1, job->c->text);
    char *out = calloc(result_bytes(node, node->result_count) + 8, 1);
    for (int i = 0; i < node->result_count; i++)
        cuda_device_get(out + result_bytes(node, i), parameters[operand_of_result(node, i)], bytes_of(&node->results[i]));
    cuda_device_get(head, memory[count], sizeof head);
    for (size_t i = 0; i < sizeof head; i++)
        if (head[i]) fail_msg("%s: its counters are not zero when it ends", job->c->text);
    for (int i = 0; i <= count; i++) cuda_device_free(memory[i]);
    return out;
}

// Of what is stored, so exactly that f32 is all there is to be off by, in whatever type it is.
static void check_moments(const Node *node, const Tensor *y, const char *got, const char *text, LvArena *arena) {
    LvShape shape = node->results[1].shape;
    int64_t strips = shape.dim[1], channels = shape.dim[2], pixels = y->shape.dim[2] * y->shape.dim[3] / strips;
    const char *const what[] = {"", "means", "squares"};
    Tensor *have[3], *want[3];
    for (int i = 1; i < 3; i++) {
        have[i] = from_bytes(&node->results[i], got + result_bytes(node, i), arena);
        want[i] = tensor_new(arena, LV_F32, shape);
    }
    for (int64_t at = 0, n = lv_shape_elements(shape); at < n; at++) {
        int64_t b = at / channels / strips, s = at / channels % strips, c = at % channels;
        const double *from = y->f + ((b * channels + c) * strips + s) * pixels;
        for (int64_t i = 0; i < pixels; i++) want[1]->f[at] += from[i] / (double)pixels;
        for (int64_t i = 0; i < pixels; i++) want[2]->f[at] += (from[i] - want[1]->f[at]) * (from[i] - want[1]->f[at]);
    }
    for (int i = 1; i < 3; i++) {
        double apart = tensor_distance(have[i], want[i]);
        if (!(apart <= 1e-6)) fail_msg("%s: its %s are off by %g", text, what[i], apart);
    }
}

// Of what is stored too: by the reference's arithmetic over it.
typedef struct {
    const Job *job;
    const Tensor *x;
    int64_t plane, at;
} SumElement;

static double read_element(const void *element, int operand, int64_t pixel) {
    const SumElement *e = element;
    if (!operand) return e->x->f[e->at];
    const Tensor *with = e->job->inputs.at[operand + 1].tensor;
    int64_t pixels = e->x->shape.dim[2] * e->x->shape.dim[3];
    int64_t at = pixel < 0 ? e->at : e->plane * pixels + pixel;
    return with->f[with->shape.rank == 4 ? at : with->shape.rank == 2 ? e->plane : e->plane % e->x->shape.dim[1]];
}

static void check_sums(const Job *job, const Tensor *x, const char *got, const char *text, LvArena *arena) {
    const Node *node = job->graph->last;
    LvShape shape = node->results[1].shape;
    int64_t sums = shape.dim[0], pictures = shape.dim[1], strips = shape.dim[2], channels = shape.dim[3], pixels = x->shape.dim[2] * x->shape.dim[3];
    Tensor *have = from_bytes(&node->results[1], got + result_bytes(node, 1), arena), *want = tensor_new(arena, LV_F32, shape);
    Tensor *sizes = tensor_new(arena, LV_F32, shape);  // what was added up, whatever its sign
    Each each;
    assert_true(each_parse(node_attr(node, ATTR_each)->s, node->input_count - 1, &each));
    for (int64_t at = 0, n = lv_shape_elements(x->shape); at < n; at++) {
        int64_t plane = at / pixels, s = at % pixels / (pixels / strips);
        double term[EACH_SUMS];
        each_evaluate(&each, read_element, &(SumElement){job, x, plane, at}, term);
        for (int64_t k = 0; k < sums; k++) {
            int64_t to = ((k * pictures + plane / channels) * strips + s) * channels + plane % channels;
            want->f[to] += term[k], sizes->f[to] += fabs(term[k]);
        }
    }
    for (int64_t i = 0, n = lv_shape_elements(shape); i < n; i++)
        if (!(fabs(have->f[i] - want->f[i]) <= 3e-6 * sizes->f[i])) fail_msg("%s: sum %lld is %g, not %g", text, (long long)i, have->f[i], want->f[i]);
}

// Sums of f32, and the result rounded once more.
static double allowed(LvDType dtype) { return dtype == LV_BF16 ? 3e-3 : dtype == LV_F16 ? 5e-4 : 3e-6; }

static void check_job(const Job *job, CuModule module, LvArena *arena) {
    const Node *node = job->graph->last;
    const Value *y = &node->results[0];
    char text[512];
    snprintf(text, sizeof text, "%s%s, tile %d", job->c->text, job->tf32 ? " in TF32" : "", job->tile);
    TensorSet want;
    evaluate_set(job->graph, false, &job->reference, &want, arena);
    char *got = run_job(job, module, 0xEE, false);
    const Tensor *stored = from_bytes(y, got, arena);
    size_t bytes = result_bytes(node, node->result_count);
    double apart = tensor_distance(stored, want.at[0].tensor);
    if (!(apart <= allowed(y->dtype))) fail_msg("%s: off by %g", text, apart);
    if (node->op == OP_conv2d_moments) check_moments(node, stored, got, text, arena);
    if (node->op == OP_conv2d_data_grad_sums) check_sums(job, stored, got, text, arena);
    if (job->tile < 0) {
        char *again = run_job(job, module, 0xFF, false);
        if (memcmp(got, again, bytes)) fail_msg("%s: not the same bits twice", text);
        free(again);
    }
    if (node_bool(node, ATTR_residual, false)) {
        char *same = run_job(job, module, 0xEE, true);
        if (memcmp(got, same, bytes)) fail_msg("%s: in the residual's place it is another result", text);
        free(same);
    }
    free(got);
}

// S: strips of a map of STRIP_PIXELS that are as long as the tile's rows.
static const char *with_types(const char *line, const char *type, const char *result, int rows, LvArena *arena) {
    LvText text = {0};
    for (const char *at = line; *at; at++) {
        bool alone = (at[0] == 'T' || at[0] == 'R') && (at[1] == '[' || at[1] == '}' || at[1] == ',');
        if (at[0] == 'S' && (at[1] == '}' || at[1] == ',')) lv_text_printf(&text, "%d", STRIP_PIXELS / rows);
        else if (alone) lv_text_puts(&text, *at == 'T' ? type : result);
        else lv_text_putc(&text, *at);
    }
    const char *made = lv_arena_strdup(arena, lv_text_get(&text));
    lv_text_free(&text);
    return made;
}

static bool has_groups(void) { return device.sm == 90; }

enum { TOGETHER = 16 };  // kernels of a program

// Every `step`-th line.
static void run_cases(const char *const *lines, int count, int step, const char *type, bool tf32, int tile) {
    Conv conv = {.unit = strcmp(type, "f32") ? CONV_HALF : tf32 ? CONV_TF32 : CONV_F32, .groups = has_groups(), .c = 8, .o = 8, .m = 1, .n = 8, .k = 8};
    int rows = tile < 0 ? STRIP_PIXELS : conv_tile(&conv, tile, 1).m;
    LvArena *arena = lv_arena_create();
    for (int first = 0; first < count;) {
        Jobs jobs = {0};
        LvText text = {0};
        cuda_put_prelude(&text);
        for (; first < count && jobs.count < TOGETHER; first += step) {
            const char *line = with_types(lines[first], type, "f32", rows, arena);
            if (wanted(line) && (!as_parameters || strstr(line, "weight_grad"))) add_job(&jobs, &text, line, tf32, tile, arena);
        }
        CuModule module = jobs.count ? cuda_device_compile(&device, lv_text_get(&text)) : NULL;
        for (size_t i = 0; i < jobs.count; i++) {
            if (pattern_count) printf("%s\n", jobs.data[i].c->text);
            check_job(&jobs.data[i], module, arena);
            cuda_kernel_free(&jobs.data[i].made);
            graph_destroy(jobs.data[i].graph);
        }
        if (module) cuda_device_unload(module);
        lv_vec_free(&jobs);
        lv_text_free(&text);
    }
    lv_arena_destroy(arena);
}

enum { STRIP_SHAPES = sizeof strip_shapes / sizeof *strip_shapes, STRIP_TILE_SHAPES = sizeof strip_tile_shapes / sizeof *strip_tile_shapes };

static void run_shapes(int step, const char *type, bool tf32) {
    if (!found) skip();
    run_cases(shapes, (int)(sizeof shapes / sizeof *shapes), step, type, tf32, -1);
    run_cases(strip_shapes, STRIP_SHAPES, 1, type, tf32, -1);
}

static void in_f32(void **state) { (void)state, run_shapes(1, "f32", false); }
static void in_tf32(void **state) { (void)state, run_shapes(1, "f32", true); }
static void in_bf16(void **state) { (void)state, run_shapes(1, "bf16", false); }
static void in_f16(void **state) { (void)state, run_shapes(3, "f16", false); }  // bf16 with other conversions

// Kernels are not sanitized, and what prints and starts them is the same for all tiles.
#if defined(__SANITIZE_ADDRESS__)
enum { TILE_STEP = 4 };
#else
enum { TILE_STEP = 1 };
#endif

// The first `count` shapes with every tile. TF32 stores as bf16 does: strips with every other tile.
static void run_tiles(int count, const char *type, ConvUnit unit) {
    if (!found) skip();
    for (int i = 0; i < conv_tile_count(&(Conv){.unit = unit, .groups = has_groups()}); i += TILE_STEP) {
        run_cases(tile_shapes, count, 1, type, unit == CONV_TF32, i);
        if (unit != CONV_TF32 || i % 2 == 0) run_cases(strip_tile_shapes, STRIP_TILE_SHAPES, 1, type, unit == CONV_TF32, i);
    }
}

static void tiles_in_f32(void **state) { (void)state, run_tiles(3, "f32", CONV_F32); }
static void tiles_in_tf32(void **state) { (void)state, run_tiles(3, "f32", CONV_TF32); }
static void tiles_in_bf16(void **state) { (void)state, run_tiles(4, "bf16", CONV_HALF); }

// Weight gradients as their parameters lie: each type, and with every tile.
static void as_parameters_lie(void **state) {
    (void)state;
    as_parameters = true;
    run_shapes(1, "f32", false);
    run_shapes(1, "bf16", false);
    run_tiles(3, "f32", CONV_F32);
    run_tiles(3, "f32", CONV_TF32);
    run_tiles(3, "bf16", CONV_HALF);
    as_parameters = false;
}

// Pictures or weights that lie otherwise are not taken.
static void other_layouts(void **state) {
    (void)state;
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse("conv2d {stride = [1, 1], pad = [1, 1, 1, 1]} f32[2, 3, 5, 4] f32[2, 3, 3, 3]", arena);
    Graph *graph = case_graph(c);
    Node *node = graph->last;
    Target target = {.cuda = true, .sm = 80};
    Value *values[] = {node->inputs[0], node->inputs[1], &node->results[0]};
    for (int i = 0; i < 3; i++) values[i]->layout = lv_layout_nhwc();
    assert_true(cuda_template_takes(node, &target));
    for (int i = 0; i < 3; i++) {
        values[i]->layout = lv_layout_row_major();
        assert_false(cuda_template_takes(node, &target));
        values[i]->layout = lv_layout_nhwc();
    }
    graph_destroy(graph);
    lv_arena_destroy(arena);
}

int main(int argc, char **argv) {
    patterns = (const char *const *)argv + 1, pattern_count = argc - 1;
    found = cuda_device_open(&device);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_layouts), cmocka_unit_test(in_f32),       cmocka_unit_test(in_tf32),       cmocka_unit_test(in_bf16),
        cmocka_unit_test(in_f16),        cmocka_unit_test(tiles_in_f32), cmocka_unit_test(tiles_in_tf32), cmocka_unit_test(tiles_in_bf16),
        cmocka_unit_test(as_parameters_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
