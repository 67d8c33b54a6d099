// Placeholder of the pass "precision": leaves the graph as it is.
#include "passes/pass.h"

bool pass_precision(Graph *graph, PassContext *context) {
    (void)graph;
    (void)context;
    return true;
}
