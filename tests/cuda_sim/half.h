// Conversions of 16-bit and TF32 numbers as the instructions cvt.rn and cvt.rna make them.
#ifndef LV_CUDA_SIM_HALF_H
#define LV_CUDA_SIM_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t half_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float half_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline uint32_t half_to_bf16(float x) {
    if (x != x) return 0x7FFF;
    const uint32_t bits = half_bits_of(x);
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

static inline float half_from_bf16(uint32_t h) { return half_of_bits(h << 16); }

static inline uint32_t half_to_f16(float x) {
    if (x != x) return 0x7FFF;
    const uint32_t bits = half_bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude >= 0x477FF000) return sign | 0x7C00;  // from halfway above the largest on
    if (magnitude >= 0x38800000) {                      // normal: rebias the exponent, round to nearest even
        const uint32_t m = magnitude - 0x38000000;
        return sign | (m + 0xFFF + (m >> 13 & 1)) >> 13;
    }
    if (magnitude <= 0x33000000) return sign;           // half of the smallest, or less
    const uint32_t shift = 126 - (magnitude >> 23), m = (magnitude & 0x7FFFFF) | 0x800000;
    const uint32_t kept = m >> shift, rest = m & ((1u << shift) - 1), half = 1u << (shift - 1);
    return sign | (kept + (rest > half || (rest == half && (kept & 1))));
}

static inline float half_from_f16(uint32_t h) {
    const uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
    if (exponent == 31) return half_of_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent) return half_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    return half_of_bits(sign | half_bits_of((float)fraction * 0x1p-24f));
}

static inline uint32_t half_to_tf32(float x) {
    const uint32_t bits = half_bits_of(x);
    if ((bits & 0x7F800000) == 0x7F800000) return x != x ? 0x7FFFFFFF : bits;
    return (bits + 0x1000) & 0xFFFFE000;  // ties away from zero
}

#endif
