// An independent check of a plan of memory: runs the units over a shadow of the arenas that remembers of every byte range
// which value's bytes it holds, and fails where a unit would read anything but the value it asks for. Shares nothing with
// the planner: it knows no live ranges, only what is written and read when.
#include "base/error.h"
#include "memory/memory.h"
#include "ops/op.h"

// What a range holds: `bytes` of value `owner` from `origin` on. Owner -1: what the variables held before the run.
typedef struct {
    LvArenaKind arena;
    int64_t begin, end;
    int owner;
    int64_t origin;
} Segment;

typedef struct {
    const MemoryPlan *plan;
    const Schedule *schedule;
    LvArena *arena;
    LV_VEC(Segment) segments;
} Shadow;

static void shadow_write(Shadow *shadow, LvPlace place, int64_t bytes, int owner, int64_t origin) {
    int64_t begin = place.offset, end = begin + bytes;
    if (bytes == 0) return;
    for (size_t i = 0; i < shadow->segments.count;) {
        Segment *s = &shadow->segments.data[i];
        if (s->arena != place.arena || s->end <= begin || end <= s->begin) {
            i++;
            continue;
        }
        Segment old = *s;
        *s = shadow->segments.data[--shadow->segments.count];
        if (old.begin < begin) {
            Segment left = {old.arena, old.begin, begin, old.owner, old.origin};
            lv_vec_push(&shadow->segments, left);
        }
        if (end < old.end) {
            Segment right = {old.arena, end, old.end, old.owner, old.origin + (end - old.begin)};
            lv_vec_push(&shadow->segments, right);
        }
    }
    Segment written = {place.arena, begin, end, owner, origin};
    lv_vec_push(&shadow->segments, written);
}

static bool shadow_holds(const Shadow *shadow, LvPlace place, int64_t bytes, int owner, int64_t origin) {
    int64_t covered = 0;
    for (size_t i = 0; i < shadow->segments.count; i++) {
        const Segment *s = &shadow->segments.data[i];
        int64_t begin = s->begin > place.offset ? s->begin : place.offset;
        int64_t end = s->end < place.offset + bytes ? s->end : place.offset + bytes;
        if (s->arena != place.arena || begin >= end) continue;
        if (s->owner != owner || s->origin + (begin - s->begin) != origin + (begin - place.offset)) return false;
        covered += end - begin;
    }
    return covered == bytes;
}

// The value whose bytes `value` is made of, and where in them it starts.
static int owner_of(const Shadow *shadow, const Value *value, int64_t *origin) {
    *origin = 0;
    while (shadow->schedule->alias_of && shadow->schedule->alias_of[value->id]) {
        *origin += shadow->schedule->alias_offset[value->id] * (int64_t)lv_dtype_size(value->dtype);
        value = shadow->schedule->alias_of[value->id];
    }
    if (value->node->op == OP_state_read) {
        *origin += shadow->plan->variables.places[node_int(value->node, ATTR_variable, -1)].offset;
        return -1;
    }
    return value->id;
}

static bool holds_value(const Shadow *shadow, LvPlace place, const Value *value) {
    int64_t origin;
    int owner = owner_of(shadow, value, &origin);
    if (shadow_holds(shadow, place, value_span(value), owner, origin)) return true;
    if (value->node->op != OP_pack) return false;
    for (int i = 0; i < value->node->input_count; i++) {  // packed in place: look at each member
        const Value *part = value->node->inputs[i];
        if (!holds_value(shadow, place, part)) return false;
        place.offset += (value_bytes(part) + 63) / 64 * 64;
    }
    return true;
}

static bool places_meet(LvPlace a, int64_t a_bytes, LvPlace b, int64_t b_bytes) {
    return a.arena == b.arena && a.offset < b.offset + b_bytes && b.offset < a.offset + a_bytes;
}

// Parts of one value with the same pitch, whose rows lie beside each other.
static bool beside(const Shadow *shadow, const Value *a, const Value *b) {
    int64_t from_a, from_b, size = (int64_t)lv_dtype_size(a->dtype), row_a = 1, row_b = 1, pitch = a->layout.pitch * size;
    if (!pitch || a->layout.pitch != b->layout.pitch || a->dtype != b->dtype) return false;
    if (owner_of(shadow, a, &from_a) != owner_of(shadow, b, &from_b)) return false;
    for (int i = a->layout.pitch_place + 1; i < a->shape.rank; i++) row_a *= a->shape.dim[a->layout.perm[i]];
    for (int i = b->layout.pitch_place + 1; i < b->shape.rank; i++) row_b *= b->shape.dim[b->layout.perm[i]];
    int64_t apart = (from_b - from_a) % pitch;
    if (apart < 0) apart += pitch;
    return apart >= row_a * size && apart + row_b * size <= pitch;
}

