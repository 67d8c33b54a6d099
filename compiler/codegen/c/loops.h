// Shared by the files that print nests as C: stores and loops.
#ifndef LV_CODEGEN_C_LOOPS_H
#define LV_CODEGEN_C_LOOPS_H

#include "codegen/printer.h"

enum {
    PARALLEL_COST = 40000,    // additions below which threads cost more than they save
    PARALLEL_ITEMS = 64,      // pieces of work wanted: enough for many threads, few enough to be large
    CHUNK_ROWS = 16,          // rows of a chunk, where each row's elements have accumulators of their own
    SIMD_EXTENT = 8,
    MAX_PARTIALS = 32768,     // elements of partial results in the frame
};

void printer_store(Printer *p, const Output *output, const char *value);
void printer_stores(Printer *p);  // of all outputs that are no reductions
void printer_open_loop(Printer *p, int place);
// One loop over the axes before `count` taken together, `extra` more iterations for each point; opens a scope.
void printer_open_flat(Printer *p, int count, int64_t extra, bool parallel);
void printer_reduction(Printer *p);  // print_reduction.c: a whole nest with reductions

#endif
