// Identities of movements: two that follow each other become one, those that move nothing go.
#include <string.h>

#include "ops/op.h"
#include "passes/algebra.h"

// ---- reshape, and its kin that only add or drop dimensions of extent 1

static bool only_ones_differ(LvShape a, LvShape b) {
    int i = 0, j = 0;
    for (;;) {
        while (i < a.rank && a.dim[i] == 1) i++;
        while (j < b.rank && b.dim[j] == 1) j++;
        if (i == a.rank || j == b.rank) return i == a.rank && j == b.rank;
        if (a.dim[i++] != b.dim[j++]) return false;
    }
}

// reshape(expand(x)) where the reshape only adds or drops extents of 1: an expand of x, or of x without such extents.
static Value *reshape_of_expand(Graph *g, Node *node) {
    const Node *expand = node->inputs[0]->node;
    LvShape from = node->inputs[0]->shape, to = node->results[0].shape;
    if (!only_ones_differ(from, to)) return NULL;
    int place[LV_MAX_RANK];  // where each dimension of `from` goes, -1: an extent of 1 that is dropped
    for (int i = 0, j = 0; i < from.rank; i++) {
        place[i] = -1;
        if (from.dim[i] == 1) continue;
        while (to.dim[j] == 1) j++;
        place[i] = j++;
    }
    Value *x = expand->inputs[0];
    const int64_t *axes = node_list(expand, ATTR_axes, NULL);
    LvShape kept = {0};
    int64_t kept_axes[LV_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++) {
        if (place[axes[i]] < 0) continue;  // extent 1 in the result, so 1 in x
        kept_axes[kept.rank] = place[axes[i]];
        kept.dim[kept.rank++] = x->shape.dim[i];
    }
    return build_expand(g, build_reshape(g, x, kept), to, kept_axes);
}

static Value *rule_reshape(Graph *g, Node *node) {
    Value *x = node->inputs[0];
    LvShape to = node->results[0].shape;
    if (lv_shape_equal(x->shape, to)) return x;
    if (x->node->op == OP_reshape) return build_reshape(g, x->node->inputs[0], to);
    if (x->node->op == OP_expand) return reshape_of_expand(g, node);
    return NULL;
}

// ---- transpose

static bool is_identity(const int64_t *perm, int rank) {
    for (int i = 0; i < rank; i++) {
        if (perm[i] != i) return false;
    }
    return true;
}

static bool moves_only_ones(const int64_t *perm, LvShape from) {
    int64_t last = -1;
    for (int i = 0; i < from.rank; i++) {
        if (from.dim[perm[i]] == 1) continue;
        if (perm[i] < last) return false;
        last = perm[i];
    }
    return true;
}

static Value *transpose_of_expand(Graph *g, Node *node) {
    const Node *expand = node->inputs[0]->node;
    const int64_t *perm = node_list(node, ATTR_perm, NULL), *axes = node_list(expand, ATTR_axes, NULL);
    Value *x = expand->inputs[0];
    LvShape to = node->results[0].shape;
    int64_t order[LV_MAX_RANK], new_axes[LV_MAX_RANK];
    int count = 0;
    for (int i = 0; i < to.rank; i++) {  // result dimension i was perm[i]; which dimension of x is it?
        for (int k = 0; k < x->shape.rank; k++) {
            if (axes[k] != perm[i]) continue;
            order[count] = k;
            new_axes[count++] = i;
        }
    }
    return build_expand(g, is_identity(order, count) ? x : build_transpose(g, x, order), to, new_axes);
}

