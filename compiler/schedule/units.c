// One unit: a kernel's operands, what may be computed in place, its text and name, what it costs; calls and templates.
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "codegen/codegen.h"
#include "schedule/build.h"

static void set_nodes(Building *b, Unit *unit, Node *const *nodes, size_t count) {
    unit->node_count = (int)count;
    unit->nodes = LV_NEW_ARRAY(b->plan->arena, Node *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const Node *node = unit->nodes[i] = nodes[i];
        const Value *of = node_role(node) == ROLE_REDUCTION ? node->inputs[0] : node->result_count ? &node->results[0] : NULL;
        if (of) unit->flops += (int64_t)((double)lv_shape_elements(of->shape) * (op_cost(node->op) < 1 ? 0 : op_cost(node->op)));
    }
}

static void set_bytes(Unit *unit) {
    for (int i = 0; i < unit->operand_count; i++) unit->bytes += value_bytes(unit->operands[i].value);
}

// Elements of a buffer that a nest can touch at most: the points of the axes that its indices mention.
static int64_t touched(const Nest *nest, const Affine *index, int64_t elements) {
    int64_t points = 1;
    for (int i = 0; i < index->count && points < elements; i++) points *= nest->vars.data[index->term[i].var].extent;
    return points < elements ? points : elements;
}

static int64_t kernel_bytes(const Kernel *kernel) {
    int64_t bytes = 0;
    for (size_t k = 0; k < kernel->buffers.count; k++) {
        const Buffer *buffer = &kernel->buffers.data[k];
        int64_t read = 0, written = 0;
        for (size_t n = 0; n < kernel->nests.count && !buffer->local; n++) {
            const Nest *nest = &kernel->nests.data[n];
            for (size_t i = 0; i < nest->body.count; i++) {
                const Instr *instr = &nest->body.data[i];
                if (instr->kind == INSTR_LOAD && instr->buffer == (int)k) read += touched(nest, &instr->index, buffer->elements);
            }
            for (size_t i = 0; i < nest->outputs.count; i++) {
                const Output *output = &nest->outputs.data[i];
                if (output->buffer == (int)k) written += touched(nest, &output->index, buffer->elements);
            }
        }
        if (kernel->shared && written) read = 0;  // its own row, which is in cache
        if (read > buffer->elements) read = buffer->elements;
        if (written > buffer->elements) written = buffer->elements;
        bytes += (read + written) * (int64_t)lv_dtype_size(buffer->dtype);
    }
    return bytes;
}

// ---- kernels' texts

static const char PLACEHOLDER[] = "KERNEL_NAME";

