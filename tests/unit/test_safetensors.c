// safetensors: round trip, damage, lies about types, shapes and places; recipes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/recipe.h"

static void test_round_trip(void **state) {
    (void)state;
    LvError error = {0};
    char path[] = "/tmp/lv_test_st_XXXXXX";
    close(mkstemp(path));
    LvTensorFile *file = lv_tensor_file_create(), *back = NULL;
    float *a = lv_tensor_file_add(file, "a.weight", LV_F32, lv_shape(2, (int64_t[]){2, 3}));
    for (int i = 0; i < 6; i++) a[i] = (float)i;
    lv_tensor_file_add(file, "empty", LV_I64, lv_shape(2, (int64_t[]){0, 3}));
    int32_t *s = lv_tensor_file_add(file, "scalar", LV_I32, lv_shape(0, NULL));
    *s = -7;
    LvMetadata metadata[] = {{"step", "12"}, {"text", "line\n\"quoted\""}};
    assert_true(lv_safetensors_write(path, lv_safetensors_at(file, 0), 3, metadata, 2, &error));
    if (!lv_safetensors_read(path, &back, &error)) fail_msg("%s", error.message);
    assert_int_equal(lv_safetensors_count(back), 3);
    assert_string_equal(lv_safetensors_metadata(back, "text"), "line\n\"quoted\"");
    assert_null(lv_safetensors_metadata(back, "none"));
    const LvTensor *t = lv_safetensors_find(back, "a.weight");
    assert_memory_equal(t->data, a, 24);
    assert_int_equal(*(const int32_t *)lv_safetensors_find(back, "scalar")->data, -7);
    assert_null(lv_safetensors_find(back, "b"));
    unlink(path);
    lv_safetensors_free(file);
    lv_safetensors_free(back);
}

static bool parse(const char *header, size_t data, LvError *error) {
    LvText text = {0};
    for (int i = 0; i < 8; i++) lv_text_putc(&text, (char)(strlen(header) >> 8 * i));
    lv_text_puts(&text, header);
    for (size_t i = 0; i < data; i++) lv_text_putc(&text, 0);
    LvTensorFile *file = NULL;
    bool good = lv_safetensors_parse(text.data, text.length, &file, error);
    if (good) lv_safetensors_free(file);
    lv_text_free(&text);
    return good;
}

static void test_lies(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "[]", "{", "{\"a\": 1}", "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [4, 12]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 8]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [-4, 4]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}",
        "{\"a\": {\"dtype\": \"F33\", \"shape\": [2], \"data_offsets\": [0, 8]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4], \"data_offsets\": [0, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1,1,2], \"data_offsets\": [0, 8]}}",
        "{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 8]}}", "{\"__metadata__\": {\"a\": 1}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, \"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        LvError error = {0};
        if (parse(bad[i], 8, &error)) fail_msg("taken: %s", bad[i]);
        assert_non_null(error.message);
        lv_error_clear(&error);
    }
    LvError error = {0};
    LvTensorFile *file = NULL;
    assert_true(parse("{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, &error));
    assert_false(lv_safetensors_parse("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, &file, &error));
    assert_false(lv_safetensors_parse("abc", 3, &file, &error));
    lv_error_clear(&error);
}

static void test_recipe(void **state) {
    (void)state;
    LvTensorFile *file = NULL;
    LvError error = {0};
    if (!lv_weights_read(LV_SOURCE_DIR "/tests/golden/augvae_ml_wide_train/weights.json", &file, &error)) fail_msg("%s", error.message);
    const float *w = lv_safetensors_find(file, "encoders.0.conv_in.weight")->data;
    assert_true(w[0] == -0.0157698076f && w[1] == 0.0083819609f && w[2] == 0.0502547622f);
    lv_safetensors_free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_lies), cmocka_unit_test(test_recipe)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
