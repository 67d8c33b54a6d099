// The graph's text form, verifier and copy; autodiff's sums, zeros and second derivatives.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autodiff/autodiff.h"
#include "ops/op.h"

static const char *const whole =
    "graph train {\n"
    "  variable \"w\" param f32[2, 3] in 1 at 0\n"
    "  variable \"$params\" pack param f32[16]\n"
    "  %0: f32[4, 2] = input {name = \"x\"}\n"
    "  %1: f32[2, 3] = state_read {variable = 0}\n"
    "  %2: f32[4, 3] = matmul %0, %1 {transpose_a = false, transpose_b = false}\n"
    "  %3: f32[4, 3]:10 = relayout %2\n"
    "  %4: f32[] = reduce_sum %3 {axes = [0, 1]}\n"
    "  %5: i32[3] = literal {data = 0x010000000200000003000000}\n"
    "  %6: f32[2, 3] = constant {value = 0.5}\n"
    "  %7: f32[2, 3] = add %1, %6\n"
    "  %8: f32[4, 2]:01p0x3 = slice %2 {starts = [0, 1], shape = [4, 2], steps = [1, 1]}\n"
    "  state_write %7 {variable = 0}\n"
    "  result \"loss\" = %4\n"
    "}\n";

static Graph *parse(const char *text) {
    LvError error = {0};
    Graph *graph = graph_parse(text, strlen(text), &error);
    if (!graph) fail_msg("%s", error.message);
    return graph;
}

static void expect_text(const Graph *graph, const char *want) {
    LvText text = {0};
    graph_print(graph, &text);
    assert_string_equal(lv_text_get(&text), want);
    lv_text_free(&text);
}

static void print_of_parse_is_the_same(void **state) {
    (void)state;
    Graph *graph = parse(whole), *copy = graph_copy(graph);
    expect_text(graph, whole);
    graph_destroy(graph);
    expect_text(copy, whole);
    graph_destroy(copy);
}

static void every_cut_is_refused(void **state) {
    (void)state;
    for (size_t length = 0; length + 2 < strlen(whole); length++) {
        LvError error = {0};
        assert_null(graph_parse(whole, length, &error));
        assert_non_null(error.message);
        lv_error_clear(&error);
    }
}

static void wrong_graphs_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"graph g { %0: f32[2] = exp %1 }", "use of a value that is not defined above"},
        {"graph g { %0: f32[2] = input {name = \"a\"} %1: f32[3] = exp %0 }", "another result type"},
        {"graph g { %0: f32[2] = input {name = \"a\"} %0: f32[2] = exp %0 }", "value defined twice"},
        {"graph g { %0: f32[2] = nothing }", "unknown operation"},
        {"graph g { %0: f32[9999999999, 9999999999] = constant {value = 0} }", "too large"},
        {"graph g { %0: i32[2] = iota {axis = 7} }", "no such axis"},
        {"graph g { %0: f32[2] = state_read {variable = 3} }", "no such variable"},
        {"graph g { %0: f32[6] = input {name = \"a\"} %1: f32[2, 2] = reshape %0 {shape = [2, 2]} }", "reshape of [6] (6 elements)"},
        {"graph g { %0: f32[6]:0b0x4 = input {name = \"a\"} }", "multiple of the block"},
        {"graph g { %0: f32[6] = input {name = \"a\"} %1: f32[2] = slice %0 {starts = [5], shape = [2], steps = [1]} }", "slice of dimension 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LvError error = {0};
        assert_null(graph_parse(cases[i].text, strlen(cases[i].text), &error));
        if (!strstr(error.message, cases[i].message)) fail_msg("'%s' does not say '%s'", error.message, cases[i].message);
        lv_error_clear(&error);
    }
}

// ---- autodiff, evaluated at x

static double input_value;

static const Tensor *give_input(void *user, const Node *node) {
    (void)node;
    return user;
}

static void take_result(void *user, const char *name, const Tensor *value) {
    (void)user, (void)name;
    input_value = value->f[0];
}

static double evaluate_at(const char *text, double x, const char **message) {
    Graph *graph = parse(text);
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    LvArena *arena = lv_arena_create();
    lv_diagnostics_init(&diagnostics, &sources);
    bool fine = autodiff_run(graph, &diagnostics);
    if (message) *message = fine ? NULL : "refused";
    if (fine) {
        const char *wrong = graph_verify(graph, arena);
        if (wrong) fail_msg("%s", wrong);
        Tensor tensor = {.dtype = LV_F64, .f = &x};
        EvaluationHooks hooks = {.user = &tensor, .input = give_input, .result = take_result};
        graph_evaluate(graph, false, &hooks, arena);
    }
    lv_diagnostics_free(&diagnostics);
    lv_arena_destroy(arena);
    graph_destroy(graph);
    return input_value;
}

static void contributions_are_summed(void **state) {  // d(x * x + x) = 2x + 1
    (void)state;
    double d = evaluate_at("graph g { %0: f64[] = input {name = \"x\"} %1: f64[] = mul %0, %0 %2: f64[] = add %1, %0"
                           " %3: f64[] = gradient %2, %0 result \"d\" = %3 }", 3, NULL);
    assert_true(d == 7);
}

static void unreached_is_zero(void **state) {
    (void)state;
    double d = evaluate_at("graph g { %0: f64[] = input {name = \"x\"} %1: f64[] = stop_gradient %0 %2: f64[] = mul %1, %1"
                           " %3: f64[] = gradient %2, %0 result \"d\" = %3 }", 3, NULL);
    assert_true(d == 0);
}

static void gradients_of_gradients(void **state) {  // x^3: 3x^2, then 6x
    (void)state;
    double d = evaluate_at("graph g { %0: f64[] = input {name = \"x\"} %1: f64[] = mul %0, %0 %2: f64[] = mul %1, %0"
                           " %3: f64[] = gradient %2, %0 %4: f64[] = gradient %3, %0 result \"d\" = %4 }", 5, NULL);
    assert_true(d == 30);
}

static void an_op_without_gradient_is_reported(void **state) {
    (void)state;
    const char *message;
    evaluate_at("graph g { %0: f64[] = input {name = \"x\"} %1: f64[] = all_reduce %0 %2: f64[] = gradient %1, %0"
                " result \"d\" = %2 }", 5, &message);
    assert_non_null(message);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(print_of_parse_is_the_same), cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(wrong_graphs_are_refused),   cmocka_unit_test(contributions_are_summed),
        cmocka_unit_test(unreached_is_zero),          cmocka_unit_test(gradients_of_gradients),
        cmocka_unit_test(an_op_without_gradient_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
