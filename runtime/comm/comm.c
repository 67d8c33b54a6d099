// Ranks over MPI: see comm.h. Every collective is begun and then asked for until it is done, so that a rank which is left waiting can say so.
#include "comm/comm.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "comm/mpi.h"

struct LvComm {
    Mpi mpi;
    int rank, size, local_rank, local_size;
    double patience;  // seconds, 0: endless
    bool ended;       // all ranks know that they end
};

enum { PIECE = 1 << 28 };  // elements that go at once: MPI counts in int

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- ranks

// Of a process in a step of Slurm's: a job's script by itself has the job's variables too, but no step.
static const char *slurm_size(void) { return getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID") ? getenv("SLURM_STEP_NUM_TASKS") : NULL; }

int lv_comm_launched(void) {
    const char *sizes[] = {getenv("OMPI_COMM_WORLD_SIZE"), getenv("PMI_SIZE"), slurm_size()};
    for (int i = 0; i < 3; i++) {
        long size = sizes[i] ? strtol(sizes[i], NULL, 10) : 0;
        if (size > 0 && size < INT_MAX) return (int)size;
    }
    return 1;
}

static bool check(LvComm *comm, int code, const char *call, LvError *error) {
    char text[MPI_TEXT + 1] = "";
    int length = 0;
    if (code == 0) return true;
    comm->mpi.error_string(code, text, &length);
    return lv_error_set(error, LV_ERROR_DEVICE, "rank %d: %s: %s", comm->rank, call, text);
}

static bool find_neighbours(LvComm *comm, LvError *error) {
    const Mpi *mpi = &comm->mpi;
    MpiHandle local;
    if (!check(comm, mpi->comm_split_type(mpi->world, mpi->shared, comm->rank, mpi->no_info, &local), "MPI_Comm_split_type", error)) return false;
    bool good = check(comm, mpi->comm_rank(local, &comm->local_rank), "MPI_Comm_rank", error) &&
                check(comm, mpi->comm_size(local, &comm->local_size), "MPI_Comm_size", error);
    mpi->comm_free(&local);
    return good;
}

static bool join(LvComm *comm, LvError *error) {
    Mpi *mpi = &comm->mpi;
    int provided;
    if (!mpi_load(mpi, error)) return false;
    if (!check(comm, mpi->init(NULL, NULL, MPI_FUNNELED, &provided), "MPI_Init_thread", error)) return false;
    mpi->comm_set_errhandler(mpi->world, mpi->errors_return);
    return check(comm, mpi->comm_rank(mpi->world, &comm->rank), "MPI_Comm_rank", error) &&
           check(comm, mpi->comm_size(mpi->world, &comm->size), "MPI_Comm_size", error) && find_neighbours(comm, error);
}

// torchrun sets these; it brings no MPI.
static bool check_torchrun(LvError *error) {
    const char *size = getenv("WORLD_SIZE");
    if (!size || strtol(size, NULL, 10) <= 1 || !getenv("RANK")) return true;
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "WORLD_SIZE is %s and RANK %s, but neither mpirun nor srun started this process", size, getenv("RANK"));
    return lv_error_hint(error, "start ranks by --gpus N, mpirun -n N lvrun train ..., or srun; or unset WORLD_SIZE");
}

bool lv_comm_open(LvComm **comm, LvError *error) {
    int launched = lv_comm_launched();
    *comm = NULL;
    if (launched == 1) return check_torchrun(error);
    LvComm *made = lv_calloc(1, sizeof *made);
    const char *patience = getenv("LV_COMM_TIMEOUT");
    made->size = made->local_size = 1;
    made->patience = patience && *patience ? strtod(patience, NULL) : 1800;
    if (!join(made, error)) {
        free(made);
        return false;
    }
    *comm = made;
    if (made->size == launched) return true;
    // Each is alone and takes itself for all: the library is another one than the launcher's.
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "the launcher started %d processes, and MPI knows of %d", launched, made->size);
    lv_error_hint(error, "launcher and library are of different MPIs; LV_MPI=PATH names the launcher's libmpi");
    lv_comm_close(made, true);
    *comm = NULL;
    return false;
}

void lv_comm_close(LvComm *comm, bool good) {
    if (!comm) return;
    if (good || comm->ended) comm->mpi.finalize();
    else comm->mpi.abort(comm->mpi.world, 1);
    free(comm);
}

int lv_comm_rank(const LvComm *comm) { return comm ? comm->rank : 0; }
int lv_comm_size(const LvComm *comm) { return comm ? comm->size : 1; }
int lv_comm_local_rank(const LvComm *comm) { return comm ? comm->local_rank : 0; }
int lv_comm_local_size(const LvComm *comm) { return comm ? comm->local_size : 1; }
double lv_comm_patience(const LvComm *comm) { return comm ? comm->patience : 0; }

// ---- collectives

