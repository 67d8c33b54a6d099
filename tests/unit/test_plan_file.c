// The artifact: what is written reads back the same; whatever was cut, altered or lies about its indices is refused.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "small_plan.h"

static void encode(const LvPlan *plan, LvText *out) {
    LvError error = {0};
    *out = (LvText){0};
    if (!lv_plan_encode(plan, out, &error)) fail_msg("%s", error.message);
}

static void test_round_trip(void **state) {
    (void)state;
    LvPlan *plan = small_plan(), *again = NULL;
    LvText first, second;
    LvError error = {0};
    char path[] = "/tmp/lv_test_plan_XXXXXX";
    close(mkstemp(path));
    encode(plan, &first);
    assert_true(lv_plan_write(plan, path, &error));
    if (!lv_plan_read(path, &again, &error)) fail_msg("%s", error.message);
    encode(again, &second);
    assert_int_equal(first.length, second.length);
    assert_memory_equal(first.data, second.data, first.length);
    assert_string_equal(again->sources[0].text, plan->sources[0].text);
    assert_true(again->steps[2].scalars[0].f == 0.1 && again->steps[1].matmul.alpha == 2);
    assert_int_equal(again->steps[0].kernel, -1);
    assert_memory_equal(again->constants, plan->constants, 64);
    unlink(path);
    lv_text_free(&first);
    lv_text_free(&second);
    lv_plan_destroy(plan);
    lv_plan_destroy(again);
}

static void expect_refused(const void *data, size_t length, const char *why) {
    LvPlan *plan = NULL;
    LvError error = {0};
    if (lv_plan_decode(data, length, &plan, &error)) fail_msg("taken although %s", why);
    assert_non_null(error.message);
    lv_error_clear(&error);
}

static void test_damage(void **state) {
    (void)state;
    LvPlan *plan = small_plan();
    LvText text;
    encode(plan, &text);
    for (size_t n = 0; n < text.length; n += n < 64 ? 1 : 7) expect_refused(text.data, n, "cut off");
    for (size_t i = 0; i < text.length; i += i < 64 ? 1 : 5) {
        text.data[i] ^= 4;
        expect_refused(text.data, text.length, "a bit is flipped");
        text.data[i] ^= 4;
    }
    lv_text_putc(&text, 'x');
    expect_refused(text.data, text.length, "longer");
    lv_text_free(&text);
    lv_plan_destroy(plan);
}

// Plans that lie, with a right checksum.
static void test_lies(void **state) {
    (void)state;
    for (int lie = 0; lie < 30; lie++) {
        LvPlan *p = small_plan();
        LvStep *conv = &p->steps[0], *matmul = &p->steps[1], *kernel = &p->steps[2], *copy = &p->steps[3];
        switch (lie) {
            case 0: conv->operands[0].place.offset = 192; break;
            case 1: conv->operands[1].place.offset = -64; break;
            case 2: conv->operands[1].place.offset = INT64_MAX - 3; break;
            case 3: conv->operands[1].shape.dim[0] = INT64_MAX / 2; break;
            case 4: conv->operands[1].shape.dim[0] = -2; break;
            case 5: conv->operands[2].shape.dim[2] = 2; break;
            case 6: conv->conv.stride[0] = 0; break;
            case 7: conv->conv.pad[1] = INT64_MAX; break;
            case 8: conv->conv.has_residual = true; break;
            case 9: conv->operand_count = 3; break;
            case 10: matmul->operands[1].shape.dim[1] = 11; break;
            case 11: matmul->matmul.transpose_b = true; break;
            case 12: kernel->kernel = 1; break;
            case 13: kernel->kernel = -1; break;
            case 14: copy->operands[1].shape.dim[0] = 2; break;
            case 15: copy->operand_count = 1; break;
            case 16: p->variables[0].place.arena = LV_ARENA_IO; break;
            case 17: p->variables[0].place.offset = 124; break;
            case 18: p->variables[0].gradient.arena = LV_ARENA_PARAMS; break;
            case 19: p->variables[1].name = "conv.weight"; break;
            case 20: p->inputs[0].place.offset = 1; break;
            case 21: p->inputs[0].shape.dim[3] = 1 << 20; break;
            case 22: p->arena_bytes[LV_ARENA_IO] = -1; break;
            case 23: p->arena_bytes[LV_ARENA_IO] = INT64_MAX; break;
            case 24: conv->operands[0].layout = lv_layout_blocked(1, 16); break;
            case 25: p->arena_bytes[LV_ARENA_ACTIVATIONS] = 0; break;
            case 26: p->results[1].place.offset = -1; break;
            case 27: conv->operands[3].shape.rank = 0; break;
            case 28: kernel->operands[0].layout.pitch = 1 << 30; break;
            case 29: kernel->operands[0].layout.pitch = 1, kernel->operands[0].layout.pitch_place = 7; break;
        }
        LvText text;
        char why[32];
        snprintf(why, sizeof why, "lie %d", lie);
        encode(p, &text);
        expect_refused(text.data, text.length, why);
        lv_text_free(&text);
        lv_plan_destroy(p);
    }
}

