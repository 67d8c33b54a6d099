// The plan: what the compiler hands to the runtime for one entry of a model. An ordered list of steps over buffers whose
// places are all known, the kernels' text, the variables, and the model's source to specialise again from.
// The artifact (.lvm) is a plan written to a file: plan_file.h. Everything here lives in the plan's arena.
#ifndef LV_BASE_PLAN_H
#define LV_BASE_PLAN_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/layout.h"

// Arenas of memory. The first three hold variables and are laid out the same way in every plan of a model with the same
// settings, so that `train` and `eval` share them; CACHE likewise in every plan for the same batch that uses a cache, and has
// no bytes in the others; the rest belong to a plan.
typedef enum {
    LV_ARENA_PARAMS,       // trained parameters, f32, flat: one optimizer update walks it end to end
    LV_ARENA_STATE,        // frozen parameters and states
    LV_ARENA_MOMENTS,      // the optimizer's states
    LV_ARENA_CACHE,        // caches: zero at first, shared by the programs of a store that use them
    LV_ARENA_GRADIENTS,    // gradients, flat, in the order of PARAMS
    LV_ARENA_PREPARED,     // values of variables alone, kept from run to run
    LV_ARENA_ACTIVATIONS,  // values between steps; reused as live ranges allow
    LV_ARENA_CONSTANTS,    // literal data of the plan
    LV_ARENA_IO,           // inputs and results
    LV_ARENA_COUNT
} LvArenaKind;

const char *lv_arena_kind_name(LvArenaKind kind);

typedef struct {
    LvArenaKind arena;
    int64_t offset;  // bytes from the arena's start, a multiple of 64; -1: nowhere
} LvPlace;

static inline bool lv_place_equal(LvPlace a, LvPlace b) { return a.arena == b.arena && a.offset == b.offset; }

typedef enum {
    LV_VARIABLE_PARAM,      // trained
    LV_VARIABLE_FROZEN,     // a parameter without gradient (a loss network)
    LV_VARIABLE_STATE,      // changed by `<-`
    LV_VARIABLE_OPTIMIZER,  // state of the optimizer: not part of --weights-out
    LV_VARIABLE_CACHE,      // changed by `<-`, starts at zero, never in a file; its shape may depend on the batch
    LV_VARIABLE_TRAINER,    // of the compiler's own making, for an update (passes/update.c); starts at zero, no tensor of a file
    LV_VARIABLE_KIND_COUNT
} LvVariableKind;

// Variables of the trainer's, in training plans alone. In f16 gradients are of the loss times a scale, f32[], which they are divided by
// before they are used: 2^16 at first, which its zero stands for; halved where a gradient is not finite, and the update left
// out; doubled after so many steps in a row that were good, i32[]; up to 2^24. Under 1 it must not fall: then gradients are not finite
// whatever it is, and whoever trains says so. i32[]: the updates left out. The scale that a step had and the updates left out up to it
// are results, too.
#define LV_VARIABLE_LOSS_SCALE "$loss_scale"
#define LV_VARIABLE_GOOD_STEPS "$good_steps"
#define LV_VARIABLE_SKIPPED_STEPS "$skipped_steps"
#define LV_VARIABLE_ACCUMULATED "$accumulated"  // the sum of gradients of an update's runs so far, f32, as the flat gradient
enum { LV_LOSS_SCALE_FIRST = 1 << 16, LV_LOSS_SCALE_LEAST = 1, LV_LOSS_SCALE_MOST = 1 << 24, LV_LOSS_SCALE_INTERVAL = 2000 };

typedef struct {
    const char *name;  // dotted path, the checkpoint's name
    LvVariableKind kind;
    LvDType dtype;
    LvShape shape;
    LvPlace place;
    LvPlace gradient;  // in LV_ARENA_GRADIENTS, offset -1 where this plan computes none; of the scaled loss where it is scaled
} LvVariable;

typedef struct {
    const char *name;  // inputs that start with '$' are set by the runtime itself: $seed i64, $step i32, $lr f32 (all rank 0)
    LvDType dtype;
    LvShape shape;
    LvPlace place;     // row-major
} LvPort;

