// requires     nothing
// establishes  no two nodes have the same op, inputs, attributes and types (effects apart)
// breaks       nothing; what becomes unused is left to dce
//
// Value numbering by a hash table in one walk in order. Before autodiff, values that some `gradient` is taken with respect
// to keep their identity: two equal expressions may stand for two different variables of differentiation.
#include "ops/op.h"
#include "passes/pass.h"

typedef struct {
    size_t mask;
    Node **slots;
} NodeTable;

static Node *table_find_or_add(NodeTable *table, Node *node) {
    for (size_t at = (size_t)node_hash(node) & table->mask;; at = (at + 1) & table->mask) {
        Node *other = table->slots[at];
        if (!other) return table->slots[at] = node;
        if (node_same(other, node)) return other;
    }
}

bool pass_cse(Graph *graph, PassContext *context) {
    size_t size = 64;
    while (size < 2 * (size_t)graph->node_count + 2) size *= 2;
    NodeTable table = {size - 1, LV_NEW_ARRAY(context->arena, Node *, size)};
    Value **with = LV_NEW_ARRAY(context->arena, Value *, graph->next_value + 1);
    bool *fixed = LV_NEW_ARRAY(context->arena, bool, graph->next_value + 1);
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_gradient && !node_is_leaf(node->inputs[1]->node)) fixed[node->inputs[1]->id] = true;
    }
    bool changed = false;
    for GRAPH_EACH(graph, node) {
        for (int i = 0; i < node->input_count; i++) {
            Value *better = with[node->inputs[i]->id];
            if (better) node->inputs[i] = better;
        }
        OpKind kind = op_info(node->op)->kind;
        if (kind == OP_KIND_EFFECT || kind == OP_KIND_EFFECT_VALUE || node->op == OP_input) continue;
        if (node->result_count == 1 && fixed[node->results[0].id]) continue;
        Node *first = table_find_or_add(&table, node);
        if (first == node) continue;
        for (int i = 0; i < node->result_count; i++) with[node->results[i].id] = &first->results[i];
        changed = true;
    }
    if (changed) graph_replace_all(graph, with);
    return true;
}
