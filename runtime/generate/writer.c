// Writing token by token: see writer.h.
#include "generate/writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

struct LvWriter {
    LvEntryProgram begin, next;
    char *input;
    int64_t batch, reference;
    // of the batch, B each but the first
    int32_t *text;  // [B, R] the rows' references
    int64_t *seeds;
    float *temperature, *top_p, *logprob;
    int32_t *top_k, *token;
    bool *ended;
};

bool lv_writer_create(const LvNetwork *network, const char *name, const char *input, int64_t batch, LvWriter **out,
                      LvError *error) {
    char begin[64], next[64];
    snprintf(begin, sizeof begin, "%s_begin", name);
    snprintf(next, sizeof next, "%s_next", name);
    LvWriter *w = lv_calloc(1, sizeof *w);
    w->input = lv_strdup(input);
    w->batch = batch;
    bool good = lv_entry_open(&w->begin, network, begin, batch, error) && lv_entry_open(&w->next, network, next, batch, error) &&
                (w->reference = lv_entry_row(&w->begin, input, LV_I32, false, error)) > 0;
    if (!good) {
        lv_writer_destroy(w);
        return false;
    }
    size_t b = (size_t)batch;
    w->text = lv_calloc(b * (size_t)w->reference, sizeof *w->text);
    w->seeds = lv_calloc(b, sizeof *w->seeds);
    w->temperature = lv_calloc(b, sizeof *w->temperature);
    w->top_p = lv_calloc(b, sizeof *w->top_p);
    w->logprob = lv_calloc(b, sizeof *w->logprob);
    w->top_k = lv_calloc(b, sizeof *w->top_k);
    w->token = lv_calloc(b, sizeof *w->token);
    w->ended = lv_calloc(b, sizeof *w->ended);
    *out = w;
    return true;
}

void lv_writer_destroy(LvWriter *w) {
    if (!w) return;
    lv_entry_close(&w->begin);
    lv_entry_close(&w->next);
    free(w->input);
    free(w->text);
    free(w->seeds);
    free(w->temperature);
    free(w->top_p);
    free(w->logprob);
    free(w->top_k);
    free(w->token);
    free(w->ended);
    free(w);
}

int64_t lv_writer_batch(const LvWriter *writer) {
    return writer->batch;
}

int64_t lv_writer_reference(const LvWriter *writer) {
    return writer->reference;
}

static void fill_rows(LvWriter *w, const LvWriting *writing) {
    size_t row = (size_t)w->reference;
    for (int64_t i = 0; i < w->batch; i++) {
        int64_t from = i < writing->rows ? i : 0;
        memcpy(w->text + (size_t)i * row, writing->reference + (size_t)from * row, row * sizeof(int32_t));
        w->seeds[i] = writing->seeds[from];
        w->temperature[i] = writing->choice.temperature;
        w->top_k[i] = writing->choice.top_k;
        w->top_p[i] = writing->choice.top_p;
        w->ended[i] = i >= writing->rows;
    }
}

static LvProgram *program_of(const LvWriter *w, int64_t at) {
    return at == 0 ? w->begin.program : w->next.program;
}

// Rows of more than that are waited for.
static bool reads_late(const LvWriter *w) {
    return (size_t)w->batch * sizeof *w->token <= LV_LATE_BYTES;
}

// What stays from step to step.
static bool set_rows(LvWriter *w, LvProgram *p, LvError *error) {
    size_t b = (size_t)w->batch;
    return lv_program_set_input(p, "seed", w->seeds, b * sizeof *w->seeds, error) &&
           lv_program_set_input(p, "temperature", w->temperature, b * sizeof *w->temperature, error) &&
           lv_program_set_input(p, "top_k", w->top_k, b * sizeof *w->top_k, error) &&
           lv_program_set_input(p, "top_p", w->top_p, b * sizeof *w->top_p, error);
}

// Queues token `at` of every row.
static bool queue(LvWriter *w, int64_t at, LvError *error) {
    LvProgram *p = program_of(w, at);
    int32_t number = (int32_t)at + 1;
    return (at > 1 || set_rows(w, p, error)) && lv_program_set_input(p, "$step", &number, sizeof number, error) &&
           lv_program_run(p, error) && (!reads_late(w) || lv_program_post(p, error));
}

// Waits for it.
static bool fetch(LvWriter *w, int64_t at, LvError *error) {
    size_t b = (size_t)w->batch;
    LvProgram *p = program_of(w, at);
    if (!reads_late(w)) {
        return lv_program_get_result(p, "token", w->token, b * sizeof *w->token, error) &&
               lv_program_get_result(p, "logprob", w->logprob, b * sizeof *w->logprob, error);
    }
    return lv_program_receive(p, NULL, error) && lv_program_received(p, "token", w->token, b * sizeof *w->token, error) &&
           lv_program_received(p, "logprob", w->logprob, b * sizeof *w->logprob, error);
}

// Takes token `at` of every row that has not ended. False: a number is none.
static bool take(LvWriter *w, const LvWriting *writing, int64_t at, int32_t *tokens, double *logprob, bool *going,
                 LvError *error) {
    *going = false;
    for (int64_t i = 0; i < writing->rows; i++) {
        int32_t *place = tokens + i * writing->length + at;
        *place = w->ended[i] ? writing->end : w->token[i];
        if (w->ended[i]) continue;
        if (!isfinite(w->logprob[i])) {
            lv_error_set(error, LV_ERROR_NUMERIC, "the log-probability of token %lld is %g", (long long)at + 1,
                         (double)w->logprob[i]);
            return lv_error_hint(error, "are the weights finite? lvrun info CHECKPOINT lists them");
        }
        logprob[i] += (double)w->logprob[i];
        w->ended[i] = writing->end >= 0 && w->token[i] == writing->end;
        *going = *going || !w->ended[i];
    }
    return true;
}

bool lv_writer_run(LvWriter *w, const LvWriting *writing, int32_t *tokens, double *logprob, LvError *error) {
    bool good = true, going = true;
    fill_rows(w, writing);
    for (int64_t i = 0; i < writing->rows; i++) logprob[i] = 0;
    good = lv_program_set_input(w->begin.program, w->input, w->text, (size_t)(w->batch * w->reference) * sizeof *w->text, error);
    // The next token is queued before one is read: where all rows end with that, it is drawn for nothing.
    int64_t queued = 0, lag = reads_late(w) ? lv_program_lag(w->next.program) : 0;
    for (int64_t at = 0; good && at < writing->length; at++) {
        while (good && going && queued < writing->length && queued <= at + lag) good = queue(w, queued++, error);
        good = good && (at >= queued || fetch(w, at, error)) && take(w, writing, at, tokens, logprob, &going, error);
        if (good && going && writing->ticker.tick) writing->ticker.tick(writing->ticker.user, at + 1, writing->length);
    }
    return good;
}
