// Movement: every result element is one input element in another place, or a filling. No arithmetic.
#include "ops/rules.h"

#define EVALUATE(name) \
    void evaluate_##name(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results)
#define GRADIENT_RULE(name) \
    void gradient_##name(Graph *g, Node *node, Value *const *result_grads, Value **input_grads)

// Fills `shape` from a list attribute; NULL or why not.
static const char *read_shape(Graph *graph, const Node *node, LvShape *shape) {
    const Attr *list = list_attr(node, ATTR_shape, -1);
    if (!list) return refuse(graph, "%s without a shape", op_name(node->op));
    if (list->list.count > LV_MAX_RANK) return refuse(graph, "%s to rank %d; %d is the most", op_name(node->op), list->list.count, LV_MAX_RANK);
    *shape = lv_shape(list->list.count, list->list.at);
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] < 0) return refuse(graph, "%s to a negative extent in %s", op_name(node->op), shape_text(graph, *shape));
    return NULL;
}

// ---- reshape: the same elements in row-major order

const char *shape_reshape(Graph *graph, Node *node) {
    LvShape shape, from = node->inputs[0]->shape;
    const char *wrong = read_shape(graph, node, &shape);
    if (wrong) return wrong;
    if (lv_shape_elements(shape) != lv_shape_elements(from))
        return refuse(graph, "reshape of %s (%lld elements) to %s (%lld elements)", shape_text(graph, from),
                      (long long)lv_shape_elements(from), shape_text(graph, shape), (long long)lv_shape_elements(shape));
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return NULL;
}

EVALUATE(reshape) { evaluate_copy(evaluation, node, inputs, results); }
GRADIENT_RULE(reshape) { input_grads[0] = build_reshape(g, result_grads[0], node->inputs[0]->shape); }

// ---- transpose: y[i...] = x[...], dimension i of y is dimension perm[i] of x

const char *shape_transpose(Graph *graph, Node *node) {
    LvShape from = node->inputs[0]->shape, shape = from;
    const Attr *perm = list_attr(node, ATTR_perm, from.rank);
    if (!perm) return refuse(graph, "transpose of rank %d needs %d dimensions", from.rank, from.rank);
    unsigned seen = 0;
    for (int i = 0; i < from.rank; i++) {
        int64_t p = perm->list.at[i];
        if (p < 0 || p >= from.rank || seen >> p & 1) return refuse(graph, "transpose: not a permutation of %d dimensions", from.rank);
        seen |= 1u << p;
        shape.dim[i] = from.dim[p];
    }
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return NULL;
}

// y[index] = x[sum of (start[i] + index[i] * step[i]) * stride[i]]: serves transpose, expand, slice, reverse.
static void copy_strided(const Tensor *x, Tensor *y, int64_t start, const int64_t *step) {
    int64_t index[LV_MAX_RANK] = {0}, at = 0;
    if (!lv_shape_elements(y->shape)) return;
    do {
        int64_t from = start;
        for (int i = 0; i < y->shape.rank; i++) from += index[i] * step[i];
        tensor_copy_element(y, at++, x, from);
    } while (index_next(y->shape, index));
}

EVALUATE(transpose) {
    (void)evaluation;
    int64_t stride[LV_MAX_RANK], step[LV_MAX_RANK];
    shape_strides(inputs[0]->shape, stride);
    for (int i = 0; i < results->shape.rank; i++) step[i] = stride[node_attr(node, ATTR_perm)->list.at[i]];
    copy_strided(inputs[0], results, 0, step);
}

GRADIENT_RULE(transpose) {
    int64_t inverse[LV_MAX_RANK] = {0};
    for (int i = 0; i < node->results[0].shape.rank; i++) inverse[node_attr(node, ATTR_perm)->list.at[i]] = i;
    input_grads[0] = build_transpose(g, result_grads[0], inverse);
}

// ---- expand: input dimension i becomes result dimension axes[i]; other dimensions, and those from extent 1, repeat

