// LV_STEP_CONV: the plan's kernel, or cuDNN where that does the whole step and is faster.
//
// It is whole where pictures lie N,H,W,C and all operands are of one type, so that the step's result is the call's: a gradient in f32
// of halves is not, nor a bias in f32 beside them, moments, or an activation that the call lacks. A window that reaches further on
// one side than on the other is, where the further one reads nothing but the border.
//
// Which of the two is a matter of timing them, once: the cache remembers it by GPU, cuDNN's version, shape and kernel, with both times.
// Where it cannot be kept, nothing is timed, and the kernel it is: bits then repeat from run to run.
#include <inttypes.h>
#include <float.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/calls.h"
#include "device/cuda/cudnn.h"
#include "device/cuda/tune.h"
#include "io/cache.h"

enum { OURS = -1 };  // no algorithm of cuDNN's

// What was measured: the least nanoseconds of cuDNN's best algorithm, and of the kernel.
typedef struct {
    int algorithm;  // the faster one
    int64_t theirs, ours;
} Choice;

struct ConvCall {
    CudaConv conv;
    CudaConvolution *convolution;  // NULL: the plan's kernel
    int algorithm;
    int bias, residual;            // operands, 0: there is none
    char implementation[96];
};

// ---- which steps cuDNN does whole

// Values one after the other with dimensions in this order, outermost first.
static bool lies(const LvOperand *o, const int order[4]) {
    int64_t stride[LV_MAX_RANK], next = 1;
    if (o->shape.rank != 4 || o->layout.block > 1) return false;
    lv_layout_strides(o->layout, o->shape, stride);
    for (int i = 3; i >= 0; i--) {
        int64_t extent = o->shape.dim[order[i]];
        if (extent > 1 && stride[order[i]] != next) return false;
        next *= extent;
    }
    return true;
}

static bool lies_channels_last(const LvOperand *o) { return lies(o, (const int[]){0, 2, 3, 1}); }

static bool has_elements(const LvOperand *o) {
    int64_t count = lv_shape_elements(o->shape);
    return count > 0 && count <= INT_MAX;
}

// What cuDNN makes of a window that reaches as far behind the picture as before it.
static bool reaches(int64_t extent, int64_t pad, int64_t kernel, int64_t stride, int64_t out) {
    return pad >= 0 && pad < kernel && extent + 2 * pad >= kernel && (extent + 2 * pad - kernel) / stride + 1 == out;
}

// The operands by what they are: x and y of the forward direction, the weight.
typedef struct {
    const LvOperand *x, *y, *w;
} Roles;

static Roles roles_of(const LvStep *step) {
    const LvOperand *o = step->operands;
    switch (step->conv.direction) {
        case LV_CONV_DATA_GRADIENT: return (Roles){&o[0], &o[1], &o[2]};
        case LV_CONV_WEIGHT_GRADIENT: return (Roles){&o[1], &o[2], &o[0]};
        default: return (Roles){&o[1], &o[0], &o[2]};
    }
}

static bool read_epilogue(const LvStep *step, CudaConv *conv, int *bias, int *residual) {
    const LvConvStep *s = &step->conv;
    bool none = !s->has_bias && !s->has_residual && s->activation == LV_ACTIVATION_NONE;
    if (none || s->direction != LV_CONV_FORWARD || !s->has_bias) return none;
    if (s->activation != LV_ACTIVATION_NONE && (s->activation != LV_ACTIVATION_RELU || s->has_residual)) return false;
    *bias = 3, *residual = s->has_residual ? 4 : 0;
    conv->fused = true, conv->has_residual = s->has_residual, conv->activation = s->activation;
    const LvOperand *y = &step->operands[0], *r = &step->operands[*residual];
    if (step->operands[*bias].dtype != y->dtype) return false;
    // in the residual's place the kernel could not make again what a call has begun and failed at
    return !*residual || (r->dtype == y->dtype && lies_channels_last(r) && !lv_place_equal(r->place, y->place));
}