static Value *rule_transpose(Graph *g, Node *node, const Algebra *algebra) {
    Value *x = node->inputs[0];
    const int64_t *perm = node_list(node, ATTR_perm, NULL);
    if (is_identity(perm, x->shape.rank)) return x;
    if (moves_only_ones(perm, x->shape)) return build_reshape(g, x, node->results[0].shape);
    if (x->node->op == OP_expand) return transpose_of_expand(g, node);
    if (x->node->op == OP_transpose) {
        const int64_t *inner = node_list(x->node, ATTR_perm, NULL);
        int64_t both[LV_MAX_RANK];
        for (int i = 0; i < x->shape.rank; i++) both[i] = inner[perm[i]];
        return build_transpose(g, x->node->inputs[0], both);
    }
    int rank = x->shape.rank;
    bool swaps = rank >= 2 && is_identity(perm, rank - 2) && perm[rank - 1] == rank - 2;
    if (swaps && x->node->op == OP_matmul && x->node->input_count == 2 && algebra_single_use(algebra, x) &&
        !node_int(x->node, ATTR_activation, 0)) {  // (A B)^T = B^T A^T
        Attrs attrs = {0};
        attrs_bool(&attrs, ATTR_transpose_a, !node_bool(x->node, ATTR_transpose_b, false));
        attrs_bool(&attrs, ATTR_transpose_b, !node_bool(x->node, ATTR_transpose_a, false));
        if (node_attr(x->node, ATTR_scale)) attrs_float(&attrs, ATTR_scale, node_float(x->node, ATTR_scale, 1));
        return build_node(g, OP_matmul, 2, (Value *[]){x->node->inputs[1], x->node->inputs[0]}, &attrs);
    }
    return NULL;
}

// ---- expand

// expand(reshape(x)) where the reshape only adds extents of 1: an expand of x.
static Value *expand_of_reshape(Graph *g, Node *node) {
    const Node *reshape = node->inputs[0]->node;
    Value *x = reshape->inputs[0];
    LvShape from = x->shape, mid = node->inputs[0]->shape;
    const int64_t *axes = node_list(node, ATTR_axes, NULL);
    int64_t new_axes[LV_MAX_RANK];
    if (!only_ones_differ(from, mid)) return NULL;
    LvShape kept = {0};
    for (int i = 0; i < mid.rank; i++) {
        if (mid.dim[i] == 1) continue;
        new_axes[kept.rank] = axes[i];
        kept.dim[kept.rank++] = mid.dim[i];
    }
    if (lv_shape_equal(kept, mid)) return NULL;  // the reshape is already as short as can be
    return build_expand(g, build_reshape(g, x, kept), node->results[0].shape, new_axes);
}

static Value *rule_expand(Graph *g, Node *node) {
    Value *x = node->inputs[0];
    const int64_t *axes = node_list(node, ATTR_axes, NULL);
    if (lv_shape_equal(x->shape, node->results[0].shape)) return x;
    if (x->node->op == OP_expand) {
        const int64_t *inner = node_list(x->node, ATTR_axes, NULL);
        int64_t both[LV_MAX_RANK];
        for (int i = 0; i < x->node->inputs[0]->shape.rank; i++) both[i] = axes[inner[i]];
        return build_expand(g, x->node->inputs[0], node->results[0].shape, both);
    }
    if (x->node->op == OP_reshape) return expand_of_reshape(g, node);
    if (lv_shape_elements(node->results[0].shape) == lv_shape_elements(x->shape) &&
        only_ones_differ(x->shape, node->results[0].shape)) {
        return build_reshape(g, x, node->results[0].shape);
    }
    return NULL;
}

// ---- slice

static Value *slice_of_slice(Graph *g, Node *node) {
    const Node *inner = node->inputs[0]->node;
    const int64_t *start = node_list(node, ATTR_starts, NULL), *step = node_list(node, ATTR_steps, NULL);
    const int64_t *inner_start = node_list(inner, ATTR_starts, NULL), *inner_step = node_list(inner, ATTR_steps, NULL);
    int64_t starts[LV_MAX_RANK], steps[LV_MAX_RANK];
    LvShape shape = node->results[0].shape;
    for (int i = 0; i < shape.rank; i++) {
        starts[i] = inner_start[i] + start[i] * inner_step[i];
        steps[i] = step[i] * inner_step[i];
    }
    return build_slice(g, inner->inputs[0], starts, shape, steps);
}

