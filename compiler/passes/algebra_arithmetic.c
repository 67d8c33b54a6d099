// Identities of elementwise operations, and expands moved from their inputs to their result.
#include <math.h>
#include <string.h>

#include "ops/op.h"
#include "passes/algebra.h"

static const Node *made_by(const Value *value, Op op) { return value->node->op == op ? value->node : NULL; }

static bool is_commutative(Op op) {
    return op == OP_add || op == OP_mul || op == OP_eq || op == OP_ne || op == OP_and || op == OP_or;
}

// c * d in the type's own rounding; false where that is no longer an ordinary number.
static bool product(double c, double d, LvDType dtype, double *out) {
    *out = dtype == LV_F32 ? (double)(float)(c * d) : c * d;
    return isfinite(*out) && (fabs(*out) > 1e-30 || *out == 0) && lv_dtype_is_float(dtype);
}

static Value *rule_add(Graph *g, Node *node) {
    Value *a = node->inputs[0], *b = node->inputs[1];
    if (value_is_number(b, 0)) return a;
    if (made_by(b, OP_neg)) return build_binary(g, OP_sub, a, b->node->inputs[0]);
    if (made_by(a, OP_neg)) return build_binary(g, OP_sub, b, a->node->inputs[0]);
    return algebra_side_by_side(g, a, b);
}

static Value *rule_sub(Graph *g, Node *node) {
    Value *a = node->inputs[0], *b = node->inputs[1];
    if (value_is_number(b, 0)) return a;
    if (value_is_number(a, 0)) return build_unary(g, OP_neg, b);
    if (made_by(b, OP_neg)) return build_binary(g, OP_add, a, b->node->inputs[0]);
    return NULL;
}

static Value *rule_mul(Graph *g, Node *node) {
    Value *a = node->inputs[0], *b = node->inputs[1];
    double c;
    if (made_by(a, OP_neg) && made_by(b, OP_neg)) return build_binary(g, OP_mul, a->node->inputs[0], b->node->inputs[0]);
    if (!value_is_constant(b)) return NULL;
    if (value_is_number(b, 1)) return a;
    if (value_is_number(b, -1)) return build_unary(g, OP_neg, a);
    if (made_by(a, OP_neg)) return build_binary(g, OP_mul, a->node->inputs[0], build_like(g, -value_number(b), b));
    const Node *inner = made_by(a, OP_mul);
    if (inner && value_is_constant(inner->inputs[1]) && product(value_number(inner->inputs[1]), value_number(b), a->dtype, &c)) {
        return build_binary(g, OP_mul, inner->inputs[0], build_like(g, c, b));
    }
    return NULL;
}

static Value *rule_div(Graph *g, Node *node) {
    Value *a = node->inputs[0], *b = node->inputs[1];
    if (value_is_number(b, 1)) return a;
    if (!value_is_constant(b) || !value_is_float(b)) return NULL;
    double inverse = 1 / value_number(b);
    if (!isfinite(inverse) || fabs(inverse) < 1e-30 || fabs(inverse) > 1e30) return NULL;
    return build_binary(g, OP_mul, a, build_like(g, inverse, b));
}

static Value *rule_neg(Graph *g, Node *node) {
    Value *a = node->inputs[0];
    if (made_by(a, OP_neg)) return a->node->inputs[0];
    if (made_by(a, OP_sub)) return build_binary(g, OP_sub, a->node->inputs[1], a->node->inputs[0]);
    if (made_by(a, OP_mul) && value_is_constant(a->node->inputs[1])) {
        Value *c = a->node->inputs[1];
        return build_binary(g, OP_mul, a->node->inputs[0], build_like(g, -value_number(c), c));
    }
    return NULL;
}

static Value *rule_pow(Graph *g, Node *node) {
    Value *a = node->inputs[0], *b = node->inputs[1];
    if (!value_is_constant(b)) return NULL;
    double power = value_number(b);
    if (power == 1) return a;
    if (power == 2) return build_binary(g, OP_mul, a, a);
    if (power == 3) return build_binary(g, OP_mul, a, build_binary(g, OP_mul, a, a));
    if (power == -1) return build_binary(g, OP_div, build_like(g, 1, a), a);
    return NULL;  // x^0.5 is sqrt(x) but for -inf
}