static bool read_step(const LvStep *step, CudaConv *conv, int *bias, int *residual) {
    const LvConvStep *s = &step->conv;
    Roles at = roles_of(step);
    LvDType type = step->operands[0].dtype;
    *conv = (CudaConv){.direction = s->direction, .type = type};
    *bias = *residual = 0;
    if (s->has_moments || (type != LV_F32 && type != LV_BF16 && type != LV_F16)) return false;
    if (at.x->dtype != type || at.y->dtype != type || at.w->dtype != type) return false;
    if (!has_elements(at.x) || !has_elements(at.y) || !has_elements(at.w)) return false;
    conv->rows = !lies_channels_last(at.w);
    if (!lies_channels_last(at.x) || !lies_channels_last(at.y) || (conv->rows && !lies(at.w, (const int[]){0, 1, 2, 3}))) return false;
    const int64_t *x = at.x->shape.dim, *y = at.y->shape.dim, *w = at.w->shape.dim;
    if (!reaches(x[2], s->pad[2], w[2], s->stride[0], y[2]) || !reaches(x[3], s->pad[0], w[3], s->stride[1], y[3])) return false;
    conv->b = (int)x[0], conv->c = (int)x[1], conv->h = (int)x[2], conv->w = (int)x[3];
    conv->o = (int)w[0], conv->kh = (int)w[2], conv->kw = (int)w[3], conv->oh = (int)y[2], conv->ow = (int)y[3];
    conv->stride[0] = (int)s->stride[0], conv->stride[1] = (int)s->stride[1], conv->top = (int)s->pad[2], conv->left = (int)s->pad[0];
    return read_epilogue(step, conv, bias, residual);
}

size_t cuda_conv_call_scratch(LvCuda *gpu, const LvStep *step) {
    CudaConv conv;
    int bias, residual;
    size_t own = (size_t)step->scratch;
    if (own >= CUDA_DNN_WORKSPACE || !read_step(step, &conv, &bias, &residual) || (gpu && !cuda_dnn_there(gpu))) return own;
    return CUDA_DNN_WORKSPACE;
}

// ---- timing

typedef struct {
    LvCuda *gpu;
    LvModule *module;
    const LvStep *step;
    const ConvCall *call;
    char *scratch;
    int algorithms[CUDA_DNN_ALGORITHMS];
    size_t residual_at;  // in the memory of the bias
    const char *bias;
} Trial;

static CudaConvBuffers buffers_of(const ConvCall *c, char *const *buffers) {
    return (CudaConvBuffers){.to = buffers[0], .first = buffers[1], .second = buffers[2], .bias = c->bias ? buffers[c->bias] : NULL,
                             .residual = c->residual ? buffers[c->residual] : NULL};
}

// The kernel comes first, so that it stays where nothing is faster.
static bool run_candidate(void *user, int candidate, const TuneBuffers *at, void *workspace) {
    const Trial *t = user;
    LvError ignored = {0};
    char *buffers[5] = {at->y, (char *)(uintptr_t)at->a, (char *)(uintptr_t)at->b};
    (void)workspace;
    if (t->call->bias) buffers[t->call->bias] = (char *)(uintptr_t)t->bias;
    if (t->call->residual) buffers[t->call->residual] = (char *)(uintptr_t)t->bias + t->residual_at;
    if (candidate == 0) {
        bool good = cuda_kernels_launch(t->gpu, t->module, t->step, buffers, &ignored);
        lv_error_clear(&ignored);
        return good;
    }
    CudaConvBuffers own = buffers_of(t->call, buffers);
    return !cuda_dnn_run(t->gpu, t->call->convolution, t->algorithms[candidate - 1], &own, t->scratch);
}

static void use_bias(void *user, const void *bias) { ((Trial *)user)->bias = bias; }

