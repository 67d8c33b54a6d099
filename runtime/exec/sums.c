// Arenas are laid out for steps that run one after the other: bytes that a step frees are another's from then on. A sum reads and writes
// its operand until it is waited for, so whoever touches one of these bytes, for the same value or for another, comes after it. Sums go
// one after the other, and what waits for one has waited for those before.
#include "exec/sums.h"

#include "base/arena.h"

static int64_t end_of(const LvOperand *o) {
    return o->place.offset + lv_layout_span(o->layout, o->shape) * (int64_t)lv_dtype_size(o->dtype);
}

static bool touch(const LvStep *step, const LvOperand *summed) {
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *o = &step->operands[i];
        if (o->place.offset < 0 || o->place.arena != summed->place.arena) continue;
        int64_t first = o->place.offset > summed->place.offset ? o->place.offset : summed->place.offset;
        if (first < end_of(o) && first < end_of(summed)) return true;
    }
    return false;
}

static void add_section(const LvPlan *plan, int first, int end, int *waits) {
    int waited = first - 1, last = -1;  // up to which step sums are waited for
    for (int s = first; s < end; s++) {
        for (int t = s - 1; t > waited; t--) {
            if (plan->steps[t].kind != LV_STEP_ALL_REDUCE || !touch(&plan->steps[s], &plan->steps[t].operands[0])) continue;
            waits[s - 1] = waited = t;
        }
        if (plan->steps[s].kind == LV_STEP_ALL_REDUCE) last = s;
    }
    if (last > waited) waits[end - 1] = last;
}

int *sums_waits(const LvPlan *plan) {
    int *waits = lv_calloc((size_t)plan->step_count + 1, sizeof *waits);
    for (int s = 0; s < plan->step_count; s++) waits[s] = -1;
    add_section(plan, 0, plan->prepare_count, waits);
    add_section(plan, plan->prepare_count, plan->step_count, waits);
    return waits;
}
