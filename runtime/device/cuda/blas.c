// cuBLASLt. Its matrices are column-major, so y = a b becomes y' = b' a': what we store as rows it reads as columns, b is its first
// operand and a its second, and a bias for each of our columns is one for each of its rows. Sums of a are those of its B.
//
// An algorithm is the library's guess, or the fastest of its guesses where they can be timed and the answer can be kept: the cache
// remembers it by GPU, library version and product, and bits then repeat from run to run.
#include "device/cuda/blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/tune.h"
#include "io/cache.h"

struct CudaBlas {
    CudaLibrary library;
    CublasLt lt;
    Lt handle;       // made with the first product
    LvMap products;  // by their text: CudaMatmul *
};

struct CudaMatmul {
    CudaProduct product;
    LtMatmul matmul;
    LtMatrix a, b, y;
    LtAlgorithm algorithm;
    char implementation[32];
    char *key;
    int users;
};

// ---- the library

static bool report_missing(LvCuda *gpu, LvError *error) {
    CudaLibrary other = {0};
    if (cuda_library_open(CUDA_CUBLASLT, 0, &other)) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the driver (CUDA %d.%d) is too old for the cuBLASLt that is installed, %s",
                     gpu->version / 1000, gpu->version % 1000 / 10, other.path);
        lv_error_hint(error, "a newer driver, or cuBLASLt of CUDA %d", gpu->version / 1000);
        cuda_library_close(&other);
        return false;
    }
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "cuBLASLt (%s), which multiplies matrices, is not installed",
                 cuda_library_file(CUDA_CUBLASLT));
    return lv_error_hint(error, "%s; its folder may stand in LD_LIBRARY_PATH or CUDA_HOME", cuda_library_package(CUDA_CUBLASLT));
}

bool cuda_blas_open(LvCuda *gpu, LvError *error) {
#define X(type, name, parameters) {#name, offsetof(CublasLt, name)},
    static const CudaSymbol symbols[] = {LT_FUNCTIONS(X)};
#undef X
    CudaBlas *blas = gpu->blas = lv_calloc(1, sizeof *blas);
    if (!cuda_library_open(CUDA_CUBLASLT, gpu->version / 1000, &blas->library)) return report_missing(gpu, error);
    const char *missing = cuda_library_fill(&blas->library, symbols, sizeof symbols / sizeof *symbols, &blas->lt);
    if (!missing) return true;
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "%s has no function '%s': CUDA 12 or 13 is needed", blas->library.path, missing);
    return lv_error_hint(error, "%s", cuda_library_package(CUDA_CUBLASLT));
}

static bool check(const CudaBlas *blas, LtResult result, LvError *error, const char *what) {
    return result == LT_OK ||
           lv_error_set(error, LV_ERROR_DEVICE, "cuBLASLt: %s: %s", what, blas->lt.cublasLtGetStatusString(result));
}

static void destroy(const CublasLt *lt, CudaMatmul *m) {
    if (m->matmul) lt->cublasLtMatmulDescDestroy(m->matmul);
    if (m->a) lt->cublasLtMatrixLayoutDestroy(m->a);
    if (m->b) lt->cublasLtMatrixLayoutDestroy(m->b);
    if (m->y) lt->cublasLtMatrixLayoutDestroy(m->y);
    free(m->key);
    free(m);
}

void cuda_blas_close(LvCuda *gpu) {
    CudaBlas *blas = gpu->blas;
    if (!blas) return;
    for (size_t i = 0; i < blas->products.count; i++)
        if (blas->products.entries[i].value) destroy(&blas->lt, blas->products.entries[i].value);
    lv_map_free(&blas->products);
    if (blas->handle) blas->lt.cublasLtDestroy(blas->handle);
    cuda_library_close(&blas->library);
    free(blas);
    gpu->blas = NULL;
}

size_t cuda_blas_version(const LvCuda *gpu) { return gpu->blas->lt.cublasLtGetVersion(); }

const char *cuda_blas_path(const LvCuda *gpu) { return gpu->blas->library.path; }

// ---- describing a product

static int type_of(LvDType dtype) {
    return dtype == LV_F64 ? LT_F64 : dtype == LV_BF16 ? LT_BF16 : dtype == LV_F16 ? LT_F16 : LT_F32;
}

