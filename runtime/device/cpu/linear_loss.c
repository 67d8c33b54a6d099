// LV_STEP_LINEAR_LOSS: vocabulary projection and cross-entropy by blocks of rows, so that the logits are never whole in memory,
// and over the rows that count alone, which are gathered first. Of each block: logits = x weight^T by the library, the step's
// kernel over the rows, then dx = d weight and dweight += d^T x by the library. A block is tall enough that reading and writing
// dweight once more for each costs little beside its products; what is left goes in blocks of half the height, a quarter, an eighth.
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cpu/onednn.h"

enum { SIZES = 4, SMALLEST = 32, TALLEST = 1024, LEAST_TALL = 256, BLOCK_BYTES = 8 << 20 };

typedef enum { PRODUCT_LOGITS, PRODUCT_DX, PRODUCT_FIRST_DWEIGHT, PRODUCT_DWEIGHT, PRODUCTS } Product;

struct LvLinearLoss {
    LvCpu *cpu;
    LvModule *module;
    size_t bytes;         // of `memory`
    int64_t n, width, classes;
    int64_t rows[SIZES];  // of a block, each half of the one before
    bool narrow;          // operands are bf16
    LvStep steps[SIZES][PRODUCTS];
    LvOperand operands[SIZES][PRODUCTS][4];
    LvCall *calls[SIZES][PRODUCTS];
    // one block of memory
    void *memory;
    char *x;              // [rows, C] of those that count
    float *logits;        // [rows, V], then their gradient
    char *gradient;       // [rows, V] as the library takes it: `logits`, or in bf16
    float *dx;            // [rows, C]
    float *dloss, *loss;  // [rows]
    int32_t *target;      // [rows]
    int64_t *row;         // [N] numbers of the rows that count
};

// ---- making it

static LvOperand matrix(int64_t rows, int64_t columns, LvDType dtype, int64_t offset) {
    return (LvOperand){{LV_ARENA_ACTIVATIONS, offset}, dtype, lv_shape(2, (int64_t[]){rows, columns}), lv_layout_row_major()};
}

static void describe_products(LvLinearLoss *l, int size) {
    LvDType type = l->narrow ? LV_BF16 : LV_F32;
    int64_t rows = l->rows[size];
    LvOperand x = matrix(rows, l->width, type, 0), weight = matrix(l->classes, l->width, type, 64);
    LvOperand logits = matrix(rows, l->classes, LV_F32, 128), d = matrix(rows, l->classes, type, 192);
    LvOperand dx = matrix(rows, l->width, LV_F32, 256), dweight = matrix(l->classes, l->width, LV_F32, 320);
    const LvOperand *of[PRODUCTS][3] = {{&logits, &x, &weight}, {&dx, &d, &weight}, {&dweight, &d, &x}, {&dweight, &d, &x}};
    for (int p = 0; p < PRODUCTS; p++) {
        LvStep *step = &l->steps[size][p];
        LvOperand *operands = l->operands[size][p];
        bool adds = p == PRODUCT_DWEIGHT;
        for (int i = 0; i < 3; i++) operands[i] = *of[p][i];
        operands[3] = operands[0];  // what is added to stands in the destination already
        *step = (LvStep){.kind = LV_STEP_MATMUL, .label = "linear cross-entropy", .operand_count = adds ? 4 : 3, .operands = operands};
        step->matmul = (LvMatmulStep){.transpose_a = p >= PRODUCT_FIRST_DWEIGHT, .transpose_b = p == PRODUCT_LOGITS,
                                      .has_residual = adds, .alpha = 1};
    }
}

static size_t take(size_t *total, size_t bytes) {
    size_t at = *total;
    *total += (bytes + 63) / 64 * 64;
    return at;
}

