// bf16 on processors that the library has no bf16 code for: there it refuses, or loops hundreds of times slower than in f32. Such
// a call is built in f32 instead; its bf16 operands are widened into memory beside, and what it writes is rounded back. The
// products are those of bf16 all the same, summed in f32.
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cpu/onednn.h"

static bool is_residual_in_place(const LvOperand *operands, int i) {
    return i >= 3 && lv_place_equal(operands[0].place, operands[i].place) && lv_shape_equal(operands[0].shape, operands[i].shape);
}

bool widen_step(LvCall *call) {
    LvOperand *operands = call->step->operands;
    int count = call->step->operand_count;
    size_t total = 0;
    if (count > CALL_MAX_OPERANDS || call->wide_bytes) return false;  // once is all there is to widen
    for (int i = 0; i < count; i++) {
        call->wide[i] = (WideOperand){.elements = operands[i].dtype == LV_BF16 ? lv_shape_elements(operands[i].shape) : 0};
        if (!call->wide[i].elements || is_residual_in_place(operands, i)) continue;  // that one is in the destination's memory
        call->wide[i].offset = total;
        total += ((size_t)call->wide[i].elements * sizeof(float) + 63) / 64 * 64;
    }
    for (int i = 0; i < count; i++) {
        if (operands[i].dtype == LV_BF16) operands[i].dtype = LV_F32;
    }
    call->wide_bytes = total;
    return total > 0;
}

static void widen(float *to, const uint16_t *from, int64_t count) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) to[i] = lv_f32_from_bf16(from[i]);
}

static void narrow(uint16_t *to, const float *from, int64_t count) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) to[i] = lv_bf16_from_f32(from[i]);
}

bool widen_run(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error) {
    char *wide[CALL_MAX_OPERANDS] = {0};
    int count = call->step->operand_count;
    for (int i = 0; i < count; i++) {
        const WideOperand *w = &call->wide[i];
        wide[i] = w->elements ? cpu->library->wide.data + w->offset : buffers[i];
        if (w->elements && !lv_step_writes(call->step, i)) widen((float *)wide[i], (const uint16_t *)buffers[i], w->elements);
    }
    if (!call_run_form(cpu, call, wide, error)) return false;
    for (int i = 0; i < count; i++) {
        if (call->wide[i].elements && lv_step_writes(call->step, i)) narrow((uint16_t *)buffers[i], (const float *)wide[i], call->wide[i].elements);
    }
    return true;
}