// First and last index that the slice takes along a dimension.
static void slice_range(const Node *node, int dim, int64_t *first, int64_t *last) {
    *first = node_list(node, ATTR_starts, NULL)[dim];
    *last = *first + (node->results[0].shape.dim[dim] - 1) * node_list(node, ATTR_steps, NULL)[dim];
}

static Value *slice_of_pad(Graph *g, Node *node) {
    const Node *pad = node->inputs[0]->node;
    const int64_t *low = node_list(pad, ATTR_low, NULL);
    Value *x = pad->inputs[0];
    int64_t starts[LV_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++) {
        int64_t first, last;
        slice_range(node, i, &first, &last);
        if (first < low[i] || last >= low[i] + x->shape.dim[i]) return NULL;
        starts[i] = first - low[i];
    }
    return build_slice(g, x, starts, node->results[0].shape, node_list(node, ATTR_steps, NULL));
}

static Value *slice_of_concat(Graph *g, Node *node) {
    const Node *concat = node->inputs[0]->node;
    int axis = (int)node_int(concat, ATTR_axis, 0);
    if (axis < 0) axis += node->results[0].shape.rank;
    int64_t first, last, at = 0;
    slice_range(node, axis, &first, &last);
    for (int i = 0; i < concat->input_count; i++) {
        Value *part = concat->inputs[i];
        int64_t end = at + part->shape.dim[axis];
        if (first >= at && last < end) {
            int64_t starts[LV_MAX_RANK];
            memcpy(starts, node_list(node, ATTR_starts, NULL), sizeof(int64_t) * (size_t)part->shape.rank);
            starts[axis] -= at;
            return build_slice(g, part, starts, node->results[0].shape, node_list(node, ATTR_steps, NULL));
        }
        at = end;
    }
    return NULL;
}

static Value *slice_of_expand(Graph *g, Node *node) {
    const Node *expand = node->inputs[0]->node;
    Value *x = expand->inputs[0];
    const int64_t *axes = node_list(expand, ATTR_axes, NULL);
    const int64_t *start = node_list(node, ATTR_starts, NULL), *step = node_list(node, ATTR_steps, NULL);
    LvShape from = node->inputs[0]->shape, shape = x->shape;
    int64_t starts[LV_MAX_RANK], steps[LV_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++) {
        bool stretched = x->shape.dim[i] == 1 && from.dim[axes[i]] != 1;
        starts[i] = stretched ? 0 : start[axes[i]];
        steps[i] = stretched ? 1 : step[axes[i]];
        if (!stretched) shape.dim[i] = node->results[0].shape.dim[axes[i]];
    }
    return build_expand(g, build_slice(g, x, starts, shape, steps), node->results[0].shape, axes);
}

static Value *rule_slice(Graph *g, Node *node) {
    Value *x = node->inputs[0];
    if (lv_shape_equal(x->shape, node->results[0].shape)) return x;  // steps over 1 would have made it smaller
    if (lv_shape_elements(node->results[0].shape) == 0) return NULL;
    switch (x->node->op) {
    case OP_slice: return slice_of_slice(g, node);
    case OP_pad: return slice_of_pad(g, node);
    case OP_concat: return slice_of_concat(g, node);
    case OP_expand: return slice_of_expand(g, node);
    default: return NULL;
    }
}

// ---- the rest

static Value *rule_pad(Graph *g, Node *node) {
    Value *x = node->inputs[0];
    if (lv_shape_equal(x->shape, node->results[0].shape)) return x;
    double value = node_float(node, ATTR_value, 0), inner = x->node->op == OP_pad ? node_float(x->node, ATTR_value, 0) : 0;
    if (x->node->op != OP_pad || memcmp(&value, &inner, sizeof value) != 0) return NULL;
    int64_t low[LV_MAX_RANK], high[LV_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++) {
        low[i] = node_list(node, ATTR_low, NULL)[i] + node_list(x->node, ATTR_low, NULL)[i];
        high[i] = node_list(node, ATTR_high, NULL)[i] + node_list(x->node, ATTR_high, NULL)[i];
    }
    return build_pad(g, x->node->inputs[0], low, high, value);
}

