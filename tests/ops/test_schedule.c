// Kernels against the reference evaluation: every case of the op table, forward and gradient, each node a kernel and fused;
// and random graphs over every physical layout.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/c/templates.h"
#include "kernels.h"

static const char FLAGS[] = "-O2 -march=native -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp";

typedef struct {
    const char *text;
    Graph *graph;
    TensorSet inputs;
    Schedule *schedules[2];  // fused, each node a kernel
    double tolerance;
    LvArena *arena;
} Job;

typedef LV_VEC(Job) Jobs;

static bool can_schedule(const Graph *graph) {
    for GRAPH_EACH(graph, node) {
        OpKind kind = op_info(node->op)->kind;
        if ((kind == OP_KIND_INDEXED || kind == OP_KIND_COMPOSITE) && !template_takes(node)) return false;
    }
    return true;
}

static void add_job(Jobs *jobs, KernelSet *set, Job job) {
    if (!can_schedule(job.graph)) {
        graph_destroy(job.graph);
        lv_arena_destroy(job.arena);
        return;
    }
    for (int f = 0; f < 2; f++) {
        job.schedules[f] = schedule_build(job.graph, &(Target){0}, f == 1, job.arena);
        kernels_add(set, job.schedules[f]);
    }
    lv_vec_push(jobs, job);
}

static bool close_to(const Tensor *got, const Tensor *want, double tolerance) {
    int64_t n = lv_shape_elements(want->shape);
    bool equal_nan = true;
    for (int64_t i = 0; i < n && want->f; i++) {
        if (isnan(want->f[i])) equal_nan = equal_nan && isnan(got->f[i]), want->f[i] = got->f[i] = 0;
    }
    return equal_nan && tensor_distance(got, want) <= tensor_tolerance(want, tolerance);
}

static bool same_bits(const TensorSet *a, const TensorSet *b) {
    for (int i = 0; i < a->count; i++) {
        const Tensor *x = a->at[i].tensor, *y = b->at[i].tensor;
        size_t n = (size_t)lv_shape_elements(x->shape);
        if (n && (x->f ? memcmp(x->f, y->f, n * sizeof *x->f) : memcmp(x->i, y->i, n * sizeof *x->i))) return false;
    }
    return true;
}

static void run_jobs(Jobs *jobs, KernelSet *set) {
    int wrong = 0;
    kernels_compile(set, FLAGS);
    for (size_t i = 0; i < jobs->count; i++) {
        Job *job = &jobs->data[i];
        TensorSet want;
        evaluate_set(job->graph, true, &job->inputs, &want, job->arena);
        for (int f = 0; f < 2; f++) {
            TensorSet got, again;
            kernels_threads(set, 1);
            schedule_run(set, job->schedules[f], &job->inputs, &got, job->arena);
            kernels_threads(set, 3);
            schedule_run(set, job->schedules[f], &job->inputs, &again, job->arena);
            if (!same_bits(&got, &again)) {
                fprintf(stderr, "%s (%s): other bits with other threads\n", job->text, f ? "each node a kernel" : "fused");
                wrong++;
            }
            for (int r = 0; r < want.count; r++) {
                if (loss_cancels(want.at[r].name, job->text)) continue;
                if (close_to(set_find(&got, want.at[r].name), want.at[r].tensor, job->tolerance)) continue;
                double apart = tensor_distance(set_find(&got, want.at[r].name), want.at[r].tensor);
                fprintf(stderr, "%s (%s): result %s is off by %g\n", job->text, f ? "each node a kernel" : "fused",
                        want.at[r].name, apart);
                if (wrong++ < 2) {
                    LvText text = {0};
                    graph_print(job->graph, &text);
                    schedule_print_loops(job->schedules[f], &text);
                    for (int u = 0; u < job->schedules[f]->unit_count; u++) {
                        if (job->schedules[f]->units[u].kernel_text) lv_text_puts(&text, job->schedules[f]->units[u].kernel_text);
                    }
                    fprintf(stderr, "%s\n", lv_text_get(&text));
                    lv_text_free(&text);
                }
            }
        }
        graph_destroy(job->graph);
        lv_arena_destroy(job->arena);
    }
    printf("%zu graphs, %zu kernels, %d wrong\n", jobs->count, set->texts.count, wrong);
    lv_vec_free(jobs);
    kernels_free(set);
    assert_int_equal(wrong, 0);
}

static TensorSet case_inputs(const OpCase *c) {
    TensorSet set = {0};
    for (int i = 0; i < c->input_count; i++) set_add(&set, lv_arena_printf(c->arena, "x%d", i), case_input(c, i));
    return set;
}

