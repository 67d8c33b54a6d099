// Shared by lower.c, which walks a group's domain, and value.c, which writes the expressions.
#ifndef LV_SCHEDULE_LOWER_H
#define LV_SCHEDULE_LOWER_H

#include "schedule/internal.h"

typedef struct {
    int dim;         // logical dimension
    int64_t extent;
    int64_t stride;  // in the dimension
    bool reduced;
} Piece;

typedef struct {
    const Value *value;
    Affine index[LV_MAX_RANK];
    int region, instr;
} Memo;  // the instruction that gives a value at an index

typedef struct {
    const Plan *plan;
    const Group *group;
    Kernel *kernel;
    Nest nest;
    int piece_count;
    Piece pieces[LOOP_MAX_AXES];  // the domain's axes in order of the walk; var i is piece i
    int cut_axis;                 // an index asked for this axis to be cut
    int64_t cut_inner;
    bool may_cut;
    LV_VEC(Memo) memo;
} Lower;

// The instruction that gives `value` at `index` (of its logical dimensions) inside `region`. Where an index would be plain
// if an axis were cut, and l->may_cut, l->cut_axis says which.
int value_lower(Lower *l, Value *value, const Affine *index, int region);
Affine value_address(Lower *l, const Value *value, const Affine *index);  // in elements of its storage
Affine value_linear(LvShape shape, const Affine *index);                  // row-major number of an element
Instr instr_make(InstrKind kind, LvDType dtype);

#endif
