// The one table of passes, and lv_model_compile: elaborate, run the table, schedule, plan memory, emit.
// In debug builds (LV_VERIFY) the graph's verifier runs after every pass and the pass that broke the graph is named.
#include "driver/pipeline.h"

#include <string.h>

#include "autodiff/autodiff.h"
#include "base/error.h"
#include "sema/sema.h"

#ifndef LV_VERIFY
#define LV_VERIFY 0
#endif

// ---- passes by name

static bool run_autodiff(Graph *graph, PassContext *context) {
    if (autodiff_run(graph, context->diagnostics)) return true;
    return lv_error_set(context->error, LV_ERROR_SOURCE, "the model cannot be differentiated");
}

static const Pass PASSES[] = {
#define PASS(name, summary) {#name, pass_##name, summary},
#include "passes/passes.def"
#undef PASS
    {"autodiff", run_autodiff, "reverse-mode differentiation: `gradient` nodes become the graph that computes them"},
};

const Pass *pass_table(int *count) {
    *count = (int)(sizeof PASSES / sizeof *PASSES);
    return PASSES;
}

const Pass *pass_find(const char *name) {
    for (size_t i = 0; i < sizeof PASSES / sizeof *PASSES; i++) {
        if (strcmp(PASSES[i].name, name) == 0) return &PASSES[i];
    }
    return NULL;
}

// ---- the order

typedef enum {
    ALWAYS,
    OPTIMIZING,  // left out by no_optimize
    IN_BF16,     // only in that precision
} When;

typedef struct {
    const char *pass;
    When when;
    const char *stage;  // name of the graph after it, for --emit
} Step;

static const Step PIPELINE[] = {
    {"fold", OPTIMIZING, NULL},
    {"algebra", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"autodiff", ALWAYS, "joint"},
    {"dce", ALWAYS, NULL},
    {"precision", IN_BF16, NULL},
    {"decompose", ALWAYS, NULL},
    {"fold", OPTIMIZING, NULL},
    {"algebra", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"fold", OPTIMIZING, NULL},
    {"algebra", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"epilogue", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"layout", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"remat", OPTIMIZING, NULL},
    {"order", OPTIMIZING, NULL},
};

// ---- running

static void verify(const Graph *graph, const char *pass) {
    if (!LV_VERIFY) return;
    LvArena *arena = lv_arena_create();
    const char *wrong = graph_verify(graph, arena);
    if (wrong) lv_internal_error("%s: left a graph that is not valid: %s", pass, wrong);
    lv_arena_destroy(arena);
}

static bool run_pass(const Pass *pass, Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics,
                     LvError *error) {
    PassContext context = {.precision = options->precision, .conv = options->conv, .memory_limit = options->memory_limit,
                           .diagnostics = diagnostics, .error = error, .arena = lv_arena_create()};
    bool done = pass->run(graph, &context);
    lv_arena_destroy(context.arena);
    if (done) verify(graph, pass->name);
    return done;
}

bool lv_pass_run(const char *name, Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvError *error) {
    const Pass *pass = pass_find(name);
    if (!pass) {
        const char *names[sizeof PASSES / sizeof *PASSES];
        for (size_t i = 0; i < sizeof PASSES / sizeof *PASSES; i++) names[i] = PASSES[i].name;
        const char *near = lv_nearest_name(name, names, sizeof PASSES / sizeof *PASSES);
        lv_error_set(error, LV_ERROR_USAGE, "there is no pass '%s'", name);
        return near ? lv_error_hint(error, "did you mean '%s'?", near) : false;
    }
    return run_pass(pass, graph, options, diagnostics, error);
}

static bool emit_graph_if(const char *stage, const Graph *graph, const LvCompileOptions *options) {
    if (!stage || !options->emit || !options->emitted || strcmp(stage, options->emit) != 0) return false;
    options->emitted->length = 0;  // a pass that runs twice: the last is shown
    graph_print(graph, options->emitted);
    return true;
}

