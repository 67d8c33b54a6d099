// Intervals of time, each with a number of bytes, into one arena so that no two that live together overlap.
// Greedy by size (Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference"): the largest first,
// each at the best-fitting gap between those already placed that live at the same time. Two more orders are tried (by start,
// by bytes times length); the smallest arena wins. Quadratic in the number of intervals, which are a few thousand.
#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"

typedef struct {
    int index;
    double key;  // larger first
} Rank;

static int compare_ranks(const void *a, const void *b) {
    const Rank *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// `placed` is sorted by offset. The smallest gap that fits, else after the last conflict.
static int64_t best_offset(const Interval *all, const int *placed, int count, const Interval *want) {
    int64_t size = round_up(want->bytes), end = 0, best = -1, best_gap = INT64_MAX;
    for (int i = 0; i < count; i++) {
        const Interval *other = &all[placed[i]];
        if (other->last < want->first || want->last < other->first) continue;
        int64_t gap = other->offset - end;
        if (gap >= size && gap < best_gap) best = end, best_gap = gap;
        int64_t other_end = other->offset + round_up(other->bytes);
        if (other_end > end) end = other_end;
    }
    return best >= 0 ? best : end;
}

static int64_t place_in_order(Interval *all, const Rank *ranks, int count, int *placed) {
    int64_t bytes = 0;
    for (int i = 0; i < count; i++) {
        Interval *interval = &all[ranks[i].index];
        interval->offset = best_offset(all, placed, i, interval);
        int64_t end = interval->offset + round_up(interval->bytes);
        if (end > bytes) bytes = end;
        int at = i;
        while (at > 0 && all[placed[at - 1]].offset > interval->offset) placed[at] = placed[at - 1], at--;
        placed[at] = ranks[i].index;
    }
    return bytes;
}

int64_t intervals_place(Interval *intervals, int count, LvArena *arena) {
    enum { ORDERS = 3 };
    int *placed = LV_NEW_ARRAY(arena, int, count + 1);
    Rank *ranks = LV_NEW_ARRAY(arena, Rank, count + 1);
    Interval *trial = LV_NEW_ARRAY(arena, Interval, count + 1);
    int64_t best = INT64_MAX;
    for (int order = 0; order < ORDERS; order++) {
        memcpy(trial, intervals, (size_t)count * sizeof *trial);
        for (int i = 0; i < count; i++) {
            const Interval *x = &intervals[i];
            double size = (double)x->bytes, length = x->last - x->first + 1;
            ranks[i] = (Rank){i, order == 0 ? size : order == 1 ? -x->first : size * length};
        }
        qsort(ranks, (size_t)count, sizeof *ranks, compare_ranks);
        int64_t bytes = place_in_order(trial, ranks, count, placed);
        if (bytes < best) {
            best = bytes;
            for (int i = 0; i < count; i++) intervals[i].offset = trial[i].offset;
        }
    }
    return count ? best : 0;
}

int64_t intervals_lower_bound(const Interval *intervals, int count, LvArena *arena) {
    int end = 0;
    for (int i = 0; i < count; i++) {
        if (intervals[i].last + 2 > end) end = intervals[i].last + 2;
    }
    int64_t *change = LV_NEW_ARRAY(arena, int64_t, end + 2);  // by time + 1
    for (int i = 0; i < count; i++) {
        change[intervals[i].first + 1] += round_up(intervals[i].bytes);
        change[intervals[i].last + 2] -= round_up(intervals[i].bytes);
    }
    int64_t now = 0, most = 0;
    for (int i = 0; i < end + 2; i++) {
        now += change[i];
        if (now > most) most = now;
    }
    return most;
}
