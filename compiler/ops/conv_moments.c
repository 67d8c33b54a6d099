// conv2d_moments: a convolution that also says what its result is like, channel by channel: the
// sums that a normalization after it asks for, made while the result is at hand. A picture's
// pixels, in row-major order, are cut into `strips` runs of equal length; of each run y is summed
// up by its mean and by the sum of squared distances from that mean, which lose nothing where the
// mean is large, and which join by Chan, Golub and LeVeque (1983). They are of y as it is stored,
// rounded to its type.
#include "ops/composite.h"

// ---- conv2d_moments: x, weight, bias, residual as of conv2d -> y [B,O,OH,OW], means, squares
// [B,S,O]; S strips of P pixels.
// means[b,s,o] = sum of y[b,o,i] / P over the pixels i of strip s
// squares[b,s,o] = sum of (y[b,o,i] - means[b,s,o])^2

const char *shape_conv2d_moments(Graph *graph, Node *node) {
    const char *wrong = shape_conv2d(graph, node);
    if (wrong) return wrong;
    LvShape y = node->results[0].shape;
    int64_t strips = node_int(node, ATTR_strips, 0), pixels = y.dim[2] * y.dim[3];
    if (strips < 1 || pixels % strips)
        return refuse(graph, "conv2d_moments: the pixels of %s are not cut into %lld strips",
                      shape_text(graph, y), (long long)strips);
    LvDType dtype = node->results[0].dtype == LV_F64 ? LV_F64 : LV_F32;
    for (int i = 1; i < 3; i++)
        set_result(node, i, dtype, lv_shape(3, (int64_t[]){y.dim[0], strips, y.dim[1]}));
    return NULL;
}

void evaluate_conv2d_moments(const Evaluation *evaluation, const Node *node,
                             const Tensor *const *inputs, Tensor *results) {
    evaluate_conv2d(evaluation, node, inputs, results);
    LvShape y = results[0].shape;
    for (int64_t i = 0, n = evaluation->round ? lv_shape_elements(y) : 0; i < n; i++)
        results[0].f[i] = round_to(results[0].dtype, results[0].f[i]);
    int64_t strips = node_int(node, ATTR_strips, 1), pixels = y.dim[2] * y.dim[3] / strips;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t o = 0; o < y.dim[1]; o++)
            for (int64_t s = 0; s < strips; s++) {
                const double *from = results[0].f + ((b * y.dim[1] + o) * strips + s) * pixels;
                double mean = 0, square = 0;
                for (int64_t i = 0; i < pixels; i++)
                    mean += from[i] / (double)pixels;
                for (int64_t i = 0; i < pixels; i++)
                    square += (from[i] - mean) * (from[i] - mean);
                results[1].f[(b * strips + s) * y.dim[1] + o] = mean;
                results[2].f[(b * strips + s) * y.dim[1] + o] = square;
            }
}

// y [B,O,OH,OW] as [B,O,S,P], wide
static Value *in_strips(Graph *g, const Node *node, Value *y) {
    int64_t strips = node_int(node, ATTR_strips, 1),
            pixels = y->shape.dim[2] * y->shape.dim[3] / strips;
    return build_reshape(
        g, composite_widen(g, y),
        lv_shape(4, (int64_t[]){y->shape.dim[0], y->shape.dim[1], strips, pixels}));
}

// [B,O,S] and [B,S,O], either as the other
static Value *turned(Graph *g, Value *v) {
    return build_transpose(g, v, (int64_t[]){0, 2, 1});
}

bool decompose_conv2d_moments(Graph *g, Node *node, Value **with) {
    Attrs attrs = {0};
    for (int i = 0; i < node->attrs.count; i++)
        if (node->attrs.at[i].name != ATTR_strips) attrs.at[attrs.count++] = node->attrs.at[i];
    Value *y = with[0] = build_node(g, OP_conv2d, node->input_count, node->inputs, &attrs),
          *x = in_strips(g, node, y);
    Value *mean =
        BINARY(mul, composite_sum(g, x, 3), composite_number(g, 1.0 / (double)x->shape.dim[3], x));
    Value *off = BINARY(sub, x, composite_unreduce(g, mean, 3, x->shape));
    with[1] = turned(g, mean);
    with[2] = turned(g, composite_sum(g, BINARY(mul, off, off), 3));
    return true;
}

// The convolution's, of dy + dmeans / P + 2 (y - means) dsquares; what the distances say of the
// mean cancels.
void gradient_conv2d_moments(Graph *g, Node *node, Value *const *result_grads,
                             Value **input_grads) {
    Value *y = &node->results[0], *x = in_strips(g, node, y), *dy = result_grads[0];
    for (int i = 1; i < 3; i++) {
        if (!result_grads[i]) continue;
        Value *d = composite_unreduce(g, turned(g, result_grads[i]), 3, x->shape);
        if (i == 2) {
            Value *off =
                BINARY(sub, x, composite_unreduce(g, turned(g, &node->results[1]), 3, x->shape));
            d = BINARY(mul, d, BINARY(mul, off, composite_number(g, 2, x)));
        } else {
            d = BINARY(mul, d, composite_number(g, 1.0 / (double)x->shape.dim[3], x));
        }
        d = build_cast(g, build_reshape(g, d, y->shape), y->dtype);
        dy = dy ? BINARY(add, dy, d) : d;
    }
    gradient_conv2d(g, node, (Value *const[]){dy}, input_grads);
}
