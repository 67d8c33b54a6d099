// Normalization: layer_norm over the last dimension, group_norm over groups of channels and all of space.
//
// group_norm decomposes so that no pass over the activations is about normalization alone: one pass of per-channel sums, which
// a producer can carry along, a tiny combine on [B, C], and an affine a[b,c] * (x - pivot[b,c]) + s[b,c] that fuses with whatever
// follows. The gradient is one pass of per-channel sums of dy and dy * (x - pivot), a combine, and an affine in dy and x.
// Sums of squares lose everything where the mean is large; here they are of x - pivot, pivot one element of the channel, and
// channels combine by Chan, Golub and LeVeque (1983): mean 100 with deviation 1 is as exact as mean 0.
#include <math.h>

#include "ops/composite.h"

static const char *check_affine(Graph *graph, const Node *node, int64_t channels) {
    for (int i = 1; i < 3; i++) {
        const Value *v = node->inputs[i];
        if (v->shape.rank != 1 || v->shape.dim[0] != channels || !lv_dtype_is_float(v->dtype))
            return refuse(graph, "%s: the %s is %s%s, not one number for each of %lld channels", op_name(node->op),
                          i == 1 ? "weight" : "bias", lv_dtype_name(v->dtype), shape_text(graph, v->shape), (long long)channels);
    }
    if (!(node_float(node, ATTR_eps, 1e-5) >= 0)) return refuse(graph, "%s: eps is not negative", op_name(node->op));
    return NULL;
}

// ---- layer_norm: x [..., C], weight [C], bias [C]: y = (x - mean) / sqrt(var + eps) * weight + bias
// The row is short and stays in cache: two passes, mean first, as exact as can be.

const char *shape_layer_norm(Graph *graph, Node *node) {
    const Value *x = node->inputs[0];
    if (!lv_dtype_is_float(x->dtype)) return refuse(graph, "layer_norm is of floats, not of %s", lv_dtype_name(x->dtype));
    if (x->shape.rank < 1) return refuse(graph, "layer_norm of a scalar");
    if (x->shape.dim[x->shape.rank - 1] < 1) return refuse(graph, "layer_norm over the empty last dimension of %s", shape_text(graph, x->shape));
    set_result(node, 0, x->dtype, x->shape);
    return check_affine(graph, node, x->shape.dim[x->shape.rank - 1]);
}

void evaluate_layer_norm(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    LvShape shape = inputs[0]->shape;
    int64_t c = shape.dim[shape.rank - 1], rows = lv_shape_elements(shape) / c;
    for (int64_t row = 0; row < rows; row++) {
        const double *x = inputs[0]->f + row * c;
        double *y = results[0].f + row * c, mean = 0, var = 0;
        for (int64_t i = 0; i < c; i++) mean += x[i] / (double)c;
        for (int64_t i = 0; i < c; i++) var += (x[i] - mean) * (x[i] - mean) / (double)c;
        double rstd = 1 / sqrt(var + node_float(node, ATTR_eps, 1e-5));
        for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mean) * rstd * inputs[1]->f[i] + inputs[2]->f[i];
    }
}

// xhat [..., C] = (x - mean) * rstd; *rstd [..., C] repeated along the row
static Value *layer_norm_center(Graph *g, const Node *node, Value **rstd) {
    Value *x = composite_widen(g, node->inputs[0]);
    int axis = x->shape.rank - 1;
    Value *share = composite_number(g, 1.0 / (double)x->shape.dim[axis], x);
    Value *mean = BINARY(mul, composite_sum(g, x, axis), share);
    Value *centered = BINARY(sub, x, composite_unreduce(g, mean, axis, x->shape));
    Value *var = BINARY(mul, composite_sum(g, BINARY(mul, centered, centered), axis), share);
    Value *r = UNARY(rsqrt, BINARY(add, var, composite_number(g, node_float(node, ATTR_eps, 1e-5), x)));
    *rstd = composite_unreduce(g, r, axis, x->shape);
    return BINARY(mul, centered, *rstd);
}

