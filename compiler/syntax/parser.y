// The grammar. Actions build the raw tree and nothing else; meaning comes in sema/.
// An error inside braces is skipped to the end of the statement, so that one run reports several.
%define api.pure full
%define api.prefix {syntax_yy}
%define api.token.prefix {TOKEN_}
%define parse.error custom
%define api.location.type {LvSpan}
%locations
%expect 0
%parse-param {yyscan_t scanner} {ParseState *state}
%lex-param {yyscan_t scanner}

%code requires {
#include "syntax/parse.h"
#ifndef YY_TYPEDEF_YY_SCANNER_T
#define YY_TYPEDEF_YY_SCANNER_T
typedef void *yyscan_t;
#endif
#define YYLLOC_DEFAULT(current, rhs, n)                                                     \
    do {                                                                                    \
        if (n) (current) = span_join(YYRHSLOC(rhs, 1), YYRHSLOC(rhs, n));                   \
        else (current) = (LvSpan){YYRHSLOC(rhs, 0).file, YYRHSLOC(rhs, 0).end, YYRHSLOC(rhs, 0).end}; \
    } while (0)
#define YYMAXDEPTH 6000
}

%union {
    int64_t integer;
    double number;
    Name name;
    Expr *expr;
    Stmt *stmt;
    TypeRef *type;
    Item *item;
    Function *function;
    ExprList exprs;
    StmtList stmts;
    NameList names;
    TypeList types;
    ParamList params;
    Param param;
    FieldList fields;
    Field field;
}

%code {
int syntax_yylex(SYNTAX_YYSTYPE *value, LvSpan *span, yyscan_t scanner);
static void syntax_yyerror(LvSpan *span, yyscan_t scanner, ParseState *state, const char *message) {
    (void)scanner;
    parse_error(state, *span, "%s", strstr(message, "memory") ? "this is nested too deeply" : message);
}
#define PUSH(list, item) ast_push(state->arena, &(list), item)
static Stmt *assign(ParseState *state, StmtKind kind, ExprList targets, ExprList values, LvSpan span) {
    Stmt *stmt = stmt_new(state, kind, span);
    stmt->targets = targets;
    stmt->values = values;
    return stmt;
}
static ExprList one(ParseState *state, Expr *expr) {
    ExprList list = {0};
    PUSH(list, expr);
    return list;
}
static Item *item_new(ParseState *state, ItemKind kind, LvSpan span, Name name) {
    Item *item = LV_NEW(state->arena, Item);
    item->kind = kind;
    item->span = span;
    item->name = name;
    return item;
}
static TypeRef *type_new(ParseState *state, LvSpan span) {
    TypeRef *type = LV_NEW(state->arena, TypeRef);
    type->span = span;
    return type;
}
}

%token END 0 "end of file" NEWLINE "end of line"
%token <name> NAME "name" STRING "string"
%token <name> IMPORT "'import'" AS "'as'" MODULE "'module'" MODEL "'model'" CONFIG "'config'" CONST "'const'"
%token <name> PARAM "'param'" STATE "'state'" CACHE "'cache'" FROZEN "'frozen'" ENTRY "'entry'"
%token <integer> INT "integer"
%token <number> FLOAT "number"
%token FN "'fn'" IF "'if'" ELSE "'else'" FOR "'for'" IN "'in'" RETURN "'return'" AND "'and'" OR "'or'" NOT "'not'"
%token TRUE "'true'" FALSE "'false'" NONE "'none'"
%token GIVES "'->'" UPDATE "'<-'" APPEND "'+='" EQ "'=='" NE "'!='" LE "'<='" GE "'>='" POW "'**'" ELLIPSIS "'...'"

%left OR
%left AND
%right NOT
%nonassoc EQ NE '<' '>' LE GE IN
%left '+' '-'
%left '*' '/' '%' '@'
%right UMINUS
%right POW

%type <name> name
%type <expr> expr whole postfix primary subscript optional argument_value
%type <exprs> exprs items subscripts dims
%type <stmt> stmt line simple
%type <stmts> lines block else_part
%type <names> names
%type <type> type result_type
%type <types> types several
%type <params> params param_list
%type <param> param
%type <fields> fields
%type <field> field
%type <item> item item_line
%type <function> function
%type <expr> arguments

%%

file: item_line { if ($1) PUSH(state->tree->items, $1); }
    | file NEWLINE item_line { if ($3) PUSH(state->tree->items, $3); }
    ;

item_line: %empty { $$ = NULL; }
    | item
    | error { $$ = NULL; }
    ;

