// wgmma by the PTX manual: the four warps of a group hand over a product of 64 rows, warp w of them its rows 16 w on, and both operands
// are read from shared memory as descriptors say. A product is under way from when it is handed over to the wait for its group: here it
// is done at the wait, the latest time, and its operands are looked at both then and at the start, the earliest. What is read of sums
// before the wait is what they were.
//
// Descriptor ("Matrix descriptor"): bits 0-13 the start, 16-29 the leading, 32-45 the stride offset, all in 16 bytes; 62-63 the swizzling,
// here always 1: 128 bytes. Where an element lies (K-major: lines along k; else across it):
//   along k   start + row / 8 stride + row % 8 * 128 + 2 k
//   across    start + row / 64 lead + k / 8 stride + k % 8 * 128 + row % 64 * 2
// and then bits 7-9 of the address are xored into bits 4-6.
// The sums of a lane ("D fragment"): of columns 8 j + 2 (lane % 4) and the next, rows lane / 4 and lane / 4 + 8: d[j][0..3].
#include <string.h>

#include "half.h"
#include "sim.h"

enum { DEPTH = 16, ROWS = 16, GROUP_WARPS = 4, MOST_COLUMNS = 256, MOST_UNDER_WAY = 64, BASE = 256, REPEAT = 1024 };

typedef struct {
    uint64_t left, right;
    int columns, group;
    bool across[2], is_f16;
    float *sums[SIM_WARP];
    const void *where;
} Product;

typedef struct {
    Product products[MOST_UNDER_WAY];
    int count, groups;
    bool fenced;             // since the last wait
    uint64_t issued, sequence;  // how many in this block, and a hash of them
    const void *where;
} Warp;

static Warp warps[SIM_MOST_THREADS / SIM_WARP];

// Of each 16 bytes of dynamic shared memory: which thread's copy landed there last, and how many proxy fences that thread had made.
static struct Landing {
    uint32_t thread, fences;
} landings[SIM_MOST_SHARED / 16];
enum { NOBODY = UINT32_MAX };

void sim_wgmma_begin(void) {
    for (uint32_t i = 0; i < (sim.launch.dynamic_bytes + 15) / 16; i++) landings[i].thread = NOBODY;
    for (uint32_t w = 0; w < sim.warp_count; w++) {
        warps[w].count = warps[w].groups = 0;
        warps[w].fenced = false;
        warps[w].issued = warps[w].sequence = 0;
    }
}

// Not a multiple of more than 256: who wants more aligns.
uint32_t sim_shared_address(const void *shared, const void *where) {
    const uintptr_t offset = (uintptr_t)shared - sim.state->dynamic.from;
    if (offset > sim.state->dynamic.bytes) sim_fail(SIM_ILLEGAL_ADDRESS, where, "the address of what is no dynamic shared memory, %p", shared);
    return (uint32_t)offset + BASE;
}

void sim_proxy_fence(void) { sim.current->proxy_fences++; }

void sim_landed(const void *shared, int bytes) {
    const uintptr_t offset = (uintptr_t)shared - sim.state->dynamic.from;
    if (offset >= sim.state->dynamic.bytes) return;
    for (uintptr_t i = offset / 16; i <= (offset + (uintptr_t)bytes - 1) / 16; i++) landings[i] = (struct Landing){sim.current->index, sim.current->proxy_fences};
}

// ---- where operands lie

typedef struct {
    uint64_t descriptor;
    bool across;
    int rows, first;  // of the operand: how many, and which is the warp's first
} Operand;

static uint32_t field(uint64_t descriptor, int at) { return (uint32_t)(descriptor >> at & 0x3FFF) << 4; }

