// lv_model_compile: elaborate, run the passes (pipeline.c), schedule, plan memory and emit (finish.c).
#include <string.h>

#include "driver/pipeline.h"
#include "passes/pass.h"
#include "sema/sema.h"

static char *keep(LvPlan *plan, const char *text) { return lv_arena_strdup(plan->arena, text ? text : ""); }

// What an artifact needs to specialise again: the resolved settings and every source.
static void describe_model(LvPlan *plan, const LvModel *model) {
    int count;
    plan->model = keep(plan, lv_model_name(model));
    plan->config = keep(plan, lv_model_config(model));
    const LvModelParameter *parameters = lv_model_parameters(model, &count);
    plan->settings = LV_NEW_ARRAY(plan->arena, LvPlanSetting, count + 1);
    for (int i = 0; i < count; i++) {
        plan->settings[plan->setting_count++] = (LvPlanSetting){keep(plan, parameters[i].name), keep(plan, parameters[i].value)};
    }
    const LvBundledSource *sources = lv_model_sources(model, &count);
    plan->sources = LV_NEW_ARRAY(plan->arena, LvBundledSource, count + 1);
    for (int i = 0; i < count; i++) {
        plan->sources[plan->source_count++] = (LvBundledSource){keep(plan, sources[i].path), keep(plan, sources[i].text)};
    }
}

// What another entry's graph says of the variables goes to `take`; nothing where it does not elaborate: such a one never runs. `deep`: after
// the passes that decide how variables are read.
typedef void TakeGraph(Graph *graph, const Graph *other, const LvCompileOptions *options);

static void take_other(LvModel *model, const char *entry, const LvCompileOptions *options, bool deep, Graph *graph, const LvDiagnostics *loud,
                       TakeGraph *take) {
    LvDiagnostics quiet;
    LvError error = {0};
    lv_diagnostics_init(&quiet, loud->sources);
    Graph *other = lv_model_elaborate(model, entry, options->batch, &quiet, &error);
    if (other && (!deep || pipeline_run_reads(other, options, &quiet, &error))) take(graph, other, options);
    if (other) graph_destroy(other);
    lv_error_clear(&error);
    lv_diagnostics_free(&quiet);
}

static bool lists_alike(const Graph *graph, const Graph *other, size_t v) {
    return v < other->variables.count && strcmp(other->variables.data[v].name, graph->variables.data[v].name) == 0;
}

static void take_operands(Graph *graph, const Graph *other, const LvCompileOptions *options) {
    (void)options;
    LvArena *arena = lv_arena_create();
    const bool *found = operands_find(other, arena);
    for (size_t v = 0; v < graph->variables.count; v++) {
        if (!lists_alike(graph, other, v) || !found[v]) graph->variables.data[v].operands = false;
    }
    lv_arena_destroy(arena);
}

// Marks the caches that every entry reads as operands alone.
static void mark_operands(LvModel *model, const LvCompileOptions *options, Graph *graph, const LvDiagnostics *loud) {
    int count;
    const LvModelEntry *entries = lv_model_entries(model, &count);
    for (size_t v = 0; v < graph->variables.count; v++) graph->variables.data[v].operands = true;
    take_operands(graph, graph, options);
    for (int i = 0; i < count; i++) take_other(model, entries[i].name, options, false, graph, loud, take_operands);
}

// Where a processor has no narrow products, which ones are made so nevertheless depends on their rows, in which the entries' batches
// may differ: all is kept wide there.
static void take_reads(Graph *graph, const Graph *other, const LvCompileOptions *options) {
    LvArena *arena = lv_arena_create();
    Target target = pipeline_target(options);
    const unsigned char *reads = alone_find_reads(other, lv_precision_dtype(options->precision), &target, arena);
    bool wide = !target.cuda && !processor_has_bf16();
    for (size_t v = 0; v < graph->variables.count; v++) {
        if (lists_alike(graph, other, v)) graph->variables.data[v].reads_beside |= reads[v] && wide ? VARIABLE_READ_WIDE : reads[v];
    }
    lv_arena_destroy(arena);
}

static void mark_reads(LvModel *model, const LvCompileOptions *options, Graph *graph, const LvDiagnostics *loud) {
    for (const char *const *entry = options->beside; entry && *entry; entry++) take_other(model, *entry, options, true, graph, loud, take_reads);
}

