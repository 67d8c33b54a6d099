// Identities of reductions: over extents of 1, over what was expanded, over chains; factors that do not vary move out.
#include <string.h>

#include "ops/op.h"
#include "passes/algebra.h"

// How a reduction maps the dimensions of its input.
typedef struct {
    int rank;
    bool reduced[LV_MAX_RANK];
    int place[LV_MAX_RANK];  // of those kept: which dimension of the result
} Reduced;

static Reduced reduced_of(const Node *node) {
    Reduced r = {.rank = node->inputs[0]->shape.rank};
    int count, at = 0;
    const int64_t *axes = node_list(node, ATTR_axes, &count);
    for (int i = 0; i < count; i++) r.reduced[axes[i] < 0 ? axes[i] + r.rank : axes[i]] = true;
    for (int i = 0; i < r.rank; i++) r.place[i] = r.reduced[i] ? -1 : at++;
    return r;
}

static Value *scale(Graph *g, Value *x, double factor) {
    return factor == 1 ? x : build_binary(g, OP_mul, x, build_like(g, factor, x));
}

static Value *reduce_of_expand(Graph *g, Node *node, const Reduced *r) {
    const Node *expand = node->inputs[0]->node;
    Value *x = expand->inputs[0];
    LvShape from = node->inputs[0]->shape;
    const int64_t *axes = node_list(expand, ATTR_axes, NULL);
    bool from_x[LV_MAX_RANK] = {0};
    int64_t inner[LV_MAX_RANK], new_axes[LV_MAX_RANK];
    int inner_count = 0, kept = 0;
    double factor = 1;
    for (int i = 0; i < x->shape.rank; i++) {
        from_x[axes[i]] = true;
        if (!r->reduced[axes[i]]) {
            new_axes[kept++] = r->place[axes[i]];
            continue;
        }
        inner[inner_count++] = i;
        if (x->shape.dim[i] == 1) factor *= (double)from.dim[axes[i]];
    }
    bool repeats = false;
    for (int i = 0; i < r->rank; i++) {
        if (r->reduced[i] && !from_x[i]) factor *= (double)from.dim[i], repeats = true;
    }
    if (!repeats && factor == 1) return NULL;
    if (factor == 0) return NULL;  // over nothing: the identity of the reduction, not of x
    Value *y = inner_count ? build_reduce(g, node->op, x, inner_count, inner) : x;
    if (node->op == OP_reduce_sum) y = scale(g, y, factor);
    return build_expand(g, y, node->results[0].shape, new_axes);
}

static Value *reduce_of_reduce(Graph *g, Node *node, const Reduced *r) {
    Node *inner = node->inputs[0]->node;
    Reduced first = reduced_of(inner);
    int64_t axes[LV_MAX_RANK];
    int count = 0;
    for (int i = 0; i < first.rank; i++) {
        if (first.reduced[i] || r->reduced[first.place[i]]) axes[count++] = i;
    }
    return build_reduce(g, node->op, inner->inputs[0], count, axes);
}

static Value *reduce_of_transpose(Graph *g, Node *node, const Reduced *r) {
    const int64_t *perm = node_list(node->inputs[0]->node, ATTR_perm, NULL);
    Value *x = node->inputs[0]->node->inputs[0];
    bool reduced[LV_MAX_RANK] = {0};
    int64_t axes[LV_MAX_RANK], order[LV_MAX_RANK];
    int count = 0, kept = 0, place[LV_MAX_RANK];
    for (int i = 0; i < r->rank; i++) reduced[perm[i]] = r->reduced[i];
    for (int i = 0; i < r->rank; i++) {
        if (reduced[i]) axes[count++] = i;
        place[i] = i - count;  // of those kept
    }
    for (int i = 0; i < r->rank; i++) {
        if (!r->reduced[i]) order[kept++] = place[perm[i]];
    }
    Value *y = build_reduce(g, node->op, x, count, axes);
    bool moves = false;
    for (int i = 0; i < kept; i++) moves |= order[i] != i;
    return moves ? build_transpose(g, y, order) : y;
}

