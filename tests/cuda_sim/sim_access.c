// Where an access may go, and races.
//
// Two accesses of different threads to one byte, one of them a write, must be ordered: by a barrier of the block between them, or,
// within a warp, by __syncwarp. A cell for each two bytes remembers the last write and two readers since, which is enough to see a
// race between the block's threads whenever there is one between a warp and another, or between two accesses in a row. Of device
// memory (LV_CUDA_SIM_CHECK=2) two blocks of a launch are never ordered.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim.h"

static bool lies_in(const SimRegion *r, uintptr_t address, uint32_t bytes) {
    return address - r->from < r->bytes && r->bytes - (address - r->from) >= bytes;
}

bool sim_in_shared(uintptr_t address, uint32_t bytes) {
    return lies_in(&sim.dynamic, address, bytes) || lies_in(&sim.fixed, address, bytes);
}

static SimCell *cell_of(const SimRegion *r, uintptr_t address) { return &r->cells[(address - (r->from & ~(uintptr_t)1)) / 2]; }

SimCell *sim_shared_cell(uintptr_t address) { return cell_of(lies_in(&sim.dynamic, address, 1) ? &sim.dynamic : &sim.fixed, address); }

void *sim_dynamic_shared(const void *where) {
    if (!sim.launch.dynamic_bytes) sim_fail(SIM_ILLEGAL_ADDRESS, where, "dynamic shared memory in a launch that gave it no bytes");
    return sim.dynamic_memory;
}

// ---- races

// A stamp of this thread, of a thread before a barrier, or, in its warp, before a __syncwarp that both came to.
static bool ordered(uint64_t earlier, uint64_t now, bool of_device) {
    const uint32_t epoch = (uint32_t)(earlier >> STAMP_EPOCH_AT);
    if (epoch != (uint32_t)(now >> STAMP_EPOCH_AT)) return !of_device || epoch < sim.launch_epoch || epoch >= sim.block_epoch;
    const uint64_t different = earlier ^ now, threads = (uint64_t)0x3FF << STAMP_THREAD_AT;
    if (!(different & threads)) return true;
    const uint32_t steps = (uint32_t)(earlier >> STAMP_STEPS_AT) & 0x3FFFF, steps_now = (uint32_t)(now >> STAMP_STEPS_AT) & 0x3FFFF;
    return !(different >> STAMP_WARP_AT & 31) && steps < steps_now;
}

static bool races(uint64_t earlier, uint64_t now, bool of_device) {
    return (earlier & now & STAMP_BYTES) && !ordered(earlier, now, of_device);
}

typedef struct {
    uintptr_t address;
    LvSimAccess kind;
    bool of_device;  // device memory, else shared
    const void *where;
} Touch;

static const char *memory_of(const Touch *t) { return t->of_device ? "device memory" : "shared memory"; }
static const char *word_of(LvSimAccess kind) { return kind == SIM_WRITE ? "write" : "read"; }

static _Noreturn void report_race(uint64_t earlier, const char *was, const Touch *t) {
    const uint32_t thread = (uint32_t)(earlier >> STAMP_THREAD_AT) & 0x3FF, epoch = (uint32_t)(earlier >> STAMP_EPOCH_AT);
    const char *block = epoch < sim.block_epoch ? "another block" : "the same block";
    sim_fail(SIM_LAUNCH_FAILED, t->where, "race in %s: %s at %p, which thread %u of %s %s, with no barrier between them", memory_of(t),
             word_of(t->kind), (void *)t->address, thread, block, was);
}

static void touch_cell(SimCell *c, uint64_t now, const Touch *t) {
    if (c->write & STAMP_PENDING) {
        sim_fail(SIM_LAUNCH_FAILED, t->where, "%s of %s at %p, where a copy under way (thread %u) will write", word_of(t->kind),
                 memory_of(t), (void *)t->address, (uint32_t)(c->write >> STAMP_THREAD_AT) & 0x3FF);
    }
    if (races(c->write, now, t->of_device)) report_race(c->write, "wrote", t);
    if (t->kind == SIM_WRITE) {
        if (races(c->read, now, t->of_device)) report_race(c->read, "read", t);
        if (races(c->other_read, now, t->of_device)) report_race(c->other_read, "read", t);
        c->write = now;
        if ((now & STAMP_BYTES) == STAMP_BYTES) c->read = c->other_read = 0;
    } else {
        // Keeps the last reader, and one of another warp (or epoch) than it where there was one.
        const bool same_warp = c->read >> STAMP_WARP_AT == now >> STAMP_WARP_AT;
        if (!same_warp || c->other_read >> STAMP_WARP_AT == now >> STAMP_WARP_AT || !c->other_read) c->other_read = c->read;
        c->read = now;
    }
}

