// Entries compiled to run alone, by themselves or together (passes/alone.c): what it does not read has no place, its weights are as narrow as its products, and
// it computes what it does beside the others.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/dtype.h"
#include "base/processor.h"
#include "model_run.h"

enum { CODES = 16 * 16 + 8 * 8, PIXELS = 3 * 64 * 64 };

static const LvSetting settings[] = {MODEL_SETTING("resolution", "64"),  MODEL_SETTING("hidden_dim", "32"),
                                     MODEL_SETTING("attn_resolutions", "[16, 8]"), MODEL_SETTING("num_tokens", "64"),
                                     MODEL_SETTING("codebook_dim", "32"), MODEL_SETTING("z_channels", "32")};

static LvPlan *compile_alone(ModelRun *run, const char *entry, LvPrecision precision) {
    LvCompileOptions options = {.entry = entry, .batch = 1, .device = "cpu", .precision = precision, .alone = true};
    LvPlan *plan = NULL;
    if (!lv_model_compile(run->model, &options, &run->diagnostics, &plan, &run->error)) fail_msg("%s", run->error.message);
    return plan;
}

// From a store that has all variables in f32, or what is no float.
static void copy_variables(const LvStore *from, LvStore *to) {
    LvError error = {0};
    for (int i = 0; i < lv_store_count(to); i++) {
        const LvVariable *v = lv_store_variable(to, i);
        int at = lv_store_find(from, v->name);
        size_t bytes, given;
        if (v->place.offset < 0 || at < 0 || !lv_shape_bytes(v->shape, v->dtype, &bytes)) continue;
        LvDType dtype = lv_store_variable(from, at)->dtype;
        assert_true(lv_shape_bytes(v->shape, dtype, &given));
        void *data = calloc(given + 1, 1), *converted = calloc(bytes + 1, 1);
        if (!lv_store_read(from, at, data, given, &error)) fail_msg("%s", error.message);
        assert_true(lv_elements_convert(converted, v->dtype, data, dtype, lv_shape_elements(v->shape)));
        if (!lv_store_write(to, i, converted, bytes, &error)) fail_msg("%s", error.message);
        free(data);
        free(converted);
    }
}

static void decode(LvProgram *program, float *image) {
    int32_t tokens[CODES];
    for (int i = 0; i < CODES; i++) tokens[i] = i * 7 % 64;
    model_run_set(program, "tokens", tokens, sizeof tokens);
    model_run_once(program);
    model_run_get(program, "image", image, PIXELS * sizeof *image);
}

static const LvVariable *variable_of(const LvStore *store, const char *name) {
    int at = lv_store_find(store, name);
    if (at < 0) fail_msg("no variable %s", name);
    return lv_store_variable(store, at);
}

static double distance_of(const float *image, const float *exact) {
    double distance = 0, norm = 0;
    for (int i = 0; i < PIXELS; i++) distance += pow(image[i] - exact[i], 2), norm += pow(exact[i], 2);
    return sqrt(distance / norm);
}

// `most`: what its weights take at the most of what they take all together in f32. In f32 the picture is the same; else it may be off
// by a little more than beside the others, where Winograd has weights in f32.
static void check_decode(LvPrecision precision, LvDType dtype, double most) {
    static float exact[PIXELS], beside[PIXELS], alone[PIXELS];
    int64_t seed = 3;
    ModelRun run;
    LvStore *store = NULL;
    LvProgram *program = NULL;
    model_run_open(&run, "models/augvae.lv", settings, sizeof settings / sizeof *settings);
    LvProgram *init = model_run_program(&run, "init", 1, LV_PRECISION_F32);
    model_run_set(init, "$seed", &seed, sizeof seed);
    model_run_once(init);
    decode(model_run_program(&run, "decode", 1, LV_PRECISION_F32), exact);
    decode(model_run_program(&run, "decode", 1, precision), beside);
    LvPlan *plan = compile_alone(&run, "decode", precision);
    if (!lv_store_create(run.device, plan, &store, &run.error)) fail_msg("%s", run.error.message);
    copy_variables(run.store, store);
    if (!lv_program_create(run.device, plan, store, &program, &run.error)) fail_msg("%s", run.error.message);
    decode(program, alone);
    double off = distance_of(alone, exact), usual = distance_of(beside, exact);
    if (!(off <= 1.25 * usual)) fail_msg("%g of the picture's norm from what f32 gives; beside the others: %g", off, usual);
    if (precision == LV_PRECISION_F32) assert_memory_equal(alone, beside, sizeof alone);
    assert_true((double)plan->arena_bytes[LV_ARENA_PARAMS] <= most * (double)run.plans[0]->arena_bytes[LV_ARENA_PARAMS]);
    assert_true(variable_of(store, "encoders.0.conv_in.weight")->place.offset < 0);
    assert_int_equal(variable_of(store, "decoders.0.conv_in.weight")->dtype, dtype);
    assert_int_equal(variable_of(store, "decoders.0.conv_in.bias")->shape.rank, 1);
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    model_run_close(&run);
}

static void test_f32(void **state) {
    (void)state;
    check_decode(LV_PRECISION_F32, LV_F32, 0.7);
}

static void test_bf16(void **state) {
    (void)state;
    bool products = lv_processor_has_bf16() || lv_processor_has_avx512();  // without, convolutions are in f32
    check_decode(LV_PRECISION_BF16, products ? LV_BF16 : LV_F32, products ? 0.36 : 0.7);
}

