// Reverse-mode differentiation on the graph.
#ifndef LV_AUTODIFF_H
#define LV_AUTODIFF_H

#include "graph/graph.h"

// Replaces every `gradient(loss, wrt)` node by the graph that computes it: one reverse walk per distinct loss, each node's
// gradient rule from the op table, contributions summed in a fixed order. A wrt the loss does not reach gets zeros.
// False: some op on the way has no gradient; reported at its span.
bool autodiff_run(Graph *graph, LvDiagnostics *diagnostics);

#endif
