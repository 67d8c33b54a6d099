// requires     final ops and layouts
// establishes  of the values that wait from the forward for the backward pass, the share `context->remat` of those that are
//              cheap to make again are made again where the backward pass needs them; beyond 1, also results of contractions: where
//              the share of all work that it takes is, of it and the share of memory that it saves, no more than `context->remat` - 1,
//              and while all of them take no more than that to the fourth power (of 2, all)
// breaks       common subexpressions, on purpose: no cse after it
// remat_free   the same of the values that are made again without moving a byte more, on a GPU: where bytes are the time, and none is
//              made again for the memory alone
//
// A value waits if many nodes stand between two of its uses. It is cheap if it is arithmetic and movement over values that
// are in memory at the later use anyway: the input of a convolution, normalized and activated, over what the normalization's
// backward reads too. The expression is then written out again before the later use. Chen et al. 2016, "Training Deep Nets
// with Sublinear Memory Cost"; a contraction is repeated where a limit of memory asks for it alone, a reduction never.
//
// Contractions come in a second walk, remat_contractions.c, over the graph that the first left.
#include <stdlib.h>

#include "ops/op.h"
#include "passes/remat.h"

// On a GPU what waits for less than a sixteenth of the nodes is at hand anyway, unless memory is short. On the CPU a step is fullest
// where the backward pass begins, and what waits there waits for the fewest nodes.
enum { FEW_SHARES = 16, MANY_SHARES = 150 };

// Made again inside any kernel: elementwise work, movements, and leaves that are computed.
bool remat_is_cheap(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    if (node->op == OP_input || node->op == OP_state_read || node->op == OP_literal || node->op == OP_pack) return false;
    return kind == OP_KIND_LEAF || kind == OP_KIND_ELEMENTWISE || kind == OP_KIND_ELEMENT_COPY || kind == OP_KIND_MOVEMENT;
}

bool remat_is_contraction(const Node *node) { return node->op == OP_conv2d || node->op == OP_matmul; }

bool remat_is_dear(const Remat *r, const Value *value) { return remat_is_contraction(value->node) || r->joins[value->id]; }

static void find_uses(Remat *r, LvArena *arena) {
    int total = 0, position = 0, at = 0;
    for GRAPH_EACH(r->graph, node) {
        for (int i = 0; i < node->input_count; i++) r->use_count[node->inputs[i]->id]++, total++;
    }
    r->all = LV_NEW_ARRAY(arena, RematUse, total + 1);
    r->user_position = LV_NEW_ARRAY(arena, int, total + 1);
    for GRAPH_EACH(r->graph, node) {
        r->at[++position] = node;
        for (int i = 0; i < node->result_count; i++) {
            int id = node->results[i].id;
            r->position[id] = position;
            r->uses[id] = r->all + at;
            at += r->use_count[id];
            r->use_count[id] = 0;
        }
        for (int i = 0; i < node->input_count; i++) {
            int id = node->inputs[i]->id;
            RematUse *use = &r->uses[id][r->use_count[id]++];
            *use = (RematUse){node, i};
            r->user_position[use - r->all] = position;
        }
    }
    r->nodes = position;
}

int remat_use_position(const Remat *r, const Value *value, int use) {
    return r->user_position[r->uses[value->id] + use - r->all];
}

// It takes its operands from memory: no kernel that makes them as it goes.
static bool reads_memory(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    return kind == OP_KIND_CONTRACTION || kind == OP_KIND_COMPOSITE || kind == OP_KIND_INDEXED;
}

// In memory: something outside kernels reads it, or it joins several values.
bool remat_is_stored(const Remat *r, const Value *value) {
    if (r->joins[value->id]) return true;
    for (int i = 0; i < r->use_count[value->id]; i++) {
        if (reads_memory(r->uses[value->id][i].user)) return true;
    }
    return false;
}

// What is made of a value and much smaller is made in time, and kept.
bool remat_is_small_part(const Value *part, const Value *of) { return 4 * value_bytes(part) <= value_bytes(of); }

// The one value in memory that `value` is made of by kernels, much smaller ones aside: NULL if there is none, `value` if that is in
// memory or made of several.
static const Value *find_source(const Remat *r, const Value **sources, const Value *value) {
    const Node *node = value->node;
    const Value *one = NULL;
    if (node_is_leaf(node)) return NULL;
    if (!remat_is_cheap(node) || remat_is_stored(r, value)) return value;
    for (int i = 0; i < node->input_count; i++) {
        const Value *source = sources[node->inputs[i]->id];
        if (!source || source == one || remat_is_small_part(source, value)) continue;
        if (one) return value;
        one = source;
    }
    return one;
}

// Values that join several: find_last_uses keeps those that wait.
static void find_joins(Remat *r, LvArena *arena) {
    const Value **sources = LV_NEW_ARRAY(arena, const Value *, r->values + 1);
    for GRAPH_EACH(r->graph, node) {
        for (int i = 0; i < node->result_count; i++) {
            const Value *value = &node->results[i];
            sources[value->id] = find_source(r, sources, value);
            r->joins[value->id] = sources[value->id] == value && remat_is_cheap(node);
        }
    }
}

