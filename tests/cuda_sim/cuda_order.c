// Whether work on several streams is ordered where it touches the same memory. Each stream counts its operations and knows of the
// others how far they are done before its own go on (vector clocks): an event carries that from one stream to another, waiting
// carries it to the host, and from there to all that is queued after it. An operation that meets what another stream did or will do
// to the same bytes, one of the two writing, and that does not come after it by such a way, is an error, in whatever order the two
// would be done here.
//
// A copy touches its bytes; a kernel, or a library's call, may read and write the whole of each allocation that it has an address of.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

typedef struct {
    uintptr_t from, to;
    bool write;
    uint64_t number;  // of the last operation of its stream that did this
    char what[40];
} Access;

typedef struct {
    Access *list;
    size_t count, room;
} Accesses;

static Accesses accesses[CUDA_MOST_STREAMS];  // by stream
static CudaClock host;                        // what is done before whatever is queued from now on
static bool used[CUDA_MOST_STREAMS];

static void join(CudaClock *to, const CudaClock *from) {
    for (int i = 0; i < CUDA_MOST_STREAMS; i++)
        if (to->at[i] < from->at[i]) to->at[i] = from->at[i];
}

// A stream that was destroyed is done, and the host knows it: its place goes on counting where it stood.
void cuda_order_open(CuStream stream) {
    int i = 0;
    while (i < CUDA_MOST_STREAMS - 1 && used[i]) i++;
    used[i] = true;
    stream->place = i;
    join(&stream->clock, &host);
}

void cuda_order_close(CuStream stream) {
    cuda_order_host(&stream->clock);
    used[stream->place] = false;
    accesses[stream->place].count = 0;
}

void cuda_order_host(const CudaClock *clock) { join(&host, clock); }

void cuda_order_after(CuStream stream, const CudaClock *clock) { join(&stream->clock, clock); }

// Memory that is given back: nobody was at it any more.
void cuda_order_forget(uintptr_t from, size_t bytes) {
    for (int s = 0; s < CUDA_MOST_STREAMS; s++) {
        Accesses *a = &accesses[s];
        size_t kept = 0;
        for (size_t i = 0; i < a->count; i++)
            if (a->list[i].to <= from || a->list[i].from >= from + bytes) a->list[kept++] = a->list[i];
        a->count = kept;
    }
}

static void keep(CuStream stream, const Access *access) {
    Accesses *a = &accesses[stream->place];
    for (size_t i = 0; i < a->count; i++) {
        Access *old = &a->list[i];
        if (old->from != access->from || old->to != access->to || old->write != access->write) continue;
        *old = *access;
        return;
    }
    if (a->count == a->room) {
        const size_t room = a->room ? 2 * a->room : 64;
        Access *list = realloc(a->list, room * sizeof *list);
        if (!list) return;
        a->list = list, a->room = room;
    }
    a->list[a->count++] = *access;
}

static void touch(CuStream stream, uintptr_t from, size_t bytes, bool write, const char *what) {
    Access mine = {from, from + bytes, write, stream->clock.at[stream->place], ""};
    snprintf(mine.what, sizeof mine.what, "%s", what);
    for (int s = 0; s < CUDA_MOST_STREAMS; s++) {
        for (size_t i = 0; s != stream->place && i < accesses[s].count; i++) {
            const Access *other = &accesses[s].list[i];
            const bool meet = other->from < mine.to && mine.from < other->to && (other->write || write);
            if (!meet || stream->clock.at[s] >= other->number || cuda_error()) continue;
            fprintf(stderr, "cuda_sim: %s %s %zu bytes at %p, which %s on another stream %s: no event is waited for between them\n", what,
                    write ? "writes" : "reads", bytes, (void *)from, other->what, other->write ? "writes" : "reads");
            cuda_set_error(CU_LAUNCH_FAILED);
        }
    }
    keep(stream, &mine);
}

static void touch_block(CuStream stream, uint64_t word, const char *what) {
    uintptr_t from;
    size_t bytes;
    if (cuda_memory_block((uintptr_t)word, &from, &bytes)) touch(stream, from, bytes, true, what);
}

static void look(CuStream stream, const CudaOp *op) {
    uint64_t word;
    switch (op->kind) {
        case OP_COPY:
            if (op->copy.from != (const void *)op->owned) touch(stream, (uintptr_t)op->copy.from, op->copy.bytes, false, "a copy");
            touch(stream, (uintptr_t)op->copy.to, op->copy.bytes, true, "a copy");
            break;
        case OP_SET: touch(stream, (uintptr_t)op->set.to, op->set.bytes, true, "a memset"); break;
        case OP_LAUNCH:
            for (int i = 0; i < op->launch.function->kernel->parameters; i++) {
                if (op->launch.function->kernel->bytes[i] != sizeof word) continue;
                memcpy(&word, op->launch.parameters[i], sizeof word);
                touch_block(stream, word, op->launch.function->kernel->name);
            }
            break;
        case OP_CALL:
            for (size_t i = 0; i + sizeof word <= op->call.bytes; i += sizeof word) {
                memcpy(&word, (const char *)op->call.data + i, sizeof word);
                touch_block(stream, word, "a library's call");
            }
            break;
        case OP_GRAPH:
            for (const CudaOp *inner = op->graph->first; inner; inner = inner->next) look(stream, inner);
            break;
        case OP_RECORD:
        case OP_WAIT: break;
    }
}

void cuda_order_give(CuStream stream, const CudaOp *op) {
    join(&stream->clock, &host);
    stream->clock.at[stream->place]++;
    if (sim_setting("LV_CUDA_SIM_CHECK", 1)) look(stream, op);
}