// One compilation with a given share of recomputation. *plan stays NULL where the wanted stage came before it.
static bool compile_once(LvModel *model, const LvCompileOptions *options, double remat, LvDiagnostics *diagnostics, LvPlan **plan,
                         LvError *error) {
    *plan = NULL;
    Graph *graph = lv_model_elaborate(model, options->entry, options->batch, diagnostics, error);
    if (!graph) return false;
    if (options->precision != LV_PRECISION_F32 && graph_uses_caches(graph)) mark_operands(model, options, graph, diagnostics);
    if (options->alone) mark_reads(model, options, graph, diagnostics);
    bool stopped = false, done = pipeline_run(graph, options, remat, diagnostics, &stopped, error);
    if (done && !stopped) pipeline_finish(graph, options, diagnostics, plan);
    graph_destroy(graph);
    return done;
}

static bool refuse_limit(const LvCompileOptions *options, int64_t least, LvError *error) {
    LvText need = {0}, have = {0};
    dump_bytes(least, &need);
    dump_bytes(options->memory_limit, &have);
    lv_error_set(error, LV_ERROR_MEMORY, "entry '%s' at batch %lld needs at least %s (%lld bytes); the limit is %s",
                 options->entry, (long long)options->batch, lv_text_get(&need), (long long)least, lv_text_get(&have));
    lv_error_hint(error, "use a smaller batch, or allow more memory");
    lv_text_free(&need);
    lv_text_free(&have);
    return false;
}

// What a plan's steps take at the least, in the time of one operation, on a machine that does as many while it moves a byte:
// processors and GPUs lie between 10 and 100.
static double plan_cost(const LvPlan *plan) {
    static const double OPERATIONS_A_BYTE = 15;
    double cost = 0;
    for (int i = 0; i < plan->step_count; i++) {
        double flops = (double)plan->steps[i].flops, moved = OPERATIONS_A_BYTE * (double)plan->steps[i].bytes;
        cost += flops > moved ? flops : moved;
    }
    return cost;
}

// What a plan saves of another's memory, and how much longer it takes: shares of that one's.
static double saved_by(const LvPlan *plan, const LvPlan *of) { return 1 - (double)lv_plan_bytes(plan) / (double)lv_plan_bytes(of); }
static double longer_by(const LvPlan *plan, const LvPlan *of) { return plan_cost(plan) / plan_cost(of) - 1; }

// Recomputing all that is cheap is taken where it saves a tenth of the memory for a thirtieth of the time, or a twentieth for a 200th.
static bool saves_enough(const LvPlan *plan, const LvPlan *of) {
    double saved = saved_by(plan, of), longer = longer_by(plan, of);
    return (saved >= 0.1 && longer <= 0.033) || (saved >= 0.05 && longer <= 0.005);
}

static bool saves_more_than_it_takes(const LvPlan *plan, const LvPlan *of) { return saved_by(plan, of) > longer_by(plan, of); }

// Takes the plan that recomputes `share` in place of *plan if `better` says so.
static bool try_share(LvModel *model, const LvCompileOptions *options, double tried, bool (*better)(const LvPlan *, const LvPlan *),
                      LvDiagnostics *diagnostics, LvPlan **plan, double *share, LvError *error) {
    LvPlan *other = NULL;
    if (!compile_once(model, options, tried, diagnostics, &other, error)) return false;
    bool taken = better(other, *plan);
    lv_plan_destroy(taken ? *plan : other);
    if (taken) *plan = other, *share = tried;
    return true;
}

// Without a limit, on a processor. Contractions too where a step takes more than SMALL: those that save a larger share of the memory
// than they take of the work, by nearly a half, and no more than 3% of that. Below, every processor has the memory, and time is what a user
// waits for. A GPU has memory of its own, which nobody else asks for, and bytes moved are its time: there pass remat_free has made again
// what moves none more, and nothing else is.
static bool recompute_if_cheap(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan,
                               double *share, LvError *error) {
    static const int64_t SMALL = (int64_t)2 << 30;
    static const double CONTRACTIONS = 1.41;  // see passes/remat.c
    if (!*plan || !(*plan)->writes_variables || options->no_optimize || pipeline_target(options).cuda) return true;
    if (!try_share(model, options, 1, saves_enough, diagnostics, plan, share, error)) return false;
    if (*share < 1 || lv_plan_bytes(*plan) < SMALL) return true;
    return try_share(model, options, CONTRACTIONS, saves_more_than_it_takes, diagnostics, plan, share, error);
}

int64_t lv_model_limited_bytes(const LvCompileOptions *options, const LvPlan *plan) {
    return lv_plan_bytes(plan) + (options->workspace ? options->workspace(options->workspace_user, plan) : 0);
}