// The small plan's convolution with moments of its result, whose four pixels are two strips.
static LvOperand *with_moments(LvPlan *p) {
    LvStep *conv = &p->steps[0];
    LvOperand *operands = LV_NEW_ARRAY(p->arena, LvOperand, 6);
    memcpy(operands, conv->operands, 4 * sizeof *operands);
    for (int i = 4; i < 6; i++) operands[i] = small_operand(LV_ARENA_ACTIVATIONS, i == 4 ? 128 : 192, 3, (int64_t[]){2, 2, 3});
    conv->operands = operands, conv->operand_count = 6, conv->conv.has_moments = true;
    return operands + 4;
}

// The plan written and read: of the truth what was read, to be destroyed; a lie must be refused, and is NULL.
static LvPlan *read_again(const LvPlan *plan, const char *about, int lie) {
    LvText text;
    LvPlan *again = NULL;
    encode(plan, &text);
    if (lie) {
        char why[32];
        snprintf(why, sizeof why, "%s, lie %d", about, lie);
        expect_refused(text.data, text.length, why);
    } else {
        LvError error = {0};
        assert_true(lv_plan_decode(text.data, text.length, &again, &error));
    }
    lv_text_free(&text);
    return again;
}

static void test_moments(void **state) {
    (void)state;
    for (int lie = 0; lie < 9; lie++) {
        LvPlan *p = small_plan();
        LvConvStep *conv = &p->steps[0].conv;
        LvOperand *moments = with_moments(p);
        switch (lie) {
            case 1: conv->has_moments = false; break;
            case 2: p->steps[0].operand_count = 5; break;
            case 3: moments[0].shape.dim[1] = 3, moments[1].shape.dim[1] = 3, p->arena_bytes[LV_ARENA_ACTIVATIONS] = 512; break;
            case 4: moments[1].shape.dim[1] = 1; break;
            case 5: moments[0].dtype = LV_I32; break;
            case 6: moments[1].shape.rank = 2; break;
            case 7: moments[0].shape.dim[2] = 2; break;
            case 8: moments[1].shape.dim[0] = 1; break;
            default: break;
        }
        LvPlan *again = read_again(p, "moments", lie);
        if (again) {
            assert_true(again->steps[0].conv.has_moments);
            assert_int_equal(again->steps[0].operand_count, 6);
        }
        lv_plan_destroy(again);
        lv_plan_destroy(p);
    }
}

// The small plan's convolution turned round, from its three channels to the one, with a bias and a residual of that.
static void make_transposed(LvPlan *p) {
    LvStep *conv = &p->steps[0];
    LvOperand *operands = LV_NEW_ARRAY(p->arena, LvOperand, 5);
    operands[0] = conv->operands[1], operands[1] = conv->operands[0], operands[2] = conv->operands[2], operands[3] = conv->operands[3];
    operands[0].place = (LvPlace){LV_ARENA_ACTIVATIONS, 128};
    operands[3].shape.dim[0] = 1;
    operands[4] = operands[0];
    conv->operands = operands, conv->operand_count = 5, conv->conv.direction = LV_CONV_DATA_GRADIENT;
    conv->conv.has_bias = conv->conv.has_residual = true;
}

static void test_transposed(void **state) {
    (void)state;
    for (int lie = 0; lie < 6; lie++) {
        LvPlan *p = small_plan();
        LvStep *conv = &p->steps[0];
        make_transposed(p);
        switch (lie) {
            case 1: conv->operands[3].shape.dim[0] = 3; break;
            case 2: conv->operands[4].shape = conv->operands[1].shape; break;
            case 3: conv->operand_count = 4; break;
            case 4: conv->conv.direction = LV_CONV_WEIGHT_GRADIENT; break;
            case 5: conv->conv.activation = LV_ACTIVATION_GELU + 1; break;
            default: break;
        }
        LvPlan *again = read_again(p, "transposed", lie);
        if (again) {
            assert_true(again->steps[0].conv.has_bias && again->steps[0].conv.has_residual);
        }
        lv_plan_destroy(again);
        lv_plan_destroy(p);
    }
}

