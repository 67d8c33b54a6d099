// Our own Winograd against plain loops, with every instruction set that the processor has: directions, layouts, paddings, epilogues, f32 and
// bf16; how it rounds; that bits do not depend on threads; and that the device takes it for bf16.
#include "conv_case.h"
#include "device/cpu/winograd.h"
#include "device/device.h"

// Channels that fill no pair of vectors, maps that fill no tile, paddings of all kinds, few tiles and many weights (threads share a block)
// and the reverse, several blocks.
static const Shape shapes[] = {
    {2, 24, 9, 13, 40, 3, 3, 1, {0, 2, 1, 0}}, {1, 8, 5, 5, 8, 3, 3, 1, {1, 1, 1, 1}},      {2, 16, 3, 3, 16, 3, 3, 1, {0, 0, 0, 0}},
    {2, 16, 18, 14, 24, 3, 3, 1, {2, 2, 2, 2}}, {1, 128, 5, 8, 112, 3, 3, 1, {1, 1, 1, 1}}, {3, 16, 20, 20, 16, 3, 3, 1, {1, 1, 1, 1}},
    {1, 16, 4, 70, 16, 3, 3, 1, {1, 0, 2, 1}}, {2, 32, 7, 1, 48, 3, 3, 1, {1, 1, 1, 1}},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const LvDType types[][3] = {{LV_F32, LV_F32, LV_F32}, {LV_BF16, LV_BF16, LV_F32}, {LV_BF16, LV_F32, LV_BF16}};  // pictures, weight, bias

static const WinogradSet *set_of(void **state) {
    const WinogradSet *set = *state;
    if (!winograd_has(set)) skip();
    return set;
}

static void run_step(const WinogradSet *set, Case *c, int threads) {
    WinogradShape shape;
    assert_true(winograd_shape(&c->step, set, threads, &shape));
    char *scratch = aligned_alloc(64, winograd_scratch(&shape) + 64);
    WinogradData data = winograd_data(&c->step, c->buffers, scratch);
    winograd_run(&shape, &data);
    free(scratch);
}

static bool has_vectors(const WinogradSet *set, int layout, int64_t channels) {
    int block = layout == 2 ? 16 : layout == 3 ? 8 : set->lanes;
    return layout > 0 && block % set->lanes == 0 && channels % block == 0;
}

static void check_sums(const WinogradSet *set, const Shape *s, const ConvCase *form) {
    Case c;
    if (!make_conv(&c, s, form)) return;
    WinogradShape shape;
    bool takes = has_vectors(set, form->x_layout, s->c) && has_vectors(set, form->y_layout, s->o);
    assert_int_equal(takes, winograd_shape(&c.step, set, 2, &shape));
    if (!takes) {
        if (form->residual && form->in_place) c.buffers[0] = NULL;
        free_case(&c);
        return;
    }
    run_step(set, &c, 2);
    check_conv(&c, s, form, set->name, 1e-5, 2.5e-3);  // 2^-9 is half a step of bf16: its root mean square is at most 2^-9 / sqrt 3 * 2
}

static void test_sums(void **state) {
    const WinogradSet *set = set_of(state);
    static const int layouts[][2] = {{1, 1}, {2, 2}, {3, 3}, {1, 3}, {3, 1}, {0, 1}, {2, 0}};
    for (int i = 0; i < SHAPES * 7 * 3; i++) {
        const Shape *s = &shapes[i / 21];
        int x_layout = layouts[i / 3 % 7][0], y_layout = layouts[i / 3 % 7][1], k = i / 21;
        const LvDType *type = types[i % 3];
        ConvCase form = {LV_CONV_FORWARD, x_layout, y_layout, k % 2, true, k % 3 == 0, (LvActivation)(k % 4), type[0], type[1], type[2], LV_CONV_WINOGRAD};
        check_sums(set, s, &form);
        form = (ConvCase){LV_CONV_FORWARD, x_layout, y_layout, true, false, false, LV_ACTIVATION_NONE, type[0], type[1], type[2], LV_CONV_WINOGRAD};
        check_sums(set, s, &form);
        form.direction = LV_CONV_DATA_GRADIENT, form.bias = false;
        check_sums(set, s, &form);
        form.direction = LV_CONV_WEIGHT_GRADIENT, form.bias = k % 2, form.weight = LV_F32;
        check_sums(set, s, &form);
    }
}

// The same case in f32: values as bf16 has them.
static void make_wide(const Case *c, const Shape *s, ConvCase form, Case *wide) {
    form.dtype = form.weight = form.bias_dtype = LV_F32;
    assert_true(make_conv(wide, s, &form));
    for (int i = 0; i < c->step.operand_count; i++) {
        int64_t n = lv_shape_elements(c->operands[i].shape);
        for (int64_t k = 0; k < n; k++) {
            if (c->operands[i].dtype == LV_F32) ((float *)wide->buffers[i])[k] = ((const float *)c->buffers[i])[k];
            else ((float *)wide->buffers[i])[k] = lv_f32_from_bf16(((const uint16_t *)c->buffers[i])[k]);
        }
    }
}

// What is written as bf16 is what f32 gives, rounded by lv_bf16_from_f32; NaN stays NaN, of whatever bits, and no number becomes one.
static void check_rounding(const WinogradSet *set, const Shape *s, ConvCase form) {
    Case c, wide;
    assert_true(make_conv(&c, s, &form));
    // a NaN whose bits would round to -0, and an infinity
    if (form.bias && form.direction == LV_CONV_FORWARD) {
        uint32_t *bias = (uint32_t *)c.buffers[3];
        bias[1] = 0x7FFFFFFF;
        // results of no product, halfway between two numbers
        bias[2] = 0x3F808000, bias[3] = 0x3F818000;
        memset((uint16_t *)c.buffers[2] + 2 * s->c * 9, 0, (size_t)(2 * s->c * 9) * sizeof(uint16_t));
    }
    ((uint16_t *)c.buffers[1])[5] = 0x7F80;
    make_wide(&c, s, form, &wide);
    run_step(set, &c, 1);
    run_step(set, &wide, 1);
    int64_t n = lv_shape_elements(c.operands[0].shape), nans = 0;
    for (int64_t k = 0; k < n; k++) {
        float exact = ((const float *)wide.buffers[0])[k];
        uint16_t got = ((const uint16_t *)c.buffers[0])[k];
        if (isnan(exact)) assert_true(isnan(lv_f32_from_bf16(got))), nans++;
        else assert_int_equal(got, lv_bf16_from_f32(exact));
    }
    assert_true(nans > 0 && nans < n);
    free_case(&c);
    free_case(&wide);
}

static void test_rounding(void **state) {
    const WinogradSet *set = set_of(state);
    for (int direction = 0; direction < 2; direction++) {  // the weight's gradient is never rounded
        ConvCase form = {.direction = direction, .x_layout = 1, .y_layout = 1, .bias = direction == LV_CONV_FORWARD, .dtype = LV_BF16,
                         .weight = LV_BF16, .bias_dtype = LV_F32, .algorithm = LV_CONV_WINOGRAD};
        check_rounding(set, &shapes[5], form);
        check_rounding(set, &shapes[6], form);
    }
}

static void test_threads(void **state) {
    const WinogradSet *set = set_of(state);
    static const Shape sizes[] = {{2, 16, 40, 40, 16, 3, 3, 1, {1, 1, 1, 1}}, {2, 128, 8, 8, 96, 3, 3, 1, {1, 1, 1, 1}}};
    for (int i = 0; i < 2 * 3 * 2; i++) {
        LvDType type = i % 2 ? LV_BF16 : LV_F32;
        ConvCase form = {.direction = i / 2 % 3, .x_layout = 2, .y_layout = 2, .dtype = type, .weight = LV_F32, .algorithm = LV_CONV_WINOGRAD};
        Case c;
        assert_true(make_conv(&c, &sizes[i / 6], &form));
        size_t bytes = (size_t)lv_shape_elements(c.operands[0].shape) * lv_dtype_size(c.operands[0].dtype);
        char *first = malloc(bytes);
        for (int threads = 1; threads <= 5; threads += 2) {
            run_step(set, &c, threads);
            if (threads == 1) memcpy(first, c.buffers[0], bytes);
            else assert_memory_equal(first, c.buffers[0], bytes);
        }
        free(first);
        free_case(&c);
    }
}

// More tiles than one block has: the same bits as picture by picture, and the weight's gradient is the sum of theirs.
static void test_blocks(void **state) {
    const WinogradSet *set = set_of(state);
    static const Shape large = {4, 256, 60, 60, 256, 3, 3, 1, {1, 1, 1, 1}};
    Shape one = large;
    one.b = 1;
    for (int direction = 0; direction < 3; direction++) {
        ConvCase form = {.direction = direction, .x_layout = 2, .y_layout = 2, .dtype = LV_F32, .weight = LV_F32, .algorithm = LV_CONV_WINOGRAD};
        Case c, part;
        assert_true(make_conv(&c, &large, &form));
        assert_true(make_conv(&part, &one, &form));
        run_step(set, &c, 3);
        int64_t n = lv_shape_elements(part.operands[0].shape);
        double *sum = calloc((size_t)n, sizeof *sum);
        for (int image = 0; image < 4; image++) {
            for (int i = 1; i < 3; i++) {
                size_t bytes = (size_t)lv_shape_elements(part.operands[i].shape) * sizeof(float);
                memcpy(part.buffers[i], c.buffers[i] + (i == 2 && direction != LV_CONV_WEIGHT_GRADIENT ? 0 : (size_t)image * bytes), bytes);
            }
            run_step(set, &part, 2);
            if (direction != LV_CONV_WEIGHT_GRADIENT) assert_memory_equal(c.buffers[0] + image * n * 4, part.buffers[0], (size_t)n * 4);
            for (int64_t k = 0; k < n; k++) sum[k] += (double)((const float *)part.buffers[0])[k];
        }
        if (direction == LV_CONV_WEIGHT_GRADIENT) compare(&c, 0, sum, 1e-5, "sum over blocks");
        free(sum);
        free_case(&c);
        free_case(&part);
    }
}

// By the device: where it is asked for, and where the device may choose; large enough to be measured.
static void test_device(void **state) {
    (void)state;
    static const Shape large = {1, 64, 24, 24, 64, 3, 3, 1, {1, 1, 1, 1}};
    LvDevice *device;
    LvError error = {0};
    if (!winograd_best()) skip();
    if (!lv_device_open("cpu", 2, &device, &error)) fail_msg("%s", error.message);
    for (int i = 0; i < 3 * 2 * 2; i++) {
        LvConvAlgorithm algorithm = i % 2 ? LV_CONV_AUTO : LV_CONV_WINOGRAD;
        LvDType type = i / 2 % 2 ? LV_BF16 : LV_F32;
        ConvCase form = {.direction = i / 4, .x_layout = 1, .y_layout = 1, .bias = i / 4 != LV_CONV_DATA_GRADIENT, .dtype = type, .weight = LV_F32,
                         .bias_dtype = LV_F32, .algorithm = algorithm};
        Case c;
        LvCall *call;
        assert_true(make_conv(&c, &large, &form));
        if (!device->ops->prepare(device, NULL, &c.step, &call, &error)) fail_msg("prepare: %s", error.message);
        if (!device->ops->call(device, call, c.buffers, &error)) fail_msg("call: %s", error.message);
        if (algorithm == LV_CONV_WINOGRAD) assert_string_equal(device->ops->describe(call), winograd_best()->name);
        check_conv(&c, &large, &form, device->ops->describe(call), type == LV_BF16 ? 1e-2 : 1e-5, 1e-2);
        device->ops->discard(device, call);
    }
    lv_device_close(device);
}

#define WITH(test, set) {#test " " #set, test, NULL, NULL, (void *)(uintptr_t)&winograd_##set}

int main(void) {
    const struct CMUnitTest tests[] = {WITH(test_sums, avx2),    WITH(test_sums, avx512),    WITH(test_rounding, avx2), WITH(test_rounding, avx512),
                                       WITH(test_threads, avx2), WITH(test_threads, avx512), WITH(test_blocks, avx2),   WITH(test_blocks, avx512),
                                       cmocka_unit_test(test_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
