// The ranks of a run: processes that train one model together, each on a batch of its own, one a device. Every function is collective: all
// ranks call it, in the same order. NULL stands for a process by itself: rank 0 of 1, whose sums are the values themselves.
// Over MPI, found at run time (mpi.c); what lies on a GPU goes by NCCL (device/cuda/nccl.c), which this brings together.
#ifndef LV_COMM_COMM_H
#define LV_COMM_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/text.h"

typedef struct LvComm LvComm;

// The ranks that a launcher started (mpirun, mpiexec, srun); *comm stays NULL in a process that none started, and where it started one.
bool lv_comm_open(LvComm **comm, LvError *error);
// What a launcher says of how many processes it started, without asking MPI; 1: there is none.
int lv_comm_launched(void);
// `good`: this rank ends as all do. One that alone gives up ends the others too, who would wait for it for ever.
void lv_comm_close(LvComm *comm, bool good);

int lv_comm_rank(const LvComm *comm);
int lv_comm_size(const LvComm *comm);
int lv_comm_local_rank(const LvComm *comm);  // among those of this machine
int lv_comm_local_size(const LvComm *comm);
double lv_comm_patience(const LvComm *comm);  // seconds that a rank waits for the others, 0: for ever

// Sums over ranks, in place, in the host's memory: f32, f64, i32, i64; the same bits on every rank. A rank that waits longer than
// $LV_COMM_TIMEOUT seconds (default 1800, 0: for ever) gives up; `what` is then named.
bool lv_comm_sum(LvComm *comm, void *data, size_t count, LvDType dtype, const char *what, LvError *error);
bool lv_comm_most(LvComm *comm, int64_t *value, const char *what, LvError *error);  // the greatest of all; as patient, but NULL is endless
// From rank 0 to all. For as long as rank 0 takes, as the next two.
bool lv_comm_share(LvComm *comm, void *data, size_t bytes, LvError *error);
bool lv_comm_share_text(LvComm *comm, LvText *text, LvError *error);
// True on every rank or on none. Where it is false, the lowest rank that failed keeps its error, and the others' is LV_ERROR_ELSEWHERE:
// whoever prints errors prints one (LV_ERROR_INTERRUPTED is so on all). After it all ranks end alike.
bool lv_comm_agree(LvComm *comm, bool good, LvError *error);
bool lv_comm_agree_in(LvComm *comm, bool good, const char *what, LvError *error);  // as patient as lv_comm_sum
// Work whose fruits stay in files: done by those ranks that are `first`, then by the others, who find them. True on every rank or on none.
bool lv_comm_take_turns(LvComm *comm, bool first, bool (*work)(void *user, LvError *error), void *user, LvError *error);

#endif
