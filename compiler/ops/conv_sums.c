// conv2d_data_grad_sums: a convolution's data gradient that also says what sums over its pixels come
// to, of expressions of the gradient and of other maps: those that a normalization's backward pass asks
// for, made while the gradient is at hand. A picture's pixels, in row-major order, are cut into `strips`
// runs of equal length, each with sums of its own. They are of the gradient as it is stored, rounded to
// its type.
#include "ops/composite.h"
#include "ops/each.h"

// ---- conv2d_data_grad_sums: dy, weight as of conv2d_data_grad, then operands of `each`: maps
// [B,C,H,W], [B,C], or [C] -> dx [B,C,H,W], sums [K,B,S,C]; S strips of P pixels, K sums of `each`.
// sums[k,b,s,c] = sum over the pixels i of strip s of e_k(dx[b,c,i], ...), each operand at b, c, i

enum { FIRST = 2 };  // of the operands, x1; x0 is dx

static bool fits(LvShape operand, LvShape x) {
    LvShape vector = operand.rank == 1 ? lv_shape(1, x.dim + 1) : operand.rank == 2 ? lv_shape(2, x.dim) : x;
    return lv_shape_equal(operand, vector);
}

static int operand_count(const Node *node) { return node->input_count - FIRST + 1; }

static bool read_each(const Node *node, Each *each) {
    const Attr *attr = node_attr(node, ATTR_each);
    return attr && each_parse(attr->s, operand_count(node), each);
}

static bool has_pixels(const Node *node, const Each *each, int64_t pixels) {
    for (int i = 0; i < each->step_count; i++) {
        const EachStep *step = &each->step[i];
        if (step->op == OP_slice && (step->pixel >= pixels || node->inputs[FIRST - 1 + step->arg[0]]->shape.rank != 4)) return false;
    }
    return true;
}

const char *shape_conv2d_data_grad_sums(Graph *graph, Node *node) {
    Node plain = *node;
    plain.input_count = node->input_count < FIRST ? node->input_count : FIRST;
    const char *wrong = shape_conv2d_data_grad(graph, &plain);
    if (wrong) return wrong;
    LvShape x = node->results[0].shape;
    for (int i = FIRST; i < node->input_count; i++)
        if (!lv_dtype_is_float(node->inputs[i]->dtype) || !fits(node->inputs[i]->shape, x))
            return refuse(graph, "%s: operand %d is %s%s beside %s", op_name(node->op), i, lv_dtype_name(node->inputs[i]->dtype),
                          shape_text(graph, node->inputs[i]->shape), shape_text(graph, x));
    int64_t strips = node_int(node, ATTR_strips, 0), pixels = x.dim[2] * x.dim[3];
    Each each;
    if (!read_each(node, &each) || !has_pixels(node, &each, pixels))
        return refuse(graph, "%s: each is no expression of %d operands", op_name(node->op), operand_count(node));
    if (strips < 1 || pixels % strips)
        return refuse(graph, "%s: the pixels of %s are not cut into %lld strips", op_name(node->op), shape_text(graph, x), (long long)strips);
    LvDType dtype = node->results[0].dtype == LV_F64 ? LV_F64 : LV_F32;
    set_result(node, 1, dtype, lv_shape(4, (int64_t[]){each.sum_count, x.dim[0], strips, x.dim[1]}));
    return NULL;
}

typedef struct {
    const Tensor *const *inputs, *x;
    int64_t at;  // of [B,C,P]
} Element;

static double read_element(const void *element, int operand, int64_t pixel) {
    const Element *e = element;
    const Tensor *from = operand ? e->inputs[FIRST - 1 + operand] : e->x;
    const int64_t *dim = e->x->shape.dim, pixels = dim[2] * dim[3], plane = e->at / pixels;
    int rank = from->shape.rank;
    return tensor_get(from, rank == 1 ? plane % dim[1] : rank == 2 ? plane : pixel < 0 ? e->at : plane * pixels + pixel);
}

void evaluate_conv2d_data_grad_sums(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results) {
    evaluate_conv2d_data_grad(evaluation, node, inputs, results);
    LvShape x = results[0].shape;
    int64_t pixels = x.dim[2] * x.dim[3], channels = x.dim[1], strips = node_int(node, ATTR_strips, 1), count = lv_shape_elements(x);
    Each each;
    if (!read_each(node, &each)) lv_internal_error("%s: no expression", op_name(node->op));
    for (int64_t at = 0; at < count; at++) {
        double term[EACH_SUMS];
        if (evaluation->round) results[0].f[at] = round_to(results[0].dtype, results[0].f[at]);
        each_evaluate(&each, read_element, &(Element){inputs, &results[0], at}, term);
        int64_t b = at / pixels / channels, c = at / pixels % channels, s = at % pixels / (pixels / strips);
        for (int k = 0; k < each.sum_count; k++) results[1].f[((k * x.dim[0] + b) * strips + s) * channels + c] += term[k];
    }
}

// [B,C,H,W] of what lies otherwise at an operand's place.
static Value *as_map(Graph *g, Value *operand, const Value *like) {
    operand = build_cast(g, operand, like->dtype);
    static const int64_t axes[2][2] = {{1}, {0, 1}};
    return operand->shape.rank == 4 ? operand : build_expand(g, operand, like->shape, axes[operand->shape.rank - 1]);
}

// [B,C,H,W] -> [1,B,S,C]
static Value *sums_of_strips(Graph *g, Value *term, int64_t strips) {
    LvShape x = term->shape;
    Value *cut = build_reshape(g, term, lv_shape(4, (int64_t[]){x.dim[0], x.dim[1], strips, x.dim[2] * x.dim[3] / strips}));
    Value *turned = build_transpose(g, composite_sum(g, cut, 3), (int64_t[]){0, 2, 1});
    return build_reshape(g, turned, lv_shape(4, (int64_t[]){1, x.dim[0], strips, x.dim[1]}));
}

bool decompose_conv2d_data_grad_sums(Graph *g, Node *node, Value **with) {
    Attrs attrs = {0};
    for (int i = 0; i < node->attrs.count; i++)
        if (node->attrs.at[i].name != ATTR_strips && node->attrs.at[i].name != ATTR_each) attrs.at[attrs.count++] = node->attrs.at[i];
    Each each;
    if (!read_each(node, &each)) lv_internal_error("%s: no expression", op_name(node->op));
    with[0] = build_node(g, OP_conv2d_data_grad, FIRST, node->inputs, &attrs);
    Value *operand[EACH_OPERANDS] = {composite_widen(g, with[0])}, *term[EACH_SUMS];
    for (int i = FIRST; i < node->input_count; i++) operand[i - FIRST + 1] = as_map(g, node->inputs[i], operand[0]);
    each_build(g, &each, operand, term);
    for (int k = 0; k < each.sum_count; k++) term[k] = sums_of_strips(g, term[k], node_int(node, ATTR_strips, 1));
    with[1] = each.sum_count > 1 ? build_concat(g, each.sum_count, term, 0) : term[0];
    return true;
}
