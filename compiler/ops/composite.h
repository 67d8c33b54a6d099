// Private to ops/: what the composites' decompositions and gradients are built with.
// A composite's gradient runs before its decomposition. Both call the same builder for what they share (statistics, masks,
// exponentials), so that their nodes are identical and CSE leaves one copy.
#ifndef LV_OPS_COMPOSITE_H
#define LV_OPS_COMPOSITE_H

#include "ops/rules.h"

#define UNARY(op, a) build_unary(g, OP_##op, a)
#define BINARY(op, a, b) build_binary(g, OP_##op, a, b)

Value *composite_number(Graph *g, double value, const Value *like);        // rank 0, in the type of `like`
Value *composite_widen(Graph *g, Value *x);                                // bf16 and f16 as f32, others as they are
Value *composite_sum(Graph *g, Value *x, int axis);
Value *composite_unreduce(Graph *g, Value *x, int axis, LvShape shape);    // x without dimension `axis`, repeated along it
Value *composite_along(Graph *g, Value *x, int axis, LvShape shape);       // x [N] as dimension `axis` of `shape`

// Whether a row of a cross-entropy counts: its target is a class, and not the one ignored.
bool cross_entropy_counts(const Node *node, int64_t target, int64_t classes);

#endif
