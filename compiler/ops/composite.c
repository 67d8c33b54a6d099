// Builders shared by the composites: reductions along one axis and their opposite.
#include "ops/composite.h"

Value *composite_number(Graph *g, double value, const Value *like) {
    return build_constant(g, value, like->dtype, lv_shape(0, NULL));
}

Value *composite_widen(Graph *g, Value *x) { return x->dtype == LV_BF16 || x->dtype == LV_F16 ? build_cast(g, x, LV_F32) : x; }

Value *composite_sum(Graph *g, Value *x, int axis) { return build_reduce(g, OP_reduce_sum, x, 1, (int64_t[]){axis}); }

Value *composite_unreduce(Graph *g, Value *x, int axis, LvShape shape) {
    int64_t axes[LV_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++) axes[i] = i < axis ? i : i + 1;
    return build_expand(g, x, shape, axes);
}

Value *composite_along(Graph *g, Value *x, int axis, LvShape shape) { return build_expand(g, x, shape, (int64_t[]){axis}); }
