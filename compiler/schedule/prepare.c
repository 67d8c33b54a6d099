// Which values are prepared: computed once from variables that the plan itself does not write (weights in bf16, products of
// weights), and again only when somebody else has changed the variables. Not in plans that train: there every weight is new.
//
// A prepared value stays in memory, so it may not be much larger than what it is made of; and what a result or a variable must
// hold is put there anew by each run.
#include <string.h>

#include "schedule/internal.h"

// By variable; NULL: the plan trains.
static bool *find_written(const Graph *graph, LvArena *arena) {
    bool *written = LV_NEW_ARRAY(arena, bool, graph->variables.count + 1);
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_pack) return NULL;
        if (node->op != OP_state_write) continue;
        int64_t variable = node_int(node, ATTR_variable, 0);
        if (graph->variables.data[variable].kind == LV_VARIABLE_PARAM) return NULL;
        written[variable] = true;
    }
    return written;
}

static bool is_steady_leaf(const Graph *graph, const Node *node, const bool *written, int64_t *source) {
    if (node->op == OP_constant || node->op == OP_literal || node->op == OP_iota) return true;
    if (node->op != OP_state_read) return false;
    int64_t variable = node_int(node, ATTR_variable, 0);
    *source = value_bytes(&node->results[0]);
    return !written[variable] && graph->variables.data[variable].kind != LV_VARIABLE_CACHE;
}

// What something outside of kernels reads: results, values written to variables.
static bool *find_claimed(const Graph *graph, LvArena *arena) {
    bool *claimed = LV_NEW_ARRAY(arena, bool, graph->next_value + 1);
    for (size_t i = 0; i < graph->results.count; i++) claimed[graph->results.data[i].value->id] = true;
    for GRAPH_EACH(graph, node)
        if (node->op == OP_state_write) claimed[node->inputs[0]->id] = true;
    return claimed;
}

void plan_prepare(Plan *plan) {
    Graph *graph = plan->graph;
    const bool *written = plan->no_fuse ? NULL : find_written(graph, plan->arena);
    if (!written) return;
    const bool *claimed = find_claimed(graph, plan->arena);
    bool *steady = LV_NEW_ARRAY(plan->arena, bool, plan->value_count + 1);
    int64_t *sources = LV_NEW_ARRAY(plan->arena, int64_t, plan->value_count + 1);  // bytes of variables that went into it
    for GRAPH_EACH(graph, node) {
        if (!node->result_count || node->op == OP_all_reduce) continue;
        int64_t source = 0, bytes = 0;
        bool leaf = node->input_count == 0, all = leaf ? is_steady_leaf(graph, node, written, &source) : true, outside = false;
        for (int i = 0; i < node->input_count; i++) {
            all &= steady[node->inputs[i]->id];
            int64_t more = sources[node->inputs[i]->id];
            if (node->op == OP_concat) source += more;  // which holds them all
            else if (source < more) source = more;
        }
        for (int i = 0; i < node->result_count; i++) {
            Value *owner = plan_owner(plan, &node->results[i]);
            bytes += value_bytes(&node->results[i]);
            outside |= claimed[node->results[i].id] || claimed[owner->id];
        }
        bool stored = plan->place[node->results[0].id] == PLACE_STORED;
        if (!all || (stored && (outside || source == 0 || bytes > 2 * source))) continue;
        for (int i = 0; i < node->result_count; i++) {
            steady[node->results[i].id] = true;
            sources[node->results[i].id] = source;
            plan->prepared[node->results[i].id] = plan->place[node->results[i].id] == PLACE_STORED;
        }
    }
}
