// The shuffle of order.h.
#include "data/order.h"

#include "base/random.h"

enum { ROUNDS = 8, STREAM = 0x6F726472 };

uint64_t order_shuffled(uint64_t seed, uint32_t epoch, uint64_t count, uint64_t position) {
    int half = 1;
    while (half < 31 && (uint64_t)1 << (2 * half) < count) half++;
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, mask = ((uint32_t)1 << half) - 1, out[4];
    do {
        uint32_t left = (uint32_t)(position >> half) & mask, right = (uint32_t)position & mask;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            lv_philox(key, (uint32_t[4]){right, round, STREAM, epoch}, out);
            uint32_t next = left ^ (out[0] & mask);
            left = right, right = next;
        }
        position = (uint64_t)left << half | right;
    } while (position >= count);
    return position;
}
