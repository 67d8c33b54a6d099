// Costs of steps on a GPU and the table of them: see roofline.h. What no plan moves less than: roofline_ideal.c.
#include "driver/roofline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "driver/pipeline.h"

// NVIDIA's public figures, dense (theirs "with sparsity" are twice these), sums in f32:
//   a100     "NVIDIA A100 Tensor Core GPU" data sheet, A100 80GB SXM
//   h100     "NVIDIA H100 Tensor Core GPU" data sheet, H100 SXM
//   h200     "NVIDIA H200 Tensor Core GPU" data sheet, H200 SXM
//   b200     "NVIDIA Blackwell Architecture Technical Brief", HGX B200, a GPU of eight
//   rtx4090  "NVIDIA Ada GPU Architecture" whitepaper, appendix A, GeForce RTX 4090
static const RooflineGpu gpus[] = {
    {"a100", "A100 SXM 80 GB", 80, 2.039e12, {312e12, 312e12, 156e12, 19.5e12}},
    {"h100", "H100 SXM", 90, 3.35e12, {989.5e12, 989.5e12, 494.5e12, 67e12}},
    {"h200", "H200 SXM", 90, 4.8e12, {989.5e12, 989.5e12, 494.5e12, 67e12}},
    {"b200", "B200 SXM", 100, 8e12, {2250e12, 2250e12, 1100e12, 80e12}},
    {"rtx4090", "GeForce RTX 4090", 89, 1.008e12, {165.2e12, 165.2e12, 82.6e12, 82.6e12}},
};
enum { GPU_COUNT = sizeof gpus / sizeof *gpus };

static const double LAUNCH_SECONDS = 2e-6;  // from the end of a node of a CUDA graph to the beginning of the next, about

static const char *const unit_names[ROOFLINE_UNIT_COUNT] = {"bf16", "f16", "tf32", "f32"};
static const char *const kind_names[ROOFLINE_KIND_COUNT] = {"convolutions", "matmuls",       "attention", "vocabulary loss",
                                                            "nearest codes", "other kernels", "copies"};

const RooflineGpu *roofline_gpu(const char *name, const char *device, LvError *error) {
    const char *names[GPU_COUNT];
    int sm = device && !strncmp(device, "cuda:sm_", 8) ? atoi(device + 8) : 0;
    for (int i = 0; i < GPU_COUNT; i++) {
        names[i] = gpus[i].name;
        if (strcmp(gpus[i].name, name)) continue;
        if (sm <= gpus[i].sm) return &gpus[i];
        lv_error_set(error, LV_ERROR_USAGE, "a plan for sm_%d does not run on the %s, which is sm_%d", sm, gpus[i].title, gpus[i].sm);
        lv_error_hint(error, "--device cuda:sm_%d", gpus[i].sm);
        return NULL;
    }
    const char *near = lv_nearest_name(name, names, GPU_COUNT);
    lv_error_set(error, LV_ERROR_USAGE, "the roofline of a GPU '%s' is not known", name);
    if (near) lv_error_hint(error, "did you mean '%s'?", near);
    else lv_error_hint(error, "a100, h100, h200, b200 or rtx4090");
    return NULL;
}

// ---- steps

static bool begins(const char *text, const char *with) { return text && !strncmp(text, with, strlen(with)); }

RooflineKind roofline_kind(const LvStep *step) {
    switch (step->kind) {
        case LV_STEP_CONV: return ROOFLINE_CONVOLUTION;
        case LV_STEP_MATMUL: return ROOFLINE_MATMUL;
        case LV_STEP_LINEAR_LOSS: return ROOFLINE_LOSS;
        case LV_STEP_KERNEL: break;
        default: return ROOFLINE_COPY;
    }
    // the label of a template's kernel begins with its op
    if (begins(step->label, "conv2d")) return ROOFLINE_CONVOLUTION;
    if (begins(step->label, "matmul")) return ROOFLINE_MATMUL;
    if (begins(step->label, "attention")) return ROOFLINE_ATTENTION;
    if (begins(step->label, "linear_cross_entropy")) return ROOFLINE_LOSS;
    return begins(step->label, "nearest_code") ? ROOFLINE_CODES : ROOFLINE_FUSED;
}

static RooflineUnit unit_of_dtype(const LvPlan *plan, LvDType dtype) {
    if (dtype == LV_BF16) return ROOFLINE_BF16;
    if (dtype == LV_F16) return ROOFLINE_F16;
    return plan->tf32 ? ROOFLINE_TF32 : ROOFLINE_F32;
}

