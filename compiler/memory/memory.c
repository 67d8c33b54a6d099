// The plan of memory: decides for every storage whether it may live in a place that must hold its value in the end (a
// variable that is written, a result, the packed gradients), whether it may take over the memory of an operand that dies,
// and lets place.c find room for the rest. What cannot be computed in place is copied, before the first unit or after the last.
//
// Arenas are zero when they are made, and nothing writes between the members of a pack: its gaps stay zero.
#include "memory/memory.h"

#include <string.h>

#include "base/error.h"
#include "ops/op.h"

typedef struct {
    MemoryPlan *plan;
    const Schedule *schedule;
    const Graph *graph;
    LvArena *arena;
    int end;         // time after the last unit
    bool *pinned;    // storages whose place is decided
    int *merged;     // storage that this one became a part of, -1
    size_t room;     // of the two arrays
} Planner;

static int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

static bool ranges_meet(LvPlace a, int64_t a_bytes, LvPlace b, int64_t b_bytes) {
    return a.arena == b.arena && a.offset < b.offset + b_bytes && b.offset < a.offset + a_bytes;
}

static Storage *storage_at(const Planner *p, int index) { return &p->plan->live->storages.data[index]; }

static const Home *home_of(const Planner *p, const Value *value) { return &p->plan->live->homes[value->id]; }

static int new_storage(Planner *p, Value *root, int64_t bytes, int first, int last) {
    Storage storage = {.root = root, .bytes = bytes, .first = first, .last = last, .writer = -1, .in_place_of = -1,
                       .place = {LV_ARENA_ACTIVATIONS, -1}};
    lv_vec_push(&p->plan->live->storages, storage);
    size_t index = p->plan->live->storages.count - 1;
    if (index >= p->room) lv_internal_error("memory: too many copies");
    p->merged[index] = -1;
    return (int)index;
}

static LvPlace take(Planner *p, LvArenaKind kind, int64_t bytes) {
    LvPlace place = {kind, p->plan->arena_bytes[kind]};
    p->plan->arena_bytes[kind] += round_up(bytes);
    return place;
}

static void pin(Planner *p, int storage, LvPlace place) {
    storage_at(p, storage)->place = place;
    p->pinned[storage] = true;
}

static Value *alias_base(const Schedule *schedule, const Value *value) {
    return schedule->alias_of ? schedule->alias_of[value->id] : NULL;
}

static MemoryCopy copy_of(Value *value, LvPlace to) {
    return (MemoryCopy){.value = value, .bytes = value_bytes(value), .to = to, .to_storage = -1, .from_storage = -1};
}

static void keep_until(Planner *p, int storage, int time) {
    Storage *s = storage_at(p, storage);
    if (s->last < time) s->last = time;
}

// ---- what is given: variables, inputs, literals

// A root value that no unit touches, yet a result or a write needs it: it must be given.
static int require_home(Planner *p, Value *value, const char *what) {
    Liveness *live = p->plan->live;
    if (live->homes[value->id].storage >= 0) return live->homes[value->id].storage;
    Value *base = alias_base(p->schedule, value);
    if (base) {
        int storage = require_home(p, base, what);
        int64_t offset = p->schedule->alias_offset ? p->schedule->alias_offset[value->id] : 0;
        live->homes[value->id] = (Home){storage, live->homes[base->id].offset + offset * (int64_t)lv_dtype_size(value->dtype)};
        return storage;
    }
    Op op = value->node->op;
    if (op != OP_input && op != OP_state_read && op != OP_literal && op != OP_pack) {
        lv_internal_error("memory: %s needs %%%d (%s), which no unit computes", what, value->id, op_name(op));
    }
    int storage = new_storage(p, value, value_bytes(value), -1, -1);
    storage_at(p, storage)->given = op != OP_pack;
    live->homes[value->id].storage = storage;
    return storage;
}

