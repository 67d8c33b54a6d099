// Writes byte-level tokenizers as tokenizer.json, so that Hugging Face's tokenizers reads them too.
#ifndef LV_TEXT_WRITE_H
#define LV_TEXT_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "base/vec.h"

struct WrittenMerge {
    int32_t left, right;
};

typedef struct {
    LV_VEC(const char *) tokens;  // by id; the merged ones spell their two parts one after the other
    LV_VEC(struct WrittenMerge) merges;
    int32_t first_special;  // this and all after it are special; the last is the end token
    bool lowercase;
    bool clip;  // words end in `</w>`, a text stands between the last two tokens
} WrittenTokenizer;

void write_tokenizer(const WrittenTokenizer *tokenizer, LvText *json);

#endif
