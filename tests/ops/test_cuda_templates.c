// The CUDA kernel templates against the reference evaluation, on whatever libcuda and libnvrtc are found: a GPU's, or the stand-ins
// that tests/cuda_sim/run puts on the path. Each case runs twice, the second time with every operand moved off its alignment by an
// element: the same bits. `test_cuda_templates 'attention*'` runs some. Skipped where there is no device.
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
#include "codegen/cuda/cuda.h"
#include "cuda_device.h"

static const char *const more_cases[] = {
    // the sort of scatter_add: one, two and three passes, all in one row, long runs over many chunks
    "scatter_add {rows = 3} f32[2053] i32[2053]:0:3",
    "scatter_add {rows = 300} f32[2100, 5] i32[2100]:-7:310",
    "scatter_add {rows = 2} f32[1000, 37] i32[1000]:1:2",
    "scatter_add {rows = 70000} f32[600, 3] i32[600]:-9:70009",
    "scatter_add {rows = 5000} f32[4500, 2] i32[4500]:0:5000",
    "scatter_add {rows = 7} i32[600, 3]:-9:9 i32[600]:-1:9",
    "scatter_add {rows = 7} i64[600]:-9:9 i32[600]:0:7",
    "scatter_add {rows = 7} f64[600, 3] i32[600]:0:7",
    "scatter_add {rows = 7} bf16[13, 3] i32[13]:0:7",
    "scatter_add {rows = 3} f32[520, 270] i32[520]:0:3",
    "scatter_add {rows = 300} f32[9000, 2] i32[9000]:-7:310",
    "scatter_add {rows = 3} f32[8192] i32[8192]:0:3",
    "scatter_add {rows = 300} f32[140000] i32[140000]:-7:310",
    "gather bf16[7, 8] i32[5]:-2:9",
    "gather bool[7, 3] i32[5]:0:7",
    "gather f64[7, 2] i32[3, 2]:0:7",
    "gather i64[7, 3] i32[5]:0:7",
    "gather f32[9, 64] i32[33]:0:9",
    "dynamic_slice {shape = [2, 2, 8]} f32[5, 4, 8] i32[3]:-1:4",
    "dynamic_slice {shape = [5, 2, 8]} bf16[5, 4, 8] i32[3]:-1:4",
    "dynamic_slice {shape = [5, 4, 8]} f32[5, 4, 8] i32[3]:-1:4",
    "dynamic_update f32[3, 2, 9, 16] f32[3, 2, 1, 16] i32[4]:3:9",
    "dynamic_update bf16[3, 2, 9, 16] bf16[2, 2, 3, 16] i32[4]:1:5",
    "dynamic_update f64[5] f64[2] i32[1]:3:4",
    "dynamic_update f32[3, 5] f32[3, 5] i32[2]:3:9",
    "nearest_code f32[300, 40] f32[300, 40]",
    "nearest_code f32[131, 20] f32[1030, 20]:-1:2",
    "nearest_code f32[257, 3]:-2:3 f32[5, 3]:-2:3",
    "nearest_code f32[515, 37] f32[1000, 37]",
    "nearest_code f32[700, 64] f32[400, 64]",
    "nearest_code f32[1300, 33]:-1:2 f32[500, 33]:-1:2",
    "matmul {transpose_b = true} f32[1, 64] f32[33, 64]",
    "matmul {transpose_b = true, scale = 0.5} f32[3, 1028] f32[17, 1028]",
    "matmul {transpose_b = true} bf16[8, 520] bf16[7, 520]",
    "matmul {transpose_b = true} f32[2, 37] f32[5, 37]",
    "matmul {transpose_b = true} f16[5, 40] f16[9, 40]",
    "matmul {transpose_b = true, dtype = f32} bf16[5, 37] bf16[9, 37]",
    "attention {causal = true, length = true, scale = 0.125} bf16[2, 3, 1, 64] bf16[2, 3, 301, 64] bf16[2, 3, 301, 64] i32[]:200:201",
    "attention {scale = 0.125} f16[1, 2, 7, 24] f16[1, 2, 70, 24] f16[1, 2, 70, 40]",
    "attention {causal = true, scale = 0.125} bf16[1, 2, 5, 17] bf16[1, 2, 5, 17] bf16[1, 2, 5, 17]",
    "attention {scale = 0.1} f32[1, 1, 9, 260] f32[1, 1, 70, 260] f32[1, 1, 70, 300]",
    "attention {scale = 0.1} f32[1, 1, 9, 20] f32[1, 1, 9, 20] f32[1, 1, 9, 150]",
    "attention {causal = true, scale = 0.2, dropout = 0.25, stream = 9} f32[1, 2, 67, 8] f32[1, 2, 68, 8] f32[1, 2, 68, 8] i64[]:5:6 i32[]:3:4",
    "attention {causal = true, scale = 0.125} bf16[1, 2, 150, 64] bf16[1, 2, 150, 64] bf16[1, 2, 150, 64]",
    "attention {causal = true, scale = -0.5} bf16[1, 2, 70, 16] bf16[1, 2, 70, 16] bf16[1, 2, 70, 16]",
    "attention {scale = 0.125} f16[2, 1, 70, 40] f16[2, 1, 131, 40] f16[2, 1, 131, 24]",
    "attention {scale = 0.09} bf16[1, 1, 40, 128] bf16[1, 1, 70, 128] bf16[1, 1, 70, 128]",
    "attention {scale = 0.06} bf16[1, 1, 40, 256] bf16[1, 1, 70, 256] bf16[1, 1, 70, 256]",
    "attention {scale = 0.04} bf16[1, 1, 20, 512] bf16[1, 1, 40, 512] bf16[1, 1, 40, 512]",
    "attention {scale = 0.04} bf16[1, 1, 20, 520] bf16[1, 1, 40, 520] bf16[1, 1, 40, 8]",
    "attention {causal = true, scale = 0.2} bf16[1, 1, 41, 17] bf16[1, 1, 67, 17] bf16[1, 1, 67, 33]",
    "attention {causal = true, length = true, scale = 0.2} f16[1, 1, 41, 16] f16[1, 1, 67, 16] f16[1, 1, 67, 16] i32[]:50:51",
    "attention {causal = true, scale = 0.125} bf16[8, 16, 9, 16] bf16[8, 16, 9, 16] bf16[8, 16, 9, 16]",
    "attention {causal = true, scale = 0.2, dropout = 0.25, stream = 9} bf16[1, 2, 67, 24] bf16[1, 2, 68, 24] bf16[1, 2, 68, 24] i64[]:5:6 i32[]:3:4",
    "attention {scale = 0.2, dropout = 0.25, stream = 9} bf16[1, 2, 67, 24] bf16[1, 2, 67, 24] bf16[1, 2, 67, 24] i64[]:5:6 i32[]:3:4",
    "attention {causal = true, scale = 0.125} f32[8, 16, 9, 16] f32[8, 16, 9, 16] f32[8, 16, 9, 16]",
    "attention {causal = true, scale = 0.2, dropout = 0.25, stream = 9} f32[1, 64, 130, 8] f32[1, 64, 132, 8] f32[1, 64, 132, 70] i64[]:5:6 i32[]:3:4",
    "attention_grad {causal = true, scale = 0.2, dropout = 0.25, stream = 9} f32[8, 16, 9, 8] f32[8, 16, 12, 8] f32[8, 16, 12, 8] f32[8, 16, 9, 8] f32[8, 16, 9]+ f32[8, 16, 9, 8] i64[]:5:6 i32[]:3:4",
    "attention_grad {scale = 0.125} f32[8, 16, 9, 16] f32[8, 16, 9, 16] f32[8, 16, 9, 68] f32[8, 16, 9, 68] f32[8, 16, 9]+ f32[8, 16, 9, 68]",
    "attention_grad {causal = true, scale = 0.2} bf16[1, 2, 150, 64] bf16[1, 2, 150, 64] bf16[1, 2, 150, 64] bf16[1, 2, 150, 64] f32[1, 2, 150]+ bf16[1, 2, 150, 64]",
    "attention_grad {scale = 0.2} f16[1, 2, 70, 40] f16[1, 2, 131, 40] f16[1, 2, 131, 24] f16[1, 2, 70, 24] f32[1, 2, 70]+ f16[1, 2, 70, 24]",
    "attention_grad {scale = 0.1} bf16[1, 1, 40, 128] bf16[1, 1, 70, 128] bf16[1, 1, 70, 128] bf16[1, 1, 40, 128] f32[1, 1, 40]+ bf16[1, 1, 40, 128]",
    "attention_grad {scale = 0.1} bf16[1, 1, 40, 256] bf16[1, 1, 70, 256] bf16[1, 1, 70, 256] bf16[1, 1, 40, 256] f32[1, 1, 40]+ bf16[1, 1, 40, 256]",
    "attention_grad {causal = true, scale = 0.2} bf16[1, 1, 41, 17] bf16[1, 1, 67, 17] bf16[1, 1, 67, 33] bf16[1, 1, 41, 33] f32[1, 1, 41]+ bf16[1, 1, 41, 33]",
    "attention_grad {causal = true, scale = 0.2, dropout = 0.25, stream = 9} bf16[1, 2, 67, 24] bf16[1, 2, 68, 24] bf16[1, 2, 68, 24] bf16[1, 2, 67, 24] f32[1, 2, 67]+ bf16[1, 2, 67, 24] i64[]:5:6 i32[]:3:4",
    "attention_grad {scale = 0.2, dropout = 0.25, stream = 9} bf16[1, 2, 67, 24] bf16[1, 2, 67, 24] bf16[1, 2, 67, 24] bf16[1, 2, 67, 24] f32[1, 2, 67]+ bf16[1, 2, 67, 24] i64[]:5:6 i32[]:3:4",
    "attention_grad {scale = 0.1} f32[1, 1, 9, 260] f32[1, 1, 70, 260] f32[1, 1, 70, 300] f32[1, 1, 9, 300] f32[1, 1, 9]+ f32[1, 1, 9, 300]",
    "attention_grad {causal = true, scale = 0.2, dropout = 0.25, stream = 9} f32[1, 2, 67, 8] f32[1, 2, 68, 8] f32[1, 2, 68, 8] f32[1, 2, 67, 8] f32[1, 2, 67]+ f32[1, 2, 67, 8] i64[]:5:6 i32[]:3:4",
};

