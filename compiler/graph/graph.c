// The graph's structure: adding, removing and replacing nodes, attributes, variables, inputs, results.
// What an operation means is ops/; the text form is graph_text.c, the checker graph_verify.c.
#include "graph/graph.h"

#include <stdio.h>

#include "ops/op.h"

static const struct {
    const char *text;
    AttrKind kind;
} attributes[ATTR_COUNT] = {
#define ATTRIBUTE(name, kind, doc) {#name, ATTR_##kind},
#include "ops/attributes.def"
};

AttrKind attr_kind(AttrName name) { return attributes[name].kind; }
const char *attr_name_text(AttrName name) { return attributes[name].text; }

bool attr_name_parse(const char *text, AttrName *name) {
    for (int i = 0; i < ATTR_COUNT; i++) {
        if (strcmp(text, attributes[i].text)) continue;
        *name = (AttrName)i;
        return true;
    }
    return false;
}

static Attr *attrs_slot(Attrs *attrs, AttrName name, AttrKind kind) {
    if (attributes[name].kind != kind) lv_internal_error("graph: attribute %s set as another kind", attributes[name].text);
    for (int i = 0; i < attrs->count; i++)
        if (attrs->at[i].name == name) return &attrs->at[i];
    if (attrs->count == MAX_ATTRS) lv_internal_error("graph: more than %d attributes", MAX_ATTRS);
    Attr *slot = &attrs->at[attrs->count++];
    memset(slot, 0, sizeof *slot);
    slot->name = name;
    return slot;
}

void attrs_int(Attrs *attrs, AttrName name, int64_t value) { attrs_slot(attrs, name, ATTR_INT)->i = value; }
void attrs_float(Attrs *attrs, AttrName name, double value) { attrs_slot(attrs, name, ATTR_FLOAT)->f = value; }
void attrs_bool(Attrs *attrs, AttrName name, bool value) { attrs_slot(attrs, name, ATTR_BOOL)->b = value; }
void attrs_name(Attrs *attrs, AttrName name, const char *value) { attrs_slot(attrs, name, ATTR_NAME)->s = value; }
void attrs_data(Attrs *attrs, AttrName name, const void *data) { attrs_slot(attrs, name, ATTR_DATA)->data = data; }

void attrs_list(Attrs *attrs, AttrName name, int count, const int64_t *values) {
    Attr *slot = attrs_slot(attrs, name, ATTR_LIST);
    if (count < 0 || count > 2 * LV_MAX_RANK) lv_internal_error("graph: attribute %s of %d numbers", attributes[name].text, count);
    memset(&slot->list, 0, sizeof slot->list);
    slot->list.count = count;
    if (count) memcpy(slot->list.at, values, (size_t)count * sizeof *values);
}

const Attr *node_attr(const Node *node, AttrName name) {
    for (int i = 0; i < node->attrs.count; i++)
        if (node->attrs.at[i].name == name) return &node->attrs.at[i];
    return NULL;
}

int64_t node_int(const Node *node, AttrName name, int64_t otherwise) {
    const Attr *attr = node_attr(node, name);
    return attr ? attr->i : otherwise;
}

double node_float(const Node *node, AttrName name, double otherwise) {
    const Attr *attr = node_attr(node, name);
    return attr ? attr->f : otherwise;
}

bool node_bool(const Node *node, AttrName name, bool otherwise) {
    const Attr *attr = node_attr(node, name);
    return attr ? attr->b : otherwise;
}

Graph *graph_create(const char *name) {
    LvArena *arena = lv_arena_create();
    Graph *graph = LV_NEW(arena, Graph);
    graph->arena = arena;
    graph->name = lv_arena_strdup(arena, name);
    graph->span = LV_NO_SPAN;
    graph->scope = "";
    return graph;
}

void graph_destroy(Graph *graph) {
    if (!graph) return;
    lv_vec_free(&graph->variables);
    lv_vec_free(&graph->inputs);
    lv_vec_free(&graph->results);
    lv_arena_destroy(graph->arena);
}

// ---- nodes

static Node *node_create(Graph *graph, Op op, int input_count, Value *const *inputs, const Attrs *attrs) {
    const OpInfo *info = op_info(op);
    Node *node = LV_NEW(graph->arena, Node);
    node->op = op;
    node->input_count = input_count;
    node->inputs = LV_NEW_ARRAY(graph->arena, Value *, input_count ? input_count : 1);
    for (int i = 0; i < input_count; i++) {
        if (!inputs[i]) lv_internal_error("graph: input %d of %s is missing", i, info->name);
        node->inputs[i] = inputs[i];
    }
    node->result_count = info->results;
    node->results = LV_NEW_ARRAY(graph->arena, Value, info->results ? info->results : 1);
    for (int i = 0; i < info->results; i++) {
        node->results[i].node = node;
        node->results[i].index = i;
        node->results[i].layout = lv_layout_row_major();
    }
    if (attrs) node->attrs = *attrs;
    node->span = graph->span;
    node->scope = graph->scope;
    return node;
}

static void node_link(Graph *graph, Node *node) {
    for (int i = 0; i < node->result_count; i++) node->results[i].id = graph->next_value++;
    Node *next = graph->insert_before, *prev = next ? next->prev : graph->last;
    node->next = next;
    node->prev = prev;
    *(prev ? &prev->next : &graph->first) = node;
    *(next ? &next->prev : &graph->last) = node;
    graph->node_count++;
}

