// The model: a word's characters to symbols, and the merging of neighbours in order of rank.
#ifndef LV_TEXT_BPE_H
#define LV_TEXT_BPE_H

#include "base/vec.h"
#include "text/vocabulary.h"

typedef LV_VEC(int32_t) Symbols;

typedef struct {
    uint64_t pair;  // left id << 32 | right id
    uint32_t rank;
    int32_t id;  // what the two become; -1: a free slot
} Merge;

enum { SMALL_LETTERS = 0x180 };  // beyond all letters of the byte alphabet

typedef struct {
    Vocabulary vocabulary;
    Merge *merges;  // open addressing
    size_t merge_slots, merge_count;
    char *prefix, *suffix;  // continuing_subword_prefix, end_of_word_suffix; "" if none
    size_t prefix_length, suffix_length;
    int32_t unknown;  // id, -1: none, characters that have no token are dropped
    bool fuse_unknown, byte_fallback, ignore_merges;
    int32_t byte_tokens[256];                                     // `<0x0A>`; -1
    int32_t letters[SMALL_LETTERS], last_letters[SMALL_LETTERS];  // ids of characters, within and at the end of a word; -1
} Bpe;

struct BpeNode {
    int32_t previous, next;  // -1: none
};
struct BpeStep {
    uint32_t rank, at;
    int32_t id;
};

// Room for what is being merged, kept from word to word.
typedef struct {
    Symbols symbols;
    LV_VEC(uint32_t) ranks;
    LV_VEC(struct BpeNode) nodes;
    LV_VEC(struct BpeStep) heap;
} BpeScratch;

void bpe_init(Bpe *bpe, LvArena *arena);
void bpe_free(Bpe *bpe);
// The pair of these two tokens, of rank `rank`, becomes the token that their texts together spell.
bool bpe_add_merge(Bpe *bpe, const char *left, size_t left_length, const char *right, size_t right_length, uint32_t rank,
                   LvError *error);
void bpe_finish(Bpe *bpe);  // when all is added
// Adds the ids of a word, whole UTF-8, to `ids`.
void bpe_encode(const Bpe *bpe, BpeScratch *scratch, const char *word, size_t length, Symbols *ids);
void bpe_scratch_free(BpeScratch *scratch);

#endif
