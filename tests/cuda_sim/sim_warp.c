// What the lanes of a warp do together. A lane that comes to a collective waits until every lane of its mask is there; the last to
// come works out what each gets.
#include <string.h>

#include "sim.h"

const char *sim_collective_name(LvSimCollective kind) {
    static const char *const names[] = {"__syncwarp", "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync",
                                        "__ballot_sync", "__any_sync", "__all_sync", "lv_mma_bf16", "lv_mma_f16", "lv_mma_tf32",
                                        "lv_ldmatrix2", "lv_ldmatrix2_trans", "lv_ldmatrix4", "lv_ldmatrix4_trans",
                                        "lv_wgmma_bf16", "lv_wgmma_f16", "lv_wgmma_fence", "lv_wgmma_commit", "LV_WGMMA_WAIT"};
    return names[kind];
}

// Only __syncwarp orders accesses to memory (CUDA C++ Programming Guide, warp shuffle and vote functions).
static void sync_warp(SimThread *lanes, uint32_t mask) {
    uint32_t most = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        const SimThread *t = &lanes[__builtin_ctz(m)];
        if (t->steps > most) most = t->steps;
    }
    // Steps are few in a stamp: after so many, an epoch ends for all of the block.
    if (most == STAMP_MOST_STEPS) sim_new_epoch();
    for (uint32_t m = mask; m; m &= m - 1) lanes[__builtin_ctz(m)].steps = most == STAMP_MOST_STEPS ? 0 : most + 1;
    sim.state->stamp = sim_stamp_of(sim.current);
}

// The lane whose value `lane` gets, its own where the other lies outside of its segment (PTX ISA, shfl.sync).
static uint32_t source_of(uint32_t lane, LvSimCollective kind, uint32_t operand, uint32_t width) {
    const uint32_t segment = lane & ~(width - 1), last = segment + width - 1;
    int64_t source;
    switch (kind) {
        case SIM_SHUFFLE: return segment + (operand & (width - 1));
        case SIM_SHUFFLE_UP: source = (int64_t)lane - (int32_t)operand; return source < segment ? lane : (uint32_t)source;
        case SIM_SHUFFLE_DOWN: source = (int64_t)lane + (int32_t)operand; return source > last ? lane : (uint32_t)source;
        default: source = lane ^ operand; return source > last ? lane : (uint32_t)source;
    }
}

static void shuffle(SimThread *lanes, LvSimCollective kind, uint32_t mask) {
    uint64_t values[SIM_WARP] = {0};
    for (uint32_t m = mask; m; m &= m - 1) values[__builtin_ctz(m)] = lanes[__builtin_ctz(m)].exchange->value;
    for (uint32_t m = mask; m; m &= m - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(m);
        LvSimExchange *e = lanes[lane].exchange;
        if (e->width > SIM_WARP || !e->width || (e->width & (e->width - 1))) {
            sim_fail(SIM_LAUNCH_FAILED, lanes[lane].where, "%s of width %u, which is no power of two up to 32", sim_collective_name(kind), e->width);
        }
        const uint32_t source = source_of(lane, kind, e->operand, e->width);
        if (source >= SIM_WARP || !(mask >> source & 1)) {
            sim_fail(SIM_LAUNCH_FAILED, lanes[lane].where, "%s: lane %u wants the value of lane %u, which takes no part (mask 0x%x)",
                     sim_collective_name(kind), lane, source, mask);
        }
        e->value = values[source];
    }
}

static void vote(SimThread *lanes, LvSimCollective kind, uint32_t mask) {
    uint32_t votes = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(m);
        votes |= (uint32_t)(lanes[lane].exchange->value & 1) << lane;
    }
    const uint64_t outcome = kind == SIM_BALLOT ? votes : kind == SIM_ANY ? votes != 0 : votes == mask;
    for (uint32_t m = mask; m; m &= m - 1) lanes[__builtin_ctz(m)].exchange->value = outcome;
}

static void perform(SimThread *lanes, LvSimCollective kind, uint32_t mask) {
    switch (kind) {
        case SIM_SYNC_WARP: sync_warp(lanes, mask); break;
        case SIM_SHUFFLE:
        case SIM_SHUFFLE_UP:
        case SIM_SHUFFLE_DOWN:
        case SIM_SHUFFLE_XOR: shuffle(lanes, kind, mask); break;
        case SIM_BALLOT:
        case SIM_ANY:
        case SIM_ALL: vote(lanes, kind, mask); break;
        case SIM_MMA_BF16:
        case SIM_MMA_F16:
        case SIM_MMA_TF32: sim_multiply(lanes, kind); break;
        case SIM_LDMATRIX2:
        case SIM_LDMATRIX2_TRANS:
        case SIM_LDMATRIX4:
        case SIM_LDMATRIX4_TRANS: sim_load_matrices(lanes, kind); break;
        default: sim_wgmma(lanes, kind);
    }
}

void sim_collective(LvSimCollective kind, uint32_t mask, LvSimExchange *exchange, const void *where) {
    SimThread *t = sim.current;
    const uint32_t lane = t->index % SIM_WARP;
    SimWarp *warp = &sim.warps[t->index / SIM_WARP];
    SimThread *lanes = t - lane;
    t->kind = kind, t->mask = mask, t->exchange = exchange, t->where = where;
    if (!(mask >> lane & 1)) sim_fail(SIM_LAUNCH_FAILED, where, "%s with a mask (0x%x) without the lane itself", sim_collective_name(kind), mask);
    warp->ready &= ~(1u << lane);
    warp->in_collective |= 1u << lane;
    if ((warp->in_collective & mask) != mask) {
        sim_schedule();
        return;
    }
    for (uint32_t m = mask; m; m &= m - 1) {
        const SimThread *other = &lanes[__builtin_ctz(m)];
        if (other->kind == kind && other->mask == mask) continue;
        sim_fail(SIM_LAUNCH_FAILED, where, "%s (mask 0x%x), while lane %d of the warp is at %s (mask 0x%x)", sim_collective_name(kind), mask,
                 __builtin_ctz(m), sim_collective_name(other->kind), other->mask);
    }
    perform(lanes, kind, mask);
    warp->in_collective &= ~mask;
    warp->ready |= mask;
}
