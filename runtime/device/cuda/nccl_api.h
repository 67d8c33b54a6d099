// What this backend uses of NCCL, NVIDIA's sums over several GPUs (libnccl.so.2), declared here so that building needs no CUDA: see
// driver_api.h. Numbers and signatures are the same in every 2.x that has them all.
#ifndef LV_DEVICE_CUDA_NCCL_API_H
#define LV_DEVICE_CUDA_NCCL_API_H

#include <stddef.h>

#include "device/cuda/driver_api.h"

typedef int NcclResult;  // NCCL_OK, or what ncclGetErrorString tells
typedef struct NcclCommObject *NcclComm;

enum { NCCL_OK = 0, NCCL_UNHANDLED_CUDA_ERROR = 1, NCCL_INVALID_ARGUMENT = 4, NCCL_INVALID_USAGE = 5, NCCL_REMOTE_ERROR = 6, NCCL_IN_PROGRESS = 7 };
enum { NCCL_I32 = 2, NCCL_I64 = 4, NCCL_F32 = 7, NCCL_F64 = 8 };  // types of elements
enum { NCCL_SUM = 0 };
enum { NCCL_ID_BYTES = 128 };

typedef struct {
    char bytes[NCCL_ID_BYTES];
} NcclId;

#define NCCL_FUNCTIONS(X)                                                                           \
    X(NcclResult, ncclGetVersion, (int *version))                                                   \
    X(const char *, ncclGetErrorString, (NcclResult result))                                        \
    X(const char *, ncclGetLastError, (NcclComm comm))                                              \
    X(NcclResult, ncclGetUniqueId, (NcclId *id))                                                    \
    X(NcclResult, ncclCommInitRank, (NcclComm *comm, int ranks, NcclId id, int rank))               \
    X(NcclResult, ncclCommDestroy, (NcclComm comm))                                                 \
    X(NcclResult, ncclCommAbort, (NcclComm comm))                                                   \
    X(NcclResult, ncclCommGetAsyncError, (NcclComm comm, NcclResult *error))                        \
    X(NcclResult, ncclAllReduce,                                                                    \
      (const void *from, void *to, size_t count, int type, int op, NcclComm comm, CuStream stream))

typedef struct {
#define X(type, name, parameters) type(*name) parameters;
    NCCL_FUNCTIONS(X)
#undef X
} Nccl;

#endif
