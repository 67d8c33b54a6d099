// What the trainer may ask of the update beyond what the optimizer says: gradients summed over several runs of the entry,
// their norm bounded, and the loss scaled, so that gradients keep within the range of f16. Done on the graph before autodiff, where
// the flat gradient is one `pack` of `gradient` nodes. Requires: gradient nodes still there. Establishes: nothing. Breaks: nothing.
//
//   accumulate = k:  a <- (part = 0 ? 0 : a) + g / k      $part: number of the run, from 0; the optimizer sees a, and what
//                    v <- (part = k - 1 ? v' : v)          it writes (parameters, moments) holds in the last run alone
//                    random numbers of step k $step + $part, so that no two runs draw the same
//   ranks = n:       g <- all_reduce(g) / n              after the sum: the gradient of the batches of all ranks as one, so that all
//                                                         make the same update; results of one number are means over them too
//   scale:           gradients of S loss, divided by S     after the sum, before the bound. S changes by torch.amp.GradScaler's
//                    v <- (all |g| finite ? v' : v)        rules: halved where a gradient is not finite, doubled after 2000 steps
//                                                          that were, within bounds (plan.h)
//   clip:            g min(1, $clip / (|g| + 1e-6))        after the sum; $clip 0 or less: no bound
//
// A step that is skipped is none for the optimizer: step() there counts the others. Everything else in the entry happens as in
// any step, as in PyTorch, whose scaler leaves out optimizer.step() and no more: states of the forward pass (averages of codes) go on,
// and so do random numbers and the learning rate's schedule. S, the steps in a row that were good and those skipped are variables, so
// that no step waits for the host.
#include "passes/update.h"

#include <float.h>
#include <string.h>

#include "ops/op.h"

static Node *find_pack(const Graph *graph) {
    for GRAPH_EACH(graph, node) {
        bool gradients = node->op == OP_pack && node->input_count > 0;
        for (int i = 0; gradients && i < node->input_count; i++) gradients = node->inputs[i]->node->op == OP_gradient;
        if (gradients) return node;
    }
    return NULL;
}

static Value *scalar(Graph *g, double value, LvDType dtype) {
    return build_constant(g, value, dtype, lv_shape(0, NULL));
}

static int add_variable(Graph *g, const char *name, LvDType dtype, LvShape shape) {
    Variable v = {.name = name, .kind = LV_VARIABLE_TRAINER, .dtype = dtype, .shape = shape, .pack = -1, .span = LV_NO_SPAN};
    return graph_add_variable(g, &v);
}

static Value *stretched(Graph *g, Value *a, LvShape shape) {
    return shape.rank == 0 ? a : build_expand(g, a, shape, NULL);
}

// The condition NULL holds always.
static Value *chosen(Graph *g, Value *condition, Value *a, Value *b) {
    return condition ? build_select(g, stretched(g, condition, a->shape), a, b) : a;
}

static Value *both(Graph *g, Value *a, Value *b) {
    if (!a || !b) return a ? a : b;
    return build_binary(g, OP_and, a, b);
}

static Value *sum_all(Graph *g, Value *vector) {
    int64_t axis = 0;
    return build_reduce(g, OP_reduce_sum, vector, 1, &axis);
}

// ---- one rank

static void drop_input(Graph *g, const char *name) {
    size_t kept = 0;
    for (size_t i = 0; i < g->inputs.count; i++) {
        if (strcmp(g->inputs.data[i].name, name)) g->inputs.data[kept++] = g->inputs.data[i];
        else graph_remove(g, g->inputs.data[i].value->node);
    }
    g->inputs.count = kept;
}

// It is the rank 0, which needs no input to tell it.
static void settle_rank(Graph *g) {
    Value *rank = graph_find_input(g, "$rank");
    if (!rank) return;
    g->insert_before = rank->node;
    graph_replace(g, rank, scalar(g, 0, LV_I32));
    g->insert_before = NULL;
    drop_input(g, "$rank");
}

// ---- several runs

static Value *add_sum(Graph *g, Value *gradient, Value *part, int64_t runs, int *variable) {
    *variable = add_variable(g, LV_VARIABLE_ACCUMULATED, LV_F32, gradient->shape);
    Value *first = build_binary(g, OP_eq, part, scalar(g, 0, LV_I32)), *old = build_state_read(g, *variable);
    Value *before = chosen(g, first, build_like(g, 0, old), old);
    return build_binary(g, OP_add, before, build_binary(g, OP_mul, gradient, build_like(g, 1.0 / (double)runs, gradient)));
}

// Whether an input of the node, the last one, is the number of the step that it draws for.
static bool draws(const Node *node) {
    if (node->op == OP_attention) return node_float(node, ATTR_dropout, 0) > 0;
    return node->op == OP_random_uniform || node->op == OP_random_normal;
}

static void number_draws(Graph *g, Value *part, int64_t runs) {
    for GRAPH_EACH(g, node) {
        if (!draws(node)) continue;
        Value **step = &node->inputs[node->input_count - 1];
        g->insert_before = node;
        *step = build_binary(g, OP_add, build_binary(g, OP_mul, *step, scalar(g, (double)runs, LV_I32)), part);
    }
}

