// libcudnn's stand-in: convolutions of f32, f16 and bf16, pictures N,H,W,C alone. All that is asked is checked, as strictly as any
// version may; some algorithms it has not for some types, so that callers are seen to do without. A call is work of its handle's
// stream, which libcuda's stand-in runs.
#include "device/cuda/cudnn_api.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "cudnn_convolution.h"

#define X(type, name, parameters) __attribute__((visibility("default"))) type name parameters;
DNN_FUNCTIONS(X)
#undef X

enum { DNN_BAD_PARAM = 2000, DNN_NOT_SUPPORTED = 3000, DNN_INTERNAL_ERROR = 4000, DNN_ALLOCATION_FAILED = 4003, DNN_EXECUTION_FAILED = 5000 };
enum { ALIGNMENT = 16 };  // of operands and workspace, bytes

struct DnnObject {
    CuStream stream;
};

struct DnnTensorObject {
    int type, n, c, h, w;  // n 0: not set
};

struct DnnFilterObject {
    int type, format, o, c, kh, kw;
};

struct DnnConvolutionObject {
    int pad_h, pad_w, stride_h, stride_w;  // stride_h 0: not set
    int math;
};

struct DnnActivationObject {
    int mode;
};

static DnnResult trouble(const char *function) { return sim_trouble(function, DNN_INTERNAL_ERROR); }

size_t cudnnGetVersion(void) { return (size_t)sim_setting("LV_CUDA_SIM_CUDNN", 91900); }
size_t cudnnGetCudartVersion(void) { return (size_t)sim_setting("LV_CUDA_SIM_CUDNN_TOOLKIT", 12080); }

const char *cudnnGetErrorString(DnnResult result) {
    switch (result) {
        case DNN_OK: return "CUDNN_STATUS_SUCCESS";
        case DNN_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
        case DNN_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
        case DNN_INTERNAL_ERROR: return "CUDNN_STATUS_INTERNAL_ERROR";
        case DNN_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
        default: return "CUDNN_STATUS unknown";
    }
}

#define MAKE(FUNCTION, POINTER)                     \
    do {                                            \
        const DnnResult t = trouble(FUNCTION);      \
        if (t) return t;                            \
        if (!(POINTER)) return DNN_BAD_PARAM;       \
        *(POINTER) = calloc(1, sizeof **(POINTER)); \
        return *(POINTER) ? DNN_OK : DNN_ALLOCATION_FAILED; \
    } while (0)

#define DESTROY(FUNCTION, OBJECT) \
    do {                          \
        free(OBJECT);             \
        return trouble(FUNCTION); \
    } while (0)

DnnResult cudnnCreate(Dnn *handle) { MAKE("cudnnCreate", handle); }
DnnResult cudnnDestroy(Dnn handle) { DESTROY("cudnnDestroy", handle); }
DnnResult cudnnCreateTensorDescriptor(DnnTensor *tensor) { MAKE("cudnnCreateTensorDescriptor", tensor); }
DnnResult cudnnDestroyTensorDescriptor(DnnTensor tensor) { DESTROY("cudnnDestroyTensorDescriptor", tensor); }
DnnResult cudnnCreateFilterDescriptor(DnnFilter *filter) { MAKE("cudnnCreateFilterDescriptor", filter); }
DnnResult cudnnDestroyFilterDescriptor(DnnFilter filter) { DESTROY("cudnnDestroyFilterDescriptor", filter); }
DnnResult cudnnCreateConvolutionDescriptor(DnnConvolution *convolution) { MAKE("cudnnCreateConvolutionDescriptor", convolution); }
DnnResult cudnnDestroyConvolutionDescriptor(DnnConvolution convolution) { DESTROY("cudnnDestroyConvolutionDescriptor", convolution); }
DnnResult cudnnCreateActivationDescriptor(DnnActivation *activation) { MAKE("cudnnCreateActivationDescriptor", activation); }
DnnResult cudnnDestroyActivationDescriptor(DnnActivation activation) { DESTROY("cudnnDestroyActivationDescriptor", activation); }

DnnResult cudnnSetStream(Dnn handle, CuStream stream) {
    const DnnResult t = trouble("cudnnSetStream");
    if (t) return t;
    if (!handle || !stream) return DNN_BAD_PARAM;
    handle->stream = stream;
    return DNN_OK;
}

static bool is_type(int type) { return type == DNN_F32 || type == DNN_F16 || type == DNN_BF16; }

