// What this backend uses of the CUDA driver's interface (libcuda.so.1), declared here so that building needs no CUDA: handles,
// numbers and signatures as the driver has them since CUDA 12. CU_FUNCTIONS lists every function once; a table of pointers is
// made from it and filled by dlsym (library.c).
#ifndef LV_DEVICE_CUDA_DRIVER_API_H
#define LV_DEVICE_CUDA_DRIVER_API_H

#include <stddef.h>

typedef int CuResult;
typedef int CuDevice;
typedef unsigned long long CuPointer;  // an address on the device
typedef struct CuContextObject *CuContext;
typedef struct CuStreamObject *CuStream;
typedef struct CuEventObject *CuEvent;
typedef struct CuModuleObject *CuModule;
typedef struct CuFunctionObject *CuFunction;
typedef struct CuGraphObject *CuGraph;
typedef struct CuGraphExecObject *CuGraphExec;

enum {  // CuResult: those that are told apart
    CU_OK = 0,
    CU_OUT_OF_MEMORY = 2,
    CU_STUB_LIBRARY = 34,
    CU_NO_DEVICE = 100,
    CU_INVALID_IMAGE = 200,
    CU_NO_BINARY_FOR_GPU = 209,
    CU_ECC_UNCORRECTABLE = 214,
    CU_INVALID_PTX = 218,
    CU_UNSUPPORTED_PTX_VERSION = 222,
    CU_NOT_FOUND = 500,
    CU_NOT_READY = 600,
    CU_ILLEGAL_ADDRESS = 700,
    CU_LAUNCH_OUT_OF_RESOURCES = 701,
    CU_LAUNCH_TIMEOUT = 702,
    CU_ASSERT = 710,
    CU_HARDWARE_STACK_ERROR = 714,  // from here to CU_LAUNCH_FAILED: a kernel did what it must not
    CU_ILLEGAL_INSTRUCTION = 715,
    CU_MISALIGNED_ADDRESS = 716,
    CU_LAUNCH_FAILED = 719,
    CU_SYSTEM_DRIVER_MISMATCH = 803,
    CU_CAPTURE_INVALIDATED = 901,
};

enum {  // attributes of a device
    CU_DEVICE_MULTIPROCESSORS = 16,
    CU_DEVICE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_CAPABILITY_MINOR = 76,
    CU_DEVICE_MOST_SHARED = 97,  // bytes of shared memory that a block may ask for
};

enum {  // attributes of a function
    CU_FUNCTION_MOST_THREADS = 0,
    CU_FUNCTION_STATIC_SHARED = 1,
    CU_FUNCTION_DYNAMIC_SHARED = 8,  // the only one that is set
};

enum {
    CU_STREAM_OF_ITS_OWN = 1,     // does not wait for the stream 0
    CU_EVENT_TIMED = 0,
    CU_EVENT_UNTIMED = 2,
    CU_CAPTURE_THIS_THREAD = 1,   // what other threads do is not looked at
    CU_CAPTURE_RELAXED = 2,
    CU_CONTEXT_BLOCKS = 4,        // a thread that waits sleeps
    CU_JIT_ERROR_LOG = 5,         // option: char *
    CU_JIT_ERROR_LOG_BYTES = 6,   // option: the number itself, as a pointer
};

