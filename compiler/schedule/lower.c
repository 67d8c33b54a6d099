// One group of the graph -> one nest of loop IR.
//
// The domain's axes are the physical dimensions of the group's layout, outermost first, cut further where an index asks for
// it. Each root's expression is written from the root down (value.c).
#include <stdlib.h>
#include <string.h>

#include "schedule/lower.h"

enum { MAX_CUTS = 12 };

static int64_t storage_elements(const Value *value) { return lv_shape_elements(value->shape); }

// The operand through which `value` is read: its owner where it begins at the owner's start, else itself.
int kernel_buffer(const Plan *plan, Kernel *kernel, Value *value) {
    if (plan->place[value->id] == PLACE_ALIAS && plan->alias_offset[value->id] == 0) value = plan->alias_of[value->id];
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (kernel->buffers.data[i].value == value) return (int)i;
    }
    int64_t offset = plan->place[value->id] == PLACE_ALIAS ? plan->alias_offset[value->id] : 0;
    lv_vec_push(&kernel->buffers,
                (Buffer){.value = value, .dtype = value->dtype, .elements = storage_elements(value), .offset = offset});
    return (int)kernel->buffers.count - 1;
}

// ---- the domain

static void first_pieces(Lower *l) {
    LvLayout layout = l->group->layout;
    LvShape shape = l->group->domain;
    bool blocked = layout.block > 1;
    for (int i = 0; i < shape.rank; i++) {
        int dim = layout.perm[i];
        int64_t inner = blocked && layout.block_dim == dim ? layout.block : 1;
        if (shape.dim[dim] / inner != 1)
            l->pieces[l->piece_count++] = (Piece){.dim = dim, .extent = shape.dim[dim] / inner, .stride = inner};
    }
    if (blocked) l->pieces[l->piece_count++] = (Piece){.dim = layout.block_dim, .extent = layout.block, .stride = 1};
}

// Order of the walk: kept axes, then reduced ones, but the innermost stays innermost: it is the one that runs along memory.
static void order_axes(Lower *l, unsigned reduced) {
    int last = l->piece_count - 1, count = 0;
    Nest *nest = &l->nest;
    for (int i = 0; i <= last; i++) l->pieces[i].reduced = reduced >> l->pieces[i].dim & 1;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < last; i++) {
            if (l->pieces[i].reduced == (pass == 1)) nest->axes[count++] = (Axis){i, l->pieces[i].reduced};
        }
    }
    if (last >= 0) nest->axes[count++] = (Axis){last, l->pieces[last].reduced};
    nest->axis_count = count;
}

// The same place in `shape`, of which each dimension is a run of the domain's.
static void in_shape(const Lower *l, LvShape shape, const Affine *index, Affine *at) {
    LvShape domain = l->group->domain;
    int of[LV_MAX_RANK];
    bool same = lv_shape_equal(domain, shape);
    if (!same && !domain_nests(domain, shape, of)) schedule_internal_error("lower", l->group->nodes.data[0], "a root in another domain");
    for (int i = 0; i < LV_MAX_RANK; i++) at[i] = same ? index[i] : affine_constant(0);
    for (int i = 0; !same && i < domain.rank; i++) {
        if (domain.dim[i] != 1) at[of[i]] = affine_add(affine_scale(at[of[i]], domain.dim[i]), index[i]);
    }
}

static void lower_root(Lower *l, Value *root, const Affine *of_domain) {
    Node *node = root->node;
    Output output = {.kind = OUTPUT_STORE};
    bool reduces = node_role(node) == ROLE_REDUCTION;
    LvShape shape = reduces ? node->inputs[0]->shape : root->shape;
    Affine index[LV_MAX_RANK];
    in_shape(l, shape, of_domain, index);
    if (reduces) {
        unsigned mask = domain_reduced(root, shape);
        Affine kept[LV_MAX_RANK];
        int rank = 0;
        for (int i = 0; i < node->inputs[0]->shape.rank; i++) {
            if (!(mask >> i & 1)) kept[rank++] = index[i];
        }
        output.kind = OUTPUT_REDUCE;
        output.op = node->op;
        output.value = value_lower(l, node->inputs[0], index, -1);
        if (node->op == OP_argmax || node->op == OP_argmin) output.position = index[node_int(node, ATTR_axis, 0)];
        output.index = value_address(l, root, kept);
    } else {
        output.value = value_lower(l, root, index, -1);
        output.index = value_address(l, root, index);
    }
    output.buffer = kernel_buffer(l->plan, l->kernel, root);
    l->kernel->buffers.data[output.buffer].written = true;
    lv_vec_push(&l->nest.outputs, output);
}

// Writes the nest with the domain cut as it is now; false: an index asked for another cut.
static bool lower_once(Lower *l) {
    for (int i = 0; i < l->piece_count; i++) nest_add_var(&l->nest, l->pieces[i].extent);
    Affine index[LV_MAX_RANK];
    for (int i = 0; i < LV_MAX_RANK; i++) index[i] = affine_constant(0);
    for (int i = 0; i < l->piece_count; i++) {
        Affine *at = &index[l->pieces[i].dim];
        *at = affine_add(*at, affine_scale(affine_var(i), l->pieces[i].stride));
    }
    unsigned reduced = 0;
    for (size_t i = 0; i < l->group->roots.count; i++) {
        Value *root = l->group->roots.data[i];
        reduced |= domain_reduced(root, l->group->domain);
        lower_root(l, root, index);
    }
    if (l->cut_axis >= 0) return false;
    order_axes(l, reduced);
    return true;
}

