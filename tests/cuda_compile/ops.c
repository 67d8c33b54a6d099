// The kernels of the op tests: every case of tests/ops/cases.c, forward and gradient, and the golden single operations, each fused
// and a kernel a node.
#include <string.h>

#include "../ops/backend.h"
#include "../ops/golden.h"
#include "check.h"
#include "driver/pipeline.h"

static bool add_graph(Check *check, const char *label, const Graph *graph, const char *device, LvError *error) {
    for (int apart = 0; apart < 2; apart++) {
        LvDiagnostics diagnostics;
        LvSources sources = {0};
        LvPlan *plan = NULL;
        bool stopped = false;
        Graph *copy = graph_copy(graph);
        LvCompileOptions options = {.entry = copy->name, .batch = 1, .device = device, .no_fuse = apart, .no_optimize = apart};
        lv_diagnostics_init(&diagnostics, &sources);
        check->context = lv_arena_printf(check->arena, "%s%s: ", label, apart ? ", a kernel a node" : "");
        bool good = pipeline_run(copy, &options, 0, &diagnostics, &stopped, error);
        if (good) pipeline_finish(copy, &options, &diagnostics, &plan);
        good = good && check_add(check, plan, error);
        lv_diagnostics_free(&diagnostics);
        lv_plan_destroy(plan);
        graph_destroy(copy);
        if (!good) return lv_error_prefix(error, "%s", label);
    }
    return true;
}

static bool add_case(Check *check, const char *line, const char *device, LvError *error) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(line, arena);
    TensorSet inputs = {0};
    for (int i = 0; i < c->input_count; i++) set_add(&inputs, lv_arena_printf(arena, "x%d", i), case_input(c, i));
    Graph *graph = case_graph(c);
    if (backend_has_gradient(c)) case_differentiate(graph, c, 1, arena, &inputs);
    bool good = add_graph(check, line, graph, device, error);
    graph_destroy(graph);
    lv_arena_destroy(arena);
    return good;
}

bool check_add_ops(Check *check, int sm, LvError *error) {
    LvArena *arena = lv_arena_create();
    GoldenCases golden = golden_load(arena);
    const char *device = lv_arena_printf(arena, "cuda:sm_%d", sm);
    bool good = true;
    for (int i = 0; good && i < op_case_count; i++) good = add_case(check, op_cases[i], device, error);
    for (int i = 0; good && i < golden.count; i++) good = add_graph(check, golden.cases[i].name, golden.cases[i].graph, device, error);
    golden_free(&golden);
    lv_arena_destroy(arena);
    return good;
}