item: IMPORT name { $$ = item_new(state, ITEM_IMPORT, @$, $2); }
    | IMPORT STRING AS name { $$ = item_new(state, ITEM_IMPORT, @$, $4); $$->path = $2.text; }
    | MODULE name '(' params ')' block { $$ = item_new(state, ITEM_MODULE, @$, $2); $$->params = $4; $$->body = $6; }
    | MODEL name '(' params ')' block { $$ = item_new(state, ITEM_MODEL, @$, $2); $$->params = $4; $$->body = $6; }
    | MODULE name broken_head block { $$ = item_new(state, ITEM_MODULE, @$, $2); $$->body = $4; }
    | MODEL name broken_head block { $$ = item_new(state, ITEM_MODEL, @$, $2); $$->body = $4; }
    | MODEL name block { $$ = item_new(state, ITEM_MODEL, @$, $2); $$->body = $3; }
    | CONFIG name block { $$ = item_new(state, ITEM_CONFIG, @$, $2); $$->body = $3; }
    | CONST name '=' whole { $$ = item_new(state, ITEM_CONST, @$, $2); $$->value = $4; }
    | FN function { $$ = item_new(state, ITEM_FN, @$, $2->name); $$->function = $2; }
    ;

function: name '(' params ')' result_type block {
        $$ = LV_NEW(state->arena, Function);
        $$->name = $1, $$->params = $3, $$->result = $5, $$->body = $6;
        $$->span = span_join(@1, $5 ? @5 : @4);
    }
    | name broken_head block {
        $$ = LV_NEW(state->arena, Function);
        $$->name = $1, $$->body = $3, $$->span = @1;
    }
    ;

// Where a head is wrong, what its braces hold is read all the same.
broken_head: error
    | '(' error
    ;

result_type: %empty { $$ = NULL; }
    | GIVES type { $$ = $2; }
    ;

params: %empty { $$ = (ParamList){0}; }
    | param_list
    | param_list ','
    ;
param_list: param { $$ = (ParamList){0}; PUSH($$, $1); }
    | param_list ',' param { $$ = $1; PUSH($$, $3); }
    ;
param: name { $$ = (Param){.name = $1, .span = @$}; }
    | name ':' type { $$ = (Param){.name = $1, .type = $3, .span = @$}; }
    | name '=' whole { $$ = (Param){.name = $1, .value = $3, .span = @$}; }
    | name ':' type '=' whole { $$ = (Param){.name = $1, .type = $3, .value = $5, .span = @$}; }
    ;

type: name { $$ = type_new(state, @$); $$->name = $1; }
    | name '[' dims ']' { $$ = type_new(state, @$); $$->name = $1; $$->has_dims = true; $$->dims = $3; }
    | '[' dims ']' { $$ = type_new(state, @$); $$->has_dims = true; $$->dims = $2; }
    | '{' types '}' { $$ = type_new(state, @$); $$->is_record = true; $$->types = $2; 
                      for (int i = 0; i < $2.count; i++) PUSH($$->fields, $2.data[i]->fields.data[0]); }
    | '(' several ')' { $$ = type_new(state, @$); $$->is_tuple = true; $$->types = $2; }
    ;
several: type ',' type { $$ = (TypeList){0}; PUSH($$, $1); PUSH($$, $3); }
    | several ',' type { $$ = $1; PUSH($$, $3); }
    ;
types: name ':' type { $$ = (TypeList){0}; TypeRef *t = type_new(state, @$); *t = *$3; t->fields = (NameList){0}; PUSH(t->fields, $1); PUSH($$, t); }
    | types ',' name ':' type { $$ = $1; TypeRef *t = type_new(state, @$); *t = *$5; t->fields = (NameList){0}; PUSH(t->fields, $3); PUSH($$, t); }
    ;
dims: %empty { $$ = (ExprList){0}; }
    | exprs
    | exprs ','
    ;

block: '{' lines '}' { $$ = $2; }
    ;
lines: line { $$ = (StmtList){0}; if ($1) PUSH($$, $1); }
    | lines NEWLINE line { $$ = $1; if ($3) PUSH($$, $3); }
    ;
line: %empty { $$ = NULL; }
    | stmt
    | error { $$ = NULL; }
    ;

