// Accumulation and clipping of gradients: see update.c.
#ifndef LV_PASSES_UPDATE_H
#define LV_PASSES_UPDATE_H

#include "graph/graph.h"

// A graph that does not train is left as it is.
void update_extend(Graph *graph, int64_t accumulate, bool clip);

#endif
