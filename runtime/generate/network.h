// A network made ready on a device, as this folder takes it: its variables, and plans of its entries at any batch.
#ifndef LV_GENERATE_NETWORK_H
#define LV_GENERATE_NETWORK_H

#include "exec/program.h"

typedef struct {
    LvDevice *device;
    LvStore *store;      // with the weights in it
    LvPlanSource plans;
} LvNetwork;

// One entry at one batch.
typedef struct {
    LvPlan *plan;
    LvProgram *program;
} LvEntryProgram;

// False, and an error that says so, where the network has no such entry.
bool lv_entry_open(LvEntryProgram *entry, const LvNetwork *network, const char *name, int64_t batch, LvError *error);
void lv_entry_close(LvEntryProgram *entry);
// An input or result that is [B, n] of `dtype`: n. 0, and an error, where there is none of that kind.
int64_t lv_entry_row(const LvEntryProgram *entry, const char *name, LvDType dtype, bool result, LvError *error);

#endif
