// Evaluation of expressions: names, members, lists, comprehensions; the limits on hostile programs.
#include "sema/value.h"

enum {
    MAX_DEPTH = 900,        // of nested evaluation: C frames of some hundred bytes, a few each, on a stack of 8 MiB
    MAX_NODES = 300000,
    MAX_MEMORY = 256 << 20, // bytes of compile-time values; the largest network here takes 10 MiB
};

bool enter(Elaborator *e, LvSpan span) {
    if (e->stopped) return false;
    if (++e->work > MAX_WORK || e->graph->node_count > MAX_NODES || lv_arena_used(e->arena) > (size_t)MAX_MEMORY) {
        fail(e, span, "this program does not come to an end: it was given up after %lld steps and %d operations",
             (long long)e->work, e->graph->node_count);
        e->stopped = true;
        return false;
    }
    if (e->depth >= MAX_DEPTH) {
        fail(e, span, "calls and expressions are nested too deeply here; is this recursion without an end?");
        e->stopped = true;
        return false;
    }
    e->depth++;
    return true;
}

void leave(Elaborator *e) { e->depth--; }

// ---- names

static Val item_value(Elaborator *e, const Item *item, SourceFile *file) {
    if (item->kind == ITEM_FN) return (Val){.kind = VAL_FUNCTION, .function = item->function, .file = file};
    if (item->kind == ITEM_CONST) {
        SourceFile *old_file = e->file;
        Instance *old_instance = e->instance;
        Scope *old_scope = e->scope;
        e->file = file, e->instance = NULL, e->scope = NULL;
        Val v = evaluate(e, item->value);
        e->file = old_file, e->instance = old_instance, e->scope = old_scope;
        return v;
    }
    return (Val){.kind = VAL_MODULE, .item = item, .file = file};
}

static bool file_value(Elaborator *e, SourceFile *file, const char *name, Val *out) {
    const Item *item = file_find(file, name);
    if (!item) return false;
    *out = item_value(e, item, file);
    return true;
}

static bool special_name(Elaborator *e, const char *name, Val *out) {
    LvDType dtype;
    if (!strcmp(name, "training")) *out = val_bool(e->training);
    else if (!strcmp(name, "parameter_elements") && e->parameter_elements >= 0) *out = val_int(e->parameter_elements);
    else if (!strcmp(name, "batch") && e->in_cache) *out = val_int(e->batch);
    else if (dtype_find(name, &dtype)) *out = (Val){.kind = VAL_DTYPE, .i = dtype};
    else return false;
    return true;
}

static bool find_name(Elaborator *e, const char *name, Val *out) {
    Val *bound = scope_find(e->scope, name);
    if (!bound && e->instance) bound = scope_find(&e->instance->scope, name);
    if (bound) {
        *out = *bound;
        return true;
    }
    if (e->file) {
        if (file_value(e, e->file, name, out)) return true;
        for (int i = 0; i < e->file->import_count; i++) {
            if (strcmp(e->file->imports[i].name.text, name) != 0) continue;
            *out = (Val){.kind = VAL_NAMESPACE, .file = e->file->imports[i].file};
            return true;
        }
    }
    if (e->model->prelude && file_value(e, e->model->prelude, name, out)) return true;
    if (special_name(e, name, out)) return true;
    int builtin = builtin_find(name);
    if (builtin >= 0) *out = (Val){.kind = VAL_BUILTIN, .i = builtin};
    return builtin >= 0;
}

Val name_lookup(Elaborator *e, const char *name) {
    Val out;
    return find_name(e, name, &out) ? out : VAL_BAD;
}

typedef LV_VEC(const char *) Words;

static void add_items(Words *words, const SourceFile *file) {
    for (int i = 0; i < file->tree->items.count; i++)
        if (file->tree->items.data[i]->kind != ITEM_CONFIG) lv_vec_push(words, file->tree->items.data[i]->name.text);
}

