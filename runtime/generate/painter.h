// Codes to pictures by a picture tokenizer's entry
//   decode(tokens: i32[B, N]) -> {image: f32[B, 3, R, R]}
// (The other way, which training needs too, is train/coder.h.)
#ifndef LV_GENERATE_PAINTER_H
#define LV_GENERATE_PAINTER_H

#include "generate/network.h"

typedef struct LvPainter LvPainter;

bool lv_painter_create(const LvNetwork *network, int64_t batch, LvPainter **painter, LvError *error);
void lv_painter_destroy(LvPainter *painter);
int lv_painter_side(const LvPainter *painter);       // R
int64_t lv_painter_codes(const LvPainter *painter);  // N
// `count` of any size, a batch at a time: codes [count, N] to pictures [count, 3, R, R] in [-1, 1].
bool lv_painter_run(LvPainter *painter, const int32_t *codes, int64_t count, float *pictures, LvError *error);

#endif
