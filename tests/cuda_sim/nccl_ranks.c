// The memory has its name only until all have come, so that nothing is left behind by those that end in any way.
#include "nccl_ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool ranks_say(Ranks *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->last, sizeof r->last, format, args);
    va_end(args);
    fprintf(stderr, "cuda_sim: NCCL, rank %d: %s\n", r->rank, r->last);
    return false;
}

void ranks_name(char name[128]) {
    static atomic_int number;
    memset(name, 0, 128);
    snprintf(name, 128, "/lv-cuda-sim-nccl-%d-%d-%llx", (int)getpid(), atomic_fetch_add(&number, 1), (unsigned long long)(now() * 1e9));
}

static bool is_gone(int process) { return process && kill(process, 0) != 0 && errno == ESRCH; }

static bool wait_for(Ranks *r, int other) {
    RankSlot *slot = &r->shared->slots[other];
    const double start = now(), patience = sim_setting("LV_CUDA_SIM_NCCL_PATIENCE", 20);
    while (atomic_load(&slot->steps) < r->steps) {
        const double waited = now() - start;
        if (is_gone(atomic_load(&slot->process)) && atomic_load(&slot->steps) < r->steps) return ranks_say(r, "rank %d has ended", other);
        if (waited > patience) return ranks_say(r, "rank %d does not come within %.0f seconds", other, patience);
        if (waited < 1e-3) sched_yield();
        else nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return true;
}

bool ranks_meet(Ranks *r) {
    atomic_store(&r->shared->slots[r->rank].steps, ++r->steps);
    for (int i = 0; i < r->ranks; i++)
        if (!wait_for(r, i)) return false;
    return true;
}

static bool share_memory(Ranks *r, const char *name) {
    const int file = shm_open(name, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, sizeof *r->shared)) return ranks_say(r, "no shared memory %s", name);
    void *memory = mmap(NULL, sizeof *r->shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return ranks_say(r, "no shared memory %s", name);
    r->shared = memory;
    return true;
}

static bool come(Ranks *r) {
    int nobody = 0;
    if (!atomic_compare_exchange_strong(&r->shared->slots[r->rank].process, &nobody, (int)getpid())) return ranks_say(r, "there are two of it");
    return ranks_meet(r);
}

bool ranks_open(Ranks *r, const char *name, int rank, int ranks) {
    *r = (Ranks){.rank = rank, .ranks = ranks};
    if (ranks < 1 || ranks > RANKS_MOST || rank < 0 || rank >= ranks) return ranks_say(r, "no rank of %d", ranks);
    if (strncmp(name, "/lv-cuda-sim-nccl-", 18) != 0) return ranks_say(r, "the id is none that ncclGetUniqueId gave");
    const bool good = share_memory(r, name) && come(r);
    shm_unlink(name);
    if (!good) ranks_close(r);
    return good;
}

void ranks_close(Ranks *r) {
    if (r->shared) munmap(r->shared, sizeof *r->shared);
    r->shared = NULL;
}
