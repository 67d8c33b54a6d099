// The kernel templates beyond test_cpu.c: for processors without AVX-512 or any vector unit asked for, the same bits for any
// number of threads, and inputs that are hard on purpose: near ties, codes far away, NaN, scores that overflow an exponential.
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/processor.h"
#include "codegen/c/templates.h"
#include "kernels.h"

#define COMMON "-O2 -Wno-psabi -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp "

typedef struct {
    OpCase *c;
    Graph *graph;
    TensorSet inputs;
    Schedule *schedule;
} Job;

typedef LV_VEC(Job) Jobs;

static void add_job(Jobs *jobs, KernelSet *set, const char *text, LvArena *arena) {
    Job job = {.c = case_parse(text, arena)};
    job.graph = case_graph(job.c);
    if (!template_takes(job.graph->last)) {
        graph_destroy(job.graph);
        return;
    }
    for (int i = 0; i < job.c->input_count; i++) set_add(&job.inputs, lv_arena_printf(arena, "x%d", i), case_input(job.c, i));
    job.schedule = schedule_build(job.graph, &(Target){0}, true, arena);
    kernels_add(set, job.schedule);
    lv_vec_push(jobs, job);
}

static void end_job(Job *job) {
    graph_destroy(job->graph);
}

static void check_same_bits(const char *text, const TensorSet *a, const TensorSet *b) {
    for (int r = 0; r < a->count; r++) {
        const Tensor *x = a->at[r].tensor, *y = b->at[r].tensor;
        for (int64_t i = 0, n = lv_shape_elements(x->shape); i < n; i++)
            if (tensor_at(x, i) != tensor_at(y, i)) fail_msg("%s: %s depends on the number of threads", text, a->at[r].name);
    }
}

// The cases that name `word`.
static void run_cases(const char *flags, const char *word, size_t least) {
    LvArena *arena = lv_arena_create();
    Jobs jobs = {0};
    KernelSet set = {0};
    for (int i = 0; i < op_case_count; i++)
        if (strstr(op_cases[i], word)) add_job(&jobs, &set, op_cases[i], arena);
    assert_true(jobs.count >= least);
    kernels_compile(&set, flags);
    for (size_t i = 0; i < jobs.count; i++) {
        Job *job = &jobs.data[i];
        TensorSet want, one, five;
        evaluate_set(job->graph, false, &job->inputs, &want, arena);
        omp_set_num_threads(1);
        schedule_run(&set, job->schedule, &job->inputs, &one, arena);
        omp_set_num_threads(5);
        schedule_run(&set, job->schedule, &job->inputs, &five, arena);
        for (int r = 0; r < want.count; r++) {
            double apart = tensor_distance(one.at[r].tensor, want.at[r].tensor);
            if (!(apart <= tensor_tolerance(want.at[r].tensor, 3e-6))) fail_msg("%s: %s is off by %g", job->c->text, want.at[r].name, apart);
        }
        check_same_bits(job->c->text, &one, &five);
        end_job(job);
    }
    lv_vec_free(&jobs);
    kernels_free(&set);
    lv_arena_destroy(arena);
}

static void on_this_machine(void **state) { (void)state, run_cases(COMMON "-march=native", "", 40); }

// Whatever the compiler's default is: no machine is too old for it.
static void without_wide_vectors(void **state) { (void)state, run_cases(COMMON, "", 40); }

// bf16 where vectors are wide and no instruction multiplies it.
static void without_bf16_products(void **state) {
    (void)state;
    if (!lv_processor_has_avx2()) skip();
    run_cases(COMMON "-march=x86-64-v3", "bf16", 10);
    if (lv_processor_has_avx512()) run_cases(COMMON "-march=x86-64-v4", "bf16", 10);
}

// ---- hard inputs

