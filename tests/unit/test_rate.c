// Learning rates of every schedule, step by step; the plateau against PyTorch's ReduceLROnPlateau written out by hand.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "train/rate.h"

static void close_to(double got, double wanted) {
    if (fabs(got - wanted) > 1e-15 * fabs(wanted)) fail_msg("%.17g, not %.17g", got, wanted);
}

// The peer's rule (train_folder.py): rate = lr * min(1, step / warmup), then half a cosine over the rest.
static void cosine(void **state) {
    (void)state;
    LvRateRule rule = {LV_RATE_COSINE, 1e-3, 50, 1000};
    LvPlateau plateau = lv_plateau_start();
    for (int step = 1; step <= 1000; step++) {
        double wanted = 1e-3 * fmin(1, step / 50.0);
        if (step > 50) wanted *= 0.5 * (1 + cos(M_PI * (step - 50) / 950.0));
        close_to(lv_rate_at(&rule, &plateau, step), wanted);
    }
}

static void constant(void **state) {
    (void)state;
    LvRateRule rule = {LV_RATE_CONSTANT, 0.25, 0, 10};
    LvPlateau plateau = lv_plateau_start();
    for (int step = 1; step <= 20; step++) assert_true(lv_rate_at(&rule, &plateau, step) == 0.25);
    rule.warmup = 4;
    assert_true(lv_rate_at(&rule, &plateau, 1) == 0.0625);
    assert_true(lv_rate_at(&rule, &plateau, 4) == 0.25);
}

// No improvement after the first: bad counts 1…11 -> the 11th halves; then 10 of cooldown, then 11 more.
static void plateau_halves(void **state) {
    (void)state;
    LvRateRule rule = {LV_RATE_PLATEAU, 1e-3, 0, 0};
    LvPlateau plateau = lv_plateau_start();
    int halved[4], count = 0;
    double before = 1e-3;
    for (int i = 1; i <= 80 && count < 4; i++) {
        lv_plateau_observe(&plateau, 1e-3, 1.0);
        double rate = lv_rate_at(&rule, &plateau, i);
        if (rate != before) {
            close_to(rate, before / 2);
            halved[count++] = i;
        }
        before = rate;
    }
    assert_int_equal(halved[0], 12);
    assert_int_equal(halved[1], 33);
    assert_int_equal(halved[2], 54);
}

static void plateau_floor(void **state) {
    (void)state;
    LvRateRule rule = {LV_RATE_PLATEAU, 1e-5, 0, 0};
    LvPlateau plateau = lv_plateau_start();
    for (int i = 0; i < 1000; i++) lv_plateau_observe(&plateau, 1e-5, 1.0);
    close_to(lv_rate_at(&rule, &plateau, 1), 1e-6);
    for (int i = 0; i < 1000; i++) lv_plateau_observe(&plateau, 1e-5, NAN);
    close_to(lv_rate_at(&rule, &plateau, 1), 1e-6);
}

// Better means under best x (1 - 1e-4): smaller steps down do not count.
static void plateau_threshold(void **state) {
    (void)state;
    LvPlateau plateau = lv_plateau_start();
    double loss = 1;
    for (int i = 0; i < 30; i++) lv_plateau_observe(&plateau, 1e-3, loss *= 0.999);
    assert_true(plateau.scale == 1);
    plateau = lv_plateau_start();
    loss = 1;
    for (int i = 0; i < 12; i++) lv_plateau_observe(&plateau, 1e-3, loss *= 1 - 1e-6);
    assert_true(plateau.scale == 0.5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine), cmocka_unit_test(constant), cmocka_unit_test(plateau_halves), cmocka_unit_test(plateau_floor),
        cmocka_unit_test(plateau_threshold),
    };
    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
