// Whole compilations on random graphs: passes, fusion, kernels through cc, library calls, memory; against the reference.
// test_cuda_whole.c is the same on a GPU.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/device.h"
#include "driver/pipeline.h"
#include "exec/program.h"
#include "conv_net.h"
#include "random_graph.h"

#ifndef TEST_DEVICE
#define TEST_DEVICE "cpu"
#endif

typedef struct {
    LvDevice *device;  // NULL: there is none here
    LvArena *arena;
    LvError error;
    const char *what;
    uint64_t seed;
    double remat;
    int64_t side;   // of the network's pictures, 0: 8
    int64_t bytes;  // of the activations, out
    int convolutions;  // out
} Trial;

static void require(Trial *t, bool done) {
    if (!done) fail_msg("seed %llu, %s: %s", (unsigned long long)t->seed, t->what, t->error.message ? t->error.message : "failed");
}

static float *as_floats(Trial *t, const Tensor *tensor) {
    int64_t n = lv_shape_elements(tensor->shape);
    float *out = LV_NEW_ARRAY(t->arena, float, n + 1);
    for (int64_t i = 0; i < n; i++) out[i] = (float)tensor->f[i];
    return out;
}

static LvPlan *compile(Trial *t, Graph *graph, const LvCompileOptions *options) {
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    LvPlan *plan = NULL;
    bool stopped = false;
    lv_diagnostics_init(&diagnostics, &sources);
    require(t, pipeline_run(graph, options, t->remat, &diagnostics, &stopped, &t->error));
    pipeline_finish(graph, options, &diagnostics, &plan);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    return plan;
}

static void expect_near(Trial *t, const char *name, const Tensor *want, const float *got, const LvPlan *plan) {
    double scale = 0, n = (double)lv_shape_elements(want->shape);
    for (int64_t i = 0; i < lv_shape_elements(want->shape); i++) scale += want->f[i] * want->f[i] / n;
    for (int64_t i = 0; i < lv_shape_elements(want->shape); i++) {
        if (isnan(want->f[i]) && isnan(got[i])) continue;
        if (fabs(want->f[i] - got[i]) <= 1e-4 * (1 + sqrt(scale) + fabs(want->f[i])) || want->f[i] == got[i]) continue;
        LvText text = {0};
        dump_plan(plan, &text);
        fail_msg("seed %llu, %s: %s[%lld] is %.9g, not %.9g\n%s", (unsigned long long)t->seed, t->what, name, (long long)i, got[i],
                 want->f[i], lv_text_get(&text));
    }
}

// Relative to the root mean square.
static void expect_close(Trial *t, const char *name, const double *want, const float *got, int64_t count, double tolerance) {
    double error = 0, scale = 0;
    for (int64_t i = 0; i < count; i++) {
        error += (want[i] - got[i]) * (want[i] - got[i]);
        scale += want[i] * want[i];
    }
    if (!(sqrt(error) <= tolerance * sqrt(scale) + 1e-12)) fail_msg("%s: %s is off by %.3g", t->what, name, sqrt(error / scale));
}

static void compare(Trial *t, LvProgram *program, LvStore *store, const LvPlan *plan, const Outputs *want) {
    for (int i = 0; i < want->count; i++) {
        size_t bytes = (size_t)lv_shape_elements(want->tensors[i].shape) * sizeof(float);
        float *got = lv_arena_alloc(t->arena, bytes + 1);
        if (strcmp(want->names[i], "w<-") == 0) require(t, lv_store_read(store, 0, got, bytes, &t->error));
        else require(t, lv_program_get_result(program, want->names[i], got, bytes, &t->error));
        expect_near(t, want->names[i], &want->tensors[i], got, plan);
    }
}

