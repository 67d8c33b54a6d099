// requires     final ops and layouts
// establishes  of the values that wait from the forward for the backward pass, the share `context->remat` of those that are
//              cheap to make again are made again where the backward pass needs them; beyond 1, also the share `context->remat` - 1 of
//              results of contractions
// breaks       common subexpressions, on purpose: no cse after it
//
// A value waits if many nodes stand between two of its uses. It is cheap if it is arithmetic and movement over values that
// are in memory at the later use anyway: the input of a convolution, normalized and activated, over what the normalization's
// backward reads too. The expression is then written out again before the later use. Chen et al. 2016, "Training Deep Nets
// with Sublinear Memory Cost"; a contraction is repeated where a limit of memory asks for it alone, a reduction never.
//
// Contractions come in a second walk, over the graph that the first left. One is made again of what is in memory at the later use: so that
// of two that follow each other (the two convolutions of a residual block) one stays. Those with the fewest operations a byte come first.
#include <stdlib.h>

#include "base/error.h"
#include "ops/op.h"
#include "passes/pass.h"

// On a GPU what waits for less than a sixteenth of the nodes is at hand anyway, unless memory is short. On the CPU a step is fullest
// where the backward pass begins, and what waits there waits for the fewest nodes.
enum { MAX_CONE = 48, MAX_MADE = 64, LEAST_BYTES = 1 << 14, FEW_SHARES = 16, MANY_SHARES = 150 };

typedef struct {
    Node *user;
    int input;
} Use;

typedef struct {
    Value *value;
    int64_t bytes;
    double cost;     // operations for each byte
    int late;        // in the value's uses: this one and all after it are late; of a contraction: the position of the first late use
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
    int shares;      // of all nodes: a gap of one of them is a wait
    LV_VEC(Candidate) found;
    bool *needed;    // by value id: something that is made again is made of it
    bool *remade;    // by value id: a contraction's result that does not wait any more
    // what is made of the contraction's result at hand without ever being in memory, the result first; and what the late uses of it read
    Value *made[MAX_MADE], *made_again[MAX_MADE];
    int made_count;
    // the expression at hand
    const Value *top;
    Value *cone[MAX_CONE], *copies[MAX_CONE];
    int cone_count;
    bool fits;
} Remat;

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
    return uses && use_position(r, value, uses - 1) >= late && value_bytes(value) >= LEAST_BYTES;
}

// Is all that `value` is made of still there at `late`? Collects the nodes to write out again.
static void walk_cone(Remat *r, Value *value, int64_t bytes, int late) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return;
    }
    if (value != r->top && !is_cheap(value->node)) {
        Op op = value->node->op;
        bool given = op == OP_input || op == OP_state_read || op == OP_literal;
        bool there = r->last_use[value->id] >= late && !r->remade[value->id];
        if (!given && value_bytes(value) * 4 > bytes && !there) r->fits = false;
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
    walk_cone(r, value, value_bytes(value), late);
    return r->fits;
}

// Does a gap between two uses, in nodes, mean that the value waits for the backward pass?
static bool is_wait(const Remat *r, int gap) { return gap * r->shares >= r->nodes && gap >= 8; }

// The first of the late uses of a value that waits: behind the widest gap between two. 0: it does not wait.
static int find_late_use(const Remat *r, const Value *value) {
    int widest = 0, at = 0;
    for (int i = 1; i < r->use_count[value->id]; i++) {
        int gap = use_position(r, value, i) - use_position(r, value, i - 1);
        if (gap > widest) widest = gap, at = i;
    }
    return is_wait(r, widest) ? at : 0;
}

static void consider(Remat *r, Value *value) {
    const Node *node = value->node;
    if (!is_cheap(node) || node->input_count == 0 || value_bytes(value) < LEAST_BYTES || !is_stored(r, value)) return;
    int at = find_late_use(r, value);
    if (!at || !find_cone(r, value, use_position(r, value, at))) return;
    Candidate candidate = {value, value_bytes(value), 0, at};
    lv_vec_push(&r->found, candidate);
}

static Value *copy_of(const Remat *r, Value *value) {
    for (int i = 0; i < r->cone_count; i++) {
        if (r->cone[i] == value) return r->copies[i];
    }
    return value;
}

