// A batch of matrix products: d = epilogue(alpha a b + beta c + bias); or d = alpha a b + beta c, and sums of a or b over k.
#ifndef LV_CUDA_SIM_CUBLASLT_PRODUCT_H
#define LV_CUDA_SIM_CUBLASLT_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char *data;
    int type;               // LT_F32 ...
    int64_t row, column;    // elements from a row to the next, from a column to the next
    int64_t batch;          // from a matrix to the next
} ProductMatrix;

typedef struct {
    int64_t m, n, k, batch;
    double alpha, beta;
    ProductMatrix a, b, c, d;  // a [m, k], b [k, n]
    bool tf32, relu, gelu;
    const void *bias;          // a number for each row of d; NULL: none
    int bias_type;
    int64_t bias_stride;
    void *sums;                // a number for each row of a, or each column of b; NULL: none. Type and stride are the bias's
    bool sums_of_b;
} Product;

void product_run(void *product);

#endif