static size_t bytes_of(const LvStep *step, int operand) {
    size_t bytes = 0;
    lv_shape_bytes(step->operands[operand].shape, step->operands[operand].dtype, &bytes);
    return bytes;
}

static int64_t nanoseconds(float milliseconds) { return milliseconds < FLT_MAX ? (int64_t)(1e6 * (double)milliseconds) + 1 : 0; }

// False: it could not be measured.
static bool measure(Trial *t, int count, Choice *choice) {
    const ConvCall *c = t->call;
    float times[TUNE_CANDIDATES];
    int best = 0, fastest = 1;
    t->residual_at = c->bias ? cuda_align(bytes_of(t->step, c->bias)) : 0;
    TuneSizes sizes = {.a = bytes_of(t->step, 1), .b = bytes_of(t->step, 2), .y = bytes_of(t->step, 0), .vector = t->residual_at};
    if (c->residual) sizes.vector += bytes_of(t->step, c->residual);
    if (!tune_timed(t->gpu, sizes, count + 1, run_candidate, use_bias, t, &best, times)) return false;
    for (int i = 2; i <= count; i++)
        if (times[i] < times[fastest]) fastest = i;
    *choice = (Choice){best ? t->algorithms[best - 1] : OURS, nanoseconds(times[fastest]), nanoseconds(times[0])};
    return true;
}

// ---- remembering

static char *choice_path(LvCuda *gpu, const ConvCall *call, const char *kernel) {
    const CudaConv *c = &call->conv;
    char key[33], version[32];
    LvText what = {0}, path = {0};
    snprintf(version, sizeof version, "%zu", cuda_dnn_version(gpu));
    lv_text_printf(&what, "%d %s tf32 %d rows %d fused %d residual %d activation %d:", c->direction, lv_dtype_name(c->type), c->tf32, c->rows,
                   c->fused, c->has_residual, c->activation);
    lv_text_printf(&what, " %d,%d,%d,%d %d,%d,%d %d,%d stride %d,%d pad %d,%d", c->b, c->c, c->h, c->w, c->o, c->kh, c->kw, c->oh, c->ow,
                   c->stride[0], c->stride[1], c->top, c->left);
    const char *parts[] = {"cudnn 1", gpu->name, gpu->target, version, what.data, kernel};
    lv_cache_key(key, parts, 6);
    lv_text_printf(&path, "%s/%s.choice", gpu->cache_dir, key);
    lv_text_free(&what);
    return path.data;
}

static const char choice_form[] = "algorithm %d, %" PRId64 " ns, the kernel %" PRId64 " ns\n";

static void print_choice(const Choice *c, LvText *out) { lv_text_printf(out, choice_form, c->algorithm, c->theirs, c->ours); }

// What was kept is used only if it is what would be written, of an algorithm that this library still has.
static bool read_choice(const char *path, const int *algorithms, int count, Choice *out) {
    char *data = NULL;
    size_t length;
    LvText again = {0};
    bool good = lv_cache_read(path, &data, &length) && sscanf(data, "algorithm %d, %" SCNd64 " ns, the kernel %" SCNd64 " ns", &out->algorithm,
                                                              &out->theirs, &out->ours) == 3;
    if (good) print_choice(out, &again);
    good = good && again.length == length && !memcmp(again.data, data, length) && out->theirs >= 0 && out->ours >= 0;
    bool known = good && out->algorithm == OURS;
    for (int i = 0; good && i < count; i++) known |= out->algorithm == algorithms[i];
    lv_text_free(&again);
    free(data);
    return good && known;
}

// Of two processes that measure at the same time, both take what the faster one wrote. What is there and cannot be read is replaced.
static void keep_choice(const char *path, const int *algorithms, int count, Choice *choice) {
    LvText text = {0};
    Choice other;
    print_choice(choice, &text);
    if (!lv_cache_write_first(path, text.data, text.length)) {
        if (read_choice(path, algorithms, count, &other)) *choice = other;
        else lv_cache_write(path, text.data, text.length);
    }
    lv_text_free(&text);
}

