// LV_STEP_LINEAR_LOSS: vocabulary projection and cross-entropy by blocks of rows, so that the logits are never whole in memory. Of
// each block: logits = x weight^T by the library, the step's kernel over the rows, then dx = d weight and dweight += d^T x by the
// library. All rows go through, those that do not count too: which ones they are only the device knows, and asking it would
// cost more than they do.
//
// A row of logits takes a multiple of 8 places: the library's fast kernels want rows that start at whole vectors, and
// vocabularies are of any size.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/calls.h"

enum { ALIGNMENT = 64 };

typedef enum { PRODUCT_LOGITS, PRODUCT_DX, PRODUCT_FIRST_DWEIGHT, PRODUCT_DWEIGHT, PRODUCTS } Product;

typedef struct {
    bool gradient, narrow;  // x and weight are bf16 or f16
    LvDType type;           // of x and weight
    int32_t ignore;
    int64_t n, width, classes, stride;  // x [N, C], weight [V, C], logits [rows, stride]
    int64_t rows;           // of a block
    size_t logits_at, narrow_at, scratch;
} Shape;

struct LossCall {
    Shape shape;
    LvModule *module;
    int kernel;
    LvLaunch launch;
    CudaMatmul *matmuls[2][PRODUCTS];  // of whole blocks, of the last one
    char implementation[64];
};

static Shape shape_of(const LvStep *step) {
    const LvOperand *x = &step->operands[step->linear_loss.gradient ? 3 : 1], *weight = x + 1;
    Shape s = {.gradient = step->linear_loss.gradient,
               .narrow = x->dtype != LV_F32,
               .type = x->dtype,
               .ignore = step->linear_loss.ignore,
               .n = x->shape.dim[0],
               .width = x->shape.dim[1],
               .classes = weight->shape.dim[0]};
    s.rows = lv_linear_loss_rows(s.classes, &s.stride);
    if (s.rows > s.n) s.rows = s.n;
    s.logits_at = CUDA_BLAS_WORKSPACE;
    s.narrow_at = s.logits_at + cuda_align((size_t)(s.rows * s.stride) * 4);
    s.scratch = s.narrow_at + (s.gradient && s.narrow ? cuda_align((size_t)(s.rows * s.stride) * 2) : 0);
    return s;
}

size_t cuda_loss_call_scratch(const LvStep *step) { return shape_of(step).scratch; }

// ---- making it

static CudaProduct describe_product(const Shape *s, Product which, int64_t rows) {
    CudaProduct p = {.operands = s->type,
                     .result = LV_F32,
                     .alpha = 1,
                     .count = 1,
                     .alignment_a = ALIGNMENT,
                     .alignment_b = ALIGNMENT,
                     .alignment_y = ALIGNMENT};
    switch (which) {
        case PRODUCT_LOGITS:  // x [rows, C], weight [V, C] transposed
            p.m = rows, p.n = s->classes, p.k = s->width, p.transpose_b = true;
            p.row_a = s->width, p.row_b = s->width, p.row_y = s->stride;
            break;
        case PRODUCT_DX:  // d [rows, V], weight [V, C]
            p.m = rows, p.n = s->width, p.k = s->classes;
            p.row_a = s->stride, p.row_b = s->width, p.row_y = s->width;
            break;
        default:  // d [rows, V] transposed, x [rows, C]
            p.m = s->classes, p.n = s->width, p.k = rows, p.transpose_a = true, p.adds = which == PRODUCT_DWEIGHT;
            p.row_a = s->stride, p.row_b = s->width, p.row_y = s->width;
    }
    return p;
}

static int64_t last_rows(const Shape *s) { return s->n % s->rows ? s->n % s->rows : s->rows; }

static bool get_matmuls(LvCuda *gpu, LossCall *l, bool tf32, LvError *error) {
    const Shape *s = &l->shape;
    for (int last = 0; last < 2; last++) {
        for (int p = 0; p < (s->gradient ? PRODUCTS : PRODUCT_LOGITS + 1); p++) {
            CudaProduct product = describe_product(s, (Product)p, last ? last_rows(s) : s->rows);
            product.tf32 = tf32 && s->type == LV_F32;
            if (!cuda_matmul_get(gpu, &product, &l->matmuls[last][p], error)) return false;
            if (l->matmuls[last][p]) continue;
            return lv_error_set(error, LV_ERROR_UNSUPPORTED,
                                "cuBLASLt has no algorithm for a product of %lld x %lld x %lld in %s", (long long)product.m,
                                (long long)product.n, (long long)product.k, lv_dtype_name(s->type));
        }
    }
    return true;
}

