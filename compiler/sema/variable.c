// Params and states: declaring, reading and updating them in program order; minimize; random streams.
#include "base/random.h"
#include "sema/builtin.h"

enum { MAX_VARIABLES = 100000 };

int declare_variable(Elaborator *e, const char *path, LvVariableKind kind, LvDType dtype, LvShape shape, LvSpan span) {
    if (lv_map_has(&e->paths, path)) {
        fail(e, span, "there is a param, state or cache '%s' already", path);
        return -1;
    }
    if (e->graph->variables.count >= MAX_VARIABLES) {
        fail(e, span, "more than %d params and states", MAX_VARIABLES);
        e->stopped = true;
        return -1;
    }
    lv_map_set(&e->paths, path, (void *)path);
    Variable variable = {.name = path, .kind = kind, .dtype = dtype, .shape = shape, .pack = -1, .span = span};
    int index = graph_add_variable(e->graph, &variable);
    while (e->variables.count <= (size_t)index) lv_vec_push(&e->variables, (VariableState){.variable = (int)e->variables.count});
    return index;
}

Value *variable_read(Elaborator *e, int variable) {
    VariableState *state = &e->variables.data[variable];
    if (!state->current) {
        e->graph->span = e->graph->variables.data[variable].span;
        state->current = build_state_read(e->graph, variable);
    }
    return state->current;
}

void variable_update(Elaborator *e, int variable, Val value, LvSpan span) {
    const Variable *v = &e->graph->variables.data[variable];
    Value like = {.dtype = v->dtype, .shape = v->shape}, *tensor = tensor_of(e, value, &like, span);
    LvShape shape;
    if (!tensor) return;
    if (tensor->dtype != v->dtype) {
        fail(e, span, "'%s' is %s, this is %s", v->name, tensor_text(e, &like), tensor_text(e, tensor));
        return;
    }
    if (!broadcast_shapes(tensor->shape, v->shape, &shape) || !lv_shape_equal(shape, v->shape)) {
        fail(e, span, "'%s' is %s, this is %s", v->name, tensor_text(e, &like), tensor_text(e, tensor));
        return;
    }
    e->graph->span = span;
    e->variables.data[variable].current = broadcast(e, tensor, v->shape);
    e->variables.data[variable].written = true;
}

void finish_writes(Elaborator *e) {
    for (size_t i = 0; i < e->variables.count; i++) {
        const VariableState *state = &e->variables.data[i];
        if (!state->written) continue;
        e->graph->span = e->graph->variables.data[i].span;
        build_state_write(e->graph, (int64_t)i, state->current);
    }
}

// ---- inputs that the runtime sets

Value *builtin_input(Elaborator *e, const char *name, LvDType dtype) {
    Value *found = graph_find_input(e->graph, name);
    return found ? found : graph_add_input(e->graph, name, dtype, (LvShape){0});
}

// A stream is the hash of where the number is drawn: an initializer's variable, or the instance and a count over its calls. So
// a layer added elsewhere changes nobody else's numbers.
static const char *stream_name(Elaborator *e) {
    if (e->stream_base) {
        int count = e->stream_count++;
        return count == 0 ? e->stream_base : lv_arena_printf(e->arena, "%s#%d", e->stream_base, count);
    }
    intptr_t count = (intptr_t)lv_map_get(&e->streams, e->path);
    lv_map_set(&e->streams, e->path, (void *)(count + 1));
    return lv_arena_printf(e->arena, "%s#%d", e->path, (int)count);
}

void random_source(Elaborator *e, Attrs *attrs, Value *source[2]) {
    attrs_int(attrs, ATTR_stream, (int64_t)(lv_hash_name(stream_name(e)) & 0xFFFFFFFFu));
    source[0] = builtin_input(e, "$seed", LV_I64);
    source[1] = e->initializing ? build_constant(e->graph, 0, LV_I32, (LvShape){0}) : builtin_input(e, "$step", LV_I32);
}

