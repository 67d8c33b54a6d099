// Pictures given as bytes: an entry compiled for them gives what it gives for the numbers that they stand for, bit for bit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "data/transforms.h"
#include "model_run.h"
#include "train/feed.h"

enum { B = 2, EACH = 3 * 16 * 16, COUNT = B * EACH, STEPS = 4, WEIGHTS = 5 * 3 * 3 * 3 };

static uint8_t pictures[COUNT];  // every byte there is, several times

static int make_pictures(void **state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) pictures[i] = (uint8_t)(i * 73 + i / 256);
    return 0;
}

static const LvPort *input_named(const LvPlan *plan, const char *name) {
    for (int i = 0; i < plan->input_count; i++)
        if (!strcmp(plan->inputs[i].name, name)) return &plan->inputs[i];
    fail_msg("no input %s", name);
    return NULL;
}

static void feed(ModelRun *run, int program, int step) {
    uint8_t given[COUNT];
    const LvPort *port = input_named(run->plans[program], "image");
    for (int i = 0; i < COUNT; i++) given[i] = (uint8_t)(pictures[i] + step);
    assert_int_equal(port->dtype, run->bytes ? LV_U8 : LV_F32);
    assert_true(lv_feed_takes_pictures(port));
    if (!lv_feed_pictures(run->programs[program], port, given, &run->error)) fail_msg("%s", run->error.message);
}

static void test_numbers(void **state) {
    (void)state;
    for (int bytes = 0; bytes < 2; bytes++) {
        ModelRun run;
        float want[COUNT], got[COUNT];
        model_run_open(&run, "tests/unit/bytes.lv", NULL, 0);
        run.bytes = bytes;
        LvProgram *program = model_run_program(&run, "same", B, LV_PRECISION_F32);
        feed(&run, 0, 0);
        model_run_once(program);
        model_run_get(program, "image", got, sizeof got);
        lv_transform_to_floats(pictures, COUNT, want);
        assert_memory_equal(got, want, sizeof want);
        for (int i = 0; i < COUNT; i++) assert_true(got[i] == (float)pictures[i] / 127.5f - 1.0f);
        model_run_close(&run);
    }
}

typedef struct {
    float loss[STEPS], weight[WEIGHTS];
} Trained;

static void train(bool bytes, LvPrecision precision, Trained *out) {
    ModelRun run;
    float half[B * 3 * 16 * 8], rate = 0.01f;
    int64_t seed = 7;
    model_run_open(&run, "tests/unit/bytes.lv", NULL, 0);
    run.bytes = bytes;
    LvProgram *program = model_run_program(&run, "train", B, precision), *init = model_run_program(&run, "init", 1, precision);
    assert_int_equal(input_named(run.plans[0], "half")->dtype, LV_F32);
    model_run_set(init, "$seed", &seed, sizeof seed);
    model_run_once(init);
    for (int i = 0; i < B * 3 * 16 * 8; i++) half[i] = (float)(i % 5);
    model_run_set(program, "half", half, sizeof half);
    for (int32_t step = 1; step <= STEPS; step++) {
        feed(&run, 0, step);
        model_run_set(program, "$step", &step, sizeof step);
        model_run_set(program, "$lr", &rate, sizeof rate);
        model_run_once(program);
        model_run_get(program, "loss", &out->loss[step - 1], sizeof(float));
    }
    assert_true(lv_store_read(run.store, lv_store_find(run.store, "conv.weight"), out->weight, sizeof out->weight, &run.error));
    model_run_close(&run);
}

static void test_training(void **state) {
    (void)state;
    for (int p = 0; p < 2; p++) {
        Trained numbers, bytes;
        train(false, p ? LV_PRECISION_BF16 : LV_PRECISION_F32, &numbers);
        train(true, p ? LV_PRECISION_BF16 : LV_PRECISION_F32, &bytes);
        assert_memory_equal(&numbers, &bytes, sizeof bytes);
        assert_true(numbers.loss[STEPS - 1] != numbers.loss[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, make_pictures, NULL);
}
