// Library calls against loops written out here: every direction, layout, stride, padding, epilogue, odd and empty shapes,
// f32 and bf16, both algorithms.
#include "base/plan_file.h"
#include "base/processor.h"
#include "conv_case.h"
#include "device/cpu/onednn.h"
#include "device/device.h"

static void run(LvDevice *device, Case *c, const char **name) {
    static char text[96];
    LvCall *call;
    LvError error = {0};
    if (!device->ops->prepare(device, NULL, &c->step, &call, &error)) fail_msg("prepare: %s", error.message);
    if (!device->ops->call(device, call, c->buffers, &error)) fail_msg("call: %s", error.message);
    snprintf(text, sizeof text, "%s", device->ops->describe(call));
    *name = text;
    device->ops->discard(device, call);
}

static const Shape shapes[] = {
    {2, 16, 12, 12, 32, 3, 3, 1, {1, 1, 1, 1}}, {1, 3, 9, 7, 16, 3, 3, 1, {1, 1, 1, 1}},
    {2, 32, 8, 8, 16, 3, 3, 2, {0, 1, 0, 1}},   {3, 5, 7, 11, 13, 2, 3, 1, {0, 2, 1, 0}},
    {2, 16, 8, 8, 3, 3, 3, 1, {1, 1, 1, 1}},    {1, 48, 6, 5, 16, 1, 1, 1, {0, 0, 0, 0}},
    {2, 1, 5, 5, 1, 5, 5, 3, {2, 2, 2, 2}},     {0, 16, 4, 4, 16, 3, 3, 1, {1, 1, 1, 1}},
    {1, 0, 4, 4, 2, 3, 3, 1, {1, 1, 1, 1}},     {2, 32, 16, 16, 64, 3, 3, 1, {1, 1, 1, 1}},
};

static void conv_case(LvDevice *device, const Shape *s, int direction, int x_layout, int y_layout, bool bias, bool residual, bool in_place,
                      LvActivation activation, LvDType dtype, LvConvAlgorithm algorithm) {
    ConvCase form = {direction, x_layout, y_layout, bias, residual, in_place, activation, dtype, LV_F32, LV_F32, algorithm};
    Case c;
    const char *name;
    if (!make_conv(&c, s, &form)) return;
    run(device, &c, &name);
    double exact = algorithm == LV_CONV_DIRECT ? 1e-5 : 1e-4;
    check_conv(&c, s, &form, name, dtype == LV_BF16 ? 1e-2 : exact, 1e-2);
}

static void test_conv(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            for (int layouts = 0; layouts < 9; layouts++) {
                for (int form = 0; form < 2; form++) {
                    bool bias = direction != LV_CONV_DATA_GRADIENT && form;
                    conv_case(device, &shapes[i], direction, layouts % 3, layouts / 3, bias, false, false, LV_ACTIVATION_NONE, LV_F32,
                              LV_CONV_DIRECT);
                }
            }
        }
    }
}

static void test_conv_epilogue(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int layout = 0; layout < 3; layout++) {
            for (int form = 0; form < 16; form++) {
                conv_case(device, &shapes[i], LV_CONV_FORWARD, layout, layout, form & 1, form & 2, form & 4,
                          form & 8 ? LV_ACTIVATION_SWISH : LV_ACTIVATION_NONE, LV_F32,
                          form & 4 ? LV_CONV_WINOGRAD : LV_CONV_DIRECT);
            }
            conv_case(device, &shapes[i], LV_CONV_FORWARD, layout, layout, true, false, false, LV_ACTIVATION_RELU, LV_F32, LV_CONV_DIRECT);
            conv_case(device, &shapes[i], LV_CONV_FORWARD, layout, layout, true, true, false, LV_ACTIVATION_GELU, LV_F32, LV_CONV_DIRECT);
        }
    }
}

