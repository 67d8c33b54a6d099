// requires     algebra done (a repeated map is a reshape of an expand); before autodiff
// establishes  a dense convolution of a map whose rows and columns are repeated reads the map itself, as a transposed convolution
// breaks       nothing; what becomes unused is left to dce
//
// With each pixel f times in a row, y[i] = sum over taps p of w[p] x[(i + p - top) / f], rounded down. Taps that meet the same pixel of
// x are one: y[i] = sum over q of K[q] x[j], i = j f + q - (taps - 1 - top), K[q] = sum over r < f of w[taps - 1 - q + r]. This is
// the data gradient of a convolution of stride f with the weight K, of taps + f - 1 taps. Of the 9 products of a pixel of y of 3 x 3
// taps over pixels repeated 2 x 2 it does 4; the repeated map is never made, nor its gradient. So are the gradients: of x a
// convolution of stride f, of K a weight gradient over the small map. K is as large as a weight, made once a step.
#include "ops/op.h"
#include "passes/pass.h"

typedef struct {
    Value *x;           // [B, C, H, W]
    int64_t factor[2];  // that its rows and columns are repeated by
} Repeated;

// [B, C, H, f, W, g] of which the dimensions of f and g repeat, and only those, then taken as [B, C, H f, W g].
static bool is_repeated(Graph *graph, Value *wide, Repeated *repeated) {
    if (wide->node->op != OP_reshape || wide->node->inputs[0]->node->op != OP_expand) return false;
    const Node *expand = wide->node->inputs[0]->node;
    const LvShape six = expand->results[0].shape, from = expand->inputs[0]->shape;
    const int64_t *d = six.dim, *axes = node_attr(expand, ATTR_axes)->list.at;
    LvShape small = lv_shape(4, (int64_t[]){d[0], d[1], d[2], d[4]});
    if (six.rank != 6 || wide->shape.rank != 4 || lv_shape_elements(from) != lv_shape_elements(small)) return false;
    if (!lv_shape_equal(wide->shape, lv_shape(4, (int64_t[]){d[0], d[1], d[2] * d[3], d[4] * d[5]}))) return false;
    for (int i = 0; i < from.rank; i++)
        if (from.dim[i] > 1 && (axes[i] == 3 || axes[i] == 5)) return false;
    if (d[3] * d[5] == 1) return false;
    *repeated = (Repeated){build_reshape(graph, expand->inputs[0], small), {d[3], d[5]}};
    return true;
}

// v with `count` - 1 more elements along the axis: the sum of v and of v moved on by 1, 2 ...
static Value *widened(Graph *graph, Value *v, int axis, int64_t count) {
    Value *sum = NULL;
    for (int64_t i = 0; i < count; i++) {
        int64_t low[4] = {0}, high[4] = {0};
        low[axis] = i, high[axis] = count - 1 - i;
        Value *moved = build_pad(graph, v, low, high, 0);
        sum = sum ? build_binary(graph, OP_add, sum, moved) : moved;
    }
    return sum;
}

// [O, C, KH, KW] -> K [C, O, KH + f - 1, KW + g - 1]
static Value *joined_taps(Graph *graph, Value *weight, const int64_t factor[2]) {
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_axes, 2, (int64_t[]){2, 3});
    Value *turned = build_transpose(graph, weight, (int64_t[]){1, 0, 2, 3});
    turned = build_node(graph, OP_reverse, 1, &turned, &attrs);
    return widened(graph, widened(graph, turned, 2, factor[0]), 3, factor[1]);
}

static Value *upsample_rule(Graph *graph, Node *node, void *user) {
    (void)user;
    Repeated repeated;
    if (node->op != OP_conv2d || node->input_count != 2) return NULL;
    const int64_t *stride = node_attr(node, ATTR_stride)->list.at, *pad = node_attr(node, ATTR_pad)->list.at;
    const LvShape taps = node->inputs[1]->shape;
    int64_t wide = taps.dim[3] - 1, high = taps.dim[2] - 1;
    bool inside = pad[0] <= wide && pad[1] <= wide && pad[2] <= high && pad[3] <= high;  // all padding is met by some tap, never by all
    if (stride[0] != 1 || stride[1] != 1 || !inside || !is_repeated(graph, node->inputs[0], &repeated)) return NULL;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_stride, 2, repeated.factor);
    attrs_list(&attrs, ATTR_pad, 4, (int64_t[]){wide - pad[0], wide - pad[1], high - pad[2], high - pad[3]});
    attrs_list(&attrs, ATTR_shape, 4, node->results[0].shape.dim);
    Value *inputs[2] = {repeated.x, joined_taps(graph, node->inputs[1], repeated.factor)};
    return build_node(graph, OP_conv2d_data_grad, 2, inputs, &attrs);
}

bool pass_upsample(Graph *graph, PassContext *context) {
    rewrite_walk(graph, upsample_rule, NULL);
    return pass_dce(graph, context);
}
