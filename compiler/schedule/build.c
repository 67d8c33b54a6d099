// The whole of scheduling: marks, groups, kernels, calls -> units, printed.
//   requires     layouts chosen; composites decomposed that no template prints; no gradient nodes
//   establishes  every operand is given, an alias, or written by an earlier unit; equal kernel texts have one name
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/map.h"
#include "codegen/c/print.h"
#include "codegen/c/templates.h"
#include "schedule/internal.h"

typedef LV_VEC(Group *) GroupList;

typedef struct {
    Plan *plan;
    Schedule *schedule;
    LV_VEC(Unit) units;
    LvMap texts;  // text without its name -> name
    Value **pack_of;      // by value id: the pack whose memory it is part of
    int64_t *pack_offset;
    int *readers;         // by value id: groups that read it
    bool *outside;        // by value id: something else than groups reads it
    GroupList batch;      // small groups that wait to become one kernel
    GroupList rows;       // groups of the row-wise kernel that is open
    Kernel *rows_kernel;  // NULL: none
} Building;

static Value *owner(const Plan *plan, Value *value) {
    return plan->place[value->id] == PLACE_ALIAS ? plan->alias_of[value->id] : value;
}

static int64_t value_bytes(const Value *value) { return lv_shape_elements(value->shape) * (int64_t)lv_dtype_size(value->dtype); }

// ---- packs

// A member goes right into the pack if it owns its storage, a unit writes it, and nothing else claims it.
static void mark_packs(Plan *plan, Value **pack_of, int64_t *pack_offset) {
    for GRAPH_EACH(plan->graph, node) {
        if (node->op != OP_pack) continue;
        int64_t at = 0;
        for (int i = 0; i < node->input_count; i++) {
            Value *member = node->inputs[i], *own = owner(plan, member);
            at = (at + 15) / 16 * 16;
            bool whole = lv_shape_elements(own->shape) == lv_shape_elements(member->shape) && own->dtype == member->dtype;
            bool fits = plan->place[own->id] == PLACE_STORED && whole && plan->alias_offset[member->id] == 0;
            fits = fits && own->node->op != OP_pack && lv_layout_is_row_major(own->layout, own->shape.rank);
            if (fits && !pack_of[own->id]) {
                pack_of[own->id] = &node->results[0], pack_offset[own->id] = at;
                plan->packed[member->id] = true;
            }
            at += lv_shape_elements(member->shape);
        }
    }
}

// ---- units

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
        if (read > buffer->elements) read = buffer->elements;
        if (written > buffer->elements) written = buffer->elements;
        bytes += (read + written) * (int64_t)lv_dtype_size(buffer->dtype);
    }
    return bytes;
}

