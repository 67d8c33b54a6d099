// Every op on a GPU against the reference evaluation: the cases of cases.c with their gradients, and the golden cases. Where there is
// no GPU, tests/cuda_sim/run puts stand-ins for its libraries in the way; without either all is skipped.
//
// To compile a few hundred small plans would take minutes, so the cases are taken together: PART cases are one graph, with their own
// inputs and results, and become one plan. Each is run fused, and once more with a kernel a node.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.h"
#include "device/device.h"
#include "driver/pipeline.h"
#include "golden.h"

enum { PART = 48 };

static LvDevice *device;  // NULL: none here
static const char *device_name;
static LvError reason;    // why
static GoldenCases golden;

typedef struct {
    LvArena *arena;
    Graph *graph;
    Graph *own[PART];                // the cases' graphs: names are theirs
    int count;
    OpCase *cases[PART];             // NULL: a golden case
    const GoldenCase *golden[PART];
    TensorSet inputs[PART], want[PART], got[PART];
    BackendPart parts[PART];
} Batch;

static void add(Batch *b, const Graph *graph) {
    char prefix[16];
    int i = b->count++;
    snprintf(prefix, sizeof prefix, "%d:", i);
    graph_append(b->graph, graph, prefix);
    b->parts[i] = (BackendPart){lv_arena_strdup(b->arena, prefix), &b->inputs[i], &b->got[i]};
}

static void add_case(Batch *b, const char *text) {
    int at = b->count;
    OpCase *c = b->cases[at] = case_parse(text, b->arena);
    TensorSet *inputs = &b->inputs[at];
    for (int i = 0; i < c->input_count; i++) set_add(inputs, lv_arena_printf(b->arena, "x%d", i), case_input(c, i));
    Graph *graph = b->own[at] = case_graph(c);
    if (backend_has_gradient(c)) case_differentiate(graph, c, 1, b->arena, inputs);
    evaluate_set(graph, false, inputs, &b->want[at], b->arena);
    add(b, graph);
}

static void add_golden(Batch *b, const GoldenCase *c) {
    int at = b->count;
    b->golden[at] = c;
    b->inputs[at] = c->inputs;
    add(b, c->graph);
}

static bool compare(const Batch *b, int i, const char *how, LvText *message) {
    const GoldenCase *c = b->golden[i];
    if (b->cases[i]) return backend_compare(b->cases[i], &b->inputs[i], &b->want[i], &b->got[i], how, message);
    for (int k = 0; k < c->want.count; k++) {
        const char *name = c->want.at[k].name;
        double apart = tensor_distance(set_find(&b->got[i], name), c->want.at[k].tensor);
        if (apart <= (!strncmp(name, "grad_", 5) ? 1e-4 : 1e-5)) continue;
        lv_text_printf(message, "%s: %s %s is off by %g", c->name, name, how, apart);
        return false;
    }
    return true;
}

static int run(Batch *b, bool no_fuse, LvText *message) {
    LvError error = {0};
    Graph *copy = graph_copy(b->graph);
    const char *how = no_fuse ? "a kernel a node" : "fused";
    bool good = backend_run(device, device->target, copy, no_fuse, b->parts, b->count, b->arena, &error);
    graph_destroy(copy);
    if (!good) {
        lv_text_printf(message, "%s%s: %s", message->length ? "\n" : "", how, error.message ? error.message : "no plan");
        lv_error_clear(&error);
        lv_device_close(device);  // a fault takes the context with it
        device = NULL;
        if (!lv_device_open(device_name, 0, &device, &error)) fail_msg("%s: and the device does not open again", error.message);
        return 1;
    }
    int wrong = 0;
    for (int i = 0; i < b->count; i++) {
        LvText one = {0};
        if (!compare(b, i, how, &one)) lv_text_printf(message, "%s%s", message->length ? "\n" : "", lv_text_get(&one)), wrong++;
        lv_text_free(&one);
    }
    return wrong;
}

static void finish(Batch *b) {
    LvText message = {0};
    int wrong = run(b, false, &message);
    wrong += run(b, true, &message);
    for (int i = 0; i < b->count; i++)
        if (b->own[i]) graph_destroy(b->own[i]);
    graph_destroy(b->graph);
    lv_arena_destroy(b->arena);
    if (wrong) fail_msg("%s", lv_text_get(&message));
    lv_text_free(&message);
}

