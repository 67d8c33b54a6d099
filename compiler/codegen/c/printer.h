// Shared by the files that print nests as C: the printer's state, indices, instructions, loops.
#ifndef LV_CODEGEN_C_PRINTER_H
#define LV_CODEGEN_C_PRINTER_H

#include "codegen/c/print.h"

enum {
    PARALLEL_COST = 40000,    // additions below which threads cost more than they save
    PARALLEL_ITEMS = 64,      // pieces of work wanted: enough for many threads, few enough to be large
    SIMD_EXTENT = 8,
    MAX_PARTIALS = 32768,     // elements of partial results in the frame
};

typedef struct {
    const Kernel *kernel;
    const Nest *nest;
    LvText *out;
    ScalarList *scalars;
    int indent;
    bool parallel;        // the nest may open a parallel region
    int base;             // so many outermost axes are open already
    bool *live, *needed_vars;
    int *name;            // by instruction: its number in the text
} Printer;

void printer_line(Printer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void printer_affine(const Printer *p, const Affine *a, LvText *out);
int64_t printer_axis_extent(const Nest *nest, int place);
// Derived indices and instructions that become known when `depth` axes are open.
void printer_depth(Printer *p, int depth);
void printer_depths(Printer *p, int from, int to);
void printer_store(Printer *p, const Output *output, const char *value);
void printer_stores(Printer *p);  // of all outputs that are no reductions
void printer_open_loop(Printer *p, int place);
void printer_close_loops(Printer *p, int count);
// One loop over the axes before `count` taken together, `extra` more iterations for each point; opens a scope.
void printer_open_flat(Printer *p, int count, int64_t extra, bool parallel);
void printer_reduction(Printer *p);  // print_reduction.c: a whole nest with reductions

#endif