bool cuda_loss_call_create(LvCuda *gpu, const LvModule *module, const LvStep *step, LossCall **out, LvError *error) {
    LossCall *l = *out = lv_calloc(1, sizeof *l);
    *l = (LossCall){
        .shape = shape_of(step), .module = (LvModule *)(uintptr_t)module, .kernel = step->kernel, .launch = step->launches[0]};
    if (l->shape.n > 0 && l->shape.width > 0 && !get_matmuls(gpu, l, cuda_kernels_tf32(module), error)) {
        cuda_loss_call_destroy(gpu, l);
        *out = NULL;
        return false;
    }
    snprintf(l->implementation, sizeof l->implementation, "%s, blocks of %lld rows",
             l->matmuls[0][0] ? cuda_matmul_describe(l->matmuls[0][0]) : "nothing", (long long)l->shape.rows);
    return true;
}

void cuda_loss_call_destroy(LvCuda *gpu, LossCall *l) {
    if (!l) return;
    for (int last = 0; last < 2; last++)
        for (int p = 0; p < PRODUCTS; p++) cuda_matmul_release(gpu, l->matmuls[last][p]);
    free(l);
}

const char *cuda_loss_call_describe(const LossCall *l) { return l->implementation; }

// ---- running it

typedef struct {
    char *dx, *dweight, *loss, *x, *weight, *target, *dloss;  // the step's operands, by what they are
} Operands;

static Operands operands_of(const Shape *s, char *const *at) {
    if (!s->gradient) return (Operands){.loss = at[0], .x = at[1], .weight = at[2], .target = at[3]};
    return (Operands){.dx = at[0], .dweight = at[1], .loss = at[2], .x = at[3], .weight = at[4], .target = at[5], .dloss = at[6]};
}

static bool launch_rows(LvCuda *gpu, const LossCall *l, const Operands *o, int64_t first, int64_t rows, char *scratch,
                        LvError *error) {
    const Shape *s = &l->shape;
    LvLaunch launch = l->launch;
    launch.grid[0] = (int32_t)rows, launch.grid[1] = launch.grid[2] = 1;
    const void *pointers[] = {scratch + s->logits_at, o->target + first * 4, s->gradient ? o->dloss + first * 4 : NULL,
                              o->loss + first * 4, s->gradient && s->narrow ? scratch + s->narrow_at : NULL};
    enum { POINTERS = sizeof pointers / sizeof *pointers };
    uint64_t parameters[POINTERS + 3];
    for (int i = 0; i < POINTERS; i++) parameters[i] = (uint64_t)(uintptr_t)pointers[i];
    parameters[POINTERS] = (uint64_t)rows;
    parameters[POINTERS + 1] = (uint64_t)s->classes;
    parameters[POINTERS + 2] = (uint64_t)(int64_t)s->ignore;
    return cuda_kernels_launch_one(gpu, l->module, l->kernel, 0, launch, parameters, POINTERS + 3, error);
}

static bool run_block(LvCuda *gpu, const LossCall *l, const Operands *o, int64_t first, int64_t rows, char *scratch,
                      LvError *error) {
    const Shape *s = &l->shape;
    CudaMatmul *const *matmuls = l->matmuls[rows != s->rows];
    size_t element = lv_dtype_size(s->type);
    char *x = o->x + (size_t)(first * s->width) * element, *logits = scratch + s->logits_at;
    char *d = s->narrow ? scratch + s->narrow_at : logits, *dx = s->gradient ? o->dx + first * s->width * 4 : NULL;
    if (!cuda_matmul_run(gpu, matmuls[PRODUCT_LOGITS], logits, x, o->weight, NULL, NULL, scratch, error) ||
        !launch_rows(gpu, l, o, first, rows, scratch, error))
        return false;
    Product dweight = first ? PRODUCT_DWEIGHT : PRODUCT_FIRST_DWEIGHT;
    return !s->gradient || (cuda_matmul_run(gpu, matmuls[PRODUCT_DX], dx, d, o->weight, NULL, NULL, scratch, error) &&
                            cuda_matmul_run(gpu, matmuls[dweight], o->dweight, d, x, NULL, o->dweight, scratch, error));
}

bool cuda_loss_call_run(LvCuda *gpu, const LossCall *l, char *const *buffers, char *scratch, LvError *error) {
    const Shape *s = &l->shape;
    Operands o = operands_of(s, buffers);
    if (s->n == 0 && s->gradient)
        return gpu->base.ops->zero(&gpu->base, o.dweight, (size_t)(s->classes * s->width) * 4, error);
    for (int64_t first = 0; first < s->n; first += s->rows) {
        int64_t rows = s->n - first < s->rows ? s->n - first : s->rows;
        if (!run_block(gpu, l, &o, first, rows, scratch, error)) return false;
    }
    return true;
}
