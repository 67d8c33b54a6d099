// Races on device memory, looked for with LV_CUDA_SIM_CHECK=2: as those on shared memory, but two blocks of a launch are never ordered.
#include <stdlib.h>
#include <sys/mman.h>

#include "sim.h"

// For each two bytes. A stamp: epoch (32 bits), thread in the block (10), warp barriers so far (16), then which of the two bytes.
typedef struct {
    uint64_t write, read, other_read;  // other_read: a read before, of another warp if there was one
} Cell;

enum { STEP_AT = 4, THREAD_AT = 22, WARP_AT = 27, EPOCH_AT = 32 };

typedef struct {
    uintptr_t address;
    LvSimAccess kind;
    const void *where;
} Touch;

static Cell *cells;  // of all addresses; backed by memory where they are touched

static size_t cells_bytes(void) { return sim.state->device_span / 2 * sizeof *cells; }

void sim_forget_device(void) {
    if (cells) madvise(cells, cells_bytes(), MADV_DONTNEED);
}

static bool ordered(uint64_t earlier, uint64_t now) {
    const uint32_t epoch = (uint32_t)(earlier >> EPOCH_AT);
    if (epoch != (uint32_t)(now >> EPOCH_AT)) return epoch < sim.launch_epoch || epoch >= sim.block_epoch;
    const uint64_t different = earlier ^ now;
    if (!(different >> THREAD_AT & 0x3FF)) return true;
    return !(different >> WARP_AT & 31) && (earlier >> STEP_AT & 0xFFFF) < (now >> STEP_AT & 0xFFFF);
}

static bool races(uint64_t earlier, uint64_t now) { return (earlier & now & STAMP_BYTES) && !ordered(earlier, now); }

static _Noreturn void report(uint64_t earlier, const char *was, const Touch *t) {
    sim_fail(SIM_LAUNCH_FAILED, t->where, "race in device memory: %s at %p, which thread %u of %s %s, with no barrier between them",
             t->kind == SIM_WRITE ? "write" : "read", (void *)t->address, (uint32_t)(earlier >> THREAD_AT) & 0x3FF,
             (uint32_t)(earlier >> EPOCH_AT) < sim.block_epoch ? "another block" : "the same block", was);
}

static void touch(Cell *c, uint64_t now, const Touch *t) {
    if (races(c->write, now)) report(c->write, "wrote", t);
    if (t->kind == SIM_WRITE) {
        if (races(c->read, now)) report(c->read, "read", t);
        if (races(c->other_read, now)) report(c->other_read, "read", t);
        c->write = now;
        if ((now & STAMP_BYTES) == STAMP_BYTES) c->read = c->other_read = 0;
    } else {
        const bool same_warp = c->read >> WARP_AT == now >> WARP_AT;
        if (!same_warp || c->other_read >> WARP_AT == now >> WARP_AT || !c->other_read) c->other_read = c->read;
        c->read = now;
    }
}

void sim_touch_device(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    if (!cells) {
        cells = mmap(NULL, cells_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if ((void *)cells == MAP_FAILED) abort();
    }
    const uint64_t steps = sim.launch.kernel->fibers ? sim.current->steps & 0xFFFF : 0;
    const uint64_t stamp = (uint64_t)sim.epoch << EPOCH_AT | (uint64_t)sim.index->x << THREAD_AT | steps << STEP_AT;
    const uint64_t now = stamp | (bytes == 1 ? 1u << (address & 1) : STAMP_BYTES);
    Cell *c = cells + (address - sim.state->device_base) / 2;
    Touch t = {address, kind, where};
    for (uint32_t i = 0; i < bytes; i += 2, t.address += 2, c++) {
        if ((kind == SIM_WRITE ? c->write : c->read) != now) touch(c, now, &t);
    }
}
