// Tokenizers against Hugging Face's tokenizers: tokenizers.d holds small files of the kinds that are read, and texts with the ids
// and the decoded text that tokenizers 0.23 gives for them (for CLIP's own list of merges: that its authors' code gives too).
// Then captions, long words, threads, training.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>

#include "text/tokenizer.h"
#include "text/train.h"

#define FOLDER LV_SOURCE_DIR "/tests/unit/tokenizers.d/"

static LvTokenizer *open_file(const char *name) {
    LvTokenizer *tokenizer = NULL;
    LvError error = {0};
    LvText path = {0};
    lv_text_printf(&path, FOLDER "%s", name);
    if (!lv_tokenizer_open(&tokenizer, path.data, &error)) fail_msg("%s", error.message);
    lv_text_free(&path);
    return tokenizer;
}

static void encode(const LvTokenizer *tokenizer, const char *text, size_t length, unsigned flags, LvTokenIds *ids) {
    LvError error = {0};
    ids->count = 0;
    if (!lv_tokenizer_encode(tokenizer, text, length, flags, ids, &error)) fail_msg("%s", error.message);
}

static void decode(const LvTokenizer *tokenizer, const LvTokenIds *ids, unsigned flags, LvText *text) {
    LvError error = {0};
    text->length = 0;
    lv_text_append(text, "", 0);
    if (!lv_tokenizer_decode(tokenizer, ids->data, ids->count, flags, text, &error)) fail_msg("%s", error.message);
}

// ---- the cases