static Batch begin(void) {
    return (Batch){.arena = lv_arena_create(), .graph = graph_create("cases")};
}

static void test_cases(void **state) {
    if (!device) skip();
    const char *const *first = *state;
    int left = op_case_count - (int)(first - op_cases);
    Batch b = begin();
    for (int i = 0; i < PART && i < left; i++) add_case(&b, first[i]);
    finish(&b);
}

static void test_golden(void **state) {
    if (!device) skip();
    int first = *(int *)*state;
    Batch b = begin();
    for (int i = 0; i < PART && first + i < golden.count; i++) add_golden(&b, &golden.cases[first + i]);
    finish(&b);
}

// test_cuda TEXT: only the cases whose line has TEXT in it, each by itself.
static void test_one(void **state) {
    if (!device) skip();
    Batch b = begin();
    add_case(&b, *state);
    finish(&b);
}

// ---- attention where products have it: operands are columns of one product, gradients those of the next one's operand

typedef struct {
    int64_t b, t, heads, d, e;
    bool causal;
    double dropout;
} Projected;

static Value *bf16_input(Graph *g, const char *name, int64_t rows, int64_t columns, LvArena *arena, TensorSet *inputs, uint64_t salt) {
    LvShape shape = lv_shape(2, (int64_t[]){rows, columns});
    Tensor *t = tensor_new(arena, LV_F32, shape);
    for (int64_t i = 0; i < rows * columns; i++) {
        uint64_t bits = ((uint64_t)i + salt * 7919 + 1) * 0x9E3779B97F4A7C15u;
        bits = (bits ^ bits >> 31) * 0x94D049BB133111EBu;
        t->f[i] = (double)(bits >> 57) / 64 - 1;  // exact in bf16
    }
    set_add(inputs, name, t);
    return build_cast(g, graph_add_input(g, name, LV_F32, shape), LV_BF16);
}

static Value *split_heads(Graph *g, Value *rows, const Projected *p, int64_t channels) {
    Value *split = build_reshape(g, rows, lv_shape(4, (int64_t[]){p->b, p->t, p->heads, channels}));
    return build_transpose(g, split, (int64_t[]){0, 2, 1, 3});
}

static Value *join_heads(Graph *g, Value *heads, const Projected *p, int64_t channels) {
    Value *split = build_transpose(g, heads, (int64_t[]){0, 2, 1, 3});
    return build_reshape(g, split, lv_shape(2, (int64_t[]){p->b * p->t, p->heads * channels}));
}

// k and q, then v stand in the product's columns: k is the first.
static void add_projected(Batch *b, const Projected *p) {
    int at = b->count;
    TensorSet *inputs = &b->inputs[at];
    Graph *g = b->own[at] = graph_create("projected");
    int64_t rows = p->b * p->t, d = p->heads * p->d, e = p->heads * p->e, width = 2 * d + e, starts[3] = {d, 0, 2 * d};
    Value *x = bf16_input(g, "x", rows, 16, b->arena, inputs, 1), *w = bf16_input(g, "w", width, 16, b->arena, inputs, 2);
    Value *dout = bf16_input(g, "dout", rows, 16, b->arena, inputs, 3), *o = bf16_input(g, "o", 16, e, b->arena, inputs, 4);
    Value *all = build_matmul(g, x, w, false, true), *in[8];
    for (int i = 0; i < 3; i++) {
        int64_t channels = i < 2 ? d : e;
        Value *columns = build_slice(g, all, (int64_t[]){0, starts[i]}, lv_shape(2, (int64_t[]){rows, channels}), NULL);
        in[i] = split_heads(g, columns, p, channels / p->heads);
    }
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_causal, p->causal);
    attrs_float(&attrs, ATTR_scale, 0.125);
    int count = 3;
    if (p->dropout > 0) {
        attrs_float(&attrs, ATTR_dropout, p->dropout), attrs_int(&attrs, ATTR_stream, 5);
        in[count++] = build_constant(g, 42, LV_I64, (LvShape){0}), in[count++] = build_constant(g, 3, LV_I32, (LvShape){0});
    }
    Value *y = build_node(g, OP_attention, count, in, &attrs);
    for (int i = count - 1; i >= 3; i--) in[i + 3] = in[i];
    in[3] = y, in[4] = y->node->results + 1, in[5] = split_heads(g, build_matmul(g, dout, o, false, false), p, p->e);
    Value *grads = build_node(g, OP_attention_grad, count + 3, in, &attrs), *parts[3];
    const int order[3] = {1, 0, 2};
    for (int i = 0; i < 3; i++) parts[i] = join_heads(g, &grads[order[i]], p, i < 2 ? p->d : p->e);
    Value *dall = build_concat(g, 3, parts, 1);
    graph_add_result(g, "y", build_cast(g, join_heads(g, y, p, p->e), LV_F32));
    const char *const names[] = {"dk", "dq", "dv"};  // as they are read out of the whole
    for (int i = 0; i < 3; i++) {
        LvShape shape = lv_shape(2, (int64_t[]){rows, i < 2 ? d : e});
        graph_add_result(g, names[i], build_cast(g, build_slice(g, dall, (int64_t[]){0, i * d}, shape, NULL), LV_F32));
    }
    graph_add_result(g, "dx", build_cast(g, build_matmul(g, dall, w, false, false), LV_F32));
    graph_add_result(g, "dbias", build_reduce(g, OP_reduce_sum, build_cast(g, dall, LV_F32), 1, (int64_t[]){0}));
    evaluate_set(g, false, inputs, &b->want[at], b->arena);
    add(b, g);
}

