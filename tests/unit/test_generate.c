// Writing, searching and scoring with a network: the model is trigram.lv, whose probabilities are computed here too.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "generate/scorer.h"
#include "generate/searcher.h"
#include "generate/writer.h"
#include "model_run.h"

enum { VOCAB = 6, END = 5, TEXT = 4, IMAGE = 5, ROWS = 7 };

typedef struct {
    ModelRun run;
    LvNetwork network;
    float table[VOCAB][VOCAB];
    double logprob[VOCAB][VOCAB][VOCAB];  // of the third token, after the first and the second
} Trigram;

static bool plan_of(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error) {
    Trigram *b = user;
    int count;
    const LvModelEntry *entries = lv_model_entries(b->run.model, &count);
    LvCompileOptions options = {.entry = entry, .batch = batch, .device = "cpu"};
    *plan = NULL;
    for (int i = 0; i < count; i++) {
        if (!strcmp(entries[i].name, entry)) return lv_model_compile(b->run.model, &options, &b->run.diagnostics, plan, error);
    }
    return true;
}

static int setup(void **state) {
    Trigram *b = calloc(1, sizeof *b);
    model_run_open(&b->run, "tests/unit/trigram.lv", NULL, 0);
    model_run_program(&b->run, "score", 1, LV_PRECISION_F32);
    b->network = (LvNetwork){b->run.device, b->run.store, {b, plan_of}};
    uint32_t word = 12345;
    for (int i = 0; i < VOCAB * VOCAB; i++) {
        word = word * 1664525 + 1013904223;
        b->table[i / VOCAB][i % VOCAB] = (float)(word >> 8) / (1 << 23) * 2 - 2;
    }
    for (int i = 0; i < VOCAB * VOCAB; i++) {
        double *p = b->logprob[i / VOCAB][i % VOCAB], sum = 0;
        for (int to = 0; to < VOCAB; to++) {
            p[to] = (double)b->table[i % VOCAB][to] + 0.5 * (double)b->table[i / VOCAB][to];
            sum += exp(p[to]);
        }
        for (int to = 0; to < VOCAB; to++) p[to] -= log(sum);
    }
    LvError error = {0};
    if (!lv_store_write(b->run.store, lv_store_find(b->run.store, "table"), b->table, sizeof b->table, &error)) return 1;
    *state = b;
    return 0;
}

static int teardown(void **state) {
    Trigram *b = *state;
    model_run_close(&b->run);
    free(b);
    return 0;
}

static void good(bool result, const LvError *error) {
    if (!result) fail_msg("%s", error->message);
}

static void write_rows(Trigram *b, int64_t batch, int64_t rows, const int32_t *text, const int64_t *seeds, LvChoice choice,
                       int32_t end, int32_t *tokens, double *logprob) {
    LvWriter *writer;
    LvError error = {0};
    good(lv_writer_create(&b->network, "draw", "text", batch, &writer, &error), &error);
    assert_int_equal(lv_writer_reference(writer), TEXT);
    for (int64_t at = 0; at < rows; at += batch) {
        LvWriting writing = {.rows = rows - at < batch ? rows - at : batch, .reference = text + at * TEXT, .seeds = seeds + at,
                             .choice = choice, .length = IMAGE, .end = end};
        good(lv_writer_run(writer, &writing, tokens + at * IMAGE, logprob + at, &error), &error);
    }
    lv_writer_destroy(writer);
}

static void texts(int32_t *text, int64_t *seeds) {
    for (int i = 0; i < ROWS; i++) {
        seeds[i] = 1000000000000 + i % 5;  // the last two rows have seeds of the first two
        for (int t = 0; t < TEXT; t++) text[i * TEXT + t] = t == TEXT - 1 ? i % 5 : 0;
    }
}

// Greedy: each token the likeliest after the one before; the sum of their log-probabilities; nothing counts after an end.
static void greedy(void **state) {
    Trigram *b = *state;
    int32_t text[ROWS * TEXT], tokens[ROWS * IMAGE];
    int64_t seeds[ROWS];
    double logprob[ROWS];
    texts(text, seeds);
    for (int k = 0; k < 3; k++) {
        int32_t end = k == 2 ? END : -1;
        write_rows(b, 3, ROWS, text, seeds, k == 0 ? (LvChoice){1, 1, 1} : (LvChoice){0, 0, 1}, end, tokens, logprob);
        for (int i = 0; i < ROWS; i++) {
            int before = text[i * TEXT + TEXT - 2], last = text[i * TEXT + TEXT - 1];
            double sum = 0;
            bool over = false;
            for (int t = 0; t < IMAGE; t++) {
                const double *p = b->logprob[before][last];
                int most = 0;
                for (int v = 1; v < VOCAB; v++) most = p[v] > p[most] ? v : most;
                assert_int_equal(tokens[i * IMAGE + t], over ? END : most);
                sum += over ? 0 : p[most];
                over = over || most == end;
                before = last, last = most;
            }
            assert_true(fabs(sum - logprob[i]) < 1e-5);
        }
    }
}

