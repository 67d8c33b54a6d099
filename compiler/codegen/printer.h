// What the printers of loop IR share, for C and for CUDA C: indices, instructions, what of a nest is used.
//
// Names in the text: iN the axis at place N, qN a derived index, vN an instruction's value, bN a buffer. Where a printer lets one
// thread walk several elements of the innermost axis (`lanes`), the axis is (iN+l) and what depends on it is vN[l], for l from 0.
#ifndef LV_CODEGEN_PRINTER_H
#define LV_CODEGEN_PRINTER_H

#include "base/plan.h"
#include "schedule/loop.h"

typedef LV_VEC(LvScalar) ScalarList;

typedef struct Printer Printer;
struct Printer {
    const Kernel *kernel;
    const Nest *nest;
    LvText *out;
    ScalarList *scalars;
    int indent;
    bool parallel;        // C: the nest may open a parallel region
    int base;             // so many outermost axes are open already
    int lanes;            // elements of the innermost axis at a time, 0 and 1: one
    bool cuda;
    bool *live, *needed_vars;
    int *name;            // by instruction: its number in the text
    // Prints a load of all lanes at once; false, and nothing is printed, where it cannot be one. NULL: never.
    bool (*put_vector_load)(Printer *p, const Instr *instr, int name);
};

void printer_line(Printer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void printer_affine(const Printer *p, const Affine *a, LvText *out);
int64_t printer_axis_extent(const Nest *nest, int place);
// Begins a nest: finds what is used of it. printer_leave frees that.
void printer_enter(Printer *p, const Nest *nest);
void printer_leave(Printer *p);
bool printer_reduces(const Nest *nest);
// Derived indices and instructions that become known when `depth` axes are open.
void printer_depth(Printer *p, int depth);
void printer_depths(Printer *p, int from, int to);
// "v3", or "v3[l]" where there is one for each lane
void printer_value(const Printer *p, int instr, char name[16]);
bool printer_in_lanes(const Printer *p, int depth);  // whether what is known at that depth is there once a lane
void printer_put_region(const Printer *p, int region, bool parents, LvText *out);
// One element's value: the right side of the instruction's assignment.
void printer_put_instr(Printer *p, const Instr *instr, LvText *out);
void printer_close_loops(Printer *p, int count);
#endif
