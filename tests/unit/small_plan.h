// A plan written by hand that has every kind of step: y = relu(x * w1 + b) @ m by convolution, kernel and matmul, a scalar
// `loss` = sum of y, a parameter with a gradient, a constant, a copy and a zero.
#ifndef LV_TEST_SMALL_PLAN_H
#define LV_TEST_SMALL_PLAN_H

#include "base/plan_file.h"

static inline LvOperand small_operand(LvArenaKind arena, int64_t offset, int rank, const int64_t *dim) {
    return (LvOperand){{arena, offset}, LV_F32, lv_shape(rank, dim), lv_layout_row_major()};
}

// x [2, 1, 2, 2], w [3, 1, 1, 1], b [3], h [2, 3, 2, 2] seen as [2, 12], m [12, 1] (constant: all 0.5), y [2, 1], loss []
static inline LvPlan *small_plan(void) {
    LvPlan *p = lv_plan_create();
    LvArena *a = p->arena;
    int64_t x4[4] = {2, 1, 2, 2}, w4[4] = {3, 1, 1, 1}, b1[1] = {3}, h4[4] = {2, 3, 2, 2}, h2[2] = {2, 12}, m2[2] = {12, 1}, y2[2] = {2, 1};
    p->model = "Small", p->entry = "train", p->device = "cpu", p->precision = "f32", p->batch = 2;
    p->arena_bytes[LV_ARENA_PARAMS] = 128;
    p->arena_bytes[LV_ARENA_GRADIENTS] = 128;
    p->arena_bytes[LV_ARENA_ACTIVATIONS] = 256;
    p->arena_bytes[LV_ARENA_CONSTANTS] = 64;
    p->arena_bytes[LV_ARENA_IO] = 256;
    p->constants = lv_arena_alloc(a, 64);
    for (int i = 0; i < 12; i++) ((float *)p->constants)[i] = 0.5f;
    p->setting_count = 1;
    p->settings = LV_NEW_ARRAY(a, LvPlanSetting, 1);
    p->settings[0] = (LvPlanSetting){"width", "3"};
    p->source_count = 1;
    p->sources = LV_NEW_ARRAY(a, LvBundledSource, 1);
    p->sources[0] = (LvBundledSource){"small.lv", "model Small { /// \xC3\xA9\n}"};
    p->variable_count = 2;
    p->variables = LV_NEW_ARRAY(a, LvVariable, 2);
    p->variables[0] = (LvVariable){"conv.weight", LV_VARIABLE_PARAM, LV_F32, lv_shape(4, w4), {LV_ARENA_PARAMS, 0}, {LV_ARENA_GRADIENTS, 0}};
    p->variables[1] = (LvVariable){"conv.bias", LV_VARIABLE_PARAM, LV_F32, lv_shape(1, b1), {LV_ARENA_PARAMS, 64}, {LV_ARENA_GRADIENTS, -1}};
    p->input_count = 1;
    p->inputs = LV_NEW_ARRAY(a, LvPort, 1);
    p->inputs[0] = (LvPort){"x", LV_F32, lv_shape(4, x4), {LV_ARENA_IO, 0}};
    p->result_count = 2;
    p->results = LV_NEW_ARRAY(a, LvPort, 2);
    p->results[0] = (LvPort){"y", LV_F32, lv_shape(2, y2), {LV_ARENA_IO, 64}};
    p->results[1] = (LvPort){"loss", LV_F32, lv_shape(0, NULL), {LV_ARENA_IO, 128}};
    p->prelude = "typedef union { double f; long i; } LvScalar;\n";
    p->kernel_count = 1;
    p->kernels = LV_NEW_ARRAY(a, LvKernelText, 1);
    p->kernels[0] = (LvKernelText){"sum_2", "void sum_2(char *const *b, const LvScalar *s) {\n"
                                            "    const float *y = (const float *)b[1];\n"
                                            "    *(float *)b[0] = (y[0] + y[1]) * (float)s[0].f;\n}\n"};
    p->step_count = 5;
    p->steps = LV_NEW_ARRAY(a, LvStep, 5);
    LvStep *conv = &p->steps[0], *matmul = &p->steps[1], *sum = &p->steps[2], *copy = &p->steps[3], *zero = &p->steps[4];
    for (int i = 0; i < 5; i++) {
        p->steps[i].label = "step", p->steps[i].sources = "small.lv:1";
        p->steps[i].operands = LV_NEW_ARRAY(a, LvOperand, 4);
        p->steps[i].operand_count = 2;
        p->steps[i].kernel = -1;
    }
    conv->kind = LV_STEP_CONV, conv->operand_count = 4;
    conv->operands[0] = small_operand(LV_ARENA_ACTIVATIONS, 0, 4, h4);
    conv->operands[1] = small_operand(LV_ARENA_IO, 0, 4, x4);
    conv->operands[2] = small_operand(LV_ARENA_PARAMS, 0, 4, w4);
    conv->operands[3] = small_operand(LV_ARENA_PARAMS, 64, 1, b1);
    conv->conv = (LvConvStep){.stride = {1, 1}, .has_bias = true, .activation = LV_ACTIVATION_RELU, .algorithm = LV_CONV_DIRECT};
    matmul->kind = LV_STEP_MATMUL, matmul->operand_count = 3;
    matmul->operands[0] = small_operand(LV_ARENA_IO, 64, 2, y2);
    matmul->operands[1] = small_operand(LV_ARENA_ACTIVATIONS, 0, 2, h2);
    matmul->operands[2] = small_operand(LV_ARENA_CONSTANTS, 0, 2, m2);
    matmul->matmul.alpha = 2;
    sum->kind = LV_STEP_KERNEL, sum->kernel = 0;
    sum->operands[0] = small_operand(LV_ARENA_IO, 128, 0, NULL);
    sum->operands[1] = small_operand(LV_ARENA_IO, 64, 2, y2);
    sum->scalar_count = 1;
    sum->scalars = LV_NEW_ARRAY(a, LvScalar, 1);
    sum->scalars[0].f = 0.1;
    copy->kind = LV_STEP_COPY;
    copy->operands[0] = small_operand(LV_ARENA_GRADIENTS, 0, 1, b1);
    copy->operands[1] = small_operand(LV_ARENA_PARAMS, 64, 1, b1);
    zero->kind = LV_STEP_ZERO, zero->operand_count = 1;
    zero->operands[0] = small_operand(LV_ARENA_ACTIVATIONS, 0, 1, b1);
    return p;
}

#endif
