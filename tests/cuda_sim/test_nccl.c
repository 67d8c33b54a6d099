// libnccl's stand-in: two processes that sum, and what it must refuse or report.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda/nccl_api.h"
#include "test.h"

enum { COUNT = 20000 };  // in pieces

static Nccl nccl;

static bool open_nccl(void) {
    void *library = dlopen("libnccl.so.2", RTLD_NOW);
    if (!library) return printf("# %s\n", dlerror()), false;
#define X(type, name, parameters)                                       \
    nccl.name = (type(*) parameters)(uintptr_t)dlsym(library, #name);   \
    if (!nccl.name) return printf("# no function %s\n", #name), false;
    NCCL_FUNCTIONS(X)
#undef X
    return true;
}

static bool start(int rank, int device, CuStream *stream) {
    CuContext context;
    (void)rank;
    return test_open() && !api.cuDevicePrimaryCtxRetain(&context, device) && !api.cuStreamCreate(stream, CU_STREAM_OF_ITS_OWN);
}

// The body as rank 0 and, in a process of its own, as rank 1.
static bool run_two(bool body(int rank, NcclId id)) {
    NcclId id;
    int status = 1;
    TEST_CHECK(open_nccl() && !nccl.ncclGetUniqueId(&id));
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const bool good = body(1, id);
        fflush(stdout);
        _exit(!good);
    }
    const bool good = child > 0 && body(0, id);
    return waitpid(child, &status, 0) == child && status == 0 && good;
}

// x i + 1 of rank 0 and three times that of rank 1: 4 (i + 1).
static bool sum_of(int rank, int type, size_t size, NcclComm comm, CuStream stream) {
    char *data = calloc(COUNT, size);
    bool good = data != NULL;
    for (int i = 0; i < COUNT && good; i++) {
        const int number = (i % 1000 + 1) * (rank ? 3 : 1);
        if (type == NCCL_F32) ((float *)(void *)data)[i] = (float)number;
        else if (type == NCCL_F64) ((double *)(void *)data)[i] = number;
        else if (type == NCCL_I32) ((int32_t *)(void *)data)[i] = number;
        else ((int64_t *)(void *)data)[i] = number;
    }
    const CuPointer x = test_put(data, COUNT * size);
    good = good && !api.cuStreamSynchronize(NULL) && !nccl.ncclAllReduce((void *)(uintptr_t)x, (void *)(uintptr_t)x, COUNT, type, NCCL_SUM, comm, stream);
    // one rank waits, the other goes on: its own part is done all the same
    if (rank) usleep(100000);
    good = good && !api.cuStreamSynchronize(stream) && test_get(data, x, COUNT * size);
    for (int i = 0; i < COUNT && good; i++) {
        const int want = 4 * (i % 1000 + 1);
        const double got = type == NCCL_F32   ? (double)((float *)(void *)data)[i]
                           : type == NCCL_F64 ? ((double *)(void *)data)[i]
                           : type == NCCL_I32 ? ((int32_t *)(void *)data)[i]
                                              : (double)((int64_t *)(void *)data)[i];
        good = got >= want && got <= want;
    }
    free(data);
    return good;
}

static bool sums(int rank, NcclId id) {
    CuStream stream;
    NcclComm comm;
    TEST_CHECK(start(rank, rank, &stream) && !nccl.ncclCommInitRank(&comm, 2, id, rank));
    TEST_CHECK(sum_of(rank, NCCL_F32, 4, comm, stream) && sum_of(rank, NCCL_F64, 8, comm, stream));
    TEST_CHECK(sum_of(rank, NCCL_I32, 4, comm, stream) && sum_of(rank, NCCL_I64, 8, comm, stream));
    // What a call must not be given
    const CuPointer x = test_room(64);
    void *at = (void *)(uintptr_t)x;
    float host[16];
    TEST_CHECK(nccl.ncclAllReduce(host, host, 16, NCCL_F32, NCCL_SUM, comm, stream) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(nccl.ncclAllReduce(at, at, 17, NCCL_F32, NCCL_SUM, comm, stream) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(nccl.ncclAllReduce(at, at, 16, 9, NCCL_SUM, comm, stream) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(nccl.ncclAllReduce(at, at, 16, NCCL_F32, 2, comm, stream) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(nccl.ncclAllReduce(at, at, 16, NCCL_F32, NCCL_SUM, NULL, stream) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(!nccl.ncclCommDestroy(comm) && nccl.ncclCommDestroy(comm) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(nccl.ncclAllReduce(at, at, 16, NCCL_F32, NCCL_SUM, comm, stream) == NCCL_INVALID_ARGUMENT);
    return true;
}

// As many elements as ranks do not agree on; a rank that does not come.
static bool disagreement(int rank, NcclId id) {
    CuStream stream;
    NcclComm comm;
    NcclResult lost = 0;
    TEST_CHECK(start(rank, rank, &stream) && !nccl.ncclCommInitRank(&comm, 2, id, rank));
    void *at = (void *)(uintptr_t)test_room(64);
    TEST_CHECK(!api.cuStreamSynchronize(NULL));
    TEST_CHECK(!nccl.ncclAllReduce(at, at, rank ? 16 : 15, NCCL_F32, NCCL_SUM, comm, stream));
    TEST_CHECK(api.cuStreamSynchronize(stream) == CU_LAUNCH_FAILED && !nccl.ncclCommGetAsyncError(comm, &lost) && lost == NCCL_REMOTE_ERROR);
    TEST_CHECK(strstr(nccl.ncclGetLastError(comm), rank ? "of 16 elements of type 7, and rank 0's sum 1 of 15" : "of 15 elements"));
    return !nccl.ncclCommAbort(comm);
}

static bool absence(int rank, NcclId id) {
    CuStream stream;
    NcclComm comm;
    TEST_CHECK(start(rank, rank, &stream) && !nccl.ncclCommInitRank(&comm, 2, id, rank));
    void *at = (void *)(uintptr_t)test_room(64);
    if (rank) return usleep(1500000), true;
    TEST_CHECK(!api.cuStreamSynchronize(NULL) && !nccl.ncclAllReduce(at, at, 16, NCCL_F32, NCCL_SUM, comm, stream));
    TEST_CHECK(api.cuStreamSynchronize(stream) == CU_LAUNCH_FAILED && strstr(nccl.ncclGetLastError(comm), "rank 1 does not come"));
    return true;
}

static bool wrong_ranks(int rank, NcclId id) {
    CuStream stream;
    NcclComm comm;
    NcclId none = {"elsewhere"};
    TEST_CHECK(start(rank, 0, &stream));
    TEST_CHECK(nccl.ncclCommInitRank(&comm, 2, id, 2) == NCCL_INVALID_ARGUMENT && nccl.ncclCommInitRank(&comm, 2, none, rank) == NCCL_INVALID_ARGUMENT);
    TEST_CHECK(nccl.ncclCommInitRank(&comm, 2, id, rank) == NCCL_INVALID_USAGE && strstr(nccl.ncclGetLastError(NULL), "Duplicate GPU"));
    return true;
}

// Twice rank 0: the second is refused, the first waits in vain.
static bool same_rank(int rank, NcclId id) {
    CuStream stream;
    NcclComm comm;
    TEST_CHECK(start(rank, rank, &stream));
    return nccl.ncclCommInitRank(&comm, 2, id, 0) == NCCL_INVALID_ARGUMENT;
}

static bool run_sums(void) { return run_two(sums); }
static bool run_disagreement(void) { return run_two(disagreement); }
static bool run_absence(void) { return run_two(absence); }
static bool run_wrong_ranks(void) { return run_two(wrong_ranks); }
static bool run_same_rank(void) { return run_two(same_rank); }

#define TWO "LV_CUDA_SIM_DEVICES=2", "LV_CUDA_SIM_NCCL_PATIENCE=1"
const TestCase test_nccl[] = {
    {"nccl_sums", {"LV_CUDA_SIM_DEVICES=2"}, run_sums},
    {"nccl_disagreement", {TWO}, run_disagreement},
    {"nccl_absence", {TWO}, run_absence},
    {"nccl_wrong_ranks", {TWO}, run_wrong_ranks},
    {"nccl_same_rank", {TWO}, run_same_rank},
    {0},
};
