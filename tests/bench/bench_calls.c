// Speed of library calls as the runtime makes them (reorders and epilogue included): bench_calls [THREADS]
// One line a convolution: shape, direction, layout and type, algorithm; best of a few runs. CONVOLUTIONS.md has the library alone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/device.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    int64_t channels, outs, side;
} Shape;

static LvLayout layout_for(int64_t channels, LvDType dtype) {
    if (dtype == LV_BF16) return lv_layout_nhwc();
    return channels % 16 ? lv_layout_row_major() : lv_layout_blocked(1, 16);
}

static void bench(LvDevice *device, Shape s, int64_t batch, int direction, LvDType dtype, LvConvAlgorithm algorithm) {
    int64_t x[4] = {batch, s.channels, s.side, s.side}, y[4] = {batch, s.outs, s.side, s.side}, w[4] = {s.outs, s.channels, 3, 3};
    LvLayout row = lv_layout_row_major();
    LvOperand ox = {{LV_ARENA_ACTIVATIONS, 0}, dtype, lv_shape(4, x), layout_for(s.channels, dtype)};
    LvOperand oy = {{LV_ARENA_ACTIVATIONS, 64}, dtype, lv_shape(4, y), layout_for(s.outs, dtype)};
    LvOperand ow = {{LV_ARENA_PARAMS, 0}, LV_F32, lv_shape(4, w), row}, ob = {{LV_ARENA_PARAMS, 64}, LV_F32, lv_shape(1, w), row};
    LvOperand operands[4];
    LvStep step = {.kind = LV_STEP_CONV, .label = "conv", .operands = operands, .operand_count = 3 + (direction != 1)};
    operands[0] = direction == 0 ? oy : direction == 1 ? ox : ow;
    operands[1] = direction == 1 ? oy : ox;
    operands[2] = direction == 2 ? oy : ow;
    operands[3] = ob;
    step.conv = (LvConvStep){.direction = (LvConvDirection)direction, .stride = {1, 1}, .pad = {1, 1, 1, 1}, .has_bias = direction != 1,
                             .algorithm = algorithm};
    char *buffers[4];
    LvError error = {0};
    LvCall *call = NULL;
    for (int i = 0; i < step.operand_count; i++) {
        size_t bytes;
        lv_shape_bytes(operands[i].shape, operands[i].dtype, &bytes);
        buffers[i] = aligned_alloc(64, (bytes + 127) / 64 * 64);
        memset(buffers[i], 0, bytes);
    }
    double start = now(), best = 1e9, until;
    bool good = device->ops->prepare(device, NULL, &step, &call, &error) && device->ops->call(device, call, buffers, &error);
    double prepare = now() - start;
    until = now() + 0.15;
    while (good && now() < until) {
        double begin = now();
        good = device->ops->call(device, call, buffers, &error);
        double took = now() - begin;
        if (took < best) best = took;
    }
    static const char *const directions[] = {"y ", "dx", "dw"}, *const algorithms[] = {"auto", "direct", "winograd"};
    if (good) {
        printf("%4d->%-4d %3d  %s %-4s %-9s %8.3f ms %7.0f GFLOP/s  first %6.1f ms  %s\n", (int)s.channels, (int)s.outs, (int)s.side,
               directions[direction], lv_dtype_name(dtype), algorithms[algorithm], best * 1e3,
               18.0 * (double)(batch * s.channels * s.outs * s.side * s.side) / best * 1e-9, prepare * 1e3, device->ops->describe(call));
    } else {
        printf("failed: %s\n", error.message);
    }
    fflush(stdout);
    if (call) device->ops->discard(device, call);
    for (int i = 0; i < step.operand_count; i++) free(buffers[i]);
    lv_error_clear(&error);
}

int main(int argc, char **argv) {
    static const Shape shapes[] = {{64, 64, 64}, {128, 128, 32}, {256, 256, 16}, {256, 256, 8}, {512, 256, 16}, {3, 64, 64}, {64, 3, 64}};
    LvDevice *device;
    LvError error = {0};
    if (!lv_device_open("cpu", argc > 1 ? atoi(argv[1]) : 0, &device, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("%s\n", lv_device_name(device));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            bench(device, shapes[i], 8, direction, LV_F32, LV_CONV_DIRECT);
            bench(device, shapes[i], 8, direction, LV_F32, LV_CONV_WINOGRAD);
            bench(device, shapes[i], 8, direction, LV_BF16, LV_CONV_DIRECT);
        }
    }
    lv_device_close(device);
    return 0;
}