// ---- a call's life

static void describe(ConvCall *c, const Choice *choice) {
    char *to = c->implementation;
    size_t room = sizeof c->implementation;
    double ratio = choice->ours > 0 && choice->theirs > 0 ? (double)choice->theirs / (double)choice->ours : 0;
    if (choice->algorithm != OURS && ratio > 0) snprintf(to, room, "cuDNN, algorithm %d, in %.2f of the kernel's time", choice->algorithm, ratio);
    else if (choice->algorithm != OURS) snprintf(to, room, "cuDNN, algorithm %d", choice->algorithm);
    else if (ratio > 0) snprintf(to, room, "the plan's kernel, in %.2f of cuDNN's time", 1 / ratio);
}

static void choose(LvCuda *gpu, LvModule *module, const LvStep *step, char *scratch, ConvCall *c) {
    Trial trial = {.gpu = gpu, .module = module, .step = step, .call = c, .scratch = scratch};
    Choice choice = {.algorithm = OURS};
    int count = cuda_dnn_algorithms(gpu, c->convolution, trial.algorithms);
    char *path = count ? choice_path(gpu, c, cuda_kernels_name(module, step->kernel)) : NULL;
    if (path && !read_choice(path, trial.algorithms, count, &choice)) {
        choice = (Choice){.algorithm = OURS};
        if (measure(&trial, count, &choice)) keep_choice(path, trial.algorithms, count, &choice);
    }
    c->algorithm = choice.algorithm;
    describe(c, &choice);
    free(path);
}

static void leave_to_kernel(LvCuda *gpu, ConvCall *c) {
    cuda_dnn_destroy(gpu, c->convolution);
    c->convolution = NULL;
}

ConvCall *cuda_conv_call_create(LvCuda *gpu, LvModule *module, const LvStep *step, char *scratch) {
    ConvCall *c = lv_calloc(1, sizeof *c);
    snprintf(c->implementation, sizeof c->implementation, "the plan's kernel");
    if (!read_step(step, &c->conv, &c->bias, &c->residual) || !gpu->cache_dir) return c;
    c->conv.tf32 = c->conv.type == LV_F32 && cuda_kernels_tf32(module);
    c->convolution = cuda_dnn_create(gpu, &c->conv);
    if (!c->convolution) return c;
    choose(gpu, module, step, scratch, c);
    if (c->algorithm == OURS) leave_to_kernel(gpu, c);
    return c;
}

void cuda_conv_call_destroy(LvCuda *gpu, ConvCall *call) {
    if (!call) return;
    leave_to_kernel(gpu, call);
    free(call);
}

const char *cuda_conv_call_describe(const ConvCall *call) { return call->implementation; }

// A call that fails is the kernel's from then on.
static void give_up(LvCuda *gpu, ConvCall *c, const char *why) {
    const CudaConv *v = &c->conv;
    snprintf(c->implementation, sizeof c->implementation, "the plan's kernel: cuDNN failed, %s", why);
    cuda_note(gpu, "cuDNN (%s) fails at a convolution %dx%d %d->%d, %dx%d (%s): the plan's own kernel makes it", cuda_dnn_path(gpu), v->kh, v->kw,
              v->c, v->o, v->h, v->w, why);
    leave_to_kernel(gpu, c);
}

bool cuda_conv_call_run(LvCuda *gpu, LvModule *module, const LvStep *step, ConvCall *c, char *const *buffers, char *scratch,
                        LvError *error) {
    if (c->convolution) {
        CudaConvBuffers at = buffers_of(c, buffers);
        const char *why = cuda_dnn_run(gpu, c->convolution, c->algorithm, &at, scratch);
        if (!why) return true;
        give_up(gpu, c, why);
    }
    return cuda_kernels_launch(gpu, module, step, buffers, error);
}
