// Between the driver's stand-in and a kernel module, which is a shared object made of the kernels' text, text.h and module.c.
// The module holds what is asked for at every access (LvSimState); the stand-in sets it and is called back through LvSimHooks.
#ifndef LV_CUDA_SIM_MODULE_H
#define LV_CUDA_SIM_MODULE_H

#include <stdint.h>

typedef struct {
    uint32_t x, y, z;
} LvSimIndex;

typedef enum {  // what the lanes of a warp do together
    SIM_SYNC_WARP,
    SIM_SHUFFLE,
    SIM_SHUFFLE_UP,
    SIM_SHUFFLE_DOWN,
    SIM_SHUFFLE_XOR,
    SIM_BALLOT,
    SIM_ANY,
    SIM_ALL,
    SIM_MMA_BF16,
    SIM_MMA_F16,
    SIM_MMA_TF32,
    SIM_LDMATRIX2,
    SIM_LDMATRIX2_TRANS,
    SIM_LDMATRIX4,
    SIM_LDMATRIX4_TRANS,
    SIM_WGMMA_BF16,
    SIM_WGMMA_F16,
    SIM_WGMMA_FENCE,
    SIM_WGMMA_COMMIT,
    SIM_WGMMA_WAIT,
} LvSimCollective;

// What a lane brings to a collective and takes from it.
typedef struct {
    uint64_t value;      // of a shuffle or a vote, both ways
    uint32_t operand, width;
    uint32_t a[4], b[2]; // fragments
    float d[4];
    const void *row;     // of ldmatrix
    uint32_t r[4];
    uint64_t left, right;  // descriptors of wgmma; operand: its columns, width: which of the two lie across k
    float *sums;
} LvSimExchange;

typedef enum { SIM_READ, SIM_WRITE } LvSimAccess;

typedef struct {
    // `where` is an address in the module's code. An access that the module did not find to be right by itself:
    void (*access)(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where);
    void (*barrier)(int line, const void *where);  // line: which barrier it is
    void (*collective)(LvSimCollective kind, uint32_t mask, LvSimExchange *exchange, const void *where);
    void (*copy)(void *shared, const void *global, int bytes, int size, const void *where);
    void (*copy_commit)(void);
    void (*copy_wait)(int groups);
    void (*proxy_fence)(void);
    uint32_t (*shared_address)(const void *shared, const void *where);
    uint64_t (*atomic_add)(uintptr_t address, uint32_t bytes, uint64_t more, const void *where);
    void (*fence)(void);
    void *(*dynamic_shared)(const void *where);
    void (*vector)(uintptr_t address, uint32_t bytes, const void *where);  // of a vector that is not aligned
    void (*wrong)(const char *what, const void *where);
} LvSimHooks;

// Who touched two bytes of shared memory last: a stamp. The epoch grows at each block and each barrier of a block; what is of an older
// epoch is ordered before what is now. Stamp 0: nobody.
enum {
    STAMP_BYTES = 3,                // which of the two
    STAMP_PENDING = 4,              // a copy under way will write there
    STAMP_STEP_AT = 3,              // 5 bits: warp barriers that the thread passed in this epoch
    STAMP_THREAD_AT = 8,            // 10 bits
    STAMP_WARP_AT = STAMP_THREAD_AT + 5,
    STAMP_EPOCH_AT = 18,            // 14 bits
    STAMP_MOST_STEPS = 31,
    STAMP_MOST_EPOCH = 16383,
};

// For each four bytes, from `origin` on, six stamps: of its two halves the last writes, the last reads, and a read before that, of
// another warp if there was one.
enum { SIM_MOST_SHARED = 256 << 10, SIM_WORD_STAMPS = 6, SIM_READ_AT = 2, SIM_OTHER_AT = 4 };

typedef struct {
    uintptr_t from, bytes, origin;
    uint32_t *stamps;
} LvSimRegion;

// The stamp of the last write to the two bytes of an address.
static inline uint32_t *sim_stamp_at(const LvSimRegion *region, uintptr_t address) {
    const uintptr_t half = (address - region->origin) / 2;
    return region->stamps + half / 2 * SIM_WORD_STAMPS + half % 2;
}

#define SIM_GRANULE 256  // of device memory; `valid` has for each how many bytes from its start may be touched

typedef struct {
    uintptr_t device_base, device_span;
    const uint16_t *valid;
    uintptr_t stack, stack_bytes;
    LvSimRegion dynamic, fixed;  // shared memory
    uint32_t stamp;              // of the current thread, of no bytes
    int watch_device;            // races on device memory are looked for: every access to it goes to the hook
    const LvSimHooks *hooks;
} LvSimState;

typedef struct {
    const char *name;
    void (*enter)(void **parameters);
    int parameters;
    const int *bytes;                  // of each parameter
    int fibers;                        // threads that wait for each other: each is to have a stack
    int most_threads;                  // __launch_bounds__, 0: none
    char *shared_start, *shared_stop;  // static shared memory
} LvSimKernel;

typedef struct {
    LvSimState *state;
    LvSimIndex *thread, *block, *block_dim, *grid_dim;
    const LvSimKernel *kernels;
    int count;
} LvSimModule;

typedef void LvSimAttach(LvSimModule *module);  // the module's lv_sim_attach

#endif