static void run(Trial *t, const LvCompileOptions *options) {
    t->arena = lv_arena_create();
    Graph *graph = make_graph(t->seed, t->seed % 2);
    Outputs inputs = {.arena = t->arena};
    Graph *derived = graph_copy(graph);
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    lv_diagnostics_init(&diagnostics, &sources);
    require(t, lv_pass_run("autodiff", derived, options, &diagnostics, &t->error));
    Outputs want = evaluate(derived, t->arena);
    LvPlan *plan = compile(t, graph, options);
    LvStore *store = NULL;
    LvProgram *program = NULL;
    require(t, lv_store_create(t->device, plan, &store, &t->error));
    require(t, lv_program_create(t->device, plan, store, &program, &t->error));
    Attrs attrs = {0};
    for (int i = 0; i < plan->input_count; i++) {
        Value result = {.dtype = plan->inputs[i].dtype, .shape = plan->inputs[i].shape};
        Node node = {.op = OP_input, .results = &result};
        attrs.count = 0;
        attrs_name(&attrs, ATTR_name, plan->inputs[i].name);
        node.attrs = attrs;
        size_t bytes = (size_t)lv_shape_elements(result.shape) * sizeof(float);
        require(t, lv_program_set_input(program, plan->inputs[i].name, as_floats(t, on_input(&inputs, &node)), bytes, &t->error));
    }
    Value result = {.dtype = LV_F32, .shape = plan->variables[0].shape};
    Node node = {.op = OP_state_read, .results = &result};
    size_t bytes = (size_t)lv_shape_elements(result.shape) * sizeof(float);
    require(t, lv_store_write(store, 0, as_floats(t, on_variable(&inputs, &node, 0)), bytes, &t->error));
    require(t, lv_program_run(program, &t->error));
    compare(t, program, store, plan, &want);
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    graph_destroy(derived);
    graph_destroy(graph);
    lv_arena_destroy(t->arena);
}

// ---- a network's training step

typedef struct {
    Tensor parameters[64], momentum, written[2], results[3];
    Outputs outputs;
    const Graph *graph;
} Training;

static const Tensor *net_input(void *user, const Node *node) {
    Training *training = user;
    return given(&training->outputs, node, 5);
}

// Variables around 0 with a spread that keeps activations near 1. Momentum starts at 0: it ends as the gradient.
static const Tensor *net_variable(void *user, const Node *node, int variable) {
    Training *training = user;
    const Variable *v = &training->graph->variables.data[variable];
    Tensor *tensor = (Tensor *)given(&training->outputs, node, 100 + (uint64_t)variable);
    double fan = v->shape.rank == 4 ? (double)(v->shape.dim[1] * v->shape.dim[2] * v->shape.dim[3]) : 4;
    for (int64_t i = 0; i < lv_shape_elements(v->shape); i++) tensor->f[i] = (float)(tensor->f[i] / sqrt(fan));
    if (!v->is_pack && v->kind != LV_VARIABLE_OPTIMIZER) return tensor;
    memset(tensor->f, 0, (size_t)lv_shape_elements(v->shape) * sizeof *tensor->f);
    for (size_t k = 0; k < training->graph->variables.count; k++) {
        const Variable *member = &training->graph->variables.data[k];
        if (member->pack != variable) continue;
        Value result = {.dtype = LV_F32, .shape = member->shape};
        Node read = {.op = OP_state_read, .results = &result};
        const Tensor *part = net_variable(user, &read, (int)k);
        memcpy(tensor->f + member->pack_offset, part->f, (size_t)lv_shape_elements(member->shape) * sizeof *tensor->f);
    }
    return tensor;
}

static void net_write(void *user, int variable, const Tensor *value) {
    Training *training = user;
    training->written[training->graph->variables.data[variable].is_pack] = *value;
}

static void net_result(void *user, const char *name, const Tensor *value) {
    Training *training = user;
    training->results[strcmp(name, "loss") == 0 ? 0 : strcmp(name, "image") == 0 ? 1 : 2] = *value;
}