static void place_given(Planner *p) {
    for (size_t i = 0; i < p->plan->live->storages.count; i++) {
        Storage *storage = storage_at(p, (int)i);
        if (!storage->given || p->pinned[i]) continue;
        const Node *node = storage->root->node;
        LvPlace place = {LV_ARENA_IO, -1};
        if (node->op == OP_state_read) {
            place = p->plan->variables.places[node_int(node, ATTR_variable, -1)];
        } else if (node->op == OP_literal) {
            place = take(p, LV_ARENA_CONSTANTS, storage->bytes);
            lv_vec_push(&p->plan->literals, storage->root);
        } else {
            for (size_t k = 0; k < p->graph->inputs.count; k++) {
                if (p->graph->inputs.data[k].value == storage->root) place = p->plan->input_places[k];
            }
        }
        if (place.offset < 0) lv_internal_error("memory: %%%d (%s) is given by nothing", storage->root->id, op_name(node->op));
        pin(p, (int)i, place);
    }
}

// ---- packs: members are computed directly at their places

static int first_reader(const Planner *p, int storage) {
    for (int u = 0; u < p->schedule->unit_count; u++) {
        const Unit *unit = &p->schedule->units[u];
        for (int i = 0; i < unit->operand_count; i++) {
            if (!unit->operands[i].written && home_of(p, unit->operands[i].value)->storage == storage) return u;
        }
    }
    return p->end;
}

static void merge_into(Planner *p, int part, int whole, int64_t offset) {
    Liveness *live = p->plan->live;
    for (int i = 0; i < live->value_count; i++) {
        if (live->homes[i].storage == part) live->homes[i] = (Home){whole, live->homes[i].offset + offset};
    }
    const Storage *from = storage_at(p, part);
    Storage *to = storage_at(p, whole);
    if (to->writer < 0 || from->writer < to->writer) to->writer = from->writer;
    if (to->first < 0 || from->first < to->first) to->first = from->first;
    if (to->last < from->last) to->last = from->last;
    p->merged[part] = whole;
}

static bool is_whole_row_major(const Planner *p, const Value *value) {
    const Home *home = home_of(p, value);
    return home->offset == 0 && storage_at(p, home->storage)->bytes == value_bytes(value) &&
           lv_layout_is_row_major(value->layout, value->shape.rank);
}

static int gradient_pack_of(const Planner *p, const Node *pack) {
    for (size_t i = 0; i < p->graph->variables.count; i++) {
        const Variable *variable = &p->graph->variables.data[i];
        if (variable->is_pack && variable->dtype == pack->results[0].dtype &&
            lv_shape_equal(variable->shape, pack->results[0].shape)) {
            return (int)i;
        }
    }
    return -1;
}

static void place_pack(Planner *p, Node *node) {
    Value *flat = &node->results[0];
    if (home_of(p, flat)->storage < 0 && !alias_base(p->schedule, flat)) return;  // no unit reads it
    int whole = require_home(p, flat, "pack");
    int variable = p->plan->gradient_pack < 0 ? gradient_pack_of(p, node) : -1;
    if (variable >= 0) {
        p->plan->gradient_pack = variable;
        p->plan->gradients = take(p, LV_ARENA_GRADIENTS, value_bytes(flat));
        pin(p, whole, p->plan->gradients);
    }
    if (storage_at(p, whole)->writer >= 0) return;  // a kernel packs
    int reader = first_reader(p, whole);
    int64_t offset = 0;
    for (int i = 0; i < node->input_count; i++) {
        Value *part = node->inputs[i];
        int storage = require_home(p, part, "pack");
        if (storage == whole && home_of(p, part)->offset == offset) {
            // scheduled in place already
        } else if (storage != whole && !storage_at(p, storage)->given && !p->pinned[storage] && p->merged[storage] < 0 &&
            storage_at(p, storage)->writer >= 0 && is_whole_row_major(p, part) && part->dtype == flat->dtype) {
            merge_into(p, storage, whole, offset);
        } else {
            keep_until(p, storage, reader);
            MemoryCopy copy = copy_of(part, (LvPlace){0});
            copy.to_storage = whole;
            copy.to_offset = offset;
            lv_vec_push(&p->plan->packs, copy);
            lv_vec_push(&p->plan->pack_units, reader);
        }
        offset += round_up(value_bytes(part));
    }
    if (variable >= 0) return;
    Storage *storage = storage_at(p, whole);  // in a reused arena the gaps hold old bytes: cleared first
    storage->first = -1;
    MemoryCopy zero = copy_of(flat, (LvPlace){0});
    zero.zero = true;
    zero.to_storage = whole;
    lv_vec_push(&p->plan->before, zero);
}

