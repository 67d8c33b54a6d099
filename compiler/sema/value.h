// Private to sema/: compile-time values, instances, scopes, and the state of one elaboration.
#ifndef LV_SEMA_VALUE_H
#define LV_SEMA_VALUE_H

#include "base/map.h"
#include "graph/graph.h"
#include "ops/op.h"
#include "sema/imports.h"

typedef struct Instance Instance;
typedef struct List List;
typedef struct Elaborator Elaborator;
typedef struct Val Val;

typedef enum {
    VAL_POISON,     // of an error already reported; whatever touches it is poison too
    VAL_NONE,
    VAL_INT,        // i
    VAL_FLOAT,      // f
    VAL_BOOL,       // i
    VAL_STRING,     // s
    VAL_LIST,       // list
    VAL_TUPLE,      // list: `return a, b`
    VAL_RECORD,     // list, list->names: `return {a, b}`
    VAL_INSTANCE,   // instance
    VAL_TENSOR,     // tensor
    VAL_VARIABLE,   // i: a param or state; as a tensor, its value at that point of the program
    VAL_DTYPE,      // i: LvDType
    VAL_FUNCTION,   // function, of file `file`, or of `instance`
    VAL_MODULE,     // item, of `file`
    VAL_NAMESPACE,  // file
    VAL_BUILTIN,    // i: index into the table of builtins
} ValKind;

struct Val {
    ValKind kind;
    union {
        int64_t i;
        double f;
        const char *s;
        List *list;
        Value *tensor;
        const Function *function;
        const Item *item;
    };
    Instance *instance;
    SourceFile *file;
};

struct List {
    int count;
    int depth;          // of lists within it; bounded, for walks recurse
    Val *at;
    const Name *names;  // of a record's fields
};

// Names bound so far. Small: linear search.
typedef struct {
    struct Binding {
        const char *name;
        Val value;
        bool is_dim;   // bound by a signature, not by the program
    } *at;
    int count, capacity;
} Scope;

struct Instance {
    const Item *item;
    SourceFile *file;
    const char *path;  // "encoders.0.down.1"; "" for the model
    Scope scope;       // parameters and what the body bound
    bool complete;     // its body has run
};

// One call or instantiation on the way to what is being elaborated: the notes under an error.
typedef struct Frame {
    const struct Frame *outer;
    LvSpan span;       // of the call
    const char *what;  // "in `conv1(...)`, a Conv2d at encoders.0.conv1"
    int depth;
} Frame;

typedef struct {
    int variable;      // of the graph
    Value *current;    // its value at this point; NULL: not read yet
    bool written;
    int group;         // of params: number of the group that `group` put it into, 0: none
} VariableState;

// Params that an optimizer may tell apart: they lie together in the flat vector.
typedef struct {
    int number;           // from 1
    int64_t begin, end;   // elements of the flat vector, once it is made
} ParamGroup;

struct Elaborator {
    LvModel *model;
    Graph *graph;
    LvArena *arena;          // of the values; the graph has its own
    LvDiagnostics *diagnostics;
    int64_t batch;
    bool initializing;       // entry `init`: initial values are computed
    bool training;
    bool frozen;             // instantiating below `frozen`
    bool optimizing;         // instantiating or running the optimizer
    bool in_entry;           // variables can be updated
    bool in_cache;           // evaluating the shape of a cache: `batch` is known
    int64_t parameter_elements;  // the flat size, once known; -1
    int pack;                // variable of all trained parameters, -1
    LvMap groups;            // of params: name -> ParamGroup
    const Frame *frame;
    // where code is being run
    SourceFile *file;
    Instance *instance;      // NULL in free functions
    const char *path;        // of the innermost instance, also in the free functions that it calls: the scope of nodes
    const Function *function; // being run, NULL in a module's body
    Scope *scope;            // locals
    const char *naming;      // path for an instance created right here, NULL: none may be
    const char *stream_base; // of initial values: the variable, whose name the random streams have
    int stream_count;
    LvMap streams;           // else: how many there are so far at each path
    int depth;               // of C recursion
    int64_t work;            // steps of evaluation; bounded
    bool stopped;            // a limit was hit: one error, then silence
    LV_VEC(VariableState) variables;
    LvMap paths;             // every path that an instance or variable has
};

