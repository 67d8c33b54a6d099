// Entries of a network: see network.h.
#include "generate/network.h"

#include <string.h>

bool lv_entry_open(LvEntryProgram *entry, const LvNetwork *network, const char *name, int64_t batch, LvError *error) {
    *entry = (LvEntryProgram){0};
    if (!network->plans.plan(network->plans.user, name, batch, &entry->plan, error)) return false;
    if (!entry->plan) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "the model has no entry '%s'", name);
    return lv_program_create(network->device, entry->plan, network->store, &entry->program, error);
}

void lv_entry_close(LvEntryProgram *entry) {
    lv_program_destroy(entry->program);
    lv_plan_destroy(entry->plan);
    *entry = (LvEntryProgram){0};
}

int64_t lv_entry_row(const LvEntryProgram *entry, const char *name, LvDType dtype, bool result, LvError *error) {
    const LvPlan *plan = entry->plan;
    const LvPort *ports = result ? plan->results : plan->inputs;
    int count = result ? plan->result_count : plan->input_count;
    for (int i = 0; i < count; i++) {
        LvShape s = ports[i].shape;
        bool fits = ports[i].dtype == dtype && s.rank == 2 && s.dim[0] == plan->batch;
        if (fits && !strcmp(ports[i].name, name)) return s.dim[1];
    }
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' has no %s '%s' that is %s[B, n]", plan->entry,
                 result ? "result" : "input", name, lv_dtype_name(dtype));
    return 0;
}
