// The pre-tokenizer: a normalized text cut into words.
#ifndef LV_TEXT_CUT_H
#define LV_TEXT_CUT_H

#include "text/internal.h"

typedef struct {
    bool (*word)(void *context, const char *word, size_t length, LvError *error);  // called for each word, none empty
    void *context;
} WordTaker;

// Room that steps need, one text a step; lv_text_free each.
bool cut_text(const Cut *cuts, size_t count, LvText *rooms, const char *text, size_t length, PatternBudget *budget,
              WordTaker taker, LvError *error);

#endif
