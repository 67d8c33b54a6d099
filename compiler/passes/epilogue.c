// requires     joint graph, no gradient nodes, algebra done (biases are expands of a vector along the channels)
// establishes  bias, rectifier, residual and scale of a convolution or matmul are part of the library call where
//              nothing else reads what lies between; on a GPU also of a convolution's data gradient, a transposed convolution
// breaks       nothing; what becomes unused is left to dce
//
// y = activation(product + bias) + residual, in this order. A cast between product and sum is stepped over: the sum is then
// made in the library's accumulator, before the one rounding. On a GPU a matmul's bias is cast to the type of the result, which cuBLASLt
// wants and its run would have to do, a launch each. The backward pass of a rectifier asks whether its argument was
// positive; it is told to ask the result instead, so that the argument need not exist.
#include "ops/op.h"
#include "passes/pass.h"

typedef struct {
    const int *uses;
    int use_count;
    bool changed;
    bool cuda;
} Epilogue;

static bool single_use(const Epilogue *e, const Value *value) { return value->id < e->use_count && e->uses[value->id] == 1; }

// The contraction that `value` is the only reader of, also through a cast; NULL. *cast: the cast, or NULL.
static Node *host_of(const Epilogue *e, Value *value, Node **cast) {
    *cast = NULL;
    if (!single_use(e, value)) return NULL;
    if (value->node->op == OP_cast) {
        *cast = value->node;
        value = value->node->inputs[0];
        if (!single_use(e, value)) return NULL;
    }
    Op op = value->node->op;
    return op == OP_conv2d || op == OP_matmul || (op == OP_conv2d_data_grad && e->cuda) ? value->node : NULL;
}

static int channel_dim(const Node *host) { return host->op == OP_matmul ? host->results[0].shape.rank - 1 : 1; }

static bool has_activation(const Node *host) { return node_int(host, ATTR_activation, LV_ACTIVATION_NONE) != LV_ACTIVATION_NONE; }

static bool has_residual(const Node *host) { return node_bool(host, ATTR_residual, false); }

// The host again with one more input or attribute, its cast after it.
static Value *rebuild(Graph *g, const Node *host, const Node *cast, Value *input, AttrName flag, int64_t number) {
    Value *inputs[4];
    int count = 0;
    for (int i = 0; i < host->input_count; i++) inputs[count++] = host->inputs[i];
    if (input) inputs[count++] = input;
    Attrs attrs = {0};
    for (int i = 0; i < host->attrs.count; i++) {
        if (host->attrs.at[i].name != flag) attrs.at[attrs.count++] = host->attrs.at[i];
    }
    if (attr_kind(flag) == ATTR_BOOL) attrs_bool(&attrs, flag, true);
    else attrs_int(&attrs, flag, number);
    Value *value = build_node(g, host->op, count, inputs, &attrs);
    return cast ? build_cast(g, value, cast->results[0].dtype) : value;
}

// [O] that is the same along all but the channels.
static Value *bias_of(const Node *host, const Value *value) {
    if (value->node->op != OP_expand) return NULL;
    Value *vector = value->node->inputs[0];
    const Attr *axes = node_attr(value->node, ATTR_axes);
    if (vector->shape.rank != 1 || axes->list.at[0] != channel_dim(host)) return NULL;
    return vector->shape.dim[0] == value->shape.dim[channel_dim(host)] ? vector : NULL;
}

static Value *take_bias(Graph *g, Node *add, const Epilogue *e) {
    for (int side = 0; side < 2; side++) {
        Node *cast, *host = host_of(e, add->inputs[side], &cast);
        if (!host || host->input_count != 2 || has_activation(host)) continue;
        Value *bias = bias_of(host, add->inputs[1 - side]);
        if (bias && e->cuda && host->op == OP_matmul) bias = build_cast(g, bias, host->results[0].dtype);
        if (bias) return rebuild(g, host, cast, bias, ATTR_bias, 1);
    }
    return NULL;
}

// Worth a residual: it is in memory anyway, because a call writes it or because others read it too.
static bool is_stored(const Epilogue *e, const Value *value) {
    OpKind kind = op_info(value->node->op)->kind;
    if (value->node->op == OP_constant || value->node->op == OP_expand) return false;
    return kind == OP_KIND_CONTRACTION || kind == OP_KIND_LEAF || (value->id < e->use_count && e->uses[value->id] > 1);
}

static bool stands_before(const Node *a, const Node *b) {
    for (const Node *node = a; node; node = node->next) {
        if (node == b) return true;
    }
    return false;
}