// ---- several ranks

static Value *mean_over_ranks(Graph *g, Value *a, int64_t ranks) {
    Value *sum = build_node(g, OP_all_reduce, 1, &a, NULL);
    return build_binary(g, OP_mul, sum, build_like(g, 1.0 / (double)ranks, a));
}

static bool is_number(const GraphPort *result) {
    return result->value->dtype == LV_F32 && result->value->shape.rank == 0;
}

// All in one sum: each by itself would have to be waited for.
static void add_mean_results(Graph *g, int64_t ranks) {
    LvArena *arena = lv_arena_create();
    Value **numbers = LV_NEW_ARRAY(arena, Value *, g->results.count + 1);
    int64_t one = 1, start = 0;
    int count = 0;
    for (size_t i = 0; i < g->results.count; i++) {
        const GraphPort *result = &g->results.data[i];
        if (is_number(result)) numbers[count++] = build_reshape(g, result->value, lv_shape(1, &one));
    }
    Value *means = count ? mean_over_ranks(g, build_concat(g, count, numbers, 0), ranks) : NULL;
    for (size_t i = 0; i < g->results.count; i++) {
        GraphPort *result = &g->results.data[i];
        if (!is_number(result)) continue;
        result->value = build_reshape(g, build_slice(g, means, &start, lv_shape(1, &one), NULL), lv_shape(0, NULL));
        start++;
    }
    lv_arena_destroy(arena);
}

// ---- the norm

static Value *add_bound(Graph *g, Value *gradient) {
    Value *bound = graph_add_input(g, "$clip", LV_F32, lv_shape(0, NULL));
    Value *norm = build_unary(g, OP_sqrt, sum_all(g, build_binary(g, OP_mul, gradient, gradient)));
    Value *share = build_binary(g, OP_div, bound, build_binary(g, OP_add, norm, scalar(g, 1e-6, LV_F32)));
    Value *factor = build_binary(g, OP_min, scalar(g, 1, LV_F32), share);
    Value *none = build_binary(g, OP_le, bound, scalar(g, 0, LV_F32));
    factor = build_select(g, none, scalar(g, 1, LV_F32), factor);
    return build_binary(g, OP_mul, gradient, stretched(g, factor, gradient->shape));
}

// ---- the loss's scale

typedef struct {
    int variable, good_variable, skipped_variable;
    Value *scale;          // what this step's loss is multiplied by
    Value *good, *skipped; // steps since it changed or a step was skipped, steps that were skipped: before this one
    Value *finite;         // of this step: all gradients are
} Scaling;

// Only the gradients of the pack are of the scaled loss: what else the entry asks of the loss is as it says.
static void scale_loss(Graph *g, Node *pack, Scaling *s) {
    Node *first = g->first;
    while (first->op != OP_gradient || first->inputs[0] != pack->inputs[0]->node->inputs[0]) first = first->next;
    Value *loss = first->inputs[0];
    g->insert_before = first;
    s->variable = add_variable(g, LV_VARIABLE_LOSS_SCALE, LV_F32, lv_shape(0, NULL));
    s->good_variable = add_variable(g, LV_VARIABLE_GOOD_STEPS, LV_I32, lv_shape(0, NULL));
    s->skipped_variable = add_variable(g, LV_VARIABLE_SKIPPED_STEPS, LV_I32, lv_shape(0, NULL));
    Value *kept = build_state_read(g, s->variable), *none = build_binary(g, OP_le, kept, scalar(g, 0, LV_F32));
    s->scale = build_select(g, none, scalar(g, LV_LOSS_SCALE_FIRST, LV_F32), kept);
    s->good = build_state_read(g, s->good_variable);
    s->skipped = build_state_read(g, s->skipped_variable);
    Value *scaled = build_binary(g, OP_mul, loss, s->scale);
    for (int i = 0; i < pack->input_count; i++) {
        Node *gradient = pack->inputs[i]->node;
        if (gradient->inputs[0] == loss) gradient->inputs[0] = scaled;
    }
}

static Value *unscaled(Graph *g, Value *gradient, Scaling *s) {
    Value *most = build_like(g, FLT_MAX, gradient), *one = build_like(g, 1, gradient), *zero = build_like(g, 0, gradient);
    Value *fine = build_binary(g, OP_le, build_unary(g, OP_abs, gradient), most);  // false for NaN
    s->finite = build_binary(g, OP_eq, sum_all(g, build_select(g, fine, zero, one)), scalar(g, 0, LV_F32));
    Value *share = build_binary(g, OP_div, scalar(g, 1, LV_F32), s->scale);
    return build_binary(g, OP_mul, gradient, stretched(g, share, gradient->shape));
}

