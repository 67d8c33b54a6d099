// requires     final ops and layouts; an order in which gradients are made as late as may be (the pass `order`)
// establishes  the update of the flat parameters is several updates, each of a range of them, each as soon as its gradients are there
// breaks       nothing
//
// The optimizer walks the flat vectors end to end, and so every gradient would have to wait for the last. Where each element of what
// it writes depends on the same element of what it reads alone, a range can be updated by itself, and its gradients' memory is
// free for the next: few of all gradients are ever there at once. (LOMO, Lv et al. 2023, goes down to single tensors.)
// Members of the pack come in the order of the parameters, their gradients in that of the backward pass: where neighbours' are made far
// from each other the first would wait long for the second, and there the pack is cut.
// Left whole: updates that look at all gradients first (a bound of their norm, a search for infinities), and short vectors.
//
//     %g = pack %a, %b, %c, %d                      %g0 = pack %a, %b
//     %m = state_read {m} [n]                       %m0 = state_read {m[0]}     m[0]: a part of m, [k] at 0
//     %m' = add (mul %m, 0.9) (mul %g, 0.1)   ->    %m0' = add (mul %m0, 0.9) (mul %g0, 0.1)
//     state_write %m' {m}                           state_write %m0' {m[0]}     and the same of %c, %d and m[1]
//
// Of several ranks each part's gradients are summed over them as soon as they are there. On a GPU that takes its time beside the backward
// pass: the update comes when the gradients of the next part are there too.
//
// The schedule keeps each update behind the last reader of the parameters that it overwrites.
#include <limits.h>

#include "ops/op.h"
#include "passes/pass.h"

// Elements of a part, and parts of one vector (each is a launch, dear on a GPU), were all alike; where members of a pack begin.
enum { LEAST_PART = 1 << 18, MOST_PARTS = 64, MOST_ON_GPU = 6, ALIGNED = 16 };

// How a value may be made for a range alone.
typedef enum {
    OTHER,
    STEADY,  // not of the flat shape; from inputs, variables and constants alone
    FLAT,    // of the flat shape, element i from element i: its range can be computed by itself
} Extent;

typedef struct {
    Graph *graph;
    LvArena *arena;
    Node *pack;
    Node *sum;       // of the pack over ranks; NULL: there is one rank
    bool late;       // parts are updated when the next one's gradients are there
    LvShape shape;   // of the flat vectors
    int values;      // of the graph as it was: the lengths of the arrays by value id
    char *extent;    // by value id
    bool *updates;   // by value id: made from the gradients
    Value **ranged;  // by value id: its counterpart in the part at hand
    int variables;   // likewise
    int *part_of;    // by variable: its part at hand, -1
} Parts;

static bool is_flat(const Parts *p, const Value *value) { return lv_shape_equal(value->shape, p->shape); }

// ---- may it be cut?

static Extent extent_of(const Parts *p, const Node *node) {
    const Value *value = &node->results[0];
    if (node->result_count != 1) return OTHER;
    if (!is_flat(p, value)) {
        bool steady = node_is_elementwise(node) || node->op == OP_reshape || node->op == OP_expand || node_is_leaf(node);
        for (int i = 0; i < node->input_count; i++) steady &= p->extent[node->inputs[i]->id] == STEADY;
        return steady ? STEADY : OTHER;
    }
    if (node == p->pack || node->op == OP_constant || node->op == OP_iota) return FLAT;
    if (node->op == OP_all_reduce) return p->extent[node->inputs[0]->id] == FLAT ? FLAT : OTHER;
    if (node->op == OP_state_read) return p->graph->variables.data[node_int(node, ATTR_variable, 0)].pack < 0 ? FLAT : OTHER;
    if (node->op == OP_expand) return node->inputs[0]->shape.rank == 0 ? FLAT : OTHER;
    bool flat = node_is_elementwise(node) && node->input_count > 0;
    for (int i = 0; i < node->input_count; i++) flat &= p->extent[node->inputs[i]->id] == FLAT;
    return flat ? FLAT : OTHER;
}

static Node *find_pack(const Graph *graph) {
    Node *found = NULL;
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_pack) continue;
        if (found) return NULL;
        found = node;
    }
    return found;
}

// The sum over ranks of the pack itself.
static Node *find_sum(const Graph *graph, const Node *pack) {
    for GRAPH_EACH(graph, node)
        if (node->op == OP_all_reduce && node->inputs[0] == &pack->results[0]) return node;
    return NULL;
}

// Everything that comes of the gradients is flat, and goes into variables alone.
static bool can_be_cut(Parts *p) {
    bool written = false;
    for GRAPH_EACH(p->graph, node) {
        bool update = node == p->pack;
        for (int i = 0; i < node->input_count; i++) update |= p->updates[node->inputs[i]->id];
        for (int i = 0; i < node->result_count; i++) p->extent[node->results[i].id] = (char)extent_of(p, node);
        if (!update) continue;
        if (node->op == OP_state_write) written = true;
        else if (node->result_count != 1 || p->extent[node->results[0].id] != FLAT) return false;
        else p->updates[node->results[0].id] = true;
    }
    for (size_t i = 0; i < p->graph->results.count; i++) {
        if (p->updates[p->graph->results.data[i].value->id]) return false;
    }
    return written;
}