DnnResult cudnnSetTensor4dDescriptorEx(DnnTensor tensor, int type, int n, int c, int h, int w, int n_stride, int c_stride, int h_stride,
                                       int w_stride) {
    const DnnResult t = trouble("cudnnSetTensor4dDescriptorEx");
    if (t) return t;
    if (!tensor || !is_type(type) || n < 1 || c < 1 || h < 1 || w < 1) return DNN_BAD_PARAM;
    if (c_stride != 1 || w_stride != c || h_stride != w * c || n_stride != h * w * c) return DNN_NOT_SUPPORTED;
    *tensor = (struct DnnTensorObject){type, n, c, h, w};
    return DNN_OK;
}

DnnResult cudnnSetFilter4dDescriptor(DnnFilter filter, int type, int format, int o, int c, int kh, int kw) {
    const DnnResult t = trouble("cudnnSetFilter4dDescriptor");
    if (t) return t;
    if (!filter || !is_type(type) || (format != DNN_NHWC && format != DNN_NCHW) || o < 1 || c < 1 || kh < 1 || kw < 1) return DNN_BAD_PARAM;
    *filter = (struct DnnFilterObject){type, format, o, c, kh, kw};
    return DNN_OK;
}

DnnResult cudnnSetConvolution2dDescriptor(DnnConvolution convolution, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                          int dilation_w, int mode, int compute) {
    const DnnResult t = trouble("cudnnSetConvolution2dDescriptor");
    if (t) return t;
    if (!convolution || pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h != 1 || dilation_w != 1) return DNN_BAD_PARAM;
    if (mode != DNN_CROSS_CORRELATION || compute != DNN_F32) return DNN_NOT_SUPPORTED;
    *convolution = (struct DnnConvolutionObject){pad_h, pad_w, stride_h, stride_w, DNN_MATH_DEFAULT};
    return DNN_OK;
}

DnnResult cudnnSetConvolutionMathType(DnnConvolution convolution, int math) {
    const DnnResult t = trouble("cudnnSetConvolutionMathType");
    if (t) return t;
    if (!convolution || (math != DNN_MATH_DEFAULT && math != DNN_MATH_TENSOR && math != DNN_MATH_FMA)) return DNN_BAD_PARAM;
    convolution->math = math;
    return DNN_OK;
}

DnnResult cudnnSetActivationDescriptor(DnnActivation activation, int mode, int nan, double ceiling) {
    const DnnResult t = trouble("cudnnSetActivationDescriptor");
    (void)ceiling;
    if (t) return t;
    if (!activation || (nan != 0 && nan != 1) || (mode != DNN_RELU && mode != DNN_IDENTITY)) return DNN_BAD_PARAM;
    activation->mode = mode;
    return DNN_OK;
}

// ---- what is asked for

static NumberType number_type(int type) { return type == DNN_F32 ? NUMBER_F32 : type == DNN_F16 ? NUMBER_F16 : NUMBER_BF16; }

static int window(int extent, int pad, int kernel, int stride) { return extent + 2 * pad < kernel ? 0 : (extent + 2 * pad - kernel) / stride + 1; }

static DnnResult describe(ConvolutionKind kind, DnnTensor x, DnnFilter w, DnnConvolution v, DnnTensor y, Convolution *out) {
    if (!x || !w || !v || !y || !x->n || !y->n || !w->o || !v->stride_h) return DNN_BAD_PARAM;
    if (x->type != w->type || x->type != y->type || x->n != y->n || x->c != w->c || y->c != w->o) return DNN_BAD_PARAM;
    if (y->h != window(x->h, v->pad_h, w->kh, v->stride_h) || y->w != window(x->w, v->pad_w, w->kw, v->stride_w)) return DNN_BAD_PARAM;
    // of halves pictures by channels go with filters by channels alone; and not by multiply-adds
    if (x->type != DNN_F32 && (w->format != DNN_NHWC || v->math == DNN_MATH_FMA)) return DNN_NOT_SUPPORTED;
    *out = (Convolution){.kind = kind, .type = number_type(x->type), .n = x->n, .c = x->c, .h = x->h, .w = x->w, .o = w->o, .kh = w->kh,
                         .kw = w->kw, .oh = y->h, .ow = y->w, .pad_h = v->pad_h, .pad_w = v->pad_w, .stride_h = v->stride_h,
                         .stride_w = v->stride_w, .filter_rows = w->format == DNN_NCHW};
    out->tf32 = x->type == DNN_F32 && v->math != DNN_MATH_FMA;
    return DNN_OK;
}

// The workspace of an algorithm; those of the gradients that add in any order are there, and nobody should want them.
static DnnResult size_of(const Convolution *v, int algorithm, size_t *bytes) {
    const size_t some = (size_t)sim_setting("LV_CUDA_SIM_CUDNN_WORKSPACE", 4096);
    if (algorithm < 0 || algorithm > 7) return DNN_BAD_PARAM;
    *bytes = algorithm == 0 ? 0 : some;
    if (v->kind == CONVOLUTION_FORWARD && algorithm == DNN_FORWARD_EXPLICIT) {
        *bytes = (size_t)v->oh * (size_t)v->ow * (size_t)v->kh * (size_t)v->kw * (size_t)v->c * sizeof(float);
        return v->type == NUMBER_F32 ? DNN_OK : DNN_NOT_SUPPORTED;
    }
    return algorithm <= 1 ? DNN_OK : DNN_NOT_SUPPORTED;
}

