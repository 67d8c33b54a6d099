// Scores: see scorer.h.
#include "generate/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

struct LvScorer {
    LvEntryProgram entry;
    int64_t batch, text_length, image_length;
    int32_t *text, *image, *direction;  // [B, T], [B, N], [B]
    float *logprob;                     // [B]
};

bool lv_scorer_create(const LvNetwork *network, int64_t batch, LvScorer **out, LvError *error) {
    LvScorer *s = lv_calloc(1, sizeof *s);
    s->batch = batch;
    bool good = lv_entry_open(&s->entry, network, "score", batch, error) &&
                (s->text_length = lv_entry_row(&s->entry, "text", LV_I32, false, error)) > 0 &&
                (s->image_length = lv_entry_row(&s->entry, "image", LV_I32, false, error)) > 0;
    if (!good) {
        lv_scorer_destroy(s);
        return false;
    }
    size_t b = (size_t)batch;
    s->text = lv_calloc(b * (size_t)s->text_length, sizeof *s->text);
    s->image = lv_calloc(b * (size_t)s->image_length, sizeof *s->image);
    s->direction = lv_calloc(b, sizeof *s->direction);
    s->logprob = lv_calloc(b, sizeof *s->logprob);
    *out = s;
    return true;
}

void lv_scorer_destroy(LvScorer *s) {
    if (!s) return;
    lv_entry_close(&s->entry);
    free(s->text);
    free(s->image);
    free(s->direction);
    free(s->logprob);
    free(s);
}

// At most a batch of rows; what is left of it is filled up with the first.
static bool run_batch(LvScorer *s, const int32_t *text, const int32_t *image, int32_t direction, int64_t rows, double *logprob,
                      LvError *error) {
    size_t b = (size_t)s->batch, t = (size_t)s->text_length, n = (size_t)s->image_length;
    LvProgram *p = s->entry.program;
    for (size_t i = 0; i < b; i++) {
        size_t from = i < (size_t)rows ? i : 0;
        memcpy(s->text + i * t, text + from * t, t * sizeof *text);
        memcpy(s->image + i * n, image + from * n, n * sizeof *image);
        s->direction[i] = direction;
    }
    bool good = lv_program_set_input(p, "text", s->text, b * t * sizeof *s->text, error) &&
                lv_program_set_input(p, "image", s->image, b * n * sizeof *s->image, error) &&
                lv_program_set_input(p, "direction", s->direction, b * sizeof *s->direction, error) && lv_program_run(p, error) &&
                lv_program_get_result(p, "logprob", s->logprob, b * sizeof *s->logprob, error);
    for (int64_t i = 0; good && i < rows; i++) logprob[i] = (double)s->logprob[i];
    return good;
}

bool lv_scorer_run(LvScorer *s, const int32_t *text, const int32_t *image, int32_t direction, int64_t rows, double *logprob,
                   LvError *error) {
    bool good = true;
    for (int64_t at = 0; good && at < rows; at += s->batch) {
        int64_t count = rows - at < s->batch ? rows - at : s->batch;
        good = run_batch(s, text + at * s->text_length, image + at * s->image_length, direction, count, logprob + at, error);
    }
    return good;
}

void lv_rank(const double *values, int64_t count, int64_t keep, int64_t *places) {
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = kept;
        while (at > 0 && (values[places[at - 1]] < values[i] || (isnan(values[places[at - 1]]) && !isnan(values[i])))) at--;
        if (at == keep) continue;
        if (kept < keep) kept++;
        memmove(places + at + 1, places + at, (size_t)(kept - at - 1) * sizeof *places);
        places[at] = i;
    }
}