static void train_once(Trial *t, const LvCompileOptions *options, int64_t width, double tolerance, bool report) {
    t->arena = lv_arena_create();
    Graph *graph = make_conv_net(2, width, t->side ? t->side : 8), *derived = graph_copy(graph);
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    lv_diagnostics_init(&diagnostics, &sources);
    require(t, lv_pass_run("autodiff", derived, options, &diagnostics, &t->error));
    Training want = {.outputs = {.arena = t->arena}, .graph = graph};
    EvaluationHooks hooks = {&want, net_input, net_variable, net_write, net_result};
    graph_evaluate(derived, false, &hooks, t->arena);
    LvPlan *plan = compile(t, graph, options);
    t->bytes = plan->arena_bytes[LV_ARENA_ACTIVATIONS];
    t->convolutions = 0;
    for (int i = 0; i < plan->step_count; i++) t->convolutions += plan->steps[i].kind == LV_STEP_CONV;
    if (report) {
        LvText text = {0};
        dump_explain(plan, &text);
        printf("%s", lv_text_get(&text));
        lv_text_free(&text);
    }
    LvStore *store = NULL;
    LvProgram *program = NULL;
    require(t, lv_store_create(t->device, plan, &store, &t->error));
    require(t, lv_program_create(t->device, plan, store, &program, &t->error));
    for (int i = 0; i < plan->variable_count; i++) {
        Value result = {.dtype = LV_F32, .shape = plan->variables[i].shape};
        Node node = {.op = OP_state_read, .results = &result};
        int variable = 0;
        while (strcmp(graph->variables.data[variable].name, plan->variables[i].name) != 0) variable++;
        size_t bytes = (size_t)lv_shape_elements(result.shape) * sizeof(float);
        require(t, lv_store_write(store, i, as_floats(t, net_variable(&want, &node, variable)), bytes, &t->error));
    }
    Value image = {.dtype = LV_F32, .shape = plan->inputs[0].shape};
    Node node = {.op = OP_input, .results = &image};
    size_t image_bytes = (size_t)lv_shape_elements(image.shape) * sizeof(float);
    require(t, lv_program_set_input(program, "image", as_floats(t, net_input(&want, &node)), image_bytes, &t->error));
    require(t, lv_program_run(program, &t->error));
    static const char *const names[] = {"loss", "image", "middle"};
    for (int i = 0; i < 3; i++) {
        size_t bytes = (size_t)lv_shape_elements(want.results[i].shape) * sizeof(float);
        float *got = lv_arena_alloc(t->arena, bytes);
        require(t, lv_program_get_result(program, names[i], got, bytes, &t->error));
        expect_close(t, names[i], want.results[i].f, got, lv_shape_elements(want.results[i].shape), tolerance);
    }
    int pack = (int)graph->variables.count - 2;
    for (int i = 0; i < plan->variable_count; i++) {
        const LvVariable *v = &plan->variables[i];
        int64_t n = lv_shape_elements(v->shape);
        float *got = lv_arena_alloc(t->arena, (size_t)n * sizeof(float));
        require(t, lv_store_read(store, i, got, (size_t)n * sizeof(float), &t->error));
        bool moment = v->kind == LV_VARIABLE_OPTIMIZER;
        int variable = 0;
        while (strcmp(graph->variables.data[variable].name, v->name) != 0) variable++;
        assert_true(moment || graph->variables.data[variable].pack == pack);
        const double *values = moment ? want.written[0].f : want.written[1].f + graph->variables.data[variable].pack_offset;
        expect_close(t, v->name, values, got, n, tolerance);
    }
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    graph_destroy(derived);
    graph_destroy(graph);
    lv_arena_destroy(t->arena);
}

static LvCompileOptions options_for(LvDevice *device, int64_t batch) {
    if (!device) skip();
    return (LvCompileOptions){.batch = batch, .conv = LV_CONV_DIRECT, .device = device->target};
}

static void a_network_trains_as_the_reference(void **state) {
    LvCompileOptions plain = options_for(*state, 2), options[] = {plain, plain, plain}, bf16 = plain;
    options[1].no_fuse = options[2].no_optimize = true;
    bf16.precision = LV_PRECISION_BF16;
    static const char *const names[] = {"net", "net, no_fuse", "net, no_optimize"};
    bool report = getenv("LV_TEST_EXPLAIN") != NULL;
    for (int i = 0; i < 3; i++) train_once(&(Trial){.device = *state, .what = names[i]}, &options[i], 16, 2e-5, report && i == 0);
    train_once(&(Trial){.device = *state, .what = "narrow net"}, &options[0], 8, 2e-5, false);
    Trial kept = {.device = *state, .what = "kept"}, again = {.device = *state, .what = "made again", .remat = 1};
    train_once(&kept, &options[0], 32, 2e-5, false);
    train_once(&again, &options[0], 32, 2e-5, false);
    if (again.bytes >= kept.bytes) fail_msg("%lld bytes made again, %lld kept", (long long)again.bytes, (long long)kept.bytes);
    // larger pictures: what a convolution is made of once more must not be as much as it saves
    Trial cheap = {.device = *state, .what = "larger", .remat = 1, .side = 16}, all = cheap;
    all.what = "convolutions made again", all.remat = 2;
    train_once(&cheap, &options[0], 32, 2e-5, false);
    train_once(&all, &options[0], 32, 2e-5, false);
    if (all.convolutions <= cheap.convolutions) fail_msg("%d convolutions, and none is made again", all.convolutions);
    train_once(&(Trial){.device = *state, .what = "bf16 net"}, &bf16, 16, 2e-2, false);
}