static void find_last_uses(Remat *r) {
    for (Node *node = r->graph->last; node; node = node->prev) {
        for (int i = 0; i < node->result_count; i++) {
            int *last = &r->last_use[node->results[i].id];
            for (int k = 0; k < r->use_count[node->results[i].id]; k++) {
                const Node *user = r->uses[node->results[i].id][k].user;
                int until = remat_use_position(r, &node->results[i], k);
                bool again = user->result_count == 1 && remat_is_cheap(user) && !remat_is_stored(r, &user->results[0]);
                if (again && !remat_is_small_part(&user->results[0], &node->results[i])) {
                    if (r->last_use[user->results[0].id] > until) until = r->last_use[user->results[0].id];
                }
                if (until > *last) *last = until;
            }
            r->joins[node->results[i].id] &= remat_is_wait(r, *last - r->position[node->results[i].id]);
        }
    }
}

// Read by reductions or arithmetic of the backward pass itself: it will be in memory, so nothing need be kept to make it of.
static bool waits(const Remat *r, const Value *value, int late) {
    int uses = r->use_count[value->id];
    return uses && remat_use_position(r, value, uses - 1) >= late && value_bytes(value) >= LEAST_BYTES;
}

// Is what no kernel makes on the way there at `late`, or made again by then?
static bool is_leaf(Remat *r, const Value *value, int64_t bytes, int late) {
    Op op = value->node->op;
    if (r->waiting_of[value->id]) {
        lv_vec_push(&r->leaves, r->waiting_of[value->id] - 1);
        return true;
    }
    bool given = op == OP_input || op == OP_state_read || op == OP_literal;
    return given || value_bytes(value) * 4 <= bytes || r->last_use[value->id] >= late;
}

// Collects the nodes to write out again. Of a dear value, also what is not in memory but made of what is, and a contraction whose
// result it takes at once.
static void walk_cone(Remat *r, Value *value, int64_t bytes, int late) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return;
    }
    bool cheap = remat_is_cheap(value->node);
    if (value != r->top && (!cheap || r->joins[value->id])) {
        if (is_leaf(r, value, bytes, late)) return;
        r->fits &= cheap || (remat_is_contraction(value->node) && remat_is_dear(r, r->top));
    }
    if (r->cone_count == MAX_CONE) {
        r->fits = false;
        return;
    }
    if (value != r->top && waits(r, value, late) && (!remat_is_dear(r, r->top) || remat_is_stored(r, value))) return;
    for (int i = 0; i < value->node->input_count && r->fits; i++) walk_cone(r, value->node->inputs[i], bytes, late);
    if (r->cone_count == MAX_CONE) r->fits = false;
    else r->cone[r->cone_count++] = value;  // after what it needs
}

bool remat_find_cone(Remat *r, Value *value, int late) {
    r->cone_count = 0;
    r->leaves.count = 0;
    r->top = value;
    r->fits = true;
    walk_cone(r, value, value_bytes(value), late);
    return r->fits;
}

// Does a gap between two uses, in nodes, mean that the value waits for the backward pass?
bool remat_is_wait(const Remat *r, int gap) { return gap * r->shares >= r->nodes && gap >= 8; }

// The first of the late uses of a value that waits: behind the widest gap between two. 0: it does not wait.
static int find_late_use(const Remat *r, const Value *value) {
    int widest = 0, at = 0;
    for (int i = 1; i < r->use_count[value->id]; i++) {
        int gap = remat_use_position(r, value, i) - remat_use_position(r, value, i - 1);
        if (gap > widest) widest = gap, at = i;
    }
    return remat_is_wait(r, widest) ? at : 0;
}

static bool is_in_cone(const Remat *r, const Value *value) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return true;
    }
    return false;
}

// What whoever makes the expression at hand reads, each value once; it is read in place of the result. Numbers for each row or channel are
// nothing beside it.
static bool reads_no_more(const Remat *r, const Value *result) {
    LV_VEC(const Value *) read = {0};
    int64_t bytes = 0;
    for (int i = 0; i < r->cone_count; i++) {
        const Node *node = r->cone[i]->node;
        for (int k = 0; k < node->input_count; k++) {
            const Value *value = node->inputs[k];
            bool known = is_in_cone(r, value);
            for (size_t j = 0; j < read.count && !known; j++) known = read.data[j] == value;
            if (known) continue;
            lv_vec_push(&read, value);
            bytes += value_bytes(value);
        }
    }
    lv_vec_free(&read);
    return bytes <= value_bytes(result) + value_bytes(result) / 64;
}

// Nothing that has to find it in memory uses it late, so that it is not written again.
static bool is_free(const Remat *r, const Value *value, int late) {
    for (int i = late; i < r->use_count[value->id]; i++) {
        if (reads_memory(r->uses[value->id][i].user)) return false;
    }
    return reads_no_more(r, value);
}

