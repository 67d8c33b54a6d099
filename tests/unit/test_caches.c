// Caches at run time: entries of a model share them through the store, of one batch at a time; no file and no store lists them;
// programs that use none have none.
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shared), cmocka_unit_test(test_unused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