typedef enum {
    LV_STEP_KERNEL,   // call kernel `kernel` with the operands' addresses and the scalars
    LV_STEP_CONV,     // convolution by the backend's library
    LV_STEP_MATMUL,   // batched matmul by the backend's library
    LV_STEP_COPY,     // operand 0 <- operand 1, same bytes
    LV_STEP_ZERO,     // operand 0 <- 0
    LV_STEP_ALL_REDUCE,  // operand 0 <- sum over ranks, in place
    LV_STEP_LINEAR_LOSS, // vocabulary projection and cross-entropy, by blocks of rows
    LV_STEP_KIND_COUNT
} LvStepKind;

typedef struct {
    LvPlace place;
    LvDType dtype;
    LvShape shape;
    LvLayout layout;
} LvOperand;

typedef enum { LV_CONV_FORWARD, LV_CONV_DATA_GRADIENT, LV_CONV_WEIGHT_GRADIENT } LvConvDirection;
typedef enum { LV_ACTIVATION_NONE, LV_ACTIVATION_RELU, LV_ACTIVATION_SWISH, LV_ACTIVATION_GELU } LvActivation;
typedef enum { LV_CONV_AUTO, LV_CONV_DIRECT, LV_CONV_WINOGRAD } LvConvAlgorithm;

// Operands of LV_STEP_CONV, by direction:
//   FORWARD          0 destination y [B,O,OH,OW], 1 x [B,C,H,W], 2 weight [O,C,KH,KW], then bias [O] if has_bias,
//                    then residual (shape and layout of y, may be the same place as y) if has_residual:
//                    y = activation(conv(x, w) + bias) + residual; then destinations means [B,S,O] and squares [B,S,O] of f32 if
//                    has_moments: of each of the S runs that y's pixels are cut into, its mean and the sum of squared distances from it
//   DATA_GRADIENT    0 destination dx [B,C,H,W], 1 dy [B,O,OH,OW], 2 weight, then, on a GPU, bias [C] and residual as of FORWARD:
//                    a transposed convolution
//   WEIGHT_GRADIENT  0 destination dw [O,C,KH,KW], 1 x, 2 dy, then destination db [O] if has_bias
typedef struct {
    LvConvDirection direction;
    int64_t stride[2];  // rows, columns
    int64_t pad[4];     // left, right, top, bottom
    bool has_bias, has_residual, has_moments;
    LvActivation activation;
    LvConvAlgorithm algorithm;
} LvConvStep;

// Operands of LV_STEP_MATMUL: 0 destination [..., M, N], 1 a [..., M, K], 2 b [..., K, N] (a or b stored transposed where
// the flag says so, shapes as stored), then bias [N] if has_bias, residual (as the destination) if has_residual. On a GPU, then
// destination sums [M] if has_sums: of a along K, of the destination's type; beside matrices alone, and no other epilogue.
typedef struct {
    bool transpose_a, transpose_b;
    bool has_bias, has_residual, has_sums;
    LvActivation activation;
    double alpha;  // scale of the product
} LvMatmulStep;

// Operands of LV_STEP_LINEAR_LOSS: without `gradient` 0 loss [N], 1 x [N, C], 2 weight [V, C], 3 target i32 [N];
// with it 0 dx [N, C], 1 dweight [V, C], 2 loss [N], 3 x, 4 weight, 5 target, 6 dloss [N]. Results are f32; x and weight f32,
// bf16 or f16. loss = cross_entropy(x weight^T, target) by row, dx and dweight the gradients of sum(loss dloss). Rows whose target
// is `ignore` or no class do not count: their loss and dx are 0. Of a block of rows' logits the step's kernel makes the losses
// and the logits' gradient (codegen/c/template_linear_loss.c), matmuls are the library's.
typedef struct {
    bool gradient;
    int32_t ignore;
} LvLinearLossStep;

typedef union {
    double f;
    int64_t i;
} LvScalar;

enum { LV_SCRATCH_HEAD = 1024 };

// One launch of a step on a GPU: function NAME_i of the kernel's text with the i-th of these.
typedef struct {
    int32_t grid[3];  // blocks
    int32_t block;    // threads of each, along x
    int32_t shared;   // bytes of dynamic shared memory
} LvLaunch;