stmt: simple
    | PARAM name ':' type '=' whole { $$ = stmt_new(state, STMT_PARAM, @$); $$->name = $2; $$->type = $4; $$->values = one(state, $6); }
    | PARAM name ':' type { $$ = stmt_new(state, STMT_PARAM, @$); $$->name = $2; $$->type = $4;
                            parse_error(state, @$, "param '%s' needs an initial value: `= init.…` or a number", $2.text); }
    | STATE name ':' type '=' whole { $$ = stmt_new(state, STMT_STATE, @$); $$->name = $2; $$->type = $4; $$->values = one(state, $6); }
    | CACHE name ':' type { $$ = stmt_new(state, STMT_CACHE, @$); $$->name = $2; $$->type = $4; }
    | CACHE name ':' type '=' whole { $$ = stmt_new(state, STMT_CACHE, @$); $$->name = $2; $$->type = $4;
                                      parse_error(state, @6, "cache '%s' has no initial value: it starts at zero", $2.text); }
    | FROZEN name '=' whole { $$ = stmt_new(state, STMT_FROZEN, @$); $$->name = $2; $$->values = one(state, $4); }
    | IF whole block else_part { $$ = stmt_new(state, STMT_IF, @$); $$->values = one(state, $2); $$->body = $3; $$->otherwise = $4; }
    | IF error block else_part { $$ = stmt_new(state, STMT_ERROR, @$); }
    | FOR error block { $$ = stmt_new(state, STMT_ERROR, @$); }
    | FOR names IN whole block { $$ = stmt_new(state, STMT_FOR, @$); $$->names = $2; $$->values = one(state, $4); $$->body = $5; }
    | RETURN { $$ = stmt_new(state, STMT_RETURN, @$); }
    | RETURN exprs { $$ = stmt_new(state, STMT_RETURN, @$); $$->values = $2; }
    | RETURN '{' fields close { $$ = stmt_new(state, STMT_RETURN, @$); $$->fields = $3; $$->is_record = true; }
    | RETURN '{' error '}' { $$ = stmt_new(state, STMT_ERROR, @$); }
    | FN function { $$ = stmt_new(state, STMT_FN, @$); $$->name = $2->name; $$->function = $2; }
    | ENTRY function { $$ = stmt_new(state, STMT_ENTRY, @$); $$->name = $2->name; $$->function = $2; }
    ;
simple: exprs { $$ = assign(state, STMT_EXPR, (ExprList){0}, $1, @$); }
    | exprs '=' exprs { $$ = assign(state, STMT_ASSIGN, $1, $3, @$); }
    | exprs APPEND exprs { $$ = assign(state, STMT_APPEND, $1, $3, @$); }
    | exprs UPDATE exprs { $$ = assign(state, STMT_UPDATE, $1, $3, @$); }
    ;
else_part: %empty { $$ = (StmtList){0}; }
    | ELSE block { $$ = $2; }
    | ELSE IF whole block else_part { Stmt *s = stmt_new(state, STMT_IF, @$); s->values = one(state, $3); s->body = $4; s->otherwise = $5; $$ = (StmtList){0}; PUSH($$, s); }
    ;
close: '}' | NEWLINE '}' | ',' '}' | ',' NEWLINE '}' ;
fields: field { $$ = (FieldList){0}; PUSH($$, $1); }
    | fields ',' field { $$ = $1; PUSH($$, $3); }
    ;
field: name { $$ = (Field){$1, NULL}; }
    | name ':' whole { $$ = (Field){$1, $3}; }
    ;

names: name { $$ = (NameList){0}; PUSH($$, $1); }
    | names ',' name { $$ = $1; PUSH($$, $3); }
    ;
name: NAME | IMPORT | AS | MODULE | MODEL | CONFIG | CONST | PARAM | STATE | CACHE | FROZEN | ENTRY ;

exprs: whole { $$ = one(state, $1); }
    | exprs ',' whole { $$ = $1; PUSH($$, $3); }
    ;

whole: expr
    | expr IF expr ELSE whole { $$ = expr_conditional(state, $1, $3, $5); }
    ;

