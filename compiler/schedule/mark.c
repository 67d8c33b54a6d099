// Decides which values are stored, which are views of another's storage, and which are recomputed inside their consumers.
//
// A value must be stored when something outside kernels reads it (a call, a result, a write of a variable), and when it is
// a reduction. Any other value is an expression of stored ones; it is stored only where recomputing costs more:
//   k kernels need it: k-1 times its arithmetic and its own loads, against one store and k loads
//   it is broadcast:   its arithmetic once a broadcast element, against once its own
// Kernels are not known yet; two readers with the same domain and the same number of reductions before them count as one,
// because that is what the grouping will fuse.
#include <stdlib.h>
#include <string.h>

#include "schedule/internal.h"

void schedule_internal_error(const char *stage, const Node *node, const char *what) {
    if (node && node->result_count)
        lv_internal_error("schedule: %s: %s (%%%d = %s)", stage, what, node->results[0].id, op_name(node->op));
    lv_internal_error("schedule: %s: %s", stage, what);
}

Value *plan_owner(const Plan *plan, Value *value) {
    return plan->place[value->id] == PLACE_ALIAS ? plan->alias_of[value->id] : value;
}

Role node_role(const Node *node) {
    switch (node->op) {
        case OP_input: case OP_state_read: case OP_literal: return ROLE_GIVEN;
        case OP_state_write: return ROLE_EFFECT;
        case OP_pack: return ROLE_PACK;
        case OP_all_reduce: case OP_linear_cross_entropy: case OP_linear_cross_entropy_grad: return ROLE_CALL;
        case OP_matmul: return node->by_template ? ROLE_TEMPLATE : ROLE_CALL;
        default: break;
    }
    switch (op_info(node->op)->kind) {
        case OP_KIND_LEAF: case OP_KIND_ELEMENTWISE: case OP_KIND_ELEMENT_COPY: case OP_KIND_MOVEMENT: return ROLE_POINT;
        case OP_KIND_REDUCTION: return ROLE_REDUCTION;
        case OP_KIND_CONTRACTION: return ROLE_CALL;
        default: return ROLE_TEMPLATE;
    }
}

// ---- views

static bool same_order(const Value *a, const Value *b) {
    // Equal shapes: same place for every element, whatever the layouts are called.
    if (lv_layout_equal(a->layout, b->layout, a->shape.rank)) return true;
    int64_t sa[LV_MAX_RANK], sb[LV_MAX_RANK];
    lv_layout_strides(a->layout, a->shape, sa), lv_layout_strides(b->layout, b->shape, sb);
    int blocked_a = a->layout.block > 1 ? a->layout.block_dim : -1, blocked_b = b->layout.block > 1 ? b->layout.block_dim : -1;
    for (int i = 0; i < a->shape.rank; i++) {
        int64_t extent = a->shape.dim[i];
        if (extent <= 1) continue;
        // A blocked dimension with stride == block is as good as a plain one with stride 1.
        int64_t stride_a = sa[i], stride_b = sb[i];
        bool plain_a = true, plain_b = true;
        if (i == blocked_a) {
            if (extent == a->layout.block || stride_a == a->layout.block) stride_a = 1;
            else plain_a = false;
        }
        if (i == blocked_b) {
            if (extent == b->layout.block || stride_b == b->layout.block) stride_b = 1;
            else plain_b = false;
        }
        if (!plain_a || !plain_b || stride_a != stride_b) return false;
    }
    return true;
}

static bool has_pitch(const Value *value) { return value->layout.pitch > 0; }

bool is_made_in_place(const Node *node) { return node->op == OP_concat && has_pitch(node->inputs[0]); }

static bool row_major(const Value *value) { return lv_layout_is_row_major(value->layout, value->shape.rank); }

