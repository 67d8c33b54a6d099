// Private to the driver's stand-in: its objects. One lock holds them all; work is queued when it is asked for, and done when somebody
// waits for it, as late as a real device could: what the host does not wait for, it does not find.
#ifndef LV_CUDA_SIM_CUDA_H
#define LV_CUDA_SIM_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "common.h"
#include "device/cuda/driver_api.h"
#include "sim.h"

#define PUBLIC __attribute__((visibility("default")))

#define X(type, name, parameters) PUBLIC type name parameters;
CU_FUNCTIONS(X)
#undef X

enum {  // results that driver_api.h has no need of
    CUDA_INVALID_VALUE = 1,
    CUDA_NOT_INITIALIZED = 3,
    CUDA_INVALID_DEVICE = 101,
    CUDA_INVALID_CONTEXT = 201,
    CUDA_INVALID_HANDLE = 400,
    CUDA_CAPTURE_UNSUPPORTED = 900,
    CUDA_CAPTURE_UNMATCHED = 903,
    CUDA_CAPTURE_UNJOINED = 904,
    CUDA_CAPTURE_IMPLICIT = 906,
    CUDA_CAPTURED_EVENT = 907,
    CUDA_CAPTURE_WRONG_THREAD = 908,
    CUDA_UNKNOWN = 999,
};

enum { CUDA_MOST_STREAMS = 32 };

typedef struct {
    uint64_t at[CUDA_MOST_STREAMS];  // how many operations of each stream are done before
} CudaClock;

typedef enum { OP_LAUNCH, OP_COPY, OP_SET, OP_RECORD, OP_WAIT, OP_GRAPH, OP_CALL } CudaOpKind;

typedef struct CudaOp {
    CudaOpKind kind;
    struct CudaOp *next;
    uint64_t number;  // in its stream; in a graph from 0 on, as they were called
    CuStream lane;    // in a graph: the stream that it was recorded on
    bool done;        // in a graph that is run
    union {
        struct {
            CuFunction function;
            uint32_t grid[3], threads, shared;
            void **parameters;  // pointers, and after them the values
        } launch;
        struct {
            void *to;
            const void *from;
            size_t bytes;
        } copy;
        struct {
            void *to;
            size_t bytes;
            int value;
        } set;
        struct {
            CuEvent event;     // OP_RECORD
            CuStream stream;   // OP_WAIT: for what this stream had been given up to `until`, in a graph for those before that number
            uint64_t until;
        } event;
        CuGraph graph;
        struct {
            void (*run)(void *data);
            void *data;
            size_t bytes;
        } call;
    };
    char owned[];  // data that the operation keeps for itself
} CudaOp;

struct CuStreamObject {
    unsigned flags;
    bool destroyed;
    CudaOp *first, **last;
    uint64_t given, done;  // numbers of the last operation queued, and completed
    CuGraph capture;       // NULL: none
    int place;             // among the clocks
    CudaClock clock;       // what comes before its next operation, its own included
    struct CuStreamObject *next;
};

struct CuEventObject {
    unsigned flags;
    int references;
    bool destroyed, recorded;
    CuStream stream;
    uint64_t number;   // of the record in its stream
    CudaClock clock;   // what is done before it
    double time;
    CuGraph capture;
};

struct CuGraphObject {
    int references;
    bool destroyed;
    CuStream origin;   // while it is being captured
    CuStream lane;     // the same, and afterwards the name of its place
    int mode;
    bool invalid;
    uintptr_t thread;  // that began the capture
    CudaOp *first, **last;
    size_t count;      // of operations, waits among them
};

struct CuGraphExecObject {
    CuGraph graph;
};

struct CuModuleObject {
    void *library;
    int file;             // of the object, in memory: kept for the lines of its code
    const char *base, *image_end;
    char *text;           // the program's
    LvSimModule sim;
    struct CuFunctionObject *functions;  // one a kernel
};

struct CuFunctionObject {
    CuModule module;
    const LvSimKernel *kernel;
    int most_dynamic;  // bytes that a launch may ask for
};

// ---- entering a function: locks, fails on command, and reports what went wrong before
typedef struct {
    int unused;
} CudaLock;
CudaLock cuda_lock(void);
void cuda_unlock(CudaLock *lock);
CuResult cuda_enter(const char *function, CuResult usual);            // a context must be current
CuResult cuda_enter_without_context(const char *function, CuResult usual);
#define CUDA_LOCK() __attribute__((cleanup(cuda_unlock), unused)) CudaLock locked = cuda_lock()
#define CUDA_ENTER(FUNCTION, USUAL)                              \
    CUDA_LOCK();                                                 \
    do {                                                         \
        const CuResult trouble = cuda_enter(#FUNCTION, USUAL);   \
        if (trouble) return trouble;                             \
    } while (0)

// ---- cuda_device.c
int cuda_architecture(void);
int cuda_most_shared(void);           // bytes of a block with the opt-in
CuResult cuda_error(void);
void cuda_set_error(CuResult result); // from now on every call returns it, as after a fault on a device

// ---- cuda_memory.c
void cuda_memory_start(void);
size_t cuda_memory_total(void);
void cuda_memory_free_all(void);
bool cuda_memory_holds(CuPointer memory, size_t bytes);
bool cuda_memory_block(uintptr_t address, uintptr_t *from, size_t *bytes);  // the allocation that it lies in
void cuda_memory_attach(LvSimState *state);
bool cuda_memory_is_pinned(const void *memory);

// ---- cuda_stream.c
CudaOp *cuda_op(CudaOpKind kind, size_t owned);
void cuda_op_free(CudaOp *op);
CuResult cuda_stream_check(CuStream stream);
CuResult cuda_stream_give(CuStream stream, CudaOp *op);   // takes the operation; to the stream, or to the graph it captures
void cuda_stream_finish(CuStream stream, uint64_t until); // does what the stream was given up to there
void cuda_finish_all(void);
void cuda_finish_blocking(void);  // before work on the stream 0
void cuda_op_run(CudaOp *op);
void cuda_streams_leave(CuGraph graph);

// ---- cuda_order.c
void cuda_order_open(CuStream stream);
void cuda_order_close(CuStream stream);
void cuda_order_give(CuStream stream, const CudaOp *op);            // it was queued there
void cuda_order_after(CuStream stream, const CudaClock *clock);     // what the stream is given from now on comes after that
void cuda_order_host(const CudaClock *clock);                       // what any stream is given from now on does
void cuda_order_forget(uintptr_t from, size_t bytes);

// ---- cuda_capture.c
CuResult cuda_capture_forbids(CuResult result);  // for calls that no capture allows meanwhile: `result` if one is under way
bool cuda_capture_lives(CuGraph graph);          // it is under way
void cuda_graph_release(CuGraph graph);
void cuda_graph_append(CuGraph graph, CudaOp *op);
void cuda_graph_run(CuGraph graph);

// ---- cuda_launch.c
void cuda_launch_run(CudaOp *op);

#endif