// The processor is left to others at once, who may be the ones that are waited for; after a second we only look now and then.
static bool wait_for(LvComm *comm, MpiHandle *request, const char *call, const char *what, bool patient, LvError *error) {
    double start = now();
    for (int done = 0;;) {
        if (!check(comm, comm->mpi.test(request, &done, comm->mpi.no_status), call, error)) return false;
        if (done) return true;
        double waited = now() - start;
        if (!patient && comm->patience > 0 && waited > comm->patience) {
            lv_error_set(error, LV_ERROR_DEVICE, "rank %d has waited %.0f s for the other ranks, in '%s'", comm->rank, waited, what);
            return lv_error_hint(error, "one of them is stuck or gone; LV_COMM_TIMEOUT sets the seconds (0: for ever)");
        }
        if (waited < 1) sched_yield();
        else nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static bool reduce(LvComm *comm, void *data, int count, MpiHandle type, MpiHandle op, const char *what, bool patient, LvError *error) {
    MpiHandle request;
    const Mpi *mpi = &comm->mpi;
    return check(comm, mpi->iallreduce(mpi->in_place, data, count, type, op, mpi->world, &request), "MPI_Iallreduce", error) &&
           wait_for(comm, &request, "MPI_Iallreduce", what, patient, error);
}

bool lv_comm_sum(LvComm *comm, void *data, size_t count, LvDType dtype, const char *what, LvError *error) {
    if (!comm) return true;
    const Mpi *mpi = &comm->mpi;
    MpiHandle type = dtype == LV_F32 ? mpi->f32 : dtype == LV_F64 ? mpi->f64 : dtype == LV_I32 ? mpi->i32 : dtype == LV_I64 ? mpi->i64 : 0;
    if (!type) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "sums of %s over ranks: f32, f64, i32 and i64 are summed", lv_dtype_name(dtype));
    for (size_t at = 0; at < count; at += PIECE) {
        size_t piece = count - at < PIECE ? count - at : PIECE;
        if (!reduce(comm, (char *)data + at * lv_dtype_size(dtype), (int)piece, type, mpi->sum, what, false, error)) return false;
    }
    return true;
}

bool lv_comm_most(LvComm *comm, int64_t *value, const char *what, LvError *error) {
    return !comm || reduce(comm, value, 1, comm->mpi.i64, comm->mpi.most, what, !what, error);
}

bool lv_comm_share(LvComm *comm, void *data, size_t bytes, LvError *error) {
    for (size_t at = 0; comm && at < bytes; at += PIECE) {
        MpiHandle request;
        const Mpi *mpi = &comm->mpi;
        int piece = (int)(bytes - at < PIECE ? bytes - at : PIECE);
        if (!check(comm, mpi->ibcast((char *)data + at, piece, mpi->byte, 0, mpi->world, &request), "MPI_Ibcast", error) ||
            !wait_for(comm, &request, "MPI_Ibcast", "", true, error))
            return false;
    }
    return true;
}

bool lv_comm_share_text(LvComm *comm, LvText *text, LvError *error) {
    uint64_t length = text->length;
    if (!comm || !lv_comm_share(comm, &length, sizeof length, error)) return !comm;
    if (comm->rank != 0) {
        text->length = 0;
        char *data = lv_malloc(length + 1);
        bool good = lv_comm_share(comm, data, length, error);
        if (good) lv_text_append(text, data, length);
        free(data);
        return good;
    }
    return lv_comm_share(comm, text->data, length, error);
}

bool lv_comm_agree(LvComm *comm, bool good, LvError *error) { return lv_comm_agree_in(comm, good, NULL, error); }

bool lv_comm_agree_in(LvComm *comm, bool good, const char *what, LvError *error) {
    if (!comm) return good;
    enum { KINDS = 64 };
    int64_t own = good ? 0 : (comm->size - comm->rank) * (int64_t)KINDS + error->kind, failed = own;  // the lowest that failed has the greatest
    LvError broken = {0};
    if (!lv_comm_most(comm, &failed, what, &broken)) {
        if (good) *error = broken;
        else lv_error_clear(&broken);
        return false;
    }
    if (failed == 0) return true;
    bool stopped = failed % KINDS == LV_ERROR_INTERRUPTED;
    comm->ended = !stopped;
    if (failed == own) return false;
    lv_error_clear(error);
    return lv_error_set(error, stopped ? LV_ERROR_INTERRUPTED : LV_ERROR_ELSEWHERE, "%s", stopped ? "stopped" : "another rank failed");
}

bool lv_comm_take_turns(LvComm *comm, bool first, bool (*work)(void *user, LvError *error), void *user, LvError *error) {
    bool good = true;
    for (int turn = 0; good && turn < 2; turn++) {
        if (first == !turn) good = work(user, error);
        good = lv_comm_agree(comm, good, error);
    }
    return good;
}