// Shares of what may be recomputed: of what is cheap, beyond 1 of contractions too, by small steps where a step saves or takes much.
static const double SHARES[] = {0, 0.125, 0.25, 0.5, 0.75, 1, 1.125, 1.25, 1.4, 1.5, 1.55, 1.6, 1.7, 1.75, 1.85, 2};
enum { LAST_SHARE = sizeof SHARES / sizeof *SHARES - 1 };

// The plan of a share takes the place of *plan where it is within the limit. *least: bytes of the smallest plan so far.
static bool try_within(LvModel *model, const LvCompileOptions *options, int share, LvDiagnostics *diagnostics, LvPlan **plan,
                       bool *within, int64_t *least, LvError *error) {
    LvPlan *other = NULL;
    if (!compile_once(model, options, SHARES[share], diagnostics, &other, error)) return false;
    int64_t bytes = lv_model_limited_bytes(options, other);
    *within = bytes <= options->memory_limit;
    if (bytes < *least) *least = bytes;
    lv_plan_destroy(*within ? *plan : other);
    if (*within) *plan = other;
    return true;
}

// The smallest share whose plan is within the limit, by halves: more recomputed hardly ever takes more memory. Where the last is not
// within, each of the others has its turn. *plan: NULL where none is.
static bool find_within(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan, double *share,
                        int64_t *least, LvError *error) {
    int over = 0, last = LAST_SHARE;
    bool within;
    if (!try_within(model, options, last, diagnostics, plan, &within, least, error)) return false;
    while (!within && --last > 0) {
        if (!try_within(model, options, last, diagnostics, plan, &within, least, error)) return false;
        over = last - 1;
    }
    while (*plan && last - over > 1) {
        int half = over + (last - over) / 2;
        if (!try_within(model, options, half, diagnostics, plan, &within, least, error)) return false;
        if (within) last = half;
        else over = half;
    }
    *share = SHARES[last];
    return true;
}

// Recomputes no more than the limit asks for: each share costs passes over memory. *share: that of the plan.
static bool compile_within(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan,
                           double *share, LvError *error) {
    *share = SHARES[0];
    if (!compile_once(model, options, *share, diagnostics, plan, error)) return false;
    if (!*plan) return true;
    if (options->memory_limit <= 0) return recompute_if_cheap(model, options, diagnostics, plan, share, error);
    int64_t least = lv_model_limited_bytes(options, *plan);
    if (least <= options->memory_limit) return true;
    lv_plan_destroy(*plan);
    *plan = NULL;
    if (!find_within(model, options, diagnostics, plan, share, &least, error)) return false;
    return *plan || refuse_limit(options, least, error);
}

// Whether a stage shows what is recomputed. Its share is found first, by plans, so that what is shown is what runs.
static bool follows_remat(const char *stage) {
    static const char *const LATE[] = {"remat", "order", "parts", "fused", "loop", "c", "cuda", "memory"};
    for (size_t i = 0; stage && i < sizeof LATE / sizeof *LATE; i++) {
        if (strcmp(stage, LATE[i]) == 0) return true;
    }
    return false;
}

static bool emit_late(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvError *error) {
    LvCompileOptions choosing = *options;
    LvPlan *plan = NULL;
    double share = 0;
    choosing.emit = NULL;
    if (!compile_within(model, &choosing, diagnostics, &plan, &share, error)) return false;
    lv_plan_destroy(plan);
    return compile_once(model, options, share, diagnostics, &plan, error);
}

bool lv_model_compile(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan,
                      LvError *error) {
    LvPlan *made = NULL;
    if (plan) *plan = NULL;
    if (options->emit && !dump_is_stage(options->emit)) {
        lv_error_set(error, LV_ERROR_USAGE, "there is no stage or pass '%s' to emit", options->emit);
        return dump_hint_stages(options->emit, error);
    }
    Target target;
    if (!target_parse(options->device, &target, error) || !lv_precision_check(options->precision, options->device, error)) return false;
    if (options->emit && strcmp(options->emit, target.cuda ? "c" : "cuda") == 0) {
        lv_error_set(error, LV_ERROR_USAGE, "kernels for %s are %s", target.cuda ? "GPUs" : "the CPU", target.cuda ? "CUDA C" : "C");
        return lv_error_hint(error, "--emit %s", target.cuda ? "cuda" : "c");
    }
    if (follows_remat(options->emit)) return emit_late(model, options, diagnostics, error);
    double share = 0;
    if (!compile_within(model, options, diagnostics, &made, &share, error)) return false;
    if (!made) return true;
    describe_model(made, model);
    if (options->explain) dump_explain(made, options->explain);
    if (options->emit && options->emitted && strcmp(options->emit, "plan") == 0) dump_plan(made, options->emitted);
    if (plan) *plan = made;
    else lv_plan_destroy(made);
    return true;
}