static Value *rule_select(Graph *g, Node *node) {
    Value *c = node->inputs[0], *a = node->inputs[1], *b = node->inputs[2];
    if (value_is_constant(c)) return value_number(c) != 0 ? a : b;
    if (a == b) return a;
    if (made_by(c, OP_not)) return build_select(g, c->node->inputs[0], b, a);
    // x > 0 ? x : 0 is max(x, 0), NaN included: a > b ? a : b
    if (a->dtype == LV_BOOL || !made_by(c, OP_gt) || c->node->inputs[0] != a) return NULL;
    const Value *bound = c->node->inputs[1];
    bool same = value_is_constant(b) && value_is_constant(bound) && value_number(b) == value_number(bound);
    return same ? build_binary(g, OP_max, a, b) : NULL;
}

static Value *rule_logic(Graph *g, Node *node) {
    Value *a = node->inputs[0], *b = node->inputs[1];
    (void)g;
    if (a == b) return a;
    if (!value_is_constant(b)) return NULL;
    bool neutral = value_number(b) != 0;
    if (node->op == OP_or) neutral = !neutral;
    return neutral ? a : b;  // x and true is x, x and false is false
}

// Every number of `a` is one of `b`.
static bool holds_all(LvDType a, LvDType b) {
    if (a == b || a == LV_BOOL) return true;
    switch (b) {
    case LV_F32: return a == LV_BF16 || a == LV_F16;
    case LV_F64: return a == LV_F32 || a == LV_BF16 || a == LV_F16 || a == LV_I32;
    case LV_I64: return a == LV_I32;
    default: return false;
    }
}

static Value *rule_cast(Graph *g, Node *node) {
    Value *a = node->inputs[0];
    LvDType to = node->results[0].dtype;
    if (a->dtype == to) return a;
    if (!made_by(a, OP_cast)) return NULL;
    Value *inner = a->node->inputs[0];
    if (!holds_all(inner->dtype, a->dtype)) return NULL;
    return build_cast(g, inner, to);
}

// ---- op(expand(a), expand(b), constant) is expand(op(a, b, constant))

static bool same_expand(const Node *a, const Node *b) {
    int n, m;
    const int64_t *x = node_list(a, ATTR_axes, &n), *y = node_list(b, ATTR_axes, &m);
    return n == m && memcmp(x, y, (size_t)n * sizeof *x) == 0 && lv_shape_equal(a->inputs[0]->shape, b->inputs[0]->shape);
}

static Value *rule_sink_expand(Graph *g, Node *node) {
    const Node *expand = NULL;
    for (int i = 0; i < node->input_count; i++) {
        const Node *made = node->inputs[i]->node;
        if (made->op == OP_constant) continue;
        if (made->op != OP_expand || (expand && !same_expand(expand, made))) return NULL;
        expand = made;
    }
    if (!expand) return NULL;
    LvShape small = expand->inputs[0]->shape;
    Value *inputs[3];
    for (int i = 0; i < node->input_count; i++) {
        Value *input = node->inputs[i];
        if (value_is_constant(input)) inputs[i] = build_constant(g, value_number(input), input->dtype, small);
        else inputs[i] = input->node->inputs[0];
    }
    Value *result = &node_add_like(g, node, inputs)->results[0];
    return build_expand(g, result, node->results[0].shape, node_list(expand, ATTR_axes, NULL));
}

Value *algebra_arithmetic(Graph *graph, Node *node, const Algebra *algebra) {
    Value *a = node->inputs[0], *value = NULL;
    if (node->op == OP_stop_gradient) return algebra->differentiated ? a : NULL;
    if (is_commutative(node->op) && value_is_constant(a) && !value_is_constant(node->inputs[1])) {
        return build_binary(graph, node->op, node->inputs[1], a);
    }
    switch (node->op) {
    case OP_add: value = rule_add(graph, node); break;
    case OP_sub: value = rule_sub(graph, node); break;
    case OP_mul: value = rule_mul(graph, node); break;
    case OP_div: value = rule_div(graph, node); break;
    case OP_neg: value = rule_neg(graph, node); break;
    case OP_pow: value = rule_pow(graph, node); break;
    case OP_select: value = rule_select(graph, node); break;
    case OP_and:
    case OP_or: value = rule_logic(graph, node); break;
    case OP_not: value = made_by(a, OP_not) ? a->node->inputs[0] : NULL; break;
    case OP_max:
    case OP_min: value = a == node->inputs[1] ? a : NULL; break;
    case OP_cast: value = rule_cast(graph, node); break;
    default: break;
    }
    return value ? value : rule_sink_expand(graph, node);
}
