// Every op on the CPU backend against the reference evaluation: the cases of cases.c, forward and gradient, fused and one kernel
// a node; and the golden cases. Each goes the whole way: passes, schedule, plan, cc, the runtime. What cc takes for a few hundred small
// plans is mostly its start and its end: the kernels of all cases are compiled first, together, and a case finds its own in the cache.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.h"
#include "base/map.h"
#include "device/device.h"
#include "golden.h"

static LvDevice *device;

static void run_on_cpu(const char *label, const Graph *graph, bool no_fuse, const TensorSet *inputs, TensorSet *results, LvArena *arena) {
    LvError error = {0};
    Graph *copy = graph_copy(graph);
    BackendPart part = {"", inputs, results};
    bool fine = backend_run(device, "cpu", copy, no_fuse, &part, 1, arena, &error);
    graph_destroy(copy);
    if (!fine) fail_msg("%s: %s", label, error.message ? error.message : "no plan");
}

// The case's graph, and what it reads.
static Graph *graph_of(OpCase *c, TensorSet *inputs) {
    for (int i = 0; i < c->input_count; i++) set_add(inputs, lv_arena_printf(c->arena, "x%d", i), case_input(c, i));
    Graph *graph = case_graph(c);
    // One graph for both: the forward results are among those of the joint graph.
    if (backend_has_gradient(c)) case_differentiate(graph, c, 1, c->arena, inputs);
    return graph;
}

// ---- the kernels of all cases

typedef struct {
    LvPlan *plan;  // of kernels, and no steps
    LV_VEC(LvKernelText) kernels;
    LvMap names;
} Kernels;

// A graph of which there is no plan is left to its case, which says why.
static void add_kernels(Kernels *all, const Graph *graph, bool no_fuse) {
    LvError error = {0};
    Graph *copy = graph_copy(graph);
    LvPlan *plan = backend_plan(copy, "cpu", no_fuse, &error);
    graph_destroy(copy);
    lv_error_clear(&error);
    if (!plan) return;
    LvArena *arena = all->plan->arena;
    if (plan->prelude && !all->plan->prelude) all->plan->prelude = lv_arena_strdup(arena, plan->prelude);
    for (int k = 0; k < plan->kernel_count; k++) {
        const LvKernelText *kernel = &plan->kernels[k];
        if (lv_map_has(&all->names, kernel->name)) continue;
        lv_vec_push(&all->kernels, ((LvKernelText){lv_arena_strdup(arena, kernel->name), lv_arena_strdup(arena, kernel->text)}));
        lv_map_set(&all->names, all->kernels.data[all->kernels.count - 1].name, all);
    }
    lv_plan_destroy(plan);
}

static void add_case_kernels(Kernels *all, const char *line) {
    LvArena *arena = lv_arena_create();
    TensorSet inputs = {0};
    Graph *graph = graph_of(case_parse(line, arena), &inputs);
    for (int apart = 0; apart < 2; apart++) add_kernels(all, graph, apart);
    graph_destroy(graph);
    lv_arena_destroy(arena);
}

// What cc refuses here it will refuse in the case that it belongs to.
static void compile_all(const GoldenCases *golden) {
    LvError error = {0};
    LvLoadInfo info;
    LvModule *module = NULL;
    Kernels all = {.plan = lv_plan_create()};
    for (int i = 0; i < op_case_count; i++) add_case_kernels(&all, op_cases[i]);
    for (int i = 0; i < golden->count; i++) add_kernels(&all, golden->cases[i].graph, false);
    all.plan->kernels = all.kernels.data, all.plan->kernel_count = (int)all.kernels.count;
    if (device->ops->load(device, all.plan, &module, &info, &error)) device->ops->unload(device, module);
    lv_error_clear(&error);
    lv_plan_destroy(all.plan);
    lv_vec_free(&all.kernels);
    lv_map_free(&all.names);
}

// ---- cases

static void check_against(const OpCase *c, const Graph *graph, bool no_fuse, const TensorSet *inputs, const TensorSet *want) {
    TensorSet got;
    LvText message = {0};
    run_on_cpu(c->text, graph, no_fuse, inputs, &got, c->arena);
    if (!backend_compare(c, inputs, want, &got, no_fuse ? "a kernel a node" : "fused", &message)) fail_msg("%s", lv_text_get(&message));
}

static void check(const OpCase *c, const Graph *graph, const TensorSet *inputs) {
    TensorSet want;
    evaluate_set(graph, false, inputs, &want, c->arena);
    check_against(c, graph, false, inputs, &want);
    check_against(c, graph, true, inputs, &want);
}

static void test_case(void **state) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(*state, arena);
    TensorSet inputs = {0};
    Graph *graph = graph_of(c, &inputs);
    check(c, graph, &inputs);
    graph_destroy(graph);
    lv_arena_destroy(arena);
}

static void test_golden(void **state) {
    const GoldenCase *c = *state;
    LvArena *arena = lv_arena_create();
    TensorSet got;
    run_on_cpu(c->name, c->graph, false, &c->inputs, &got, arena);
    for (int i = 0; i < c->want.count; i++) {
        const char *name = c->want.at[i].name;
        double tolerance = !strncmp(name, "grad_", 5) ? 1e-4 : 1e-5;
        double apart = tensor_distance(set_find(&got, name), c->want.at[i].tensor);
        if (!(apart <= tolerance)) fail_msg("%s: %s is off by %g", c->name, name, apart);
    }
    lv_arena_destroy(arena);
}

int main(int argc, char **argv) {
    LvError error = {0};
    LvArena *arena = lv_arena_create();
    GoldenCases golden = golden_load(arena);
    struct CMUnitTest *tests = lv_calloc((size_t)(op_case_count + golden.count) + 1, sizeof *tests);
    size_t count = 0;
    if (!lv_device_open("cpu", 0, &device, &error)) return fprintf(stderr, "%s\n", error.message), 1;
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    else compile_all(&golden);
    for (int i = 0; i < op_case_count; i++) tests[count++] = (struct CMUnitTest){op_cases[i], test_case, NULL, NULL, (void *)op_cases[i]};
    for (int i = 0; i < golden.count; i++) tests[count++] = (struct CMUnitTest){golden.cases[i].name, test_golden, NULL, NULL, &golden.cases[i]};
    int failed = _cmocka_run_group_tests("cpu", tests, count, NULL, NULL);
    free(tests);
    golden_free(&golden);
    lv_arena_destroy(arena);
    lv_device_close(device);
    return failed;
}
