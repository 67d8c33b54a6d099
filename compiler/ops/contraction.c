// Contractions: matmul and conv2d with its two gradients. Backends give them to a library; here are the shape rules, the
// reference loops and the gradients. The four are closed under differentiation: the gradient of each is made of the others.
// A fused epilogue (bias, residual, activation) comes from a pass that runs after autodiff, so gradients never see one.
#include <math.h>

#include "ops/rules.h"

// ---- epilogue: y = activation(product + bias) + residual; further inputs stand after the two operands

// The inputs that bias and residual take; refuses any other number.
static const char *check_epilogue(Graph *graph, const Node *node, int64_t channels) {
    bool bias = node_bool(node, ATTR_bias, false), residual = node_bool(node, ATTR_residual, false);
    if (node->input_count != 2 + bias + residual)
        return refuse(graph, "%s takes %d inputs, got %d", op_name(node->op), 2 + bias + residual, node->input_count);
    if (bias) {
        const Value *b = node->inputs[2];
        if (b->shape.rank != 1 || b->shape.dim[0] != channels || !lv_dtype_is_float(b->dtype))
            return refuse(graph, "%s: the bias is %s%s, not one number for each of %lld channels", op_name(node->op),
                          lv_dtype_name(b->dtype), shape_text(graph, b->shape), (long long)channels);
    }
    if (residual && !lv_shape_equal(node->inputs[2 + bias]->shape, node->results[0].shape))
        return refuse(graph, "%s: the residual is %s, the result %s", op_name(node->op),
                      shape_text(graph, node->inputs[2 + bias]->shape), shape_text(graph, node->results[0].shape));
    int64_t activation = node_int(node, ATTR_activation, LV_ACTIVATION_NONE);
    if (activation < LV_ACTIVATION_NONE || activation > LV_ACTIVATION_GELU)
        return refuse(graph, "%s: no activation %lld", op_name(node->op), (long long)activation);
    return NULL;
}

static double activate(int64_t activation, double x) {
    switch (activation) {
    case LV_ACTIVATION_RELU: return x > 0 ? x : 0;
    case LV_ACTIVATION_SWISH: return x / (1 + exp(-x));
    case LV_ACTIVATION_GELU: return x / 2 * (1 + erf(x / sqrt(2)));
    default: return x;
    }
}

static double epilogue(const Node *node, const Tensor *const *inputs, double product, int64_t channel, int64_t at) {
    int next = 2;
    if (node_bool(node, ATTR_bias, false)) product += inputs[next++]->f[channel];
    product = activate(node_int(node, ATTR_activation, LV_ACTIVATION_NONE), product);
    if (node_bool(node, ATTR_residual, false)) product += inputs[next]->f[at];
    return product;
}

static void refuse_epilogue(const Node *node) {
    if (node->input_count > 2 || node_int(node, ATTR_activation, LV_ACTIVATION_NONE))
        lv_internal_error("autodiff: %s with a fused epilogue", op_name(node->op));
}

static LvDType result_type(const Node *node) {
    int64_t dtype = node_int(node, ATTR_dtype, node->inputs[0]->dtype);
    return dtype >= 0 && dtype < LV_DTYPE_COUNT && lv_dtype_is_float((LvDType)dtype) ? (LvDType)dtype : node->inputs[0]->dtype;
}

static const char *check_operands(Graph *graph, const Node *node) {
    const Value *a = node->inputs[0], *b = node->inputs[1];
    if (a->dtype != b->dtype || !lv_dtype_is_float(a->dtype))
        return refuse(graph, "%s is of two tensors of one float type, not of %s and %s", op_name(node->op),
                      lv_dtype_name(a->dtype), lv_dtype_name(b->dtype));
    return NULL;
}

// A convolution's weight may stay in f32 beside pictures of a narrower type: a library that lays weights out anew rounds them there.
static const char *check_weight(Graph *graph, const Node *node) {
    const Value *picture = node->inputs[0], *weight = node->inputs[1];
    bool narrow = picture->dtype == LV_BF16 || picture->dtype == LV_F16;
    return narrow && weight->dtype == LV_F32 ? NULL : check_operands(graph, node);
}

// ---- matmul: a [..., M, K] x b [..., K, N] -> [..., M, N] times scale; a flag: stored with the last two swapped

typedef struct {
    int64_t batch, m, n, k;
    bool ta, tb;
} MatmulSize;

