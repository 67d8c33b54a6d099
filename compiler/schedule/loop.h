// Loop IR: what one kernel computes, as loop nests over integer axes with affine indexing. A printer (codegen/c) turns it
// into a kernel's text; no printer needs to know the graph.
//
//   Kernel  buffers (operands and locals) and nests that run one after the other
//   Nest    axes (outermost first), a body of instructions in order of use, and outputs
//   Affine  constant + sum of factor * variable: every index
//   Var     an axis; or the quotient or remainder of an affine where no axis could be split to say it plainly
//
// A nest means: for every point of its axes, evaluate the body; an output STORE writes its value at its index, an output
// REDUCE folds its value over the axes marked `reduced` (its index does not mention them).
#ifndef LV_LOOP_H
#define LV_LOOP_H

#include "base/text.h"
#include "base/vec.h"
#include "graph/graph.h"

enum { LOOP_MAX_TERMS = 14, LOOP_MAX_AXES = 20 };

typedef struct {
    int64_t constant;
    int count;
    struct {
        int var;  // ascending
        int64_t factor;
    } term[LOOP_MAX_TERMS];
} Affine;

typedef enum { VAR_AXIS, VAR_QUOTIENT, VAR_REMAINDER } VarKind;

typedef struct {
    VarKind kind;
    int64_t extent;  // 0 <= value < extent
    Affine of;       // quotient and remainder: of this,
    int64_t by;      // by this
} Var;

// A region of the domain: low <= index < high, inside the region `parent` (-1: everywhere). Loads carry the region in
// which their address is valid; outside it they give 0.
typedef struct {
    int parent;
    Affine index;
    int64_t low, high;
} Region;

typedef enum {
    INSTR_CONSTANT,  // value
    INSTR_LOAD,      // buffer[index], 0 outside the region
    INSTR_INDEX,     // the index itself, as a number
    INSTR_OP,        // an elementwise op on args
    INSTR_CAST,      // args[0] to dtype
    INSTR_CHOOSE,    // inside `region` (taken alone, not its parents) args[0], else args[1]
    INSTR_UNIFORM,   // random number: args seed, step; index: which element; stream
    INSTR_NORMAL,
} InstrKind;

typedef struct {
    InstrKind kind;
    Op op;
    LvDType dtype;
    int args[3];
    int buffer;
    int region;
    Affine index;
    double value;
    int64_t stream;
    int depth;  // set by nest_tidy: number of axes, from the outermost, that must be open before it
} Instr;

typedef enum { OUTPUT_STORE, OUTPUT_REDUCE } OutputKind;

typedef struct {
    OutputKind kind;
    Op op;           // REDUCE: reduce_sum, reduce_max, reduce_min, argmax, argmin
    int value;       // instruction
    int buffer;
    Affine index;
    Affine position; // argmax, argmin: the number that is kept
} Output;

typedef struct {
    int var;
    bool reduced;
} Axis;

typedef struct {
    LV_VEC(Var) vars;
    int axis_count;
    Axis axes[LOOP_MAX_AXES];
    LV_VEC(Instr) body;
    LV_VEC(Region) regions;
    LV_VEC(Output) outputs;
} Nest;

typedef struct {
    Value *value;       // operand: the value it holds
    LvDType dtype;
    int64_t elements;
    int64_t offset;     // elements from the start of its storage, which is aligned to 64 bytes
    bool written, read;
    bool local;         // lives in the kernel's own frame: not an operand
    bool may_share;     // another operand may be the same memory (in_place): no `restrict`
} Buffer;

struct Kernel {
    LV_VEC(Buffer) buffers;
    LV_VEC(Nest) nests;
    bool serial;        // too little work for threads: nests run one after the other on one
    int tail;           // where not 0: nests from this one on are walked by one block, that which finishes last of all those before (GPU)
    int columns;        // where not 0: this nest, the last of a row-wise kernel, folds the rows into one, its outermost axis is reduced (GPU)
    int shared;         // so many outermost axes are the same in all nests and are walked once (row-wise kernels)
};
typedef struct Kernel Kernel;

// ---- affine arithmetic
Affine affine_constant(int64_t constant);
Affine affine_var(int var);
Affine affine_add(Affine a, Affine b);
Affine affine_scale(Affine a, int64_t factor);
bool affine_equal(const Affine *a, const Affine *b);
int64_t affine_factor(const Affine *a, int var);
void affine_drop(Affine *a, int var);
void affine_range(const Nest *nest, const Affine *a, int64_t *low, int64_t *high);  // both inclusive
// Splits a = quotient * by + remainder as far as the variables' ranges tell; what they do not tell becomes a new variable.
// *split_axis >= 0: cutting that axis into (extent / *split_inner) x *split_inner would have told.
void affine_divide(Nest *nest, const Affine *a, int64_t by, Affine *quotient, Affine *remainder, int *split_axis,
                   int64_t *split_inner);

// ---- nests
int nest_add_var(Nest *nest, int64_t extent);
void nest_free(Nest *nest);
int64_t nest_points(const Nest *nest);           // of all axes
double op_cost(Op op);                           // of one element, in units of one addition
double nest_cost(const Nest *nest);              // additions for the whole nest, roughly
// Merges neighbouring axes that every index walks as one, and finds each instruction's depth. The first `fixed` axes stay.
void nest_tidy(Nest *nest, int fixed);
// Cuts the axis at place `at` into extent / inner, put at place `outer_at` (<= at), and `inner`, which stays there.
void nest_cut_axis(Nest *nest, int at, int64_t inner, int outer_at);
int nest_affine_depth(const Nest *nest, const Affine *a);
void kernel_free(Kernel *kernel);
Kernel *kernel_copy(const Kernel *kernel);
// Another kernel's nests move behind this one's; buffers of one value become one, but for locals.
void kernel_take(Kernel *kernel, Kernel *other);

// ---- the text form
void affine_print(const Nest *nest, const Affine *a, LvText *out);
void kernel_print(const Kernel *kernel, const char *name, LvText *out);

#endif
