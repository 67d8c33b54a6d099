// The second walk of the pass `remat`: results of contractions that wait are made again too, and sums that they join.
//
// Always the one with the fewest operations a byte of those that wait where the step is fullest, as far as the graph says, until none does
// or all of them are too dear. One is made again of what is in memory at the later use, or of another that is made again: that one then
// has to be there as early. So a chain of them may go, and stand again whole where the backward pass first needs its end.
#include <stdlib.h>

#include "passes/remat.h"

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
            if (user->result_count != 1 || !remat_is_cheap(user) || remat_use_position(r, r->made[i], k) >= late) continue;
            if (remat_is_stored(r, &user->results[0]) || is_made(r, &user->results[0])) continue;
            if (remat_is_small_part(&user->results[0], value)) continue;
            if (r->made_count == MAX_MADE) return false;
            r->made[r->made_count++] = &user->results[0];
        }
    }
    return true;
}

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

// The widest gap between two uses, where the first of the late ones stands behind it; false: the value does not wait.
static bool find_gap(Remat *r, Value *value, int *early, int *late) {
    LV_VEC(int) positions = {0};
    int widest = 0;
    *early = *late = 0;
    if (!find_made(r, value, r->nodes + 1)) return false;
    for (int i = 0; i < r->made_count; i++) {
        for (int k = 0; k < r->use_count[r->made[i]->id]; k++) {
            lv_vec_push(&positions, remat_use_position(r, r->made[i], k));
        }
    }
    if (positions.count) qsort(positions.data, positions.count, sizeof *positions.data, by_number);
    for (size_t i = 1; i < positions.count; i++) {
        int gap = positions.data[i] - positions.data[i - 1];
        if (gap > widest) widest = gap, *early = positions.data[i - 1], *late = positions.data[i];
    }
    lv_vec_free(&positions);
    return remat_is_wait(r, widest);
}

static void consider_dear(Remat *r, Value *value) {
    if (!remat_is_dear(r, value) || value_bytes(value) < LEAST_BYTES) return;
    RematWaiting waiting = {.value = value, .made = r->position[value->id]};
    if (find_gap(r, value, &waiting.early, &waiting.late)) lv_vec_push(&r->waiting, waiting);
}

// A value that was made of the result, of its copy. What else it is made of is there, for it was needed before.
static Value *make_of_copy(Remat *r, int index) {
    if (r->made_again[index]) return r->made_again[index];
    const Node *node = r->made[index]->node;
    Value **inputs = LV_NEW_ARRAY(r->graph->arena, Value *, node->input_count + 1);
    for (int k = 0; k < node->input_count; k++) {
        inputs[k] = remat_copy_of(r, node->inputs[k]);
        for (int i = 0; i < r->made_count; i++) {
            if (r->made[i] == node->inputs[k]) inputs[k] = make_of_copy(r, i);
        }
    }
    return r->made_again[index] = remat_copy_node(r, r->made[index], inputs);
}

static void repeat_contraction(Remat *r, const RematWaiting *waiting) {
    Value *value = waiting->value;
    if (!find_made(r, value, waiting->late) || !remat_find_cone(r, value, waiting->late)) return;
    remat_copy_cone(r, r->at[waiting->until]);
    r->again[value->id] = remat_copy_of(r, value);
    for (int i = 0; i < r->made_count; i++) r->made_again[i] = i ? NULL : r->again[value->id];
    for (int i = 0; i < r->made_count; i++) {
        for (int k = 0; k < r->use_count[r->made[i]->id]; k++) {
            RematUse *use = &r->uses[r->made[i]->id][k];
            if (remat_use_position(r, r->made[i], k) >= waiting->late) use->user->inputs[use->input] = make_of_copy(r, i);
        }
    }
    rewrite_end(r->graph);
}

// ---- which contractions: where the step is fullest

// Takes memory of its own, and not that of gradients, which an update frees soon.
static bool is_held(const Remat *r, const Value *value) {
    const Node *node = value->node;
    int last = r->last_use[value->id];
    if (last < r->position[value->id] || r->at[last]->op == OP_pack) return false;
    if (node_is_leaf(node) || node->op == OP_pack || (node->op == OP_reshape && !remat_is_cheap(node->inputs[0]->node))) return false;
    return !remat_is_cheap(node) || remat_is_stored(r, value);
}

static void find_held(Remat *r, LvArena *arena) {
    int64_t *change = r->held = LV_NEW_ARRAY(arena, int64_t, r->nodes + 2);
    for GRAPH_EACH(r->graph, node) {
        for (int i = 0; i < node->result_count; i++) {
            const Value *value = &node->results[i];
            if (!is_held(r, value)) continue;
            change[r->position[value->id]] += value_bytes(value);
            change[r->last_use[value->id] + 1] -= value_bytes(value);
        }
    }
    for (int i = 1; i < r->nodes + 2; i++) r->held[i] += r->held[i - 1];
}

static int find_fullest(const Remat *r) {
    int fullest = 0;
    for (int i = 1; i <= r->nodes; i++) {
        if (r->held[i] > r->held[fullest]) fullest = i;
    }
    return fullest;
}

