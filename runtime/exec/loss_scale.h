// The loss's scale of a model that trains in f16, between a store and the host: what it is, base/plan.h; how it changes on the
// device, compiler/passes/update.c.
#ifndef LV_EXEC_LOSS_SCALE_H
#define LV_EXEC_LOSS_SCALE_H

#include "exec/program.h"

typedef struct {
    double scale;           // of the next step; 0: not begun
    int64_t good, skipped;  // steps in a row that were good, steps that were skipped in all
} LvLossScaling;

// Whether the store was made for a plan that scales its loss. Reading and writing do nothing where it was not.
bool lv_loss_scaled(const LvStore *store);
bool lv_loss_scale_read(const LvStore *store, LvLossScaling *scaling, LvError *error);
bool lv_loss_scale_write(LvStore *store, const LvLossScaling *scaling, LvError *error);

#endif
