// Private to syntax/: what lexer and parser share.
#ifndef LV_PARSE_H
#define LV_PARSE_H

#include <string.h>

#include "syntax/ast.h"

enum { PARSE_MAX_DEPTH = 250 };  // of expressions and blocks: whoever walks the tree recurses; C stacks are 8 MiB

typedef struct {
    LvArena *arena;
    LvDiagnostics *diagnostics;
    SyntaxTree *tree;
    const char *text;
    size_t length;
    size_t at;             // end of the token scanned last
    int32_t file;
    int brackets;          // depth of () and []: newlines mean nothing there
    bool significant;      // the token before can end a statement
    bool line_begun;       // a token stands on this line
    bool closed;           // the token before is '}', after which an else may follow on a later line
    const char *name_last; // text of the token scanned last, if it is a name; of the one before it
    const char *name_before;
    uint32_t error_at;     // where the last error was reported
    int errors;
    bool too_deep;
} ParseState;

void parse_error(ParseState *state, LvSpan span, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool parse_error_is_new(ParseState *state, LvSpan span);

Expr *expr_new(ParseState *state, ExprKind kind, LvSpan span);
Expr *expr_binary(ParseState *state, Operator op, Expr *a, Expr *b);
Expr *expr_unary(ParseState *state, Operator op, Expr *a, LvSpan span);
Expr *expr_conditional(ParseState *state, Expr *value, Expr *condition, Expr *otherwise);
void expr_add(ParseState *state, Expr *expr, Expr *item);  // appends an item, which may be NULL
Stmt *stmt_new(ParseState *state, StmtKind kind, LvSpan span);
LvSpan span_join(LvSpan a, LvSpan b);

#endif
