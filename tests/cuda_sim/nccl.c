// libnccl's stand-in: sums over ranks that are processes of this machine. A sum is work of its stream, which libcuda's stand-in runs: its
// data is read and written then, so that what comes too early or too late finds other numbers. Elements are summed in the order of ranks.
//
// A GPU comes to its sums by itself. Here queued work is done when the host waits; so each communicator has a thread that does it also
// when another rank is waiting for this one's sum.
#include "device/cuda/nccl_api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "nccl_ranks.h"

#define X(type, name, parameters) __attribute__((visibility("default"))) type name parameters;
NCCL_FUNCTIONS(X)
#undef X

enum { NCCL_INTERNAL_ERROR = 3, ALIVE = 0x4C56434F, DEAD = 0x44454144 };

struct NcclCommObject {
    int state;                // ALIVE or DEAD: one that was destroyed is kept, to be told from others
    Ranks ranks;
    uint64_t sums;            // done or begun
    atomic_int error;         // NcclResult
    atomic_bool ends;
    pthread_t helper;
    NcclComm next;
};

typedef struct {  // a sum, as work of a stream
    char *from, *to;
    NcclComm comm;
    size_t count;
    int type, op;
} Sum;

static NcclComm comms;  // all that there ever were
static char last_error[256];

static NcclResult fail(NcclResult result, const char *why) {
    snprintf(last_error, sizeof last_error, "%s", why);
    return result;
}

static NcclResult trouble(const char *function) {
    const NcclResult result = sim_trouble(function, NCCL_UNHANDLED_CUDA_ERROR);
    return result ? fail(result, "it was told to fail") : NCCL_OK;
}

NcclResult ncclGetVersion(int *version) {
    *version = sim_setting("LV_CUDA_SIM_NCCL", 22809);
    return trouble("ncclGetVersion");
}

const char *ncclGetErrorString(NcclResult result) {
    switch (result) {
        case NCCL_OK: return "no error";
        case NCCL_UNHANDLED_CUDA_ERROR: return "unhandled cuda error";
        case NCCL_INTERNAL_ERROR: return "internal error";
        case NCCL_INVALID_ARGUMENT: return "invalid argument";
        case NCCL_INVALID_USAGE: return "invalid usage";
        case NCCL_REMOTE_ERROR: return "remote process exited or there was a network error";
        default: return "unknown result code";
    }
}

const char *ncclGetLastError(NcclComm comm) {
    return comm && comm->state == ALIVE && *comm->ranks.last ? comm->ranks.last : last_error;
}

NcclResult ncclGetUniqueId(NcclId *id) {
    const NcclResult t = trouble("ncclGetUniqueId");
    if (t) return t;
    ranks_name(id->bytes);
    return NCCL_OK;
}

// ---- sums

static size_t size_of(int type) { return type == NCCL_F32 || type == NCCL_I32 ? 4 : type == NCCL_F64 || type == NCCL_I64 ? 8 : 0; }

// to <- the sum of all ranks' numbers.
static void add(const Ranks *r, char *to, size_t count, int type) {
#define ADD(TYPE, WIDE)                                                                                              \
    for (size_t i = 0; i < count; i++) {                                                                             \
        WIDE sum = ((const TYPE *)(const void *)r->shared->slots[0].room)[i];                                        \
        for (int k = 1; k < r->ranks; k++) sum = (TYPE)(sum + ((const TYPE *)(const void *)r->shared->slots[k].room)[i]); \
        ((TYPE *)(void *)to)[i] = (TYPE)sum;                                                                         \
    }
    if (type == NCCL_F32) ADD(float, float)
    else if (type == NCCL_F64) ADD(double, double)
    else if (type == NCCL_I32) ADD(int32_t, int64_t)
    else ADD(int64_t, int64_t)
#undef ADD
}

// Whether all are at the same sum, and well.
static bool agree(Ranks *r) {
    const RankNote *own = &r->shared->slots[r->rank].note;
    for (int i = 0; i < r->ranks; i++) {
        const RankNote *other = &r->shared->slots[i].note;
        if (other->bad) return ranks_say(r, "rank %d failed", i);
        if (other->sum != own->sum || other->count != own->count || other->type != own->type || other->op != own->op)
            return ranks_say(r, "sum %llu is of %llu elements of type %d, and rank %d's sum %llu of %llu of type %d", (unsigned long long)own->sum,
                             (unsigned long long)own->count, own->type, i, (unsigned long long)other->sum, (unsigned long long)other->count,
                             other->type);
    }
    return true;
}

static bool sum_up(NcclComm comm, const Sum *s) {
    Ranks *r = &comm->ranks;
    RankSlot *own = &r->shared->slots[r->rank];
    const size_t size = size_of(s->type), most = RANKS_ROOM / size;
    const bool bad = sim_trouble("summed", NCCL_INTERNAL_ERROR);
    own->note = (RankNote){.sum = ++comm->sums, .count = s->count, .type = s->type, .op = s->op, .bad = bad};
    if (bad) ranks_say(r, "it was told to fail");
    if (!ranks_meet(r) || bad || !agree(r)) return false;
    for (size_t at = 0; at < s->count; at += most) {
        const size_t piece = s->count - at < most ? s->count - at : most;
        memcpy(own->room, s->from + at * size, piece * size);
        if (!ranks_meet(r)) return false;
        add(r, s->to + at * size, piece, s->type);
        if (!ranks_meet(r)) return false;
    }
    return true;
}

typedef void Fault(void);

