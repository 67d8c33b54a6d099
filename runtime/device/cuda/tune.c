// Candidates take turns, so that what else happens falls on all of them alike; one that is clearly slower is out. A few
// milliseconds in all: a model has some dozens of different products.
#include "device/cuda/tune.h"

#include <float.h>

static const float clear = 1.5f, budget = 30;  // milliseconds
enum { MOST_TURNS = 6 };

typedef struct {
    LvCuda *gpu;
    CuEvent before, after;
    TuneBuffers at;
    void *workspace;
    bool (*run)(void *user, int candidate, const TuneBuffers *at, void *workspace);
    void *user;
} Tuning;

static float time_run(const Tuning *t, int candidate) {
    const CuDriver *cu = &t->gpu->cu;
    float milliseconds = FLT_MAX;
    bool good = cu->cuEventRecord(t->before, t->gpu->stream) == CU_OK && t->run(t->user, candidate, &t->at, t->workspace) &&
                cu->cuEventRecord(t->after, t->gpu->stream) == CU_OK && cu->cuEventSynchronize(t->after) == CU_OK &&
                cu->cuEventElapsedTime(&milliseconds, t->before, t->after) == CU_OK;
    return good ? milliseconds : FLT_MAX;
}

static bool find_fastest(const Tuning *t, int count, int *best, float *times) {
    float spent = 0;
    *best = 0;
    for (int i = 0; i < count; i++) times[i] = time_run(t, i) < FLT_MAX ? 0 : FLT_MAX;  // a first run loads its code
    for (int turn = 0; turn < MOST_TURNS && spent < budget; turn++) {
        for (int i = 0; i < count; i++) {
            if (times[i] == FLT_MAX || (turn && times[i] > clear * times[*best])) continue;
            float time = time_run(t, i);
            if (turn == 0 || time < times[i]) times[i] = time;
            if (time < FLT_MAX) spent += time;
        }
        *best = 0;
        for (int i = 1; i < count; i++)
            if (times[i] < times[*best]) *best = i;
    }
    return times[*best] < FLT_MAX;
}

bool tune_timed(LvCuda *gpu, TuneSizes sizes, int count, bool run(void *user, int candidate, const TuneBuffers *at, void *workspace),
                void use_vector(void *user, const void *vector), void *user, int *best, float times[TUNE_CANDIDATES]) {
    enum { A, B, Y, VECTOR, WORKSPACE, BUFFERS };
    const size_t bytes[BUFFERS] = {sizes.a, sizes.b, sizes.y, sizes.vector, sizes.workspace};
    void *memory[BUFFERS] = {0};
    LvError ignored = {0};
    Tuning t = {.gpu = gpu, .run = run, .user = user};
    bool good =
        gpu->cu.cuEventCreate(&t.before, CU_EVENT_TIMED) == CU_OK && gpu->cu.cuEventCreate(&t.after, CU_EVENT_TIMED) == CU_OK;
    for (int i = 0; i < BUFFERS && good; i++) good = cuda_allocate(gpu, bytes[i], &memory[i], &ignored);
    if (good) {
        t.at = (TuneBuffers){.y = memory[Y], .a = memory[A], .b = memory[B], .add = memory[Y]};
        t.workspace = memory[WORKSPACE];
        use_vector(user, memory[VECTOR]);
        good = find_fastest(&t, count, best, times);
    }
    lv_error_clear(&ignored);
    for (int i = 0; i < BUFFERS; i++) cuda_release(gpu, memory[i]);
    if (t.before) gpu->cu.cuEventDestroy_v2(t.before);
    if (t.after) gpu->cu.cuEventDestroy_v2(t.after);
    return good;
}

bool tune_candidates(LvCuda *gpu, TuneSizes sizes, int count,
                     bool run(void *user, int candidate, const TuneBuffers *at, void *workspace),
                     void use_vector(void *user, const void *vector), void *user, int *best) {
    float times[TUNE_CANDIDATES];
    return tune_timed(gpu, sizes, count, run, use_vector, user, best, times);
}