typedef struct {
    LvStepKind kind;
    const char *label;    // short: "conv2d 3x3 64->64", or the kernel's name
    const char *sources;  // "models/augvae.lv:40 stdlib/nn.lv:12": where it came from, for --explain and --profile
    int64_t flops, bytes; // computed, and moved if every operand is read or written once
    int operand_count;
    LvOperand *operands;
    bool *writes;         // LV_STEP_KERNEL: by operand, for the compiler's own reports; not in the file, NULL from there
    int kernel;           // LV_STEP_KERNEL, LV_STEP_LINEAR_LOSS, on a GPU LV_STEP_CONV: index into plan->kernels; -1: none
    int scalar_count;
    LvScalar *scalars;    // LV_STEP_KERNEL
    int launch_count;     // on a GPU, where the step has a kernel; they run one after the other
    LvLaunch *launches;
    // On a GPU: bytes that the launches share among themselves, whose contents nobody needs before or after. The LV_SCRATCH_HEAD bytes
    // before them are zero when a launch begins, and when it ends: there a launch counts its blocks.
    int64_t scratch;
    union {
        LvConvStep conv;
        LvMatmulStep matmul;
        LvLinearLossStep linear_loss;
    };
} LvStep;

// A kernel's text defines, for the CPU:
//     void NAME(char *const *buffers, const LvScalar *scalars);   buffers in the order of the step's operands
// and uses OpenMP inside; for CUDA one function a launch of the step,
//     extern "C" __global__ void NAME_0(B0 *b0, ..., char *scratch, S0 s0, ...);   likewise NAME_1 ...
// with the operands in their order, each of its own element type, then scratch memory (NULL where the step wants none), then the
// scalars (double or long long): every parameter takes 8 bytes.
// The runtime puts the prelude (codegen's, in `plan->prelude`) before the kernels it compiles together.
typedef struct {
    const char *name;  // unique in the plan; equal texts are one kernel
    const char *text;
} LvKernelText;

typedef struct {
    const char *path;  // as imported
    const char *text;
} LvBundledSource;  // [0] is the model itself

typedef struct {
    const char *name;
    const char *value;  // JSON
} LvPlanSetting;

typedef struct LvPlan {
    LvArena *arena;
    const char *model, *config, *entry, *precision;
    const char *device;  // "cpu", "cuda:sm_90"
    int64_t batch;
    bool tf32;           // products of f32 may be made in TF32
    int64_t ranks;       // that run it together, 1: it is by itself
    int setting_count;
    LvPlanSetting *settings;  // every model parameter with its resolved value
    int source_count;
    LvBundledSource *sources;
    int variable_count;
    LvVariable *variables;
    int input_count, result_count;
    LvPort *inputs, *results;
    int64_t arena_bytes[LV_ARENA_COUNT];
    char *constants;          // arena_bytes[LV_ARENA_CONSTANTS] bytes
    const char *prelude;
    int kernel_count;
    LvKernelText *kernels;
    // The first `prepare_count` steps compute PREPARED from variables that the plan does not write. They run before the first run,
    // and again when the variables have changed: by a program that writes some, or from outside.
    int step_count, prepare_count;
    bool writes_variables;    // caches not counted
    LvStep *steps;
} LvPlan;

LvPlan *lv_plan_create(void);
void lv_plan_destroy(LvPlan *plan);
// The logits of LV_STEP_LINEAR_LOSS on a GPU: so many rows at a time, `stride` elements from one to the next. Tall enough that reading and
// writing dweight once more for each block costs little beside its products.
int64_t lv_linear_loss_rows(int64_t classes, int64_t *stride);
// Whether a step that is no kernel writes that operand.
bool lv_step_writes(const LvStep *step, int operand);
int64_t lv_plan_bytes(const LvPlan *plan);  // all arenas together
// Bytes from the first of these ports to the end of the last, and where in their arena they begin; 0: there are none.
int64_t lv_ports_span(const LvPort *ports, int count, int64_t *begin);

#endif
