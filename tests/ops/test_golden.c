// The single-op cases made with PyTorch, forward and gradients: through the reference evaluation in f64, and, decomposed and
// rounded to f32 after every op, as a backend computes them. test_cpu.c runs the same on the CPU.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"

static void compare(const GoldenCase *c, const Graph *graph, bool round, double forward, double gradient) {
    LvArena *arena = lv_arena_create();
    TensorSet got;
    evaluate_set(graph, round, &c->inputs, &got, arena);
    for (int i = 0; i < c->want.count; i++) {
        const char *name = c->want.at[i].name;
        double tolerance = !strncmp(name, "grad_", 5) ? gradient : forward;
        double apart = tensor_distance(set_find(&got, name), c->want.at[i].tensor);
        if (!(apart <= tolerance)) fail_msg("%s: %s is off by %g", c->name, name, apart);
    }
    lv_arena_destroy(arena);
}

static void test_case(void **state) {
    const GoldenCase *c = *state;
    compare(c, c->graph, false, 1e-6, 1e-6);
    Graph *parts = graph_copy(c->graph);
    graph_decompose_all(parts);
    compare(c, parts, true, 1e-5, 1e-4);
    graph_destroy(parts);
}

int main(void) {
    LvArena *arena = lv_arena_create();
    GoldenCases golden = golden_load(arena);
    struct CMUnitTest *tests = lv_calloc((size_t)golden.count + 1, sizeof *tests);
    for (int i = 0; i < golden.count; i++)
        tests[i] = (struct CMUnitTest){golden.cases[i].name, test_case, NULL, NULL, &golden.cases[i]};
    int failed = _cmocka_run_group_tests("golden", tests, (size_t)golden.count, NULL, NULL);
    free(tests);
    golden_free(&golden);
    lv_arena_destroy(arena);
    return failed;
}
