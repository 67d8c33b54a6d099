// The loader: the same bits for any number of workers and after any seek; order, ranks, broken pictures; the data sets.
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
#include "data/order.h"

// ---- files to read

static char root[64];

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

static void put_picture(const char *name, int value) {
    uint8_t ppm[13 + 12 * 10 * 3] = "P6 12 10 255\n";
    for (size_t i = 13; i < sizeof ppm; i++) ppm[i] = (uint8_t)(value + (int)(i % 7));
    put(name, ppm, sizeof ppm);
}

static const char *in_root(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static int set_up(void **state) {
    (void)state;
    strcpy(root, "/tmp/lv-loader-XXXXXX");
    assert_non_null(mkdtemp(root));
    for (int i = 0; i < 10; i++) {
        char name[64];
        snprintf(name, sizeof name, "good/%c/deep/%d.ppm", 'a' + i % 3, i);
        put_picture(name, i * 20);
    }
    for (int i = 0; i < 10; i++) {
        char name[64], text[64];
        snprintf(name, sizeof name, "pairs/%d.ppm", i);
        put_picture(name, i * 20);
        snprintf(name, sizeof name, "pairs/%d.txt", i);
        int length = snprintf(text, sizeof text, "\xEF\xBB\xBFnumber %d\nor %d\n", i, i);
        put(name, text, i == 4 ? 0 : (size_t)length);  // one is empty
    }
    put("good/a/deep/0.txt", "a first line\n\n  and a second \r\n", 31);
    put("good/b/notes.md", "x", 1);
    put("mixed/1.png", "not a picture", 13);
    put_picture("mixed/2.ppm", 50);
    put("mixed/3.jpg", "\xFF\xD8\xFF\xE0", 4);
    put_picture("mixed/4.ppm", 90);
    put("bad/1.png", "no", 2);
    put("bad/2.png", "", 0);
    put("other/readme.md", "x", 1);
    static const char tsv[] = "path\tcaption\ngood/a/deep/0.ppm\tone\ngood/b/deep/1.ppm\ttwo\ngood/a/deep/0.ppm\tthree\n";
    put("list.tsv", tsv, sizeof tsv - 1);
    static const char coco[] = "{\"images\": [{\"id\": 7, \"file_name\": \"0.ppm\"}, {\"id\": 8, \"file_name\": \"3.ppm\"}], "
                               "\"annotations\": [{\"image_id\": 8, \"caption\": \"three\"}, {\"image_id\": 8, \"caption\": \"drei\"}]}";
    put("coco.json", coco, sizeof coco - 1);
    mkdir(in_root("empty"), 0777);
    assert_int_equal(symlink("..", in_root("good/c/loop")), 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

// ---- data sets

static LvDataset *open_set(const char *spec) {
    LvDataset *dataset;
    LvError error = {0};
    if (!lv_dataset_open(&dataset, spec, &error)) fail_msg("%s", error.message);
    return dataset;
}

static void test_folder(void **state) {
    (void)state;
    LvDataset *dataset = open_set(in_root("good/"));
    assert_int_equal(lv_dataset_count(dataset), 10);
    assert_string_equal(lv_dataset_name(dataset, 0), "a/deep/0.ppm");
    assert_string_equal(lv_dataset_name(dataset, 9), "c/deep/8.ppm");
    size_t length;
    assert_memory_equal(lv_dataset_class(dataset, 4, &length), "b", 1);
    assert_int_equal(length, 1);
    assert_int_equal(lv_dataset_warnings(dataset), 1);  // the loop of links
    char *text;
    assert_true(lv_dataset_has_captions(dataset));
    assert_true(lv_dataset_captions(dataset, 0, &text, NULL));
    assert_string_equal(text, "a first line\nand a second");
    free(text);
    assert_true(lv_dataset_captions(dataset, 1, &text, NULL));
    assert_string_equal(text, "");
    free(text);
    lv_dataset_close(dataset);
}

static void expect_refused(const char *spec, const char *message, const char *hint) {
    LvDataset *dataset;
    LvError error = {0};
    assert_false(lv_dataset_open(&dataset, spec, &error));
    assert_null(dataset);
    if (!strstr(error.message, message)) fail_msg("%s", error.message);
    if (hint && (!error.hint || !strstr(error.hint, hint))) fail_msg("%s", error.hint ? error.hint : "no hint");
    lv_error_clear(&error);
}

static void test_refused(void **state) {
    (void)state;
    expect_refused(in_root("goood"), "no such file or folder", "did you mean");
    expect_refused("/nowhere/at/all", "no such file or folder", "is not there either");
    expect_refused(in_root("empty"), "no pictures under", "the folder is empty");
    expect_refused(in_root("other"), "no pictures under", "1 other file (.md ...)");
    expect_refused("fake:many", "a number of pictures", NULL);
    expect_refused(in_root("s-{1..x}.tar"), "shards are written as", NULL);
    expect_refused(in_root("other/readme.md"), "is no data set", "a folder of pictures");
    expect_refused(in_root("s-{1..2}.tar"), "s-1.tar", NULL);
}

static void test_lists(void **state) {
    (void)state;
    LvText many = {0};
    for (int i = 0; i < 5000; i++) lv_text_printf(&many, "x.png\tcaption number %d\n", i);
    put("many.tsv", many.data, many.length);
    lv_text_free(&many);
    LvDataset *one = open_set(in_root("many.tsv"));
    char *lines;
    assert_int_equal(lv_dataset_count(one), 1);
    assert_true(lv_dataset_captions(one, 0, &lines, NULL));
    assert_non_null(strstr(lines, "caption number 0\ncaption number 1\n"));
    assert_string_equal(strrchr(lines, '\n'), "\ncaption number 4999");
    free(lines);
    lv_dataset_close(one);
    char *text;
    LvPicture picture;
    LvDataset *dataset = open_set(in_root("list.tsv"));
    assert_int_equal(lv_dataset_count(dataset), 2);
    assert_true(lv_dataset_captions(dataset, 0, &text, NULL));
    assert_string_equal(text, "one\nthree");
    free(text);
    assert_true(lv_dataset_picture(dataset, 1, &picture, NULL));
    lv_picture_free(&picture);
    lv_dataset_close(dataset);
    char spec[600];
    snprintf(spec, sizeof spec, "%s:%s/good/a/deep", in_root("coco.json"), root);
    dataset = open_set(spec);
    assert_int_equal(lv_dataset_count(dataset), 2);
    assert_true(lv_dataset_captions(dataset, 1, &text, NULL));
    assert_string_equal(text, "three\ndrei");
    free(text);
    assert_true(lv_dataset_picture(dataset, 1, &picture, NULL));
    lv_picture_free(&picture);
    lv_dataset_close(dataset);
}

// Made by the system's tar, so that what others write is read.
static void test_shards(void **state) {
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "cd %s && tar cf s-0.tar -C good a && tar czf s-1.tar.gz -C good b && head -c 2700 s-0.tar > s-2.tar", root);
    if (system(command)) skip();
    LvDataset *plain = open_set(in_root("s-0.tar")), *packed = open_set(in_root("s-1.tar.gz"));
    assert_int_equal(lv_dataset_count(plain), 4);
    assert_int_equal(lv_dataset_count(packed), 3);
    LvPicture picture;
    for (size_t i = 0; i < 3; i++) {
        assert_true(lv_dataset_picture(packed, i, &picture, NULL));
        assert_int_equal(picture.width, 12);
        lv_picture_free(&picture);
    }
    LvDataset *apart;  // captions that do not stand beside their pictures
    snprintf(command, sizeof command, "cd %s/good/a/deep && tar cf ../../../apart.tar 0.ppm 3.ppm 0.txt", root);
    assert_int_equal(system(command), 0);
    apart = open_set(in_root("apart.tar"));
    char *found;
    assert_int_equal(lv_dataset_count(apart), 2);
    assert_true(lv_dataset_captions(apart, 0, &found, NULL));
    assert_string_equal(found, "a first line\nand a second");
    free(found);
    assert_int_equal(lv_dataset_need_captions(apart), 1);
    assert_int_equal(lv_dataset_count(apart), 1);
    lv_dataset_close(apart);
    size_t with_caption = 0;
    for (size_t i = 0; i < 4; i++) {
        char *text;
        assert_true(lv_dataset_captions(plain, i, &text, NULL));
        with_caption += strcmp(text, "a first line\nand a second") == 0;
        free(text);
    }
    assert_int_equal(with_caption, 1);
    lv_dataset_close(plain);
    lv_dataset_close(packed);
    LvDataset *all = open_set(in_root("s-{0..2}.tar"));  // s-1.tar is not there, s-2.tar is cut off
    assert_true(lv_dataset_count(all) >= 4);
    assert_int_equal(lv_dataset_warnings(all), 2);
    lv_dataset_close(all);
}

// ---- order

static void test_order(void **state) {
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 5, 16, 17, 1000};
    for (int i = 0; i < 7; i++) {
        char seen[1000] = {0};
        uint64_t same = 0;
        for (uint64_t p = 0; p < counts[i]; p++) {
            uint64_t at = order_shuffled(42, 1, counts[i], p);
            assert_true(at < counts[i] && !seen[at]);
            seen[at] = 1;
            same += at == order_shuffled(42, 2, counts[i], p);
        }
        if (counts[i] == 1000) assert_true(same < 10);
    }
}

// ---- the loader

typedef struct {
    LvText names;
    int calls;
} Told;

static void tell(void *user, const char *name, const char *message) {
    Told *told = user;
    lv_text_printf(&told->names, "%s: %s\n", name, message);
    told->calls++;
}

static LvLoader *open_loader(const LvDataset *dataset, LvLoaderOptions options) {
    LvLoader *loader;
    LvError error = {0};
    options.resolution = 8;
    if (!lv_loader_create(&loader, dataset, &options, &error)) fail_msg("%s", error.message);
    return loader;
}

static const LvBatch *next(LvLoader *loader) {
    const LvBatch *batch;
    LvError error = {0};
    if (!lv_loader_next(loader, &batch, &error)) fail_msg("%s", error.message);
    return batch;
}

enum { STEPS = 12, BYTES = 3 * 3 * 8 * 8 };

static void test_same_bits(void **state) {
    (void)state;
    LvDataset *dataset = open_set(in_root("pairs"));
    LvLoaderOptions options = lv_loader_options_training();
    options.batch = 3, options.captions = true;
    static uint8_t want[STEPS][BYTES];
    uint32_t draws[STEPS][3];
    char captions[STEPS][64];
    LvPosition at[STEPS];
    options.workers = 0, options.cache_bytes = 0;
    LvLoader *loader = open_loader(dataset, options);
    for (int i = 0; i < STEPS; i++) {
        const LvBatch *batch = next(loader);
        memcpy(want[i], batch->pictures, sizeof want[i]);
        memcpy(draws[i], batch->draws, sizeof draws[i]);
        snprintf(captions[i], sizeof captions[i], "%s", batch->captions[1]);
        at[i] = batch->at;
        assert_int_equal(batch->count, 3);
    }
    assert_int_equal(at[3].epoch, 1);  // three batches of three in each epoch of ten
    lv_loader_destroy(loader);
    for (int workers = 0; workers <= 4; workers += 2) {
        options.workers = workers, options.cache_bytes = 1000 * (size_t)workers, options.prefetch = workers + 1;
        loader = open_loader(dataset, options);
        for (int i = 0; i < STEPS; i++) {
            const LvBatch *batch = next(loader);
            assert_memory_equal(batch->pictures, want[i], sizeof want[i]);
            assert_memory_equal(batch->draws, draws[i], sizeof draws[i]);
            assert_string_equal(batch->captions[1], captions[i]);
        }
        for (int i = STEPS - 1; i >= 0; i -= 2) {  // any place again
            lv_loader_seek(loader, at[i]);
            const LvBatch *batch = next(loader);
            assert_memory_equal(batch->pictures, want[i], sizeof want[i]);
            assert_true(batch->at.epoch == at[i].epoch && batch->at.index == at[i].index);
        }
        lv_loader_destroy(loader);
    }
    lv_dataset_close(dataset);
}

// Two ranks of batch 2 give what one rank of batch 4 gives.
static void test_ranks(void **state) {
    (void)state;
    LvDataset *dataset = open_set("fake:23");
    LvLoaderOptions options = lv_loader_options_training();
    options.batch = 4;
    LvLoader *one = open_loader(dataset, options), *two[2];
    options.batch = 2, options.world = 2;
    for (options.rank = 0; options.rank < 2; options.rank++) two[options.rank] = open_loader(dataset, options);
    for (int i = 0; i < 12; i++) {
        const LvBatch *whole = next(one);
        for (int r = 0; r < 2; r++) {
            const LvBatch *half = next(two[r]);
            assert_memory_equal(half->pictures, whole->pictures + r * 2 * 3 * 8 * 8, 2 * 3 * 8 * 8);
            assert_true(half->after.index == whole->after.index && half->after.epoch == whole->after.epoch);
        }
    }
    lv_loader_destroy(one);
    for (int r = 0; r < 2; r++) lv_loader_destroy(two[r]);
    lv_dataset_close(dataset);
}

static void test_evaluation(void **state) {
    (void)state;
    LvDataset *dataset = open_set("fake:10");
    LvLoaderOptions options = lv_loader_options();
    options.batch = 4;
    for (options.workers = 0; options.workers < 3; options.workers++) {
        LvLoader *loader = open_loader(dataset, options);
        assert_int_equal(lv_loader_batches(loader), 3);
        for (int pass = 0; pass < 2; pass++) {
            int64_t expected = 0;
            const LvBatch *batch;
            while ((batch = next(loader))) {
                for (int i = 0; i < batch->count; i++) assert_int_equal(batch->samples[i], expected++);
            }
            assert_int_equal(expected, 10);
            assert_null(next(loader));
            lv_loader_seek(loader, (LvPosition){0, 0});
        }
        lv_loader_destroy(loader);
    }
    lv_dataset_close(dataset);
}

static void test_small_set(void **state) {
    (void)state;
    LvDataset *dataset = open_set("fake:3");
    LvLoaderOptions options = lv_loader_options_training();
    options.batch = 8;
    LvLoader *loader = open_loader(dataset, options);
    for (int i = 0; i < 3; i++) {
        const LvBatch *batch = next(loader);
        assert_int_equal(batch->count, 8);
        assert_int_equal(batch->at.epoch, i);
    }
    lv_loader_destroy(loader);
    lv_dataset_close(dataset);
}

static void test_broken(void **state) {
    (void)state;
    LvDataset *dataset = open_set(in_root("mixed"));
    for (int workers = 0; workers < 4; workers++) {
        Told told = {0};
        LvLoaderOptions options = lv_loader_options();
        options.batch = 4, options.workers = workers, options.epochs = 2, options.broken = tell, options.broken_user = &told;
        LvLoader *loader = open_loader(dataset, options);
        for (int epoch = 0; epoch < 2; epoch++) {
            const LvBatch *batch = next(loader);
            assert_string_equal(batch->names[0], "2.ppm");
            assert_string_equal(batch->names[1], "2.ppm");
            assert_string_equal(batch->names[2], "4.ppm");
            assert_string_equal(batch->names[3], "4.ppm");
        }
        assert_null(next(loader));
        assert_int_equal(lv_loader_broken(loader), 2);
        const char *want = "1.png: is no picture: JPEG, PNG, WebP, BMP and PNM can be read\n3.jpg: JPEG: ";
        assert_int_equal(strncmp(lv_text_get(&told.names), want, strlen(want)), 0);
        assert_int_equal(told.calls, 2);
        lv_text_free(&told.names);
        lv_loader_destroy(loader);
    }
    lv_dataset_close(dataset);
}

// A sample without a caption is passed over where captions are wanted; over the epochs each line of the others is drawn.
static void test_captions(void **state) {
    (void)state;
    LvDataset *dataset = open_set(in_root("pairs"));
    assert_int_equal(lv_dataset_need_captions(dataset), 0);  // it has a file, though an empty one
    for (int pictures = 0; pictures < 2; pictures++) {
        Told told = {0};
        LvLoaderOptions options = lv_loader_options_training();
        uint8_t lost[10] = {[7] = 1};
        int drawn[2] = {0};
        LvError error = {0};
        LvLoader *loader;
        options.batch = 5, options.captions = true, options.workers = 2, options.broken = tell, options.broken_user = &told;
        options.resolution = pictures ? 8 : 0;
        options.lost = pictures ? NULL : lost;
        assert_true(lv_loader_create(&loader, dataset, &options, &error));
        for (int i = 0; i < 40; i++) {
            const LvBatch *batch = next(loader);
            assert_true((batch->pictures != NULL) == pictures);
            for (int k = 0; k < 5; k++) {
                char line[2][32];
                snprintf(line[0], sizeof line[0], "number %lld", (long long)batch->samples[k]);
                snprintf(line[1], sizeof line[1], "or %lld", (long long)batch->samples[k]);
                bool second = !strcmp(batch->captions[k], line[1]);
                if (!second) assert_string_equal(batch->captions[k], line[0]);
                drawn[second]++;
                assert_true(batch->samples[k] != 4 && (pictures || batch->samples[k] != 7));
            }
        }
        assert_true(drawn[0] > 50 && drawn[1] > 50);
        assert_int_equal(lv_loader_uncaptioned(loader), 1);
        assert_int_equal(lv_loader_broken(loader), !pictures);
        assert_int_equal(told.calls, 2 - pictures);
        assert_non_null(strstr(told.names.data, "4.ppm: it has no caption\n"));
        if (!pictures) assert_non_null(strstr(told.names.data, "7.ppm: it could not be read when its codes were made\n"));
        lv_text_free(&told.names);
        lv_loader_destroy(loader);
    }
    lv_dataset_close(dataset);
}

// Those that are known to have none are left out when it is opened, and named.
static void test_need_captions(void **state) {
    (void)state;
    LvDataset *dataset = open_set(in_root("good"));
    uint64_t before = lv_dataset_fingerprint(dataset);
    assert_int_equal(lv_dataset_need_captions(dataset), 9);
    assert_int_equal(lv_dataset_count(dataset), 1);
    assert_true(before != lv_dataset_fingerprint(dataset));
    assert_string_equal(lv_dataset_warning(dataset, 1), "9 of 10 pictures have no caption and are left out: 'a/deep/3.ppm', "
                                                        "'a/deep/6.ppm', 'a/deep/9.ppm', ...");
    lv_dataset_close(dataset);
    dataset = open_set("fake:3");
    assert_int_equal(lv_dataset_need_captions(dataset), 0);
    lv_dataset_close(dataset);
}

// The signature sees what the names do not tell.
static void test_signature(void **state) {
    (void)state;
    put_picture("sign/a.ppm", 1);
    LvDataset *dataset = open_set(in_root("sign"));
    uint64_t first = lv_dataset_signature(dataset);
    assert_true(first == lv_dataset_signature(dataset));
    put_picture("sign/a.ppm", 2);
    assert_true(first != lv_dataset_signature(dataset));
    lv_dataset_close(dataset);
}

static void test_all_broken(void **state) {
    (void)state;
    LvDataset *dataset = open_set(in_root("bad"));
    for (int workers = 0; workers < 3; workers++) {
        LvLoaderOptions options = lv_loader_options_training();
        options.workers = workers;
        LvLoader *loader = open_loader(dataset, options);
        const LvBatch *batch;
        LvError error = {0};
        assert_false(lv_loader_next(loader, &batch, &error));
        assert_non_null(strstr(error.message, "none of its 2 pictures can be read"));
        lv_error_clear(&error);
        lv_loader_destroy(loader);
    }
    lv_dataset_close(dataset);
}

static void test_options(void **state) {
    (void)state;
    LvDataset *dataset = open_set("fake:3");
    LvLoaderOptions options = lv_loader_options();
    LvLoader *loader;
    LvError error = {0};
    options.batch = 0;
    assert_false(lv_loader_create(&loader, dataset, &options, &error));
    assert_int_equal(lv_error_exit_code(&error), 2);
    lv_error_clear(&error);
    options.batch = 1, options.rank = 1;
    assert_false(lv_loader_create(&loader, dataset, &options, &error));
    lv_error_clear(&error);
    lv_dataset_close(dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder), cmocka_unit_test(test_refused), cmocka_unit_test(test_lists), cmocka_unit_test(test_shards),
        cmocka_unit_test(test_order), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_ranks), cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_small_set), cmocka_unit_test(test_broken), cmocka_unit_test(test_all_broken),
        cmocka_unit_test(test_captions), cmocka_unit_test(test_need_captions), cmocka_unit_test(test_signature), cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
