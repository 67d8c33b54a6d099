// NCCL, opened when a device joins ranks. Its sums are the same bits on every rank, and run after run on the same GPUs.
//
// A sum goes to a stream of its own, behind what the steps' stream had been given until then; the steps go on meanwhile, up to the first
// that touches what is summed (exec/sums.h), which waits for the sum's event. In captured steps the two events are edges of the graph.
// NCCL's kernels turn round on the GPU until all ranks have come. Where one never does no call of the driver would return: so who waits
// asks, now and then also NCCL whether it has lost a rank, and ends the sums that are under way.
#include "device/cuda/nccl.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"

enum { OLDEST_VERSION = 21800 };  // the first for CUDA 12.1 and sm_90
enum { LEAVING = 10 };            // seconds

struct CudaNccl {
    CudaLibrary library;
    Nccl api;
    NcclComm comm;     // NULL: it was given up
    atomic_bool destroyed;
    CuStream stream;
    CuEvent before;    // what a sum comes after
    CuEvent *after;    // the end of each sum, by number; NULL: none had it yet
    int room;
};

// ---- the library

static void print_version(LvText *out, int version) { lv_text_printf(out, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100); }

static bool refuse(const CudaLibrary *library, const char *why, LvError *error) {
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "NCCL (%s) is too old: %s", library->path, why);
    return lv_error_hint(error, "2.18 or later: %s", cuda_library_package(CUDA_NCCL));
}

bool cuda_nccl_open(CudaLibrary *library, Nccl *api, int *version, LvError *error) {
#define X(type, name, parameters) {#name, offsetof(Nccl, name)},
    static const CudaSymbol symbols[] = {NCCL_FUNCTIONS(X)};
#undef X
    LvText why = {0};
    *version = 0;
    if (!cuda_library_open(CUDA_NCCL, 0, library)) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "several GPUs need NCCL: %s is nowhere to be found", cuda_library_file(CUDA_NCCL));
        return lv_error_hint(error, "%s", cuda_library_package(CUDA_NCCL));
    }
    const char *missing = cuda_library_fill(library, symbols, sizeof symbols / sizeof *symbols, api);
    if (missing) lv_text_printf(&why, "it has no function '%s'", missing);
    else if (api->ncclGetVersion(version) != NCCL_OK || *version < OLDEST_VERSION) print_version(&why, *version);
    bool good = !why.length || refuse(library, why.data, error);
    lv_text_free(&why);
    return good;
}

// False, with error set to NCCL's words, unless `result` is NCCL_OK.
static bool check(const LvCuda *gpu, const CudaNccl *nccl, NcclResult result, const char *what, LvError *error) {
    if (result == NCCL_OK) return true;
    const char *last = nccl->api.ncclGetLastError(nccl->comm);
    int length = last ? (int)strcspn(last, "\n") : 0;
    lv_error_set(error, LV_ERROR_DEVICE, "rank %d: %s: NCCL: %s%s%.*s%s", lv_comm_rank(gpu->base.comm), what,
                 nccl->api.ncclGetErrorString(result), length ? " (" : "", length, length ? last : "", length ? ")" : "");
    if (length && strstr(last, "Duplicate GPU")) return lv_error_hint(error, "each rank needs a GPU of its own");
    return lv_error_hint(error, "NCCL_DEBUG=INFO in the environment tells more");
}

// ---- joining

// What each rank has by itself, before any of them waits for the others.
static bool prepare(LvCuda *gpu, CudaNccl *nccl, NcclId *id, LvError *error) {
    int version;
    cuda_enter(gpu);
    return cuda_nccl_open(&nccl->library, &nccl->api, &version, error) &&
           cuda_check(gpu, gpu->cu.cuStreamCreate(&nccl->stream, CU_STREAM_OF_ITS_OWN), error, "cannot create a stream") &&
           cuda_check(gpu, gpu->cu.cuEventCreate(&nccl->before, CU_EVENT_UNTIMED), error, "cannot create an event") &&
           (lv_comm_rank(gpu->base.comm) > 0 || check(gpu, nccl, nccl->api.ncclGetUniqueId(id), "ncclGetUniqueId", error));
}