static const char *check_unit(Shadow *shadow, int at) {
    const Unit *unit = &shadow->schedule->units[at];
    for (int i = 0; i < unit->operand_count; i++) {
        const Value *value = unit->operands[i].value;
        LvPlace place = memory_place(shadow->plan, value);
        if (!unit->operands[i].written && !holds_value(shadow, place, value)) {
            return lv_arena_printf(shadow->arena, "unit %d: operand %d (%%%d = %s, %s) was overwritten or never written", at, i, value->id,
                                   op_name(value->node->op), value->node->scope);
        }
        if (place.offset + value_span(value) > shadow->plan->arena_bytes[place.arena]) {
            return lv_arena_printf(shadow->arena, "unit %d: operand %d (%%%d) leaves its arena", at, i, value->id);
        }
    }
    for (int i = 0; i < unit->operand_count; i++) {
        if (!unit->operands[i].written) continue;
        LvPlace place = memory_place(shadow->plan, unit->operands[i].value);
        int64_t bytes = value_span(unit->operands[i].value), origin;
        int owner = owner_of(shadow, unit->operands[i].value, &origin);
        for (int k = 0; k < unit->operand_count; k++) {
            LvPlace other = memory_place(shadow->plan, unit->operands[k].value);
            if (unit->operands[i].value->node->op == OP_pack) continue;  // writes only what is not its own member
            if (k == i || !places_meet(place, bytes, other, value_span(unit->operands[k].value))) continue;
            if (beside(shadow, unit->operands[i].value, unit->operands[k].value)) continue;
            if (unit->operands[k].written || k != unit->operands[i].in_place || other.offset != place.offset) {
                return lv_arena_printf(shadow->arena, "unit %d: operand %d (%%%d = %s) overwrites operand %d (%%%d = %s)", at, i,
                                       unit->operands[i].value->id, op_name(unit->operands[i].value->node->op), k,
                                       unit->operands[k].value->id, op_name(unit->operands[k].value->node->op));
            }
        }
        shadow_write(shadow, place, bytes, owner, origin);
    }
    return NULL;
}

static const char *check_copy(Shadow *shadow, const MemoryCopy *copy) {
    if (copy->zero) return NULL;
    if (!holds_value(shadow, copy->from, copy->value)) {
        return lv_arena_printf(shadow->arena, "copy of %%%d: the source was overwritten", copy->value->id);
    }
    int64_t origin;
    int owner = owner_of(shadow, copy->value, &origin);
    shadow_write(shadow, copy->to, copy->bytes, owner, origin);
    return NULL;
}

static const char *check_end(Shadow *shadow) {
    const Graph *graph = shadow->schedule->graph;
    for (size_t i = 0; i < graph->results.count; i++) {
        if (holds_value(shadow, shadow->plan->result_places[i], graph->results.data[i].value)) continue;
        return lv_arena_printf(shadow->arena, "result %s is not where it should be", graph->results.data[i].name);
    }
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_state_write) continue;
        int variable = (int)node_int(node, ATTR_variable, -1);
        if (holds_value(shadow, shadow->plan->variables.places[variable], node->inputs[0])) continue;
        return lv_arena_printf(shadow->arena, "variable %s was not written", graph->variables.data[variable].name);
    }
    return NULL;
}

static void shadow_start(Shadow *shadow) {
    const Graph *graph = shadow->schedule->graph;
    for (LvArenaKind arena = LV_ARENA_PARAMS; arena <= LV_ARENA_CACHE; arena++) {
        shadow_write(shadow, (LvPlace){arena, 0}, shadow->plan->arena_bytes[arena], -1, 0);
    }
    for (size_t i = 0; i < graph->inputs.count; i++) {
        const Value *value = graph->inputs.data[i].value;
        shadow_write(shadow, shadow->plan->input_places[i], value_bytes(value), value->id, 0);
    }
    for (size_t i = 0; i < shadow->plan->literals.count; i++) {
        const Value *value = shadow->plan->literals.data[i];
        shadow_write(shadow, memory_place(shadow->plan, value), value_bytes(value), value->id, 0);
    }
}

static const char *check_all(Shadow *shadow) {
    const char *wrong = NULL;
    for (size_t i = 0; i < shadow->plan->before.count && !wrong; i++) wrong = check_copy(shadow, &shadow->plan->before.data[i]);
    for (int u = 0; u <= shadow->schedule->unit_count && !wrong; u++) {
        for (size_t i = 0; i < shadow->plan->packs.count && !wrong; i++) {
            if (shadow->plan->pack_units.data[i] == u) wrong = check_copy(shadow, &shadow->plan->packs.data[i]);
        }
        if (u < shadow->schedule->unit_count && !wrong) wrong = check_unit(shadow, u);
    }
    for (size_t i = 0; i < shadow->plan->after.count && !wrong; i++) wrong = check_copy(shadow, &shadow->plan->after.data[i]);
    return wrong ? wrong : check_end(shadow);
}

const char *memory_check(const MemoryPlan *plan, const Schedule *schedule, LvArena *arena) {
    Shadow shadow = {.plan = plan, .schedule = schedule, .arena = arena};
    shadow_start(&shadow);
    const char *wrong = check_all(&shadow);
    lv_vec_free(&shadow.segments);
    return wrong;
}