static Val unknown_name(Elaborator *e, const Expr *expr) {
    Words words = {0};
    for (int i = 0; e->scope && i < e->scope->count; i++) lv_vec_push(&words, e->scope->at[i].name);
    for (int i = 0; e->instance && i < e->instance->scope.count; i++) lv_vec_push(&words, e->instance->scope.at[i].name);
    if (e->file) add_items(&words, e->file);
    if (e->model->prelude) add_items(&words, e->model->prelude);
    for (int i = 0; i < builtin_count(); i++) lv_vec_push(&words, builtin_name(i));
    LvText hint = {0};
    suggest(e, expr->name.text, words.data, words.count, &hint);
    Val bad = fail(e, expr->span, "unknown name '%s'%s", expr->name.text, lv_text_get(&hint));
    lv_text_free(&hint);
    lv_vec_free(&words);
    return bad;
}

// ---- members

static Val tensor_member(Elaborator *e, Val base, const Expr *expr) {
    LvShape shape;
    LvDType dtype;
    if (base.kind == VAL_VARIABLE) {
        shape = e->graph->variables.data[base.i].shape;
        dtype = e->graph->variables.data[base.i].dtype;
    } else {
        shape = base.tensor->shape;
        dtype = base.tensor->dtype;
    }
    const char *name = expr->name.text;
    if (!strcmp(name, "rank")) return val_int(shape.rank);
    if (!strcmp(name, "dtype")) return (Val){.kind = VAL_DTYPE, .i = dtype};
    if (!strcmp(name, "shape")) {
        Val out = val_list(e, shape.rank);
        for (int i = 0; i < shape.rank; i++) out.list->at[i] = val_int(shape.dim[i]);
        return out;
    }
    return fail(e, expr->name.span, "a tensor has no '%s'; it has shape, rank and dtype", name);
}

static Val no_member(Elaborator *e, const Expr *expr, Words *words, const char *whose) {
    LvText hint = {0};
    suggest(e, expr->name.text, words->data, words->count, &hint);
    Val bad = fail(e, expr->name.span, "%s has no '%s'%s", whose, expr->name.text, lv_text_get(&hint));
    lv_text_free(&hint);
    lv_vec_free(words);
    return bad;
}

static Val member(Elaborator *e, const Expr *expr) {
    Val base = evaluate(e, expr->items.data[0]);
    const char *name = expr->name.text;
    Words words = {0};
    if (base.kind == VAL_POISON) return base;
    if (is_tensor(base)) return tensor_member(e, base, expr);
    if (base.kind == VAL_INSTANCE) {
        Val *bound = scope_find(&base.instance->scope, name);
        if (bound) return *bound;
        for (int i = 0; i < base.instance->scope.count; i++) lv_vec_push(&words, base.instance->scope.at[i].name);
        return no_member(e, expr, &words, lv_arena_printf(e->arena, "module %s", base.instance->item->name.text));
    }
    if (base.kind == VAL_NAMESPACE) {
        Val out;
        if (file_value(e, base.file, name, &out)) return out;
        add_items(&words, base.file);
        return no_member(e, expr, &words, lv_arena_printf(e->arena, "'%s'", base.file->path));
    }
    return fail(e, expr->name.span, "%s has no '%s'", val_kind_name(base), name);
}

// ---- lists

static const char *numbered(Elaborator *e, const char *path, int i) {
    return path ? lv_arena_printf(e->arena, "%s.%d", path, i) : NULL;
}

// Two operands that do not go together are each shown with what they are.
static Val binary(Elaborator *e, const Expr *expr) {
    Val a = evaluate(e, expr->items.data[0]), b = evaluate(e, expr->items.data[1]);
    size_t errors = e->diagnostics->errors;
    Val out = operate(e, expr->op, a, b, expr->span);
    if (e->diagnostics->errors == errors || !is_tensor(a) || !is_tensor(b) || e->stopped) return out;
    const Val operands[] = {a, b};
    for (int i = 0; i < 2; i++) {
        Value *tensor = tensor_of(e, operands[i], NULL, expr->span);
        if (tensor)
            lv_report(e->diagnostics, LV_NOTE, expr->items.data[i]->span, "this is %s",
                      operand_text(e, expr->items.data[i], tensor));
    }
    return out;
}

