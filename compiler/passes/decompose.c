// requires     no gradient nodes
// establishes  no composite but those that the backend has a kernel template for; no stop_gradient; all_reduce where there are ranks
// breaks       common subexpressions (a forward norm and its backward compute the same statistics): run cse after it
//
// Composites know their own decomposition (op table). What a backend keeps whole is asked of the template table.
#include "codegen/codegen.h"
#include "ops/op.h"
#include "passes/pass.h"

bool pass_decompose(Graph *graph, PassContext *context) {
    Replacements with = {0};
    Node *node = graph->first;
    while (node) {
        const OpInfo *info = op_info(node->op);
        Value *results[8] = {0};
        rewrite_at(graph, node);
        Node *before = node->prev, *after = node->next;
        bool done = false;
        if (node->result_count && (size_t)node->results[0].id < with.count && with.data[node->results[0].id]) {
            node = after;  // decomposed already: dce takes it
            continue;
        }
        if (node->op == OP_stop_gradient || (node->op == OP_all_reduce && context->ranks == 1)) {
            results[0] = node->inputs[0];
            done = true;
        } else if (node->op == OP_all_reduce && value_is_constant(node->inputs[0])) {  // all ranks have it
            results[0] = build_like(graph, value_number(node->inputs[0]) * (double)context->ranks, node->inputs[0]);
            done = true;
        } else if (info->decompose && !codegen_takes(node, context->target)) {
            done = info->decompose(graph, node, results);
        }
        if (!done) {
            node = after;
            continue;
        }
        for (int i = 0; i < node->result_count; i++) {
            replacements_set(&with, node->results[i].id, results[i]);
        }
        Node *added = before ? before->next : graph->first;  // composites may decompose into composites
        node = added == node ? after : added;
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
    const int *uses = graph_count_uses(graph, context->arena);
    for (Node *next, *at = graph->first; at; at = next) {  // dce keeps effects
        next = at->next;
        if (at->op == OP_all_reduce && !uses[at->results[0].id]) graph_remove(graph, at);
    }
    return pass_dce(graph, context);
}
