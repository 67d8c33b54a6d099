// Running a kernel's blocks and threads on one thread of the host, and what is checked meanwhile. Private to the driver's stand-in.
//
// Like a GPU, this is one to a process, and the text that runs on it calls back without a context: hence the one `sim`.
#ifndef LV_CUDA_SIM_SIM_H
#define LV_CUDA_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "module.h"

enum { SIM_MOST_THREADS = 1024, SIM_WARP = 32, SIM_STACK = 64 << 10 };
enum { SIM_STAMPS = 2 * SIM_MOST_SHARED / 4 * SIM_WORD_STAMPS };
enum { SIM_ILLEGAL_ADDRESS = 700, SIM_LAUNCH_TIMEOUT = 702, SIM_MISALIGNED = 716, SIM_LAUNCH_FAILED = 719 };  // as the driver numbers them

typedef struct {
    char *to;
    const char *from;
    int bytes, size;  // read, written
    int group;
} SimCopy;

typedef struct {
    void *stack_pointer;
    uintptr_t stack;         // lowest address
    uint32_t index;          // in the block
    bool fenced;             // by __threadfence, in this block
    uint32_t steps;          // warp barriers passed in this epoch
    bool done;
    const void *where;       // the barrier or collective where it waits
    LvSimCollective kind;
    uint32_t mask;
    LvSimExchange *exchange;
    SimCopy *copies;         // under way, in the order of issue
    int copy_count, copy_room, groups;  // groups: committed so far
    uint32_t proxy_fences;   // so far
} SimThread;

typedef struct {
    uint32_t ready, at_barrier, in_collective;  // lanes
} SimWarp;

typedef struct {
    const char *kernel;
    int code;             // CUresult, 0: none
    uint32_t block[3], thread;
    char what[256];
    const void *where;    // in the module's code
} SimError;

typedef struct {
    const LvSimModule *module;
    const LvSimKernel *kernel;
    void **parameters;
    uint32_t grid[3], threads;
    uint32_t dynamic_bytes;
} SimLaunch;

typedef struct {
    int check;            // LV_CUDA_SIM_CHECK: 0 nothing, 1 bounds, alignment, races on shared memory, 2 on device memory too
    uint64_t seed, random;
    SimLaunch launch;
    LvSimState *state;    // the module's
    LvSimIndex *index;    // the module's: of the current thread
    const char *image, *image_end;  // the module in memory: constants may be read
    SimThread threads[SIM_MOST_THREADS];
    SimWarp warps[SIM_MOST_THREADS / SIM_WARP];
    uint32_t warp_count, order[SIM_MOST_THREADS / SIM_WARP], turn;  // turn: place in `order` of the warp that runs
    SimThread *current;   // NULL outside of a kernel
    uint32_t live, arrived;
    int barrier_line;      // of the barrier where some wait
    const void *barrier_where;
    void *host_stack;     // where the launch waits
    uint32_t epoch, block_epoch, launch_epoch;  // now, at the block's start, at the launch's; never the same twice
    uint32_t shared_epoch;  // as stamps of shared memory have it, which begin anew now and then
    char *dynamic_memory;   // dynamic shared memory
    uint32_t *stamps;       // of shared memory, static and then dynamic
    SimError error;
} Sim;

extern Sim sim;
extern const LvSimHooks sim_hooks;

void sim_start(void);  // once: reads the environment, reserves stacks
// Runs a launch to its end, or to the first error, which is then in sim.error.
void sim_run(const SimLaunch *launch, const char *image, const char *image_end);

// ---- among the parts
void sim_watch_begin(void);  // of a launch
void sim_watch_end(void);
void sim_schedule(void);  // runs another thread; returns when the current one may go on
_Noreturn void sim_fail(int code, const void *where, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t sim_random(void);
void sim_new_epoch(void);  // nothing after it can race with what was before; threads' stamps are to be made anew
static inline uint32_t sim_stamp_of(const SimThread *t) {
    return sim.shared_epoch << STAMP_EPOCH_AT | t->index << STAMP_THREAD_AT | t->steps << STAMP_STEP_AT;
}

void sim_barrier(int line, const void *where);
void sim_collective(LvSimCollective kind, uint32_t mask, LvSimExchange *exchange, const void *where);
const char *sim_collective_name(LvSimCollective kind);
void sim_multiply(SimThread *lanes, LvSimCollective kind);     // mma of the 32 lanes
void sim_load_matrices(SimThread *lanes, LvSimCollective kind);  // ldmatrix
void sim_wgmma(SimThread *lanes, LvSimCollective kind);        // and its fence, commit and wait
void sim_wgmma_begin(void);    // of a block
void sim_wgmma_compare(void);  // at a barrier: the warps of a group have done the same
uint32_t sim_shared_address(const void *shared, const void *where);
void sim_proxy_fence(void);
void sim_landed(const void *shared, int bytes);  // a copy of the current thread

void *sim_dynamic_shared(const void *where);
void sim_vector(uintptr_t address, uint32_t bytes, const void *where);
void sim_wrong(const char *what, const void *where);

// "4 bytes past the end of an allocation of 64": the driver's (cuda_memory.c).
void sim_describe_device_address(uintptr_t address, uint32_t bytes, char *text, size_t room);
void sim_access(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where);
void sim_touch_device(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where);  // looks for races
void sim_forget_device(void);
void sim_device_block(void);  // another block begins
uint64_t sim_atomic_add(uintptr_t address, uint32_t bytes, uint64_t more, const void *where);
void sim_fence(void);
void sim_order(uintptr_t address);  // by an atomic operation there

bool sim_in_shared(uintptr_t address, uint32_t bytes);
const LvSimRegion *sim_region_of(uintptr_t address);  // of an address in shared memory
// An access to shared memory by the thread of the stamp: looks for races.
void sim_touch_shared(const LvSimRegion *region, uintptr_t address, uint32_t bytes, LvSimAccess kind, uint32_t stamp, const void *where);
void sim_forget_shared(void);

void sim_copy(void *shared, const void *global, int bytes, int size, const void *where);
void sim_copy_commit(void);
void sim_copy_wait(int groups);
void sim_copies_drop(void);  // at a block's end

#endif
