// The plan of memory on random schedules, checked by the independent checker; and the cases that it decides by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "memory/memory.h"
#include "ops/op.h"

typedef struct {
    uint64_t state;
    LvArena *arena;
    Graph *graph;
    Schedule schedule;
} World;

static uint32_t roll(World *w, uint32_t sides) {
    w->state ^= w->state << 13, w->state ^= w->state >> 7, w->state ^= w->state << 17;
    return (uint32_t)(w->state >> 33) % sides;
}

static void world_open(World *w, uint64_t seed) {
    *w = (World){.state = seed * 0x9E3779B97F4A7C15u + 7, .arena = lv_arena_create(), .graph = graph_create("g")};
}

static void world_close(World *w) {
    graph_destroy(w->graph);
    lv_arena_destroy(w->arena);
}

static bool is_alias(const Node *node) { return node->op == OP_reshape; }

static bool is_given(const Node *node) { return node->op == OP_input || node->op == OP_state_read || node->op == OP_literal; }

// A unit a node; elementwise results may overwrite their first input.
static void build_schedule(World *w) {
    Schedule *s = &w->schedule;
    s->arena = w->arena;
    s->graph = w->graph;
    s->alias_of = LV_NEW_ARRAY(w->arena, Value *, w->graph->next_value + 1);
    s->alias_offset = LV_NEW_ARRAY(w->arena, int64_t, w->graph->next_value + 1);
    s->units = LV_NEW_ARRAY(w->arena, Unit, w->graph->node_count + 1);
    for GRAPH_EACH(w->graph, node) {
        if (is_alias(node)) s->alias_of[node->results[0].id] = node->inputs[0];
        if (is_alias(node) || is_given(node) || node->op == OP_state_write || node->op == OP_pack) continue;
        Unit *unit = &s->units[s->unit_count++];
        unit->kind = UNIT_KERNEL;
        unit->operands = lv_arena_array(w->arena, (size_t)node->input_count + 1, sizeof *unit->operands);
        bool point = op_info(node->op)->kind == OP_KIND_ELEMENTWISE;
        for (int i = 0; i < node->input_count; i++) unit->operands[unit->operand_count++] = (struct UnitOperand){node->inputs[i], false, -1};
        unit->operands[unit->operand_count++] = (struct UnitOperand){&node->results[0], true, point && node->input_count ? 0 : -1};
    }
}

static void expect_sound(World *w, uint64_t seed, MemoryPlan *plan) {
    const char *wrong = memory_check(plan, &w->schedule, w->arena);
    if (!wrong) return;
    LvText text = {0};
    graph_print(w->graph, &text);
    fail_msg("seed %llu: %s in\n%s", (unsigned long long)seed, wrong, lv_text_get(&text));
}

// ---- random

static int add_variable(World *w, const char *name, LvVariableKind kind, LvShape shape, int pack, int64_t at, bool is_pack) {
    Variable variable = {.name = name, .kind = kind, .dtype = LV_F32, .shape = shape, .pack = pack, .pack_offset = at, .is_pack = is_pack};
    return graph_add_variable(w->graph, &variable);
}

static Value *read_variable(World *w, int variable) {
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, variable);
    return graph_add_typed(w->graph, OP_state_read, 0, NULL, &attrs, LV_F32, w->graph->variables.data[variable].shape);
}

static void write_variable(World *w, int variable, Value *value) {
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, variable);
    graph_add(w->graph, OP_state_write, 1, &value, &attrs, NULL);
}

enum { VALUES = 60 };

static Value *some_of(World *w, Value **values, int count, LvShape shape) {
    for (int tries = 0; tries < 20; tries++) {
        Value *value = values[roll(w, (uint32_t)count)];
        if (lv_shape_equal(value->shape, shape)) return value;
    }
    return NULL;
}

