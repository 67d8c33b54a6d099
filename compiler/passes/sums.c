// requires     layouts chosen: by them a backend says what its convolutions can; nothing made again any more (remat)
// establishes  sums over the pixels of expressions of a convolution's data gradient, of maps that
//              convolutions made before it and of numbers for each picture and channel, are made as it
//              stores its result (conv2d_data_grad_sums): no kernel reads the result for them alone
// breaks       nothing
//
// A normalization's backward pass asks for such sums, of the gradient behind the activation and of its
// product with the normalized map, but nothing here depends on who asks. The expression becomes an
// attribute (ops/each.h), its leaves operands. Of several data gradients in it the last is the host, the
// others are maps. What else reads the result, as the gradient of the map before the normalization
// does, reads it as before.
#include "codegen/codegen.h"
#include "ops/each.h"
#include "ops/op.h"
#include "passes/pass.h"

enum { MOST_MAPS = 2, DEEPEST = 64 };

// A data gradient and what is asked of it.
typedef struct {
    Node *conv;
    Each each;
    Value *operand[EACH_OPERANDS], *of_step[EACH_STEPS];  // what an arg stands for
    int operand_count;
    Node *sum[EACH_SUMS];
} Asked;

typedef struct {
    Graph *graph;
    const Target *target;
    int *position;   // by value id: that of the node that computes it
    Asked **asked;   // by value id of a data gradient
    LvArena *arena;
} Sums;

// ---- leaves of an expression

static bool is_narrow(LvDType dtype) { return dtype == LV_F32 || dtype == LV_BF16 || dtype == LV_F16; }

static bool is_widened(const Value *value) { return value->node->op == OP_cast && value->dtype == LV_F32; }

// A map in memory: the result of a contraction, maybe widened. NULL: it is none.
static Value *map_of(Value *value) {
    if (is_widened(value)) value = value->node->inputs[0];
    bool made = op_info(value->node->op)->kind == OP_KIND_CONTRACTION && value->index == 0;
    return made && is_narrow(value->dtype) ? value : NULL;
}

// [B, C] or [C] that is the same in all pixels. NULL: it is not.
static Value *vector_of(const Value *value) {
    if (value->node->op != OP_expand) return NULL;
    Value *vector = value->node->inputs[0];
    const int64_t *axes = node_attr(value->node, ATTR_axes)->list.at, *dim = value->shape.dim;
    bool right = vector->shape.rank == 1   ? axes[0] == 1 && vector->shape.dim[0] == dim[1]
                 : vector->shape.rank == 2 ? axes[0] == 0 && axes[1] == 1 && lv_shape_equal(vector->shape, lv_shape(2, dim))
                                           : false;
    return right && is_narrow(vector->dtype) && lv_layout_is_row_major(vector->layout, vector->shape.rank) ? vector : NULL;
}

// The map of which [B, C] is one pixel, as a normalization's pivot is: nothing need be made before to be read. NULL: of none.
static Value *map_of_pixel(Value *vector, LvShape shape, int64_t *pixel) {
    while (is_widened(vector) || vector->node->op == OP_reshape) vector = vector->node->inputs[0];
    if (vector->node->op != OP_slice || !lv_shape_equal(vector->shape, lv_shape(4, (int64_t[]){shape.dim[0], shape.dim[1], 1, 1}))) return NULL;
    Value *map = vector->node->inputs[0];
    const int64_t *starts = node_attr(vector->node, ATTR_starts)->list.at;
    *pixel = starts[2] * shape.dim[3] + starts[3];
    return lv_shape_equal(map->shape, shape) ? map_of(map) : NULL;
}

static bool is_inner(const Value *value) {
    return each_takes(value->node->op) && (value->dtype == LV_F32 || value->dtype == LV_BOOL);
}

static bool is_of_pixels(const Node *node) {
    if (node->op != OP_reduce_sum || node->inputs[0]->shape.rank != 4 || node->inputs[0]->dtype != LV_F32) return false;
    const Attr *axes = node_attr(node, ATTR_axes);
    int64_t last = axes->list.count - 1;
    if (last < 1 || axes->list.at[last - 1] != 2 || axes->list.at[last] != 3) return false;
    return last == 1 || (last == 2 && axes->list.at[0] == 0);
}

// With a store of its own to make, bias or activation, it is none.
static bool is_host(const Node *node) {
    bool plain = node->input_count == 2 && node_int(node, ATTR_activation, LV_ACTIVATION_NONE) == LV_ACTIVATION_NONE;
    return node->op == OP_conv2d_data_grad && plain;
}

// The last data gradient that the expression is made of; *budget: the nodes that may be looked at.
static Node *find_host(const Sums *s, Value *value, int *budget) {
    Value *map = map_of(value);
    if (map) return is_host(map->node) ? map->node : NULL;
    Node *host = NULL;
    for (int i = 0; is_inner(value) && i < value->node->input_count && --*budget > 0; i++) {
        Node *found = find_host(s, value->node->inputs[i], budget);
        if (found && (!host || s->position[found->results[0].id] > s->position[host->results[0].id])) host = found;
    }
    return host;
}

// ---- expressions

static int map_count(const Asked *asked) {
    int count = 0;
    for (int i = 1; i < asked->operand_count; i++) count += asked->operand[i]->shape.rank == 4;
    return count;
}

// The arg of a leaf, -1 if it cannot be an operand: it is not there yet where the host stands, lies otherwise, or there are too many.
static int add_operand(const Sums *s, Asked *asked, Value *value) {
    for (int i = 0; i < asked->operand_count; i++)
        if (asked->operand[i] == value) return i;
    const Value *result = asked->operand[0];
    bool early = s->position[value->id] < s->position[result->id], map = value->shape.rank == 4;
    if (map && !lv_layout_equal(value->layout, result->layout, 4)) return -1;
    if (!early || asked->operand_count == EACH_OPERANDS || (map && map_count(asked) == MOST_MAPS)) return -1;
    asked->operand[asked->operand_count] = value;
    return asked->operand_count++;
}