// ---- entries that share the variables

enum { DRAWN = 2, TEXT = 8 };
static const LvSetting small[] = {MODEL_SETTING("n_layer", "2"),   MODEL_SETTING("n_head", "2"),      MODEL_SETTING("n_embd", "64"),
                                  MODEL_SETTING("text_vocab", "40"), MODEL_SETTING("image_vocab", "24"), MODEL_SETTING("text_len", "8"),
                                  MODEL_SETTING("image_len", "16"), MODEL_SETTING("end_id", "3")};
static const char *const drawing[] = {"draw_begin", "draw_next", NULL};

static void set_choice(LvProgram *program) {
    const int64_t seeds[DRAWN] = {1, 2};
    const float ones[DRAWN] = {1, 1};
    const int32_t all[DRAWN] = {0, 0};
    model_run_set(program, "seed", seeds, sizeof seeds);
    model_run_set(program, "temperature", ones, sizeof ones);
    model_run_set(program, "top_k", all, sizeof all);
    model_run_set(program, "top_p", ones, sizeof ones);
}

// Two tokens of each picture, and their log-probabilities.
static void draw(LvProgram *const *programs, int32_t tokens[2][DRAWN], float logprob[2][DRAWN]) {
    int32_t text[DRAWN * TEXT];
    for (int i = 0; i < DRAWN * TEXT; i++) text[i] = i % TEXT < 5 ? i + 4 : 3;
    model_run_set(programs[0], "text", text, sizeof text);
    for (int i = 0; i < 2; i++) {
        set_choice(programs[i]);
        model_run_once(programs[i]);
        model_run_get(programs[i], "token", tokens[i], sizeof tokens[i]);
        model_run_get(programs[i], "logprob", logprob[i], sizeof logprob[i]);
    }
}

static LvPlan *compile_together(ModelRun *run, const char *entry, LvPrecision precision) {
    LvCompileOptions options = {.entry = entry, .batch = DRAWN, .device = "cpu", .precision = precision, .alone = true, .beside = drawing};
    LvPlan *plan = NULL;
    if (!lv_model_compile(run->model, &options, &run->diagnostics, &plan, &run->error)) fail_msg("%s", run->error.message);
    return plan;
}

// Beginning and going on over one store that holds as bf16 what both read so: the same bits as over one in f32.
static void check_together(LvPrecision precision, LvDType dtype, double most) {
    int64_t seed = 5;
    int32_t tokens[2][2][DRAWN];
    float logprob[2][2][DRAWN];
    ModelRun run;
    LvStore *store = NULL;
    LvPlan *plans[2];
    LvProgram *programs[2] = {NULL, NULL}, *usual[2];
    model_run_open(&run, "models/biart.lv", small, sizeof small / sizeof *small);
    LvProgram *init = model_run_program(&run, "init", 1, LV_PRECISION_F32);
    model_run_set(init, "$seed", &seed, sizeof seed);
    model_run_once(init);
    for (int i = 0; i < 2; i++) usual[i] = model_run_program(&run, drawing[i], DRAWN, precision);
    draw(usual, tokens[0], logprob[0]);
    for (int i = 0; i < 2; i++) plans[i] = compile_together(&run, drawing[i], precision);
    if (!lv_store_create(run.device, plans[1], &store, &run.error)) fail_msg("%s", run.error.message);
    copy_variables(run.store, store);
    for (int i = 0; i < 2; i++)
        if (!lv_program_create(run.device, plans[i], store, &programs[i], &run.error)) fail_msg("%s", run.error.message);
    draw(programs, tokens[1], logprob[1]);
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    assert_memory_equal(logprob[0], logprob[1], sizeof logprob[0]);
    assert_int_equal(variable_of(store, "blocks.0.attn.key.weight")->dtype, dtype);
    assert_int_equal(variable_of(store, "tok_emb.weight")->dtype, LV_F32);  // rows of it are added to others
    assert_true((double)plans[0]->arena_bytes[LV_ARENA_PARAMS] <= most * (double)run.plans[1]->arena_bytes[LV_ARENA_PARAMS]);
    for (int i = 0; i < 2; i++) lv_program_destroy(programs[i]);
    lv_store_destroy(store);
    for (int i = 0; i < 2; i++) lv_plan_destroy(plans[i]);
    model_run_close(&run);
}

static void test_together(void **state) {
    (void)state;
    bool products = lv_processor_has_bf16() || lv_processor_has_avx512();  // without, all stays f32: it is the rows that decide there
    check_together(LV_PRECISION_F32, LV_F32, 1);
    check_together(LV_PRECISION_BF16, products ? LV_BF16 : LV_F32, products ? 0.6 : 1);
}

// A program that wants what has no place is refused.
static void test_refused(void **state) {
    (void)state;
    ModelRun run;
    LvStore *store = NULL;
    LvProgram *program = NULL;
    model_run_open(&run, "models/augvae.lv", settings, sizeof settings / sizeof *settings);
    LvPlan *plan = compile_alone(&run, "decode", LV_PRECISION_F32), *other = compile_alone(&run, "encode", LV_PRECISION_F32);
    if (!lv_store_create(run.device, plan, &store, &run.error)) fail_msg("%s", run.error.message);
    assert_false(lv_program_create(run.device, other, store, &program, &run.error));
    assert_non_null(strstr(run.error.message, "entry 'encode'"));
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    lv_plan_destroy(other);
    model_run_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16), cmocka_unit_test(test_together), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
