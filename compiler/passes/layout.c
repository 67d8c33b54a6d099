// requires     contractions with their epilogues, no gradient nodes
// establishes  every value has the layout that the convolutions around it are fastest in; what must be row-major is
// breaks       nothing; passes that add nodes after this one must copy layouts
//
// Physical = logical but for the channels: f32 in nChw16c (Winograd takes nothing else), bf16 channels last (the matrix
// units are reached in nothing else); tests/bench/CONVOLUTIONS.md. On a GPU all are channels last, with any number of channels,
// and so are weights: a product's summed dimension then lies along memory on both sides. Their gradients are row-major, as the
// parameters that they update. Convolutions anchor their pictures to it, and it spreads through whatever keeps dimension 1 what it is: elementwise work, movements and reductions of the other dimensions. These
// classes are found by union-find; a class with a convolution in it takes the layout, all others stay row-major. A
// conversion (`relayout`) is left only where a class meets what is row-major by nature: the entry's inputs and results,
// variables, weights, matmuls and kernel templates. Kernels read any layout, so nothing else needs one.
#include "base/processor.h"
#include "ops/op.h"
#include "passes/pass.h"

typedef struct {
    Graph *graph;
    int *parent;     // by value id: union-find
    bool *anchored;  // by representative: a convolution reads or writes one of the class
    int count;
    bool channels_last;
    bool cuda;
    int block;
} Layouts;

// Vectors of a convolution's blocked layout: what the processor's registers hold.
static int block_of_processor(void) {
    return lv_processor_has_avx512() ? 16 : 8;
}

static int find(Layouts *l, int id) {
    while (l->parent[id] != id) id = l->parent[id] = l->parent[l->parent[id]];
    return id;
}

static bool is_given(const Value *value) {
    Op op = value->node->op;
    return op == OP_input || op == OP_state_read || op == OP_literal;
}

static bool channels_fit(const Layouts *l, const Value *value) {
    int64_t channels = value->shape.dim[1];
    return channels > 0 && (l->cuda || channels % (l->channels_last ? 8 : l->block) == 0);
}

static bool is_eligible(const Layouts *l, const Value *value) {
    return value->shape.rank >= 3 && !is_given(value) && channels_fit(l, value);
}

static void join(Layouts *l, const Value *a, const Value *b) {
    if (!is_eligible(l, a) || !is_eligible(l, b)) return;
    int x = find(l, a->id), y = find(l, b->id);
    l->parent[x < y ? y : x] = x < y ? x : y;
}

static bool list_has(const Attr *list, int64_t number) {
    for (int i = 0; i < list->list.count; i++) {
        if (list->list.at[i] == number) return true;
    }
    return false;
}

static bool slice_keeps(const Layouts *l, const Node *node) {
    int64_t start = node_attr(node, ATTR_starts)->list.at[1], step = node_attr(node, ATTR_steps)->list.at[1];
    return step == 1 && (start == 0 || start % l->block == 0);
}

// Does the node keep dimension 1 of its inputs, and the order of the others?
static bool keeps_channels(const Layouts *l, const Node *node) {
    const Value *x = node->inputs[0], *y = &node->results[0];
    if (node_is_elementwise(node)) return true;
    if (x->shape.rank < 3 || y->shape.rank < 3) return false;
    switch (node->op) {
    case OP_reshape: return x->shape.dim[0] == y->shape.dim[0] && x->shape.dim[1] == y->shape.dim[1];
    case OP_transpose: return node_attr(node, ATTR_perm)->list.at[0] == 0 && node_attr(node, ATTR_perm)->list.at[1] == 1;
    case OP_expand: return node_attr(node, ATTR_axes)->list.at[1] == 1 && x->shape.dim[1] == y->shape.dim[1];
    case OP_slice: return slice_keeps(l, node);
    case OP_pad: return node_attr(node, ATTR_low)->list.at[1] == 0 && node_attr(node, ATTR_high)->list.at[1] == 0;
    case OP_reverse: return !list_has(node_attr(node, ATTR_axes), 1);
    case OP_concat: return true;
    case OP_reduce_sum:
    case OP_reduce_max:
    case OP_reduce_min: return !list_has(node_attr(node, ATTR_axes), 0) && !list_has(node_attr(node, ATTR_axes), 1);
    default: return false;
    }
}

static bool concat_keeps(const Layouts *l, const Node *node) {
    for (int i = 0; i < node->input_count; i++) {
        if (!is_eligible(l, node->inputs[i]) && node_int(node, ATTR_axis, 0) == 1) return false;
    }
    return true;
}

static void find_classes(Layouts *l) {
    for (int i = 0; i < l->count; i++) l->parent[i] = i;
    for GRAPH_EACH(l->graph, node) {
        if (node->input_count == 0 || node->result_count != 1 || !keeps_channels(l, node)) continue;
        if (node->op == OP_concat && !concat_keeps(l, node)) continue;
        for (int i = 0; i < node->input_count; i++) join(l, node->inputs[i], &node->results[0]);
    }
}

