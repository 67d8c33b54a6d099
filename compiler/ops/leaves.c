// Values from nowhere: inputs, constants, iota, random numbers, variables. Their shapes and types are given.
// And what stands between values and effects: state_write, stop_gradient, gradient, all_reduce.
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "ops/rules.h"

const char *shape_given(Graph *graph, Node *node) {
    return refuse(graph, "%s is added with a given shape and type", op_name(node->op));
}

const char *shape_effect(Graph *graph, Node *node) {
    const Attr *variable = node_attr(node, ATTR_variable);
    if (!variable || variable->i < 0 || (size_t)variable->i >= graph->variables.count)
        return refuse(graph, "state_write names no variable of the graph");
    const Variable *v = &graph->variables.data[variable->i];
    if (v->dtype != node->inputs[0]->dtype || !lv_shape_equal(v->shape, node->inputs[0]->shape))
        return refuse(graph, "'%s' is %s%s, the value written is %s%s", v->name, lv_dtype_name(v->dtype),
                      shape_text(graph, v->shape), lv_dtype_name(node->inputs[0]->dtype),
                      shape_text(graph, node->inputs[0]->shape));
    return NULL;
}

const char *shape_same(Graph *graph, Node *node) {
    (void)graph;
    set_result(node, 0, node->inputs[0]->dtype, node->inputs[0]->shape);
    return NULL;
}

const char *shape_gradient(Graph *graph, Node *node) {
    const Value *loss = node->inputs[0], *wrt = node->inputs[1];
    if (loss->shape.rank != 0) return refuse(graph, "only a scalar has a gradient; the loss has shape %s", shape_text(graph, loss->shape));
    if (!lv_dtype_is_float(loss->dtype) || !lv_dtype_is_float(wrt->dtype))
        return refuse(graph, "gradients are of floats with respect to floats, not of %s with respect to %s",
                      lv_dtype_name(loss->dtype), lv_dtype_name(wrt->dtype));
    set_result(node, 0, wrt->dtype, wrt->shape);
    return NULL;
}

void evaluate_none(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)inputs, (void)results;
    lv_internal_error("ops: %s reached the reference evaluation", op_name(node->op));
}

void evaluate_constant(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)inputs;
    double value = node_float(node, ATTR_value, 0);
    for (int64_t i = 0, n = lv_shape_elements(results->shape); i < n; i++) tensor_set(results, i, value);
}

void evaluate_literal(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)inputs;
    const void *data = node_attr(node, ATTR_data)->data;
    for (int64_t i = 0, n = lv_shape_elements(results->shape); i < n; i++) {
        if (results->dtype == LV_I64) memcpy(&results->i[i], (const char *)data + 8 * i, 8);
        else tensor_set(results, i, lv_element_get(data, results->dtype, i));
    }
}

void evaluate_iota(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)inputs;
    int64_t axis = node_int(node, ATTR_axis, 0), index[LV_MAX_RANK] = {0}, at = 0;
    if (!lv_shape_elements(results->shape)) return;
    do tensor_set(results, at++, results->shape.rank ? (double)index[axis] : 0);
    while (index_next(results->shape, index));
}

// Element i is drawn from the one seed at index i; with a seed a row, from its row's at its index within the row.
static void evaluate_random(const Node *node, const Tensor *const *inputs, Tensor *results,
                            float draw(uint64_t seed, uint32_t stream, uint32_t step, uint64_t index)) {
    uint32_t stream = (uint32_t)node_int(node, ATTR_stream, 0), step = (uint32_t)inputs[1]->i[0];
    int64_t count = lv_shape_elements(results->shape), rows = inputs[0]->shape.rank ? inputs[0]->shape.dim[0] : 1;
    int64_t width = rows ? count / rows : 0;
    for (int64_t i = 0; i < count; i++)
        results->f[i] = draw((uint64_t)inputs[0]->i[i / width], stream, step, (uint64_t)(i % width));
}

void evaluate_random_uniform(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    evaluate_random(node, inputs, results, lv_random_uniform);
}

void evaluate_random_normal(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    evaluate_random(node, inputs, results, lv_random_normal);
}

// The same elements; of a relayout too, since layout is physical.
void evaluate_copy(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)node;
    for (int64_t i = 0, n = lv_shape_elements(results->shape); i < n; i++) tensor_copy_element(results, i, inputs[0], i);
}

void gradient_copy(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads) {
    (void)graph, (void)node;
    input_grads[0] = result_grads[0];
}
