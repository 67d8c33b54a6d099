// Ranks of a training run: see ranks.h.
#include "ranks.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "comm/launch.h"
#include "device/device.h"

enum { MOST_RANKS = 4096 };

// ---- how many

// --gpus -1 is all that there are, as in the original.
static bool read_gpus(const Options *options, int64_t *gpus, LvError *error) {
    *gpus = 0;
    if (!options_integer(options, "gpus", -1, MOST_RANKS, gpus, error)) return false;
    if (*gpus == 0) return true;
    const char *device = options_get(options, "device", "cuda");
    int there = lv_comm_launched() > 1 ? MOST_RANKS : lv_cuda_count();  // a launcher's ranks may be on several machines
    if (strncmp(device, "cuda", 4) != 0 && strcmp(device, "auto") != 0)
        return lv_error_set(error, LV_ERROR_USAGE, "--gpus %lld and --device %s", (long long)*gpus, device);
    if (*gpus < 0 && lv_comm_launched() > 1) *gpus = lv_comm_launched();
    else if (*gpus < 0) *gpus = there;
    if (*gpus > 0 && *gpus <= there) return true;
    if (there == 0) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "--gpus %s: this machine has no GPU that lvrun can use", options_get(options, "gpus", ""));
        return lv_error_hint(error, "leave --gpus out (or --gpus 0) to train on the CPU; lvrun doctor says what is there");
    }
    return lv_error_set(error, LV_ERROR_USAGE, "--gpus %lld: there %s %d", (long long)*gpus, there == 1 ? "is" : "are", there);
}

static bool read_ranks(const Options *options, int *ranks, LvError *error) {
    int64_t gpus, asked = 0;
    if (!read_gpus(options, &gpus, error) || !options_integer(options, "ranks", 1, MOST_RANKS, &asked, error)) return false;
    if (gpus > 0 && asked > 0 && asked != gpus)
        return lv_error_set(error, LV_ERROR_USAGE, "--gpus %lld and --ranks %lld: one rank has one GPU", (long long)gpus, (long long)asked);
    *ranks = (int)(asked > 0 ? asked : gpus);
    return true;
}

static bool launch(int ranks, char **argv, int *code, LvError *error) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return lv_error_set(error, LV_ERROR_IO, "/proc/self/exe cannot be read");
    self[length] = 0;
    int count = 0;
    while (argv[count]) count++;
    char **words = lv_calloc((size_t)count + 2, sizeof *words);
    words[0] = self;
    memcpy(words + 1, argv, (size_t)count * sizeof *words);
    setenv("LV_TERMINAL", isatty(1) ? "1" : "0", 1);  // theirs is mpirun's, which may pose as one
    bool good = lv_comm_launch(ranks, words, code, error);
    free(words);
    return good;
}

bool ranks_open(const Options *options, char **argv, LvComm **comm, int *code, LvError *error) {
    int ranks = 0, launched = lv_comm_launched();
    *comm = NULL, *code = -1;
    if (!read_ranks(options, &ranks, error)) return false;
    if (ranks > 1 && launched == 1) return launch(ranks, argv, code, error);
    if (!lv_comm_open(comm, error)) return false;
    if (ranks == 0 || ranks == lv_comm_size(*comm)) return true;
    lv_error_set(error, LV_ERROR_USAGE, "%d ranks are asked for, and the launcher started %d", ranks, lv_comm_size(*comm));
    return lv_comm_agree(*comm, false, error);
}

// ---- the device of each

// Whether the launcher left all ranks the same processors, rather than giving each its own.
static bool share_processors(LvComm *comm, bool *shared, int *count, LvError *error) {
    cpu_set_t set;
    uint64_t hash = 1469598103934665603u;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    for (size_t i = 0; i < sizeof set; i++) hash = (hash ^ ((unsigned char *)&set)[i]) * 1099511628211u;
    int64_t most = (int64_t)(hash >> 2), least = -most;
    if (!lv_comm_most(comm, &most, "processors", error) || !lv_comm_most(comm, &least, "processors", error)) return false;
    *shared = most == -least;
    *count = CPU_COUNT(&set);
    return true;
}

static bool find_threads(LvComm *comm, int64_t *threads, LvError *error) {
    bool shared;
    int count;
    if (!share_processors(comm, &shared, &count, error)) return false;
    if (*threads > 0 || getenv("OMP_NUM_THREADS")) return true;
    int own = shared ? count / lv_comm_local_size(comm) : count;
    *threads = own > 1 ? own : 1;
    return true;
}

static bool open_own(const Options *options, LvComm *comm, int64_t threads, LvDevice **device, LvError *error) {
    const char *name = options_get(options, "device", options_has(options, "gpus") && strcmp(options_get(options, "gpus", "0"), "0") ? "cuda" : "cpu");
    char own[32];
    bool gpu = !strcmp(name, "cuda") || (!strcmp(name, "auto") && lv_cuda_count() > 0);
    if (lv_comm_size(comm) > 1 && gpu) {
        int count = lv_cuda_count();  // a launcher may show each rank its own alone
        snprintf(own, sizeof own, "cuda:%d", count > 0 ? lv_comm_local_rank(comm) % count : 0);
        name = own;
    } else if (lv_comm_size(comm) > 1 && strchr(name, ':')) {
        lv_error_set(error, LV_ERROR_USAGE, "--device %s: each rank has a GPU of its own", name);
        return lv_error_hint(error, "--device cuda");
    }
    return lv_device_open(name, (int)threads, device, error);
}

bool ranks_open_device(const Options *options, LvComm *comm, LvCompileOptions *compile, LvDevice **device, LvError *error) {
    int64_t threads = 0;
    bool good = options_integer(options, "threads", 1, 4096, &threads, error);
    if (!lv_comm_agree(comm, good, error)) return false;
    if (comm && !find_threads(comm, &threads, error)) return false;
    good = open_own(options, comm, threads, device, error) && model_use_device(*device, compile, error);
    return lv_comm_agree(comm, good, error) && lv_device_join(*device, comm, error);
}
