// Tokens by their text and by their id.
#ifndef LV_TEXT_VOCABULARY_H
#define LV_TEXT_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum { MAX_TOKENS = 1 << 22 };  // ids are below: a table by id must fit in memory whatever a file claims

typedef struct {
    const char *text;  // closed by a zero
    uint32_t length;
    int32_t id;
} Token;

typedef struct {
    Token *slots;  // open addressing; text NULL: free
    size_t slot_count, count;
    Token *by_id;         // [room], text NULL: no such token
    int32_t limit, room;  // greatest id + 1
    LvArena *arena;       // of the texts
} Vocabulary;

void vocabulary_init(Vocabulary *vocabulary, LvArena *arena);
void vocabulary_free(Vocabulary *vocabulary);
// Refuses a text or an id that is there, and ids out of range. Copies the text.
bool vocabulary_add(Vocabulary *vocabulary, const char *text, size_t length, int64_t id, LvError *error);
int32_t vocabulary_find(const Vocabulary *vocabulary, const char *text, size_t length);  // -1
const Token *vocabulary_at(const Vocabulary *vocabulary, int32_t id);                    // NULL

#endif