// Chance: a row is what its text and seed make it, in a batch of one, of three or of all; another seed is another row.
static void batch_does_not_matter(void **state) {
    Trigram *b = *state;
    static const int64_t batches[] = {1, 3, ROWS};
    int32_t text[ROWS * TEXT], tokens[3][ROWS * IMAGE], other[ROWS * IMAGE];
    int64_t seeds[ROWS];
    double logprob[3][ROWS], score[ROWS];
    texts(text, seeds);
    for (int i = 0; i < 3; i++) write_rows(b, batches[i], ROWS, text, seeds, (LvChoice){1.5f, 0, 1}, -1, tokens[i], logprob[i]);
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    assert_memory_equal(tokens[0], tokens[2], sizeof tokens[0]);
    assert_memory_equal(tokens[0], tokens[0] + 5 * IMAGE, 2 * IMAGE * sizeof(int32_t));
    for (int i = 0; i < ROWS; i++) seeds[i] += 100;
    write_rows(b, ROWS, ROWS, text, seeds, (LvChoice){1.5f, 0, 1}, -1, other, score);
    assert_memory_not_equal(tokens[0], other, sizeof other);

    // What it cost is what the scorer says.
    LvScorer *scorer;
    LvError error = {0};
    good(lv_scorer_create(&b->network, 4, &scorer, &error), &error);
    good(lv_scorer_run(scorer, text, other, 0, ROWS, score, &error), &error);
    write_rows(b, ROWS, ROWS, text, seeds, (LvChoice){1.5f, 0, 1}, END, other, logprob[0]);
    for (int i = 0; i < ROWS; i++) assert_true(fabs(score[i] - logprob[0][i]) < 1e-5);
    lv_scorer_destroy(scorer);
}

// All tokens appear about as often as they are likely.
static void chance_is_fair(void **state) {
    Trigram *b = *state;
    enum { MANY = 4000 };
    int32_t *text = calloc(MANY * TEXT, sizeof *text), *tokens = calloc(MANY * IMAGE, sizeof *tokens);
    int64_t *seeds = calloc(MANY, sizeof *seeds);
    double *logprob = calloc(MANY, sizeof *logprob);
    int next[VOCAB][VOCAB][VOCAB] = {0}, from[VOCAB][VOCAB] = {0};
    for (int i = 0; i < MANY; i++) seeds[i] = i, text[i * TEXT + TEXT - 1] = i % VOCAB;
    write_rows(b, MANY, MANY, text, seeds, (LvChoice){1, 0, 1}, -1, tokens, logprob);
    for (int i = 0; i < MANY; i++) {
        int before = text[i * TEXT + TEXT - 2], last = text[i * TEXT + TEXT - 1];
        for (int t = 0; t < IMAGE; t++) {
            int token = tokens[i * IMAGE + t];
            next[before][last][token]++, from[before][last]++;
            before = last, last = token;
        }
    }
    for (int i = 0; i < VOCAB * VOCAB * VOCAB; i++) {
        int f = i / VOCAB / VOCAB, s = i / VOCAB % VOCAB, t = i % VOCAB;
        double p = exp(b->logprob[f][s][t]), n = from[f][s];
        assert_true(fabs(next[f][s][t] - n * p) < 5 * sqrt(n * p * (1 - p)) + 1);
    }
    free(text), free(tokens), free(seeds), free(logprob);
}

static void best_chain(const Trigram *b, int before, int last, int length, double sum, double alpha, int32_t *prefix,
                       double *best, int32_t *found, int *count) {
    const double *p = b->logprob[before][last];
    double here = length == TEXT ? sum / pow((5.0 + length) / 6, alpha) : (sum + p[END]) / pow((6.0 + length) / 6, alpha);
    if (here > *best) {
        *best = here, *count = length;
        memcpy(found, prefix, (size_t)length * sizeof *found);
    }
    for (int v = 0; length < TEXT && v < END; v++) {
        prefix[length] = v;
        best_chain(b, last, v, length + 1, sum + p[v], alpha, prefix, best, found, count);
    }
}

