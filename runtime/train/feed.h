// From the loader's batches to an entry's inputs, bound by name and shape.
//   f32 [B, 3, R, R]  any name: the pictures, in [-1, 1]     i32 [B] `direction`: a random 0 or 1 per sample
#ifndef LV_TRAIN_FEED_H
#define LV_TRAIN_FEED_H

#include "data/loader.h"
#include "exec/program.h"

typedef struct {
    const char *picture;    // input that takes the pictures
    const char *direction;  // NULL: the entry has none
    int resolution;
    int64_t batch;
} LvFeed;

// Which of the plan's inputs takes what; an error names an input that nothing fills.
bool lv_feed_bind(LvFeed *feed, const LvPlan *plan, LvError *error);
bool lv_feed_batch(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error);
// $seed, $step, $lr, where the entry has them.
bool lv_feed_scalars(LvProgram *program, int64_t seed, int32_t step, float rate, LvError *error);

#endif
