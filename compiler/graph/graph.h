// The graph: SSA values with static shapes, computed by nodes that stand in an order in which inputs come first.
//
//   Graph     one entry of a model: nodes, variables, inputs, results. Owns its arena; nodes are never freed singly.
//   Node      one operation (ops/ops.def), its inputs, its typed attributes, the source span it came from
//   Value     one result of a node: shape, element type, physical layout
//
// Roots, from which everything alive is reached: the named results, and nodes with an effect (state_write).
// A graph is a function: it reads each variable's value of before the run (state_read) and gives its value of after
// (state_write, at most one per variable). Program order of `<-` was resolved by sema.
#ifndef LV_GRAPH_H
#define LV_GRAPH_H

#include "base/arena.h"
#include "base/diag.h"
#include "base/dtype.h"
#include "base/layout.h"
#include "base/plan.h"
#include "base/vec.h"

typedef struct Graph Graph;
typedef struct Node Node;
typedef struct Value Value;

typedef enum {
#define OP(name, ...) OP_##name,
#define ELEMENTWISE(name, ...) OP_##name,
#include "ops/ops.def"
    OP_COUNT
} Op;

// ---- attributes

typedef enum { ATTR_INT, ATTR_FLOAT, ATTR_BOOL, ATTR_LIST, ATTR_NAME, ATTR_DATA } AttrKind;

typedef enum {
#define ATTRIBUTE(name, kind, doc) ATTR_##name,
#include "ops/attributes.def"
    ATTR_COUNT
} AttrName;

typedef struct {
    AttrName name;
    union {
        int64_t i;          // ATTR_INT
        double f;           // ATTR_FLOAT
        bool b;             // ATTR_BOOL
        const char *s;      // ATTR_NAME
        const void *data;   // ATTR_DATA: elements of the result's shape and type, row-major
        struct {
            int count;
            int64_t at[2 * LV_MAX_RANK];
        } list;             // ATTR_LIST
    };
} Attr;

enum { MAX_ATTRS = 8 };

typedef struct {
    int count;
    Attr at[MAX_ATTRS];
} Attrs;

AttrKind attr_kind(AttrName name);
const char *attr_name_text(AttrName name);
bool attr_name_parse(const char *text, AttrName *name);
void attrs_int(Attrs *attrs, AttrName name, int64_t value);
void attrs_float(Attrs *attrs, AttrName name, double value);
void attrs_bool(Attrs *attrs, AttrName name, bool value);
void attrs_list(Attrs *attrs, AttrName name, int count, const int64_t *values);
void attrs_name(Attrs *attrs, AttrName name, const char *value);
void attrs_data(Attrs *attrs, AttrName name, const void *data);

// ---- values and nodes

struct Value {
    Node *node;
    int index;        // which of the node's results
    int id;           // unique in the graph; %id in the text form
    LvDType dtype;
    LvShape shape;
    LvLayout layout;  // row-major until the layout pass
};

struct Node {
    Op op;
    int input_count, result_count;
    Value **inputs;
    Value *results;
    Attrs attrs;
    LvSpan span;        // in the user's source
    const char *scope;  // path of the module instance that made it, "" at the top: "encoders.0.down.0.block.1"
    Node *prev, *next;
    bool by_template;   // scheduling: a kernel template computes it, though the library could
    void *note;         // scratch of the pass that runs
};

const Attr *node_attr(const Node *node, AttrName name);  // NULL if it has none of that name
int64_t node_int(const Node *node, AttrName name, int64_t otherwise);
double node_float(const Node *node, AttrName name, double otherwise);
bool node_bool(const Node *node, AttrName name, bool otherwise);

// ---- variables

enum { VARIABLE_READ_NARROW = 1, VARIABLE_READ_WIDE = 2 };  // as bf16 or f16; as f32, or written, or whatever is no float

typedef struct {
    const char *name;
    LvVariableKind kind;
    LvDType dtype;
    LvShape shape;
    int pack;            // variable that this one is a slice of (all trained parameters: the flat arena), -1: none
    int64_t pack_offset; // in elements
    bool is_pack;        // a flat variable made of others, shape [elements incl. padding to 16]; not in checkpoints itself
    bool operands;       // a cache that no entry reads but in products: kept as narrow as they multiply (passes/operands.c)
    unsigned char reads_beside;  // how entries read it that share it, of those that run `alone`: VARIABLE_READ_... (passes/alone.c)
    bool is_part;        // a range of a flat variable `pack`, for the optimizer alone (passes/parts.c); not in checkpoints either
    LvSpan span;
} Variable;

typedef struct {
    const char *name;
    Value *value;
    LvSpan span;
} GraphPort;  // an input (value of an `input` node) or a named result

struct Graph {
    LvArena *arena;
    const char *name;            // the entry
    Node *first, *last;
    int next_value, node_count;
    LV_VEC(Variable) variables;  // all of the model, in order of instantiation, whether this entry reads them or not
    LV_VEC(GraphPort) inputs;
    LV_VEC(GraphPort) results;
    bool alone;                  // only what is read or written has a place: no entry but those beside shares the variables (passes/alone.c)
    // where new nodes go: before this node (NULL: at the end); and what they are marked with
    Node *insert_before;
    LvSpan span;
    const char *scope;
};

Graph *graph_create(const char *name);
void graph_destroy(Graph *graph);

// Adds a node at the insertion point; shapes and types come from the op's shape rule. If the rule refuses, returns NULL
// and *reason (if not NULL) says why, in the graph's arena. The value returned is result 0 (results follow in the array).
Value *graph_add(Graph *graph, Op op, int input_count, Value *const *inputs, const Attrs *attrs, const char **reason);
// The same where shapes and types are given (leaves: input, constant, state_read, random, iota ...; and parsing).
Value *graph_add_typed(Graph *graph, Op op, int input_count, Value *const *inputs, const Attrs *attrs, LvDType dtype,
                       LvShape shape);
void graph_remove(Graph *graph, Node *node);                             // it must have no uses left
void graph_move(Graph *graph, Node *node, Node *before);                 // to another place; what it reads must stand before that
void graph_replace(Graph *graph, Value *old, Value *with);               // in every node and result. O(nodes)
// Applies many replacements in one walk: `with[old->id]`, NULL for those that stay; chains are followed.
void graph_replace_all(Graph *graph, Value **with);
bool graph_uses_caches(const Graph *graph);
int *graph_count_uses(const Graph *graph, LvArena *arena);               // by value id; results count as uses
int graph_add_variable(Graph *graph, const Variable *variable);
Value *graph_add_input(Graph *graph, const char *name, LvDType dtype, LvShape shape);
void graph_add_result(Graph *graph, const char *name, Value *value);
Value *graph_find_input(const Graph *graph, const char *name);           // NULL if none
int64_t value_bytes(const Value *value);                                 // of its elements, wherever they lie

// Text form (.lvg), and back. graph_print(graph_parse(x)) is x. graph_parse returns NULL and reports what is wrong.
void graph_print(const Graph *graph, LvText *out);
Graph *graph_parse(const char *text, size_t length, LvError *error);
// Nodes and ports of another graph behind those that are there; the names of its ports get the prefix.
void graph_append(Graph *to, const Graph *graph, const char *prefix);
Graph *graph_copy(const Graph *graph);  // spans and scopes kept; value ids are given anew

// What is wrong with the graph, in the arena; NULL: nothing. Order of nodes, shapes, attributes, layouts, effects.
const char *graph_verify(const Graph *graph, LvArena *arena);

#define GRAPH_EACH(graph, node) (Node * node = (graph)->first; node; node = node->next)

#endif
