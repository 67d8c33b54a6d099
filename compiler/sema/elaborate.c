// From a checked model to the graph of one entry: instantiates the model's modules, then runs the entry's statements.
// Everything known when compiling is computed here; what is left are operations on tensors.
#include "sema/elaborate.h"

#include "base/vec.h"

// ---- an elaboration

static void begin(Elaborator *e, LvModel *model, const char *name, int64_t batch, LvDiagnostics *diagnostics) {
    *e = (Elaborator){
        .model = model, .diagnostics = diagnostics, .batch = batch, .parameter_elements = -1, .pack = -1, .path = ""};
    e->arena = lv_arena_create();
    e->graph = graph_create(name);
    e->file = model->root;
}

// Scopes of nodes are paths in our arena: the graph outlives it.
static void keep_scopes(Elaborator *e) {
    LvMap kept = {0};
    for GRAPH_EACH(e->graph, node) {
        if (!node->scope) node->scope = "";
        char *own = lv_map_get(&kept, node->scope);
        if (!own) lv_map_set(&kept, node->scope, own = lv_arena_strdup(e->graph->arena, node->scope));
        node->scope = own;
    }
    e->graph->scope = "";
    lv_map_free(&kept);
}

static Graph *end(Elaborator *e, bool keep) {
    Graph *graph = e->graph;
    if (keep) keep_scopes(e);
    else graph_destroy(graph), graph = NULL;
    lv_vec_free(&e->variables);
    lv_map_free(&e->paths);
    lv_map_free(&e->streams);
    lv_map_free(&e->groups);
    lv_arena_destroy(e->arena);
    return graph;
}

static Val instantiate_model(Elaborator *e) {
    const Item *item = e->model->item;
    int count = 0;
    Val *values = LV_NEW_ARRAY(e->arena, Val, item->params.count + 1);
    Name *names = LV_NEW_ARRAY(e->arena, Name, item->params.count + 1);
    for (int i = 0; i < item->params.count; i++) {
        if (!e->model->settings[i].value) continue;
        values[count] = *e->model->settings[i].value;
        names[count++] = item->params.data[i].name;
    }
    return instantiate(e, item, e->model->root, "", count, values, names, NULL, item->name.span);
}

enum { PACK_ALIGN = 16 };  // elements: 64 bytes, a cache line and the widest vector