Value *random_node(Elaborator *e, Op op, LvShape shape, Value *seed) {
    Attrs attrs = {0};
    Value *source[2];
    random_source(e, &attrs, source);
    if (seed) source[0] = seed;
    return graph_add_typed(e->graph, op, 2, source, &attrs, LV_F32, shape);
}

// ---- groups of params

// group(param, "name"), in a module's body
Val rule_group(Elaborator *e, const Arguments *a) {
    if (e->in_entry || e->optimizing) return fail(e, a->call, "params are grouped in the body of a module");
    if (a->at[0].kind != VAL_VARIABLE) return fail(e, a->span[0], "expected a param, not %s", val_kind_name(a->at[0]));
    if (a->at[1].kind != VAL_STRING) return fail(e, a->span[1], "expected the group's name, not %s", val_kind_name(a->at[1]));
    const Variable *v = &e->graph->variables.data[a->at[0].i];
    if (v->kind == LV_VARIABLE_FROZEN) return val_none();  // nothing trains it
    if (v->kind != LV_VARIABLE_PARAM) return fail(e, a->span[0], "'%s' is a %s, not a param", v->name,
                                                                v->kind == LV_VARIABLE_CACHE ? "cache" : "state");
    ParamGroup *group = lv_map_get(&e->groups, a->at[1].s);
    if (!group) {
        group = LV_NEW(e->arena, ParamGroup);
        group->number = (int)e->groups.count + 1;
        lv_map_set(&e->groups, a->at[1].s, group);
    }
    VariableState *state = &e->variables.data[a->at[0].i];
    if (state->group && state->group != group->number)
        return fail(e, a->call, "'%s' is in the group '%s' already", v->name, e->groups.entries[state->group - 1].key);
    state->group = group->number;
    return val_none();
}

// in_group("name"): which elements of the flat vector belong to the group
Val rule_in_group(Elaborator *e, const Arguments *a) {
    if (a->at[0].kind != VAL_STRING) return fail(e, a->span[0], "expected a group's name, not %s", val_kind_name(a->at[0]));
    if (e->pack < 0) return fail(e, a->call, "in_group stands in an optimizer: there is no flat vector of params yet");
    const ParamGroup *group = lv_map_get(&e->groups, a->at[0].s);
    if (!group) {
        const char **names = LV_NEW_ARRAY(e->arena, const char *, e->groups.count + 1);
        LvText hint = {0};
        for (size_t i = 0; i < e->groups.count; i++) names[i] = e->groups.entries[i].key;
        suggest(e, a->at[0].s, names, e->groups.count, &hint);
        Val bad = fail(e, a->span[0], "no param was put into a group '%s'%s", a->at[0].s, lv_text_get(&hint));
        lv_text_free(&hint);
        return bad;
    }
    LvShape shape = {1, {e->parameter_elements}};
    LvDType dtype = e->parameter_elements > INT32_MAX ? LV_I64 : LV_I32;
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_axis, 0);
    mark_nodes(e, a->call);
    Value *at = graph_add_typed(e->graph, OP_iota, 0, NULL, &attrs, dtype, shape);
    Value *after = build_binary(e->graph, OP_ge, at, build_constant(e->graph, (double)group->begin, dtype, shape));
    Value *before = build_binary(e->graph, OP_lt, at, build_constant(e->graph, (double)group->end, dtype, shape));
    return val_tensor(build_binary(e->graph, OP_and, after, before));
}

// ---- minimize

static Val run_optimizer(Elaborator *e, Val optimizer, Value *p, Value *g, LvSpan span) {
    Val *update = scope_find(&optimizer.instance->scope, "update");
    if (!update || update->kind != VAL_FUNCTION)
        return fail(e, span, "module %s is no optimizer: it has no fn update(p, g)",
                    optimizer.instance->item->name.text);
    Val arguments[] = {val_tensor(p), val_tensor(g)};
    Val result = call_function(e, update->function, update->file, update->instance, 2, arguments, NULL, NULL, span,
                               lv_arena_printf(e->arena, "'update' of %s (%s)", optimizer.instance->path,
                                               optimizer.instance->item->name.text));
    if (result.kind == VAL_POISON) return result;
    if (result.kind != VAL_TENSOR || !lv_shape_equal(result.tensor->shape, p->shape) || result.tensor->dtype != LV_F32)
        return fail(e, span, "update gives the new parameters, f32[%lld], not %s", (long long)p->shape.dim[0],
                    val_text(e, result));
    return result;
}

