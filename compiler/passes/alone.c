// requires     casts of precision: what a product reads is narrow where it is to be
// establishes  no other entry's program need share the variables: a weight that is read only as narrow is kept so, and what the entry
//              does not read gets no place (memory/variables.c)
// breaks       common subexpressions: run cse after it
//
// For entries that run by themselves over weights that nobody trains, such as those that encode pictures: half the memory in bf16,
// and of an encoder and a decoder only the one that is used.
#include "ops/op.h"
#include "passes/pass.h"

static int variable_read(const Value *value) {
    return value->node->op == OP_state_read ? (int)node_int(value->node, ATTR_variable, 0) : -1;
}

static bool narrows(const Node *node, int input, LvDType dtype, const Target *target) {
    if (node->op == OP_cast) return node->results[0].dtype == dtype;
    return casts_itself(node, input, target) && node->inputs[0]->dtype == dtype;
}

// By variable: a weight in f32, read, and never as such.
static bool *find_narrow(const Graph *graph, LvDType dtype, const PassContext *context) {
    bool *narrow = LV_NEW_ARRAY(context->arena, bool, graph->variables.count + 1);
    bool *wide = LV_NEW_ARRAY(context->arena, bool, graph->variables.count + 1);
    for (size_t i = 0; i < graph->results.count; i++) {
        int variable = variable_read(graph->results.data[i].value);
        if (variable >= 0) wide[variable] = true;
    }
    for GRAPH_EACH(graph, node) {
        if (node->op == OP_state_write) wide[node_int(node, ATTR_variable, 0)] = true;
        for (int i = 0; i < node->input_count; i++) {
            int variable = variable_read(node->inputs[i]);
            if (variable >= 0) *(narrows(node, i, dtype, context->target) ? &narrow[variable] : &wide[variable]) = true;
        }
    }
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *v = &graph->variables.data[i];
        bool weight = v->kind == LV_VARIABLE_PARAM || v->kind == LV_VARIABLE_FROZEN;
        narrow[i] = narrow[i] && !wide[i] && weight && !v->is_pack && v->dtype == LV_F32;
    }
    return narrow;
}

bool pass_alone(Graph *graph, PassContext *context) {
    LvDType dtype = lv_precision_dtype(context->precision);
    graph->alone = true;
    if (dtype == LV_F32) return true;
    const bool *narrow = find_narrow(graph, dtype, context);
    Replacements with = {0};
    for GRAPH_EACH(graph, node) {
        int variable = node->op == OP_cast ? variable_read(node->inputs[0]) : -1;
        if (variable >= 0 && narrow[variable]) replacements_set(&with, node->results[0].id, node->inputs[0]);
        if (node->op == OP_state_read && narrow[node_int(node, ATTR_variable, 0)]) node->results[0].dtype = dtype;
    }
    for (size_t i = 0; i < graph->variables.count; i++) {
        Variable *v = &graph->variables.data[i];
        if (narrow[i]) v->dtype = dtype, v->pack = -1;  // the flat vector is f32
    }
    replacements_apply(graph, &with);
    return pass_dce(graph, context);
}