// ---- the update of one range

typedef struct {
    int64_t begin, length;
    int number;
    int at;              // where the last of its gradients is made, before the update was cut
    Value *gradient;     // flat, of all ranks
    const Node *behind;  // the node that makes it
} Part;

// The range of a flat variable, as a variable of its own.
static int part_of(Parts *p, const Part *part, const Node *node) {
    int variable = (int)node_int(node, ATTR_variable, 0);
    if (p->part_of[variable] < 0) {
        Variable v = p->graph->variables.data[variable];
        v.name = lv_arena_printf(p->graph->arena, "%s[%d]", v.name, part->number);
        v.shape = lv_shape(1, &part->length);
        v.is_pack = false, v.is_part = true;
        v.pack = variable, v.pack_offset = part->begin;
        p->part_of[variable] = graph_add_variable(p->graph, &v);
    }
    return p->part_of[variable];
}

static Value *range_of(Parts *p, const Part *part, Value *value) {
    if (p->ranged[value->id]) return p->ranged[value->id];
    Graph *g = p->graph;
    Node *node = value->node;
    LvShape shape = lv_shape(1, &part->length);
    Value *inputs[4], *made;
    g->span = node->span, g->scope = node->scope;
    if (node->op == OP_state_read) made = build_state_read(g, part_of(p, part, node));
    else if (node->op == OP_constant) made = build_constant(g, value_number(value), value->dtype, shape);
    else if (node->op == OP_expand) made = build_expand(g, node->inputs[0], shape, NULL);
    else if (node->op == OP_iota) {
        Value *from_zero = graph_add_typed(g, OP_iota, 0, NULL, &node->attrs, value->dtype, shape);
        made = build_binary(g, OP_add, from_zero, build_constant(g, (double)part->begin, value->dtype, shape));
    } else {
        for (int i = 0; i < node->input_count; i++) inputs[i] = range_of(p, part, node->inputs[i]);
        made = &node_add_like(g, node, inputs)->results[0];
    }
    return p->ranged[value->id] = made;
}

static bool is_whole_write(const Parts *p, const Node *node) {
    return node->op == OP_state_write && node->inputs[0]->id < p->values && p->updates[node->inputs[0]->id];
}

// The state_writes of the whole update, each of the part.
static void write_part(Parts *p, const Part *part) {
    for GRAPH_EACH(p->graph, node) {
        if (!is_whole_write(p, node)) continue;
        Value *value = range_of(p, part, node->inputs[0]);
        p->graph->span = node->span, p->graph->scope = node->scope;
        build_state_write(p->graph, part_of(p, part, node), value);
    }
}

// Gathers the gradients of members `first` to before `end` of the pack, behind the last of them; over all ranks where there are several.
static void gather_part(Parts *p, Part *part, int first, int end) {
    Node *last = p->pack->inputs[first]->node;
    for (int i = first + 1; i < end; i++) {
        if (*(int *)p->pack->inputs[i]->node->note > *(int *)last->note) last = p->pack->inputs[i]->node;
    }
    Graph *g = p->graph;
    g->insert_before = last->next;
    g->span = p->pack->span, g->scope = p->pack->scope;
    part->at = *(int *)last->note;
    part->gradient = build_node(g, OP_pack, end - first, p->pack->inputs + first, NULL);
    part->behind = part->gradient->node;
    if (!p->sum) return;
    part->gradient = &node_add_like(g, p->sum, &part->gradient)->results[0];
    part->behind = part->gradient->node;
}

// Behind the node.
static void update_part(Parts *p, const Part *part, const Node *behind) {
    for (int i = 0; i < p->values; i++) p->ranged[i] = NULL;
    for (int i = 0; i < p->variables; i++) p->part_of[i] = -1;
    p->graph->insert_before = behind->next;
    p->ranged[p->sum ? p->sum->results[0].id : p->pack->results[0].id] = part->gradient;
    write_part(p, part);
}

// The part whose gradients come next; itself if it is the last.
static const Part *next_part(const Part *parts, int count, const Part *part) {
    const Part *next = NULL;
    for (int i = 0; i < count; i++) {
        if (parts[i].at > part->at && (!next || parts[i].at < next->at)) next = &parts[i];
    }
    return next ? next : part;
}

// ---- all of them

// What the update needs besides flat vectors (the rate, corrections by the step's number) goes to the front, that no part waits for it.
static bool bring_forward(Parts *p) {
    bool *needed = LV_NEW_ARRAY(p->arena, bool, p->graph->next_value);
    for (Node *node = p->graph->last; node; node = node->prev) {
        bool reads = is_whole_write(p, node);
        for (int i = 0; i < node->result_count; i++) reads |= needed[node->results[i].id];
        for (int i = 0; i < node->input_count && reads; i++) needed[node->inputs[i]->id] |= node != p->pack;
        if (reads && node->result_count == 1 && p->extent[node->results[0].id] == OTHER) return false;
    }
    Node *front = p->graph->first;
    for (Node *node = front, *next; node; node = next) {
        next = node->next;
        if (node->result_count != 1 || !needed[node->results[0].id] || p->extent[node->results[0].id] != STEADY) continue;
        if (node == front) front = next;
        else graph_move(p->graph, node, front);
    }
    return true;
}