static Val evaluate_under(Elaborator *e, const Expr *expr, const char *path) {
    return path ? evaluate_named(e, expr, path) : evaluate(e, expr);
}

static Val list_literal(Elaborator *e, const Expr *expr, const char *path) {
    Val out = val_list(e, expr->items.count);
    bool bad = false;
    for (int i = 0; i < expr->items.count; i++) {
        out.list->at[i] = evaluate_under(e, expr->items.data[i], numbered(e, path, i));
        bad |= out.list->at[i].kind == VAL_POISON;
    }
    return bad ? VAL_BAD : list_done(e, out, expr->span);
}

static bool bind_names(Elaborator *e, const NameList *names, Val item, LvSpan span) {
    if (names->count == 1) {
        scope_set(e, e->scope, names->data[0].text, item);
        return true;
    }
    if ((item.kind != VAL_LIST && item.kind != VAL_TUPLE) || item.list->count != names->count) {
        if (item.kind != VAL_POISON)
            fail(e, span, "%d names for %s", names->count,
                 item.kind == VAL_LIST ? lv_arena_printf(e->arena, "a list of %d", item.list->count)
                                       : val_kind_name(item));
        return false;
    }
    for (int i = 0; i < names->count; i++) scope_set(e, e->scope, names->data[i].text, item.list->at[i]);
    return true;
}

// The items of a comprehension, its names bound for their time.
static Val comprehension(Elaborator *e, const Expr *expr, const char *path) {
    const Expr *body = expr->items.data[0], *over = expr->items.data[1],
               *filter = expr->items.count > 2 ? expr->items.data[2] : NULL;
    Val list = evaluate(e, over);
    if (list.kind == VAL_POISON) return list;
    if (list.kind != VAL_LIST) return fail(e, over->span, "a comprehension goes over a list, not over %s", val_kind_name(list));
    Scope *outer = e->scope, inner = {0};
    for (int i = 0; outer && i < outer->count; i++) scope_set(e, &inner, outer->at[i].name, outer->at[i].value);
    e->work += inner.count;
    Val out = val_list(e, list.list->count);
    int count = 0;
    bool bad = false;
    e->scope = &inner;
    for (int i = 0; i < list.list->count && !bad && !e->stopped; i++) {
        bool keep = true;
        bad = !bind_names(e, &expr->names, list.list->at[i], over->span) || (filter && !truth(e, filter, &keep));
        if (bad || !keep) continue;
        Val item = evaluate_under(e, body, numbered(e, path, count));
        bad = item.kind == VAL_POISON;
        out.list->at[count++] = item;
    }
    e->scope = outer;
    out.list->count = count;
    return bad ? VAL_BAD : list_done(e, out, expr->span);
}

// ---- operators

bool truth(Elaborator *e, const Expr *expr, bool *value) {
    Val v = evaluate(e, expr);
    *value = v.kind == VAL_BOOL && v.i;
    if (v.kind == VAL_BOOL) return true;
    if (is_tensor(v)) fail(e, expr->span, "a condition is decided when compiling; for tensors use select(condition, a, b)");
    else if (v.kind != VAL_POISON) fail(e, expr->span, "a condition is a bool, not %s", val_kind_name(v));
    return false;
}

