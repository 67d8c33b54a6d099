// A plan for a GPU, by hand: y = (x * factor[0] + bias) @ m, with `bias` copied from where it is prepared, and a sum that is zeroed
// first; every kind of step but convolutions and losses. Row `pick` of x is taken at last: one that is not there is a fault.
#ifndef LV_TEST_CUDA_PLAN_H
#define LV_TEST_CUDA_PLAN_H

#include "base/plan_file.h"
#include "device/device.h"

enum { CUDA_PLAN_ROWS = 5, CUDA_PLAN_WIDTH = 7, CUDA_PLAN_COLUMNS = 3 };

static inline LvOperand cuda_plan_operand(LvArenaKind arena, int64_t offset, LvDType dtype, int rank, int64_t rows,
                                          int64_t columns) {
    int64_t dim[2] = {rows, columns};
    return (LvOperand){{arena, offset}, dtype, lv_shape(rank, dim), lv_layout_row_major()};
}

static inline LvStep *cuda_plan_step(LvPlan *p, LvStepKind kind, const char *label, int operands) {
    LvStep *step = &p->steps[p->step_count++];
    *step = (LvStep){.kind = kind, .label = label, .sources = "by hand:1", .operand_count = operands, .kernel = -1};
    step->operands = LV_NEW_ARRAY(p->arena, LvOperand, operands);
    return step;
}

static inline void cuda_plan_launches(LvPlan *p, LvStep *step, int kernel, int count) {
    step->kernel = kernel, step->launch_count = count;
    step->launches = LV_NEW_ARRAY(p->arena, LvLaunch, count);
    for (int i = 0; i < count; i++) step->launches[i] = (LvLaunch){{2, 1, 1}, 32, 0};
}

