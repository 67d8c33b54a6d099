// Private to ops/: the functions that ops.def names, and small helpers shared by the families.
#ifndef LV_OPS_RULES_H
#define LV_OPS_RULES_H

#include "ops/op.h"

// Every function named in a column of ops.def. `no_gradient`, `primitive` and `evaluate_given` stand for "none".
#define OP(name_, kind_, inputs_, results_, attributes_, SHAPE, EVALUATE, GRADIENT, DECOMPOSE)                              \
    const char *SHAPE(Graph *graph, Node *node);                                                                      \
    void EVALUATE(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results);      \
    void GRADIENT(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads);                         \
    bool DECOMPOSE(Graph *graph, Node *node, Value **with);
#define ELEMENTWISE(name, inputs_, expression_, GRADIENT)                                                                \
    void evaluate_##name(const Evaluation *evaluation, const Node *node, const Tensor *const *inputs, Tensor *results); \
    void GRADIENT(Graph *graph, Node *node, Value *const *result_grads, Value **input_grads);
#include "ops/ops.def"

const char *shape_elementwise(Graph *graph, Node *node);

// ---- evaluation helpers
void tensor_create(const Evaluation *evaluation, Tensor *tensor, LvDType dtype, LvShape shape);  // zeroed
bool tensor_is_float(const Tensor *tensor);
double tensor_get(const Tensor *tensor, int64_t at);            // element at a row-major offset, whatever the type
void tensor_set(Tensor *tensor, int64_t at, double value);
void tensor_copy_element(Tensor *to, int64_t at, const Tensor *from, int64_t from_at);
double round_to(LvDType dtype, double value);                   // to the nearest value of the type
void shape_strides(LvShape shape, int64_t stride[LV_MAX_RANK]);  // row-major
double elementwise_value(Op op, double a, double b, double c);  // of floats
// index += 1, row-major; false after the last
bool index_next(LvShape shape, int64_t *index);

// ---- shape rule helpers
const char *refuse(Graph *graph, const char *format, ...) __attribute__((format(printf, 2, 3)));  // text in the graph's arena
const char *shape_text(Graph *graph, LvShape shape);
void set_result(Node *node, int result, LvDType dtype, LvShape shape);
LvShape shape_without(LvShape shape, int axis_count, const int64_t *axes);
// The list attribute, with `count` numbers (-1: any); NULL if it is missing or of another length.
const Attr *list_attr(const Node *node, AttrName name, int count);

#endif
