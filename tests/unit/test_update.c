// The trainer's part of an update (passes/update.c), by the reference evaluation, against what PyTorch 2.15 made of the same numbers:
// torch.amp.GradScaler over torch.optim.AdamW, gradients of several runs summed, clipped by clip_grad_norm_.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autodiff/autodiff.h"
#include "ops/op.h"
#include "passes/update.h"
#include "sema/sema.h"

enum { WIDTH = 4, MOST_VARIABLES = 16, MOST_ELEMENTS = 16 };

typedef struct {
    Graph *graph;
    LvArena *arena;
    Tensor variables[MOST_VARIABLES], written[MOST_VARIABLES];
    double x[WIDTH], loss;
    int step, part;
    double clip;
} Run;

// ---- a graph made

static Graph *elaborate(const char *entry, const UpdateOptions *options) {
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    LvModel *model = NULL;
    LvError error = {0};
    lv_diagnostics_init(&diagnostics, &sources);
    if (!lv_model_load(LV_SOURCE_DIR "/tests/unit/scaled.lv", NULL, 0, NULL, NULL, 0, &diagnostics, &model, &error))
        fail_msg("%s", error.message);
    Graph *graph = lv_model_elaborate(model, entry, 1, &diagnostics, &error);
    if (!graph) fail_msg("%s", error.message);
    LvArena *arena = lv_arena_create();
    update_extend(graph, options);
    const char *wrong = graph_verify(graph, arena);
    if (wrong) fail_msg("after update: %s", wrong);
    assert_true(autodiff_run(graph, &diagnostics));
    wrong = graph_verify(graph, arena);
    if (wrong) fail_msg("after autodiff: %s", wrong);
    lv_arena_destroy(arena);
    lv_model_destroy(model);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    return graph;
}

static void open_run(Run *run, const UpdateOptions *options) {
    *run = (Run){.graph = elaborate("train", options), .arena = lv_arena_create()};
    for (size_t i = 0; i < run->graph->variables.count; i++) {
        const Variable *v = &run->graph->variables.data[i];
        assert_true(i < MOST_VARIABLES && lv_shape_elements(v->shape) <= MOST_ELEMENTS);
        Tensor *t = &run->variables[i];
        *t = (Tensor){.shape = v->shape, .dtype = v->dtype};
        if (lv_dtype_is_float(v->dtype)) t->f = LV_NEW_ARRAY(run->arena, double, MOST_ELEMENTS);
        else t->i = LV_NEW_ARRAY(run->arena, int64_t, MOST_ELEMENTS);
        for (int k = 0; v->is_pack && k < WIDTH; k++) t->f[k] = 0.5;
    }
}

static void close_run(Run *run) {
    graph_destroy(run->graph);
    lv_arena_destroy(run->arena);
}

static Tensor *variable(Run *run, const char *name) {
    for (size_t i = 0; i < run->graph->variables.count; i++) {
        const Variable *v = &run->graph->variables.data[i];
        if (name ? !strcmp(v->name, name) : v->is_pack) return &run->variables[i];
    }
    fail_msg("no variable '%s'", name ? name : "of all params");
    return NULL;
}

// ---- and run

static const Tensor *on_input(void *user, const Node *node) {
    static double number;
    static int64_t integer;
    static Tensor scalar;
    static Tensor vector;
    Run *run = user;
    const char *name = node_attr(node, ATTR_name)->s;
    number = !strcmp(name, "$lr") ? 1e-3 : run->clip;
    integer = !strcmp(name, "$step") ? run->step : run->part;
    scalar = (Tensor){.dtype = node->results[0].dtype, .f = &number, .i = &integer};
    vector = (Tensor){.dtype = LV_F32, .shape = node->results[0].shape, .f = run->x};
    return strcmp(name, "x") ? &scalar : &vector;
}

