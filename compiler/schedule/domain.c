// Domains that are one but for where their dimensions are cut: [B, T, C] walked for a value of [B T, C].
//
// A model reshapes its activations around every product, so that one pass over memory is written in several shapes. Where all dimensions
// of one shape are runs of the other's, the finer one is the domain of both.
#include "schedule/internal.h"

bool domain_nests(LvShape fine, LvShape coarse, int of[LV_MAX_RANK]) {
    int at = 0;
    for (int i = 0; i < LV_MAX_RANK; i++)
        of[i] = 0;
    for (int i = 0; i < coarse.rank; i++) {
        int64_t run = 1;
        if (coarse.dim[i] == 1) continue;
        for (; run != coarse.dim[i]; at++) {
            if (at == fine.rank || run > coarse.dim[i] || fine.dim[at] < 1) return false;
            run *= fine.dim[at], of[at] = i;
        }
    }
    for (; at < fine.rank; at++)
        if (fine.dim[at] != 1) return false;
    return true;
}

unsigned domain_reduced(const Value *root, LvShape domain) {
    const Node *node = root->node;
    int of[LV_MAX_RANK];
    unsigned own = 0, mask = 0;
    if (node_role(node) != ROLE_REDUCTION) return 0;
    if (node->op == OP_argmax || node->op == OP_argmin)
        own = 1u << node_int(node, ATTR_axis, 0);
    else {
        const Attr *axes = node_attr(node, ATTR_axes);
        for (int i = 0; i < axes->list.count; i++)
            own |= 1u << axes->list.at[i];
    }
    LvShape shape = node->inputs[0]->shape;
    if (lv_shape_equal(shape, domain)) return own;
    if (!domain_nests(domain, shape, of))
        schedule_internal_error("domain", node,
                                "a reduction in a domain that is not its operand's");
    for (int i = 0; i < domain.rank; i++)
        mask |= domain.dim[i] != 1 && (own >> of[i] & 1) ? 1u << i : 0;
    return mask;
}
