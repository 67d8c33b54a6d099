// What is done to a text before it is cut: the normalizers of a tokenizer file.
#ifndef LV_TEXT_NORMALIZE_H
#define LV_TEXT_NORMALIZE_H

#include "base/text.h"
#include "text/pattern.h"

enum { MAX_TEXT = 1 << 28 };  // bytes that a text may have or grow to: a short rule can make a long text of any short one

typedef enum {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_NFKC,
    NORMALIZE_NFKD,
    NORMALIZE_LOWERCASE,
    NORMALIZE_REPLACE,  // every match of `pattern` by `content`
    NORMALIZE_STRIP,    // white space at the ends
    NORMALIZE_PREPEND,  // `content`, if the text is not empty
} NormalizeKind;

typedef struct {
    NormalizeKind kind;
    Pattern *pattern;
    char *content;
    size_t content_length;
    bool left, right;
} Normalizer;

// `text`, whole UTF-8, becomes its normal form.
bool normalize(const Normalizer *steps, size_t count, LvText *text, PatternBudget *budget, LvError *error);
// Adds `in` with every match replaced.
bool replace_all(const Pattern *pattern, const char *content, size_t content_length, const char *in, size_t length, LvText *out,
                 PatternBudget *budget, LvError *error);

#endif
