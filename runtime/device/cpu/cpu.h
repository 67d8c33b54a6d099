// What the CPU backend's files share: the device, kernels, library calls.
#ifndef LV_DEVICE_CPU_CPU_H
#define LV_DEVICE_CPU_CPU_H

#include "device/device.h"

typedef struct LvLibrary LvLibrary;  // onednn.c: engine, stream, shared scratch memory
typedef struct LvToucher LvToucher;  // memory.c: a thread that asks the kernel for pages

typedef struct {
    LvDevice base;
    int threads;
    char *processor;   // model name and instruction sets: part of every cache key
    char *cache_dir;   // NULL: no folder is writable; kernels then go to a private folder
    LvLibrary *library;
    LvToucher *toucher;
} LvCpu;

// ---- memory.c
void cpu_memory_open(LvCpu *cpu);
void cpu_memory_close(LvCpu *cpu);
bool cpu_memory_allocate(LvCpu *cpu, size_t bytes, void **memory, LvError *error);
void cpu_memory_release(LvCpu *cpu, void *memory, size_t bytes);
void cpu_memory_finish(LvCpu *cpu);  // all pages that were allocated are there
void cpu_memory_use(LvCpu *cpu, LvMemoryUse *use);  // what all blocks take or will take, and what the process has beside them

// ---- channel.c
bool cpu_channel_create(LvDevice *device, void *inputs, size_t input_bytes, void *results, size_t result_bytes, LvChannel **channel,
                        LvError *error);
void cpu_channel_destroy(LvDevice *device, LvChannel *channel);
bool cpu_channel_room(LvDevice *device, LvChannel *channel, char **room, LvError *error);
bool cpu_channel_send(LvDevice *device, LvChannel *channel, const LvPiece *pieces, int count, LvError *error);
bool cpu_channel_give(LvDevice *device, LvChannel *channel, const LvPiece *pieces, int count, LvError *error);
bool cpu_channel_read(LvDevice *device, LvChannel *channel, const char **results, LvError *error);

// ---- kernels.c
bool cpu_kernels_load(LvCpu *cpu, const LvPlan *plan, LvModule **module, LvLoadInfo *info, LvError *error);
void cpu_kernels_unload(LvModule *module);
void cpu_kernels_launch(LvModule *module, int kernel, char *const *buffers, const LvScalar *scalars);

// ---- onednn.c
bool cpu_library_open(LvCpu *cpu, LvError *error);
void cpu_library_close(LvCpu *cpu);
bool cpu_call_prepare(LvCpu *cpu, LvModule *module, const LvStep *step, LvCall **call, LvError *error);
void cpu_call_discard(LvCpu *cpu, LvCall *call);
bool cpu_call_run(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error);
const char *cpu_call_describe(const LvCall *call);
size_t cpu_library_scratch(const LvCpu *cpu);
void cpu_library_use(const LvCpu *cpu, LvMemoryUse *use);  // counts the scratch memory that calls share there, and no more to the process itself
void cpu_library_measure(LvCpu *cpu, const LvPlan *plan);  // the forms that its calls will take
LvWorkspace cpu_library_workspace(LvCpu *cpu, const LvPlan *plan);
void cpu_library_version(int version[3]);

// ---- plain.c: the same two steps as plain loops in f64, for types and forms that the library does not take
void cpu_plain_conv(const LvStep *step, char *const *buffers);
void cpu_plain_matmul(const LvStep *step, char *const *buffers);

#endif
