// The one table of passes, and how they are run.
// In debug builds (LV_VERIFY) the graph's verifier runs after every pass and the pass that broke the graph is named.
#include "driver/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "autodiff/autodiff.h"
#include "base/error.h"
#include "passes/update.h"

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
    NARROWING,   // left out in f32
    BY_BYTES,    // only where pictures come so
    ON_GPU,      // of the optimizing ones
    LAYING_OUT,  // left out by no_optimize where the library takes row-major pictures
    ALONE,       // only where no entries but those named share the variables
    IN_PARTS,    // left out by no_optimize, and where all gradients are asked for
} When;

typedef struct {
    const char *pass;
    When when;
    const char *stage;  // name of the graph after it, for --emit
} Step;

static const Step PIPELINE[] = {
    {"bytes", BY_BYTES, NULL},
    {"fold", OPTIMIZING, NULL},
    {"algebra", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"merge", OPTIMIZING, NULL},
    {"losses", OPTIMIZING, NULL},
    {"upsample", ON_GPU, NULL},
    {"autodiff", ALWAYS, "joint"},
    {"dce", ALWAYS, NULL},
    {"cse", OPTIMIZING, NULL},
    {"join_losses", OPTIMIZING, NULL},
    {"precision", NARROWING, NULL},
    {"alone", ALONE, NULL},
    {"decompose", ALWAYS, NULL},
    {"fold", OPTIMIZING, NULL},
    {"algebra", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"fold", OPTIMIZING, NULL},
    {"algebra", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"flat", OPTIMIZING, NULL},
    {"cse", OPTIMIZING, NULL},
    {"epilogue", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"algebra", ON_GPU, NULL},
    {"layout", LAYING_OUT, NULL},
    {"cse", OPTIMIZING, NULL},
    {"dce", ALWAYS, NULL},
    {"views", ON_GPU, NULL},
    {"bias_sums", ON_GPU, NULL},
    {"remat_free", ON_GPU, NULL},
    {"remat", ALWAYS, NULL},
    {"moments", ON_GPU, NULL},
    {"sums", ON_GPU, NULL},
    {"order", OPTIMIZING, NULL},
    {"parts", IN_PARTS, NULL},
};

// ---- running

static void verify(const Graph *graph, const char *pass) {
    if (!LV_VERIFY) return;
    LvArena *arena = lv_arena_create();
    const char *wrong = graph_verify(graph, arena);
    if (wrong) lv_internal_error("%s: left a graph that is not valid: %s", pass, wrong);
    lv_arena_destroy(arena);
}

Target pipeline_target(const LvCompileOptions *options) {
    Target target;
    LvError error = {0};
    if (!target_parse(options->device, &target, &error)) lv_internal_error("pipeline: a device that was not checked");
    target.tf32 = target.cuda && options->tf32;
    return target;
}

static bool run_pass(const Pass *pass, Graph *graph, const LvCompileOptions *options, double remat, LvDiagnostics *diagnostics,
                     LvError *error) {
    Target target = pipeline_target(options);
    PassContext context = {.precision = options->precision, .target = &target, .ranks = options->ranks > 1 ? options->ranks : 1, .remat = remat, .diagnostics = diagnostics, .error = error, .arena = lv_arena_create()};
    bool done = pass->run(graph, &context);
    lv_arena_destroy(context.arena);
    if (done) verify(graph, pass->name);
    return done;
}

static bool run_named(const char *name, Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics,
                      LvError *error) {
    const Pass *pass = pass_find(name);
    if (!pass) {
        const char *names[sizeof PASSES / sizeof *PASSES];
        for (size_t i = 0; i < sizeof PASSES / sizeof *PASSES; i++) names[i] = PASSES[i].name;
        const char *near = lv_nearest_name(name, names, sizeof PASSES / sizeof *PASSES);
        lv_error_set(error, LV_ERROR_USAGE, "there is no pass '%s'", name);
        return near ? lv_error_hint(error, "did you mean '%s'?", near) : false;
    }
    return run_pass(pass, graph, options, 1, diagnostics, error);
}

bool lv_pass_run(const char *names, Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvError *error) {
    char *list = lv_strdup(names), *rest = list, *name;
    bool done = true;
    while (done && (name = strsep(&rest, ",")) != NULL) done = run_named(name, graph, options, diagnostics, error);
    free(list);
    return done;
}

static bool emit_graph_if(const char *stage, const Graph *graph, const LvCompileOptions *options) {
    if (!stage || !options->emit || !options->emitted || strcmp(stage, options->emit) != 0) return false;
    options->emitted->length = 0;  // a pass that runs twice: the last is shown
    graph_print(graph, options->emitted);
    return true;
}

static bool is_skipped(const Step *step, const LvCompileOptions *options) {
    bool cuda = pipeline_target(options).cuda;
    switch (step->when) {
        case ALWAYS: return false;
        case OPTIMIZING: return options->no_optimize;
        case LAYING_OUT: return options->no_optimize && !cuda;
        case ON_GPU: return options->no_optimize || !cuda;
        case IN_PARTS: return options->no_optimize || options->gradients;
        case ALONE: return !options->alone;
        case NARROWING: return options->precision == LV_PRECISION_F32;
        case BY_BYTES: return !options->bytes;
    }
    return false;
}

static void extend(Graph *graph, const LvCompileOptions *options) {
    verify(graph, "elaborate");
    UpdateOptions update = {.ranks = options->ranks, .accumulate = options->accumulate, .clip = options->clip};
    update.scale = options->precision == LV_PRECISION_F16;
    update_extend(graph, &update);
    verify(graph, "update");
}

bool pipeline_run_reads(Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvError *error) {
    extend(graph, options);
    for (const Step *step = PIPELINE; step->when != ALONE; step++) {
        if (!is_skipped(step, options) && !run_pass(pass_find(step->pass), graph, options, 0, diagnostics, error)) return false;
    }
    return true;
}

bool pipeline_run(Graph *graph, const LvCompileOptions *options, double remat, LvDiagnostics *diagnostics, bool *stopped,
                  LvError *error) {
    extend(graph, options);
    *stopped = emit_graph_if("graph", graph, options);
    bool shown = false;
    for (size_t i = 0; i < sizeof PIPELINE / sizeof *PIPELINE && !*stopped; i++) {
        const Step *step = &PIPELINE[i];
        if (!is_skipped(step, options) && !run_pass(pass_find(step->pass), graph, options, remat, diagnostics, error)) return false;
        shown |= emit_graph_if(step->pass, graph, options);
        *stopped = emit_graph_if(step->stage, graph, options);
    }
    *stopped |= shown;
    return true;
}
