// Passes keep what a graph computes: random graphs over the op table, evaluated by the reference before and after each pass.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver/pipeline.h"
#include "ops/op.h"
#include "random_graph.h"

static bool near(double a, double b, double tolerance) {
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b)) return a == b;
    return fabs(a - b) <= tolerance * (1 + fabs(a) + fabs(b));
}

static void expect_same(const Outputs *want, const Outputs *got, const char *pass, uint64_t seed, double tolerance, const Graph *graph) {
    for (int i = 0; i < want->count; i++) {
        int k = 0;
        while (k < got->count && strcmp(want->names[i], got->names[k]) != 0) k++;
        if (k == got->count) fail_msg("seed %llu: %s lost %s", (unsigned long long)seed, pass, want->names[i]);
        const Tensor *a = &want->tensors[i], *b = &got->tensors[k];
        assert_true(lv_shape_equal(a->shape, b->shape));
        for (int64_t at = 0; at < lv_shape_elements(a->shape); at++) {
            if (near(a->f[at], b->f[at], tolerance)) continue;
            LvText text = {0};
            graph_print(graph, &text);
            fail_msg("seed %llu: %s changed %s[%lld] from %.9g to %.9g in\n%s", (unsigned long long)seed, pass, want->names[i],
                     (long long)at, a->f[at], b->f[at], lv_text_get(&text));
        }
    }
}

static void verify(const Graph *graph, const char *pass, uint64_t seed, LvArena *arena) {
    const char *wrong = graph_verify(graph, arena);
    if (wrong) fail_msg("seed %llu: %s: %s", (unsigned long long)seed, pass, wrong);
}

static void run_all(uint64_t seed, bool differentiate) {
    static const char *const passes[] = {"fold", "cse", "dce", "algebra", "cse", "fold", "algebra", "dce", "upsample", "autodiff", "decompose",
                                         "fold", "algebra", "cse", "dce", "epilogue", "layout", "cse", "dce", "remat", "order"};
    LvArena *arena = lv_arena_create();
    Graph *graph = make_graph(seed, differentiate);
    verify(graph, "the maker", seed, arena);
    Graph *derived = graph_copy(graph);  // gradients have no evaluation: what is kept is the derived graph's
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    lv_diagnostics_init(&diagnostics, &sources);
    LvError error = {0};
    LvCompileOptions options = {.batch = 1};
    assert_true(lv_pass_run("autodiff", derived, &options, &diagnostics, &error));
    Outputs want = evaluate(derived, arena);
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        assert_true(lv_pass_run(passes[i], graph, &options, &diagnostics, &error));
        verify(graph, passes[i], seed, arena);
        if (graph_find_input(graph, "a") == NULL) fail_msg("seed %llu: %s lost an input", (unsigned long long)seed, passes[i]);
        if (i < 9 && differentiate) continue;
        Outputs got = evaluate(graph, arena);
        expect_same(&want, &got, passes[i], seed, 2e-5, graph);
    }
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    graph_destroy(derived);
    graph_destroy(graph);
    lv_arena_destroy(arena);
}

static void passes_keep_values(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) run_all(seed, false);
}

static void passes_keep_gradients(void **state) {
    (void)state;
    for (uint64_t seed = 1001; seed <= 1200; seed++) run_all(seed, true);
}

static void unknown_pass_is_named(void **state) {
    (void)state;
    Graph *graph = graph_create("g");
    LvError error = {0};
    LvCompileOptions options = {.batch = 1};
    assert_false(lv_pass_run("dce,algbra", graph, &options, NULL, &error));
    assert_string_equal(error.message, "there is no pass 'algbra'");
    assert_string_equal(error.hint, "did you mean 'algebra'?");
    lv_error_clear(&error);
    graph_destroy(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_keep_values),
        cmocka_unit_test(passes_keep_gradients),
        cmocka_unit_test(unknown_pass_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
