// Elementwise operations: result element i from element i of each input. Shapes are equal: broadcasting is `expand`.
// Their evaluation comes from the expressions of ops.def; here are the shape rule, `cast`, and the gradients.
#include <math.h>
#include <string.h>

#include "ops/rules.h"

static bool is_comparison(Op op) {
    return op == OP_eq || op == OP_ne || op == OP_lt || op == OP_le || op == OP_gt || op == OP_ge;
}

static bool is_logic(Op op) { return op == OP_not || op == OP_and || op == OP_or; }

static bool is_float_only(Op op) {
    return (op >= OP_exp && op <= OP_rsqrt) || (op >= OP_sin && op <= OP_floor) || op == OP_pow;
}

const char *shape_elementwise(Graph *graph, Node *node) {
    int first = node->op == OP_select;  // the input that gives the type
    const Value *like = node->inputs[first];
    for (int i = 0; i < node->input_count; i++) {
        const Value *input = node->inputs[i];
        if (!lv_shape_equal(input->shape, like->shape))
            return refuse(graph, "%s of %s and %s: the shapes differ", op_name(node->op), shape_text(graph, like->shape),
                          shape_text(graph, input->shape));
        if (i >= first && input->dtype != like->dtype)
            return refuse(graph, "%s of %s and %s: the types differ", op_name(node->op), lv_dtype_name(like->dtype),
                          lv_dtype_name(input->dtype));
    }
    if (node->op == OP_select && node->inputs[0]->dtype != LV_BOOL)
        return refuse(graph, "select chooses by bool, not by %s", lv_dtype_name(node->inputs[0]->dtype));
    if (is_logic(node->op) && like->dtype != LV_BOOL)
        return refuse(graph, "%s is of bool, not of %s", op_name(node->op), lv_dtype_name(like->dtype));
    if (is_float_only(node->op) && !lv_dtype_is_float(like->dtype))
        return refuse(graph, "%s is of floats, not of %s", op_name(node->op), lv_dtype_name(like->dtype));
    if (node->op == OP_mod && !lv_dtype_is_int(like->dtype))
        return refuse(graph, "mod is of integers, not of %s", lv_dtype_name(like->dtype));
    if (node->op == OP_bits && like->dtype != LV_F32) return refuse(graph, "bits is of f32, not of %s", lv_dtype_name(like->dtype));
    if ((node->op == OP_from_byte) != (like->dtype == LV_U8))
        return refuse(graph, "%s of %s: only from_byte is of u8", op_name(node->op), lv_dtype_name(like->dtype));
    bool any = is_comparison(node->op) || is_logic(node->op) || node->op == OP_select;
    if (!any && like->dtype == LV_BOOL) return refuse(graph, "%s is of numbers, not of bool", op_name(node->op));
    LvDType dtype = like->dtype;
    if (is_comparison(node->op)) dtype = LV_BOOL;
    if (node->op == OP_bits) dtype = LV_I32;
    if (node->op == OP_from_byte) dtype = LV_F32;
    set_result(node, 0, dtype, like->shape);
    return NULL;
}

// ---- evaluation, generated from the expressions: once in f64 and once in i64

