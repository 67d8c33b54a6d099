// What the CPU backend's files share: the device, the cache of compiled kernels and of measurements, library calls.
#ifndef LV_DEVICE_CPU_CPU_H
#define LV_DEVICE_CPU_CPU_H

#include "device/device.h"

typedef struct LvLibrary LvLibrary;  // onednn.c: engine, stream, shared scratch memory

typedef struct {
    LvDevice base;
    int threads;
    char *processor;   // model name and instruction sets: part of every cache key
    char *cache_dir;   // NULL: no folder is writable; kernels then go to a private folder
    LvLibrary *library;
} LvCpu;

// ---- cache.c: files named by content, written whole, verified when read
// The folder to use, made if need be; NULL if none can be written.
char *cache_open(void);
// 128-bit hash of all parts, each with its length, as 32 hex digits.
void cache_key(char key[33], const char *const *parts, int count);
// A cached file ends in a footer with its length and hash. False: absent, torn or altered.
bool cache_verify(const char *path);
bool cache_read_text(const char *path, char **text);
bool cache_write(const char *path, const void *data, size_t length);  // temporary name, then rename
bool cache_write_first(const char *path, const void *data, size_t length);  // false also where another process was faster

// ---- kernels.c
bool cpu_kernels_load(LvCpu *cpu, const LvPlan *plan, LvModule **module, LvLoadInfo *info, LvError *error);
void cpu_kernels_unload(LvModule *module);
void cpu_kernels_launch(LvModule *module, int kernel, char *const *buffers, const LvScalar *scalars);

// ---- onednn.c
bool cpu_library_open(LvCpu *cpu, LvError *error);
void cpu_library_close(LvCpu *cpu);
bool cpu_call_prepare(LvCpu *cpu, LvModule *module, const LvStep *step, LvCall **call, LvError *error);
void cpu_call_discard(LvCall *call);
bool cpu_call_run(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error);
const char *cpu_call_describe(const LvCall *call);
size_t cpu_library_scratch(const LvCpu *cpu);
void cpu_library_version(int version[3]);

// ---- plain.c: the same two steps as plain loops in f64, for types and forms that the library does not take
void cpu_plain_conv(const LvStep *step, char *const *buffers);
void cpu_plain_matmul(const LvStep *step, char *const *buffers);

#endif