#define CU_FUNCTIONS(X)                                                                              \
    X(CuResult, cuInit, (unsigned flags))                                                            \
    X(CuResult, cuDriverGetVersion, (int *version))                                                  \
    X(CuResult, cuGetErrorName, (CuResult result, const char **name))                                \
    X(CuResult, cuGetErrorString, (CuResult result, const char **text))                              \
    X(CuResult, cuDeviceGetCount, (int *count))                                                      \
    X(CuResult, cuDeviceGet, (CuDevice *device, int index))                                          \
    X(CuResult, cuDeviceGetName, (char *name, int room, CuDevice device))                            \
    X(CuResult, cuDeviceGetAttribute, (int *value, int attribute, CuDevice device))                  \
    X(CuResult, cuDeviceTotalMem_v2, (size_t *bytes, CuDevice device))                               \
    X(CuResult, cuDevicePrimaryCtxRetain, (CuContext *context, CuDevice device))                     \
    X(CuResult, cuDevicePrimaryCtxRelease_v2, (CuDevice device))                                     \
    X(CuResult, cuCtxSetCurrent, (CuContext context))                                                \
    X(CuResult, cuMemGetInfo_v2, (size_t *free, size_t *total))                                      \
    X(CuResult, cuMemAlloc_v2, (CuPointer *memory, size_t bytes))                                    \
    X(CuResult, cuMemFree_v2, (CuPointer memory))                                                    \
    X(CuResult, cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                       \
    X(CuResult, cuMemFreeHost, (void *memory))                                                       \
    X(CuResult, cuMemcpyHtoDAsync_v2, (CuPointer to, const void *from, size_t bytes, CuStream stream)) \
    X(CuResult, cuMemcpyDtoHAsync_v2, (void *to, CuPointer from, size_t bytes, CuStream stream))     \
    X(CuResult, cuMemcpyDtoDAsync_v2, (CuPointer to, CuPointer from, size_t bytes, CuStream stream)) \
    X(CuResult, cuMemsetD8Async, (CuPointer to, unsigned char value, size_t count, CuStream stream)) \
    X(CuResult, cuStreamCreate, (CuStream *stream, unsigned flags))                                  \
    X(CuResult, cuStreamDestroy_v2, (CuStream stream))                                               \
    X(CuResult, cuStreamSynchronize, (CuStream stream))                                              \
    X(CuResult, cuStreamQuery, (CuStream stream))                                                    \
    X(CuResult, cuStreamWaitEvent, (CuStream stream, CuEvent event, unsigned flags))                 \
    X(CuResult, cuStreamBeginCapture_v2, (CuStream stream, int mode))                                \
    X(CuResult, cuStreamEndCapture, (CuStream stream, CuGraph *graph))                               \
    X(CuResult, cuGraphInstantiateWithFlags, (CuGraphExec *exec, CuGraph graph, unsigned long long flags)) \
    X(CuResult, cuGraphLaunch, (CuGraphExec exec, CuStream stream))                                  \
    X(CuResult, cuGraphDestroy, (CuGraph graph))                                                     \
    X(CuResult, cuGraphExecDestroy, (CuGraphExec exec))                                              \
    X(CuResult, cuEventCreate, (CuEvent *event, unsigned flags))                                     \
    X(CuResult, cuEventDestroy_v2, (CuEvent event))                                                  \
    X(CuResult, cuEventRecord, (CuEvent event, CuStream stream))                                     \
    X(CuResult, cuEventQuery, (CuEvent event))                                                       \
    X(CuResult, cuEventSynchronize, (CuEvent event))                                                 \
    X(CuResult, cuEventElapsedTime, (float *milliseconds, CuEvent from, CuEvent to))                 \
    X(CuResult, cuModuleLoadData, (CuModule *module, const void *image))                             \
    X(CuResult, cuModuleLoadDataEx, (CuModule *module, const void *image, unsigned count, int *options, void **values)) \
    X(CuResult, cuModuleUnload, (CuModule module))                                                   \
    X(CuResult, cuModuleGetFunction, (CuFunction *function, CuModule module, const char *name))      \
    X(CuResult, cuFuncGetAttribute, (int *value, int attribute, CuFunction function))                \
    X(CuResult, cuFuncSetAttribute, (CuFunction function, int attribute, int value))                 \
    X(CuResult, cuLaunchKernel,                                                                      \
      (CuFunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
       unsigned block_z, unsigned shared, CuStream stream, void **parameters, void **extra))

typedef struct {
#define X(type, name, parameters) type(*name) parameters;
    CU_FUNCTIONS(X)
#undef X
} CuDriver;

#endif
