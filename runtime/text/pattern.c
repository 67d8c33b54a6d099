// Searching with PCRE2, and its bounds:
// - PCRE2 counts steps of one start position, though compiled code counts few of them. A start that needs more than FIRST_STEPS
//   is tried again with more, and what it may use is taken from the text's budget.
// - A call tries a window of starts; between calls the time is looked at, first the wall's, which costs nothing, then this
//   thread's own, so that a busy machine does no harm.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "text/utf8.h"

enum {
    MAX_REGEX = 16384,  // longer ones are no tokenizer's; bounds the time of compiling
    FIRST_STEPS = 10000,
    MOST_STEPS = 2560000,  // FIRST_STEPS * 16^2, and 4 more per byte of text
    BUDGET = 64000000,     // steps, and 64 more per byte of text
    HEAP_KIB = 65536,
    WINDOW = 64,   // start positions
    SECONDS = 10,  // and 1 more per million bytes of text
};

struct Pattern {
    pcre2_code *code;  // NULL: a literal
    char *text;        // as the file writes it
    size_t length;
};

static bool compile_error(int number, size_t offset, LvError *error) {
    PCRE2_UCHAR message[160];
    pcre2_get_error_message(number, message, sizeof message);
    return lv_error_set(error, LV_ERROR_FORMAT, "a regular expression is wrong near its byte %zu: %s", offset, (char *)message);
}

bool pattern_regex(Pattern **pattern, const char *regex, size_t length, LvError *error) {
    LvText text = {0};
    if (length > MAX_REGEX) {
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "a regular expression of %zu bytes; the longest taken is %d", length,
                            MAX_REGEX);
    }
    if (!pattern_translate(regex, length, &text, error)) return lv_text_free(&text), false;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int number;
    size_t offset;
    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    }
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)lv_text_get(&text), text.length,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
                                     &number, &offset, context);
    pcre2_compile_context_free(context);
    lv_text_free(&text);
    if (!code) return compile_error(number, offset, error);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it cannot, the interpreter does the work
    *pattern = lv_calloc(1, sizeof **pattern);
    **pattern = (Pattern){code, lv_calloc(length + 1, 1), length};
    if (length) memcpy((*pattern)->text, regex, length);
    return true;
}

Pattern *pattern_literal(const char *text, size_t length) {
    Pattern *pattern = lv_calloc(1, sizeof *pattern);
    *pattern = (Pattern){NULL, lv_calloc(length + 1, 1), length};
    memcpy(pattern->text, text, length);
    return pattern;
}

void pattern_free(Pattern *pattern) {
    if (!pattern) return;
    pcre2_code_free(pattern->code);
    free(pattern->text);
    free(pattern);
}

// ---- searching

static int64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void pattern_budget(PatternBudget *budget, size_t length) {
    *budget = (PatternBudget){
        .steps = BUDGET + 64 * (uint64_t)length, .length = length, .seconds = SECONDS + (int64_t)(length / 1000000)};
    budget->wall = now(CLOCK_MONOTONIC_COARSE);
    budget->cpu = now(CLOCK_THREAD_CPUTIME_ID);
}

static bool is_spent(const PatternBudget *budget) {
    return now(CLOCK_MONOTONIC_COARSE) - budget->wall > (int64_t)2000000000 &&
           now(CLOCK_THREAD_CPUTIME_ID) - budget->cpu > budget->seconds * 1000000000;
}

void pattern_search(PatternSearch *search, const Pattern *pattern, const char *text, size_t length, PatternBudget *budget) {
    *search = (PatternSearch){.pattern = pattern, .text = text, .length = length, .budget = budget};
    if (!length) search->at = 1;  // nothing is found in nothing, not even by an expression that matches it
    if (pattern->code && length) {
        search->data = pcre2_match_data_create(1, NULL);
        search->context = pcre2_match_context_create(NULL);
        if (search->context) pcre2_set_heap_limit(search->context, HEAP_KIB);
    }
}

void pattern_done(PatternSearch *search) {
    pcre2_match_data_free(search->data);
    pcre2_match_context_free(search->context);
}