bool decompose_layer_norm(Graph *g, Node *node, Value **with) {
    Value *rstd, *xhat = layer_norm_center(g, node, &rstd);
    int axis = xhat->shape.rank - 1;
    Value *weight = build_cast(g, node->inputs[1], xhat->dtype), *bias = build_cast(g, node->inputs[2], xhat->dtype);
    Value *y = BINARY(mul, xhat, composite_along(g, weight, axis, xhat->shape));
    y = BINARY(add, y, composite_along(g, bias, axis, xhat->shape));
    with[0] = build_cast(g, y, node->inputs[0]->dtype);
    return true;
}

// Sum over every dimension but the last.
static Value *sum_rows(Graph *g, Value *x) {
    int64_t axes[LV_MAX_RANK];
    for (int i = 0; i < x->shape.rank - 1; i++) axes[i] = i;
    return x->shape.rank == 1 ? x : build_reduce(g, OP_reduce_sum, x, x->shape.rank - 1, axes);
}

// With h = dy * weight: dx = rstd * (h - mean(h) - xhat * mean(h * xhat)), dweight = sum dy * xhat, dbias = sum dy.
void gradient_layer_norm(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    Value *rstd, *xhat = layer_norm_center(g, node, &rstd), *dy = composite_widen(g, result_grads[0]);
    LvShape shape = xhat->shape;
    int axis = shape.rank - 1;
    Value *share = composite_number(g, 1.0 / (double)shape.dim[axis], xhat);
    Value *weight = build_cast(g, node->inputs[1], xhat->dtype);
    Value *h = BINARY(mul, dy, composite_along(g, weight, axis, shape));
    Value *mean = BINARY(mul, composite_sum(g, h, axis), share);
    Value *dot = BINARY(mul, composite_sum(g, BINARY(mul, h, xhat), axis), share);
    Value *dx = BINARY(sub, h, composite_unreduce(g, mean, axis, shape));
    dx = BINARY(mul, rstd, BINARY(sub, dx, BINARY(mul, xhat, composite_unreduce(g, dot, axis, shape))));
    input_grads[0] = build_cast(g, dx, node->inputs[0]->dtype);
    input_grads[1] = build_cast(g, sum_rows(g, BINARY(mul, dy, xhat)), node->inputs[1]->dtype);
    input_grads[2] = build_cast(g, sum_rows(g, dy), node->inputs[2]->dtype);
}

// ---- group_norm: x [B,C,...], weight [C], bias [C]; statistics over the C/groups channels of a group and all that follows

const char *shape_group_norm(Graph *graph, Node *node) {
    const Value *x = node->inputs[0];
    int64_t groups = node_int(node, ATTR_groups, 0);
    if (!lv_dtype_is_float(x->dtype)) return refuse(graph, "group_norm is of floats, not of %s", lv_dtype_name(x->dtype));
    if (x->shape.rank < 2) return refuse(graph, "group_norm: x is [B, C, ...], not %s", shape_text(graph, x->shape));
    for (int i = 1; i < x->shape.rank; i++)
        if (x->shape.dim[i] < 1) return refuse(graph, "group_norm over the empty dimension %d of %s", i, shape_text(graph, x->shape));
    if (groups < 1 || x->shape.dim[1] % groups)
        return refuse(graph, "group_norm: %lld channels do not divide into %lld groups", (long long)x->shape.dim[1], (long long)groups);
    set_result(node, 0, x->dtype, x->shape);
    return check_affine(graph, node, x->shape.dim[1]);
}