// All trained parameters as slices of one flat variable: those of no group first, then group by group.
static void pack_parameters(Elaborator *e) {
    int64_t total = 0;
    int count = (int)e->graph->variables.count, pack = -1;
    for (size_t group = 0; group <= e->groups.count; group++) {
        ParamGroup *found = group ? e->groups.entries[group - 1].value : NULL;
        if (found) found->begin = total;
        for (int i = 0; i < count; i++) {
            Variable *v = &e->graph->variables.data[i];
            if (v->kind != LV_VARIABLE_PARAM || e->variables.data[i].group != (int)group) continue;
            v->pack = pack = count;
            v->pack_offset = total;
            total += (lv_shape_elements(v->shape) + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
        }
        if (found) found->end = total;
    }
    if (pack < 0) return;
    e->pack = declare_variable(e, "$params", LV_VARIABLE_PARAM, LV_F32, (LvShape){1, {total}}, LV_NO_SPAN);
    e->graph->variables.data[e->pack].is_pack = true;
    e->parameter_elements = total;
}

// ---- entries

static const Stmt *find_entry(const LvModel *model, const char *name) {
    for (int i = 0; i < model->item->body.count; i++) {
        const Stmt *stmt = model->item->body.data[i];
        if (stmt->kind == STMT_ENTRY && !strcmp(stmt->name.text, name)) return stmt;
    }
    return NULL;
}

static bool block_minimizes(const StmtList *block) {
    for (int i = 0; i < block->count; i++) {
        const Stmt *stmt = block->data[i];
        if (block_minimizes(&stmt->body) || block_minimizes(&stmt->otherwise)) return true;
        if (stmt->kind != STMT_EXPR) continue;
        for (int k = 0; k < stmt->values.count; k++) {
            const Expr *call = stmt->values.data[k];
            if (call->kind != EXPR_CALL || call->items.data[0]->kind != EXPR_NAME) continue;
            if (!strcmp(call->items.data[0]->name.text, "minimize")) return true;
        }
    }
    return false;
}

bool entry_trains(const Stmt *entry) { return block_minimizes(&entry->function->body); }

// The shape of an entry's input; the first name that nothing binds is the batch: `batch`, or -1 left open.
bool entry_input(Elaborator *e, const Param *param, int64_t batch, LvDType *dtype, LvShape *shape) {
    *dtype = LV_F32;
    if (param->value) {
        fail(e, param->value->span, "an entry's input has no default");
        return false;
    }
    if (!param->type || !param->type->has_dims || (param->type->name.text && !dtype_find(param->type->name.text, dtype))) {
        fail(e, param->span, "an entry's input is a tensor, such as %s: f32[B, 3]", param->name.text);
        return false;
    }
    const Expr *first = param->type->dims.count ? param->type->dims.data[0] : NULL;
    bool open = first && first->kind == EXPR_NAME && name_lookup(e, first->name.text).kind != VAL_INT;
    if (open) scope_set(e, e->scope, first->name.text, val_int(batch < 0 ? 1 : batch));
    bool is_batch = first && first->kind == EXPR_NAME && scope_find(e->scope, first->name.text);
    if (!dims_shape(e, param->type, shape)) return false;
    if (batch < 0 && is_batch) shape->dim[0] = -1;
    return true;
}

static void add_results(Elaborator *e, Val result, LvSpan span) {
    if (result.kind == VAL_RECORD) {
        for (int i = 0; i < result.list->count; i++) {
            Value *value = tensor_of(e, result.list->at[i], NULL, result.list->names[i].span);
            for (int k = 0; k < i; k++)
                if (!strcmp(result.list->names[k].text, result.list->names[i].text))
                    fail(e, result.list->names[i].span, "two results are called '%s'", result.list->names[i].text);
            if (value) graph_add_result(e->graph, result.list->names[i].text, value);
        }
    } else if (is_tensor(result) || val_is_number(result)) {
        Value *value = tensor_of(e, result, NULL, span);
        if (value) graph_add_result(e->graph, "result", value);
    } else if (result.kind != VAL_POISON && result.kind != VAL_NONE) {
        fail(e, span, "an entry returns {name: tensor, …} or a tensor, not %s", val_kind_name(result));
    }
}

static void run_entry(Elaborator *e, const Stmt *entry, Instance *instance) {
    const Function *function = entry->function;
    int count = function->params.count;
    Val *values = LV_NEW_ARRAY(e->arena, Val, count + 1);
    Scope signature = {0};
    e->instance = instance;
    e->scope = &signature;
    for (int i = 0; i < count; i++) {
        LvDType dtype;
        LvShape shape;
        values[i] = VAL_BAD;
        if (!entry_input(e, &function->params.data[i], e->batch, &dtype, &shape)) continue;
        e->graph->span = function->params.data[i].span;
        values[i] = val_tensor(graph_add_input(e->graph, function->params.data[i].name.text, dtype, shape));
    }
    e->in_entry = true;
    Val result = call_function(e, function, e->model->root, instance, count, values, NULL, NULL, function->span,
                               lv_arena_printf(e->arena, "entry '%s'", entry->name.text));
    if (result.kind == VAL_POISON && e->diagnostics->errors == 0)
        lv_internal_error("sema: entry '%s' failed without a message", entry->name.text);
    add_results(e, result, function->span);
    e->in_entry = false;
}

static bool source_error(LvError *error, const LvDiagnostics *diagnostics) {
    size_t n = diagnostics->errors;
    return lv_error_set(error, LV_ERROR_SOURCE, "the model has %zu error%s", n, n == 1 ? "" : "s");
}

Graph *lv_model_elaborate(LvModel *model, const char *entry, int64_t batch, LvDiagnostics *diagnostics, LvError *error) {
    bool init = !strcmp(entry, "init");
    const Stmt *stmt = init ? NULL : find_entry(model, entry);
    size_t before = diagnostics->errors;
    Elaborator e;
    if (!init && !stmt) {
        lv_model_find_entry(model, entry, error);
        return NULL;
    }
    if (batch < 1) {
        lv_error_set(error, LV_ERROR_USAGE, "a batch of %lld", (long long)batch);
        return NULL;
    }
    begin(&e, model, entry, batch, diagnostics);
    e.initializing = init;
    e.training = stmt && entry_trains(stmt);
    Val instance = instantiate_model(&e);
    if (instance.kind == VAL_INSTANCE && diagnostics->errors == before) {
        pack_parameters(&e);
        if (stmt) run_entry(&e, stmt, instance.instance);
        if (diagnostics->errors == before) finish_writes(&e);
    }
    bool fine = diagnostics->errors == before;
    Graph *graph = end(&e, fine);
    if (!fine) source_error(error, diagnostics);
    return graph;
}

// ---- what the driver asks when it loads a model

bool model_evaluate(LvModel *model, LvDiagnostics *diagnostics, ModelRule *rule, void *user) {
    size_t before = diagnostics->errors;
    Elaborator e;
    begin(&e, model, "check", 1, diagnostics);
    rule(&e, user);
    end(&e, false);
    return diagnostics->errors == before;
}

Val model_instance(Elaborator *e) { return instantiate_model(e); }
