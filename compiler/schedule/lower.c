// One group of the graph -> one nest of loop IR.
//
// The domain's axes are the physical dimensions of the group's layout, outermost first. Each root's expression is written
// from the root down: a value at an index is an instruction; movement ops only rewrite the index (a reshape by division,
// which is exact once axes are cut where it asks), padding and concatenation add regions, stored values become loads.
#include <stdlib.h>
#include <string.h>

#include "schedule/internal.h"

enum { MAX_CUTS = 12 };

typedef struct {
    int dim;         // logical dimension
    int64_t extent;
    int64_t stride;  // in the dimension
    bool reduced;
} Piece;

typedef struct {
    const Value *value;
    Affine index[LV_MAX_RANK];
    int region, instr;
} Memo;  // the instruction that gives a value at an index

typedef struct {
    const Plan *plan;
    const Group *group;
    Kernel *kernel;
    Nest nest;
    int piece_count;
    Piece pieces[LOOP_MAX_AXES];  // the domain's axes in order of the walk; var i is piece i
    int cut_axis;                 // an index asked for this axis to be cut
    int64_t cut_inner;
    bool may_cut;
    LV_VEC(Memo) memo;
} Lower;

static Value *owner(const Plan *plan, Value *value) {
    return plan->place[value->id] == PLACE_ALIAS ? plan->alias_of[value->id] : value;
}

static int64_t storage_elements(const Value *value) { return lv_shape_elements(value->shape); }

// The operand through which `value` is read: its owner where it begins at the owner's start, else itself.
int kernel_buffer(const Plan *plan, Kernel *kernel, Value *value) {
    if (plan->place[value->id] == PLACE_ALIAS && plan->alias_offset[value->id] == 0) value = plan->alias_of[value->id];
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (kernel->buffers.data[i].value == value) return (int)i;
    }
    lv_vec_push(&kernel->buffers, (Buffer){.value = value, .dtype = value->dtype, .elements = storage_elements(value)});
    return (int)kernel->buffers.count - 1;
}

// ---- instructions

static int emit(Lower *l, Instr instr) {
    for (size_t i = 0; i < l->nest.body.count; i++) {
        const Instr *old = &l->nest.body.data[i];
        if (old->kind == instr.kind && old->op == instr.op && old->dtype == instr.dtype && old->buffer == instr.buffer &&
            old->region == instr.region && !memcmp(old->args, instr.args, sizeof old->args) &&
            !memcmp(&old->value, &instr.value, sizeof old->value) && old->stream == instr.stream &&
            affine_equal(&old->index, &instr.index)) {
            return (int)i;
        }
    }
    lv_vec_push(&l->nest.body, instr);
    return (int)l->nest.body.count - 1;
}

static Instr make(InstrKind kind, LvDType dtype) {
    return (Instr){.kind = kind, .dtype = dtype, .args = {-1, -1, -1}, .buffer = -1, .region = -1};
}

static int emit_constant(Lower *l, LvDType dtype, double value) {
    Instr instr = make(INSTR_CONSTANT, dtype);
    instr.value = value;
    return emit(l, instr);
}

static int add_region(Lower *l, int parent, Affine index, int64_t low, int64_t high) {
    int64_t from, to;
    affine_range(&l->nest, &index, &from, &to);
    if (from >= low && to < high) return parent;
    for (size_t i = 0; i < l->nest.regions.count; i++) {
        const Region *r = &l->nest.regions.data[i];
        if (r->parent == parent && r->low == low && r->high == high && affine_equal(&r->index, &index)) return (int)i;
    }
    lv_vec_push(&l->nest.regions, (Region){parent, index, low, high});
    return (int)l->nest.regions.count - 1;
}

static void divide(Lower *l, const Affine *a, int64_t by, Affine *quotient, Affine *remainder) {
    int axis;
    int64_t inner;
    affine_divide(&l->nest, a, by, quotient, remainder, &axis, &inner);
    if (axis >= 0 && l->may_cut && l->cut_axis < 0) l->cut_axis = axis, l->cut_inner = inner;
}

// ---- addresses

static Affine linear(LvShape shape, const Affine *index) {
    Affine at = affine_constant(0);
    for (int i = 0; i < shape.rank; i++) at = affine_add(affine_scale(at, shape.dim[i]), index[i]);
    return at;
}

