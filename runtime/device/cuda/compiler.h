// NVRTC: which version, for which architecture; texts into binaries, several at once.
#ifndef LV_DEVICE_CUDA_COMPILER_H
#define LV_DEVICE_CUDA_COMPILER_H

#include "device/cuda/cuda.h"
#include "device/cuda/nvrtc_api.h"

struct CudaCompiler {
    CudaLibrary library;  // where it is loaded
    Nvrtc nvrtc;
    bool known;           // the rest is
    int major, minor;
    char target[24];      // what is asked for: "sm_90", or "compute_90" where the GPU's architecture is not known to it
};

// A program: some kernels of a plan, and what became of them.
typedef struct {
    const char *name, *text;
    bool contract;   // products and sums into fused operations
    char *binary;    // CUBIN, or PTX closed by a zero; NULL: it was refused
    size_t length;
    char *log;       // what NVRTC said of it
    NvrtcResult result;
} CudaUnit;

// Version and target. NVRTC is not loaded for this where the cache remembers what the file on this machine is.
bool cuda_compiler_find(LvCuda *gpu, LvError *error);
bool cuda_compiler_load(LvCuda *gpu, LvError *error);
void cuda_compiler_close(LvCuda *gpu);
bool cuda_compiler_makes_ptx(const CudaCompiler *compiler);
// All that binaries depend on beside the text: part of their keys.
void cuda_compiler_print_key(const CudaCompiler *compiler, bool contract, LvText *out);
int cuda_compiler_threads(void);  // that units are compiled by
// All units, side by side. False: some unit has no binary, or (error is set) there is no NVRTC.
bool cuda_compiler_run(LvCuda *gpu, CudaUnit *units, int count, LvError *error);
void cuda_unit_free(CudaUnit *unit);

#endif
