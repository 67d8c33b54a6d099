// What a run writes when the system fails it: every call of open, write, fsync, close, rename fails in turn, and the disk is
// full. Either the new file is whole under its name, or the old one is and an error says so; no temporary file stays.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "data/picture.h"
#include "io/checkpoint.h"
#include "io/curve.h"
#include "io/jsonl.h"
#include "io/tensorboard.h"

// ---- system calls that fail when told: these definitions stand before the C library's for all of this program

static int countdown = -1;  // calls that still go well; -1: all do

static bool fails(void) {
    if (countdown < 0) return false;
    if (countdown-- > 0) return false;
    errno = ENOSPC;
    return true;
}

ssize_t write(int file, const void *data, size_t length) {
    return fails() ? -1 : syscall(SYS_write, file, data, length);
}

int fsync(int file) {
    return fails() ? -1 : (int)syscall(SYS_fsync, file);
}

int close(int file) {
    bool bad = fails();  // the descriptor is gone all the same, as POSIX allows and Linux does
    int code = (int)syscall(SYS_close, file);
    return bad ? -1 : code;
}

// The parameter names keep clear of the header's attributes.
int rename(const char *from, const char *to) {
    return fails() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    int mode = va_arg(args, int);
    va_end(args);
    return fails() ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

// ---- a folder of its own for each test

static char folder[64], path[128];

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/lverse-fault-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int files_in_folder(void) {
    DIR *dir = opendir(folder);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static float weights[4096];

static bool save(float first, LvError *error) {
    weights[0] = first;
    LvTensor tensors[] = {{"a", LV_F32, {1, {1024}}, weights, 4096}, {"b", LV_F32, {2, {64, 48}}, weights + 1024, 4 * 64 * 48}};
    LvMetadata about = {"lverse.train", "{}"};
    return lv_checkpoint_write(in("last.safetensors"), tensors, 2, &about, 1, error);
}

static float saved(void) {
    LvTensorFile *file;
    LvError error = {0};
    if (!lv_checkpoint_read(in("last.safetensors"), false, &file, &error)) fail_msg("%s", error.message);
    float first = *(const float *)lv_safetensors_find(file, "a")->data;
    lv_safetensors_free(file);
    return first;
}

static void checkpoint_calls(void **state) {
    (void)state;
    LvError error = {0};
    assert_true(save(1, &error));
    for (int k = 0;; k++) {
        countdown = k;
        bool good = save(2, &error);
        bool reached = countdown < 0;
        countdown = -1;
        assert_int_equal(files_in_folder(), 1);
        if (good) assert_true(saved() == 2);
        else {
            assert_non_null(strstr(error.message, "last.safetensors"));
            assert_non_null(strstr(error.message, "No space left on device"));
            float now = saved();
            assert_true(now == 1 || now == 2);
            lv_error_clear(&error);
        }
        if (!reached) break;
        assert_true(k < 100);
        assert_true(save(1, &error));
    }
}

static void file_calls(void **state) {
    (void)state;
    LvError error = {0};
    assert_true(lv_file_write(in("f"), "old", 3, &error));
    for (int k = 0;; k++) {
        countdown = k;
        bool good = lv_file_write(in("f"), "newer", 5, &error);
        bool reached = countdown < 0;
        countdown = -1;
        char *data;
        size_t length;
        assert_int_equal(files_in_folder(), 1);
        assert_true(lv_file_read(in("f"), 100, &data, &length, NULL));
        assert_true(!strcmp(data, "newer") || (!good && !strcmp(data, "old")));
        free(data);
        lv_error_clear(&error);
        if (!reached) break;
        assert_true(k < 100);
        assert_true(lv_file_write(in("f"), "old", 3, &error));
    }
}

// ---- a full disk, by the limit on a file's size

static void limit(rlim_t bytes) {
    struct rlimit value = {bytes, RLIM_INFINITY};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &value), 0);
}

static void full_checkpoint(void **state) {
    (void)state;
    LvError error = {0};
    assert_true(save(1, &error));
    for (rlim_t bytes = 0; bytes < 16384; bytes += 1500) {
        limit(bytes);
        bool good = save(2, &error);
        limit(RLIM_INFINITY);
        assert_false(good);
        assert_non_null(strstr(error.message, "last.safetensors"));
        lv_error_clear(&error);
        assert_true(saved() == 1);
        assert_int_equal(files_in_folder(), 1);
    }
}

static void full_pictures(void **state) {
    (void)state;
    LvError error = {0};
    LvPicture picture;
    LvPoint points[] = {{1, 1}, {2, 2}};
    LvCurve curve = {"", points, points, 2, 2, "v"};
    assert_true(lv_picture_alloc(&picture, 64, 64, &error));
    for (int i = 0; i < 64 * 64 * 3; i++) picture.pixels[i] = (uint8_t)(i * i >> 3);
    limit(100);
    bool saved_one = lv_picture_save_png(&picture, in("a.png"), &error);
    lv_error_clear(&error);
    bool drawn = lv_curve_draw(&curve, in("c.png"), &error);
    lv_error_clear(&error);
    limit(RLIM_INFINITY);
    lv_picture_free(&picture);
    assert_false(saved_one);
    assert_false(drawn);
    assert_int_equal(files_in_folder(), 0);
}

static void full_logs(void **state) {
    (void)state;
    LvError error = {0};
    LvText row = {0};
    LvLog *log;
    LvEvents *events;
    assert_true(lv_log_open(in("log.jsonl"), 0, &log, &error));
    assert_true(lv_events_open(folder, 1, &events, &error));
    lv_row_integer(&row, "step", 1);
    limit(200);
    bool logged = true, recorded = true;
    for (int i = 0; i < 100; i++) {
        logged = logged && lv_log_write(log, &row, &error);
        recorded = recorded && lv_events_scalar(events, i, "loss", 1, &error) && lv_events_flush(events, &error);
        lv_error_clear(&error);
    }
    lv_events_close(events);
    limit(RLIM_INFINITY);
    lv_log_close(log);
    lv_text_free(&row);
    assert_false(logged);
    assert_false(recorded);
    // what the full disk cut off goes at the next opening
    assert_true(lv_log_open(in("log.jsonl"), 5, &log, &error));
    lv_log_close(log);
    char *data;
    size_t length;
    assert_true(lv_file_read(in("log.jsonl"), 1000, &data, &length, &error));
    assert_true(length > 0 && data[length - 1] == '\n');
    free(data);
}

int main(void) {
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(checkpoint_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(file_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(full_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(full_pictures, setup, teardown),
        cmocka_unit_test_setup_teardown(full_logs, setup, teardown),
    };
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
