// Running statements: bindings, compile-time if and for, params and states, updates, return.
#include "sema/value.h"

static const char *join(Elaborator *e, const char *path, const char *name) {
    return path && path[0] ? lv_arena_printf(e->arena, "%s.%s", path, name) : name;
}

// In functions a name holds the value a state has now, not what it will have.
static Val snapshot(Elaborator *e, Val v, bool module_body, LvSpan span) {
    return v.kind == VAL_VARIABLE && !module_body ? val_tensor(tensor_of(e, v, NULL, span)) : v;
}

static void bind(Elaborator *e, const Expr *target, Val value) {
    if (target->kind != EXPR_NAME) {
        fail(e, target->span,
             target->kind == EXPR_MEMBER || target->kind == EXPR_INDEX
                 ? "only names are bound by '='; a state is changed by '<-', and tensors and instances are not changed "
                   "in place"
                 : "'=' needs a name on its left");
        return;
    }
    scope_set(e, e->scope, target->name.text, value);
}

static void run_assign(Elaborator *e, const Stmt *stmt, bool module_body) {
    int targets = stmt->targets.count, values = stmt->values.count;
    if (values == targets) {
        Val *all = LV_NEW_ARRAY(e->arena, Val, values);
        for (int i = 0; i < values; i++) {
            const Expr *target = stmt->targets.data[i];
            const char *path = module_body && target->kind == EXPR_NAME ? join(e, e->instance->path, target->name.text) : NULL;
            all[i] = path ? evaluate_named(e, stmt->values.data[i], path) : evaluate(e, stmt->values.data[i]);
            all[i] = snapshot(e, all[i], module_body, stmt->values.data[i]->span);
        }
        for (int i = 0; i < values; i++) bind(e, stmt->targets.data[i], all[i]);
        return;
    }
    Val all = values == 1 ? evaluate(e, stmt->values.data[0]) : VAL_BAD;
    bool fits = (all.kind == VAL_TUPLE || all.kind == VAL_LIST) && all.list->count == targets;
    if (!fits && (all.kind != VAL_POISON || values != 1)) {
        if (all.kind == VAL_TUPLE || all.kind == VAL_LIST)
            fail(e, stmt->span, "%d names for %d values", targets, all.list->count);
        else fail(e, stmt->span, "%d names for %d value%s", targets, values, values == 1 ? "" : "s");
    }
    for (int i = 0; i < targets; i++) bind(e, stmt->targets.data[i], fits ? all.list->at[i] : VAL_BAD);
}

static void run_append(Elaborator *e, const Stmt *stmt, bool module_body) {
    const Expr *target = stmt->targets.data[0];
    if (stmt->targets.count != 1 || stmt->values.count != 1 || target->kind != EXPR_NAME) {
        fail(e, stmt->span, "'+=' has one name on its left and one value on its right");
        return;
    }
    Val old = evaluate(e, target);
    const Expr *items = stmt->values.data[0];
    Val more;
    if (module_body && old.kind == VAL_LIST && items->kind == EXPR_LIST) {
        more = val_list(e, items->items.count);  // paths go on counting
        const char *path = join(e, e->instance->path, target->name.text);
        for (int i = 0; i < items->items.count; i++)
            more.list->at[i] =
                evaluate_named(e, items->items.data[i], lv_arena_printf(e->arena, "%s.%d", path, old.list->count + i));
        more = list_done(e, more, items->span);
    } else more = evaluate(e, items);
    scope_set(e, e->scope, target->name.text, operate(e, OPERATOR_ADD, old, more, stmt->span));
}

static void run_update(Elaborator *e, const Stmt *stmt) {
    if (stmt->targets.count != 1 || stmt->values.count != 1) {
        fail(e, stmt->span, "'<-' has one state on its left and one value on its right");
        return;
    }
    Val target = evaluate(e, stmt->targets.data[0]), value = evaluate(e, stmt->values.data[0]);
    if (target.kind == VAL_POISON || value.kind == VAL_POISON) return;
    if (target.kind != VAL_VARIABLE) {
        fail(e, stmt->targets.data[0]->span, "'<-' changes a state; this is %s", val_kind_name(target));
        return;
    }
    const Variable *variable = &e->graph->variables.data[target.i];
    if (variable->kind == LV_VARIABLE_PARAM || variable->kind == LV_VARIABLE_FROZEN)
        fail(e, stmt->targets.data[0]->span, "'%s' is a param; only minimize changes it", variable->name);
    else if (!e->in_entry) fail(e, stmt->span, "a state is changed in functions and entries, not in a module's body");
    else variable_update(e, (int)target.i, value, stmt->span);
}

