// The run's log: rows, cutting back at a resume, lines that a kill cut off, bytes that are no JSON.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/jsonl.h"

static char path[] = "/tmp/lverse-jsonl-XXXXXX";

static int setup(void **state) {
    (void)state;
    int file = mkstemp(path);
    return file < 0 || close(file);
}

static int teardown(void **state) {
    (void)state;
    return unlink(path);
}

static void expect(const char *text) {
    char *data;
    size_t length;
    LvError error = {0};
    assert_true(lv_file_read(path, 1 << 20, &data, &length, &error));
    assert_string_equal(data, text);
    free(data);
}

static void put(const char *text) {
    LvError error = {0};
    assert_true(lv_file_write(path, text, strlen(text), &error));
}

static void write_step(LvLog *log, int64_t step, double loss) {
    LvText row = {0};
    LvError error = {0};
    lv_row_integer(&row, "step", step);
    lv_row_number(&row, "loss", loss);
    assert_true(lv_log_write(log, &row, &error));
    lv_text_free(&row);
}

static void rows(void **state) {
    (void)state;
    LvLog *log;
    LvError error = {0};
    assert_true(lv_log_open(path, 0, &log, &error));
    write_step(log, 1, 0.5);
    write_step(log, 2, NAN);
    LvText row = {0};
    lv_row_text(&row, "said \"x\"", "line\nend");
    assert_true(lv_log_write(log, &row, &error));
    lv_text_free(&row);
    lv_log_close(log);
    expect("{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": null}\n{\"said \\\"x\\\"\": \"line\\nend\"}\n");
}

static void resume(void **state) {
    (void)state;
    LvLog *log;
    LvError error = {0};
    put("{\"step\": 1}\n{\"note\": true}\nnoise\n{\"step\": 2}\n{\"step\": 3}\n{\"step\": 2, \"val_loss\": 1}\n{\"step\": 3, \"lo");
    assert_true(lv_log_open(path, 2, &log, &error));
    write_step(log, 3, 0.25);
    lv_log_close(log);
    expect("{\"step\": 1}\n{\"note\": true}\n{\"step\": 2}\n{\"step\": 2, \"val_loss\": 1}\n{\"step\": 3, \"loss\": 0.25}\n");
}

static void anew(void **state) {
    (void)state;
    LvLog *log;
    LvError error = {0};
    put("{\"step\": 1}\n");
    assert_true(lv_log_open(path, 0, &log, &error));
    lv_log_close(log);
    expect("");
}

static void no_folder(void **state) {
    (void)state;
    LvLog *log;
    LvError error = {0};
    assert_false(lv_log_open("/nonexistent/log.jsonl", 4, &log, &error));
    assert_string_equal(error.message, "cannot open '/nonexistent/log.jsonl': No such file or directory");
    lv_error_clear(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(resume),
        cmocka_unit_test(anew),
        cmocka_unit_test(no_folder),
    };
    return cmocka_run_group_tests_name("jsonl", tests, setup, teardown);
}