static size_t from_hex(const char *hex, char *out) {
    size_t count = strlen(hex) / 2;
    for (size_t i = 0; i < count; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    return count;
}

// Whether ids[*at …] begins with the list; moves *at over it.
static bool takes(const LvTokenIds *ids, size_t *at, const json_t *list) {
    size_t i;
    json_t *id;
    json_array_foreach((json_t *)list, i, id) {
        if (*at >= ids->count || ids->data[(*at)++] != json_integer_value(id)) return false;
    }
    return true;
}

static void check_case(const LvTokenizer *tokenizer, const json_t *one, int number) {
    const json_t *wanted = json_object_get(one, "ids"), *around = json_object_get(one, "around");
    const json_t *shown = json_object_get(one, "text"), *plain = json_object_get(one, "plain");
    const char *hex = json_string_value(json_object_get(one, "hex"));
    char *text = malloc(strlen(hex) + 1);
    size_t length = from_hex(hex, text), at = 0;
    LvTokenIds ids = {0};
    LvText out = {0};
    encode(tokenizer, text, length, 0, &ids);
    if (!takes(&ids, &at, wanted) || at != ids.count) fail_msg("case %d: other ids", number);
    decode(tokenizer, &ids, 0, &out);
    if (out.length != json_string_length(shown) || memcmp(out.data, json_string_value(shown), out.length) != 0) {
        fail_msg("case %d: decoded '%s', not '%s'", number, out.data, json_string_value(shown));
    }
    encode(tokenizer, text, length, LV_ENCODE_SPECIALS, &ids);
    at = 0;
    bool good = (!around || takes(&ids, &at, json_array_get(around, 0))) && takes(&ids, &at, wanted) &&
                (!around || takes(&ids, &at, json_array_get(around, 1)));
    if (!good || at != ids.count) fail_msg("case %d: other ids with special tokens", number);
    decode(tokenizer, &ids, LV_DECODE_SKIP_SPECIALS, &out);
    if (plain) shown = plain;
    if (out.length != json_string_length(shown) || memcmp(out.data, json_string_value(shown), out.length) != 0) {
        fail_msg("case %d: decoded '%s' without special tokens, not '%s'", number, out.data, json_string_value(shown));
    }
    free(text);
    lv_text_free(&out);
    lv_vec_free(&ids);
}

// All cases of one file; then all again by the tokenizer that its text makes.
static void check_file(const char *name, int least) {
    FILE *file = fopen(FOLDER "cases.jsonl", "r");
    LvTokenizer *tokenizer = open_file(name), *again = NULL;
    LvError error = {0};
    size_t room = 0, length;
    char *line = NULL;
    int number = 0, count = 0;
    const char *text = lv_tokenizer_text(tokenizer, &length);
    assert_true(lv_tokenizer_parse(&again, text, length, "again", &error));
    assert_non_null(file);
    while (getline(&line, &room, file) > 0) {
        json_t *one = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(one);
        number++;
        if (!strcmp(json_string_value(json_object_get(one, "file")), name)) {
            check_case(tokenizer, one, number);
            check_case(again, one, number);
            count++;
        }
        json_decref(one);
    }
    assert_true(count >= least);
    free(line);
    fclose(file);
    lv_tokenizer_close(tokenizer);
    lv_tokenizer_close(again);
}

static void gpt2(void **state) {
    (void)state;
    check_file("gpt2.json", 80);
}

static void llama3(void **state) {
    (void)state;
    check_file("llama3.json", 80);
}

static void clip(void **state) {
    (void)state;
    check_file("clip.json", 80);
}

static void clip_merges(void **state) {
    (void)state;
    check_file("clip.txt.gz", 70);
}

static void trained(void **state) {
    (void)state;
    check_file("trained.json", 80);
    check_file("trained_lowercase.json", 80);
}

// ---- tokens

static void tokens(void **state) {
    (void)state;
    LvTokenizer *t = open_file("llama3.json");
    int32_t begin = lv_tokenizer_id(t, "<|begin_of_text|>", 17);
    size_t length;
    assert_int_equal(begin, 1003);
    assert_int_equal(lv_tokenizer_vocabulary(t), 1006);
    assert_int_equal(lv_tokenizer_end(t), 1004);  // <|end_of_text|>
    assert_true(lv_tokenizer_is_special(t, begin));
    assert_false(lv_tokenizer_is_special(t, 5));
    assert_false(lv_tokenizer_is_special(t, -1));
    assert_string_equal(lv_tokenizer_token(t, begin, &length), "<|begin_of_text|>");
    assert_int_equal(length, 17);
    assert_null(lv_tokenizer_token(t, 1006, &length));
    assert_null(lv_tokenizer_token(t, -1, NULL));
    assert_null(lv_tokenizer_token(t, INT32_MAX, NULL));
    assert_int_equal(lv_tokenizer_id(t, "no such token", 13), -1);
    assert_int_equal(lv_tokenizer_id(t, "", 0), -1);
    LvTokenIds ids = {0};
    LvText text = {0};
    const int32_t odd[] = {-1, INT32_MAX, INT32_MIN, 1006, 64};  // passed over, but for the last
    for (int i = 0; i < 5; i++) lv_vec_push(&ids, odd[i]);
    decode(t, &ids, 0, &text);
    assert_string_equal(text.data, lv_tokenizer_token(t, 64, NULL));
    lv_vec_free(&ids);
    lv_text_free(&text);
    lv_tokenizer_close(t);
    t = open_file("clip.txt.gz");
    assert_int_equal(lv_tokenizer_vocabulary(t), 512 + 700 + 2);
    assert_int_equal(lv_tokenizer_end(t), 512 + 700 + 1);
    lv_tokenizer_close(t);
    lv_tokenizer_close(NULL);
}

// Byte-level tokenizers without a normalizer lose nothing.
static void round_trip(void **state) {
    (void)state;
    LvTokenizer *t = open_file("llama3.json");
    LvTokenIds ids = {0};
    LvText in = {0}, out = {0};
    for (uint32_t code = 1, step = 1; code < 0x110000; code += step, step = step % 97 + 1) {
        char c[5] = {0};
        if (code >= 0xD800 && code < 0xE000) continue;
        if (code < 0x80) c[0] = (char)code;
        else if (code < 0x800) c[0] = (char)(0xC0 | code >> 6), c[1] = (char)(0x80 | (code & 63));
        else if (code < 0x10000) c[0] = (char)(0xE0 | code >> 12), c[1] = (char)(0x80 | (code >> 6 & 63)), c[2] = (char)(0x80 | (code & 63));
        else {
            c[0] = (char)(0xF0 | code >> 18), c[1] = (char)(0x80 | (code >> 12 & 63));
            c[2] = (char)(0x80 | (code >> 6 & 63)), c[3] = (char)(0x80 | (code & 63));
        }
        lv_text_puts(&in, c);
        if (code % 7 == 0) lv_text_putc(&in, ' ');
    }
    encode(t, in.data, in.length, 0, &ids);
    decode(t, &ids, 0, &out);
    assert_int_equal(out.length, in.length);
    assert_memory_equal(out.data, in.data, in.length);
    lv_vec_free(&ids);
    lv_text_free(&in);
    lv_text_free(&out);
    lv_tokenizer_close(t);
}

// ---- captions

static void expect_caption(const LvTokenizer *t, const char *text, size_t count, bool cut, const char *wanted) {
    int32_t out[16];
    bool truncated = !cut;
    LvError error = {0};
    LvText got = {0};
    assert_true(lv_tokenizer_caption(t, text, strlen(text), lv_tokenizer_end(t), count, out, &truncated, &error));
    for (size_t i = 0; i < count; i++) lv_text_printf(&got, "%s%d", i ? " " : "", out[i]);
    assert_string_equal(lv_text_get(&got), wanted);
    assert_int_equal(truncated, cut);
    lv_text_free(&got);
}

static void captions(void **state) {
    (void)state;
    LvTokenizer *t = open_file("trained.json");  // the end token is 450
    assert_int_equal(lv_tokenizer_end(t), 450);
    expect_caption(t, "XYZ", 5, false, "55 56 57 450 450");
    expect_caption(t, "XYZ", 4, false, "55 56 57 450");
    expect_caption(t, "XYZ", 3, true, "55 56 450");
    expect_caption(t, "XYZ", 1, true, "450");
    expect_caption(t, "", 3, false, "450 450 450");
    expect_caption(t, "", 1, false, "450");
    expect_caption(t, "XYZ", 0, true, "");
    expect_caption(t, "a<|endoftext|>b<|endoftext|>", 4, false, "64 65 450 450");  // not the end of the caption
    expect_caption(t, "<|photo|>a", 3, false, "449 64 450");
    expect_caption(t, "a\xFF", 6, false, "64 171 123 121 450 450");  // U+FFFD
    lv_tokenizer_close(t);
}

// ---- long words

static uint64_t hash_ids(const LvTokenIds *ids) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < ids->count; i++) {
        for (int k = 0; k < 4; k++) hash = (hash ^ ((uint32_t)ids->data[i] >> 8 * k & 255)) * 0x100000001B3u;
    }
    return hash;
}

