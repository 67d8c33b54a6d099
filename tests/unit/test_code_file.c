// Files of codes: what is written comes back; torn, altered and foreign files are refused; an
// unfinished one is gone on from.
#include <pthread.h>
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
#include "io/code_file.h"

enum { RECORDS = 7, CODES = 5 };

static char folder[64], path[96], part[104];

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/lv-codes-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.codes", folder);
    snprintf(part, sizeof part, "%s.part", path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static LvCodeShape shape_of(int64_t vocabulary) {
    return (LvCodeShape){
        .key = {11, 22}, .records = RECORDS, .codes = CODES, .vocabulary = vocabulary};
}

static int32_t code_at(const LvCodeShape *shape, int record, int i) {
    return (int32_t)((record * 7919 + i * 104729 + 13) % shape->vocabulary);
}

// Record 3 is of a picture that cannot be read.
static void add(LvCodeWriter *writer, const LvCodeShape *shape, int record) {
    int32_t codes[CODES];
    LvError error = {0};
    for (int i = 0; i < CODES; i++)
        codes[i] = code_at(shape, record, i);
    if (!lv_code_writer_add(writer, record == 3 ? NULL : codes, &error))
        fail_msg("%s", error.message);
}

static void write_file(const LvCodeShape *shape, int from) {
    LvCodeWriter *writer;
    LvError error = {0};
    if (!lv_code_writer_open(path, shape, NULL, &writer, &error)) fail_msg("%s", error.message);
    assert_int_equal(lv_code_writer_done(writer), from);
    for (int i = from; i < RECORDS; i++)
        add(writer, shape, i);
    assert_true(lv_code_writer_finish(writer, &error));
    lv_code_writer_close(writer);
}

static void check_file(const LvCodeShape *shape) {
    LvCodeFile *file;
    LvError error = {0};
    int32_t codes[CODES];
    if (!lv_code_file_open(path, shape, &file, &error)) fail_msg("%s", error.message);
    for (int r = 0; r < RECORDS; r++) {
        assert_int_equal(lv_code_file_get(file, r, codes), r != 3);
        for (int i = 0; i < CODES; i++)
            assert_int_equal(codes[i], r == 3 ? 0 : code_at(shape, r, i));
    }
    lv_code_file_close(file);
}

static void expect_refused(const LvCodeShape *shape, LvErrorKind kind, const char *message) {
    LvCodeFile *file;
    LvError error = {0};
    assert_false(lv_code_file_open(path, shape, &file, &error));
    assert_int_equal(error.kind, kind);
    if (!strstr(error.message, message)) fail_msg("%s", error.message);
    lv_error_clear(&error);
}

static void test_round_trip(void **state) {
    (void)state;
    static const int64_t vocabularies[] = {2, 512, 65536, 65537, INT32_MAX};
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++) {
        LvCodeShape shape = shape_of(vocabularies[i]);
        write_file(&shape, 0);
        check_file(&shape);
        assert_int_not_equal(access(part, F_OK), 0);
    }
    LvCodeShape shape = shape_of(512);
    LvCodeWriter *writer;
    LvError error = {0};
    int32_t beyond[CODES] = {0, 1, 2, 3, 512};
    assert_true(lv_code_writer_open(path, &shape, NULL, &writer, &error));
    assert_false(lv_code_writer_add(writer, beyond, &error));
    lv_error_clear(&error);
    lv_code_writer_close(writer);
    unlink(part);
}

// Every length and every altered byte.
static void test_damage(void **state) {
    (void)state;
    LvCodeShape shape = shape_of(512);
    char *data;
    size_t length;
    write_file(&shape, 0);
    assert_true(lv_file_read(path, 1 << 20, &data, &length, NULL));
    for (size_t n = 0; n < length; n++) {
        assert_true(lv_file_write(path, data, n, NULL));
        expect_refused(&shape, LV_ERROR_FORMAT, "it is cut off");
    }
    for (size_t at = 0; at < length; at++) {
        data[at] ^= 4;
        assert_true(lv_file_write(path, data, length, NULL));
        expect_refused(&shape, LV_ERROR_FORMAT, "x.codes: ");
        data[at] ^= 4;
    }
    assert_true(lv_file_write(path, data, length, NULL));
    check_file(&shape);
    free(data);
    unlink(path);
    expect_refused(&shape, LV_ERROR_IO, "No such file");
}

static void test_foreign(void **state) {
    (void)state;
    LvCodeShape shape = shape_of(512), other = shape;
    write_file(&shape, 0);
    other.key[1] = 23;
    expect_refused(&other, LV_ERROR_FORMAT, "from other pictures or by another picture tokenizer");
    other = shape, other.records++;
    expect_refused(&other, LV_ERROR_FORMAT, "from other pictures");
    other = shape, other.vocabulary = 511;
    expect_refused(&other, LV_ERROR_FORMAT, "from other pictures");
    static const char text[] =
        "no codes at all, but longer than a header has to be, and so read as one by those who do "
        "not look";
    assert_true(lv_file_write(path, text, sizeof text, NULL));
    expect_refused(&shape, LV_ERROR_FORMAT, "it is no file of codes");
    unlink(path);
}

// A killed maker leaves some records, the last of them torn; the next one goes on with the whole
// ones. Of another shape: none.
static void test_going_on(void **state) {
    (void)state;
    LvCodeShape shape = shape_of(512), other = shape;
    LvCodeWriter *writer;
    LvError error = {0};
    size_t record = CODES * 2 + 8;
    for (int cut = 0; cut < 2; cut++) {
        assert_true(lv_code_writer_open(path, &shape, NULL, &writer, &error));
        for (int i = 0; i < 5; i++)
            add(writer, &shape, i);
        lv_code_writer_close(writer);
        assert_int_not_equal(access(path, F_OK), 0);
        if (cut) assert_int_equal(truncate(part, (off_t)(64 + 5 * record - 3)), 0);
        write_file(&shape, cut ? 4 : 5);
        check_file(&shape);
        unlink(path);
    }
    assert_true(lv_code_writer_open(path, &shape, NULL, &writer, &error));
    add(writer, &shape, 0);
    lv_code_writer_close(writer);
    other.key[0]++;
    write_file(&other, 0);
    check_file(&other);
    unlink(path);
}

static void *make_second(void *user) {
    LvCodeShape shape = shape_of(512);
    LvCodeWriter *second = NULL;
    LvError error = {0};
    bool good = lv_code_writer_open(path, &shape, NULL, &second, &error);
    *(bool *)user = good && !second;
    return NULL;
}

// Two makers of one file: the second waits, and finds it made; asked to stop, it does not wait.
static void test_two_makers(void **state) {
    (void)state;
    LvCodeShape shape = shape_of(512);
    LvCodeWriter *writer, *second;
    LvError error = {0};
    volatile sig_atomic_t stop = 1;
    assert_true(lv_code_writer_open(path, &shape, NULL, &writer, &error));
    assert_false(lv_code_writer_open(path, &shape, &stop, &second, &error));
    assert_int_equal(error.kind, LV_ERROR_INTERRUPTED);
    lv_error_clear(&error);
    pthread_t other;
    bool was_made = false;
    assert_int_equal(pthread_create(&other, NULL, make_second, &was_made), 0);
    usleep(50000);
    for (int i = 0; i < RECORDS; i++)
        add(writer, &shape, i);
    assert_true(lv_code_writer_finish(writer, &error));
    lv_code_writer_close(writer);
    pthread_join(other, NULL);
    assert_true(was_made);
    check_file(&shape);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_foreign),    cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_two_makers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