// ---- what is prepared: places of its own, that no run reuses

static void place_prepared(Planner *p) {
    for (int u = 0; u < p->schedule->prepared_count; u++) {
        const Unit *unit = &p->schedule->units[u];
        for (int i = 0; i < unit->operand_count; i++) {
            int storage = home_of(p, unit->operands[i].value)->storage;
            if (!unit->operands[i].written || p->pinned[storage]) continue;
            pin(p, storage, take(p, LV_ARENA_PREPARED, storage_at(p, storage)->bytes));
        }
    }
}

// ---- variables that are written

static bool variable_is_written(const Planner *p, LvPlace place, int64_t bytes) {
    for GRAPH_EACH(p->graph, node) {
        if (node->op != OP_state_write) continue;
        LvPlace at = p->plan->variables.places[node_int(node, ATTR_variable, -1)];
        if (ranges_meet(at, value_bytes(node->inputs[0]), place, bytes)) return true;
    }
    return false;
}

// Does unit `at` read the old contents of `place`, other than by the operand that `storage` may overwrite in place?
static bool unit_reads_old(const Planner *p, int at, LvPlace place, int64_t bytes, int storage) {
    const Unit *unit = &p->schedule->units[at];
    int allowed = -1;
    if (storage >= 0) {
        for (int i = 0; i < unit->operand_count; i++) {
            if (unit->operands[i].written && home_of(p, unit->operands[i].value)->storage == storage) {
                allowed = unit->operands[i].in_place;
            }
        }
    }
    for (int i = 0; i < unit->operand_count; i++) {
        const Home *home = home_of(p, unit->operands[i].value);
        const Storage *other = storage_at(p, home->storage);
        if (unit->operands[i].written || !other->given) continue;
        LvPlace read = {other->place.arena, other->place.offset + home->offset};
        int64_t read_bytes = value_bytes(unit->operands[i].value);
        if (!ranges_meet(read, read_bytes, place, bytes)) continue;
        if (i == allowed && read.offset == place.offset && read_bytes == bytes) continue;
        return true;
    }
    return false;
}

static bool may_compute_in(const Planner *p, int storage, const Value *value, LvPlace place, LvDType dtype) {
    const Storage *s = storage_at(p, storage);
    if (s->given || p->pinned[storage] || p->merged[storage] >= 0 || s->writer < 0) return false;
    if (!is_whole_row_major(p, value) || value->dtype != dtype) return false;
    for (int u = s->writer; u < p->end; u++) {
        if (unit_reads_old(p, u, place, s->bytes, u == s->writer ? storage : -1)) return false;
    }
    for (size_t i = 0; i < p->plan->packs.count; i++) {
        const Home *home = home_of(p, p->plan->packs.data[i].value);
        const Storage *from = storage_at(p, home->storage);
        if (from->given && ranges_meet(from->place, from->bytes, place, s->bytes)) return false;
    }
    return true;
}

// A copy of `value` to `place` at the end. What the run itself overwrites is saved before the first unit.
static void copy_at_end(Planner *p, Value *value, int storage, LvPlace place) {
    Storage *s = storage_at(p, storage);
    bool overwritten = s->given && s->root->node->op == OP_state_read &&
                       variable_is_written(p, s->place, s->bytes);
    MemoryCopy copy = copy_of(value, place);
    if (!overwritten) {
        keep_until(p, storage, p->end);
        lv_vec_push(&p->plan->after, copy);
        return;
    }
    if (place.arena == LV_ARENA_IO) {  // nothing else uses a result's place: save it there at once
        lv_vec_push(&p->plan->before, copy);
        return;
    }
    copy.from_storage = new_storage(p, value, copy.bytes, -1, p->end);
    MemoryCopy save = copy_of(value, (LvPlace){0});
    save.to_storage = copy.from_storage;
    lv_vec_push(&p->plan->before, save);
    lv_vec_push(&p->plan->after, copy);
}