static void make_random(World *w) {
    Graph *g = w->graph;
    Value *values[VALUES];
    int count = 0;
    LvShape shapes[] = {{1, {40}}, {2, {8, 5}}, {1, {7}}, {1, {300}}};
    int pack = add_variable(w, "$params", LV_VARIABLE_PARAM, (LvShape){1, {64}}, -1, 0, true);
    int a = add_variable(w, "a", LV_VARIABLE_PARAM, shapes[0], pack, 0, false);
    int b = add_variable(w, "b", LV_VARIABLE_PARAM, shapes[2], pack, 48, false);
    int s = add_variable(w, "s", LV_VARIABLE_STATE, shapes[0], -1, 0, false);
    int t = add_variable(w, "t", LV_VARIABLE_STATE, shapes[0], -1, 0, false);
    int m = add_variable(w, "m", LV_VARIABLE_OPTIMIZER, (LvShape){1, {64}}, -1, 0, false);
    values[count++] = graph_add_input(g, "x", LV_F32, shapes[0]);
    values[count++] = graph_add_input(g, "y", LV_F32, shapes[3]);
    values[count++] = read_variable(w, a);
    values[count++] = read_variable(w, b);
    values[count++] = read_variable(w, s);
    values[count++] = read_variable(w, t);
    while (count < 40) {
        Value *x = values[roll(w, (uint32_t)count)], *y = some_of(w, values, count, x->shape);
        uint32_t kind = roll(w, 6);
        if (kind == 0 && lv_shape_elements(x->shape) == 40) values[count++] = build_reshape(g, x, shapes[x->shape.rank == 1]);
        else if (kind == 1 && x->shape.rank == 1 && x->shape.dim[0] == 40) {
            values[count++] = build_expand(g, build_reduce(g, OP_reduce_max, x, 1, (int64_t[]){0}), shapes[roll(w, 4)], NULL);
        } else if (kind < 4 && y) values[count++] = build_binary(g, OP_add, x, y);
        else values[count++] = build_unary(g, OP_exp, x);
        if (values[count - 1] == x) count--;
    }
    if (roll(w, 2)) {
        Value *ga = some_of(w, values, count, shapes[0]), *gb = some_of(w, values, count, shapes[2]);
        if (!ga) ga = values[2];
        if (!gb) gb = values[3];
        Value *flat = build_node(g, OP_pack, 2, (Value *[]){ga, gb}, NULL);
        Value *moment = build_binary(g, OP_add, read_variable(w, m), flat);
        Value *updated = build_binary(g, OP_sub, read_variable(w, pack), moment);
        if (roll(w, 2)) values[count++] = build_unary(g, OP_exp, values[2]);  // reads a parameter after the update
        write_variable(w, m, moment);
        write_variable(w, pack, updated);
    }
    Value *to_s = some_of(w, values, count, shapes[0]), *to_t = some_of(w, values, count, shapes[0]);
    if (to_s) write_variable(w, s, to_s);
    if (to_t && roll(w, 2)) write_variable(w, t, to_t);
    for (int i = 0; i < 3; i++) graph_add_result(g, i == 0 ? "p" : i == 1 ? "q" : "r", values[count - 1 - (int)roll(w, (uint32_t)count)]);
}

static void random_plans_are_sound(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        World w;
        world_open(&w, seed);
        make_random(&w);
        build_schedule(&w);
        MemoryPlan *plan = memory_plan(&w.schedule, w.arena);
        expect_sound(&w, seed, plan);
        assert_true(plan->arena_bytes[LV_ARENA_ACTIVATIONS] >= plan->lower_bound);
        memory_plan_free(plan);
        world_close(&w);
    }
}

// ---- one by one

static void updates_happen_in_place(void **state) {
    (void)state;
    World w;
    world_open(&w, 1);
    int s = add_variable(&w, "s", LV_VARIABLE_STATE, (LvShape){1, {40}}, -1, 0, false);
    Value *x = graph_add_input(w.graph, "x", LV_F32, (LvShape){1, {40}});
    write_variable(&w, s, build_binary(w.graph, OP_add, read_variable(&w, s), x));
    build_schedule(&w);
    MemoryPlan *plan = memory_plan(&w.schedule, w.arena);
    expect_sound(&w, 1, plan);
    assert_int_equal(plan->before.count + plan->after.count, 0);
    assert_int_equal(plan->arena_bytes[LV_ARENA_ACTIVATIONS], 0);
    memory_plan_free(plan);
    world_close(&w);
}

static void old_contents_read_later_are_kept(void **state) {
    (void)state;
    World w;
    world_open(&w, 1);
    LvShape shape = {1, {40}};
    int s = add_variable(&w, "s", LV_VARIABLE_STATE, shape, -1, 0, false);
    Value *x = graph_add_input(w.graph, "x", LV_F32, shape), *old = read_variable(&w, s);
    Value *sum = build_binary(w.graph, OP_add, x, old);  // in place of x, not of the state
    graph_add_result(w.graph, "late", build_binary(w.graph, OP_mul, sum, old));
    graph_add_result(w.graph, "old", old);
    write_variable(&w, s, sum);
    build_schedule(&w);
    MemoryPlan *plan = memory_plan(&w.schedule, w.arena);
    expect_sound(&w, 1, plan);
    assert_int_equal(plan->before.count, 1);  // the result `old`
    assert_int_equal(plan->after.count, 1);   // the state
    memory_plan_free(plan);
    world_close(&w);
}

static void a_chain_needs_one_buffer(void **state) {
    (void)state;
    World w;
    world_open(&w, 1);
    Value *x = graph_add_input(w.graph, "x", LV_F32, (LvShape){1, {1000}});
    for (int i = 0; i < 10; i++) x = build_unary(w.graph, OP_exp, x);
    graph_add_result(w.graph, "y", build_reduce(w.graph, OP_reduce_sum, x, 1, (int64_t[]){0}));
    build_schedule(&w);
    MemoryPlan *plan = memory_plan(&w.schedule, w.arena);
    expect_sound(&w, 1, plan);
    assert_int_equal(plan->arena_bytes[LV_ARENA_ACTIVATIONS], 4032);
    memory_plan_free(plan);
    world_close(&w);
}

static void intervals_meet_their_bound_when_nested(void **state) {
    (void)state;
    LvArena *arena = lv_arena_create();
    Interval intervals[20];
    for (int i = 0; i < 20; i++) intervals[i] = (Interval){.bytes = 64 * (i + 1), .first = i, .last = 40 - i};  // forward, backward
    assert_int_equal(intervals_place(intervals, 20, arena), intervals_lower_bound(intervals, 20, arena));
    lv_arena_destroy(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_plans_are_sound),
        cmocka_unit_test(updates_happen_in_place),
        cmocka_unit_test(old_contents_read_later_are_kept),
        cmocka_unit_test(a_chain_needs_one_buffer),
        cmocka_unit_test(intervals_meet_their_bound_when_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