static void print_product(const CudaProduct *p, LvText *out) {
    lv_text_printf(out, "%s %s tf32 %d transpose %d %d bias %d adds %d activation %d alpha %a", lv_dtype_name(p->operands),
                   lv_dtype_name(p->result), p->tf32, p->transpose_a, p->transpose_b, p->has_bias, p->adds, p->activation,
                   p->alpha);
    if (p->sums) lv_text_puts(out, " sums");
    const int64_t numbers[] = {p->m, p->n, p->k, p->row_a, p->row_b, p->row_y, p->count, p->step_a, p->step_b, p->step_y,
                               p->alignment_a, p->alignment_b, p->alignment_y};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) lv_text_printf(out, " %lld", (long long)numbers[i]);
}

// A matrix that we store as `rows` rows of `columns`; `stride` apart.
static LtResult make_matrix(const CublasLt *lt, LvDType dtype, int64_t rows, int64_t columns, int64_t stride, int64_t count,
                            int64_t step, LtMatrix *out) {
    int32_t many = (int32_t)count;
    LtResult result = lt->cublasLtMatrixLayoutCreate(out, type_of(dtype), (uint64_t)columns, (uint64_t)rows, stride);
    if (result != LT_OK || count == 1) return result;
    result = lt->cublasLtMatrixLayoutSetAttribute(*out, LT_MATRIX_BATCH_COUNT, &many, sizeof many);
    return result != LT_OK ? result : lt->cublasLtMatrixLayoutSetAttribute(*out, LT_MATRIX_BATCH_STRIDE, &step, sizeof step);
}

static LtResult make_matrices(const CublasLt *lt, CudaMatmul *m) {
    const CudaProduct *p = &m->product;
    LtResult result = make_matrix(lt, p->operands, p->transpose_a ? p->k : p->m, p->transpose_a ? p->m : p->k, p->row_a, p->count,
                                  p->step_a, &m->a);
    if (result == LT_OK)
        result = make_matrix(lt, p->operands, p->transpose_b ? p->n : p->k, p->transpose_b ? p->k : p->n, p->row_b, p->count,
                             p->step_b, &m->b);
    return result == LT_OK ? make_matrix(lt, p->result, p->m, p->n, p->row_y, p->count, p->step_y, &m->y) : result;
}

// Of a bias, or of sums.
static bool has_vector(const CudaProduct *p) { return p->has_bias || p->sums; }

static LtResult make_operation(const CublasLt *lt, CudaMatmul *m) {
    const CudaProduct *p = &m->product;
    bool wide = p->operands == LV_F64;
    int32_t first = p->transpose_b ? LT_TRANSPOSED : LT_PLAIN, second = p->transpose_a ? LT_TRANSPOSED : LT_PLAIN;
    uint32_t epilogue = p->activation == LV_ACTIVATION_RELU   ? LT_EPILOGUE_RELU
                        : p->activation == LV_ACTIVATION_GELU ? LT_EPILOGUE_GELU
                                                              : 0;
    if (p->has_bias) epilogue |= LT_EPILOGUE_BIAS;
    if (p->sums) epilogue = LT_EPILOGUE_SUMS_B;
    if (!epilogue) epilogue = LT_EPILOGUE_NONE;
    const void *anywhere =
        (const void *)(uintptr_t)256;  // an address as aligned as all are: it is what is looked at before a call
    LtResult result = lt->cublasLtMatmulDescCreate(&m->matmul, wide ? LT_COMPUTE_F64 : p->tf32 ? LT_COMPUTE_TF32 : LT_COMPUTE_F32,
                                                   wide ? LT_F64 : LT_F32);
    if (result == LT_OK) result = lt->cublasLtMatmulDescSetAttribute(m->matmul, LT_MATMUL_TRANSPOSE_A, &first, sizeof first);
    if (result == LT_OK) result = lt->cublasLtMatmulDescSetAttribute(m->matmul, LT_MATMUL_TRANSPOSE_B, &second, sizeof second);
    if (result == LT_OK) result = lt->cublasLtMatmulDescSetAttribute(m->matmul, LT_MATMUL_EPILOGUE, &epilogue, sizeof epilogue);
    if (result == LT_OK && has_vector(p))
        result = lt->cublasLtMatmulDescSetAttribute(m->matmul, LT_MATMUL_BIAS_POINTER, &anywhere, sizeof anywhere);
    return result;
}

