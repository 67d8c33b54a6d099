// Sampling token by token, with the golden weights of models/biart.lv: what is chosen with caches is what the whole sequence's
// logits say, in both directions; a row's tokens do not depend on its batch; beams; scores; the caches are written in place.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_run.h"

enum {
    TEXT = 8, IMAGE = 16, LENGTH = TEXT + IMAGE, TEXT_VOCAB = 40, IMAGE_VOCAB = 24, VOCAB = TEXT_VOCAB + IMAGE_VOCAB,
    BATCH = 3, BEST = 8, END = 3,
};

static const LvSetting settings[] = {
    MODEL_SETTING("n_layer", "2"),     MODEL_SETTING("n_head", "2"),       MODEL_SETTING("n_embd", "32"),
    MODEL_SETTING("text_vocab", "40"), MODEL_SETTING("image_vocab", "24"), MODEL_SETTING("text_len", "8"),
    MODEL_SETTING("image_len", "16"),  MODEL_SETTING("end_id", "3"),
};

static void start(ModelRun *run) {
    model_run_open(run, "models/biart.lv", settings, (int)(sizeof settings / sizeof *settings));
    LvPlan *plan = model_run_plan(run, "logits", 1, LV_PRECISION_F32);
    LvTensorFile *file = NULL;
    if (!lv_store_create(run->device, plan, &run->store, &run->error) ||
        !lv_safetensors_read(LV_SOURCE_DIR "/tests/golden/biart_train/weights.safetensors", &file, &run->error) ||
        !lv_store_load(run->store, file, NULL, NULL, &run->error))
        fail_msg("%s", run->error.message);
    lv_safetensors_free(file);
    lv_plan_destroy(plan);
}

// How the rows of a batch are to be sampled.
typedef struct {
    int64_t seed[BATCH];
    float temperature[BATCH], top_p[BATCH];
    int32_t top_k[BATCH];
} Rules;

static const Rules greedy = {{0, 0, 0}, {0, 0, 0}, {1, 1, 1}, {0, 0, 0}};
static const Rules mixed = {{7, 8, 7}, {1, 0.7f, 2}, {1, 0.9f, 0.95f}, {0, 12, 20}};

static void set_rules(LvProgram *program, const Rules *rules, int first, int batch) {
    model_run_set(program, "seed", rules->seed + first, (size_t)batch * sizeof *rules->seed);
    model_run_set(program, "temperature", rules->temperature + first, (size_t)batch * sizeof *rules->temperature);
    model_run_set(program, "top_p", rules->top_p + first, (size_t)batch * sizeof *rules->top_p);
    model_run_set(program, "top_k", rules->top_k + first, (size_t)batch * sizeof *rules->top_k);
}

// Rows `first` … of the reference given, `count` tokens each: token[i][row], logprob[i][row].
static void sample(ModelRun *run, const char *input, const int32_t *reference, int reference_length, const Rules *rules,
                   int first, int batch, int count, int32_t token[][BATCH], float logprob[][BATCH]) {
    bool draws = strcmp(input, "text") == 0;
    LvProgram *programs[2] = {model_run_program(run, draws ? "draw_begin" : "describe_begin", batch, LV_PRECISION_F32),
                              model_run_program(run, draws ? "draw_next" : "describe_next", batch, LV_PRECISION_F32)};
    if (!programs[0] || !programs[1]) fail_msg("%s", run->error.message);
    size_t bytes = (size_t)(batch * reference_length) * sizeof *reference;
    model_run_set(programs[0], input, reference + first * reference_length, bytes);
    for (int32_t i = 0; i < count; i++) {
        LvProgram *program = programs[i > 0];
        int32_t step = i + 1;
        set_rules(program, rules, first, batch);
        model_run_set(program, "$step", &step, sizeof step);
        model_run_once(program);
        model_run_get(program, "token", token[i] + first, (size_t)batch * sizeof **token);
        model_run_get(program, "logprob", logprob[i] + first, (size_t)batch * sizeof **logprob);
    }
    model_run_end_programs(run);
}

static void full_inputs(LvProgram *program, const int32_t *text, const int32_t *image, int32_t direction) {
    int32_t directions[BATCH] = {direction, direction, direction};
    model_run_set(program, "text", text, sizeof(int32_t[BATCH][TEXT]));
    model_run_set(program, "image", image, sizeof(int32_t[BATCH][IMAGE]));
    model_run_set(program, "direction", directions, sizeof directions);
    model_run_once(program);
}