static Value *take_residual(Graph *g, Node *add, const Epilogue *e) {
    Node *casts[2], *hosts[2];
    for (int side = 0; side < 2; side++) hosts[side] = host_of(e, add->inputs[side], &casts[side]);
    // of two hosts the later takes the other's result
    int first = hosts[0] && hosts[1] && stands_before(hosts[0], hosts[1]) ? 1 : 0;
    for (int k = 0; k < 2; k++) {
        int side = k ? 1 - first : first;
        Node *host = hosts[side];
        Value *residual = add->inputs[1 - side];
        if (!host || has_residual(host)) continue;
        if (casts[side]) {  // the residual has to be of the host's type
            if (residual->node->op != OP_cast) continue;
            residual = residual->node->inputs[0];
        }
        if (residual->dtype != host->results[0].dtype || !is_stored(e, residual)) continue;
        return rebuild(g, host, casts[side], residual, ATTR_residual, 1);
    }
    return NULL;
}

static Value *take_rectifier(Graph *g, Node *max, const Epilogue *e) {
    Node *cast, *host = host_of(e, max->inputs[0], &cast);
    if (!value_is_number(max->inputs[1], 0) || !host || has_activation(host) || has_residual(host)) return NULL;
    return rebuild(g, host, cast, NULL, ATTR_activation, LV_ACTIVATION_RELU);
}

static Value *take_scale(Graph *g, Node *mul, const Epilogue *e) {
    Node *cast, *host = host_of(e, mul->inputs[0], &cast);
    if (!value_is_constant(mul->inputs[1]) || !host || cast || host->op != OP_matmul) return NULL;
    if (host->input_count != 2 || has_activation(host)) return NULL;
    Attrs attrs = {0};
    for (int i = 0; i < host->attrs.count; i++) {
        if (host->attrs.at[i].name != ATTR_scale) attrs.at[attrs.count++] = host->attrs.at[i];
    }
    attrs_float(&attrs, ATTR_scale, node_float(host, ATTR_scale, 1) * value_number(mul->inputs[1]));
    return build_node(g, OP_matmul, 2, host->inputs, &attrs);
}

static Value *epilogue_rule(Graph *graph, Node *node, void *user) {
    const Epilogue *e = user;
    if (!value_is_float(&node->results[0])) return NULL;
    if (node->op == OP_max) return take_rectifier(graph, node, e);
    if (node->op == OP_mul) return take_scale(graph, node, e);
    if (node->op != OP_add) return NULL;
    Value *value = take_bias(graph, node, e);
    return value ? value : take_residual(graph, node, e);
}

// ---- gt(x, 0) with y = max(x, 0): gt(y, 0)

static bool read_between(const Value *value, const Node *from, const Node *to) {
    for (const Node *node = from->next; node && node != to; node = node->next) {
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] == value) return true;
        }
    }
    return false;
}

static void ask_results_of_rectifiers(Graph *graph, LvArena *arena) {
    Node **rectifier = LV_NEW_ARRAY(arena, Node *, graph->next_value + 1);  // by id of the argument
    Value **with = LV_NEW_ARRAY(arena, Value *, graph->next_value + 1);
    int count = graph->next_value;
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_max || !value_is_number(node->inputs[1], 0)) continue;
        Node **first = &rectifier[node->inputs[0]->id];
        if (!*first) *first = node;
    }
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_gt || node->inputs[0]->id >= count || !value_is_number(node->inputs[1], 0)) continue;
        Node *max = rectifier[node->inputs[0]->id];
        if (!max || (stands_before(node, max) && read_between(&node->results[0], node, max))) continue;
        rewrite_at(graph, node);
        if (stands_before(node, max)) graph->insert_before = max->next;
        Value *asked = build_binary(graph, OP_gt, &max->results[0], build_like(graph, 0, &max->results[0]));
        with[node->results[0].id] = asked;
    }
    rewrite_end(graph);
    Value **all = LV_NEW_ARRAY(arena, Value *, graph->next_value + 1);
    for (int i = 0; i < count; i++) all[i] = with[i];
    graph_replace_all(graph, all);
}

bool pass_epilogue(Graph *graph, PassContext *context) {
    enum { ROUNDS = 4 };  // bias, activation, residual: each needs the uses counted after the one before
    ask_results_of_rectifiers(graph, context->arena);
    for (int round = 0; round < ROUNDS; round++) {
        pass_dce(graph, context);
        Epilogue e = {.uses = graph_count_uses(graph, context->arena), .use_count = graph->next_value,
                      .cuda = context->target->cuda};
        if (!rewrite_walk(graph, epilogue_rule, &e)) break;
    }
    return pass_dce(graph, context);
}