static bool keeps_order(const Node *node) {  // transpose that moves only extents of 1
    const Attr *perm = node_attr(node, ATTR_perm);
    int64_t last = -1;
    for (int i = 0; i < perm->list.count; i++) {
        if (node->results[0].shape.dim[i] == 1) continue;
        if (perm->list.at[i] < last) return false;
        last = perm->list.at[i];
    }
    return true;
}

static bool strides_of(const Value *value, int64_t *stride) {
    lv_layout_strides(value->layout, value->shape, stride);
    return value->layout.block <= 1;
}

// A transpose whose result lies as its operand does.
static bool lies_still(const Node *node) {
    const Value *in = node->inputs[0], *out = &node->results[0];
    const Attr *perm = node_attr(node, ATTR_perm);
    int64_t from[LV_MAX_RANK], to[LV_MAX_RANK];
    if (!strides_of(in, from) || !strides_of(out, to)) return false;
    for (int i = 0; i < out->shape.rank; i++) {
        if (out->shape.dim[i] > 1 && to[i] != from[perm->list.at[i]]) return false;
    }
    return true;
}

// Dimensions split or joined that lie one in the other, with a pitch further out.
static bool splits_still(const Value *a, const Value *b) {
    const Value *fine = a->shape.rank > b->shape.rank ? a : b, *coarse = fine == a ? b : a;
    int64_t x[LV_MAX_RANK], y[LV_MAX_RANK], run = 1;
    int of[LV_MAX_RANK];
    if (!domain_nests(fine->shape, coarse->shape, of) || !strides_of(fine, x) || !strides_of(coarse, y)) return false;
    for (int i = fine->shape.rank - 1, last = -1; i >= 0; i--) {
        if (fine->shape.dim[i] == 1) continue;
        run = of[i] == last ? run : 1;
        if (x[i] != y[of[i]] * run) return false;
        run *= fine->shape.dim[i], last = of[i];
    }
    return true;
}

// A slice that is one run of memory, begun at a place that is aligned as storage is.
static bool contiguous_slice(const Node *node, int64_t *offset) {
    const LvShape from = node->inputs[0]->shape, to = node->results[0].shape;
    const Attr *starts = node_attr(node, ATTR_starts), *steps = node_attr(node, ATTR_steps);
    bool inside = false;  // a dimension of more than one element was met: all further ones must be whole
    int64_t at = 0;
    for (int i = 0; i < from.rank; i++) {
        at = at * from.dim[i] + starts->list.at[i];
        if (steps && i < steps->list.count && steps->list.at[i] != 1 && to.dim[i] > 1) return false;
        if (inside && to.dim[i] != from.dim[i]) return false;
        if (to.dim[i] > 1) inside = true;
    }
    *offset = at;
    return at * (int64_t)lv_dtype_size(node->results[0].dtype) % 64 == 0;
}

// A slice that lies with a pitch in what it is of.
static bool still_slice(const Node *node, int64_t *offset) {
    const Value *in = node->inputs[0], *out = &node->results[0];
    const Attr *starts = node_attr(node, ATTR_starts), *steps = node_attr(node, ATTR_steps);
    int64_t from[LV_MAX_RANK], to[LV_MAX_RANK];
    if (!strides_of(in, from) || !strides_of(out, to)) return false;
    *offset = 0;
    for (int i = 0; i < out->shape.rank; i++) {
        int64_t step = steps && i < steps->list.count ? steps->list.at[i] : 1;
        if (out->shape.dim[i] > 1 && to[i] != from[i] * step) return false;
        *offset += starts->list.at[i] * from[i];
    }
    return *offset * (int64_t)lv_dtype_size(out->dtype) % 64 == 0;
}