static Val logic(Elaborator *e, const Expr *expr) {
    Val a = evaluate(e, expr->items.data[0]);
    if (a.kind == VAL_POISON) return a;
    if (a.kind == VAL_BOOL) {
        if (a.i == (expr->op == OPERATOR_OR)) return a;
        Val b = evaluate(e, expr->items.data[1]);
        if (b.kind == VAL_BOOL || b.kind == VAL_POISON || is_tensor(b)) return b;
        return fail(e, expr->items.data[1]->span, "'%s' is of bools, not of %s", operator_text(expr->op), val_kind_name(b));
    }
    return operate(e, expr->op, a, evaluate(e, expr->items.data[1]), expr->span);
}

static Val unary(Elaborator *e, const Expr *expr) {
    Val a = evaluate(e, expr->items.data[0]);
    if (expr->op == OPERATOR_NEG) return negate(e, a, expr->span);
    if (a.kind == VAL_POISON) return a;
    if (a.kind == VAL_BOOL) return val_bool(!a.i);
    Value *x = is_tensor(a) ? tensor_of(e, a, NULL, expr->span) : NULL;
    if (!x) return fail(e, expr->span, "'not' is of bools, not of %s", val_kind_name(a));
    return val_tensor(add_checked(e, OP_not, 1, &x, NULL, expr->span));
}

static Val conditional(Elaborator *e, const Expr *expr, const char *path) {
    bool yes;
    if (!truth(e, expr->items.data[1], &yes)) return VAL_BAD;
    return evaluate_under(e, expr->items.data[yes ? 0 : 2], path);
}

// ---- all together

static Val evaluate_kind(Elaborator *e, const Expr *expr, const char *path) {
    Val out;
    switch (expr->kind) {
    case EXPR_ERROR: return VAL_BAD;
    case EXPR_NAME: return find_name(e, expr->name.text, &out) ? out : unknown_name(e, expr);
    case EXPR_INT: return val_int(expr->i);
    case EXPR_FLOAT: return val_float(expr->f);
    case EXPR_STRING: return val_string(expr->name.text);
    case EXPR_BOOL: return val_bool(expr->i);
    case EXPR_NONE: return val_none();
    case EXPR_LIST: return list_literal(e, expr, path);
    case EXPR_COMPREHENSION: return comprehension(e, expr, path);
    case EXPR_UNARY: return unary(e, expr);
    case EXPR_BINARY:
        if (expr->op == OPERATOR_AND || expr->op == OPERATOR_OR) return logic(e, expr);
        return binary(e, expr);
    case EXPR_CONDITIONAL: return conditional(e, expr, path);
    case EXPR_CALL: {
        const Expr *callee = expr->items.data[0];
        out = evaluate(e, callee);
        e->naming = path;
        out = call_value(e, out, expr, callee);
        return out;
    }
    case EXPR_MEMBER: return member(e, expr);
    case EXPR_INDEX: return index_value(e, evaluate(e, expr->items.data[0]), expr);
    case EXPR_SLICE:
    case EXPR_ELLIPSIS: return fail(e, expr->span, "this stands only in an index");
    }
    return VAL_BAD;
}

static Val evaluate_at(Elaborator *e, const Expr *expr, const char *path) {
    if (!enter(e, expr->span)) return VAL_BAD;
    const char *old = e->naming;
    e->naming = NULL;
    Val v = evaluate_kind(e, expr, path);
    e->naming = old;
    leave(e);
    return v;
}

Val evaluate(Elaborator *e, const Expr *expr) { return evaluate_at(e, expr, NULL); }

bool evaluate_quietly(Elaborator *e, const Expr *expr, Val *out) {
    LvDiagnostics quiet, *loud = e->diagnostics;
    bool stopped = e->stopped;
    lv_diagnostics_init(&quiet, loud->sources);
    e->diagnostics = &quiet;
    *out = evaluate(e, expr);
    e->diagnostics = loud;
    e->stopped = stopped;
    bool fine = quiet.errors == 0 && out->kind != VAL_POISON;
    lv_diagnostics_free(&quiet);
    return fine;
}

Val evaluate_named(Elaborator *e, const Expr *expr, const char *path) { return evaluate_at(e, expr, path); }
