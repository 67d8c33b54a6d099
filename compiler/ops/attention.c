// Scaled dot-product attention: q [B,H,T,D], k [B,H,S,D], v [B,H,S,E] -> y [B,H,T,E], logsumexp [B,H,T].
// s = scale q k^T, p = softmax(s) over the keys, y = p v; causal: position t sees keys 0 ... t. Over a cache of keys an input
// `length` says how many of the S are there: the queries are the last of them, and see none beyond. Backends have kernels that never
// hold the T x S matrix (codegen/c/template_attention.c); the decompositions here do, and say what those compute.
// With `dropout` p is multiplied, after the softmax, by 0 with that probability and else by 1 / (1 - dropout): weight (b, h, t, s)
// is dropped where element ((b H + h) T + t) S + s of the stream's uniform numbers lies below it.
// Backward as in FlashAttention (Dao et al. 2022): p is rebuilt from the saved logsumexp.
#include <math.h>

#include "base/random.h"
#include "ops/composite.h"

typedef struct {
    int64_t heads, t, s, d, e;  // heads: B * H
    double scale, dropout;
    uint32_t stream;
    bool causal, has_length;
} AttentionSize;

static AttentionSize attention_size(const Node *node, LvShape q, LvShape k, LvShape v) {
    return (AttentionSize){.heads = q.dim[0] * q.dim[1], .t = q.dim[2], .s = k.dim[2], .d = q.dim[3], .e = v.dim[3],
                           .scale = node_float(node, ATTR_scale, 1), .causal = node_bool(node, ATTR_causal, false),
                           .has_length = node_bool(node, ATTR_length, false),
                           .dropout = node_float(node, ATTR_dropout, 0), .stream = (uint32_t)node_int(node, ATTR_stream, 0)};
}

// By what the weight of a query (a row of all heads' rows) for key s is multiplied. `seeds`: the inputs seed and step.
static double attention_kept(const AttentionSize *z, const Tensor *const *seeds, int64_t row, int64_t s) {
    if (z->dropout == 0) return 1;
    uint64_t at = (uint64_t)(row * z->s + s);
    float u = lv_random_uniform((uint64_t)seeds[0]->i[0], z->stream, (uint32_t)seeds[1]->i[0], at);
    return u >= (float)z->dropout ? 1 / (1 - z->dropout) : 0;
}

static bool has_dropout(const Node *node) { return node_float(node, ATTR_dropout, 0) > 0; }

// Keys that query t sees; at least the first, whatever a length says.
static int64_t attention_reach(const AttentionSize *z, const Tensor *const *inputs, int64_t t) {
    int64_t length = z->has_length ? inputs[3]->i[0] : z->causal ? z->t : z->s, reach = z->causal ? length - z->t + t + 1 : length;
    return reach < 1 ? 1 : reach < z->s ? reach : z->s;
}

static LvShape shape4(LvShape like, int64_t rows, int64_t columns) {
    return lv_shape(4, (int64_t[]){like.dim[0], like.dim[1], rows, columns});
}