static void test_conv_algorithms(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            for (int algorithm = 0; algorithm < 3; algorithm++) {
                bool bias = direction != LV_CONV_DATA_GRADIENT;
                conv_case(device, &shapes[i], direction, 2, 2, bias, false, false, LV_ACTIVATION_NONE, LV_F32, (LvConvAlgorithm)algorithm);
                conv_case(device, &shapes[i], direction, 0, 2, bias, false, false, LV_ACTIVATION_NONE, LV_F32, (LvConvAlgorithm)algorithm);
            }
        }
    }
}

static void test_conv_bf16(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            for (int layout = 0; layout < 3; layout++) {
                bool forward = direction == LV_CONV_FORWARD;
                conv_case(device, &shapes[i], direction, layout, layout, direction != LV_CONV_DATA_GRADIENT, forward, false,
                          forward ? LV_ACTIVATION_SWISH : LV_ACTIVATION_NONE, LV_BF16, LV_CONV_AUTO);
            }
        }
    }
}

static void test_conv_f64(void **state) {
    conv_case(*state, &shapes[3], LV_CONV_FORWARD, 0, 0, true, true, false, LV_ACTIVATION_GELU, LV_F64, LV_CONV_AUTO);
    conv_case(*state, &shapes[3], LV_CONV_DATA_GRADIENT, 0, 0, false, false, false, LV_ACTIVATION_NONE, LV_F64, LV_CONV_AUTO);
    conv_case(*state, &shapes[3], LV_CONV_WEIGHT_GRADIENT, 0, 0, true, false, false, LV_ACTIVATION_NONE, LV_F64, LV_CONV_AUTO);
}

// 1 x 1 over pictures with their channels last as a product of matrices, whatever its scratch memory would be otherwise.
static void product_case(LvCpu *cpu, const Shape *s, const ConvCase *form) {
    Case c;
    LvError error = {0};
    if (!make_conv(&c, s, form)) fail();
    LvCall *call = call_create(&c.step);
    assert_true(matmul_build_conv(cpu->library, call));
    if (!call_make(call) || !call_room(cpu->library, call, &error) || !cpu_call_run(cpu, call, c.buffers, &error)) fail_msg("product: %s", error.message);
    check_conv(&c, s, form, call->implementation, form->dtype == LV_BF16 ? 1e-2 : 1e-5, 1e-2);
    call_destroy(call);
}

static void test_conv_product(void **state) {
    static const Shape pixelwise = {2, 24, 6, 5, 40, 1, 1, 1, {0, 0, 0, 0}};
    for (int type = 0; type < (lv_processor_has_avx512() ? 2 : 1); type++) {
        LvDType dtype = type ? LV_BF16 : LV_F32;
        for (int form = 0; form < 16; form++) {
            LvActivation activation = form & 8 ? LV_ACTIVATION_SWISH : LV_ACTIVATION_NONE;
            product_case(*state, &pixelwise, &(ConvCase){LV_CONV_FORWARD, 1, 1, form & 1, form & 2, form & 4, activation, dtype, LV_F32, LV_F32, LV_CONV_AUTO});
        }
        for (int direction = LV_CONV_DATA_GRADIENT; direction <= LV_CONV_WEIGHT_GRADIENT; direction++)
            product_case(*state, &pixelwise, &(ConvCase){direction, 1, 1, false, false, false, LV_ACTIVATION_NONE, dtype, LV_F32, LV_F32, LV_CONV_AUTO});
    }
}

// What is no product is left to the library: other kernels, strides, layouts, a bias's gradient.
static void test_conv_no_product(void **state) {
    static const Shape other[] = {{1, 16, 6, 6, 16, 3, 3, 1, {1, 1, 1, 1}}, {1, 16, 6, 6, 16, 1, 1, 2, {0, 0, 0, 0}}, {1, 16, 6, 6, 16, 1, 1, 1, {1, 1, 1, 1}}};
    static const Shape pixelwise = {1, 16, 6, 6, 16, 1, 1, 1, {0, 0, 0, 0}};
    LvLibrary *library = ((LvCpu *)*state)->library;
    for (int i = 0; i < 5; i++) {
        int layout = i == 3 ? 2 : 1, direction = i == 4 ? LV_CONV_WEIGHT_GRADIENT : LV_CONV_FORWARD;
        Case c;
        assert_true(make_conv(&c, i < 3 ? &other[i] : &pixelwise, &(ConvCase){direction, layout, layout, true, false, false, LV_ACTIVATION_NONE, LV_F32, LV_F32, LV_F32, LV_CONV_AUTO}));
        LvCall *call = call_create(&c.step);
        assert_false(matmul_build_conv(library, call));
        call_destroy(call);
        free_case(&c);
    }
}

