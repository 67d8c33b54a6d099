// Races on shared memory.
//
// Two accesses of different threads to one byte, one of them a write, must be ordered: by a barrier of the block between them, or,
// within a warp, by __syncwarp. Of each two bytes the stamps of the last write and of two readers are kept, which is enough to see a
// race between the block's threads whenever there is one between a warp and another, or between two accesses in a row.
#include "sim.h"

static bool lies_in(const LvSimRegion *r, uintptr_t address, uint32_t bytes) {
    return address - r->from < r->bytes && r->bytes - (address - r->from) >= bytes;
}

bool sim_in_shared(uintptr_t address, uint32_t bytes) {
    return lies_in(&sim.state->dynamic, address, bytes) || lies_in(&sim.state->fixed, address, bytes);
}

const LvSimRegion *sim_region_of(uintptr_t address) {
    return lies_in(&sim.state->dynamic, address, 1) ? &sim.state->dynamic : &sim.state->fixed;
}

void *sim_dynamic_shared(const void *where) {
    if (!sim.launch.dynamic_bytes) sim_fail(SIM_ILLEGAL_ADDRESS, where, "dynamic shared memory in a launch that gave it no bytes");
    return sim.dynamic_memory;
}

static uint32_t thread_of(uint32_t stamp) { return stamp >> STAMP_THREAD_AT & 0x3FF; }
static uint32_t step_of(uint32_t stamp) { return stamp >> STAMP_STEP_AT & STAMP_MOST_STEPS; }

static bool races(uint32_t earlier, uint32_t now) {
    const uint32_t different = earlier ^ now;
    if (!(earlier & now & STAMP_BYTES) || different >> STAMP_EPOCH_AT) return false;
    if (thread_of(earlier) == thread_of(now)) return false;
    return different >> STAMP_WARP_AT || step_of(earlier) >= step_of(now);
}

static _Noreturn void report(uint32_t earlier, const char *was, LvSimAccess kind, uintptr_t address, const void *where) {
    sim_fail(SIM_LAUNCH_FAILED, where, "race in shared memory: %s at %p, which thread %u %s, with no barrier between them",
             kind == SIM_WRITE ? "write" : "read", (void *)address, thread_of(earlier), was);
}

static void touch(uint32_t *write, uint32_t now, LvSimAccess kind, uintptr_t address, const void *where) {
    uint32_t *read = write + SIM_READ_AT, *other = write + SIM_OTHER_AT;
    if (*write & STAMP_PENDING) {
        sim_fail(SIM_LAUNCH_FAILED, where, "%s of shared memory at %p, where a copy under way (thread %u) will write",
                 kind == SIM_WRITE ? "write" : "read", (void *)address, thread_of(*write));
    }
    if (races(*write, now)) report(*write, "wrote", kind, address, where);
    if (kind == SIM_WRITE) {
        if (races(*read, now)) report(*read, "read", kind, address, where);
        if (races(*other, now)) report(*other, "read", kind, address, where);
        *write = now;
        if ((now & STAMP_BYTES) == STAMP_BYTES) *read = *other = 0;
    } else {
        // The first reader of an epoch stays, and the last, and one of another warp than the last.
        const bool of_warp = *read >> STAMP_WARP_AT == now >> STAMP_WARP_AT, is_now = *other >> STAMP_EPOCH_AT == now >> STAMP_EPOCH_AT;
        if (!of_warp || !is_now) *other = *read;
        *read = now;
    }
}

void sim_touch_shared(const LvSimRegion *region, uintptr_t address, uint32_t bytes, LvSimAccess kind, uint32_t stamp, const void *where) {
    const uint32_t now = stamp | (bytes == 1 ? 1u << (address & 1) : STAMP_BYTES);
    for (uint32_t i = 0; i < bytes; i += 2, address += 2) {
        uint32_t *write = sim_stamp_at(region, address);
        // Done again by the thread that did it last: had another come between, that would have been the race.
        if ((kind == SIM_WRITE ? *write : write[SIM_READ_AT]) != now) touch(write, now, kind, address, where);
    }
}

// Epochs begin anew. Copies under way stay what they are.
void sim_forget_shared(void) {
    for (size_t i = 0; i < SIM_STAMPS; i++) sim.stamps[i] = sim.stamps[i] & STAMP_PENDING ? sim.stamps[i] & ((1u << STAMP_EPOCH_AT) - 1) : 0;
}
