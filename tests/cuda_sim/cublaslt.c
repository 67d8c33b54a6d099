// libcublasLt's stand-in: matrix products of f32, bf16 and f16 (f64 too), sums in f32, column-major as there. A call is work of its
// stream, which libcuda's stand-in runs.
#include "device/cuda/cublaslt_api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "cublaslt_product.h"

#define X(type, name, parameters) __attribute__((visibility("default"))) type name parameters;
LT_FUNCTIONS(X)
#undef X

enum { LT_ALLOC_FAILED = 3, LT_EXECUTION_FAILED = 13, LT_INTERNAL_ERROR = 14 };

struct LtObject {
    int unused;
};

struct LtMatmulObject {
    int compute, scale_type, bias_type;
    int32_t transpose_a, transpose_b;
    uint32_t epilogue;
    const void *bias;  // of SUMS: where they go
    int64_t bias_stride;
};

struct LtMatrixObject {
    int type;
    uint64_t rows, columns;
    int64_t leading;
    int32_t batch;
    int64_t stride;
    int32_t order;  // 0: column-major
};

struct LtPreferenceObject {
    uint64_t workspace;
};

static LtResult trouble(const char *function) { return sim_trouble(function, LT_INTERNAL_ERROR); }

size_t cublasLtGetVersion(void) { return 130000; }

const char *cublasLtGetStatusString(LtResult result) {
    switch (result) {
        case LT_OK: return "CUBLAS_STATUS_SUCCESS";
        case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case LT_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
        case LT_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case LT_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case LT_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
        case LT_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "CUBLAS_STATUS unknown";
    }
}

#define MAKE(FUNCTION, OBJECT, POINTER, ...)                     \
    do {                                                         \
        const LtResult t = trouble(FUNCTION);                    \
        if (t) return t;                                         \
        OBJECT made = calloc(1, sizeof *made);                   \
        if (!made) return LT_ALLOC_FAILED;                       \
        *made = (__typeof__(*made)){__VA_ARGS__};                \
        *(POINTER) = made;                                       \
        return LT_OK;                                            \
    } while (0)

LtResult cublasLtCreate(Lt *handle) { MAKE("cublasLtCreate", Lt, handle, 0); }

LtResult cublasLtDestroy(Lt handle) {
    free(handle);
    return trouble("cublasLtDestroy");
}

LtResult cublasLtMatmulDescCreate(LtMatmul *matmul, int compute, int scale_type) {
    MAKE("cublasLtMatmulDescCreate", LtMatmul, matmul, .compute = compute, .scale_type = scale_type, .bias_type = -1, .epilogue = LT_EPILOGUE_NONE);
}

LtResult cublasLtMatmulDescDestroy(LtMatmul matmul) {
    free(matmul);
    return trouble("cublasLtMatmulDescDestroy");
}

static LtResult set(void *field, size_t room, const void *value, size_t bytes) {
    if (bytes != room) return LT_INVALID_VALUE;
    memcpy(field, value, bytes);
    return LT_OK;
}

LtResult cublasLtMatmulDescSetAttribute(LtMatmul m, int attribute, const void *value, size_t bytes) {
    const LtResult t = trouble("cublasLtMatmulDescSetAttribute");
    int32_t ignored;
    if (t) return t;
    switch (attribute) {
        case 0: return set(&m->compute, sizeof m->compute, value, bytes);
        case 1: return set(&m->scale_type, sizeof m->scale_type, value, bytes);
        case 2: return set(&ignored, sizeof ignored, value, bytes);  // alpha and beta lie on the host
        case LT_MATMUL_TRANSPOSE_A: return set(&m->transpose_a, sizeof m->transpose_a, value, bytes);
        case LT_MATMUL_TRANSPOSE_B: return set(&m->transpose_b, sizeof m->transpose_b, value, bytes);
        case LT_MATMUL_EPILOGUE: return set(&m->epilogue, sizeof m->epilogue, value, bytes);
        case LT_MATMUL_BIAS_POINTER: return set(&m->bias, sizeof m->bias, value, bytes);
        case LT_MATMUL_BIAS_BATCH_STRIDE: return set(&m->bias_stride, sizeof m->bias_stride, value, bytes);
        case LT_MATMUL_BIAS_TYPE: return set(&m->bias_type, sizeof m->bias_type, value, bytes);
        default: return LT_NOT_SUPPORTED;
    }
}

LtResult cublasLtMatrixLayoutCreate(LtMatrix *matrix, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (!rows || !columns || leading <= 0) return LT_INVALID_VALUE;
    MAKE("cublasLtMatrixLayoutCreate", LtMatrix, matrix, .type = type, .rows = rows, .columns = columns, .leading = leading, .batch = 1);
}

LtResult cublasLtMatrixLayoutDestroy(LtMatrix matrix) {
    free(matrix);
    return trouble("cublasLtMatrixLayoutDestroy");
}

