// Private to the printers of loop IR as CUDA C.
#ifndef LV_CODEGEN_CUDA_NESTS_H
#define LV_CODEGEN_CUDA_NESTS_H

#include "codegen/cuda/cuda.h"
#include "codegen/printer.h"

enum {
    CUDA_BLOCK = 256,           // threads of a block, where nothing speaks for another number
    CUDA_WARP = 32,
    CUDA_BLOCKS_WANTED = 264,   // twice the processors of an H100: fewer leave some idle
    CUDA_MAX_LOCAL = 96 << 10,  // bytes of shared memory for a block's locals: two blocks fit a processor's
};

// How one nest is walked.
typedef struct {
    int axes;
    int kept;             // outer kept axes: places [base, kept)
    bool inner_kept;      // the innermost axis is kept though others outside it are reduced
    int64_t items;        // points of the outer kept axes beyond `base`
    int64_t reduced;      // points of the reduced axes
    int64_t width;        // extent of the innermost axis where it is kept so, else 1
} NestShape;

typedef struct {
    Printer p;            // its text is that of the function being printed
    CudaKernel *made;
    const char *name;
    bool wide;            // indices need 64 bits
    bool reduces;         // the compiler is told that two blocks share a multiprocessor: left alone it spills to have four
    int functions;
    LvText body;          // of the function being printed
    LvText text;          // of all functions, without their parameters: these are known at the end
    LvText after;         // of the function being printed: what comes after its body
} CudaPrinter;

// ---- nests.c
NestShape nest_shape(const Nest *nest, int base);
bool cuda_vector_load(Printer *p, const Instr *instr, int name);
// Elements of the innermost axis that a thread takes at a time: of them the loads and stores along memory are one access.
int nest_lanes(const Printer *p, const Nest *nest);
// Sets the axes [from, to) from a row-major number, the innermost of the nest in steps of the lanes. `number` is an expression.
void cuda_put_axes(CudaPrinter *c, int from, int to, const char *number);
void cuda_store(CudaPrinter *c, const Output *output, const char *value);
void cuda_stores(CudaPrinter *c);  // of all outputs that are no reductions
// A function begins: what follows is its body, which a `break` outside of loops leaves; or what comes after the body, in all threads. It
// ends: it is launched so.
void cuda_begin(CudaPrinter *c);
void cuda_begin_after(CudaPrinter *c);
void cuda_end(CudaPrinter *c, int64_t blocks, int64_t layers, int threads, int shared);
#define EACH_REDUCTION(nest, o) \
    for (size_t o = 0; o < (nest)->outputs.count; o++) \
        if ((nest)->outputs.data[o].kind == OUTPUT_REDUCE)

// ---- reduce.c: what accumulates
void cuda_put_accumulators(CudaPrinter *c, int width);   // aN, or aN[width], at their first values
// The values of this point, or of its lanes, into aN, or aN followed by `place`: "[l]", each lane into an accumulator of its own.
void cuda_accumulate(CudaPrinter *c, const char *place);
const char *cuda_accumulator_type(const Nest *nest, const Output *output);
int64_t cuda_accumulator_bytes(const Nest *nest, const Output *output);
const char *cuda_joiner(Op op);                          // "sum": of lv_warp_sum, lv_block_sum, lv_join_sum
void cuda_put_joined(CudaPrinter *c);                    // the shared memory that a block needs to join
void cuda_join_team(CudaPrinter *c, int team);           // aN of all threads of a warp or the block, to each of them
void cuda_put_result(CudaPrinter *c, size_t o, const char *accumulator);
void cuda_need_scratch(CudaPrinter *c, int64_t bytes);
void cuda_reduction(CudaPrinter *c, const Nest *nest);   // a nest as one launch

// ---- block.c: kernels in which one block, or one warp, does nest after nest
void cuda_block_kernel(CudaPrinter *c);
int cuda_put_tail(CudaPrinter *c);  // the kernel's tail, for one block; gives the bytes of shared memory that it takes

#endif