// Texts are printed under a placeholder; the name is the hash of what was printed, so that equal kernels share one.
static void name_text(Building *b, Unit *unit, const char *text) {
    if (!strstr(text, PLACEHOLDER)) lv_internal_error("schedule: a kernel's text without its name");
    char *name = lv_arena_printf(b->plan->arena, "k_%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
    LvText full = {0};
    for (const char *at; (at = strstr(text, PLACEHOLDER)); text = at + strlen(PLACEHOLDER)) {
        lv_text_append(&full, text, (size_t)(at - text));
        lv_text_puts(&full, name);
    }
    lv_text_puts(&full, text);
    const char *known = lv_map_get(&b->texts, name);
    if (!known) lv_map_set(&b->texts, name, (void *)(known = lv_arena_strdup(b->plan->arena, lv_text_get(&full))));
    unit->kernel_name = name;
    unit->kernel_text = known;
    lv_text_free(&full);
}

// Takes what was printed into the unit, and frees it.
static void take_text(Building *b, Unit *unit, LvText *text, CudaKernel *made) {
    name_text(b, unit, lv_text_get(text));
    unit->scalar_count = (int)made->scalars.count;
    unit->scalars = LV_NEW_ARRAY(b->plan->arena, LvScalar, made->scalars.count + 1);
    if (made->scalars.count) memcpy(unit->scalars, made->scalars.data, made->scalars.count * sizeof *unit->scalars);
    unit->launch_count = (int)made->launches.count;
    unit->launches = LV_NEW_ARRAY(b->plan->arena, LvLaunch, made->launches.count + 1);
    if (made->launches.count) memcpy(unit->launches, made->launches.data, made->launches.count * sizeof *unit->launches);
    unit->scratch = made->scratch;
    cuda_kernel_free(made);
    lv_text_free(text);
}

static void print_kernel(Building *b, Unit *unit) {
    LvText text = {0};
    CudaKernel made = {0};
    codegen_print_kernel(unit->kernel, &b->schedule->target, PLACEHOLDER, &text, &made);
    take_text(b, unit, &text, &made);
}

static bool print_template(Building *b, Unit *unit, const Node *node) {
    LvText text = {0};
    CudaKernel made = {0};
    if (!codegen_print_template(node, &b->schedule->target, PLACEHOLDER, &text, &made)) return false;
    take_text(b, unit, &text, &made);
    return true;
}

// ---- kernels

// May the written buffer be the memory of a read one? Only in a kernel of one nest (and a tail that touches neither), where each element of the read buffer
// is read by the iteration that writes the same place, and by no other.
// A variable's memory is taken over only by what is written to it.
static bool is_written_back(const Graph *graph, const Value *from, const Value *to) {
    if (from->node->op != OP_state_read) return false;
    for (const Node *node = graph->last; node; node = node->prev) {
        if (node->op != OP_state_write || node->inputs[0] != to) continue;
        if (node_int(node, ATTR_variable, -1) == node_int(from->node, ATTR_variable, -2)) return true;
    }
    return false;
}

static bool tail_touches(const Kernel *kernel, int buffer) {
    for (size_t n = (size_t)kernel->tail; kernel->tail && n < kernel->nests.count; n++) {
        const Nest *nest = &kernel->nests.data[n];
        for (size_t i = 0; i < nest->body.count; i++) {
            if (nest->body.data[i].kind == INSTR_LOAD && nest->body.data[i].buffer == buffer) return true;
        }
        for (size_t i = 0; i < nest->outputs.count; i++) {
            if (nest->outputs.data[i].buffer == buffer) return true;
        }
    }
    return false;
}

static int find_in_place(const Graph *graph, const Kernel *kernel, int written) {
    if ((kernel->nests.count != 1 && kernel->tail != 1) || tail_touches(kernel, written)) return -1;
    const Nest *nest = &kernel->nests.data[0];
    const Buffer *to = &kernel->buffers.data[written];
    const Affine *at = NULL;
    for (size_t i = 0; i < nest->outputs.count; i++) {
        if (nest->outputs.data[i].buffer != written) continue;
        if (at || nest->outputs.data[i].kind != OUTPUT_STORE) return -1;
        at = &nest->outputs.data[i].index;
    }
    if (!at || to->read) return -1;
    int best = -1;
    for (size_t r = 0; r < kernel->buffers.count; r++) {
        const Buffer *from = &kernel->buffers.data[r];
        if (from->written || from->local || from->may_share || from->elements != to->elements || tail_touches(kernel, (int)r)) continue;
        if (lv_dtype_size(from->dtype) != lv_dtype_size(to->dtype)) continue;
        bool fits = false, other = false;
        for (size_t i = 0; i < nest->body.count; i++) {
            const Instr *instr = &nest->body.data[i];
            if (instr->kind != INSTR_LOAD || instr->buffer != (int)r) continue;
            if (affine_equal(&instr->index, at)) fits = true;
            else other = true;
        }
        if (!fits || other) continue;
        if (from->value && to->value && is_written_back(graph, from->value, to->value)) return (int)r;
        Op op = from->value ? from->value->node->op : OP_input;
        if (best < 0 && op != OP_input && op != OP_literal && op != OP_state_read) best = (int)r;
    }
    return best;
}

// Written or not, buffers that may be one memory must not promise the compiler the contrary.
static void find_sharing(const Plan *plan, Kernel *kernel, Value *const *pack_of, int *in_place) {
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        in_place[i] = -1;
        for (size_t k = 0; k < i; k++) {
            Buffer *x = &kernel->buffers.data[i], *y = &kernel->buffers.data[k];
            if (!x->value || !y->value || !(x->written || y->written)) continue;
            Value *from = plan_owner(plan, x->value), *to = plan_owner(plan, y->value);
            from = pack_of[from->id] ? pack_of[from->id] : from, to = pack_of[to->id] ? pack_of[to->id] : to;
            if (from == to) x->may_share = y->may_share = true;
        }
    }
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (!kernel->buffers.data[i].written) continue;
        in_place[i] = find_in_place(plan->graph, kernel, (int)i);
        if (in_place[i] < 0) continue;
        kernel->buffers.data[i].may_share = kernel->buffers.data[in_place[i]].may_share = true;
    }
}