static void anchor(Layouts *l, const Value *value) {
    if (is_eligible(l, value)) l->anchored[find(l, value->id)] = true;
}

// The pictures of a convolution, not its weights.
static bool is_picture(const Node *conv, int input) {
    if (conv->op == OP_conv2d_weight_grad) return true;
    return input == 0 || (input == conv->input_count - 1 && node_bool(conv, ATTR_residual, false));
}

static bool is_convolution(const Node *node) {
    return node->op == OP_conv2d || node->op == OP_conv2d_data_grad || node->op == OP_conv2d_weight_grad;
}

static void find_anchors(Layouts *l) {
    for GRAPH_EACH(l->graph, node) {
        if (!is_convolution(node)) continue;
        if (node->op != OP_conv2d_weight_grad) anchor(l, &node->results[0]);
        for (int i = 0; i < node->input_count; i++) {
            if (is_picture(node, i)) anchor(l, node->inputs[i]);
        }
    }
}

static LvLayout layout_for(const Layouts *l, int rank) {
    if (!l->channels_last) return lv_layout_blocked(1, l->block);
    LvLayout layout = lv_layout_row_major();
    for (int i = 1; i < rank - 1; i++) layout.perm[i] = (int8_t)(i + 1);
    layout.perm[rank - 1] = 1;
    return layout;
}

// Results that a kernel printed from loop IR or a convolution writes take any layout.
static bool takes_layout(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    return kind == OP_KIND_LEAF || kind == OP_KIND_ELEMENTWISE || kind == OP_KIND_ELEMENT_COPY || kind == OP_KIND_MOVEMENT ||
           kind == OP_KIND_REDUCTION || is_convolution(node);
}

static void assign(Layouts *l) {
    for GRAPH_EACH(l->graph, node) {
        if (!takes_layout(node) || node->op == OP_pack) continue;
        Value *value = &node->results[0];
        if (is_eligible(l, value) && l->anchored[find(l, value->id)]) value->layout = layout_for(l, value->shape.rank);
    }
}

// ---- conversions

static Value *relayout(Graph *graph, Value *value, LvLayout layout) {
    Value *converted = build_unary(graph, OP_relayout, value);
    converted->layout = layout;
    return converted;
}

// What an input of a node has to be: NULL layout where any will do.
static bool wants(const Layouts *l, const Node *node, int input, LvLayout *layout) {
    const Value *value = node->inputs[input];
    OpKind kind = op_info(node->op)->kind;
    *layout = lv_layout_row_major();
    if (is_convolution(node) && is_picture(node, input)) {
        if (node->op != OP_conv2d_weight_grad && input > 0) *layout = node->results[0].layout;  // the residual: as the result
        else if (channels_fit(l, value)) *layout = layout_for(l, 4);
        return true;
    }
    if (l->cuda && is_convolution(node) && input == 1) {
        *layout = layout_for(l, 4);  // the weights
        return true;
    }
    return kind == OP_KIND_CONTRACTION || kind == OP_KIND_INDEXED || kind == OP_KIND_COMPOSITE || kind == OP_KIND_EFFECT ||
           kind == OP_KIND_EFFECT_VALUE || node->op == OP_pack;
}

static void convert(Layouts *l) {
    for GRAPH_EACH(l->graph, node) {
        for (int i = 0; i < node->input_count; i++) {
            Value *input = node->inputs[i];
            LvLayout layout;
            if (!wants(l, node, i, &layout) || lv_layout_equal(input->layout, layout, input->shape.rank)) continue;
            rewrite_at(l->graph, node);
            node->inputs[i] = relayout(l->graph, input, layout);
        }
    }
    rewrite_end(l->graph);
    for (size_t i = 0; i < l->graph->results.count; i++) {
        GraphPort *result = &l->graph->results.data[i];
        if (lv_layout_is_row_major(result->value->layout, result->value->shape.rank)) continue;
        result->value = relayout(l->graph, result->value, lv_layout_row_major());
    }
}

bool pass_layout(Graph *graph, PassContext *context) {
    bool cuda = context->target->cuda;
    Layouts l = {.graph = graph, .count = graph->next_value, .cuda = cuda, .block = cuda ? 1 : block_of_processor()};
    l.channels_last = cuda || (context->precision == LV_PRECISION_BF16 && processor_has_bf16());
    l.parent = LV_NEW_ARRAY(context->arena, int, l.count + 1);
    l.anchored = LV_NEW_ARRAY(context->arena, bool, l.count + 1);
    find_classes(&l);
    find_anchors(&l);
    assign(&l);
    convert(&l);
    return true;
}
