// Caches at run time: entries of a model share them through the store, of one batch at a time; no file and no store lists them;
// programs that use none have none. In bf16 those that hold operands are bf16, and a sequence read piece by piece is the whole.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_run.h"

static void run_on(LvProgram *program, const float *x, int batch, const char *result, float *y, size_t bytes) {
    model_run_set(program, "x", x, (size_t)batch * 2 * sizeof *x);
    model_run_once(program);
    model_run_get(program, result, y, bytes);
}

static void test_shared(void **state) {
    (void)state;
    static const float x[4] = {1, 2, 3, 4}, more[4] = {5, 6, 7, 8};
    float sum[2], rows[12];
    int32_t used;
    ModelRun run;
    model_run_open(&run, "tests/lang/caches.lv", NULL, 0);
    LvProgram *first = model_run_program(&run, "first", 2, LV_PRECISION_F32);
    LvProgram *next = model_run_program(&run, "next", 2, LV_PRECISION_F32);
    assert_non_null(first);
    assert_non_null(next);
    assert_int_equal(lv_store_count(run.store), 0);  // nothing to save, load or initialize
    run_on(next, x, 2, "rows", rows, sizeof rows);   // zero before anyone writes
    assert_memory_equal(rows, ((float[]){1, 2, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0}), sizeof rows);
    run_on(first, x, 2, "sum", sum, sizeof sum);
    assert_memory_equal(sum, ((float[]){4, 6}), sizeof sum);
    run_on(next, more, 2, "rows", rows, sizeof rows);
    assert_memory_equal(rows, ((float[]){1, 2, 5, 6, 0, 0, 3, 4, 7, 8, 0, 0}), sizeof rows);
    model_run_get(next, "used", &used, sizeof used);
    assert_int_equal(used, 2);

    // another batch is refused while these live, and starts anew when they are gone
    assert_null(model_run_program(&run, "next", 1, LV_PRECISION_F32));
    assert_string_equal(run.error.message, "entry 'next': the cache 'memory.rows' is f32[1, 3, 2] here, f32[2, 3, 2] in a "
                                           "program that shares it");
    lv_error_clear(&run.error);
    model_run_end_programs(&run);
    LvProgram *single = model_run_program(&run, "next", 1, LV_PRECISION_F32);
    assert_non_null(single);
    run_on(single, more, 1, "rows", rows, 6 * sizeof *rows);
    assert_memory_equal(rows, ((float[]){5, 6, 0, 0, 0, 0}), 6 * sizeof *rows);
    model_run_close(&run);
}

static void test_unused(void **state) {
    (void)state;
    ModelRun run;
    model_run_open(&run, "tests/lang/caches.lv", NULL, 0);
    LvPlan *plan = model_run_plan(&run, "init", 2, LV_PRECISION_F32);
    assert_int_equal(plan->variable_count, 2);
    assert_int_equal(plan->arena_bytes[LV_ARENA_CACHE], 0);
    assert_int_equal(plan->variables[0].place.offset, -1);
    lv_plan_destroy(plan);
    plan = model_run_plan(&run, "first", 2, LV_PRECISION_F32);
    assert_int_equal(plan->arena_bytes[LV_ARENA_CACHE], 128);
    assert_int_equal(plan->variables[0].kind, LV_VARIABLE_CACHE);
    lv_plan_destroy(plan);
    model_run_close(&run);
}

// ---- caches of operands: as narrow as the products that alone read them, in every entry

enum { WIDTH = 64, LENGTH = 37, BEGUN = 30, ROWS = 2 };

static LvDType cache_type(const LvPlan *plan, const char *name) {
    for (int i = 0; i < plan->variable_count; i++)
        if (strcmp(plan->variables[i].name, name) == 0) return plan->variables[i].dtype;
    fail_msg("no cache '%s'", name);
    return LV_F32;
}