// Of the eight elements that begin at row, k: pieces of 16 bytes stay whole.
static const char *piece_at(const Operand *o, int row, int k, const void *where) {
    const uint32_t start = field(o->descriptor, 0), lead = field(o->descriptor, 16), stride = field(o->descriptor, 32);
    const int r = row + o->first;
    uint32_t at = start;
    if (o->across) at += (uint32_t)(r / 64) * lead + (uint32_t)(k / 8) * stride + (uint32_t)(k % 8 * 128 + r % 64 * 2);
    else at += (uint32_t)(r / 8) * stride + (uint32_t)(r % 8 * 128 + 2 * k);
    at ^= (at >> 7 & 7) << 4;
    const uintptr_t address = sim.state->dynamic.from + at - BASE;
    if (!sim_in_shared(address, 16)) sim_fail(SIM_ILLEGAL_ADDRESS, where, "wgmma of a row at shared address %u, which is not the block's", at);
    return (const char *)address;
}

static void check_descriptor(uint64_t descriptor, const void *where) {
    if (descriptor >> 62 != 1) sim_fail(SIM_LAUNCH_FAILED, where, "wgmma with swizzling %u, which is not known here", (unsigned)(descriptor >> 62));
    if (field(descriptor, 0) & (REPEAT - 128))
        sim_fail(SIM_MISALIGNED, where, "wgmma of a matrix at shared address %u, no multiple of 1024", field(descriptor, 0) & ~127u);
}

// By the warp's first lane. Of the right operand, which the group has in common, by the first warp.
static void touch(const Operand *o, uint32_t stamp, const void *where) {
    for (int r = 0; r < o->rows; r += o->across ? 8 : 1) {
        for (int k = 0; k < DEPTH; k += o->across ? 1 : 8) {
            const uintptr_t at = (uintptr_t)piece_at(o, r, k, where);
            const struct Landing *landing = &landings[(at - sim.state->dynamic.from) / 16];
            if (landing->thread != NOBODY && sim.threads[landing->thread].proxy_fences == landing->fences)
                sim_fail(SIM_LAUNCH_FAILED, where, "wgmma of what thread %u copied and no fence.proxy.async shows", landing->thread);
            sim_touch_shared(&sim.state->dynamic, at, 16, SIM_READ, stamp, where);
        }
    }
}

static void operands(const Product *p, uint32_t warp, Operand *left, Operand *right) {
    *left = (Operand){p->left, p->across[0], ROWS, (int)(warp % GROUP_WARPS) * ROWS};
    *right = (Operand){p->right, p->across[1], p->columns, 0};
}

static void look(const Product *p, uint32_t warp, uint32_t stamp) {
    Operand left, right;
    operands(p, warp, &left, &right);
    if (!sim.check) return;
    touch(&left, stamp, p->where);
    if (warp % GROUP_WARPS == 0) touch(&right, stamp, p->where);
}

// ---- handing over

static void hand_over(SimThread *lanes, LvSimCollective kind) {
    const uint32_t w = lanes->index / SIM_WARP;
    const LvSimExchange *e = lanes->exchange;
    const void *where = lanes->where;
    Warp *warp = &warps[w];
    if (sim.launch.threads % (SIM_WARP * GROUP_WARPS)) sim_fail(SIM_LAUNCH_FAILED, where, "wgmma in a block that is not of whole warp groups");
    if (e->operand % 8 || e->operand > MOST_COLUMNS) sim_fail(SIM_LAUNCH_FAILED, where, "wgmma of %u columns", e->operand);
    if (!warp->fenced) sim_fail(SIM_LAUNCH_FAILED, where, "wgmma without wgmma.fence since the sums were looked at");
    if (warp->count == MOST_UNDER_WAY) sim_fail(SIM_LAUNCH_FAILED, where, "more than %d wgmma under way", MOST_UNDER_WAY);
    Product *p = &warp->products[warp->count++];
    *p = (Product){e->left, e->right, (int)e->operand, warp->groups, {e->width & 1, e->width >> 1 & 1}, kind == SIM_WGMMA_F16, {0}, where};
    for (int lane = 0; lane < SIM_WARP; lane++) {
        const LvSimExchange *of = lanes[lane].exchange;
        if (of->left != e->left || of->right != e->right) sim_fail(SIM_LAUNCH_FAILED, where, "wgmma with other descriptors in lane %d", lane);
        p->sums[lane] = of->sums;
    }
    check_descriptor(p->left, where);
    check_descriptor(p->right, where);
    look(p, w, sim_stamp_of(lanes));
    warp->issued++, warp->where = where;
    warp->sequence = (warp->sequence ^ p->left ^ p->right << 7 ^ e->operand ^ (uint64_t)e->width << 40) * 0x9E3779B97F4A7C15u;
}

