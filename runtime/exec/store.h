// The insides of a store, for program.c.
#ifndef LV_EXEC_STORE_H
#define LV_EXEC_STORE_H

#include "base/map.h"
#include "device/device.h"

enum { LV_STORE_ARENAS = LV_ARENA_MOMENTS + 1 };  // PARAMS, STATE, MOMENTS

struct LvStore {
    LvDevice *device;
    int count;
    LvVariable *variables;  // names are the store's own copies
    LvMap by_name;          // (void *)(index + 1)
    void *memory[LV_STORE_ARENAS];
    int64_t bytes[LV_STORE_ARENAS];
    int64_t version;        // counts changes of the variables, from 1
    // Caches: made with the first program that uses them, gone with the last.
    int cache_users, cache_count;
    LvVariable *caches;
    void *cache_memory;
    int64_t cache_bytes;
};

// Whether the plan's variables lie in this store where the plan thinks they do.
bool store_serves(const LvStore *store, const LvPlan *plan, LvError *error);
// A program that uses caches begins and ends to do so; one without is neither refused nor counted.
bool store_share_caches(LvStore *store, const LvPlan *plan, LvError *error);
void store_leave_caches(LvStore *store, const LvPlan *plan);

#endif