static void place_writes(Planner *p) {
    for GRAPH_EACH(p->graph, node) {
        if (node->op != OP_state_write) continue;
        int64_t variable = node_int(node, ATTR_variable, -1);
        Value *value = node->inputs[0];
        int storage = require_home(p, value, "state_write");
        place_given(p);
        LvPlace place = p->plan->variables.places[variable];
        Storage *s = storage_at(p, storage);
        if (s->given && s->root->node->op == OP_state_read && node_int(s->root->node, ATTR_variable, -1) == variable &&
            is_whole_row_major(p, value)) {
            continue;  // written with what it was
        }
        if (may_compute_in(p, storage, value, place, p->graph->variables.data[variable].dtype)) pin(p, storage, place);
        else copy_at_end(p, value, storage, place);
    }
}

static void place_results(Planner *p) {
    for (size_t i = 0; i < p->graph->results.count; i++) {
        Value *value = p->graph->results.data[i].value;
        int storage = require_home(p, value, "result");
        place_given(p);
        LvPlace place = p->plan->result_places[i];
        const Storage *s = storage_at(p, storage);
        bool free_to_go = !s->given && !p->pinned[storage] && p->merged[storage] < 0 && s->writer >= 0;
        if (free_to_go && is_whole_row_major(p, value)) pin(p, storage, place);
        else copy_at_end(p, value, storage, place);
    }
}

// ---- taking over memory

static bool may_take_over(const Planner *p, int at, int writes, int reads) {
    const Unit *unit = &p->schedule->units[at];
    const Home *to = home_of(p, unit->operands[writes].value), *from = home_of(p, unit->operands[reads].value);
    const Storage *s = storage_at(p, to->storage), *r = storage_at(p, from->storage);
    if (s->given || r->given || to->storage == from->storage || p->pinned[to->storage] || p->pinned[from->storage]) return false;
    if (to->offset || from->offset || s->bytes != r->bytes || s->writer != at || s->first != at || r->last != at) return false;
    if (value_bytes(unit->operands[writes].value) != s->bytes) return false;
    if (value_bytes(unit->operands[reads].value) != r->bytes) return false;
    if (s->in_place_of >= 0) return false;
    for (int i = 0; i < unit->operand_count; i++) {
        if (i != reads && home_of(p, unit->operands[i].value)->storage == from->storage) return false;
        if (i != writes && unit->operands[i].written &&
            storage_at(p, home_of(p, unit->operands[i].value)->storage)->in_place_of == from->storage) {
            return false;
        }
    }
    return true;
}

static void take_over(Planner *p) {
    for (int u = 0; u < p->end; u++) {
        const Unit *unit = &p->schedule->units[u];
        for (int i = 0; i < unit->operand_count; i++) {
            if (!unit->operands[i].written || unit->operands[i].in_place < 0) continue;
            int reads = unit->operands[i].in_place;
            if (reads >= unit->operand_count || unit->operands[reads].written) {
                lv_internal_error("memory: unit %d: operand %d cannot be in place of operand %d", u, i, reads);
            }
            if (!may_take_over(p, u, i, reads)) continue;
            storage_at(p, home_of(p, unit->operands[i].value)->storage)->in_place_of =
                home_of(p, unit->operands[reads].value)->storage;
        }
    }
}

static int group_of(const Planner *p, int storage) {
    while (storage_at(p, storage)->in_place_of >= 0) storage = storage_at(p, storage)->in_place_of;
    return storage;
}

// ---- the rest: activations

static void place_activations(Planner *p) {
    int count = (int)p->plan->live->storages.count, used = 0;
    Interval *intervals = LV_NEW_ARRAY(p->arena, Interval, count + 1);
    int *interval_of = LV_NEW_ARRAY(p->arena, int, count + 1);
    for (int i = 0; i < count; i++) interval_of[i] = -1;
    for (int i = 0; i < count; i++) {
        const Storage *s = storage_at(p, i);
        if (p->pinned[i] || p->merged[i] >= 0 || s->given) continue;
        int group = group_of(p, i);
        if (interval_of[group] < 0) {
            interval_of[group] = used;
            intervals[used++] = (Interval){.bytes = s->bytes, .first = s->first, .last = s->last};
        }
        Interval *interval = &intervals[interval_of[i] = interval_of[group]];
        if (s->bytes > interval->bytes) interval->bytes = s->bytes;
        if (s->first < interval->first) interval->first = s->first;
        if (s->last > interval->last) interval->last = s->last;
    }
    p->plan->arena_bytes[LV_ARENA_ACTIVATIONS] = intervals_place(intervals, used, p->arena);
    p->plan->lower_bound = intervals_lower_bound(intervals, used, p->arena);
    for (int i = 0; i < count; i++) {
        if (interval_of[i] >= 0) storage_at(p, i)->place.offset = intervals[interval_of[i]].offset;
    }
}

