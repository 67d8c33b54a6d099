// Where an access may go: a live allocation of device memory, the block's shared memory, the thread's own stack, constants.
#include <string.h>

#include "sim.h"

static const char *word_of(LvSimAccess kind) { return kind == SIM_WRITE ? "write" : "read"; }
static bool is_misaligned(uintptr_t address, uint32_t bytes) { return address & (bytes - 1); }

// How far outside of the nearest allocation: what one wants to know of an index that is wrong.
static _Noreturn void report_outside(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    const char *what = word_of(kind);
    const uintptr_t offset = address - sim.state->device_base;
    const LvSimRegion regions[] = {sim.state->fixed, sim.state->dynamic};
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
// A word that blocks share: no race by itself, whoever comes first. What it orders: sim_device.c.
uint64_t sim_atomic_add(uintptr_t address, uint32_t bytes, uint64_t more, const void *where) {
    const uintptr_t offset = address - sim.state->device_base;
    const bool in_device = offset < sim.state->device_span && offset % SIM_GRANULE + bytes <= sim.state->valid[offset / SIM_GRANULE];
    uint64_t old = 0, sum;
    if (!in_device && !sim_in_shared(address, bytes)) report_outside(address, bytes, SIM_WRITE, where);
    if (is_misaligned(address, bytes)) sim_fail(SIM_MISALIGNED, where, "atomicAdd of %u bytes at %p, which is no multiple of that", bytes, (void *)address);
    memcpy(&old, (void *)address, bytes);
    sum = old + more;
    memcpy((void *)address, &sum, bytes);
    if (in_device) sim_order(address);
    return old;
}

void sim_vector(uintptr_t address, uint32_t bytes, const void *where) {
    if (address - sim.state->stack < sim.state->stack_bytes) return;
    sim_fail(SIM_MISALIGNED, where, "a vector of %u bytes at %p, which is no multiple of that", bytes, (void *)address);
}

void sim_wrong(const char *what, const void *where) {
    sim_fail(SIM_LAUNCH_FAILED, where, "%s", what);
}

static void access_elsewhere(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    const LvSimState *s = sim.state;
    const uintptr_t offset = address - s->device_base;
    const bool in_device = offset < s->device_span && offset % SIM_GRANULE < s->valid[offset / SIM_GRANULE];
    if (in_device && (is_misaligned(address, bytes) || offset % SIM_GRANULE + bytes <= s->valid[offset / SIM_GRANULE])) {
        if (is_misaligned(address, bytes)) {
            sim_fail(SIM_MISALIGNED, where, "%s of %u bytes at %p, which is no multiple of that", word_of(kind), bytes, (void *)address);
        }
        if (s->watch_device) sim_touch_device(address, bytes, kind, where);
        return;
    }
    if (address - s->stack < s->stack_bytes) return;
    if (kind == SIM_READ && address >= (uintptr_t)sim.image && address + bytes <= (uintptr_t)sim.image_end) return;  // constants
    report_outside(address, bytes, kind, where);
}

void sim_access(uintptr_t address, uint32_t bytes, LvSimAccess kind, const void *where) {
    if (!sim_in_shared(address, bytes)) {
        access_elsewhere(address, bytes, kind, where);
    } else if (is_misaligned(address, bytes)) {
        sim_fail(SIM_MISALIGNED, where, "%s of %u bytes at %p, which is no multiple of that", word_of(kind), bytes, (void *)address);
    } else {
        sim_touch_shared(sim_region_of(address), address, bytes, kind, sim.state->stamp, where);
    }
}
