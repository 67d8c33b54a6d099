// Hash map from strings to pointers, in insertion order when walked by index. Keys are copied.
#ifndef LV_BASE_MAP_H
#define LV_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    struct LvMapEntry {
        char *key;
        void *value;
    } *entries;        // in order of first insertion
    size_t count, capacity;
    size_t *slots;     // entry number + 1, 0 = free
    size_t slot_count; // power of two
} LvMap;

void *lv_map_get(const LvMap *map, const char *key);               // NULL if absent
bool lv_map_has(const LvMap *map, const char *key);
void lv_map_set(LvMap *map, const char *key, void *value);         // adds or replaces
void lv_map_free(LvMap *map);

#endif
