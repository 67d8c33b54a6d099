// Which step waits for which sum over ranks: on plans at random, byte by byte, everything that must be waited for and nothing else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "exec/sums.h"

enum { STEPS = 24, BYTES = 96, OPERANDS = 3 };

static uint32_t roll(uint32_t *state, uint32_t sides) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % sides;
}

static LvOperand operand(uint32_t *random) {
    static const LvDType types[] = {LV_F32, LV_F64, LV_I32, LV_BF16};
    LvDType dtype = types[roll(random, 4)];
    int64_t count = roll(random, 4), offset = (int64_t)roll(random, 8) * 8;
    LvArenaKind arena = roll(random, 4) ? LV_ARENA_ACTIVATIONS : LV_ARENA_GRADIENTS;
    return (LvOperand){{arena, roll(random, 10) ? offset : -1}, dtype, lv_shape(1, &count), lv_layout_row_major()};
}

static LvPlan *make_plan(uint32_t *random) {
    LvPlan *p = lv_plan_create();
    p->step_count = (int)roll(random, STEPS), p->prepare_count = (int)roll(random, (uint32_t)p->step_count + 1);
    p->steps = LV_NEW_ARRAY(p->arena, LvStep, STEPS);
    for (int s = 0; s < p->step_count; s++) {
        LvStep *step = &p->steps[s];
        bool sum = roll(random, 3) == 0;
        step->kind = sum ? LV_STEP_ALL_REDUCE : LV_STEP_KERNEL;
        step->operand_count = sum ? 1 : (int)roll(random, OPERANDS + 1);
        step->operands = LV_NEW_ARRAY(p->arena, LvOperand, OPERANDS);
        for (int i = 0; i < step->operand_count; i++) step->operands[i] = operand(random);
        if (sum && step->operands[0].place.offset < 0) step->operands[0].place.offset = 0;
    }
    return p;
}

// [arena][byte]
static void mark(const LvStep *step, bool (*bytes)[BYTES]) {
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *o = &step->operands[i];
        size_t size = (size_t)lv_shape_elements(o->shape) * lv_dtype_size(o->dtype);
        for (size_t k = 0; o->place.offset >= 0 && k < size; k++) bytes[o->place.arena][(size_t)o->place.offset + k] = true;
    }
}

static bool meet(const LvStep *a, const LvStep *b) {
    bool of_a[LV_ARENA_COUNT][BYTES] = {{0}}, of_b[LV_ARENA_COUNT][BYTES] = {{0}};
    mark(a, of_a), mark(b, of_b);
    for (int i = 0; i < LV_ARENA_COUNT; i++)
        for (int k = 0; k < BYTES; k++)
            if (of_a[i][k] && of_b[i][k]) return true;
    return false;
}

static void check_section(const LvPlan *p, const int *waits, int first, int end) {
    int done = -1, queued = -1;  // up to which step sums are waited for
    for (int s = first; s < end; s++) {
        const LvStep *step = &p->steps[s];
        for (int t = first; t < s; t++) {
            bool under_way = p->steps[t].kind == LV_STEP_ALL_REDUCE && t > done;
            assert_false(under_way && meet(&p->steps[t], step));
        }
        if (step->kind == LV_STEP_ALL_REDUCE) queued = s;
        if (waits[s] < 0) continue;
        assert_true(waits[s] > done && waits[s] <= s && p->steps[waits[s]].kind == LV_STEP_ALL_REDUCE);
        assert_true(s == end - 1 || meet(&p->steps[waits[s]], &p->steps[s + 1]));
        done = waits[s];
    }
    assert_int_equal(done < queued ? queued : done, done);
}

static void test_random(void **state) {
    uint32_t random = 5;
    int early = 0;
    (void)state;
    for (int turn = 0; turn < 3000; turn++) {
        LvPlan *p = make_plan(&random);
        int *waits = sums_waits(p);
        check_section(p, waits, 0, p->prepare_count);
        check_section(p, waits, p->prepare_count, p->step_count);
        for (int s = 0; s + 1 < p->step_count; s++) early += waits[s] >= 0 && waits[s] < s;
        free(waits);
        lv_plan_destroy(p);
    }
    assert_true(early > 1000);  // sums that had steps beside them
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