static int64_t call_flops(const Node *node) {
    // Every product of a contraction is counted through its largest operands: 2 * results * (elements of the summed dimensions).
    const LvShape a = node->inputs[0]->shape, y = node->results[0].shape;
    if (node->op == OP_matmul) return 2 * lv_shape_elements(y) * (node_bool(node, ATTR_transpose_a, false) ? a.dim[a.rank - 2] : a.dim[a.rank - 1]);
    if (node->op == OP_conv2d) {
        const LvShape w = node->inputs[1]->shape;
        return 2 * lv_shape_elements(y) * w.dim[1] * w.dim[2] * w.dim[3];
    }
    if (node->op == OP_conv2d_data_grad) {
        const LvShape w = node->inputs[1]->shape;
        return 2 * lv_shape_elements(a) * w.dim[1] * w.dim[2] * w.dim[3];
    }
    if (node->op == OP_conv2d_weight_grad) {
        const LvShape dy = node->inputs[1]->shape;
        return 2 * lv_shape_elements(dy) * y.dim[1] * y.dim[2] * y.dim[3];
    }
    return 0;
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

static void print_kernel(Building *b, Unit *unit) {
    LvText text = {0};
    ScalarList scalars = {0};
    c_print_kernel(unit->kernel, PLACEHOLDER, &text, &scalars);
    name_text(b, unit, lv_text_get(&text));
    unit->scalar_count = (int)scalars.count;
    unit->scalars = LV_NEW_ARRAY(b->plan->arena, LvScalar, scalars.count + 1);
    if (scalars.count) memcpy(unit->scalars, scalars.data, scalars.count * sizeof *scalars.data);
    lv_vec_free(&scalars);
    lv_text_free(&text);
}

// ---- kernels

// May the written buffer be the memory of a read one? Only in a kernel of one nest, where each element of the read buffer
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

static int find_in_place(const Graph *graph, const Kernel *kernel, int written) {
    if (kernel->nests.count != 1) return -1;
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
        if (from->written || from->local || from->may_share || from->elements != to->elements) continue;
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
            Value *from = owner(plan, x->value), *to = owner(plan, y->value);
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

static void finish_kernel(Building *b, Kernel *kernel, Node *const *nodes, size_t node_count) {
    Unit unit = {.kind = UNIT_KERNEL, .kernel = kernel};
    set_nodes(b, &unit, nodes, node_count);
    int *in_place = lv_calloc(kernel->buffers.count + 1, sizeof *in_place), *operand = lv_calloc(kernel->buffers.count + 1, sizeof *operand);
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

static void build_call(Building *b, Node *node) {
    Unit unit = {.kind = UNIT_CALL, .node = node};
    set_nodes(b, &unit, &node, 1);
    unit.flops = call_flops(node);
    unit.operands = lv_arena_array(b->plan->arena, (size_t)(node->input_count + node->result_count), sizeof *unit.operands);
    for (int i = 0; i < node->result_count; i++) set_operand(&unit, &node->results[i], true);
    for (int i = 0; i < node->input_count; i++) set_operand(&unit, node->inputs[i], false);
    if (node->op == OP_all_reduce) unit.operands[0].in_place = 1;
    set_bytes(&unit);
    lv_vec_push(&b->units, unit);
}

static void build_template(Building *b, Node *node) {
    Unit unit = {.kind = UNIT_KERNEL};
    LvText text = {0};
    if (!template_print(node, PLACEHOLDER, &text)) schedule_internal_error("template", node, "no template prints this op");
    name_text(b, &unit, lv_text_get(&text));
    lv_text_free(&text);
    set_nodes(b, &unit, &node, 1);
    unit.operands = lv_arena_array(b->plan->arena, (size_t)(node->input_count + node->result_count), sizeof *unit.operands);
    for (int i = 0; i < node->input_count; i++) set_operand(&unit, node->inputs[i], false);
    for (int i = 0; i < node->result_count; i++) set_operand(&unit, &node->results[i], true);
    if (node->op == OP_dynamic_update) unit.operands[3].in_place = 0;  // then only the window is written
    set_bytes(&unit);
    lv_vec_push(&b->units, unit);
}

// ---- small groups run one after the other in one kernel, on one thread
//
// Normalizations and losses leave dozens of nodes over a few hundred elements. A small group waits, with those before it,
// until a group that reads one of them is due; what only the waiting groups read lives in the kernel's frame.

enum { SMALL_COST = 30000, MAX_BATCH = 24, MAX_LOCAL = 2048 };

static bool is_small(const Group *group) {
    if (group->role != ROLE_POINT) return false;
    double elements = (double)lv_shape_elements(group->domain);
    double cost = 1;
    for (size_t i = 0; i < group->nodes.count; i++) cost += op_cost(group->nodes.data[i]->op);
    return elements * cost < SMALL_COST;
}

static bool waits_for(const Building *b, const GroupList *waiting, const Group *group) {
    for (size_t i = 0; i < group->reads.count; i++) {
        int from = b->plan->unit_of[group->reads.data[i]->id];
        for (size_t k = 0; k < waiting->count; k++) {
            if (waiting->data[k]->id == from) return true;
        }
    }
    return false;
}

// Is the buffer's value written and read by these groups alone?
static bool is_private(const Building *b, const GroupList *groups, const Buffer *buffer) {
    if (!buffer->written || !buffer->read || b->outside[buffer->value->id]) return false;
    size_t readers = 0;
    for (size_t k = 0; k < groups->count; k++) {
        for (size_t r = 0; r < groups->data[k]->reads.count; r++) readers += groups->data[k]->reads.data[r] == buffer->value;
    }
    return readers == (size_t)b->readers[buffer->value->id];
}

static void finish_groups(Building *b, Kernel *kernel, const GroupList *groups) {
    LV_VEC(Node *) nodes = {0};
    for (size_t i = 0; i < groups->count; i++) {
        for (size_t k = 0; k < groups->data[i]->nodes.count; k++) lv_vec_push(&nodes, groups->data[i]->nodes.data[k]);
    }
    finish_kernel(b, kernel, nodes.data, nodes.count);
    lv_vec_free(&nodes);
}

static void flush_batch(Building *b) {
    if (b->batch.count == 0) return;
    Kernel *kernel = lv_calloc(1, sizeof *kernel);
    for (size_t i = 0; i < b->batch.count; i++) lower_group(b->plan, b->batch.data[i], kernel);
    kernel->serial = true;
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        Buffer *buffer = &kernel->buffers.data[i];
        if (buffer->elements <= MAX_LOCAL && is_private(b, &b->batch, buffer)) buffer->local = true;
    }
    finish_groups(b, kernel, &b->batch);
    b->batch.count = 0;
}

// ---- the row-wise kernel that is open

static void flush_rows(Building *b) {
    if (!b->rows_kernel) return;
    Kernel *kernel = b->rows_kernel;
    b->rows_kernel = NULL;
    for (size_t i = 0; i < b->rows.count; i++) {
        if (!waits_for(b, &b->batch, b->rows.data[i])) continue;
        flush_batch(b);
        break;
    }
    for (size_t i = 0; i < kernel->buffers.count && kernel->shared; i++) {
        if (is_private(b, &b->rows, &kernel->buffers.data[i])) rows_make_local(kernel, (int)i);
    }
    finish_groups(b, kernel, &b->rows);
    b->rows.count = 0;
}

// Takes the group into the open row-wise kernel, or opens one with it.
static bool take_row(Building *b, Group *group) {
    if (b->plan->no_fuse || group->role != ROLE_POINT) return false;
    Kernel *kernel = lv_calloc(1, sizeof *kernel);
    lower_group(b->plan, group, kernel);
    bool taken = b->rows_kernel && rows_append(b->plan, b->rows_kernel, kernel);
    if (!taken && !is_small(group) && rows_of(kernel)) {
        if (b->rows_kernel) flush_rows(b);
        b->rows_kernel = kernel;
        kernel = NULL;
        taken = true;
    }
    if (taken) lv_vec_push(&b->rows, group);
    if (kernel) kernel_free(kernel), free(kernel);
    return taken;
}

// Who reads a stored value: groups, and others that no group shows (results, writes of variables).
static void find_readers(Building *b, const Groups *groups) {
    Plan *plan = b->plan;
    b->readers = LV_NEW_ARRAY(plan->arena, int, plan->value_count + 1);
    b->outside = LV_NEW_ARRAY(plan->arena, bool, plan->value_count + 1);
    for (size_t i = 0; i < groups->list.count; i++) {
        const Group *group = groups->list.data[i];
        for (size_t r = 0; r < group->reads.count; r++) b->readers[group->reads.data[r]->id]++;
    }
    for (size_t i = 0; i < plan->graph->results.count; i++) b->outside[owner(plan, plan->graph->results.data[i].value)->id] = true;
    for GRAPH_EACH(plan->graph, node) {
        if (node_role(node) != ROLE_EFFECT && node_role(node) != ROLE_PACK) continue;
        for (int i = 0; i < node->input_count; i++) b->outside[owner(plan, node->inputs[i])->id] = true;
    }
}

static void build_group(Building *b, Group *group) {
    Node *node = group->nodes.data[0];
    if (take_row(b, group)) return;
    if (waits_for(b, &b->rows, group)) flush_rows(b);
    if (!b->plan->no_fuse && is_small(group)) {
        if (b->batch.count == MAX_BATCH) flush_batch(b);
        lv_vec_push(&b->batch, group);
        return;
    }
    if (waits_for(b, &b->batch, group)) flush_batch(b);
    switch (group->role) {
        case ROLE_CALL: build_call(b, node); return;
        case ROLE_TEMPLATE: build_template(b, node); return;
        default: break;
    }
    Kernel *kernel = lv_calloc(1, sizeof *kernel);
    if (group->role == ROLE_PACK) lower_pack(b->plan, node, kernel);
    else lower_group(b->plan, group, kernel);
    if (kernel->nests.count == 0) {
        kernel_free(kernel), free(kernel);
        return;
    }
    finish_kernel(b, kernel, group->nodes.data, group->nodes.count);
}

static void set_aliases(Building *b) {
    Plan *plan = b->plan;
    Schedule *s = b->schedule;
    s->alias_of = LV_NEW_ARRAY(plan->arena, Value *, plan->value_count + 1);
    s->alias_offset = LV_NEW_ARRAY(plan->arena, int64_t, plan->value_count + 1);
    for (int id = 0; id < plan->value_count; id++) {
        if (plan->place[id] == PLACE_ALIAS) s->alias_of[id] = plan->alias_of[id], s->alias_offset[id] = plan->alias_offset[id];
        int own = s->alias_of[id] ? s->alias_of[id]->id : id;
        if (b->pack_of[own]) s->alias_of[id] = b->pack_of[own], s->alias_offset[id] += b->pack_offset[own];
    }
}

Schedule *schedule_build(Graph *graph, bool no_fuse, LvArena *arena) {
    size_t count = (size_t)graph->next_value + 1;
    Plan plan = {.graph = graph, .arena = arena, .no_fuse = no_fuse, .value_count = graph->next_value};
    plan.place = LV_NEW_ARRAY(arena, Place, count);
    plan.uses = graph_count_uses(graph, arena);
    plan.position = LV_NEW_ARRAY(arena, int, count);
    plan.last_use = LV_NEW_ARRAY(arena, int, count);
    plan.level = LV_NEW_ARRAY(arena, int, count);
    plan.unit_of = LV_NEW_ARRAY(arena, int, count);
    plan.reaches = LV_NEW_ARRAY(arena, bool, count);
    plan.packed = LV_NEW_ARRAY(arena, bool, count);
    plan.alias_of = LV_NEW_ARRAY(arena, Value *, count);
    plan.alias_offset = LV_NEW_ARRAY(arena, int64_t, count);
    for (size_t i = 0; i < count; i++) plan.unit_of[i] = -1;
    plan_mark(&plan);
    Schedule *schedule = LV_NEW(arena, Schedule);
    Building b = {.plan = &plan, .schedule = schedule};
    schedule->arena = arena, schedule->graph = graph, schedule->prelude = c_prelude;
    b.pack_of = LV_NEW_ARRAY(arena, Value *, count);
    b.pack_offset = LV_NEW_ARRAY(arena, int64_t, count);
    mark_packs(&plan, b.pack_of, b.pack_offset);
    Groups groups = {0};
    plan_group(&plan, &groups);
    find_readers(&b, &groups);
    for (size_t i = 0; i < groups.list.count; i++) build_group(&b, groups.list.data[i]);
    flush_rows(&b);
    flush_batch(&b);
    set_aliases(&b);
    schedule->unit_count = (int)b.units.count;
    schedule->units = LV_NEW_ARRAY(arena, Unit, b.units.count + 1);
    if (b.units.count) memcpy(schedule->units, b.units.data, b.units.count * sizeof(Unit));
    for (size_t i = 0; i < groups.list.count; i++) {
        Group *group = groups.list.data[i];
        lv_vec_free(&group->roots);
        lv_vec_free(&group->nodes);
        lv_vec_free(&group->reads);
    }
    lv_vec_free(&groups.list);
    lv_vec_free(&b.units);
    lv_vec_free(&b.batch);
    lv_vec_free(&b.rows);
    lv_map_free(&b.texts);
    return schedule;
}

void schedule_print_loops(const Schedule *schedule, LvText *out) {
    for (int i = 0; i < schedule->unit_count; i++) {
        const Unit *unit = &schedule->units[i];
        if (unit->kernel) {
            kernel_print(unit->kernel, unit->kernel_name, out);
            continue;
        }
        lv_text_printf(out, "%s %s", unit->kind == UNIT_CALL ? "call" : "template", op_name(unit->nodes[0]->op));
        for (int k = 0; k < unit->operand_count; k++) {
            lv_text_printf(out, "%s%s%%%d", k ? ", " : " ", unit->operands[k].written ? "written " : "", unit->operands[k].value->id);
        }
        lv_text_puts(out, "\n");
    }
}

void schedule_print_code(const Schedule *schedule, LvText *out) {
    LvMap printed = {0};
    lv_text_puts(out, schedule->prelude);
    for (int i = 0; i < schedule->unit_count; i++) {
        const Unit *unit = &schedule->units[i];
        if (!unit->kernel_name || lv_map_has(&printed, unit->kernel_name)) continue;
        lv_map_set(&printed, unit->kernel_name, (void *)unit->kernel_name);
        lv_text_printf(out, "\n%s", unit->kernel_text);
    }
    lv_map_free(&printed);
}
