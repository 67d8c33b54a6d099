// Beam search with a scripted model: against all sequences there are, against greedy search, and by hand.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generate/beam.h"

enum { VOCABULARY = 4, END = 3, LONGEST = 4, MOST = 400 };

// The model: log-probabilities of the next token, a function of seed and prefix alone.
static void distribution(uint64_t seed, const int32_t *prefix, int length, float *out) {
    uint64_t hash = seed + 1;
    for (int i = 0; i < length; i++) hash = hash * 1000003 + (uint64_t)prefix[i] + 1;
    double weight[VOCABULARY], sum = 0;
    for (int v = 0; v < VOCABULARY; v++) {
        hash = hash * 6364136223846793005u + 1442695040888963407u;
        sum += weight[v] = exp(3.0 * (double)(hash >> 40) / (1 << 24));
    }
    for (int v = 0; v < VOCABULARY; v++) out[v] = (float)log(weight[v] / sum);
}

// Runs the search as a runtime would, keeping each row's prefix itself. The number of runs of the model.
static int run(LvBeam *beam, int width, uint64_t seed) {
    static int32_t prefix[MOST][LONGEST + 1], next[MOST][LONGEST + 1], tokens[MOST * VOCABULARY];
    static float logprobs[MOST * VOCABULARY];
    int runs = 0;
    for (int length = 0;; length++) {
        for (int row = 0; row < width; row++) {
            distribution(seed, prefix[row], length, logprobs + row * VOCABULARY);
            for (int v = 0; v < VOCABULARY; v++) tokens[row * VOCABULARY + v] = v;
        }
        runs++;
        if (!lv_beam_advance(beam, tokens, logprobs)) return runs;
        for (int row = 0; row < width; row++) {
            memcpy(next[row], prefix[lv_beam_parents(beam)[row]], sizeof next[row]);
            next[row][length] = lv_beam_tokens(beam)[row];
        }
        memcpy(prefix, next, sizeof prefix);
    }
}

static double score(double logprob, int tokens, double alpha) {
    return logprob / pow((5.0 + tokens) / 6.0, alpha);
}

// The best of all sequences, by trying each.
static void exhaust(uint64_t seed, int32_t *prefix, int length, double logprob, double alpha, double *best, int32_t *tokens,
                    int *count) {
    float next[VOCABULARY];
    double here = length == LONGEST ? score(logprob, length, alpha) : -INFINITY;
    if (length < LONGEST) {
        distribution(seed, prefix, length, next);
        here = score(logprob + (double)next[END], length + 1, alpha);
    }
    if (here > *best) {
        *best = here, *count = length;
        memcpy(tokens, prefix, (size_t)length * sizeof *tokens);
    }
    for (int v = 0; length < LONGEST && v < END; v++) {
        prefix[length] = v;
        exhaust(seed, prefix, length + 1, logprob + (double)next[v], alpha, best, tokens, count);
    }
}

static void wide_is_exhaustive(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        double alpha = 0.3 * (double)(seed % 5) - 0.3, best = -INFINITY;
        int32_t prefix[LONGEST], tokens[LONGEST];
        int count = 0;
        exhaust(seed, prefix, 0, 0, alpha, &best, tokens, &count);
        LvBeam *beam = lv_beam_create(MOST, VOCABULARY, LONGEST, END, alpha);
        run(beam, MOST, seed);
        LvHypothesis found = lv_beam_best(beam);
        assert_true(fabs(found.score - best) < 1e-9);
        assert_int_equal(found.length, count);
        assert_memory_equal(found.tokens, tokens, (size_t)count * sizeof *tokens);
        lv_beam_destroy(beam);
    }
}

static void one_is_greedy(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        int32_t prefix[LONGEST];
        int length = 0, ended = 0;
        double logprob = 0;
        while (length < LONGEST && !ended) {
            float next[VOCABULARY];
            int most = 0;
            distribution(seed, prefix, length, next);
            for (int v = 1; v < VOCABULARY; v++) most = next[v] > next[most] ? v : most;
            logprob += (double)next[most];
            if (most == END) ended = 1;
            else prefix[length++] = most;
        }
        LvBeam *beam = lv_beam_create(1, VOCABULARY, LONGEST, END, 0.6);
        int runs = run(beam, 1, seed);
        LvHypothesis found = lv_beam_best(beam);
        assert_int_equal(runs, length + ended);
        assert_int_equal(found.length, length);
        assert_int_equal(found.ended, ended);
        assert_true(fabs(found.logprob - logprob) < 1e-9);
        assert_memory_equal(found.tokens, prefix, (size_t)length * sizeof *prefix);
        lv_beam_destroy(beam);
    }
}