// D = 2 has rows too short for wide copies, E = 32 differs from D, 20 columns a head begin at no multiple of 64 bytes.
static void test_projected(void **state) {
    static const Projected cases[] = {{2, 24, 2, 16, 16, true, 0}, {1, 70, 4, 64, 64, true, 0},  {2, 33, 16, 2, 2, false, 0},
                                      {1, 40, 4, 8, 8, true, 0.25}, {3, 19, 2, 16, 32, false, 0}, {1, 17, 1, 20, 20, true, 0}};
    enum { CASES = sizeof cases / sizeof *cases };
    (void)state;
    if (!device) skip();
    LvText message = {0};
    TensorSet plain[CASES];  // of a kernel a node, whose operands are copied: the same bits
    Batch b = begin();
    for (int i = 0; i < CASES; i++) add_projected(&b, &cases[i]);
    for (int fused = 0; fused < 2; fused++) {
        LvError error = {0};
        Graph *copy = graph_copy(b.graph);
        if (!backend_run(device, device->target, copy, !fused, b.parts, b.count, b.arena, &error)) fail_msg("%s", error.message);
        graph_destroy(copy);
        for (int i = 0; i < b.count; i++) {
            if (!fused) plain[i] = b.got[i];
            for (int k = 0; k < b.want[i].count; k++) {
                const char *name = b.want[i].at[k].name;
                double apart = tensor_distance(set_find(&b.got[i], name), b.want[i].at[k].tensor);
                const Tensor *other = fused ? set_find(&plain[i], name) : set_find(&b.got[i], name);
                size_t bytes = (size_t)lv_shape_elements(other->shape) * sizeof *other->f;
                if (memcmp(other->f, set_find(&b.got[i], name)->f, bytes)) lv_text_printf(&message, "case %d: %s differs where it is a view\n", i, name);
                if (!(apart <= 3e-2)) lv_text_printf(&message, "case %d, %s: %s is off by %g\n", i, fused ? "fused" : "a kernel a node", name, apart);
            }
        }
    }
    for (int i = 0; i < b.count; i++) graph_destroy(b.own[i]);
    graph_destroy(b.graph);
    lv_arena_destroy(b.arena);
    if (message.length) fail_msg("%s", lv_text_get(&message));
    lv_text_free(&message);
}

// ---- rows folded into columns: the gradients of a layer_norm's weight and bias, in the kernel that makes that of x

static Value *any_input(Graph *g, const char *name, int rank, const int64_t *dim, LvArena *arena, TensorSet *inputs) {
    LvShape shape = lv_shape(rank, dim);
    Tensor *t = tensor_new(arena, LV_F32, shape);
    for (int64_t i = 0, n = lv_shape_elements(shape); i < n; i++) {
        uint64_t bits = ((uint64_t)i + (uint64_t)*name * 7919) * 0x9E3779B97F4A7C15u;
        t->f[i] = (float)((double)((bits ^ bits >> 29) * 0xBF58476D1CE4E5B9u >> 40) / (1 << 23) - 1);
    }
    set_add(inputs, name, t);
    return graph_add_input(g, name, LV_F32, shape);
}

