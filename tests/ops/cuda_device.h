// Kernels' texts on whatever libcuda and libnvrtc are found, a GPU's or the stand-ins that tests/cuda_sim/run puts on the path: memory,
// programs, launches, without the backend between. What fails fails the test.
#ifndef LV_TESTS_OPS_CUDA_DEVICE_H
#define LV_TESTS_OPS_CUDA_DEVICE_H

#include "base/plan.h"
#include "device/cuda/driver_api.h"

typedef struct {
    int sm;  // architecture
} CudaDevice;

bool cuda_device_open(CudaDevice *device);  // false: there is none
CuModule cuda_device_compile(const CudaDevice *device, const char *text);
void cuda_device_unload(CuModule module);
CuPointer cuda_device_memory(size_t bytes, int fill);  // all bytes are `fill`
void cuda_device_free(CuPointer memory);
void cuda_device_put(CuPointer to, const void *from, size_t bytes);
void cuda_device_get(void *to, CuPointer from, size_t bytes);
// Launches NAME_0, NAME_1 ... one after the other with these parameters and waits. `which` is for messages.
void cuda_device_launch(CuModule module, const char *name, const LvLaunch *launches, size_t launch_count, unsigned long long *parameters,
                        int count, const char *which);

#endif
