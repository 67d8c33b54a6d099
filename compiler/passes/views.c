// requires     layouts chosen, epilogues taken; casts that widen stand behind movements (algebra)
// establishes  on a GPU: an attention reads its operands where a product left them, and writes its results where the next product reads
//              them: [B, T, heads, D], or a part of the columns of [B T, 3 heads D], though both are [B, heads, T, D] by shape
// breaks       nothing; passes that add nodes after this one must copy layouts
//
// A model splits a projection into heads by slice, reshape and transpose, and puts heads together by transpose, reshape and concat; each
// would copy all of it. Such a chain is written out again with layouts in which nothing moves: the slice keeps the pitch of what it is
// of, the transpose the order. The schedule then sees views (schedule/mark.c). Results get such layouts only where all that reads them
// can, and parts of a concatenation only where all of its parts are written by attentions. Kernel templates that read strides decide:
// codegen_takes is asked with the new layouts.
#include "codegen/codegen.h"
#include "ops/op.h"
#include "passes/pass.h"

static const int8_t HEADS_INSIDE[4] = {0, 2, 1, 3};  // [B, heads, T, D] that lies as [B, T, heads, D]

static LvLayout pitched(LvLayout layout, int place, int64_t pitch) {
    if (pitch) layout.pitch_place = (int8_t)place, layout.pitch = (int32_t)pitch;
    return layout;
}

static LvLayout heads_inside(int64_t pitch) {
    LvLayout layout = lv_layout_row_major();
    for (int i = 0; i < 4; i++) layout.perm[i] = HEADS_INSIDE[i];
    return pitched(layout, 1, pitch);
}

static bool swaps_heads(const Node *node) {
    if (node->op != OP_transpose || node->inputs[0]->shape.rank != 4) return false;
    const Attr *perm = node_attr(node, ATTR_perm);
    for (int i = 0; i < 4; i++) {
        if (perm->list.at[i] != HEADS_INSIDE[i]) return false;
    }
    return true;
}

static bool row_major(const Value *value) { return lv_layout_is_row_major(value->layout, value->shape.rank); }

// ---- operands

// Some columns of all rows of a product.
static bool takes_columns(const Node *node) {
    if (node->op != OP_slice || node->inputs[0]->shape.rank != 2 || node->inputs[0]->node->op != OP_matmul) return false;
    const Attr *starts = node_attr(node, ATTR_starts), *steps = node_attr(node, ATTR_steps);
    int64_t width = node->inputs[0]->shape.dim[1], size = (int64_t)lv_dtype_size(node->results[0].dtype);
    bool all_rows = node->results[0].shape.dim[0] == node->inputs[0]->shape.dim[0];
    return all_rows && steps->list.at[0] == 1 && steps->list.at[1] == 1 && width < INT32_MAX && starts->list.at[1] * size % 64 == 0;
}

// The same operand as a view; NULL: it is none.
static Value *operand_view(Graph *g, Value *operand) {
    if (!swaps_heads(operand->node) || !row_major(operand)) return NULL;
    Value *split = operand->node->inputs[0], *x = split;
    if (!row_major(split)) return NULL;
    int64_t pitch = 0;
    if (split->node->op == OP_reshape) {
        x = split->node->inputs[0];
        if (!row_major(x)) return NULL;
        if (takes_columns(x->node)) {
            Node *slice = x->node;
            pitch = slice->inputs[0]->shape.dim[1];
            x = build_slice(g, slice->inputs[0], node_attr(slice, ATTR_starts)->list.at, x->shape, NULL);
            x->layout = pitched(x->layout, 0, pitch);
        }
        x = build_reshape(g, x, split->shape);
        x->layout = pitched(x->layout, 1, pitch);
    }
    Value *view = build_transpose(g, x, (int64_t[]){0, 2, 1, 3});
    view->layout = heads_inside(pitch);
    return view;
}

// Of an attention q, k, v; of its gradient y, laid out as the attention wrote it, and dy too.
static bool may_be_view(const Node *node, int input) { return input < 3 || (node->op == OP_attention_grad && input == 5); }

static void view_operands(Graph *g, Node *node, const Target *target) {
    rewrite_at(g, node);
    for (int i = 0; i < node->input_count; i++) {
        Value *old = node->inputs[i], *view = may_be_view(node, i) ? operand_view(g, old) : NULL;
        if (!view) continue;
        node->inputs[i] = view;
        if (!codegen_takes(node, target)) node->inputs[i] = old;
    }
    rewrite_end(g);
}

// ---- results

typedef struct {
    Graph *graph;
    const Target *target;
    LV_VEC(Node *) readers;  // of all values
    int *first;              // by value id: where its readers begin; those of id + 1 follow
    bool *claimed;           // by value id: a result of the graph
} Readers;