// ---- values (value.c)
extern const Val VAL_BAD;
Val val_none(void);
Val val_int(int64_t i);
Val val_float(double f);
Val val_bool(bool b);
Val val_string(const char *s);
Val val_tensor(Value *tensor);
Val val_list(Elaborator *e, int count);
Val list_done(Elaborator *e, Val list, LvSpan span);  // when its items are set: no list is nested too deeply
bool val_is_number(Val v);                   // int or float
double val_number(Val v);
bool val_equal(Elaborator *e, Val a, Val b);  // counts as work: lists may share their insides many times over
bool dtype_find(const char *name, LvDType *dtype);  // f32 i32 i64 bool: the element types of the language
const char *val_kind_name(Val v);            // "an int", "a tensor f32[B, 3]"
const char *val_text(Elaborator *e, Val v);  // as it would be written
Val *scope_find(Scope *scope, const char *name);
void scope_set(Elaborator *e, Scope *scope, const char *name, Val value);

// ---- errors
// An error whose first note is at `place`.
Val fail_at(Elaborator *e, LvSpan place, const char *note, LvSpan span, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
Val fail(Elaborator *e, LvSpan span, const char *format, ...)
    __attribute__((format(printf, 3, 4)));  // with the notes of the frames
void suggest(Elaborator *e, const char *word, const char *const *names, size_t count, LvText *out);   // "; did you mean 'x'?"

// ---- evaluation (expression.c, statement.c, call.c, operator.c, builtin.c)
Val evaluate(Elaborator *e, const Expr *expr);
bool evaluate_quietly(Elaborator *e, const Expr *expr, Val *out);  // for messages: no error is reported
Val evaluate_named(Elaborator *e, const Expr *expr, const char *path);  // instances made in it are named `path`, `path.0` …
Val name_lookup(Elaborator *e, const char *name);  // VAL_POISON silently if there is none
enum { MAX_WORK = 4000000 };              // steps: a second or two; the largest network here takes some 50,000
bool enter(Elaborator *e, LvSpan span);   // one more step, one deeper; false (reported once): too much
void leave(Elaborator *e);
bool truth(Elaborator *e, const Expr *expr, bool *value);

bool run_block(Elaborator *e, const StmtList *block, bool module_body, Val *returned, bool *has_returned);
Val call_value(Elaborator *e, Val callee, const Expr *call, const Expr *callee_expr);
Val call_function(Elaborator *e, const Function *function, SourceFile *file, Instance *self, int count, const Val *values,
                  const Name *names, const LvSpan *spans, LvSpan span, const char *what);
Val instantiate(Elaborator *e, const Item *item, SourceFile *file, const char *path, int count, const Val *values,
                const Name *names, const LvSpan *spans, LvSpan span);
// value as the declared type of `name` (int -> float …); poison and an error if it does not fit
Val convert(Elaborator *e, Val value, const TypeRef *type, const char *what, LvSpan span);
bool dims_shape(Elaborator *e, const TypeRef *type, LvShape *shape);
const char *type_text(Elaborator *e, const TypeRef *type);
const char *signature_text(Elaborator *e, const TypeRef *type);            // "[B, cin] = f32[8, 3]"
const char *operand_text(Elaborator *e, const Expr *expr, const Value *v);  // with the dimensions' names if expr is a parameter

Val operate(Elaborator *e, Operator op, Val a, Val b, LvSpan span);
Val negate(Elaborator *e, Val a, LvSpan span);
Value *tensor_of(Elaborator *e, Val v, const Value *like, LvSpan span);  // like: type and shape for numbers, NULL: f32 scalar
bool is_tensor(Val v);
Value *broadcast(Elaborator *e, Value *v, LvShape shape);
bool broadcast_shapes(LvShape a, LvShape b, LvShape *out);
Value *add_checked(Elaborator *e, Op op, int count, Value *const *inputs, const Attrs *attrs, LvSpan span);
const char *tensor_text(Elaborator *e, const Value *value);  // "f32[8, 3]"
Val index_value(Elaborator *e, Val base, const Expr *expr);

int builtin_find(const char *name);  // -1
const char *builtin_name(int index);
int builtin_count(void);
Val builtin_call(Elaborator *e, int index, const Expr *call);

// ---- variables
int declare_variable(Elaborator *e, const char *path, LvVariableKind kind, LvDType dtype, LvShape shape,
                     LvSpan span);  // -1: reported
Value *variable_read(Elaborator *e, int variable);
void variable_update(Elaborator *e, int variable, Val value, LvSpan span);
void finish_writes(Elaborator *e);
Val minimize(Elaborator *e, const Expr *call);
Value *builtin_input(Elaborator *e, const char *name, LvDType dtype);  // $seed, $step, $lr
void random_source(Elaborator *e, Attrs *attrs, Value *source[2]);  // a stream of its own; the run's seed and step
Value *random_node(Elaborator *e, Op op, LvShape shape, Value *seed);

#endif