// The small plan's product with sums of its rows' operand.
static LvStep *with_sums(LvPlan *p) {
    LvStep *matmul = &p->steps[1];
    LvOperand *operands = LV_NEW_ARRAY(p->arena, LvOperand, 4);
    memcpy(operands, matmul->operands, 3 * sizeof *operands);
    operands[3] = small_operand(LV_ARENA_ACTIVATIONS, 64, 1, operands[0].shape.dim);
    operands[3].dtype = operands[0].dtype;
    matmul->operands = operands, matmul->operand_count = 4, matmul->matmul.has_sums = true, matmul->matmul.alpha = 1;
    return matmul;
}

static void test_sums(void **state) {
    (void)state;
    for (int lie = 0; lie < 9; lie++) {
        LvPlan *p = small_plan();
        LvStep *step = with_sums(p);
        switch (lie) {
            case 1: step->matmul.has_sums = false; break;
            case 2: step->operand_count = 3; break;
            case 3: step->operands[3].shape.dim[0]++, p->arena_bytes[LV_ARENA_ACTIVATIONS] += 64; break;
            case 4: step->operands[3].dtype = LV_BF16; break;
            case 5: step->operands[3].shape.rank = 0; break;
            case 6: step->matmul.activation = LV_ACTIVATION_RELU; break;
            case 7: step->matmul.alpha = 0.5; break;
            case 8: step->matmul.has_bias = true; break;
            default: break;
        }
        LvPlan *again = read_again(p, "sums", lie);
        if (again) {
            assert_true(again->steps[1].matmul.has_sums && lv_step_writes(&again->steps[1], 3) && !lv_step_writes(&again->steps[1], 2));
        }
        lv_plan_destroy(again);
        lv_plan_destroy(p);
    }
}

static void test_ranks(void **state) {
    (void)state;
    for (int lie = 0; lie <= 5; lie++) {
        LvPlan *p = small_plan();
        LvStep *step = &p->steps[4];  // of one operand
        step->kind = LV_STEP_ALL_REDUCE;
        p->ranks = 4;
        switch (lie) {
            case 1: p->ranks = -1; break;
            case 2: p->ranks = (int64_t)INT32_MAX + 1; break;
            case 3: step->operands[0].dtype = LV_BF16; break;
            case 4: step->operand_count = 2, step->operands[1] = step->operands[0]; break;
            case 5: step->operands[0].place.offset = 252; break;
            default: break;
        }
        LvPlan *again = read_again(p, "ranks", lie);
        if (again) assert_int_equal(again->ranks, 4);
        lv_plan_destroy(again);
        lv_plan_destroy(p);
    }
}

// What the fuzzer of artifacts begins with is an artifact of this version, LV_PLAN_FILE_VERSION; LV_TEST_UPDATE=1 writes it anew.
static void test_seed(void **state) {
    (void)state;
    static const char path[] = LV_SOURCE_DIR "/tests/fuzz/corpus/artifact/small";
    LvPlan *plan = small_plan(), *seed = NULL;
    LvError error = {0};
    if (getenv("LV_TEST_UPDATE")) assert_true(lv_plan_write(plan, path, &error));
    if (!lv_plan_read(path, &seed, &error)) fail_msg("%s", error.message);
    lv_plan_destroy(seed);
    lv_plan_destroy(plan);
}

// An infinite scale is no one's intention.
static void test_not_finite(void **state) {
    (void)state;
    LvPlan *plan = small_plan();
    LvText text = {0};
    LvError error = {0};
    plan->steps[1].matmul.alpha = INFINITY;
    assert_false(lv_plan_encode(plan, &text, &error));
    lv_error_clear(&error);
    lv_text_free(&text);
    lv_plan_destroy(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damage), cmocka_unit_test(test_lies),
                                       cmocka_unit_test(test_moments), cmocka_unit_test(test_transposed), cmocka_unit_test(test_sums),
                                       cmocka_unit_test(test_ranks), cmocka_unit_test(test_seed), cmocka_unit_test(test_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
