// What is prepared from variables: computed at the first run and not again, but after any change of the variables: written from
// outside, or by another program. Training prepares nothing.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_run.h"

enum { OUT = 64 };

static float a[OUT][2], b[OUT][2];
static const float x[2] = {1, 2};

static void set_variable(ModelRun *run, const char *name, const void *data, size_t bytes) {
    bool good = lv_store_write(run->store, lv_store_find(run->store, name), data, bytes, &run->error);
    if (!good) fail_msg("%s", run->error.message);
}

static void get_variable(ModelRun *run, const char *name, void *data, size_t bytes) {
    if (!lv_store_read(run->store, lv_store_find(run->store, name), data, bytes, &run->error)) fail_msg("%s", run->error.message);
}

static void check_run(LvProgram *program, double tolerance) {
    float y[OUT];
    model_run_set(program, "x", x, sizeof x);
    model_run_once(program);
    model_run_get(program, "y", y, sizeof y);
    for (int n = 0; n < OUT; n++) {
        double want = 0;
        for (int k = 0; k < 2; k++) want += x[k] * (a[n][k] * b[n][k] + b[n][k]);
        assert_true(fabs(y[n] - want) <= tolerance * (1 + fabs(want)));
    }
}

// Seconds that the prepared steps took while profiled: 0 says that they did not run.
static double prepared_seconds(LvProgram *program, const LvPlan *plan) {
    double sum = 0;
    for (int s = 0; s < plan->prepare_count; s++) sum += lv_program_step_seconds(program, s);
    return sum;
}

static void check_precision(LvPrecision precision, double tolerance) {
    static const LvSetting settings[] = {{"out", "64", "--set", false}};
    float rate = 0.25f, before[OUT][2], master[OUT][2];
    int32_t seen;
    ModelRun run;
    for (int n = 0; n < OUT; n++)
        for (int k = 0; k < 2; k++) a[n][k] = 0.1f * (float)(n % 7) - (float)k, b[n][k] = 1 + 0.01f * (float)n;
    model_run_open(&run, "tests/lang/prepared.lv", settings, 1);
    LvProgram *train = model_run_program(&run, "train", 1, precision);
    LvProgram *program = model_run_program(&run, "run", 1, precision);
    const LvPlan *plan = run.plans[1];
    assert_int_equal(run.plans[0]->prepare_count, 0);
    assert_true(plan->prepare_count > 0 && plan->arena_bytes[LV_ARENA_PREPARED] > 0);
    set_variable(&run, "a", a, sizeof a);
    set_variable(&run, "b", b, sizeof b);
    check_run(program, tolerance);

    // the next runs prepare nothing, though the entry changes a state of its own
    lv_program_profile(program, true);
    check_run(program, tolerance);
    assert_true(prepared_seconds(program, plan) == 0);
    model_run_get(program, "seen", &seen, sizeof seen);
    assert_int_equal(seen, 2);

    a[5][1] = 17;
    set_variable(&run, "a", a, sizeof a);
    check_run(program, tolerance);
    assert_true(prepared_seconds(program, plan) > 0);

    // training changes the weights; what is in the store stays f32
    memcpy(before, b, sizeof b);
    model_run_set(train, "x", x, sizeof x);
    model_run_set(train, "$lr", &rate, sizeof rate);
    model_run_once(train);
    get_variable(&run, "a", a, sizeof a);
    get_variable(&run, "b", b, sizeof b);
    assert_memory_not_equal(before, b, sizeof b);
    check_run(program, tolerance);
    get_variable(&run, "b", master, sizeof master);
    assert_memory_equal(master, b, sizeof b);
    model_run_close(&run);
}

static void test_f32(void **state) { (void)state, check_precision(LV_PRECISION_F32, 1e-5); }
static void test_bf16(void **state) { (void)state, check_precision(LV_PRECISION_BF16, 2e-2); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
