// The single-op cases of tests/golden/ops (made with PyTorch) as graphs: inputs, results, gradients, and what must come out.
#ifndef LV_TESTS_OPS_GOLDEN_H
#define LV_TESTS_OPS_GOLDEN_H

#include "cases.h"

typedef struct {
    const char *name;
    Graph *graph;        // results named as in `want`; gradients are "grad_INPUT"
    TensorSet inputs, want;
} GoldenCase;

typedef struct {
    int count;
    GoldenCase *cases;
} GoldenCases;

GoldenCases golden_load(LvArena *arena);  // aborts with a line on stderr if the files are not what they should be
void golden_free(GoldenCases *cases);     // the graphs; the rest is the arena's

#endif