// Groups of pictures beside one another, one of them absent: with enough beams each finds the best sequence there is.
static void search(void **state) {
    Trigram *b = *state;
    int32_t images[2 * IMAGE] = {0};
    LvSearcher *searcher;
    LvFound found[2];
    LvError error = {0};
    assert_false(lv_searcher_create(&b->network, 3, 4, &searcher, &error));
    assert_non_null(strstr(error.message, "3 candidates a row, too few for 4 beams"));
    lv_error_clear(&error);
    good(lv_searcher_create(&b->network, 3, 3, &searcher, &error), &error);
    assert_int_equal(lv_searcher_reference(searcher), IMAGE);
    for (int first = 0; first < END; first += 2) {
        images[IMAGE - 1] = first, images[2 * IMAGE - 1] = first + 1;
        good(lv_searcher_run(searcher, images, 2, TEXT, END, 0.6, found, &error), &error);
        for (int i = 0; i < 2; i++) {
            int32_t prefix[TEXT], tokens[TEXT];
            double best = -INFINITY, sum = 0;
            int count = 0, before = 0, last = first + i;
            best_chain(b, before, last, 0, 0, 0.6, prefix, &best, tokens, &count);
            for (int t = 0; t < found[i].length; t++) {
                sum += b->logprob[before][last][found[i].tokens[t]];
                before = last, last = found[i].tokens[t];
            }
            if (found[i].ended) sum += b->logprob[before][last][END];
            assert_true(fabs(found[i].logprob - sum) < 1e-5);
            assert_true(found[i].score > best - 0.5 && found[i].score < best + 1e-5);
            if (fabs(found[i].score - best) < 1e-5) {
                assert_int_equal(found[i].length, count);
                assert_memory_equal(found[i].tokens, tokens, (size_t)count * sizeof *tokens);
            }
            free(found[i].tokens);
        }
    }
    lv_searcher_destroy(searcher);
}

static void absent_entries(void **state) {
    Trigram *b = *state;
    LvWriter *writer;
    LvError error = {0};
    assert_false(lv_writer_create(&b->network, "describe", "image", 2, &writer, &error));
    assert_string_equal(error.message, "the model has no entry 'describe_begin'");
    lv_error_clear(&error);
    assert_false(lv_writer_create(&b->network, "draw", "words", 2, &writer, &error));
    assert_string_equal(error.message, "entry 'draw_begin' has no input 'words' that is i32[B, n]");
    lv_error_clear(&error);
}

static void weights_that_are_none(void **state) {
    Trigram *b = *state;
    float bad[VOCAB][VOCAB];
    int32_t text[TEXT] = {0}, tokens[IMAGE], images[IMAGE] = {0};
    int64_t seed = 1;
    double logprob;
    LvFound found;
    LvWriter *writer;
    LvSearcher *searcher;
    LvError error = {0};
    for (int i = 0; i < VOCAB * VOCAB; i++) bad[i / VOCAB][i % VOCAB] = NAN;
    int at = lv_store_find(b->run.store, "table");
    good(lv_store_write(b->run.store, at, bad, sizeof bad, &error), &error);
    LvWriting writing = {.rows = 1, .reference = text, .seeds = &seed, .choice = {1, 0, 1}, .length = IMAGE, .end = -1};
    good(lv_writer_create(&b->network, "draw", "text", 1, &writer, &error), &error);
    assert_false(lv_writer_run(writer, &writing, tokens, &logprob, &error));
    assert_non_null(strstr(error.message, "the log-probability of token 1 is"));
    lv_error_clear(&error);
    lv_writer_destroy(writer);
    good(lv_searcher_create(&b->network, 1, 2, &searcher, &error), &error);
    assert_false(lv_searcher_run(searcher, images, 1, TEXT, END, 0.6, &found, &error));
    assert_non_null(strstr(error.message, "NaN"));
    lv_error_clear(&error);
    lv_searcher_destroy(searcher);
    good(lv_store_write(b->run.store, at, b->table, sizeof b->table, &error), &error);
}

static void rank(void **state) {
    (void)state;
    static const double values[] = {-3, NAN, -1, -2, -1, -INFINITY, -1};
    int64_t places[7];
    lv_rank(values, 7, 7, places);
    static const int64_t all[] = {2, 4, 6, 3, 0, 5, 1};
    assert_memory_equal(places, all, sizeof all);
    lv_rank(values, 7, 2, places);
    assert_memory_equal(places, all, 2 * sizeof *all);
    lv_rank(values + 1, 1, 1, places);
    assert_int_equal(places[0], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy), cmocka_unit_test(batch_does_not_matter), cmocka_unit_test(chance_is_fair),
        cmocka_unit_test(search), cmocka_unit_test(absent_entries), cmocka_unit_test(weights_that_are_none), cmocka_unit_test(rank),
    };
    return cmocka_run_group_tests_name("generate", tests, setup, teardown);
}