static Job hard_job(KernelSet *set, const char *text, LvArena *arena) {
    Jobs jobs = {0};
    add_job(&jobs, set, text, arena);
    Job job = jobs.data[0];
    lv_vec_free(&jobs);
    kernels_compile(set, COMMON "-march=native");
    return job;
}

// Vectors lie next to their code, all others too: distances a thousandth of the norms, where f32 scores alone cannot choose.
static void near_ties(void **state) {
    (void)state;
    LvArena *arena = lv_arena_create();
    KernelSet set = {0};
    Job job = hard_job(&set, "nearest_code f32[197, 64] f32[512, 64]", arena);
    Tensor *x = job.inputs.at[0].tensor, *codes = job.inputs.at[1].tensor;
    TensorSet got, want;
    for (int64_t k = 0; k < 512; k++)
        for (int64_t i = 0; i < 64; i++) codes->f[k * 64 + i] = (float)(3 + 1e-3 * hash_uniform(5, (uint64_t)(k * 64 + i)));
    for (int64_t i = 0; i < 64; i++) codes->f[300 * 64 + i] = codes->f[17 * 64 + i];  // equal codes
    for (int64_t n = 0; n < 197; n++)
        for (int64_t i = 0; i < 64; i++)
            x->f[n * 64 + i] = (float)(n % 5 ? codes->f[n * 2 * 64 + i] + 1e-4 * hash_uniform(6, (uint64_t)(n * 64 + i)) : codes->f[300 * 64 + i]);
    evaluate_set(job.graph, false, &job.inputs, &want, arena);
    schedule_run(&set, job.schedule, &job.inputs, &got, arena);
    assert_true(tensor_distance(got.at[0].tensor, want.at[0].tensor) == 0);
    assert_int_equal(got.at[0].tensor->i[0], 17);
    end_job(&job);
    kernels_free(&set);
    lv_arena_destroy(arena);
}

// Codes that nobody chose may be anywhere, infinity included; a vector of NaN gets code 0 and harms no other.
static void far_codes(void **state) {
    (void)state;
    LvArena *arena = lv_arena_create();
    KernelSet set = {0};
    Job job = hard_job(&set, "nearest_code f32[61, 7] f32[37, 7]", arena);
    Tensor *x = job.inputs.at[0].tensor, *codes = job.inputs.at[1].tensor;
    TensorSet got, want;
    for (int64_t i = 0; i < 7; i++) codes->f[i] = INFINITY, codes->f[7 + i] = 1e30, codes->f[14 + i] = -1e12, codes->f[21 + i] = NAN, x->f[35 + i] = NAN;
    evaluate_set(job.graph, false, &job.inputs, &want, arena);
    schedule_run(&set, job.schedule, &job.inputs, &got, arena);
    assert_true(tensor_distance(got.at[0].tensor, want.at[0].tensor) == 0);
    assert_int_equal(got.at[0].tensor->i[5], 0);
    end_job(&job);
    kernels_free(&set);
    lv_arena_destroy(arena);
}

static void large_scores(void **state) {
    (void)state;
    LvArena *arena = lv_arena_create();
    KernelSet set = {0};
    Job job = hard_job(&set, "attention {causal = true, scale = 300} f32[1, 1, 101, 8] f32[1, 1, 101, 8] f32[1, 1, 101, 8]", arena);
    TensorSet got, want;
    evaluate_set(job.graph, false, &job.inputs, &want, arena);
    schedule_run(&set, job.schedule, &job.inputs, &got, arena);
    // Scores of hundreds have f32 errors of 1e-5 before the exponential.
    for (int r = 0; r < 2; r++) assert_true(tensor_distance(got.at[r].tensor, want.at[r].tensor) < 1e-4);
    end_job(&job);
    kernels_free(&set);
    lv_arena_destroy(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_this_machine), cmocka_unit_test(without_wide_vectors), cmocka_unit_test(without_bf16_products), cmocka_unit_test(near_ties),
        cmocka_unit_test(far_codes),       cmocka_unit_test(large_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
