// requires     final ops and layouts
// establishes  of the values that wait from the forward for the backward pass, the share `context->remat` of those that are
//              cheap to make again are made again where the backward pass needs them
// breaks       common subexpressions, on purpose: no cse after it
//
// A value waits if many nodes stand between two of its uses. It is cheap if it is arithmetic and movement over values that
// are in memory at the later use anyway: the input of a convolution, normalized and activated, over what the normalization's
// backward reads too. The expression is then written out again before the later use. Chen et al. 2016, "Training Deep Nets
// with Sublinear Memory Cost", without ever repeating a contraction or a reduction.
#include <stdlib.h>

#include "ops/op.h"
#include "passes/pass.h"

enum { MAX_CONE = 48, LEAST_BYTES = 1 << 14 };

typedef struct {
    Node *user;
    int input;
} Use;

typedef struct {
    Value *value;
    int64_t bytes;
    int first_late;  // in the value's uses: this one and all after it are late
} Candidate;

typedef struct {
    Graph *graph;
    int *position;   // by value id, of the node that computes it; nodes without results have none
    int *last_use;   // by value id: the last node that needs it, itself or through expressions that are not in memory
    Use **uses;      // by value id, in order
    int *use_count;
    int *user_position;  // by number of the use, in one array: uses[id] - all
    Use *all;
    int count, nodes;
    LV_VEC(Candidate) found;
    // the expression at hand
    const Value *top;
    Value *cone[MAX_CONE], *copies[MAX_CONE];
    int cone_count;
    bool fits;
} Remat;

static int64_t bytes_of(const Value *value) {
    return lv_shape_elements(value->shape) * (int64_t)lv_dtype_size(value->dtype);
}

// Made again inside any kernel: elementwise work, movements, and leaves that are computed.
static bool is_cheap(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    if (node->op == OP_input || node->op == OP_state_read || node->op == OP_literal || node->op == OP_pack) return false;
    return kind == OP_KIND_LEAF || kind == OP_KIND_ELEMENTWISE || kind == OP_KIND_ELEMENT_COPY || kind == OP_KIND_MOVEMENT;
}

static void find_uses(Remat *r, LvArena *arena) {
    int total = 0, position = 0, at = 0;
    for GRAPH_EACH(r->graph, node) {
        for (int i = 0; i < node->input_count; i++) r->use_count[node->inputs[i]->id]++, total++;
    }
    r->all = LV_NEW_ARRAY(arena, Use, total + 1);
    r->user_position = LV_NEW_ARRAY(arena, int, total + 1);
    for GRAPH_EACH(r->graph, node) {
        position++;
        for (int i = 0; i < node->result_count; i++) {
            int id = node->results[i].id;
            r->position[id] = position;
            r->uses[id] = r->all + at;
            at += r->use_count[id];
            r->use_count[id] = 0;
        }
        for (int i = 0; i < node->input_count; i++) {
            int id = node->inputs[i]->id;
            Use *use = &r->uses[id][r->use_count[id]++];
            *use = (Use){node, i};
            r->user_position[use - r->all] = position;
        }
    }
    r->nodes = position;
}

static int use_position(const Remat *r, const Value *value, int use) {
    return r->user_position[r->uses[value->id] + use - r->all];
}

// Something outside kernels reads it, so it is in memory.
static bool is_stored(const Remat *r, const Value *value) {
    for (int i = 0; i < r->use_count[value->id]; i++) {
        OpKind kind = op_info(r->uses[value->id][i].user->op)->kind;
        if (kind == OP_KIND_CONTRACTION || kind == OP_KIND_COMPOSITE || kind == OP_KIND_INDEXED) return true;
    }
    return false;
}

static void find_last_uses(Remat *r) {
    for (Node *node = r->graph->last; node; node = node->prev) {
        for (int i = 0; i < node->result_count; i++) {
            int *last = &r->last_use[node->results[i].id];
            for (int k = 0; k < r->use_count[node->results[i].id]; k++) {
                const Node *user = r->uses[node->results[i].id][k].user;
                int until = use_position(r, &node->results[i], k);
                if (user->result_count == 1 && is_cheap(user) && !is_stored(r, &user->results[0])) {
                    if (r->last_use[user->results[0].id] > until) until = r->last_use[user->results[0].id];
                }
                if (until > *last) *last = until;
            }
        }
    }
}

