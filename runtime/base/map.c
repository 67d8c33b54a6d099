// Open addressing with linear probing; FNV-1a spread by a multiply.
#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static uint64_t hash_of(const char *key) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *key; key++) hash = (hash ^ (unsigned char)*key) * 0x100000001B3u;
    return hash ^ hash >> 29;
}

// The slot that holds `key`, or the free one where it would go.
static size_t *find_slot(const LvMap *map, const char *key) {
    size_t mask = map->slot_count - 1, at = (size_t)hash_of(key) & mask;
    while (map->slots[at] && strcmp(map->entries[map->slots[at] - 1].key, key) != 0) at = (at + 1) & mask;
    return &map->slots[at];
}

static void grow(LvMap *map) {
    map->slot_count = map->slot_count ? map->slot_count * 2 : 16;
    free(map->slots);
    map->slots = lv_calloc(map->slot_count, sizeof *map->slots);
    for (size_t i = 0; i < map->count; i++) *find_slot(map, map->entries[i].key) = i + 1;
}

static struct LvMapEntry *find(const LvMap *map, const char *key) {
    if (map->slot_count == 0) return NULL;
    size_t slot = *find_slot(map, key);
    return slot ? &map->entries[slot - 1] : NULL;
}

void *lv_map_get(const LvMap *map, const char *key) {
    struct LvMapEntry *entry = find(map, key);
    return entry ? entry->value : NULL;
}

bool lv_map_has(const LvMap *map, const char *key) { return find(map, key) != NULL; }

void lv_map_set(LvMap *map, const char *key, void *value) {
    struct LvMapEntry *entry = find(map, key);
    if (entry) {
        entry->value = value;
        return;
    }
    if (map->count * 2 >= map->slot_count) grow(map);
    if (map->count == map->capacity) {
        map->capacity = map->capacity ? map->capacity * 2 : 16;
        map->entries = lv_realloc(map->entries, map->capacity, sizeof *map->entries);
    }
    map->entries[map->count++] = (struct LvMapEntry){lv_strdup(key), value};
    *find_slot(map, key) = map->count;
}

void lv_map_free(LvMap *map) {
    for (size_t i = 0; i < map->count; i++) free(map->entries[i].key);
    free(map->entries);
    free(map->slots);
    *map = (LvMap){0};
}