// A part that is a concatenation along the same dimension, and read here alone, gives its own parts.
static const Node *inner_concat(const Value *part, int axis, const Algebra *algebra) {
    const Node *node = part->node;
    return node->op == OP_concat && (int)node_int(node, ATTR_axis, 0) == axis && algebra_single_use(algebra, part) ? node : NULL;
}

static Value *rule_concat(Graph *g, Node *node, const Algebra *algebra) {
    int axis = (int)node_int(node, ATTR_axis, 0), room = 0, used = 0;
    bool changes = false;
    if (node->input_count == 1) return node->inputs[0];
    for (int i = 0; i < node->input_count; i++) {
        const Node *inner = inner_concat(node->inputs[i], axis, algebra);
        bool empty = !lv_shape_elements(node->inputs[i]->shape);
        room += inner ? inner->input_count : 1;
        used += !empty;
        changes |= inner || empty;
    }
    if (!changes || !used) return NULL;
    Value **parts = LV_NEW_ARRAY(g->arena, Value *, room);
    used = 0;
    for (int i = 0; i < node->input_count; i++) {
        const Node *inner = inner_concat(node->inputs[i], axis, algebra);
        if (!lv_shape_elements(node->inputs[i]->shape)) continue;
        for (int k = 0; inner && k < inner->input_count; k++) parts[used++] = inner->inputs[k];
        if (!inner) parts[used++] = node->inputs[i];
    }
    return build_concat(g, used, parts, axis);
}

static Value *rule_reverse(Graph *g, Node *node) {
    Value *x = node->inputs[0];
    int count, inner_count;
    (void)g;
    const int64_t *axes = node_list(node, ATTR_axes, &count);
    bool moves = false;
    for (int i = 0; i < count; i++) moves |= x->shape.dim[axes[i]] > 1;
    if (!moves) return x;
    if (x->node->op != OP_reverse) return NULL;
    const int64_t *inner = node_list(x->node, ATTR_axes, &inner_count);
    bool undone = count == inner_count && memcmp(axes, inner, (size_t)count * sizeof *axes) == 0;
    return undone ? x->node->inputs[0] : NULL;
}

// Starts that are known at compile time: an ordinary slice.
static Value *rule_dynamic_slice(Graph *g, Node *node) {
    Value *x = node->inputs[0], *start = node->inputs[1];
    Op op = start->node->op;
    if (op != OP_constant && op != OP_literal) return NULL;
    LvShape shape = node->results[0].shape;
    int64_t starts[LV_MAX_RANK] = {0};
    for (int i = 0; i < shape.rank; i++) {
        int64_t at = (int64_t)(op == OP_constant ? value_number(start)
                                                 : lv_element_get(node_attr(start->node, ATTR_data)->data, start->dtype, i));
        int64_t most = x->shape.dim[i] - shape.dim[i];
        starts[i] = at < 0 ? 0 : at > most ? most : at;
    }
    return build_slice(g, x, starts, shape, NULL);
}

static bool swaps_last_two(const Node *node) {
    if (node->op != OP_transpose) return false;
    int rank;
    const int64_t *perm = node_list(node, ATTR_perm, &rank);
    return rank >= 2 && is_identity(perm, rank - 2) && perm[rank - 1] == rank - 2;
}

// A matmul reads its operands transposed for nothing.
static Value *rule_matmul(Graph *g, Node *node) {
    bool a = swaps_last_two(node->inputs[0]->node), b = swaps_last_two(node->inputs[1]->node);
    if (!a && !b) return NULL;
    Value **inputs = LV_NEW_ARRAY(g->arena, Value *, node->input_count);
    for (int i = 0; i < node->input_count; i++) inputs[i] = node->inputs[i];
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_transpose_a, node_bool(node, ATTR_transpose_a, false) != a);
    attrs_bool(&attrs, ATTR_transpose_b, node_bool(node, ATTR_transpose_b, false) != b);
    for (int i = 0; i < node->attrs.count; i++) {
        const Attr *attr = &node->attrs.at[i];
        if (attr->name != ATTR_transpose_a && attr->name != ATTR_transpose_b) attrs.at[attrs.count++] = *attr;
    }
    if (a) inputs[0] = inputs[0]->node->inputs[0];
    if (b) inputs[1] = inputs[1]->node->inputs[0];
    return build_node(g, OP_matmul, node->input_count, inputs, &attrs);
}

