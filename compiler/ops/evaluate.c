// Reference evaluation of a whole graph: node by node, one plain loop each, in f64. The oracle of every backend test.
#include <string.h>

#include "ops/rules.h"

static void round_results(const Node *node, Tensor *results) {
    for (int r = 0; r < node->result_count; r++) {
        if (!results[r].f || results[r].dtype == LV_F64) continue;
        for (int64_t i = 0, n = lv_shape_elements(results[r].shape); i < n; i++)
            results[r].f[i] = round_to(results[r].dtype, results[r].f[i]);
    }
}

// A private copy of what a callback gives, so that later writes of the caller do not reach it.
static void take(const Evaluation *evaluation, const Node *node, const Tensor *given, Tensor *result) {
    if (!given || given->dtype != node->results[0].dtype || !lv_shape_equal(given->shape, node->results[0].shape))
        lv_internal_error("evaluate: %s was given a tensor of another shape or type", op_name(node->op));
    tensor_create(evaluation, result, given->dtype, given->shape);
    for (int64_t i = 0, n = lv_shape_elements(given->shape); i < n; i++) tensor_copy_element(result, i, given, i);
}

void graph_evaluate(const Graph *graph, bool round, const EvaluationHooks *hooks, LvArena *arena) {
    Evaluation evaluation = {.round = round, .arena = arena};
    Tensor *tensors = LV_NEW_ARRAY(arena, Tensor, graph->next_value + 1);
    for GRAPH_EACH(graph, node) {
        const OpInfo *info = op_info(node->op);
        Tensor *results = LV_NEW_ARRAY(arena, Tensor, node->result_count + 1);
        if (node->op == OP_state_write) {
            if (hooks->write) hooks->write(hooks->user, (int)node_int(node, ATTR_variable, -1), &tensors[node->inputs[0]->id]);
            continue;
        }
        if (node->op == OP_input) take(&evaluation, node, hooks->input(hooks->user, node), results);
        else if (node->op == OP_state_read)
            take(&evaluation, node, hooks->variable(hooks->user, node, (int)node_int(node, ATTR_variable, -1)), results);
        else {
            const Tensor **inputs = LV_NEW_ARRAY(arena, const Tensor *, node->input_count + 1);
            for (int i = 0; i < node->input_count; i++) inputs[i] = &tensors[node->inputs[i]->id];
            for (int r = 0; r < node->result_count; r++)
                tensor_create(&evaluation, &results[r], node->results[r].dtype, node->results[r].shape);
            if (!info->evaluate) lv_internal_error("evaluate: %s has no evaluation", info->name);
            info->evaluate(&evaluation, node, inputs, results);
            if (round) round_results(node, results);
        }
        for (int r = 0; r < node->result_count; r++) tensors[node->results[r].id] = results[r];
    }
    for (size_t i = 0; hooks->result && i < graph->results.count; i++)
        hooks->result(hooks->user, graph->results.data[i].name, &tensors[graph->results.data[i].value->id]);
}
