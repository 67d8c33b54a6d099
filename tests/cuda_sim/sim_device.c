// Races on device memory, looked for with LV_CUDA_SIM_CHECK=2: as those on shared memory, and two blocks of a launch are ordered by
// one thing alone: the one writes, fences and adds atomically to a word, the other then adds to the same word, fences and reads.
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

// ---- blocks that an atomic operation orders

typedef struct {
    uintptr_t address;
    uint32_t first, last;  // epochs: of the block's start, and of the operation, after a fence
} Release;

static Release *releases;  // of this launch, in the order of `first`
static size_t release_count, release_room;
static uint32_t released_in;  // the launch
static uintptr_t taken[64];   // words that this block added to; those before `seen` it has fenced since
static size_t taken_count, seen_count;

void sim_device_block(void) { taken_count = seen_count = 0; }

void sim_fence(void) {
    sim.current->fenced = true;
    seen_count = taken_count;
}

void sim_order(uintptr_t address) {
    if (!sim.state->watch_device) return;
    if (released_in != sim.launch_epoch) release_count = 0;
    released_in = sim.launch_epoch;
    if (taken_count < sizeof taken / sizeof *taken) taken[taken_count++] = address;
    if (!sim.current->fenced) return;
    if (release_count == release_room) {
        const size_t room = release_room ? 2 * release_room : 256;
        Release *more = realloc(releases, room * sizeof *more);
        if (!more) abort();
        releases = more, release_room = room;
    }
    releases[release_count++] = (Release){address, sim.block_epoch, sim.epoch};
}

static bool was_released(uint32_t epoch) {
    size_t low = 0, high = released_in == sim.launch_epoch ? release_count : 0;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (releases[middle].first <= epoch) low = middle + 1;
        else high = middle;
    }
    for (size_t i = low; i && releases[i - 1].first == releases[low - 1].first; i--) {
        for (size_t s = 0; s < seen_count && epoch <= releases[i - 1].last; s++) {
            if (taken[s] == releases[i - 1].address) return true;
        }
    }
    return false;
}

// ---- races

static bool ordered(uint64_t earlier, uint64_t now) {
    const uint32_t epoch = (uint32_t)(earlier >> EPOCH_AT);
    if (epoch != (uint32_t)(now >> EPOCH_AT)) return epoch < sim.launch_epoch || epoch >= sim.block_epoch || was_released(epoch);
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
