// What this backend uses of cuDNN, NVIDIA's convolutions (libcudnn.so.9, .8), declared here so that building needs no CUDA: see
// driver_api.h. These calls are the same in both, and pictures N,H,W,C of f32, f16 or bf16 may go through all three directions.
#ifndef LV_DEVICE_CUDA_CUDNN_API_H
#define LV_DEVICE_CUDA_CUDNN_API_H

#include <stddef.h>

#include "device/cuda/driver_api.h"

typedef int DnnResult;  // DNN_OK, or a number that differs from version to version: it is told by its text
typedef struct DnnObject *Dnn;
typedef struct DnnTensorObject *DnnTensor;            // of pictures, or of a bias: its extents and strides
typedef struct DnnFilterObject *DnnFilter;            // of a weight
typedef struct DnnConvolutionObject *DnnConvolution;  // how the window goes
typedef struct DnnActivationObject *DnnActivation;

enum { DNN_OK = 0 };
enum { DNN_F32 = 0, DNN_F16 = 2, DNN_BF16 = 9 };                     // types of elements
enum { DNN_NCHW = 0, DNN_NHWC = 1 };                                 // how a filter lies: O,C,KH,KW or O,KH,KW,C
enum { DNN_MATH_DEFAULT = 0, DNN_MATH_TENSOR = 1, DNN_MATH_FMA = 3 };  // f32: TF32 is allowed by the first two, not by the third
enum { DNN_CROSS_CORRELATION = 1 };                                  // the filter is not turned round
enum { DNN_RELU = 1, DNN_IDENTITY = 5 };
enum { DNN_NAN_STAYS = 1 };

enum {  // algorithms that make the same sums of products as a matrix product, in the same order each time
    DNN_FORWARD_IMPLICIT = 0,
    DNN_FORWARD_PRECOMPUTED = 1,  // the only one of a fused call without an activation
    DNN_FORWARD_EXPLICIT = 2,     // the matrix is made, in the workspace
    DNN_DATA_GRADIENT = 1,        // 0 adds in any order
    DNN_WEIGHT_GRADIENT = 1,      // 0 and 3 likewise
};

// Strides and dilations come rows first. y = alpha op + beta y with alpha and beta f32 on the host; the fused call:
// y = activation(alpha1 op + alpha2 z + bias).
#define DNN_FUNCTIONS(X)                                                                                                     \
    X(size_t, cudnnGetVersion, (void))                                                                                       \
    X(size_t, cudnnGetCudartVersion, (void))                                                                                 \
    X(const char *, cudnnGetErrorString, (DnnResult result))                                                                 \
    X(DnnResult, cudnnCreate, (Dnn *handle))                                                                                 \
    X(DnnResult, cudnnDestroy, (Dnn handle))                                                                                 \
    X(DnnResult, cudnnSetStream, (Dnn handle, CuStream stream))                                                              \
    X(DnnResult, cudnnCreateTensorDescriptor, (DnnTensor *tensor))                                                           \
    X(DnnResult, cudnnDestroyTensorDescriptor, (DnnTensor tensor))                                                           \
    X(DnnResult, cudnnSetTensor4dDescriptorEx,                                                                               \
      (DnnTensor tensor, int type, int n, int c, int h, int w, int n_stride, int c_stride, int h_stride, int w_stride))      \
    X(DnnResult, cudnnCreateFilterDescriptor, (DnnFilter *filter))                                                           \
    X(DnnResult, cudnnDestroyFilterDescriptor, (DnnFilter filter))                                                           \
    X(DnnResult, cudnnSetFilter4dDescriptor, (DnnFilter filter, int type, int format, int o, int c, int kh, int kw))         \
    X(DnnResult, cudnnCreateConvolutionDescriptor, (DnnConvolution *convolution))                                            \
    X(DnnResult, cudnnDestroyConvolutionDescriptor, (DnnConvolution convolution))                                            \
    X(DnnResult, cudnnSetConvolution2dDescriptor,                                                                            \
      (DnnConvolution convolution, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h, int dilation_w, int mode, int compute)) \
    X(DnnResult, cudnnSetConvolutionMathType, (DnnConvolution convolution, int math))                                        \
    X(DnnResult, cudnnCreateActivationDescriptor, (DnnActivation *activation))                                               \
    X(DnnResult, cudnnDestroyActivationDescriptor, (DnnActivation activation))                                               \
    X(DnnResult, cudnnSetActivationDescriptor, (DnnActivation activation, int mode, int nan, double ceiling))                \
    X(DnnResult, cudnnGetConvolutionForwardWorkspaceSize,                                                                    \
      (Dnn handle, DnnTensor x, DnnFilter w, DnnConvolution convolution, DnnTensor y, int algorithm, size_t *bytes))         \
    X(DnnResult, cudnnGetConvolutionBackwardDataWorkspaceSize,                                                               \
      (Dnn handle, DnnFilter w, DnnTensor dy, DnnConvolution convolution, DnnTensor dx, int algorithm, size_t *bytes))       \
    X(DnnResult, cudnnGetConvolutionBackwardFilterWorkspaceSize,                                                             \
      (Dnn handle, DnnTensor x, DnnTensor dy, DnnConvolution convolution, DnnFilter dw, int algorithm, size_t *bytes))       \
    X(DnnResult, cudnnConvolutionForward,                                                                                    \
      (Dnn handle, const void *alpha, DnnTensor x, const void *x_at, DnnFilter w, const void *w_at, DnnConvolution convolution, int algorithm, \
       void *workspace, size_t workspace_bytes, const void *beta, DnnTensor y, void *y_at))                                  \
    X(DnnResult, cudnnConvolutionBiasActivationForward,                                                                      \
      (Dnn handle, const void *alpha1, DnnTensor x, const void *x_at, DnnFilter w, const void *w_at, DnnConvolution convolution, int algorithm, \
       void *workspace, size_t workspace_bytes, const void *alpha2, DnnTensor z, const void *z_at, DnnTensor bias, const void *bias_at, \
       DnnActivation activation, DnnTensor y, void *y_at))                                                                   \
    X(DnnResult, cudnnConvolutionBackwardData,                                                                               \
      (Dnn handle, const void *alpha, DnnFilter w, const void *w_at, DnnTensor dy, const void *dy_at, DnnConvolution convolution, int algorithm, \
       void *workspace, size_t workspace_bytes, const void *beta, DnnTensor dx, void *dx_at))                                \
    X(DnnResult, cudnnConvolutionBackwardFilter,                                                                             \
      (Dnn handle, const void *alpha, DnnTensor x, const void *x_at, DnnTensor dy, const void *dy_at, DnnConvolution convolution, int algorithm, \
       void *workspace, size_t workspace_bytes, const void *beta, DnnFilter dw, void *dw_at))

typedef struct {
#define X(type, name, parameters) type(*name) parameters;
    DNN_FUNCTIONS(X)
#undef X
} Cudnn;

#endif
