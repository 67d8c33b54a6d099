// From a checked model to the graph of one entry.
#ifndef LV_SEMA_SEMA_H
#define LV_SEMA_SEMA_H

#include "driver/compiler.h"
#include "graph/graph.h"

// The graph of an entry ("init": every variable's initial value), its free first dimension bound to `batch`. NULL: error is
// set, and the program's own faults are in the diagnostics. The caller destroys the graph.
Graph *lv_model_elaborate(LvModel *model, const char *entry, int64_t batch, LvDiagnostics *diagnostics, LvError *error);

#endif
