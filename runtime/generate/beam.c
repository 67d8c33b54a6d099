// Beam search: see beam.h.
#include "generate/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

typedef struct {
    int row, length;
    int32_t token;
    double logprob;
} Extension;

struct LvBeam {
    int width, candidates, longest;
    int32_t end;
    double alpha;
    int live, length;            // rows with a hypothesis, and the tokens of each
    int32_t *prefixes, *before;  // [width, longest] of the live ones, and of the step before
    double *logprobs;            // [width]
    int32_t *parents, *tokens;   // [width]
    Extension *found;            // [width + 1], the best first
    bool has_best;
    LvHypothesis best;
    int32_t *best_tokens;        // [longest]
    int ended;
};

static int32_t *row_of(const LvBeam *beam, int32_t *rows, int row) {
    return rows + (size_t)row * (size_t)beam->longest;
}

LvBeam *lv_beam_create(int width, int candidates, int longest, int32_t end, double alpha) {
    LvBeam *beam = lv_calloc(1, sizeof *beam);
    size_t w = (size_t)width, room = (size_t)longest + 1;
    *beam = (LvBeam){.width = width, .candidates = candidates, .longest = longest, .end = end, .alpha = alpha, .live = 1};
    beam->prefixes = lv_calloc(w * room, sizeof(int32_t));
    beam->before = lv_calloc(w * room, sizeof(int32_t));
    beam->best_tokens = lv_calloc(room, sizeof(int32_t));
    beam->logprobs = lv_calloc(w, sizeof(double));
    beam->parents = lv_calloc(w, sizeof(int32_t));
    beam->tokens = lv_calloc(w, sizeof(int32_t));
    beam->found = lv_calloc(w + 1, sizeof(Extension));
    return beam;
}

void lv_beam_destroy(LvBeam *beam) {
    if (!beam) return;
    free(beam->prefixes);
    free(beam->before);
    free(beam->best_tokens);
    free(beam->logprobs);
    free(beam->parents);
    free(beam->tokens);
    free(beam->found);
    free(beam);
}

static double penalty(const LvBeam *beam, int length) {
    return pow((5.0 + length) / 6.0, beam->alpha);
}

// A hypothesis that is whole: kept if it is better than the one kept. Of equals the earlier stays.
static void conclude(LvBeam *beam, const int32_t *tokens, int length, bool ended, double logprob) {
    double score = logprob / penalty(beam, length + ended);
    if (beam->has_best && score <= beam->best.score) return;
    memcpy(beam->best_tokens, tokens, (size_t)length * sizeof *tokens);
    beam->best = (LvHypothesis){beam->best_tokens, length, ended, logprob, score};
    beam->has_best = true;
}

// The `wanted` likeliest extensions of all live rows, best first: an insertion into a short sorted list.
static int best_extensions(LvBeam *beam, int wanted, const int32_t *tokens, const float *logprobs) {
    int count = 0;
    for (int row = 0; row < beam->live; row++) {
        for (int c = 0; c < beam->candidates; c++) {
            size_t at = (size_t)row * (size_t)beam->candidates + (size_t)c;
            double logprob = beam->logprobs[row] + (double)logprobs[at];
            if (!isfinite(logprob)) continue;
            int place = count;
            while (place > 0 && beam->found[place - 1].logprob < logprob) place--;
            if (place == wanted) continue;
            if (count < wanted) count++;
            memmove(beam->found + place + 1, beam->found + place, (size_t)(count - place - 1) * sizeof *beam->found);
            beam->found[place] = (Extension){row, beam->length, tokens[at], logprob};
        }
    }
    return count;
}

// Whether a live hypothesis can still beat the best: its log-probability only falls, its penalty is at most that of the longest.
static bool can_improve(const LvBeam *beam) {
    double most = beam->alpha > 0 ? penalty(beam, beam->longest) : penalty(beam, beam->length + 1);
    return beam->live > 0 && (!beam->has_best || beam->logprobs[0] / most > beam->best.score);
}

bool lv_beam_advance(LvBeam *beam, const int32_t *tokens, const float *logprobs) {
    int count = beam->length < beam->longest ? best_extensions(beam, beam->width - beam->ended, tokens, logprobs) : 0;
    int live = 0;
    int32_t *from = beam->prefixes, *to = beam->before;
    if (count == 0) {  // nothing can follow: what lives is what there is
        for (int row = 0; row < beam->live; row++)
            conclude(beam, row_of(beam, from, row), beam->length, false, beam->logprobs[row]);
    }
    for (int i = 0; i < count; i++) {
        Extension e = beam->found[i];
        const int32_t *prefix = row_of(beam, from, e.row);
        if (e.token == beam->end) {
            conclude(beam, prefix, e.length, true, e.logprob);
            beam->ended++;
            continue;
        }
        memcpy(row_of(beam, to, live), prefix, (size_t)e.length * sizeof *prefix);
        row_of(beam, to, live)[e.length] = e.token;
        beam->parents[live] = e.row, beam->tokens[live] = e.token;
        beam->logprobs[live++] = e.logprob;
    }
    beam->prefixes = to, beam->before = from;
    beam->live = live;
    if (count > 0) beam->length++;
    if (live > 0 && beam->length == beam->longest) {
        for (int row = 0; row < live; row++) conclude(beam, row_of(beam, to, row), beam->length, false, beam->logprobs[row]);
        beam->live = 0;
    }
    for (int row = beam->live; row < beam->width; row++)
        beam->parents[row] = beam->parents[0], beam->tokens[row] = beam->tokens[0];
    return can_improve(beam);
}

const int32_t *lv_beam_parents(const LvBeam *beam) {
    return beam->parents;
}

const int32_t *lv_beam_tokens(const LvBeam *beam) {
    return beam->tokens;
}

LvHypothesis lv_beam_best(const LvBeam *beam) {
    return beam->best;
}
