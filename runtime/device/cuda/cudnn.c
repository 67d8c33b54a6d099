// cuDNN by its calls for single convolutions, which versions 8 and 9 both have. It is asked at run time what it does: whether a shape,
// a type or a layout is for it, its own answer to the size of the workspace tells. Algorithms by Fourier's or Winograd's transforms
// are not asked for, since they round otherwise than the plan's kernels, nor those that add in any order.
#include "device/cuda/cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { OLDEST_VERSION = 8900 };  // the first for CUDA 12 and sm_90

struct CudaDnn {
    CudaLibrary library;
    Cudnn dnn;
    Dnn handle;  // made with the first convolution
    bool broken;  // it does not start
    size_t version;
    char *refusal;
};

struct CudaConvolution {
    CudaConv conv;
    DnnTensor picture, result, bias;  // x and y of the forward direction, whichever it is
    DnnFilter weight;
    DnnConvolution convolution;
    DnnActivation activation;
};

// ---- the library

static char *why_not(const LvCuda *gpu, const CudaDnn *dnn) {
    LvText text = {0};
    size_t major = dnn->dnn.cudnnGetCudartVersion() / 1000;
    if (dnn->version < OLDEST_VERSION) lv_text_puts(&text, "too old, 8.9 or later is wanted");
    else if (major > (size_t)gpu->version / 1000)
        lv_text_printf(&text, "made for CUDA %zu, the driver serves %d.%d", major, gpu->version / 1000, gpu->version % 1000 / 10);
    return text.data;
}

static CudaDnn *look(const LvCuda *gpu) {
#define X(type, name, parameters) {#name, offsetof(Cudnn, name)},
    static const CudaSymbol symbols[] = {DNN_FUNCTIONS(X)};
#undef X
    CudaDnn *dnn = lv_calloc(1, sizeof *dnn);
    const char *off = getenv("LV_CUDNN");
    if (off && !strcmp(off, "0")) {
        dnn->refusal = lv_strdup("LV_CUDNN is 0");
        return dnn;
    }
    if (!cuda_library_open(CUDA_CUDNN, 0, &dnn->library)) return dnn;
    const char *missing = cuda_library_fill(&dnn->library, symbols, sizeof symbols / sizeof *symbols, &dnn->dnn);
    if (missing) {
        LvText text = {0};
        lv_text_printf(&text, "it has no function '%s'", missing);
        dnn->refusal = text.data;
        return dnn;
    }
    dnn->version = dnn->dnn.cudnnGetVersion();
    dnn->refusal = why_not(gpu, dnn);
    return dnn;
}

static CudaDnn *find(LvCuda *gpu) {
    if (!gpu->dnn) gpu->dnn = look(gpu);
    return gpu->dnn;
}

bool cuda_dnn_there(LvCuda *gpu) {
    const CudaDnn *dnn = find(gpu);
    return dnn->library.handle && !dnn->refusal;
}

size_t cuda_dnn_version(LvCuda *gpu) { return find(gpu)->version; }
const char *cuda_dnn_path(LvCuda *gpu) { return find(gpu)->library.path; }
const char *cuda_dnn_refusal(LvCuda *gpu) { return find(gpu)->refusal; }

void cuda_dnn_close(LvCuda *gpu) {
    CudaDnn *dnn = gpu->dnn;
    if (!dnn) return;
    if (dnn->handle) dnn->dnn.cudnnDestroy(dnn->handle);
    cuda_library_close(&dnn->library);
    free(dnn->refusal);
    free(dnn);
    gpu->dnn = NULL;
}

// A start that fails is tried no second time.
static bool start(LvCuda *gpu) {
    CudaDnn *dnn = gpu->dnn;
    if (dnn->handle || dnn->broken) return !dnn->broken;
    cuda_enter(gpu);
    DnnResult result = dnn->dnn.cudnnCreate(&dnn->handle);
    if (result == DNN_OK && (result = dnn->dnn.cudnnSetStream(dnn->handle, gpu->stream)) != DNN_OK) {
        dnn->dnn.cudnnDestroy(dnn->handle);
        dnn->handle = NULL;
    }
    if (result == DNN_OK) return true;
    dnn->broken = true;
    cuda_note(gpu, "cuDNN (%s) does not start (%s): convolutions go by the plan's own kernels", dnn->library.path,
              dnn->dnn.cudnnGetErrorString(result));
    return false;
}