static LvVariableKind variable_kind(const Elaborator *e, const Stmt *stmt) {
    if (stmt->kind == STMT_CACHE) return LV_VARIABLE_CACHE;
    if (stmt->kind == STMT_STATE) return e->optimizing ? LV_VARIABLE_OPTIMIZER : LV_VARIABLE_STATE;
    return e->frozen ? LV_VARIABLE_FROZEN : LV_VARIABLE_PARAM;
}

// Only a cache may be of another size in every batch: nothing keeps it.
static bool variable_shape(Elaborator *e, const Stmt *stmt, LvShape *shape) {
    e->in_cache = stmt->kind == STMT_CACHE;
    bool fine = dims_shape(e, stmt->type, shape);
    e->in_cache = false;
    return fine;
}

// param, state and cache: a variable of the model; its initial value only matters to the entry `init`
static void run_variable(Elaborator *e, const Stmt *stmt) {
    const char *path = join(e, e->instance->path, stmt->name.text);
    LvShape shape;
    LvDType dtype = LV_F32;
    scope_set(e, e->scope, stmt->name.text, VAL_BAD);
    if (stmt->type->name.text && !dtype_find(stmt->type->name.text, &dtype)) {
        fail(e, stmt->type->span, "'%s' is no element type", stmt->type->name.text);
        return;
    }
    if (!stmt->type->has_dims) {
        fail(e, stmt->type->span, "a shape is needed here, such as f32[%s]", stmt->name.text);
        return;
    }
    if (!variable_shape(e, stmt, &shape)) return;
    LvVariableKind kind = variable_kind(e, stmt);
    if (kind == LV_VARIABLE_PARAM && (e->optimizing || dtype != LV_F32)) {
        fail(e, stmt->span, e->optimizing ? "an optimizer has states, not params" : "a param is f32");
        return;
    }
    if (kind == LV_VARIABLE_CACHE && e->optimizing) {
        fail(e, stmt->span, "an optimizer has states, not caches");
        return;
    }
    int variable = declare_variable(e, path, kind, dtype, shape, stmt->span);
    if (variable < 0) return;
    scope_set(e, e->scope, stmt->name.text, (Val){.kind = VAL_VARIABLE, .i = variable});
    if (kind == LV_VARIABLE_OPTIMIZER) {
        const Expr *initial = stmt->values.data[0];
        bool zero = (initial->kind == EXPR_FLOAT && initial->f == 0) || (initial->kind == EXPR_INT && initial->i == 0);
        if (!zero) fail(e, initial->span, "the states of an optimizer start at 0.0");
    }
    if (!e->initializing || kind == LV_VARIABLE_OPTIMIZER || kind == LV_VARIABLE_CACHE) return;
    e->stream_base = path;
    e->stream_count = 0;
    Val value = evaluate(e, stmt->values.data[0]);
    e->stream_base = NULL;
    if (value.kind != VAL_POISON) variable_update(e, variable, value, stmt->values.data[0]->span);
}

static void run_for(Elaborator *e, const Stmt *stmt, bool module_body, Val *returned, bool *has_returned) {
    Val list = evaluate(e, stmt->values.data[0]);
    if (list.kind == VAL_POISON) return;
    if (list.kind != VAL_LIST) {
        fail(e, stmt->values.data[0]->span, "'for' goes over a list, not over %s", val_kind_name(list));
        return;
    }
    for (int i = 0; i < list.list->count && !*has_returned && !e->stopped; i++) {
        Val item = list.list->at[i];
        if (stmt->names.count == 1) scope_set(e, e->scope, stmt->names.data[0].text, item);
        else if ((item.kind == VAL_LIST || item.kind == VAL_TUPLE) && item.list->count == stmt->names.count) {
            for (int k = 0; k < stmt->names.count; k++) scope_set(e, e->scope, stmt->names.data[k].text, item.list->at[k]);
        } else {
            fail(e, stmt->values.data[0]->span, "%d names for each item, which is %s", stmt->names.count, val_text(e, item));
            return;
        }
        if (!run_block(e, &stmt->body, module_body, returned, has_returned)) return;
    }
}