static Value *square_conv(Graph *g, Value *x, Value *weight) {
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_stride, 2, (int64_t[]){1, 1});
    attrs_list(&attrs, ATTR_pad, 4, (int64_t[]){1, 1, 1, 1});
    return build_node(g, OP_conv2d, 2, (Value *[]){x, weight}, &attrs);
}

// Bytes of activations of a convolution, a pixel of whose result is the pivot of sums over it, and of many more convolutions. `late`: at the
// end, when the map has long been free, the pixel is used again.
static int64_t pixel_bytes(Trial *t, const LvCompileOptions *options, bool late) {
    static const LvShape MAP = {4, {1, 16, 32, 32}}, PIXEL = {4, {1, 16, 1, 1}};
    static const int64_t ALL[] = {0, 1, 2, 3};
    Net net = {.graph = graph_create("g")};
    Graph *g = net.graph;
    Value *weight = net_param(&net, (LvShape){4, {16, 16, 3, 3}});
    Value *x = square_conv(g, graph_add_input(g, "image", LV_F32, MAP), weight);
    Value *pivot = build_expand(g, build_slice(g, x, (int64_t[]){0, 0, 5, 5}, PIXEL, NULL), MAP, ALL);
    Value *sum = build_reduce(g, OP_reduce_sum, build_binary(g, OP_sub, x, pivot), 2, (int64_t[]){2, 3});
    x = build_binary(g, OP_mul, x, build_expand(g, build_reshape(g, sum, PIXEL), MAP, ALL));
    for (int i = 0; i < 1500; i++) x = square_conv(g, x, weight);
    graph_add_result(g, "y", late ? build_binary(g, OP_sub, x, pivot) : x);
    LvPlan *plan = compile(t, g, options);
    int64_t bytes = plan->arena_bytes[LV_ARENA_ACTIVATIONS];
    lv_plan_destroy(plan);
    lv_vec_free(&net.params);
    lv_vec_free(&net.values);
    graph_destroy(g);
    return bytes;
}

static void a_pixel_waits_without_its_map(void **state) {
    LvCompileOptions options = options_for(*state, 1);
    for (int i = 0; i < 2; i++) {
        options.precision = i ? LV_PRECISION_BF16 : LV_PRECISION_F32;
        Trial trial = {.device = *state, .what = i ? "pixel in bf16" : "pixel"};
        int64_t whole = 16 * 32 * 32 * (i ? 2 : 4), more = pixel_bytes(&trial, &options, true) - pixel_bytes(&trial, &options, false);
        if (more >= whole / 4) fail_msg("%s: %lld bytes more, of a map of %lld", trial.what, (long long)more, (long long)whole);
    }
}

static int setup(void **state) {
    LvError error = {0};
    LvDevice *device = NULL;
    if (!lv_device_open(TEST_DEVICE, 2, &device, &error)) fprintf(stderr, "# skipped: %s\n", error.message);
    lv_error_clear(&error);
    *state = device;
    return 0;
}

static int teardown(void **state) {
    lv_device_close(*state);
    return 0;
}

static int trials(void) {
    const char *more = getenv("LV_TEST_SEEDS");
    return more ? atoi(more) : 12;
}

static void fused_runs_as_the_reference(void **state) {
    LvCompileOptions options = options_for(*state, 1);
    for (int i = 1; i <= trials(); i++) run(&(Trial){.device = *state, .what = "fused", .seed = (uint64_t)i}, &options);
}

static void unfused_runs_as_the_reference(void **state) {
    LvCompileOptions options = options_for(*state, 1);
    options.no_fuse = true;
    for (int i = 1; i <= trials() / 4; i++) run(&(Trial){.device = *state, .what = "no_fuse", .seed = (uint64_t)(100 + i)}, &options);
}

static void unoptimized_runs_as_the_reference(void **state) {
    LvCompileOptions options = options_for(*state, 1);
    options.no_optimize = true;
    for (int i = 1; i <= trials() / 4; i++) run(&(Trial){.device = *state, .what = "no_optimize", .seed = (uint64_t)(200 + i)}, &options);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_trains_as_the_reference),
        cmocka_unit_test(a_pixel_waits_without_its_map),
        cmocka_unit_test(fused_runs_as_the_reference),
        cmocka_unit_test(unfused_runs_as_the_reference),
        cmocka_unit_test(unoptimized_runs_as_the_reference),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