static CudaDevice device;
static const char *const *patterns;
static int pattern_count;

enum { ROOM = 64 };  // operands may begin later than their memory does

static CuPointer device_memory(size_t bytes, int fill) { return cuda_device_memory(bytes + ROOM, fill); }

// ---- cases

typedef struct {
    OpCase *c;
    Graph *graph;
    TensorSet inputs;
    CudaKernel made;
    char name[32];
} Job;

typedef LV_VEC(Job) Jobs;

static bool wanted(const char *text) {
    for (int i = 0; i < pattern_count; i++)
        if (fnmatch(patterns[i], text, 0) == 0) return true;
    return pattern_count == 0;
}

static void add_job(Jobs *jobs, LvText *text, const char *line, LvArena *arena) {
    Job job = {.c = case_parse(line, arena)};
    Target target = {.cuda = true, .sm = device.sm};
    if (!wanted(line)) return;
    job.graph = case_graph(job.c);
    const Node *node = job.graph->last;
    snprintf(job.name, sizeof job.name, "case%zu", jobs->count);
    bool other = node->op == OP_linear_cross_entropy || node->op == OP_linear_cross_entropy_grad || op_info(node->op)->kind == OP_KIND_CONTRACTION;
    if ((other && node->op != OP_matmul) || !cuda_template_print(node, &target, job.name, text, &job.made)) {
        graph_destroy(job.graph);
        return;
    }
    for (int i = 0; i < job.c->input_count; i++) {
        set_add(&job.inputs, lv_arena_printf(arena, "x%d", i), case_input(job.c, i));
    }
    lv_vec_push(jobs, job);
}