static void decompose_untaken(Graph *graph) {
    for (Node *node = graph->first, *next; node; node = next) {
        next = node->next;
        Value *with[CASE_MAX_RESULTS] = {0};
        if (!op_info(node->op)->decompose || template_takes(node)) continue;
        Node *before = node->prev;
        graph->insert_before = node;
        if (!op_info(node->op)->decompose(graph, node, with)) continue;
        for (int r = 0; r < node->result_count; r++) graph_replace(graph, &node->results[r], with[r]);
        next = before ? before->next : graph->first;
        graph_remove(graph, node);
    }
    graph->insert_before = NULL;
}

static void test_cases(void **state) {
    (void)state;
    Jobs jobs = {0};
    KernelSet set = {0};
    for (int i = 0; i < op_case_count; i++) {
        Job job = {.text = op_cases[i], .arena = lv_arena_create(), .tolerance = 3e-6};
        OpCase *c = case_parse(op_cases[i], job.arena);
        if (c->op == OP_gradient) {
            lv_arena_destroy(job.arena);
            continue;
        }
        job.graph = case_graph(c);
        job.inputs = case_inputs(c);
        decompose_untaken(job.graph);
        add_job(&jobs, &set, job);
    }
    run_jobs(&jobs, &set);
}

static bool has_gradient(const OpCase *c) {
    for (int i = 0; i < c->attrs.count; i++) {
        AttrName name = c->attrs.at[i].name;
        if (name == ATTR_bias || name == ATTR_residual || name == ATTR_activation) return false;  // made after autodiff
    }
    bool any = false;
    for (int i = 0; i < c->input_count; i++) any |= lv_dtype_is_float(c->inputs[i].dtype);
    return any && op_info(c->op)->gradient && case_smooth(c);
}

static void test_gradients(void **state) {
    (void)state;
    Jobs jobs = {0};
    KernelSet set = {0};
    for (int i = 0; i < op_case_count; i++) {
        Job job = {.text = op_cases[i], .arena = lv_arena_create(), .tolerance = 2e-5};
        OpCase *c = case_parse(op_cases[i], job.arena);
        job.graph = case_graph(c);
        job.inputs = case_inputs(c);
        TensorSet weights = {0};
        if (!has_gradient(c) || !case_differentiate(job.graph, c, ~0u, job.arena, &weights)) {
            graph_destroy(job.graph);
            lv_arena_destroy(job.arena);
            continue;
        }
        for (int w = 0; w < weights.count; w++) set_add(&job.inputs, weights.at[w].name, weights.at[w].tensor);
        decompose_untaken(job.graph);
        add_job(&jobs, &set, job);
    }
    run_jobs(&jobs, &set);
}

// Large enough for threads, rows, tiles and chunks.
static const char *const large_cases[] = {
    "softmax {axis = 1} f32[64, 700]",
    "softmax {axis = 0} f32[300, 200]",
    "softmax {axis = 2} f32[5, 40, 131]",
    "layer_norm {eps = 1e-5} f32[96, 513] f32[513] f32[513]",
    "layer_norm {eps = 1e-5} f32[2, 50, 300] f32[300] f32[300]",
    "cross_entropy {ignore = -1} f32[64, 1000] i32[64]:0:1000",
    "group_norm {groups = 8, eps = 1e-6} f32[2, 32, 33, 31] f32[32] f32[32]",
    "reduce_sum {axes = [0]} f32[3000, 37]",
    "reduce_sum {axes = [0]} f32[70, 1400]",
    "reduce_sum {axes = [0]} f32[70, 1409]",
    "reduce_sum {axes = [0, 1]} f32[301, 307]",
    "reduce_sum {axes = [0, 2, 3]} f32[8, 16, 40, 30]",
    "reduce_max {axes = [0]} f32[100000]",
    "reduce_sum {axes = [0]} f32[1, 1500000]", "reduce_min {axes = [1]} f32[3, 50000]",
    "argmax {axis = 1} f32[60, 2000]:-90:90", "argmax {axis = 1} i32[3, 20000]:-9:9", "argmin {axis = 0} f32[70001]:-90:90",
    "argmin {axis = 0} f32[900, 130]:-90:90",
};

static void test_large(void **state) {
    (void)state;
    Jobs jobs = {0};
    KernelSet set = {0};
    for (size_t i = 0; i < 2 * sizeof large_cases / sizeof *large_cases; i++) {
        Job job = {.text = large_cases[i / 2], .arena = lv_arena_create(), .tolerance = 3e-6};
        OpCase *c = case_parse(job.text, job.arena);
        job.graph = case_graph(c);
        job.inputs = case_inputs(c);
        TensorSet weights = {0};
        if (i % 2 && has_gradient(c)) {
            case_differentiate(job.graph, c, ~0u, job.arena, &weights);
            job.tolerance = 2e-5;
        }
        for (int w = 0; w < weights.count; w++) set_add(&job.inputs, weights.at[w].name, weights.at[w].tensor);
        decompose_untaken(job.graph);
        add_job(&jobs, &set, job);
    }
    run_jobs(&jobs, &set);
}

