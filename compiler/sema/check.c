// The static check of every file: names, double definitions, types, arguments of calls whose callee is plain to see.
// It errs on the side of silence: a name bound anywhere in a function counts as bound in all of it. What depends on values
// is left to the elaboration, which runs only where this found nothing.
#include "sema/check.h"

#include "base/map.h"
#include "sema/value.h"

typedef struct {
    LvModel *model;
    LvDiagnostics *diagnostics;
    SourceFile *file;
    LvMap *body;   // names of the module's body, NULL outside of one
    LvMap *local;  // names of the function, NULL outside of one
    bool in_cache; // in the shape of a cache: `batch` is known
} Checker;

static bool full(const Checker *c) { return c->diagnostics->errors > c->diagnostics->limit; }

// ---- arguments

static void report_text(ArgumentReport *report, void *user, LvSpan span, const char *format, ...) {
    LvText text = {0};
    va_list args;
    va_start(args, format);
    lv_text_vprintf(&text, format, args);
    va_end(args);
    report(user, span, lv_text_get(&text));
    lv_text_free(&text);
}

static int parameter_index(const ParamList *params, const char *name) {
    for (int i = 0; i < params->count; i++)
        if (!strcmp(params->data[i].name.text, name)) return i;
    return -1;
}

static void report_unknown(const ParamList *params, const Name *name, const char *what, ArgumentReport *report, void *user) {
    LV_VEC(const char *) words = {0};
    for (int i = 0; i < params->count; i++) lv_vec_push(&words, params->data[i].name.text);
    const char *near = lv_nearest_name(name->text, words.data, words.count);
    report_text(report, user, name->span, "%s has no parameter '%s'%s%s%s", what, name->text, near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
    lv_vec_free(&words);
}

bool check_call(const ParamList *params, int count, const Name *names, const LvSpan *spans, LvSpan call, const char *what,
                ArgumentReport *report, void *user) {
    bool fine = true, any_named = false, *given = lv_calloc((size_t)params->count + 1, sizeof *given);
    int positional = 0;
    for (int i = 0; i < count; i++) {
        bool named = names && names[i].text;
        int at = named ? parameter_index(params, names[i].text) : i < params->count ? i : -1;
        LvSpan where = named ? names[i].span : spans ? spans[i] : call;
        any_named |= named;
        if (!named && any_named) {
            report_text(report, user, where, "arguments by place stand before those by name");
            fine = false;
            break;
        }
        if (named && at < 0) report_unknown(params, &names[i], what, report, user), fine = false;
        else if (!named && at < 0) {
            if (++positional == 1)
                report_text(report, user, where, "%s takes %d argument%s, this is one more", what, params->count,
                            params->count == 1 ? "" : "s");
            fine = false;
        } else if (given[at]) report_text(report, user, where, "'%s' is given twice", params->data[at].name.text), fine = false;
        else given[at] = true;
    }
    for (int i = 0; i < params->count && fine; i++) {
        if (given[i] || params->data[i].value) continue;
        report_text(report, user, call, "%s needs an argument '%s'", what, params->data[i].name.text);
        fine = false;
    }
    free(given);
    return fine;
}

// ---- what is bound where

static void collect_expr(LvMap *names, const Expr *expr) {
    if (!expr) return;
    for (int i = 0; expr->kind == EXPR_COMPREHENSION && i < expr->names.count; i++)
        lv_map_set(names, expr->names.data[i].text, names);
    for (int i = 0; i < expr->items.count; i++) collect_expr(names, expr->items.data[i]);
}

static void collect_block(LvMap *names, const StmtList *block) {
    for (int i = 0; i < block->count; i++) {
        const Stmt *stmt = block->data[i];
        for (int k = 0; k < stmt->targets.count; k++)
            if (stmt->targets.data[k]->kind == EXPR_NAME && stmt->kind != STMT_UPDATE)
                lv_map_set(names, stmt->targets.data[k]->name.text, names);
        for (int k = 0; k < stmt->names.count; k++) lv_map_set(names, stmt->names.data[k].text, names);
        if (stmt->name.text) lv_map_set(names, stmt->name.text, names);
        for (int k = 0; k < stmt->values.count; k++) collect_expr(names, stmt->values.data[k]);
        for (int k = 0; k < stmt->fields.count; k++) collect_expr(names, stmt->fields.data[k].value);
        collect_block(names, &stmt->body);
        collect_block(names, &stmt->otherwise);
    }
}

static void collect_dims(LvMap *names, const TypeRef *type) {
    if (!type) return;
    for (int i = 0; i < type->dims.count; i++)
        if (type->dims.data[i]->kind == EXPR_NAME) lv_map_set(names, type->dims.data[i]->name.text, names);
    for (int i = 0; i < type->types.count; i++) collect_dims(names, type->types.data[i]);
}

static void collect_params(LvMap *names, const ParamList *params) {
    for (int i = 0; i < params->count; i++) {
        lv_map_set(names, params->data[i].name.text, names);
        collect_dims(names, params->data[i].type);
        collect_expr(names, params->data[i].value);
    }
}

// ---- names

static const struct Import *find_import(const SourceFile *file, const char *name) {
    for (int i = 0; i < file->import_count; i++)
        if (!strcmp(file->imports[i].name.text, name)) return &file->imports[i];
    return NULL;
}

static bool is_local(const Checker *c, const char *name) {
    return (c->local && lv_map_has(c->local, name)) || (c->body && lv_map_has(c->body, name));
}

static bool is_known(const Checker *c, const char *name) {
    LvDType dtype;
    return is_local(c, name) || file_find(c->file, name) || find_import(c->file, name) ||
           file_find(c->model->prelude, name) || builtin_find(name) >= 0 || dtype_find(name, &dtype) ||
           !strcmp(name, "training") || !strcmp(name, "parameter_elements") || (c->in_cache && !strcmp(name, "batch"));
}

typedef LV_VEC(const char *) Words;

static void add_map(Words *words, const LvMap *map) {
    for (size_t i = 0; map && i < map->count; i++) lv_vec_push(words, map->entries[i].key);
}

static void add_items(Words *words, const SourceFile *file) {
    for (int i = 0; i < file->tree->items.count; i++)
        if (file->tree->items.data[i]->kind != ITEM_CONFIG) lv_vec_push(words, file->tree->items.data[i]->name.text);
}

static void report_near(Checker *c, LvSpan span, const char *word, Words *words, const char *what) {
    const char *near = lv_nearest_name(word, words->data, words->count);
    lv_report(c->diagnostics, LV_SEVERE, span, "%s '%s'%s%s%s", what, word, near ? "; did you mean '" : "",
              near ? near : "", near ? "'?" : "");
    lv_vec_free(words);
}

static void check_name(Checker *c, const Name *name) {
    if (is_known(c, name->text) || full(c)) return;
    Words words = {0};
    add_map(&words, c->local);
    add_map(&words, c->body);
    add_items(&words, c->file);
    add_items(&words, c->model->prelude);
    for (int i = 0; i < builtin_count(); i++) lv_vec_push(&words, builtin_name(i));
    report_near(c, name->span, name->text, &words, "unknown name");
}

// The file that `name.` reaches into, NULL if name is no import.
static SourceFile *namespace_of(const Checker *c, const Expr *expr) {
    if (expr->kind != EXPR_NAME || is_local(c, expr->name.text) || file_find(c->file, expr->name.text)) return NULL;
    const struct Import *import = find_import(c->file, expr->name.text);
    return import ? import->file : NULL;
}

static void check_member(Checker *c, const Expr *expr) {
    SourceFile *file = namespace_of(c, expr->items.data[0]);
    if (!file || file_find(file, expr->name.text) || full(c)) return;
    Words words = {0};
    add_items(&words, file);
    report_near(c, expr->name.span, expr->name.text, &words, lv_arena_printf(c->model->arena, "'%s' has no", file->path));
}

static const Item *callee_item(const Checker *c, const Expr *callee) {
    if (callee->kind == EXPR_MEMBER) {
        SourceFile *file = namespace_of(c, callee->items.data[0]);
        return file ? file_find(file, callee->name.text) : NULL;
    }
    if (callee->kind != EXPR_NAME || is_local(c, callee->name.text)) return NULL;
    const Item *item = file_find(c->file, callee->name.text);
    return item || find_import(c->file, callee->name.text) ? item : file_find(c->model->prelude, callee->name.text);
}

static void report_argument(void *user, LvSpan span, const char *message) {
    Checker *c = user;
    lv_report(c->diagnostics, LV_SEVERE, span, "%s", message);
}

static void check_callee(Checker *c, const Expr *call) {
    const Item *item = callee_item(c, call->items.data[0]);
    if (!item || (item->kind != ITEM_FN && item->kind != ITEM_MODULE) || full(c)) return;
    int count = call->items.count - 1;
    LvSpan *spans = lv_calloc((size_t)count + 1, sizeof *spans);
    for (int i = 0; i < count; i++) spans[i] = call->items.data[i + 1]->span;
    const char *what = item->kind == ITEM_FN ? lv_arena_printf(c->model->arena, "'%s'", item->name.text)
                                             : lv_arena_printf(c->model->arena, "module %s", item->name.text);
    check_call(item->kind == ITEM_FN ? &item->function->params : &item->params, count, call->names.data, spans,
               call->span, what, report_argument, c);
    free(spans);
}

// ---- the walk

static void check_expr(Checker *c, const Expr *expr) {
    if (!expr || full(c)) return;
    if (expr->kind == EXPR_NAME) check_name(c, &expr->name);
    for (int i = 0; i < expr->items.count; i++) check_expr(c, expr->items.data[i]);
    if (expr->kind == EXPR_MEMBER) check_member(c, expr);
    if (expr->kind == EXPR_CALL) check_callee(c, expr);
}

static void check_type(Checker *c, const TypeRef *type) {
    static const char *const names[] = {"int", "float", "bool", "string", "dtype", "module", "tensor", "f32", "i32", "i64"};
    LvDType dtype;
    if (!type || full(c)) return;
    for (int i = 0; i < type->types.count; i++) check_type(c, type->types.data[i]);
    if (type->name.text && !dtype_find(type->name.text, &dtype)) {
        bool found = false;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) found |= !strcmp(names[i], type->name.text);
        if (found && type->has_dims)
            lv_report(c->diagnostics, LV_SEVERE, type->span, "'%s' is no element type; a list is written [%s]",
                      type->name.text, type->name.text);
        if (found) return;
        Words words = {0};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) lv_vec_push(&words, names[i]);
        report_near(c, type->name.span, type->name.text, &words, type->has_dims ? "unknown element type" : "unknown type");
    }
    if (type->has_dims && type->dims.count == 1 && !type->name.text && type->dims.data[0]->kind == EXPR_NAME)
        return;  // maybe [int]
    for (int i = 0; i < type->dims.count; i++) check_expr(c, type->dims.data[i]);
}