static int64_t mod(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

static double bits(double a) {
    float f = (float)a;
    int32_t i;
    memcpy(&i, &f, sizeof i);
    return i;
}

typedef double (*FloatRule)(double a, double b, double c);

static void evaluate_floats(FloatRule rule, const Tensor *const *inputs, int count, Tensor *result) {
    for (int64_t i = 0, n = lv_shape_elements(result->shape); i < n; i++) {
        double a = tensor_get(inputs[0], i), b = count > 1 ? tensor_get(inputs[1], i) : 0;
        tensor_set(result, i, rule(a, b, count > 2 ? tensor_get(inputs[2], i) : 0));
    }
}

static bool all_integers(const Tensor *const *inputs, int count) {
    for (int i = 0; i < count; i++)
        if (tensor_is_float(inputs[i])) return false;
    return true;
}

// C's arithmetic on int64_t, made defined: unsigned where it may overflow, x / 0 = 0.
static int64_t integer_rule(Op op, int64_t a, int64_t b, int64_t c) {
    switch (op) {
    case OP_neg: return (int64_t)(0 - (uint64_t)a);
    case OP_abs: return a < 0 ? (int64_t)(0 - (uint64_t)a) : a;
    case OP_sign: return (a > 0) - (a < 0);
    case OP_not: return !a;
    case OP_add: return (int64_t)((uint64_t)a + (uint64_t)b);
    case OP_sub: return (int64_t)((uint64_t)a - (uint64_t)b);
    case OP_mul: return (int64_t)((uint64_t)a * (uint64_t)b);
    case OP_div: return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
    case OP_max: return a > b ? a : b;
    case OP_min: return a < b ? a : b;
    case OP_mod: return mod(a, b);
    case OP_eq: return a == b;
    case OP_ne: return a != b;
    case OP_lt: return a < b;
    case OP_le: return a <= b;
    case OP_gt: return a > b;
    case OP_ge: return a >= b;
    case OP_and: return a && b;
    case OP_or: return a || b;
    case OP_select: return a ? b : c;
    default: lv_internal_error("ops: %s of integers", op_name(op));
    }
}

static void evaluate_integers(Op op, const Tensor *const *inputs, int count, Tensor *result) {
    for (int64_t i = 0, n = lv_shape_elements(result->shape); i < n; i++) {
        int64_t r = integer_rule(op, inputs[0]->i[i], count > 1 ? inputs[1]->i[i] : 0, count > 2 ? inputs[2]->i[i] : 0);
        result->i[i] = result->dtype == LV_I32 ? (int64_t)(int32_t)(uint32_t)r : r;
    }
}

#define mod(a, b) ((void)(a), (void)(b), 0.0)  // of integers alone
#define ELEMENTWISE(name, count, expression, GRADIENT)                                                                 \
    static double rule_##name(double a, double b, double c) {                                                          \
        (void)a, (void)b, (void)c;                                                                                     \
        return (expression);                                                                                           \
    }                                                                                                                  \
    void evaluate_##name(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) { \
        (void)evaluation;                                                                                              \
        if (all_integers(inputs, count) && !tensor_is_float(results)) evaluate_integers(node->op, inputs, count, results);                          \
        else evaluate_floats(rule_##name, inputs, count, results);                                                     \
    }
#include "ops/ops.def"

double elementwise_value(Op op, double a, double b, double c) {
    switch (op) {
#define ELEMENTWISE(name, count, expression, GRADIENT) case OP_##name: return rule_##name(a, b, c);
#include "ops/ops.def"
    default: lv_internal_error("ops: %s is not elementwise", op_name(op));
    }
}
#undef mod

// ---- cast: to a float rounds to nearest; float to integer cuts off towards zero; to bool is x != 0

const char *shape_cast(Graph *graph, Node *node) {
    int64_t dtype = node_int(node, ATTR_dtype, -1);
    if (dtype < 0 || dtype >= LV_DTYPE_COUNT) return refuse(graph, "cast to no type");
    if (dtype == LV_U8 || node->inputs[0]->dtype == LV_U8)
        return refuse(graph, "cast of %s to %s: only from_byte is of u8", lv_dtype_name(node->inputs[0]->dtype),
                      lv_dtype_name((LvDType)dtype));
    set_result(node, 0, (LvDType)dtype, node->inputs[0]->shape);
    return NULL;
}

static int64_t integer_of(double x, LvDType dtype) {
    if (x != x) return 0;
    if (dtype == LV_I32) return x >= 2147483647.0 ? INT32_MAX : x <= -2147483648.0 ? INT32_MIN : (int64_t)x;
    return x >= 9223372036854775807.0 ? INT64_MAX : x <= -9223372036854775808.0 ? INT64_MIN : (int64_t)x;
}

void evaluate_cast(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    (void)evaluation, (void)node;
    const Tensor *x = inputs[0];
    for (int64_t i = 0, n = lv_shape_elements(results->shape); i < n; i++) {
        if (tensor_is_float(results)) results->f[i] = tensor_get(x, i);
        else if (results->dtype == LV_BOOL) results->i[i] = tensor_is_float(x) ? x->f[i] != 0 : x->i[i] != 0;
        else if (tensor_is_float(x)) results->i[i] = integer_of(x->f[i], results->dtype);
        else results->i[i] = results->dtype == LV_I32 ? (int64_t)(int32_t)(uint32_t)x->i[i] : x->i[i];
    }
}

