// Deep copies: the new graph stands without the old one.
#include "ops/op.h"

static Attrs copy_attrs(Graph *graph, const Node *node, const char *prefix) {
    Attrs attrs = node->attrs;
    for (int i = 0; i < attrs.count; i++) {
        Attr *attr = &attrs.at[i];
        if (attr_kind(attr->name) == ATTR_NAME) attr->s = lv_arena_printf(graph->arena, "%s%s", node->op == OP_input ? prefix : "", attr->s);
        if (attr_kind(attr->name) != ATTR_DATA) continue;
        size_t bytes = (size_t)lv_shape_elements(node->results[0].shape) * lv_dtype_size(node->results[0].dtype);
        attr->data = lv_arena_copy(graph->arena, attr->data, bytes);
    }
    return attrs;
}

void graph_append(Graph *to, const Graph *graph, const char *prefix) {
    Value **map = LV_NEW_ARRAY(to->arena, Value *, graph->next_value + 1);
    if (*prefix && graph->variables.count) lv_internal_error("graph: variables have one graph");
    for (size_t i = 0; i < graph->variables.count; i++) graph_add_variable(to, &graph->variables.data[i]);
    for GRAPH_EACH(graph, node) {
        Value **inputs = LV_NEW_ARRAY(to->arena, Value *, node->input_count + 1);
        for (int i = 0; i < node->input_count; i++) inputs[i] = map[node->inputs[i]->id];
        to->span = node->span;
        to->scope = lv_arena_strdup(to->arena, node->scope ? node->scope : "");
        Attrs attrs = copy_attrs(to, node, prefix);
        const char *reason = NULL;
        Value *first;
        if (op_info(node->op)->kind == OP_KIND_LEAF)
            first = graph_add_typed(to, node->op, node->input_count, inputs, &attrs, node->results[0].dtype, node->results[0].shape);
        else if (!(first = graph_add(to, node->op, node->input_count, inputs, &attrs, &reason)))
            lv_internal_error("graph: copy of %s: %s", op_name(node->op), reason);
        for (int i = 0; i < node->result_count; i++) {
            first[i].layout = node->results[i].layout;
            map[node->results[i].id] = &first[i];
        }
    }
    for (size_t i = 0; i < graph->inputs.count; i++) {
        const GraphPort *port = &graph->inputs.data[i];
        lv_vec_push(&to->inputs, (GraphPort){lv_arena_printf(to->arena, "%s%s", prefix, port->name), map[port->value->id], port->span});
    }
    for (size_t i = 0; i < graph->results.count; i++) {
        const GraphPort *port = &graph->results.data[i];
        graph_add_result(to, lv_arena_printf(to->arena, "%s%s", prefix, port->name), map[port->value->id]);
    }
}

Graph *graph_copy(const Graph *graph) {
    Graph *copy = graph_create(graph->name);
    graph_append(copy, graph, "");
    return copy;
}
