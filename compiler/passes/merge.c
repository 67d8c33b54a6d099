// Matmuls of one operand with several weights as one: the projections to queries, keys and values of an attention.
//
// pass_merge, before autodiff:
//   requires     nothing
//   establishes  matmuls a w^T, with equal a and weights that are params side by side in the flat vector, are one matmul with
//                their concatenation, of which each takes its columns; their biases likewise
//   breaks       nothing
// pass_flat, after autodiff and the last algebra:
//   requires     no gradient nodes
//   establishes  a concatenation of such params is a view of the flat vector; a gradient whose parts are packed one after the
//                other is packed whole: neither is copied
//   breaks       nothing
//
// Params lie side by side if their groups and the order of their declaration put them there (sema/elaborate.c); where they do
// not, a concatenation would have to be copied at each run, and the matmuls are left alone.
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"
#include "passes/pass.h"

// The param that the value reads, if it is part of the flat vector.
static const Variable *packed_param(const Graph *graph, const Value *value) {
    if (value->node->op != OP_state_read) return NULL;
    const Variable *v = &graph->variables.data[node_int(value->node, ATTR_variable, 0)];
    return v->pack >= 0 ? v : NULL;
}

static bool follows(const Graph *graph, const Value *first, const Value *second) {
    const Variable *a = packed_param(graph, first), *b = packed_param(graph, second);
    return a && b && a->pack == b->pack && a->pack_offset + lv_shape_elements(a->shape) == b->pack_offset;
}

// ---- matmuls of one operand

typedef struct {
    Node *matmul;
    Node *add;     // of its bias, NULL
    Value *bias;   // [N]
} Product;

static bool is_product(const Graph *graph, const Node *node) {
    if (node->op != OP_matmul || node->input_count != 2 || !node_bool(node, ATTR_transpose_b, false)) return false;
    if (node_bool(node, ATTR_transpose_a, false) || node_float(node, ATTR_scale, 1) != 1) return false;
    return node->inputs[0]->shape.rank == 2 && packed_param(graph, node->inputs[1]);
}

// The only reader of each value, by id; NULL where there is none or several.
static Node **only_readers(const Graph *graph, LvArena *arena) {
    Node **reader = LV_NEW_ARRAY(arena, Node *, graph->next_value + 1);
    const int *uses = graph_count_uses(graph, arena);
    for GRAPH_EACH(graph, node) {
        for (int i = 0; i < node->input_count; i++) {
            if (uses[node->inputs[i]->id] == 1) reader[node->inputs[i]->id] = node;
        }
    }
    return reader;
}

static void find_bias(const Graph *graph, Node *const *reader, Product *p) {
    Value *y = &p->matmul->results[0];
    Node *add = reader[y->id];
    if (!add || add->op != OP_add) return;
    const Node *expand = add->inputs[add->inputs[0] == y]->node;
    if (expand->op != OP_expand || expand->inputs[0]->shape.rank != 1 || node_attr(expand, ATTR_axes)->list.at[0] != 1) return;
    if (expand->inputs[0]->shape.dim[0] != y->shape.dim[1] || !packed_param(graph, expand->inputs[0])) return;
    p->add = add;
    p->bias = expand->inputs[0];
}

static int64_t place_of(const Graph *graph, const Product *p) { return packed_param(graph, p->matmul->inputs[1])->pack_offset; }

// Reads of variables go first: what is built may then use them wherever it stands.
static Value *joined(Graph *graph, Value **parts, int count) {
    for (int i = 0; i < count; i++) graph_move(graph, parts[i]->node, graph->first);
    return build_concat(graph, count, parts, 0);
}

// `run`: products in the order of their weights, which follow each other.
static void merge_run(Graph *graph, const Product *run, int count, Node *first, Replacements *with, LvArena *arena) {
    Value **parts = LV_NEW_ARRAY(arena, Value *, count);
    bool biases = true;
    for (int i = 0; i < count; i++) {
        parts[i] = run[i].matmul->inputs[1];
        biases = biases && run[i].bias && (i == 0 || follows(graph, run[i - 1].bias, run[i].bias));
    }
    Value *a = run[0].matmul->inputs[0];
    rewrite_at(graph, first);
    Value *all = build_matmul(graph, a, joined(graph, parts, count), false, true);
    if (biases) {
        for (int i = 0; i < count; i++) parts[i] = run[i].bias;
        all = build_binary(graph, OP_add, all, build_expand(graph, joined(graph, parts, count), all->shape, (int64_t[]){1}));
    }
    int64_t start[2] = {0, 0};
    for (int i = 0; i < count; i++) {
        Node *replaced = biases ? run[i].add : run[i].matmul;
        LvShape shape = replaced->results[0].shape;
        replacements_set(with, replaced->results[0].id, build_slice(graph, all, start, shape, NULL));
        start[1] += shape.dim[1];
    }
}