// A million letters and no space: what tokenizers gives, as a number of ids and a hash of them.
static void long_words(void **state) {
    (void)state;
    static const struct {
        const char *file;
        size_t count;
        uint64_t hash;
    } wanted[] = {
        {"gpt2.json", 706455, 0xDC793CD760833119u},
        {"llama3.json", 701853, 0x664A068C072E235Eu},
        {"clip.json", 709503, 0x488F85BF42DC904Eu},
    };
    size_t length = 1000000;
    char *text = malloc(length);
    uint32_t x = 12345;
    for (size_t i = 0; i < length; i++) {
        x = (x * 1103515245u + 12345u) & 0x7FFFFFFF;
        text[i] = "etaoinshrdlu"[(x >> 16) % 12];
    }
    for (int k = 0; k < 3; k++) {
        LvTokenizer *t = open_file(wanted[k].file);
        LvTokenIds ids = {0};
        encode(t, text, length, 0, &ids);
        assert_int_equal(ids.count, wanted[k].count);
        assert_true(hash_ids(&ids) == wanted[k].hash);
        lv_vec_free(&ids);
        lv_tokenizer_close(t);
    }
    free(text);
}

// A million of one thing: spaces, marks that want sorting, bytes that are no UTF-8, special tokens.
static void long_lines(void **state) {
    (void)state;
    static const char *const units[] = {" ", "\n", "\xCC\x81\xCC\xA3", "\xFF", "<|endoftext|>", "\xE2\x80\x83", "x ", "1", "'s", "\xF0\x9F"};
    LvTokenizer *t[] = {open_file("gpt2.json"), open_file("llama3.json"), open_file("clip.json")};
    LvTokenIds ids = {0};
    LvText text = {0};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        text.length = 0;
        while (text.length < 400000) lv_text_puts(&text, units[i]);
        for (int k = 0; k < 3; k++) encode(t[k], text.data, text.length, 0, &ids);
    }
    for (int k = 0; k < 3; k++) lv_tokenizer_close(t[k]);
    lv_vec_free(&ids);
    lv_text_free(&text);
}