// Is the node's result its first input's storage under another name?
static bool is_view(const Plan *plan, const Node *node, int64_t *offset) {
    *offset = 0;
    if (node->result_count != 1 || node->input_count < 1) return false;
    const Value *in = node->inputs[0], *out = &node->results[0];
    if (in->dtype != out->dtype) return false;
    switch (node->op) {
        case OP_stop_gradient: case OP_cast: case OP_relayout: return same_order(in, out);
        case OP_reshape: return (row_major(in) && row_major(out)) || (has_pitch(in) && has_pitch(out) && splits_still(in, out));
        case OP_transpose: return row_major(in) && row_major(out) ? keeps_order(node) : plan->cuda && lies_still(node);
        case OP_expand:
            return row_major(in) && row_major(out) && lv_shape_elements(in->shape) == lv_shape_elements(out->shape);
        case OP_slice: return has_pitch(out) ? still_slice(node, offset) : row_major(in) && row_major(out) && contiguous_slice(node, offset);
        default: return false;
    }
}

// ---- which kernels would compute a value

enum { MAX_KEYS = 6 };
typedef struct {
    int count;  // MAX_KEYS + 1: too many to tell apart
    uint64_t at[MAX_KEYS];
} Keys;

static void keys_add(Keys *keys, uint64_t key) {
    for (int i = 0; i < keys->count && i < MAX_KEYS; i++) {
        if (keys->at[i] == key) return;
    }
    if (keys->count < MAX_KEYS) keys->at[keys->count] = key;
    if (keys->count <= MAX_KEYS) keys->count++;
}

static void keys_merge(Keys *keys, const Keys *more) {
    for (int i = 0; i < more->count && i < MAX_KEYS; i++) keys_add(keys, more->at[i]);
    if (more->count > MAX_KEYS) keys->count = MAX_KEYS + 1;
}

static uint64_t domain_key(LvShape shape, int level) {
    uint64_t hash = 0xCBF29CE484222325u + (uint64_t)level;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] != 1) hash = (hash ^ (uint64_t)shape.dim[i]) * 0x100000001B3u;
    }
    return hash;
}

// ---- the cost of computing a value from stored ones

enum { MAX_TREE = 160, FEW_OF = 256 };
typedef struct {
    const Plan *plan;
    int count;
    const Value *seen[MAX_TREE];
    double arithmetic;  // additions, for all elements
    double loads;       // elements loaded that its readers do not load anyway
    bool frees;         // storing the value would let a stored one go
    bool too_large;
} Tree;

// `shared`: something else than `value`'s tree needs this part of it too, most likely in the same kernels: half the cost (on a GPU, where
// kernels are weighed by their bytes, only half the arithmetic).
static void tree_walk(Tree *tree, const Value *value, int64_t elements, bool shared) {
    const Plan *plan = tree->plan;
    for (int i = 0; i < tree->count; i++) {
        if (tree->seen[i] == value) return;
    }
    if (tree->count == MAX_TREE) {
        tree->too_large = true;
        return;
    }
    tree->seen[tree->count++] = value;
    const Node *node = value->node;
    int64_t size = lv_shape_elements(value->shape);
    bool root = tree->count == 1;  // whether it is stored is what is asked
    if (!root && size * FEW_OF <= elements) return;  // next to nothing for so many, and a question of its own
    if (node_role(node) != ROLE_POINT || (plan->place[value->id] == PLACE_STORED && !root)) {
        if (size * 4 < elements) return;
        if (plan->uses[value->id] > 1) shared = true;
        double weight = plan->cuda ? (double)lv_dtype_size(value->dtype) / 4 : shared ? 0.5 : 1;
        tree->loads += (double)(size < elements ? size : elements) * weight;
        if (!shared) tree->frees = true;
        return;
    }
    if (size > 1) tree->arithmetic += op_cost(node->op) * (double)(size < elements ? size : elements) * (shared ? 0.5 : 1);
    for (int i = 0; i < node->input_count; i++) {
        tree_walk(tree, node->inputs[i], elements, shared || plan->uses[node->inputs[i]->id] > 1);
    }
}

static bool is_movement(const Node *node) {
    OpKind kind = op_info(node->op)->kind;
    return kind == OP_KIND_MOVEMENT || kind == OP_KIND_ELEMENT_COPY;
}

