// What the trainer may ask of the update beyond what the optimizer says: gradients summed over several runs of the entry,
// and their norm bounded. Done on the graph before autodiff, where the flat gradient is one `pack` of `gradient` nodes.
// Requires: gradient nodes still there. Establishes: nothing. Breaks: nothing.
//
//   accumulate = k:  a <- (part = 0 ? 0 : a) + g / k      $part: number of the run, from 0; the optimizer sees a, and what
//                    v <- (part = k - 1 ? v' : v)          it writes (parameters, moments) holds in the last run alone
//                    random numbers of step k $step + $part, so that no two runs draw the same
//   clip:            g min(1, $clip / (|g| + 1e-6))        after the sum; $clip 0 or less: no bound
#include "ops/op.h"
#include "passes/update.h"

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

static Value *read_variable(Graph *g, int variable) {
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, variable);
    Variable v = g->variables.data[variable];
    return graph_add_typed(g, OP_state_read, 0, NULL, &attrs, v.dtype, v.shape);
}

static void write_variable(Graph *g, int variable, Value *value) {
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, variable);
    build_node(g, OP_state_write, 1, &value, &attrs);
}

static Value *stretched(Graph *g, Value *a, LvShape shape) {
    return shape.rank == 0 ? a : build_expand(g, a, shape, NULL);
}

static Value *chosen(Graph *g, Value *condition, Value *a, Value *b) {
    return build_select(g, stretched(g, condition, a->shape), a, b);
}

static Value *add_sum(Graph *g, Value *gradient, Value *part, int64_t runs, int *variable) {
    Variable sum = {.name = "optimizer.accumulated",
                    .kind = LV_VARIABLE_OPTIMIZER,
                    .dtype = LV_F32,
                    .shape = gradient->shape,
                    .pack = -1,
                    .span = LV_NO_SPAN};
    *variable = graph_add_variable(g, &sum);
    Value *first = build_binary(g, OP_eq, part, scalar(g, 0, LV_I32)), *old = read_variable(g, *variable);
    Value *before = chosen(g, first, build_like(g, 0, old), old);
    Value *now = build_binary(g, OP_add, before, build_binary(g, OP_mul, gradient, build_like(g, 1.0 / (double)runs, gradient)));
    return now;
}

static Value *add_bound(Graph *g, Value *gradient) {
    Value *bound = graph_add_input(g, "$clip", LV_F32, lv_shape(0, NULL));
    int64_t axis = 0;
    Value *norm = build_unary(g, OP_sqrt, build_reduce(g, OP_reduce_sum, build_binary(g, OP_mul, gradient, gradient), 1, &axis));
    Value *share = build_binary(g, OP_div, bound, build_binary(g, OP_add, norm, scalar(g, 1e-6, LV_F32)));
    Value *factor = build_binary(g, OP_min, scalar(g, 1, LV_F32), share);
    Value *none = build_binary(g, OP_le, bound, scalar(g, 0, LV_F32));
    factor = build_select(g, none, scalar(g, 1, LV_F32), factor);
    return build_binary(g, OP_mul, gradient, stretched(g, factor, gradient->shape));
}

// Writes of the optimizer: of the flat parameters, and of its states.
static void hold_writes(Graph *g, Value *last, int sum) {
    for GRAPH_EACH(g, node) {
        if (node->op != OP_state_write) continue;
        int at = (int)node_int(node, ATTR_variable, -1);
        Variable v = g->variables.data[at];
        if (at == sum || !(v.is_pack || v.kind == LV_VARIABLE_OPTIMIZER)) continue;
        g->insert_before = node;
        node->inputs[0] = chosen(g, last, node->inputs[0], read_variable(g, at));
    }
}

static void number_draws(Graph *g, Value *part, int64_t runs) {
    for GRAPH_EACH(g, node) {
        if (node->op != OP_random_uniform && node->op != OP_random_normal) continue;
        g->insert_before = node;
        Value *first = build_binary(g, OP_mul, node->inputs[1], scalar(g, (double)runs, LV_I32));
        node->inputs[1] = build_binary(g, OP_add, first, part);
    }
}

void update_extend(Graph *g, int64_t accumulate, bool clip) {
    Node *pack = find_pack(g);
    if (!pack || (accumulate <= 1 && !clip)) return;
    Value *gradient = &pack->results[0], *now = gradient, *part = NULL, *sum_value = NULL;
    Node *before = pack->next;
    int sum = -1;
    g->span = pack->span;
    g->scope = pack->scope;
    if (accumulate > 1) {
        g->insert_before = g->first;
        part = graph_add_input(g, "$part", LV_I32, lv_shape(0, NULL));
        number_draws(g, part, accumulate);
    }
    g->insert_before = before;
    if (accumulate > 1) {
        now = sum_value = add_sum(g, gradient, part, accumulate, &sum);
    }
    if (clip) now = add_bound(g, now);
    for (Node *node = before; node; node = node->next) {
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] == gradient) node->inputs[i] = now;
        }
    }
    if (sum_value) {
        hold_writes(g, build_binary(g, OP_eq, part, scalar(g, (double)(accumulate - 1), LV_I32)), sum);
        g->insert_before = NULL;
        write_variable(g, sum, sum_value);
    }
    g->insert_before = NULL;
    g->span = LV_NO_SPAN;
    g->scope = "";
}