const char *shape_expand(Graph *graph, Node *node) {
    LvShape shape, from = node->inputs[0]->shape;
    const char *wrong = read_shape(graph, node, &shape);
    if (wrong) return wrong;
    const Attr *axes = list_attr(node, ATTR_axes, from.rank);
    if (!axes) return refuse(graph, "expand of rank %d needs %d axes", from.rank, from.rank);
    for (int i = 0; i < from.rank; i++) {
        int64_t axis = axes->list.at[i];
        if (axis < 0 || axis >= shape.rank || (i && axis <= axes->list.at[i - 1])) return refuse(graph, "expand: the axes must ascend within the result's rank");
        if (from.dim[i] != shape.dim[axis] && from.dim[i] != 1)
            return refuse(graph, "expand of %s to %s: extent %lld does not become %lld", shape_text(graph, from),
                          shape_text(graph, shape), (long long)from.dim[i], (long long)shape.dim[axis]);
    }
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return NULL;
}

EVALUATE(expand) {
    (void)evaluation;
    LvShape from = inputs[0]->shape;
    int64_t stride[LV_MAX_RANK], step[LV_MAX_RANK] = {0};
    shape_strides(from, stride);
    for (int i = 0; i < from.rank; i++)
        if (from.dim[i] != 1) step[node_attr(node, ATTR_axes)->list.at[i]] = stride[i];
    copy_strided(inputs[0], results, 0, step);
}

GRADIENT_RULE(expand) {
    LvShape from = node->inputs[0]->shape, to = node->results[0].shape;
    const Attr *axes = node_attr(node, ATTR_axes);
    int64_t summed[LV_MAX_RANK];
    int count = 0;
    for (int d = 0, i = 0; d < to.rank; d++) {
        bool kept = false;
        if (i < from.rank && axes->list.at[i] == d) kept = from.dim[i] == to.dim[d], i++;
        if (!kept) summed[count++] = d;
    }
    Value *sum = count ? build_reduce(g, OP_reduce_sum, result_grads[0], count, summed) : result_grads[0];
    input_grads[0] = build_reshape(g, sum, from);
}

// ---- slice: y[i] = x[start + i * step]

const char *shape_slice(Graph *graph, Node *node) {
    LvShape shape, from = node->inputs[0]->shape;
    const char *wrong = read_shape(graph, node, &shape);
    if (wrong) return wrong;
    const Attr *starts = list_attr(node, ATTR_starts, from.rank), *steps = list_attr(node, ATTR_steps, from.rank);
    if (!starts || !steps || shape.rank != from.rank) return refuse(graph, "slice of rank %d needs as many starts, extents and steps", from.rank);
    for (int i = 0; i < from.rank; i++) {
        int64_t start = starts->list.at[i], step = steps->list.at[i], last;
        bool over = step < 1 || start < 0 || start > from.dim[i];
        if (!over && shape.dim[i] > 0)
            over = __builtin_mul_overflow(shape.dim[i] - 1, step, &last) || __builtin_add_overflow(last, start, &last) || last >= from.dim[i];
        if (over)
            return refuse(graph, "slice of dimension %d (extent %lld) from %lld, %lld elements by steps of %lld", i,
                          (long long)from.dim[i], (long long)start, (long long)shape.dim[i], (long long)step);
    }
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return NULL;
}

EVALUATE(slice) {
    (void)evaluation;
    int64_t stride[LV_MAX_RANK], step[LV_MAX_RANK], start = 0;
    shape_strides(inputs[0]->shape, stride);
    for (int i = 0; i < results->shape.rank; i++) {
        start += node_attr(node, ATTR_starts)->list.at[i] * stride[i];
        step[i] = node_attr(node, ATTR_steps)->list.at[i] * stride[i];
    }
    copy_strided(inputs[0], results, start, step);
}