// The params are slices of the flat vector, which is what is written.
static const Tensor *on_variable(void *user, const Node *node, int at) {
    static Tensor slice;
    Run *run = user;
    const Variable *v = &run->graph->variables.data[at];
    if (v->pack < 0) return &run->variables[at];
    slice = (Tensor){.dtype = LV_F32, .shape = node->results[0].shape, .f = run->variables[v->pack].f + v->pack_offset};
    return &slice;
}

static void on_write(void *user, int at, const Tensor *value) {
    Run *run = user;
    run->written[at] = *value;
}

static void on_result(void *user, const char *name, const Tensor *value) {
    Run *run = user;
    if (!strcmp(name, "loss")) run->loss = value->f[0];
}

static void evaluate(Run *run) {
    LvArena *arena = lv_arena_create();
    EvaluationHooks hooks = {run, on_input, on_variable, on_write, on_result};
    memset(run->written, 0, sizeof run->written);
    graph_evaluate(run->graph, true, &hooks, arena);
    for (size_t i = 0; i < run->graph->variables.count; i++) {
        size_t bytes = (size_t)lv_shape_elements(run->variables[i].shape) * 8;
        if (run->written[i].f) memcpy(run->variables[i].f, run->written[i].f, bytes);
        if (run->written[i].i) memcpy(run->variables[i].i, run->written[i].i, bytes);
    }
    lv_arena_destroy(arena);
}

static bool among(const int *numbers, int n) {
    for (; *numbers >= 0; numbers++)
        if (*numbers == n) return true;
    return false;
}

// What run n sees: sines, with one number so large in some that the gradient is infinite where S is not small, or NaN.
static void draw(Run *run, int n, const int *large, const int *none) {
    for (int i = 0; i < WIDTH; i++) run->x[i] = (float)sin(0.37 * n + i);
    if (among(large, n)) run->x[n % WIDTH] = (float)1e36;
    if (among(none, n)) run->x[n % WIDTH] = NAN;
}

// ---- against PyTorch

typedef struct {
    int step;
    double scale;
    int good, skipped;
    double w[WIDTH];
} Row;  // after that step

static void expect_row(Run *run, const Row *row) {
    double scale = variable(run, "$loss_scale")->f[0];
    int64_t good = variable(run, "$good_steps")->i[0], skipped = variable(run, "$skipped_steps")->i[0];
    if (scale != row->scale || good != row->good || skipped != row->skipped)
        fail_msg("step %d: scale %g, %d good, %d skipped", row->step, scale, (int)good, (int)skipped);
    for (int i = 0; i < WIDTH; i++) {
        double w = variable(run, NULL)->f[i];
        if (!(fabs(w - row->w[i]) <= 2e-6)) fail_msg("step %d: w[%d] is %.9g, not %.9g", row->step, i, w, row->w[i]);
    }
}

static void follow(Run *run, const Row *rows, int count, int runs, const int *large, const int *none) {
    int n = 0;
    for (run->step = 1; run->step <= rows[count - 1].step; run->step++) {
        for (run->part = 0; run->part < runs; run->part++) {
            draw(run, n++, large, none);
            evaluate(run);
        }
        for (int i = 0; i < count; i++)
            if (rows[i].step == run->step) expect_row(run, &rows[i]);
    }
    assert_true(variable(run, "runs")->f[0] == n);  // a state of the forward pass: skipped steps change it too
}