// Bytes of all variables, and operations of all contractions.
static void find_totals(const Graph *graph, double *bytes, double *work) {
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *v = &graph->variables.data[i];
        if (v->pack < 0) *bytes += (double)lv_shape_elements(v->shape) * (double)lv_dtype_size(v->dtype);
    }
    for GRAPH_EACH(graph, node) {
        if (op_info(node->op)->kind == OP_KIND_CONTRACTION) *work += (double)op_product_flops(node);
    }
}

static bool is_made_of(const RematWaiting *waiting, int other) {
    for (size_t i = 0; i < waiting->made_of.count; i++) {
        if (waiting->made_of.data[i] == other) return true;
    }
    return false;
}

// Where the result would have to be again: for its own late uses, and for what is made again of it during the wait.
static int find_until(const Remat *r, int index) {
    int until = r->waiting.data[index].late, early = r->waiting.data[index].early;
    for (size_t i = 0; i < r->waiting.count; i++) {
        const RematWaiting *other = &r->waiting.data[i];
        if (other->chosen && other->until < until && other->until > early && is_made_of(other, index)) until = other->until;
    }
    return until;
}

// Everything that it is made of is there, or made again; and where it is made, of what is made once more, the step is not as full.
static bool may_choose(const Remat *r, int index, int until, int fullest) {
    const RematWaiting *waiting = &r->waiting.data[index];
    if (waiting->chosen || waiting->refused || waiting->early >= fullest || until <= fullest) return false;
    for (size_t i = 0; i < waiting->made_of.count; i++) {
        const RematWaiting *source = &r->waiting.data[waiting->made_of.data[i]];
        if (!source->chosen && r->last_use[source->value->id] < until) return false;
    }
    return r->held[until] + value_bytes(waiting->value->node->inputs[0]) < r->held[fullest];
}

static void hold(Remat *r, const Value *value, int from, int before, int sign) {
    for (int i = from; i < before; i++) r->held[i] += sign * value_bytes(value);
}

// Those that it is made of have to be there as early.
static void pull(Remat *r, const RematWaiting *waiting) {
    for (size_t i = 0; i < waiting->made_of.count; i++) {
        RematWaiting *source = &r->waiting.data[waiting->made_of.data[i]];
        if (!source->chosen || source->until <= waiting->until || source->early >= waiting->until) continue;
        hold(r, source->value, waiting->until, source->until, 1);
        source->until = waiting->until;
        pull(r, source);
    }
}

static void find_sources(Remat *r) {
    for (size_t i = 0; i < r->waiting.count; i++) r->waiting_of[r->waiting.data[i].value->id] = (int)i + 1;
    for (size_t i = 0; i < r->waiting.count; i++) {
        RematWaiting *waiting = &r->waiting.data[i];
        waiting->refused = !remat_find_cone(r, waiting->value, waiting->late);
        for (int k = 0; k < r->cone_count; k++) {
            const Node *node = r->cone[k]->node;
            if (remat_is_contraction(node)) waiting->cost += (double)op_product_flops(node) / (double)value_bytes(waiting->value);
        }
        for (size_t k = 0; k < r->leaves.count; k++) lv_vec_push(&waiting->made_of, r->leaves.data[k]);
    }
}

// The one that may be and takes the fewest operations a byte, or -1.
static int find_cheapest(const Remat *r, int fullest) {
    int best = -1;
    for (int i = 0; i < (int)r->waiting.count; i++) {
        const RematWaiting *waiting = &r->waiting.data[i];
        if (best >= 0 && waiting->cost >= r->waiting.data[best].cost) continue;
        if (may_choose(r, i, find_until(r, i), fullest)) best = i;
    }
    return best;
}

// `spent`: the share of all work that those take which were chosen before.
static bool choose_cheapest(Remat *r, double variables, double work, double weight, double *spent) {
    int fullest = find_fullest(r), best = find_cheapest(r, fullest);
    if (best < 0) return false;
    RematWaiting *waiting = &r->waiting.data[best];
    double bytes = (double)value_bytes(waiting->value), saved = bytes / (variables + (double)r->held[fullest]);
    double longer = waiting->cost * bytes / work, most = weight * weight * weight * weight;
    if (longer > weight * (longer + saved) || (weight < 1 && *spent + longer > most)) return false;
    *spent += longer;
    waiting->until = find_until(r, best), waiting->chosen = true;
    hold(r, waiting->value, waiting->early + 1, waiting->until, -1);
    pull(r, waiting);
    return true;
}

// What others are made of is made again before them.
static int in_order(const void *a, const void *b) {
    const RematWaiting *x = a, *y = b;
    return x->until != y->until ? x->until - y->until : x->made - y->made;
}

void remat_contractions(Remat *r, double weight, LvArena *arena) {
    double variables = 0, work = 0, spent = 0;
    for GRAPH_EACH(r->graph, node) {
        if (node->result_count == 1) consider_dear(r, &node->results[0]);
    }
    find_totals(r->graph, &variables, &work);
    find_held(r, arena);
    find_sources(r);
    while (choose_cheapest(r, variables, work, weight, &spent)) continue;
    if (r->waiting.count) qsort(r->waiting.data, r->waiting.count, sizeof *r->waiting.data, in_order);
    for (size_t i = 0; i < r->waiting.count; i++) {
        if (r->waiting.data[i].chosen) repeat_contraction(r, &r->waiting.data[i]);
        lv_vec_free(&r->waiting.data[i].made_of);
    }
}