expr: postfix
    | expr '+' expr { $$ = expr_binary(state, OPERATOR_ADD, $1, $3); }
    | expr '-' expr { $$ = expr_binary(state, OPERATOR_SUB, $1, $3); }
    | expr '*' expr { $$ = expr_binary(state, OPERATOR_MUL, $1, $3); }
    | expr '/' expr { $$ = expr_binary(state, OPERATOR_DIV, $1, $3); }
    | expr '%' expr { $$ = expr_binary(state, OPERATOR_MOD, $1, $3); }
    | expr '@' expr { $$ = expr_binary(state, OPERATOR_MATMUL, $1, $3); }
    | expr POW expr { $$ = expr_binary(state, OPERATOR_POW, $1, $3); }
    | expr EQ expr { $$ = expr_binary(state, OPERATOR_EQ, $1, $3); }
    | expr NE expr { $$ = expr_binary(state, OPERATOR_NE, $1, $3); }
    | expr '<' expr { $$ = expr_binary(state, OPERATOR_LT, $1, $3); }
    | expr LE expr { $$ = expr_binary(state, OPERATOR_LE, $1, $3); }
    | expr '>' expr { $$ = expr_binary(state, OPERATOR_GT, $1, $3); }
    | expr GE expr { $$ = expr_binary(state, OPERATOR_GE, $1, $3); }
    | expr IN expr { $$ = expr_binary(state, OPERATOR_IN, $1, $3); }
    | expr NOT IN expr %prec IN { $$ = expr_binary(state, OPERATOR_NOT_IN, $1, $4); }
    | expr AND expr { $$ = expr_binary(state, OPERATOR_AND, $1, $3); }
    | expr OR expr { $$ = expr_binary(state, OPERATOR_OR, $1, $3); }
    | NOT expr { $$ = expr_unary(state, OPERATOR_NOT, $2, @$); }
    | '-' expr %prec UMINUS { $$ = expr_unary(state, OPERATOR_NEG, $2, @$); }
    ;

postfix: primary
    | postfix '.' name { $$ = expr_new(state, EXPR_MEMBER, @$); expr_add(state, $$, $1); $$->name = $3; }
    | postfix '(' ')' { $$ = expr_new(state, EXPR_CALL, @$); expr_add(state, $$, $1); }
    | postfix '(' arguments ')' { $$ = $3; $$->span = @$; $$->items.data[0] = $1; if ($1->depth >= $$->depth) $$->depth = $1->depth + 1;
                                   if ($$->depth > PARSE_MAX_DEPTH) state->too_deep = true; }
    | postfix '(' arguments ',' ')' { $$ = $3; $$->span = @$; $$->items.data[0] = $1; if ($1->depth >= $$->depth) $$->depth = $1->depth + 1;
                                   if ($$->depth > PARSE_MAX_DEPTH) state->too_deep = true; }
    | postfix '[' subscripts ']' { $$ = expr_new(state, EXPR_INDEX, @$); expr_add(state, $$, $1);
                                   for (int i = 0; i < $3.count; i++) expr_add(state, $$, $3.data[i]); }
    ;

arguments: argument_value { $$ = expr_new(state, EXPR_CALL, @$); expr_add(state, $$, NULL); expr_add(state, $$, $1);
                            PUSH($$->names, ((Name){0})); }
    | name '=' whole { $$ = expr_new(state, EXPR_CALL, @$); expr_add(state, $$, NULL); expr_add(state, $$, $3); PUSH($$->names, $1); }
    | arguments ',' argument_value { $$ = $1; expr_add(state, $$, $3); PUSH($$->names, ((Name){0})); }
    | arguments ',' name '=' whole { $$ = $1; expr_add(state, $$, $5); PUSH($$->names, $3); }
    ;
argument_value: whole ;

subscripts: subscript { $$ = one(state, $1); }
    | subscripts ',' subscript { $$ = $1; PUSH($$, $3); }
    ;
subscript: whole
    | ELLIPSIS { $$ = expr_new(state, EXPR_ELLIPSIS, @$); }
    | optional ':' optional { $$ = expr_new(state, EXPR_SLICE, @$); expr_add(state, $$, $1); expr_add(state, $$, $3); expr_add(state, $$, NULL); }
    | optional ':' optional ':' optional { $$ = expr_new(state, EXPR_SLICE, @$); expr_add(state, $$, $1); expr_add(state, $$, $3); expr_add(state, $$, $5); }
    ;
optional: %empty { $$ = NULL; }
    | whole
    ;