// dx is dy put back in its place, zeros around. Where the step is over 1: each element is followed by step - 1 zeros,
// by a dimension of its own that is padded and folded in.
GRADIENT_RULE(slice) {
    LvShape from = node->inputs[0]->shape;
    Value *dy = result_grads[0];
    const Attr *starts = node_attr(node, ATTR_starts), *steps = node_attr(node, ATTR_steps);
    if (!lv_shape_elements(dy->shape)) {
        input_grads[0] = build_like(g, 0, node->inputs[0]);
        return;
    }
    int64_t low[LV_MAX_RANK], high[LV_MAX_RANK];
    for (int d = 0; d < from.rank; d++) {
        int64_t step = steps->list.at[d], extent = dy->shape.dim[d];
        if (step == 1) continue;
        LvShape folded = {3, {1, extent, 1}}, flat = dy->shape;
        for (int i = 0; i < d; i++) folded.dim[0] *= dy->shape.dim[i];
        for (int i = d + 1; i < from.rank; i++) folded.dim[2] *= dy->shape.dim[i];
        LvShape split = {4, {folded.dim[0], extent, 1, folded.dim[2]}};
        dy = build_pad(g, build_reshape(g, dy, split), (int64_t[4]){0}, (int64_t[4]){0, 0, step - 1, 0}, 0);
        flat.dim[d] = extent * step;
        dy = build_reshape(g, dy, flat);
        int64_t zeros[LV_MAX_RANK] = {0};
        flat.dim[d] = (extent - 1) * step + 1;
        dy = build_slice(g, dy, zeros, flat, NULL);
    }
    for (int d = 0; d < from.rank; d++) {
        low[d] = starts->list.at[d];
        high[d] = from.dim[d] - low[d] - dy->shape.dim[d];
    }
    input_grads[0] = build_pad(g, dy, low, high, 0);
}

// ---- pad: x in the middle of a constant

const char *shape_pad(Graph *graph, Node *node) {
    LvShape shape = node->inputs[0]->shape;
    const Attr *low = list_attr(node, ATTR_low, shape.rank), *high = list_attr(node, ATTR_high, shape.rank);
    if (!low || !high || !node_attr(node, ATTR_value)) return refuse(graph, "pad of rank %d needs as many widths before and after, and a value", shape.rank);
    for (int i = 0; i < shape.rank; i++) {
        int64_t l = low->list.at[i], h = high->list.at[i];
        if (l < 0 || h < 0) return refuse(graph, "pad by a negative width; use slice to cut");
        if (__builtin_add_overflow(shape.dim[i], l, &shape.dim[i]) || __builtin_add_overflow(shape.dim[i], h, &shape.dim[i]))
            return refuse(graph, "pad makes dimension %d too large", i);
    }
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return NULL;
}

// x into y at `low`, in the places y[low + index].
static void copy_into(const Tensor *x, Tensor *y, const int64_t *low) {
    int64_t stride[LV_MAX_RANK], index[LV_MAX_RANK] = {0}, at = 0;
    if (!lv_shape_elements(x->shape)) return;
    shape_strides(y->shape, stride);
    do {
        int64_t to = 0;
        for (int i = 0; i < x->shape.rank; i++) to += (low[i] + index[i]) * stride[i];
        tensor_copy_element(y, to, x, at++);
    } while (index_next(x->shape, index));
}

EVALUATE(pad) {
    evaluate_constant(evaluation, node, inputs, results);
    copy_into(inputs[0], results, node_attr(node, ATTR_low)->list.at);
}

GRADIENT_RULE(pad) {
    input_grads[0] = build_slice(g, result_grads[0], node_attr(node, ATTR_low)->list.at, node->inputs[0]->shape, NULL);
}

// ---- concat along one dimension

