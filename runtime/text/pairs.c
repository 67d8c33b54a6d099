// Every pair knows how often it is there and where, so that merging one touches its places and their neighbours alone. The
// places are never removed: one that no longer holds the pair is passed over. The heap may hold counts that have sunk since;
// those are put back with what is true now. All in all O(n log n), also in one word of a million letters.
#include "text/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/vec.h"

enum { NOWHERE = UINT32_MAX };

typedef struct {
    int32_t left, right;
    uint64_t count;
    uint32_t stamp;  // the merge in which the count last rose
    bool dropped;
    LV_VEC(uint32_t) places;  // of the left symbol
} Pair;

typedef struct {
    uint64_t count;
    uint32_t pair;
} Candidate;

struct Pairs {
    int32_t *symbols;  // -1: merged into the one before
    const uint32_t *words;
    const uint64_t *counts;
    uint32_t *previous, *next;  // in the same word; NOWHERE
    LV_VEC(Pair) pairs;
    uint32_t *slots;  // open addressing: number of a pair + 1
    size_t slot_count;
    LV_VEC(Candidate) heap;
    LV_VEC(uint32_t) risen;  // in this merge
    uint32_t merge;
};

// ---- the table

static uint32_t *pair_slot(const Pairs *p, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = p->slot_count - 1, at = (size_t)(key * 0x9E3779B97F4A7C15u >> 24) & mask;
    for (; p->slots[at]; at = (at + 1) & mask) {
        const Pair *pair = &p->pairs.data[p->slots[at] - 1];
        if (pair->left == left && pair->right == right) break;
    }
    return &p->slots[at];
}

static void grow(Pairs *p) {
    p->slot_count = p->slot_count ? p->slot_count * 2 : 4096;
    free(p->slots);
    p->slots = lv_calloc(p->slot_count, sizeof *p->slots);
    for (size_t i = 0; i < p->pairs.count; i++) *pair_slot(p, p->pairs.data[i].left, p->pairs.data[i].right) = (uint32_t)i + 1;
}

static void gain(Pairs *p, int32_t left, int32_t right, uint64_t count, uint32_t place) {
    if (p->pairs.count * 2 >= p->slot_count) grow(p);
    uint32_t *slot = pair_slot(p, left, right);
    if (!*slot) {
        lv_vec_push(&p->pairs, (Pair){.left = left, .right = right});
        *slot = (uint32_t)p->pairs.count;
    }
    Pair *pair = &p->pairs.data[*slot - 1];
    pair->count += count;
    lv_vec_push(&pair->places, place);
    if (pair->stamp == p->merge) return;
    pair->stamp = p->merge;
    lv_vec_push(&p->risen, *slot - 1);
}

static void lose(Pairs *p, int32_t left, int32_t right, uint64_t count) {
    uint32_t number = *pair_slot(p, left, right);
    if (number) p->pairs.data[number - 1].count -= count;
}

// ---- the heap

