// Sums over ranks that are done beside the steps after them: which step has to wait for which.
#ifndef LV_EXEC_SUMS_H
#define LV_EXEC_SUMS_H

#include "base/plan.h"

// [step_count]: the step whose sum, with all before it, has to be done before anything after this step; -1: none. That is before the
// first step that touches bytes of what is summed, and at the end of the preparation and of the plan. To be freed.
int *sums_waits(const LvPlan *plan);

#endif
