// The CPU device's memory while its pages are still being touched; calls that equal steps share; what the library's workspace is
// said to be, and what it becomes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/device.h"

static LvDevice *open_device(void) {
    LvDevice *device;
    LvError error = {0};
    if (!lv_device_open("cpu", 2, &device, &error)) fail_msg("%s", error.message);
    return device;
}

// What is written at once stays, all else is zero; blocks come and go before they are touched whole.
static void test_memory(void **state) {
    (void)state;
    enum { BYTES = 64 << 20, STRIDE = 4096 * 3 + 64 };
    LvDevice *device = open_device();
    LvError error = {0};
    for (int round = 0; round < 6; round++) {
        void *memory, *other, *third;
        assert_true(device->ops->allocate(device, BYTES, &memory, &error));
        assert_true(device->ops->allocate(device, BYTES / 2 + 17, &other, &error));
        assert_true(device->ops->allocate(device, 0, &third, &error));
        for (size_t i = 0; i < BYTES; i += STRIDE) ((unsigned char *)memory)[i] = (unsigned char)(i / STRIDE | 1);
        device->ops->release(device, other, BYTES / 2 + 17);
        if (round % 2) device->ops->begin(device);
        size_t wrong = 0;
        for (size_t i = 0; i < BYTES; i++) wrong += ((unsigned char *)memory)[i] != (i % STRIDE ? 0 : (unsigned char)(i / STRIDE | 1));
        assert_int_equal(wrong, 0);
        device->ops->release(device, memory, BYTES);
        device->ops->release(device, third, 0);
    }
    void *last;  // closed while it is at work
    assert_true(device->ops->allocate(device, BYTES, &last, &error));
    device->ops->release(device, last, BYTES);
    lv_device_close(device);
}

// y [1, 16, 8, 8] = conv(x, w), 3x3, in the layouts given.
typedef struct {
    LvStep step;
    LvOperand operands[3];
} Conv;

static void make_conv(Conv *c, int64_t channels, LvLayout layout) {
    int64_t y[] = {1, 16, 8, 8}, x[] = {1, channels, 8, 8}, w[] = {16, channels, 3, 3};
    *c = (Conv){.step = {.kind = LV_STEP_CONV, .label = "conv", .operand_count = 3, .kernel = -1}};
    c->step.conv = (LvConvStep){.direction = LV_CONV_FORWARD, .stride = {1, 1}, .pad = {1, 1, 1, 1}, .algorithm = LV_CONV_DIRECT};
    c->operands[0] = (LvOperand){{LV_ARENA_ACTIVATIONS, 0}, LV_F32, lv_shape(4, y), layout};
    c->operands[1] = (LvOperand){{LV_ARENA_ACTIVATIONS, 4096}, LV_F32, lv_shape(4, x), layout};
    c->operands[2] = (LvOperand){{LV_ARENA_PARAMS, 0}, LV_F32, lv_shape(4, w), lv_layout_row_major()};
    c->step.operands = c->operands;
}

static void test_shared_calls(void **state) {
    (void)state;
    LvDevice *device = open_device();
    LvError error = {0};
    Conv a, b, c;
    make_conv(&a, 8, lv_layout_row_major());
    make_conv(&b, 8, lv_layout_row_major());
    make_conv(&c, 4, lv_layout_row_major());
    b.operands[1].place.offset = 8192;  // elsewhere, and still the same call
    LvCall *of_a, *of_b, *of_c, *again;
    assert_true(device->ops->prepare(device, NULL, &a.step, &of_a, &error));
    assert_true(device->ops->prepare(device, NULL, &b.step, &of_b, &error));
    assert_true(device->ops->prepare(device, NULL, &c.step, &of_c, &error));
    assert_ptr_equal(of_a, of_b);
    assert_ptr_not_equal(of_a, of_c);
    device->ops->discard(device, of_a);
    memset(&a, 0x55, sizeof a);  // the step is gone; the call goes on

    static _Alignas(64) float y[16 * 64], x[8 * 64], w[16 * 8 * 9];
    for (int i = 0; i < 8 * 64; i++) x[i] = 1;
    for (int i = 0; i < 16 * 8 * 9; i++) w[i] = 0.5f;
    char *buffers[] = {(char *)y, (char *)x, (char *)w};
    assert_true(device->ops->call(device, of_b, buffers, &error));
    assert_float_equal(y[9], 36, 1e-5);
    assert_float_equal(y[0], 16, 1e-5);
    device->ops->discard(device, of_b);
    device->ops->discard(device, of_c);
    assert_true(device->ops->prepare(device, NULL, &b.step, &again, &error));
    assert_true(device->ops->call(device, again, buffers, &error));
    device->ops->discard(device, again);
    lv_device_close(device);
}

