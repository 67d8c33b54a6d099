// requires     final ops
// establishes  a node that makes more than it lets go stands directly before its first user
// breaks       nothing
//
// Autodiff writes gradients in the order of the reverse walk, and sema writes what the user wrote first first; a value then
// may wait long for its only reader. One walk from the end: users are in their final places when a node is looked at, and
// it moves down to the first of them if its results are larger than the inputs that only it still needs.
#include "ops/op.h"
#include "passes/pass.h"

typedef struct {
    double *first_use;  // by value id: rank of the first user
    Node **first_user;
    double *last_use;
} Order;

static bool is_fixed(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    if (kind == OP_KIND_EFFECT || kind == OP_KIND_EFFECT_VALUE) return true;
    return node->op == OP_input || node->op == OP_pack || node->result_count == 0;
}

static double *rank_of(const Node *node) { return node->note; }

static Node *find_first_user(const Order *o, const Node *node, double *rank) {
    Node *user = NULL;
    for (int i = 0; i < node->result_count; i++) {
        int id = node->results[i].id;
        if (!o->first_user[id] || (user && o->first_use[id] >= *rank)) continue;
        user = o->first_user[id];
        *rank = o->first_use[id];
    }
    return user;
}

// Bytes that live longer if the node stands at `rank`, against those that are made later.
static bool is_smaller_later(const Order *o, const Node *node, double rank) {
    int64_t made = 0, held = 0;
    for (int i = 0; i < node->result_count; i++) made += value_bytes(&node->results[i]);
    for (int i = 0; i < node->input_count; i++) {
        const Value *input = node->inputs[i];
        Op op = input->node->op;
        bool given = op == OP_input || op == OP_state_read || op == OP_literal || op == OP_constant;
        bool twice = false;
        for (int k = 0; k < i; k++) twice |= node->inputs[k] == input;
        if (!given && !twice && o->last_use[input->id] < rank) held += value_bytes(input);
    }
    return made > held;
}

static void note_uses(Order *o, Node *node, double rank) {
    for (int i = 0; i < node->input_count; i++) {
        int id = node->inputs[i]->id;
        if (!o->first_user[id] || rank < o->first_use[id]) o->first_use[id] = rank, o->first_user[id] = node;
        if (rank > o->last_use[id]) o->last_use[id] = rank;
    }
}

bool pass_order(Graph *graph, PassContext *context) {
    size_t size = (size_t)graph->next_value + 1;
    Order o = {LV_NEW_ARRAY(context->arena, double, size), LV_NEW_ARRAY(context->arena, Node *, size),
               LV_NEW_ARRAY(context->arena, double, size)};
    double *ranks = LV_NEW_ARRAY(context->arena, double, graph->node_count + 1);  // where a node stands, comparable
    bool *result = LV_NEW_ARRAY(context->arena, bool, size);
    for (size_t i = 0; i < graph->results.count; i++) result[graph->results.data[i].value->id] = true;
    int count = 0;
    for GRAPH_EACH(graph, node) {
        ranks[count] = count;
        node->note = &ranks[count++];
    }
    Node *before;
    for (Node *node = graph->last; node; node = before) {
        before = node->prev;
        double user_rank = 0;
        bool fixed = is_fixed(node);
        for (int i = 0; i < node->result_count; i++) fixed |= result[node->results[i].id];
        Node *user = fixed ? NULL : find_first_user(&o, node, &user_rank);
        if (user && (user->op == OP_pack || user->op == OP_state_write)) user = NULL;  // computed where it stays: costs nothing
        if (user && user != node->next && is_smaller_later(&o, node, user_rank)) {
            double between = (*rank_of(user->prev) + user_rank) / 2;
            if (between > *rank_of(user->prev) && between < user_rank) {  // doubles may run out: then it stays
                graph_move(graph, node, user);
                *rank_of(node) = between;
            }
        }
        note_uses(&o, node, *rank_of(node));
    }
    return true;
}