// ---- describing a convolution

static int type_of(LvDType dtype) { return dtype == LV_BF16 ? DNN_BF16 : dtype == LV_F16 ? DNN_F16 : DNN_F32; }

static int math_of(const CudaConv *conv) {
    if (conv->type != LV_F32) return DNN_MATH_TENSOR;
    return conv->tf32 ? DNN_MATH_DEFAULT : DNN_MATH_FMA;
}

static DnnResult make_tensor(const Cudnn *dnn, const CudaConv *conv, int n, int c, int h, int w, DnnTensor *out) {
    DnnResult result = dnn->cudnnCreateTensorDescriptor(out);
    return result != DNN_OK ? result : dnn->cudnnSetTensor4dDescriptorEx(*out, type_of(conv->type), n, c, h, w, h * w * c, 1, w * c, c);
}

static DnnResult make_filter(const Cudnn *dnn, const CudaConv *conv, DnnFilter *out) {
    DnnResult result = dnn->cudnnCreateFilterDescriptor(out);
    return result != DNN_OK ? result
                            : dnn->cudnnSetFilter4dDescriptor(*out, type_of(conv->type), conv->rows ? DNN_NCHW : DNN_NHWC, conv->o, conv->c,
                                                              conv->kh, conv->kw);
}

static DnnResult make_convolution(const Cudnn *dnn, const CudaConv *conv, DnnConvolution *out) {
    DnnResult result = dnn->cudnnCreateConvolutionDescriptor(out);
    if (result == DNN_OK)
        result = dnn->cudnnSetConvolution2dDescriptor(*out, conv->top, conv->left, conv->stride[0], conv->stride[1], 1, 1,
                                                      DNN_CROSS_CORRELATION, DNN_F32);
    return result == DNN_OK ? dnn->cudnnSetConvolutionMathType(*out, math_of(conv)) : result;
}

static DnnResult make_epilogue(const Cudnn *dnn, CudaConvolution *call) {
    const CudaConv *conv = &call->conv;
    DnnResult result = make_tensor(dnn, conv, 1, conv->o, 1, 1, &call->bias);
    if (result == DNN_OK) result = dnn->cudnnCreateActivationDescriptor(&call->activation);
    int mode = conv->activation == LV_ACTIVATION_RELU ? DNN_RELU : DNN_IDENTITY;
    return result == DNN_OK ? dnn->cudnnSetActivationDescriptor(call->activation, mode, DNN_NAN_STAYS, 0) : result;
}

CudaConvolution *cuda_dnn_create(LvCuda *gpu, const CudaConv *conv) {
    if (!cuda_dnn_there(gpu) || !start(gpu)) return NULL;
    const Cudnn *dnn = &gpu->dnn->dnn;
    CudaConvolution *call = lv_calloc(1, sizeof *call);
    call->conv = *conv;
    bool good = make_tensor(dnn, conv, conv->b, conv->c, conv->h, conv->w, &call->picture) == DNN_OK &&
                make_tensor(dnn, conv, conv->b, conv->o, conv->oh, conv->ow, &call->result) == DNN_OK &&
                make_filter(dnn, conv, &call->weight) == DNN_OK && make_convolution(dnn, conv, &call->convolution) == DNN_OK &&
                (!conv->fused || make_epilogue(dnn, call) == DNN_OK);
    if (good) return call;
    cuda_dnn_destroy(gpu, call);
    return NULL;
}

void cuda_dnn_destroy(LvCuda *gpu, CudaConvolution *call) {
    if (!call) return;
    const Cudnn *dnn = &gpu->dnn->dnn;
    if (call->picture) dnn->cudnnDestroyTensorDescriptor(call->picture);
    if (call->result) dnn->cudnnDestroyTensorDescriptor(call->result);
    if (call->bias) dnn->cudnnDestroyTensorDescriptor(call->bias);
    if (call->weight) dnn->cudnnDestroyFilterDescriptor(call->weight);
    if (call->convolution) dnn->cudnnDestroyConvolutionDescriptor(call->convolution);
    if (call->activation) dnn->cudnnDestroyActivationDescriptor(call->activation);
    free(call);
}