// Units outlive this pass, and nobody frees a kernel: it moves into the arena.
#define MOVE_TO_ARENA(arena, vec)                                                                       \
    do {                                                                                                \
        void *moved_ = lv_arena_array((arena), (vec)->count + 1, sizeof *(vec)->data);                  \
        if ((vec)->count) memcpy(moved_, (vec)->data, (vec)->count * sizeof *(vec)->data);              \
        free((vec)->data);                                                                              \
        (vec)->data = moved_;                                                                           \
        (vec)->capacity = (vec)->count;                                                                 \
    } while (0)

static Kernel *keep_kernel(LvArena *arena, Kernel *kernel) {
    for (size_t i = 0; i < kernel->nests.count; i++) {
        Nest *nest = &kernel->nests.data[i];
        MOVE_TO_ARENA(arena, &nest->vars);
        MOVE_TO_ARENA(arena, &nest->body);
        MOVE_TO_ARENA(arena, &nest->regions);
        MOVE_TO_ARENA(arena, &nest->outputs);
    }
    MOVE_TO_ARENA(arena, &kernel->nests);
    MOVE_TO_ARENA(arena, &kernel->buffers);
    Kernel *kept = LV_NEW(arena, Kernel);
    *kept = *kernel;
    free(kernel);
    return kept;
}

void unit_add_kernel(Building *b, Kernel *kernel, Node *const *nodes, size_t node_count) {
    Unit unit = {.kind = UNIT_KERNEL, .kernel = kernel};
    set_nodes(b, &unit, nodes, node_count);
    int *in_place = lv_calloc(kernel->buffers.count + 1, sizeof *in_place),
        *operand = lv_calloc(kernel->buffers.count + 1, sizeof *operand);
    find_sharing(b->plan, kernel, b->pack_of, in_place);
    unit.operands = lv_arena_array(b->plan->arena, kernel->buffers.count + 1, sizeof *unit.operands);
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (!kernel->buffers.data[i].local) operand[i] = unit.operand_count++;
    }
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        const Buffer *buffer = &kernel->buffers.data[i];
        if (buffer->local) continue;
        unit.operands[operand[i]].value = buffer->value;
        unit.operands[operand[i]].written = buffer->written;
        unit.operands[operand[i]].in_place = in_place[i] >= 0 ? operand[in_place[i]] : -1;
    }
    unit.bytes = kernel_bytes(kernel);
    print_kernel(b, &unit);
    unit.kernel = keep_kernel(b->plan->arena, kernel);
    lv_vec_push(&b->units, unit);
    free(in_place), free(operand);
}

// ---- calls and templates

static void set_operand(Unit *unit, Value *value, bool written) {
    unit->operands[unit->operand_count].value = value;
    unit->operands[unit->operand_count].written = written;
    unit->operands[unit->operand_count++].in_place = -1;
}

void unit_add_call(Building *b, Node *node) {
    Unit unit = {.kind = UNIT_CALL, .node = node};
    set_nodes(b, &unit, &node, 1);
    unit.flops = op_product_flops(node);
    unit.operands = lv_arena_array(b->plan->arena, (size_t)(node->input_count + node->result_count), sizeof *unit.operands);
    int first = op_info(node->op)->kind == OP_KIND_CONTRACTION ? 1 : node->result_count;  // the others come last
    for (int i = 0; i < first; i++) set_operand(&unit, &node->results[i], true);
    for (int i = 0; i < node->input_count; i++) set_operand(&unit, node->inputs[i], false);
    for (int i = first; i < node->result_count; i++) set_operand(&unit, &node->results[i], true);
    if (node->op == OP_all_reduce) unit.operands[0].in_place = 1;
    print_template(b, &unit, node);  // where it, or a part of it, may be a kernel of ours
    set_bytes(&unit);
    lv_vec_push(&b->units, unit);
}

void unit_add_template(Building *b, Node *node) {
    Unit unit = {.kind = UNIT_KERNEL};
    if (!print_template(b, &unit, node)) schedule_internal_error("template", node, "no template prints this op");
    set_nodes(b, &unit, &node, 1);
    int64_t products = op_product_flops(node);
    if (products) unit.flops = products;
    unit.operands = lv_arena_array(b->plan->arena, (size_t)(node->input_count + node->result_count), sizeof *unit.operands);
    for (int i = 0; i < node->input_count; i++) set_operand(&unit, node->inputs[i], false);
    for (int i = 0; i < node->result_count; i++) set_operand(&unit, &node->results[i], true);
    if (node->op == OP_dynamic_update) unit.operands[3].in_place = 0;  // then only the window is written
    set_bytes(&unit);
    lv_vec_push(&b->units, unit);
}
