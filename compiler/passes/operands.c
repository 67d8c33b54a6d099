// Caches that hold operands: what products read, of what they were given. Such a cache is kept as narrow as the products multiply,
// which rounds nothing that they would not round: half the memory, and half of what a step of a sampler reads.
//
// Entries share caches, so all of them must agree: none may do more with one than move elements of it to a product or back into it.
// The driver asks that of every entry's graph and marks the variables (driver/compile.c); precision.c narrows what is marked.
#include "ops/op.h"
#include "passes/pass.h"

static bool moves(const Node *node) {
    return op_info(node->op)->kind == OP_KIND_MOVEMENT || node->op == OP_gather || node->op == OP_dynamic_slice || node->op == OP_dynamic_update;
}

static bool multiplies(const Node *node) { return op_info(node->op)->kind == OP_KIND_CONTRACTION || node->op == OP_attention; }

static bool is_float_cache(const Variable *v) { return v->kind == LV_VARIABLE_CACHE && v->dtype == LV_F32; }

// By value: 1 + the cache whose elements it holds, 0: of none. *otherwise, by variable: what is read by neither products nor itself.
static int *trace_caches(const Graph *graph, bool **otherwise, LvArena *arena) {
    int *held = LV_NEW_ARRAY(arena, int, graph->next_value + 1);
    bool *other = *otherwise = LV_NEW_ARRAY(arena, bool, graph->variables.count + 1);
    for GRAPH_EACH(graph, node) {
        int variable = (int)node_int(node, ATTR_variable, 0);
        if (node->op == OP_state_read && is_float_cache(&graph->variables.data[variable])) held[node->results[0].id] = 1 + variable;
        for (int i = 0; i < node->input_count; i++) {
            int cache = held[node->inputs[i]->id];
            if (!cache || multiplies(node)) continue;
            int *result = moves(node) ? &held[node->results[0].id] : NULL;
            if (result && (*result == 0 || *result == cache)) *result = cache;
            else if (node->op != OP_state_write || variable != cache - 1) other[cache - 1] = true;
        }
    }
    for (size_t i = 0; i < graph->results.count; i++) {
        int cache = held[graph->results.data[i].value->id];
        if (cache) other[cache - 1] = true;
    }
    return held;
}

bool *operands_find(const Graph *graph, LvArena *arena) {
    bool *found;
    trace_caches(graph, &found, arena);
    for (size_t i = 0; i < graph->variables.count; i++) found[i] = is_float_cache(&graph->variables.data[i]) && !found[i];
    return found;
}

// What moves elements of a marked cache moves narrow ones; all others that read them read what is widened.
void operands_narrow(Graph *graph, LvDType dtype, LvArena *arena) {
    bool *otherwise;
    int count = graph->next_value;
    int *held = trace_caches(graph, &otherwise, arena);
    for (size_t i = 0; i < graph->variables.count; i++)
        if (graph->variables.data[i].operands) graph->variables.data[i].dtype = dtype;
    for GRAPH_EACH(graph, node) {
        const Variable *own = node->result_count && held[node->results[0].id] ? &graph->variables.data[held[node->results[0].id] - 1] : NULL;
        if (node->op == OP_state_write) own = &graph->variables.data[node_int(node, ATTR_variable, 0)];
        bool narrow = own && own->operands;
        rewrite_at(graph, node);
        for (int i = 0; i < node->input_count; i++) {
            Value *input = node->inputs[i];
            if (narrow && input->dtype == LV_F32) node->inputs[i] = build_cast(graph, input, dtype);
            else if (!narrow && input->id < count && held[input->id] && input->dtype == dtype) node->inputs[i] = build_cast(graph, input, LV_F32);
        }
        if (narrow && node->result_count) node->results[0].dtype = dtype;
    }
    rewrite_end(graph);
}
