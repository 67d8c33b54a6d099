// Memory: blocks on the device, transfers through pinned memory, scratch memory that all steps share.
//
// Uploads are copied into a ring of pinned memory and queued from there, so that who uploads does not wait: a piece of the ring is
// used again once the event behind its copy has passed. Downloads take turns between two pinned pieces, one being filled by the
// device while the other is copied out.
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/nccl.h"

enum { RING_BYTES = 32 << 20, PIECE = 4 << 20, ALIGN = 256, MARKS = 64 };

// What of the ring is under way: from the mark before to `end`, until the event.
typedef struct {
    size_t end;
    CuEvent event;
} Mark;

struct CudaStaging {
    char *ring, *down;      // RING_BYTES; two pieces
    bool ring_pinned, down_pinned;
    size_t head, tail;      // the ring's next free byte, its first that is under way; equal: it is empty
    Mark marks[MARKS];      // a ring of their own
    int first, count;
    CuEvent down_events[2];
};

struct CudaScratch {
    void *memory;
    size_t bytes;
    int users;
};

// ---- blocks

static bool report_full(LvCuda *gpu, size_t bytes, LvError *error) {
    size_t left = 0, total = 0;
    gpu->cu.cuMemGetInfo_v2(&left, &total);
    lv_error_set(error, LV_ERROR_MEMORY, "out of GPU memory: %.3f GB needed, %.3f of %.3f GB are free", (double)bytes / 1e9,
                 (double)left / 1e9, (double)total / 1e9);
    return lv_error_hint(error, "a smaller batch, or --memory-limit BYTES to recompute rather than store");
}

// No bytes are a block too: an address that is never read.
bool cuda_allocate(LvCuda *gpu, size_t bytes, void **memory, LvError *error) {
    CuPointer at = 0;
    size_t taken = (bytes / ALIGN + 1) * ALIGN;
    cuda_enter(gpu);
    CuResult result = gpu->cu.cuMemAlloc_v2(&at, taken);
    if (result == CU_OUT_OF_MEMORY) return report_full(gpu, taken, error);
    if (!cuda_check(gpu, result, error, "cannot allocate %zu bytes on the GPU", taken)) return false;
    if (!cuda_check(gpu, gpu->cu.cuMemsetD8Async(at, 0, taken, gpu->stream), error, "cannot clear GPU memory")) {
        gpu->cu.cuMemFree_v2(at);
        return false;
    }
    *memory = (void *)(uintptr_t)at;
    return true;
}

// Freeing waits for the device, so what is queued has been done.
void cuda_release(LvCuda *gpu, void *memory) {
    if (!memory) return;
    cuda_enter(gpu);
    gpu->cu.cuStreamSynchronize(gpu->stream);
    gpu->cu.cuMemFree_v2((CuPointer)(uintptr_t)memory);
}

// ---- transfers

// Where the system lends no pinned memory any will do: the driver then copies it itself first.
char *cuda_host_allocate(LvCuda *gpu, size_t bytes, bool *pinned) {
    void *memory = NULL;
    *pinned = gpu->cu.cuMemHostAlloc(&memory, bytes, 0) == CU_OK;
    return *pinned ? memory : lv_malloc(bytes);
}

void cuda_host_free(LvCuda *gpu, void *memory, bool pinned) {
    if (pinned) gpu->cu.cuMemFreeHost(memory);
    else free(memory);
}

bool cuda_staging_open(LvCuda *gpu, LvError *error) {
    CudaStaging *s = gpu->staging = lv_calloc(1, sizeof *s);
    s->ring = cuda_host_allocate(gpu, RING_BYTES, &s->ring_pinned);
    s->down = cuda_host_allocate(gpu, 2 * PIECE, &s->down_pinned);
    for (int i = 0; i < MARKS; i++) {
        CuResult result = gpu->cu.cuEventCreate(&s->marks[i].event, CU_EVENT_UNTIMED);
        if (!cuda_check(gpu, result, error, "cannot create an event")) return false;
    }
    for (int i = 0; i < 2; i++) {
        CuResult result = gpu->cu.cuEventCreate(&s->down_events[i], CU_EVENT_UNTIMED);
        if (!cuda_check(gpu, result, error, "cannot create an event")) return false;
    }
    return true;
}

void cuda_staging_close(LvCuda *gpu) {
    CudaStaging *s = gpu->staging;
    if (!s) return;
    for (int i = 0; i < MARKS; i++)
        if (s->marks[i].event) gpu->cu.cuEventDestroy_v2(s->marks[i].event);
    for (int i = 0; i < 2; i++)
        if (s->down_events[i]) gpu->cu.cuEventDestroy_v2(s->down_events[i]);
    cuda_host_free(gpu, s->ring, s->ring_pinned);
    cuda_host_free(gpu, s->down, s->down_pinned);
    free(s);
    gpu->staging = NULL;
}