bool pass_merge(Graph *graph, PassContext *context) {
    Node **reader = only_readers(graph, context->arena);
    bool *done = LV_NEW_ARRAY(context->arena, bool, graph->next_value + 1);
    Product *found = LV_NEW_ARRAY(context->arena, Product, graph->node_count + 1);
    Replacements with = {0};
    for (Node *first = graph->first; first; first = first->next) {
        if (!is_product(graph, first) || done[first->results[0].id]) continue;
        int count = 0, end;
        for (Node *node = first; node; node = node->next) {
            if (!is_product(graph, node) || node->inputs[0] != first->inputs[0]) continue;
            int at = count++;
            Product p = {.matmul = node};
            find_bias(graph, reader, &p);
            for (; at > 0 && place_of(graph, &found[at - 1]) > place_of(graph, &p); at--) found[at] = found[at - 1];
            found[at] = p;
            done[node->results[0].id] = true;
        }
        for (int begin = 0; begin < count; begin = end) {
            for (end = begin + 1; end < count && follows(graph, found[end - 1].matmul->inputs[1], found[end].matmul->inputs[1]);) end++;
            if (end - begin > 1) merge_run(graph, found + begin, end - begin, first, &with, context->arena);
        }
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
    return pass_dce(graph, context);
}

// ---- concatenated params and packed gradients without copies

static Value *view_of_pack(Graph *graph, Node *concat) {
    if (node_int(concat, ATTR_axis, 0) != 0 || concat->results[0].dtype != LV_F32) return NULL;
    const Variable *first = packed_param(graph, concat->inputs[0]);
    for (int i = 1; i < concat->input_count; i++) {
        if (!follows(graph, concat->inputs[i - 1], concat->inputs[i])) return NULL;
    }
    if (!first || (graph->alone && !graph->variables.data[first->pack].reads_beside)) return NULL;  // of those only members have places
    int64_t start = first->pack_offset, elements = lv_shape_elements(concat->results[0].shape);
    Value *flat = build_state_read(graph, first->pack);
    return build_reshape(graph, build_slice(graph, flat, &start, lv_shape(1, &elements), NULL), concat->results[0].shape);
}

// Length of the run of pack members from `at` on that are, one after the other, all rows of one value; 0: no such run.
static int rows_of_one(const Node *pack, int at, Value **whole) {
    int64_t next = 0;
    *whole = NULL;
    for (int i = at; i < pack->input_count; i++) {
        const Node *slice = pack->inputs[i]->node;
        if (slice->op != OP_slice || (*whole && slice->inputs[0] != *whole)) return 0;
        *whole = slice->inputs[0];
        LvShape from = (*whole)->shape, part = pack->inputs[i]->shape;
        const Attr *starts = node_attr(slice, ATTR_starts), *steps = node_attr(slice, ATTR_steps);
        if (from.rank < 1 || starts->list.at[0] != next || (steps && steps->list.at[0] != 1)) return 0;
        for (int d = 1; d < from.rank; d++) {
            if (part.dim[d] != from.dim[d]) return 0;
        }
        next += part.dim[0];
        if (next == from.dim[0]) return i + 1 - at;
        if (lv_shape_elements(part) % 16) return 0;  // the next member begins after a gap
    }
    return 0;
}

static void join_members(Node *pack) {
    int kept = 0;
    for (int i = 0; i < pack->input_count;) {
        Value *whole;
        int run = rows_of_one(pack, i, &whole);
        pack->inputs[kept++] = run ? whole : pack->inputs[i];
        i += run ? run : 1;
    }
    pack->input_count = kept;
}

static Value *flat_rule(Graph *graph, Node *node, void *user) {
    (void)user;
    return node->op == OP_concat && node->input_count > 1 ? view_of_pack(graph, node) : NULL;
}

bool pass_flat(Graph *graph, PassContext *context) {
    rewrite_walk(graph, flat_rule, NULL);
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_pack) join_members(node);
    }
    return pass_dce(graph, context);
}