// The scale's own update, where `last` holds.
static void write_scale(Graph *g, const Scaling *s, Value *last) {
    Value *counted = build_binary(g, OP_add, s->good, scalar(g, 1, LV_I32)), *none = scalar(g, 0, LV_I32);
    Value *grows = build_binary(g, OP_ge, counted, scalar(g, LV_LOSS_SCALE_INTERVAL, LV_I32));
    Value *halved = build_binary(g, OP_mul, s->scale, scalar(g, 0.5, LV_F32));
    Value *doubled = build_binary(g, OP_mul, s->scale, scalar(g, 2, LV_F32));
    Value *grown = build_binary(g, OP_min, doubled, scalar(g, LV_LOSS_SCALE_MOST, LV_F32));
    Value *scale = build_select(g, s->finite, build_select(g, grows, grown, s->scale), halved);
    Value *good = build_select(g, both(g, s->finite, build_unary(g, OP_not, grows)), counted, none);
    Value *skipped = build_select(g, s->finite, s->skipped, build_binary(g, OP_add, s->skipped, scalar(g, 1, LV_I32)));
    build_state_write(g, s->variable, chosen(g, last, scale, s->scale));
    build_state_write(g, s->good_variable, chosen(g, last, good, s->good));
    skipped = chosen(g, last, skipped, s->skipped);
    build_state_write(g, s->skipped_variable, skipped);
    graph_add_result(g, LV_VARIABLE_LOSS_SCALE, s->scale);  // of this step, for whoever reads results as they come
    graph_add_result(g, LV_VARIABLE_SKIPPED_STEPS, skipped);
}

static bool writes_update(const Graph *g, const Node *node) {
    if (node->op != OP_state_write) return false;
    const Variable *v = &g->variables.data[node_int(node, ATTR_variable, -1)];
    return v->is_pack || v->kind == LV_VARIABLE_OPTIMIZER;
}

// In what the optimizer writes, made behind the gradient, the number of the step is that of the update.
static void number_updates(Graph *g, Node *pack, const Scaling *s) {
    Value *step = graph_find_input(g, "$step"), *update = NULL;
    if (!step) return;
    if (step->node != g->first) graph_move(g, step->node, g->first);  // it stands where it was first asked for
    LvArena *arena = lv_arena_create();
    bool *wanted = LV_NEW_ARRAY(arena, bool, g->next_value + 1);
    for (Node *node = g->last; node != pack; node = node->prev) {
        bool feeds = writes_update(g, node);
        for (int i = 0; i < node->result_count && !feeds; i++) feeds = wanted[node->results[i].id];
        if (!feeds || draws(node)) continue;
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] != step) {
                wanted[node->inputs[i]->id] = true;
                continue;
            }
            g->insert_before = pack;
            if (!update) update = build_binary(g, OP_sub, step, s->skipped);
            node->inputs[i] = update;
        }
    }
    lv_arena_destroy(arena);
}

// ---- all together

// Parameters and the optimizer's states change where the condition holds.
static void hold_writes(Graph *g, Value *condition) {
    for (Node *node = g->first; condition && node; node = node->next) {
        if (!writes_update(g, node)) continue;
        g->insert_before = node;
        node->inputs[0] = chosen(g, condition, node->inputs[0], build_state_read(g, node_int(node, ATTR_variable, -1)));
    }
}

static void replace_behind(Node *first, const Value *old, Value *with) {
    for (Node *node = first; node; node = node->next) {
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] == old) node->inputs[i] = with;
        }
    }
}

void update_extend(Graph *g, const UpdateOptions *options) {
    Node *pack = find_pack(g);
    bool sums = options->accumulate > 1, ranks = options->ranks > 1;
    if (!ranks) settle_rank(g);
    if (!pack || !(sums || ranks || options->clip || options->scale)) return;
    Value *now = &pack->results[0], *part = NULL, *sum = NULL, *last = NULL;
    Node *behind = pack->next;
    Scaling scaling = {0};
    int sum_variable = -1;
    g->span = pack->span;
    g->scope = pack->scope;
    if (sums) {
        g->insert_before = g->first;
        part = graph_add_input(g, "$part", LV_I32, lv_shape(0, NULL));
        number_draws(g, part, options->accumulate);
    }
    if (options->scale) {
        scale_loss(g, pack, &scaling);
        number_updates(g, pack, &scaling);
    }
    g->insert_before = behind;
    if (sums) now = sum = add_sum(g, now, part, options->accumulate, &sum_variable);
    if (ranks) now = mean_over_ranks(g, now, options->ranks);
    if (options->scale) now = unscaled(g, now, &scaling);
    if (options->clip) now = add_bound(g, now);
    replace_behind(behind, &pack->results[0], now);
    if (sums) last = build_binary(g, OP_eq, part, scalar(g, (double)(options->accumulate - 1), LV_I32));
    hold_writes(g, both(g, last, scaling.finite));
    g->insert_before = NULL;
    if (ranks) add_mean_results(g, options->ranks);
    if (sums) build_state_write(g, sum_variable, sum);
    if (options->scale) write_scale(g, &scaling, last);
    g->span = LV_NO_SPAN;
    g->scope = "";
}
