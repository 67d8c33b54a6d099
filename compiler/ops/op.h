// What the rest of the compiler may ask about an operation: the rows of ops.def as a table, reference evaluation,
// gradients, decompositions, and short builders for writing graphs in C.
#ifndef LV_OPS_OP_H
#define LV_OPS_OP_H

#include "graph/graph.h"

typedef enum {
    OP_KIND_LEAF,
    OP_KIND_ELEMENTWISE,   // result element i depends on element i of the inputs alone
    OP_KIND_ELEMENT_COPY,  // the same, value kept (cast, stop_gradient)
    OP_KIND_REDUCTION,
    OP_KIND_MOVEMENT,
    OP_KIND_INDEXED,
    OP_KIND_CONTRACTION,
    OP_KIND_COMPOSITE,
    OP_KIND_EFFECT,        // a root without a result
    OP_KIND_EFFECT_VALUE,  // never removed nor duplicated
} OpKind;

// A buffer of the reference evaluation: every float type is held as f64 (or f32), every integer and bool as i64.
// Values of f32 nodes are rounded to f32 after each op when `round` is set.
typedef struct {
    LvShape shape;
    LvDType dtype;
    double *f;   // floats
    int64_t *i;  // integers and bools
} Tensor;

typedef struct {
    bool round;  // round each result to its type (f32, bf16): what a backend would give; off: true values in f64
    LvArena *arena;
} Evaluation;

typedef struct OpInfo {
    const char *name;
    OpKind kind;
    int inputs;   // -1: any number
    int results;
    const char *attribute_text;  // "(stride, pad)": see op_takes_attr
    const char *expression;  // elementwise: C over a, b, c; else NULL
    // Fills results[i].shape and .dtype from inputs and attributes; or returns why it cannot (text in the graph's arena).
    const char *(*shape)(Graph *graph, Node *node);
    // Computes the results (allocated by the caller, shape and dtype set). NULL: the evaluator gives it (input, state).
    void (*evaluate)(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results);
    // Given the gradients of the results (NULL where none), sets input_grads[i] (NULL: none). NULL: has no gradient.
    void (*gradient)(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads);
    // Emits smaller ops before `node`; sets with[i] for each result. False: this node stays whole.
    bool (*decompose)(Graph *graph, Node *node, Value **with);
} OpInfo;

const OpInfo *op_info(Op op);
const char *op_name(Op op);
bool op_parse(const char *name, Op *op);
bool op_takes_attr(Op op, AttrName name);
int64_t op_product_flops(const Node *node);  // of contractions, attention, losses with a projection, nearest_code; 0 of others

// Reference evaluation of a whole graph: inputs and variables by callback, results and written variables out.
typedef struct {
    void *user;
    const Tensor *(*input)(void *user, const Node *node);             // by its `name`
    const Tensor *(*variable)(void *user, const Node *node, int variable);
    void (*write)(void *user, int variable, const Tensor *value);
    void (*result)(void *user, const char *name, const Tensor *value);
} EvaluationHooks;
void graph_evaluate(const Graph *graph, bool round, const EvaluationHooks *hooks, LvArena *arena);

// ---- builders: one line each; shapes must fit (an internal error aborts, for these are the compiler's own graphs)
Value *build_constant(Graph *g, double value, LvDType dtype, LvShape shape);
Value *build_like(Graph *g, double value, const Value *like);  // a constant of the same shape and type
Value *build_unary(Graph *g, Op op, Value *a);
Value *build_binary(Graph *g, Op op, Value *a, Value *b);      // broadcasts a scalar (rank 0) against the other
Value *build_select(Graph *g, Value *condition, Value *a, Value *b);
Value *build_cast(Graph *g, Value *a, LvDType dtype);          // the value itself if it has that type
Value *build_reduce(Graph *g, Op op, Value *a, int axis_count, const int64_t *axes);
Value *build_reshape(Graph *g, Value *a, LvShape shape);       // the value itself if it has that shape
Value *build_transpose(Graph *g, Value *a, const int64_t *perm);
Value *build_expand(Graph *g, Value *a, LvShape shape, const int64_t *axes);  // axes[i]: where dimension i of a goes
Value *build_slice(Graph *g, Value *a, const int64_t *starts, LvShape shape, const int64_t *steps);  // steps NULL: all 1
Value *build_pad(Graph *g, Value *a, const int64_t *low, const int64_t *high, double value);
Value *build_concat(Graph *g, int count, Value *const *parts, int axis);
Value *build_matmul(Graph *g, Value *a, Value *b, bool transpose_a, bool transpose_b);
Value *build_state_read(Graph *g, int64_t variable);
void build_state_write(Graph *g, int64_t variable, Value *value);
Value *build_node(Graph *g, Op op, int input_count, Value *const *inputs, const Attrs *attrs);

#endif
