// Groups: which stored values one kernel computes.
//
// Each stored value starts a group of its own. In graph order a value then joins an earlier group when
//   legal       same domain, or one is cut finer than the other (domain.c); no reduction of the group feeds it; nothing outside stands between the group and it
//   worthwhile  it reads what the group reads, or what the group computes, and is not the group's own work made again for later
// so that sums over one tensor share a pass, a sum rides on the pass that writes its operand, and one pass writes several
// results. Whether something stands between is asked of the groups' transitive dependencies, kept as bit sets.
#include <stdlib.h>
#include <string.h>

#include "passes/pass.h"
#include "schedule/internal.h"

typedef struct {
    const Plan *plan;
    Groups *groups;
    size_t words;      // per bit set
    size_t capacity;   // groups
    uint64_t *depends; // [capacity][words]: groups on which a group depends, directly or not
    char *seen;        // by value id: scratch of a walk
} Grouping;

static bool depends_on(const Grouping *g, int group, int on) {
    return g->depends[(size_t)group * g->words + (size_t)on / 64] >> (on % 64) & 1;
}

// `group` now depends on `on` and on all that `on` depends on; so does everything that depends on `group`.
static void add_dependency(Grouping *g, int group, int on) {
    if (group == on || depends_on(g, group, on)) return;
    const uint64_t *from = &g->depends[(size_t)on * g->words];
    for (size_t other = 0; other < g->groups->list.count; other++) {
        if ((int)other != group && !depends_on(g, (int)other, group)) continue;
        uint64_t *to = &g->depends[other * g->words];
        for (size_t w = 0; w < g->words; w++) to[w] |= from[w];
        to[(size_t)on / 64] |= (uint64_t)1 << (on % 64);
    }
}

typedef LV_VEC(Value *) Values;
typedef LV_VEC(Node *) Nodes;

// Stored values that the expression of `value` reads, and the nodes inside it. `whole`: of its expression though it is stored.
static void collect(const Plan *plan, Value *value, bool whole, char *seen, Values *reads, Nodes *nodes, Values *touched) {
    if (!whole) {
        value = plan_owner(plan, value);
        if (seen[value->id]) return;
        seen[value->id] = 1;
        lv_vec_push(touched, value);
        if (plan->place[value->id] == PLACE_STORED || plan->place[value->id] == PLACE_GIVEN) {
            lv_vec_push(reads, value);
            return;
        }
    }
    lv_vec_push(nodes, value->node);
    for (int i = 0; i < value->node->input_count; i++) {
        Value *input = value->node->inputs[i];
        if (plan->reaches[value->id]) collect(plan, input, true, seen, reads, nodes, touched);
        else collect(plan, input, false, seen, reads, nodes, touched);
    }
}

static Group *new_group(Grouping *g, Node *node, Role role) {
    Group *group = LV_NEW(g->plan->arena, Group);
    group->id = (int)g->groups->list.count;
    group->role = role;
    if ((size_t)group->id >= g->capacity) schedule_internal_error("group", node, "more groups than were counted");
    lv_vec_push(&g->groups->list, group);
    return group;
}

static bool same_shape(LvShape a, LvShape b) { return lv_shape_equal(a, b); }

// The domain of a reduction is its operand's; where the operand is computed on the way, it is walked as the largest tensor
// of that shape lies that it reads.
static void set_domain(const Plan *plan, Group *group, const Value *root, const Values *reads) {
    const Node *node = root->node;
    const Value *of = node_role(node) == ROLE_REDUCTION ? node->inputs[0] : root;
    group->domain = of->shape;
    group->layout = of->layout;
    if (of == root || plan->place[of->id] != PLACE_NONE) return;
    for (size_t i = 0; i < reads->count; i++) {
        if (!same_shape(reads->data[i]->shape, of->shape)) continue;
        group->layout = reads->data[i]->layout;
        return;
    }
}

static bool same_reduction(const Value *a, const Value *b, LvShape domain) {
    Op x = a->node->op, y = b->node->op;
    if (x == OP_argmax || x == OP_argmin || y == OP_argmax || y == OP_argmin) return false;  // argument searches keep a loop of their own
    return domain_reduced(a, domain) == domain_reduced(b, domain);
}

// The domain of both groups, *domain; false: they have none.
static bool common_domain(const Group *a, const Group *b, LvShape *domain) {
    int of[LV_MAX_RANK];
    *domain = a->domain;
    if (same_shape(a->domain, b->domain)) return lv_layout_equal(a->layout, b->layout, a->domain.rank);
    if (!lv_layout_is_row_major(a->layout, a->domain.rank) || !lv_layout_is_row_major(b->layout, b->domain.rank)) return false;
    if (domain_nests(a->domain, b->domain, of)) return true;
    *domain = b->domain;
    return domain_nests(b->domain, a->domain, of);
}

