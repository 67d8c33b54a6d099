// Schedule and places -> LvPlan: what the runtime needs and nothing else, copied into the plan's own arena.
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "driver/pipeline.h"
#include "ops/op.h"

typedef struct {
    LvPlan *plan;
    const Schedule *schedule;
    const MemoryPlan *memory;
    const LvCompileOptions *options;
    const LvSources *sources;
    LV_VEC(LvStep) steps;
    LvMap kernels;  // name -> index + 1
} Emitter;

static char *keep(Emitter *e, const char *text) { return lv_arena_strdup(e->plan->arena, text ? text : ""); }

// ---- where a step came from

enum { SOURCES_SHOWN = 4 };

static const char *sources_of(Emitter *e, Node *const *nodes, int count) {
    struct { int32_t file; int line; } seen[SOURCES_SHOWN];
    int shown = 0;
    LvText text = {0};
    for (int i = 0; i < count; i++) {
        LvSpan span = nodes[i]->span;
        int line, column;
        if (!e->sources || span.file < 0 || (size_t)span.file >= e->sources->files.count) continue;
        lv_sources_locate(e->sources, span.file, span.begin, &line, &column);
        bool known = false;
        for (int k = 0; k < shown; k++) known |= seen[k].file == span.file && seen[k].line == line;
        if (known) continue;
        if (shown == SOURCES_SHOWN) {
            lv_text_puts(&text, " ...");
            break;
        }
        seen[shown].file = span.file;
        seen[shown++].line = line;
        lv_text_printf(&text, "%s%s:%d", text.length ? " " : "", e->sources->files.data[span.file].path, line);
    }
    for (int i = 0; i < count; i++) {
        if (!nodes[i]->scope || !nodes[i]->scope[0]) continue;
        lv_text_printf(&text, "%s(%s)", text.length ? " " : "", nodes[i]->scope);
        break;
    }
    const char *kept = keep(e, lv_text_get(&text));
    lv_text_free(&text);
    return kept;
}

// ---- operands and steps

static LvOperand operand_of(const Emitter *e, const Value *value) {
    return (LvOperand){memory_place(e->memory, value), value->dtype, value->shape, value->layout};
}

static LvStep step_make(Emitter *e, LvStepKind kind, const char *label, const char *sources, int operands) {
    LvStep step = {.kind = kind, .label = label, .sources = sources, .operand_count = operands, .kernel = -1};
    step.operands = LV_NEW_ARRAY(e->plan->arena, LvOperand, operands + 1);
    return step;
}

static void emit_copy(Emitter *e, const MemoryCopy *copy) {
    Node *node = copy->value->node;
    const char *sources = sources_of(e, &node, 1);
    LvStep step = copy->zero ? step_make(e, LV_STEP_ZERO, keep(e, "zero"), sources, 1)
                             : step_make(e, LV_STEP_COPY, keep(e, "copy"), sources, 2);
    step.operands[0] = (LvOperand){copy->to, copy->value->dtype, copy->value->shape, copy->value->layout};
    if (!copy->zero) {
        step.operands[1] = step.operands[0];
        step.operands[1].place = copy->from;
    }
    step.bytes = copy->bytes * step.operand_count;
    lv_vec_push(&e->steps, step);
}

static const int64_t *list_of(const Node *node, AttrName name, int count) {
    const Attr *attr = node_attr(node, name);
    if (!attr || attr->list.count < count) lv_internal_error("emit: %s lacks its %s", op_name(node->op), attr_name_text(name));
    return attr->list.at;
}

