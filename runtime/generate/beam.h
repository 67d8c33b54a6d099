// Beam search: the likeliest sequences by a model that, for each of some prefixes, names its likeliest next tokens. Nothing here
// runs a model: whoever does brings the candidates of every row and takes the rows to go on with. Deterministic: equal
// log-probabilities are in order of row, then of candidate.
//
// The beam narrows as hypotheses end (Sutskever et al., 2014): of the best `width - ended` extensions those by the end token are
// set aside, the others live on. With width 1 that is greedy search. Hypotheses are compared by their log-probability over
//     lp(n) = ((5 + n) / 6)^alpha        (Wu et al., 2016, equation 14; n tokens, the end token included)
// since every further token makes a sequence less likely, and short ones would always win.
#ifndef LV_GENERATE_BEAM_H
#define LV_GENERATE_BEAM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const int32_t *tokens;  // [length], without the end token
    int length;
    bool ended;             // by the end token; else the search reached its longest
    double logprob;         // natural, the end token's included
    double score;           // logprob / lp
} LvHypothesis;

typedef struct LvBeam LvBeam;

// `candidates` a row; sequences of `longest` tokens at most; `end` closes one (-1: none does).
LvBeam *lv_beam_create(int width, int candidates, int longest, int32_t end, double alpha);
void lv_beam_destroy(LvBeam *beam);

// tokens, logprobs: [width, candidates], what may follow each row's prefix. Before the first call all rows are the empty prefix,
// and row 0 alone is read. Candidates that are not finite are passed over. False: the search is over.
bool lv_beam_advance(LvBeam *beam, const int32_t *tokens, const float *logprobs);
// After it, for each of `width` rows: the row that it goes on from, and by which token. Rows without a hypothesis repeat row 0.
const int32_t *lv_beam_parents(const LvBeam *beam);
const int32_t *lv_beam_tokens(const LvBeam *beam);

// The best hypothesis, once the search is over; belongs to the beam.
LvHypothesis lv_beam_best(const LvBeam *beam);

#endif
