// requires     layouts chosen, epilogues and views taken
// establishes  on a GPU: the gradient of a bias, a sum over the rows of what the gradient of a weight is the product of, comes with that
//              product (matmul_sums), where it would be a pass over memory for itself
// breaks       nothing
//
// What a kernel makes it sums up for nothing as it writes it (schedule/group.c); not so what an attention or a product leaves. Of operands
// in bf16 or f16 alone: sums of f32 are made compensated, by our own kernels.
#include "codegen/codegen.h"
#include "ops/op.h"
#include "passes/pass.h"

// In memory by something else than a kernel of loop IR, as far as movements that copy nothing tell.
static bool is_left_by_call(const Value *value) {
    const Node *node = value->node;
    switch (op_info(node->op)->kind) {
        case OP_KIND_CONTRACTION:
        case OP_KIND_COMPOSITE:
        case OP_KIND_INDEXED: return true;
        case OP_KIND_MOVEMENT: break;
        default: return false;
    }
    for (int i = 0; i < node->input_count; i++) {
        // parts that lie in the whole have its pitch (passes/views.c)
        if (node->op == OP_concat && node->inputs[i]->layout.pitch == 0) return false;
        if (!is_left_by_call(node->inputs[i])) return false;
    }
    return node->op == OP_reshape || node->op == OP_transpose || node->op == OP_concat;
}

// The matrix in bf16 or f16 that the node sums up, along *axis; NULL.
static Value *summed_by(const Node *node, int64_t *axis) {
    if (node->op != OP_reduce_sum || node->inputs[0]->node->op != OP_cast) return NULL;
    const Attr *axes = node_attr(node, ATTR_axes);
    Value *a = node->inputs[0]->node->inputs[0];
    bool narrow = a->dtype == LV_BF16 || a->dtype == LV_F16;
    if (!narrow || a->shape.rank != 2 || axes->list.count != 1 || node->results[0].dtype != LV_F32) return NULL;
    *axis = axes->list.at[0];
    return a;
}

static bool multiplies(const Node *node, const Value *a, int64_t axis, const Target *target) {
    if (node->op != OP_matmul || node->inputs[0] != a || node->input_count != 2 || node->results[0].dtype != LV_F32) return false;
    bool along = node_bool(node, ATTR_transpose_a, false) ? axis == 0 : axis == 1;
    return along && node_float(node, ATTR_scale, 1) == 1 && !codegen_takes(node, target);
}

static bool reads(const Node *node, const Value *value) {
    for (int i = 0; i < node->input_count; i++) {
        if (node->inputs[i] == value) return true;
    }
    return false;
}

// The product that the sum may come with: nothing between them asks for the sum before the product is there. `taken`: by value id, those
// that have sums already.
static Node *find_product(const Node *sum, const Value *a, int64_t axis, const bool *taken, const Target *target) {
    for (Node *node = a->node->next; node && node != sum; node = node->next) {
        if (multiplies(node, a, axis, target) && !taken[node->results[0].id]) return node;
    }
    for (Node *node = sum->next; node && !reads(node, &sum->results[0]); node = node->next) {
        if (multiplies(node, a, axis, target) && !taken[node->results[0].id]) return node;
    }
    return NULL;
}

static Node *with_sums(Graph *graph, Node *product) {
    Attrs attrs = {0};
    for (int i = 0; i < product->attrs.count; i++) {
        AttrName name = product->attrs.at[i].name;
        bool kept = name == ATTR_transpose_a || name == ATTR_transpose_b || name == ATTR_dtype;
        if (kept) attrs.at[attrs.count++] = product->attrs.at[i];
    }
    rewrite_at(graph, product);
    return build_node(graph, OP_matmul_sums, 2, product->inputs, &attrs)->node;
}

bool pass_bias_sums(Graph *graph, PassContext *context) {
    Replacements with = {0};
    bool *taken = LV_NEW_ARRAY(context->arena, bool, graph->next_value + 1);
    for GRAPH_EACH(graph, node) {
        int64_t axis;
        Value *a = summed_by(node, &axis);
        Node *product = a && is_left_by_call(a) ? find_product(node, a, axis, taken, context->target) : NULL;
        if (!product) continue;
        taken[product->results[0].id] = true;
        Node *both = with_sums(graph, product);
        replacements_set(&with, product->results[0].id, &both->results[0]);
        replacements_set(&with, node->results[0].id, &both->results[1]);
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
    return pass_dce(graph, context);
}
