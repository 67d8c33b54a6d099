// The device interface: all that runtime/exec asks of a processor or GPU. A backend is one LvDeviceOps table and a struct
// that starts with LvDevice. Work is queued in order on one stream; only `sync`, `download`, `elapsed` and `channel_read` wait for
// it (the CPU finishes everything before it returns). No slot may be NULL; a slot that can fail returns false and sets error.
#ifndef LV_DEVICE_DEVICE_H
#define LV_DEVICE_DEVICE_H

#include "base/error.h"
#include "base/plan.h"
#include "comm/comm.h"
#include "exec/program.h"

typedef struct LvModule LvModule;  // the kernels of a plan, loaded (backend's own)
typedef struct LvCall LvCall;      // a library call, prepared (backend's own)
typedef struct LvEvent LvEvent;    // a point in the stream (backend's own)
typedef struct LvGraph LvGraph;    // captured work (backend's own)
typedef struct LvChannel LvChannel;  // a program's way in and out (backend's own)

// Bytes from `at` on of what a channel brings.
typedef struct {
    size_t at, bytes;
} LvPiece;

enum { LV_CHANNEL_DEPTH = LV_RESULTS_LATE + 1 };  // runs whose results are given and not read yet

typedef struct {
    double seconds;
    int compiled, cached;  // kernels
} LvLoadInfo;

