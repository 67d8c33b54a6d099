// Beam search by two entries of a network: each picture of a group takes `beams` rows of the batch.
//   beam_begin(image: i32[B, N]) -> {token: i32[B, K], logprob: f32[B, K]}       the K likeliest next tokens of each row
//   beam_next(parent: i32[B], token: i32[B]) -> the same                        row i goes on from row parent[i] by token[i]
#ifndef LV_GENERATE_SEARCHER_H
#define LV_GENERATE_SEARCHER_H

#include "generate/network.h"

typedef struct {
    int32_t *tokens;   // [length], owned, without the end token
    int64_t length;
    bool ended;
    double logprob, score;  // the sum, and what it is over its length: beam.h
} LvFound;

typedef struct LvSearcher LvSearcher;

// A batch of groups x beams rows. K must be at least `beams`.
bool lv_searcher_create(const LvNetwork *network, int64_t groups, int64_t beams, LvSearcher **searcher, LvError *error);
void lv_searcher_destroy(LvSearcher *searcher);
int64_t lv_searcher_groups(const LvSearcher *searcher);
int64_t lv_searcher_reference(const LvSearcher *searcher);  // N
// images [count, N], count <= groups; found [count], whose tokens the caller frees. On failure nothing is to be freed.
bool lv_searcher_run(LvSearcher *searcher, const int32_t *images, int64_t count, int64_t longest, int32_t end, double alpha,
                     LvFound *found, LvError *error);

#endif