Value *graph_add(Graph *graph, Op op, int input_count, Value *const *inputs, const Attrs *attrs, const char **reason) {
    const OpInfo *info = op_info(op);
    const char *refused = NULL;
    Node *node = node_create(graph, op, input_count, inputs, attrs);
    if (info->inputs >= 0 && info->inputs != input_count)
        refused = lv_arena_printf(graph->arena, "%s takes %d inputs, got %d", info->name, info->inputs, input_count);
    else refused = info->shape(graph, node);
    for (int i = 0; !refused && i < node->result_count; i++) {
        size_t bytes;
        if (!lv_shape_bytes(node->results[i].shape, node->results[i].dtype, &bytes))
            refused = lv_arena_printf(graph->arena, "the result of %s is too large", info->name);
    }
    if (refused) {
        if (reason) *reason = refused;
        return NULL;
    }
    node_link(graph, node);
    return node->results;
}

Value *graph_add_typed(Graph *graph, Op op, int input_count, Value *const *inputs, const Attrs *attrs, LvDType dtype,
                       LvShape shape) {
    Node *node = node_create(graph, op, input_count, inputs, attrs);
    if (node->result_count != 1) lv_internal_error("graph: %s has %d results", op_name(op), node->result_count);
    node->results[0].dtype = dtype;
    node->results[0].shape = shape;
    node_link(graph, node);
    return node->results;
}

static void unlink_node(Graph *graph, Node *node) {
    *(node->prev ? &node->prev->next : &graph->first) = node->next;
    *(node->next ? &node->next->prev : &graph->last) = node->prev;
}

void graph_move(Graph *graph, Node *node, Node *before) {
    if (node == before || node->next == before) return;
    unlink_node(graph, node);
    node->prev = before->prev, node->next = before;
    *(before->prev ? &before->prev->next : &graph->first) = node;
    before->prev = node;
}

void graph_remove(Graph *graph, Node *node) {
    unlink_node(graph, node);
    if (graph->insert_before == node) graph->insert_before = node->next;
    graph->node_count--;
}

void graph_replace(Graph *graph, Value *old, Value *with) {
    for GRAPH_EACH(graph, node)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] == old) node->inputs[i] = with;
    for (size_t i = 0; i < graph->results.count; i++)
        if (graph->results.data[i].value == old) graph->results.data[i].value = with;
}

static Value *replacement(Value **with, int count, Value *value) {
    while (value->id < count && with[value->id]) value = with[value->id];
    return value;
}

void graph_replace_all(Graph *graph, Value **with) {
    int count = graph->next_value;
    for GRAPH_EACH(graph, node)
        for (int i = 0; i < node->input_count; i++) node->inputs[i] = replacement(with, count, node->inputs[i]);
    for (size_t i = 0; i < graph->results.count; i++)
        graph->results.data[i].value = replacement(with, count, graph->results.data[i].value);
}

bool graph_uses_caches(const Graph *graph) {
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_state_read && node->op != OP_state_write) continue;
        if (graph->variables.data[node_int(node, ATTR_variable, 0)].kind == LV_VARIABLE_CACHE) return true;
    }
    return false;
}

int *graph_count_uses(const Graph *graph, LvArena *arena) {
    int *uses = LV_NEW_ARRAY(arena, int, graph->next_value + 1);
    for GRAPH_EACH(graph, node)
        for (int i = 0; i < node->input_count; i++) uses[node->inputs[i]->id]++;
    for (size_t i = 0; i < graph->results.count; i++) uses[graph->results.data[i].value->id]++;
    return uses;
}

// ---- variables, inputs, results

int graph_add_variable(Graph *graph, const Variable *variable) {
    Variable copy = *variable;
    copy.name = lv_arena_strdup(graph->arena, variable->name);
    lv_vec_push(&graph->variables, copy);
    return (int)graph->variables.count - 1;
}

Value *graph_add_input(Graph *graph, const char *name, LvDType dtype, LvShape shape) {
    Attrs attrs = {0};
    const char *own = lv_arena_strdup(graph->arena, name);
    attrs_name(&attrs, ATTR_name, own);
    Value *value = graph_add_typed(graph, OP_input, 0, NULL, &attrs, dtype, shape);
    lv_vec_push(&graph->inputs, (GraphPort){own, value, graph->span});
    return value;
}

void graph_add_result(Graph *graph, const char *name, Value *value) {
    lv_vec_push(&graph->results, (GraphPort){lv_arena_strdup(graph->arena, name), value, graph->span});
}

Value *graph_find_input(const Graph *graph, const char *name) {
    for (size_t i = 0; i < graph->inputs.count; i++)
        if (!strcmp(graph->inputs.data[i].name, name)) return graph->inputs.data[i].value;
    return NULL;
}

int64_t value_bytes(const Value *value) {
    size_t bytes;
    if (!lv_shape_bytes(value->shape, value->dtype, &bytes) || bytes > INT64_MAX / 2) {
        lv_internal_error("graph: value %%%d is too large", value->id);
    }
    return (int64_t)bytes;
}