// The library copies maps of f32 where a 1 x 1 convolution has a residual, and in its gradients: 134 MB of this one.
static void test_conv_scratch(void **state) {
    if (!lv_processor_has_avx512()) skip();
    int64_t x[4] = {1, 256, 256, 256}, y[4] = {1, 128, 256, 256}, w[4] = {128, 256, 1, 1};
    LvOperand ox = {{LV_ARENA_ACTIVATIONS, 0}, LV_BF16, lv_shape(4, x), lv_layout_nhwc()}, oy = {{LV_ARENA_ACTIVATIONS, 64}, LV_BF16, lv_shape(4, y), lv_layout_nhwc()};
    LvOperand ow = {{LV_ARENA_PARAMS, 0}, LV_F32, lv_shape(4, w), lv_layout_row_major()}, residual = oy;
    residual.place.offset = 128;
    LvOperand operands[3][4] = {{oy, ox, ow, residual}, {ox, oy, ow}, {ow, ox, oy}};
    for (int direction = 0; direction < 3; direction++) {
        bool forward = direction == LV_CONV_FORWARD;
        LvStep step = {.kind = LV_STEP_CONV, .label = "conv", .operands = operands[direction], .operand_count = 3 + forward};
        step.conv = (LvConvStep){.direction = (LvConvDirection)direction, .stride = {1, 1}, .has_residual = forward};
        LvCall *call = call_create(&step);
        call_build(*state, call, CONV_DIRECT);
        assert_int_equal(call->form, CALL_STAGES);
        assert_true(call_scratch(call) + call->wide_bytes < 4 << 20);
        call_destroy(call);
    }
}

// a [batch..., M, K], b [one or equal batch..., K, N]
static void matmul_case(LvDevice *device, int batch_rank, const int64_t *batch, bool shared_b, int64_t m, int64_t k, int64_t n,
                        int form, double alpha, LvDType dtype) {
    bool ta = form & 1, tb = form & 2, bias = form & 4, residual = form & 8, in_place = form & 16;
    LvActivation activation = form & 32 ? LV_ACTIVATION_GELU : LV_ACTIVATION_NONE;
    Case c = {.step = {.kind = LV_STEP_MATMUL, .label = "matmul"}};
    c.step.matmul = (LvMatmulStep){.transpose_a = ta, .transpose_b = tb, .has_bias = bias, .has_residual = residual, .activation = activation, .alpha = alpha};
    int64_t y[LV_MAX_RANK], a[LV_MAX_RANK], b[LV_MAX_RANK], batches = 1;
    for (int i = 0; i < batch_rank; i++) y[i] = a[i] = b[i] = batch[i], batches *= batch[i];
    int r = batch_rank, rb = shared_b ? 0 : r;
    y[r] = m, y[r + 1] = n, a[r + ta] = m, a[r + !ta] = k, b[rb + tb] = k, b[rb + !tb] = n;
    LvLayout row = lv_layout_row_major();
    add_operand(&c, dtype, row, r + 2, y);
    add_operand(&c, dtype, row, r + 2, a);
    add_operand(&c, LV_F32, row, rb + 2, b);
    if (bias) add_operand(&c, LV_F32, row, 1, &n);
    if (residual) add_operand(&c, dtype, row, r + 2, y);
    if (residual && in_place) free(c.buffers[0]), c.buffers[0] = c.buffers[3 + bias], c.operands[0].place = c.operands[3 + bias].place;
    double *want = calloc((size_t)(batches * m * n) + 1, sizeof *want);
    for (int64_t q = 0; q < batches; q++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t l = 0; l < k; l++) {
                    sum += c.values[1][q * m * k + (ta ? l * m + i : i * k + l)] *
                           c.values[2][(shared_b ? 0 : q * k * n) + (tb ? j * k + l : l * n + j)];
                }
                int64_t at = (q * m + i) * n + j;
                want[at] = act(activation, alpha * sum + (bias ? c.values[3][j] : 0)) + (residual ? c.values[3 + bias][at] : 0);
            }
    const char *name;
    run(device, &c, &name);
    LvText what = {0};
    lv_text_printf(&what, "matmul %d batches%s %dx%dx%d form %d alpha %g type %d (%s)", (int)batches, shared_b ? " shared b" : "", (int)m,
                   (int)k, (int)n, form, alpha, dtype, name);
    if (getenv("LV_SHOW")) printf("%s\n", what.data);
    compare(&c, 0, want, dtype == LV_BF16 ? 1e-2 : 1e-5, what.data);
    lv_text_free(&what);
    free(want);
    if (residual && in_place) c.buffers[0] = NULL;
    free_case(&c);
}

