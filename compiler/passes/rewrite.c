// The driver of local rules: one walk over the nodes in order, applying a rule where it fits. A rule returns the value
// that takes the place of a node's result; nodes that the rule adds are walked too, so a rule may rely on others having
// simplified what it built. Termination: every rule makes the graph smaller or moves toward a normal form (algebra.c).
#include "ops/op.h"
#include "passes/pass.h"

void rewrite_at(Graph *graph, Node *node) {
    graph->insert_before = node;
    graph->span = node->span;
    graph->scope = node->scope;
}

void rewrite_end(Graph *graph) {
    graph->insert_before = NULL;
    graph->span = LV_NO_SPAN;
    graph->scope = "";
}

static Value *replacement(const Replacements *with, Value *value) {
    while ((size_t)value->id < with->count && with->data[value->id]) value = with->data[value->id];
    return value;
}

void replacements_set(Replacements *with, int id, Value *value) {
    while (with->count <= (size_t)id) lv_vec_push(with, NULL);
    with->data[id] = value;
}

void replacements_apply(Graph *graph, Replacements *with) {
    if (with->count) {
        while (with->count < (size_t)graph->next_value) lv_vec_push(with, NULL);
        graph_replace_all(graph, with->data);
    }
    lv_vec_free(with);
}

bool rewrite_walk(Graph *graph, RewriteRule rule, void *user) {
    Replacements with = {0};
    bool changed = false;
    int budget = 64 * graph->node_count + 4096;  // a rule that never ends is a bug: stop and say so
    Node *node = graph->first;
    while (node) {
        for (int i = 0; i < node->input_count; i++) node->inputs[i] = replacement(&with, node->inputs[i]);
        Node *before = node->prev, *after = node->next;
        Value *value = NULL;
        bool replaced = node->result_count && replacement(&with, &node->results[0]) != &node->results[0];
        if (node->result_count == 1 && !replaced) {
            rewrite_at(graph, node);
            value = rule(graph, node, user);
        }
        if (!value || value == &node->results[0]) {
            node = after;
            continue;
        }
        if (--budget < 0) lv_internal_error("rewrite: rules do not end at node %s", op_name(node->op));
        changed = true;
        replacements_set(&with, node->results[0].id, value);
        Node *added = before ? before->next : graph->first;  // the first node that the rule added, or the node itself
        node = added == node ? after : added;
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
    return changed;
}
