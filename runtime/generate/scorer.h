// How likely a network finds a caption for a picture, or a picture for a caption, by its entry
//   score(text: i32[B, T], image: i32[B, N], direction: i32[B]) -> {logprob: f32[B]}
// direction 0: of the picture given the text; 1: of the text given the picture.
#ifndef LV_GENERATE_SCORER_H
#define LV_GENERATE_SCORER_H

#include "generate/network.h"

typedef struct LvScorer LvScorer;

bool lv_scorer_create(const LvNetwork *network, int64_t batch, LvScorer **scorer, LvError *error);
void lv_scorer_destroy(LvScorer *scorer);
// text [rows, T], image [rows, N], logprob [rows]; any number of rows, a batch at a time.
bool lv_scorer_run(LvScorer *scorer, const int32_t *text, const int32_t *image, int32_t direction, int64_t rows, double *logprob,
                   LvError *error);

// The places of the `keep` greatest of `count` numbers, the greatest first; of equals the earlier one. NaN comes last.
void lv_rank(const double *values, int64_t count, int64_t keep, int64_t *places);

#endif