// At a barrier of the block: all warps of a group have handed over the same.
void sim_wgmma_compare(void) {
    for (uint32_t w = 0; w < sim.warp_count; w++) {
        const Warp *first = &warps[w / GROUP_WARPS * GROUP_WARPS];
        if (warps[w].issued != first->issued || warps[w].sequence != first->sequence)
            sim_fail(SIM_LAUNCH_FAILED, warps[w].issued ? warps[w].where : first->where, "wgmma that the warps of a group do not do alike");
    }
}

// ---- doing it

static void decode(const Operand *o, bool is_f16, const void *where, float *out, int row_step, int k_step) {
    for (int r = 0; r < o->rows; r += o->across ? 8 : 1) {
        for (int k = 0; k < DEPTH; k += o->across ? 1 : 8) {
            uint16_t halves[8];
            memcpy(halves, piece_at(o, r, k, where), sizeof halves);
            for (int i = 0; i < 8; i++) {
                float *to = o->across ? out + (r + i) * row_step + k * k_step : out + r * row_step + (k + i) * k_step;
                *to = is_f16 ? half_from_f16(halves[i]) : half_from_bf16(halves[i]);
            }
        }
    }
}

static float *sum_at(const Product *p, int row, int column) {
    return p->sums[row % 8 * 4 + column % 8 / 2] + column / 8 * 4 + row / 8 * 2 + column % 2;
}

#ifdef __x86_64__
__attribute__((target_clones("default", "arch=x86-64-v3")))
#endif
static void add_row(float *sums, const float *left, const float (*right)[MOST_COLUMNS], int columns) {
    for (int k = 0; k < DEPTH; k++)
        for (int c = 0; c < columns; c++) sums[c] += left[k] * right[k][c];
}

static void finish(const Product *p, uint32_t warp, uint32_t stamp) {
    static float a[ROWS][DEPTH], b[DEPTH][MOST_COLUMNS], sums[MOST_COLUMNS];
    Operand left, right;
    operands(p, warp, &left, &right);
    look(p, warp, stamp);
    decode(&left, p->is_f16, p->where, &a[0][0], DEPTH, 1);
    decode(&right, p->is_f16, p->where, &b[0][0], 1, MOST_COLUMNS);
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < p->columns; c++) sums[c] = *sum_at(p, r, c);
        add_row(sums, a[r], (const float(*)[MOST_COLUMNS])b, p->columns);
        for (int c = 0; c < p->columns; c++) *sum_at(p, r, c) = sums[c];
    }
}

static void wait_for(SimThread *lanes) {
    const uint32_t w = lanes->index / SIM_WARP;
    Warp *warp = &warps[w];
    const int most = (int)lanes->exchange->operand;
    int done = 0;
    while (done < warp->count && warp->products[done].group < warp->groups - most) finish(&warp->products[done++], w, sim_stamp_of(lanes));
    warp->count -= done;
    memmove(warp->products, warp->products + done, (size_t)warp->count * sizeof *warp->products);
    warp->fenced = false;
}

void sim_wgmma(SimThread *lanes, LvSimCollective kind) {
    Warp *warp = &warps[lanes->index / SIM_WARP];
    switch (kind) {
        case SIM_WGMMA_FENCE: warp->fenced = true; break;
        case SIM_WGMMA_COMMIT: warp->groups++; break;
        case SIM_WGMMA_WAIT: wait_for(lanes); break;
        default: hand_over(lanes, kind);
    }
}
