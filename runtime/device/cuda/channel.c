// A channel: inputs go from pinned memory to a landing place on the device by a second stream, while the steps of the run before are
// at work, and from there to their place in the first stream, which takes a copy within the device; captured steps hold the
// addresses of that place. Results are copied to pinned memory behind the steps that make them.
//
//   transfers   ... taken(k-1) | landing <- pinned | sent(k) ...
//   the stream  ... steps(k-1) | sent(k) | inputs <- landing | taken(k) | steps(k) | pinned <- results | given(k) ...
//
// Two pieces of pinned memory take turns for inputs, and two for results. An input's is written again when its copy is known to be
// done: results that were read tell so of the inputs that they were made from, and else the host waits.
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/nccl.h"

enum { TURNS = 2 };

typedef struct {
    char *memory;
    bool pinned;
    CuEvent passed;  // its copy is done
    uint64_t until;  // of inputs: the results that tell so, by their number; 0: never used
} Turn;

struct LvChannel {
    CuPointer inputs, results, landing;
    size_t landing_bytes;
    Turn up[TURNS], down[LV_CHANNEL_DEPTH];
    int turn;                  // of `up`
    bool open;                 // inputs are being written to up[turn]
    CuEvent taken;             // the landing place is free again
    uint64_t given, read;      // results so far
};

static CuPointer pointer(const void *at) { return (CuPointer)(uintptr_t)at; }

static bool make_turns(LvCuda *gpu, Turn *turns, int count, size_t bytes, LvError *error) {
    for (int i = 0; i < count; i++) {
        turns[i].memory = cuda_host_allocate(gpu, bytes, &turns[i].pinned);
        memset(turns[i].memory, 0, bytes);  // what lies between pieces goes along
        if (!cuda_check(gpu, gpu->cu.cuEventCreate(&turns[i].passed, CU_EVENT_UNTIMED), error, "cannot create an event")) return false;
    }
    return true;
}

// The landing place is cleared in the stream: it is taken from there on.
static bool make_landing(LvCuda *gpu, LvChannel *c, size_t bytes, LvError *error) {
    void *landing = NULL;
    if (!cuda_allocate(gpu, bytes, &landing, error)) return lv_error_prefix(error, "inputs on their way");
    c->landing = pointer(landing);
    gpu->landing_bytes += c->landing_bytes = bytes;
    return cuda_check(gpu, gpu->cu.cuEventCreate(&c->taken, CU_EVENT_UNTIMED), error, "cannot create an event") &&
           cuda_check(gpu, gpu->cu.cuEventRecord(c->taken, gpu->stream), error, "inputs");
}

bool cuda_channel_create(LvCuda *gpu, void *inputs, size_t input_bytes, void *results, size_t result_bytes, LvChannel **out,
                         LvError *error) {
    LvChannel *c = lv_calloc(1, sizeof *c);
    cuda_enter(gpu);
    c->inputs = pointer(inputs), c->results = pointer(results);
    bool good = (!input_bytes || (make_turns(gpu, c->up, TURNS, input_bytes, error) && make_landing(gpu, c, input_bytes, error))) &&
                (!result_bytes || make_turns(gpu, c->down, LV_CHANNEL_DEPTH, result_bytes, error));
    if (good) *out = c;
    else cuda_channel_destroy(gpu, c);
    return good;
}

static void free_turns(LvCuda *gpu, Turn *turns, int count) {
    for (int i = 0; i < count; i++) {
        if (turns[i].passed) gpu->cu.cuEventDestroy_v2(turns[i].passed);
        if (turns[i].memory) cuda_host_free(gpu, turns[i].memory, turns[i].pinned);
    }
}

// All that was sent is waited for in the stream, so that its end is the transfers' too.
void cuda_channel_destroy(LvCuda *gpu, LvChannel *c) {
    cuda_enter(gpu);
    gpu->cu.cuStreamSynchronize(gpu->stream);
    free_turns(gpu, c->up, TURNS);
    free_turns(gpu, c->down, LV_CHANNEL_DEPTH);
    if (c->taken) gpu->cu.cuEventDestroy_v2(c->taken);
    if (c->landing) cuda_release(gpu, (void *)(uintptr_t)c->landing);
    gpu->landing_bytes -= c->landing_bytes;
    free(c);
}

bool cuda_channel_room(LvCuda *gpu, LvChannel *c, char **room, LvError *error) {
    Turn *turn = &c->up[c->turn];
    if (!c->open && turn->until > c->read) {
        cuda_enter(gpu);
        if (!cuda_wait(gpu, turn->passed, "inputs", error)) return false;
    }
    c->open = true;
    *room = turn->memory;
    return true;
}

bool cuda_channel_send(LvCuda *gpu, LvChannel *c, const LvPiece *pieces, int count, LvError *error) {
    Turn *turn = &c->up[c->turn];
    if (count == 0) return true;
    cuda_enter(gpu);
    CuResult result = gpu->cu.cuStreamWaitEvent(gpu->transfers, c->taken, 0);
    for (int i = 0; i < count && result == CU_OK; i++)
        result = gpu->cu.cuMemcpyHtoDAsync_v2(c->landing + pieces[i].at, turn->memory + pieces[i].at, pieces[i].bytes, gpu->transfers);
    if (result == CU_OK) result = gpu->cu.cuEventRecord(turn->passed, gpu->transfers);
    if (result == CU_OK) result = gpu->cu.cuStreamWaitEvent(gpu->stream, turn->passed, 0);
    for (int i = 0; i < count && result == CU_OK; i++)
        result = gpu->cu.cuMemcpyDtoDAsync_v2(c->inputs + pieces[i].at, c->landing + pieces[i].at, pieces[i].bytes, gpu->stream);
    if (result == CU_OK) result = gpu->cu.cuEventRecord(c->taken, gpu->stream);
    turn->until = c->given + 1;
    c->open = false;
    c->turn = (c->turn + 1) % TURNS;
    return cuda_check(gpu, result, error, "inputs");
}

bool cuda_channel_give(LvCuda *gpu, LvChannel *c, const LvPiece *pieces, int count, LvError *error) {
    Turn *turn = &c->down[c->given++ % LV_CHANNEL_DEPTH];
    CuResult result = CU_OK;
    cuda_enter(gpu);
    for (int i = 0; i < count && result == CU_OK; i++)
        result = gpu->cu.cuMemcpyDtoHAsync_v2(turn->memory + pieces[i].at, c->results + pieces[i].at, pieces[i].bytes, gpu->stream);
    if (result == CU_OK) result = gpu->cu.cuEventRecord(turn->passed, gpu->stream);
    return cuda_check(gpu, result, error, "results");
}

bool cuda_channel_read(LvCuda *gpu, LvChannel *c, const char **results, LvError *error) {
    Turn *turn = &c->down[c->read % LV_CHANNEL_DEPTH];
    cuda_enter(gpu);
    if (!cuda_wait(gpu, turn->passed, "results", error)) return false;
    c->read++;
    *results = turn->memory;
    return true;
}