static LvPlace place_within(const Planner *p, int storage, int64_t offset) {
    LvPlace place = storage_at(p, storage)->place;
    if (place.offset < 0) lv_internal_error("memory: %%%d has no place", storage_at(p, storage)->root->id);
    return (LvPlace){place.arena, place.offset + offset};
}

// Copies were noted by storage, before places were known.
static void resolve_copies(Planner *p, MemoryCopy *copies, size_t count) {
    for (size_t i = 0; i < count; i++) {
        MemoryCopy *copy = &copies[i];
        if (copy->to_storage >= 0) copy->to = place_within(p, copy->to_storage, copy->to_offset);
        if (copy->zero) copy->from = (LvPlace){LV_ARENA_COUNT, -1};
        else if (copy->from_storage >= 0) copy->from = place_within(p, copy->from_storage, 0);
        else copy->from = memory_place(p->plan, copy->value);
    }
}

LvPlace memory_place(const MemoryPlan *plan, const Value *value) {
    const Home *home = &plan->live->homes[value->id];
    if (home->storage < 0) lv_internal_error("memory: %%%d (%s) has no storage", value->id, op_name(value->node->op));
    LvPlace place = plan->live->storages.data[home->storage].place;
    if (place.offset < 0) lv_internal_error("memory: %%%d (%s) has no place", value->id, op_name(value->node->op));
    return (LvPlace){place.arena, place.offset + home->offset};
}

static LvPlace *place_ports(Planner *p, const GraphPort *ports, size_t count) {
    LvPlace *places = LV_NEW_ARRAY(p->arena, LvPlace, count + 1);
    for (size_t i = 0; i < count; i++) places[i] = take(p, LV_ARENA_IO, value_bytes(ports[i].value));
    return places;
}

MemoryPlan *memory_plan(const Schedule *schedule, LvArena *arena) {
    MemoryPlan *plan = LV_NEW(arena, MemoryPlan);
    const Graph *graph = schedule->graph;
    plan->variables = variables_place(graph, arena);
    memcpy(plan->arena_bytes, plan->variables.bytes, sizeof plan->arena_bytes);
    plan->gradient_pack = -1;
    plan->gradients = (LvPlace){LV_ARENA_GRADIENTS, -1};
    plan->live = liveness_find(schedule, arena);
    size_t room = plan->live->storages.count + 2 * (size_t)graph->node_count + 2 * graph->results.count + 16;
    Planner p = {.plan = plan, .schedule = schedule, .graph = graph, .arena = arena, .end = schedule->unit_count,
                 .pinned = LV_NEW_ARRAY(arena, bool, room), .merged = LV_NEW_ARRAY(arena, int, room), .room = room};
    for (size_t i = 0; i < room; i++) p.merged[i] = -1;
    plan->input_places = place_ports(&p, graph->inputs.data, graph->inputs.count);
    plan->result_places = place_ports(&p, graph->results.data, graph->results.count);
    place_given(&p);
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_pack) place_pack(&p, node);
    }
    place_given(&p);
    place_prepared(&p);
    place_writes(&p);
    place_results(&p);
    take_over(&p);
    place_activations(&p);
    resolve_copies(&p, plan->before.data, plan->before.count);
    resolve_copies(&p, plan->packs.data, plan->packs.count);
    resolve_copies(&p, plan->after.data, plan->after.count);
    return plan;
}

void memory_plan_free(MemoryPlan *plan) {
    lv_vec_free(&plan->live->storages);
    lv_vec_free(&plan->before);
    lv_vec_free(&plan->after);
    lv_vec_free(&plan->packs);
    lv_vec_free(&plan->pack_units);
    lv_vec_free(&plan->literals);
}