// Arithmetic of one addition against the traffic of one element of four bytes, both vectorised.
static const double ADDITION = 0.06, GPU_ADDITION = 0.02;

// On a GPU passes are bound by bytes, so bytes are what is weighed: k - 1 times all that the value is made of, against writing it once,
// in one of the k kernels that need it, and reading it in the others.
static bool saves_bytes(const Value *value, int kernels, double cost, bool waits) {
    return (kernels - 1) * cost > kernels * (double)lv_dtype_size(value->dtype) / 4 * (waits ? 2 : 1);
}

static bool worth_storing(const Plan *plan, const Value *value, int kernels, double growth) {
    int64_t elements = lv_shape_elements(value->shape);
    Tree tree = {.plan = plan};
    tree_walk(&tree, value, elements, false);
    if (tree.too_large) return true;
    if (elements <= 1) return tree.count > 12 || (kernels > 2 && tree.count > 4);
    double per_element = (double)(elements ? elements : 1);
    double arithmetic = tree.arithmetic / per_element * (plan->cuda ? GPU_ADDITION : ADDITION), loads = tree.loads / per_element;
    if (growth >= 2 && tree.arithmetic / per_element > 0.9 && (growth - 1) * arithmetic > 2) return true;
    if (kernels < 2) return false;
    // A value that waits from the forward for the backward pass costs memory all the while: that counts as much again,
    // unless what it is computed from would have to wait instead.
    bool waits = !tree.frees && plan->last_use[value->id] - plan->position[value->id] > plan->graph->node_count / 4;
    if (plan->cuda) return saves_bytes(value, kernels, loads + arithmetic, waits);
    return (kernels - 1) * (loads + arithmetic) > (kernels + 1) * (waits ? 2 : 1);
}

typedef struct {
    Plan *plan;
    Keys *keys;      // by value id: kernels that need it
    bool *forced;
    double *growth;  // by value id: how often an element is needed, where it is broadcast
    int *late;       // by value id: where the last kernel or call stands that reads it, as far as the walk has come
    bool weighs;     // values are stored where that is worth it, not only where something forces it
} Marker;

static bool worth_it(const Marker *marker, const Value *value) {
    return marker->weighs && worth_storing(marker->plan, value, marker->keys[value->id].count, marker->growth[value->id]);
}

static void mark_forced(Marker *marker, const Node *node) {
    Role role = node_role(node);
    if (role == ROLE_CALL || role == ROLE_TEMPLATE || role == ROLE_PACK || role == ROLE_EFFECT || is_made_in_place(node)) {
        for (int i = 0; i < node->input_count; i++) marker->forced[node->inputs[i]->id] = true;
    }
}

// What `node` needs of its inputs, once it is known where its own results go.
static void pass_needs(Marker *marker, const Node *node) {
    Plan *plan = marker->plan;
    Role role = node_role(node);
    if (role != ROLE_POINT && role != ROLE_REDUCTION) return;
    const Value *out = &node->results[0];
    for (int i = 0; i < node->input_count; i++) {
        const Value *in = node->inputs[i];
        Keys *keys = &marker->keys[in->id];
        if (role == ROLE_REDUCTION) {
            keys_add(keys, domain_key(in->shape, plan->level[in->id]));
            continue;
        }
        if (plan->place[out->id] == PLACE_STORED) keys_add(keys, domain_key(out->shape, plan->level[out->id]));
        else keys_merge(keys, &marker->keys[out->id]);
        double growth = plan->place[out->id] == PLACE_STORED || !is_movement(node) ? 1 : marker->growth[out->id];
        if (node->op == OP_expand) {
            int64_t small = lv_shape_elements(in->shape), large = lv_shape_elements(out->shape);
            if (small > 0) growth *= (double)large / (double)small;
        }
        if (growth > marker->growth[in->id]) marker->growth[in->id] = growth;
    }
}