static void as_torch_scales(void **state) {
    static const int large[] = {0, 1, 6, 2999, -1}, none[] = {29, -1};
    static const Row rows[] = {
        {1, 32768, 0, 1, {0.5, 0.5, 0.5, 0.5}},
        {2, 16384, 0, 2, {0.5, 0.5, 0.5, 0.5}},
        {3, 16384, 1, 2, {0.498995006, 0.498995006, 0.498995006, 0.50099498}},
        {4, 16384, 2, 2, {0.497989208, 0.49799338, 0.498033464, 0.501849055}},
        {6, 16384, 4, 2, {0.495971322, 0.49604997, 0.496602774, 0.503683507}},
        {7, 8192, 0, 3, {0.495971322, 0.49604997, 0.496602774, 0.503683507}},
        {8, 8192, 1, 3, {0.494980961, 0.495228142, 0.496377766, 0.504557371}},
        {30, 4096, 0, 4, {0.482698649, 0.484582782, 0.486589253, 0.494563013}},
        {31, 4096, 1, 4, {0.482214749, 0.484284967, 0.486210734, 0.49393177}},
        {2029, 4096, 1999, 4, {0.0340594649, 0.0333134569, 0.0332116783, 0.034842696}},
        {2030, 8192, 0, 4, {0.0336537845, 0.0331813879, 0.03343077, 0.0351659916}},
        {2999, 8192, 969, 4, {0.00779593596, 0.00765508693, 0.00835905969, 0.00952120312}},
        {3000, 4096, 0, 5, {0.00779593596, 0.00765508693, 0.00835905969, 0.00952120312}},
        {3001, 4096, 1, 5, {0.00764553668, 0.00782677345, 0.00868371874, 0.00968871452}},
        {4999, 4096, 1999, 5, {0.000940906815, -0.000104600185, -0.000607120688, -8.99972802e-05}},
        {5000, 8192, 0, 5, {0.000569803291, -0.000405104569, -0.000560944027, 0.000259301858}},
        {5001, 8192, 1, 5, {0.000180927338, -0.000595579564, -0.000378317025, 0.000646185246}},
    };
    (void)state;
    Run run;
    open_run(&run, &(UpdateOptions){.scale = true});
    follow(&run, rows, sizeof rows / sizeof *rows, 1, large, none);
    close_run(&run);
}

// The sum of two runs is looked at; a run that is not finite spoils the update that it is part of, whichever of the two it is.
static void as_torch_scales_sums_and_clips(void **state) {
    static const int large[] = {0, 1, 5, 8, 100, 203, -1}, none[] = {31, -1};
    static const Row rows[] = {
        {1, 32768, 0, 1, {0.5, 0.5, 0.5, 0.5}},
        {2, 32768, 1, 1, {0.498995006, 0.498995006, 0.498995006, 0.50099498}},
        {3, 16384, 0, 2, {0.498995006, 0.498995006, 0.498995006, 0.50099498}},
        {4, 16384, 1, 2, {0.497996539, 0.498147845, 0.499033123, 0.501949728}},
        {5, 8192, 0, 3, {0.497996539, 0.498147845, 0.499033123, 0.501949728}},
        {6, 8192, 1, 3, {0.497312248, 0.497885376, 0.498931408, 0.501499832}},
        {16, 4096, 0, 4, {0.492500603, 0.493395597, 0.493905336, 0.496256411}},
        {17, 4096, 1, 4, {0.491972834, 0.493025899, 0.49343583, 0.495585173}},
        {50, 4096, 34, 4, {0.471728534, 0.478307188, 0.479188144, 0.476510584}},
        {51, 2048, 0, 5, {0.471728534, 0.478307188, 0.479188144, 0.476510584}},
        {52, 2048, 1, 5, {0.471223533, 0.477917284, 0.478696525, 0.475836575}},
        {101, 2048, 50, 5, {0.442813069, 0.457893342, 0.458798051, 0.447845876}},
        {102, 1024, 0, 6, {0.442813069, 0.457893342, 0.458798051, 0.447845876}},
        {103, 1024, 1, 6, {0.442339033, 0.45752281, 0.458326221, 0.447196066}},
        {120, 1024, 18, 6, {0.432707667, 0.451171547, 0.452097595, 0.437820196}},
    };
    (void)state;
    Run run;
    open_run(&run, &(UpdateOptions){.accumulate = 2, .clip = true, .scale = true});
    run.clip = 0.7;
    follow(&run, rows, sizeof rows / sizeof *rows, 2, large, none);
    close_run(&run);
}

// ---- what PyTorch has no bounds for, and what must not change