// Parts of a split sum are added up in f32, whatever the result is in.
static LtResult make_preference(const CublasLt *lt, const CudaProduct *p, LtPreference *out) {
    uint64_t workspace = CUDA_BLAS_WORKSPACE;
    uint32_t reductions = p->result == LV_F32 ? LT_REDUCTION_IN_PLACE | LT_REDUCTION_COMPUTE_TYPE : LT_REDUCTION_COMPUTE_TYPE;
    uint32_t a = (uint32_t)p->alignment_a, b = (uint32_t)p->alignment_b, y = (uint32_t)p->alignment_y;
    const struct {
        int attribute;
        const void *value;
        size_t bytes;
    } all[] = {{LT_PREFERENCE_WORKSPACE, &workspace, 8}, {LT_PREFERENCE_REDUCTIONS, &reductions, 4},
               {LT_PREFERENCE_ALIGNMENT_A, &b, 4},       {LT_PREFERENCE_ALIGNMENT_B, &a, 4},
               {LT_PREFERENCE_ALIGNMENT_C, &y, 4},       {LT_PREFERENCE_ALIGNMENT_D, &y, 4}};
    LtResult result = lt->cublasLtMatmulPreferenceCreate(out);
    for (size_t i = 0; result == LT_OK && i < sizeof all / sizeof *all; i++)
        result = lt->cublasLtMatmulPreferenceSetAttribute(*out, all[i].attribute, all[i].value, all[i].bytes);
    return result;
}

// ---- choosing an algorithm

static LtResult run(const CudaBlas *blas, const CudaMatmul *m, const LtAlgorithm *algorithm, const TuneBuffers *at,
                    void *workspace, CuStream stream) {
    const CudaProduct *p = &m->product;
    double alpha = p->alpha, beta = p->adds ? 1 : 0;
    float narrow[2] = {(float)alpha, (float)beta};
    bool wide = p->operands == LV_F64;
    return blas->lt.cublasLtMatmul(blas->handle, m->matmul, wide ? (void *)&alpha : &narrow[0], at->b, m->b, at->a, m->a,
                                   wide ? (void *)&beta : &narrow[1], p->adds ? at->add : at->y, m->y, at->y, m->y, algorithm,
                                   workspace, CUDA_BLAS_WORKSPACE, stream);
}

typedef struct {
    LvCuda *gpu;
    CudaMatmul *matmul;
    const LtCandidate *candidates;
} Trial;

static bool run_candidate(void *user, int candidate, const TuneBuffers *at, void *workspace) {
    const Trial *trial = user;
    return run(trial->gpu->blas, trial->matmul, &trial->candidates[candidate].algorithm, at, workspace, trial->gpu->stream) ==
           LT_OK;
}

static size_t bytes_of(int64_t rows, int64_t stride, int64_t count, int64_t step, LvDType dtype) {
    return (size_t)((count - 1) * step + rows * stride) * lv_dtype_size(dtype);
}

static TuneSizes sizes_of(const CudaProduct *p) {
    return (TuneSizes){.a = bytes_of(p->transpose_a ? p->k : p->m, p->row_a, p->count, p->step_a, p->operands),
                       .b = bytes_of(p->transpose_b ? p->n : p->k, p->row_b, p->count, p->step_b, p->operands),
                       .y = bytes_of(p->m, p->row_y, p->count, p->step_y, p->result),
                       .vector = has_vector(p) ? (size_t)(p->sums ? p->m : p->n) * lv_dtype_size(p->result) : 0,
                       .workspace = CUDA_BLAS_WORKSPACE};
}

static void set_vector(const CudaBlas *blas, const CudaMatmul *m, const void *vector) {
    if (has_vector(&m->product)) blas->lt.cublasLtMatmulDescSetAttribute(m->matmul, LT_MATMUL_BIAS_POINTER, &vector, sizeof vector);
}

static void use_vector(void *user, const void *vector) {
    const Trial *trial = user;
    set_vector(trial->gpu->blas, trial->matmul, vector);
}

// An algorithm that was kept is used only if this library still takes it.
static bool read_choice(LvCuda *gpu, CudaMatmul *m, const char *path) {
    const CudaBlas *blas = gpu->blas;
    char *data = NULL;
    size_t length;
    LtCandidate checked = {0};
    bool good = path && lv_cache_read(path, &data, &length) && length == sizeof m->algorithm;
    if (good) memcpy(&m->algorithm, data, sizeof m->algorithm);
    free(data);
    good = good &&
           blas->lt.cublasLtMatmulAlgoCheck(blas->handle, m->matmul, m->b, m->a, m->y, m->y, &m->algorithm, &checked) == LT_OK &&
           checked.workspace <= CUDA_BLAS_WORKSPACE;
    if (good) snprintf(m->implementation, sizeof m->implementation, "cuBLASLt, measured");
    return good;
}

