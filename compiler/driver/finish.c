// From the final graph to the plan: schedule, memory, emission; and the memory limit.
#include <string.h>

#include "base/error.h"
#include "driver/pipeline.h"

#ifndef LV_VERIFY
#define LV_VERIFY 0
#endif

static bool check_limit(const LvPlan *plan, const LvCompileOptions *options, LvError *error) {
    int64_t bytes = lv_plan_bytes(plan);
    if (options->memory_limit <= 0 || bytes <= options->memory_limit) return true;
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

bool pipeline_finish(Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan, LvError *error) {
    LvArena *arena = lv_arena_create();
    // --emit loop: one nest a node, as lowered; --emit fused: as run
    bool apart = options->no_fuse || (options->emit && strcmp(options->emit, "loop") == 0);
    Schedule *schedule = schedule_build(graph, apart, arena);
    bool done = true;
    *plan = NULL;
    if (!emit_schedule(schedule, options)) {
        MemoryPlan *memory = memory_plan(schedule, arena);
        const char *wrong = LV_VERIFY ? memory_check(memory, schedule, arena) : NULL;
        if (wrong) lv_internal_error("memory: %s", wrong);
        *plan = emit_plan(schedule, memory, options, diagnostics->sources);
        memory_plan_free(memory);
        done = check_limit(*plan, options, error);
        if (!done) {
            lv_plan_destroy(*plan);
            *plan = NULL;
        }
    }
    lv_arena_destroy(arena);
    return done;
}