// A sum onto the destination itself is another call than one from elsewhere.
static void test_residual_in_place(void **state) {
    (void)state;
    LvDevice *device = open_device();
    LvError error = {0};
    LvOperand operands[2][4];
    LvCall *calls[2];
    Conv c;
    make_conv(&c, 8, lv_layout_row_major());
    c.step.conv.has_residual = true;
    c.step.operand_count = 4;
    for (int i = 0; i < 2; i++) {
        memcpy(operands[i], c.operands, sizeof c.operands);
        operands[i][3] = c.operands[0];
        if (i) operands[i][3].place.offset = 1 << 20;
        c.step.operands = operands[i];
        assert_true(device->ops->prepare(device, NULL, &c.step, &calls[i], &error));
    }
    assert_ptr_not_equal(calls[0], calls[1]);
    for (int i = 0; i < 2; i++) device->ops->discard(device, calls[i]);
    lv_device_close(device);
}

// A transposed convolution with a bias is of a plan for a GPU.
static void test_gpus_epilogue(void **state) {
    (void)state;
    LvDevice *device = open_device();
    LvError error = {0};
    LvCall *call = NULL;
    Conv c;
    make_conv(&c, 16, lv_layout_row_major());
    LvOperand operands[4] = {c.operands[0], c.operands[1], c.operands[2], {{LV_ARENA_PARAMS, 1 << 16}, LV_F32, lv_shape(1, (int64_t[]){16}), lv_layout_row_major()}};
    c.step.conv.direction = LV_CONV_DATA_GRADIENT, c.step.conv.has_bias = true;
    c.step.operands = operands, c.step.operand_count = 4;
    assert_false(device->ops->prepare(device, NULL, &c.step, &call, &error));
    assert_non_null(strstr(error.message, "for a GPU"));
    lv_error_clear(&error);
    lv_device_close(device);
}

static void test_workspace(void **state) {
    (void)state;
    static const int64_t channels[] = {3, 8, 16, 48};
    LvError error = {0};
    Conv convs[8];
    LvStep steps[8];
    LvCall *calls[8];
    for (int algorithm = 0; algorithm < 3; algorithm++) {
        for (int i = 0; i < 8; i++) {
            make_conv(&convs[i], channels[i / 2], i % 2 ? lv_layout_nhwc() : lv_layout_row_major());
            convs[i].step.conv.algorithm = (LvConvAlgorithm)algorithm;
            steps[i] = convs[i].step;
        }
        LvDevice *device = open_device();
        LvPlan plan = {.step_count = 8, .steps = steps};
        LvWorkspace before = device->ops->workspace(device, &plan);
        for (int i = 0; i < 8; i++) assert_true(device->ops->prepare(device, NULL, &steps[i], &calls[i], &error));
        LvWorkspace after = device->ops->workspace(device, &plan);
        assert_int_equal(after.unmeasured, 0);
        assert_int_equal(after.bytes, device->ops->scratch_bytes(device));
        if (algorithm != LV_CONV_AUTO) assert_int_equal(before.unmeasured, 0);
        if (before.unmeasured == 0) assert_int_equal(before.bytes, after.bytes);
        for (int i = 0; i < 8; i++) device->ops->discard(device, calls[i]);
        lv_device_close(device);
    }
}

int main(void) {
    char folder[] = "/tmp/lv_test_device_XXXXXX";
    if (!mkdtemp(folder)) return 1;
    setenv("LV_CACHE_DIR", folder, 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory), cmocka_unit_test(test_shared_calls),
                                       cmocka_unit_test(test_residual_in_place), cmocka_unit_test(test_gpus_epilogue),
                                       cmocka_unit_test(test_workspace)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? failed : 1;
}
