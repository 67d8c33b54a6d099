// A deep copy: the new graph stands without the old one.
#include "ops/op.h"

static Attrs copy_attrs(Graph *graph, const Node *node) {
    Attrs attrs = node->attrs;
    for (int i = 0; i < attrs.count; i++) {
        Attr *attr = &attrs.at[i];
        if (attr_kind(attr->name) == ATTR_NAME) attr->s = lv_arena_strdup(graph->arena, attr->s);
        if (attr_kind(attr->name) != ATTR_DATA) continue;
        size_t bytes = (size_t)lv_shape_elements(node->results[0].shape) * lv_dtype_size(node->results[0].dtype);
        attr->data = lv_arena_copy(graph->arena, attr->data, bytes);
    }
    return attrs;
}

Graph *graph_copy(const Graph *graph) {
    Graph *copy = graph_create(graph->name);
    Value **map = LV_NEW_ARRAY(copy->arena, Value *, graph->next_value + 1);
    for (size_t i = 0; i < graph->variables.count; i++) graph_add_variable(copy, &graph->variables.data[i]);
    for GRAPH_EACH(graph, node) {
        Value **inputs = LV_NEW_ARRAY(copy->arena, Value *, node->input_count + 1);
        for (int i = 0; i < node->input_count; i++) inputs[i] = map[node->inputs[i]->id];
        copy->span = node->span;
        copy->scope = lv_arena_strdup(copy->arena, node->scope ? node->scope : "");
        Attrs attrs = copy_attrs(copy, node);
        const char *reason = NULL;
        Value *first;
        if (op_info(node->op)->kind == OP_KIND_LEAF)
            first = graph_add_typed(copy, node->op, node->input_count, inputs, &attrs, node->results[0].dtype, node->results[0].shape);
        else if (!(first = graph_add(copy, node->op, node->input_count, inputs, &attrs, &reason)))
            lv_internal_error("graph: copy of %s: %s", op_name(node->op), reason);
        for (int i = 0; i < node->result_count; i++) {
            first[i].layout = node->results[i].layout;
            map[node->results[i].id] = &first[i];
        }
    }
    for (size_t i = 0; i < graph->inputs.count; i++)
        lv_vec_push(&copy->inputs, (GraphPort){lv_arena_strdup(copy->arena, graph->inputs.data[i].name), map[graph->inputs.data[i].value->id], graph->inputs.data[i].span});
    for (size_t i = 0; i < graph->results.count; i++) graph_add_result(copy, graph->results.data[i].name, map[graph->results.data[i].value->id]);
    return copy;
}
