// Every op on the CPU backend against the reference evaluation: the cases of cases.c, forward and gradient, fused and one kernel
// a node; and the golden cases. Each goes the whole way: passes, schedule, plan, cc, the runtime.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver/pipeline.h"
#include "exec/program.h"
#include "golden.h"

static LvDevice *device;

// ---- a graph through the backend

static void *tensor_bytes(const Tensor *t, size_t *bytes) {
    int64_t n = lv_shape_elements(t->shape);
    *bytes = (size_t)n * lv_dtype_size(t->dtype);
    char *data = lv_malloc(*bytes + 8);
    for (int64_t i = 0; i < n; i++) lv_element_set(data, t->dtype, i, tensor_at(t, i));
    return data;
}

static LvPlan *make_plan(Graph *graph, bool no_fuse, LvError *error) {
    LvDiagnostics diagnostics;
    LvSources sources = {0};
    LvPlan *plan = NULL;
    bool stopped = false;
    LvCompileOptions options = {.entry = graph->name, .batch = 1, .device = "cpu", .no_fuse = no_fuse, .no_optimize = no_fuse, .conv = LV_CONV_DIRECT};
    lv_diagnostics_init(&diagnostics, &sources);
    if (pipeline_run(graph, &options, 0, &diagnostics, &stopped, error)) pipeline_finish(graph, &options, &diagnostics, &plan);
    lv_diagnostics_free(&diagnostics);
    return plan;
}

static bool run_program(LvProgram *program, const LvPlan *plan, const TensorSet *inputs, TensorSet *results, LvArena *arena, LvError *error) {
    for (int i = 0; i < plan->input_count; i++) {
        const Tensor *t = set_find(inputs, plan->inputs[i].name);
        size_t bytes;
        void *data = tensor_bytes(t, &bytes);
        bool fine = lv_program_set_input(program, plan->inputs[i].name, data, bytes, error);
        free(data);
        if (!fine) return false;
    }
    if (!lv_program_run(program, error)) return false;
    results->count = 0;
    for (int i = 0; i < plan->result_count; i++) {
        const LvPort *port = &plan->results[i];
        Tensor *t = tensor_new(arena, port->dtype, port->shape);
        int64_t n = lv_shape_elements(port->shape);
        size_t bytes = (size_t)n * lv_dtype_size(port->dtype);
        char *data = lv_malloc(bytes + 8);
        if (!lv_program_get_result(program, port->name, data, bytes, error)) return free(data), false;
        for (int64_t k = 0; k < n; k++) {
            double v = lv_element_get(data, port->dtype, k);
            if (t->f) t->f[k] = v;
            else t->i[k] = (int64_t)v;
        }
        free(data);
        set_add(results, lv_arena_strdup(arena, port->name), t);
    }
    return true;
}

static void run_on_cpu(const char *label, const Graph *graph, bool no_fuse, const TensorSet *inputs, TensorSet *results, LvArena *arena) {
    LvError error = {0};
    LvStore *store = NULL;
    LvProgram *program = NULL;
    Graph *copy = graph_copy(graph);
    LvPlan *plan = make_plan(copy, no_fuse, &error);
    bool fine = plan && lv_store_create(device, plan, &store, &error) && lv_program_create(device, plan, store, &program, &error) &&
                run_program(program, plan, inputs, results, arena, &error);
    if (program) lv_program_destroy(program);
    if (store) lv_store_destroy(store);
    if (plan) lv_plan_destroy(plan);
    graph_destroy(copy);
    if (!fine) fail_msg("%s: %s", label, error.message ? error.message : "no plan");
}

// ---- cases

// f32 against the true values, with room for the random test values' cancellations.
static double case_tolerance(const Tensor *want, bool gradient, bool coarse) {
    return !want->f ? 0 : coarse ? 1e-2 : gradient ? 2e-5 : 5e-6;
}

static bool has_bf16(const TensorSet *set) {
    for (int i = 0; i < set->count; i++)
        if (set->at[i].tensor->dtype == LV_BF16) return true;
    return false;
}

static void compare(const char *label, bool coarse, const TensorSet *want, const TensorSet *got, const char *how) {
    for (int i = 0; i < want->count; i++) {
        const char *name = want->at[i].name;
        if (!strcmp(name, "loss")) continue;  // a sum that cancels: what it is made of is compared
        double apart = tensor_distance(set_find(got, name), want->at[i].tensor);
        if (!(apart <= case_tolerance(want->at[i].tensor, name[0] == 'd', coarse)))
            fail_msg("%s: %s %s is off by %g", label, name, how, apart);
    }
}

static bool has_gradient(const OpCase *c) {
    for (int i = 0; i < c->attrs.count; i++) {
        AttrName name = c->attrs.at[i].name;
        if (name == ATTR_bias || name == ATTR_residual || name == ATTR_activation) return false;
    }
    return op_info(c->op)->gradient && case_smooth(c);
}

static void check(const OpCase *c, const Graph *graph, const TensorSet *inputs) {
    TensorSet want, got;
    evaluate_set(graph, false, inputs, &want, c->arena);
    bool coarse = has_bf16(&want) || has_bf16(inputs);
    run_on_cpu(c->text, graph, false, inputs, &got, c->arena);
    compare(c->text, coarse, &want, &got, "fused");
    run_on_cpu(c->text, graph, true, inputs, &got, c->arena);
    compare(c->text, coarse, &want, &got, "a kernel a node");
}

static void test_case(void **state) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(*state, arena);
    TensorSet inputs = {0};
    for (int i = 0; i < c->input_count; i++) set_add(&inputs, lv_arena_printf(arena, "x%d", i), case_input(c, i));
    Graph *graph = case_graph(c);
    // One graph for both: the forward results are among those of the joint graph.
    if (has_gradient(c)) case_differentiate(graph, c, 1, arena, &inputs);
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
    for (int i = 0; i < op_case_count; i++) tests[count++] = (struct CMUnitTest){op_cases[i], test_case, NULL, NULL, (void *)op_cases[i]};
    for (int i = 0; i < golden.count; i++) tests[count++] = (struct CMUnitTest){golden.cases[i].name, test_golden, NULL, NULL, &golden.cases[i]};
    int failed = _cmocka_run_group_tests("cpu", tests, count, NULL, NULL);
    free(tests);
    golden_free(&golden);
    lv_arena_destroy(arena);
    lv_device_close(device);
    return failed;
}