// A value that something is made of again stays, and so does what kernels make it of.
static void need(Remat *r, const Value *value) {
    if (r->needed[value->id]) return;
    r->needed[value->id] = true;
    for (int i = 0; i < value->node->input_count && is_cheap(value->node); i++) need(r, value->node->inputs[i]);
}

static Value *copy_node(Remat *r, const Value *from, Value *const *inputs) {
    const Node *node = from->node;
    r->graph->span = node->span;
    r->graph->scope = node->scope;
    Value *copy = graph_add_typed(r->graph, node->op, node->input_count, inputs, &node->attrs, from->dtype, from->shape);
    copy->layout = from->layout;
    return copy;
}

// Writes the expression at hand out again, before `user`.
static void copy_cone(Remat *r, Node *user) {
    rewrite_at(r->graph, user);
    for (int i = 0; i < r->cone_count; i++) {
        const Node *node = r->cone[i]->node;
        Value **inputs = LV_NEW_ARRAY(r->graph->arena, Value *, node->input_count + 1);
        for (int k = 0; k < node->input_count; k++) {
            inputs[k] = copy_of(r, node->inputs[k]);
            if (inputs[k] == node->inputs[k]) need(r, inputs[k]);
        }
        r->copies[i] = copy_node(r, r->cone[i], inputs);
    }
}

static void make_again(Remat *r, const Candidate *candidate) {
    const Use *uses = r->uses[candidate->value->id];
    if (!find_cone(r, candidate->value, use_position(r, candidate->value, candidate->late))) return;
    copy_cone(r, uses[candidate->late].user);
    rewrite_end(r->graph);
    for (int i = candidate->late; i < r->use_count[candidate->value->id]; i++) {
        uses[i].user->inputs[uses[i].input] = copy_of(r, candidate->value);
    }
}

// ---- contractions

static bool is_forward_contraction(const Node *node) { return node->op == OP_conv2d || node->op == OP_matmul; }

static bool is_made(const Remat *r, const Value *value) {
    for (int i = 0; i < r->made_count; i++) {
        if (r->made[i] == value) return true;
    }
    return false;
}

// Arithmetic over the contraction's result, before `late`, that kernels make as they read it: whoever uses that uses the result.
static bool find_made(Remat *r, Value *value, int late) {
    r->made[0] = value;
    r->made_count = 1;
    for (int i = 0; i < r->made_count; i++) {
        for (int k = 0; k < r->use_count[r->made[i]->id]; k++) {
            const Node *user = r->uses[r->made[i]->id][k].user;
            if (user->result_count != 1 || !is_cheap(user) || use_position(r, r->made[i], k) >= late) continue;
            if (is_stored(r, &user->results[0]) || is_made(r, &user->results[0])) continue;
            if (4 * value_bytes(&user->results[0]) <= value_bytes(value)) continue;  // small enough to keep, and made in time
            if (r->made_count == MAX_MADE) return false;
            r->made[r->made_count++] = &user->results[0];
        }
    }
    return true;
}

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

// Where the first of the late uses stands, behind the widest gap between two uses; 0: the value does not wait.
static int find_late_position(Remat *r, Value *value) {
    LV_VEC(int) positions = {0};
    int widest = 0, late = 0;
    if (!find_made(r, value, r->nodes + 1)) return 0;
    for (int i = 0; i < r->made_count; i++) {
        for (int k = 0; k < r->use_count[r->made[i]->id]; k++) {
            lv_vec_push(&positions, use_position(r, r->made[i], k));
        }
    }
    if (positions.count) qsort(positions.data, positions.count, sizeof *positions.data, by_number);
    for (size_t i = 1; i < positions.count; i++) {
        int gap = positions.data[i] - positions.data[i - 1];
        if (gap > widest) widest = gap, late = positions.data[i];
    }
    lv_vec_free(&positions);
    return is_wait(r, widest) ? late : 0;
}