// ---- random graphs

typedef struct {
    Graph *graph;
    LvArena *arena;
    uint64_t seed, drawn;
    int count;
    Value *pool[64];
} Maker;

static int draw(Maker *m, int below) { return (int)(hash_uniform(m->seed, m->drawn++) * below); }
static Value *pick(Maker *m) { return m->pool[m->count - 1 - draw(m, m->count < 8 ? m->count : 8)]; }

static Value *pick_shape(Maker *m, LvShape shape) {
    for (int tries = 0; tries < 8; tries++) {
        Value *v = pick(m);
        if (lv_shape_equal(v->shape, shape)) return v;
    }
    return build_constant(m->graph, 0.75, LV_F32, shape);
}

// The same values in a bounded range, whatever came before.
static Value *tame(Maker *m, Value *v) {
    return draw(m, 2) ? build_unary(m->graph, OP_tanh, v) : build_unary(m->graph, OP_sin, v);
}

static Value *random_movement(Maker *m, Value *x) {
    Graph *g = m->graph;
    int rank = x->shape.rank;
    int64_t list[LV_MAX_RANK] = {0}, high[LV_MAX_RANK] = {0}, steps[LV_MAX_RANK];
    LvShape shape = x->shape;
    for (int i = 0; i < LV_MAX_RANK; i++) steps[i] = 1;
    switch (draw(m, 8)) {
        case 0: {  // merge two neighbours, or split one
            if (rank >= 2) {
                int at = draw(m, rank - 1);
                shape.dim[at] *= shape.dim[at + 1];
                for (int i = at + 1; i + 1 < rank; i++) shape.dim[i] = shape.dim[i + 1];
                shape.rank--;
            }
            return build_reshape(g, x, shape);
        }
        case 1: {
            if (rank > 4 || rank == 0 || shape.dim[rank - 1] % 2) return x;
            int at = draw(m, rank);
            if (shape.dim[at] % 2) at = rank - 1;
            for (int i = rank; i > at + 1; i--) shape.dim[i] = shape.dim[i - 1];
            shape.dim[at] /= 2, shape.dim[at + 1] = 2, shape.rank++;
            return build_reshape(g, x, shape);
        }
        case 2: {
            for (int i = 0; i < rank; i++) list[i] = i;
            for (int i = rank - 1; i > 0; i--) {
                int k = draw(m, i + 1);
                int64_t keep = list[i];
                list[i] = list[k], list[k] = keep;
            }
            return build_transpose(g, x, list);
        }
        case 3: {
            for (int i = 0; i < rank; i++) {
                if (shape.dim[i] < 3 || draw(m, 2)) continue;
                list[i] = draw(m, 2);
                if (draw(m, 2)) steps[i] = 2, shape.dim[i] = (shape.dim[i] - list[i] + 1) / 2;
                else shape.dim[i] -= list[i] + draw(m, 2);
            }
            return build_slice(g, x, list, shape, steps);
        }
        case 4:
            for (int i = 0; i < rank; i++) list[i] = draw(m, 2), high[i] = draw(m, 2);
            return build_pad(g, x, list, high, draw(m, 2) ? 0 : 0.5);
        case 5: {
            if (!rank) return x;
            Attrs attrs = {0};
            list[0] = draw(m, rank);
            attrs_list(&attrs, ATTR_axes, 1, list);
            return build_node(g, OP_reverse, 1, &x, &attrs);
        }
        case 6: {
            if (!rank) return x;
            int axis = draw(m, rank);
            Value *parts[3] = {x, pick_shape(m, x->shape), x};
            return build_concat(g, 2 + draw(m, 2), parts, axis);
        }
        default: {  // upsample by two in one dimension
            if (!rank || rank >= 5) return x;
            int at = draw(m, rank), k = 0;
            for (int i = 0; i <= rank; i++) {
                if (i != at + 1) list[k] = i, k++;
            }
            for (int i = rank; i > at + 1; i--) shape.dim[i] = shape.dim[i - 1];
            shape.dim[at + 1] = 2, shape.rank++;
            Value *wide = build_expand(g, x, shape, list);
            LvShape flat = x->shape;
            flat.dim[at] *= 2;
            return build_reshape(g, wide, flat);
        }
    }
}