LtResult cublasLtMatrixLayoutSetAttribute(LtMatrix m, int attribute, const void *value, size_t bytes) {
    const LtResult t = trouble("cublasLtMatrixLayoutSetAttribute");
    if (t) return t;
    switch (attribute) {
        case 0: return set(&m->type, sizeof m->type, value, bytes);
        case 1: return set(&m->order, sizeof m->order, value, bytes);
        case 2: return set(&m->rows, sizeof m->rows, value, bytes);
        case 3: return set(&m->columns, sizeof m->columns, value, bytes);
        case 4: return set(&m->leading, sizeof m->leading, value, bytes);
        case LT_MATRIX_BATCH_COUNT: return set(&m->batch, sizeof m->batch, value, bytes);
        case LT_MATRIX_BATCH_STRIDE: return set(&m->stride, sizeof m->stride, value, bytes);
        default: return LT_NOT_SUPPORTED;
    }
}

LtResult cublasLtMatmulPreferenceCreate(LtPreference *preference) { MAKE("cublasLtMatmulPreferenceCreate", LtPreference, preference, 0); }

LtResult cublasLtMatmulPreferenceDestroy(LtPreference preference) {
    free(preference);
    return trouble("cublasLtMatmulPreferenceDestroy");
}

LtResult cublasLtMatmulPreferenceSetAttribute(LtPreference preference, int attribute, const void *value, size_t bytes) {
    const LtResult t = trouble("cublasLtMatmulPreferenceSetAttribute");
    if (t) return t;
    if (attribute == LT_PREFERENCE_WORKSPACE) return set(&preference->workspace, sizeof preference->workspace, value, bytes);
    return bytes == 4 || bytes == 8 ? LT_OK : LT_INVALID_VALUE;
}

// ---- what a call asks for, as strides

static bool is_type(int type) { return type == LT_F32 || type == LT_F64 || type == LT_F16 || type == LT_BF16; }
static size_t size_of(int type) { return type == LT_F64 ? 8 : type == LT_F32 ? 4 : 2; }

static ProductMatrix matrix_of(const struct LtMatrixObject *m, const void *data, bool transposed) {
    const int64_t along_row = m->order ? 1 : m->leading, along_column = m->order ? m->leading : 1;
    return (ProductMatrix){(char *)(uintptr_t)data, m->type, transposed ? along_row : along_column, transposed ? along_column : along_row, m->stride};
}

static LtResult describe(LtMatmul op, LtMatrix a, LtMatrix b, LtMatrix c, LtMatrix d, Product *p) {
    const bool ta = op->transpose_a, tb = op->transpose_b;
    const LtMatrix all[] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        const int64_t least = (int64_t)(all[i]->order ? all[i]->columns : all[i]->rows);
        if (!is_type(all[i]->type) || all[i]->batch != d->batch || all[i]->order > 1) return LT_NOT_SUPPORTED;
        if (all[i]->leading < least) return LT_INVALID_VALUE;
    }
    *p = (Product){.m = (int64_t)d->rows, .n = (int64_t)d->columns, .k = (int64_t)(ta ? a->rows : a->columns), .batch = d->batch};
    if ((int64_t)(ta ? a->columns : a->rows) != p->m || (int64_t)(tb ? b->columns : b->rows) != p->k || (int64_t)(tb ? b->rows : b->columns) != p->n ||
        c->rows != d->rows || c->columns != d->columns) {
        return LT_INVALID_VALUE;
    }
    if (a->type != b->type || c->type != d->type || (d->type != a->type && d->type != LT_F32)) return LT_NOT_SUPPORTED;
    if ((op->compute == LT_COMPUTE_F64) != (a->type == LT_F64) || (op->compute == LT_COMPUTE_TF32 && a->type != LT_F32)) return LT_NOT_SUPPORTED;
    const bool sums = op->epilogue == LT_EPILOGUE_SUMS_A || op->epilogue == LT_EPILOGUE_SUMS_B;  // with nothing besides
    if (!sums && op->epilogue & ~(uint32_t)(LT_EPILOGUE_NONE | LT_EPILOGUE_RELU | LT_EPILOGUE_BIAS | LT_EPILOGUE_GELU)) return LT_NOT_SUPPORTED;
    // of the type of d, and a vector for each of a batch
    if (sums && ((op->bias_type >= 0 && op->bias_type != d->type) || a->type == LT_F64)) return LT_NOT_SUPPORTED;
    p->sums_of_b = op->epilogue == LT_EPILOGUE_SUMS_B;
    if (sums && (!op->bias || (d->batch > 1 && op->bias_stride < (p->sums_of_b ? p->n : p->m)))) return LT_INVALID_VALUE;
    if (sums) p->sums = (void *)(uintptr_t)op->bias;
    p->tf32 = op->compute == LT_COMPUTE_TF32;
    p->relu = op->epilogue & LT_EPILOGUE_RELU;
    p->gelu = op->epilogue & LT_EPILOGUE_GELU;
    p->bias = op->epilogue & LT_EPILOGUE_BIAS ? op->bias : NULL;
    p->bias_type = op->bias_type >= 0 ? op->bias_type : d->type;
    p->bias_stride = op->bias_stride;
    return LT_OK;
}