static void check_types(ModelRun *run, LvPrecision precision, LvDType narrow) {
    static const char *const entries[] = {"first", "next", "follow"};
    for (int i = 0; i < 3; i++) {
        LvPlan *plan = model_run_plan(run, entries[i], ROWS, precision);
        assert_int_equal(cache_type(plan, "attn.keys"), narrow);
        assert_int_equal(cache_type(plan, "attn.values"), narrow);
        assert_int_equal(cache_type(plan, "seen"), LV_F32);  // a result of one of them
        lv_plan_destroy(plan);
    }
}

// A piece of a sequence of (ROWS, LENGTH, WIDTH).
static void take(const float *x, int from, int count, float *piece) {
    for (int row = 0; row < ROWS; row++)
        memcpy(piece + row * count * WIDTH, x + (row * LENGTH + from) * WIDTH, sizeof(float) * (size_t)count * WIDTH);
}

// The largest difference from `want` of `count` positions, over the largest of these.
static double apart(const float *want, int from, int count, const float *got) {
    static float piece[ROWS * LENGTH * WIDTH];
    double most = 0, size = 0;
    take(want, from, count, piece);
    for (int i = 0; i < ROWS * count * WIDTH; i++) most = fmax(most, fabs(got[i] - piece[i])), size = fmax(size, fabs(piece[i]));
    return most / size;
}

static void check_pieces(ModelRun *run, LvPrecision precision, double tolerance) {
    static float x[ROWS * LENGTH * WIDTH], y[ROWS * LENGTH * WIDTH], piece[ROWS * LENGTH * WIDTH];
    const size_t position = ROWS * WIDTH * sizeof *x;
    uint32_t word = 1;
    for (int i = 0; i < ROWS * LENGTH * WIDTH; i++) word = word * 1664525 + 1013904223, x[i] = (float)(word >> 8) / (1 << 22) - 2;
    LvProgram *whole = model_run_program(run, "whole", ROWS, precision), *first = model_run_program(run, "first", ROWS, precision);
    LvProgram *next = model_run_program(run, "next", ROWS, precision), *follow = model_run_program(run, "follow", ROWS, precision);
    assert_true(whole && first && next && follow);
    model_run_set(whole, "x", x, sizeof x);
    model_run_once(whole);
    model_run_get(whole, "y", y, sizeof y);
    take(x, 0, BEGUN, piece);
    run_on(first, piece, ROWS * BEGUN * WIDTH / 2, "y", piece, BEGUN * position);
    double worst = apart(y, 0, BEGUN, piece);
    for (int i = 0; i < 2; i++) {  // rows change places, and back
        model_run_set(follow, "from", ((int32_t[]){1, 0}), ROWS * sizeof(int32_t));
        model_run_once(follow);
    }
    for (int at = BEGUN; at < LENGTH; at++) {
        take(x, at, 1, piece);
        run_on(next, piece, ROWS * WIDTH / 2, "y", piece, position);
        worst = fmax(worst, apart(y, at, 1, piece));
    }
    if (!(worst <= tolerance)) fail_msg("in %s pieces are off by %g", lv_precision_name(precision), worst);
    model_run_end_programs(run);
}

static void test_operands(void **state) {
    (void)state;
    ModelRun run;
    model_run_open(&run, "tests/unit/attended.lv", NULL, 0);
    check_types(&run, LV_PRECISION_F32, LV_F32);
    check_types(&run, LV_PRECISION_BF16, LV_BF16);
    LvProgram *init = model_run_program(&run, "init", 1, LV_PRECISION_F32);
    int64_t seed = 3;
    model_run_set(init, "$seed", &seed, sizeof seed);
    model_run_once(init);
    model_run_end_programs(&run);
    check_pieces(&run, LV_PRECISION_F32, 1e-5);
    check_pieces(&run, LV_PRECISION_BF16, 1e-2);
    model_run_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shared), cmocka_unit_test(test_unused), cmocka_unit_test(test_operands)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
