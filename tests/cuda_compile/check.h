// Kernels of CUDA plans through the real NVRTC: collects them with the launches that steps make of them, compiles what no earlier
// run compiled, and says what a GPU of the architecture would refuse or run badly.
#ifndef LV_TEST_CUDA_COMPILE_CHECK_H
#define LV_TEST_CUDA_COMPILE_CHECK_H

#include "base/map.h"
#include "base/plan.h"
#include "base/vec.h"
#include "device/cuda/nvrtc_api.h"

// What a function of a kernel takes, as ptxas said, and how often some instructions stand in it.
typedef struct {
    bool known;
    int registers, shared, stack, spilled;   // a thread's registers; bytes
    int products, copies, wide, local;       // instructions: of tensor cores, copies to shared memory, loads of 16 bytes, local memory
    int waits;                               // for products of warp groups
} Usage;

enum { MOST_FUNCTIONS = 64 };

typedef struct {
    const char *name, *text, *prelude;
    const char *about;                       // the first step that launches it: label, source lines, the case it is of
    char key[24];                            // of the record in the folder
    bool empty;                              // some operand of that step has no elements: nothing is asked of its instructions
    bool lined;                              // some operand has rows of whole 16 bytes: what copies and loads of 16 bytes can be asked for
    int count;                               // functions NAME_0 ... NAME_(count - 1)
    int threads[MOST_FUNCTIONS], dynamic[MOST_FUNCTIONS];  // the most that any launch has: a block's threads, bytes of shared memory
    Usage usage[MOST_FUNCTIONS];
    const char *error;                       // NVRTC's first words, NULL: compiled
} Checked;

typedef struct {
    Nvrtc nvrtc;
    int version[2];
    const char *folder;                      // of records, one a kernel: what is there is not compiled again
    const char *disassembler;                // nvdisasm; NULL: PTX is read instead of SASS
    int jobs;
    int sm;                                  // of the plans added
    const char *context;                     // what the plan added is of, NULL: nothing in particular
    LvArena *arena;
    LvMap names;                             // name -> Checked *
    LV_VEC(Checked *) kernels;
    int compiled;                            // not found in the folder
} Check;

// Adds a plan's kernels; all plans added are for one architecture. False: a plan of no GPU, or its steps and kernels do not fit.
bool check_add(Check *check, const LvPlan *plan, LvError *error);
// compile.c: fills in usage and errors of every kernel.
bool check_compile(Check *check, LvError *error);
// report.c: a line `not ok LABEL.FUNCTION: why` for each fault, then `ok LABEL ...` if there was none. `table`: a line a function.
int check_report(const Check *check, const char *label, bool table, LvText *out);

// usage.c: reads ptxas' words into the functions that they are about, and counts instructions in a listing.
void usage_from_log(const char *log, Checked *const *kernels, int count);
void usage_from_sass(const char *listing, Checked *const *kernels, int count);
void usage_from_ptx(const char *ptx, Checked *const *kernels, int count);
Usage *usage_of(Checked *const *kernels, int count, const char *function, size_t length);  // NULL: none of that name

// ops.c: the kernels of every case of tests/ops, forward and gradient, fused and one a node.
bool check_add_ops(Check *check, int sm, LvError *error);

// self.c: kernels that have every fault there is and one that has none; whether the report names them.
bool check_self(Check *check, int sm, LvError *error);

#endif