static MatmulSize matmul_size(const Node *node, LvShape a, LvShape b) {
    MatmulSize s = {.batch = 1, .ta = node_bool(node, ATTR_transpose_a, false), .tb = node_bool(node, ATTR_transpose_b, false)};
    int r = a.rank;
    for (int i = 0; i < r - 2; i++) s.batch *= a.dim[i];
    s.m = a.dim[s.ta ? r - 1 : r - 2];
    s.k = a.dim[s.ta ? r - 2 : r - 1];
    s.n = b.dim[s.tb ? r - 2 : r - 1];
    return s;
}

const char *shape_matmul(Graph *graph, Node *node) {
    if (node->input_count < 2) return refuse(graph, "matmul takes 2 inputs, got %d", node->input_count);
    LvShape a = node->inputs[0]->shape, b = node->inputs[1]->shape;
    const char *wrong = check_operands(graph, node);
    if (wrong) return wrong;
    if (a.rank < 2 || a.rank != b.rank)
        return refuse(graph, "matmul of %s and %s: both need the same number of dimensions, at least 2", shape_text(graph, a),
                      shape_text(graph, b));
    for (int i = 0; i < a.rank - 2; i++)
        if (a.dim[i] != b.dim[i])
            return refuse(graph, "matmul of %s and %s: batch dimension %d differs", shape_text(graph, a), shape_text(graph, b), i);
    MatmulSize s = matmul_size(node, a, b);
    int64_t other = b.dim[s.tb ? b.rank - 1 : b.rank - 2];
    if (s.k != other)
        return refuse(graph, "matmul of %s%s and %s%s: %lld columns meet %lld rows", shape_text(graph, a), s.ta ? " transposed" : "",
                      shape_text(graph, b), s.tb ? " transposed" : "", (long long)s.k, (long long)other);
    LvShape y = a;
    y.dim[y.rank - 2] = s.m;
    y.dim[y.rank - 1] = s.n;
    set_result(node, 0, result_type(node), y);
    return check_epilogue(graph, node, s.n);
}

void evaluate_matmul(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    MatmulSize s = matmul_size(node, inputs[0]->shape, inputs[1]->shape);
    double scale = node_float(node, ATTR_scale, 1);
    for (int64_t batch = 0; batch < s.batch; batch++)
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t j = 0; j < s.n; j++) {
                const double *a = inputs[0]->f + batch * s.m * s.k + (s.ta ? i : i * s.k);
                const double *b = inputs[1]->f + batch * s.k * s.n + (s.tb ? j * s.k : j);
                double sum = 0;
                for (int64_t k = 0; k < s.k; k++) sum += a[s.ta ? k * s.m : k] * b[s.tb ? k : k * s.n];
                int64_t at = (batch * s.m + i) * s.n + j;
                results[0].f[at] = epilogue(node, inputs, sum * scale, j, at);
            }
}

// ---- matmul_sums: a [M, K] x b [K, N] -> y [M, N], sums [M]; flags as of matmul
// sums[m] = sum of a[m,k] over k, of y's type: with a the gradient of a layer's result and y of its weight, the gradient of its bias

const char *shape_matmul_sums(Graph *graph, Node *node) {
    const char *wrong = shape_matmul(graph, node);
    if (wrong) return wrong;
    LvShape y = node->results[0].shape;
    if (y.rank != 2) return refuse(graph, "matmul_sums takes matrices, not %s", shape_text(graph, y));
    set_result(node, 1, node->results[0].dtype, lv_shape(1, y.dim));
    return NULL;
}

void evaluate_matmul_sums(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    MatmulSize s = matmul_size(node, inputs[0]->shape, inputs[1]->shape);
    evaluate_matmul(evaluation, node, inputs, results);
    for (int64_t i = 0; i < s.m; i++) {
        double sum = 0;
        for (int64_t k = 0; k < s.k; k++) sum += inputs[0]->f[s.ta ? k * s.m + i : i * s.k + k];
        results[1].f[i] = sum;
    }
}

bool decompose_matmul_sums(Graph *graph, Node *node, Value **with) {
    Value *wide = build_cast(graph, node->inputs[0], node->results[1].dtype);
    with[0] = build_node(graph, OP_matmul, 2, node->inputs, &node->attrs);
    with[1] = build_reduce(graph, OP_reduce_sum, wide, 1, (int64_t[]){node_bool(node, ATTR_transpose_a, false) ? 0 : 1});
    return true;
}

