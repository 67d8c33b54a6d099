// cross_entropy: logits [N,V], target i32 [N] -> loss per row f32 [N] = log sum exp(logits) - logits[target].
// A row does not count (loss and gradient 0) where the target is `ignore` or not a class at all, as PyTorch's default -100.
#include <math.h>

#include "ops/composite.h"

const char *shape_cross_entropy(Graph *graph, Node *node) {
    const Value *logits = node->inputs[0], *target = node->inputs[1];
    if (!lv_dtype_is_float(logits->dtype) || !lv_dtype_is_int(target->dtype))
        return refuse(graph, "cross_entropy: logits are floats and targets integers, not %s and %s", lv_dtype_name(logits->dtype),
                      lv_dtype_name(target->dtype));
    if (logits->shape.rank != 2 || target->shape.rank != 1 || logits->shape.dim[0] != target->shape.dim[0])
        return refuse(graph, "cross_entropy: logits are [N, V] and targets [N], not %s and %s", shape_text(graph, logits->shape),
                      shape_text(graph, target->shape));
    if (logits->shape.dim[1] < 1) return refuse(graph, "cross_entropy: %s has no classes", shape_text(graph, logits->shape));
    set_result(node, 0, logits->dtype == LV_F64 ? LV_F64 : LV_F32, target->shape);
    return NULL;
}

bool cross_entropy_counts(const Node *node, int64_t target, int64_t classes) {
    const Attr *ignore = node_attr(node, ATTR_ignore);
    return target >= 0 && target < classes && !(ignore && ignore->i == target);
}

void evaluate_cross_entropy(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation;
    int64_t n = inputs[0]->shape.dim[0], classes = inputs[0]->shape.dim[1];
    for (int64_t row = 0; row < n; row++) {
        const double *x = inputs[0]->f + row * classes;
        double top = -INFINITY, sum = 0;
        int64_t target = inputs[1]->i[row];
        if (!cross_entropy_counts(node, target, classes)) continue;
        for (int64_t i = 0; i < classes; i++) top = fmax(top, x[i]);
        for (int64_t i = 0; i < classes; i++) sum += exp(x[i] - top);
        results[0].f[row] = top + log(sum) - x[target];
    }
}

// What forward and backward share.
typedef struct {
    Value *shifted;  // [N,V]: logits - the row's maximum
    Value *e;        // [N,V]: their exponentials
    Value *sum;      // [N]
    Value *hit;      // [N,V] bool: the target's place
    Value *counts;   // [N] bool
} CrossEntropy;

static CrossEntropy cross_entropy_parts(Graph *g, const Node *node) {
    CrossEntropy c;
    Value *x = composite_widen(g, node->inputs[0]), *target = node->inputs[1];
    Value *top = build_reduce(g, OP_reduce_max, x, 1, (int64_t[]){1});
    c.shifted = BINARY(sub, x, composite_unreduce(g, top, 1, x->shape));
    c.e = UNARY(exp, c.shifted);
    c.sum = composite_sum(g, c.e, 1);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, 1);
    Value *classes = graph_add_typed(g, OP_iota, 0, NULL, &attrs, target->dtype, x->shape);
    c.hit = BINARY(eq, classes, composite_unreduce(g, target, 1, x->shape));
    Value *low = BINARY(ge, target, composite_number(g, 0, target));
    Value *high = BINARY(lt, target, composite_number(g, (double)x->shape.dim[1], target));
    c.counts = BINARY(and, low, high);
    const Attr *ignore = node_attr(node, ATTR_ignore);
    if (ignore) c.counts = BINARY(and, c.counts, BINARY(ne, target, composite_number(g, (double)ignore->i, target)));
    return c;
}

bool decompose_cross_entropy(Graph *g, Node *node, Value **with) {
    CrossEntropy c = cross_entropy_parts(g, node);
    Value *own = composite_sum(g, build_select(g, c.hit, c.shifted, build_like(g, 0, c.shifted)), 1);
    Value *loss = BINARY(sub, UNARY(log, c.sum), own);
    with[0] = build_select(g, c.counts, loss, build_like(g, 0, loss));
    return true;
}

// dlogits = (softmax - onehot(target)) dloss, 0 in rows that do not count
void gradient_cross_entropy(Graph *g, Node *node, Value *const *result_grads, Value **input_grads) {
    CrossEntropy c = cross_entropy_parts(g, node);
    LvShape shape = c.e->shape;
    Value *dy = build_cast(g, result_grads[0], c.e->dtype);
    dy = build_select(g, c.counts, dy, build_like(g, 0, dy));
    Value *p = BINARY(div, c.e, composite_unreduce(g, c.sum, 1, shape));
    Value *d = BINARY(sub, p, build_select(g, c.hit, build_like(g, 1, p), build_like(g, 0, p)));
    input_grads[0] = build_cast(g, BINARY(mul, d, composite_unreduce(g, dy, 1, shape)), node->inputs[0]->dtype);
    input_grads[1] = NULL;
}