static void fill_conv(Emitter *e, const Unit *unit, LvStep *step) {
    const Node *node = unit->node;
    LvConvStep *conv = &step->conv;
    conv->direction = node->op == OP_conv2d_data_grad     ? LV_CONV_DATA_GRADIENT
                      : node->op == OP_conv2d_weight_grad ? LV_CONV_WEIGHT_GRADIENT
                                                          : LV_CONV_FORWARD;
    memcpy(conv->stride, list_of(node, ATTR_stride, 2), sizeof conv->stride);
    memcpy(conv->pad, list_of(node, ATTR_pad, 4), sizeof conv->pad);
    conv->has_bias = node_bool(node, ATTR_bias, false);
    conv->has_residual = node_bool(node, ATTR_residual, false);
    conv->has_moments = node->op == OP_conv2d_moments;
    conv->activation = (LvActivation)node_int(node, ATTR_activation, LV_ACTIVATION_NONE);
    conv->algorithm = e->options->conv;
    static const char *const names[] = {"conv2d", "conv2d data gradient", "conv2d weight gradient"};
    LvShape weight = conv->direction == LV_CONV_WEIGHT_GRADIENT ? step->operands[0].shape : step->operands[2].shape;
    LvShape picture = conv->direction == LV_CONV_DATA_GRADIENT ? step->operands[0].shape : step->operands[1].shape;
    step->label = lv_arena_printf(e->plan->arena, "%s %lldx%lld %lld->%lld, %lldx%lld%s%s", names[conv->direction],
                                  (long long)weight.dim[2], (long long)weight.dim[3], (long long)weight.dim[1],
                                  (long long)weight.dim[0], (long long)picture.dim[2], (long long)picture.dim[3],
                                  conv->stride[0] > 1 ? " strided" : "", conv->has_moments ? ", moments" : "");
}

static void fill_matmul(Emitter *e, const Unit *unit, LvStep *step) {
    const Node *node = unit->node;
    LvMatmulStep *matmul = &step->matmul;
    matmul->transpose_a = node_bool(node, ATTR_transpose_a, false);
    matmul->transpose_b = node_bool(node, ATTR_transpose_b, false);
    matmul->has_bias = node_bool(node, ATTR_bias, false);
    matmul->has_residual = node_bool(node, ATTR_residual, false);
    matmul->has_sums = node->op == OP_matmul_sums;
    matmul->activation = (LvActivation)node_int(node, ATTR_activation, LV_ACTIVATION_NONE);
    matmul->alpha = node_float(node, ATTR_scale, 1);
    LvShape y = step->operands[0].shape, a = step->operands[1].shape;
    int64_t batch = 1;
    for (int i = 0; i < y.rank - 2; i++) batch *= y.dim[i];
    step->label = lv_arena_printf(e->plan->arena, "matmul %lldx%lldx%lld%s%s", (long long)y.dim[y.rank - 2],
                                  (long long)y.dim[y.rank - 1], (long long)a.dim[a.rank - (matmul->transpose_a ? 2 : 1)],
                                  batch > 1 ? lv_arena_printf(e->plan->arena, ", batch %lld", (long long)batch) : "", matmul->has_sums ? ", sums" : "");
}

static void emit_all_reduce(Emitter *e, const Unit *unit, const char *sources) {
    LvOperand to = {0}, from = {0};
    for (int i = 0; i < unit->operand_count; i++) {
        if (unit->operands[i].written) to = operand_of(e, unit->operands[i].value);
        else from = operand_of(e, unit->operands[i].value);
    }
    if (to.place.arena != from.place.arena || to.place.offset != from.place.offset) {
        LvStep copy = step_make(e, LV_STEP_COPY, keep(e, "copy"), sources, 2);
        copy.operands[0] = to;
        copy.operands[1] = from;
        lv_vec_push(&e->steps, copy);
    }
    LvText label = {0};
    lv_text_printf(&label, "all_reduce %s", lv_dtype_name(to.dtype));
    lv_shape_print(&label, to.shape);
    LvStep step = step_make(e, LV_STEP_ALL_REDUCE, keep(e, label.data), sources, 1);
    lv_text_free(&label);
    step.operands[0] = to;
    step.bytes = unit->bytes;
    lv_vec_push(&e->steps, step);
}

static int kernel_index(Emitter *e, const Unit *unit) {
    intptr_t known = (intptr_t)lv_map_get(&e->kernels, unit->kernel_name);
    if (known) return (int)known - 1;
    lv_map_set(&e->kernels, unit->kernel_name, (void *)(intptr_t)(e->plan->kernel_count + 1));
    e->plan->kernels[e->plan->kernel_count] = (LvKernelText){keep(e, unit->kernel_name), keep(e, unit->kernel_text)};
    return e->plan->kernel_count++;
}

