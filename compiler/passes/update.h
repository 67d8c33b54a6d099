// Several ranks, accumulation, clipping and scaling of gradients: see update.c.
#ifndef LV_PASSES_UPDATE_H
#define LV_PASSES_UPDATE_H

#include "graph/graph.h"

typedef struct {
    int64_t ranks;       // processes whose gradients one update is the mean of; 0 and 1: there is one
    int64_t accumulate;  // runs that one update sums up; 0 and 1: every run updates
    bool clip;           // the gradient's norm is bounded by the input $clip
    bool scale;          // the loss is scaled, and steps whose gradients are not finite are skipped
} UpdateOptions;

// A graph that does not train is left as it is, but for the number of its rank where there is one.
void update_extend(Graph *graph, const UpdateOptions *options);

#endif