// ---- algorithms

static bool within_bounds(LvCuda *gpu, const CudaConvolution *call, int algorithm) {
    const Cudnn *dnn = &gpu->dnn->dnn;
    Dnn handle = gpu->dnn->handle;
    size_t bytes = 0;
    DnnResult result = call->conv.direction == LV_CONV_FORWARD
                           ? dnn->cudnnGetConvolutionForwardWorkspaceSize(handle, call->picture, call->weight, call->convolution,
                                                                          call->result, algorithm, &bytes)
                       : call->conv.direction == LV_CONV_DATA_GRADIENT
                           ? dnn->cudnnGetConvolutionBackwardDataWorkspaceSize(handle, call->weight, call->result, call->convolution,
                                                                               call->picture, algorithm, &bytes)
                           : dnn->cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, call->picture, call->result, call->convolution,
                                                                                 call->weight, algorithm, &bytes);
    return result == DNN_OK && bytes <= CUDA_DNN_WORKSPACE;
}

int cuda_dnn_algorithms(LvCuda *gpu, const CudaConvolution *call, int algorithms[CUDA_DNN_ALGORITHMS]) {
    static const int forward[] = {DNN_FORWARD_PRECOMPUTED, DNN_FORWARD_IMPLICIT, DNN_FORWARD_EXPLICIT};
    static const int data[] = {DNN_DATA_GRADIENT}, weight[] = {DNN_WEIGHT_GRADIENT};
    const CudaConv *conv = &call->conv;
    const int *all = conv->direction == LV_CONV_FORWARD ? forward : conv->direction == LV_CONV_DATA_GRADIENT ? data : weight;
    bool one = conv->direction != LV_CONV_FORWARD || (conv->fused && conv->activation == LV_ACTIVATION_NONE);
    int count = 0;
    cuda_enter(gpu);
    for (int i = 0; i < (one ? 1 : CUDA_DNN_ALGORITHMS); i++)
        if (within_bounds(gpu, call, all[i])) algorithms[count++] = all[i];
    return count;
}

// ---- the call

static DnnResult run_fused(const CudaDnn *d, const CudaConvolution *c, int algorithm, const CudaConvBuffers *at, void *workspace) {
    const float one = 1, adds = c->conv.has_residual ? 1 : 0;
    const void *z = c->conv.has_residual ? at->residual : at->to;
    return d->dnn.cudnnConvolutionBiasActivationForward(d->handle, &one, c->picture, at->first, c->weight, at->second, c->convolution,
                                                        algorithm, workspace, CUDA_DNN_WORKSPACE, &adds, c->result, z, c->bias, at->bias,
                                                        c->activation, c->result, at->to);
}

const char *cuda_dnn_run(LvCuda *gpu, const CudaConvolution *c, int algorithm, const CudaConvBuffers *at, void *workspace) {
    const CudaDnn *d = gpu->dnn;
    const float one = 1, zero = 0;
    DnnResult result = DNN_OK;
    switch (c->conv.direction) {
        case LV_CONV_FORWARD:
            result = c->conv.fused ? run_fused(d, c, algorithm, at, workspace)
                                   : d->dnn.cudnnConvolutionForward(d->handle, &one, c->picture, at->first, c->weight, at->second,
                                                                    c->convolution, algorithm, workspace, CUDA_DNN_WORKSPACE, &zero,
                                                                    c->result, at->to);
            break;
        case LV_CONV_DATA_GRADIENT:
            result = d->dnn.cudnnConvolutionBackwardData(d->handle, &one, c->weight, at->second, c->result, at->first, c->convolution,
                                                         algorithm, workspace, CUDA_DNN_WORKSPACE, &zero, c->picture, at->to);
            break;
        case LV_CONV_WEIGHT_GRADIENT:
            result = d->dnn.cudnnConvolutionBackwardFilter(d->handle, &one, c->picture, at->first, c->result, at->second, c->convolution,
                                                           algorithm, workspace, CUDA_DNN_WORKSPACE, &zero, c->weight, at->to);
            break;
    }
    return result == DNN_OK ? NULL : d->dnn.cudnnGetErrorString(result);
}
