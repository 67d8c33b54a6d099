// requires     nothing
// establishes  no node but leaves has only constants as inputs, save where the result would be a large literal
// breaks       nothing
//
// The reference evaluation of the op table is the folder, in the type's own rounding. A `constant` is one number at every
// element, so elementwise ops on constants are evaluated on one element, and movements of constants are constants.
#include <string.h>

#include "ops/op.h"
#include "passes/pass.h"

// Above this, evaluating at compile time costs more plan than it saves run time.
enum { LITERAL_LIMIT = 4096 };

static Tensor tensor_make(LvArena *arena, LvDType dtype, LvShape shape) {
    Tensor tensor = {.shape = shape, .dtype = dtype};
    int64_t count = lv_shape_elements(shape);
    if (lv_dtype_is_float(dtype)) tensor.f = LV_NEW_ARRAY(arena, double, count);
    else tensor.i = LV_NEW_ARRAY(arena, int64_t, count);
    return tensor;
}

static void tensor_fill(Tensor *tensor, double number) {
    int64_t count = lv_shape_elements(tensor->shape);
    for (int64_t i = 0; i < count; i++) {
        if (tensor->f) tensor->f[i] = number;
        else tensor->i[i] = (int64_t)number;
    }
}

static Tensor tensor_of(LvArena *arena, const Value *value) {
    Tensor tensor = tensor_make(arena, value->dtype, value->shape);
    if (value_is_constant(value)) {
        tensor_fill(&tensor, value_number(value));
        return tensor;
    }
    const Attr *data = node_attr(value->node, ATTR_data);
    int64_t count = lv_shape_elements(value->shape);
    for (int64_t i = 0; i < count; i++) {
        if (tensor.f) tensor.f[i] = lv_element_get(data->data, value->dtype, i);
        else if (value->dtype == LV_I64) tensor.i[i] = ((const int64_t *)data->data)[i];
        else tensor.i[i] = (int64_t)lv_element_get(data->data, value->dtype, i);
    }
    return tensor;
}

static double tensor_number(const Tensor *tensor, int64_t at) { return tensor->f ? tensor->f[at] : (double)tensor->i[at]; }

// -0.0 and 0.0 differ: 1/x sees it.
static bool same_number(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

// To the type's own precision.
static double rounded(double number, LvDType dtype) {
    union { double d; float f; uint16_t h; } element;
    if (!lv_dtype_is_float(dtype)) return number;
    lv_element_set(&element, dtype, 0, number);
    return lv_element_get(&element, dtype, 0);
}

static bool exact_in_double(int64_t number) { return number >= -(1ll << 53) && number <= 1ll << 53; }

static Value *literal_or_constant(Graph *graph, const Tensor *tensor) {
    int64_t count = lv_shape_elements(tensor->shape);
    bool uniform = count > 0;
    for (int64_t i = 1; i < count && uniform; i++) uniform = same_number(tensor_number(tensor, i), tensor_number(tensor, 0));
    if (tensor->i && uniform) uniform = exact_in_double(tensor->i[0]);
    if (uniform) return build_constant(graph, rounded(tensor_number(tensor, 0), tensor->dtype), tensor->dtype, tensor->shape);
    char *data = lv_arena_array(graph->arena, (size_t)(count ? count : 1), lv_dtype_size(tensor->dtype));
    for (int64_t i = 0; i < count; i++) {
        if (tensor->dtype == LV_I64) ((int64_t *)(void *)data)[i] = tensor->i[i];
        else lv_element_set(data, tensor->dtype, i, tensor_number(tensor, i));
    }
    Attrs attrs = {0};
    attrs_data(&attrs, ATTR_data, data);
    return graph_add_typed(graph, OP_literal, 0, NULL, &attrs, tensor->dtype, tensor->shape);
}

// Elementwise on constants: evaluated on one element.
static Value *fold_elementwise(Graph *graph, Node *node, LvArena *arena) {
    LvShape scalar = {0};
    Tensor inputs[3];
    const Tensor *at[3];
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = tensor_make(arena, node->inputs[i]->dtype, scalar);
        tensor_fill(&inputs[i], value_number(node->inputs[i]));
        at[i] = &inputs[i];
    }
    Value one_result = node->results[0];
    one_result.shape = scalar;
    Node one = *node;
    one.results = &one_result;
    one_result.node = &one;
    Tensor result = tensor_make(arena, one_result.dtype, scalar);
    Evaluation evaluation = {.round = true, .arena = arena};
    op_info(node->op)->evaluate(&evaluation, &one, at, &result);
    if (result.i && !exact_in_double(result.i[0])) return NULL;
    return build_constant(graph, rounded(tensor_number(&result, 0), result.dtype), result.dtype, node->results[0].shape);
}

// Movements that only place elements keep one number everywhere.
static Value *fold_movement(Graph *graph, Node *node) {
    const Value *first = node->input_count ? node->inputs[0] : NULL;
    const Value *result = &node->results[0];
    double number = value_number(first);
    if (node->op == OP_pack) return NULL;
    if (node->op == OP_pad && !same_number(node_float(node, ATTR_value, 0), number)) return NULL;
    for (int i = 1; i < node->input_count; i++) {
        if (!same_number(value_number(node->inputs[i]), number)) return NULL;
    }
    return build_constant(graph, number, result->dtype, result->shape);
}

static Value *fold_by_evaluation(Graph *graph, Node *node, LvArena *arena) {
    if (node->op == OP_pack || !op_info(node->op)->evaluate) return NULL;
    if (lv_shape_elements(node->results[0].shape) > LITERAL_LIMIT) return NULL;
    Tensor *inputs = LV_NEW_ARRAY(arena, Tensor, node->input_count + 1);
    const Tensor **at = LV_NEW_ARRAY(arena, const Tensor *, node->input_count + 1);
    for (int i = 0; i < node->input_count; i++) {
        if (lv_shape_elements(node->inputs[i]->shape) > 16 * LITERAL_LIMIT) return NULL;
        inputs[i] = tensor_of(arena, node->inputs[i]);
        at[i] = &inputs[i];
    }
    Tensor result = tensor_make(arena, node->results[0].dtype, node->results[0].shape);
    Evaluation evaluation = {.round = true, .arena = arena};
    op_info(node->op)->evaluate(&evaluation, node, at, &result);
    return literal_or_constant(graph, &result);
}

static Value *fold_rule(Graph *graph, Node *node, void *user) {
    LvArena *arena = user;
    if (node->input_count == 0) return NULL;
    bool constants = true;
    for (int i = 0; i < node->input_count; i++) {
        Op op = node->inputs[i]->node->op;
        if (op != OP_constant && op != OP_literal) return NULL;
        constants &= op == OP_constant;
    }
    OpKind kind = op_info(node->op)->kind;
    if (node->op == OP_stop_gradient) return node->inputs[0];
    if (kind == OP_KIND_ELEMENTWISE || kind == OP_KIND_ELEMENT_COPY) {
        return constants ? fold_elementwise(graph, node, arena) : fold_by_evaluation(graph, node, arena);
    }
    if (kind == OP_KIND_MOVEMENT) {
        Value *moved = constants ? fold_movement(graph, node) : NULL;
        return moved ? moved : fold_by_evaluation(graph, node, arena);
    }
    if (kind == OP_KIND_REDUCTION || node->op == OP_gather || node->op == OP_dynamic_slice) {
        return fold_by_evaluation(graph, node, arena);
    }
    return NULL;
}

bool pass_fold(Graph *graph, PassContext *context) {
    rewrite_walk(graph, fold_rule, context->arena);
    return true;
}