static size_t bytes_of(const Value *v) { return (size_t)lv_shape_elements(v->shape) * lv_dtype_size(v->dtype); }

static void to_bytes(const Tensor *t, char *bytes) {
    for (int64_t i = 0, n = lv_shape_elements(t->shape); i < n; i++) {
        if (t->dtype == LV_I64) memcpy(bytes + 8 * i, &t->i[i], 8);
        else lv_element_set(bytes, t->dtype, i, tensor_at(t, i));
    }
}

// The bytes may lie anywhere: results follow one another.
static Tensor *from_bytes(const Value *v, const char *bytes, LvArena *arena) {
    Tensor *t = tensor_new(arena, v->dtype, v->shape);
    size_t size = lv_dtype_size(v->dtype);
    for (int64_t i = 0, n = lv_shape_elements(v->shape); i < n; i++) {
        int64_t element = 0;  // room for the widest
        memcpy(&element, bytes + size * (size_t)i, size);
        if (v->dtype == LV_I64) t->i[i] = element;
        else if (t->f) t->f[i] = lv_element_get(&element, v->dtype, 0);
        else t->i[i] = (int64_t)lv_element_get(&element, v->dtype, 0);
    }
    return t;
}

// Runs a case; the results' bytes, one after the other. `moved`: operands begin an element later than memory does. `in_place`: the
// result is the first input.
static char *run_job(const Job *job, CuModule module, bool moved, bool in_place) {
    const Node *node = job->graph->last;
    unsigned long long slots[24];
    CuPointer memory[24];
    int count = 0;
    size_t total = 0;
    for (int i = 0; i < node->input_count; i++, count++) {
        const Value *v = node->inputs[i];
        char *bytes = calloc(bytes_of(v) + 8, 1);
        to_bytes(job->inputs.at[i].tensor, bytes);
        memory[count] = device_memory(bytes_of(v), 0xEE);
        slots[count] = memory[count] + (moved ? lv_dtype_size(v->dtype) : 0);
        cuda_device_put(slots[count], bytes, bytes_of(v));
        free(bytes);
    }
    for (int i = 0; i < node->result_count; i++, count++) {
        const Value *v = &node->results[i];
        memory[count] = device_memory(bytes_of(v), 0xEE);
        slots[count] = in_place ? slots[0] : memory[count] + (moved ? lv_dtype_size(v->dtype) : 0);
        total += bytes_of(v);
    }
    memory[count] = device_memory((size_t)job->made.scratch, 0xEE);
    slots[count] = memory[count];
    cuda_device_launch(module, job->name, job->made.launches.data, job->made.launches.count, slots, count + 1, job->c->text);
    char *out = calloc(total + 8, 1), *at = out;
    for (int i = 0; i < node->result_count; i++) {
        size_t bytes = bytes_of(&node->results[i]);
        cuda_device_get(at, slots[node->input_count + i], bytes);
        at += bytes;
    }
    for (int i = 0; i <= count; i++) cuda_device_free(memory[i]);
    return out;
}