static bool takes_too_long(const PatternSearch *search, LvError *error) {
    const Pattern *p = search->pattern;
    int shown = p->length > 200 ? 200 : (int)p->length;
    while (shown && !utf8_is_start(p->text[shown])) shown--;  // the closing zero is one
    lv_error_set(error, LV_ERROR_FORMAT, "the tokenizer's pattern %.*s%s takes too long on a text of %zu bytes", shown, p->text,
                 p->length > 200 ? "…" : "", search->budget->length);
    return lv_error_hint(error, "it tries too many ways to match; a shorter text may do");
}

// PCRE2's answer for start positions from search->at to `last`, given more steps as long as the budget holds.
static bool match_within(PatternSearch *search, size_t last, int *answer, LvError *error) {
    uint32_t options = PCRE2_NO_UTF_CHECK;
    uint32_t most = MOST_STEPS + 4 * (uint32_t)search->length;  // a length is at most MAX_TEXT, 2^28
    pcre2_set_offset_limit(search->context, last);
    for (uint32_t steps = FIRST_STEPS;;) {
        pcre2_set_match_limit(search->context, steps);
        *answer = pcre2_match(search->pattern->code, (PCRE2_SPTR)search->text, search->length, search->at, options,
                              search->data, search->context);
        if (*answer == PCRE2_ERROR_JIT_STACKLIMIT) {
            options |= PCRE2_NO_JIT;  // the interpreter has the heap
        } else if (*answer == PCRE2_ERROR_MATCHLIMIT) {
            if (steps >= most || search->budget->steps < steps) return takes_too_long(search, error);
            search->budget->steps -= steps;
            steps = steps * 16 < most ? steps * 16 : most;
        } else if (*answer == PCRE2_ERROR_HEAPLIMIT || *answer == PCRE2_ERROR_DEPTHLIMIT) {
            return takes_too_long(search, error);
        } else if (*answer < 0 && *answer != PCRE2_ERROR_NOMATCH) {
            return lv_error_set(error, LV_ERROR_MEMORY, "a regular expression could not be run (PCRE2 says %d)", *answer);
        } else {
            return true;
        }
    }
}

static bool match_regex(PatternSearch *search, bool *found, size_t *begin, size_t *end, LvError *error) {
    if (!search->data || !search->context) return lv_error_set(error, LV_ERROR_MEMORY, "no memory for a regular expression");
    for (;;) {
        size_t last = search->length - search->at > WINDOW ? search->at + WINDOW : search->length;
        while (last < search->length && !utf8_is_start(search->text[last])) last++;
        int answer;
        if (!match_within(search, last, &answer, error)) return false;
        if (is_spent(search->budget)) return takes_too_long(search, error);
        if (answer >= 0) {
            const size_t *pair = pcre2_get_ovector_pointer(search->data);
            *found = true;
            *begin = pair[0];
            *end = pair[1] < pair[0] ? pair[0] : pair[1];
            return true;
        }
        if (last == search->length) return *found = false, true;
        search->at = last;  // tried twice, that one
    }
}

static void match_literal(const PatternSearch *search, bool *found, size_t *begin, size_t *end) {
    const Pattern *p = search->pattern;
    const char *at = memmem(search->text + search->at, search->length - search->at, p->text, p->length);
    *found = at != NULL;
    if (at) *begin = (size_t)(at - search->text), *end = *begin + p->length;
}

bool pattern_next(PatternSearch *search, bool *found, size_t *begin, size_t *end, LvError *error) {
    for (;;) {
        *found = false;
        if (search->at > search->length) return true;
        if (!search->pattern->code) match_literal(search, found, begin, end);
        else if (!match_regex(search, found, begin, end, error)) return false;
        if (!*found) return search->at = search->length + 1, true;
        bool again = *begin == *end && search->any && search->last_end == *end;
        if (!again) break;
        search->at += search->at < search->length ? utf8_size(search->text[search->at]) : 1;
    }
    search->any = true;
    search->at = search->last_end = *end;
    return true;
}
