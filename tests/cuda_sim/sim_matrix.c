// mma.sync and ldmatrix by the PTX manual: which lane holds which elements of a fragment.
//
// m16n8k16, of 16 bits (PTX ISA, "Matrix fragments for mma.m16n8k16"): with g = lane / 4 and t = lane % 4,
//   a[0] row g     columns 2t, 2t+1      a[2] row g     columns 2t+8, 2t+9     the lower half is the first of the two
//   a[1] row g+8   columns 2t, 2t+1      a[3] row g+8   columns 2t+8, 2t+9
//   b[0] column g  rows 2t, 2t+1         b[1] column g  rows 2t+8, 2t+9
//   d[0], d[1] row g columns 2t, 2t+1    d[2], d[3] row g+8, the same columns
// m16n8k8, of TF32: a[0] (g, t), a[1] (g+8, t), a[2] (g, t+4), a[3] (g+8, t+4); b[0] (t, g), b[1] (t+4, g); d as above.
#include <string.h>

#include "half.h"
#include "sim.h"

typedef float Vector __attribute__((vector_size(32)));

static float element(uint32_t word, int upper, LvSimCollective kind) {
    const uint32_t half = upper ? word >> 16 : word & 0xFFFF;
    return kind == SIM_MMA_BF16 ? half_from_bf16(half) : half_from_f16(half);
}

void sim_multiply(SimThread *lanes, LvSimCollective kind) {
    float a[16][16], b[16][8], d[16][8];
    const int depth = kind == SIM_MMA_TF32 ? 8 : 16;
    for (int lane = 0; lane < SIM_WARP; lane++) {
        const LvSimExchange *e = lanes[lane].exchange;
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) d[g + i / 2 * 8][2 * t + i % 2] = e->d[i];
        if (kind == SIM_MMA_TF32) {  // the hardware looks at the upper 19 bits alone
            for (int i = 0; i < 4; i++) a[g + i % 2 * 8][t + i / 2 * 4] = half_of_bits(e->a[i] & 0xFFFFE000);
            for (int i = 0; i < 2; i++) b[t + i * 4][g] = half_of_bits(e->b[i] & 0xFFFFE000);
        } else {
            for (int i = 0; i < 8; i++) a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = element(e->a[i / 2], i % 2, kind);
            for (int i = 0; i < 4; i++) b[2 * t + i % 2 + i / 2 * 8][g] = element(e->b[i / 2], i % 2, kind);
        }
    }
    for (int row = 0; row < 16; row++) {
        Vector sum;
        memcpy(&sum, d[row], sizeof sum);
        for (int k = 0; k < depth; k++) {
            Vector factor;
            memcpy(&factor, b[k], sizeof factor);
            sum += a[row][k] * factor;
        }
        memcpy(d[row], &sum, sizeof sum);
    }
    for (int lane = 0; lane < SIM_WARP; lane++) {
        LvSimExchange *e = lanes[lane].exchange;
        for (int i = 0; i < 4; i++) e->d[i] = d[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
    }
}

// Lanes 8i to 8i+7 give the rows of matrix i, 8 elements of 16 bits each. Lane l gets of each matrix the elements 2 (l % 4) and the
// next of row l / 4; with .trans, of column l / 4.
void sim_load_matrices(SimThread *lanes, LvSimCollective kind) {
    const int count = kind == SIM_LDMATRIX4 || kind == SIM_LDMATRIX4_TRANS ? 4 : 2;
    const bool across = kind == SIM_LDMATRIX2_TRANS || kind == SIM_LDMATRIX4_TRANS;
    for (int i = 0; i < 8 * count; i++) {
        const uintptr_t row = (uintptr_t)lanes[i].exchange->row;
        sim.launch.module->thread->x = lanes[i].index;
        if (!sim_in_shared(row, 16)) {
            sim_fail(SIM_ILLEGAL_ADDRESS, lanes[i].where, "%s of a row at %p, which does not lie in the block's shared memory",
                     sim_collective_name(kind), (const void *)row);
        }
        if (row % 16) sim_fail(SIM_MISALIGNED, lanes[i].where, "%s of a row at %p, which is no multiple of 16", sim_collective_name(kind), (const void *)row);
    }
    for (int lane = 0; lane < SIM_WARP; lane++) {
        LvSimExchange *e = lanes[lane].exchange;
        const uint64_t stamp = sim_stamp_of(&lanes[lane]);
        sim.launch.module->thread->x = lanes[lane].index;
        for (int i = 0; i < count; i++) {
            uint16_t both[2];
            for (int half = 0; half < 2; half++) {
                const int along = 2 * (lane % 4) + half, row = across ? along : lane / 4, column = across ? lane / 4 : along;
                const uintptr_t at = (uintptr_t)lanes[8 * i + row].exchange->row + 2 * (uintptr_t)column;
                if (across) sim_access_shared(at, 2, SIM_READ, stamp, lanes[lane].where);
                else if (!half) sim_access_shared(at, 4, SIM_READ, stamp, lanes[lane].where);
                memcpy(&both[half], (const void *)at, 2);
            }
            e->r[i] = both[0] | (uint32_t)both[1] << 16;
        }
    }
    sim.launch.module->thread->x = sim.current->index;
}
