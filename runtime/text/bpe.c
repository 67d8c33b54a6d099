// Byte-pair encoding (Sennrich et al., 2016): of all neighbours that have a merge, the one of least rank, and of those the
// leftmost, becomes one; until none has. Short words are searched anew each time; long ones keep a heap, O(n log n).
#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

enum { SHORT_WORD = 48 };  // up to which searching a row of ranks beats the heap

void bpe_init(Bpe *bpe, LvArena *arena) {
    *bpe = (Bpe){.prefix = "", .suffix = "", .unknown = -1};
    vocabulary_init(&bpe->vocabulary, arena);
}

void bpe_free(Bpe *bpe) {
    vocabulary_free(&bpe->vocabulary);
    free(bpe->merges);
}

// ---- merges

static Merge *merge_slot(const Bpe *bpe, uint64_t pair) {
    size_t mask = bpe->merge_slots - 1, at = (size_t)(pair * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (bpe->merges[at].id >= 0 && bpe->merges[at].pair != pair) at = (at + 1) & mask;
    return &bpe->merges[at];
}

static const Merge *find_merge(const Bpe *bpe, int32_t left, int32_t right) {
    if (!bpe->merge_slots) return NULL;
    const Merge *merge = merge_slot(bpe, (uint64_t)(uint32_t)left << 32 | (uint32_t)right);
    return merge->id >= 0 ? merge : NULL;
}

static void grow_merges(Bpe *bpe) {
    Merge *old = bpe->merges;
    size_t count = bpe->merge_slots;
    bpe->merge_slots = count ? count * 2 : 512;
    bpe->merges = lv_malloc(bpe->merge_slots * sizeof *bpe->merges);
    for (size_t i = 0; i < bpe->merge_slots; i++) bpe->merges[i].id = -1;
    for (size_t i = 0; i < count; i++) {
        if (old[i].id >= 0) *merge_slot(bpe, old[i].pair) = old[i];
    }
    free(old);
}

static bool no_such_token(const char *text, size_t length, uint32_t rank, LvError *error) {
    return lv_error_set(error, LV_ERROR_FORMAT, "merge %u needs the token '%.*s', which the vocabulary lacks", rank,
                        length > 100 ? 100 : (int)length, text);
}

bool bpe_add_merge(Bpe *bpe, const char *left, size_t left_length, const char *right, size_t right_length, uint32_t rank,
                   LvError *error) {
    int32_t a = vocabulary_find(&bpe->vocabulary, left, left_length),
            b = vocabulary_find(&bpe->vocabulary, right, right_length);
    if (a < 0) return no_such_token(left, left_length, rank, error);
    if (b < 0) return no_such_token(right, right_length, rank, error);
    size_t cut = bpe->prefix_length < right_length ? bpe->prefix_length : right_length;
    size_t length = left_length + right_length - cut;
    char *text = lv_malloc(length + 1);
    memcpy(text, left, left_length);
    memcpy(text + left_length, right + cut, right_length - cut);
    int32_t id = vocabulary_find(&bpe->vocabulary, text, length);
    if (id < 0) no_such_token(text, length, rank, error);
    free(text);
    if (id < 0) return false;
    if (bpe->merge_count * 2 >= bpe->merge_slots) grow_merges(bpe);
    Merge *slot = merge_slot(bpe, (uint64_t)(uint32_t)a << 32 | (uint32_t)b);
    bpe->merge_count += slot->id < 0;
    *slot = (Merge){(uint64_t)(uint32_t)a << 32 | (uint32_t)b, rank, id};  // of two alike the later counts
    return true;
}

// ---- characters to symbols

static int32_t find_character(const Bpe *bpe, const char *c, size_t size, bool first, bool last) {
    LvText text = {0};
    if ((first || !bpe->prefix_length) && (!last || !bpe->suffix_length)) return vocabulary_find(&bpe->vocabulary, c, size);
    if (!first) lv_text_append(&text, bpe->prefix, bpe->prefix_length);
    lv_text_append(&text, c, size);
    if (last) lv_text_append(&text, bpe->suffix, bpe->suffix_length);
    int32_t id = vocabulary_find(&bpe->vocabulary, text.data, text.length);
    lv_text_free(&text);
    return id;
}

void bpe_finish(Bpe *bpe) {
    for (int i = 0; i < SMALL_LETTERS; i++) {
        char c[4];
        size_t size = utf8_put((uint32_t)i, c);
        bpe->letters[i] = vocabulary_find(&bpe->vocabulary, c, size);
        bpe->last_letters[i] = find_character(bpe, c, size, true, true);
    }
    for (int i = 0; i < 256; i++) {
        char name[8];
        int size = snprintf(name, sizeof name, "<0x%02X>", i);
        bpe->byte_tokens[i] = bpe->byte_fallback ? vocabulary_find(&bpe->vocabulary, name, (size_t)size) : -1;
    }
}

// A character that has no token, as its bytes. With all that stands around it: the suffix belongs to the last character.
static bool fall_back(const Bpe *bpe, const char *c, size_t size, bool first, bool last, Symbols *symbols) {
    LvText text = {0};
    bool good = bpe->byte_fallback;
    if (!good) return false;
    if (!first) lv_text_append(&text, bpe->prefix, bpe->prefix_length);
    lv_text_append(&text, c, size);
    if (last) lv_text_append(&text, bpe->suffix, bpe->suffix_length);
    for (size_t i = 0; i < text.length && good; i++) good = bpe->byte_tokens[(unsigned char)text.data[i]] >= 0;
    for (size_t i = 0; i < text.length && good; i++) lv_vec_push(symbols, bpe->byte_tokens[(unsigned char)text.data[i]]);
    lv_text_free(&text);
    return good;
}

static void to_symbols(const Bpe *bpe, const char *word, size_t length, Symbols *symbols) {
    size_t unknown = 0;  // characters that wait to become the unknown token
    for (size_t at = 0; at < length;) {
        size_t begin = at;
        uint32_t code = utf8_next(word, &at);
        bool first = begin == 0, last = at == length, small = code < SMALL_LETTERS && (first || !bpe->prefix_length);
        int32_t id = small ? (last ? bpe->last_letters : bpe->letters)[code]
                           : find_character(bpe, word + begin, at - begin, first, last);
        if (id < 0 && fall_back(bpe, word + begin, at - begin, first, last, symbols)) continue;
        if (id >= 0 || (bpe->unknown >= 0 && unknown && !bpe->fuse_unknown)) {
            if (unknown) lv_vec_push(symbols, bpe->unknown);
            unknown = 0;
        }
        if (id >= 0) lv_vec_push(symbols, id);
        else if (bpe->unknown >= 0) unknown++;
    }
    if (unknown) lv_vec_push(symbols, bpe->unknown);
}

// ---- merging

enum { NO_RANK = UINT32_MAX };

static uint32_t rank_of(const Bpe *bpe, int32_t left, int32_t right) {
    const Merge *merge = find_merge(bpe, left, right);
    return merge ? merge->rank : NO_RANK;
}

static size_t merge_short(const Bpe *bpe, BpeScratch *scratch, int32_t *s, size_t count) {
    lv_vec_reserve(&scratch->ranks, count);
    uint32_t *ranks = scratch->ranks.data;  // [i]: of the pair i, i + 1
    for (size_t i = 0; i + 1 < count; i++) ranks[i] = rank_of(bpe, s[i], s[i + 1]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) best = ranks[i] < ranks[best] ? i : best;
        if (ranks[best] == NO_RANK) break;
        s[best] = find_merge(bpe, s[best], s[best + 1])->id;
        count--;
        memmove(s + best + 1, s + best + 2, (count - best - 1) * sizeof *s);
        memmove(ranks + best, ranks + best + 1, (count - best - 1) * sizeof *ranks);
        if (best) ranks[best - 1] = rank_of(bpe, s[best - 1], s[best]);
        if (best + 1 < count) ranks[best] = rank_of(bpe, s[best], s[best + 1]);
    }
    return count;
}

