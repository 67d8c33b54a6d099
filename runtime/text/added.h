// Added tokens: those found in a text before it is cut into words.
#ifndef LV_TEXT_ADDED_H
#define LV_TEXT_ADDED_H

#include "base/vec.h"
#include "text/normalize.h"
#include "text/vocabulary.h"

enum { MAX_ADDED_LENGTH = 1024 };  // bytes; a text of n bytes is searched in at most n * MAX_ADDED_LENGTH steps

typedef struct {
    const char *text;
    uint32_t length;
    int32_t id;
    bool special, normalized, single_word, left_strip, right_strip;
} AddedToken;

// Some of the added tokens, ready to be searched for.
typedef struct {
    struct AddedPattern {
        const char *text;
        uint32_t length;
        const AddedToken *token;
    } *patterns;  // by text; no two alike
    size_t count;
    size_t first[257];  // patterns that begin with byte b: [first[b], first[b + 1])
} AddedSet;

typedef struct {
    LV_VEC(AddedToken) tokens;
    Vocabulary vocabulary;     // of these alone
    AddedSet raw, normalized;  // searched for before and after normalizing
    LvArena *arena;
} AddedTokens;

void added_init(AddedTokens *added, LvArena *arena);
void added_free(AddedTokens *added);
bool added_push(AddedTokens *added, AddedToken token, LvError *error);
// When all are there. The texts of those searched for after normalizing are normalized too.
bool added_finish(AddedTokens *added, const Normalizer *steps, size_t step_count, LvError *error);

// Walks a text: what stands between tokens, and tokens.
typedef struct {
    const AddedSet *set;
    const char *text;
    size_t length, at, kept;    // search from `at`; before `kept` all is told
    const AddedToken *waiting;  // found, told after the text before it
    size_t waiting_end;
} AddedWalk;

void added_walk(AddedWalk *walk, const AddedSet *set, const char *text, size_t length);
// The next piece: text[*begin … *end) if *token is NULL, else that token. False at the end.
bool added_next(AddedWalk *walk, const AddedToken **token, size_t *begin, size_t *end);

#endif