// Products of rounded weights, and a result rounded once more.
static double allowed(const Tensor *want, const Node *node) {
    LvDType dtype = node->inputs[0]->dtype;
    bool narrow = dtype == LV_BF16 || dtype == LV_F16;
    if (!want->f) return 0;
    if (want->dtype == LV_F64) return 1e-14;
    if (!narrow) return 3e-6;
    if (want->dtype == LV_F32) return 1e-5;
    return (dtype == LV_BF16 ? 8 : 1) * (node->op == OP_attention_grad ? 8e-4 : 5e-4);
}

static void check_job(const Job *job, CuModule module, LvArena *arena) {
    const Node *node = job->graph->last;
    TensorSet want;
    evaluate_set(job->graph, false, &job->inputs, &want, arena);
    char *got = run_job(job, module, false, false), *moved = run_job(job, module, true, false), *at = got;
    for (int i = 0; i < node->result_count; i++) {
        const Value *v = &node->results[i];
        double apart = tensor_distance(from_bytes(v, at, arena), want.at[i].tensor);
        if (!(apart <= allowed(want.at[i].tensor, node))) fail_msg("%s: %s is off by %g", job->c->text, want.at[i].name, apart);
        if (memcmp(at, moved + (at - got), bytes_of(v))) fail_msg("%s: %s depends on its operands' alignment", job->c->text, want.at[i].name);
        at += bytes_of(v);
    }
    if (node->op == OP_dynamic_update) {
        char *same = run_job(job, module, false, true);
        if (memcmp(got, same, bytes_of(&node->results[0]))) fail_msg("%s: in place it is another result", job->c->text);
        free(same);
    }
    free(got), free(moved);
}

