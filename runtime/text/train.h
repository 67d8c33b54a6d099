// Makes a byte-level tokenizer from texts, as the text of a tokenizer.json:
//   ids 0 … 255                the bytes
//   then                       a token a merge, the most frequent pair first, of equals the one of lesser ids
//   then                       the special tokens asked for
//   the last id                `<|endoftext|>`, the end of a caption and what it is padded with
// Words are GPT-2's, text is in NFC. The same texts in the same order, or in any other, give the same file.
#ifndef LV_TEXT_TRAIN_H
#define LV_TEXT_TRAIN_H

#include <stdint.h>

#include "base/text.h"

typedef struct LvBpeTrainer LvBpeTrainer;

typedef struct {
    size_t vocabulary;  // tokens wanted, all counted
    uint64_t least;     // a pair must be there this often to become a token
    bool lowercase;
    const char *const *specials;  // besides the end token
    size_t special_count;
} LvBpeOptions;

typedef struct {
    size_t texts, words, merges, tokens;  // words: different ones; tokens: fewer than wanted where no pair was left
} LvBpeResult;

bool lv_bpe_create(LvBpeTrainer **trainer, const LvBpeOptions *options, LvError *error);  // copies the options
bool lv_bpe_add(LvBpeTrainer *trainer, const char *text, size_t length, LvError *error);
bool lv_bpe_train(LvBpeTrainer *trainer, LvText *json, LvBpeResult *result, LvError *error);
void lv_bpe_destroy(LvBpeTrainer *trainer);

#endif