// Whether some param reaches the loss, and not only through stop_gradient.
static bool reaches_param(Elaborator *e, const Value *loss) {
    bool *seen = LV_NEW_ARRAY(e->arena, bool, e->graph->next_value + 1), found = false;
    const Node **stack = LV_NEW_ARRAY(e->arena, const Node *, e->graph->node_count + 1);
    int depth = 0;
    stack[depth++] = loss->node;
    seen[loss->node->results[0].id] = true;
    while (depth && !found) {
        const Node *node = stack[--depth];
        if (node->op == OP_state_read)
            found = e->graph->variables.data[node_int(node, ATTR_variable, 0)].kind == LV_VARIABLE_PARAM;
        for (int i = 0; i < node->input_count && node->op != OP_stop_gradient; i++) {
            const Node *input = node->inputs[i]->node;
            if (!seen[input->results[0].id]) seen[input->results[0].id] = true, stack[depth++] = input;
        }
    }
    return found;
}

// The flat vector of gradients, in the order of the flat parameters.
static Value *gradients(Elaborator *e, Value *loss, LvSpan span) {
    int count = 0;
    Value **parts = LV_NEW_ARRAY(e->arena, Value *, e->graph->variables.count + 1);
    for (size_t group = 0; group <= e->groups.count; group++) {
        for (size_t i = 0; i < e->graph->variables.count; i++) {
            const Variable *v = &e->graph->variables.data[i];
            if (v->kind != LV_VARIABLE_PARAM || v->is_pack || e->variables.data[i].group != (int)group) continue;
            Value *param = variable_read(e, (int)i);
            e->graph->span = span;
            parts[count++] = build_node(e->graph, OP_gradient, 2, (Value *[]){loss, param}, NULL);
        }
    }
    return build_node(e->graph, OP_pack, count, parts, NULL);
}

Val minimize(Elaborator *e, const Expr *call) {
    if (call->items.count != 3) return fail(e, call->span, "minimize(loss, optimizer)");
    if (!e->training) return fail(e, call->span, "minimize stands in an entry, directly");
    Val loss = evaluate(e, call->items.data[1]);
    if (e->pack < 0) return fail(e, call->span, "there is nothing to train: the model has no params");
    if (e->variables.data[e->pack].written) return fail(e, call->span, "an entry minimizes once");
    e->optimizing = true;
    Val optimizer = evaluate_named(e, call->items.data[2], "optimizer");
    e->optimizing = false;
    if (loss.kind == VAL_POISON || optimizer.kind == VAL_POISON) return VAL_BAD;
    if (!is_tensor(loss)) return fail(e, call->items.data[1]->span, "the loss is a tensor, not %s", val_kind_name(loss));
    if (optimizer.kind != VAL_INSTANCE)
        return fail(e, call->items.data[2]->span, "an optimizer is an instance, such as optim.AdamW(), not %s",
                    val_kind_name(optimizer));
    Value *value = tensor_of(e, loss, NULL, call->span);
    if (value->shape.rank != 0 || value->dtype != LV_F32)
        return fail(e, call->items.data[1]->span, "the loss is one number, f32[], not %s", tensor_text(e, value));
    if (!reaches_param(e, value))
        return fail(e, call->items.data[1]->span, "the loss depends on no param: there is nothing to train");
    Value *g = gradients(e, value, call->span), *p = variable_read(e, e->pack);
    e->optimizing = true;
    Val updated = run_optimizer(e, optimizer, p, g, call->span);
    e->optimizing = false;
    if (updated.kind == VAL_TENSOR) {
        e->variables.data[e->pack].current = updated.tensor;
        e->variables.data[e->pack].written = true;
    }
    return val_none();
}
