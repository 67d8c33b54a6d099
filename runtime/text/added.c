// Of the tokens that begin leftmost, the longest. The patterns lie sorted; each further byte of the text narrows a range of
// them.
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

void added_init(AddedTokens *added, LvArena *arena) {
    *added = (AddedTokens){.arena = arena};
    vocabulary_init(&added->vocabulary, arena);
}

void added_free(AddedTokens *added) {
    lv_vec_free(&added->tokens);
    vocabulary_free(&added->vocabulary);
    free(added->raw.patterns);
    free(added->normalized.patterns);
}

bool added_push(AddedTokens *added, AddedToken token, LvError *error) {
    if (token.length > MAX_ADDED_LENGTH) {
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "an added token of %u bytes; the longest taken is %d", token.length,
                            MAX_ADDED_LENGTH);
    }
    if (!vocabulary_add(&added->vocabulary, token.text, token.length, token.id, error)) return false;
    token.text = vocabulary_at(&added->vocabulary, token.id)->text;
    lv_vec_push(&added->tokens, token);
    return true;
}

// By text, a shorter one before those it begins; of two alike the special one first, then the one that was added first.
static int compare(const void *a, const void *b) {
    const struct AddedPattern *p = a, *q = b;
    size_t least = p->length < q->length ? p->length : q->length;
    int order = memcmp(p->text, q->text, least);
    if (order) return order;
    if (p->length != q->length) return p->length < q->length ? -1 : 1;
    if (p->token->special != q->token->special) return p->token->special ? -1 : 1;
    return p->token < q->token ? -1 : p->token > q->token;
}

static void finish_set(AddedSet *set) {
    size_t kept = 0;
    if (set->count) qsort(set->patterns, set->count, sizeof *set->patterns, compare);
    for (size_t i = 0; i < set->count; i++) {
        struct AddedPattern p = set->patterns[i], *last = kept ? &set->patterns[kept - 1] : NULL;
        if (last && last->length == p.length && !memcmp(last->text, p.text, p.length)) continue;
        set->patterns[kept++] = p;
    }
    set->count = kept;
    for (size_t b = 0, i = 0; b <= 256; b++) {
        while (i < kept && (unsigned char)set->patterns[i].text[0] < b) i++;
        set->first[b] = i;
    }
}

bool added_finish(AddedTokens *added, const Normalizer *steps, size_t step_count, LvError *error) {
    size_t count = added->tokens.count;
    PatternBudget budget;
    pattern_budget(&budget, 0);
    added->raw.patterns = lv_malloc((count + 1) * sizeof *added->raw.patterns);
    added->normalized.patterns = lv_malloc((count + 1) * sizeof *added->raw.patterns);
    for (size_t i = 0; i < count; i++) {
        const AddedToken *token = &added->tokens.data[i];
        AddedSet *set = token->normalized ? &added->normalized : &added->raw;
        struct AddedPattern pattern = {token->text, token->length, token};
        if (token->normalized) {
            LvText text = {0};
            lv_text_append(&text, token->text, token->length);
            bool good = normalize(steps, step_count, &text, &budget, error);
            if (good && text.length > MAX_ADDED_LENGTH) {
                good = lv_error_set(error, LV_ERROR_UNSUPPORTED, "an added token grows over %d bytes when it is normalized",
                                    MAX_ADDED_LENGTH);
            }
            if (good) pattern.text = lv_arena_copy(added->arena, lv_text_get(&text), text.length);
            pattern.length = (uint32_t)text.length;
            lv_text_free(&text);
            if (!good) return false;
        }
        if (pattern.length) set->patterns[set->count++] = pattern;
    }
    finish_set(&added->raw);
    finish_set(&added->normalized);
    return true;
}

// ---- searching

// The longest pattern that text begins with, or NULL.
static const struct AddedPattern *longest(const AddedSet *set, const char *text, size_t length) {
    unsigned char first = (unsigned char)text[0];
    size_t low = set->first[first], high = set->first[first + 1];
    const struct AddedPattern *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        if (set->patterns[low].length == depth) best = &set->patterns[low++];
        if (depth == length) break;
        unsigned char next = (unsigned char)text[depth];
        size_t end = high;
        for (size_t from = low; from < end;) {  // to the first that has at least `next` here
            size_t middle = (from + end) / 2;
            if ((unsigned char)set->patterns[middle].text[depth] < next) from = middle + 1;
            else end = middle;
        }
        low = end;
        for (size_t from = low; from < high;) {  // to the first that has more
            size_t middle = (from + high) / 2;
            if ((unsigned char)set->patterns[middle].text[depth] <= next) from = middle + 1;
            else high = middle;
        }
    }
    return best;
}

static uint32_t code_before(const char *text, size_t at) {
    do at--;
    while (at && !utf8_is_start(text[at]));
    return utf8_next(text, &at);
}

static bool stands_alone(const char *text, size_t length, size_t begin, size_t end) {
    size_t at = end;
    if (begin && utf8_is_word(code_before(text, begin))) return false;
    return end == length || !utf8_is_word(utf8_next(text, &at));
}

void added_walk(AddedWalk *walk, const AddedSet *set, const char *text, size_t length) {
    *walk = (AddedWalk){.set = set, .text = text, .length = length};
}

// A token found at [begin, end): takes the spaces that it may take, and that the token before it left.
static void widen(const AddedWalk *walk, const AddedToken *token, size_t *begin, size_t *end) {
    while (token->left_strip && *begin > walk->kept && utf8_is_space(code_before(walk->text, *begin))) {
        do --*begin;
        while (!utf8_is_start(walk->text[*begin]));
    }
    if (token->left_strip && *begin < walk->kept) *begin = walk->kept;
    for (size_t at = *end; token->right_strip && at < walk->length && utf8_is_space(utf8_next(walk->text, &at));) *end = at;
}

bool added_next(AddedWalk *walk, const AddedToken **token, size_t *begin, size_t *end) {
    *token = walk->waiting;
    if (*token) {
        walk->waiting = NULL;
        *begin = *end = walk->kept = walk->waiting_end;
        return true;
    }
    while (walk->set->count && walk->at < walk->length) {
        const struct AddedPattern *found = longest(walk->set, walk->text + walk->at, walk->length - walk->at);
        if (!found) {
            walk->at++;
            continue;
        }
        size_t from = walk->at, to = from + found->length;
        walk->at = to;
        if (found->token->single_word && !stands_alone(walk->text, walk->length, from, to)) continue;
        widen(walk, found->token, &from, &to);
        if (from >= to) {  // nothing is left of it
            walk->kept = to;
            continue;
        }
        *begin = walk->kept, *end = from;
        if (*begin < *end) {
            walk->waiting = found->token;
            walk->waiting_end = to;
        } else {
            *token = found->token;
            walk->kept = to;
        }
        return true;
    }
    *begin = walk->kept, *end = walk->length;
    walk->kept = walk->length;
    return *begin < *end;
}
