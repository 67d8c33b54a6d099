// Data-dependent places: gather and scatter_add of rows, slices and updates at computed starts.
#include "ops/rules.h"

#define EVALUATE(name) \
    void evaluate_##name(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results)
#define GRADIENT_RULE(name) \
    void gradient_##name(Graph *g, Node *node, Value *const *result_grads, Value **input_grads)

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

// ---- gather: table [K, ...], index [I...] -> [I..., ...]

const char *shape_gather(Graph *graph, Node *node) {
    const Value *table = node->inputs[0], *index = node->inputs[1];
    if (index->dtype != LV_I32) return refuse(graph, "gather: the index is %s, not i32", lv_dtype_name(index->dtype));
    if (table->shape.rank < 1) return refuse(graph, "gather from a scalar");
    if (table->shape.dim[0] < 1 && lv_shape_elements(index->shape)) return refuse(graph, "gather from an empty table");
    LvShape shape = index->shape;
    if (shape.rank + table->shape.rank - 1 > LV_MAX_RANK) return refuse(graph, "gather: rank over %d", LV_MAX_RANK);
    for (int i = 1; i < table->shape.rank; i++) shape.dim[shape.rank++] = table->shape.dim[i];
    set_result(node, 0, table->dtype, shape);
    return NULL;
}

EVALUATE(gather) {
    (void)evaluation, (void)node;
    const Tensor *table = inputs[0], *index = inputs[1];
    int64_t rows = table->shape.dim[0], width = rows ? lv_shape_elements(table->shape) / rows : 0;
    for (int64_t n = 0, count = lv_shape_elements(index->shape); n < count; n++) {
        int64_t row = clamp(index->i[n], 0, rows - 1);
        for (int64_t k = 0; k < width; k++) tensor_copy_element(results, n * width + k, table, row * width + k);
    }
}

// A clamped index adds to the row that it read.
GRADIENT_RULE(gather) {
    Value *table = node->inputs[0], *index = node->inputs[1];
    Value *last = build_like(g, (double)table->shape.dim[0] - 1, index), *zero = build_like(g, 0, index);
    Value *row = build_binary(g, OP_min, build_binary(g, OP_max, index, zero), last);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_rows, table->shape.dim[0]);
    input_grads[0] = build_node(g, OP_scatter_add, 2, (Value *[]){result_grads[0], row}, &attrs);
}

// ---- scatter_add: result[index[n]] += updates[n]

const char *shape_scatter_add(Graph *graph, Node *node) {
    const Value *updates = node->inputs[0], *index = node->inputs[1];
    int64_t rows = node_int(node, ATTR_rows, -1);
    if (index->dtype != LV_I32) return refuse(graph, "scatter_add: the index is %s, not i32", lv_dtype_name(index->dtype));
    if (updates->dtype == LV_BOOL) return refuse(graph, "scatter_add is of numbers, not of bool");
    if (rows < 0) return refuse(graph, "scatter_add to a negative number of rows");
    bool fits = updates->shape.rank >= index->shape.rank;
    for (int i = 0; fits && i < index->shape.rank; i++) fits = updates->shape.dim[i] == index->shape.dim[i];
    if (!fits)
        return refuse(graph, "scatter_add: updates %s do not start with the index's shape %s", shape_text(graph, updates->shape),
                      shape_text(graph, index->shape));
    LvShape shape = {1, {rows}};
    if (updates->shape.rank - index->shape.rank + 1 > LV_MAX_RANK) return refuse(graph, "scatter_add: rank over %d", LV_MAX_RANK);
    for (int i = index->shape.rank; i < updates->shape.rank; i++) shape.dim[shape.rank++] = updates->shape.dim[i];
    set_result(node, 0, updates->dtype, shape);
    return NULL;
}

EVALUATE(scatter_add) {
    (void)evaluation, (void)node;
    const Tensor *updates = inputs[0], *index = inputs[1];
    int64_t count = lv_shape_elements(index->shape), width = count ? lv_shape_elements(updates->shape) / count : 0;
    for (int64_t n = 0; n < count; n++) {
        int64_t row = index->i[n];
        if (row < 0 || row >= results->shape.dim[0]) continue;
        for (int64_t k = 0; k < width; k++)
            tensor_set(results, row * width + k, tensor_get(results, row * width + k) + tensor_get(updates, n * width + k));
    }
}