const char *shape_concat(Graph *graph, Node *node) {
    if (node->input_count < 1) return refuse(graph, "concat of nothing");
    LvShape shape = node->inputs[0]->shape;
    int64_t axis = node_int(node, ATTR_axis, -1);
    if (axis < 0 || axis >= shape.rank) return refuse(graph, "concat along dimension %lld of rank %d", (long long)axis, shape.rank);
    for (int i = 1; i < node->input_count; i++) {
        LvShape other = node->inputs[i]->shape;
        bool same = other.rank == shape.rank && node->inputs[i]->dtype == node->inputs[0]->dtype;
        for (int d = 0; same && d < shape.rank; d++) same = d == axis || other.dim[d] == shape.dim[d];
        if (!same)
            return refuse(graph, "concat along dimension %lld of %s%s and %s%s", (long long)axis, lv_dtype_name(node->inputs[0]->dtype),
                          shape_text(graph, node->inputs[0]->shape), lv_dtype_name(node->inputs[i]->dtype), shape_text(graph, other));
        if (__builtin_add_overflow(shape.dim[axis], other.dim[axis], &shape.dim[axis])) return refuse(graph, "concat makes dimension %lld too large", (long long)axis);
    }
    set_result(node, 0, node->inputs[0]->dtype, shape);
    return NULL;
}

EVALUATE(concat) {
    (void)evaluation;
    int64_t low[LV_MAX_RANK] = {0}, axis = node_int(node, ATTR_axis, 0);
    for (int i = 0; i < node->input_count; i++) {
        copy_into(inputs[i], results, low);
        low[axis] += inputs[i]->shape.dim[axis];
    }
}

GRADIENT_RULE(concat) {
    int64_t starts[LV_MAX_RANK] = {0}, axis = node_int(node, ATTR_axis, 0);
    for (int i = 0; i < node->input_count; i++) {
        input_grads[i] = build_slice(g, result_grads[0], starts, node->inputs[i]->shape, NULL);
        starts[axis] += node->inputs[i]->shape.dim[axis];
    }
}

// ---- reverse: y[i] = x[extent - 1 - i] along each of the axes

const char *shape_reverse(Graph *graph, Node *node) {
    const Attr *axes = list_attr(node, ATTR_axes, -1);
    int rank = node->inputs[0]->shape.rank;
    if (!axes) return refuse(graph, "reverse without axes");
    for (int i = 0; i < axes->list.count; i++)
        if (axes->list.at[i] < 0 || axes->list.at[i] >= rank || (i && axes->list.at[i] <= axes->list.at[i - 1]))
            return refuse(graph, "reverse: the axes must ascend within rank %d", rank);
    return shape_same(graph, node);
}

EVALUATE(reverse) {
    (void)evaluation;
    int64_t step[LV_MAX_RANK], start = 0;
    const Attr *axes = node_attr(node, ATTR_axes);
    shape_strides(inputs[0]->shape, step);
    for (int i = 0; i < axes->list.count; i++) {
        int64_t axis = axes->list.at[i];
        start += (inputs[0]->shape.dim[axis] - 1) * step[axis];
        step[axis] = -step[axis];
    }
    copy_strided(inputs[0], results, start, step);
}

GRADIENT_RULE(reverse) { input_grads[0] = build_node(g, OP_reverse, 1, (Value *[]){result_grads[0]}, &node->attrs); }

// ---- pack: all inputs in one flat vector, each begun at a multiple of 16 elements

static int64_t rounded(int64_t count) { return (count + 15) / 16 * 16; }

const char *shape_pack(Graph *graph, Node *node) {
    LvShape shape = {1, {0}};
    for (int i = 0; i < node->input_count; i++) {
        if (node->inputs[i]->dtype != LV_F32) return refuse(graph, "pack is of f32, not of %s", lv_dtype_name(node->inputs[i]->dtype));
        if (__builtin_add_overflow(shape.dim[0], rounded(lv_shape_elements(node->inputs[i]->shape)), &shape.dim[0]))
            return refuse(graph, "pack: too many elements");
    }
    set_result(node, 0, LV_F32, shape);
    return NULL;
}

EVALUATE(pack) {
    (void)evaluation;
    int64_t at = 0;
    for (int i = 0; i < node->input_count; i++) {
        int64_t count = lv_shape_elements(inputs[i]->shape);
        for (int64_t k = 0; k < count; k++) results->f[at + k] = inputs[i]->f[k];
        at += rounded(count);
    }
}