static Value *random_node(Maker *m) {
    Graph *g = m->graph;
    Value *x = pick(m);
    static const Op unary[] = {OP_neg, OP_exp, OP_sigmoid, OP_abs, OP_sin, OP_cos, OP_tanh, OP_erf, OP_floor, OP_sign};
    static const Op binary[] = {OP_add, OP_sub, OP_mul, OP_max, OP_min};
    int64_t axes[LV_MAX_RANK];
    int count = 0;
    switch (draw(m, 10)) {
        case 0: return build_unary(g, unary[draw(m, 8)], tame(m, x));
        case 1: case 2: return build_binary(g, binary[draw(m, 5)], x, pick_shape(m, x->shape));
        case 3: {
            Value *y = pick_shape(m, x->shape);
            return build_select(g, build_binary(g, OP_gt, x, y), tame(m, x), y);
        }
        case 4: case 5: {  // a reduction, and back by broadcast as normalizations do
            for (int i = 0; i < x->shape.rank; i++) {
                if (draw(m, 2)) axes[count++] = i;
            }
            Value *r = build_reduce(g, draw(m, 4) ? OP_reduce_sum : OP_reduce_max, x, count, axes);
            if (draw(m, 2)) return tame(m, r);
            int64_t kept[LV_MAX_RANK], k = 0;
            for (int i = 0; i < x->shape.rank; i++) {
                bool reduced = false;
                for (int a = 0; a < count; a++) reduced |= axes[a] == i;
                if (!reduced) kept[k++] = i;
            }
            return build_binary(g, OP_sub, x, build_expand(g, tame(m, r), x->shape, kept));
        }
        case 6: {
            if (x->shape.rank != 4) return x;
            Value *y = build_unary(g, OP_relayout, x);
            return y;
        }
        case 7: return build_cast(g, build_cast(g, x, draw(m, 3) ? LV_BF16 : LV_I32), LV_F32);
        default: return random_movement(m, x);
    }
}

static LvLayout random_layout(Maker *m, LvShape shape) {
    if (shape.rank == 4 && draw(m, 3) == 0) return lv_layout_nhwc();
    if (shape.rank == 4 && shape.dim[1] % 16 == 0 && draw(m, 2)) return lv_layout_blocked(1, 16);
    return lv_layout_row_major();
}

static void make_random(Job *job, uint64_t seed) {
    Maker m = {.graph = graph_create("random"), .arena = job->arena, .seed = seed};
    static const int64_t shapes[][4] = {{2, 16, 6, 4}, {1, 32, 5, 3}, {3, 5, 7, 2}, {2, 48, 1, 4}, {2, 32, 64, 33}};
    LvShape shape = lv_shape(4, shapes[draw(&m, 20) ? draw(&m, 4) : 4]);
    for (int i = 0; i < 2; i++) {
        const char *name = lv_arena_printf(job->arena, "x%d", i);
        m.pool[m.count++] = graph_add_input(m.graph, name, LV_F32, shape);
        Tensor *t = tensor_new(job->arena, LV_F32, shape);
        for (int64_t k = 0, n = lv_shape_elements(shape); k < n; k++)
            t->f[k] = (float)(hash_uniform(seed + 9 + (uint64_t)i, (uint64_t)k) * 2 - 0.9);
        set_add(&job->inputs, name, t);
    }
    int nodes = 3 + draw(&m, 14);
    for (int i = 0; i < nodes; i++) {
        Value *v = random_node(&m);
        int64_t elements = lv_shape_elements(v->shape);
        if (elements > 0 && elements < 400000) m.pool[m.count++] = v;
    }
    int results = 1 + draw(&m, 3);
    for (int i = 0; i < results; i++) {
        Value *v = i ? pick(&m) : m.pool[m.count - 1];
        graph_add_result(m.graph, lv_arena_printf(m.graph->arena, "y%d", i), v);
    }
    for GRAPH_EACH(m.graph, node) {
        if (node->op == OP_input) continue;
        for (int i = 0; i < node->result_count; i++) node->results[i].layout = random_layout(&m, node->results[i].shape);
    }
    job->graph = m.graph;
}

static void test_random(void **state) {
    (void)state;
    Jobs jobs = {0};
    KernelSet set = {0};
    int count = getenv("LV_RANDOM_GRAPHS") ? atoi(getenv("LV_RANDOM_GRAPHS")) : 100,
        first = getenv("LV_RANDOM_SEED") ? atoi(getenv("LV_RANDOM_SEED")) : 1;
    for (int i = 0; i < count; i++) {
        Job job = {.text = "", .arena = lv_arena_create(), .tolerance = 1e-4};
        make_random(&job, (uint64_t)(first + i));
        job.text = lv_arena_printf(job.arena, "random %d", first + i);
        add_job(&jobs, &set, job);
    }
    run_jobs(&jobs, &set);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_gradients),
                                      cmocka_unit_test(test_large), cmocka_unit_test(test_random)};
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