// What a narrow beam finds need not be the best, but its price is right, and it is twice the same.
static void says_what_it_costs(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        for (int width = 1; width <= 5; width++) {
            LvHypothesis found[2];
            LvBeam *beams[2];
            for (int i = 0; i < 2; i++) {
                beams[i] = lv_beam_create(width, VOCABULARY, LONGEST, END, 0.6);
                run(beams[i], width, seed);
                found[i] = lv_beam_best(beams[i]);
            }
            double logprob = 0;
            float next[VOCABULARY];
            for (int i = 0; i < found[0].length; i++) {
                distribution(seed, found[0].tokens, i, next);
                logprob += (double)next[found[0].tokens[i]];
            }
            if (found[0].ended) {
                distribution(seed, found[0].tokens, found[0].length, next);
                logprob += (double)next[END];
            }
            assert_true(fabs(found[0].logprob - logprob) < 1e-9);
            assert_true(fabs(found[0].score - score(logprob, found[0].length + found[0].ended, 0.6)) < 1e-9);
            assert_int_equal(found[0].length, found[1].length);
            assert_memory_equal(found[0].tokens, found[1].tokens, (size_t)found[0].length * sizeof(int32_t));
            lv_beam_destroy(beams[0]);
            lv_beam_destroy(beams[1]);
        }
    }
}

// Greedy takes token 0 (0.6) and is left with 0.3; by token 1 (0.4) all is sure.
static void looks_ahead(void **state) {
    (void)state;
    int32_t first[] = {0, 1, 0, 1}, second[] = {2, 9, 2, 9};
    float p[] = {logf(0.6f), logf(0.4f), 0, 0}, q[] = {logf(0.3f), logf(0.2f), logf(0.99f), logf(0.01f)};
    LvBeam *beam = lv_beam_create(2, 2, 2, 9, 0);
    assert_true(lv_beam_advance(beam, first, p));
    assert_int_equal(lv_beam_tokens(beam)[0], 0);
    assert_int_equal(lv_beam_tokens(beam)[1], 1);
    assert_int_equal(lv_beam_parents(beam)[1], 0);
    assert_false(lv_beam_advance(beam, second, q));
    LvHypothesis found = lv_beam_best(beam);
    assert_int_equal(found.length, 2);
    assert_int_equal(found.tokens[0], 1);
    assert_int_equal(found.tokens[1], 2);
    assert_false(found.ended);
    lv_beam_destroy(beam);
}

// "end" at once costs log 0.3; two tokens and an end cost log 0.25: which is better is up to alpha.
static void length_counts(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        LvBeam *beam = lv_beam_create(2, 2, 8, 9, i ? 1.0 : 0.0);
        int32_t first[] = {1, 9, 1, 9}, next[] = {2, 3, 2, 3}, last[] = {9, 3, 9, 3};
        float p[] = {logf(0.7f), logf(0.3f), 0, 0}, q[] = {logf(0.36f), logf(0.01f), 0, 0};
        float r[] = {logf(0.99f), logf(0.01f), 0, 0};
        bool goes_on = lv_beam_advance(beam, first, p) && lv_beam_advance(beam, next, q) && lv_beam_advance(beam, last, r);
        assert_false(goes_on);
        LvHypothesis found = lv_beam_best(beam);
        assert_int_equal(found.length, i ? 2 : 0);
        assert_true(found.ended);
        lv_beam_destroy(beam);
    }
}

// Equal ones in order, rows that are free repeat the first, numbers that are none are passed over.
static void odd_candidates(void **state) {
    (void)state;
    int32_t tokens[] = {4, 5, 6, 4, 5, 6, 4, 5, 6};
    float even[] = {-1, -1, -1, -1, -1, -1, -1, -1, -1}, odd[] = {NAN, -1, -INFINITY, -1, NAN, NAN, NAN, NAN, NAN};
    float none[] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    LvBeam *beam = lv_beam_create(3, 3, 5, -1, 0.6);
    assert_true(lv_beam_advance(beam, tokens, even));
    for (int i = 0; i < 3; i++) assert_int_equal(lv_beam_tokens(beam)[i], 4 + i);
    assert_true(lv_beam_advance(beam, tokens, odd));
    assert_int_equal(lv_beam_parents(beam)[0], 0);
    assert_int_equal(lv_beam_tokens(beam)[0], 5);
    assert_int_equal(lv_beam_parents(beam)[1], 1);
    assert_int_equal(lv_beam_tokens(beam)[1], 4);
    assert_int_equal(lv_beam_parents(beam)[2], 0);
    assert_int_equal(lv_beam_tokens(beam)[2], 5);
    assert_false(lv_beam_advance(beam, tokens, none));
    LvHypothesis found = lv_beam_best(beam);
    assert_int_equal(found.length, 2);
    assert_int_equal(found.tokens[0], 4);
    assert_int_equal(found.tokens[1], 5);
    lv_beam_destroy(beam);
    beam = lv_beam_create(2, 3, 5, 9, 0.6);
    assert_false(lv_beam_advance(beam, tokens, none));
    assert_int_equal(lv_beam_best(beam).length, 0);
    lv_beam_destroy(beam);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_is_exhaustive), cmocka_unit_test(one_is_greedy), cmocka_unit_test(says_what_it_costs),
        cmocka_unit_test(looks_ahead),        cmocka_unit_test(length_counts), cmocka_unit_test(odd_candidates),
    };
    return cmocka_run_group_tests_name("beam", tests, NULL, NULL);
}
