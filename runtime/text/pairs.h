// The heart of training: which neighbours become one.
#ifndef LV_TEXT_PAIRS_H
#define LV_TEXT_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Pairs Pairs;

// Words of `length` symbols in all, one after the other: symbols[i] belongs to the word words[i], which is there counts[word]
// times. Takes `symbols`, to free(); the others must outlive it.
Pairs *pairs_create(int32_t *symbols, const uint32_t *words, size_t length, const uint64_t *counts);
void pairs_destroy(Pairs *pairs);
// The most frequent pair, of equals that of lesser ids. False: none is there `least` times.
bool pairs_best(Pairs *pairs, uint64_t least, int32_t *left, int32_t *right);
void pairs_drop(Pairs *pairs, int32_t left, int32_t right);               // never the best again
void pairs_merge(Pairs *pairs, int32_t left, int32_t right, int32_t id);  // wherever the two are neighbours, they become `id`

#endif
