// --emit ast: the tree as written, a node a line, two spaces deeper for each level.
#include "syntax/ast.h"

typedef struct {
    LvText *out;
    int level;
} Printer;

static void print_expr(Printer *p, const Expr *expr);
static void print_block(Printer *p, const char *what, const StmtList *block);

static void line(Printer *p) {
    for (int i = 0; i < p->level; i++) lv_text_puts(p->out, "  ");
}

static void print_leaf(Printer *p, const Expr *expr) {
    switch (expr->kind) {
        case EXPR_NAME: lv_text_printf(p->out, "name %s", expr->name.text); break;
        case EXPR_INT: lv_text_printf(p->out, "int %lld", (long long)expr->i); break;
        case EXPR_FLOAT: lv_text_printf(p->out, "float %.17g", expr->f); break;
        case EXPR_STRING: lv_text_printf(p->out, "string \"%s\"", expr->name.text); break;
        case EXPR_BOOL: lv_text_puts(p->out, expr->i ? "true" : "false"); break;
        case EXPR_NONE: lv_text_puts(p->out, "none"); break;
        case EXPR_LIST: lv_text_puts(p->out, "list"); break;
        case EXPR_COMPREHENSION: lv_text_puts(p->out, "comprehension"); break;
        case EXPR_UNARY:
        case EXPR_BINARY: lv_text_printf(p->out, "operator %s", operator_text(expr->op)); break;
        case EXPR_CONDITIONAL: lv_text_puts(p->out, "if else"); break;
        case EXPR_CALL: lv_text_puts(p->out, "call"); break;
        case EXPR_MEMBER: lv_text_printf(p->out, "member %s", expr->name.text); break;
        case EXPR_INDEX: lv_text_puts(p->out, "index"); break;
        case EXPR_SLICE: lv_text_puts(p->out, "slice"); break;
        case EXPR_ELLIPSIS: lv_text_puts(p->out, "..."); break;
        case EXPR_ERROR: lv_text_puts(p->out, "error"); break;
    }
}

static void print_names(Printer *p, const NameList *names) {
    for (int i = 0; i < names->count; i++) lv_text_printf(p->out, " %s", names->data[i].text);
}

static void print_expr(Printer *p, const Expr *expr) {
    line(p);
    if (!expr) {
        lv_text_puts(p->out, "nothing\n");
        return;
    }
    print_leaf(p, expr);
    if (expr->kind == EXPR_COMPREHENSION) print_names(p, &expr->names);
    lv_text_putc(p->out, '\n');
    p->level++;
    for (int i = 0; i < expr->items.count; i++) {
        const char *named = expr->kind == EXPR_CALL && i > 0 && i <= expr->names.count ? expr->names.data[i - 1].text : NULL;
        if (named) {
            line(p);
            lv_text_printf(p->out, "%s =\n", named);
            p->level++;
        }
        print_expr(p, expr->items.data[i]);
        if (named) p->level--;
    }
    p->level--;
}

static void print_type(Printer *p, const TypeRef *type) {
    line(p);
    lv_text_printf(p->out, "type %s", type->is_record ? "record" : type->is_tuple ? "tuple" : type->name.text ? type->name.text : "");
    if (type->fields.count) print_names(p, &type->fields);
    lv_text_putc(p->out, '\n');
    p->level++;
    for (int i = 0; i < type->dims.count; i++) print_expr(p, type->dims.data[i]);
    for (int i = 0; i < type->types.count; i++) print_type(p, type->types.data[i]);
    p->level--;
}

static void print_params(Printer *p, const ParamList *params) {
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->data[i];
        line(p);
        lv_text_printf(p->out, "parameter %s\n", param->name.text);
        p->level++;
        if (param->type) print_type(p, param->type);
        if (param->value) print_expr(p, param->value);
        p->level--;
    }
}

static void print_function(Printer *p, const Function *function) {
    p->level++;
    print_params(p, &function->params);
    if (function->result) print_type(p, function->result);
    print_block(p, "body", &function->body);
    p->level--;
}

static void print_exprs(Printer *p, const ExprList *list) {
    for (int i = 0; i < list->count; i++) print_expr(p, list->data[i]);
}

static void print_stmt(Printer *p, const Stmt *stmt) {
    static const char *const kinds[] = {"error", "assign", "append", "update", "expression", "param", "state", "cache", "frozen", "if", "for", "return", "fn", "entry"};
    line(p);
    lv_text_puts(p->out, kinds[stmt->kind]);
    if (stmt->name.text) lv_text_printf(p->out, " %s", stmt->name.text);
    print_names(p, &stmt->names);
    lv_text_putc(p->out, '\n');
    p->level++;
    if (stmt->type) print_type(p, stmt->type);
    print_exprs(p, &stmt->targets);
    print_exprs(p, &stmt->values);
    for (int i = 0; i < stmt->fields.count; i++) {
        line(p);
        lv_text_printf(p->out, "field %s\n", stmt->fields.data[i].name.text);
        p->level++;
        if (stmt->fields.data[i].value) print_expr(p, stmt->fields.data[i].value);
        p->level--;
    }
    if (stmt->body.count) print_block(p, "body", &stmt->body);
    if (stmt->otherwise.count) print_block(p, "else", &stmt->otherwise);
    p->level--;
    if (stmt->function) print_function(p, stmt->function);
}

static void print_block(Printer *p, const char *what, const StmtList *block) {
    line(p);
    lv_text_printf(p->out, "%s\n", what);
    p->level++;
    for (int i = 0; i < block->count; i++) print_stmt(p, block->data[i]);
    p->level--;
}

void syntax_print(const SyntaxTree *tree, LvText *out) {
    static const char *const kinds[] = {"import", "module", "model", "fn", "config", "const"};
    Printer printer = {out, 0}, *p = &printer;
    for (int i = 0; i < tree->items.count; i++) {
        const Item *item = tree->items.data[i];
        lv_text_printf(out, "%s %s", kinds[item->kind], item->name.text);
        if (item->path) lv_text_printf(out, " \"%s\"", item->path);
        lv_text_putc(out, '\n');
        p->level++;
        print_params(p, &item->params);
        if (item->value) print_expr(p, item->value);
        if (item->body.count) print_block(p, "body", &item->body);
        p->level--;
        if (item->function) print_function(p, item->function);
    }
}
