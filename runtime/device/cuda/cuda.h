// What the CUDA backend's files share: the device, its memory, kernels, library calls.
#ifndef LV_DEVICE_CUDA_CUDA_H
#define LV_DEVICE_CUDA_CUDA_H

#include "base/map.h"
#include "device/cuda/driver_api.h"
#include "device/cuda/library.h"
#include "device/device.h"

enum { CUDA_OLDEST_SM = 80 };  // the kernels need cp.async and mma of bf16

typedef struct CudaCompiler CudaCompiler;  // compiler.h
typedef struct CudaBlas CudaBlas;          // blas.h
typedef struct CudaDnn CudaDnn;            // cudnn.h
typedef struct CudaNccl CudaNccl;          // nccl.h
typedef struct CudaStaging CudaStaging;    // memory.c: pinned memory that transfers go through
typedef struct CudaScratch CudaScratch;    // memory.c: one block of scratch memory for all steps, which run one after the other

typedef struct {
    LvDevice base;
    CudaLibrary library;  // the driver's
    CuDriver cu;
    int version;          // of CUDA that the driver serves: 12040 is 12.4
    CuDevice device;
    CuContext context;    // the device's primary one, which cuBLASLt works in too
    CuStream stream;      // of the steps, and of all transfers but a channel's inputs
    CuStream transfers;
    int sm;               // architecture: 90
    int most_shared;      // bytes of shared memory that a block may ask for
    size_t memory;        // bytes
    char name[128], target[24];
    char *cache_dir;      // NULL: none can be written
    CudaCompiler *compiler;
    CudaBlas *blas;
    CudaDnn *dnn;         // NULL: not looked for yet
    CudaNccl *nccl;       // NULL: it is by itself
    CudaStaging *staging;
    CudaScratch *scratch;  // the newest; older ones live as long as somebody uses them
    size_t block_bytes;    // of arenas
    size_t scratch_bytes;  // of all
    size_t landing_bytes;  // of all channels
    LvModule *own;         // our own kernels (own.c), loaded when first needed
    bool noted;            // the device's note was made
    const char *running;   // the entry whose steps were queued last: what a fault is blamed on
} LvCuda;

// ---- cuda.c
// False, with error set to "WHAT: the driver's words", unless `result` is CU_OK.
bool cuda_check(LvCuda *gpu, CuResult result, LvError *error, const char *format, ...) __attribute__((format(printf, 4, 5)));
// The device's note, if it is the first.
void cuda_note(LvCuda *gpu, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cuda_enter(LvCuda *gpu);  // the context, for this thread: before any other call of the driver
// Opens the driver and counts its devices; no context is made. What is closed again by cuda_driver_close.
bool cuda_driver_open(LvCuda *gpu, int *count, LvError *error);
void cuda_driver_close(LvCuda *gpu);
bool cuda_device_read(LvCuda *gpu, int index, LvError *error);  // fills what describes the device

// ---- memory.c
bool cuda_staging_open(LvCuda *gpu, LvError *error);
void cuda_staging_close(LvCuda *gpu);
bool cuda_allocate(LvCuda *gpu, size_t bytes, void **memory, LvError *error);
void cuda_release(LvCuda *gpu, void *memory);
bool cuda_upload(LvCuda *gpu, void *to, const void *host, size_t bytes, LvError *error);
bool cuda_download(LvCuda *gpu, void *host, const void *from, size_t bytes, LvError *error);
// Memory of the host, pinned where the system lends such.
char *cuda_host_allocate(LvCuda *gpu, size_t bytes, bool *pinned);
void cuda_host_free(LvCuda *gpu, void *memory, bool pinned);
// A block of at least so many bytes, shared with all others that have one. It stays in its place until it is left.
bool cuda_scratch_take(LvCuda *gpu, size_t bytes, CudaScratch **scratch, LvError *error);
void cuda_scratch_leave(LvCuda *gpu, CudaScratch *scratch);
char *cuda_scratch_memory(const CudaScratch *scratch);  // aligned to 256 bytes

// ---- channel.c
bool cuda_channel_create(LvCuda *gpu, void *inputs, size_t input_bytes, void *results, size_t result_bytes, LvChannel **channel,
                         LvError *error);
void cuda_channel_destroy(LvCuda *gpu, LvChannel *channel);
bool cuda_channel_room(LvCuda *gpu, LvChannel *channel, char **room, LvError *error);
bool cuda_channel_send(LvCuda *gpu, LvChannel *channel, const LvPiece *pieces, int count, LvError *error);
bool cuda_channel_give(LvCuda *gpu, LvChannel *channel, const LvPiece *pieces, int count, LvError *error);
bool cuda_channel_read(LvCuda *gpu, LvChannel *channel, const char **results, LvError *error);

// ---- kernels.c
bool cuda_kernels_load(LvCuda *gpu, const LvPlan *plan, LvModule **module, LvLoadInfo *info, LvError *error);
void cuda_kernels_unload(LvCuda *gpu, LvModule *module);
// The launches of the step's kernel, `buffers` in the order of its operands.
bool cuda_kernels_launch(LvCuda *gpu, LvModule *module, const LvStep *step, char *const *buffers, LvError *error);
// Function NAME_`number` of a kernel; parameters of 8 bytes each.
bool cuda_kernels_launch_one(LvCuda *gpu, const LvModule *module, int kernel, int number, LvLaunch launch, uint64_t *parameters,
                             int count, LvError *error);
const char *cuda_kernels_name(const LvModule *module, int kernel);  // which the compiler made of its text
bool cuda_kernels_tf32(const LvModule *module);  // whether its plan lets products of f32 be made in TF32

// ---- calls.c
bool cuda_call_prepare(LvCuda *gpu, LvModule *module, const LvStep *step, LvCall **call, LvError *error);
void cuda_call_discard(LvCuda *gpu, LvCall *call);
bool cuda_call_run(LvCuda *gpu, LvCall *call, char *const *buffers, LvError *error);
const char *cuda_call_describe(const LvCall *call);
// Scratch memory of the plan's steps, kernels and library calls: the most that one takes. gpu NULL: on any that there may be.
size_t cuda_plan_scratch(LvCuda *gpu, const LvPlan *plan);

// ---- graph.c
bool cuda_capture_begin(LvCuda *gpu, LvError *error);
bool cuda_capture_end(LvCuda *gpu, LvGraph **graph, LvError *error);
bool cuda_replay(LvCuda *gpu, LvGraph *graph, LvError *error);
void cuda_graph_destroy(LvCuda *gpu, LvGraph *graph);

#endif
