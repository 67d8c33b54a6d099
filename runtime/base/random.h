// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). The same bits on every backend: a value depends
// on (seed, stream, index) alone, never on threads or order.
//
// Element i of a random tensor with stream s, drawn at step t from a run's seed:
//   key = (low 32 bits of seed, high 32 bits of seed), counter = (i / 4 low, i / 4 high, s, t); word i % 4 of the output.
// uniform: (word >> 8) * 2^-24, in [0, 1).
// normal: Box-Muller over the words of a pair: elements 2k and 2k+1 use words 2k % 4 and 2k % 4 + 1 as u1, u2:
//   r = sqrt(-2 ln((u1 >> 8) * 2^-24 + 2^-25)), even: r cos(2 pi u2), odd: r sin(2 pi u2), u2 = (word >> 8) * 2^-24.
#ifndef LV_BASE_RANDOM_H
#define LV_BASE_RANDOM_H

#include <stdint.h>

static inline void lv_philox(const uint32_t key_in[2], const uint32_t counter[4], uint32_t out[4]) {
    uint32_t k0 = key_in[0], k1 = key_in[1], c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

float lv_random_uniform(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index);
float lv_random_normal(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index);
uint64_t lv_hash_name(const char *name);  // FNV-1a, 64 bits; its low half names a stream

#endif