static void run_sum(void *data) {
    const Sum *s = data;
    Fault *fault = (Fault *)(uintptr_t)sim_of_driver("lv_sim_fault");
    if (s->comm->state != ALIVE) fprintf(stderr, "cuda_sim: NCCL: a sum of a communicator that was destroyed before it was done\n");
    else if (atomic_load(&s->comm->error) == NCCL_OK && sum_up(s->comm, s)) return;
    else atomic_store(&s->comm->error, NCCL_REMOTE_ERROR);
    if (fault) fault();
}

static void *help(void *data) {
    NcclComm comm = data;
    const Ranks *r = &comm->ranks;
    Fault *progress = (Fault *)(uintptr_t)sim_of_driver("lv_sim_progress");
    while (!atomic_load(&comm->ends)) {
        bool wanted = false;
        for (int i = 0; i < r->ranks; i++)
            wanted |= atomic_load(&r->shared->slots[i].steps) > atomic_load(&r->shared->slots[r->rank].steps);
        if (wanted && progress) progress();
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return NULL;
}

// ---- communicators

typedef int Device(void);

static NcclResult look_around(Ranks *r) {
    const RankNote *own = &r->shared->slots[r->rank].note;
    if (!ranks_meet(r)) return NCCL_REMOTE_ERROR;
    for (int i = 0; i < r->ranks; i++) {
        const RankNote *other = &r->shared->slots[i].note;
        if (other->ranks != own->ranks) return fail(NCCL_INVALID_ARGUMENT, "ranks were told different numbers of ranks");
        if (i == r->rank || other->device != own->device) continue;
        snprintf(last_error, sizeof last_error, "Duplicate GPU detected : rank %d and rank %d both on CUDA device %d", r->rank, i, own->device);
        return NCCL_INVALID_USAGE;
    }
    return ranks_meet(r) ? NCCL_OK : NCCL_REMOTE_ERROR;  // before the notes are written anew
}

static NcclResult start(NcclComm comm, int device) {
    Ranks *r = &comm->ranks;
    r->shared->slots[r->rank].note = (RankNote){.ranks = r->ranks, .device = device};
    const NcclResult result = look_around(r);
    comm->state = ALIVE;
    if (result == NCCL_OK && pthread_create(&comm->helper, NULL, help, comm)) return fail(NCCL_INTERNAL_ERROR, "no thread");
    return result;
}

NcclResult ncclCommInitRank(NcclComm *out, int ranks, NcclId id, int rank) {
    const NcclResult t = trouble("ncclCommInitRank");
    Device *find = (Device *)(uintptr_t)sim_of_driver("lv_sim_device");
    const int device = find ? find() : -1;
    if (t) return t;
    if (device < 0) return fail(NCCL_UNHANDLED_CUDA_ERROR, "no context is current");
    id.bytes[NCCL_ID_BYTES - 1] = 0;
    NcclComm comm = calloc(1, sizeof *comm);
    if (!comm) return NCCL_INTERNAL_ERROR;
    NcclResult result = ranks_open(&comm->ranks, id.bytes, rank, ranks) ? start(comm, device) : fail(NCCL_INVALID_ARGUMENT, comm->ranks.last);
    if (result == NCCL_OK) comm->next = comms, *out = comms = comm;
    else ranks_close(&comm->ranks), free(comm);
    return result;
}

static NcclResult end(NcclComm comm) {
    if (!comm || comm->state != ALIVE) return fail(NCCL_INVALID_ARGUMENT, "no communicator, or one that was destroyed");
    atomic_store(&comm->ends, true);
    pthread_join(comm->helper, NULL);
    comm->state = DEAD;
    ranks_close(&comm->ranks);
    return NCCL_OK;
}

NcclResult ncclCommDestroy(NcclComm comm) {
    const NcclResult t = trouble("ncclCommDestroy");
    sleep((unsigned)sim_setting("LV_CUDA_SIM_NCCL_LINGER", 0));
    return t ? t : end(comm);
}

NcclResult ncclCommAbort(NcclComm comm) {
    const NcclResult t = trouble("ncclCommAbort");
    return t ? t : end(comm);
}

NcclResult ncclCommGetAsyncError(NcclComm comm, NcclResult *error) {
    const NcclResult t = trouble("ncclCommGetAsyncError");
    if (t) return t;
    if (!comm || comm->state != ALIVE || !error) return fail(NCCL_INVALID_ARGUMENT, "no communicator, or one that was destroyed");
    *error = atomic_load(&comm->error);
    return NCCL_OK;
}

typedef int StreamCall(CuStream stream, void (*run)(void *data), const void *data, size_t bytes);
typedef int MemoryHolds(const void *memory, size_t bytes);

NcclResult ncclAllReduce(const void *from, void *to, size_t count, int type, int op, NcclComm comm, CuStream stream) {
    const NcclResult t = trouble("ncclAllReduce");
    StreamCall *call = (StreamCall *)(uintptr_t)sim_of_driver("lv_sim_stream_call");
    MemoryHolds *holds = (MemoryHolds *)(uintptr_t)sim_of_driver("lv_sim_memory_holds");
    const size_t size = size_of(type);
    if (t) return t;
    if (!comm || comm->state != ALIVE) return fail(NCCL_INVALID_ARGUMENT, "no communicator, or one that was destroyed");
    if (!size || op != NCCL_SUM) return fail(NCCL_INVALID_ARGUMENT, "a type or an operation that the stand-in has not");
    if (!call || !holds || !holds(from, count * size) || !holds(to, count * size))
        return fail(NCCL_INVALID_ARGUMENT, "what is summed lies in no allocation of the device");
    if (count == 0) return NCCL_OK;
    const Sum sum = {(char *)(uintptr_t)from, to, comm, count, type, op};
    return call(stream, run_sum, &sum, sizeof sum) ? fail(NCCL_UNHANDLED_CUDA_ERROR, "the stream takes no work") : NCCL_OK;
}