// Ends the kernels of sums that others will never come to, so that what waits for this GPU returns.
static bool give_up(LvCuda *gpu) {
    CudaNccl *nccl = gpu->nccl;
    if (nccl->comm) nccl->api.ncclCommAbort(nccl->comm);
    nccl->comm = NULL;
    return false;
}

// What is recorded and what is walked must be the same on all.
static bool agree_on_checking(LvCuda *gpu, LvError *error) {
    int64_t checked = gpu->base.checked;
    if (!lv_comm_most(gpu->base.comm, &checked, NULL, error)) return false;
    gpu->base.checked = checked;
    return true;
}

bool cuda_nccl_join(LvCuda *gpu, LvComm *comm, LvError *error) {
    CudaNccl *nccl = gpu->nccl = lv_calloc(1, sizeof *nccl);
    NcclId id = {{0}};
    gpu->base.comm = comm;
    bool good = lv_comm_agree(comm, prepare(gpu, nccl, &id, error), error) && lv_comm_share(comm, &id, sizeof id, error);
    if (good) {
        NcclResult result = nccl->api.ncclCommInitRank(&nccl->comm, lv_comm_size(comm), id, lv_comm_rank(comm));
        if (result != NCCL_OK) nccl->comm = NULL;
        good = lv_comm_agree(comm, check(gpu, nccl, result, "ncclCommInitRank", error), error);
    }
    if (good && agree_on_checking(gpu, error)) return true;
    give_up(gpu);
    cuda_nccl_close(gpu);
    gpu->base.comm = NULL;
    return false;
}

// ---- leaving

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *destroy(void *data) {
    CudaNccl *nccl = data;
    nccl->api.ncclCommDestroy(nccl->comm);
    atomic_store(&nccl->destroyed, true);
    return NULL;
}

// NCCL's end may wait for the other ranks' of this machine: a rank that ends alone, which then ends them, must not stay in it.
static bool destroy_soon(const LvCuda *gpu) {
    CudaNccl *nccl = gpu->nccl;
    pthread_t thread;
    double start = now(), patience = lv_comm_patience(gpu->base.comm), most = patience > 0 && patience < LEAVING ? patience : LEAVING;
    if (pthread_create(&thread, NULL, destroy, nccl) != 0) return false;
    while (!atomic_load(&nccl->destroyed) && now() - start < most) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    bool done = atomic_load(&nccl->destroyed);
    if (done) pthread_join(thread, NULL);
    else pthread_detach(thread);
    return done;
}

void cuda_nccl_close(LvCuda *gpu) {
    CudaNccl *nccl = gpu->nccl;
    if (!nccl) return;
    cuda_enter(gpu);
    if (nccl->comm && !destroy_soon(gpu)) {
        gpu->nccl = NULL;  // it is the thread's
        return;
    }
    for (int i = 0; i < nccl->room; i++)
        if (nccl->after[i]) gpu->cu.cuEventDestroy_v2(nccl->after[i]);
    if (nccl->before) gpu->cu.cuEventDestroy_v2(nccl->before);
    if (nccl->stream) gpu->cu.cuStreamDestroy_v2(nccl->stream);
    cuda_library_close(&nccl->library);
    free(nccl->after);
    free(nccl);
    gpu->nccl = NULL;
}

// ---- sums

static int type_of(LvDType dtype) {
    return dtype == LV_F32 ? NCCL_F32 : dtype == LV_F64 ? NCCL_F64 : dtype == LV_I32 ? NCCL_I32 : dtype == LV_I64 ? NCCL_I64 : -1;
}

static bool find_event(LvCuda *gpu, int number, LvError *error) {
    CudaNccl *nccl = gpu->nccl;
    if (number >= nccl->room) {
        int room = 2 * number + 64;
        nccl->after = lv_realloc(nccl->after, (size_t)room, sizeof *nccl->after);
        for (int i = nccl->room; i < room; i++) nccl->after[i] = NULL;
        nccl->room = room;
    }
    return nccl->after[number] ||
           cuda_check(gpu, gpu->cu.cuEventCreate(&nccl->after[number], CU_EVENT_UNTIMED), error, "cannot create an event");
}

static bool report_gone(const LvCuda *gpu, LvError *error) {
    return lv_error_set(error, LV_ERROR_DEVICE, "rank %d: its sums over ranks were given up before", lv_comm_rank(gpu->base.comm));
}

