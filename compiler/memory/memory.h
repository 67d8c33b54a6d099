// Where every value lives. Live ranges over the order of units; places in the arenas of plan.h.
#ifndef LV_MEMORY_MEMORY_H
#define LV_MEMORY_MEMORY_H

#include "base/plan.h"
#include "graph/graph.h"
#include "schedule/unit.h"

// ---- variables.c: the same places in every entry of a model with the same settings

typedef struct {
    LvPlace *places;  // by variable
    int64_t bytes[LV_ARENA_COUNT];
} VariablePlaces;

VariablePlaces variables_place(const Graph *graph, LvArena *arena);

// ---- live.c: storages and their live ranges

// One piece of memory: a value with storage of its own, and whatever aliases it.
typedef struct {
    Value *root;
    int64_t bytes;
    int first, last;  // units at which it holds data, both inclusive; -1: before the first unit; unit_count: to the end
    int writer;       // the unit that writes it, -1: given (input, variable, literal) or copied in
    int in_place_of;  // storage whose memory it takes over, -1: none
    LvPlace place;    // offset -1: not placed yet
    bool given;
} Storage;

typedef struct {
    int storage;     // -1: the value has none (it was fused away)
    int64_t offset;  // bytes from the storage's start
} Home;

typedef struct {
    const Schedule *schedule;
    LV_VEC(Storage) storages;
    Home *homes;  // by value id
    int value_count;
} Liveness;

// Storages of all values that the units touch, their writers and readers. Results and state writes are the caller's.
Liveness *liveness_find(const Schedule *schedule, LvArena *arena);
int64_t value_span(const Value *value);  // from its first to behind its last: more than its bytes where it lies in another with a pitch

// ---- place.c: intervals into one arena

typedef struct {
    int64_t bytes;
    int first, last;
    int64_t offset;  // result, a multiple of 64
} Interval;

int64_t intervals_place(Interval *intervals, int count, LvArena *arena);       // the arena's bytes
int64_t intervals_lower_bound(const Interval *intervals, int count, LvArena *arena);  // most bytes alive at once

// ---- memory.c: the plan of memory

typedef struct {
    LvPlace to, from;  // from.offset -1: zeros
    int64_t bytes;
    Value *value;      // what is copied
    int to_storage;    // where `to` is not a place known beforehand: a storage and bytes from its start, -1
    int64_t to_offset;
    int from_storage;  // where the source is not the value's own home: a saved copy, -1
    bool zero;
} MemoryCopy;

typedef struct {
    VariablePlaces variables;
    Liveness *live;
    LvPlace *input_places, *result_places;  // by port
    LvPlace gradients;                       // where the packed gradients are; offset -1: this entry has none
    int gradient_pack;                       // variable that they are the gradient of, -1
    int64_t arena_bytes[LV_ARENA_COUNT];
    int64_t lower_bound;                     // of the activations
    LV_VEC(MemoryCopy) before, after;        // copies before the first unit and after the last
    LV_VEC(MemoryCopy) packs;                // copies into packed gradients, in order of `pack_unit`
    LV_VEC(int) pack_units;                  // unit before which each of them must run
    LV_VEC(Value *) literals;                // in the constants arena
} MemoryPlan;

MemoryPlan *memory_plan(const Schedule *schedule, LvArena *arena);
void memory_plan_free(MemoryPlan *plan);  // what is not in the arena
LvPlace memory_place(const MemoryPlan *plan, const Value *value);

void memory_print(const MemoryPlan *plan, const Schedule *schedule, LvText *out);  // print.c: what there is at the fullest moment

// check.c: an independent check that no two live values overlap; NULL, or what is wrong
const char *memory_check(const MemoryPlan *plan, const Schedule *schedule, LvArena *arena);

#endif
