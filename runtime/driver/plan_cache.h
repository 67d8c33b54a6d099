// Plans of models compiled before, in the user's cache. What decides a plan is its key: the compiler (this program's build id),
// the sources, the settings and the options. A limit of memory is among them; what a device's library takes of it is not.
#ifndef LV_DRIVER_PLAN_CACHE_H
#define LV_DRIVER_PLAN_CACHE_H

#include "../../compiler/driver/compiler.h"

typedef struct {
    char key[33];
    char *path;  // NULL: this plan is not kept
} PlanCache;

// Where the plan of these options would be; nowhere if there is no cache, or more is wanted than the plan.
PlanCache plan_cache_open(const LvModel *model, const LvCompileOptions *options);
void plan_cache_close(PlanCache *cache);
// False, and *plan is NULL, too if the plan with what the library takes now is above the limit: it is made anew then.
bool plan_cache_find(const PlanCache *cache, const LvCompileOptions *options, LvPlan **plan);
void plan_cache_keep(const PlanCache *cache, const LvPlan *plan);

#endif