// ---- what is defined twice where only one can be meant (a binding may be bound again, on purpose)

static void see(Checker *c, LvMap *seen, const Name *name, const char *what) {
    const Name *first = lv_map_get(seen, name->text);
    if (!first) lv_map_set(seen, name->text, (void *)name);
    else if (!full(c)) {
        lv_report(c->diagnostics, LV_SEVERE, name->span, "%s '%s' is defined twice", what, name->text);
        lv_report(c->diagnostics, LV_NOTE, first->span, "first here");
    }
}

static void check_definitions(Checker *c, const StmtList *body) {
    LvMap seen = {0};
    for (int i = 0; i < body->count; i++)
        if (body->data[i]->function) see(c, &seen, &body->data[i]->name, body->data[i]->kind == STMT_FN ? "fn" : "entry");
    lv_map_free(&seen);
}

static void check_constant(Checker *c, const Expr *value) {
    LvMap local = {0};
    collect_expr(&local, value);
    c->local = &local;
    check_expr(c, value);
    c->local = NULL;
    lv_map_free(&local);
}

static void check_config(Checker *c, const StmtList *body) {
    LvMap seen = {0};
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->data[i];
        if (stmt->kind == STMT_ASSIGN && stmt->targets.count == 1 && stmt->targets.data[0]->kind == EXPR_NAME)
            see(c, &seen, &stmt->targets.data[0]->name, "parameter");
    }
    lv_map_free(&seen);
}

