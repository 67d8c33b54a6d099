// Convolutions by cuDNN, where that is installed: nothing needs it. What is asked of it is described once a step.
#ifndef LV_DEVICE_CUDA_CUDNN_H
#define LV_DEVICE_CUDA_CUDNN_H

#include "device/cuda/cuda.h"
#include "device/cuda/cudnn_api.h"

enum { CUDA_DNN_WORKSPACE = 32 << 20, CUDA_DNN_ALGORITHMS = 3 };

// A convolution of pictures [B,H,W,C] and weights, all of one type. Forward: y = activation(conv(x, w) + bias + residual).
typedef struct {
    LvConvDirection direction;
    LvDType type;         // f32, bf16, f16
    bool tf32;            // f32 may be multiplied in TF32
    bool rows;            // the weight lies O,C,KH,KW, not O,KH,KW,C
    bool fused;           // forward: a bias [O] and, with has_residual, what is laid out as y; without it neither
    bool has_residual;
    LvActivation activation;  // NONE, RELU; of the fused one
    int b, c, h, w, o, kh, kw, oh, ow, stride[2], left, top;
} CudaConv;

typedef struct {
    void *to;
    const void *first, *second, *bias, *residual;  // x and w, dy and w, or x and dy
} CudaConvBuffers;

typedef struct CudaConvolution CudaConvolution;  // a convolution, prepared

// Whether there is a cuDNN that serves this GPU; looked for once, when it is first asked for. It is not started.
bool cuda_dnn_there(LvCuda *gpu);
void cuda_dnn_close(LvCuda *gpu);
size_t cuda_dnn_version(LvCuda *gpu);       // 91900 is 9.19.0, 8907 is 8.9.7; 0: none was found
const char *cuda_dnn_path(LvCuda *gpu);     // of the one that was found, NULL: none
const char *cuda_dnn_refusal(LvCuda *gpu);  // why what was found is not used, or that nothing was looked for; NULL else

// NULL: it does not do that. Where it does not even start, a note of the device says so.
CudaConvolution *cuda_dnn_create(LvCuda *gpu, const CudaConv *conv);
void cuda_dnn_destroy(LvCuda *gpu, CudaConvolution *call);
// The algorithms that it has for it within CUDA_DNN_WORKSPACE bytes, in no order of speed; none but deterministic ones.
int cuda_dnn_algorithms(LvCuda *gpu, const CudaConvolution *call, int algorithms[CUDA_DNN_ALGORITHMS]);
// The result's text where it fails, else NULL. `workspace`: CUDA_DNN_WORKSPACE bytes.
const char *cuda_dnn_run(LvCuda *gpu, const CudaConvolution *call, int algorithm, const CudaConvBuffers *at, void *workspace);

#endif
