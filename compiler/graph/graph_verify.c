// The checker between passes: everything that graph.h promises, recomputed.
#include "ops/op.h"

static const char *wrong(LvArena *arena, const Node *node, const char *what) {
    return lv_arena_printf(arena, "%s%s%d: %s", op_name(node->op), node->result_count ? " %" : " #",
                           node->result_count ? node->results[0].id : 0, what);
}

static const char *check_layout(const Value *value, LvArena *arena) {
    int rank = value->shape.rank;
    unsigned seen = 0;
    if (lv_layout_is_row_major(value->layout, rank)) return NULL;
    for (int i = 0; i < rank; i++) {
        int dim = value->layout.perm[i];
        if (dim < 0 || dim >= rank || seen >> dim & 1) return wrong(arena, value->node, "the layout is no permutation");
        seen |= 1u << dim;
    }
    if (value->layout.block > 1 && (value->layout.block_dim < 0 || value->layout.block_dim >= rank ||
                                    value->shape.dim[value->layout.block_dim] % value->layout.block))
        return wrong(arena, value->node, "the blocked extent is not a multiple of the block");
    if (value->layout.pitch) {
        int64_t inside = 1;
        for (int i = value->layout.pitch_place + 1; i < rank; i++) inside *= value->shape.dim[value->layout.perm[i]];
        if (value->layout.block > 1 || value->layout.pitch_place >= rank || inside > value->layout.pitch)
            return wrong(arena, value->node, "the pitch is none of this layout");
    }
    return NULL;
}

// The shape rule run again on a copy; the results' types must be what stands there.
static const char *check_types(Graph *graph, const Node *node, LvArena *arena) {
    const OpInfo *info = op_info(node->op);
    if (info->kind == OP_KIND_LEAF) return NULL;
    Node copy = *node;
    copy.results = LV_NEW_ARRAY(arena, Value, node->result_count + 1);
    for (int i = 0; i < node->result_count; i++) copy.results[i] = node->results[i];
    const char *refused = info->shape(graph, &copy);
    if (refused) return wrong(arena, node, refused);
    for (int i = 0; i < node->result_count; i++)
        if (copy.results[i].dtype != node->results[i].dtype || !lv_shape_equal(copy.results[i].shape, node->results[i].shape))
            return wrong(arena, node, "the shape rule gives another result type");
    return NULL;
}

static const char *check_leaf(const Graph *graph, const Node *node, LvArena *arena) {
    const Value *value = &node->results[0];
    if (node->op == OP_state_read) {
        int64_t variable = node_int(node, ATTR_variable, -1);
        if (variable < 0 || (size_t)variable >= graph->variables.count) return wrong(arena, node, "no such variable");
        const Variable *v = &graph->variables.data[variable];
        if (v->dtype != value->dtype || !lv_shape_equal(v->shape, value->shape)) return wrong(arena, node, "the variable has another type");
    }
    if (node->op == OP_literal && (!node_attr(node, ATTR_data) || !node_attr(node, ATTR_data)->data)) return wrong(arena, node, "a literal without data");
    if (node->op == OP_input && !node_attr(node, ATTR_name)) return wrong(arena, node, "an input without a name");
    if (node->op == OP_iota) {
        int64_t axis = node_int(node, ATTR_axis, 0);
        if (axis < 0 || axis >= (value->shape.rank ? value->shape.rank : 1)) return wrong(arena, node, "no such axis");
    }
    if (node->op == OP_random_uniform || node->op == OP_random_normal) {
        if (value->dtype != LV_F32) return wrong(arena, node, "random numbers are f32");
        const Value *seed = node->inputs[0], *step = node->inputs[1];
        bool rows = seed->shape.rank == 1 && value->shape.rank > 0 && seed->shape.dim[0] == value->shape.dim[0];
        if (seed->dtype != LV_I64 || (seed->shape.rank && !rows) || step->dtype != LV_I32 || step->shape.rank)
            return wrong(arena, node, "the inputs are seed i64[] or i64[rows] and step i32[]");
    }
    return NULL;
}

static const char *check_node(const Graph *graph, const Node *node, Value **defined, LvArena *arena) {
    const OpInfo *info = op_info(node->op);
    const char *bad;
    if (info->inputs >= 0 && info->inputs != node->input_count) return wrong(arena, node, "wrong number of inputs");
    for (int i = 0; i < node->input_count; i++) {
        const Value *input = node->inputs[i];
        if (input->id < 0 || input->id >= graph->next_value || defined[input->id] != input)
            return wrong(arena, node, lv_arena_printf(arena, "input %d (%%%d) is not computed before it", i, input->id));
    }
    for (int i = 0; i < node->attrs.count; i++)
        if (!op_takes_attr(node->op, node->attrs.at[i].name))
            return wrong(arena, node, lv_arena_printf(arena, "has no attribute %s", attr_name_text(node->attrs.at[i].name)));
    if ((bad = check_types((Graph *)graph, node, arena)) || (bad = check_leaf(graph, node, arena))) return bad;
    for (int i = 0; i < node->result_count; i++) {
        Value *value = &node->results[i];
        if (value->node != node || value->index != i) return wrong(arena, node, "a result does not point back");
        if (value->id < 0 || value->id >= graph->next_value || defined[value->id]) return wrong(arena, node, "a value's number is not its own");
        if ((bad = check_layout(value, arena))) return bad;
        defined[value->id] = value;
    }
    return NULL;
}

static const char *check_variables(const Graph *graph, LvArena *arena) {
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *v = &graph->variables.data[i];
        if (v->pack < 0) continue;
        if ((size_t)v->pack >= graph->variables.count || (!graph->variables.data[v->pack].is_pack && !v->is_part))
            return lv_arena_printf(arena, "variable '%s' lies in no pack", v->name);
        const Variable *pack = &graph->variables.data[v->pack];
        int64_t end;
        if (v->pack_offset < 0 || __builtin_add_overflow(v->pack_offset, lv_shape_elements(v->shape), &end) || end > lv_shape_elements(pack->shape))
            return lv_arena_printf(arena, "variable '%s' lies outside its pack", v->name);
    }
    return NULL;
}

const char *graph_verify(const Graph *graph, LvArena *arena) {
    Value **defined = LV_NEW_ARRAY(arena, Value *, graph->next_value + 1);
    bool *written = LV_NEW_ARRAY(arena, bool, graph->variables.count + 1);
    const char *bad = check_variables(graph, arena);
    const Node *before = NULL;
    int count = 0;
    if (bad) return bad;
    for GRAPH_EACH(graph, node) {
        if (node->prev != before) return wrong(arena, node, "the list of nodes is broken");
        before = node;
        count++;
        if ((bad = check_node(graph, node, defined, arena))) return bad;
        if (node->op != OP_state_write) continue;
        int64_t variable = node_int(node, ATTR_variable, -1);
        if (written[variable]) return wrong(arena, node, lv_arena_printf(arena, "'%s' is written twice", graph->variables.data[variable].name));
        written[variable] = true;
    }
    if (before != graph->last || count != graph->node_count) return "the list of nodes is broken at its end";
    for (size_t i = 0; i < graph->results.count; i++) {
        const Value *value = graph->results.data[i].value;
        if (value->id >= graph->next_value || defined[value->id] != value)
            return lv_arena_printf(arena, "result '%s' is not computed", graph->results.data[i].name);
    }
    return NULL;
}