// x [5, 7], y [5, 3], pick i32 [], row [7], sum []; bias [7] a variable; m [7, 3] constant: row i is i, 2i, 3i.
static inline LvPlan *cuda_plan(const LvDevice *device) {
    LvPlan *p = lv_plan_create();
    LvArena *a = p->arena;
    enum { R = CUDA_PLAN_ROWS, W = CUDA_PLAN_WIDTH, C = CUDA_PLAN_COLUMNS };
    enum { X = 0, Y = 256, PICK = 384, ROW = 448, SUM = 512, IO = 576 };
    p->model = "By hand", p->entry = "try", p->device = lv_arena_strdup(a, device->target), p->precision = "f32", p->batch = R;
    p->arena_bytes[LV_ARENA_STATE] = 64, p->arena_bytes[LV_ARENA_PREPARED] = 64, p->arena_bytes[LV_ARENA_ACTIVATIONS] = 256;
    p->arena_bytes[LV_ARENA_CONSTANTS] = 128, p->arena_bytes[LV_ARENA_IO] = IO;
    p->constants = lv_arena_alloc(a, 128);
    for (int i = 0; i < W * C; i++) ((float *)p->constants)[i] = (float)(i / C * (i % C + 1));
    p->variable_count = 1;
    p->variables = LV_NEW_ARRAY(a, LvVariable, 1);
    p->variables[0] = (LvVariable){
        "bias", LV_VARIABLE_STATE, LV_F32, lv_shape(1, (int64_t[]){W}), {LV_ARENA_STATE, 0}, {LV_ARENA_GRADIENTS, -1}};
    p->input_count = 2, p->result_count = 3;
    p->inputs = LV_NEW_ARRAY(a, LvPort, 2), p->results = LV_NEW_ARRAY(a, LvPort, 3);
    p->inputs[0] = (LvPort){"x", LV_F32, lv_shape(2, (int64_t[]){R, W}), {LV_ARENA_IO, X}};
    p->inputs[1] = (LvPort){"pick", LV_I32, lv_shape(0, NULL), {LV_ARENA_IO, PICK}};
    p->results[0] = (LvPort){"y", LV_F32, lv_shape(2, (int64_t[]){R, C}), {LV_ARENA_IO, Y}};
    p->results[1] = (LvPort){"row", LV_F32, lv_shape(1, (int64_t[]){W}), {LV_ARENA_IO, ROW}};
    p->results[2] = (LvPort){"sum", LV_F32, lv_shape(0, NULL), {LV_ARENA_IO, SUM}};
    p->prelude = "// by hand\n";
    p->kernel_count = 3;
    p->kernels = LV_NEW_ARRAY(a, LvKernelText, 3);
    p->kernels[0] = (LvKernelText){
        "scale",
        "extern \"C\" __global__ void scale_0(float *h, const float *x, const float *bias, char *scratch, double factor,\n"
        "    long long width) {\n"
        "  const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        "  if (i < 35) h[i] = x[i] * (float)factor + bias[i % (int)width];\n}\n"};
    p->kernels[1] =
        (LvKernelText){"take",
                       "extern \"C\" __global__ void take_0(float *row, const float *x, const int *pick, char *scratch) {\n"
                       "  const int i = threadIdx.x;\n"
                       "  if (blockIdx.x == 0 && i < 7) row[i] = x[7 * pick[0] + i];\n}\n"};
    p->kernels[2] = (LvKernelText){"total", "extern \"C\" __global__ void total_0(float *sum, const float *y, char *scratch) {\n"
                                            "  const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                                            "  if (i < 15) ((float *)scratch)[i] = 2.0f * y[i];\n}\n"
                                            "extern \"C\" __global__ void total_1(float *sum, const float *y, char *scratch) {\n"
                                            "  if (blockIdx.x == 0 && threadIdx.x == 0)\n"
                                            "    for (int i = 0; i < 15; i++) sum[0] += ((const float *)scratch)[i];\n}\n"};
    p->steps = LV_NEW_ARRAY(a, LvStep, 6);
    LvOperand x = cuda_plan_operand(LV_ARENA_IO, X, LV_F32, 2, R, W), y = cuda_plan_operand(LV_ARENA_IO, Y, LV_F32, 2, R, C);
    LvOperand h = cuda_plan_operand(LV_ARENA_ACTIVATIONS, 0, LV_F32, 2, R, W),
              sum = cuda_plan_operand(LV_ARENA_IO, SUM, LV_F32, 0, 0, 0);
    LvOperand bias = cuda_plan_operand(LV_ARENA_STATE, 0, LV_F32, 1, W, 0), prepared = bias;
    prepared.place.arena = LV_ARENA_PREPARED;
    LvStep *copy = cuda_plan_step(p, LV_STEP_COPY, "copy", 2);
    copy->operands[0] = prepared, copy->operands[1] = bias;
    p->prepare_count = 1;
    LvStep *scale = cuda_plan_step(p, LV_STEP_KERNEL, "scale", 3);
    scale->operands[0] = h, scale->operands[1] = x, scale->operands[2] = prepared;
    cuda_plan_launches(p, scale, 0, 1);
    scale->scalar_count = 2;
    scale->scalars = LV_NEW_ARRAY(a, LvScalar, 2);
    scale->scalars[0].f = 0.5, scale->scalars[1].i = W;
    LvStep *product = cuda_plan_step(p, LV_STEP_MATMUL, "product", 3);
    product->operands[0] = y, product->operands[1] = h,
    product->operands[2] = cuda_plan_operand(LV_ARENA_CONSTANTS, 0, LV_F32, 2, W, C);
    product->matmul.alpha = 1;
    LvStep *zero = cuda_plan_step(p, LV_STEP_ZERO, "zero", 1);
    zero->operands[0] = sum;
    LvStep *total = cuda_plan_step(p, LV_STEP_KERNEL, "total", 2);
    total->operands[0] = sum, total->operands[1] = y;
    cuda_plan_launches(p, total, 2, 2);
    total->scratch = 64;
    LvStep *take = cuda_plan_step(p, LV_STEP_KERNEL, "take a row", 3);
    take->operands[0] = cuda_plan_operand(LV_ARENA_IO, ROW, LV_F32, 1, W, 0), take->operands[1] = x;
    take->operands[2] = cuda_plan_operand(LV_ARENA_IO, PICK, LV_I32, 0, 0, 0);
    take->sources = "by hand:2 by hand:3";
    cuda_plan_launches(p, take, 1, 1);
    return p;
}

#endif