// ---- matmul's gradient

static Value *scaled_matmul(Graph *graph, const Node *like, Value *a, Value *b, bool ta, bool tb) {
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_transpose_a, ta);
    attrs_bool(&attrs, ATTR_transpose_b, tb);
    if (node_attr(like, ATTR_scale)) attrs_float(&attrs, ATTR_scale, node_float(like, ATTR_scale, 1));
    return build_node(graph, OP_matmul, 2, (Value *[]){a, b}, &attrs);
}

// y = a b: da = dy b^T, db = a^T dy; of a stored transposed operand, the transpose of that.
void gradient_matmul(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads) {
    refuse_epilogue(node);
    Value *a = node->inputs[0], *b = node->inputs[1], *dy = result_grads[0];
    bool ta = node_bool(node, ATTR_transpose_a, false), tb = node_bool(node, ATTR_transpose_b, false);
    input_grads[0] = ta ? scaled_matmul(graph, node, b, dy, tb, true) : scaled_matmul(graph, node, dy, b, false, !tb);
    input_grads[1] = tb ? scaled_matmul(graph, node, dy, a, true, ta) : scaled_matmul(graph, node, a, dy, !ta, false);
}

// ---- conv2d: x [B,C,H,W], weight [O,C,KH,KW] -> y [B,O,OH,OW]
// y[b,o,i,j] = sum over c,p,q of x[b, c, i*stride + p - top, j*stride + q - left] * weight[o,c,p,q]

typedef struct {
    int64_t b, c, h, w, o, kh, kw, oh, ow;
    int64_t stride[2], left, top;
} ConvSize;

// The windows of `input` that fit in the padded extent; -1 if not one does.
static int64_t window_count(int64_t input, int64_t low, int64_t high, int64_t kernel, int64_t stride) {
    if (input > INT64_MAX / 4 || low > INT64_MAX / 4 || high > INT64_MAX / 4 || input + low + high < kernel) return -1;
    return (input + low + high - kernel) / stride + 1;
}

static const char *conv_attrs(Graph *graph, const Node *node, int64_t stride[2], int64_t pad[4]) {
    const Attr *s = list_attr(node, ATTR_stride, 2), *p = list_attr(node, ATTR_pad, 4);
    if (!s || !p) return refuse(graph, "%s needs stride = [rows, columns] and pad = [left, right, top, bottom]", op_name(node->op));
    for (int i = 0; i < 2; i++)
        if ((stride[i] = s->list.at[i]) < 1) return refuse(graph, "%s: a stride is at least 1", op_name(node->op));
    for (int i = 0; i < 4; i++)
        if ((pad[i] = p->list.at[i]) < 0) return refuse(graph, "%s: padding is not negative", op_name(node->op));
    return NULL;
}

// Shape of y for these x and weight.
static const char *conv_result(Graph *graph, const Node *node, LvShape x, LvShape weight, LvShape *y) {
    int64_t stride[2] = {1, 1}, pad[4] = {0};
    const char *wrong = conv_attrs(graph, node, stride, pad);
    if (wrong) return wrong;
    if (x.rank != 4 || weight.rank != 4)
        return refuse(graph, "%s: x is [B, C, H, W] and the weight [O, C, KH, KW], not %s and %s", op_name(node->op),
                      shape_text(graph, x), shape_text(graph, weight));
    if (x.dim[1] != weight.dim[1])
        return refuse(graph, "%s: x %s has %lld channels, the weight %s reads %lld", op_name(node->op), shape_text(graph, x),
                      (long long)x.dim[1], shape_text(graph, weight), (long long)weight.dim[1]);
    if (weight.dim[2] < 1 || weight.dim[3] < 1)
        return refuse(graph, "%s: the weight %s has no window", op_name(node->op), shape_text(graph, weight));
    int64_t oh = window_count(x.dim[2], pad[2], pad[3], weight.dim[2], stride[0]);
    int64_t ow = window_count(x.dim[3], pad[0], pad[1], weight.dim[3], stride[1]);
    if (oh < 1 || ow < 1)
        return refuse(graph, "%s: the window %lldx%lld does not fit into %s with its padding", op_name(node->op),
                      (long long)weight.dim[2], (long long)weight.dim[3], shape_text(graph, x));
    *y = lv_shape(4, (int64_t[]){x.dim[0], weight.dim[0], oh, ow});
    return NULL;
}

