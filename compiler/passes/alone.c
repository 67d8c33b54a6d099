// requires     casts of precision: what a product reads is narrow where it is to be
// establishes  no program but those of the entries beside need share the variables: a weight that all of them read only as narrow is kept
//              so, and what none of them reads gets no place (memory/variables.c)
// breaks       common subexpressions: run cse after it
//
// For entries that run over weights that nobody trains, by themselves, such as those that encode pictures, or together, such as those
// that begin and continue a text: half the memory in bf16, and of an encoder and a decoder only the one that is used. How the others
// read the variables is found from their graphs (driver/compile.c), by alone_find_reads.
#include "ops/op.h"
#include "passes/pass.h"

static bool narrows(const Node *node, int input, LvDType dtype, const Target *target) {
    if (dtype == LV_F32) return false;
    if (node->op == OP_cast) return node->results[0].dtype == dtype;
    return casts_itself(node, input, target) && node->inputs[0]->dtype == dtype;
}

static bool moves(const Node *node) { return op_info(node->op)->kind == OP_KIND_MOVEMENT && node->results[0].dtype == LV_F32; }

// What only moves a value hands on how its result is read.
unsigned char *alone_find_reads(const Graph *graph, LvDType dtype, const Target *target, LvArena *arena) {
    unsigned char *reads = LV_NEW_ARRAY(arena, unsigned char, graph->variables.count + 1);
    unsigned char *of = LV_NEW_ARRAY(arena, unsigned char, graph->next_value + 1);
    for (size_t i = 0; i < graph->results.count; i++) of[graph->results.data[i].value->id] = VARIABLE_READ_WIDE;
    for (const Node *node = graph->last; node; node = node->prev) {
        int variable = (int)node_int(node, ATTR_variable, 0);
        if (node->op == OP_state_write) reads[variable] |= VARIABLE_READ_WIDE;
        if (node->op == OP_state_read) reads[variable] |= of[node->results[0].id];
        for (int i = 0; i < node->input_count; i++) {
            of[node->inputs[i]->id] |= moves(node)                           ? of[node->results[0].id]
                                       : narrows(node, i, dtype, target) ? VARIABLE_READ_NARROW
                                                                             : VARIABLE_READ_WIDE;
        }
    }
    return reads;
}

// By variable: a weight in f32, read, and never as such. What lies in a flat vector that is read as a whole stays.
static bool *find_narrow(const Graph *graph, const unsigned char *reads, LvArena *arena) {
    bool *narrow = LV_NEW_ARRAY(arena, bool, graph->variables.count + 1);
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *v = &graph->variables.data[i];
        bool weight = v->kind == LV_VARIABLE_PARAM || v->kind == LV_VARIABLE_FROZEN;
        bool apart = !v->is_pack && (v->pack < 0 || !reads[v->pack]);
        narrow[i] = reads[i] == VARIABLE_READ_NARROW && weight && apart && v->dtype == LV_F32;
    }
    return narrow;
}

// A flat vector has a place as a whole where all of its members are read, and as f32: then views of it may be read (pass flat). Else only
// members have places. Whether this entry or one beside reads such a view does not matter, so all agree on the places.
static void keep_whole_packs(Graph *graph, const unsigned char *reads, const bool *narrow, LvArena *arena) {
    bool *broken = LV_NEW_ARRAY(arena, bool, graph->variables.count + 1);
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *v = &graph->variables.data[i];
        if (v->pack >= 0 && (reads[i] == 0 || narrow[i])) broken[v->pack] = true;
    }
    for (size_t i = 0; i < graph->variables.count; i++) {
        Variable *v = &graph->variables.data[i];
        if (v->is_pack && !broken[i]) v->reads_beside |= VARIABLE_READ_WIDE;
    }
}

typedef struct {
    Graph *graph;
    LvDType dtype;
    bool *narrow;  // by value: a weight kept narrow, moved perhaps
    int count;
} Narrowing;

static bool is_narrow(const Narrowing *n, const Value *value) { return value->id < n->count && n->narrow[value->id]; }

// What moves narrow weights alone moves them narrow. Others that want f32 have them widened: they round them themselves, or a product does
// beside that reads the same weight.
static void narrow_inputs(Narrowing *n, Node *node, Replacements *with, const Target *target) {
    int narrow = 0;
    for (int i = 0; i < node->input_count; i++) narrow += is_narrow(n, node->inputs[i]);
    if (narrow == 0) return;
    if (node->op == OP_cast && node->results[0].dtype == n->dtype) {
        replacements_set(with, node->results[0].id, node->inputs[0]);
    } else if (moves(node) && narrow == node->input_count) {
        node->results[0].dtype = n->dtype;
        n->narrow[node->results[0].id] = true;
    } else {
        rewrite_at(n->graph, node);
        for (int i = 0; i < node->input_count; i++)
            if (is_narrow(n, node->inputs[i]) && !narrows(node, i, n->dtype, target)) node->inputs[i] = build_cast(n->graph, node->inputs[i], LV_F32);
    }
}

static void narrow_graph(Graph *graph, const bool *narrow, LvDType dtype, PassContext *context) {
    Narrowing n = {graph, dtype, LV_NEW_ARRAY(context->arena, bool, graph->next_value + 1), graph->next_value};
    Replacements with = {0};
    for GRAPH_EACH(graph, node) {
        narrow_inputs(&n, node, &with, context->target);
        if (node->op != OP_state_read || !narrow[node_int(node, ATTR_variable, 0)]) continue;
        node->results[0].dtype = dtype;
        n.narrow[node->results[0].id] = true;
    }
    rewrite_end(graph);
    replacements_apply(graph, &with);
}

bool pass_alone(Graph *graph, PassContext *context) {
    LvDType dtype = lv_precision_dtype(context->precision);
    unsigned char *reads = alone_find_reads(graph, dtype, context->target, context->arena);
    for (size_t i = 0; i < graph->variables.count; i++) reads[i] |= graph->variables.data[i].reads_beside;
    const bool *narrow = find_narrow(graph, reads, context->arena);
    graph->alone = true;
    keep_whole_packs(graph, reads, narrow, context->arena);
    if (dtype == LV_F32) return true;
    narrow_graph(graph, narrow, dtype, context);
    for (size_t i = 0; i < graph->variables.count; i++) {
        Variable *v = &graph->variables.data[i];
        if (narrow[i]) v->dtype = dtype, v->pack = -1;  // the flat vector is f32
    }
    return pass_dce(graph, context);
}