// Products of the library are made on the unit of their operands' type; a kernel of a GPU says by the instructions in its text.
static RooflineUnit step_unit(const LvPlan *plan, const LvStep *step) {
    static const struct {
        const char *call;
        RooflineUnit unit;
    } instructions[] = {{"lv_mma_bf16(", ROOFLINE_BF16}, {"lv_wgmma_bf16(", ROOFLINE_BF16}, {"lv_mma_f16(", ROOFLINE_F16},
                        {"lv_wgmma_f16(", ROOFLINE_F16}, {"lv_mma_tf32(", ROOFLINE_TF32}};
    RooflineKind kind = roofline_kind(step);
    bool cuda = begins(plan->device, "cuda");
    if (cuda && step->kernel >= 0 && step->kind != LV_STEP_LINEAR_LOSS) {
        for (size_t i = 0; i < sizeof instructions / sizeof *instructions; i++) {
            if (strstr(plan->kernels[step->kernel].text, instructions[i].call)) return instructions[i].unit;
        }
        return ROOFLINE_F32;
    }
    if (kind == ROOFLINE_FUSED || kind == ROOFLINE_COPY || step->operand_count < 2) return ROOFLINE_F32;
    bool templated = step->kind == LV_STEP_KERNEL, gradient = step->kind == LV_STEP_LINEAR_LOSS && step->linear_loss.gradient;
    int operand = templated ? 0 : gradient ? 3 : 1;  // templates have their inputs first, calls their results
    return unit_of_dtype(plan, step->operands[operand].dtype);
}

// The logits of a block of rows at a time, as the backend's runtime cuts them: written by a product, read by the kernel, which leaves
// their gradient in the operands' type for two more products, of which one adds to dweight.
static void add_logits(const LvStep *step, RooflineCost *cost) {
    bool gradient = step->linear_loss.gradient;
    const LvOperand *x = &step->operands[gradient ? 3 : 1], *weight = x + 1;
    int64_t n = x->shape.dim[0], stride, rows = lv_linear_loss_rows(weight->shape.dim[0], &stride);
    int64_t blocks = (n + rows - 1) / rows;
    cost->launches = (int)blocks * (gradient ? 4 : 2);
    cost->bytes += 2 * 4 * (double)n * (double)stride;
    if (!gradient) return;
    cost->bytes += 3 * (double)lv_dtype_size(x->dtype) * (double)n * (double)stride;
    cost->bytes += 2 * 4 * (double)(blocks - 1) * (double)lv_shape_elements(weight->shape);
}

RooflineCost roofline_step(const LvPlan *plan, const LvStep *step, const RooflineGpu *gpu) {
    RooflineCost cost = {.steps = 1, .launches = step->launch_count ? step->launch_count : 1};
    RooflineUnit unit = step_unit(plan, step);
    cost.bytes = (double)step->bytes + 2 * (double)step->scratch;  // scratch is written and read again
    if (step->kind == LV_STEP_LINEAR_LOSS && begins(plan->device, "cuda")) add_logits(step, &cost);
    cost.flops[unit] = (double)step->flops;
    double memory = cost.bytes / gpu->bandwidth, arithmetic = cost.flops[unit] / gpu->peak[unit];
    cost.seconds = fmax(memory, arithmetic);
    cost.memory_seconds = memory > arithmetic ? memory : 0;
    cost.arithmetic_seconds = arithmetic;
    return cost;
}

static void add(RooflineCost *sum, const RooflineCost *cost) {
    sum->steps += cost->steps, sum->launches += cost->launches;
    sum->bytes += cost->bytes, sum->seconds += cost->seconds, sum->memory_seconds += cost->memory_seconds;
    sum->arithmetic_seconds += cost->arithmetic_seconds;
    for (int u = 0; u < ROOFLINE_UNIT_COUNT; u++) sum->flops[u] += cost->flops[u];
}

// ---- the table

static void put_amount(double amount, double base, const char *const *units, int count, int width, LvText *out) {
    char text[32];
    int unit = 0;
    while (amount >= base && unit + 1 < count) amount /= base, unit++;
    snprintf(text, sizeof text, unit ? "%.2f %s" : "%.0f %s", amount, units[unit]);
    lv_text_printf(out, "%*s", width, text);
}

static void put_bytes(double bytes, int width, LvText *out) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    put_amount(bytes, 1024, units, 5, width, out);
}

static void put_flops(double flops, int width, LvText *out) {
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    if (flops > 0) put_amount(flops, 1000, units, 6, width, out);
    else lv_text_printf(out, "%*s", width, "-");
}

