// Asynchronous copies (cp.async): none lands before the wait of the thread that issued it, the latest time the manual allows. Until
// then nobody may touch the place that it will fill; after it the thread itself may, and others after a barrier.
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static void check_copy(const void *shared, const void *global, int bytes, int size, const void *where) {
    const LvSimState *s = sim.state;
    const uintptr_t to = (uintptr_t)shared, from = (uintptr_t)global, offset = from - s->device_base;
    if (bytes < 0 || bytes > size) sim_fail(SIM_LAUNCH_FAILED, where, "lv_copy_async%d of %d bytes", size, bytes);
    if (!sim_in_shared(to, (uint32_t)size)) {
        sim_fail(SIM_ILLEGAL_ADDRESS, where, "lv_copy_async%d to %p, which does not lie in the block's shared memory", size, shared);
    }
    if (to % (uintptr_t)size || from % (uintptr_t)size) {
        sim_fail(SIM_MISALIGNED, where, "lv_copy_async%d to %p from %p: both must be multiples of %d", size, shared, global, size);
    }
    if (bytes && (offset >= s->device_span || offset % SIM_GRANULE + (uintptr_t)bytes > s->valid[offset / SIM_GRANULE])) {
        char nearest[128];
        sim_describe_device_address(from, (uint32_t)bytes, nearest, sizeof nearest);
        sim_fail(SIM_ILLEGAL_ADDRESS, where, "lv_copy_async%d of %d bytes from %p, %s", size, bytes, global, nearest);
    }
}

void sim_copy(void *shared, const void *global, int bytes, int size, const void *where) {
    SimThread *t = sim.current;
    check_copy(shared, global, bytes, size, where);
    if (t->copy_count == t->copy_room) {
        const int room = t->copy_room ? 2 * t->copy_room : 16;
        SimCopy *more = realloc(t->copies, (size_t)room * sizeof *more);
        if (!more) abort();
        t->copies = more, t->copy_room = room;
    }
    t->copies[t->copy_count++] = (SimCopy){shared, global, bytes, size, t->groups};
    if (!sim.check) return;
    // It may write at once, and so races with whoever was there since the last barrier.
    const LvSimRegion *region = sim_region_of((uintptr_t)shared);
    sim_touch_shared(region, (uintptr_t)shared, (uint32_t)size, SIM_WRITE, sim.state->stamp, where);
    for (int i = 0; i < size; i += 2) *sim_stamp_at(region, (uintptr_t)shared + (uintptr_t)i) |= STAMP_PENDING;
    for (int i = 0; i < bytes && sim.check > 1; i += 4) sim_access((uintptr_t)global + (uintptr_t)i, bytes - i < 4 ? 1 : 4, SIM_READ, where);
}

void sim_copy_commit(void) {
    sim.current->groups++;
}

static void set_stamps(const SimCopy *copy, uint32_t write) {
    const LvSimRegion *region = sim_region_of((uintptr_t)copy->to);
    for (int i = 0; i < copy->size; i += 2) {
        uint32_t *stamps = sim_stamp_at(region, (uintptr_t)copy->to + (uintptr_t)i);
        stamps[0] = write, stamps[SIM_READ_AT] = stamps[SIM_OTHER_AT] = 0;
    }
}

static void land(const SimCopy *copy) {
    memset(copy->to, 0, (size_t)copy->size);
    memcpy(copy->to, copy->from, (size_t)copy->bytes);
    if (!sim.check) return;
    set_stamps(copy, sim.state->stamp | STAMP_BYTES);
    sim_landed(copy->to, copy->size);
}

void sim_copy_wait(int groups) {
    SimThread *t = sim.current;
    int landed = 0;
    while (landed < t->copy_count && t->copies[landed].group < t->groups - groups) land(&t->copies[landed++]);
    t->copy_count -= landed;
    memmove(t->copies, t->copies + landed, (size_t)t->copy_count * sizeof *t->copies);
}

// Copies that nobody waited for: no harm, unless their places were read.
void sim_copies_drop(void) {
    for (uint32_t i = 0; i < sim.launch.threads; i++) {
        SimThread *t = &sim.threads[i];
        for (int c = 0; c < t->copy_count && sim.check; c++) {
            set_stamps(&t->copies[c], 0);
        }
        t->copy_count = 0;
    }
}