// Where the parts of the call's own memory lie from `base` on; its bytes.
static size_t lay_out(LvLinearLoss *l, char *base) {
    size_t total = 0, element = l->narrow ? 2 : 4, rows = (size_t)l->rows[0], n = (size_t)l->n;
    size_t width = (size_t)l->width, classes = (size_t)l->classes;
    size_t x = take(&total, rows * width * element), logits = take(&total, rows * classes * 4);
    size_t gradient = l->narrow ? take(&total, rows * classes * 2) : logits, dx = take(&total, rows * width * 4);
    size_t dloss = take(&total, rows * 4), loss = take(&total, rows * 4), target = take(&total, rows * 4), row = take(&total, n * 8);
    l->x = base + x, l->logits = (float *)(base + logits), l->gradient = base + gradient, l->dx = (float *)(base + dx);
    l->dloss = (float *)(base + dloss), l->loss = (float *)(base + loss), l->target = (int32_t *)(base + target);
    l->row = (int64_t *)(base + row);
    return total;
}

static bool allocate(LvLinearLoss *l, LvError *error) {
    size_t bytes = lay_out(l, NULL);
    if (!l->cpu->base.ops->allocate(&l->cpu->base, bytes, &l->memory, error)) return lv_error_prefix(error, "logits");
    lay_out(l, l->memory);
    l->cpu->library->own_bytes += l->bytes = bytes;
    return true;
}

static int products_of(const LvStep *step) { return step->linear_loss.gradient ? PRODUCTS : PRODUCT_LOGITS + 1; }

static void choose_sizes(LvLinearLoss *l, const LvStep *step) {
    const LvOperand *x = &step->operands[step->linear_loss.gradient ? 3 : 1], *weight = x + 1;
    l->narrow = x->dtype == LV_BF16;
    l->n = x->shape.dim[0], l->width = x->shape.dim[1], l->classes = weight->shape.dim[0];
    int64_t tall = BLOCK_BYTES / (4 * l->classes);
    tall = tall < LEAST_TALL ? LEAST_TALL : tall > TALLEST ? TALLEST : tall;
    l->rows[0] = l->n < tall ? l->n : tall;
    for (int size = 1; size < SIZES; size++) {
        int64_t half = (l->rows[size - 1] / 2 + 7) / 8 * 8;
        l->rows[size] = half < SMALLEST ? l->rows[size - 1] : half;
    }
    for (int size = 0; size < SIZES; size++) describe_products(l, size);
}

size_t linear_loss_sizes(const LvStep *step, void *user, void each(void *user, const LvStep *product)) {
    LvLinearLoss *l = lv_calloc(1, sizeof *l);
    choose_sizes(l, step);
    for (int size = 0; size < SIZES; size++) {
        for (int p = 0; p < products_of(step); p++) each(user, &l->steps[size][p]);
    }
    size_t bytes = lay_out(l, NULL);
    free(l);
    return bytes;
}

bool linear_loss_create(LvCpu *cpu, LvModule *module, const LvStep *step, LvLinearLoss **out, LvError *error) {
    LvDType type = step->operands[step->linear_loss.gradient ? 3 : 1].dtype;
    if (type != LV_F32 && type != LV_BF16)
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "no vocabulary losses in %s on the CPU", lv_dtype_name(type));
    LvLinearLoss *l = *out = lv_calloc(1, sizeof *l);
    l->cpu = cpu, l->module = module;
    choose_sizes(l, step);
    if (!allocate(l, error)) return false;
    for (int size = 0; size < SIZES; size++) {
        for (int p = 0; p < products_of(step); p++) {
            if (!cpu_call_prepare(cpu, NULL, &l->steps[size][p], &l->calls[size][p], error)) return false;
        }
    }
    return true;
}

void linear_loss_destroy(LvLinearLoss *l) {
    if (!l) return;
    for (int size = 0; size < SIZES; size++) {
        for (int p = 0; p < PRODUCTS; p++) cpu_call_discard(l->cpu, l->calls[size][p]);
    }
    l->cpu->library->own_bytes -= l->bytes;
    if (l->memory) l->cpu->base.ops->release(&l->cpu->base, l->memory, l->bytes);
    free(l);
}

const char *linear_loss_describe(const LvLinearLoss *l) {
    return cpu_call_describe(l->calls[0][PRODUCT_LOGITS]);
}

// ---- running it

static int64_t find_rows(const LvLinearLoss *l, const int32_t *target, int32_t ignore) {
    int64_t count = 0;
    for (int64_t i = 0; i < l->n; i++) {
        if (target[i] >= 0 && target[i] < l->classes && target[i] != ignore) l->row[count++] = i;
    }
    return count;
}