static ConvSize conv_size(const Node *node, LvShape x, LvShape weight, LvShape y) {
    const Attr *stride = node_attr(node, ATTR_stride), *pad = node_attr(node, ATTR_pad);
    return (ConvSize){.b = x.dim[0], .c = x.dim[1], .h = x.dim[2], .w = x.dim[3], .o = weight.dim[0], .kh = weight.dim[2],
                      .kw = weight.dim[3], .oh = y.dim[2], .ow = y.dim[3], .stride = {stride->list.at[0], stride->list.at[1]},
                      .left = pad->list.at[0], .top = pad->list.at[2]};
}

const char *shape_conv2d(Graph *graph, Node *node) {
    if (node->input_count < 2) return refuse(graph, "conv2d takes 2 inputs, got %d", node->input_count);
    LvShape y;
    const char *wrong = check_weight(graph, node);
    if (!wrong) wrong = conv_result(graph, node, node->inputs[0]->shape, node->inputs[1]->shape, &y);
    if (wrong) return wrong;
    set_result(node, 0, result_type(node), y);
    return check_epilogue(graph, node, y.dim[1]);
}

// Calls for every product that the convolution sums: x[xi] * weight[wi] is part of y[yi].
#define CONV_EACH(s, xi, wi, yi, body)                                                                          \
    for (int64_t b_ = 0; b_ < (s).b; b_++)                                                                      \
        for (int64_t o_ = 0; o_ < (s).o; o_++)                                                                  \
            for (int64_t i_ = 0; i_ < (s).oh; i_++)                                                             \
                for (int64_t j_ = 0; j_ < (s).ow; j_++)                                                         \
                    for (int64_t c_ = 0; c_ < (s).c; c_++)                                                      \
                        for (int64_t p_ = 0; p_ < (s).kh; p_++)                                                 \
                            for (int64_t q_ = 0; q_ < (s).kw; q_++) {                                           \
                                int64_t row_ = i_ * (s).stride[0] + p_ - (s).top;                               \
                                int64_t col_ = j_ * (s).stride[1] + q_ - (s).left;                              \
                                if (row_ < 0 || row_ >= (s).h || col_ < 0 || col_ >= (s).w) continue;           \
                                int64_t xi = ((b_ * (s).c + c_) * (s).h + row_) * (s).w + col_;                 \
                                int64_t wi = ((o_ * (s).c + c_) * (s).kh + p_) * (s).kw + q_;                   \
                                int64_t yi = ((b_ * (s).o + o_) * (s).oh + i_) * (s).ow + j_;                   \
                                body;                                                                           \
                            }

void evaluate_conv2d(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    const double *x = inputs[0]->f, *weight = inputs[1]->f;
    ConvSize s = conv_size(node, inputs[0]->shape, inputs[1]->shape, results[0].shape);
    double *y = results[0].f;
    CONV_EACH(s, xi, wi, yi, y[yi] += x[xi] * weight[wi])
    for (int64_t i = 0, n = lv_shape_elements(results[0].shape); i < n; i++)
        y[i] = epilogue(node, inputs, y[i], i / (s.oh * s.ow) % s.o, i);
}

static Value *conv_like(Graph *graph, const Node *like, Op op, Value *a, Value *b, AttrName extra, int count, const int64_t *list) {
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_stride, 2, node_attr(like, ATTR_stride)->list.at);
    attrs_list(&attrs, ATTR_pad, 4, node_attr(like, ATTR_pad)->list.at);
    if (count) attrs_list(&attrs, extra, count, list);
    return build_node(graph, op, 2, (Value *[]){a, b}, &attrs);
}

static Value *build_conv(Graph *graph, const Node *like, Value *x, Value *weight) {
    return conv_like(graph, like, OP_conv2d, x, weight, ATTR_shape, 0, NULL);
}

static Value *build_data_grad(Graph *graph, const Node *like, Value *dy, Value *weight, LvShape shape) {
    return conv_like(graph, like, OP_conv2d_data_grad, dy, weight, ATTR_shape, 4, shape.dim);
}

static Value *build_weight_grad(Graph *graph, const Node *like, Value *x, Value *dy, LvShape weight) {
    return conv_like(graph, like, OP_conv2d_weight_grad, x, dy, ATTR_kernel, 2, weight.dim + 2);
}