static void consider(Remat *r, Value *value, bool free) {
    const Node *node = value->node;
    if (!remat_is_cheap(node) || node->input_count == 0 || value_bytes(value) < LEAST_BYTES || !remat_is_stored(r, value)) return;
    int at = find_late_use(r, value);
    if (!at || !remat_find_cone(r, value, remat_use_position(r, value, at)) || (free && !is_free(r, value, at))) return;
    RematCandidate candidate = {value, value_bytes(value), at};
    lv_vec_push(&r->found, candidate);
}

Value *remat_copy_of(const Remat *r, Value *value) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return r->copies[i];
    }
    return value->id < r->values && r->again[value->id] ? r->again[value->id] : value;
}

Value *remat_copy_node(Remat *r, const Value *from, Value *const *inputs) {
    const Node *node = from->node;
    r->graph->span = node->span;
    r->graph->scope = node->scope;
    Value *copy = graph_add_typed(r->graph, node->op, node->input_count, inputs, &node->attrs, from->dtype, from->shape);
    copy->layout = from->layout;
    return copy;
}

// Writes the expression at hand out again, before `user`.
void remat_copy_cone(Remat *r, Node *user) {
    rewrite_at(r->graph, user);
    for (int i = 0; i < r->cone_count; i++) {
        const Node *node = r->cone[i]->node;
        Value **inputs = LV_NEW_ARRAY(r->graph->arena, Value *, node->input_count + 1);
        for (int k = 0; k < node->input_count; k++) inputs[k] = remat_copy_of(r, node->inputs[k]);
        r->copies[i] = remat_copy_node(r, r->cone[i], inputs);
    }
}

static void make_again(Remat *r, const RematCandidate *candidate) {
    const RematUse *uses = r->uses[candidate->value->id];
    if (!remat_find_cone(r, candidate->value, remat_use_position(r, candidate->value, candidate->late))) return;
    remat_copy_cone(r, uses[candidate->late].user);
    rewrite_end(r->graph);
    for (int i = candidate->late; i < r->use_count[candidate->value->id]; i++) {
        uses[i].user->inputs[uses[i].input] = remat_copy_of(r, candidate->value);
    }
}

// ---- the pass

static int large_first(const void *a, const void *b) {
    const RematCandidate *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : x->value->id - y->value->id;
}

static void remat_cheap(Remat *r, double share, bool free) {
    for GRAPH_EACH(r->graph, node) {
        if (node->result_count == 1) consider(r, &node->results[0], free);
    }
    if (r->found.count) qsort(r->found.data, r->found.count, sizeof *r->found.data, large_first);
    size_t wanted = (size_t)((double)r->found.count * (share < 1 ? share : 1) + 0.999);
    for (size_t i = 0; i < r->found.count && i < wanted; i++) make_again(r, &r->found.data[i]);
}

typedef enum { OF_CHEAP, OF_FREE, OF_CONTRACTIONS } Walk;

static void remat_walk(Graph *graph, double share, int shares, Walk walk, LvArena *arena) {
    if (share <= 0) return;
    Remat r = {.graph = graph, .values = graph->next_value, .shares = shares};
    size_t size = (size_t)r.values + 1;
    r.position = LV_NEW_ARRAY(arena, int, size);
    r.at = LV_NEW_ARRAY(arena, Node *, graph->node_count + 1);
    r.last_use = LV_NEW_ARRAY(arena, int, size);
    r.use_count = LV_NEW_ARRAY(arena, int, size);
    r.uses = LV_NEW_ARRAY(arena, RematUse *, size);
    r.waiting_of = LV_NEW_ARRAY(arena, int, size);
    r.again = LV_NEW_ARRAY(arena, Value *, size);
    r.joins = LV_NEW_ARRAY(arena, bool, size);
    find_uses(&r, arena);
    if (walk == OF_CONTRACTIONS) find_joins(&r, arena);
    find_last_uses(&r);
    if (walk == OF_CONTRACTIONS) remat_contractions(&r, share, arena);
    else remat_cheap(&r, share, walk == OF_FREE);
    lv_vec_free(&r.found);
    lv_vec_free(&r.waiting);
    lv_vec_free(&r.leaves);
}

bool pass_remat(Graph *graph, PassContext *context) {
    if (context->remat <= 0) return true;
    int shares = context->target->cuda && context->remat <= 1 ? FEW_SHARES : MANY_SHARES;
    remat_walk(graph, context->remat, shares, OF_CHEAP, context->arena);
    if (context->remat > 1 && (!pass_dce(graph, context) || !pass_order(graph, context))) return false;
    remat_walk(graph, context->remat - 1, shares, OF_CONTRACTIONS, context->arena);
    return pass_dce(graph, context);
}

bool pass_remat_free(Graph *graph, PassContext *context) {
    remat_walk(graph, 1, MANY_SHARES, OF_FREE, context->arena);
    return pass_dce(graph, context);
}
