// Small questions about nodes and values that several passes ask.
#include <string.h>

#include "ops/op.h"
#include "passes/pass.h"

bool value_is_constant(const Value *value) { return value->node->op == OP_constant; }

double value_number(const Value *value) { return node_float(value->node, ATTR_value, 0); }

bool value_is_number(const Value *value, double number) { return value_is_constant(value) && value_number(value) == number; }

bool value_is_float(const Value *value) { return lv_dtype_is_float(value->dtype); }

bool node_is_elementwise(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    return kind == OP_KIND_ELEMENTWISE || kind == OP_KIND_ELEMENT_COPY;
}

bool node_is_leaf(const Node *node) { return node->input_count == 0; }

bool graph_has_op(const Graph *graph, Op op) {
    for GRAPH_EACH(graph, node) {
        if (node->op == op) return true;
    }
    return false;
}

bool value_alike(const Value *a, const Value *b) { return a->dtype == b->dtype && lv_shape_equal(a->shape, b->shape); }

Node *node_add_like(Graph *graph, const Node *node, Value *const *inputs) {
    const char *reason = NULL;
    Value *value = graph_add(graph, node->op, node->input_count, inputs, &node->attrs, &reason);
    if (!value) lv_internal_error("passes: cannot repeat %s over other inputs: %s", op_name(node->op), reason);
    return value->node;
}

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static uint64_t attr_hash(uint64_t hash, const Attr *attr, const Node *node) {
    hash = mix(hash, attr->name);
    switch (attr_kind(attr->name)) {
        case ATTR_INT: return mix(hash, (uint64_t)attr->i);
        case ATTR_BOOL: return mix(hash, attr->b);
        case ATTR_FLOAT: {
            uint64_t bits;
            memcpy(&bits, &attr->f, sizeof bits);
            return mix(hash, bits);
        }
        case ATTR_LIST:
            for (int i = 0; i < attr->list.count; i++) hash = mix(hash, (uint64_t)attr->list.at[i]);
            return hash;
        case ATTR_NAME:
            for (const char *c = attr->s; *c; c++) hash = mix(hash, (unsigned char)*c);
            return hash;
        case ATTR_DATA: {
            size_t bytes = 0;
            lv_shape_bytes(node->results[0].shape, node->results[0].dtype, &bytes);
            const unsigned char *data = attr->data;
            for (size_t i = 0; i < bytes; i++) hash = mix(hash, data[i]);
            return hash;
        }
    }
    return hash;
}

uint64_t node_hash(const Node *node) {
    uint64_t hash = mix(0, node->op);
    for (int i = 0; i < node->input_count; i++) hash = mix(hash, (uint64_t)node->inputs[i]->id);
    for (int i = 0; i < node->attrs.count; i++) hash = attr_hash(hash, &node->attrs.at[i], node);
    for (int i = 0; i < node->result_count; i++) {
        hash = mix(hash, node->results[i].dtype);
        for (int d = 0; d < node->results[i].shape.rank; d++) hash = mix(hash, (uint64_t)node->results[i].shape.dim[d]);
    }
    return hash;
}

static bool attr_same(const Attr *a, const Attr *b, const Node *node) {
    if (a->name != b->name) return false;
    switch (attr_kind(a->name)) {
        case ATTR_INT: return a->i == b->i;
        case ATTR_BOOL: return a->b == b->b;
        case ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;  // 0 and -0 differ, NaN equals itself
        case ATTR_LIST:
            return a->list.count == b->list.count &&
                   memcmp(a->list.at, b->list.at, (size_t)a->list.count * sizeof a->list.at[0]) == 0;
        case ATTR_NAME: return strcmp(a->s, b->s) == 0;
        case ATTR_DATA: {
            size_t bytes = 0;
            lv_shape_bytes(node->results[0].shape, node->results[0].dtype, &bytes);
            return a->data == b->data || memcmp(a->data, b->data, bytes) == 0;
        }
    }
    return false;
}

static bool same_but_inputs(const Node *a, const Node *b) {
    if (a->op != b->op || a->input_count != b->input_count || a->result_count != b->result_count ||
        a->attrs.count != b->attrs.count) {
        return false;
    }
    for (int i = 0; i < a->result_count; i++) {
        const Value *x = &a->results[i], *y = &b->results[i];
        if (!value_alike(x, y) || !lv_layout_equal(x->layout, y->layout, x->shape.rank)) return false;
    }
    for (int i = 0; i < a->attrs.count; i++) {
        if (!attr_same(&a->attrs.at[i], &b->attrs.at[i], a)) return false;
    }
    return true;
}

bool node_same(const Node *a, const Node *b) {
    for (int i = 0; i < a->input_count && i < b->input_count; i++) {
        if (a->inputs[i] != b->inputs[i]) return false;
    }
    return same_but_inputs(a, b);
}

bool value_same(const Value *a, const Value *b, int *budget) {
    if (a == b) return true;
    if (a->index != b->index || --*budget < 0 || !same_but_inputs(a->node, b->node)) return false;
    for (int i = 0; i < a->node->input_count; i++) {
        if (!value_same(a->node->inputs[i], b->node->inputs[i], budget)) return false;
    }
    return true;
}