static const char *check_attention(Graph *graph, const Node *node, int expected) {
    double dropout = node_float(node, ATTR_dropout, 0);
    if (!(dropout >= 0 && dropout < 1)) return refuse(graph, "%s: a dropout of %g is no probability below 1", op_name(node->op), dropout);
    if (node->input_count != expected + 2 * has_dropout(node)) return refuse(graph, "%s of %d tensors", op_name(node->op), node->input_count);
    if (has_dropout(node)) {
        const Value *seed = node->inputs[expected], *step = node->inputs[expected + 1];
        if (seed->dtype != LV_I64 || seed->shape.rank || step->dtype != LV_I32 || step->shape.rank)
            return refuse(graph, "%s: seed and step of the dropout are i64[] and i32[]", op_name(node->op));
    }
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape, v = node->inputs[2]->shape;
    if (q.rank != 4 || k.rank != 4 || v.rank != 4)
        return refuse(graph, "%s: q, k and v are [B, heads, positions, channels], not %s, %s and %s", op_name(node->op),
                      shape_text(graph, q), shape_text(graph, k), shape_text(graph, v));
    bool same = q.dim[0] == k.dim[0] && q.dim[1] == k.dim[1] && q.dim[3] == k.dim[3];
    if (!same || v.dim[0] != k.dim[0] || v.dim[1] != k.dim[1] || v.dim[2] != k.dim[2])
        return refuse(graph, "%s: q %s, k %s and v %s do not fit together", op_name(node->op), shape_text(graph, q),
                      shape_text(graph, k), shape_text(graph, v));
    if (k.dim[2] < 1) return refuse(graph, "%s: there are no keys in %s", op_name(node->op), shape_text(graph, k));
    for (int i = 0; i < 3; i++)
        if (!lv_dtype_is_float(node->inputs[i]->dtype) || node->inputs[i]->dtype != node->inputs[0]->dtype)
            return refuse(graph, "%s: q, k and v are of one float type", op_name(node->op));
    return NULL;
}

const char *shape_attention(Graph *graph, Node *node) {
    bool has_length = node_bool(node, ATTR_length, false);
    const char *wrong = check_attention(graph, node, 3 + has_length);
    if (wrong) return wrong;
    if (has_length && (node->inputs[3]->dtype != LV_I32 || node->inputs[3]->shape.rank))
        return refuse(graph, "attention: the length is %s%s, not i32[]", lv_dtype_name(node->inputs[3]->dtype),
                      shape_text(graph, node->inputs[3]->shape));
    LvShape q = node->inputs[0]->shape;
    LvDType dtype = node->inputs[0]->dtype;
    set_result(node, 0, dtype, shape4(q, q.dim[2], node->inputs[2]->shape.dim[3]));
    set_result(node, 1, dtype == LV_F64 ? LV_F64 : LV_F32, lv_shape(3, q.dim));
    return NULL;
}

void evaluate_attention(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    AttentionSize z = attention_size(node, inputs[0]->shape, inputs[1]->shape, inputs[2]->shape);
    double *p = LV_NEW_ARRAY(evaluation->arena, double, z.s);
    for (int64_t row = 0; row < z.heads * z.t; row++) {
        int64_t head = row / z.t, reach = attention_reach(&z, inputs, row % z.t);
        double top = -INFINITY, sum = 0;
        for (int64_t s = 0; s < reach; s++) {
            p[s] = 0;
            for (int64_t i = 0; i < z.d; i++) p[s] += inputs[0]->f[row * z.d + i] * inputs[1]->f[(head * z.s + s) * z.d + i];
            p[s] *= z.scale;
            top = fmax(top, p[s]);
        }
        for (int64_t s = 0; s < reach; s++) sum += p[s] = exp(p[s] - top);
        for (int64_t s = 0; s < reach; s++) p[s] *= attention_kept(&z, inputs + 3 + z.has_length, row, s);
        for (int64_t i = 0; i < z.e; i++) {
            double y = 0;
            for (int64_t s = 0; s < reach; s++) y += p[s] / sum * inputs[2]->f[(head * z.s + s) * z.e + i];
            results[0].f[row * z.e + i] = y;
        }
        results[1].f[row] = top + log(sum);
    }
}

// The last key that each query sees, i32 [T, S].
static Value *attention_last(Graph *g, const Node *node, LvShape matrix) {
    bool causal = node_bool(node, ATTR_causal, false), has_length = node_bool(node, ATTR_length, false);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, 0);
    Value *row = causal ? graph_add_typed(g, OP_iota, 0, NULL, &attrs, LV_I32, matrix) : build_constant(g, -1, LV_I32, matrix);
    if (!has_length) return row;
    Value *length = node->inputs[3];
    Value *first = causal ? BINARY(sub, length, build_like(g, (double)matrix.dim[0], length)) : length;
    return BINARY(max, BINARY(add, row, first), build_like(g, 0, row));
}

