// lv_model_compile: elaborate, run the passes (pipeline.c), schedule, plan memory and emit (finish.c).
#include <string.h>

#include "driver/pipeline.h"
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
    if (done && !stopped) done = pipeline_finish(graph, options, diagnostics, &made, error);
    graph_destroy(graph);
    if (!done || !made) return done;
    describe_model(made, model);
    if (options->explain) dump_explain(made, options->explain);
    if (options->emit && options->emitted && strcmp(options->emit, "plan") == 0) dump_plan(made, options->emitted);
    if (plan) *plan = made;
    else lv_plan_destroy(made);
    return true;
}