static void run_return(Elaborator *e, const Stmt *stmt, Val *returned) {
    if (stmt->is_record) {
        *returned = val_list(e, stmt->fields.count);
        Name *names = LV_NEW_ARRAY(e->arena, Name, stmt->fields.count);
        for (int i = 0; i < stmt->fields.count; i++) {
            const Field *field = &stmt->fields.data[i];
            Expr name = {.kind = EXPR_NAME, .span = field->name.span, .name = field->name};
            names[i] = field->name;
            returned->list->at[i] = snapshot(e, evaluate(e, field->value ? field->value : &name), false, field->name.span);
        }
        returned->list->names = names;
        returned->kind = VAL_RECORD;
        if (list_done(e, *returned, stmt->span).kind == VAL_POISON) *returned = VAL_BAD;
        return;
    }
    if (stmt->values.count == 0) *returned = val_none();
    else if (stmt->values.count == 1) *returned = snapshot(e, evaluate(e, stmt->values.data[0]), false, stmt->span);
    else {
        *returned = val_list(e, stmt->values.count);
        returned->kind = VAL_TUPLE;
        for (int i = 0; i < stmt->values.count; i++)
            returned->list->at[i] = snapshot(e, evaluate(e, stmt->values.data[i]), false, stmt->span);
        if (list_done(e, *returned, stmt->span).kind == VAL_POISON) *returned = VAL_BAD;
    }
}

static void misplaced(Elaborator *e, const Stmt *stmt, const char *what) {
    fail(e, stmt->span, "'%s' stands only in the body of a module", what);
}

static void run_statement(Elaborator *e, const Stmt *stmt, bool module_body, Val *returned, bool *has_returned) {
    bool yes;
    switch (stmt->kind) {
    case STMT_ERROR: break;
    case STMT_ASSIGN: run_assign(e, stmt, module_body); break;
    case STMT_APPEND: run_append(e, stmt, module_body); break;
    case STMT_UPDATE: run_update(e, stmt); break;
    case STMT_EXPR:
        for (int i = 0; i < stmt->values.count; i++) {
            if (stmt->values.data[i]->kind != EXPR_CALL) fail(e, stmt->values.data[i]->span, "this value is not used");
            else evaluate(e, stmt->values.data[i]);
        }
        break;
    case STMT_PARAM:
    case STMT_STATE:
    case STMT_CACHE:
        if (module_body) run_variable(e, stmt);
        else misplaced(e, stmt, stmt->kind == STMT_PARAM ? "param" : stmt->kind == STMT_STATE ? "state" : "cache");
        break;
    case STMT_FROZEN: {
        bool old = e->frozen;
        if (!module_body) {
            misplaced(e, stmt, "frozen");
            break;
        }
        e->frozen = true;
        scope_set(e, e->scope, stmt->name.text,
                  evaluate_named(e, stmt->values.data[0], join(e, e->instance->path, stmt->name.text)));
        e->frozen = old;
        break;
    }
    case STMT_IF:
        if (truth(e, stmt->values.data[0], &yes))
            run_block(e, yes ? &stmt->body : &stmt->otherwise, module_body, returned, has_returned);
        break;
    case STMT_FOR: run_for(e, stmt, module_body, returned, has_returned); break;
    case STMT_RETURN:
        if (module_body) fail(e, stmt->span, "'return' stands only in functions and entries");
        else run_return(e, stmt, returned);
        *has_returned = true;
        break;
    case STMT_FN:
        if (!module_body) fail(e, stmt->span, "a function is defined in a file or in a module's body");
        break;  // bound before the body runs
    case STMT_ENTRY:
        if (!module_body) fail(e, stmt->span, "an entry stands in the body of a model");
        break;
    }
}

bool run_block(Elaborator *e, const StmtList *block, bool module_body, Val *returned, bool *has_returned) {
    for (int i = 0; i < block->count && !*has_returned; i++) {
        if (!enter(e, block->data[i]->span)) return false;
        run_statement(e, block->data[i], module_body, returned, has_returned);
        leave(e);
    }
    return !e->stopped;
}
