// Reverse-mode differentiation: one walk back from each loss, every node's rule from the op table.
//   requires     gradient(loss, wrt) nodes; every wrt stands before its loss
//   establishes  no gradient nodes
#include "autodiff/autodiff.h"

#include "ops/op.h"

typedef struct {
    Graph *graph;
    LvDiagnostics *diagnostics;
    Node *at;          // the first gradient node of this loss: everything new goes before it
    Value *loss;
    int count;         // values there were when the walk began
    bool *reached;     // value depends on something that a gradient is wanted of
    Value **gradient;  // of each value, summed so far
    bool fine;
} Walk;

// Floats carry gradients, and stop_gradient lets none through.
static void find_reached(Walk *walk) {
    for GRAPH_EACH(walk->graph, node)
        if (node->op == OP_gradient && node->inputs[0] == walk->loss) walk->reached[node->inputs[1]->id] = true;
    for (Node *node = walk->graph->first; node != walk->at; node = node->next) {
        bool any = false;
        for (int i = 0; i < node->input_count; i++) any |= walk->reached[node->inputs[i]->id];
        if (!any || node->op == OP_stop_gradient) continue;
        for (int i = 0; i < node->result_count; i++)
            if (lv_dtype_is_float(node->results[i].dtype)) walk->reached[node->results[i].id] = true;
    }
}

static void add_gradient(Walk *walk, const Value *value, Value *gradient) {
    Value **sum = &walk->gradient[value->id];
    if (gradient->dtype != value->dtype || !lv_shape_equal(gradient->shape, value->shape))
        lv_internal_error("autodiff: the gradient of %s's result has another shape or type", op_name(value->node->op));
    *sum = *sum ? build_binary(walk->graph, OP_add, *sum, gradient) : gradient;
}

static void walk_node(Walk *walk, Node *node) {
    const OpInfo *info = op_info(node->op);
    Value **result_grads = LV_NEW_ARRAY(walk->graph->arena, Value *, node->result_count + 1);
    Value **input_grads = LV_NEW_ARRAY(walk->graph->arena, Value *, node->input_count + 1);
    bool any = false, wanted = false;
    for (int i = 0; i < node->result_count; i++) any |= (result_grads[i] = walk->gradient[node->results[i].id]) != NULL;
    for (int i = 0; i < node->input_count; i++) wanted |= walk->reached[node->inputs[i]->id];
    if (!any || !wanted || node->op == OP_stop_gradient) return;
    if (!info->gradient) {
        lv_report(walk->diagnostics, LV_SEVERE, node->span, "'%s' has no gradient; put stop_gradient around it if none is meant",
                  info->name);
        walk->fine = false;
        return;
    }
    walk->graph->span = node->span;
    walk->graph->scope = node->scope;
    info->gradient(walk->graph, node, result_grads, input_grads);
    for (int i = 0; i < node->input_count; i++)
        if (input_grads[i] && walk->reached[node->inputs[i]->id]) add_gradient(walk, node->inputs[i], input_grads[i]);
}

// Puts each gradient in the place of the nodes that ask for it, in one pass over the graph.
static void replace_requests(Walk *walk) {
    Graph *graph = walk->graph;
    LV_VEC(Node *) requests = {0};
    LV_VEC(Value *) gradients = {0};
    for (Node *node = walk->at; node; node = node->next) {
        if (node->op != OP_gradient || node->inputs[0] != walk->loss) continue;
        Value *wrt = node->inputs[1], *gradient = wrt->id < walk->count ? walk->gradient[wrt->id] : NULL;
        graph->insert_before = node;
        lv_vec_push(&requests, node);
        lv_vec_push(&gradients, gradient ? gradient : build_like(graph, 0, wrt));
    }
    Value **with = LV_NEW_ARRAY(graph->arena, Value *, graph->next_value + 1);
    for (size_t i = 0; i < requests.count; i++) with[requests.data[i]->results[0].id] = gradients.data[i];
    graph_replace_all(graph, with);
    for (size_t i = 0; i < requests.count; i++) graph_remove(graph, requests.data[i]);
    lv_vec_free(&requests);
    lv_vec_free(&gradients);
}

static bool differentiate(Graph *graph, Node *first, LvDiagnostics *diagnostics) {
    LvSpan span = graph->span;
    const char *scope = graph->scope;
    Walk walk = {.graph = graph, .diagnostics = diagnostics, .at = first, .loss = first->inputs[0], .count = graph->next_value, .fine = true};
    walk.reached = LV_NEW_ARRAY(graph->arena, bool, walk.count + 1);
    walk.gradient = LV_NEW_ARRAY(graph->arena, Value *, walk.count + 1);
    find_reached(&walk);
    graph->insert_before = first;
    graph->span = first->span;
    Node *last = first->prev;
    if (walk.reached[walk.loss->id]) walk.gradient[walk.loss->id] = build_like(graph, 1, walk.loss);
    for (Node *node = last; node; node = node->prev) walk_node(&walk, node);
    replace_requests(&walk);
    graph->insert_before = NULL;
    graph->span = span;
    graph->scope = scope;
    return walk.fine;
}

bool autodiff_run(Graph *graph, LvDiagnostics *diagnostics) {
    bool fine = true;
    for (Node *node = graph->first; node;) {
        if (node->op != OP_gradient) {
            node = node->next;
            continue;
        }
        if (!differentiate(graph, node, diagnostics)) fine = false;
        node = graph->first;  // gradients of gradients: the next request may have the ones just written in its loss
    }
    return fine;
}
