// Graphs through a backend, the whole way: passes, schedule, plan, the device's compiler, the runtime.
#ifndef LV_TESTS_OPS_BACKEND_H
#define LV_TESTS_OPS_BACKEND_H

#include "cases.h"
#include "exec/program.h"

// Part of a graph: its ports' names begin with `prefix`, without which they are in the sets.
typedef struct {
    const char *prefix;
    const TensorSet *inputs;
    TensorSet *results;  // in the arena
} BackendPart;

// Plans are for `target`, "cpu" or "cuda:sm_80", which the device runs. The graph is used up but not freed. `no_fuse`: a kernel a node.
LvPlan *backend_plan(Graph *graph, const char *target, bool no_fuse, LvError *error);  // NULL: there is none
bool backend_run(LvDevice *device, const char *target, Graph *graph, bool no_fuse, const BackendPart *parts, int count, LvArena *arena,
                 LvError *error);
// The same of a plan that there is, `runs` times, of which the third is a captured one again; `look` sees the program then.
typedef void BackendLook(void *user, const LvPlan *plan, LvProgram *program);
bool backend_run_plan(LvDevice *device, const LvPlan *plan, const BackendPart *parts, int count, int runs, BackendLook *look, void *user,
                      LvArena *arena, LvError *error);

// Results may be off from the true values by what their type allows, with room for the random test values' cancellations.
// "softmax {axis = 1} ...: y0 fused is off by 0.1" of the first result that is, in `message`; false if one is. `how` is "fused".
bool backend_compare(const OpCase *c, const TensorSet *inputs, const TensorSet *want, const TensorSet *got, const char *how, LvText *message);
// Whether the case's gradient is checked too.
bool backend_has_gradient(const OpCase *c);

#endif
