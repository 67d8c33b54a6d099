// Storages and live ranges: one walk over the units. A storage lives from the unit that writes it to the last that reads
// it or anything that aliases it.
#include "base/error.h"
#include "memory/memory.h"
#include "ops/op.h"

int64_t value_span(const Value *value) {
    return value->layout.pitch ? lv_layout_span(value->layout, value->shape) * (int64_t)lv_dtype_size(value->dtype) : value_bytes(value);
}

static int storage_of(Liveness *live, Value *value);

static int storage_new(Liveness *live, Value *value) {
    Op op = value->node->op;
    bool given = op == OP_input || op == OP_state_read || op == OP_literal;
    Storage storage = {.root = value, .bytes = value_bytes(value), .first = -1, .last = -1, .writer = -1, .in_place_of = -1,
                       .place = {LV_ARENA_ACTIVATIONS, -1}, .given = given};
    lv_vec_push(&live->storages, storage);
    return (int)live->storages.count - 1;
}

static int storage_of(Liveness *live, Value *value) {
    Home *home = &live->homes[value->id];
    if (home->storage >= 0) return home->storage;
    Value *base = live->schedule->alias_of ? live->schedule->alias_of[value->id] : NULL;
    if (!base) {
        if (value->layout.pitch) lv_internal_error("memory: %%%d lies in another value, and in none", value->id);
        home->storage = storage_new(live, value);
        return home->storage;
    }
    int storage = storage_of(live, base);  // may move no homes: homes is an array by id
    int64_t offset = live->schedule->alias_offset ? live->schedule->alias_offset[value->id] : 0;
    home->offset = live->homes[base->id].offset + offset * (int64_t)lv_dtype_size(value->dtype);
    home->storage = storage;
    if (home->offset < 0 || home->offset + value_span(value) > live->storages.data[storage].bytes) {
        lv_internal_error("memory: alias %%%d leaves its storage %%%d", value->id, live->storages.data[storage].root->id);
    }
    return storage;
}

static void find_writes(Liveness *live, int at, const Unit *unit) {
    for (int i = 0; i < unit->operand_count; i++) {
        if (!unit->operands[i].written) continue;
        Value *value = unit->operands[i].value;
        int index = storage_of(live, value);
        Storage *storage = &live->storages.data[index];
        if (storage->given) lv_internal_error("memory: unit %d writes %%%d, which is given", at, value->id);
        if (storage->writer < 0) storage->writer = storage->first = at;  // parts of one storage may come from several units
        if (storage->last < at) storage->last = at;
    }
}

static void find_reads(Liveness *live, int at, const Unit *unit) {
    for (int i = 0; i < unit->operand_count; i++) {
        if (unit->operands[i].written) continue;
        Value *value = unit->operands[i].value;
        int index = storage_of(live, value);  // may move `storages`
        Storage *storage = &live->storages.data[index];
        if (storage->last < at) storage->last = at;
    }
}

Liveness *liveness_find(const Schedule *schedule, LvArena *arena) {
    Liveness *live = LV_NEW(arena, Liveness);
    live->schedule = schedule;
    live->value_count = schedule->graph->next_value;
    live->homes = LV_NEW_ARRAY(arena, Home, live->value_count + 1);
    for (int i = 0; i <= live->value_count; i++) live->homes[i].storage = -1;
    for (int i = 0; i < schedule->unit_count; i++) {
        find_writes(live, i, &schedule->units[i]);
        find_reads(live, i, &schedule->units[i]);
    }
    return live;
}