// scale q k^T [B,H,T,S], masked places at -1e30: their exponentials are 0 and no infinity meets another
static Value *attention_scores(Graph *g, const Node *node, Value *q, Value *k) {
    Value *s = build_matmul(g, q, k, false, true);
    s = BINARY(mul, s, composite_number(g, node_float(node, ATTR_scale, 1), s));
    if (!node_bool(node, ATTR_causal, false) && !node_bool(node, ATTR_length, false)) return s;
    LvShape matrix = lv_shape(2, s->shape.dim + 2);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, 1);
    Value *key = graph_add_typed(g, OP_iota, 0, NULL, &attrs, LV_I32, matrix);
    Value *seen = build_expand(g, BINARY(ge, attention_last(g, node, matrix), key), s->shape, (int64_t[]){2, 3});
    return build_select(g, seen, s, build_like(g, -1e30, s));
}

// p with its dropped weights; `seeds`: the inputs seed and step
static Value *attention_drop(Graph *g, const Node *node, Value *p, Value *const *seeds) {
    double dropout = node_float(node, ATTR_dropout, 0);
    if (dropout == 0) return p;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_stream, node_int(node, ATTR_stream, 0));
    Value *u = graph_add_typed(g, OP_random_uniform, 2, seeds, &attrs, LV_F32, p->shape);
    Value *kept = BINARY(ge, u, build_like(g, dropout, u));
    return build_select(g, kept, BINARY(mul, p, build_like(g, 1 / (1 - dropout), p)), build_like(g, 0, p));
}

bool decompose_attention(Graph *g, Node *node, Value **with) {
    Value *q = composite_widen(g, node->inputs[0]), *k = composite_widen(g, node->inputs[1]), *v = composite_widen(g, node->inputs[2]);
    Value *s = attention_scores(g, node, q, k);
    Value *top = build_reduce(g, OP_reduce_max, s, 1, (int64_t[]){3});
    Value *e = UNARY(exp, BINARY(sub, s, composite_unreduce(g, top, 3, s->shape)));
    Value *sum = composite_sum(g, e, 3);
    Value *p = BINARY(div, e, composite_unreduce(g, sum, 3, s->shape));
    p = attention_drop(g, node, p, node->inputs + 3 + node_bool(node, ATTR_length, false));
    with[0] = build_cast(g, build_matmul(g, p, v, false, false), node->inputs[0]->dtype);
    with[1] = BINARY(add, top, UNARY(log, sum));
    return true;
}

// ---- gradient

// With dp = dy v^T, where a weight is dropped 0 like it: ds = p (dp - sum(dy y) + dlogsumexp); dq = scale ds k, dk = scale ds^T q, dv = p^T dy.
// inputs: q, k, v, y, logsumexp, dy, then seed and step. dlse may be NULL.
static void attention_backward(Graph *g, const Node *node, Value *const *inputs, Value *dlse, Value **grads) {
    Value *in[6];
    for (int i = 0; i < 6; i++) in[i] = composite_widen(g, inputs[i]);
    Value *q = in[0], *k = in[1], *v = in[2], *y = in[3], *dy = in[5];
    Value *s = attention_scores(g, node, q, k);
    Value *p = UNARY(exp, BINARY(sub, s, composite_unreduce(g, in[4], 3, s->shape)));
    Value *delta = composite_sum(g, BINARY(mul, dy, y), 3);
    if (dlse) delta = BINARY(sub, delta, dlse);
    Value *dp = attention_drop(g, node, build_matmul(g, dy, v, false, true), inputs + 6);
    Value *ds = BINARY(mul, p, BINARY(sub, dp, composite_unreduce(g, delta, 3, s->shape)));
    ds = BINARY(mul, ds, composite_number(g, node_float(node, ATTR_scale, 1), ds));
    grads[0] = build_cast(g, build_matmul(g, ds, k, false, false), inputs[0]->dtype);
    grads[1] = build_cast(g, build_matmul(g, ds, q, true, false), inputs[1]->dtype);
    p = attention_drop(g, node, p, inputs + 6);
    grads[2] = build_cast(g, build_matmul(g, p, dy, true, false), inputs[2]->dtype);
}