// What comes back to the norm comes from a product, and so after the norm's own kernel.
static void add_folded(Batch *b, int64_t rows, int64_t columns) {
    enum { AFTER = 8 };
    int at = b->count;
    TensorSet *inputs = &b->inputs[at];
    Graph *g = b->own[at] = graph_create(lv_arena_printf(b->arena, "%lld x %lld", (long long)rows, (long long)columns));
    const char *const names[] = {"x", "weight", "bias", "after"}, *const of[] = {"dx", "dweight", "dbias", "dafter"};
    Value *in[4] = {any_input(g, names[0], 2, (int64_t[]){rows, columns}, b->arena, inputs), any_input(g, names[1], 1, &columns, b->arena, inputs),
                    any_input(g, names[2], 1, &columns, b->arena, inputs), any_input(g, names[3], 2, (int64_t[]){columns, AFTER}, b->arena, inputs)};
    Value *target = any_input(g, "target", 2, (int64_t[]){rows, AFTER}, b->arena, inputs);
    Attrs eps = {0};
    attrs_float(&eps, ATTR_eps, 1e-5);
    Value *y = build_matmul(g, build_node(g, OP_layer_norm, 3, in, &eps), in[3], false, false), *off = build_binary(g, OP_sub, y, target);
    Value *loss = build_reduce(g, OP_reduce_sum, build_binary(g, OP_mul, off, off), 2, (int64_t[]){0, 1});
    for (int i = 0; i < 4; i++) graph_add_result(g, of[i], build_node(g, OP_gradient, 2, (Value *[]){loss, in[i]}, NULL));
    LvError error = {0};
    LvDiagnostics diagnostics;
    LvSources sources = {0};
    lv_diagnostics_init(&diagnostics, &sources);
    if (!lv_pass_run("autodiff,dce", g, &(LvCompileOptions){.batch = 1}, &diagnostics, &error)) fail_msg("%s", error.message);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    evaluate_set(g, false, inputs, &b->want[at], b->arena);
    add(b, g);
}

// Kernels with `text` in theirs.
static int count_with(const Batch *b, const char *text) {
    LvError error = {0};
    Graph *copy = graph_copy(b->graph);
    LvPlan *plan = backend_plan(copy, device->target, false, &error);
    int count = 0;
    if (!plan) fail_msg("%s", error.message);
    for (int i = 0; i < plan->kernel_count; i++) count += strstr(plan->kernels[i].text, text) != NULL;
    lv_plan_destroy(plan);
    graph_destroy(copy);
    return count;
}

// Fused and a kernel a node; frees the batch.
static void check_batch(Batch *b) {
    LvText message = {0};
    for (int fused = 1; fused >= 0; fused--) {
        LvError error = {0};
        Graph *copy = graph_copy(b->graph);
        if (!backend_run(device, device->target, copy, !fused, b->parts, b->count, b->arena, &error)) fail_msg("%s", error.message);
        graph_destroy(copy);
        for (int i = 0; i < b->count; i++) {
            for (int k = 0; k < b->want[i].count; k++) {
                const char *name = b->want[i].at[k].name;
                double apart = tensor_distance(set_find(&b->got[i], name), b->want[i].at[k].tensor);
                if (!(apart <= 1e-5)) lv_text_printf(&message, "%s, %s: %s is off by %g\n", b->own[i]->name, fused ? "fused" : "a kernel a node", name, apart);
            }
        }
    }
    for (int i = 0; i < b->count; i++) graph_destroy(b->own[i]);
    graph_destroy(b->graph);
    lv_arena_destroy(b->arena);
    if (message.length) fail_msg("%s", lv_text_get(&message));
    lv_text_free(&message);
}

// Columns by four, two and one a thread at a time, that fill no block's threads or need several turns; rows that fill no tile; more tiles
// than blocks, fewer than a block has warps.
static void test_folded(void **state) {
    static const int64_t sizes[][2] = {{80, 260}, {40, 1030}, {133, 129}, {123, 512}, {2203, 128}};
    enum { CASES = sizeof sizes / sizeof *sizes };
    (void)state;
    if (!device) skip();
    Batch b = begin();
    for (int i = 0; i < CASES; i++) add_folded(&b, sizes[i][0], sizes[i][1]);
    assert_int_equal(count_with(&b, "for (LvIndex tile"), CASES);
    check_batch(&b);
}

