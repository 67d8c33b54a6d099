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
