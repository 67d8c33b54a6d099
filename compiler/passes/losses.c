// Losses over a vocabulary: the logits are not to be whole in memory.
//
// pass_losses, before autodiff:
//   requires     nothing
//   establishes  cross_entropy(x weight^T, target), with nothing else reading the logits, is linear_cross_entropy
//   breaks       nothing
// pass_join_losses, after autodiff:
//   requires     no gradient nodes
//   establishes  where loss and gradient are wanted of one linear_cross_entropy, its gradient node gives both
//   breaks       nothing
#include "ops/op.h"
#include "passes/pass.h"

// The matmul that makes the logits, through reshapes that keep its rows; NULL.
static const Node *projection_of(const Value *logits, const int *uses, int count) {
    while (logits->node->op == OP_reshape && logits->id < count && uses[logits->id] == 1) logits = logits->node->inputs[0];
    const Node *node = logits->node;
    if (node->op != OP_matmul || node->input_count != 2 || logits->id >= count || uses[logits->id] != 1) return NULL;
    bool fits = node->inputs[1]->shape.rank == 2 && logits->shape.rank == 2 && node_bool(node, ATTR_transpose_b, false);
    if (!fits || node_bool(node, ATTR_transpose_a, false) || node_float(node, ATTR_scale, 1) != 1) return NULL;
    return node;
}

bool pass_losses(Graph *graph, PassContext *context) {
    const int *uses = graph_count_uses(graph, context->arena);
    int count = graph->next_value;
    Replacements with = {0};
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_cross_entropy || node->inputs[1]->dtype != LV_I32) continue;
        const Node *product = projection_of(node->inputs[0], uses, count);
        if (!product || product->results[0].shape.dim[1] != node->inputs[0]->shape.dim[1]) continue;
        rewrite_at(graph, node);
        Value *inputs[3] = {product->inputs[0], product->inputs[1], node->inputs[1]};
        replacements_set(&with, node->results[0].id, build_node(graph, OP_linear_cross_entropy, 3, inputs, &node->attrs));
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
    return pass_dce(graph, context);
}

// ---- one node for loss and gradient

static bool is_gradient_of(const Node *grad, const Node *loss) {
    if (grad->op != OP_linear_cross_entropy_grad) return false;
    for (int i = 0; i < 3; i++) {
        if (grad->inputs[i] != loss->inputs[i]) return false;
    }
    const Attr *a = node_attr(grad, ATTR_ignore), *b = node_attr(loss, ATTR_ignore);
    return (!a && !b) || (a && b && a->i == b->i);
}

// Whatever `value` needs that stands behind `place` moves before it. `behind` marks the nodes that do, by result.
static void bring_before(Graph *graph, Value *value, Node *place, bool *behind) {
    Node *node = value->node;
    if (!behind[node->results[0].id]) return;
    for (int i = 0; i < node->result_count; i++) behind[node->results[i].id] = false;
    for (int i = 0; i < node->input_count; i++) bring_before(graph, node->inputs[i], place, behind);
    graph_move(graph, node, place);
}

static bool depends_on(const Node *loss, const Value *value, LvArena *arena, const Graph *graph) {
    bool *reached = LV_NEW_ARRAY(arena, bool, graph->next_value + 1);
    reached[loss->results[0].id] = true;
    for (const Node *node = loss->next; node; node = node->next) {
        bool from = false;
        for (int i = 0; i < node->input_count && !from; i++) from = reached[node->inputs[i]->id];
        for (int i = 0; from && i < node->result_count; i++) reached[node->results[i].id] = true;
        if (node == value->node) break;
    }
    return reached[value->id];
}

bool pass_join_losses(Graph *graph, PassContext *context) {
    for (Node *loss = graph->first, *next; loss; loss = next) {
        next = loss->next;
        Node *grad = NULL;
        if (loss->op != OP_linear_cross_entropy) continue;
        for (Node *node = loss->next; node && !grad; node = node->next) grad = is_gradient_of(node, loss) ? node : NULL;
        if (!grad || depends_on(loss, grad->inputs[3], context->arena, graph)) continue;
        bool *behind = LV_NEW_ARRAY(context->arena, bool, graph->next_value + 1);
        for (Node *node = loss->next; node; node = node->next)
            for (int i = 0; i < node->result_count; i++) behind[node->results[i].id] = true;
        bring_before(graph, &grad->results[0], loss, behind);
        graph_replace(graph, &loss->results[0], &grad->results[2]);
    }
    return pass_dce(graph, context);
}
