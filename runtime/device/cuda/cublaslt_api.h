// What this backend uses of cuBLASLt, NVIDIA's matrix products (libcublasLt.so.12, .13), declared here so that building needs no
// CUDA: see driver_api.h. Matrices are column-major to it.
#ifndef LV_DEVICE_CUDA_CUBLASLT_API_H
#define LV_DEVICE_CUDA_CUBLASLT_API_H

#include <stddef.h>
#include <stdint.h>

#include "device/cuda/driver_api.h"

typedef int LtResult;
typedef struct LtObject *Lt;
typedef struct LtMatmulObject *LtMatmul;          // an operation: how the product is computed
typedef struct LtMatrixObject *LtMatrix;          // the layout of a matrix, or of a batch of them
typedef struct LtPreferenceObject *LtPreference;  // what an algorithm may take

typedef struct {
    uint64_t data[8];
} LtAlgorithm;

typedef struct {
    LtAlgorithm algorithm;
    size_t workspace;
    LtResult state;  // the rest holds only if it is LT_OK
    float waves;
    int reserved[4];
} LtCandidate;

enum {  // LtResult: those that are told apart
    LT_OK = 0,
    LT_INVALID_VALUE = 7,
    LT_NOT_SUPPORTED = 15,
};

enum { LT_F32 = 0, LT_F64 = 1, LT_F16 = 2, LT_BF16 = 14 };                            // types of elements
enum { LT_COMPUTE_F32 = 68, LT_COMPUTE_F64 = 70, LT_COMPUTE_TF32 = 77 };              // how sums are made
enum { LT_PLAIN = 0, LT_TRANSPOSED = 1 };                                             // of an operand, int32
enum { LT_EPILOGUE_NONE = 1, LT_EPILOGUE_RELU = 2, LT_EPILOGUE_BIAS = 4, LT_EPILOGUE_GELU = 32 };  // sums of them, uint32
// By itself: the sums of A or of B over k go to where the bias pointer points, a number for each row, or each column, of D.
enum { LT_EPILOGUE_SUMS_A = 256, LT_EPILOGUE_SUMS_B = 512 };  // CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB

enum {  // attributes of LtMatmul
    LT_MATMUL_TRANSPOSE_A = 3,    // int32
    LT_MATMUL_TRANSPOSE_B = 4,
    LT_MATMUL_EPILOGUE = 7,       // uint32
    LT_MATMUL_BIAS_POINTER = 8,   // void *: a number for each row of the result; written with SUMS
    LT_MATMUL_BIAS_BATCH_STRIDE = 10,  // int64, 0: one bias for all
    LT_MATMUL_BIAS_TYPE = 26,     // int32
};

enum {  // attributes of LtMatrix
    LT_MATRIX_BATCH_COUNT = 5,   // int32
    LT_MATRIX_BATCH_STRIDE = 6,  // int64, elements
};

enum {  // attributes of LtPreference
    LT_PREFERENCE_WORKSPACE = 1,       // uint64, bytes
    LT_PREFERENCE_REDUCTIONS = 3,      // uint32, how parts of a sum that is split may be added up: a mask
    LT_PREFERENCE_ALIGNMENT_A = 5,     // uint32, bytes
    LT_PREFERENCE_ALIGNMENT_B = 6,
    LT_PREFERENCE_ALIGNMENT_C = 7,
    LT_PREFERENCE_ALIGNMENT_D = 8,
};

enum { LT_REDUCTION_IN_PLACE = 1, LT_REDUCTION_COMPUTE_TYPE = 2 };

#define LT_FUNCTIONS(X)                                                                              \
    X(size_t, cublasLtGetVersion, (void))                                                            \
    X(const char *, cublasLtGetStatusString, (LtResult result))                                      \
    X(LtResult, cublasLtCreate, (Lt *handle))                                                        \
    X(LtResult, cublasLtDestroy, (Lt handle))                                                        \
    X(LtResult, cublasLtMatmulDescCreate, (LtMatmul *matmul, int compute, int scale_type))           \
    X(LtResult, cublasLtMatmulDescDestroy, (LtMatmul matmul))                                        \
    X(LtResult, cublasLtMatmulDescSetAttribute, (LtMatmul matmul, int attribute, const void *value, size_t bytes)) \
    X(LtResult, cublasLtMatrixLayoutCreate, (LtMatrix *matrix, int type, uint64_t rows, uint64_t columns, int64_t leading)) \
    X(LtResult, cublasLtMatrixLayoutDestroy, (LtMatrix matrix))                                      \
    X(LtResult, cublasLtMatrixLayoutSetAttribute, (LtMatrix matrix, int attribute, const void *value, size_t bytes)) \
    X(LtResult, cublasLtMatmulPreferenceCreate, (LtPreference *preference))                          \
    X(LtResult, cublasLtMatmulPreferenceDestroy, (LtPreference preference))                          \
    X(LtResult, cublasLtMatmulPreferenceSetAttribute,                                                \
      (LtPreference preference, int attribute, const void *value, size_t bytes))                     \
    X(LtResult, cublasLtMatmulAlgoGetHeuristic,                                                      \
      (Lt handle, LtMatmul matmul, LtMatrix a, LtMatrix b, LtMatrix c, LtMatrix d, LtPreference preference, int wanted, \
       LtCandidate *candidates, int *found))                                                         \
    X(LtResult, cublasLtMatmulAlgoCheck,                                                             \
      (Lt handle, LtMatmul matmul, LtMatrix a, LtMatrix b, LtMatrix c, LtMatrix d, const LtAlgorithm *algorithm, \
       LtCandidate *checked))                                                                        \
    X(LtResult, cublasLtMatmul,                                                                      \
      (Lt handle, LtMatmul matmul, const void *alpha, const void *a, LtMatrix a_matrix, const void *b, LtMatrix b_matrix, \
       const void *beta, const void *c, LtMatrix c_matrix, void *d, LtMatrix d_matrix, const LtAlgorithm *algorithm, \
       void *workspace, size_t workspace_bytes, CuStream stream))

typedef struct {
#define X(type, name, parameters) type(*name) parameters;
    LT_FUNCTIONS(X)
#undef X
} CublasLt;

#endif
