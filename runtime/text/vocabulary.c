// A hash table with linear probing, and an array by id.
#include "text/vocabulary.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

void vocabulary_init(Vocabulary *vocabulary, LvArena *arena) { *vocabulary = (Vocabulary){.arena = arena}; }

void vocabulary_free(Vocabulary *vocabulary) {
    free(vocabulary->slots);
    free(vocabulary->by_id);
    *vocabulary = (Vocabulary){0};
}

static Token *find_slot(const Vocabulary *v, const char *text, size_t length) {
    size_t mask = v->slot_count - 1, at = (size_t)XXH3_64bits(text, length) & mask;
    while (v->slots[at].text && (v->slots[at].length != length || memcmp(v->slots[at].text, text, length) != 0))
        at = (at + 1) & mask;
    return &v->slots[at];
}

static void grow(Vocabulary *v) {
    Token *old = v->slots;
    size_t count = v->slot_count;
    v->slot_count = count ? count * 2 : 512;
    v->slots = lv_calloc(v->slot_count, sizeof *v->slots);
    for (size_t i = 0; i < count; i++) {
        if (old[i].text) *find_slot(v, old[i].text, old[i].length) = old[i];
    }
    free(old);
}

static void reach(Vocabulary *v, int32_t id) {
    if (id < v->limit) return;
    if (id >= v->room) {
        int32_t room = id < 256 ? 512 : id * 2;  // below 2^31, as id < MAX_TOKENS
        v->by_id = lv_realloc(v->by_id, (size_t)room, sizeof *v->by_id);
        memset(v->by_id + v->room, 0, (size_t)(room - v->room) * sizeof *v->by_id);
        v->room = room;
    }
    v->limit = id + 1;
}

bool vocabulary_add(Vocabulary *vocabulary, const char *text, size_t length, int64_t id, LvError *error) {
    int shown = length > 100 ? 100 : (int)length;
    if (id < 0 || id >= MAX_TOKENS) {
        return lv_error_set(error, LV_ERROR_FORMAT, "the token '%.*s' has the id %lld; ids are 0 … %d", shown, text,
                            (long long)id, MAX_TOKENS - 1);
    }
    if (length > 1 << 20) return lv_error_set(error, LV_ERROR_FORMAT, "a token of %zu bytes: '%.*s…'", length, shown, text);
    if (vocabulary->count * 2 >= vocabulary->slot_count) grow(vocabulary);
    Token *slot = find_slot(vocabulary, text, length);
    if (slot->text) return lv_error_set(error, LV_ERROR_FORMAT, "the token '%.*s' is there twice", shown, text);
    const Token *other = vocabulary_at(vocabulary, (int32_t)id);
    if (other) {
        int other_shown = other->length > 100 ? 100 : (int)other->length;
        return lv_error_set(error, LV_ERROR_FORMAT, "the id %lld belongs to two tokens, '%.*s' and '%.*s'", (long long)id,
                            other_shown, other->text, shown, text);
    }
    reach(vocabulary, (int32_t)id);
    *slot = (Token){lv_arena_copy(vocabulary->arena, text, length), (uint32_t)length, (int32_t)id};
    vocabulary->by_id[id] = *slot;
    vocabulary->count++;
    return true;
}

int32_t vocabulary_find(const Vocabulary *vocabulary, const char *text, size_t length) {
    if (!vocabulary->slot_count) return -1;
    const Token *slot = find_slot(vocabulary, text, length);
    return slot->text ? slot->id : -1;
}

const Token *vocabulary_at(const Vocabulary *vocabulary, int32_t id) {
    return id >= 0 && id < vocabulary->limit && vocabulary->by_id[id].text ? &vocabulary->by_id[id] : NULL;
}