// A few elements cut out of a stored value, or of its cast, which wait for the backward pass when the value itself does not: better a copy
// of them than all of it kept.
static bool outlives_source(const Marker *marker, const Node *node) {
    const Plan *plan = marker->plan;
    const Value *out = &node->results[0];
    if (node->op != OP_slice || plan->no_fuse) return false;
    const Value *in = node->inputs[0], *source = in->node->op == OP_cast ? in->node->inputs[0] : in;
    Role from = node_role(source->node);
    int wait = plan->graph->node_count / 128, at = plan->position[out->id];
    return (from == ROLE_CALL || from == ROLE_TEMPLATE) && lv_shape_elements(out->shape) * 64 <= lv_shape_elements(in->shape) &&
           marker->late[out->id] > at + wait && marker->late[in->id] < at + wait && marker->late[source->id] < at + wait;
}

static void note_late(Marker *marker, const Node *node) {
    const Plan *plan = marker->plan;
    int late = 0;
    for (int i = 0; i < node->result_count; i++) {
        int id = node->results[i].id;
        int at = plan->place[id] == PLACE_NONE ? marker->late[id] : plan->position[id];
        if (plan->place[id] == PLACE_ALIAS && marker->late[id] > at) at = marker->late[id];
        if (at > late) late = at;
    }
    for (int i = 0; i < node->input_count; i++) {
        int *of = &marker->late[node->inputs[i]->id];
        if (late > *of) *of = late;
    }
}

static bool is_free_leaf(const Node *node) { return node->op == OP_constant || node->op == OP_iota; }

static void mark_point(Marker *marker, Node *node) {
    Plan *plan = marker->plan;
    Value *out = &node->results[0];
    int64_t offset;
    bool view = is_view(plan, node, &offset), cut = outlives_source(marker, node);
    Value *in = node->input_count ? node->inputs[0] : NULL;
    if (view) {
        Role from = node_role(in->node);
        bool whole = offset == 0 && lv_shape_elements(in->shape) == lv_shape_elements(out->shape);
        if ((from != ROLE_POINT || plan->no_fuse) && !cut) {
            plan->place[out->id] = PLACE_ALIAS;
            plan->alias_of[out->id] = in, plan->alias_offset[out->id] = offset;
            if (from == ROLE_POINT) marker->forced[in->id] = true;
            return;
        }
        if (whole && (marker->forced[out->id] || (plan->cuda && worth_it(marker, out)))) {  // let the source be stored; this is its other name
            marker->forced[in->id] = true;
            plan->place[out->id] = PLACE_ALIAS;
            plan->alias_of[out->id] = in;
            return;
        }
    }
    bool store = cut || plan->no_fuse || marker->forced[out->id] || is_made_in_place(node);
    store |= node->op == OP_concat && node->input_count > 4;
    if (!store && !is_free_leaf(node)) store = worth_it(marker, out);
    plan->place[out->id] = store ? PLACE_STORED : PLACE_NONE;
}

static void find_levels(Plan *plan) {
    int position = 0;
    for GRAPH_EACH(plan->graph, node) {
        int level = 0;
        for (int i = 0; i < node->input_count; i++) {
            int from = plan->level[node->inputs[i]->id];
            if (from > level) level = from;
        }
        Role role = node_role(node);
        if (role != ROLE_POINT && role != ROLE_GIVEN) level++;
        position++;
        for (int i = 0; i < node->input_count; i++) plan->last_use[node->inputs[i]->id] = position;
        for (int i = 0; i < node->result_count; i++) {
            plan->level[node->results[i].id] = level;
            plan->position[node->results[i].id] = position;
        }
    }
}