static bool before(struct BpeStep a, struct BpeStep b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void heap_push(BpeScratch *scratch, struct BpeStep step) {
    lv_vec_push(&scratch->heap, step);
    struct BpeStep *heap = scratch->heap.data;
    size_t at = scratch->heap.count - 1;
    for (; at && before(step, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = step;
}

static struct BpeStep heap_pop(BpeScratch *scratch) {
    struct BpeStep *heap = scratch->heap.data, top = heap[0], last = heap[--scratch->heap.count];
    size_t count = scratch->heap.count, at = 0;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], last)) break;
        heap[at] = heap[child];
    }
    if (count) heap[at] = last;
    return top;
}

static void offer(const Bpe *bpe, BpeScratch *scratch, const int32_t *s, int32_t left, int32_t right) {
    const Merge *merge = left >= 0 && right >= 0 ? find_merge(bpe, s[left], s[right]) : NULL;
    if (merge) heap_push(scratch, (struct BpeStep){merge->rank, (uint32_t)left, merge->id});
}

static size_t merge_long(const Bpe *bpe, BpeScratch *scratch, int32_t *s, size_t count) {
    lv_vec_reserve(&scratch->nodes, count);
    struct BpeNode *nodes = scratch->nodes.data;  // s[i] < 0: merged into one before it
    scratch->heap.count = 0;
    for (size_t i = 0; i < count; i++) nodes[i] = (struct BpeNode){(int32_t)i - 1, i + 1 < count ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i + 1 < count; i++) offer(bpe, scratch, s, (int32_t)i, (int32_t)i + 1);
    while (scratch->heap.count) {
        struct BpeStep step = heap_pop(scratch);
        int32_t at = (int32_t)step.at, next = nodes[at].next;
        if (s[at] < 0 || next < 0) continue;
        const Merge *merge = find_merge(bpe, s[at], s[next]);
        if (!merge || merge->id != step.id) continue;  // offered before its neighbours changed
        s[at] = step.id;
        s[next] = -1;
        nodes[at].next = nodes[next].next;
        if (nodes[next].next >= 0) nodes[nodes[next].next].previous = at;
        offer(bpe, scratch, s, nodes[at].previous, at);
        offer(bpe, scratch, s, at, nodes[at].next);
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (s[i] >= 0) s[kept++] = s[i];
    }
    return kept;
}

void bpe_encode(const Bpe *bpe, BpeScratch *scratch, const char *word, size_t length, Symbols *ids) {
    if (!length) return;
    if (bpe->ignore_merges) {
        int32_t id = vocabulary_find(&bpe->vocabulary, word, length);
        if (id >= 0) {
            lv_vec_push(ids, id);
            return;
        }
    }
    scratch->symbols.count = 0;
    to_symbols(bpe, word, length, &scratch->symbols);
    size_t count = scratch->symbols.count;
    int32_t *s = scratch->symbols.data;
    count = count <= SHORT_WORD ? merge_short(bpe, scratch, s, count) : merge_long(bpe, scratch, s, count);
    lv_vec_reserve(ids, ids->count + count);
    if (count) memcpy(ids->data + ids->count, s, count * sizeof *s);
    ids->count += count;
}

void bpe_scratch_free(BpeScratch *scratch) {
    lv_vec_free(&scratch->symbols);
    lv_vec_free(&scratch->ranks);
    lv_vec_free(&scratch->nodes);
    lv_vec_free(&scratch->heap);
}