static Affine address(Lower *l, const Value *value, const Affine *index) {
    int64_t stride[LV_MAX_RANK];
    lv_layout_strides(value->layout, value->shape, stride);
    Affine at = affine_constant(0);
    for (int i = 0; i < value->shape.rank; i++) {
        if (value->layout.block > 1 && value->layout.block_dim == i) {
            Affine quotient, remainder;
            divide(l, &index[i], value->layout.block, &quotient, &remainder);
            at = affine_add(affine_add(at, affine_scale(quotient, stride[i])), remainder);
        } else {
            at = affine_add(at, affine_scale(index[i], stride[i]));
        }
    }
    return at;
}

// ---- values

static int lower_value(Lower *l, Value *value, const Affine *index, int region);
static int lower_node(Lower *l, Node *node, const Affine *index, int region);

static bool computed_here(const Lower *l, const Value *value) {
    for (size_t i = 0; i < l->group->roots.count; i++) {
        if (l->group->roots.data[i] == value) return node_role(value->node) == ROLE_POINT;
    }
    return false;
}

static int lower_load(Lower *l, Value *value, const Affine *index, int region) {
    Instr instr = make(INSTR_LOAD, value->dtype);
    // A view has its own shape and layout over the owner's storage; where it starts later, it is an operand of its own.
    instr.buffer = kernel_buffer(l->plan, l->kernel, value);
    instr.index = address(l, value, index);
    instr.region = region;
    l->kernel->buffers.data[instr.buffer].read = true;
    return emit(l, instr);
}

static int lower_reshape(Lower *l, const Node *node, const Affine *index, int region) {
    LvShape to = node->results[0].shape, from = node->inputs[0]->shape;
    Affine at[LV_MAX_RANK], rest = linear(to, index);
    for (int i = from.rank - 1; i >= 0; i--) {
        if (from.dim[i] == 1) {
            at[i] = affine_constant(0);
            continue;
        }
        bool last = true;  // nothing but ones further out: what is left is the index
        for (int k = 0; k < i; k++) last = last && from.dim[k] == 1;
        if (last) at[i] = rest, rest = affine_constant(0);
        else divide(l, &rest, from.dim[i] ? from.dim[i] : 1, &rest, &at[i]);
    }
    return lower_value(l, node->inputs[0], at, region);
}

static int choose(Lower *l, int region, int inside, int outside, LvDType dtype) {
    Instr instr = make(INSTR_CHOOSE, dtype);
    instr.args[0] = inside, instr.args[1] = outside, instr.region = region;
    return emit(l, instr);
}

static int lower_pad(Lower *l, const Node *node, const Affine *index, int region) {
    const Attr *low = node_attr(node, ATTR_low);
    LvShape from = node->inputs[0]->shape;
    LvDType dtype = node->results[0].dtype;
    Affine at[LV_MAX_RANK];
    int inner = region, chain[LV_MAX_RANK], count = 0;
    for (int i = 0; i < from.rank; i++) {
        at[i] = index[i];
        at[i].constant -= low->list.at[i];
        int next = add_region(l, inner, at[i], 0, from.dim[i]);
        if (next != inner) chain[count++] = next;
        inner = next;
    }
    int inside = lower_value(l, node->inputs[0], at, inner);
    double fill = node_float(node, ATTR_value, 0);
    if (count == 0) return inside;
    const Instr *made = &l->nest.body.data[inside];
    if (fill == 0 && made->kind == INSTR_LOAD && made->region == inner) return inside;
    int outside = emit_constant(l, dtype, fill);
    for (int i = count - 1; i >= 0; i--) inside = choose(l, chain[i], inside, outside, dtype);
    return inside;
}