LtResult cublasLtMatmulAlgoGetHeuristic(Lt handle, LtMatmul matmul, LtMatrix a, LtMatrix b, LtMatrix c, LtMatrix d, LtPreference preference,
                                        int wanted, LtCandidate *candidates, int *found) {
    const LtResult t = trouble("cublasLtMatmulAlgoGetHeuristic");
    Product product;
    (void)handle, (void)preference;
    *found = 0;
    if (t) return t;
    const LtResult result = describe(matmul, a, b, c, d, &product);
    if (result) return result;
    // Two algorithms that compute alike, so that there is something to choose from. The second wants a workspace.
    for (int i = 0; i < wanted && i < 2; i++) {
        const size_t workspace = i ? 4096 : 0;
        if (workspace > (preference ? preference->workspace : 0)) break;
        candidates[i] = (LtCandidate){.algorithm.data = {0x4C56, (uint64_t)i}, .workspace = workspace, .waves = 1.0f};
        ++*found;
    }
    return *found ? LT_OK : LT_NOT_SUPPORTED;
}

LtResult cublasLtMatmulAlgoCheck(Lt handle, LtMatmul matmul, LtMatrix a, LtMatrix b, LtMatrix c, LtMatrix d, const LtAlgorithm *algorithm,
                                 LtCandidate *checked) {
    const LtResult t = trouble("cublasLtMatmulAlgoCheck");
    Product product;
    (void)handle;
    if (t) return t;
    if (algorithm->data[0] != 0x4C56 || algorithm->data[1] > 1) return LT_INVALID_VALUE;
    *checked = (LtCandidate){.algorithm = *algorithm, .workspace = algorithm->data[1] ? 4096 : 0, .waves = 1.0f};
    return checked->state = describe(matmul, a, b, c, d, &product);
}

// ---- the call

typedef int StreamCall(CuStream stream, void (*run)(void *data), const void *data, size_t bytes);
typedef int MemoryHolds(const void *memory, size_t bytes);

// All that the call touches of an operand must be the device's.
static bool is_held(MemoryHolds *holds, const void *data, LtMatrix m) {
    const int64_t lines = (int64_t)(m->order ? m->rows : m->columns), length = (int64_t)(m->order ? m->columns : m->rows);
    const int64_t elements = (m->batch - 1) * m->stride + (lines - 1) * m->leading + length;
    return holds(data, (size_t)elements * size_of(m->type)) && !((uintptr_t)data % size_of(m->type));
}

static size_t vector_bytes(const Product *p, int64_t length) {
    return (size_t)(length + (p->batch - 1) * p->bias_stride) * size_of(p->bias_type);
}

LtResult cublasLtMatmul(Lt handle, LtMatmul matmul, const void *alpha, const void *a, LtMatrix a_matrix, const void *b, LtMatrix b_matrix,
                        const void *beta, const void *c, LtMatrix c_matrix, void *d, LtMatrix d_matrix, const LtAlgorithm *algorithm,
                        void *workspace, size_t workspace_bytes, CuStream stream) {
    const LtResult t = trouble("cublasLtMatmul");
    Product p;
    if (t) return t;
    if (!handle || !matmul || !alpha || !a || !b || !beta || !d) return LT_INVALID_VALUE;
    const LtResult result = describe(matmul, a_matrix, b_matrix, c_matrix, d_matrix, &p);
    if (result) return result;
    p.alpha = matmul->scale_type == LT_F64 ? *(const double *)alpha : (double)*(const float *)alpha;
    p.beta = matmul->scale_type == LT_F64 ? *(const double *)beta : (double)*(const float *)beta;
    p.a = matrix_of(a_matrix, a, matmul->transpose_a);
    p.b = matrix_of(b_matrix, b, matmul->transpose_b);
    p.c = matrix_of(c_matrix, c, false);
    p.d = matrix_of(d_matrix, d, false);
    StreamCall *call = (StreamCall *)(uintptr_t)sim_of_driver("lv_sim_stream_call");
    MemoryHolds *holds = (MemoryHolds *)(uintptr_t)sim_of_driver("lv_sim_memory_holds");
    if (!call || !holds) return LT_EXECUTION_FAILED;
    if (algorithm && algorithm->data[1] && (workspace_bytes < 4096 || !holds(workspace, 4096))) return LT_INVALID_VALUE;
    if (!is_held(holds, a, a_matrix) || !is_held(holds, b, b_matrix) || !is_held(holds, d, d_matrix) || (p.beta != 0 && !is_held(holds, c, c_matrix)) ||
        (p.bias && !holds(p.bias, vector_bytes(&p, p.m))) || (p.sums && !holds(p.sums, vector_bytes(&p, p.sums_of_b ? p.n : p.m)))) {
        fprintf(stderr, "cuda_sim: cublasLtMatmul of %lld x %lld x %lld: an operand does not lie in an allocation of the device\n", (long long)p.m,
                (long long)p.n, (long long)p.k);
        return LT_EXECUTION_FAILED;
    }
    return call(stream, product_run, &p, sizeof p) ? LT_EXECUTION_FAILED : LT_OK;
}
