// requires     nothing
// establishes  every node is reached from a result, an effect, or is an input of the entry
// breaks       nothing
//
// Drops what nothing needs: one walk from the end, since uses stand after definitions.
#include "ops/op.h"
#include "passes/pass.h"

bool pass_dce(Graph *graph, PassContext *context) {
    bool *alive = LV_NEW_ARRAY(context->arena, bool, graph->next_value + 1);
    for (size_t i = 0; i < graph->results.count; i++) alive[graph->results.data[i].value->id] = true;
    for (size_t i = 0; i < graph->inputs.count; i++) alive[graph->inputs.data[i].value->id] = true;
    Node *before;
    for (Node *node = graph->last; node; node = before) {
        before = node->prev;
        OpKind kind = op_info(node->op)->kind;
        bool needed = kind == OP_KIND_EFFECT || kind == OP_KIND_EFFECT_VALUE;
        for (int i = 0; i < node->result_count; i++) needed |= alive[node->results[i].id];
        if (!needed) {
            graph_remove(graph, node);
            continue;
        }
        for (int i = 0; i < node->input_count; i++) alive[node->inputs[i]->id] = true;
    }
    return true;
}
