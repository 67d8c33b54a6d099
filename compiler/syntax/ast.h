// The syntax tree of a .lv file, as written: no names are resolved here. Everything lives in one arena.
#ifndef LV_AST_H
#define LV_AST_H

#include "base/arena.h"
#include "base/diag.h"
#include "base/text.h"

typedef struct Expr Expr;
typedef struct Stmt Stmt;
typedef struct TypeRef TypeRef;

typedef struct {
    const char *text;
    LvSpan span;
} Name;

// Lists grow while parsing and are read as arrays.
#define AST_LIST(Type)      \
    struct {                \
        Type *data;         \
        int count, capacity; \
    }
typedef AST_LIST(Expr *) ExprList;
typedef AST_LIST(Stmt *) StmtList;
typedef AST_LIST(Name) NameList;
typedef AST_LIST(TypeRef *) TypeList;

typedef enum {
    EXPR_ERROR,          // where the parser recovered
    EXPR_NAME,           // name
    EXPR_INT,            // i
    EXPR_FLOAT,          // f
    EXPR_STRING,         // name.text
    EXPR_BOOL,           // i
    EXPR_NONE,
    EXPR_LIST,           // items
    EXPR_COMPREHENSION,  // items[0] for names in items[1] if items[2] (may be missing)
    EXPR_UNARY,          // op items[0]
    EXPR_BINARY,         // items[0] op items[1]
    EXPR_CONDITIONAL,    // items[0] if items[1] else items[2]
    EXPR_CALL,           // items[0](items[1..]); names[i] is the name of argument items[1 + i], text NULL if positional
    EXPR_MEMBER,         // items[0].name
    EXPR_INDEX,          // items[0][items[1..]]
    EXPR_SLICE,          // inside an index: items[0] : items[1] : items[2], each may be NULL
    EXPR_ELLIPSIS,       // inside an index
} ExprKind;

typedef enum {
    OPERATOR_ADD, OPERATOR_SUB, OPERATOR_MUL, OPERATOR_DIV, OPERATOR_MOD, OPERATOR_POW, OPERATOR_MATMUL,
    OPERATOR_EQ, OPERATOR_NE, OPERATOR_LT, OPERATOR_LE, OPERATOR_GT, OPERATOR_GE, OPERATOR_IN, OPERATOR_NOT_IN,
    OPERATOR_AND, OPERATOR_OR, OPERATOR_NOT, OPERATOR_NEG,
} Operator;

struct Expr {
    ExprKind kind;
    Operator op;
    LvSpan span;
    int depth;  // of the tree below; bounded by the parser
    int64_t i;
    double f;
    Name name;
    ExprList items;
    NameList names;
    bool parenthesized;
};

// A type as written: `int`, `f32[B, C]`, `[B, C]`, `[int]` (dims of one name: sema decides), `{a: f32[], b: i32[N]}`, `(T, U)`.
struct TypeRef {
    LvSpan span;
    Name name;       // text NULL: none written
    bool has_dims;
    ExprList dims;
    bool is_record, is_tuple;
    NameList fields;
    TypeList types;
};

typedef struct {
    Name name;
    TypeRef *type;   // NULL: none
    Expr *value;     // default; NULL: none
    LvSpan span;
} Param;
typedef AST_LIST(Param) ParamList;

typedef struct {
    Name name;
    Expr *value;     // NULL: the variable of that name
} Field;
typedef AST_LIST(Field) FieldList;

typedef enum {
    STMT_ERROR,
    STMT_ASSIGN,   // targets = values
    STMT_APPEND,   // targets[0] += values[0]
    STMT_UPDATE,   // targets[0] <- values[0]
    STMT_EXPR,     // values[0]
    STMT_PARAM,    // param name: type = values[0]
    STMT_STATE,    // state name: type = values[0]
    STMT_CACHE,    // cache name: type
    STMT_FROZEN,   // frozen name = values[0]
    STMT_IF,       // values[0], body, otherwise
    STMT_FOR,      // names in values[0], body
    STMT_RETURN,   // values, or fields
    STMT_FN,       // function
    STMT_ENTRY,
} StmtKind;

typedef struct {
    Name name;
    ParamList params;
    TypeRef *result;  // NULL: not written
    StmtList body;
    LvSpan span;      // of the head
} Function;

struct Stmt {
    StmtKind kind;
    LvSpan span;
    Name name;
    TypeRef *type;
    ExprList targets, values;
    NameList names;
    StmtList body, otherwise;
    FieldList fields;
    bool is_record;
    Function *function;
};

typedef enum { ITEM_IMPORT, ITEM_MODULE, ITEM_MODEL, ITEM_FN, ITEM_CONFIG, ITEM_CONST } ItemKind;

typedef struct {
    ItemKind kind;
    LvSpan span;       // of the whole item
    Name name;         // import: the name it is used by
    const char *path;  // import "path" as name; NULL: name.lv
    ParamList params;  // module, model
    StmtList body;     // module, model; config: assignments
    Function *function;
    Expr *value;       // const
} Item;
typedef AST_LIST(Item *) ItemList;

typedef struct {
    LvSpan span;
    bool own_line;     // nothing before it on its line
} Comment;

typedef struct {
    int32_t file;
    ItemList items;
    AST_LIST(Comment) comments;  // in order, for the formatter and for doc comments
} SyntaxTree;

// Parses file `file` of the sources. Errors go to the diagnostics; a tree comes back all the same, with what was understood.
SyntaxTree *syntax_parse(int32_t file, LvArena *arena, LvDiagnostics *diagnostics);

// The `///` lines right above `span`, joined; "" if none.
const char *syntax_doc(const SyntaxTree *tree, const LvSources *sources, LvSpan span, LvArena *arena);

void syntax_print(const SyntaxTree *tree, LvText *out);  // --emit ast: one node a line
// The file in the one canonical style, comments kept. The tree must have parsed without errors.
void syntax_format(const SyntaxTree *tree, const LvSources *sources, LvText *out);
const char *operator_text(Operator op);

#define ast_push(arena, list, item)                                                                          \
    do {                                                                                                     \
        if ((list)->count == (list)->capacity) {                                                             \
            int ast_room_ = (list)->capacity ? 2 * (list)->capacity : 4;                                     \
            void *ast_new_ = lv_arena_array((arena), (size_t)ast_room_, sizeof *(list)->data);               \
            if ((list)->count) memcpy(ast_new_, (list)->data, (size_t)(list)->count * sizeof *(list)->data); \
            (list)->data = ast_new_;                                                                         \
            (list)->capacity = ast_room_;                                                                    \
        }                                                                                                    \
        (list)->data[(list)->count++] = (item);                                                              \
    } while (0)

#endif
