// What an op does with each element besides its own result, as an attribute: arithmetic of f32 on the
// element and on what lies at the same place in other tensors, and sums of it.
//
//     "pixel x1 40; sub x1 t0; mul x0 t1; number 0.5; mul t2 t3; sum t4; sum x0"
//
// x0, x1 ... are the operands, t0, t1 ... the values of the steps in their order; steps are elementwise
// ops of floats, numbers, and what an operand is at one pixel of the element's picture and channel.
// Comparisons give 1 or 0.
#ifndef LV_OPS_EACH_H
#define LV_OPS_EACH_H

#include "base/text.h"
#include "ops/op.h"

enum { EACH_OPERANDS = 12, EACH_STEPS = 40, EACH_SUMS = 4 };

typedef struct {
    Op op;          // elementwise, OP_constant: `number`, or OP_slice: operand arg[0] at `pixel`
    int arg[3];     // an operand, or EACH_OPERANDS + the number of a step before
    double number;
    int64_t pixel;  // row-major
} EachStep;

typedef struct {
    int step_count, sum_count;
    EachStep step[EACH_STEPS];
    int sum[EACH_SUMS];  // as an arg
} Each;

bool each_takes(Op op);  // as a step
bool each_parse(const char *text, int operands, Each *each);  // false: it is none over so many operands
void each_print(const Each *each, LvText *out);
// An operand where the element is, or at a pixel of its picture and channel; pixel -1: where it is.
typedef double EachRead(const void *element, int operand, int64_t pixel);
// What is added to each sum for one element.
void each_evaluate(const Each *each, EachRead *read, const void *element, double *terms);
// Nodes of the steps over such values, all of one shape [B,C,H,W]; terms[i] is what sum i is of.
void each_build(Graph *graph, const Each *each, Value *const *operands, Value **terms);

#endif