typedef struct {
    const char *x;  // the step's operands, by what they are
    char *weight, *dweight;
    const int32_t *target;
    const float *dloss;
    float *dx, *loss;
} Buffers;

static Buffers buffers_of(const LvStep *step, char *const *at) {
    if (!step->linear_loss.gradient)
        return (Buffers){.loss = (float *)at[0], .x = at[1], .weight = at[2], .target = (const int32_t *)at[3]};
    return (Buffers){.dx = (float *)at[0], .dweight = at[1], .loss = (float *)at[2], .x = at[3], .weight = at[4],
                     .target = (const int32_t *)at[5], .dloss = (const float *)at[6]};
}

// Rows first … first + count - 1 of those that count, padded with zeros to the block's height.
static void gather_rows(const LvLinearLoss *l, const Buffers *b, int64_t first, int64_t count, int64_t height) {
    size_t bytes = (size_t)l->width * (l->narrow ? 2 : 4);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < height; i++) {
        int64_t from = i < count ? l->row[first + i] : -1;
        if (from >= 0) memcpy(l->x + (size_t)i * bytes, b->x + (size_t)from * bytes, bytes);
        else memset(l->x + (size_t)i * bytes, 0, bytes);
        l->target[i] = from >= 0 ? b->target[from] : 0;
        l->dloss[i] = from >= 0 && b->dloss ? b->dloss[from] : 0;
    }
}

static void scatter_rows(const LvLinearLoss *l, const Buffers *b, int64_t first, int64_t count) {
    size_t bytes = (size_t)l->width * 4;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        b->loss[l->row[first + i]] = l->loss[i];
        if (b->dx) memcpy(b->dx + l->row[first + i] * l->width, l->dx + i * l->width, bytes);
    }
}

static bool run_product(LvCpu *cpu, const LvLinearLoss *l, int size, Product p, void *y, void *a, void *b, LvError *error) {
    return cpu_call_run(cpu, l->calls[size][p], (char *[]){y, a, b, y}, error);
}

static bool run_block(LvCpu *cpu, const LvLinearLoss *l, const LvStep *step, const Buffers *b, int64_t first, int64_t count, int size,
                      LvError *error) {
    bool gradient = step->linear_loss.gradient;
    gather_rows(l, b, first, count, l->rows[size]);
    if (!run_product(cpu, l, size, PRODUCT_LOGITS, l->logits, l->x, b->weight, error)) return false;
    LvScalar scalars[3] = {{.i = l->rows[size]}, {.i = gradient}, {.i = l->narrow}};
    char *const buffers[5] = {(char *)l->logits, (char *)l->loss, (char *)l->target, (char *)l->dloss, l->gradient};
    cpu_kernels_launch(l->module, step->kernel, buffers, scalars);
    if (gradient && !(run_product(cpu, l, size, PRODUCT_DX, l->dx, l->gradient, b->weight, error) &&
                      run_product(cpu, l, size, first ? PRODUCT_DWEIGHT : PRODUCT_FIRST_DWEIGHT, b->dweight, l->gradient, l->x, error)))
        return false;
    scatter_rows(l, b, first, count);
    return true;
}

bool linear_loss_run(LvCpu *cpu, const LvLinearLoss *l, const LvStep *step, char *const *at, LvError *error) {
    Buffers b = buffers_of(step, at);
    const LvDeviceOps *ops = cpu->base.ops;
    int64_t count = find_rows(l, b.target, step->linear_loss.ignore), first = 0;
    memset(b.loss, 0, (size_t)l->n * sizeof *b.loss);
    if (b.dx && count < l->n && !ops->zero(&cpu->base, b.dx, (size_t)(l->n * l->width) * sizeof *b.dx, error)) return false;
    if (b.dx && !count) return ops->zero(&cpu->base, b.dweight, (size_t)(l->classes * l->width) * sizeof(float), error);
    while (first < count) {
        int size = 0;
        while (size < SIZES - 1 && l->rows[size] > count - first) size++;
        int64_t rows = count - first < l->rows[size] ? count - first : l->rows[size];
        if (!run_block(cpu, l, step, &b, first, rows, size, error)) return false;
        first += rows;
    }
    return true;
}
