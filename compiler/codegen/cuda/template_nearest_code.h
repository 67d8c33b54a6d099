// Private to nearest_code's templates: where the launches leave what the last one decides by.
#ifndef LV_CODEGEN_CUDA_TEMPLATE_NEAREST_CODE_H
#define LV_CODEGEN_CUDA_TEMPLATE_NEAREST_CODE_H

#include "codegen/cuda/templates.h"

typedef struct {
    int64_t n, d, k;
    int64_t share;     // codes of a block, a multiple of 128
    int64_t shares;    // results of each row: of each block along the codes one, on tensor cores two, of a tile's left and right half
    int64_t squares;   // offset in scratch memory: f32 [N], |x - p|^2
    int64_t found;     // [5][shares][N]: scores of the best, the second, the third; indices of the best and the second
    double doubt;      // rounding of a score, as a part of |x|^2 + distance^2
} NearestCode;

enum { NEAREST_TILE = 128, NEAREST_SAMPLES = 32 };

// Products on tensor cores, in two launches; widens the doubt.
bool nearest_code_mma_takes(const NearestCode *z, const Target *target);
void nearest_code_print_mma(NearestCode *z, const char *name, LvText *out, CudaKernel *made);

#endif
