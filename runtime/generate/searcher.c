// Beam search with a network: see searcher.h; the search itself is beam.c.
#include "generate/searcher.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/beam.h"

struct LvSearcher {
    LvEntryProgram begin, next;
    int64_t groups, beams, batch, reference, candidates;
    int32_t *images;            // [B, N]
    int32_t *parents, *chosen;  // [B]
    int32_t *tokens;            // [B, K]
    float *logprobs;            // [B, K]
};

static bool measure(LvSearcher *s, LvError *error) {
    s->reference = lv_entry_row(&s->begin, "image", LV_I32, false, error);
    s->candidates = s->reference ? lv_entry_row(&s->begin, "token", LV_I32, true, error) : 0;
    if (s->candidates == 0) return false;
    if (s->candidates >= s->beams) return true;
    lv_error_set(error, LV_ERROR_USAGE, "the model names %lld candidates a row, too few for %lld beams", (long long)s->candidates,
                 (long long)s->beams);
    return lv_error_hint(error, "--set beam_candidates=%lld", (long long)s->beams);
}

bool lv_searcher_create(const LvNetwork *network, int64_t groups, int64_t beams, LvSearcher **out, LvError *error) {
    LvSearcher *s = lv_calloc(1, sizeof *s);
    *s = (LvSearcher){.groups = groups, .beams = beams, .batch = groups * beams};
    bool good = lv_entry_open(&s->begin, network, "beam_begin", s->batch, error) &&
                lv_entry_open(&s->next, network, "beam_next", s->batch, error) && measure(s, error);
    if (!good) {
        lv_searcher_destroy(s);
        return false;
    }
    size_t b = (size_t)s->batch;
    s->images = lv_calloc(b * (size_t)s->reference, sizeof *s->images);
    s->parents = lv_calloc(b, sizeof *s->parents);
    s->chosen = lv_calloc(b, sizeof *s->chosen);
    s->tokens = lv_calloc(b * (size_t)s->candidates, sizeof *s->tokens);
    s->logprobs = lv_calloc(b * (size_t)s->candidates, sizeof *s->logprobs);
    *out = s;
    return true;
}

void lv_searcher_destroy(LvSearcher *s) {
    if (!s) return;
    lv_entry_close(&s->begin);
    lv_entry_close(&s->next);
    free(s->images);
    free(s->parents);
    free(s->chosen);
    free(s->tokens);
    free(s->logprobs);
    free(s);
}

int64_t lv_searcher_groups(const LvSearcher *searcher) {
    return searcher->groups;
}

int64_t lv_searcher_reference(const LvSearcher *searcher) {
    return searcher->reference;
}

static bool fetch(LvSearcher *s, const LvEntryProgram *entry, int32_t number, LvError *error) {
    size_t all = (size_t)(s->batch * s->candidates);
    LvProgram *p = entry->program;
    bool good = lv_program_set_input(p, "$step", &number, sizeof number, error) && lv_program_run(p, error) &&
                lv_program_get_result(p, "token", s->tokens, all * sizeof *s->tokens, error) &&
                lv_program_get_result(p, "logprob", s->logprobs, all * sizeof *s->logprobs, error);
    for (size_t i = 0; good && i < all; i++) {
        if (isnan(s->logprobs[i]))
            good = lv_error_set(error, LV_ERROR_NUMERIC, "a log-probability of token %d is NaN", (int)number);
    }
    return good;
}

// Each search that is not over takes a step; their rows for the next run. False: all are over.
static bool advance(LvSearcher *s, LvBeam **beams, bool *going, int64_t count) {
    bool any = false;
    for (int64_t g = 0; g < count; g++) {
        int64_t row = g * s->beams;
        if (!going[g]) continue;
        going[g] = lv_beam_advance(beams[g], s->tokens + row * s->candidates, s->logprobs + row * s->candidates);
        if (!going[g]) continue;
        any = true;
        for (int64_t i = 0; i < s->beams; i++) {
            s->parents[row + i] = (int32_t)row + lv_beam_parents(beams[g])[i];
            s->chosen[row + i] = lv_beam_tokens(beams[g])[i];
        }
    }
    return any;
}

static LvFound found_by(const LvBeam *beam) {
    LvHypothesis best = lv_beam_best(beam);
    LvFound found = {.length = best.length, .ended = best.ended, .logprob = best.logprob, .score = best.score};
    found.tokens = lv_calloc((size_t)best.length + 1, sizeof *found.tokens);
    memcpy(found.tokens, best.tokens, (size_t)best.length * sizeof *found.tokens);
    return found;
}

bool lv_searcher_run(LvSearcher *s, const int32_t *images, int64_t count, int64_t longest, int32_t end, double alpha,
                     LvFound *found, LvError *error) {
    LvBeam **beams = lv_calloc((size_t)count, sizeof *beams);
    bool *going = lv_calloc((size_t)count, sizeof *going);
    size_t row = (size_t)s->reference, b = (size_t)s->batch;
    for (int64_t i = 0; i < s->batch; i++) {
        int64_t group = i / s->beams < count ? i / s->beams : 0;
        memcpy(s->images + (size_t)i * row, images + (size_t)group * row, row * sizeof *images);
        s->parents[i] = (int32_t)i, s->chosen[i] = 0;
    }
    for (int64_t g = 0; g < count; g++) {
        beams[g] = lv_beam_create((int)s->beams, (int)s->candidates, (int)longest, end, alpha);
        going[g] = true;
    }
    bool good = lv_program_set_input(s->begin.program, "image", s->images, b * row * sizeof *s->images, error) &&
                fetch(s, &s->begin, 1, error);
    for (int32_t number = 2; good && advance(s, beams, going, count); number++) {
        good = lv_program_set_input(s->next.program, "parent", s->parents, b * sizeof *s->parents, error) &&
               lv_program_set_input(s->next.program, "token", s->chosen, b * sizeof *s->chosen, error) &&
               fetch(s, &s->next, number, error);
    }
    for (int64_t g = 0; g < count; g++) {
        if (good) found[g] = found_by(beams[g]);
        lv_beam_destroy(beams[g]);
    }
    free(beams);
    free(going);
    return good;
}