static DnnResult ask(const char *function, Dnn handle, ConvolutionKind kind, DnnTensor x, DnnFilter w, DnnConvolution v, DnnTensor y, int algorithm,
                     size_t *bytes) {
    const DnnResult t = trouble(function);
    Convolution convolution;
    if (t) return t;
    if (!handle || !bytes) return DNN_BAD_PARAM;
    const DnnResult result = describe(kind, x, w, v, y, &convolution);
    return result ? result : size_of(&convolution, algorithm, bytes);
}

DnnResult cudnnGetConvolutionForwardWorkspaceSize(Dnn handle, DnnTensor x, DnnFilter w, DnnConvolution v, DnnTensor y, int algorithm, size_t *bytes) {
    return ask("cudnnGetConvolutionForwardWorkspaceSize", handle, CONVOLUTION_FORWARD, x, w, v, y, algorithm, bytes);
}

DnnResult cudnnGetConvolutionBackwardDataWorkspaceSize(Dnn handle, DnnFilter w, DnnTensor dy, DnnConvolution v, DnnTensor dx, int algorithm,
                                                       size_t *bytes) {
    return ask("cudnnGetConvolutionBackwardDataWorkspaceSize", handle, CONVOLUTION_DATA, dx, w, v, dy, algorithm, bytes);
}

DnnResult cudnnGetConvolutionBackwardFilterWorkspaceSize(Dnn handle, DnnTensor x, DnnTensor dy, DnnConvolution v, DnnFilter dw, int algorithm,
                                                         size_t *bytes) {
    return ask("cudnnGetConvolutionBackwardFilterWorkspaceSize", handle, CONVOLUTION_FILTER, x, dw, v, dy, algorithm, bytes);
}

// ---- the calls

typedef int StreamCall(CuStream stream, void (*run)(void *data), const void *data, size_t bytes);
typedef int MemoryHolds(const void *memory, size_t bytes);

static DnnResult complain(const Convolution *v, const char *what) {
    fprintf(stderr, "cuda_sim: cuDNN, a convolution %dx%d %d->%d of %dx%d: %s\n", v->kh, v->kw, v->c, v->o, v->h, v->w, what);
    return DNN_EXECUTION_FAILED;
}

static bool is_held(MemoryHolds *holds, const void *data, int64_t elements, NumberType type) {
    return !((uintptr_t)data % ALIGNMENT) && holds(data, (size_t)elements * (type == NUMBER_F32 ? 4 : 2));
}

static bool are_held(MemoryHolds *holds, const Convolution *v) {
    const int64_t of_y = (int64_t)v->n * v->oh * v->ow * v->o;
    return is_held(holds, v->x, (int64_t)v->n * v->h * v->w * v->c, v->type) && is_held(holds, v->y, of_y, v->type) &&
           is_held(holds, v->filter, (int64_t)v->o * v->kh * v->kw * v->c, v->type) && (!v->bias || is_held(holds, v->bias, v->o, v->type)) &&
           (!v->add || is_held(holds, v->add, of_y, v->type));
}

static DnnResult give(Dnn handle, Convolution *v, int algorithm, void *workspace, size_t workspace_bytes) {
    StreamCall *call = (StreamCall *)(uintptr_t)sim_of_driver("lv_sim_stream_call");
    MemoryHolds *holds = (MemoryHolds *)(uintptr_t)sim_of_driver("lv_sim_memory_holds");
    const DnnResult result = size_of(v, algorithm, &v->workspace_bytes);
    if (result) return result;
    if (!handle || !handle->stream || !call || !holds) return DNN_BAD_PARAM;
    if (v->kind != CONVOLUTION_FORWARD && algorithm == 0) return complain(v, "an algorithm that adds in any order");
    if (workspace_bytes < v->workspace_bytes) return complain(v, "its workspace is too small");
    if (v->workspace_bytes && !is_held(holds, workspace, (int64_t)(v->workspace_bytes + 3) / 4, NUMBER_F32))
        return complain(v, "its workspace lies in no allocation of the device, or is not aligned");
    if (!are_held(holds, v)) return complain(v, "an operand lies in no allocation of the device, or is not aligned");
    v->workspace = workspace;
    v->time = sim_setting("LV_CUDA_SIM_CUDNN_TIME", 0) - (v->kind == CONVOLUTION_FORWARD && algorithm == DNN_FORWARD_IMPLICIT ? 10 : 0);
    return call(handle->stream, convolution_run, v, sizeof *v) ? DNN_EXECUTION_FAILED : DNN_OK;
}