static char *choice_path(const LvCuda *gpu, const CudaMatmul *m) {
    char key[33], version[32];
    if (!gpu->cache_dir) return NULL;
    snprintf(version, sizeof version, "%zu", cuda_blas_version(gpu));
    const char *parts[] = {"cublaslt 1", gpu->name, gpu->target, version, m->key};
    lv_cache_key(key, parts, 5);
    LvText path = {0};
    lv_text_printf(&path, "%s/%s.choice", gpu->cache_dir, key);
    return path.data;
}

// False: there is none.
static bool choose(LvCuda *gpu, CudaMatmul *m, LtPreference preference) {
    const CudaBlas *blas = gpu->blas;
    LtCandidate candidates[TUNE_CANDIDATES];
    int found = 0, best = 0;
    char *path = choice_path(gpu, m);
    bool good = read_choice(gpu, m, path);
    if (!good) {
        LtResult result = blas->lt.cublasLtMatmulAlgoGetHeuristic(blas->handle, m->matmul, m->b, m->a, m->y, m->y, preference,
                                                                  TUNE_CANDIDATES, candidates, &found);
        int usable = 0;
        for (int i = 0; result == LT_OK && i < found; i++)
            if (candidates[i].state == LT_OK && candidates[i].workspace <= CUDA_BLAS_WORKSPACE)
                candidates[usable++] = candidates[i];
        good = usable > 0;
        Trial trial = {gpu, m, candidates};
        bool timed =
            usable > 1 && path && tune_candidates(gpu, sizes_of(&m->product), usable, run_candidate, use_vector, &trial, &best);
        if (good) m->algorithm = candidates[best].algorithm;
        snprintf(m->implementation, sizeof m->implementation, timed ? "cuBLASLt, measured" : "cuBLASLt");
        // of two processes that measure at the same time, both take what the faster one wrote; what is spoiled is replaced
        if (timed && !lv_cache_write_first(path, &m->algorithm, sizeof m->algorithm) && !read_choice(gpu, m, path)) {
            m->algorithm = candidates[best].algorithm;
            lv_cache_write(path, &m->algorithm, sizeof m->algorithm);
        }
    }
    free(path);
    return good;
}

// ---- a product's life

static bool prepare(LvCuda *gpu, CudaMatmul *m, bool *has, LvError *error) {
    CudaBlas *blas = gpu->blas;
    LtPreference preference = NULL;
    cuda_enter(gpu);
    if (!blas->handle && !check(blas, blas->lt.cublasLtCreate(&blas->handle), error, "it cannot be started")) return false;
    // what it does not take at all it refuses here or when it is asked for an algorithm
    *has = make_matrices(&blas->lt, m) == LT_OK && make_operation(&blas->lt, m) == LT_OK &&
           make_preference(&blas->lt, &m->product, &preference) == LT_OK && choose(gpu, m, preference);
    if (preference) blas->lt.cublasLtMatmulPreferenceDestroy(preference);
    return true;
}

bool cuda_matmul_get(LvCuda *gpu, const CudaProduct *product, CudaMatmul **out, LvError *error) {
    CudaBlas *blas = gpu->blas;
    LvText key = {0};
    print_product(product, &key);
    CudaMatmul *m = *out = lv_map_get(&blas->products, key.data);
    if (m) {
        m->users++;
        lv_text_free(&key);
        return true;
    }
    bool has = false;
    m = lv_calloc(1, sizeof *m);
    *m = (CudaMatmul){.product = *product, .key = key.data, .users = 1};
    bool good = prepare(gpu, m, &has, error);
    if (has) {
        lv_map_set(&blas->products, m->key, m);
        *out = m;
    } else {
        destroy(&blas->lt, m);
    }
    return good;
}

void cuda_matmul_release(LvCuda *gpu, CudaMatmul *matmul) {
    if (!matmul || --matmul->users > 0) return;
    lv_map_set(&gpu->blas->products, matmul->key, NULL);
    destroy(&gpu->blas->lt, matmul);
}

bool cuda_matmul_run(LvCuda *gpu, CudaMatmul *m, void *y, const void *a, const void *b, const void *vector, const void *add,
                     void *workspace, LvError *error) {
    TuneBuffers at = {.y = y, .a = a, .b = b, .add = add};
    set_vector(gpu->blas, m, vector);
    LtResult result = run(gpu->blas, m, &m->algorithm, &at, workspace, gpu->stream);
    if (result == LT_OK) return true;
    const CudaProduct *p = &m->product;
    check(gpu->blas, result, error, lv_dtype_name(p->operands));
    return lv_error_prefix(error, "a product of %lld x %lld by %lld x %lld", (long long)p->m, (long long)p->k, (long long)p->k,
                           (long long)p->n);
}

const char *cuda_matmul_describe(const CudaMatmul *matmul) { return matmul->implementation; }
