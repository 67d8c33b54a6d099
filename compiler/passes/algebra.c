// requires     nothing
// establishes  movements in normal form: no identity, no chain of two that one could do, expands as late as possible,
//              constants on the right
// breaks       nothing; what becomes unused is left to dce
//
// Local rules, a few lines each, in three families. Values may change in the last bit (a division by a constant becomes a
// product), never in what is infinite or NaN: x * 0 is not 0.
// While `gradient` nodes stand in the graph a rule must not step over a value that something is differentiated by; if such a
// value is not a leaf the pass does nothing and waits until after autodiff.
#include "passes/algebra.h"

#include "ops/op.h"

bool algebra_single_use(const Algebra *algebra, const Value *value) {
    return value->id < algebra->use_count && algebra->uses[value->id] == 1;
}

const int64_t *node_list(const Node *node, AttrName name, int *count) {
    const Attr *attr = node_attr(node, name);
    if (!attr) lv_internal_error("algebra: %s has no %s", op_name(node->op), attr_name_text(name));
    if (count) *count = attr->list.count;
    return attr->list.at;
}

static Value *algebra_rule(Graph *graph, Node *node, void *user) {
    const Algebra *algebra = user;
    switch (op_info(node->op)->kind) {
    case OP_KIND_ELEMENTWISE:
    case OP_KIND_ELEMENT_COPY: return algebra_arithmetic(graph, node, algebra);
    case OP_KIND_MOVEMENT:
    case OP_KIND_INDEXED:
    case OP_KIND_CONTRACTION: return algebra_movement(graph, node, algebra);
    case OP_KIND_REDUCTION: return algebra_reduction(graph, node, algebra);
    default: return NULL;
    }
}

static bool differentiates_inner_value(const Graph *graph) {
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_gradient && !node_is_leaf(node->inputs[1]->node)) return true;
    }
    return false;
}

bool pass_algebra(Graph *graph, PassContext *context) {
    if (differentiates_inner_value(graph)) return true;
    enum { ROUNDS = 8 };  // rules look at inputs, so a walk sees nearly all; what a later node enables needs another round
    for (int round = 0; round < ROUNDS; round++) {
        Algebra algebra = {.uses = graph_count_uses(graph, context->arena), .use_count = graph->next_value,
                           .widens_late = context->target && context->target->cuda,
                           .differentiated = !graph_has_op(graph, OP_gradient)};
        if (!rewrite_walk(graph, algebra_rule, &algebra)) break;
        pass_dce(graph, context);  // so that uses are counted right
    }
    return true;
}
