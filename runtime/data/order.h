// Which sample stands where in an epoch: a shuffled order that needs no memory, so that any position can be asked for by
// any thread. A Feistel network of 8 rounds over Philox permutes the next even power of two; positions that fall outside
// the data set walk on until they fall inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
#ifndef LV_DATA_ORDER_H
#define LV_DATA_ORDER_H

#include <stdint.h>

// The sample at position < count of this epoch: a permutation of 0 .. count - 1.
uint64_t order_shuffled(uint64_t seed, uint32_t epoch, uint64_t count, uint64_t position);

#endif
