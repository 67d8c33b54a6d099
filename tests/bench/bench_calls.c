// Speed of single convolutions in every form that the runtime has for them (reorders and epilogue included), and what scratch
// memory each takes: bench_calls [THREADS [BATCH CHANNELS RESULTS SIDE [KERNEL]]], KERNEL 3 or
// 1. A line a form; best of a few runs, in turns.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/cpu/onednn.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    int64_t batch, channels, outs, side, kernel;
} Shape;

static LvLayout layout_for(int64_t channels, LvDType dtype) {
    if (dtype == LV_BF16) return lv_layout_nhwc();
    return channels % 16 ? lv_layout_row_major() : lv_layout_blocked(1, 16);
}

static double run(LvCpu *cpu, LvCall *call, char *const *buffers) {
    LvError error = {0};
    double begin = now();
    if (!cpu_call_run(cpu, call, buffers, &error)) printf("failed: %s\n", error.message);
    lv_error_clear(&error);
    return now() - begin;
}

static LvCall *make(LvCpu *cpu, const LvStep *step, ConvForm form) {
    LvError error = {0};
    LvCall *call = call_create(step);
    bool good = true;
    if (form == CONV_DIRECT) call_build(cpu, call, form);
    else good = conv_build(cpu, call, form);
    if (good && call_make(call) && call_room(cpu->library, call, &error)) return call;
    lv_error_clear(&error);
    call_destroy(call);
    return NULL;
}

static void bench_forms(LvCpu *cpu, Shape s, const LvStep *step, char *const *buffers) {
    static const char *const directions[] = {"y ", "dx", "dw"};
    LvCall *forms[CONV_FORM_COUNT];
    double best[CONV_FORM_COUNT], until;
    for (int f = 0; f < CONV_FORM_COUNT; f++) {
        forms[f] = make(cpu, step, (ConvForm)f);
        best[f] = forms[f] ? run(cpu, forms[f], buffers) : 0;
    }
    until = now() + 0.4;
    for (int turn = 0; turn < 3 || (now() < until && turn < 50); turn++) {
        for (int f = 0; f < CONV_FORM_COUNT; f++) {
            double time = forms[f] ? run(cpu, forms[f], buffers) : 0;
            if (time < best[f]) best[f] = time;
        }
    }
    for (int f = 0; f < CONV_FORM_COUNT; f++) {
        if (!forms[f]) continue;
        printf("%4d->%-4d %3d  %s %-4s %9.3f ms %6.0f GFLOP/s %6.1f MB  %s\n", (int)s.channels, (int)s.outs, (int)s.side,
               directions[step->conv.direction], lv_dtype_name(step->operands[1].dtype), best[f] * 1e3,
               2.0 * (double)(s.kernel * s.kernel * s.batch * s.channels * s.outs * s.side * s.side) / best[f] * 1e-9,
               (double)(call_scratch(forms[f]) + forms[f]->wide_bytes) * 1e-6, cpu_call_describe(forms[f]));
        call_destroy(forms[f]);
    }
    fflush(stdout);
}

static void bench(LvCpu *cpu, Shape s, int direction, LvDType dtype) {
    int64_t x[4] = {s.batch, s.channels, s.side, s.side}, y[4] = {s.batch, s.outs, s.side, s.side}, w[4] = {s.outs, s.channels, s.kernel, s.kernel}, pad = s.kernel / 2;
    LvLayout row = lv_layout_row_major();
    LvOperand ox = {{LV_ARENA_ACTIVATIONS, 0}, dtype, lv_shape(4, x), layout_for(s.channels, dtype)};
    LvOperand oy = {{LV_ARENA_ACTIVATIONS, 64}, dtype, lv_shape(4, y), layout_for(s.outs, dtype)};
    LvOperand ow = {{LV_ARENA_PARAMS, 0}, LV_F32, lv_shape(4, w), row}, ob = {{LV_ARENA_PARAMS, 64}, LV_F32, lv_shape(1, w), row};
    LvOperand operands[4];
    LvStep step = {.kind = LV_STEP_CONV, .label = "conv", .operands = operands, .operand_count = 3 + (direction == 0)};
    operands[0] = direction == 0 ? oy : direction == 1 ? ox : ow;
    operands[1] = direction == 1 ? oy : ox;
    operands[2] = direction == 2 ? oy : ow;
    operands[3] = ob;
    step.conv = (LvConvStep){.direction = (LvConvDirection)direction, .stride = {1, 1}, .pad = {pad, pad, pad, pad}, .has_bias = direction == 0};
    char *buffers[4];
    for (int i = 0; i < step.operand_count; i++) {
        size_t bytes;
        lv_shape_bytes(operands[i].shape, operands[i].dtype, &bytes);
        buffers[i] = call_memory(bytes);
        memset(buffers[i], 0, bytes);
    }
    bench_forms(cpu, s, &step, buffers);
    for (int i = 0; i < step.operand_count; i++) free(buffers[i]);
}

int main(int argc, char **argv) {
    static const Shape shapes[] = {{8, 64, 64, 64, 3}, {8, 128, 128, 32, 3}, {8, 256, 256, 16, 3}, {8, 256, 256, 8, 3}, {8, 512, 256, 16, 3}, {8, 3, 64, 64, 3}, {8, 64, 3, 64, 3}};
    LvDevice *device;
    LvError error = {0};
    if (!lv_device_open("cpu", argc > 1 ? atoi(argv[1]) : 0, &device, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("%s\n", lv_device_name(device));
    Shape given = {argc >= 6 ? atoi(argv[2]) : 0, argc >= 6 ? atoi(argv[3]) : 0, argc >= 6 ? atoi(argv[4]) : 0, argc >= 6 ? atoi(argv[5]) : 0, argc == 7 ? atoi(argv[6]) : 3};
    for (size_t i = 0; i < (argc >= 6 ? 1 : sizeof shapes / sizeof *shapes); i++) {
        for (int direction = 0; direction < 3; direction++) {
            bench((LvCpu *)device, argc >= 6 ? given : shapes[i], direction, LV_F32);
            bench((LvCpu *)device, argc >= 6 ? given : shapes[i], direction, LV_BF16);
        }
    }
    lv_device_close(device);
    return 0;
}