// A thread that does again what it did last to a cell needs no look: had another come between, that would have been the race.
static inline void touch(SimCell *c, uint32_t bytes, uint64_t stamp, Touch t) {
    const uint64_t now = stamp | (bytes == 1 ? 1u << (t.address & 1) : STAMP_BYTES);
    for (uint32_t i = 0; i < bytes; i += 2, t.address += 2, c++) {
        if ((t.kind == SIM_WRITE ? c->write : c->read) != now) touch_cell(c, now, &t);
    }
}

void sim_touch(SimCell *cells, uintptr_t address, uint32_t bytes, LvSimAccess kind, uint64_t stamp, const void *where) {
    touch(cells, bytes, stamp, (Touch){address, kind, false, where});
}

// Cells of device memory: reserved for all of its addresses, backed by memory where they are touched.
static SimCell *device_cells(void) {
    static SimCell *cells;
    if (!cells) {
        cells = mmap(NULL, sim.state->device_span / 2 * sizeof *cells, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (cells == MAP_FAILED) abort();
    }
    return cells;
}

void sim_forget_stamps(void) {
    memset(sim.static_cells, 0, SIM_MOST_SHARED / 2 * sizeof(SimCell));
    memset(sim.dynamic_cells, 0, SIM_MOST_SHARED / 2 * sizeof(SimCell));
    if (sim.check > 1) madvise(device_cells(), sim.state->device_span / 2 * sizeof(SimCell), MADV_DONTNEED);
}

// ---- any access

// How far outside of the nearest allocation: what one wants to know of an index that is wrong.
static _Noreturn void report_outside(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    const char *what = word_of(kind);
    const uintptr_t offset = address - sim.state->device_base;
    const SimRegion regions[] = {sim.fixed, sim.dynamic};
    for (int i = 0; i < 2; i++) {
        const uintptr_t past = address + bytes - (regions[i].from + regions[i].bytes), before = regions[i].from - address;
        if (!regions[i].bytes) continue;
        if (past && past <= 65536) sim_fail(SIM_ILLEGAL_ADDRESS, where, "%s of %u bytes at %p, %zu past the end of the block's %zu bytes of %s shared memory",
                                            what, bytes, (void *)address, (size_t)past, (size_t)regions[i].bytes, i ? "dynamic" : "static");
        if (before && before <= 65536) sim_fail(SIM_ILLEGAL_ADDRESS, where, "%s of %u bytes at %p, %zu before the block's %s shared memory", what, bytes,
                                                (void *)address, (size_t)before, i ? "dynamic" : "static");
    }
    if (offset >= sim.state->device_span) sim_fail(SIM_ILLEGAL_ADDRESS, where, "%s of %u bytes at %p, which is no address of the device", what, bytes, (void *)address);
    char nearest[128];
    sim_describe_device_address(address, bytes, nearest, sizeof nearest);
    sim_fail(SIM_ILLEGAL_ADDRESS, where, "%s of %u bytes at %p, %s", what, bytes, (void *)address, nearest);
}

// A vector among a thread's own variables lies where the host's compiler put it, which says nothing about a GPU.
void sim_vector(uintptr_t address, uint32_t bytes, const void *where) {
    if (address - sim.state->stack < sim.state->stack_bytes) return;
    sim_fail(SIM_MISALIGNED, where, "a vector of %u bytes at %p, which is no multiple of that", bytes, (void *)address);
}

void sim_wrong(const char *what, const void *where) {
    sim_fail(SIM_LAUNCH_FAILED, where, "%s", what);
}

static bool is_misaligned(uintptr_t address, uint32_t bytes) { return address & (bytes - 1); }

static void access_elsewhere(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    const LvSimState *s = sim.state;
    const uintptr_t offset = address - s->device_base;
    const bool in_device = offset < s->device_span && offset % SIM_GRANULE < s->valid[offset / SIM_GRANULE];
    if (in_device && (is_misaligned(address, bytes) || offset % SIM_GRANULE + bytes <= s->valid[offset / SIM_GRANULE])) {
        if (is_misaligned(address, bytes)) {
            sim_fail(SIM_MISALIGNED, where, "%s of %u bytes at %p, which is no multiple of that", word_of(kind), bytes, (void *)address);
        }
        if (s->watch_device) touch(device_cells() + offset / 2, bytes, sim.stamp, (Touch){address, kind, true, where});
        return;
    }
    if (address - s->stack < s->stack_bytes) return;
    if (kind == SIM_READ && address >= (uintptr_t)sim.image && address + bytes <= (uintptr_t)sim.image_end) return;  // constants
    report_outside(address, bytes, kind, where);
}

void sim_access(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    const SimRegion *r = lies_in(&sim.dynamic, address, bytes) ? &sim.dynamic : lies_in(&sim.fixed, address, bytes) ? &sim.fixed : NULL;
    if (!r) {
        access_elsewhere(address, bytes, kind, where);
    } else if (is_misaligned(address, bytes)) {
        sim_fail(SIM_MISALIGNED, where, "%s of %u bytes at %p, which is no multiple of that", word_of(kind), bytes, (void *)address);
    } else {
        touch(cell_of(r, address), bytes, sim.stamp, (Touch){address, kind, false, where});
    }
}