// reduce(reshape(x)) where dimensions that the reshape joins or cuts are all reduced or all kept: a reduction of x itself, so that
// it may ride on the pass that writes x. What no kernel writes stays: there the reshape may be what others read beside it.
static Value *reduce_of_reshape(Graph *g, Node *node, const Reduced *r) {
    Value *x = node->inputs[0]->node->inputs[0];
    if (!node_is_elementwise(x->node) && node->results[0].shape.rank > 0) return NULL;
    LvShape to = node->inputs[0]->shape, from = x->shape;
    int64_t axes[LV_MAX_RANK];
    int count = 0;
    for (int i = 0, k = 0; i < from.rank || k < to.rank;) {
        int first = i, first_to = k;
        int64_t inside = i < from.rank ? from.dim[i++] : 1, outside = k < to.rank ? to.dim[k++] : 1;
        while (inside < outside) inside *= from.dim[i++];
        while (outside < inside) {
            outside *= to.dim[k++];
            while (inside < outside) inside *= from.dim[i++];
        }
        bool reduced = false, kept = false;
        for (int j = first_to; j < k; j++) {
            if (to.dim[j] != 1) reduced |= r->reduced[j], kept |= !r->reduced[j];
        }
        if (reduced && kept) return NULL;
        for (int j = first; reduced && j < i; j++) axes[count++] = j;
    }
    if (count == 0) return NULL;
    return build_reshape(g, build_reduce(g, node->op, x, count, axes), node->results[0].shape);
}

// sum(x * a) where a is the same along all that is summed: sum(x) * a.
static Value *sum_of_product(Graph *g, Node *node, const Reduced *r) {
    const Node *product = node->inputs[0]->node;
    for (int side = 1; side >= 0; side--) {
        Value *a = product->inputs[side], *x = product->inputs[1 - side];
        int count;
        const int64_t *axes = node_list(node, ATTR_axes, &count);
        if (value_is_constant(a) && value_is_float(a)) {
            return scale(g, build_reduce(g, OP_reduce_sum, x, count, axes), value_number(a));
        }
        if (a->node->op != OP_expand || !value_is_float(a)) continue;
        const int64_t *places = node_list(a->node, ATTR_axes, NULL);
        Value *small = a->node->inputs[0];
        int64_t new_axes[LV_MAX_RANK];
        bool varies = false;
        for (int i = 0; i < small->shape.rank; i++) {
            varies |= r->reduced[places[i]];
            new_axes[i] = r->place[places[i]];
        }
        if (varies) continue;
        Value *sum = build_reduce(g, OP_reduce_sum, x, count, axes);
        return build_binary(g, OP_mul, sum, build_expand(g, small, sum->shape, new_axes));
    }
    return NULL;
}

Value *algebra_reduction(Graph *graph, Node *node, const Algebra *algebra) {
    if (node->op != OP_reduce_sum && node->op != OP_reduce_max && node->op != OP_reduce_min) return NULL;
    Value *x = node->inputs[0];
    Reduced r = reduced_of(node);
    bool ones = true;
    for (int i = 0; i < r.rank; i++) ones &= !r.reduced[i] || x->shape.dim[i] == 1;
    if (ones) return build_reshape(graph, x, node->results[0].shape);
    if (lv_shape_elements(x->shape) == 0) return NULL;
    Op made = x->node->op;
    if (value_is_constant(x) && value_is_float(x)) {
        double number = value_number(x);
        double extent = (double)lv_shape_elements(x->shape) / (double)lv_shape_elements(node->results[0].shape);
        if (node->op == OP_reduce_sum) number = x->dtype == LV_F32 ? (double)(float)(number * extent) : number * extent;
        return build_constant(graph, number, x->dtype, node->results[0].shape);
    }
    if (made == OP_expand) return reduce_of_expand(graph, node, &r);
    if (made == node->op && algebra_single_use(algebra, x)) return reduce_of_reduce(graph, node, &r);
    if (made == OP_transpose) return reduce_of_transpose(graph, node, &r);
    if (made == OP_reshape) return reduce_of_reshape(graph, node, &r);
    if (node->op == OP_reduce_sum && made == OP_mul && algebra_single_use(algebra, x)) return sum_of_product(graph, node, &r);
    if (node->op == OP_reduce_sum && made == OP_neg && algebra_single_use(algebra, x)) {
        int count;
        const int64_t *axes = node_list(node, ATTR_axes, &count);
        return build_unary(graph, OP_neg, build_reduce(graph, OP_reduce_sum, x->node->inputs[0], count, axes));
    }
    return NULL;
}
