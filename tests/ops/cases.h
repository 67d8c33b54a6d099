// The one table of cases of every op, and what the tests of this folder make from a case: a graph, inputs, an evaluation.
#ifndef LV_TESTS_OPS_CASES_H
#define LV_TESTS_OPS_CASES_H

#include "ops/op.h"

// A line of the table, "OP {attributes} INPUT INPUT ... -> RESULT": an input is a type, `f32[2, 3]`, with values in +-(0.1, 0.9);
// after it `+` for values in (0.3, 2), or `:low:high` for whole numbers of low ... high - 1 (of floats too: ties, exact casts).
// `-> TYPE` only for leaves, whose shape rule does not give it.
extern const char *const op_cases[];
extern const int op_case_count;

enum { CASE_MAX_INPUTS = 8, CASE_MAX_RESULTS = 4 };

typedef struct {
    const char *text;
    Op op;
    Attrs attrs;
    int input_count;
    struct CaseInput {
        LvDType dtype;
        LvShape shape;
        bool positive, whole;
        int64_t low, high;
    } inputs[CASE_MAX_INPUTS];
    bool typed;  // a leaf
    LvDType dtype;
    LvShape shape;
    LvArena *arena;
} OpCase;

OpCase *case_parse(const char *text, LvArena *arena);  // aborts on a line that makes no sense
bool case_smooth(const OpCase *c);                     // no float input of whole numbers: finite differences make sense
Tensor *case_input(const OpCase *c, int input);        // the same every time, exact in the type
// A graph with inputs x0, x1 ... and results y0, y1 ..., all of the node's.
Graph *case_graph(const OpCase *c);

// One number of a fixed sequence in [0, 1).
double hash_uniform(uint64_t seed, uint64_t i);
// Tensors by name, for the hooks of graph_evaluate.
typedef struct {
    int count;
    struct {
        const char *name;
        Tensor *tensor;
    } at[32];
} TensorSet;
void set_add(TensorSet *set, const char *name, Tensor *tensor);
Tensor *set_find(const TensorSet *set, const char *name);  // NULL if absent
Tensor *tensor_new(LvArena *arena, LvDType dtype, LvShape shape);
double tensor_at(const Tensor *t, int64_t i);
void evaluate_set(const Graph *graph, bool round, const TensorSet *inputs, TensorSet *results, LvArena *arena);
// rms(got - want) / rms(want); where want is all zero: rms(got). Integers: the share that differs.
double tensor_distance(const Tensor *got, const Tensor *want);
// How far a kernel's result may be from the reference: `floats` in f32; in bf16, which is stored rounded and whose products inside of an
// attention round too, more; nothing where it holds no numbers with a fraction.
double tensor_tolerance(const Tensor *want, double floats);
// Whether a result is the loss of a case in bf16: a sum that cancels, of what is rounded; what it is made of is compared.
bool loss_cancels(const char *result, const char *case_text);
// Replaces every node that has a decomposition, until none is left.
void graph_decompose_all(Graph *graph);
// result "d_x0" ... for every float input: of the sum of the results in `mask` (bit r: y_r), weighted by inputs "w0", ...
bool case_differentiate(Graph *graph, const OpCase *c, unsigned mask, LvArena *arena, TensorSet *weights);

#endif