static int lower_concat(Lower *l, const Node *node, const Affine *index, int region) {
    int axis = (int)node_int(node, ATTR_axis, 0), result = -1;
    int64_t start = 0;
    for (int i = 0; i < node->input_count; i++) {
        int64_t extent = node->inputs[i]->shape.dim[axis];
        int64_t from, to;
        affine_range(&l->nest, &index[axis], &from, &to);
        if (extent > 0 && from < start + extent && to >= start) {
            Affine at[LV_MAX_RANK];
            memcpy(at, index, sizeof(Affine) * (size_t)node->inputs[i]->shape.rank);
            at[axis].constant -= start;
            int inner = add_region(l, region, at[axis], 0, extent);
            int inside = lower_value(l, node->inputs[i], at, inner);
            if (result < 0 || inner == region) result = inside;
            else result = choose(l, inner, inside, result, node->results[0].dtype);
        }
        start += extent;
    }
    return result >= 0 ? result : emit_constant(l, node->results[0].dtype, 0);
}

static int lower_movement(Lower *l, Node *node, const Affine *index, int region) {
    Value *in = node->inputs[0];
    Affine at[LV_MAX_RANK];
    switch (node->op) {
        case OP_reshape: return lower_reshape(l, node, index, region);
        case OP_pad: return lower_pad(l, node, index, region);
        case OP_concat: return lower_concat(l, node, index, region);
        case OP_relayout: return lower_value(l, in, index, region);
        case OP_transpose: {
            const Attr *perm = node_attr(node, ATTR_perm);
            for (int i = 0; i < in->shape.rank; i++) at[perm->list.at[i]] = index[i];
            break;
        }
        case OP_expand: {
            const Attr *axes = node_attr(node, ATTR_axes);
            for (int i = 0; i < in->shape.rank; i++) {
                at[i] = in->shape.dim[i] == 1 ? affine_constant(0) : index[axes->list.at[i]];
            }
            break;
        }
        case OP_slice: {
            const Attr *starts = node_attr(node, ATTR_starts), *steps = node_attr(node, ATTR_steps);
            for (int i = 0; i < in->shape.rank; i++) {
                at[i] = affine_scale(index[i], steps && i < steps->list.count ? steps->list.at[i] : 1);
                at[i].constant += starts->list.at[i];
            }
            break;
        }
        case OP_reverse: {
            const Attr *axes = node_attr(node, ATTR_axes);
            for (int i = 0; i < in->shape.rank; i++) at[i] = index[i];
            for (int i = 0; i < axes->list.count; i++) {
                int64_t axis = axes->list.at[i];
                at[axis] = affine_scale(index[axis], -1);
                at[axis].constant += in->shape.dim[axis] - 1;
            }
            break;
        }
        default: schedule_internal_error("lower", node, "a movement that the loop IR does not know");
    }
    return l->plan->reaches[node->results[0].id] ? lower_node(l, in->node, at, region) : lower_value(l, in, at, region);
}

static int lower_leaf(Lower *l, Node *node, const Affine *index, int region) {
    const Value *out = &node->results[0];
    switch (node->op) {
        case OP_constant: return emit_constant(l, out->dtype, node_float(node, ATTR_value, 0));
        case OP_iota: {
            Instr instr = make(INSTR_INDEX, out->dtype);
            instr.index = out->shape.rank ? index[node_int(node, ATTR_axis, 0)] : affine_constant(0);
            return emit(l, instr);
        }
        case OP_random_uniform: case OP_random_normal: {
            Instr instr = make(node->op == OP_random_uniform ? INSTR_UNIFORM : INSTR_NORMAL, out->dtype);
            instr.args[0] = lower_value(l, node->inputs[0], NULL, region);
            instr.args[1] = lower_value(l, node->inputs[1], NULL, region);
            instr.stream = node_int(node, ATTR_stream, 0) & 0xFFFFFFFF;
            instr.index = linear(out->shape, index);
            return emit(l, instr);
        }
        default: schedule_internal_error("lower", node, "a leaf that the loop IR does not know");
    }
}

static int lower_node(Lower *l, Node *node, const Affine *index, int region) {
    Value *out = &node->results[0];
    switch (op_info(node->op)->kind) {
        case OP_KIND_LEAF: return lower_leaf(l, node, index, region);
        case OP_KIND_MOVEMENT: return lower_movement(l, node, index, region);
        case OP_KIND_ELEMENT_COPY: {
            int from = lower_value(l, node->inputs[0], index, region);
            if (node->inputs[0]->dtype == out->dtype) return from;
            Instr instr = make(INSTR_CAST, out->dtype);
            instr.args[0] = from;
            return emit(l, instr);
        }
        case OP_KIND_ELEMENTWISE: {
            Instr instr = make(INSTR_OP, out->dtype);
            instr.op = node->op;
            for (int i = 0; i < node->input_count; i++) instr.args[i] = lower_value(l, node->inputs[i], index, region);
            return emit(l, instr);
        }
        default: schedule_internal_error("lower", node, "this op is not an expression");
    }
}

