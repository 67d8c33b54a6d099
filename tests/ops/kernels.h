// Running schedules in tests: kernels of many schedules compiled by cc into one library, units run one after the other over
// separate buffers. Library calls are made by the reference evaluation of their node.
#ifndef LV_TESTS_OPS_KERNELS_H
#define LV_TESTS_OPS_KERNELS_H

#include "base/map.h"
#include "cases.h"
#include "schedule/unit.h"

typedef struct {
    LvMap texts;      // name -> text
    const char *prelude;
    void *library;
    char path[64];
} KernelSet;

void kernels_add(KernelSet *set, const Schedule *schedule);
void kernels_compile(KernelSet *set, const char *flags);  // aborts where cc refuses: the text is then kept and named
void kernels_threads(const KernelSet *set, int threads);  // of the runs that follow
void kernels_free(KernelSet *set);
// `results` by name, in the arena.
void schedule_run(const KernelSet *set, const Schedule *schedule, const TensorSet *inputs, TensorSet *results, LvArena *arena);

#endif