static void put_cost(const char *name, const RooflineCost *cost, const bool *used, double total, LvText *out) {
    lv_text_printf(out, "  %-16s %8d", name, cost->launches);
    put_bytes(cost->bytes, 13, out);
    for (int u = 0; u < ROOFLINE_UNIT_COUNT; u++) {
        if (used[u]) put_flops(cost->flops[u], 11, out);
    }
    lv_text_printf(out, " %12.3f %7.1f %%  %5.1f %%\n", cost->seconds * 1e6, total > 0 ? 100 * cost->seconds / total : 0,
                   cost->seconds > 0 ? 100 * cost->memory_seconds / cost->seconds : 0);
}

static void put_head(const bool *used, LvText *out) {
    lv_text_printf(out, "  %-16s %8s%13s", "", "launches", "bytes");
    for (int u = 0; u < ROOFLINE_UNIT_COUNT; u++) {
        if (used[u]) lv_text_printf(out, "%6s FLOP", unit_names[u]);
    }
    lv_text_printf(out, " %12s %9s  %s\n", "least us", "share", "of it memory");
}

static void put_step(const LvPlan *plan, int index, const RooflineGpu *gpu, LvText *out) {
    const LvStep *step = &plan->steps[index];
    RooflineCost cost = roofline_step(plan, step, gpu);
    RooflineUnit unit = step_unit(plan, step);
    lv_text_printf(out, "%4d %10.3f us %s", index, cost.seconds * 1e6, cost.memory_seconds > 0 ? "m" : "f");
    put_bytes(cost.bytes, 12, out);
    put_flops(cost.flops[unit], 9, out);
    lv_text_printf(out, " %-4s %3d  %s  %s\n", unit_names[unit], cost.launches, step->label ? step->label : "", step->sources ? step->sources : "");
}

static void put_ideal(const LvPlan *plan, double bytes, LvText *out) {
    RooflineIdeal ideal = roofline_ideal(plan);
    const struct {
        const char *name;
        double bytes;
    } parts[] = {{"variables", ideal.variables}, {"gradients", ideal.gradients}, {"kept activations", ideal.kept}, {"inputs, results", ideal.ports}};
    lv_text_printf(out, "  %-16s", "at the least");
    put_bytes(ideal.least, 22, out);
    lv_text_printf(out, ", moved %.2f times:", ideal.least > 0 ? bytes / ideal.least : 0);
    const char *between = " ";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].bytes <= 0) continue;
        lv_text_printf(out, "%s%s ", between, parts[i].name);
        put_bytes(parts[i].bytes, 0, out);
        between = ", ";
    }
    lv_text_printf(out, "\n  %-16s", "products alone");
    put_bytes(ideal.products, 22, out);
    lv_text_printf(out, ", moved %.2f times\n", ideal.products > 0 ? bytes / ideal.products : 0);
}

void roofline_print(const LvPlan *plan, const LvPlan *whole, const RooflineGpu *gpu, bool each, LvText *out) {
    RooflineCost kinds[ROOFLINE_KIND_COUNT] = {0}, all = {0};
    bool used[ROOFLINE_UNIT_COUNT] = {0};
    lv_text_printf(out, "%s: %.2f TB/s; TFLOP/s: %.0f bf16 and f16, %.0f tf32, %.1f f32\n", gpu->title, gpu->bandwidth * 1e-12,
                   gpu->peak[ROOFLINE_BF16] * 1e-12, gpu->peak[ROOFLINE_TF32] * 1e-12, gpu->peak[ROOFLINE_F32] * 1e-12);
    for (int i = plan->prepare_count; i < plan->step_count; i++) {
        RooflineCost cost = roofline_step(plan, &plan->steps[i], gpu);
        if (each) put_step(plan, i, gpu, out);
        add(&kinds[roofline_kind(&plan->steps[i])], &cost);
        add(&all, &cost);
    }
    for (int u = 0; u < ROOFLINE_UNIT_COUNT; u++) used[u] = all.flops[u] > 0;
    put_head(used, out);
    for (int k = 0; k < ROOFLINE_KIND_COUNT; k++) {
        if (kinds[k].steps) put_cost(kind_names[k], &kinds[k], used, all.seconds, out);
    }
    put_cost("in all", &all, used, all.seconds, out);
    lv_text_printf(out, "  %-16s %8d at about 2 us: %.3f us more where nothing overlaps them\n", "launches", all.launches,
                   all.launches * LAUNCH_SECONDS * 1e6);
    if (all.seconds > 0) {
        lv_text_printf(out, "  %-16s %8.1f %% of the peak, %.1f %% with the launches\n", "arithmetic", 100 * all.arithmetic_seconds / all.seconds,
                       100 * all.arithmetic_seconds / (all.seconds + all.launches * LAUNCH_SECONDS));
    }
    put_ideal(whole, all.bytes, out);
}
