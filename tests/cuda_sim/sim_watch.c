// Endless loops: a kernel that for LV_CUDA_SIM_PATIENCE seconds (30) of the processor's time comes to no barrier and to no end of a
// block is stopped, where a GPU would hang. A timer of this thread's time ticks once a second; its signal is taken on the stack of the
// thread of the kernel, which it may leave like any error does, unless the code at that moment is not the kernel's own.
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "sim.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static timer_t timer;
static bool ticking;
static int patience, quiet;
static uint32_t last_epoch;

static const char *place_of(void *context) {
#if defined __x86_64__
    return (const char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined __aarch64__
    return (const char *)((ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return sim.image;
#endif
}

static void tick(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    if (!sim.current) return;
    if (sim.epoch != last_epoch) {
        last_epoch = sim.epoch, quiet = 0;
        return;
    }
    const char *place = place_of(context);
    if (++quiet < patience || place < sim.image || place >= sim.image_end) return;
    sim_fail(SIM_LAUNCH_TIMEOUT, place + 1, "no barrier, and no end of the block, for %d seconds: an endless loop?", quiet);
}

void sim_watch_begin(void) {
    const char *set = getenv("LV_CUDA_SIM_PATIENCE");
    const struct itimerspec every = {{1, 0}, {1, 0}};
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM};
    patience = set && *set ? atoi(set) : 30;
    quiet = 0, last_epoch = sim.epoch;
    ticking = false;
    if (patience <= 0) return;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGVTALRM, &action, NULL) || timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer)) return;
    ticking = true;
    timer_settime(timer, 0, &every, NULL);
}

void sim_watch_end(void) {
    if (ticking) timer_delete(timer);
}
