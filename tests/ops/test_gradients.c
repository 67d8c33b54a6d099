// Every op of the table that has a gradient, against central differences of the reference evaluation in f64; and every
// decomposition against the whole op, forward and gradient. All from the lines of cases.c.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "cases.h"

static double loss_of(const Graph *forward, const TensorSet *inputs, const TensorSet *weights) {
    LvArena *arena = lv_arena_create();
    TensorSet results;
    evaluate_set(forward, false, inputs, &results, arena);
    double loss = 0;
    for (int r = 0; r < weights->count; r++) {
        const char *name = lv_arena_printf(arena, "y%s", weights->at[r].name + 1);
        const Tensor *y = set_find(&results, name), *w = weights->at[r].tensor;
        for (int64_t i = 0, n = lv_shape_elements(y->shape); i < n; i++) loss += y->f[i] * w->f[i];
    }
    lv_arena_destroy(arena);
    return loss;
}

static TensorSet case_inputs(const OpCase *c) {
    TensorSet set = {0};
    for (int i = 0; i < c->input_count; i++) set_add(&set, lv_arena_printf(c->arena, "x%d", i), case_input(c, i));
    return set;
}

static TensorSet joined(TensorSet a, const TensorSet *b) {
    for (int i = 0; i < b->count; i++) set_add(&a, b->at[i].name, b->at[i].tensor);
    return a;
}

// Elements to try: all of a small tensor, some 60 spread over a large one; a few of each where it is not numbers that are looked at.
#if defined(__SANITIZE_ADDRESS__)
enum { TRIED = 5 };
#else
enum { TRIED = 61 };
#endif
static int64_t step_over(int64_t n) { return n <= TRIED + 3 ? 1 : n / TRIED + 1; }

static void check_input(const OpCase *c, const Graph *forward, const TensorSet *inputs, const TensorSet *weights, int input,
                        const Tensor *gradient) {
    Tensor *x = inputs->at[input].tensor;
    const double h = 1e-5;
    double scale = 1e-3, worst = 0;
    assert_non_null(gradient);
    int64_t n = lv_shape_elements(x->shape), worst_at = 0;
    for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(gradient->f[i]));
    for (int64_t i = 0; i < n; i += step_over(n)) {
        double keep = x->f[i];
        x->f[i] = keep + h;
        double up = loss_of(forward, inputs, weights);
        x->f[i] = keep - h;
        double down = loss_of(forward, inputs, weights);
        x->f[i] = keep;
        double error = fabs((up - down) / (2 * h) - gradient->f[i]) / scale;
        if (!(error <= worst)) worst = error, worst_at = i;
    }
    if (!(worst < 1e-6)) fail_msg("%s: gradient of input %d, element %lld: off by %g of the largest", c->text, input, (long long)worst_at, worst);
}

static void check_gradient(const OpCase *c, unsigned mask) {
    Graph *forward = case_graph(c), *joint = case_graph(c);
    TensorSet weights = {0}, results, inputs = case_inputs(c);
    if (!case_differentiate(joint, c, mask, c->arena, &weights)) fail_msg("%s: autodiff refuses", c->text);
    assert_null(graph_verify(joint, c->arena));
    TensorSet all = joined(inputs, &weights);
    evaluate_set(joint, false, &all, &results, c->arena);
    for (int i = 0; i < c->input_count; i++)
        if (lv_dtype_is_float(c->inputs[i].dtype))
            check_input(c, forward, &inputs, &weights, i, set_find(&results, lv_arena_printf(c->arena, "d_x%d", i)));
    graph_destroy(forward);
    graph_destroy(joint);
}

static bool has_epilogue(const OpCase *c) {
    for (int i = 0; i < c->attrs.count; i++) {
        AttrName name = c->attrs.at[i].name;
        if (name == ATTR_bias || name == ATTR_residual || name == ATTR_activation) return true;
    }
    return false;
}

static int float_results(const OpCase *c) {
    Graph *g = case_graph(c);
    int count = 0;
    for (size_t r = 0; r < g->results.count; r++) count += lv_dtype_is_float(g->results.data[r].value->dtype);
    graph_destroy(g);
    return count;
}

static void test_gradient(void **state) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(*state, arena);
    int results = float_results(c);
    if (op_info(c->op)->gradient && case_smooth(c) && !has_epilogue(c) && results) {
        check_gradient(c, ~0u);
        for (int r = 0; results > 1 && r < results; r++) check_gradient(c, 1u << r);
    }
    lv_arena_destroy(arena);
}

static void compare(const OpCase *c, const Graph *whole, const Graph *parts, const TensorSet *inputs, bool round, double tolerance) {
    TensorSet a, b;
    evaluate_set(whole, false, inputs, &a, c->arena);
    evaluate_set(parts, round, inputs, &b, c->arena);
    for (int i = 0; i < a.count; i++) {
        if (round && loss_cancels(a.at[i].name, c->text)) continue;
        double apart = tensor_distance(b.at[i].tensor, a.at[i].tensor);
        if (!(apart <= (round ? tensor_tolerance(a.at[i].tensor, tolerance) : tolerance))) fail_msg("%s: %s of the decomposition%s is off by %g", c->text, a.at[i].name, round ? " in f32" : "", apart);
    }
}

static void test_decomposition(void **state) {
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(*state, arena);
    if (op_info(c->op)->decompose) {
        Graph *whole = case_graph(c);
        TensorSet inputs = case_inputs(c), weights = {0};
        // With a gradient: the joint graph, so that what the rule emits is decomposed too.
        if (op_info(c->op)->gradient && !has_epilogue(c)) case_differentiate(whole, c, 1, arena, &weights);
        inputs = joined(inputs, &weights);
        Graph *parts = graph_copy(whole);
        graph_decompose_all(parts);
        assert_null(graph_verify(parts, arena));
        compare(c, whole, parts, &inputs, false, 1e-9);
        compare(c, whole, parts, &inputs, true, 1e-5);
        graph_destroy(parts);
        graph_destroy(whole);
    }
    lv_arena_destroy(arena);
}

// What computes nothing: variables and inputs are storage, `gradient` is gone after autodiff.
static bool needs_no_case(Op op) {
    return op == OP_input || op == OP_state_read || op == OP_state_write || op == OP_gradient;
}

static void test_every_op_has_a_case(void **state) {
    (void)state;
    LvArena *arena = lv_arena_create();
    bool seen[OP_COUNT] = {0};
    for (int i = 0; i < op_case_count; i++) seen[case_parse(op_cases[i], arena)->op] = true;
    for (int op = 0; op < OP_COUNT; op++)
        if (!seen[op] && !needs_no_case(op)) fail_msg("'%s' has no case in cases.c", op_name(op));
    lv_arena_destroy(arena);
}

int main(void) {
    struct CMUnitTest *tests = lv_calloc((size_t)op_case_count * 2 + 1, sizeof *tests);
    size_t count = 0;
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_every_op_has_a_case);
    for (int i = 0; i < op_case_count; i++) {
        void *text = (void *)op_cases[i];
        tests[count++] = (struct CMUnitTest){op_cases[i], test_gradient, NULL, NULL, text};
        tests[count++] = (struct CMUnitTest){op_cases[i], test_decomposition, NULL, NULL, text};
    }
    int failed = _cmocka_run_group_tests("gradients", tests, count, NULL, NULL);
    free(tests);
    return failed;
}