static void drop_whole(Parts *p) {
    Node *before;
    for (Node *node = p->graph->last; node; node = before) {
        before = node->prev;
        if (is_whole_write(p, node)) graph_remove(p->graph, node);
    }
}

// The sum of the whole over ranks, which is an effect that nothing but us may drop.
static bool is_whole_sum(const Parts *p, const Node *node) {
    return node->op == OP_all_reduce && node->results[0].id < p->values && p->updates[node->results[0].id];
}

static bool drop_unused(Parts *p, PassContext *context) {
    Node *next;
    if (!pass_dce(p->graph, context)) return false;
    for (Node *node = p->graph->first; node; node = next) {
        next = node->next;
        if (is_whole_sum(p, node)) graph_remove(p->graph, node);
    }
    return pass_dce(p->graph, context);
}

// Where the pack is cut: starts[j] is the first member of the part that ends before member j, in the division of the first j members
// that costs least. A part costs its elements times the nodes from the first of its gradients to the last, and besides as much as
// makes it `most` equal parts where gradients come evenly and in the pack's order; where they jump about there are more.
static int *choose_parts(const Parts *p, int64_t most) {
    int count = p->pack->input_count;
    int *starts = LV_NEW_ARRAY(p->arena, int, count + 1);
    double *least = LV_NEW_ARRAY(p->arena, double, count + 1);  // by j: what that division costs
    double each = (double)p->shape.dim[0] * p->graph->node_count / (2.0 * (double)(most * most));
    for (int end = 1; end <= count; end++) {
        int64_t elements = 0;
        int early = INT_MAX, late = 0;
        for (int first = end - 1; first >= 0; first--) {
            int at = *(int *)p->pack->inputs[first]->node->note;
            elements += lv_shape_elements(p->pack->inputs[first]->shape);
            if (at < early) early = at;
            if (at > late) late = at;
            double cost = least[first] + (double)elements * (late - early) + each;
            if (first + 1 == end || cost < least[end]) least[end] = cost, starts[end] = first;
        }
    }
    return starts;
}

// From the last part to the first.
static void cut(Parts *p, const int *starts) {
    int count = p->pack->input_count;
    int64_t *begins = LV_NEW_ARRAY(p->arena, int64_t, count + 1);
    for (int i = 0; i < count; i++) {
        begins[i + 1] = (begins[i] + lv_shape_elements(p->pack->inputs[i]->shape) + ALIGNED - 1) / ALIGNED * ALIGNED;
    }
    begins[count] = p->shape.dim[0];
    int number = 0;
    for (int end = count; end > 0; end = starts[end]) number++;
    Part *parts = LV_NEW_ARRAY(p->arena, Part, number + 1);
    for (int end = count, i = number; end > 0; end = starts[end]) {
        int first = starts[end];
        parts[--i] = (Part){.begin = begins[first], .length = begins[end] - begins[first], .number = i};
        gather_part(p, &parts[i], first, end);
    }
    for (int i = number - 1; i >= 0; i--) update_part(p, &parts[i], (p->late ? next_part(parts, number, &parts[i]) : &parts[i])->behind);
}

bool pass_parts(Graph *graph, PassContext *context) {
    Node *pack = find_pack(graph);
    if (!pack) return true;
    int values = graph->next_value, variables = (int)graph->variables.count;
    int64_t most = pack->results[0].shape.dim[0] / LEAST_PART, limit = context->target->cuda ? MOST_ON_GPU : MOST_PARTS;
    if (most > limit) most = limit;
    Parts p = {.graph = graph, .arena = context->arena, .pack = pack, .shape = pack->results[0].shape, .values = values, .variables = variables,
               .extent = LV_NEW_ARRAY(context->arena, char, values), .updates = LV_NEW_ARRAY(context->arena, bool, values),
               .ranged = LV_NEW_ARRAY(context->arena, Value *, values), .part_of = LV_NEW_ARRAY(context->arena, int, variables)};
    p.sum = find_sum(graph, pack);
    p.late = p.sum && context->target->cuda;
    if (most < 2 || !can_be_cut(&p)) return true;
    int *positions = LV_NEW_ARRAY(context->arena, int, graph->node_count + 1), at = 0;
    for GRAPH_EACH(graph, node) positions[at] = at, node->note = &positions[at++];
    const int *starts = choose_parts(&p, most);
    if (starts[pack->input_count] == 0 || !bring_forward(&p)) return true;
    cut(&p, starts);
    drop_whole(&p);
    rewrite_end(graph);
    return drop_unused(&p, context);
}
