// Philox draws, as the header defines them.
#include "base/random.h"

#include <math.h>

static void draw(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index, uint32_t out[4]) {
    uint64_t block = index / 4;
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), stream, step};
    lv_philox(key, counter, out);
}

float lv_random_uniform(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index) {
    uint32_t words[4];
    draw(seed, stream, step, index, words);
    return (float)(words[index % 4] >> 8) * 0x1p-24f;
}

float lv_random_normal(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index) {
    uint32_t words[4];
    draw(seed, stream, step, index, words);
    int pair = (int)(index % 4) & ~1;
    float u1 = (float)(words[pair] >> 8) * 0x1p-24f + 0x1p-25f, u2 = (float)(words[pair + 1] >> 8) * 0x1p-24f;
    float r = sqrtf(-2.0f * logf(u1)), angle = 6.283185307f * u2;
    return r * (index % 2 ? sinf(angle) : cosf(angle));
}

uint64_t lv_hash_name(const char *name) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001B3u;
    return hash;
}