// Dropped updates have no gradient.
GRADIENT_RULE(scatter_add) {
    Value *updates = node->inputs[0], *index = node->inputs[1];
    int64_t rows = node_int(node, ATTR_rows, 0), axes[LV_MAX_RANK];
    if (rows == 0) {
        input_grads[0] = build_like(g, 0, updates);
        return;
    }
    Value *inside = build_binary(g, OP_and, build_binary(g, OP_ge, index, build_like(g, 0, index)),
                                 build_binary(g, OP_lt, index, build_like(g, (double)rows, index)));
    for (int i = 0; i < index->shape.rank; i++) axes[i] = i;
    Value *taken = build_node(g, OP_gather, 2, (Value *[]){result_grads[0], index}, NULL);
    input_grads[0] = build_select(g, build_expand(g, inside, updates->shape, axes), taken, build_like(g, 0, updates));
}

// ---- dynamic_slice: `shape` elements of x from `starts`, clamped so that all lie inside

static const char *check_starts(Graph *graph, const Node *node, const Value *starts, int rank) {
    if (starts->dtype == LV_I32 && starts->shape.rank == 1 && starts->shape.dim[0] == rank) return NULL;
    return refuse(graph, "%s: the starts are %s%s, not i32[%d]", op_name(node->op), lv_dtype_name(starts->dtype),
                  shape_text(graph, starts->shape), rank);
}

static const char *check_window(Graph *graph, const Node *node, LvShape window, LvShape whole) {
    bool fits = window.rank == whole.rank;
    for (int i = 0; fits && i < whole.rank; i++) fits = window.dim[i] >= 0 && window.dim[i] <= whole.dim[i];
    return fits ? NULL : refuse(graph, "%s: %s does not lie in %s", op_name(node->op), shape_text(graph, window), shape_text(graph, whole));
}

const char *shape_dynamic_slice(Graph *graph, Node *node) {
    const Attr *list = list_attr(node, ATTR_shape, node->inputs[0]->shape.rank);
    if (!list) return refuse(graph, "dynamic_slice of rank %d needs as many extents", node->inputs[0]->shape.rank);
    LvShape shape = lv_shape(list->list.count, list->list.at);
    const char *wrong = check_window(graph, node, shape, node->inputs[0]->shape);
    if (!wrong) wrong = check_starts(graph, node, node->inputs[1], shape.rank);
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return wrong;
}

// Copies between a window and the whole; `out`: from the whole into the window.
static void window_copy(const Tensor *from, Tensor *to, LvShape window, LvShape whole, const Tensor *starts, bool out) {
    int64_t stride[LV_MAX_RANK], index[LV_MAX_RANK] = {0}, at = 0, base = 0;
    if (!lv_shape_elements(window)) return;
    shape_strides(whole, stride);
    for (int i = 0; i < whole.rank; i++) base += clamp(starts->i[i], 0, whole.dim[i] - window.dim[i]) * stride[i];
    do {
        int64_t place = base;
        for (int i = 0; i < whole.rank; i++) place += index[i] * stride[i];
        if (out) tensor_copy_element(to, at, from, place);
        else tensor_copy_element(to, place, from, at);
        at++;
    } while (index_next(window, index));
}

EVALUATE(dynamic_slice) {
    (void)evaluation, (void)node;
    window_copy(inputs[0], results, results->shape, inputs[0]->shape, inputs[1], true);
}

GRADIENT_RULE(dynamic_slice) {
    Value *zeros = build_like(g, 0, node->inputs[0]);
    input_grads[0] = build_node(g, OP_dynamic_update, 3, (Value *[]){zeros, result_grads[0], node->inputs[1]}, NULL);
}

// ---- dynamic_update: x with `update` written at `starts`, clamped likewise

const char *shape_dynamic_update(Graph *graph, Node *node) {
    const Value *x = node->inputs[0], *update = node->inputs[1];
    const char *wrong = check_window(graph, node, update->shape, x->shape);
    if (!wrong) wrong = check_starts(graph, node, node->inputs[2], x->shape.rank);
    if (!wrong && update->dtype != x->dtype)
        wrong = refuse(graph, "dynamic_update of %s by %s", lv_dtype_name(x->dtype), lv_dtype_name(update->dtype));
    set_result(node, 0, x->dtype, x->shape);
    return wrong;
}

EVALUATE(dynamic_update) {
    evaluate_copy(evaluation, node, inputs, results);
    window_copy(inputs[1], results, inputs[1]->shape, inputs[0]->shape, inputs[2], false);
}

GRADIENT_RULE(dynamic_update) {
    Value *update = node->inputs[1], *starts = node->inputs[2];
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_shape, update->shape.rank, update->shape.dim);
    input_grads[0] = build_node(g, OP_dynamic_update, 3, (Value *[]){result_grads[0], build_like(g, 0, update), starts}, NULL);
    input_grads[1] = build_node(g, OP_dynamic_slice, 2, (Value *[]){result_grads[0], starts}, &attrs);
}
