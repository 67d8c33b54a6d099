// What this backend uses of NVRTC, the compiler of CUDA C++ as a library (libnvrtc.so.12, .13), declared here so that building
// needs no CUDA: see driver_api.h.
#ifndef LV_DEVICE_CUDA_NVRTC_API_H
#define LV_DEVICE_CUDA_NVRTC_API_H

#include <stddef.h>

typedef int NvrtcResult;
typedef struct NvrtcProgramObject *NvrtcProgram;

enum {  // NvrtcResult: those that are told apart
    NVRTC_OK = 0,
    NVRTC_INVALID_OPTION = 5,
    NVRTC_COMPILATION = 6,  // the text has errors: the log names them
};

// What follows the number of an architecture that is asked for as it is, "sm_90a": with the instructions that none after it has.
static inline const char *nvrtc_suffix(int sm) { return sm == 90 ? "a" : ""; }

#define NVRTC_FUNCTIONS(X)                                                                           \
    X(NvrtcResult, nvrtcVersion, (int *major, int *minor))                                           \
    X(const char *, nvrtcGetErrorString, (NvrtcResult result))                                       \
    X(NvrtcResult, nvrtcGetNumSupportedArchs, (int *count))                                          \
    X(NvrtcResult, nvrtcGetSupportedArchs, (int *architectures))                                     \
    X(NvrtcResult, nvrtcCreateProgram,                                                               \
      (NvrtcProgram *program, const char *text, const char *name, int headers, const char *const *header_texts, \
       const char *const *header_names))                                                             \
    X(NvrtcResult, nvrtcDestroyProgram, (NvrtcProgram *program))                                     \
    X(NvrtcResult, nvrtcCompileProgram, (NvrtcProgram program, int count, const char *const *options)) \
    X(NvrtcResult, nvrtcGetProgramLogSize, (NvrtcProgram program, size_t *bytes))                    \
    X(NvrtcResult, nvrtcGetProgramLog, (NvrtcProgram program, char *log))                            \
    X(NvrtcResult, nvrtcGetCUBINSize, (NvrtcProgram program, size_t *bytes))                         \
    X(NvrtcResult, nvrtcGetCUBIN, (NvrtcProgram program, char *cubin))                               \
    X(NvrtcResult, nvrtcGetPTXSize, (NvrtcProgram program, size_t *bytes))                           \
    X(NvrtcResult, nvrtcGetPTX, (NvrtcProgram program, char *ptx))

typedef struct {
#define X(type, name, parameters) type(*name) parameters;
    NVRTC_FUNCTIONS(X)
#undef X
} Nvrtc;

#endif