void evaluate_group_norm(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    LvShape shape = inputs[0]->shape;
    int64_t groups = node_int(node, ATTR_groups, 1), per_group = shape.dim[1] / groups, space = 1;
    for (int i = 2; i < shape.rank; i++) space *= shape.dim[i];
    int64_t n = per_group * space;
    for (int64_t group = 0; group < shape.dim[0] * groups; group++) {
        const double *x = inputs[0]->f + group * n;
        double *y = results[0].f + group * n, mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
        for (int64_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / (double)n;
        double rstd = 1 / sqrt(var + node_float(node, ATTR_eps, 1e-5));
        for (int64_t i = 0; i < n; i++) {
            int64_t channel = group % groups * per_group + i / space;
            y[i] = (x[i] - mean) * rstd * inputs[1]->f[channel] + inputs[2]->f[channel];
        }
    }
}

// What forward and backward share. Small ones are [B, G, K] (K channels a group) or [B, G].
typedef struct {
    LvShape shape, channels, grouped;  // x; [B, C]; [B, G, K]
    int64_t space;                     // elements of a channel
    Value *shifted;                    // x - pivot
    Value *pivot;                      // [B, G, K]
    Value *offset;                     // [B, G, K]: the group's mean - the channel's pivot
    Value *rstd;                       // [B, G, K], repeated along the group
} GroupNorm;

// One element of each channel: the middle one, for a corner often differs from the rest by its padding.
static Value *channel_pivot(Graph *g, Value *x, LvShape grouped) {
    int64_t starts[LV_MAX_RANK] = {0};
    LvShape one = x->shape;
    for (int i = 2; i < one.rank; i++) starts[i] = one.dim[i] / 2, one.dim[i] = 1;
    Value *slice = one.rank > 2 ? build_slice(g, x, starts, one, NULL) : x;
    return build_reshape(g, slice, grouped);
}

// [B, G, K] as one number for all of a channel
static Value *channel_expand(Graph *g, const GroupNorm *n, Value *v) {
    return build_expand(g, build_reshape(g, v, n->channels), n->shape, (int64_t[]){0, 1});
}

// Sum over space -> [B, G, K]
static Value *channel_sum(Graph *g, const GroupNorm *n, Value *v) {
    int64_t axes[LV_MAX_RANK];
    for (int i = 2; i < n->shape.rank; i++) axes[i - 2] = i;
    if (n->shape.rank > 2) v = build_reduce(g, OP_reduce_sum, v, n->shape.rank - 2, axes);
    return build_reshape(g, v, n->grouped);
}

// Mean over the channels of a group, repeated for each -> [B, G, K]
static Value *group_mean(Graph *g, const GroupNorm *n, Value *v) {
    Value *sum = BINARY(mul, composite_sum(g, v, 2), composite_number(g, 1.0 / (double)n->grouped.dim[2], v));
    return composite_unreduce(g, sum, 2, n->grouped);
}

static GroupNorm group_norm_statistics(Graph *g, const Node *node) {
    Value *x = composite_widen(g, node->inputs[0]);
    LvShape s = x->shape;
    int64_t groups = node_int(node, ATTR_groups, 1);
    GroupNorm n = {.shape = s, .space = 1, .channels = lv_shape(2, s.dim),
                   .grouped = lv_shape(3, (int64_t[]){s.dim[0], groups, s.dim[1] / groups})};
    for (int i = 2; i < s.rank; i++) n.space *= s.dim[i];
    n.pivot = channel_pivot(g, x, n.grouped);
    n.shifted = BINARY(sub, x, channel_expand(g, &n, n.pivot));
    Value *share = composite_number(g, 1.0 / (double)n.space, x);
    Value *mean = BINARY(mul, channel_sum(g, &n, n.shifted), share);  // of the channel, from its pivot
    Value *square = BINARY(mul, channel_sum(g, &n, BINARY(mul, n.shifted, n.shifted)), share);
    // Channels meet on the pivot of the group's first channel: distances from it are as small as the data's spread.
    Value *first = build_slice(g, n.pivot, (int64_t[]){0, 0, 0}, lv_shape(3, (int64_t[]){s.dim[0], groups, 1}), NULL);
    Value *apart = BINARY(sub, n.pivot, build_expand(g, first, n.grouped, (int64_t[]){0, 1, 2}));
    Value *middle = BINARY(add, apart, mean);
    Value *group = group_mean(g, &n, middle);
    Value *distance = BINARY(sub, middle, group);
    Value *within = BINARY(sub, square, BINARY(mul, mean, mean));
    Value *var = group_mean(g, &n, BINARY(add, within, BINARY(mul, distance, distance)));
    var = BINARY(max, var, composite_number(g, 0, x));  // rounding may leave a constant group just below 0
    n.rstd = UNARY(rsqrt, BINARY(add, var, composite_number(g, node_float(node, ATTR_eps, 1e-5), x)));
    n.offset = BINARY(sub, group, apart);
    return n;
}

// [C] as [B, G, K]
static Value *group_affine(Graph *g, const GroupNorm *n, Value *v) {
    v = build_cast(g, v, n->rstd->dtype);
    v = build_reshape(g, v, lv_shape(2, n->grouped.dim + 1));
    return build_expand(g, v, n->grouped, (int64_t[]){1, 2});
}

// y = a * (x - pivot) + s with a = weight * rstd, s = bias - a * offset
bool decompose_group_norm(Graph *g, Node *node, Value **with) {
    GroupNorm n = group_norm_statistics(g, node);
    Value *a = BINARY(mul, group_affine(g, &n, node->inputs[1]), n.rstd);
    Value *s = BINARY(sub, group_affine(g, &n, node->inputs[2]), BINARY(mul, a, n.offset));
    Value *y = BINARY(add, BINARY(mul, channel_expand(g, &n, a), n.shifted), channel_expand(g, &n, s));
    with[0] = build_cast(g, y, node->inputs[0]->dtype);
    return true;
}

// [B, G, K] -> [C]
static Value *sum_batch(Graph *g, const GroupNorm *n, Value *v, const Value *like) {
    Value *sum = build_reshape(g, composite_sum(g, v, 0), lv_shape(1, n->channels.dim + 1));
    return build_cast(g, sum, like->dtype);
}

// With t = sum dy, u = sum dy * (x - mean) * rstd over a channel, and over the group d = mean(weight t), e = mean(weight u),
// both per element: dx = rstd * (weight dy - d - xhat e) = p dy + q (x - pivot) + r; dweight = sum u, dbias = sum t.
void gradient_group_norm(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    GroupNorm n = group_norm_statistics(g, node);
    Value *dy = composite_widen(g, result_grads[0]);
    Value *t = channel_sum(g, &n, dy), *shifted = channel_sum(g, &n, BINARY(mul, dy, n.shifted));
    Value *u = BINARY(mul, BINARY(sub, shifted, BINARY(mul, n.offset, t)), n.rstd);
    Value *weight = group_affine(g, &n, node->inputs[1]);
    Value *share = composite_number(g, 1.0 / (double)n.space, dy);
    Value *d = BINARY(mul, group_mean(g, &n, BINARY(mul, weight, t)), share);
    Value *e = BINARY(mul, group_mean(g, &n, BINARY(mul, weight, u)), share);
    Value *p = BINARY(mul, weight, n.rstd);
    Value *slope = BINARY(mul, BINARY(mul, n.rstd, n.rstd), e);
    Value *r = BINARY(sub, BINARY(mul, slope, n.offset), BINARY(mul, n.rstd, d));
    Value *dx = BINARY(add, BINARY(mul, channel_expand(g, &n, p), dy),
                       BINARY(add, BINARY(mul, channel_expand(g, &n, UNARY(neg, slope)), n.shifted), channel_expand(g, &n, r)));
    input_grads[0] = build_cast(g, dx, node->inputs[0]->dtype);
    input_grads[1] = sum_batch(g, &n, u, node->inputs[1]);
    input_grads[2] = sum_batch(g, &n, t, node->inputs[2]);
}