static LvStepKind call_kind(Op op) {
    switch (op) {
        case OP_matmul:
        case OP_matmul_sums: return LV_STEP_MATMUL;
        case OP_linear_cross_entropy:
        case OP_linear_cross_entropy_grad: return LV_STEP_LINEAR_LOSS;
        default: return LV_STEP_CONV;
    }
}

static void fill_linear_loss(Emitter *e, const Unit *unit, LvStep *step) {
    const Node *node = unit->node;
    const Attr *ignore = node_attr(node, ATTR_ignore);
    LvShape x = node->inputs[0]->shape, weight = node->inputs[1]->shape;
    step->linear_loss.gradient = node->op == OP_linear_cross_entropy_grad;
    step->linear_loss.ignore = ignore && ignore->i >= INT32_MIN && ignore->i <= INT32_MAX ? (int32_t)ignore->i : -1;
    step->label = lv_arena_printf(e->plan->arena, "linear cross-entropy%s %lldx%lldx%lld", step->linear_loss.gradient ? " gradient" : "",
                                  (long long)x.dim[0], (long long)weight.dim[0], (long long)x.dim[1]);
}

static void emit_unit(Emitter *e, const Unit *unit) {
    const char *sources = sources_of(e, unit->nodes, unit->node_count);
    if (unit->kind == UNIT_CALL && unit->node->op == OP_all_reduce) {
        emit_all_reduce(e, unit, sources);
        return;
    }
    LvStepKind kind = unit->kind == UNIT_KERNEL ? LV_STEP_KERNEL : call_kind(unit->node->op);
    LvStep step = step_make(e, kind, "", sources, unit->operand_count);
    for (int i = 0; i < unit->operand_count; i++) step.operands[i] = operand_of(e, unit->operands[i].value);
    step.flops = unit->flops;
    step.bytes = unit->bytes;
    if (unit->kernel_name) step.kernel = kernel_index(e, unit);
    step.scratch = unit->scratch;
    step.launch_count = unit->launch_count;
    step.launches = LV_NEW_ARRAY(e->plan->arena, LvLaunch, unit->launch_count + 1);
    if (unit->launch_count) memcpy(step.launches, unit->launches, (size_t)unit->launch_count * sizeof *step.launches);
    if (kind == LV_STEP_KERNEL) {
        step.label = unit->kernel ? keep(e, unit->kernel_name)
                                  : lv_arena_printf(e->plan->arena, "%s %s", op_name(unit->nodes[0]->op), unit->kernel_name);
        step.writes = LV_NEW_ARRAY(e->plan->arena, bool, unit->operand_count + 1);
        for (int i = 0; i < unit->operand_count; i++) step.writes[i] = unit->operands[i].written;
        step.scalar_count = unit->scalar_count;
        step.scalars = LV_NEW_ARRAY(e->plan->arena, LvScalar, unit->scalar_count + 1);
        if (unit->scalar_count) memcpy(step.scalars, unit->scalars, (size_t)unit->scalar_count * sizeof *step.scalars);
    } else if (kind == LV_STEP_MATMUL) {
        fill_matmul(e, unit, &step);
    } else if (kind == LV_STEP_LINEAR_LOSS) {
        fill_linear_loss(e, unit, &step);
    } else {
        fill_conv(e, unit, &step);
    }
    lv_vec_push(&e->steps, step);
}

// ---- the rest of the plan

static void emit_variables(Emitter *e) {
    const Graph *graph = e->schedule->graph;
    LvPlan *plan = e->plan;
    plan->variables = LV_NEW_ARRAY(plan->arena, LvVariable, graph->variables.count + 1);
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *variable = &graph->variables.data[i];
        if (variable->is_pack || variable->is_part) continue;
        LvPlace gradient = {LV_ARENA_GRADIENTS, -1};
        if (variable->pack >= 0 && variable->pack == e->memory->gradient_pack) {
            gradient.offset = e->memory->gradients.offset + variable->pack_offset * (int64_t)lv_dtype_size(variable->dtype);
        }
        plan->variables[plan->variable_count++] =
            (LvVariable){keep(e, variable->name), variable->kind, variable->dtype, variable->shape,
                         e->memory->variables.places[i], gradient};
    }
}