void gradient_attention(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    Value *y = &node->results[0], *lse = &node->results[1];
    Value *dy = result_grads[0] ? result_grads[0] : build_like(g, 0, y);
    Value *inputs[8] = {node->inputs[0], node->inputs[1], node->inputs[2], y, lse, dy};
    int seeds = 3 + node_bool(node, ATTR_length, false);
    for (int i = 0; seeds + i < node->input_count; i++) inputs[6 + i] = node->inputs[seeds + i];
    if (result_grads[1] || node_bool(node, ATTR_length, false)) {  // rare: the kernel does not know it
        attention_backward(g, node, inputs, result_grads[1], input_grads);
        return;
    }
    Value *grads = build_node(g, OP_attention_grad, 6 + 2 * has_dropout(node), inputs, &node->attrs);
    for (int i = 0; i < 3; i++) input_grads[i] = &grads[i];
}

const char *shape_attention_grad(Graph *graph, Node *node) {
    const char *wrong = check_attention(graph, node, 6);
    if (wrong) return wrong;
    LvShape q = node->inputs[0]->shape, y = shape4(q, q.dim[2], node->inputs[2]->shape.dim[3]);
    if (!lv_shape_equal(node->inputs[3]->shape, y) || !lv_shape_equal(node->inputs[5]->shape, y) ||
        !lv_shape_equal(node->inputs[4]->shape, lv_shape(3, q.dim)))
        return refuse(graph, "attention_grad: y %s, logsumexp %s and dy %s do not fit q %s", shape_text(graph, node->inputs[3]->shape),
                      shape_text(graph, node->inputs[4]->shape), shape_text(graph, node->inputs[5]->shape), shape_text(graph, q));
    for (int i = 0; i < 3; i++) set_result(node, i, node->inputs[i]->dtype, node->inputs[i]->shape);
    return NULL;
}

void evaluate_attention_grad(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    AttentionSize z = attention_size(node, inputs[0]->shape, inputs[1]->shape, inputs[2]->shape);
    for (int64_t row = 0; row < z.heads * z.t; row++) {
        const double *q = inputs[0]->f + row * z.d, *y = inputs[3]->f + row * z.e, *dy = inputs[5]->f + row * z.e;
        double delta = 0;
        for (int64_t i = 0; i < z.e; i++) delta += dy[i] * y[i];
        for (int64_t s = 0, reach = attention_reach(&z, inputs, row % z.t); s < reach; s++) {
            int64_t key = row / z.t * z.s + s;
            const double *k = inputs[1]->f + key * z.d, *v = inputs[2]->f + key * z.e;
            double score = 0, dp = 0;
            for (int64_t i = 0; i < z.d; i++) score += q[i] * k[i];
            for (int64_t i = 0; i < z.e; i++) dp += dy[i] * v[i];
            double kept = attention_kept(&z, inputs + 6, row, s);
            double p = exp(score * z.scale - inputs[4]->f[row]), ds = p * (kept * dp - delta) * z.scale;
            for (int64_t i = 0; i < z.d; i++) results[0].f[row * z.d + i] += ds * k[i], results[1].f[key * z.d + i] += ds * q[i];
            for (int64_t i = 0; i < z.e; i++) results[2].f[key * z.e + i] += kept * p * dy[i];
        }
    }
}

bool decompose_attention_grad(Graph *g, Node *node, Value **with) {
    attention_backward(g, node, node->inputs, NULL, with);
    return true;
}
