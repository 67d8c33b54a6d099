// Tokens written one after another, a batch of rows at a time, by two entries of a network that keep what they have read in
// caches: NAME_begin reads each row's reference and gives the first token, NAME_next gives each further one.
//   NAME_begin(INPUT: i32[B, R], seed: i64[B], temperature: f32[B], top_k: i32[B], top_p: f32[B])
//   NAME_next(seed, temperature, top_k, top_p)         both -> {token: i32[B], logprob: f32[B]}
// The input `$step` counts the tokens, from 1. Random choices are functions of a row's seed and of the token's number, so that
// what a row becomes does not depend on its batch.
#ifndef LV_GENERATE_WRITER_H
#define LV_GENERATE_WRITER_H

#include "generate/network.h"

typedef struct {
    float temperature;  // 0: always the likeliest token
    int32_t top_k;      // of the likeliest so many, 0: of all
    float top_p;        // of the fewest that have this much of the probability, 1: of all
} LvChoice;

typedef struct {
    void *user;
    void (*tick)(void *user, int64_t token, int64_t tokens);  // after each token of the batch; may be NULL
} LvTicker;

typedef struct LvWriter LvWriter;

// `name` is "draw" or "describe", `input` what NAME_begin reads: "text" or "image".
bool lv_writer_create(const LvNetwork *network, const char *name, const char *input, int64_t batch, LvWriter **writer,
                      LvError *error);
void lv_writer_destroy(LvWriter *writer);
int64_t lv_writer_batch(const LvWriter *writer);
int64_t lv_writer_reference(const LvWriter *writer);  // R

typedef struct {
    int64_t rows;              // at most the batch; the others are filled up with row 0 and dropped
    const int32_t *reference;  // [rows, R]
    const int64_t *seeds;      // [rows]
    LvChoice choice;
    int64_t length;            // tokens of a row, L
    int32_t end;               // after this one a row goes on with it alone; -1: there is none
    LvTicker ticker;
} LvWriting;

// tokens [rows, L]; logprob [rows]: the sum over a row's tokens, its first end token included.
bool lv_writer_run(LvWriter *writer, const LvWriting *writing, int32_t *tokens, double *logprob, LvError *error);

#endif