// logits[row][position][vocabulary] of whole sequences
static float *full_logits(ModelRun *run, const int32_t *text, const int32_t *image, int32_t direction) {
    float *logits = lv_malloc(sizeof(float[BATCH][LENGTH][VOCAB]));
    LvProgram *program = model_run_program(run, "logits", BATCH, LV_PRECISION_F32);
    full_inputs(program, text, image, direction);
    model_run_get(program, "logits", logits, sizeof(float[BATCH][LENGTH][VOCAB]));
    model_run_end_programs(run);
    return logits;
}

static int argmax(const float *x, int count) {
    int best = 0;
    for (int i = 1; i < count; i++) best = x[i] > x[best] ? i : best;
    return best;
}

static double log_probability(const float *x, int count, int at) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += exp((double)x[i] - x[at]);
    return -log(sum);
}

static void make_references(int32_t *text, int32_t *image) {
    for (int i = 0; i < BATCH * TEXT; i++) text[i] = (i * i * 7 + 5 * i + 1) % TEXT_VOCAB;
    for (int i = 0; i < BATCH * IMAGE; i++) image[i] = (i * i * 5 + 3 * i + 2) % IMAGE_VOCAB;
}

// Greedy tokens of one direction against the argmax of the logits over the segment's own vocabulary.
static void check_greedy(bool draws) {
    int32_t text[BATCH * TEXT], image[BATCH * IMAGE], token[IMAGE][BATCH];
    float logprob[IMAGE][BATCH];
    ModelRun run;
    int reference = draws ? TEXT : IMAGE, count = LENGTH - reference;
    int first = draws ? TEXT_VOCAB : 0, width = draws ? IMAGE_VOCAB : TEXT_VOCAB;
    make_references(text, image);
    start(&run);
    sample(&run, draws ? "text" : "image", draws ? text : image, reference, &greedy, 0, BATCH, count, token, logprob);
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < count; i++) *(draws ? &image[b * IMAGE + i] : &text[b * TEXT + i]) = token[i][b];
    float *logits = full_logits(&run, text, image, !draws);
    for (int b = 0; b < BATCH; b++) {
        for (int i = 0; i < count; i++) {
            const float *row = logits + (b * LENGTH + reference - 1 + i) * VOCAB + first;
            assert_int_equal(token[i][b], argmax(row, width));
            assert_float_equal(logprob[i][b], log_probability(row, width, token[i][b]), 2e-5);
        }
    }
    free(logits);
    model_run_close(&run);
}

static void draws_what_the_logits_say(void **state) { (void)state, check_greedy(true); }
static void describes_what_the_logits_say(void **state) { (void)state, check_greedy(false); }

static void rows_are_independent(void **state) {
    (void)state;
    int32_t text[BATCH * TEXT], image[BATCH * IMAGE], together[IMAGE][BATCH], alone[IMAGE][BATCH];
    float logprob[IMAGE][BATCH], logprob_alone[IMAGE][BATCH];
    bool differs = false;
    ModelRun run;
    make_references(text, image);
    start(&run);
    sample(&run, "text", text, TEXT, &mixed, 0, BATCH, IMAGE, together, logprob);
    for (int b = 0; b < BATCH; b++) sample(&run, "text", text, TEXT, &mixed, b, 1, IMAGE, alone, logprob_alone);
    for (int i = 0; i < IMAGE; i++) {
        for (int b = 0; b < BATCH; b++) {
            assert_int_equal(together[i][b], alone[i][b]);
            assert_float_equal(logprob[i][b], logprob_alone[i][b], 2e-5);
            assert_in_range(together[i][b], 0, IMAGE_VOCAB - 1);
            differs |= together[i][b] != together[0][b];
        }
    }
    assert_true(differs);
    model_run_close(&run);
}

static void check_best(const float *row, const int32_t *token, const float *logprob) {
    float left[TEXT_VOCAB];
    memcpy(left, row, sizeof left);
    for (int k = 0; k < BEST; k++) {
        int best = argmax(left, TEXT_VOCAB);
        assert_int_equal(token[k], best);
        assert_float_equal(logprob[k], log_probability(row, TEXT_VOCAB, best), 2e-5);
        left[best] = -INFINITY;
    }
}

