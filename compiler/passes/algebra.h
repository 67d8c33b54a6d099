// The rules of the algebra pass, by family. Each looks at one node and gives the value to take its place, or NULL.
#ifndef LV_PASSES_ALGEBRA_H
#define LV_PASSES_ALGEBRA_H

#include "passes/pass.h"

typedef struct {
    const int *uses;  // by value id, of the values there were when the walk began
    int use_count;
    bool widens_late;     // movements go before casts that widen: on a GPU, where the narrow value may then be a view
    bool differentiated;  // no `gradient` nodes are left: barriers against differentiation may go
} Algebra;

bool algebra_single_use(const Algebra *algebra, const Value *value);

Value *algebra_arithmetic(Graph *graph, Node *node, const Algebra *algebra);  // algebra_arithmetic.c
Value *algebra_movement(Graph *graph, Node *node, const Algebra *algebra);    // algebra_movement.c
// a + b where they are zero but in parts that stand side by side: their concatenation, with the zeros around both. NULL: not so.
Value *algebra_side_by_side(Graph *graph, Value *a, Value *b);                // algebra_movement.c
Value *algebra_reduction(Graph *graph, Node *node, const Algebra *algebra);   // algebra_reduction.c

const int64_t *node_list(const Node *node, AttrName name, int *count);  // of a list that must be there

#endif