static void a_scale_given_is_used_and_bounded(void **state) {
    static const int large[] = {1, -1}, none[] = {-1};
    (void)state;
    Run run;
    open_run(&run, &(UpdateOptions){.scale = true});
    variable(&run, "$loss_scale")->f[0] = LV_LOSS_SCALE_MOST;
    variable(&run, "$good_steps")->i[0] = LV_LOSS_SCALE_INTERVAL - 1;
    run.step = 1;
    draw(&run, 0, large, none);
    evaluate(&run);
    assert_true(variable(&run, "$loss_scale")->f[0] == LV_LOSS_SCALE_MOST);
    assert_int_equal(variable(&run, "$good_steps")->i[0], 0);
    assert_int_equal(variable(&run, "$skipped_steps")->i[0], 0);
    Tensor *w = variable(&run, NULL), *m = variable(&run, "optimizer.m"), *v = variable(&run, "optimizer.v");
    double before[3] = {w->f[1], m->f[1], v->f[1]};
    assert_true(before[0] != 0.5 && before[1] != 0 && before[2] != 0);
    variable(&run, "$loss_scale")->f[0] = 1000;
    draw(&run, 1, large, none);
    evaluate(&run);
    assert_true(isfinite(run.loss));
    assert_true(variable(&run, "$loss_scale")->f[0] == 500);
    assert_int_equal(variable(&run, "$skipped_steps")->i[0], 1);
    assert_true(w->f[1] == before[0] && m->f[1] == before[1] && v->f[1] == before[2]);
    close_run(&run);
}

// Same numbers whatever S is, as long as it is a power of two; and the loss itself is not scaled.
static void a_power_of_two_changes_nothing(void **state) {
    static const int nothing[] = {-1};
    (void)state;
    double w[2], loss[2];
    for (int scaled = 0; scaled < 2; scaled++) {
        Run run;
        open_run(&run, &(UpdateOptions){.scale = scaled});
        for (run.step = 1; run.step <= 20; run.step++) {
            draw(&run, run.step, nothing, nothing);
            evaluate(&run);
        }
        w[scaled] = variable(&run, NULL)->f[2], loss[scaled] = run.loss;
        close_run(&run);
    }
    assert_true(w[0] == w[1] && loss[0] == loss[1]);
}

// Runs that are summed draw numbers of their own, inside attention too.
static void runs_draw_numbers_of_their_own(void **state) {
    (void)state;
    Graph *graph = elaborate("draws", &(UpdateOptions){.accumulate = 2});
    const Value *step = graph_find_input(graph, "$step");
    int drawing = 0;
    assert_non_null(step);
    for GRAPH_EACH(graph, node) {
        bool attention = node->op == OP_attention || node->op == OP_attention_grad;
        if (!attention && node->op != OP_random_uniform) continue;
        drawing++;
        assert_ptr_not_equal(node->inputs[node->input_count - 1], step);
    }
    assert_int_equal(drawing, 3);
    graph_destroy(graph);
}

// step() is the update's number in the optimizer alone: what is drawn and what the entry says of it goes by the run's steps.
static void steps_are_counted_anew_in_the_optimizer_alone(void **state) {
    (void)state;
    Graph *graph = elaborate("draws", &(UpdateOptions){.scale = true});
    const Value *step = graph_find_input(graph, "$step");
    int drawing = 0, casts = 0, updates = 0;
    for GRAPH_EACH(graph, node) {
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] != step) continue;
            drawing += node->op == OP_random_uniform || node->op == OP_attention || node->op == OP_attention_grad;
            casts += node->op == OP_cast;
            updates += node->op == OP_sub;
        }
    }
    assert_int_equal(drawing, 3);
    assert_int_equal(casts, 2);
    assert_int_equal(updates, 1);
    graph_destroy(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_torch_scales),
                                       cmocka_unit_test(as_torch_scales_sums_and_clips),
                                       cmocka_unit_test(a_scale_given_is_used_and_bounded),
                                       cmocka_unit_test(a_power_of_two_changes_nothing),
                                       cmocka_unit_test(runs_draw_numbers_of_their_own),
                                       cmocka_unit_test(steps_are_counted_anew_in_the_optimizer_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