static void cut(Lower *l) {
    int at = l->cut_axis;
    for (int i = l->piece_count; i > at + 1; i--) l->pieces[i] = l->pieces[i - 1];
    l->piece_count++;
    Piece *outer = &l->pieces[at], *inner = &l->pieces[at + 1];
    *inner = *outer;
    outer->extent /= l->cut_inner, outer->stride *= l->cut_inner;
    inner->extent = l->cut_inner;
}

// Concatenation as a root: a nest for each part, which writes into its share of the result.
static void lower_concat_root(const Plan *plan, const Group *group, Kernel *kernel);

static void finish(Lower *l) {
    nest_tidy(&l->nest, 0);
    lv_vec_push(&l->kernel->nests, l->nest);
    lv_vec_free(&l->memo);
}

void lower_group(const Plan *plan, const Group *group, Kernel *kernel) {
    if (group->roots.count == 1 && group->roots.data[0]->node->op == OP_concat) {
        lower_concat_root(plan, group, kernel);
        return;
    }
    size_t buffers = kernel->buffers.count;
    Lower l = {.plan = plan, .group = group, .kernel = kernel, .may_cut = true};
    first_pieces(&l);
    for (int cuts = 0;; cuts++) {
        l.cut_axis = -1;
        l.may_cut = cuts < MAX_CUTS && l.piece_count < LOOP_MAX_AXES - 1;
        memset(&l.nest, 0, sizeof l.nest);
        l.memo.count = 0;
        if (lower_once(&l)) break;
        nest_free(&l.nest);
        kernel->buffers.count = buffers;
        cut(&l);
    }
    finish(&l);
}

// One nest: `value` over its whole domain, written at `index` + the value's place in `into`.
static void lower_copy(const Plan *plan, Kernel *kernel, Value *value, Value *into, int axis, int64_t start, int64_t offset) {
    Group part = {.role = ROLE_POINT, .domain = value->shape, .layout = axis >= 0 ? into->layout : value->layout};
    if (part.layout.block > 1 && value->shape.dim[part.layout.block_dim] % part.layout.block) part.layout = value->layout;
    Lower l = {.plan = plan, .group = &part, .kernel = kernel};
    size_t buffers = kernel->buffers.count;
    first_pieces(&l);
    for (int cuts = 0;; cuts++) {
        l.cut_axis = -1;
        l.may_cut = cuts < MAX_CUTS && l.piece_count < LOOP_MAX_AXES - 1;
        memset(&l.nest, 0, sizeof l.nest);
        l.memo.count = 0;
        for (int i = 0; i < l.piece_count; i++) nest_add_var(&l.nest, l.pieces[i].extent);
        Affine index[LV_MAX_RANK];
        for (int i = 0; i < LV_MAX_RANK; i++) index[i] = affine_constant(0);
        for (int i = 0; i < l.piece_count; i++) {
            Affine *at = &index[l.pieces[i].dim];
            *at = affine_add(*at, affine_scale(affine_var(i), l.pieces[i].stride));
        }
        Output output = {.kind = OUTPUT_STORE, .value = value_lower(&l, value, index, -1)};
        if (axis >= 0) {
            index[axis].constant += start;
            output.index = value_address(&l, into, index);
        } else {
            output.index = value_linear(value->shape, index);
            output.index.constant += offset;
        }
        output.buffer = kernel_buffer(plan, kernel, into);
        kernel->buffers.data[output.buffer].written = true;
        lv_vec_push(&l.nest.outputs, output);
        if (l.cut_axis < 0) break;
        nest_free(&l.nest);
        kernel->buffers.count = buffers;
        cut(&l);
    }
    order_axes(&l, 0);
    finish(&l);
}

static void lower_concat_root(const Plan *plan, const Group *group, Kernel *kernel) {
    Value *into = group->roots.data[0];
    int axis = (int)node_int(into->node, ATTR_axis, 0);
    int64_t start = 0;
    for (int i = 0; i < into->node->input_count; i++) {
        Value *part = into->node->inputs[i];
        if (lv_shape_elements(part->shape) > 0) lower_copy(plan, kernel, part, into, axis, start, 0);
        start += part->shape.dim[axis];
    }
}

// What of a pack its members do not write themselves: copies of the others, and zeros in the gaps.
void lower_pack(const Plan *plan, const Node *node, Kernel *kernel) {
    Value *into = (Value *)&node->results[0];
    int64_t at = 0, total = into->shape.dim[0];
    for (int i = 0; i <= node->input_count; i++) {
        int64_t start = (at + 15) / 16 * 16;
        if (i == node->input_count) start = total;
        if (start > at) {
            Nest nest = {0};
            int var = nest_add_var(&nest, start - at);
            nest.axis_count = 1;
            nest.axes[0] = (Axis){var, false};
            lv_vec_push(&nest.body, instr_make(INSTR_CONSTANT, into->dtype));
            Output output = {.kind = OUTPUT_STORE, .index = affine_var(var), .buffer = kernel_buffer(plan, kernel, into)};
            output.index.constant = at;
            kernel->buffers.data[output.buffer].written = true;
            lv_vec_push(&nest.outputs, output);
            nest_tidy(&nest, 0);
            lv_vec_push(&kernel->nests, nest);
        }
        if (i == node->input_count) break;
        Value *member = node->inputs[i];
        int64_t elements = lv_shape_elements(member->shape);
        bool there = plan->packed[member->id] == node;  // a gradient that two parameters have in common: only one place is written directly
        for (int k = 0; k < i && there; k++) there = node->inputs[k] != member;
        if (elements > 0 && !there) lower_copy(plan, kernel, member, into, -1, 0, start);
        at = start + elements;
    }
}