// Read by reductions or arithmetic of the backward pass itself: it will be in memory, so nothing need be kept to make it of.
static bool waits(const Remat *r, const Value *value, int late) {
    int uses = r->use_count[value->id];
    return uses && use_position(r, value, uses - 1) >= late && bytes_of(value) >= LEAST_BYTES;
}

// Is all that `value` is made of still there at `late`? Collects the nodes to write out again.
static void walk_cone(Remat *r, Value *value, int64_t bytes, int late) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return;
    }
    if (!is_cheap(value->node)) {
        Op op = value->node->op;
        bool given = op == OP_input || op == OP_state_read || op == OP_literal;
        if (!given && bytes_of(value) * 4 >= bytes && r->last_use[value->id] < late) r->fits = false;
        return;
    }
    if (r->cone_count == MAX_CONE) {
        r->fits = false;
        return;
    }
    if (value != r->top && waits(r, value, late)) return;
    for (int i = 0; i < value->node->input_count && r->fits; i++) walk_cone(r, value->node->inputs[i], bytes, late);
    if (r->cone_count == MAX_CONE) r->fits = false;
    else r->cone[r->cone_count++] = value;  // after what it needs
}

static bool find_cone(Remat *r, Value *value, int late) {
    r->cone_count = 0;
    r->top = value;
    r->fits = true;
    walk_cone(r, value, bytes_of(value), late);
    return r->fits;
}

static void consider(Remat *r, Value *value) {
    if (!is_cheap(value->node) || value->node->input_count == 0 || bytes_of(value) < LEAST_BYTES || !is_stored(r, value)) return;
    int widest = 0, at = 0;
    for (int i = 1; i < r->use_count[value->id]; i++) {
        int gap = use_position(r, value, i) - use_position(r, value, i - 1);
        if (gap > widest) widest = gap, at = i;
    }
    if (widest * 16 < r->nodes || widest < 8 || !find_cone(r, value, use_position(r, value, at))) return;
    Candidate candidate = {value, bytes_of(value), at};
    lv_vec_push(&r->found, candidate);
}

static Value *copy_of(const Remat *r, Value *value) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return r->copies[i];
    }
    return value;
}

static void make_again(Remat *r, const Candidate *candidate) {
    const Use *uses = r->uses[candidate->value->id];
    if (!find_cone(r, candidate->value, use_position(r, candidate->value, candidate->first_late))) return;
    rewrite_at(r->graph, uses[candidate->first_late].user);
    for (int i = 0; i < r->cone_count; i++) {
        const Node *node = r->cone[i]->node;
        Value **inputs = LV_NEW_ARRAY(r->graph->arena, Value *, node->input_count + 1);
        for (int k = 0; k < node->input_count; k++) inputs[k] = copy_of(r, node->inputs[k]);
        r->graph->span = node->span;
        r->graph->scope = node->scope;
        const Value *from = r->cone[i];
        r->copies[i] = graph_add_typed(r->graph, node->op, node->input_count, inputs, &node->attrs, from->dtype, from->shape);
        r->copies[i]->layout = from->layout;
    }
    rewrite_end(r->graph);
    for (int i = candidate->first_late; i < r->use_count[candidate->value->id]; i++) {
        uses[i].user->inputs[uses[i].input] = copy_of(r, candidate->value);
    }
}

static int larger_first(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->value->id - y->value->id;
}

bool pass_remat(Graph *graph, PassContext *context) {
    if (context->remat <= 0) return true;
    Remat r = {.graph = graph, .count = graph->next_value};
    size_t size = (size_t)r.count + 1;
    r.position = LV_NEW_ARRAY(context->arena, int, size);
    r.last_use = LV_NEW_ARRAY(context->arena, int, size);
    r.use_count = LV_NEW_ARRAY(context->arena, int, size);
    r.uses = LV_NEW_ARRAY(context->arena, Use *, size);
    find_uses(&r, context->arena);
    find_last_uses(&r);
    for GRAPH_EACH(graph, node) {
        if (node->result_count == 1) consider(&r, &node->results[0]);
    }
    if (r.found.count) qsort(r.found.data, r.found.count, sizeof *r.found.data, larger_first);
    size_t wanted = (size_t)((double)r.found.count * context->remat + 0.999);
    for (size_t i = 0; i < r.found.count && i < wanted; i++) make_again(&r, &r.found.data[i]);
    lv_vec_free(&r.found);
    return pass_dce(graph, context);
}