static int add_step(Asked *asked, Value *value, EachStep step) {
    if (asked->each.step_count == EACH_STEPS) return -1;
    asked->of_step[asked->each.step_count] = value;
    asked->each.step[asked->each.step_count] = step;
    return EACH_OPERANDS + asked->each.step_count++;
}

static int add_value(const Sums *s, Asked *asked, Value *value) {
    for (int i = 0; i < asked->each.step_count; i++)
        if (asked->of_step[i] == value) return EACH_OPERANDS + i;
    EachStep step = {.op = OP_slice};
    Value *map = map_of(value), *vector = map ? NULL : vector_of(value), *whole = vector ? map_of_pixel(vector, value->shape, &step.pixel) : NULL;
    if (whole) return (step.arg[0] = add_operand(s, asked, whole)) > 0 ? add_step(asked, value, step) : -1;
    if (map || vector) return add_operand(s, asked, map ? map : vector);
    if (value_is_constant(value)) return add_step(asked, value, (EachStep){.op = OP_constant, .number = value_number(value)});
    if (!is_inner(value)) return -1;
    step.op = value->node->op;
    for (int i = 0; i < value->node->input_count; i++)
        if ((step.arg[i] = add_value(s, asked, value->node->inputs[i])) < 0) return -1;
    return add_step(asked, value, step);
}

// The sum becomes one of the host's, or nothing changes.
static void ask(const Sums *s, Node *sum) {
    int budget = DEEPEST;
    Node *host = find_host(s, sum->inputs[0], &budget);
    if (!host || budget <= 0) return;
    Asked **of = &s->asked[host->results[0].id];
    if (!*of) {
        *of = LV_NEW(s->arena, Asked);
        (*of)->conv = host;
        (*of)->operand[(*of)->operand_count++] = &host->results[0];
    }
    Asked *asked = *of, before = *asked;
    int arg = asked->each.sum_count < EACH_SUMS ? add_value(s, asked, sum->inputs[0]) : -1;
    if (arg < 0) {
        *asked = before;
        return;
    }
    asked->sum[asked->each.sum_count] = sum;
    asked->each.sum[asked->each.sum_count++] = arg;
}

// ---- the graph

static Node *with_sums(Graph *graph, const Asked *asked, int64_t strips) {
    LvText text = {0};
    each_print(&asked->each, &text);
    Attrs attrs = asked->conv->attrs;
    attrs_int(&attrs, ATTR_strips, strips);
    attrs_name(&attrs, ATTR_each, lv_arena_strdup(graph->arena, lv_text_get(&text)));
    lv_text_free(&text);
    Value *inputs[2 + EACH_OPERANDS] = {asked->conv->inputs[0], asked->conv->inputs[1]};
    for (int i = 1; i < asked->operand_count; i++) inputs[1 + i] = asked->operand[i];
    rewrite_at(graph, asked->conv);
    Value *x = build_node(graph, OP_conv2d_data_grad_sums, 1 + asked->operand_count, inputs, &attrs);
    x->layout = asked->conv->results[0].layout;
    return x->node;
}

// Sum number k over all strips, as its node has it: [B, C] or [C].
static Value *join(Graph *graph, const Node *node, int k, const Node *sum) {
    Value *sums = (Value *)&node->results[1];
    LvShape all = sums->shape, one = all;
    one.dim[0] = 1;
    rewrite_at(graph, (Node *)sum);
    Value *strips = build_slice(graph, sums, (int64_t[]){k, 0, 0, 0}, one, NULL);
    bool of_pictures = sum->results[0].shape.rank == 1;
    if (all.dim[2] == 1 && !of_pictures) return build_reshape(graph, strips, sum->results[0].shape);
    strips = build_reshape(graph, strips, lv_shape(3, all.dim + 1));
    return build_reduce(graph, OP_reduce_sum, strips, of_pictures ? 2 : 1, of_pictures ? (int64_t[]){0, 1} : (int64_t[]){1});
}

static void replace(const Sums *s, const Asked *asked, Replacements *with) {
    int64_t strips = asked->each.sum_count ? codegen_conv_strips(asked->conv, &asked->each, map_count(asked), s->target) : 0;
    if (!strips) return;
    Node *node = with_sums(s->graph, asked, strips);
    replacements_set(with, asked->conv->results[0].id, &node->results[0]);
    for (int k = 0; k < asked->each.sum_count; k++)
        replacements_set(with, asked->sum[k]->results[0].id, join(s->graph, node, k, asked->sum[k]));
}

bool pass_sums(Graph *graph, PassContext *context) {
    int size = graph->next_value + 1, position = 0;
    Sums s = {.graph = graph, .target = context->target, .arena = context->arena};
    s.position = LV_NEW_ARRAY(s.arena, int, size);
    s.asked = LV_NEW_ARRAY(s.arena, Asked *, size);
    for GRAPH_EACH(graph, node) {
        position++;
        for (int i = 0; i < node->result_count; i++) s.position[node->results[i].id] = position;
    }
    for GRAPH_EACH(graph, node)
        if (is_of_pixels(node)) ask(&s, node);
    Replacements with = {0};
    for (int i = 0; i < size; i++)
        if (s.asked[i]) replace(&s, s.asked[i], &with);
    rewrite_end(graph);
    replacements_apply(graph, &with);
    return pass_dce(graph, context);
}
