// A value at an index -> an instruction of the nest.
//
// Movement ops only rewrite the index (a reshape by division, which is exact once axes are cut where it asks), padding and
// concatenation add regions, stored values become loads; equal instructions are one.
#include <string.h>

#include "schedule/lower.h"

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

Instr instr_make(InstrKind kind, LvDType dtype) {
    return (Instr){.kind = kind, .dtype = dtype, .args = {-1, -1, -1}, .buffer = -1, .region = -1};
}

static int emit_constant(Lower *l, LvDType dtype, double value) {
    Instr instr = instr_make(INSTR_CONSTANT, dtype);
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

Affine value_linear(LvShape shape, const Affine *index) {
    Affine at = affine_constant(0);
    for (int i = 0; i < shape.rank; i++) at = affine_add(affine_scale(at, shape.dim[i]), index[i]);
    return at;
}

Affine value_address(Lower *l, const Value *value, const Affine *index) {
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

static int lower_node(Lower *l, Node *node, const Affine *index, int region);

static bool computed_here(const Lower *l, const Value *value) {
    for (size_t i = 0; i < l->group->roots.count; i++) {
        if (l->group->roots.data[i] == value) return node_role(value->node) == ROLE_POINT;
    }
    return false;
}

static int lower_load(Lower *l, Value *value, const Affine *index, int region) {
    Instr instr = instr_make(INSTR_LOAD, value->dtype);
    // A view has its own shape and layout over the owner's storage; where it starts later, it is an operand of its own.
    instr.buffer = kernel_buffer(l->plan, l->kernel, value);
    instr.index = value_address(l, value, index);
    instr.region = region;
    l->kernel->buffers.data[instr.buffer].read = true;
    return emit(l, instr);
}

static int lower_reshape(Lower *l, const Node *node, const Affine *index, int region) {
    LvShape to = node->results[0].shape, from = node->inputs[0]->shape;
    Affine at[LV_MAX_RANK], rest = value_linear(to, index);
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
    return value_lower(l, node->inputs[0], at, region);
}

static int choose(Lower *l, int region, int inside, int outside, LvDType dtype) {
    Instr instr = instr_make(INSTR_CHOOSE, dtype);
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
    int inside = value_lower(l, node->inputs[0], at, inner);
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
            int inside = value_lower(l, node->inputs[i], at, inner);
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
        case OP_relayout: return value_lower(l, in, index, region);
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
    return l->plan->reaches[node->results[0].id] ? lower_node(l, in->node, at, region) : value_lower(l, in, at, region);
}

static int lower_leaf(Lower *l, Node *node, const Affine *index, int region) {
    const Value *out = &node->results[0];
    switch (node->op) {
        case OP_constant: return emit_constant(l, out->dtype, node_float(node, ATTR_value, 0));
        case OP_iota: {
            Instr instr = instr_make(INSTR_INDEX, out->dtype);
            instr.index = out->shape.rank ? index[node_int(node, ATTR_axis, 0)] : affine_constant(0);
            return emit(l, instr);
        }
        case OP_random_uniform: case OP_random_normal: {
            Instr instr = instr_make(node->op == OP_random_uniform ? INSTR_UNIFORM : INSTR_NORMAL, out->dtype);
            bool rows = node->inputs[0]->shape.rank == 1;  // a seed a row: the index is that within the row
            LvShape inner = {rows ? out->shape.rank - 1 : out->shape.rank, {0}};
            memcpy(inner.dim, out->shape.dim + rows, sizeof inner.dim - rows * sizeof *inner.dim);
            instr.args[0] = value_lower(l, node->inputs[0], rows ? index : NULL, region);
            instr.args[1] = value_lower(l, node->inputs[1], NULL, region);
            instr.stream = node_int(node, ATTR_stream, 0) & 0xFFFFFFFF;
            instr.index = value_linear(inner, index + rows);
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
            int from = value_lower(l, node->inputs[0], index, region);
            if (node->inputs[0]->dtype == out->dtype) return from;
            Instr instr = instr_make(INSTR_CAST, out->dtype);
            instr.args[0] = from;
            return emit(l, instr);
        }
        case OP_KIND_ELEMENTWISE: {
            Instr instr = instr_make(INSTR_OP, out->dtype);
            instr.op = node->op;
            for (int i = 0; i < node->input_count; i++) instr.args[i] = value_lower(l, node->inputs[i], index, region);
            return emit(l, instr);
        }
        default: schedule_internal_error("lower", node, "this op is not an expression");
    }
}

int value_lower(Lower *l, Value *value, const Affine *index, int region) {
    Value *stored = plan_owner(l->plan, value);
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
