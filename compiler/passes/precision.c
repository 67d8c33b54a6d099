// requires     no gradient nodes; composites still whole (each keeps its own precision, f32 inside)
// establishes  contractions multiply bf16, or f16, and sum in f32; every other value is f32
// breaks       common subexpressions (casts of one value): run cse after it
//
// Only what a matrix unit does is rounded: operands, and results that go on as activations. Parameters stay f32 and are cast
// where they are used, but for a processor's convolutions: its library lays their weights out anew in every call, and casts as it
// does. Gradients of parameters come out of the library in f32, and so do logits. Reductions, statistics,
// softmax, the quantizer and the loss see f32. Kernels fuse the casts, so what lies in memory between a kernel and a
// convolution is as narrow. Where the processor has no bf16 products (x86 before AVX-512: its library would fall back to plain loops)
// only those are rounded that a template of ours computes, which then reads half the weight; all others stay f32. The products inside
// of attention are a GPU's tensor cores' too, and a processor's where it has instructions for bf16; over a cache they are where that is
// kept narrow (operands.c), so that not every key has to be cast.
#include "base/processor.h"
#include "codegen/codegen.h"
#include "ops/op.h"
#include "passes/pass.h"

bool processor_has_bf16(void) {
#if defined(__x86_64__)
    return lv_processor_has_avx512();  // with or without instructions for it
#else
    return true;
#endif
}

// Values that become a packed gradient by no more than moving and adding.
static bool *find_parameter_gradients(const Graph *graph, LvArena *arena) {
    bool *marked = LV_NEW_ARRAY(arena, bool, graph->next_value + 1);
    for (const Node *node = graph->last; node; node = node->prev) {
        bool passes = node->op == OP_pack;
        if (node->result_count == 1 && marked[node->results[0].id]) {
            passes |= op_info(node->op)->kind == OP_KIND_MOVEMENT || node->op == OP_add || node->op == OP_cast;
        }
        for (int i = 0; passes && i < node->input_count; i++) marked[node->inputs[i]->id] = true;
    }
    return marked;
}

// Logits: what a softmax or a cross-entropy reads, through no more than reshapes.
static void mark_logits(const Graph *graph, bool *marked) {
    for (const Node *node = graph->last; node; node = node->prev) {
        bool passes = node->op == OP_softmax || node->op == OP_cross_entropy;
        if (node->op == OP_reshape && marked[node->results[0].id]) passes = true;
        if (passes) marked[node->inputs[0]->id] = true;
    }
}

static bool is_f32_contraction(const Node *node) {
    return op_info(node->op)->kind == OP_KIND_CONTRACTION && node->results[0].dtype == LV_F32 && node->inputs[0]->dtype == LV_F32;
}

bool casts_itself(const Node *node, int input, const Target *target) {
    return !target->cuda && input == 1 && (node->op == OP_conv2d || node->op == OP_conv2d_data_grad);
}

static Value *narrowed(Graph *graph, Node *node, LvDType dtype, bool wide, const Target *target) {
    Value *inputs[4];
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = casts_itself(node, i, target) ? node->inputs[i] : build_cast(graph, node->inputs[i], dtype);
    }
    Attrs attrs = node->attrs;
    if (wide) attrs_int(&attrs, ATTR_dtype, LV_F32);
    return build_cast(graph, build_node(graph, node->op, node->input_count, inputs, &attrs), LV_F32);
}

// Of a projection and its loss x and weight are rounded; loss and gradients come out in f32.
static bool is_f32_loss(const Node *node) {
    return (node->op == OP_linear_cross_entropy || node->op == OP_linear_cross_entropy_grad) && node->inputs[0]->dtype == LV_F32;
}

static bool is_f32_attention(const Node *node) {
    return (node->op == OP_attention || node->op == OP_attention_grad) && node->inputs[0]->dtype == LV_F32;
}

static bool is_widened(const Value *value, LvDType dtype) {
    return value->node->op == OP_cast && value->node->inputs[0]->dtype == dtype;
}

// q, k and v, and of the gradient y and dy, are rounded; so are the results but for the logsumexp. The softmax inside is made in f32.
static void narrow_attention(Graph *graph, Node *node, LvDType dtype, Value **with) {
    Value *inputs[8];
    for (int i = 0; i < node->input_count; i++) {
        bool rounds = i < 4 || i == 5;  // 3 of attention is the seed, 4 of the gradient the logsumexp
        inputs[i] = rounds && node->inputs[i]->dtype == LV_F32 ? build_cast(graph, node->inputs[i], dtype) : node->inputs[i];
    }
    Node *rounded = build_node(graph, node->op, node->input_count, inputs, &node->attrs)->node;
    for (int i = 0; i < node->result_count; i++) {
        Value *result = &rounded->results[i];
        with[node->results[i].id] = result->dtype == dtype ? build_cast(graph, result, LV_F32) : result;
    }
}

bool pass_precision(Graph *graph, PassContext *context) {
    LvDType dtype = lv_precision_dtype(context->precision);
    if (dtype == LV_F32) return true;
    operands_narrow(graph, dtype, context->arena);
    bool has_products = context->target->cuda || processor_has_bf16();
    bool attends = context->target->cuda || (dtype == LV_BF16 && lv_processor_has_bf16());
    int count = graph->next_value;
    bool *wide = find_parameter_gradients(graph, context->arena);
    mark_logits(graph, wide);
    Value **with = LV_NEW_ARRAY(context->arena, Value *, count + 1);
    for GRAPH_EACH(graph, node) {
        for (int i = 0; i < node->input_count; i++) {
            Value *input = node->inputs[i];
            if (input->id < count && with[input->id]) node->inputs[i] = with[input->id];
        }
        if (is_f32_loss(node) && has_products) {
            rewrite_at(graph, node);
            for (int i = 0; i < 2; i++) node->inputs[i] = build_cast(graph, node->inputs[i], dtype);
        }
        if (is_f32_attention(node) && (node_bool(node, ATTR_length, false) ? is_widened(node->inputs[1], dtype) : attends)) {
            rewrite_at(graph, node);
            narrow_attention(graph, node, dtype, with);
            continue;
        }
        if (!is_f32_contraction(node) || node->input_count > 4 || !(has_products || codegen_takes(node, context->target))) continue;
        rewrite_at(graph, node);
        with[node->results[0].id] = narrowed(graph, node, dtype, wide[node->results[0].id], context->target);
    }
    rewrite_end(graph);
    Value **all = LV_NEW_ARRAY(context->arena, Value *, graph->next_value + 1);
    for (int i = 0; i < count; i++) all[i] = with[i];
    graph_replace_all(graph, all);
    return pass_dce(graph, context);
}