static bool contains(Value *const *list, size_t count, const Value *value) {
    for (size_t i = 0; i < count; i++) {
        if (list[i] == value) return true;
    }
    return false;
}

enum { MAX_COMPARED = 256, MAX_GROUP_READS = 40, MAX_GROUP_ROOTS = 16, MAX_GROUP_NODES = 400, GROUP_WINDOW = 48 };

static bool may_join(Grouping *g, const Group *group, const Group *candidate) {
    if (group->role != ROLE_POINT || group->roots.count == 0) return false;
    LvShape domain;
    if (!common_domain(group, candidate, &domain)) return false;
    if (group->reads.count + candidate->reads.count > MAX_GROUP_READS || group->roots.count >= MAX_GROUP_ROOTS) return false;
    if (group->nodes.count + candidate->nodes.count > MAX_GROUP_NODES) return false;
    const Value *root = candidate->roots.data[0];
    if (group->prepared != candidate->prepared) return false;
    bool reduces = node_role(root->node) == ROLE_REDUCTION;
    if (root->node->op == OP_concat) return false;
    int64_t elements = lv_shape_elements(group->domain), shared = 0;
    for (size_t i = 0; i < group->roots.count; i++) {
        const Value *other = group->roots.data[i];
        bool other_reduces = node_role(other->node) == ROLE_REDUCTION;
        int budget = MAX_COMPARED;
        if (other->node->op == OP_concat || value_same(root, other, &budget)) return false;
        if (reduces && other_reduces && !same_reduction(root, other, domain)) return false;
        if (contains(candidate->reads.data, candidate->reads.count, other)) {
            if (other_reduces) return false;
            shared += elements;
        }
    }
    for (size_t i = 0; i < candidate->reads.count; i++) {
        Value *read = candidate->reads.data[i];
        int from = g->plan->unit_of[read->id];
        if (from >= 0 && from != group->id && depends_on(g, from, group->id)) return false;
        if (contains(group->reads.data, group->reads.count, read) && lv_shape_elements(read->shape) * 8 >= elements)
            shared += elements;
    }
    return shared > 0;
}

static void join(Grouping *g, Group *group, Group *candidate) {
    for (size_t i = 0; i < candidate->reads.count; i++) {
        Value *read = candidate->reads.data[i];
        int from = g->plan->unit_of[read->id];
        if (from == group->id) continue;
        if (!contains(group->reads.data, group->reads.count, read)) lv_vec_push(&group->reads, read);
        if (from >= 0) add_dependency(g, group->id, from);
    }
    for (size_t i = 0; i < candidate->nodes.count; i++) {
        bool there = false;
        for (size_t k = 0; k < group->nodes.count && !there; k++) there = group->nodes.data[k] == candidate->nodes.data[i];
        if (!there) lv_vec_push(&group->nodes, candidate->nodes.data[i]);
    }
    lv_vec_push(&group->roots, candidate->roots.data[0]);
    LvShape domain;
    if (common_domain(group, candidate, &domain) && !same_shape(domain, group->domain))
        group->domain = domain, group->layout = lv_layout_row_major();
    g->plan->unit_of[candidate->roots.data[0]->id] = group->id;
    if (candidate->level > group->level) group->level = candidate->level;
}

static void place_root(Grouping *g, Value *root) {
    const Plan *plan = g->plan;
    Group candidate = {.id = -1, .role = ROLE_POINT};
    Values reads = {0}, touched = {0};
    Nodes nodes = {0};
    collect(plan, root, true, g->seen, &reads, &nodes, &touched);
    for (size_t i = 0; i < touched.count; i++) g->seen[touched.data[i]->id] = 0;
    lv_vec_free(&touched);
    candidate.reads.data = reads.data, candidate.reads.count = reads.count, candidate.reads.capacity = reads.capacity;
    candidate.nodes.data = nodes.data, candidate.nodes.count = nodes.count, candidate.nodes.capacity = nodes.capacity;
    lv_vec_push(&candidate.roots, root);
    candidate.level = plan->level[root->id];
    candidate.prepared = plan->prepared[root->id];
    set_domain(plan, &candidate, root, &reads);
    Group *into = NULL;
    size_t count = g->groups->list.count, stop = count > GROUP_WINDOW ? count - GROUP_WINDOW : 0;
    for (size_t i = count; i > stop && !into && !plan->no_fuse; i--) {
        if (may_join(g, g->groups->list.data[i - 1], &candidate)) into = g->groups->list.data[i - 1];
    }
    if (into) {
        join(g, into, &candidate);
        lv_vec_free(&candidate.reads);
        lv_vec_free(&candidate.nodes);
        lv_vec_free(&candidate.roots);
        return;
    }
    Group *group = new_group(g, root->node, ROLE_POINT);
    int id = group->id;
    *group = candidate;
    group->id = id;
    plan->unit_of[root->id] = id;
    for (size_t i = 0; i < group->reads.count; i++) {
        int from = plan->unit_of[group->reads.data[i]->id];
        if (from >= 0) add_dependency(g, id, from);
    }
}

