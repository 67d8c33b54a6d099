// How a tensor lies in memory: a permutation of its dimensions, and optionally one dimension split into blocks.
// Shape is logical, layout physical. Row-major is the identity permutation without a block.
//   NCHW:    perm 0 1 2 3              NHWC: perm 0 2 3 1
//   nChw16c: perm 0 1 2 3, block 16 of dimension 1: offset = (((n * C/16 + c/16) * H + h) * W + w) * 16 + c % 16
// A blocked dimension's extent is a multiple of the block: whoever chooses a layout sees to it.
// With a pitch the tensor is part of a wider one: neighbours along physical place `pitch_place` are `pitch` elements apart, and what lies
// further out is made of those. Columns 64 ... 127 of [T, 192]: 01p0x192, from element 64 on. Never with a block.
#ifndef LV_BASE_LAYOUT_H
#define LV_BASE_LAYOUT_H

#include "base/dtype.h"

typedef struct {
    int8_t perm[LV_MAX_RANK];  // perm[i] is the logical dimension at physical place i, outermost first
    int8_t block_dim;          // logical dimension that is blocked, when block > 1
    int16_t block;             // 0 or 1: none
    int8_t pitch_place;        // place in perm, when pitch > 0
    int32_t pitch;             // 0: none
} LvLayout;

LvLayout lv_layout_row_major(void);              // identity; serves every rank
LvLayout lv_layout_nhwc(void);                   // rank 4
LvLayout lv_layout_blocked(int dim, int block);  // identity with one blocked dimension
bool lv_layout_equal(LvLayout a, LvLayout b, int rank);
bool lv_layout_is_row_major(LvLayout layout, int rank);
// Strides in elements of each logical dimension; of a blocked one: of the whole blocks (the inner stride is 1).
void lv_layout_strides(LvLayout layout, LvShape shape, int64_t stride[LV_MAX_RANK]);
int64_t lv_layout_span(LvLayout layout, LvShape shape);  // elements from the first to behind the last
int64_t lv_layout_offset(LvLayout layout, LvShape shape, const int64_t *index);
void lv_layout_print(LvText *text, LvLayout layout, int rank);  // "0231", "0123b1x16", "01p0x192"
bool lv_layout_parse(const char *text, int rank, LvLayout *layout);

#endif