static void consider_contraction(Remat *r, Value *value) {
    if (!is_forward_contraction(value->node) || value_bytes(value) < LEAST_BYTES) return;
    int late = find_late_position(r, value);
    if (!late || !find_cone(r, value, late)) return;
    Candidate candidate = {value, value_bytes(value), (double)op_product_flops(value->node) / (double)value_bytes(value), late};
    lv_vec_push(&r->found, candidate);
}

static Node *find_user_at(const Remat *r, int late) {
    for (int i = 0; i < r->made_count; i++) {
        for (int k = 0; k < r->use_count[r->made[i]->id]; k++) {
            if (use_position(r, r->made[i], k) == late) return r->uses[r->made[i]->id][k].user;
        }
    }
    lv_internal_error("remat: no use at %d", late);
}

// A value that was made of the result, of its copy. What else it is made of is there, for it was needed before.
static Value *make_of_copy(Remat *r, int index) {
    if (r->made_again[index]) return r->made_again[index];
    const Node *node = r->made[index]->node;
    Value **inputs = LV_NEW_ARRAY(r->graph->arena, Value *, node->input_count + 1);
    for (int k = 0; k < node->input_count; k++) {
        inputs[k] = node->inputs[k];
        for (int i = 0; i < r->made_count; i++) {
            if (r->made[i] == node->inputs[k]) inputs[k] = make_of_copy(r, i);
        }
        if (inputs[k] == node->inputs[k]) need(r, inputs[k]);
    }
    return r->made_again[index] = copy_node(r, r->made[index], inputs);
}

static void repeat_contraction(Remat *r, const Candidate *candidate) {
    Value *value = candidate->value;
    int late = candidate->late;
    if (r->needed[value->id] || !find_made(r, value, late) || !find_cone(r, value, late)) return;
    copy_cone(r, find_user_at(r, late));
    for (int i = 0; i < r->made_count; i++) r->made_again[i] = i ? NULL : copy_of(r, value);
    for (int i = 0; i < r->made_count; i++) {
        for (int k = 0; k < r->use_count[r->made[i]->id]; k++) {
            Use *use = &r->uses[r->made[i]->id][k];
            if (use_position(r, r->made[i], k) >= late) use->user->inputs[use->input] = make_of_copy(r, i);
        }
    }
    rewrite_end(r->graph);
    r->remade[value->id] = true;
}

static int cheap_and_large_first(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->value->id - y->value->id;
}

static void remat_walk(Graph *graph, double share, int shares, bool contractions, LvArena *arena) {
    if (share <= 0) return;
    Remat r = {.graph = graph, .count = graph->next_value, .shares = shares};
    size_t size = (size_t)r.count + 1;
    r.position = LV_NEW_ARRAY(arena, int, size);
    r.last_use = LV_NEW_ARRAY(arena, int, size);
    r.use_count = LV_NEW_ARRAY(arena, int, size);
    r.uses = LV_NEW_ARRAY(arena, Use *, size);
    r.needed = LV_NEW_ARRAY(arena, bool, size);
    r.remade = LV_NEW_ARRAY(arena, bool, size);
    find_uses(&r, arena);
    find_last_uses(&r);
    for GRAPH_EACH(graph, node) {
        if (node->result_count != 1) continue;
        if (contractions) consider_contraction(&r, &node->results[0]);
        else consider(&r, &node->results[0]);
    }
    if (r.found.count) qsort(r.found.data, r.found.count, sizeof *r.found.data, cheap_and_large_first);
    size_t wanted = (size_t)((double)r.found.count * (share < 1 ? share : 1) + 0.999);
    for (size_t i = 0; i < r.found.count && i < wanted; i++) {
        if (contractions) repeat_contraction(&r, &r.found.data[i]);
        else make_again(&r, &r.found.data[i]);
    }
    lv_vec_free(&r.found);
}

bool pass_remat(Graph *graph, PassContext *context) {
    if (context->remat <= 0) return true;
    int shares = context->target->cuda && context->remat <= 1 ? FEW_SHARES : MANY_SHARES;
    remat_walk(graph, context->remat, shares, false, context->arena);
    if (context->remat > 1 && !pass_dce(graph, context)) return false;
    remat_walk(graph, context->remat - 1, shares, true, context->arena);
    return pass_dce(graph, context);
}