// ---- sums over rows whose columns are groups with a number each, as channels of a normalization are: threads lie along all columns

static void add_grouped(Batch *b, int64_t rows, int64_t groups, int64_t each) {
    int at = b->count;
    Graph *g = b->own[at] = graph_create(lv_arena_printf(b->arena, "%lld x %lld of %lld", (long long)rows, (long long)groups, (long long)each));
    LvShape shape = lv_shape(2, (int64_t[]){rows, groups * each});
    Value *x = any_input(g, "x", 2, shape.dim, b->arena, &b->inputs[at]), *scale = any_input(g, "scale", 1, &groups, b->arena, &b->inputs[at]);
    Value *columns = build_reshape(g, build_expand(g, scale, lv_shape(2, (int64_t[]){groups, each}), (int64_t[]){0}), lv_shape(1, shape.dim + 1));
    Value *y = build_binary(g, OP_mul, x, build_expand(g, columns, shape, (int64_t[]){1}));
    graph_add_result(g, "y", y);
    graph_add_result(g, "sum", build_reduce(g, OP_reduce_sum, y, 1, (int64_t[]){0}));
    evaluate_set(g, false, &b->inputs[at], &b->want[at], b->arena);
    add(b, g);
}

// By four, two and one column a thread at a time; columns that fill no warp, and more than one; rows that several blocks share.
static void test_grouped(void **state) {
    static const int64_t sizes[][3] = {{3000, 32, 4}, {5000, 3, 6}, {2513, 5, 16}, {4090, 7, 3}, {1001, 96, 2}};
    enum { CASES = sizeof sizes / sizeof *sizes };
    (void)state;
    if (!device) skip();
    Batch b = begin();
    for (int i = 0; i < CASES; i++) add_grouped(&b, sizes[i][0], sizes[i][1], sizes[i][2]);
    for (int i = 0; i < CASES; i++) assert_int_equal(count_with(&b, lv_arena_printf(b.arena, "*%lld + place", (long long)sizes[i][1])), 1);
    check_batch(&b);
}

int main(int argc, char **argv) {
    LvArena *arena = lv_arena_create();
    golden = golden_load(arena);
    device_name = getenv("LV_TEST_DEVICE") ? getenv("LV_TEST_DEVICE") : "cuda";
    if (!lv_device_open(device_name, 0, &device, &reason)) fprintf(stderr, "# skipped: %s\n", reason.message);
    struct CMUnitTest *tests = lv_calloc((size_t)(op_case_count + golden.count) + 4, sizeof *tests);
    int *firsts = lv_calloc((size_t)golden.count + 1, sizeof *firsts);
    size_t count = 0;
    for (int i = 0; i < op_case_count; i++) {
        void *at = (void *)(argc > 1 ? (uintptr_t)op_cases[i] : (uintptr_t)&op_cases[i]);
        if (argc > 1 && !strstr(op_cases[i], argv[1])) continue;
        if (argc == 1 && i % PART) continue;
        tests[count++] = (struct CMUnitTest){lv_arena_printf(arena, argc > 1 ? "%s" : "from %s", op_cases[i]), argc > 1 ? test_one : test_cases, NULL, NULL, at};
    }
    for (int i = 0; i < golden.count && argc == 1; i += PART) {
        firsts[i] = i;
        tests[count++] = (struct CMUnitTest){lv_arena_printf(arena, "golden from %s", golden.cases[i].name), test_golden, NULL, NULL, &firsts[i]};
    }
    if (argc == 1 || strstr("projected", argv[1])) tests[count++] = (struct CMUnitTest){"attention where products have it", test_projected, NULL, NULL, NULL};
    if (argc == 1 || strstr("folded", argv[1])) tests[count++] = (struct CMUnitTest){"rows folded into columns", test_folded, NULL, NULL, NULL};
    if (argc == 1 || strstr("grouped", argv[1])) tests[count++] = (struct CMUnitTest){"columns in groups", test_grouped, NULL, NULL, NULL};
    int failed = _cmocka_run_group_tests("cuda", tests, count, NULL, NULL);
    free(tests), free(firsts);
    golden_free(&golden);
    lv_arena_destroy(arena);
    lv_device_close(device);
    lv_error_clear(&reason);
    return failed;
}