static int lower_value(Lower *l, Value *value, const Affine *index, int region) {
    Value *stored = owner(l->plan, value);
    Place place = l->plan->place[stored->id];
    if ((place == PLACE_STORED || place == PLACE_GIVEN) && !computed_here(l, stored)) return lower_load(l, value, index, region);
    size_t bytes = sizeof(Affine) * (size_t)value->shape.rank;
    for (size_t i = 0; i < l->memo.count; i++) {
        const Memo *memo = &l->memo.data[i];
        if (memo->value != value || memo->region != region) continue;
        bool equal = true;
        for (int k = 0; k < value->shape.rank && equal; k++) equal = affine_equal(&memo->index[k], &index[k]);
        if (equal) return memo->instr;
    }
    Memo memo = {.value = value, .region = region};
    if (bytes) memcpy(memo.index, index, bytes);
    memo.instr = lower_node(l, value->node, index, region);
    lv_vec_push(&l->memo, memo);
    return memo.instr;
}

// ---- the domain

static void first_pieces(Lower *l) {
    LvLayout layout = l->group->layout;
    LvShape shape = l->group->domain;
    bool blocked = layout.block > 1;
    for (int i = 0; i < shape.rank; i++) {
        int dim = layout.perm[i];
        int64_t inner = blocked && layout.block_dim == dim ? layout.block : 1;
        if (shape.dim[dim] / inner != 1) l->pieces[l->piece_count++] = (Piece){.dim = dim, .extent = shape.dim[dim] / inner, .stride = inner};
    }
    if (blocked) l->pieces[l->piece_count++] = (Piece){.dim = layout.block_dim, .extent = layout.block, .stride = 1};
}

static unsigned reduced_dims(const Node *node) {
    if (node->op == OP_argmax || node->op == OP_argmin) return 1u << node_int(node, ATTR_axis, 0);
    const Attr *axes = node_attr(node, ATTR_axes);
    unsigned mask = 0;
    for (int i = 0; i < axes->list.count; i++) mask |= 1u << axes->list.at[i];
    return mask;
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

static void lower_root(Lower *l, Value *root, const Affine *index) {
    Node *node = root->node;
    Output output = {.kind = OUTPUT_STORE};
    if (node_role(node) == ROLE_REDUCTION) {
        unsigned mask = reduced_dims(node);
        Affine kept[LV_MAX_RANK];
        int rank = 0;
        for (int i = 0; i < node->inputs[0]->shape.rank; i++) {
            if (!(mask >> i & 1)) kept[rank++] = index[i];
        }
        output.kind = OUTPUT_REDUCE;
        output.op = node->op;
        output.value = lower_value(l, node->inputs[0], index, -1);
        if (node->op == OP_argmax || node->op == OP_argmin) output.position = index[node_int(node, ATTR_axis, 0)];
        output.index = address(l, root, kept);
    } else {
        output.value = lower_value(l, root, index, -1);
        output.index = address(l, root, index);
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
        if (node_role(root->node) == ROLE_REDUCTION) reduced = reduced_dims(root->node);
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
        Output output = {.kind = OUTPUT_STORE, .value = lower_value(&l, value, index, -1)};
        if (axis >= 0) {
            index[axis].constant += start;
            output.index = address(&l, into, index);
        } else {
            output.index = linear(value->shape, index);
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
            lv_vec_push(&nest.body, make(INSTR_CONSTANT, into->dtype));
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
        bool again = false;  // a gradient that two parameters have in common: only one place is written directly
        for (int k = 0; k < i && plan->packed[member->id]; k++) again |= node->inputs[k] == member;
        if (elements > 0 && (again || !plan->packed[member->id])) lower_copy(plan, kernel, member, into, -1, 0, start);
        at = start + elements;
    }
}
