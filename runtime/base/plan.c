// The plan's life.
#include "base/plan.h"

const char *lv_arena_kind_name(LvArenaKind kind) {
    static const char *const names[LV_ARENA_COUNT] = {"params",    "state",       "moments",   "cache",
                                                      "gradients", "prepared",    "activations", "constants", "io"};
    return names[kind];
}

LvPlan *lv_plan_create(void) {
    LvArena *arena = lv_arena_create();
    LvPlan *plan = LV_NEW(arena, LvPlan);
    plan->arena = arena;
    return plan;
}

void lv_plan_destroy(LvPlan *plan) {
    if (plan) lv_arena_destroy(plan->arena);
}

int64_t lv_plan_bytes(const LvPlan *plan) {
    int64_t bytes = 0;
    for (int i = 0; i < LV_ARENA_COUNT; i++) bytes += plan->arena_bytes[i];
    return bytes;
}

int64_t lv_linear_loss_rows(int64_t classes, int64_t *stride) {
    enum { BLOCK_BYTES = 512 << 20, LEAST_ROWS = 256, PADDED_TO = 8 };
    *stride = (classes + PADDED_TO - 1) / PADDED_TO * PADDED_TO;
    int64_t rows = BLOCK_BYTES / (4 * *stride) / LEAST_ROWS * LEAST_ROWS;
    return rows < LEAST_ROWS ? LEAST_ROWS : rows;
}

// Results come first, a product's further ones last.
bool lv_step_writes(const LvStep *step, int operand) {
    switch (step->kind) {
        case LV_STEP_LINEAR_LOSS: return operand < (step->linear_loss.gradient ? 3 : 1);
        case LV_STEP_CONV:
            if (step->conv.has_moments && operand >= step->operand_count - 2) return true;
            return operand == 0 || (operand == 3 && step->conv.direction == LV_CONV_WEIGHT_GRADIENT);
        case LV_STEP_MATMUL: return operand == 0 || (step->matmul.has_sums && operand == step->operand_count - 1);
        default: return operand == 0;
    }
}

int64_t lv_ports_span(const LvPort *ports, int count, int64_t *begin) {
    int64_t end = 0;
    *begin = 0;
    for (int i = 0; i < count; i++) {
        size_t bytes = 0;
        int64_t at = ports[i].place.offset;
        lv_shape_bytes(ports[i].shape, ports[i].dtype, &bytes);
        if (i == 0 || at < *begin) *begin = at;
        if (at + (int64_t)bytes > end) end = at + (int64_t)bytes;
    }
    return end - *begin;
}