typedef struct {
    const char *name;  // "cpu", "cuda"
    bool on_host;      // what `allocate` gives is the host's memory, to be read as it lies
    bool behind;       // it works on while the host goes on: runs may be queued before the last one's results are read
    bool captures;     // capture_begin and the three behind it work; where they do not they are never called
    void (*close)(LvDevice *device);

    // Memory: zeroed, aligned to 64 bytes at least; `bytes` 0 gives a pointer that is not read.
    bool (*allocate)(LvDevice *device, size_t bytes, void **memory, LvError *error);
    void (*release)(LvDevice *device, void *memory, size_t bytes);
    bool (*upload)(LvDevice *device, void *to, const void *host, size_t bytes, LvError *error);
    bool (*download)(LvDevice *device, void *host, const void *from, size_t bytes, LvError *error);  // waits
    bool (*copy)(LvDevice *device, void *to, const void *from, size_t bytes, LvError *error);        // on the device
    bool (*zero)(LvDevice *device, void *to, size_t bytes, LvError *error);
    bool (*memory)(LvDevice *device, size_t *left, size_t *total);  // bytes of its own; false: it has the machine's

    // Kernels: compiles what the user's cache lacks, and makes room for the scratch memory of the plan's steps. `launch` runs the
    // step's kernel, a step of the plan that was loaded; it takes the operands' addresses in the step's order.
    bool (*load)(LvDevice *device, const LvPlan *plan, LvModule **module, LvLoadInfo *info, LvError *error);
    void (*unload)(LvDevice *device, LvModule *module);
    bool (*launch)(LvDevice *device, LvModule *module, const LvStep *step, char *const *buffers, LvError *error);

    // Library calls, LV_STEP_CONV, LV_STEP_MATMUL and LV_STEP_LINEAR_LOSS. `measure` (may be NULL) comes before the plan's own memory is
    // allocated: what is chosen by timing takes memory for as long, which the process then need not have beside it. `prepare` chooses an implementation and makes room
    // for its scratch memory; `call` runs it. Calls of equal steps may be one. The module (NULL where no step names a kernel)
    // must outlive the call.
    void (*measure)(LvDevice *device, const LvPlan *plan);
    bool (*prepare)(LvDevice *device, LvModule *module, const LvStep *step, LvCall **call, LvError *error);
    void (*discard)(LvDevice *device, LvCall *call);
    bool (*call)(LvDevice *device, LvCall *call, char *const *buffers, LvError *error);
    const char *(*describe)(const LvCall *call);  // the implementation's name, for profiles
    size_t (*scratch_bytes)(const LvDevice *device);  // memory that all steps share
    LvMemoryUse (*use)(LvDevice *device);             // of all blocks and scratch, and of the process beside them
    LvWorkspace (*workspace)(LvDevice *device, const LvPlan *plan);  // what the plan would make of it; nothing is run

    // Events and waiting. `elapsed` waits for both and gives seconds from `from` to `to`.
    bool (*event_create)(LvDevice *device, LvEvent **event, LvError *error);
    void (*event_destroy)(LvDevice *device, LvEvent *event);
    void (*record)(LvDevice *device, LvEvent *event);
    double (*elapsed)(LvDevice *device, LvEvent *from, LvEvent *to);
    bool (*sync)(LvDevice *device, LvError *error);

    // Capture: what is launched, called, copied and zeroed between begin and end is recorded instead of run; end is called even
    // where something in between has failed. `replay` queues all of it at once, over the same addresses.
    bool (*capture_begin)(LvDevice *device, LvError *error);
    bool (*capture_end)(LvDevice *device, LvGraph **graph, LvError *error);
    bool (*replay)(LvDevice *device, LvGraph *graph, LvError *error);
    void (*graph_destroy)(LvDevice *device, LvGraph *graph);

    // A channel, beside `upload` and `download`, which take their turn among the steps: inputs of the next run arrive while the last
    // one's steps are at work, and its results are read while the next one's are. `inputs` and `results`, on the device, stay where
    // they are; NULL: there are none. `room` is memory of the host to write the next run's inputs to, laid out as `inputs`, until
    // `send` puts the pieces that were written on their way: the steps queued after it read them in their place, those queued before
    // are not disturbed. `give` queues pieces of the results to the host, in `read`'s order; of LV_CHANNEL_DEPTH at most not read
    // yet. `read` waits for the oldest, laid out as `results`, and stands until the next `give`.
    bool (*channel_create)(LvDevice *device, void *inputs, size_t input_bytes, void *results, size_t result_bytes, LvChannel **channel,
                           LvError *error);
    void (*channel_destroy)(LvDevice *device, LvChannel *channel);
    bool (*channel_room)(LvDevice *device, LvChannel *channel, char **room, LvError *error);
    bool (*channel_send)(LvDevice *device, LvChannel *channel, const LvPiece *pieces, int count, LvError *error);
    bool (*channel_give)(LvDevice *device, LvChannel *channel, const LvPiece *pieces, int count, LvError *error);
    bool (*channel_read)(LvDevice *device, LvChannel *channel, const char **results, LvError *error);

    // Ranks: one process a device. `join` is collective, once, before any program is made for more than one rank, whose device keeps `comm`
    // (never NULL) in its LvDevice; all join or none. `all_reduce` queues a sum over the ranks, in place: all of them call it in the same
    // order. `what` names it. It may be done beside what is queued after it, which must not touch `data` until `all_reduce_wait` of its
    // number: what is queued from then on comes after it and all sums before it. Numbers rise within a walk; all sums are waited for in it.
    bool (*join)(LvDevice *device, LvComm *comm, LvError *error);
    bool (*all_reduce)(LvDevice *device, int number, void *data, size_t count, LvDType dtype, const char *what, LvError *error);
    bool (*all_reduce_wait)(LvDevice *device, int number, LvError *error);

    // Before the first step of a run, on the thread that runs: the CPU binds its thread count here.
    void (*begin)(LvDevice *device);
} LvDeviceOps;

struct LvDevice {
    const LvDeviceOps *ops;
    char *description;   // "cpu (2 threads, AVX-512, AMX)"; owned by the backend
    const char *target;  // what plans for it are compiled for: "cpu", "cuda:sm_90" by a GPU's architecture; the backend's
    char *note;          // NULL: none (lv_device_note); owned by the backend until it is taken
    LvComm *comm;        // the ranks it has joined, NULL: it is by itself
    bool checked;        // every step is waited for, so that an error names the step that caused it: for finding faults
};

bool lv_cpu_open(int threads, LvDevice **device, LvError *error);
bool lv_cuda_open(int index, LvDevice **device, LvError *error);  // the index-th GPU that the driver shows
int lv_cuda_count(void);                                          // GPUs that the driver shows; 0: none, or no driver
LvWorkspace lv_cuda_workspace(const LvPlan *plan);                // the slot `workspace` of any GPU: none need be there

#endif
