// Texts for people: the plan (--emit plan) and what every step costs (--explain).
#include <string.h>

#include "driver/pipeline.h"

static const char *const STAGES[] = {"ast", "graph", "joint", "fused", "loop", "c", "cuda", "memory", "plan"};

bool dump_is_stage(const char *stage) {
    for (size_t i = 0; i < sizeof STAGES / sizeof *STAGES; i++) {
        if (strcmp(stage, STAGES[i]) == 0) return true;
    }
    return pass_find(stage) != NULL;
}

bool dump_hint_stages(const char *wrong, LvError *error) {
    const char *near = lv_nearest_name(wrong, STAGES, sizeof STAGES / sizeof *STAGES);
    if (near) return lv_error_hint(error, "did you mean '%s'?", near);
    return lv_error_hint(error, "stages: ast graph joint fused loop c memory plan; or a pass: fold algebra cse dce autodiff precision "
                                "decompose epilogue layout views remat order parts");
}

void dump_bytes(int64_t bytes, LvText *out) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)bytes;
    int unit = 0;
    while (amount >= 1024 && unit < 4) amount /= 1024, unit++;
    lv_text_printf(out, unit ? "%.1f %s" : "%.0f %s", amount, units[unit]);
}

static void dump_flops(int64_t flops, LvText *out) {
    static const char *const units[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP"};
    double amount = (double)flops;
    int unit = 0;
    while (amount >= 1000 && unit < 4) amount /= 1000, unit++;
    lv_text_printf(out, unit ? "%.1f %s" : "%.0f %s", amount, units[unit]);
}

static void dump_place(LvPlace place, LvText *out) {
    if (place.offset < 0) lv_text_puts(out, "nowhere");
    else lv_text_printf(out, "%s+%lld", lv_arena_kind_name(place.arena), (long long)place.offset);
}

static void dump_operand(const LvOperand *operand, LvText *out) {
    dump_place(operand->place, out);
    lv_text_printf(out, " %s", lv_dtype_name(operand->dtype));
    lv_shape_print(out, operand->shape);
    if (lv_layout_is_row_major(operand->layout, operand->shape.rank)) return;
    lv_text_putc(out, ' ');
    lv_layout_print(out, operand->layout, operand->shape.rank);
}

static const char *kind_name(LvStepKind kind) {
    static const char *const names[LV_STEP_KIND_COUNT] = {"kernel", "conv", "matmul", "copy", "zero", "all_reduce", "linear_loss"};
    return names[kind];
}

static void dump_port(const char *what, const LvPort *port, LvText *out) {
    lv_text_printf(out, "%s %s %s", what, port->name, lv_dtype_name(port->dtype));
    lv_shape_print(out, port->shape);
    lv_text_puts(out, " at ");
    dump_place(port->place, out);
    lv_text_putc(out, '\n');
}

static void dump_step(const LvPlan *plan, int index, LvText *out) {
    const LvStep *step = &plan->steps[index];
    lv_text_printf(out, "step %d %s \"%s\"", index, kind_name(step->kind), step->label);
    if (step->kind == LV_STEP_CONV) {
        const LvConvStep *conv = &step->conv;
        lv_text_printf(out, " stride %lld,%lld pad %lld,%lld,%lld,%lld", (long long)conv->stride[0], (long long)conv->stride[1],
                       (long long)conv->pad[0], (long long)conv->pad[1], (long long)conv->pad[2], (long long)conv->pad[3]);
        lv_text_printf(out, "%s%s%s", conv->has_bias ? " bias" : "", conv->has_residual ? " residual" : "",
                       conv->has_moments ? " moments" : "");
        if (conv->activation) lv_text_printf(out, " activation %d", conv->activation);
    } else if (step->kind == LV_STEP_MATMUL) {
        const LvMatmulStep *matmul = &step->matmul;
        lv_text_printf(out, "%s%s%s%s%s", matmul->transpose_a ? " transpose_a" : "", matmul->transpose_b ? " transpose_b" : "",
                       matmul->has_bias ? " bias" : "", matmul->has_residual ? " residual" : "", matmul->has_sums ? " sums" : "");
        if (matmul->activation) lv_text_printf(out, " activation %d", matmul->activation);
        if (matmul->alpha != 1) lv_text_printf(out, " scale %.9g", matmul->alpha);
    } else if (step->kind == LV_STEP_LINEAR_LOSS) {
        lv_text_printf(out, "%s ignore %d", step->linear_loss.gradient ? " gradient" : "", (int)step->linear_loss.ignore);
    }
    lv_text_putc(out, '\n');
    for (int i = 0; i < step->operand_count; i++) {
        lv_text_puts(out, "    ");
        dump_operand(&step->operands[i], out);
        lv_text_putc(out, '\n');
    }
}

void dump_plan(const LvPlan *plan, LvText *out) {
    lv_text_printf(out, "plan %s.%s batch %lld %s %s\n", plan->model, plan->entry, (long long)plan->batch, plan->device,
                   plan->precision);
    for (int i = 0; i < LV_ARENA_COUNT; i++) {
        lv_text_printf(out, "arena %s %lld\n", lv_arena_kind_name((LvArenaKind)i), (long long)plan->arena_bytes[i]);
    }
    for (int i = 0; i < plan->variable_count; i++) {
        const LvVariable *variable = &plan->variables[i];
        lv_text_printf(out, "variable %s %s", variable->name, lv_dtype_name(variable->dtype));
        lv_shape_print(out, variable->shape);
        lv_text_puts(out, " at ");
        dump_place(variable->place, out);
        if (variable->gradient.offset >= 0) {
            lv_text_puts(out, " gradient at ");
            dump_place(variable->gradient, out);
        }
        lv_text_putc(out, '\n');
    }
    for (int i = 0; i < plan->input_count; i++) dump_port("input", &plan->inputs[i], out);
    for (int i = 0; i < plan->result_count; i++) dump_port("result", &plan->results[i], out);
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->prepare_count && i == plan->prepare_count) lv_text_puts(out, "prepared\n");
        dump_step(plan, i, out);
    }
}