static void test_matmul(void **state) {
    static const int64_t batches[][2] = {{3, 2}, {1, 1}, {0, 2}}, sizes[][3] = {{7, 5, 11}, {64, 32, 48}, {1, 13, 17}, {17, 13, 1}, {5, 0, 4}, {1, 1, 1}};
    for (int size = 0; size < 6; size++) {
        for (int form = 0; form < 64; form++) {
            double alpha = form % 3 ? 1 : 0.25;
            const int64_t *s = sizes[size];
            matmul_case(*state, 0, NULL, false, s[0], s[1], s[2], form, alpha, LV_F32);
            for (int rank = 1; rank <= 2; rank++) {
                for (int which = 0; which < 3; which++) {
                    matmul_case(*state, rank, batches[which], false, s[0], s[1], s[2], form, alpha, LV_F32);
                    matmul_case(*state, rank, batches[which], true, s[0], s[1], s[2], form, alpha, form & 1 ? LV_F32 : LV_BF16);
                }
            }
        }
    }
    matmul_case(*state, 1, batches[0], false, 4, 3, 5, 15, 2, LV_F64);
}

// Sums beside a product are a GPU's.
static void test_sums(void **state) {
    LvOperand operands[4] = {{{LV_ARENA_IO, 0}, LV_F32, lv_shape(2, (int64_t[]){4, 4}), lv_layout_row_major()}};
    LvStep step = {.kind = LV_STEP_MATMUL, .label = "matmul", .operands = operands, .operand_count = 4, .kernel = -1};
    LvCall *call = NULL;
    LvError error = {0};
    step.matmul = (LvMatmulStep){.has_sums = true, .alpha = 1};
    operands[1] = operands[2] = operands[3] = operands[0];
    operands[3].shape.rank = 1;
    LvDevice *device = *state;
    assert_false(device->ops->prepare(device, NULL, &step, &call, &error));
    assert_int_equal(error.kind, LV_ERROR_UNSUPPORTED);
    lv_error_clear(&error);
}

static int open_device(void **state) {
    LvDevice *device;
    LvError error = {0};
    if (!lv_device_open("cpu", 2, &device, &error)) return -1;
    *state = device;
    return 0;
}

static int close_device(void **state) {
    lv_device_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conv),      cmocka_unit_test(test_conv_epilogue), cmocka_unit_test(test_conv_algorithms),
                                       cmocka_unit_test(test_conv_bf16), cmocka_unit_test(test_conv_f64),      cmocka_unit_test(test_conv_product),
                                       cmocka_unit_test(test_conv_no_product), cmocka_unit_test(test_conv_scratch), cmocka_unit_test(test_matmul), cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
