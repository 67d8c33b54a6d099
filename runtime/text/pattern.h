// Regular expressions as tokenizer files write them: Oniguruma's Ruby syntax, Unicode throughout. Run by PCRE2 after rewriting
// what the two read differently; what cannot be rewritten is refused. Searching is bounded: a pattern that would take for ever
// on a text is an error, never a hang.
#ifndef LV_TEXT_PATTERN_H
#define LV_TEXT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

typedef struct Pattern Pattern;

bool pattern_regex(Pattern **pattern, const char *regex, size_t length, LvError *error);
Pattern *pattern_literal(const char *text, size_t length);  // not empty
void pattern_free(Pattern *pattern);

// What all searches on behalf of one text may take together.
typedef struct {
    uint64_t steps;     // that costly starts may still take
    size_t length;      // of the text
    int64_t wall, cpu;  // when it began, ns
    int64_t seconds;    // of this thread's time
} PatternBudget;

void pattern_budget(PatternBudget *budget, size_t length);

// All matches in a text of whole UTF-8, from left to right.
typedef struct {
    const Pattern *pattern;
    const char *text;
    size_t length, at, last_end;  // search from `at`; the last match ended at `last_end`
    bool any;                     // there was one
    void *data, *context;         // PCRE2's
    PatternBudget *budget;
} PatternSearch;

void pattern_search(PatternSearch *search, const Pattern *pattern, const char *text, size_t length, PatternBudget *budget);
// *found: the next match is text[*begin … *end), which may be empty, but not right after the match before it.
bool pattern_next(PatternSearch *search, bool *found, size_t *begin, size_t *end, LvError *error);
void pattern_done(PatternSearch *search);

// pattern_syntax.c: the same expression in PCRE2's syntax.
bool pattern_translate(const char *regex, size_t length, LvText *out, LvError *error);

#endif