// Rows go on from other rows: what they choose between is what the logits of the sequences so put together say.
static void beams_follow_their_parents(void **state) {
    (void)state;
    static const int32_t parents[2][BATCH] = {{2, 0, 0}, {1, 2, 1}};
    int32_t text[BATCH * TEXT], image[BATCH * IMAGE], token[BATCH][BEST], chosen[BATCH];
    float logprob[BATCH][BEST];
    ModelRun run;
    make_references(text, image);
    start(&run);
    LvProgram *begin = model_run_program(&run, "beam_begin", BATCH, LV_PRECISION_F32);
    LvProgram *next = model_run_program(&run, "beam_next", BATCH, LV_PRECISION_F32);
    model_run_set(begin, "image", image, sizeof image);
    for (int step = 0; step < 3; step++) {
        LvProgram *program = step ? next : begin;
        if (step) {
            int32_t old_text[BATCH * TEXT], old_image[BATCH * IMAGE];
            const int32_t *parent = parents[step - 1];
            memcpy(old_text, text, sizeof text), memcpy(old_image, image, sizeof image);
            for (int b = 0; b < BATCH; b++) {
                chosen[b] = token[parent[b]][b + step];
                memcpy(text + b * TEXT, old_text + parent[b] * TEXT, sizeof(int32_t[TEXT]));
                memcpy(image + b * IMAGE, old_image + parent[b] * IMAGE, sizeof(int32_t[IMAGE]));
                text[b * TEXT + step - 1] = chosen[b];
            }
            model_run_set(next, "parent", parent, sizeof parents[0]);
            model_run_set(next, "token", chosen, sizeof chosen);
        }
        model_run_once(program);
        model_run_get(program, "token", token, sizeof token);
        model_run_get(program, "logprob", logprob, sizeof logprob);
        ModelRun other;
        start(&other);
        float *logits = full_logits(&other, text, image, 1);
        for (int b = 0; b < BATCH; b++) check_best(logits + (b * LENGTH + IMAGE - 1 + step) * VOCAB, token[b], logprob[b]);
        free(logits);
        model_run_close(&other);
    }
    model_run_close(&run);
}

static void scores_are_sums(void **state) {
    (void)state;
    int32_t text[BATCH * TEXT], image[BATCH * IMAGE];
    ModelRun run;
    make_references(text, image);
    text[5] = END;  // the first caption counts up to here
    start(&run);
    for (int32_t direction = 0; direction < 2; direction++) {
        float score[BATCH], *logits = full_logits(&run, text, image, direction);
        LvProgram *program = model_run_program(&run, "score", BATCH, LV_PRECISION_F32);
        full_inputs(program, text, image, direction);
        model_run_get(program, "logprob", score, sizeof score);
        for (int b = 0; b < BATCH; b++) {
            double want = 0;
            bool ended = false;
            for (int i = 0; i < (direction ? TEXT : IMAGE) && !ended; i++) {
                int token = direction ? text[b * TEXT + i] : image[b * IMAGE + i] + TEXT_VOCAB;
                want += log_probability(logits + (b * LENGTH + (direction ? IMAGE : TEXT) - 1 + i) * VOCAB, VOCAB, token);
                ended = direction && token == END;
            }
            assert_float_equal(score[b], want, 1e-3);
        }
        free(logits);
        model_run_end_programs(&run);
    }
    model_run_close(&run);
}

static bool same_place(LvPlace a, LvPlace b) { return a.arena == b.arena && a.offset == b.offset; }

// Of the steps that touch a cache of keys or values: an update writes where it reads, attention reads; nothing copies one.
static void check_in_place(ModelRun *run, const char *entry) {
    LvPlan *plan = model_run_plan(run, entry, 2, LV_PRECISION_F32);
    int64_t large = 2 * 2 * LENGTH * 16 * 4;
    int updates = 0;
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        const LvOperand *last = &step->operands[step->operand_count - 1];
        size_t bytes = 0;
        lv_shape_bytes(last->shape, last->dtype, &bytes);
        if (step->kind == LV_STEP_COPY || step->kind == LV_STEP_ZERO) assert_true((int64_t)bytes < large);
        if (last->place.arena != LV_ARENA_CACHE || (int64_t)bytes < large) continue;
        assert_int_equal(step->kind, LV_STEP_KERNEL);
        assert_true(same_place(step->operands[0].place, last->place));
        updates++;
    }
    assert_int_equal(updates, 4);  // keys and values of two blocks
    lv_plan_destroy(plan);
}

static void caches_are_written_in_place(void **state) {
    (void)state;
    static const char *const entries[] = {"draw_begin", "draw_next", "describe_begin", "describe_next", "beam_begin"};
    ModelRun run;
    start(&run);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) check_in_place(&run, entries[i]);
    LvPlan *plan = model_run_plan(&run, "train", 2, LV_PRECISION_F32);
    assert_int_equal(plan->arena_bytes[LV_ARENA_CACHE], 0);
    lv_plan_destroy(plan);
    model_run_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_what_the_logits_say),    cmocka_unit_test(describes_what_the_logits_say),
        cmocka_unit_test(rows_are_independent),         cmocka_unit_test(beams_follow_their_parents),
        cmocka_unit_test(scores_are_sums),              cmocka_unit_test(caches_are_written_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
