// requires     layouts chosen: by them a backend says what its convolutions can
// establishes  sums over the pixels of a convolution's result, maybe less a number for each channel,
//              and of its squares, are made from moments that the convolution leaves as it stores
//              its result (conv2d_moments): no kernel reads the result for them alone
// breaks       nothing
//
// Normalizations ask for such sums (ops/normalization.c), but nothing here depends on who asks.
// With means m and squared distances q of S strips of P pixels: sum of (x - p) = P sum of (m - p),
// sum of (x - p)^2 = sum of (q + P (m - p)^2); as exact as the sums were where p is near, for
// strips are joined around it. What is left to do is on [B, S, C]. Recomputed arithmetic and
// convolutions stay as remat left them: their sums, if there are any, are made of the first.
#include "codegen/codegen.h"
#include "ops/op.h"
#include "passes/pass.h"

// Sum over the pixels of (y - pivot), or of its square; y the result of `conv`, maybe widened.
// pivot [B, C], NULL: 0.
typedef struct {
    Node *sum, *conv;
    Value *pivot;
    bool squared;
} Asked;

// The convolution of which `value` is the result, as f32.
static Node *convolution_of(Value *value) {
    if (value->dtype != LV_F32) return NULL;
    if (value->node->op == OP_cast) value = value->node->inputs[0];
    return value->node->op == OP_conv2d ? value->node : NULL;
}

// [B, C] that is the same in all pixels.
static Value *pivot_of(const Value *value) {
    if (value->node->op != OP_expand) return NULL;
    const Attr *axes = node_attr(value->node, ATTR_axes);
    Value *pivot = value->node->inputs[0];
    bool right = pivot->shape.rank == 2 && axes->list.at[0] == 0 && axes->list.at[1] == 1;
    return right && lv_shape_equal(pivot->shape, lv_shape(2, value->shape.dim)) ? pivot : NULL;
}

static bool is_of_difference(Value *value, Asked *asked) {
    asked->pivot = NULL;
    asked->conv = convolution_of(value);
    if (asked->conv || value->node->op != OP_sub) return asked->conv != NULL;
    asked->conv = convolution_of(value->node->inputs[0]);
    asked->pivot = pivot_of(value->node->inputs[1]);
    return asked->conv && asked->pivot;
}

static bool is_asked(Node *node, Asked *asked) {
    if (node->op != OP_reduce_sum || node->inputs[0]->shape.rank != 4) return false;
    const Attr *axes = node_attr(node, ATTR_axes);
    Value *of = node->inputs[0];
    if (axes->list.count != 2 || axes->list.at[0] != 2 || axes->list.at[1] != 3) return false;
    asked->sum = node;
    asked->squared = of->node->op == OP_mul && of->node->inputs[0] == of->node->inputs[1];
    return is_of_difference(asked->squared ? of->node->inputs[0] : of, asked);
}

// The convolution with moments, which takes the place of `conv`.
static Node *with_moments(Graph *graph, Node *conv, int64_t strips, Replacements *with) {
    Attrs attrs = conv->attrs;
    attrs_int(&attrs, ATTR_strips, strips);
    rewrite_at(graph, conv);
    Value *y = build_node(graph, OP_conv2d_moments, conv->input_count, conv->inputs, &attrs);
    y->layout = conv->results[0].layout;
    replacements_set(with, conv->results[0].id, y);
    return y->node;
}

// Sums over the strips.
static Value *join(Graph *graph, const Asked *asked, const Node *moments) {
    Value *from = (Value *)&moments->results[1];
    LvShape pixels = moments->results[0].shape;
    double each = (double)(pixels.dim[2] * pixels.dim[3]) / (double)from->shape.dim[1];
    rewrite_at(graph, asked->sum);
    if (asked->pivot)
        from = build_binary(graph, OP_sub, from,
                            build_expand(graph, asked->pivot, from->shape, (int64_t[]){0, 2}));
    if (asked->squared) {
        Value *square = build_binary(graph, OP_mul, from, from);
        from = build_binary(graph, OP_add, (Value *)&moments->results[2],
                            build_binary(graph, OP_mul, square, build_like(graph, each, square)));
    }
    Value *sum = build_reduce(graph, OP_reduce_sum, from, 1, (int64_t[]){1});
    return asked->squared ? sum : build_binary(graph, OP_mul, sum, build_like(graph, each, sum));
}

bool pass_moments(Graph *graph, PassContext *context) {
    // by id of a convolution's result: that with moments which took its place
    Node **of = LV_NEW_ARRAY(context->arena, Node *, graph->next_value + 1);
    Replacements with = {0};
    for GRAPH_EACH(graph, node) {
        Asked asked;
        if (!is_asked(node, &asked)) continue;
        int id = asked.conv->results[0].id;
        int64_t strips = of[id] ? 0 : codegen_conv_strips(asked.conv, NULL, 0, context->target);
        if (strips) of[id] = with_moments(graph, asked.conv, strips, &with);
        if (of[id]) replacements_set(&with, node->results[0].id, join(graph, &asked, of[id]));
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
    return pass_dce(graph, context);
}