// ---- statements and items

static void check_params(Checker *c, const ParamList *params) {
    LvMap seen = {0};
    for (int i = 0; i < params->count; i++) {
        see(c, &seen, &params->data[i].name, "parameter");
        check_type(c, params->data[i].type);
        check_expr(c, params->data[i].value);
    }
    lv_map_free(&seen);
}

static void check_function(Checker *c, const Function *function);

static void check_block(Checker *c, const StmtList *block, bool is_body, bool is_model) {
    for (int i = 0; i < block->count && !full(c); i++) {
        const Stmt *stmt = block->data[i];
        bool defines = stmt->kind == STMT_FN || stmt->kind == STMT_ENTRY;
        if (defines && (!is_body || (stmt->kind == STMT_ENTRY && !is_model)))
            lv_report(c->diagnostics, LV_SEVERE, stmt->span,
                      stmt->kind == STMT_FN
                          ? "a function stands in a file or in a module's body, not inside of other statements"
                          : "an entry stands in the body of a model");
        for (int k = 0; k < stmt->values.count; k++) check_expr(c, stmt->values.data[k]);
        for (int k = 0; k < stmt->targets.count; k++)
            if (stmt->targets.data[k]->kind != EXPR_NAME || stmt->kind == STMT_UPDATE) check_expr(c, stmt->targets.data[k]);
        for (int k = 0; k < stmt->fields.count; k++) {
            if (stmt->fields.data[k].value) check_expr(c, stmt->fields.data[k].value);
            else check_name(c, &stmt->fields.data[k].name);
        }
        c->in_cache = stmt->kind == STMT_CACHE;
        if (stmt->kind == STMT_PARAM || stmt->kind == STMT_STATE || stmt->kind == STMT_CACHE) check_type(c, stmt->type);
        c->in_cache = false;
        if (defines && stmt->function) check_function(c, stmt->function);
        check_block(c, &stmt->body, false, is_model);
        check_block(c, &stmt->otherwise, false, is_model);
    }
}