static bool writes_variables(const Graph *graph) {
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_state_write) continue;
        if (graph->variables.data[node_int(node, ATTR_variable, 0)].kind != LV_VARIABLE_CACHE) return true;
    }
    return false;
}

static LvPort *emit_ports(Emitter *e, const GraphPort *ports, size_t count, const LvPlace *places) {
    LvPort *out = LV_NEW_ARRAY(e->plan->arena, LvPort, count + 1);
    for (size_t i = 0; i < count; i++) {
        out[i] = (LvPort){keep(e, ports[i].name), ports[i].value->dtype, ports[i].value->shape, places[i]};
    }
    return out;
}

static void emit_constants(Emitter *e) {
    LvPlan *plan = e->plan;
    plan->constants = lv_arena_alloc(plan->arena, (size_t)plan->arena_bytes[LV_ARENA_CONSTANTS] + 1);
    for (size_t i = 0; i < e->memory->literals.count; i++) {
        const Value *value = e->memory->literals.data[i];
        memcpy(plan->constants + memory_place(e->memory, value).offset, node_attr(value->node, ATTR_data)->data,
               (size_t)value_bytes(value));
    }
}

static void emit_steps(Emitter *e) {
    const Schedule *schedule = e->schedule;
    const MemoryPlan *memory = e->memory;
    e->plan->kernels = LV_NEW_ARRAY(e->plan->arena, LvKernelText, schedule->unit_count + 1);
    for (int u = 0; u < schedule->prepared_count; u++) emit_unit(e, &schedule->units[u]);
    e->plan->prepare_count = (int)e->steps.count;
    for (size_t i = 0; i < memory->before.count; i++) emit_copy(e, &memory->before.data[i]);
    for (int u = schedule->prepared_count; u <= schedule->unit_count; u++) {
        for (size_t i = 0; i < memory->packs.count; i++) {
            if (memory->pack_units.data[i] == u) emit_copy(e, &memory->packs.data[i]);
        }
        if (u < schedule->unit_count) emit_unit(e, &schedule->units[u]);
    }
    for (size_t i = 0; i < memory->after.count; i++) emit_copy(e, &memory->after.data[i]);
}

LvPlan *emit_plan(const Schedule *schedule, const MemoryPlan *memory, const LvCompileOptions *options, const LvSources *sources) {
    LvPlan *plan = lv_plan_create();
    Emitter e = {.plan = plan, .schedule = schedule, .memory = memory, .options = options, .sources = sources};
    const Graph *graph = schedule->graph;
    plan->model = plan->config = "";
    plan->entry = keep(&e, graph->name);
    plan->device = keep(&e, options->device ? options->device : "cpu");
    plan->precision = keep(&e, lv_precision_name(options->precision));
    plan->batch = options->batch;
    memcpy(plan->arena_bytes, memory->arena_bytes, sizeof plan->arena_bytes);
    plan->writes_variables = writes_variables(graph);
    emit_variables(&e);
    plan->input_count = (int)graph->inputs.count;
    plan->inputs = emit_ports(&e, graph->inputs.data, graph->inputs.count, memory->input_places);
    plan->result_count = (int)graph->results.count;
    plan->results = emit_ports(&e, graph->results.data, graph->results.count, memory->result_places);
    emit_constants(&e);
    const char *uncontracted = schedule->target.cuda ? "// lv: uncontracted\n" : "#pragma GCC optimize(\"fp-contract=off\")\n";
    plan->prelude = lv_arena_printf(plan->arena, "%s%s", options->uncontracted ? uncontracted : "", schedule->prelude);
    plan->tf32 = schedule->target.tf32;
    plan->ranks = options->ranks > 1 ? options->ranks : 1;
    emit_steps(&e);
    plan->step_count = (int)e.steps.count;
    plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, e.steps.count + 1);
    if (e.steps.count) memcpy(plan->steps, e.steps.data, e.steps.count * sizeof *plan->steps);
    lv_vec_free(&e.steps);
    lv_map_free(&e.kernels);
    return plan;
}
