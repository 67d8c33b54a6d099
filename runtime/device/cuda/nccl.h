// Sums over ranks by NCCL, each rank a process with a GPU of its own, on a stream beside the steps'; and waiting for the GPU where
// another rank may be gone.
#ifndef LV_DEVICE_CUDA_NCCL_H
#define LV_DEVICE_CUDA_NCCL_H

#include "device/cuda/cuda.h"
#include "device/cuda/nccl_api.h"

// Finds the library; *version 22809 is 2.28.9. False where there is none, or where it is too old. What it opened is closed by
// cuda_library_close, also after a failure.
bool cuda_nccl_open(CudaLibrary *library, Nccl *api, int *version, LvError *error);

// Collective: the device slots `join`, `all_reduce` and `all_reduce_wait`. Either all ranks have joined or none.
bool cuda_nccl_join(LvCuda *gpu, LvComm *comm, LvError *error);
bool cuda_nccl_sum(LvCuda *gpu, int number, void *data, size_t count, LvDType dtype, const char *what, LvError *error);
bool cuda_nccl_wait(LvCuda *gpu, int number, LvError *error);
// After every graph of captured steps is destroyed: NCCL waits for the end of those that have sums.
void cuda_nccl_close(LvCuda *gpu);

// Waits for the event, or for all that the stream was given where `event` is NULL; `what` the driver's error is of. Of ranks: one that
// waits for sums that never come says so after $LV_COMM_TIMEOUT seconds.
bool cuda_wait(LvCuda *gpu, CuEvent event, const char *what, LvError *error);

#endif