static void check_function(Checker *c, const Function *function) {
    LvMap local = {0}, *outer = c->local;
    collect_params(&local, &function->params);
    collect_dims(&local, function->result);
    collect_block(&local, &function->body);
    c->local = &local;
    check_params(c, &function->params);
    check_type(c, function->result);
    check_block(c, &function->body, false, false);
    c->local = outer;
    lv_map_free(&local);
}

static void check_module(Checker *c, const Item *item) {
    LvMap body = {0};
    collect_params(&body, &item->params);
    collect_block(&body, &item->body);
    c->body = &body;
    check_params(c, &item->params);
    for (int i = 0; i < item->params.count && item->kind == ITEM_MODEL; i++)
        if (!item->params.data[i].type && !full(c))
            lv_report(c->diagnostics, LV_SEVERE, item->params.data[i].span,
                      "a model's parameter has a type, such as %s: int", item->params.data[i].name.text);
    check_definitions(c, &item->body);
    check_block(c, &item->body, true, item->kind == ITEM_MODEL);
    c->body = NULL;
    lv_map_free(&body);
}

static void check_items(Checker *c) {
    LvMap names = {0}, configs = {0};
    for (int i = 0; i < c->file->tree->items.count && !full(c); i++) {
        const Item *item = c->file->tree->items.data[i];
        if (item->kind == ITEM_CONFIG) see(c, &configs, &item->name, "config");
        else if (item->kind != ITEM_MODEL) see(c, &names, &item->name, "name");
        if (item->kind == ITEM_CONFIG) check_config(c, &item->body);
        if (item->kind == ITEM_MODULE || item->kind == ITEM_MODEL) check_module(c, item);
        if (item->kind == ITEM_FN) check_function(c, item->function);
        if (item->kind == ITEM_CONST) check_constant(c, item->value);
    }
    lv_map_free(&names);
    lv_map_free(&configs);
}

void check_files(LvModel *model, LvDiagnostics *diagnostics) {
    for (size_t i = 0; i < model->files.count; i++) {
        Checker c = {.model = model, .diagnostics = diagnostics, .file = model->files.data[i]};
        check_items(&c);
    }
}
