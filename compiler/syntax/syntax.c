// Runs lexer and parser over one file, makes nodes, finds doc comments.
#include "syntax/parse.h"
#include "parser.h"
#define YYSTYPE SYNTAX_YYSTYPE
#define YYLTYPE LvSpan
#include "lexer.h"

enum { MAX_SOURCE = 4 << 20 };  // bytes; a model is some hundred lines, and spans are 32 bits

LvSpan span_join(LvSpan a, LvSpan b) {
    if (b.end > a.end) a.end = b.end;
    return a;
}

void parse_error(ParseState *state, LvSpan span, const char *format, ...) {
    va_list args;
    LvText text = {0};
    va_start(args, format);
    lv_text_vprintf(&text, format, args);
    va_end(args);
    lv_report(state->diagnostics, LV_SEVERE, span, "%s", lv_text_get(&text));
    lv_text_free(&text);
    state->error_at = span.begin;
    state->errors++;
}

// After an unclosed bracket newlines would mean nothing up to the end of the file. Whether the open ones are closed before the
// next brace tells a bracket forgotten from an error inside of brackets that are in order.
static bool brackets_close(const ParseState *state, uint32_t from) {
    enum { FAR = 4000 };
    int open = state->brackets;
    for (size_t i = from; i < state->length && i < (size_t)from + FAR; i++) {
        char c = state->text[i];
        if (c == '(' || c == '[') open++;
        else if ((c == ')' || c == ']') && --open <= 0) return true;
        else if (c == '{' || c == '}') return false;
    }
    return false;
}

// A second error on the line of one already reported is most often its consequence.
bool parse_error_is_new(ParseState *state, LvSpan span) {
    bool same_line = state->errors && state->error_at <= span.begin &&
                     !memchr(state->text + state->error_at, '\n', span.begin - state->error_at);
    if (state->brackets && !brackets_close(state, span.begin)) state->brackets = 0;
    state->error_at = span.begin;
    return !same_line;
}

Expr *expr_new(ParseState *state, ExprKind kind, LvSpan span) {
    Expr *expr = LV_NEW(state->arena, Expr);
    expr->kind = kind;
    expr->span = span;
    expr->depth = 1;
    return expr;
}

void expr_add(ParseState *state, Expr *expr, Expr *item) {
    ast_push(state->arena, &expr->items, item);
    if (item && item->depth >= expr->depth) expr->depth = item->depth + 1;
    if (expr->depth > PARSE_MAX_DEPTH) state->too_deep = true;
}

Expr *expr_binary(ParseState *state, Operator op, Expr *a, Expr *b) {
    Expr *expr = expr_new(state, EXPR_BINARY, span_join(a->span, b->span));
    expr->op = op;
    expr_add(state, expr, a);
    expr_add(state, expr, b);
    return expr;
}

Expr *expr_unary(ParseState *state, Operator op, Expr *a, LvSpan span) {
    Expr *expr = expr_new(state, EXPR_UNARY, span);
    expr->op = op;
    expr_add(state, expr, a);
    return expr;
}

Expr *expr_conditional(ParseState *state, Expr *value, Expr *condition, Expr *otherwise) {
    Expr *expr = expr_new(state, EXPR_CONDITIONAL, span_join(value->span, otherwise->span));
    expr_add(state, expr, value);
    expr_add(state, expr, condition);
    expr_add(state, expr, otherwise);
    return expr;
}

Stmt *stmt_new(ParseState *state, StmtKind kind, LvSpan span) {
    Stmt *stmt = LV_NEW(state->arena, Stmt);
    stmt->kind = kind;
    stmt->span = span;
    return stmt;
}

// Blocks nest no deeper than expressions; counted here in one scan, before anything recurses.
static bool blocks_too_deep(const char *text, size_t length) {
    int depth = 0;
    bool string = false, comment = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '\n') string = comment = false;
        else if (comment) continue;
        else if (string && c == '\\') i++;
        else if (c == '"') string = !string;
        else if (!string && c == '/' && i + 1 < length && text[i + 1] == '/') comment = true;
        else if (!string && c == '{' && ++depth > PARSE_MAX_DEPTH) return true;
        else if (!string && c == '}' && depth) depth--;
    }
    return false;
}

SyntaxTree *syntax_parse(int32_t file, LvArena *arena, LvDiagnostics *diagnostics) {
    const LvSource *source = &diagnostics->sources->files.data[file];
    SyntaxTree *tree = LV_NEW(arena, SyntaxTree);
    tree->file = file;
    ParseState state = {.arena = arena, .diagnostics = diagnostics, .tree = tree, .text = source->text,
                        .length = source->length, .file = file};
    LvSpan start = {file, 0, 0};
    if (source->length > MAX_SOURCE) {
        parse_error(&state, start, "this file has %zu bytes; %d is the most", source->length, MAX_SOURCE);
        return tree;
    }
    if (memchr(source->text, 0, source->length)) {
        uint32_t at = (uint32_t)strlen(source->text);
        parse_error(&state, (LvSpan){file, at, at + 1}, "a zero byte: this is not a text file");
        return tree;
    }
    if (blocks_too_deep(source->text, source->length)) {
        parse_error(&state, start, "blocks are nested more than %d deep", PARSE_MAX_DEPTH);
        return tree;
    }
    yyscan_t scanner;
    if (syntax_yylex_init_extra(&state, &scanner)) return tree;
    syntax_yy_scan_bytes(state.text, (int)state.length, scanner);
    syntax_yyparse(scanner, &state);
    syntax_yylex_destroy(scanner);
    if (state.too_deep) {
        parse_error(&state, start, "an expression is nested more than %d deep", PARSE_MAX_DEPTH);
        tree->items.count = 0;
    }
    return tree;
}

// ---- doc comments: `///` lines that stand on lines of their own, right above, nothing but space between

static bool blank_between(const char *text, uint32_t from, uint32_t to) {
    int lines = 0;
    for (uint32_t i = from; i < to; i++) {
        if (text[i] == '\n') lines++;
        else if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    }
    return lines <= 1;
}

const char *syntax_doc(const SyntaxTree *tree, const LvSources *sources, LvSpan span, LvArena *arena) {
    const char *source = sources->files.data[tree->file].text;
    int low = 0, high = tree->comments.count;  // comments that begin before the span
    while (low < high) {
        int middle = (low + high) / 2;
        if (tree->comments.data[middle].span.begin < span.begin) low = middle + 1;
        else high = middle;
    }
    int first = low;
    uint32_t next = span.begin;
    while (first > 0) {
        const Comment *c = &tree->comments.data[first - 1];
        if (!c->own_line || memcmp(source + c->span.begin, "///", 3) != 0 || !blank_between(source, c->span.end, next)) break;
        next = c->span.begin;
        first--;
    }
    LvText text = {0};
    for (int i = first; i < low; i++) {
        const Comment *c = &tree->comments.data[i];
        uint32_t begin = c->span.begin + 3;
        if (source[begin] == ' ') begin++;
        if (i > first) lv_text_putc(&text, '\n');
        lv_text_append(&text, source + begin, c->span.end - begin);
    }
    const char *doc = lv_arena_strdup(arena, lv_text_get(&text));
    lv_text_free(&text);
    return doc;
}

const char *operator_text(Operator op) {
    static const char *const texts[] = {"+",  "-", "*",  "/",  "%",      "**",  "@",  "==",  "!=", "<",
                                        "<=", ">", ">=", "in", "not in", "and", "or", "not", "-"};
    return texts[op];
}
