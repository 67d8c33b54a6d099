// Places of variables. Trained parameters lie flat in PARAMS, in the order and at the offsets of their pack, so that one
// optimizer update walks them end to end; gradients lie in GRADIENTS at the same offsets. Depends on the model's variables
// alone, which every entry lists alike: `train` and `eval` share one store; but of entries that run alone only what they read or write
// has a place. Caches have places only where the graph uses one; then
// all have, so that those who use some agree.
#include "base/error.h"
#include "memory/memory.h"

static int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

static LvPlace take(int64_t *bytes, LvArenaKind kind, int64_t size) {
    LvPlace place = {kind, bytes[kind]};
    bytes[kind] += round_up(size);
    return place;
}

static int64_t variable_bytes(const Variable *variable) {
    size_t bytes;
    if (!lv_shape_bytes(variable->shape, variable->dtype, &bytes) || bytes > INT64_MAX / 2) {
        lv_internal_error("memory: variable %s is too large", variable->name);
    }
    return (int64_t)bytes;
}

static LvArenaKind arena_of(const Variable *variable) {
    switch (variable->kind) {
        case LV_VARIABLE_PARAM: return LV_ARENA_PARAMS;
        case LV_VARIABLE_OPTIMIZER:
        case LV_VARIABLE_TRAINER: return LV_ARENA_MOMENTS;
        case LV_VARIABLE_CACHE: return LV_ARENA_CACHE;
        default: return LV_ARENA_STATE;
    }
}

static bool *find_wanted(const Graph *graph, LvArena *arena) {
    bool *wanted = LV_NEW_ARRAY(arena, bool, graph->variables.count + 1);
    for (size_t i = 0; i < graph->variables.count; i++) wanted[i] = !graph->alone || graph->variables.data[i].reads_beside;
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_state_read || node->op == OP_state_write) wanted[node_int(node, ATTR_variable, 0)] = true;
    }
    return wanted;
}

VariablePlaces variables_place(const Graph *graph, LvArena *arena) {
    VariablePlaces at = {.places = LV_NEW_ARRAY(arena, LvPlace, graph->variables.count + 1)};
    const bool caches = graph_uses_caches(graph), *wanted = find_wanted(graph, arena);
    for (size_t i = 0; i < graph->variables.count; i++) {  // packs first: their members lie within
        const Variable *variable = &graph->variables.data[i];
        at.places[i] = (LvPlace){arena_of(variable), -1};
        if (variable->is_pack && wanted[i]) at.places[i] = take(at.bytes, arena_of(variable), variable_bytes(variable));
    }
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *variable = &graph->variables.data[i];
        if (variable->is_pack) continue;
        if (variable->kind == LV_VARIABLE_CACHE && !caches) continue;
        bool within = variable->pack >= 0 && wanted[variable->pack];
        if (!within) {
            if (wanted[i]) at.places[i] = take(at.bytes, arena_of(variable), variable_bytes(variable));
            continue;
        }
        const Variable *pack = &graph->variables.data[variable->pack];
        int64_t offset = variable->pack_offset * (int64_t)lv_dtype_size(pack->dtype);
        if (variable->dtype != pack->dtype || offset + variable_bytes(variable) > variable_bytes(pack) || offset % 64) {
            lv_internal_error("memory: variable %s does not fit its pack", variable->name);
        }
        at.places[i] = (LvPlace){at.places[variable->pack].arena, at.places[variable->pack].offset + offset};
    }
    return at;
}