static bool wait_for_mark(LvCuda *gpu, LvError *error) {
    CudaStaging *s = gpu->staging;
    Mark *mark = &s->marks[s->first];
    s->first = (s->first + 1) % MARKS, s->count--;
    s->tail = mark->end;
    if (s->count == 0) s->head = s->tail = 0;
    return cuda_wait(gpu, mark->event, "upload", error);
}

// Room for `bytes`, at most PIECE of them, in one piece of the ring.
static bool find_room(LvCuda *gpu, size_t bytes, char **at, LvError *error) {
    CudaStaging *s = gpu->staging;
    while (true) {
        bool wrapped = s->count && s->head <= s->tail;
        size_t end = wrapped ? s->tail : RING_BYTES;
        if (s->count < MARKS && end - s->head >= bytes) {
            *at = s->ring + s->head;
            s->head += bytes;
            return true;
        }
        // what is left at the end is too short: from the start on, if that is free
        if (s->count < MARKS && !wrapped && s->tail >= bytes) s->head = 0;
        else if (!wait_for_mark(gpu, error)) return false;
    }
}

bool cuda_upload(LvCuda *gpu, void *to, const void *host, size_t bytes, LvError *error) {
    CudaStaging *s = gpu->staging;
    cuda_enter(gpu);
    for (size_t done = 0; done < bytes;) {
        size_t part = bytes - done < PIECE ? bytes - done : PIECE;
        char *at;
        if (!find_room(gpu, (part + ALIGN - 1) / ALIGN * ALIGN, &at, error)) return false;
        memcpy(at, (const char *)host + done, part);
        Mark *mark = &s->marks[(s->first + s->count++) % MARKS];
        mark->end = s->head;
        CuPointer target = (CuPointer)(uintptr_t)to + done;
        if (!cuda_check(gpu, gpu->cu.cuMemcpyHtoDAsync_v2(target, at, part, gpu->stream), error, "upload") ||
            !cuda_check(gpu, gpu->cu.cuEventRecord(mark->event, gpu->stream), error, "upload"))
            return false;
        done += part;
    }
    return true;
}

bool cuda_download(LvCuda *gpu, void *host, const void *from, size_t bytes, LvError *error) {
    CudaStaging *s = gpu->staging;
    size_t pieces = (bytes + PIECE - 1) / PIECE;
    cuda_enter(gpu);
    for (size_t i = 0; i <= pieces; i++) {
        if (i < pieces) {  // the next one is asked for before the last one is taken out
            size_t at = i * PIECE, part = bytes - at < PIECE ? bytes - at : PIECE;
            CuResult result =
                gpu->cu.cuMemcpyDtoHAsync_v2(s->down + i % 2 * PIECE, (CuPointer)(uintptr_t)from + at, part, gpu->stream);
            if (!cuda_check(gpu, result, error, "download") ||
                !cuda_check(gpu, gpu->cu.cuEventRecord(s->down_events[i % 2], gpu->stream), error, "download"))
                return false;
        }
        if (i > 0) {
            size_t last = i - 1, at = last * PIECE, part = bytes - at < PIECE ? bytes - at : PIECE;
            if (!cuda_wait(gpu, s->down_events[last % 2], "download", error)) return false;
            memcpy((char *)host + at, s->down + last % 2 * PIECE, part);
        }
    }
    return true;
}

// ---- scratch memory

// A block once made stays where it is, since captured steps hold its address: who needs a larger one gets a new one, which those
// after it share.
bool cuda_scratch_take(LvCuda *gpu, size_t bytes, CudaScratch **out, LvError *error) {
    *out = NULL;
    if (bytes == 0) return true;
    bytes += LV_SCRATCH_HEAD;
    if (!gpu->scratch || gpu->scratch->bytes < bytes) {
        void *memory = NULL;
        if (!cuda_allocate(gpu, bytes, &memory, error)) return lv_error_prefix(error, "scratch memory");
        CudaScratch *old = gpu->scratch, *made = gpu->scratch = lv_calloc(1, sizeof *made);
        *made = (CudaScratch){memory, bytes, 1};
        gpu->scratch_bytes += bytes;
        if (old) cuda_scratch_leave(gpu, old);  // the device itself is a user of the newest
    }
    gpu->scratch->users++;
    *out = gpu->scratch;
    return true;
}

void cuda_scratch_leave(LvCuda *gpu, CudaScratch *scratch) {
    if (!scratch || --scratch->users > 0) return;
    cuda_release(gpu, scratch->memory);
    gpu->scratch_bytes -= scratch->bytes;
    if (gpu->scratch == scratch) gpu->scratch = NULL;
    free(scratch);
}

char *cuda_scratch_memory(const CudaScratch *scratch) { return scratch ? (char *)scratch->memory + LV_SCRATCH_HEAD : NULL; }