#define GRADIENT_RULE(name) \
    void gradient_##name(Graph *g, Node *node, Value *const *result_grads, Value **input_grads)
#define A (node->inputs[0])
#define B (node->inputs[1])
#define Y (&node->results[0])
#define DY (result_grads[0])
#define DA (input_grads[0])
#define DB (input_grads[1])
#define UNARY(op, a) build_unary(g, OP_##op, a)
#define BINARY(op, a, b) build_binary(g, OP_##op, a, b)
#define NUMBER(x) build_like(g, x, A)

GRADIENT_RULE(cast) { DA = lv_dtype_is_float(A->dtype) && lv_dtype_is_float(Y->dtype) ? build_cast(g, DY, A->dtype) : NULL; }

// ---- gradients: d/da from dy

GRADIENT_RULE(zero) { (void)result_grads, DA = build_like(g, 0, A); }
GRADIENT_RULE(neg) { (void)node, DA = UNARY(neg, DY); }
GRADIENT_RULE(exp) { DA = BINARY(mul, DY, Y); }
GRADIENT_RULE(log) { DA = BINARY(div, DY, A); }
GRADIENT_RULE(sqrt) { DA = BINARY(div, BINARY(mul, DY, NUMBER(0.5)), Y); }
GRADIENT_RULE(rsqrt) { DA = BINARY(mul, BINARY(mul, DY, NUMBER(-0.5)), BINARY(mul, Y, BINARY(mul, Y, Y))); }  // -y^3 / 2
GRADIENT_RULE(abs) { DA = BINARY(mul, DY, UNARY(sign, A)); }
GRADIENT_RULE(sin) { DA = BINARY(mul, DY, UNARY(cos, A)); }
GRADIENT_RULE(cos) { DA = UNARY(neg, BINARY(mul, DY, UNARY(sin, A))); }
GRADIENT_RULE(tanh) { DA = BINARY(mul, DY, BINARY(sub, NUMBER(1), BINARY(mul, Y, Y))); }
GRADIENT_RULE(erf) {  // 2 / sqrt(pi) exp(-a^2)
    DA = BINARY(mul, DY, BINARY(mul, NUMBER(1.1283791670955126), UNARY(exp, UNARY(neg, BINARY(mul, A, A)))));
}
GRADIENT_RULE(sigmoid) { DA = BINARY(mul, DY, BINARY(mul, Y, BINARY(sub, NUMBER(1), Y))); }
GRADIENT_RULE(add) { (void)g, (void)node, DA = DY, DB = DY; }
GRADIENT_RULE(sub) { (void)node, DA = DY, DB = UNARY(neg, DY); }
GRADIENT_RULE(mul) { DA = BINARY(mul, DY, B), DB = BINARY(mul, DY, A); }
GRADIENT_RULE(div) {
    DA = BINARY(div, DY, B);
    DB = UNARY(neg, BINARY(mul, DA, Y));  // -dy a / b^2
}
GRADIENT_RULE(pow) {  // b a^(b-1); a^b log a, which is 0 at a = 0 for b > 0 and undefined for a < 0
    DA = BINARY(mul, DY, BINARY(mul, B, BINARY(pow, A, BINARY(sub, B, NUMBER(1)))));
    Value *positive = BINARY(gt, A, NUMBER(0));
    Value *safe = build_select(g, positive, A, NUMBER(1));
    DB = BINARY(mul, DY, build_select(g, positive, BINARY(mul, Y, UNARY(log, safe)), NUMBER(0)));
}
// A tie goes to b, as the expression does.
GRADIENT_RULE(max) {
    Value *first = BINARY(gt, A, B), *zero = NUMBER(0);
    DA = build_select(g, first, DY, zero), DB = build_select(g, first, zero, DY);
}
GRADIENT_RULE(min) {
    Value *first = BINARY(lt, A, B), *zero = NUMBER(0);
    DA = build_select(g, first, DY, zero), DB = build_select(g, first, zero, DY);
}
GRADIENT_RULE(select) {
    Value *zero = build_like(g, 0, DY);
    input_grads[1] = build_select(g, A, DY, zero);
    input_grads[2] = build_select(g, A, zero, DY);
}