bool pipeline_run(Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, bool *stopped, LvError *error) {
    verify(graph, "elaborate");
    *stopped = emit_graph_if("graph", graph, options);
    bool shown = false;
    for (size_t i = 0; i < sizeof PIPELINE / sizeof *PIPELINE && !*stopped; i++) {
        const Step *step = &PIPELINE[i];
        if (step->when == OPTIMIZING && options->no_optimize) continue;
        if (step->when == IN_BF16 && options->precision != LV_PRECISION_BF16) continue;
        if (!run_pass(pass_find(step->pass), graph, options, diagnostics, error)) return false;
        shown |= emit_graph_if(step->pass, graph, options);
        *stopped = emit_graph_if(step->stage, graph, options);
    }
    *stopped |= shown;
    return true;
}

static bool check_limit(const LvPlan *plan, const MemoryPlan *memory, const LvCompileOptions *options, LvError *error) {
    int64_t bytes = lv_plan_bytes(plan);
    if (options->memory_limit <= 0 || bytes <= options->memory_limit) return true;
    (void)memory;
    LvText need = {0}, have = {0};
    dump_bytes(bytes, &need);
    dump_bytes(options->memory_limit, &have);
    lv_error_set(error, LV_ERROR_MEMORY, "entry '%s' at batch %lld needs at least %s (%lld bytes); the limit is %s", plan->entry,
                 (long long)plan->batch, lv_text_get(&need), (long long)bytes, lv_text_get(&have));
    lv_error_hint(error, "use a smaller batch, or allow more memory");
    lv_text_free(&need);
    lv_text_free(&have);
    return false;
}

static bool emit_schedule(const Schedule *schedule, const LvCompileOptions *options) {
    if (!options->emit || !options->emitted) return false;
    if (strcmp(options->emit, "c") == 0) {
        schedule_print_code(schedule, options->emitted);
        return true;
    }
    if (strcmp(options->emit, "loop") == 0 || strcmp(options->emit, "fused") == 0) {
        schedule_print_loops(schedule, options->emitted);
        return true;
    }
    return false;
}

bool pipeline_finish(Graph *graph, const LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics,
                     LvPlan **plan, LvError *error) {
    LvArena *arena = lv_arena_create();
    // --emit loop: one nest a node, as lowered; --emit fused: as run
    bool apart = options->no_fuse || (options->emit && strcmp(options->emit, "loop") == 0);
    Schedule *schedule = schedule_build(graph, apart, arena);
    bool done = true;
    if (!emit_schedule(schedule, options)) {
        MemoryPlan *memory = memory_plan(schedule, arena);
        const char *wrong = LV_VERIFY ? memory_check(memory, schedule, arena) : NULL;
        if (wrong) lv_internal_error("memory: %s", wrong);
        *plan = emit_plan(schedule, memory, model, options, diagnostics->sources);
        memory_plan_free(memory);
        done = check_limit(*plan, memory, options, error);
        if (!done) {
            lv_plan_destroy(*plan);
            *plan = NULL;
        }
    }
    lv_arena_destroy(arena);
    return done;
}

bool lv_model_compile(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan,
                      LvError *error) {
    LvPlan *made = NULL;
    if (plan) *plan = NULL;
    if (options->emit && !dump_is_stage(options->emit)) {
        return lv_error_set(error, LV_ERROR_USAGE, "there is no stage or pass '%s' to emit", options->emit);
    }
    Graph *graph = lv_model_elaborate(model, options->entry, options->batch, diagnostics, error);
    if (!graph) return false;
    bool stopped = false;
    bool done = pipeline_run(graph, options, diagnostics, &stopped, error);
    if (done && !stopped) done = pipeline_finish(graph, model, options, diagnostics, &made, error);
    graph_destroy(graph);
    if (!done || !made) return done;
    if (options->explain) dump_explain(made, options->explain);
    if (options->emit && options->emitted && strcmp(options->emit, "plan") == 0) dump_plan(made, options->emitted);
    if (plan) *plan = made;
    else lv_plan_destroy(made);
    return true;
}
