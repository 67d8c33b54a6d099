// Graph-to-graph passes: what they share, and the table by which they are named.
#ifndef LV_PASSES_PASS_H
#define LV_PASSES_PASS_H

#include "driver/compiler.h"
#include "driver/target.h"
#include "graph/graph.h"

// What a pass may know besides the graph. Every pass gets a scratch arena of its own.
typedef struct {
    LvPrecision precision;
    const Target *target;
    int64_t ranks;         // that run the plan together, each on a batch of its own; 1: it is by itself
    double remat;          // share of the cheap waiting values to make again, 0 to 1; from there to 2: contractions too, passes/remat.c
    LvArena *arena;        // scratch, freed after the pass
    LvDiagnostics *diagnostics;
    LvError *error;
} PassContext;

// False: the user's program or settings do not allow it; diagnostics or error say why. Our own bugs abort.
typedef bool (*PassFunction)(Graph *graph, PassContext *context);

typedef struct {
    const char *name;
    PassFunction run;
    const char *summary;
} Pass;

#define PASS(name, summary) bool pass_##name(Graph *graph, PassContext *context);
#include "passes/passes.def"
#undef PASS

const Pass *pass_find(const char *name);            // NULL if there is none
const Pass *pass_table(int *count);

// ---- rewrite.c: the driver of rules

// Looks at one node whose inputs are already rewritten. Returns the value that replaces result 0, or NULL. New nodes go
// before the node (graph->insert_before is set) and are looked at in turn.
typedef Value *(*RewriteRule)(Graph *graph, Node *node, void *user);

// One walk in order, over nodes with one result. True: something was replaced. The nodes replaced stay, unused, for dce.
bool rewrite_walk(Graph *graph, RewriteRule rule, void *user);
// New nodes are marked with the source place of `node` and go before it.
void rewrite_at(Graph *graph, Node *node);
void rewrite_end(Graph *graph);

// What takes the place of which value, gathered during a walk: by value id, NULL (or beyond the end): it stays.
typedef LV_VEC(Value *) Replacements;
void replacements_set(Replacements *with, int id, Value *value);
void replacements_apply(Graph *graph, Replacements *with);  // in every node and result; frees the list

// ---- facts.c: small questions about values

bool value_is_constant(const Value *value);                         // a `constant` node (one number everywhere)
bool value_is_number(const Value *value, double number);            // a constant of this number
double value_number(const Value *value);                            // of a constant
bool value_is_float(const Value *value);
bool node_is_elementwise(const Node *node);                         // element i of the result from element i of the inputs
bool node_is_leaf(const Node *node);
bool graph_has_op(const Graph *graph, Op op);

// ---- operands.c: caches of operands

// By variable: a cache of f32 that this graph reads, if at all, in products alone, or to write it anew.
bool *operands_find(const Graph *graph, LvArena *arena);
// Caches that are marked so in every entry, and what moves their elements, become narrow.
void operands_narrow(Graph *graph, LvDType dtype, LvArena *arena);

// ---- alone.c

// By variable: how the graph reads it, of VARIABLE_READ_..., 0 where it does not.
unsigned char *alone_find_reads(const Graph *graph, LvDType dtype, const Target *target, LvArena *arena);

bool processor_has_bf16(void);                                      // products of bf16, by the library: precision.c
// Whether the library rounds that operand itself, where the others are narrow: a weight that it lays out anew in every call.
bool casts_itself(const Node *node, int input, const Target *target);
// Element types and shapes agree, so that one may stand for the other.
bool value_alike(const Value *a, const Value *b);
Node *node_add_like(Graph *graph, const Node *node, Value *const *inputs);  // the same op and attributes over other inputs
uint64_t node_hash(const Node *node);                               // op, inputs, attributes, types
bool node_same(const Node *a, const Node *b);                       // op, inputs, attributes, types
bool value_same(const Value *a, const Value *b, int *budget);       // the same expression, as far as `budget` nodes tell

#endif
