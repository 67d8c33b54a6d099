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

typedef struct {
    float a[16][16], b[16][8], d[16][8];
} Tile;

static void put_halves(Tile *tile, const SimThread *lanes, bool is_f16) {
    for (int lane = 0; lane < SIM_WARP; lane++) {
        const LvSimExchange *e = lanes[lane].exchange;
        const int g = lane / 4, t = 2 * (lane % 4);
        float a[8], b[4];
        for (int i = 0; i < 8; i++) {
            const uint32_t half = i % 2 ? e->a[i / 2] >> 16 : e->a[i / 2] & 0xFFFF;
            a[i] = is_f16 ? half_from_f16(half) : half_from_bf16(half);
        }
        for (int i = 0; i < 4; i++) {
            const uint32_t half = i % 2 ? e->b[i / 2] >> 16 : e->b[i / 2] & 0xFFFF;
            b[i] = is_f16 ? half_from_f16(half) : half_from_bf16(half);
        }
        tile->a[g][t] = a[0], tile->a[g][t + 1] = a[1], tile->a[g + 8][t] = a[2], tile->a[g + 8][t + 1] = a[3];
        tile->a[g][t + 8] = a[4], tile->a[g][t + 9] = a[5], tile->a[g + 8][t + 8] = a[6], tile->a[g + 8][t + 9] = a[7];
        tile->b[t][g] = b[0], tile->b[t + 1][g] = b[1], tile->b[t + 8][g] = b[2], tile->b[t + 9][g] = b[3];
    }
}

static void put_tf32(Tile *tile, const SimThread *lanes) {
    for (int lane = 0; lane < SIM_WARP; lane++) {
        const LvSimExchange *e = lanes[lane].exchange;
        const int g = lane / 4, t = lane % 4;
        // The hardware looks at the upper 19 bits alone.
        for (int i = 0; i < 4; i++) tile->a[g + i % 2 * 8][t + i / 2 * 4] = half_of_bits(e->a[i] & 0xFFFFE000);
        for (int i = 0; i < 2; i++) tile->b[t + i * 4][g] = half_of_bits(e->b[i] & 0xFFFFE000);
    }
}

#ifdef __x86_64__
__attribute__((target_clones("default", "arch=x86-64-v3")))
#endif
static void multiply(Tile *tile, int depth) {
    for (int row = 0; row < 16; row += 4) {
        Vector sums[4];
        memcpy(sums, tile->d[row], sizeof sums);
        for (int k = 0; k < depth; k++) {
            Vector factor;
            memcpy(&factor, tile->b[k], sizeof factor);
            for (int r = 0; r < 4; r++) sums[r] += tile->a[row + r][k] * factor;
        }
        memcpy(tile->d[row], sums, sizeof sums);
    }
}

void sim_multiply(SimThread *lanes, LvSimCollective kind) {
    Tile tile;
    for (int lane = 0; lane < SIM_WARP; lane++) {
        const float *d = lanes[lane].exchange->d;
        memcpy(&tile.d[lane / 4][2 * (lane % 4)], d, 8);
        memcpy(&tile.d[lane / 4 + 8][2 * (lane % 4)], d + 2, 8);
    }
    if (kind == SIM_MMA_TF32) put_tf32(&tile, lanes);
    else if (kind == SIM_MMA_F16) put_halves(&tile, lanes, true);
    else put_halves(&tile, lanes, false);
    multiply(&tile, kind == SIM_MMA_TF32 ? 8 : 16);
    for (int lane = 0; lane < SIM_WARP; lane++) {
        float *d = lanes[lane].exchange->d;
        memcpy(d, &tile.d[lane / 4][2 * (lane % 4)], 8);
        memcpy(d + 2, &tile.d[lane / 4 + 8][2 * (lane % 4)], 8);
    }
}

// Lanes 8i to 8i+7 give the rows of matrix i, 8 elements of 16 bits each. Lane l gets of each matrix the elements 2 (l % 4) and the
// next of row l / 4; with .trans, of column l / 4.
void sim_load_matrices(SimThread *lanes, LvSimCollective kind) {
    const int count = kind == SIM_LDMATRIX4 || kind == SIM_LDMATRIX4_TRANS ? 4 : 2;
    const bool across = kind == SIM_LDMATRIX2_TRANS || kind == SIM_LDMATRIX4_TRANS;
    const char *rows[SIM_WARP];
    const LvSimRegion *regions[SIM_WARP];
    for (int i = 0; i < 8 * count; i++) {
        const uintptr_t row = (uintptr_t)(rows[i] = lanes[i].exchange->row);
        if (sim_in_shared(row, 16) && row % 16 == 0) {
            regions[i] = sim_region_of(row);
            continue;
        }
        sim.index->x = lanes[i].index;
        if (row % 16) sim_fail(SIM_MISALIGNED, lanes[i].where, "%s of a row at %p, which is no multiple of 16", sim_collective_name(kind), (const void *)row);
        sim_fail(SIM_ILLEGAL_ADDRESS, lanes[i].where, "%s of a row at %p, which does not lie in the block's shared memory",
                 sim_collective_name(kind), (const void *)row);
    }
    for (int lane = 0; lane < SIM_WARP; lane++) {
        LvSimExchange *e = lanes[lane].exchange;
        const uint32_t stamp = sim_stamp_of(&lanes[lane]);
        sim.index->x = lanes[lane].index;
        for (int i = 0; i < count; i++) {
            const int along = lane / 4, pair = 2 * (lane % 4);  // row and first column; the other way about with .trans
            uint16_t both[2];
            if (!across) {
                const char *at = rows[8 * i + along] + 2 * pair;
                const LvSimRegion *region = regions[8 * i + along];
                const uint32_t *read = sim_stamp_at(region, (uintptr_t)at) + SIM_READ_AT;
                const bool again = read[0] == (stamp | STAMP_BYTES) && read[1] == (stamp | STAMP_BYTES);
                if (sim.check && !again) sim_touch_shared(region, (uintptr_t)at, 4, SIM_READ, stamp, lanes[lane].where);
                memcpy(both, at, 4);
            }
            for (int half = 0; across && half < 2; half++) {
                const char *at = rows[8 * i + pair + half] + 2 * along;
                if (sim.check) sim_touch_shared(regions[8 * i + pair + half], (uintptr_t)at, 2, SIM_READ, stamp, lanes[lane].where);
                memcpy(&both[half], at, 2);
            }
            e->r[i] = both[0] | (uint32_t)both[1] << 16;
        }
    }
    sim.index->x = sim.current->index;
}