void gradient_conv2d(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads) {
    refuse_epilogue(node);
    Value *x = node->inputs[0], *weight = node->inputs[1], *dy = result_grads[0];
    input_grads[0] = build_data_grad(graph, node, dy, weight, x->shape);
    input_grads[1] = build_weight_grad(graph, node, x, dy, weight->shape);
}

// ---- conv2d_data_grad: dy [B,O,OH,OW], weight [O,C,KH,KW] -> dx [B,C,H,W]; linear in both, so its gradients are convolutions.
// Also a transposed convolution of the forward pass, and so with an epilogue, on a GPU.

const char *shape_conv2d_data_grad(Graph *graph, Node *node) {
    const Attr *shape = list_attr(node, ATTR_shape, 4);
    LvShape y;
    if (!shape) return refuse(graph, "conv2d_data_grad needs shape = [B, C, H, W]");
    if (node->input_count < 2) return refuse(graph, "conv2d_data_grad takes 2 inputs, got %d", node->input_count);
    LvShape dy = node->inputs[0]->shape;
    const char *wrong = check_weight(graph, node);
    LvShape x = lv_shape(4, shape->list.at);
    if (!wrong) wrong = conv_result(graph, node, x, node->inputs[1]->shape, &y);
    if (wrong) return wrong;
    if (!lv_shape_equal(y, dy))
        return refuse(graph, "conv2d_data_grad: a convolution of %s gives %s, not %s", shape_text(graph, x), shape_text(graph, y),
                      shape_text(graph, dy));
    set_result(node, 0, result_type(node), x);
    return check_epilogue(graph, node, x.dim[1]);
}

void evaluate_conv2d_data_grad(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    const double *dy = inputs[0]->f, *weight = inputs[1]->f;
    ConvSize s = conv_size(node, results[0].shape, inputs[1]->shape, inputs[0]->shape);
    double *x = results[0].f;
    CONV_EACH(s, xi, wi, yi, x[xi] += dy[yi] * weight[wi])
    for (int64_t i = 0, n = lv_shape_elements(results[0].shape); i < n; i++)
        x[i] = epilogue(node, inputs, x[i], i / (s.h * s.w) % s.c, i);
}

void gradient_conv2d_data_grad(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads) {
    refuse_epilogue(node);
    Value *dy = node->inputs[0], *weight = node->inputs[1], *ddx = result_grads[0];
    input_grads[0] = build_conv(graph, node, ddx, weight);
    input_grads[1] = build_weight_grad(graph, node, ddx, dy, weight->shape);
}

// ---- conv2d_weight_grad: x [B,C,H,W], dy [B,O,OH,OW] -> dw [O,C,KH,KW]

const char *shape_conv2d_weight_grad(Graph *graph, Node *node) {
    const Attr *kernel = list_attr(node, ATTR_kernel, 2);
    LvShape y, x = node->inputs[0]->shape, dy = node->inputs[1]->shape;
    if (!kernel) return refuse(graph, "conv2d_weight_grad needs kernel = [rows, columns]");
    const char *wrong = check_operands(graph, node);
    if (wrong) return wrong;
    if (x.rank != 4 || dy.rank != 4)
        return refuse(graph, "conv2d_weight_grad: x is [B, C, H, W] and dy [B, O, OH, OW], not %s and %s", shape_text(graph, x),
                      shape_text(graph, dy));
    LvShape weight = lv_shape(4, (int64_t[]){dy.dim[1], x.dim[1], kernel->list.at[0], kernel->list.at[1]});
    wrong = conv_result(graph, node, x, weight, &y);
    if (wrong) return wrong;
    if (!lv_shape_equal(y, dy))
        return refuse(graph, "conv2d_weight_grad: a convolution of %s gives %s, not %s", shape_text(graph, x), shape_text(graph, y),
                      shape_text(graph, dy));
    set_result(node, 0, result_type(node), weight);
    return NULL;
}

void evaluate_conv2d_weight_grad(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    const double *x = inputs[0]->f, *dy = inputs[1]->f;
    ConvSize s = conv_size(node, inputs[0]->shape, results[0].shape, inputs[1]->shape);
    CONV_EACH(s, xi, wi, yi, results[0].f[wi] += x[xi] * dy[yi])
}

void gradient_conv2d_weight_grad(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads) {
    Value *x = node->inputs[0], *dy = node->inputs[1], *ddw = result_grads[0];
    input_grads[0] = build_data_grad(graph, node, dy, ddw, x->shape);
    input_grads[1] = build_conv(graph, node, x, ddw);
}