static bool before(const Pairs *p, Candidate a, Candidate b) {
    if (a.count != b.count) return a.count > b.count;
    const Pair *x = &p->pairs.data[a.pair], *y = &p->pairs.data[b.pair];
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static void push(Pairs *p, Candidate candidate) {
    lv_vec_push(&p->heap, candidate);
    Candidate *heap = p->heap.data;
    size_t at = p->heap.count - 1;
    for (; at && before(p, candidate, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = candidate;
}

static Candidate pop(Pairs *p) {
    Candidate *heap = p->heap.data, top = heap[0], last = heap[--p->heap.count];
    size_t count = p->heap.count, at = 0;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(p, heap[child + 1], heap[child])) child++;
        if (!before(p, heap[child], last)) break;
        heap[at] = heap[child];
    }
    if (count) heap[at] = last;
    return top;
}

static void push_risen(Pairs *p) {
    for (size_t i = 0; i < p->risen.count; i++) {
        uint32_t pair = p->risen.data[i];
        if (p->pairs.data[pair].count) push(p, (Candidate){p->pairs.data[pair].count, pair});
    }
    p->risen.count = 0;
}

// ---- the interface

Pairs *pairs_create(int32_t *symbols, const uint32_t *words, size_t length, const uint64_t *counts) {
    Pairs *p = lv_calloc(1, sizeof *p);
    *p = (Pairs){.symbols = symbols, .words = words, .counts = counts, .merge = 1};
    p->previous = lv_malloc((length + 1) * sizeof *p->previous);
    p->next = lv_malloc((length + 1) * sizeof *p->next);
    for (size_t i = 0; i < length; i++) {
        p->previous[i] = i && words[i - 1] == words[i] ? (uint32_t)i - 1 : NOWHERE;
        p->next[i] = i + 1 < length && words[i + 1] == words[i] ? (uint32_t)i + 1 : NOWHERE;
        if (p->previous[i] != NOWHERE) gain(p, symbols[i - 1], symbols[i], counts[words[i]], (uint32_t)i - 1);
    }
    push_risen(p);
    return p;
}

void pairs_destroy(Pairs *pairs) {
    if (!pairs) return;
    for (size_t i = 0; i < pairs->pairs.count; i++) lv_vec_free(&pairs->pairs.data[i].places);
    lv_vec_free(&pairs->pairs);
    lv_vec_free(&pairs->heap);
    lv_vec_free(&pairs->risen);
    free(pairs->symbols);
    free(pairs->previous);
    free(pairs->next);
    free(pairs->slots);
    free(pairs);
}

bool pairs_best(Pairs *pairs, uint64_t least, int32_t *left, int32_t *right) {
    while (pairs->heap.count) {
        Candidate best = pop(pairs);
        const Pair *pair = &pairs->pairs.data[best.pair];
        if (!pair->count || pair->count < least || pair->dropped) continue;
        if (pair->count != best.count) {
            push(pairs, (Candidate){pair->count, best.pair});
            continue;
        }
        *left = pair->left;
        *right = pair->right;
        return true;
    }
    return false;
}

void pairs_drop(Pairs *pairs, int32_t left, int32_t right) {
    pairs->pairs.data[*pair_slot(pairs, left, right) - 1].dropped = true;
}

static int by_place(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void merge_at(Pairs *p, uint32_t at, int32_t left, int32_t right, int32_t id) {
    uint32_t second = p->next[at], before_it = p->previous[at], after = p->next[second];
    uint64_t count = p->counts[p->words[at]];
    if (before_it != NOWHERE) {
        lose(p, p->symbols[before_it], left, count);
        gain(p, p->symbols[before_it], id, count, before_it);
    }
    if (after != NOWHERE) {
        lose(p, right, p->symbols[after], count);
        gain(p, id, p->symbols[after], count, at);
        p->previous[after] = at;
    }
    p->symbols[at] = id;
    p->symbols[second] = -1;
    p->next[at] = after;
}

void pairs_merge(Pairs *pairs, int32_t left, int32_t right, int32_t id) {
    uint32_t number = *pair_slot(pairs, left, right) - 1;
    Pair *pair = &pairs->pairs.data[number];
    uint32_t *places = pair->places.data;  // its own from here on: `pairs` may move
    size_t count = pair->places.count;
    pair->places.data = NULL;
    pair->places.count = pair->places.capacity = 0;
    pairs->merge++;
    if (left == right) qsort(places, count, sizeof *places, by_place);  // of `aaa` the first two
    for (size_t i = 0; i < count; i++) {
        uint32_t at = places[i], second = pairs->next[at];
        bool holds = pairs->symbols[at] == left && second != NOWHERE && pairs->symbols[second] == right;
        if (holds) merge_at(pairs, at, left, right, id);
    }
    pairs->pairs.data[number].count = 0;
    free(places);
    push_risen(pairs);
}