// ---- threads

typedef struct {
    const LvTokenizer *tokenizer;
    uint64_t hash;
} Thread;

static void *encode_much(void *argument) {
    Thread *thread = argument;
    LvTokenIds all = {0};
    LvError error = {0};
    for (int i = 0; i < 200; i++) {
        char text[200];
        int length = snprintf(text, sizeof text, "caption %d: a red house in front of the %d mountains, Straßen, 狗 <|eot_id|>", i, i * i);
        if (!lv_tokenizer_encode(thread->tokenizer, text, (size_t)length, LV_ENCODE_SPECIALS, &all, &error)) return NULL;
    }
    thread->hash = hash_ids(&all);
    lv_vec_free(&all);
    return NULL;
}

static void threads(void **state) {
    (void)state;
    LvTokenizer *t = open_file("llama3.json");
    Thread alone = {t, 0}, work[4];
    pthread_t running[4];
    encode_much(&alone);
    for (int i = 0; i < 4; i++) {
        work[i] = (Thread){t, 0};
        assert_int_equal(pthread_create(&running[i], NULL, encode_much, &work[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(running[i], NULL);
        assert_true(work[i].hash == alone.hash && alone.hash);
    }
    lv_tokenizer_close(t);
}

// ---- training

// A tokenizer from the lines of captions.txt, first to last or last to first.
static void train_lines(const LvBpeOptions *options, bool backwards, LvText *json, LvBpeResult *result) {
    LvBpeTrainer *trainer = NULL;
    LvError error = {0};
    char *text, *lines[64], *save = NULL;
    size_t length, count = 0;
    assert_true(lv_file_read(FOLDER "captions.txt", 1 << 20, &text, &length, &error));
    if (!lv_bpe_create(&trainer, options, &error)) fail_msg("%s", error.message);
    for (char *line = strtok_r(text, "\n", &save); line && count < 64; line = strtok_r(NULL, "\n", &save)) lines[count++] = line;
    for (size_t i = 0; i < count; i++) {
        const char *line = lines[backwards ? count - 1 - i : i];
        assert_true(lv_bpe_add(trainer, line, strlen(line), &error));
    }
    if (!lv_bpe_train(trainer, json, result, &error)) fail_msg("%s", error.message);
    lv_bpe_destroy(trainer);
    free(text);
}

// The files that tokenizers was asked about are those that training makes.
static void training(void **state) {
    (void)state;
    static const char *const specials[] = {"<|photo|>", "<|endoftext|>"};
    static const struct {
        LvBpeOptions options;
        const char *file;
        size_t tokens;
    } cases[] = {
        {{640, 2, false, specials, 2}, "trained.json", 451},  // no pair is left
        {{400, 2, true, NULL, 0}, "trained_lowercase.json", 400},
    };
    for (int k = 0; k < 4; k++) {
        LvTokenizer *t = open_file(cases[k / 2].file);
        LvText json = {0};
        LvBpeResult result;
        train_lines(&cases[k / 2].options, k % 2, &json, &result);
        assert_string_equal(json.data, lv_tokenizer_text(t, NULL));
        assert_int_equal(result.tokens, cases[k / 2].tokens);
        assert_int_equal(result.texts, 21);
        assert_int_equal(lv_tokenizer_end(t), cases[k / 2].tokens - 1);
        lv_text_free(&json);
        lv_tokenizer_close(t);
    }
}

static void expect_refused(LvBpeOptions options, const char *message) {
    LvBpeTrainer *trainer = NULL;
    LvError error = {0};
    assert_false(lv_bpe_create(&trainer, &options, &error));
    assert_string_equal(error.message, message);
    assert_int_equal(error.kind, LV_ERROR_USAGE);
    lv_error_clear(&error);
}

static void training_refused(void **state) {
    (void)state;
    const char *twice[] = {"<a>", "<a>"}, *letter[] = {"a"}, *empty[] = {""}, *broken[] = {"\xFF"};
    expect_refused((LvBpeOptions){256, 2, false, NULL, 0}, "a vocabulary of 256: it must be in 257 … 4194304");
    expect_refused((LvBpeOptions){5000000, 2, false, NULL, 0}, "a vocabulary of 5000000: it must be in 257 … 4194304");
    expect_refused((LvBpeOptions){300, 2, false, twice, 2}, "the special token '<a>' is given twice");
    expect_refused((LvBpeOptions){300, 2, false, letter, 1}, "the special token 'a' is the letter of a byte");
    expect_refused((LvBpeOptions){300, 2, false, empty, 1}, "a special token is 1 to 1024 bytes of UTF-8");
    expect_refused((LvBpeOptions){300, 2, false, broken, 1}, "a special token is 1 to 1024 bytes of UTF-8");
}

// One word of 300,000 letters, and a special token that the text spells as a word.
static void training_long_word(void **state) {
    (void)state;
    LvBpeTrainer *trainer = NULL;
    LvError error = {0};
    LvText text = {0}, json = {0};
    LvBpeResult result;
    LvTokenizer *t = NULL;
    const char *specials[] = {"ab"};
    uint32_t x = 1;
    for (int i = 0; i < 300000; i++) {
        x = x * 1664525u + 1013904223u;
        lv_text_putc(&text, (char)('a' + (x >> 24) % 3));
    }
    assert_true(lv_bpe_create(&trainer, &(LvBpeOptions){4000, 2, false, specials, 1}, &error));
    assert_true(lv_bpe_add(trainer, text.data, text.length, &error));
    assert_true(lv_bpe_train(trainer, &json, &result, &error));
    assert_int_equal(result.tokens, 4000);
    assert_true(lv_tokenizer_parse(&t, json.data, json.length, "t", &error));
    assert_int_equal(lv_tokenizer_id(t, "ab", 2), 3998);
    lv_tokenizer_close(t);
    lv_bpe_destroy(trainer);
    assert_true(lv_bpe_create(&trainer, &(LvBpeOptions){300, 2, false, NULL, 0}, &error));
    assert_false(lv_bpe_train(trainer, &json, &result, &error));
    assert_string_equal(error.message, "there is no text to train on");
    lv_error_clear(&error);
    lv_bpe_destroy(trainer);
    lv_text_free(&text);
    lv_text_free(&json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2),        cmocka_unit_test(llama3),           cmocka_unit_test(clip),
        cmocka_unit_test(clip_merges), cmocka_unit_test(trained),          cmocka_unit_test(tokens),
        cmocka_unit_test(round_trip),  cmocka_unit_test(captions),         cmocka_unit_test(long_words),
        cmocka_unit_test(long_lines),  cmocka_unit_test(threads),          cmocka_unit_test(training),
        cmocka_unit_test(training_refused), cmocka_unit_test(training_long_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
