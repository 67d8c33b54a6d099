// The whole of scheduling: marks, groups, kernels, calls -> units, printed.
//   requires     layouts chosen; composites decomposed that no template prints; no gradient nodes
//   establishes  every operand is given, an alias, or written by an earlier unit; equal kernel texts have one name; what is prepared
//                comes first; an update of parameters stands behind the last unit that reads what it overwrites
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "schedule/build.h"

// ---- packs

// A member goes right into the pack if it owns its storage, a unit writes it, and nothing else claims it.
static void mark_packs(Plan *plan, Value **pack_of, int64_t *pack_offset) {
    for GRAPH_EACH(plan->graph, node) {
        if (node->op != OP_pack) continue;
        int64_t at = 0;
        for (int i = 0; i < node->input_count; i++) {
            Value *member = node->inputs[i], *own = plan_owner(plan, member);
            at = (at + 15) / 16 * 16;
            bool whole = lv_shape_elements(own->shape) == lv_shape_elements(member->shape) && own->dtype == member->dtype;
            bool fits = plan->place[own->id] == PLACE_STORED && whole && plan->alias_offset[member->id] == 0;
            fits = fits && own->node->op != OP_pack && lv_layout_is_row_major(own->layout, own->shape.rank);
            if (fits && !pack_of[own->id]) {
                pack_of[own->id] = &node->results[0], pack_offset[own->id] = at;
                plan->packed[member->id] = node;
            }
            at += lv_shape_elements(member->shape);
        }
    }
}

static void mark_parts(Plan *plan, Value **pack_of, int64_t *pack_offset) {
    for GRAPH_EACH(plan->graph, node) {
        int64_t at = 0, axis = node->op == OP_concat ? node_int(node, ATTR_axis, 0) : 0;
        for (int i = 0; is_made_in_place(node) && i < node->input_count; i++) {
            const Value *own = plan_owner(plan, node->inputs[i]);
            bool fits = plan->place[own->id] == PLACE_STORED && !pack_of[own->id] && own->layout.pitch == node->inputs[i]->layout.pitch;
            if (!fits) schedule_internal_error("parts", node, "a part that is not written where it lies");
            pack_of[own->id] = &node->results[0], pack_offset[own->id] = at;
            at += node->inputs[i]->shape.dim[axis];
        }
    }
}

// ---- small groups run one after the other in one kernel, on one thread
//
// Normalizations and losses leave dozens of nodes over a few hundred elements. A small group waits, with those before it,
// until a group that reads one of them is due; what only the waiting groups read lives in the kernel's frame.

// On a GPU the batch has one block, which a launch of its own would have to wait for: more elements than that go sooner by themselves.
enum { SMALL_COST = 30000, MAX_BATCH = 24, MAX_LOCAL = 2048, GPU_SMALL_COST = 400000, GPU_SMALL_ELEMENTS = 16384 };