enum { TOGETHER = 24 };  // kernels of a program

static void run_cases(const char *const *lines, int count) {
    LvArena *arena = lv_arena_create();
    for (int first = 0; first < count;) {
        Jobs jobs = {0};
        LvText text = {0};
        cuda_put_prelude(&text);
        for (; first < count && jobs.count < TOGETHER; first++) add_job(&jobs, &text, lines[first], arena);
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

static void all_cases(void **state) {
    if (!*state) skip();
    run_cases(op_cases, op_case_count);
}

static void more(void **state) {
    if (!*state) skip();
    run_cases(more_cases, (int)(sizeof more_cases / sizeof *more_cases));
}

// ---- hard inputs

static Job one_job(const char *line, LvText *text, LvArena *arena) {
    Jobs jobs = {0};
    cuda_put_prelude(text);
    add_job(&jobs, text, line, arena);
    Job job = jobs.data[0];
    lv_vec_free(&jobs);
    return job;
}

static void end_job(Job *job, CuModule module, LvText *text, LvArena *arena) {
    check_job(job, module, arena);
    cuda_device_unload(module);
    cuda_kernel_free(&job->made);
    graph_destroy(job->graph);
    lv_text_free(text);
    lv_arena_destroy(arena);
}

// Vectors lie next to their code, all others too: distances a thousandth of the norms, where f32 scores alone cannot choose.
static void check_near_ties(bool wide) {
    int64_t count = wide ? 600 : 197;
    LvArena *arena = lv_arena_create();
    LvText text = {0};
    Job job = one_job(wide ? "nearest_code f32[600, 64] f32[512, 64]" : "nearest_code f32[197, 64] f32[512, 64]", &text, arena);
    Tensor *x = job.inputs.at[0].tensor, *codes = job.inputs.at[1].tensor;
    for (int64_t k = 0; k < 512; k++)
        for (int64_t i = 0; i < 64; i++) codes->f[k * 64 + i] = (float)(3 + 1e-3 * hash_uniform(5, (uint64_t)(k * 64 + i)));
    for (int64_t i = 0; i < 64; i++) codes->f[300 * 64 + i] = codes->f[17 * 64 + i];  // equal codes
    for (int64_t n = 0; n < count; n++)
        for (int64_t i = 0; i < 64; i++)
            x->f[n * 64 + i] = (float)(n % 5 ? codes->f[n * 2 % 512 * 64 + i] + 1e-4 * hash_uniform(6, (uint64_t)(n * 64 + i)) : codes->f[300 * 64 + i]);
    end_job(&job, cuda_device_compile(&device, lv_text_get(&text)), &text, arena);
}

static void near_ties(void **state) {
    if (!*state || pattern_count) skip();
    check_near_ties(false);
    check_near_ties(true);  // on tensor cores
}

// Codes that nobody chose may be anywhere, infinity included; a vector of NaN gets code 0 and harms no other.
static void check_far_codes(const char *line) {
    LvArena *arena = lv_arena_create();
    LvText text = {0};
    Job job = one_job(line, &text, arena);
    Tensor *x = job.inputs.at[0].tensor, *codes = job.inputs.at[1].tensor;
    int64_t d = x->shape.dim[1];
    for (int64_t i = 0; i < d; i++) {
        codes->f[i] = INFINITY, codes->f[d + i] = 1e30, codes->f[2 * d + i] = -1e12, codes->f[3 * d + i] = NAN, x->f[5 * d + i] = NAN;
    }
    end_job(&job, cuda_device_compile(&device, lv_text_get(&text)), &text, arena);
}

static void far_codes(void **state) {
    if (!*state || pattern_count) skip();
    check_far_codes("nearest_code f32[61, 7] f32[37, 7]");
    check_far_codes("nearest_code f32[600, 64] f32[512, 64]");  // on tensor cores
}

// ---- the vocabulary loss, whose kernel the runtime launches between products

static void check_loss(const char *line, bool gradient) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(line, arena);
    Graph *graph = case_graph(c);
    const Node *node = graph->last;
    Target target = {.cuda = true, .sm = device.sm};
    LvText text = {0};
    CudaKernel made = {0};
    cuda_put_prelude(&text);
    assert_true(cuda_template_print(node, &target, "loss", &text, &made));
    CuModule module = cuda_device_compile(&device, lv_text_get(&text));
    int64_t rows = c->inputs[0].shape.dim[0], classes = c->inputs[1].shape.dim[0], stride = (classes + 7) / 8 * 8;
    LvDType dtype = c->inputs[0].dtype;
    bool narrow = dtype != LV_F32;
    double allowed = dtype == LV_BF16 ? 4e-3 : dtype == LV_F16 ? 5e-4 : 3e-6;
    const Attr *ignore = node_attr(node, ATTR_ignore);
    Tensor *wanted_target = case_input(c, 2);
    float *logits = calloc((size_t)(rows * stride + 1), 4), *dloss = calloc((size_t)rows + 1, 4), *loss = calloc((size_t)rows + 1, 4);
    int32_t *targets = calloc((size_t)rows + 1, 4);
    for (int64_t r = 0; r < rows; r++) {
        targets[r] = (int32_t)wanted_target->i[r], dloss[r] = (float)hash_uniform(3, (uint64_t)r);
        for (int64_t v = 0; v < classes; v++) logits[r * stride + v] = (float)(20 * hash_uniform(4, (uint64_t)(r * classes + v)));
    }
    size_t matrix = (size_t)(rows * stride * 4), vector = (size_t)(rows * 4);
    CuPointer memory[5] = {device_memory(matrix, 0), device_memory(vector, 0), device_memory(vector, 0), device_memory(vector, 0xEE), device_memory(matrix, 0xEE)};
    cuda_device_put(memory[0], logits, matrix), cuda_device_put(memory[1], targets, vector), cuda_device_put(memory[2], dloss, vector);
    unsigned long long slots[8] = {memory[0], memory[1], gradient ? memory[2] : 0, memory[3], narrow ? memory[4] : 0,
                                   (unsigned long long)rows, (unsigned long long)classes, (unsigned long long)(ignore ? ignore->i : -1)};
    LvLaunch l = made.launches.data[0];
    l.grid[0] = (int32_t)rows;
    cuda_device_launch(module, "loss", &l, 1, slots, 8, line);
    float *got = calloc((size_t)(rows * stride + 1), 4);
    cuda_device_get(loss, memory[3], vector), cuda_device_get(got, memory[narrow ? 4 : 0], matrix);
    for (int64_t r = 0; r < rows; r++) {
        bool counts = targets[r] >= 0 && targets[r] < classes && !(ignore && ignore->i == targets[r]);
        double top = -INFINITY, sum = 0;
        for (int64_t v = 0; v < classes; v++) top = fmax(top, logits[r * stride + v]);
        for (int64_t v = 0; v < classes; v++) sum += exp(logits[r * stride + v] - top);
        double want = counts ? top + log(sum) - logits[r * stride + targets[r]] : 0;
        if (!(fabs(loss[r] - want) <= 3e-6 * (1 + fabs(want)))) fail_msg("%s: loss %lld is %g, not %g", line, (long long)r, loss[r], want);
        for (int64_t v = 0; gradient && v < classes; v++) {
            double d = counts ? (exp(logits[r * stride + v] - top) / sum - (v == targets[r])) * dloss[r] : 0;
            double own = lv_element_get(got, dtype, r * stride + v);
            if (!(fabs(own - d) <= allowed * fabs(d) + 1e-7)) fail_msg("%s: gradient %lld %lld is %g, not %g", line, (long long)r, (long long)v, own, d);
        }
    }
    for (int i = 0; i < 5; i++) cuda_device_free(memory[i]);
    free(logits), free(dloss), free(loss), free(targets), free(got);
    cuda_device_unload(module);
    cuda_kernel_free(&made);
    graph_destroy(graph);
    lv_text_free(&text);
    lv_arena_destroy(arena);
}

static void vocabulary_loss(void **state) {
    if (!*state || pattern_count) skip();
    check_loss("linear_cross_entropy {ignore = 3} f32[9, 5] f32[67, 5] i32[9]:-9:70", false);
    check_loss("linear_cross_entropy_grad {ignore = 3} f32[9, 5] f32[1237, 5] i32[9]:-9:1240 f32[9]", true);
    check_loss("linear_cross_entropy_grad {ignore = 3} bf16[9, 5] bf16[1237, 5] i32[9]:-9:1240 f32[9]", true);
    check_loss("linear_cross_entropy_grad {ignore = 3} f16[9, 5] f16[1237, 5] i32[9]:-9:1240 f32[9]", true);
    check_loss("linear_cross_entropy_grad bf16[3, 5] bf16[9001, 5] i32[3]:0:9001 f32[3]", true);
    check_loss("linear_cross_entropy_grad f32[2, 5] f32[60003, 5] i32[2]:0:60003 f32[2]", true);  // too long a row to keep
    check_loss("linear_cross_entropy_grad f32[3, 5] f32[3, 5] i32[3]:0:3 f32[3]", true);
}

// A row waits in shared memory where a block of the target has that much: of GPUs from sm_80 on, some have 99 KB.
static void shared_memory(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int room;
    } targets[] = {{"cuda", 99}, {"cuda:sm_80", 163}, {"cuda:sm_86", 99}, {"cuda:sm_89", 99}, {"cuda:sm_90", 227}, {"cuda:sm_100", 227}, {"cuda:sm_120", 99}};
    static const int classes[] = {20000, 32768, 50000};
    for (size_t i = 0; i < 3 * (sizeof targets / sizeof *targets); i++) {
        LvArena *arena = lv_arena_create();
        int v = classes[i % 3], room = targets[i / 3].room << 10;
        OpCase *c = case_parse(lv_arena_printf(arena, "linear_cross_entropy_grad bf16[3, 5] bf16[%d, 5] i32[3]:0:9 f32[3]", v), arena);
        Graph *graph = case_graph(c);
        LvText text = {0};
        LvError error = {0};
        CudaKernel made = {0};
        Target target;
        assert_true(target_parse(targets[i / 3].device, &target, &error));
        assert_true(cuda_template_print(graph->last, &target, "loss", &text, &made));
        int shared = made.launches.data[0].shared;
        bool keeps = shared >= 4 * v;
        if (shared > room || keeps != (4 * v + 1024 <= room)) fail_msg("%s, %d classes: %d bytes of shared memory", targets[i / 3].device, v, shared);
        cuda_kernel_free(&made);
        graph_destroy(graph);
        lv_text_free(&text);
        lv_arena_destroy(arena);
    }
}

static int begin(void **state) {
    static int there = 1;
    if (cuda_device_open(&device)) *state = &there;
    else fprintf(stderr, "skipped: no CUDA driver with a device, or no NVRTC\n");
    return 0;
}

int main(int count, char **arguments) {
    patterns = (const char *const *)arguments + 1, pattern_count = count - 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_cases), cmocka_unit_test(more), cmocka_unit_test(near_ties), cmocka_unit_test(far_codes), cmocka_unit_test(vocabulary_loss),
        cmocka_unit_test(shared_memory),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
