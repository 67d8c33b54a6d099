// What the roofline of a GPU allows a plan: by kind of step the launches, bytes moved, FLOP of each arithmetic unit, and the least
// time, the sum over the steps of max(bytes / bandwidth, FLOP / peak of their unit). Nothing here was measured. Any plan will do;
// of one for a GPU the kernels' text tells which unit they multiply on.
#ifndef LV_DRIVER_ROOFLINE_H
#define LV_DRIVER_ROOFLINE_H

#include "base/plan.h"

typedef enum { ROOFLINE_BF16, ROOFLINE_F16, ROOFLINE_TF32, ROOFLINE_F32, ROOFLINE_UNIT_COUNT } RooflineUnit;  // the first three: tensor cores

typedef struct {
    const char *name, *title;
    int sm;
    double bandwidth;                  // bytes a second
    double peak[ROOFLINE_UNIT_COUNT];  // FLOP a second, dense, sums in f32
} RooflineGpu;

// "h100". Sets the error where there is none of that name, or where a plan for `device` does not run on it.
const RooflineGpu *roofline_gpu(const char *name, const char *device, LvError *error);

typedef enum {
    ROOFLINE_CONVOLUTION,
    ROOFLINE_MATMUL,
    ROOFLINE_ATTENTION,
    ROOFLINE_LOSS,   // vocabulary projection and cross-entropy
    ROOFLINE_CODES,  // nearest codes
    ROOFLINE_FUSED,  // every other kernel
    ROOFLINE_COPY,   // copies, zeroes, sums over ranks
    ROOFLINE_KIND_COUNT
} RooflineKind;

typedef struct {
    int steps, launches;
    double bytes, flops[ROOFLINE_UNIT_COUNT];
    double seconds, memory_seconds;  // the least; of steps whose bytes take longer than their FLOP
    double arithmetic_seconds;       // what the FLOP alone would take
} RooflineCost;

RooflineKind roofline_kind(const LvStep *step);
RooflineCost roofline_step(const LvPlan *plan, const LvStep *step, const RooflineGpu *gpu);

// What no plan could move less than, by two measures; in bytes. `variables`: each byte of weights, states and moments read once
// and written once where the plan does so at all. `gradients`: written and read once. `kept`: each activation that products of
// the backward pass need of the forward pass, written once and read once. `ports`: inputs read, results written.
// `products`: what convolutions, matmuls, attention, losses and nearest codes read and write, each operand once, and the update
// of the variables: all that remains when everything else is fused into these.
typedef struct {
    double variables, gradients, kept, ports;
    double least;     // the sum of the four
    double products;
} RooflineIdeal;

// Of a plan that keeps all gradients (LvCompileOptions.gradients): where they share memory with activations none is told from the other.
RooflineIdeal roofline_ideal(const LvPlan *plan);

// The table; `whole`: the plan of the same entry that keeps all gradients; `each`: before the table a line a step.
void roofline_print(const LvPlan *plan, const LvPlan *whole, const RooflineGpu *gpu, bool each, LvText *out);

#endif
