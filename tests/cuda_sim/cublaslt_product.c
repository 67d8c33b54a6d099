// b is converted to f32 in panels of 16 columns, a in strips of four rows, and a strip goes through all panels. Sums in f32, in the
// order of k; f64 by plain loops.
#include "cublaslt_product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/cublaslt_api.h"
#include "number.h"

enum { ROWS = 4, COLUMNS = 16 };  // of a step

typedef float Vector __attribute__((vector_size(COLUMNS * 4)));

static NumberType number_type(int type) { return type == LT_F32 ? NUMBER_F32 : type == LT_F16 ? NUMBER_F16 : NUMBER_BF16; }

static double load(const void *data, int type, int64_t i) {
    return type == LT_F64 ? ((const double *)data)[i] : (double)number_load(data, number_type(type), i);
}

static void store(void *data, int type, int64_t i, double x) {
    if (type == LT_F64) ((double *)data)[i] = x;
    else number_store(data, number_type(type), i, (float)x);
}

static float factor(const Product *p, const ProductMatrix *m, int64_t batch, int64_t row, int64_t column) {
    const int64_t i = batch * m->batch + row * m->row + column * m->column;
    const float x = number_load(m->data, number_type(m->type), i);
    return p->tf32 ? half_of_bits(half_to_tf32(x)) : x;
}

static void finish(const Product *p, int64_t batch, int64_t row, int64_t column, double sum) {
    double x = p->alpha * sum;
    if (p->beta != 0) x += p->beta * load(p->c.data, p->c.type, batch * p->c.batch + row * p->c.row + column * p->c.column);
    if (p->bias) x += load(p->bias, p->bias_type, batch * p->bias_stride + row);
    if (p->relu && !(x > 0)) x = x != x ? x : 0;
    if (p->gelu) x = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));  // cuBLASLt's is the one by tanh
    store(p->d.data, p->d.type, batch * p->d.batch + row * p->d.row + column * p->d.column, x);
}

#if defined __x86_64__ && defined __GNUC__
__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
static void multiply(const float *restrict a, const float *restrict b, float *restrict sums, int64_t depth) {
    Vector s[ROWS];
    memcpy(s, sums, sizeof s);
    for (int64_t k = 0; k < depth; k++) {
        Vector v;
        memcpy(&v, b + k * COLUMNS, sizeof v);
        for (int r = 0; r < ROWS; r++) s[r] += a[k * ROWS + r] * v;
    }
    memcpy(sums, s, sizeof s);
}

static void row_of_panels(const Product *p, int64_t batch, int64_t row, float *a, const float *b) {
    const int64_t panels = (p->n + COLUMNS - 1) / COLUMNS;
    for (int64_t k = 0; k < p->k; k++) {
        for (int r = 0; r < ROWS; r++) a[k * ROWS + r] = row + r < p->m ? factor(p, &p->a, batch, row + r, k) : 0;
    }
    for (int64_t panel = 0; panel < panels; panel++) {
        float sums[ROWS * COLUMNS] __attribute__((aligned(64))) = {0};
        multiply(a, b + panel * p->k * COLUMNS, sums, p->k);
        for (int r = 0; r < ROWS && row + r < p->m; r++) {
            for (int c = 0; c < COLUMNS && panel * COLUMNS + c < p->n; c++) {
                finish(p, batch, row + r, panel * COLUMNS + c, (double)sums[r * COLUMNS + c]);
            }
        }
    }
}

static void product_f64(const Product *p, int64_t batch) {
    for (int64_t row = 0; row < p->m; row++) {
        for (int64_t column = 0; column < p->n; column++) {
            double sum = 0;
            for (int64_t k = 0; k < p->k; k++) {
                sum += load(p->a.data, LT_F64, batch * p->a.batch + row * p->a.row + k * p->a.column) *
                       load(p->b.data, LT_F64, batch * p->b.batch + k * p->b.row + column * p->b.column);
            }
            finish(p, batch, row, column, sum);
        }
    }
}

// In f32, in the order of k, as the products are summed.
static void sum_operand(const Product *p, int64_t batch) {
    const ProductMatrix *m = p->sums_of_b ? &p->b : &p->a;
    const int64_t along = p->sums_of_b ? m->row : m->column, across = p->sums_of_b ? m->column : m->row;
    for (int64_t i = 0; i < (p->sums_of_b ? p->n : p->m); i++) {
        float sum = 0;
        for (int64_t k = 0; k < p->k; k++) sum += (float)load(m->data, m->type, batch * m->batch + i * across + k * along);
        store(p->sums, p->bias_type, batch * p->bias_stride + i, (double)sum);
    }
}

void product_run(void *product) {
    const Product *p = product;
    const int64_t panels = (p->n + COLUMNS - 1) / COLUMNS;
    for (int64_t batch = 0; p->sums && batch < p->batch; batch++) sum_operand(p, batch);
    if (p->a.type == LT_F64) {
        for (int64_t batch = 0; batch < p->batch; batch++) product_f64(p, batch);
        return;
    }
    float *a = malloc((size_t)(p->k * ROWS) * sizeof *a), *b = malloc((size_t)(panels * p->k * COLUMNS) * sizeof *b);
    if (!a || !b) abort();
    for (int64_t batch = 0; batch < p->batch; batch++) {
        for (int64_t panel = 0; panel < panels; panel++) {
            for (int64_t k = 0; k < p->k; k++) {
                for (int c = 0; c < COLUMNS; c++) {
                    const int64_t column = panel * COLUMNS + c;
                    b[(panel * p->k + k) * COLUMNS + c] = column < p->n ? factor(p, &p->b, batch, k, column) : 0;
                }
            }
        }
        for (int64_t row = 0; row < p->m; row += ROWS) row_of_panels(p, batch, row, a, b);
    }
    free(a);
    free(b);
}