// ---- sums of what is zero elsewhere: the gradients of a tensor's slices

// The one dimension that a pad by zeros adds to; -1: none, or several.
static int padded_axis(const Value *value) {
    const Node *node = value->node;
    if (node->op != OP_pad || node_float(node, ATTR_value, 0) != 0) return -1;
    const int64_t *low = node_list(node, ATTR_low, NULL), *high = node_list(node, ATTR_high, NULL);
    int axis = -1;
    for (int i = 0; i < value->shape.rank; i++) {
        if (low[i] == 0 && high[i] == 0) continue;
        if (axis >= 0 || low[i] < 0 || high[i] < 0) return -1;
        axis = i;
    }
    return axis;
}

Value *algebra_side_by_side(Graph *g, Value *a, Value *b) {
    int axis = padded_axis(a);
    if (axis < 0 || axis != padded_axis(b)) return NULL;
    if (node_list(a->node, ATTR_low, NULL)[axis] > node_list(b->node, ATTR_low, NULL)[axis]) {
        Value *swap = a;
        a = b, b = swap;
    }
    Value *parts[2] = {a->node->inputs[0], b->node->inputs[0]};
    int64_t low[LV_MAX_RANK] = {0}, high[LV_MAX_RANK] = {0};
    low[axis] = node_list(a->node, ATTR_low, NULL)[axis], high[axis] = node_list(b->node, ATTR_high, NULL)[axis];
    if (low[axis] + parts[0]->shape.dim[axis] != node_list(b->node, ATTR_low, NULL)[axis]) return NULL;
    Value *both = build_concat(g, 2, parts, axis);
    return low[axis] || high[axis] ? build_pad(g, both, low, high, 0) : both;
}

// ---- movements of what was widened: the narrow value is moved, and widened then

static Value *widened(const Value *value) {
    const Node *node = value->node;
    if (node->op != OP_cast || !value_is_float(value) || !value_is_float(node->inputs[0])) return NULL;
    return lv_dtype_size(node->inputs[0]->dtype) < lv_dtype_size(value->dtype) ? node->inputs[0] : NULL;
}

static Value *rule_widen_late(Graph *g, Node *node) {
    bool moves = node->op == OP_reshape || node->op == OP_transpose || node->op == OP_slice || node->op == OP_concat;
    Value *first = moves ? widened(node->inputs[0]) : NULL;
    if (!first) return NULL;
    Value **inputs = LV_NEW_ARRAY(g->arena, Value *, node->input_count);
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = widened(node->inputs[i]);
        if (!inputs[i] || inputs[i]->dtype != first->dtype) return NULL;
    }
    return build_cast(g, &node_add_like(g, node, inputs)->results[0], node->results[0].dtype);
}

static Value *algebra_move(Graph *graph, Node *node, const Algebra *algebra) {
    switch (node->op) {
    case OP_reshape: return rule_reshape(graph, node);
    case OP_transpose: return rule_transpose(graph, node, algebra);
    case OP_expand: return rule_expand(graph, node);
    case OP_slice: return rule_slice(graph, node);
    case OP_pad: return rule_pad(graph, node);
    case OP_concat: return rule_concat(graph, node, algebra);
    case OP_reverse: return rule_reverse(graph, node);
    case OP_dynamic_slice: return rule_dynamic_slice(graph, node);
    case OP_matmul: return rule_matmul(graph, node);
    default: return NULL;
    }
}

Value *algebra_movement(Graph *graph, Node *node, const Algebra *algebra) {
    Value *value = algebra_move(graph, node, algebra);
    return !value && algebra->widens_late ? rule_widen_late(graph, node) : value;
}