static void find_readers(Readers *r, LvArena *arena) {
    size_t count = (size_t)r->graph->next_value + 2;
    r->first = LV_NEW_ARRAY(arena, int, count);
    r->claimed = LV_NEW_ARRAY(arena, bool, count);
    int *next = LV_NEW_ARRAY(arena, int, count), total = 0;
    for GRAPH_EACH(r->graph, node)
        for (int i = 0; i < node->input_count; i++) r->first[node->inputs[i]->id + 1]++, total++;
    for (size_t i = 1; i < count; i++) r->first[i] += r->first[i - 1];
    for (size_t i = 0; i < count; i++) next[i] = r->first[i];
    for (int i = 0; i < total; i++) lv_vec_push(&r->readers, NULL);
    for GRAPH_EACH(r->graph, node)
        for (int i = 0; i < node->input_count; i++) r->readers.data[next[node->inputs[i]->id]++] = node;
    for (size_t i = 0; i < r->graph->results.count; i++) r->claimed[r->graph->results.data[i].value->id] = true;
}

static int reader_count(const Readers *r, const Value *value) { return r->first[value->id + 1] - r->first[value->id]; }

static Node *only_reader(const Readers *r, const Value *value) {
    return reader_count(r, value) == 1 && !r->claimed[value->id] ? r->readers.data[r->first[value->id]] : NULL;
}

// Is the value read as the y of an attention's gradient, or by transposes that put its heads back inside, and by nothing else?
static bool heads_go_inside(const Readers *r, const Value *value) {
    for (int i = r->first[value->id]; i < r->first[value->id + 1]; i++) {
        const Node *reader = r->readers.data[i];
        bool as_y = reader->op == OP_attention_grad && reader->inputs[3] == value;
        if (!as_y && !(swaps_heads(reader) && row_major(&reader->results[0]))) return false;
    }
    return reader_count(r, value) > 0 && !r->claimed[value->id];
}

// A result with a new layout, and nothing else of the node changed, if its template and those of its readers take that.
static void lay_result(const Readers *r, Node *node, int result) {
    Value *value = &node->results[result];
    if (!row_major(value) || !heads_go_inside(r, value)) return;
    value->layout = heads_inside(0);
    bool taken = codegen_takes(node, r->target);
    for (int i = r->first[value->id]; i < r->first[value->id + 1] && taken; i++) {
        const Node *reader = r->readers.data[i];
        taken = reader->op != OP_attention_grad || codegen_takes(reader, r->target);
    }
    if (!taken) value->layout = lv_layout_row_major();
}

// The gradient's result that a part of a concatenation is, through a transpose and a reshape that nothing else reads; NULL.
static Value *part_of(const Readers *r, Value *part) {
    if (part->node->op != OP_reshape || !row_major(part) || only_reader(r, part) == NULL) return NULL;
    Value *split = part->node->inputs[0];
    if (!swaps_heads(split->node) || only_reader(r, split) != part->node) return NULL;
    Value *made = split->node->inputs[0];
    if (made->node->op != OP_attention_grad || only_reader(r, made) != split->node) return NULL;
    return lv_layout_equal(made->layout, heads_inside(0), 4) ? made : NULL;
}

static void lay_parts(const Readers *r, Node *concat) {
    Value *whole = &concat->results[0];
    Value *made[8];
    int64_t at = 0, pitch = whole->shape.rank == 2 ? whole->shape.dim[1] : 0, size = (int64_t)lv_dtype_size(whole->dtype);
    if (pitch == 0 || pitch > INT32_MAX || concat->input_count > 8 || node_int(concat, ATTR_axis, 0) != 1 || !row_major(whole)) return;
    for (int i = 0; i < concat->input_count; i++) {
        made[i] = part_of(r, concat->inputs[i]);
        if (!made[i] || at * size % 64) return;
        at += concat->inputs[i]->shape.dim[1];
    }
    bool taken = true;
    for (int i = 0; i < concat->input_count; i++) made[i]->layout = heads_inside(pitch);
    for (int i = 0; i < concat->input_count; i++) taken &= codegen_takes(made[i]->node, r->target);
    for (int i = 0; i < concat->input_count; i++) {
        made[i]->layout = heads_inside(taken ? pitch : 0);
        concat->inputs[i]->layout = pitched(concat->inputs[i]->layout, 0, taken ? pitch : 0);
        Value *split = concat->inputs[i]->node->inputs[0];
        split->layout = pitched(split->layout, 1, taken ? pitch : 0);
    }
}

bool pass_views(Graph *graph, PassContext *context) {
    if (!context->target->cuda) return true;
    for GRAPH_EACH(graph, node) {
        bool attends = node->op == OP_attention || node->op == OP_attention_grad;
        if (attends) view_operands(graph, node, context->target);
    }
    pass_cse(graph, context);
    pass_dce(graph, context);
    Readers r = {.graph = graph, .target = context->target};
    find_readers(&r, context->arena);
    for GRAPH_EACH(graph, node) {
        bool attends = node->op == OP_attention || node->op == OP_attention_grad;
        for (int i = 0; attends && i < (node->op == OP_attention ? 1 : 3); i++) lay_result(&r, node, i);
    }
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_concat) lay_parts(&r, node);
    }
    lv_vec_free(&r.readers);
    return true;
}
