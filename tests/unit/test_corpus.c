// Text as a data set: which files are text, the ids, the windows; the same bits for any number of workers and after any seek.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "data/loader.h"

enum { BYTES = 1000 };

static char root[64], numbers[BYTES];  // numbers: a text in which every place can be told, "000 001 002 ..."

static const char *in_root(const char *name) {
    static char spec[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(spec[turn], sizeof spec[turn], "text:%s/%s", root, name);
    return spec[turn];
}

static void put(const char *name, const void *bytes, size_t length) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    assert_true(lv_file_write(path, bytes, length, NULL));
}

static int set_up(void **state) {
    (void)state;
    strcpy(root, "/tmp/lv-corpus-XXXXXX");
    assert_non_null(mkdtemp(root));
    for (int i = 0; i < BYTES; i += 4) snprintf(numbers + i, sizeof numbers - (size_t)i, "%03d", i / 4), numbers[i + 3] = ' ';
    put("numbers.txt", numbers, sizeof numbers);
    char cut[1500];
    memset(cut, 'c', sizeof cut);
    memcpy(cut + 1023, "\xC3\xA9", 2);  // its first KiB ends within a character
    put("set/b/two.md", "TWO", 3);
    put("set/a/one", "ONE\xC3\xA9", 5);
    put("set/cut.c", cut, sizeof cut);
    put("set/empty.txt", "", 0);
    put("set/zero.bin", "text\0text", 9);
    put("set/latin.txt", "caf\xE9", 4);
    put("set/half.txt", "caf\xC3", 4);
    put("set/.hidden/x.txt", "hidden", 6);
    put("none/.x.txt", "hidden", 6);
    put("none/y.bin", "\0", 1);
    put("short.txt", "0123456789", 10);
    put("accents.txt", "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", 10);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static LvDataset *open_cut(const char *spec, int64_t length) {
    LvDataset *dataset;
    LvError error = {0};
    if (!lv_dataset_open(&dataset, spec, &error)) fail_msg("%s", error.message);
    if (!lv_dataset_cut(dataset, length, NULL, 256, &error)) fail_msg("%s", error.message);
    return dataset;
}

static void expect_text(const char *spec, const char *text, size_t length) {
    LvDataset *dataset = open_cut(spec, (int64_t)length);
    int32_t *ids = lv_calloc(length, sizeof *ids);
    lv_dataset_window(dataset, 0, NULL, ids);
    assert_int_equal(lv_dataset_count(dataset), 1);
    for (size_t i = 0; i < length; i++) assert_int_equal(ids[i], (unsigned char)text[i]);
    free(ids);
    lv_dataset_close(dataset);
}

// ---- files and ids

static void test_files(void **state) {
    (void)state;
    LvDataset *dataset = open_cut(in_root("set"), 5 + 1 + 3 + 1 + 1500);  // sorted, a zero byte between them
    assert_string_equal(lv_dataset_unit(dataset), "windows");
    assert_int_equal(lv_dataset_warnings(dataset), 0);
    int32_t ids[1510];
    lv_dataset_window(dataset, 0, NULL, ids);
    static const int32_t first[] = {'O', 'N', 'E', 0xC3, 0xA9, 0, 'T', 'W', 'O', 0, 'c'};
    assert_memory_equal(ids, first, sizeof first);
    assert_int_equal(ids[1509], 'c');
    lv_dataset_close(dataset);
}

static void test_parts(void **state) {
    (void)state;
    expect_text(in_root("short.txt"), "0123456789", 10);
    expect_text(in_root("short.txt:0-90%"), "012345678", 9);
    expect_text(in_root("short.txt:90-100%"), "9", 1);
    expect_text(in_root("short.txt:25-75%"), "23456", 5);
    expect_text(in_root("accents.txt:0-30%"), "\xC3\xA9\xC3\xA9", 4);  // no character is cut, none is in both
    expect_text(in_root("accents.txt:30-100%"), "\xC3\xA9\xC3\xA9\xC3\xA9", 6);
}

static void expect_refused(const char *spec, int64_t length, int64_t vocabulary, const char *message) {
    LvDataset *dataset;
    LvError error = {0};
    bool good = lv_dataset_open(&dataset, spec, &error);
    if (good) {
        good = lv_dataset_cut(dataset, length, NULL, vocabulary, &error);
        lv_dataset_close(dataset);
    }
    assert_false(good);
    if (!strstr(error.message, message)) fail_msg("%s", error.message);
    assert_non_null(error.hint);
    lv_error_clear(&error);
}

static void test_refused(void **state) {
    (void)state;
    expect_refused(in_root("none"), 4, 256, "no text under");
    expect_refused(in_root("set/zero.bin"), 4, 256, "is no text");
    expect_refused(in_root("set/empty.txt"), 4, 256, "is no text");
    expect_refused(in_root("nowhere"), 4, 256, "no such file or folder");
    expect_refused(in_root("short.txt"), 11, 256, "its text of 10 bytes is shorter than a window of 11");
    expect_refused(in_root("short.txt:50-50%"), 1, 256, "a part of the text is written as");
    expect_refused(in_root("short.txt:0-101%"), 1, 256, "a part of the text is written as");
    expect_refused(in_root("accents.txt"), 4, 128, "holds the id 195, and the model's vocab is 128");
}

// ---- windows

// Where a window of `numbers` begins, found by its content.
static int64_t place(const int32_t *ids, int64_t length) {
    char text[BYTES];
    for (int64_t i = 0; i < length; i++) text[i] = (char)ids[i];
    const char *at = memmem(numbers, sizeof numbers, text, (size_t)length);
    assert_non_null(at);
    return at - numbers;
}

static void test_side_by_side(void **state) {
    (void)state;
    static const int64_t lengths[] = {1, 2, 10, 11, 500, 501, 999, 1000};
    for (int k = 0; k < 8; k++) {
        int64_t length = lengths[k], step = length > 1 ? length - 1 : 1;
        LvDataset *dataset = open_cut(in_root("numbers.txt"), length);
        int32_t ids[BYTES];
        size_t count = lv_dataset_count(dataset);
        assert_int_equal(count, length > 1 ? (BYTES - 1) / step : BYTES);
        for (size_t i = 0; i < count; i++) {
            lv_dataset_window(dataset, i, NULL, ids);
            for (int64_t j = 0; j < length; j++) assert_int_equal(ids[j], numbers[(int64_t)i * step + j]);
        }
        lv_dataset_close(dataset);
    }
}

// The windows' shares of all beginnings are one after the other, with nothing between and nothing over.
static void test_drawn(void **state) {
    (void)state;
    static const int64_t lengths[] = {8, 11, 100, 501, 999, 1000};
    for (int k = 0; k < 6; k++) {
        int64_t length = lengths[k], next = 0;
        LvDataset *dataset = open_cut(in_root("numbers.txt"), length);
        int32_t ids[BYTES];
        for (size_t i = 0; i < lv_dataset_count(dataset); i++) {
            uint32_t least = 0, most = UINT32_MAX;
            lv_dataset_window(dataset, i, &least, ids);
            assert_int_equal(place(ids, length), next);
            lv_dataset_window(dataset, i, &most, ids);
            next = place(ids, length) + 1;
        }
        assert_int_equal(next, BYTES - length + 1);
        lv_dataset_close(dataset);
    }
}

// ---- the loader

enum { STEPS = 40, BATCH = 4, LENGTH = 20 };

static LvLoader *open_loader(const LvDataset *dataset, LvLoaderOptions options) {
    LvLoader *loader;
    LvError error = {0};
    if (!lv_loader_create(&loader, dataset, &options, &error)) fail_msg("%s", error.message);
    return loader;
}

static const LvBatch *next(LvLoader *loader) {
    const LvBatch *batch;
    LvError error = {0};
    if (!lv_loader_next(loader, &batch, &error)) fail_msg("%s", error.message);
    return batch;
}

static void test_same_bits(void **state) {
    (void)state;
    LvDataset *dataset = open_cut(in_root("numbers.txt"), LENGTH);
    LvLoaderOptions options = lv_loader_options_training();
    options.batch = BATCH, options.workers = 0;
    static int32_t want[STEPS][BATCH * LENGTH];
    LvPosition at[STEPS];
    LvLoader *loader = open_loader(dataset, options);
    for (int i = 0; i < STEPS; i++) {
        const LvBatch *batch = next(loader);
        assert_null(batch->pictures);
        memcpy(want[i], batch->tokens, sizeof want[i]);
        at[i] = batch->at;
    }
    assert_true(at[STEPS - 1].epoch >= 2);
    assert_memory_not_equal(want[0], want[52 / BATCH], sizeof want[0]);  // another epoch, other windows
    lv_loader_destroy(loader);
    for (options.workers = 0; options.workers <= 4; options.workers += 2) {
        loader = open_loader(dataset, options);
        for (int i = 0; i < STEPS; i++) assert_memory_equal(next(loader)->tokens, want[i], sizeof want[i]);
        for (int i = STEPS - 1; i >= 0; i -= 3) {  // any place again
            lv_loader_seek(loader, at[i]);
            assert_memory_equal(next(loader)->tokens, want[i], sizeof want[i]);
        }
        lv_loader_destroy(loader);
    }
    options.seed = 7;
    loader = open_loader(dataset, options);
    assert_memory_not_equal(next(loader)->tokens, want[0], sizeof want[0]);
    lv_loader_destroy(loader);
    lv_dataset_close(dataset);
}

// Validation: each window once, in order, at its own place.
static void test_evaluation(void **state) {
    (void)state;
    LvDataset *dataset = open_cut(in_root("numbers.txt"), LENGTH);
    LvLoaderOptions options = lv_loader_options();
    options.batch = 5;
    LvLoader *loader = open_loader(dataset, options);
    const LvBatch *batch;
    int64_t seen = 0;
    while ((batch = next(loader))) {
        for (int i = 0; i < batch->count; i++) assert_int_equal(place(batch->tokens + i * LENGTH, LENGTH), (LENGTH - 1) * seen++);
    }
    assert_int_equal(seen, lv_dataset_count(dataset));
    lv_loader_destroy(loader);
    lv_dataset_close(dataset);
}

static void test_fingerprint(void **state) {
    (void)state;
    LvDataset *a = open_cut(in_root("numbers.txt"), 10), *b = open_cut(in_root("numbers.txt"), 10);
    LvDataset *c = open_cut(in_root("numbers.txt:0-90%"), 10);
    assert_true(lv_dataset_fingerprint(a) == lv_dataset_fingerprint(b));
    assert_true(lv_dataset_fingerprint(a) != lv_dataset_fingerprint(c));
    lv_dataset_close(a);
    lv_dataset_close(b);
    lv_dataset_close(c);
}

// ---- a tokenizer

static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 6, \"content\": \"<|endoftext|>\", \"special\": true}], "
    "\"decoder\": {\"type\": \"ByteLevel\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"O\": 0, \"N\": 1, \"E\": 2, \"T\": 3, \"ON\": 4, \"W\": 5}, "
    "\"merges\": [\"O N\"]}}";

static void test_tokenizer(void **state) {
    (void)state;
    put("pair/1.txt", "ONE", 3);
    put("pair/2.txt", "TWONE", 5);
    LvTokenizer *tokenizer;
    LvDataset *dataset;
    LvError error = {0};
    if (!lv_tokenizer_parse(&tokenizer, tokenizer_json, sizeof tokenizer_json - 1, "test", &error)) fail_msg("%s", error.message);
    if (!lv_dataset_open(&dataset, in_root("pair"), &error)) fail_msg("%s", error.message);
    if (!lv_dataset_cut(dataset, 7, tokenizer, 7, &error)) fail_msg("%s", error.message);
    int32_t ids[7];
    static const int32_t want[] = {4, 2, 6, 3, 5, 4, 2};
    lv_dataset_window(dataset, 0, NULL, ids);
    assert_memory_equal(ids, want, sizeof want);
    lv_dataset_close(dataset);
    lv_tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),      cmocka_unit_test(test_parts),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_side_by_side), cmocka_unit_test(test_drawn),   cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_evaluation), cmocka_unit_test(test_fingerprint), cmocka_unit_test(test_tokenizer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
