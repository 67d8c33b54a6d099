// linear_cross_entropy: x [N,C], weight [V,C], target i32 [N] -> loss per row f32 [N], the cross-entropy of the row of logits
// x weight^T. A backend computes it a block of rows at a time, so that the N x V logits are never whole in memory, and only
// for rows that count: loss and gradients of the others are 0. Its gradient gives the loss once more, since the logits are at
// hand; passes/losses.c then drops the first computation. The fusion is that of Liger Kernel (Hsu et al., 2024).
#include <math.h>
#include <string.h>

#include "ops/composite.h"

static const char *check_linear_loss(Graph *graph, const Node *node) {
    const Value *x = node->inputs[0], *weight = node->inputs[1], *target = node->inputs[2];
    const char *name = op_name(node->op);
    if (!lv_dtype_is_float(x->dtype) || x->dtype != weight->dtype || target->dtype != LV_I32)
        return refuse(graph, "%s: x and weight are of one float type and targets i32, not %s, %s and %s", name,
                      lv_dtype_name(x->dtype), lv_dtype_name(weight->dtype), lv_dtype_name(target->dtype));
    if (x->shape.rank != 2 || weight->shape.rank != 2 || target->shape.rank != 1 || x->shape.dim[1] != weight->shape.dim[1] ||
        x->shape.dim[0] != target->shape.dim[0])
        return refuse(graph, "%s: x is [N, C], weight [V, C] and targets [N], not %s, %s and %s", name, shape_text(graph, x->shape),
                      shape_text(graph, weight->shape), shape_text(graph, target->shape));
    return weight->shape.dim[0] < 1 ? refuse(graph, "%s: there are no classes", name) : NULL;
}

static LvDType wide(const Node *node) { return node->inputs[0]->dtype == LV_F64 ? LV_F64 : LV_F32; }

const char *shape_linear_cross_entropy(Graph *graph, Node *node) {
    const char *wrong = check_linear_loss(graph, node);
    if (!wrong) set_result(node, 0, wide(node), node->inputs[2]->shape);
    return wrong;
}

const char *shape_linear_cross_entropy_grad(Graph *graph, Node *node) {
    const char *wrong = check_linear_loss(graph, node);
    if (wrong) return wrong;
    if (!lv_shape_equal(node->inputs[3]->shape, node->inputs[2]->shape) || node->inputs[3]->dtype != wide(node))
        return refuse(graph, "linear_cross_entropy_grad: dloss is %s, not as the loss", shape_text(graph, node->inputs[3]->shape));
    for (int i = 0; i < 2; i++) set_result(node, i, wide(node), node->inputs[i]->shape);
    set_result(node, 2, wide(node), node->inputs[2]->shape);
    return NULL;
}

// The row's logits' exponentials into p; its loss. p is normalized.
static double softmax_row(const double *x, const double *weight, int64_t classes, int64_t width, int64_t target, double *p) {
    double top = -INFINITY, sum = 0;
    for (int64_t v = 0; v < classes; v++) {
        p[v] = 0;
        for (int64_t c = 0; c < width; c++) p[v] += x[c] * weight[v * width + c];
        top = fmax(top, p[v]);
    }
    double own = p[target] - top;
    for (int64_t v = 0; v < classes; v++) sum += p[v] = exp(p[v] - top);
    for (int64_t v = 0; v < classes; v++) p[v] /= sum;
    return log(sum) - own;
}

void evaluate_linear_cross_entropy(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    int64_t n = inputs[0]->shape.dim[0], width = inputs[0]->shape.dim[1], classes = inputs[1]->shape.dim[0];
    double *p = LV_NEW_ARRAY(evaluation->arena, double, classes);
    for (int64_t row = 0; row < n; row++) {
        int64_t target = inputs[2]->i[row];
        if (cross_entropy_counts(node, target, classes))
            results[0].f[row] = softmax_row(inputs[0]->f + row * width, inputs[1]->f, classes, width, target, p);
    }
}

// dlogits = (softmax - onehot(target)) dloss; dx = dlogits weight, dweight = dlogits^T x
void evaluate_linear_cross_entropy_grad(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs,
                                        Tensor *results) {
    int64_t n = inputs[0]->shape.dim[0], width = inputs[0]->shape.dim[1], classes = inputs[1]->shape.dim[0];
    double *p = LV_NEW_ARRAY(evaluation->arena, double, classes);
    for (int64_t row = 0; row < n; row++) {
        int64_t target = inputs[2]->i[row];
        if (!cross_entropy_counts(node, target, classes)) continue;
        const double *x = inputs[0]->f + row * width;
        results[2].f[row] = softmax_row(x, inputs[1]->f, classes, width, target, p);
        p[target] -= 1;
        for (int64_t v = 0; v < classes; v++) {
            double d = p[v] * inputs[3]->f[row];
            for (int64_t c = 0; c < width; c++) {
                results[0].f[row * width + c] += d * inputs[1]->f[v * width + c];
                results[1].f[v * width + c] += d * x[c];
            }
        }
    }
}

void gradient_linear_cross_entropy(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    Value *inputs[4] = {node->inputs[0], node->inputs[1], node->inputs[2], result_grads[0]};
    Value *grads = build_node(g, OP_linear_cross_entropy_grad, 4, inputs, &node->attrs);
    for (int i = 0; i < 2; i++) input_grads[i] = build_cast(g, &grads[i], node->inputs[i]->dtype);
}

// ---- with the logits whole

static Node *whole_loss(Graph *g, const Node *node) {
    Value *x = composite_widen(g, node->inputs[0]), *weight = composite_widen(g, node->inputs[1]);
    Value *inputs[2] = {build_matmul(g, x, weight, false, true), node->inputs[2]};
    return build_node(g, OP_cross_entropy, 2, inputs, &node->attrs)->node;
}

bool decompose_linear_cross_entropy(Graph *g, Node *node, Value **with) {
    with[0] = &whole_loss(g, node)->results[0];
    return true;
}

bool decompose_linear_cross_entropy_grad(Graph *g, Node *node, Value **with) {
    Node *loss = whole_loss(g, node);
    Value *dlogits[2] = {NULL, NULL};
    gradient_cross_entropy(g, loss, (Value *const[]){node->inputs[3]}, dlogits);
    with[0] = build_matmul(g, dlogits[0], composite_widen(g, node->inputs[1]), false, false);
    with[1] = build_matmul(g, dlogits[0], composite_widen(g, node->inputs[0]), true, false);
    with[2] = &loss->results[0];
    return true;
}
