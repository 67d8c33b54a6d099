// What is defined twice where only one can be meant: items of a file, parameters, functions and entries of a body, lines of a
// config. (A binding of a body or function may be bound again, on purpose.)
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "sema/imports.h"

typedef LV_VEC(Name) Seen;

static void see(Seen *seen, Name name, const char *what, LvDiagnostics *diagnostics) {
    if (!name.text) return;
    for (size_t i = 0; i < seen->count; i++) {
        if (strcmp(seen->data[i].text, name.text) != 0) continue;
        lv_report(diagnostics, LV_SEVERE, name.span, "%s '%s' is defined twice", what, name.text);
        lv_report(diagnostics, LV_NOTE, seen->data[i].span, "first here");
        return;
    }
    lv_vec_push(seen, name);
}

static void check_params(const ParamList *params, LvDiagnostics *diagnostics) {
    Seen seen = {0};
    for (int i = 0; i < params->count; i++) see(&seen, params->data[i].name, "parameter", diagnostics);
    lv_vec_free(&seen);
}

static void check_body(const StmtList *body, LvDiagnostics *diagnostics) {
    Seen functions = {0};
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->data[i];
        if (!stmt->function) continue;
        see(&functions, stmt->name, stmt->kind == STMT_ENTRY ? "entry" : "fn", diagnostics);
        check_params(&stmt->function->params, diagnostics);
    }
    lv_vec_free(&functions);
}

static void check_config(const StmtList *body, LvDiagnostics *diagnostics) {
    Seen lines = {0};
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->data[i];
        if (stmt->kind == STMT_ASSIGN && stmt->targets.count == 1 && stmt->targets.data[0]->kind == EXPR_NAME)
            see(&lines, stmt->targets.data[0]->name, "parameter", diagnostics);
    }
    lv_vec_free(&lines);
}

void duplicates_check(const SyntaxTree *tree, LvDiagnostics *diagnostics) {
    Seen items = {0}, configs = {0};
    for (int i = 0; i < tree->items.count; i++) {
        const Item *item = tree->items.data[i];
        if (item->kind == ITEM_CONFIG) see(&configs, item->name, "config", diagnostics);
        else if (item->kind != ITEM_MODEL) see(&items, item->name, "name", diagnostics);
        check_params(&item->params, diagnostics);
        if (item->function) check_params(&item->function->params, diagnostics);
        if (item->kind == ITEM_CONFIG) check_config(&item->body, diagnostics);
        else check_body(&item->body, diagnostics);
    }
    lv_vec_free(&items);
    lv_vec_free(&configs);
}
