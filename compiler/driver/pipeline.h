// Inside of the driver: the order of passes, from a graph to units to a plan.
#ifndef LV_DRIVER_PIPELINE_H
#define LV_DRIVER_PIPELINE_H

#include "driver/compiler.h"
#include "driver/target.h"
#include "graph/graph.h"
#include "memory/memory.h"
#include "passes/pass.h"
#include "schedule/unit.h"

// Runs passes by name, "fold,algebra,dce" (`lvc --pass NAMES in.lvg`, tests/ir), in debug builds the verifier after each.
bool lv_pass_run(const char *names, Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvError *error);

// All passes from an elaborated graph up to the schedule. Stops after the stage `options->emit` and sets *stopped.
// `remat`: how much is recomputed rather than kept for the backward pass, 0 to 2: passes/pass.h.
bool pipeline_run(Graph *graph, const LvCompileOptions *options, double remat, LvDiagnostics *diagnostics, bool *stopped,
                  LvError *error);

// The passes before `alone`: how the entry will read its variables.
bool pipeline_run_reads(Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvError *error);

Target pipeline_target(const LvCompileOptions *options);  // of a device that target_parse knows

// Schedules, plans memory and emits, whatever the memory limit. *plan stays NULL where `options->emit` is a stage before the plan.
void pipeline_finish(Graph *graph, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan);

// emit_plan.c: units and places -> plan; compile.c adds what is known of the model.
LvPlan *emit_plan(const Schedule *schedule, const MemoryPlan *memory, const LvCompileOptions *options, const LvSources *sources);

// dump.c
bool dump_is_stage(const char *stage);
bool dump_hint_stages(const char *wrong, LvError *error);  // what could have been meant; false
void dump_plan(const LvPlan *plan, LvText *out);
void dump_explain(const LvPlan *plan, LvText *out);
void dump_bytes(int64_t bytes, LvText *out);  // "1.5 MiB"

#endif