static bool is(const void *factor, float wanted) { return factor && *(const float *)factor >= wanted && *(const float *)factor <= wanted; }

// A convolution as it is given, alone: the factors of the result and of what lay there are 1 and 0.
static DnnResult begin(const char *function, ConvolutionKind kind, DnnTensor x, DnnFilter w, DnnConvolution v, DnnTensor y, const void *alpha, const void *beta,
                       Convolution *c) {
    const DnnResult t = trouble(function), result = t ? t : describe(kind, x, w, v, y, c);
    return result || (is(alpha, 1) && is(beta, 0)) ? result : DNN_NOT_SUPPORTED;
}

DnnResult cudnnConvolutionForward(Dnn handle, const void *alpha, DnnTensor x, const void *x_at, DnnFilter w, const void *w_at, DnnConvolution v,
                                  int algorithm, void *workspace, size_t workspace_bytes, const void *beta, DnnTensor y, void *y_at) {
    Convolution c;
    const DnnResult result = begin("cudnnConvolutionForward", CONVOLUTION_FORWARD, x, w, v, y, alpha, beta, &c);
    if (result) return result;
    c.x = (void *)(uintptr_t)x_at, c.filter = (void *)(uintptr_t)w_at, c.y = y_at;
    return give(handle, &c, algorithm, workspace, workspace_bytes);
}

DnnResult cudnnConvolutionBiasActivationForward(Dnn handle, const void *alpha1, DnnTensor x, const void *x_at, DnnFilter w, const void *w_at,
                                                DnnConvolution v, int algorithm, void *workspace, size_t workspace_bytes, const void *alpha2,
                                                DnnTensor z, const void *z_at, DnnTensor bias, const void *bias_at, DnnActivation activation,
                                                DnnTensor y, void *y_at) {
    const DnnResult t = trouble("cudnnConvolutionBiasActivationForward");
    Convolution c;
    if (t) return t;
    const DnnResult result = describe(CONVOLUTION_FORWARD, x, w, v, y, &c);
    const bool adds = is(alpha2, 1);
    if (result || !is(alpha1, 1) || !(adds || is(alpha2, 0))) return result ? result : DNN_NOT_SUPPORTED;
    if (!z || !z_at || memcmp(z, y, sizeof *z) || !bias || !bias_at || !activation) return DNN_BAD_PARAM;
    if (bias->type != y->type || bias->n != 1 || bias->c != y->c || bias->h != 1 || bias->w != 1) return DNN_BAD_PARAM;
    if (activation->mode == DNN_IDENTITY && algorithm != DNN_FORWARD_PRECOMPUTED) return DNN_NOT_SUPPORTED;
    if (adds && z_at == y_at) return DNN_NOT_SUPPORTED;
    c.x = (void *)(uintptr_t)x_at, c.filter = (void *)(uintptr_t)w_at, c.y = y_at;
    c.bias = bias_at, c.add = adds ? z_at : NULL, c.relu = activation->mode == DNN_RELU;
    return give(handle, &c, algorithm, workspace, workspace_bytes);
}

DnnResult cudnnConvolutionBackwardData(Dnn handle, const void *alpha, DnnFilter w, const void *w_at, DnnTensor dy, const void *dy_at,
                                       DnnConvolution v, int algorithm, void *workspace, size_t workspace_bytes, const void *beta, DnnTensor dx,
                                       void *dx_at) {
    Convolution c;
    const DnnResult result = begin("cudnnConvolutionBackwardData", CONVOLUTION_DATA, dx, w, v, dy, alpha, beta, &c);
    if (result) return result;
    c.x = dx_at, c.filter = (void *)(uintptr_t)w_at, c.y = (void *)(uintptr_t)dy_at;
    return give(handle, &c, algorithm, workspace, workspace_bytes);
}

DnnResult cudnnConvolutionBackwardFilter(Dnn handle, const void *alpha, DnnTensor x, const void *x_at, DnnTensor dy, const void *dy_at,
                                         DnnConvolution v, int algorithm, void *workspace, size_t workspace_bytes, const void *beta, DnnFilter dw,
                                         void *dw_at) {
    Convolution c;
    const DnnResult result = begin("cudnnConvolutionBackwardFilter", CONVOLUTION_FILTER, x, dw, v, dy, alpha, beta, &c);
    if (result) return result;
    c.x = (void *)(uintptr_t)x_at, c.filter = dw_at, c.y = (void *)(uintptr_t)dy_at;
    return give(handle, &c, algorithm, workspace, workspace_bytes);
}