void dump_explain(const LvPlan *plan, LvText *out) {
    int64_t flops = 0, bytes = 0;
    int counts[LV_STEP_KIND_COUNT] = {0};
    for (int i = 0; i < plan->step_count; i++) {
        const LvStep *step = &plan->steps[i];
        bool each = i >= plan->prepare_count;
        counts[step->kind] += each;
        flops += each ? step->flops : 0;
        bytes += each ? step->bytes : 0;
        if (plan->prepare_count && i == plan->prepare_count) lv_text_puts(out, "     until here at the first run alone\n");
        lv_text_printf(out, "%4d %-6s %s: ", i, kind_name(step->kind), step->label);
        dump_flops(step->flops, out);
        lv_text_puts(out, ", ");
        dump_bytes(step->bytes, out);
        if (step->sources[0]) lv_text_printf(out, "  %s", step->sources);
        lv_text_putc(out, '\n');
    }
    lv_text_printf(out, "%s.%s, batch %lld, %s: %d kernels (%d different), %d convolutions, %d matmuls, %d copies; ", plan->model,
                   plan->entry, (long long)plan->batch, plan->precision, counts[LV_STEP_KERNEL], plan->kernel_count,
                   counts[LV_STEP_CONV], counts[LV_STEP_MATMUL], counts[LV_STEP_COPY]);
    dump_flops(flops, out);
    lv_text_puts(out, ", ");
    dump_bytes(bytes, out);
    lv_text_puts(out, " moved\nmemory: ");
    dump_bytes(lv_plan_bytes(plan), out);
    for (int i = 0; i < LV_ARENA_COUNT; i++) {
        if (!plan->arena_bytes[i]) continue;
        lv_text_printf(out, ", %s ", lv_arena_kind_name((LvArenaKind)i));
        dump_bytes(plan->arena_bytes[i], out);
    }
    lv_text_putc(out, '\n');
}