static void place_whole(Grouping *g, Node *node, Role role) {
    Group *group = new_group(g, node, role);
    lv_vec_push(&group->nodes, node);
    for (int i = 0; i < node->input_count; i++) {
        Value *read = plan_owner(g->plan, node->inputs[i]);
        if (!contains(group->reads.data, group->reads.count, read)) lv_vec_push(&group->reads, read);
        int from = g->plan->unit_of[read->id];
        if (from >= 0) add_dependency(g, group->id, from);
    }
    for (int i = 0; i < node->result_count; i++) {
        lv_vec_push(&group->roots, &node->results[i]);
        group->prepared = g->plan->prepared[node->results[i].id];
        g->plan->unit_of[node->results[i].id] = group->id;
    }
}

// Order of execution: groups by where the last of their roots stands in the graph, each behind what it depends on.
typedef struct {
    Grouping *g;
    Group **sorted;
    size_t placed;
    char *state;  // 1: its dependencies are being placed, 2: placed
} Sorting;

static void sort_visit(Sorting *sorting, Group *group) {
    Grouping *g = sorting->g;
    if (sorting->state[group->id] == 2) return;
    if (sorting->state[group->id] == 1) schedule_internal_error("group", group->nodes.data[0], "groups wait for each other");
    sorting->state[group->id] = 1;
    for (size_t i = 0; i < group->reads.count; i++) {
        int from = g->plan->unit_of[group->reads.data[i]->id];
        if (from >= 0 && from != group->id) sort_visit(sorting, g->groups->list.data[from]);
    }
    sorting->state[group->id] = 2;
    sorting->sorted[sorting->placed++] = group;
}

static int by_order(const void *a, const void *b) {
    const Group *x = *(Group *const *)a, *y = *(Group *const *)b;
    return x->order != y->order ? (x->order < y->order ? -1 : 1) : x->id - y->id;
}

static void sort_groups(Grouping *g) {
    size_t count = g->groups->list.count;
    Sorting sorting = {.g = g, .sorted = lv_malloc((count + 1) * sizeof *sorting.sorted), .state = lv_calloc(count + 1, 1)};
    Group **by_key = lv_malloc((count + 1) * sizeof *by_key);
    for (size_t i = 0; i < count; i++) {
        Group *group = by_key[i] = g->groups->list.data[i];
        group->order = 0;
        for (size_t k = 0; k < group->roots.count; k++) {
            int at = g->plan->position[group->roots.data[k]->id];
            if (at > group->order) group->order = at;
        }
    }
    qsort(by_key, count, sizeof *by_key, by_order);
    for (size_t i = 0; i < count; i++) sort_visit(&sorting, by_key[i]);
    for (size_t i = 0; i < count; i++) g->groups->list.data[i] = sorting.sorted[i];
    free(by_key), free(sorting.sorted), free(sorting.state);
}

void plan_group(const Plan *plan, Groups *groups) {
    size_t needed = 1;
    for GRAPH_EACH(plan->graph, node) {
        Role role = node_role(node);
        bool stored = role == ROLE_CALL || role == ROLE_TEMPLATE || role == ROLE_PACK;
        for (int i = 0; i < node->result_count && !stored; i++) stored = plan->place[node->results[i].id] == PLACE_STORED;
        if (stored) needed++;
    }
    Grouping g = {.plan = plan, .groups = groups, .words = needed / 64 + 1, .capacity = needed};
    g.depends = lv_calloc(needed * g.words, sizeof *g.depends);
    g.seen = lv_calloc((size_t)plan->value_count, 1);
    for GRAPH_EACH(plan->graph, node) {
        Role role = node_role(node);
        if (role == ROLE_GIVEN || role == ROLE_EFFECT) continue;
        if (role == ROLE_POINT || role == ROLE_REDUCTION) {
            if (plan->place[node->results[0].id] == PLACE_STORED) place_root(&g, &node->results[0]);
        } else {
            place_whole(&g, node, role);
        }
    }
    sort_groups(&g);
    free(g.depends), free(g.seen);
}