static bool is_small(const Building *b, const Group *group) {
    if (group->role != ROLE_POINT) return false;
    double elements = (double)lv_shape_elements(group->domain);
    double cost = 1;
    for (size_t i = 0; i < group->nodes.count; i++) cost += op_cost(group->nodes.data[i]->op);
    if (b->schedule->target.cuda) return elements <= GPU_SMALL_ELEMENTS && elements * cost < GPU_SMALL_COST;
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

// A unit of these groups, or of what `host` (NULL: none) does and these; it then takes the host's place.
static void finish_groups(Building *b, Kernel *kernel, const GroupList *groups, const Unit *host) {
    LV_VEC(Node *) nodes = {0};
    size_t place = host ? (size_t)(host - b->units.data) : b->units.count;
    for (int i = 0; host && i < host->node_count; i++) lv_vec_push(&nodes, host->nodes[i]);
    for (size_t i = 0; i < groups->count; i++) {
        for (size_t k = 0; k < groups->data[i]->nodes.count; k++) lv_vec_push(&nodes, groups->data[i]->nodes.data[k]);
    }
    unit_add_kernel(b, kernel, nodes.data, nodes.count);
    if (host) b->units.data[place] = b->units.data[--b->units.count];
    lv_vec_free(&nodes);
}

// On a GPU a batch of small groups whose last operands a reduction made is that one's tail: to begin another launch would take as long
// as the batch. Other units may stand between: they are none that the batch waits for. Not of one that makes members of what the batch
// reads, a pack that may have no unit of its own: the same memory by another name, which a kernel does not see change.
typedef enum { WRITES_NOTHING, WRITES_MEMBER, WRITES_OPERAND } Writes;

static Writes writes_for(const Building *b, const Unit *unit) {
    Writes found = WRITES_NOTHING;
    for (int i = 0; i < unit->operand_count; i++) {
        if (!unit->operands[i].written) continue;
        const Value *value = plan_owner(b->plan, unit->operands[i].value);
        for (size_t k = 0; k < b->batch.count; k++) {
            const Group *group = b->batch.data[k];
            for (size_t r = 0; r < group->reads.count; r++) {
                const Value *read = plan_owner(b->plan, group->reads.data[r]);
                if (b->plan->packed[value->id] == read->node) return WRITES_MEMBER;
                if (read == value) found = WRITES_OPERAND;
            }
        }
    }
    return found;
}

static Unit *find_host(Building *b) {
    size_t first = (size_t)b->schedule->prepared_count, at = b->units.count;
    if (!b->schedule->target.cuda || b->plan->no_fuse) return NULL;
    Writes writes = WRITES_NOTHING;
    while (at > first && (writes = writes_for(b, &b->units.data[at - 1])) == WRITES_NOTHING) at--;
    if (writes != WRITES_OPERAND) return NULL;
    Unit *last = &b->units.data[at - 1];
    const Kernel *kernel = last->kernel;
    if (!kernel || kernel->serial || kernel->shared || kernel->tail || kernel->nests.count != 1) return NULL;
    const Nest *nest = &kernel->nests.data[0];
    bool reduces = false;
    for (size_t i = 0; i < nest->outputs.count; i++) reduces |= nest->outputs.data[i].kind == OUTPUT_REDUCE;
    return reduces && nest_points(nest) ? last : NULL;
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
    Unit *host = find_host(b);
    if (host) {
        Kernel *whole = kernel_copy(host->kernel);
        whole->tail = (int)whole->nests.count;
        kernel_take(whole, kernel);
        kernel_free(kernel), free(kernel);
        kernel = whole;
    }
    finish_groups(b, kernel, &b->batch, host);
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
    finish_groups(b, kernel, &b->rows, NULL);
    b->rows.count = 0;
}

// Takes the group into the open row-wise kernel, or opens one with it.
static bool take_row(Building *b, Group *group) {
    if (b->plan->no_fuse || group->role != ROLE_POINT) return false;
    Kernel *kernel = lv_calloc(1, sizeof *kernel);
    lower_group(b->plan, group, kernel);
    bool taken = b->rows_kernel && rows_append(b->plan, b->rows_kernel, kernel);
    if (!taken && !is_small(b, group) && rows_of(kernel)) {
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
    for (size_t i = 0; i < plan->graph->results.count; i++)
        b->outside[plan_owner(plan, plan->graph->results.data[i].value)->id] = true;
    for GRAPH_EACH(plan->graph, node) {
        if (node_role(node) != ROLE_EFFECT && node_role(node) != ROLE_PACK) continue;
        for (int i = 0; i < node->input_count; i++) b->outside[plan_owner(plan, node->inputs[i])->id] = true;
    }
}

static void build_group(Building *b, Group *group) {
    Node *node = group->nodes.data[0];
    if (take_row(b, group)) return;
    if (waits_for(b, &b->rows, group)) flush_rows(b);
    if (!b->plan->no_fuse && is_small(b, group)) {
        if (b->batch.count == MAX_BATCH) flush_batch(b);
        lv_vec_push(&b->batch, group);
        return;
    }
    if (waits_for(b, &b->batch, group)) flush_batch(b);
    switch (group->role) {
        case ROLE_CALL: unit_add_call(b, node); return;
        case ROLE_TEMPLATE: unit_add_template(b, node); return;
        default: break;
    }
    Kernel *kernel = lv_calloc(1, sizeof *kernel);
    if (group->role == ROLE_PACK) lower_pack(b->plan, node, kernel);
    else lower_group(b->plan, group, kernel);
    if (kernel->nests.count == 0) {
        kernel_free(kernel), free(kernel);
        return;
    }
    unit_add_kernel(b, kernel, group->nodes.data, group->nodes.count);
}

// ---- on a GPU, groups that read nothing but what is given (weights and biases on their way to products) share launches: one that is due
// takes those with it that come soon. A large one has to be among them: small ones by themselves are a batch.

enum { MAX_COMPANY = 24, COMPANY_AHEAD = 48 };

static bool reads_given(const Building *b, const Group *group) {
    Node *node = group->nodes.data[0];
    if (!b->schedule->target.cuda || b->plan->no_fuse || group->role != ROLE_POINT) return false;
    for (size_t i = 0; i < group->reads.count; i++) {
        if (b->plan->place[plan_owner(b->plan, group->reads.data[i])->id] != PLACE_GIVEN) return false;
    }
    for (size_t i = 0; i < group->roots.count; i++) {
        if (node_role(group->roots.data[i]->node) == ROLE_REDUCTION) return false;
    }
    return group->reads.count > 0 && node->op != OP_concat;
}

// False, and nothing is built, where the group that is due is small and finds no large one.
static bool build_company(Building *b, const Groups *groups, size_t first, bool *built) {
    size_t members[MAX_COMPANY], count = 0;
    bool large = false;
    for (size_t i = first; i < groups->list.count && i <= first + COMPANY_AHEAD && count < MAX_COMPANY; i++) {
        Group *group = groups->list.data[i];
        if (built[i] || group->prepared != groups->list.data[first]->prepared || !reads_given(b, group)) continue;
        large |= !is_small(b, group);
        members[count++] = i;
    }
    if (!large) return false;
    GroupList company = {0};
    Kernel *kernel = lv_calloc(1, sizeof *kernel);
    for (size_t i = 0; i < count; i++) {
        lower_group(b->plan, groups->list.data[members[i]], kernel);
        lv_vec_push(&company, groups->list.data[members[i]]);
        built[members[i]] = true;
    }
    finish_groups(b, kernel, &company, NULL);
    lv_vec_free(&company);
    return true;
}

static void build_groups(Building *b, const Groups *groups, bool prepared) {
    bool *built = lv_calloc(groups->list.count + 1, sizeof *built);
    for (size_t i = 0; i < groups->list.count; i++) {
        Group *group = groups->list.data[i];
        if (built[i] || group->prepared != prepared || is_made_in_place(group->roots.data[0]->node)) continue;
        if (!reads_given(b, group) || !build_company(b, groups, i, built)) build_group(b, group);
    }
    free(built);
    flush_rows(b);
    flush_batch(b);
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

// ---- updates of a part of the parameters wait for whoever still reads what they overwrite

// The range of a variable that a value is read from, in the flat variable that it lies in; false: of none.
typedef struct {
    int variable;
    int64_t begin, end;
} Range;

static bool find_range(const Building *b, const Value *value, Range *range) {
    const Schedule *s = b->schedule;
    int64_t elements = lv_shape_elements(value->shape), offset = s->alias_of[value->id] ? s->alias_offset[value->id] : 0;
    const Node *read = (s->alias_of[value->id] ? s->alias_of[value->id] : value)->node;
    if (read->op != OP_state_read) return false;
    int variable = (int)node_int(read, ATTR_variable, 0);
    const Variable *v = &b->plan->graph->variables.data[variable];
    if (v->pack >= 0) variable = v->pack, offset += v->pack_offset;
    *range = (Range){variable, offset, offset + elements};
    return true;
}

typedef LV_VEC(struct Part {
    Range range;
    size_t writer;  // unit
}) PartList;

// Parts of variables that units write; units that write something else too stay where they are.
static PartList find_written_parts(const Building *b) {
    const Graph *graph = b->plan->graph;
    PartList parts = {0};
    int *variable_of = LV_NEW_ARRAY(b->plan->arena, int, b->plan->value_count + 1);  // by value id: 1 + the part that it is written to
    for GRAPH_EACH(graph, node) {
        int variable = node->op == OP_state_write ? (int)node_int(node, ATTR_variable, 0) : 0;
        if (node->op == OP_state_write && graph->variables.data[variable].is_part) variable_of[node->inputs[0]->id] = 1 + variable;
    }
    for (size_t u = 0; u < b->units.count; u++) {
        const Unit *unit = &b->units.data[u];
        bool only = true;
        for (int i = 0; i < unit->operand_count; i++) only &= !unit->operands[i].written || variable_of[unit->operands[i].value->id];
        for (int i = 0; i < unit->operand_count && only; i++) {
            if (!unit->operands[i].written) continue;
            const Variable *v = &graph->variables.data[variable_of[unit->operands[i].value->id] - 1];
            struct Part part = {{v->pack, v->pack_offset, v->pack_offset + lv_shape_elements(v->shape)}, u};
            lv_vec_push(&parts, part);
        }
    }
    return parts;
}

static void delay_updates(Building *b) {
    PartList parts = find_written_parts(b);
    size_t count = parts.count ? b->units.count : 0, placed = 0;
    size_t *due = lv_calloc(count + 1, sizeof *due);  // of a unit: the last one that must run before it
    Unit *units = lv_calloc(count + 1, sizeof *units);
    for (size_t u = 0; u < count; u++) due[u] = u;
    for (size_t u = 0; u < count; u++) {
        const Unit *unit = &b->units.data[u];
        Range read;
        for (int i = 0; i < unit->operand_count; i++) {
            if (unit->operands[i].written || !find_range(b, unit->operands[i].value, &read)) continue;
            for (size_t k = 0; k < parts.count; k++) {
                struct Part part = parts.data[k];
                bool meet = read.variable == part.range.variable && read.begin < part.range.end && part.range.begin < read.end;
                if (meet && due[part.writer] < u) due[part.writer] = u;
            }
        }
    }
    for (size_t u = 0; u < count; u++) {
        if (due[u] == u) units[placed++] = b->units.data[u];
        for (size_t k = 0; k < u; k++) {
            if (due[k] == u) units[placed++] = b->units.data[k];
        }
    }
    if (count) memcpy(b->units.data, units, count * sizeof *units);
    lv_vec_free(&parts);
    free(due), free(units);
}

Schedule *schedule_build(Graph *graph, const Target *target, bool no_fuse, LvArena *arena) {
    size_t count = (size_t)graph->next_value + 1;
    Plan plan = {.graph = graph, .arena = arena, .no_fuse = no_fuse, .cuda = target->cuda, .value_count = graph->next_value};
    plan.place = LV_NEW_ARRAY(arena, Place, count);
    plan.uses = graph_count_uses(graph, arena);
    plan.position = LV_NEW_ARRAY(arena, int, count);
    plan.last_use = LV_NEW_ARRAY(arena, int, count);
    plan.level = LV_NEW_ARRAY(arena, int, count);
    plan.unit_of = LV_NEW_ARRAY(arena, int, count);
    plan.reaches = LV_NEW_ARRAY(arena, bool, count);
    plan.packed = LV_NEW_ARRAY(arena, const Node *, count);
    plan.prepared = LV_NEW_ARRAY(arena, bool, count);
    plan.alias_of = LV_NEW_ARRAY(arena, Value *, count);
    plan.alias_offset = LV_NEW_ARRAY(arena, int64_t, count);
    for (size_t i = 0; i < count; i++) plan.unit_of[i] = -1;
    for GRAPH_EACH(graph, node) node->by_template = node->op == OP_matmul && codegen_takes(node, target);
    plan_mark(&plan);
    plan_prepare(&plan);
    Schedule *schedule = LV_NEW(arena, Schedule);
    Building b = {.plan = &plan, .schedule = schedule};
    LvText prelude = {0};
    codegen_put_prelude(target, &prelude);
    schedule->arena = arena, schedule->graph = graph, schedule->target = *target;
    schedule->prelude = lv_arena_strdup(arena, lv_text_get(&prelude));
    lv_text_free(&prelude);
    b.pack_of = LV_NEW_ARRAY(arena, Value *, count);
    b.pack_offset = LV_NEW_ARRAY(arena, int64_t, count);
    mark_packs(&plan, b.pack_of, b.pack_offset);
    mark_parts(&plan, b.pack_of, b.pack_offset);
    Groups groups = {0};
    plan_group(&plan, &groups);
    find_readers(&b, &groups);
    build_groups(&b, &groups, true);
    schedule->prepared_count = (int)b.units.count;
    build_groups(&b, &groups, false);
    set_aliases(&b);
    delay_updates(&b);
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
            lv_text_printf(out, "%s%s%%%d", k ? ", " : " ", unit->operands[k].written ? "written " : "",
                           unit->operands[k].value->id);
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
