// Index arithmetic of the loop IR: division against C's over whole domains, cutting and merging of axes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schedule/loop.h"

static int64_t value_of(const Nest *nest, const Affine *a, const int64_t *point) {
    int64_t sum = a->constant;
    for (int i = 0; i < a->count; i++) {
        const Var *var = &nest->vars.data[a->term[i].var];
        int64_t v;
        if (var->kind == VAR_AXIS) v = point[a->term[i].var];
        else v = value_of(nest, &var->of, point), v = var->kind == VAR_QUOTIENT ? v / var->by : v % var->by;
        sum += a->term[i].factor * v;
    }
    return sum;
}

static int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

static uint64_t state = 1;
static int draw(int below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)below);
}

static void check_divide(Nest *nest, const Affine *a, int64_t by) {
    Affine quotient, remainder;
    int axis;
    int64_t inner, point[3];
    affine_divide(nest, a, by, &quotient, &remainder, &axis, &inner);
    if (axis >= 0) assert_int_equal(nest->vars.data[axis].extent % inner, 0);
    for (point[0] = 0; point[0] < nest->vars.data[0].extent; point[0]++) {
        for (point[1] = 0; point[1] < nest->vars.data[1].extent; point[1]++) {
            for (point[2] = 0; point[2] < nest->vars.data[2].extent; point[2]++) {
                int64_t whole = value_of(nest, a, point), q = value_of(nest, &quotient, point);
                assert_int_equal(q, floor_divide(whole, by));
                assert_int_equal(value_of(nest, &remainder, point), whole - q * by);
            }
        }
    }
}

static void test_divide(void **unused) {
    (void)unused;
    static const int factors[] = {1, 2, 3, 4, 6, 8, 12, 16, -1, -4}, divisors[] = {1, 2, 3, 4, 6, 8, 16, 24};
    for (int round = 0; round < 2000; round++) {
        Nest nest = {0};
        Affine a = affine_constant(draw(20) - 8);
        for (int v = 0; v < 3; v++) {
            nest_add_var(&nest, 1 + draw(6));
            a = affine_add(a, affine_scale(affine_var(v), factors[draw(10)]));
        }
        check_divide(&nest, &a, divisors[draw(8)]);
        nest_free(&nest);
    }
}

static void test_exact(void **unused) {
    (void)unused;
    Nest nest = {0};
    int high = nest_add_var(&nest, 32), two = nest_add_var(&nest, 2);
    Affine quotient, remainder, h = affine_add(affine_scale(affine_var(high), 2), affine_var(two));
    int axis;
    int64_t inner;
    affine_divide(&nest, &h, 2, &quotient, &remainder, &axis, &inner);
    assert_int_equal(axis, -1);
    assert_int_equal(nest.vars.count, 2);  // no quotient variable was needed
    Affine outer = affine_var(high), low = affine_var(two);
    assert_true(affine_equal(&quotient, &outer));
    assert_true(affine_equal(&remainder, &low));
    affine_divide(&nest, &outer, 8, &quotient, &remainder, &axis, &inner);  // 32 = 4 x 8 would say it plainly
    assert_int_equal(axis, 0);
    assert_int_equal(inner, 8);
    nest_free(&nest);
}

static void test_merge(void **unused) {
    (void)unused;
    Nest nest = {.axis_count = 3};
    for (int v = 0; v < 3; v++) nest_add_var(&nest, 4 + v), nest.axes[v] = (Axis){v, false};
    Affine whole = affine_add(affine_scale(affine_add(affine_scale(affine_var(0), 5), affine_var(1)), 6), affine_var(2));
    Instr load = {.kind = INSTR_LOAD, .dtype = LV_F32, .args = {-1, -1, -1}, .region = -1, .index = whole};
    lv_vec_push(&nest.body, load);
    lv_vec_push(&nest.outputs, (Output){.index = whole});
    nest_cut_axis(&nest, 1, 5, 1);  // 5 = 1 x 5: an axis of one iteration
    assert_int_equal(nest.axis_count, 4);
    nest_tidy(&nest, 0);
    assert_int_equal(nest.axis_count, 1);
    assert_int_equal(nest_points(&nest), 4 * 5 * 6);
    assert_int_equal(nest.body.data[0].depth, 1);
    nest_free(&nest);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divide), cmocka_unit_test(test_exact), cmocka_unit_test(test_merge)};
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