bool cuda_nccl_sum(LvCuda *gpu, int number, void *data, size_t count, LvDType dtype, const char *what, LvError *error) {
    CudaNccl *nccl = gpu->nccl;
    int type = type_of(dtype);
    if (type < 0) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "sums of %s over ranks: f32, f64, i32 and i64 are summed", lv_dtype_name(dtype));
    if (!nccl) return true;  // one rank's sum is the value itself
    if (!nccl->comm) return report_gone(gpu, error);
    if (!find_event(gpu, number, error) || !cuda_check(gpu, gpu->cu.cuEventRecord(nccl->before, gpu->stream), error, "%s", what) ||
        !cuda_check(gpu, gpu->cu.cuStreamWaitEvent(nccl->stream, nccl->before, 0), error, "%s", what))
        return false;
    NcclResult result = nccl->api.ncclAllReduce(data, data, count, type, NCCL_SUM, nccl->comm, nccl->stream);
    // also after a failure: a capture must not be left with a stream that nothing waits for
    CuResult marked = gpu->cu.cuEventRecord(nccl->after[number], nccl->stream);
    return check(gpu, nccl, result, what, error) && cuda_check(gpu, marked, error, "%s", what);
}

bool cuda_nccl_wait(LvCuda *gpu, int number, LvError *error) {
    const CudaNccl *nccl = gpu->nccl;
    return !nccl || cuda_check(gpu, gpu->cu.cuStreamWaitEvent(gpu->stream, nccl->after[number], 0), error, "a sum over ranks");
}

// ---- waiting

static bool is_sound(LvCuda *gpu, LvError *error) {
    CudaNccl *nccl = gpu->nccl;
    NcclResult result = NCCL_OK, asked = nccl->comm ? nccl->api.ncclCommGetAsyncError(nccl->comm, &result) : NCCL_OK;
    if (asked != NCCL_OK) result = asked;
    if (result == NCCL_IN_PROGRESS) result = NCCL_OK;
    return check(gpu, nccl, result, "sums over ranks", error) || give_up(gpu);
}

static bool report_waiting(LvCuda *gpu, double waited, LvError *error) {
    lv_error_set(error, LV_ERROR_DEVICE, "rank %d has waited %.0f s for the other ranks, on its GPU", lv_comm_rank(gpu->base.comm), waited);
    if (gpu->running) lv_error_prefix(error, "entry '%s'", gpu->running);
    lv_error_hint(error, "another rank is stuck or gone, and its sums with it; LV_COMM_TIMEOUT sets the seconds (0: for ever)");
    return give_up(gpu);
}

static CuResult ask(const LvCuda *gpu, CuEvent event) { return event ? gpu->cu.cuEventQuery(event) : gpu->cu.cuStreamQuery(gpu->stream); }

// Short waits are turned round in, so that a step's end is seen at once.
static void pause_after(double waited) {
    if (waited < 1e-3) sched_yield();
    else nanosleep(&(struct timespec){.tv_nsec = waited < 1 ? 50000 : 1000000}, NULL);
}

static bool wait_among_ranks(LvCuda *gpu, CuEvent event, const char *what, LvError *error) {
    double start = now(), looked = start, patience = lv_comm_patience(gpu->base.comm);
    CuResult result;
    while ((result = ask(gpu, event)) == CU_NOT_READY) {
        double at = now();
        if (patience > 0 && at - start > patience) return report_waiting(gpu, at - start, error);
        if (at - looked > 0.1) {
            if (!is_sound(gpu, error)) return false;
            looked = at;
        }
        pause_after(at - start);
    }
    if (result != CU_OK && !is_sound(gpu, error)) return false;  // NCCL knows better than the driver what went wrong
    return cuda_check(gpu, result, error, "%s", what);
}

bool cuda_wait(LvCuda *gpu, CuEvent event, const char *what, LvError *error) {
    if (gpu->nccl) return wait_among_ranks(gpu, event, what, error);
    return cuda_check(gpu, event ? gpu->cu.cuEventSynchronize(event) : gpu->cu.cuStreamSynchronize(gpu->stream), error, "%s", what);
}
