// From the final graph to the plan: schedule, memory, emission.
#include <string.h>

#include "base/error.h"
#include "driver/pipeline.h"

#ifndef LV_VERIFY
#define LV_VERIFY 0
#endif

static bool emit_schedule(const Schedule *schedule, const LvCompileOptions *options) {
    if (!options->emit || !options->emitted) return false;
    if (strcmp(options->emit, "c") == 0 || strcmp(options->emit, "cuda") == 0) {
        schedule_print_code(schedule, options->emitted);
        return true;
    }
    if (strcmp(options->emit, "loop") == 0 || strcmp(options->emit, "fused") == 0) {
        schedule_print_loops(schedule, options->emitted);
        return true;
    }
    return false;
}

void pipeline_finish(Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan) {
    LvArena *arena = lv_arena_create();
    // --emit loop: one nest a node, as lowered; --emit fused: as run
    bool apart = options->no_fuse || (options->emit && strcmp(options->emit, "loop") == 0);
    Target target = pipeline_target(options);
    Schedule *schedule = schedule_build(graph, &target, apart, arena);
    *plan = NULL;
    if (!emit_schedule(schedule, options)) {
        MemoryPlan *memory = memory_plan(schedule, arena);
        const char *wrong = LV_VERIFY ? memory_check(memory, schedule, arena) : NULL;
        if (wrong) lv_internal_error("memory: %s", wrong);
        if (options->emit && options->emitted && strcmp(options->emit, "memory") == 0) memory_print(memory, schedule, options->emitted);
        else *plan = emit_plan(schedule, memory, options, diagnostics->sources);
        memory_plan_free(memory);
    }
    lv_arena_destroy(arena);
}
