// Our declarations of NCCL beside its own header, which this is compiled with where there is one: it is never run.
#include <nccl.h>

#include "device/cuda/nccl_api.h"

#define SAME(OURS, THEIRS) _Static_assert((int)(OURS) == (int)(THEIRS), #THEIRS)
SAME(NCCL_OK, ncclSuccess);
SAME(NCCL_UNHANDLED_CUDA_ERROR, ncclUnhandledCudaError);
SAME(NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
SAME(NCCL_INVALID_USAGE, ncclInvalidUsage);
SAME(NCCL_REMOTE_ERROR, ncclRemoteError);
SAME(NCCL_IN_PROGRESS, ncclInProgress);
SAME(NCCL_I32, ncclInt32);
SAME(NCCL_I64, ncclInt64);
SAME(NCCL_F32, ncclFloat32);
SAME(NCCL_F64, ncclFloat64);
SAME(NCCL_SUM, ncclSum);
SAME(NCCL_ID_BYTES, NCCL_UNIQUE_ID_BYTES);
SAME(sizeof(NcclId), sizeof(ncclUniqueId));
SAME(sizeof(NcclResult), sizeof(ncclResult_t));

// Theirs with our parameters' types in their order, those of their own behind a cast.
void header_nccl(int *number, const void *from, void *to, size_t count);
void header_nccl(int *number, const void *from, void *to, size_t count) {
    ncclUniqueId id;
    ncclComm_t comm;
    ncclResult_t result = ncclGetVersion(number);
    const char *words = ncclGetErrorString(result);
    result = ncclGetUniqueId(&id);
    result = ncclCommInitRank(&comm, *number, id, *number);
    words = words ? words : ncclGetLastError(comm);
    result = ncclAllReduce(from, to, count, (ncclDataType_t)*number, (ncclRedOp_t)*number, comm, (cudaStream_t)NULL);
    *number = (int)ncclCommGetAsyncError(comm, &result);
    *number = (int)ncclCommAbort(comm);
    *number = (int)ncclCommDestroy(comm);
}
