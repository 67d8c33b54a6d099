// What no plan for the same graph could move less than: see roofline.h. Follows the activations' values through the plan, whose
// places are reused, and what of them products of the backward pass read.
//
// A value of the backward pass is a gradient if a product made it, or if it was made of a gradient. Any other is an activation,
// kept or made again: what products read of those must have come from the forward pass in one form or another. The backward pass
// begins with the first step that is a gradient by its kind or writes a parameter's gradient; a convolution's data gradient is no
// such sign, for a transposed convolution is one too.
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/vec.h"
#include "driver/roofline.h"

typedef struct {
    int64_t begin, end;  // bytes of ACTIVATIONS
    bool gradient, counted;
} Held;

typedef struct {
    int64_t begin, end;
} Range;

typedef LV_VEC(Range) Ranges;

typedef struct {
    const LvPlan *plan;
    LV_VEC(Held) held;
    Ranges read[LV_ARENA_COUNT], written[LV_ARENA_COUNT];
    double kept, products;
} Ideal;

static Range range_of(const LvOperand *operand) {
    size_t bytes = 0;
    lv_shape_bytes(operand->shape, operand->dtype, &bytes);
    return (Range){operand->place.offset, operand->place.offset + (int64_t)bytes};
}

static bool overlap(Range range, const Held *held) { return range.begin < held->end && held->begin < range.end; }

static bool writes(const LvStep *step, int operand) {
    return step->kind == LV_STEP_KERNEL ? step->writes && step->writes[operand] : lv_step_writes(step, operand);
}

static bool is_product(const LvStep *step) {
    RooflineKind kind = roofline_kind(step);
    return kind != ROOFLINE_FUSED && kind != ROOFLINE_COPY;
}

// What a convolution with sums reads and writes for these alone is not a product's.
static bool is_of_product(const LvStep *step, int operand) {
    static const char sums[] = "conv2d_data_grad_sums";
    if (step->kind != LV_STEP_KERNEL || !step->label || strncmp(step->label, sums, strlen(sums))) return is_product(step);
    return operand < 2 || operand == step->operand_count - 2;  // inputs first, results last
}

static double product_bytes(const LvStep *step) {
    double others = 0;
    for (int i = 0; i < step->operand_count; i++) {
        Range range = range_of(&step->operands[i]);
        if (!is_of_product(step, i)) others += (double)(range.end - range.begin);
    }
    return (double)step->bytes - others;
}

static bool begins_backward(const LvStep *step) {
    if (step->kind == LV_STEP_CONV && step->conv.direction == LV_CONV_WEIGHT_GRADIENT) return true;
    if (step->kind == LV_STEP_LINEAR_LOSS && step->linear_loss.gradient) return true;
    if (step->kind == LV_STEP_KERNEL && step->label && strstr(step->label, "_grad")) return true;
    for (int i = 0; i < step->operand_count; i++) {
        if (writes(step, i) && step->operands[i].place.arena == LV_ARENA_GRADIENTS) return true;
    }
    return false;
}

static void note_reads(Ideal *ideal, const LvStep *step, bool backward, bool *gradient) {
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *operand = &step->operands[i];
        if (writes(step, i) || operand->place.offset < 0) continue;
        Range range = range_of(operand);
        if (operand->place.arena == LV_ARENA_GRADIENTS) *gradient = true;
        if (operand->place.arena != LV_ARENA_ACTIVATIONS) {
            lv_vec_push(&ideal->read[operand->place.arena], range);
            continue;
        }
        for (size_t k = 0; k < ideal->held.count; k++) {
            Held *held = &ideal->held.data[k];
            if (!overlap(range, held)) continue;
            *gradient |= held->gradient;
            if (!backward || !is_of_product(step, i) || held->gradient || held->counted) continue;
            held->counted = true;
            ideal->kept += 2 * (double)(range.end - range.begin);
        }
    }
}

static void hold(Ideal *ideal, Range range, bool gradient) {
    size_t left = 0;
    for (size_t k = 0; k < ideal->held.count; k++) {
        if (!overlap(range, &ideal->held.data[k])) ideal->held.data[left++] = ideal->held.data[k];
    }
    ideal->held.count = left;
    lv_vec_push(&ideal->held, ((Held){range.begin, range.end, gradient, false}));
}

static void note_writes(Ideal *ideal, const LvStep *step, bool gradient) {
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *operand = &step->operands[i];
        if (!writes(step, i) || operand->place.offset < 0) continue;
        if (operand->place.arena == LV_ARENA_ACTIVATIONS) hold(ideal, range_of(operand), gradient);
        else lv_vec_push(&ideal->written[operand->place.arena], range_of(operand));
    }
}

static int by_begin(const void *a, const void *b) {
    int64_t x = ((const Range *)a)->begin, y = ((const Range *)b)->begin;
    return (x > y) - (x < y);
}

// Bytes in any of the ranges.
static double covered(Ranges *ranges) {
    double bytes = 0;
    int64_t until = INT64_MIN;
    if (ranges->count) qsort(ranges->data, ranges->count, sizeof *ranges->data, by_begin);
    for (size_t i = 0; i < ranges->count; i++) {
        Range range = ranges->data[i];
        if (range.begin < until) range.begin = until;
        if (range.end <= range.begin) continue;
        bytes += (double)(range.end - range.begin);
        until = range.end;
    }
    return bytes;
}

RooflineIdeal roofline_ideal(const LvPlan *plan) {
    Ideal ideal = {.plan = plan};
    bool backward = false;
    for (int s = plan->prepare_count; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        backward |= begins_backward(step);
        bool gradient = false;
        note_reads(&ideal, step, backward, &gradient);
        note_writes(&ideal, step, backward && (gradient || is_product(step)));
        if (is_product(step)) ideal.products += product_bytes(step);
    }
    double read[LV_ARENA_COUNT], written[LV_ARENA_COUNT];
    for (int a = 0; a < LV_ARENA_COUNT; a++) {
        read[a] = covered(&ideal.read[a]), written[a] = covered(&ideal.written[a]);
        lv_vec_free(&ideal.read[a]);
        lv_vec_free(&ideal.written[a]);
    }
    lv_vec_free(&ideal.held);
    static const LvArenaKind variables[] = {LV_ARENA_PARAMS, LV_ARENA_STATE, LV_ARENA_MOMENTS, LV_ARENA_CACHE, LV_ARENA_PREPARED, LV_ARENA_CONSTANTS};
    RooflineIdeal out = {.kept = ideal.kept, .ports = read[LV_ARENA_IO] + written[LV_ARENA_IO], .products = ideal.products};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) out.variables += read[variables[i]] + written[variables[i]];
    out.gradients = read[LV_ARENA_GRADIENTS] + written[LV_ARENA_GRADIENTS];
    // an update reads weights, moments and gradients and writes weights and moments, beside what products did with them
    if (written[LV_ARENA_MOMENTS] + written[LV_ARENA_PARAMS] > 0) {
        out.products += read[LV_ARENA_GRADIENTS] + read[LV_ARENA_MOMENTS] + written[LV_ARENA_MOMENTS] + 2 * written[LV_ARENA_PARAMS];
    }
    out.least = out.variables + out.gradients + out.kept + out.ports;
    return out;
}
