// Elements in memory, of the types that libraries multiply.
#ifndef LV_CUDA_SIM_NUMBER_H
#define LV_CUDA_SIM_NUMBER_H

#include "half.h"

typedef enum { NUMBER_F32, NUMBER_F16, NUMBER_BF16 } NumberType;

static inline float number_load(const void *data, NumberType type, int64_t i) {
    if (type == NUMBER_F32) return ((const float *)data)[i];
    const uint16_t bits = ((const uint16_t *)data)[i];
    return type == NUMBER_F16 ? half_from_f16(bits) : half_from_bf16(bits);
}

static inline void number_store(void *data, NumberType type, int64_t i, float x) {
    if (type == NUMBER_F32) ((float *)data)[i] = x;
    else ((uint16_t *)data)[i] = (uint16_t)(type == NUMBER_F16 ? half_to_f16(x) : half_to_bf16(x));
}

#endif
