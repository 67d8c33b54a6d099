// Products of matrices by cuBLASLt: described once per shape, with an algorithm that is chosen once and remembered.
#ifndef LV_DEVICE_CUDA_BLAS_H
#define LV_DEVICE_CUDA_BLAS_H

#include "device/cuda/cublaslt_api.h"
#include "device/cuda/cuda.h"

enum { CUDA_BLAS_WORKSPACE = 32 << 20 };

// y [count, M, N] = activation(alpha a b + bias) + (add: what `add` holds, laid out like y), row-major. Strides in elements. With `sums`
// also those of a along K, [M], and no bias, activation or batch.
typedef struct {
    LvDType operands, result;  // a and b; y, bias, sums and add. f32, bf16, f16 (result the same or f32), or f64 alone
    bool tf32;                 // f32 may be multiplied in TF32
    bool transpose_a, transpose_b;  // stored [K, M], [N, K]
    bool has_bias, adds, sums;
    LvActivation activation;   // NONE, RELU, GELU (tanh's); NONE where something is added
    double alpha;
    int64_t m, n, k;
    int64_t row_a, row_b, row_y;        // from one stored row to the next
    int64_t count;                      // of the batch, one call for all
    int64_t step_a, step_b, step_y;     // from one of the batch to the next; 0: the same one
    int alignment_a, alignment_b, alignment_y;  // of addresses, bytes
} CudaProduct;

typedef struct CudaMatmul CudaMatmul;  // a product, prepared

bool cuda_blas_open(LvCuda *gpu, LvError *error);
void cuda_blas_close(LvCuda *gpu);
size_t cuda_blas_version(const LvCuda *gpu);  // 120405 is 12.4.5
const char *cuda_blas_path(const LvCuda *gpu);
// Equal products share one. *matmul is NULL (and true is returned) where the library has no algorithm.
bool cuda_matmul_get(LvCuda *gpu, const CudaProduct *product, CudaMatmul **matmul, LvError *error);
void cuda_matmul_release(LvCuda *gpu, CudaMatmul *matmul);
// `add` may be y itself. `vector`: the bias, or where the sums go. `workspace`: CUDA_BLAS_WORKSPACE bytes.
bool cuda_matmul_run(LvCuda *gpu, CudaMatmul *matmul, void *y, const void *a, const void *b, const void *vector, const void *add,
                     void *workspace, LvError *error);
const char *cuda_matmul_describe(const CudaMatmul *matmul);  // "cuBLASLt", with the number of the candidate that was taken

#endif