primary: name { $$ = expr_new(state, EXPR_NAME, @$); $$->name = $1; }
    | INT { $$ = expr_new(state, EXPR_INT, @$); $$->i = $1; }
    | FLOAT { $$ = expr_new(state, EXPR_FLOAT, @$); $$->f = $1; }
    | STRING { $$ = expr_new(state, EXPR_STRING, @$); $$->name = $1; }
    | TRUE { $$ = expr_new(state, EXPR_BOOL, @$); $$->i = 1; }
    | FALSE { $$ = expr_new(state, EXPR_BOOL, @$); }
    | NONE { $$ = expr_new(state, EXPR_NONE, @$); }
    | '(' whole ')' { $$ = $2; $$->parenthesized = true; $$->span = @$; }
    | '[' items ']' { $$ = expr_new(state, EXPR_LIST, @$); for (int i = 0; i < $2.count; i++) expr_add(state, $$, $2.data[i]); }
    | '[' whole FOR names IN expr ']' { $$ = expr_new(state, EXPR_COMPREHENSION, @$); $$->names = $4;
                                         expr_add(state, $$, $2); expr_add(state, $$, $6); }
    | '[' whole FOR names IN expr IF expr ']' { $$ = expr_new(state, EXPR_COMPREHENSION, @$); $$->names = $4;
                                         expr_add(state, $$, $2); expr_add(state, $$, $6); expr_add(state, $$, $8); }
    ;
items: %empty { $$ = (ExprList){0}; }
    | exprs
    | exprs ','
    ;

%%

// ---- messages: "expected ')' or ',' before 'name'"; the symbols' aliases are what the user reads

// Words that are keywords only where a statement or item begins, and names elsewhere: no news among what is expected.
static bool is_soft_keyword(yysymbol_kind_t symbol) { return symbol >= YYSYMBOL_IMPORT && symbol <= YYSYMBOL_ENTRY; }

static bool begins_expression(yysymbol_kind_t symbol) {
    switch (symbol) {
    case YYSYMBOL_NAME: case YYSYMBOL_INT: case YYSYMBOL_FLOAT: case YYSYMBOL_STRING: case YYSYMBOL_TRUE: case YYSYMBOL_FALSE:
    case YYSYMBOL_NONE: case YYSYMBOL_NOT: return true;
    default: return is_soft_keyword(symbol) || strchr("-([", yysymbol_name(symbol)[1]);
    }
}

static bool holds(const yysymbol_kind_t *symbols, int count, yysymbol_kind_t symbol) {
    for (int i = 0; i < count; i++) if (symbols[i] == symbol) return true;
    return false;
}

// At most five alternatives; an expression and a name count as one each.
static void write_expected(const yysymbol_kind_t *symbols, int count, LvText *out) {
    enum { MOST = 5 };
    const char *words[MOST + 1];
    int n = 0;
    bool expression = holds(symbols, count, YYSYMBOL_INT), name = holds(symbols, count, YYSYMBOL_NAME);
    if (!name && holds(symbols, count, YYSYMBOL_MODULE))
        return (void)lv_text_puts(out, "expected import, module, model, fn, config or const");
    if (expression && holds(symbols, count, YYSYMBOL_FOR)) return (void)lv_text_puts(out, "expected a statement");
    if (expression) words[n++] = "an expression";
    else if (name) words[n++] = "a name";
    for (int i = 0; i < count && n <= MOST; i++) {
        bool told = expression ? begins_expression(symbols[i])
                               : name && (symbols[i] == YYSYMBOL_NAME || is_soft_keyword(symbols[i]));
        if (!told) words[n++] = yysymbol_name(symbols[i]);
    }
    if (n > MOST) n = expression || name ? 1 : 0;
    for (int i = 0; i < n; i++) lv_text_printf(out, "%s%s", i == 0 ? "expected " : i == n - 1 ? " or " : ", ", words[i]);
    if (!n) lv_text_puts(out, "unexpected");
}

static int yyreport_syntax_error(const yypcontext_t *context, yyscan_t scanner, ParseState *state) {
    enum { ALL = 100 };
    static const char *const keywords[] = {"import", "module", "model", "config", "const", "fn", "entry", "param", "state", "cache", "frozen",
                                           "return", "if", "else", "for"};
    yysymbol_kind_t expected[ALL], found = yypcontext_token(context);
    LvSpan span = *yypcontext_location(context);
    LvText text = {0};
    (void)scanner;
    if (!parse_error_is_new(state, span)) return 0;
    write_expected(expected, yypcontext_expected_tokens(context, expected, ALL), &text);
    if (found != YYSYMBOL_YYEMPTY) lv_text_printf(&text, "%s%s", strcmp(lv_text_get(&text), "unexpected") ? " before " : " ", yysymbol_name(found));
    const char *word = state->name_before ? lv_nearest_name(state->name_before, keywords, sizeof keywords / sizeof *keywords) : NULL;
    if (word) lv_text_printf(&text, "; is '%s' meant to be '%s'?", state->name_before, word);
    parse_error(state, span, "%s", lv_text_get(&text));
    lv_text_free(&text);
    return 0;
}