// A few elements cut out of a stored value are recomputed rather than read where that is cheap: who needs them then need not
// wait for the kernel that stores the value, and may even be part of it. (A normalization's pivot, and the sums around it.)
static void find_reaching(Plan *plan) {
    for GRAPH_EACH(plan->graph, node) {
        if (node->op != OP_slice || plan->no_fuse || plan->place[node->results[0].id] == PLACE_ALIAS) continue;
        const Value *from = node->inputs[0];
        if (node_role(from->node) != ROLE_POINT || plan->place[from->id] != PLACE_STORED || from->node->op == OP_concat) continue;
        if (lv_shape_elements(node->results[0].shape) * 64 > lv_shape_elements(from->shape)) continue;
        Tree tree = {.plan = plan};
        for (int i = 0; i < from->node->input_count; i++)
            tree_walk(&tree, from->node->inputs[i], lv_shape_elements(from->shape), false);
        plan->reaches[node->results[0].id] = tree.count <= 24;
    }
}

// Views of views, and values under a view that turned out stored: resolve every alias to storage, with one step.
static void resolve_aliases(Plan *plan) {
    for GRAPH_EACH(plan->graph, node) {
        for (int i = 0; i < node->result_count; i++) {
            int id = node->results[i].id, guard = 0;
            while (plan->place[id] == PLACE_ALIAS && plan->place[plan->alias_of[id]->id] == PLACE_ALIAS) {
                int next = plan->alias_of[id]->id;
                plan->alias_offset[id] += plan->alias_offset[next];
                plan->alias_of[id] = plan->alias_of[next];
                if (++guard > plan->value_count) schedule_internal_error("alias", node, "views in a circle");
            }
        }
    }
}

// One walk over the graph, from its results back: whoever needs a value is known before it is decided about.
static void mark_all(Plan *plan, Marker *marker) {
    size_t count = (size_t)plan->value_count;
    memset(marker->keys, 0, count * sizeof *marker->keys);
    memset(marker->forced, 0, count * sizeof *marker->forced);
    memset(marker->late, 0, count * sizeof *marker->late);
    for (size_t i = 0; i < count; i++) marker->growth[i] = 1;
    for (size_t i = 0; i < plan->graph->results.count; i++) marker->forced[plan->graph->results.data[i].value->id] = true;
    for (Node *node = plan->graph->last; node; node = node->prev) {
        Role role = node_role(node);
        if (role == ROLE_POINT) {
            mark_point(marker, node);
        } else {
            Place place = role == ROLE_GIVEN ? PLACE_GIVEN : PLACE_STORED;
            for (int i = 0; i < node->result_count; i++) plan->place[node->results[i].id] = place;
        }
        note_late(marker, node);
        mark_forced(marker, node);
        pass_needs(marker, node);
    }
}

// When it is a value's turn, what it is made of has not been decided about: x minus its mean seems to be made of all the residual
// stream that x is the sum of. This guesses, in graph order, what will be stored if of its consumers none is that need not be.
static void guess_stored(Plan *plan, Marker *marker) {
    marker->weighs = false;
    mark_all(plan, marker);
    marker->weighs = true;
    for GRAPH_EACH(plan->graph, node) {
        if (node_role(node) != ROLE_POINT || plan->place[node->results[0].id] != PLACE_NONE || is_free_leaf(node)) continue;
        if (worth_it(marker, &node->results[0])) plan->place[node->results[0].id] = PLACE_STORED;
    }
}

void plan_mark(Plan *plan) {
    Marker marker = {.plan = plan, .weighs = true};
    size_t count = (size_t)plan->value_count;
    marker.keys = lv_calloc(count, sizeof *marker.keys);
    marker.forced = lv_calloc(count, sizeof *marker.forced);
    marker.growth = lv_calloc(count, sizeof *marker.growth);
    marker.late = lv_calloc(count, sizeof *marker.late);
    find_levels(plan);
    if (plan->cuda && !plan->no_fuse) guess_stored(plan, &marker);  // the CPU's kernels are those that were measured, without guessing
    mark_all(plan, &marker);
    resolve_aliases(plan);
    find_reaching(plan);
    free(marker.keys), free(marker.forced), free(marker.growth), free(marker.late);
}
