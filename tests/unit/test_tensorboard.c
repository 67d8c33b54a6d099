// TensorBoard's event files: the checksum's published values, the framing of every record, the messages read back byte by byte.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "io/tensorboard.h"

// RFC 3720, appendix B.4.
static void checksum(void **state) {
    (void)state;
    unsigned char zeros[32] = {0}, ones[32], rising[32];
    memset(ones, 0xFF, sizeof ones);
    for (int i = 0; i < 32; i++) rising[i] = (unsigned char)i;
    assert_int_equal(lv_crc32c(zeros, 32), 0x8A9136AAu);
    assert_int_equal(lv_crc32c(ones, 32), 0x62A8AB43u);
    assert_int_equal(lv_crc32c(rising, 32), 0x46DD794Eu);
    assert_int_equal(lv_crc32c("123456789", 9), 0xE3069283u);
    assert_int_equal(lv_crc32c("", 0), 0);
}

static uint64_t little(const unsigned char *p, int bytes) {
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | p[i];
    return value;
}

static uint32_t masked(const void *data, size_t length) {
    uint32_t c = lv_crc32c(data, length);
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static uint64_t varint(const unsigned char **p) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        value |= (uint64_t)(**p & 127) << shift;
        if (!(*(*p)++ & 128)) return value;
    }
}

// The fields of a message as text: "2:7 5:{1:{1:"loss" 2:f0.5}}"; `nested` names the submessages by their path of field numbers.
static void describe(LvText *out, const unsigned char *p, size_t length, const char *path) {
    const unsigned char *end = p + length;
    for (bool first = true; p < end; first = false) {
        uint64_t tag = varint(&p);
        int field = (int)(tag >> 3), wire = (int)(tag & 7);
        char here[64];
        snprintf(here, sizeof here, "%s%d.", path, field);
        if (field == 1 && !*path) {  // wall_time: not the same twice
            p += 8;
            lv_text_puts(out, "time");
            continue;
        }
        lv_text_printf(out, "%s%d:", first ? "" : " ", field);
        if (wire == 0) lv_text_printf(out, "%llu", (unsigned long long)varint(&p));
        else if (wire == 5) {
            float value;
            memcpy(&value, p, 4);
            p += 4;
            lv_text_printf(out, "f%g", (double)value);
        } else {
            assert_int_equal(wire, 2);
            size_t n = (size_t)varint(&p);
            assert_true(n <= (size_t)(end - p));
            if (!strcmp(here, "5.") || !strcmp(here, "5.1.") || !strcmp(here, "5.1.4.") || !strcmp(here, "7.")) {
                lv_text_puts(out, "{");
                describe(out, p, n, here);
                lv_text_puts(out, "}");
            } else if (n > 40) {
                lv_text_printf(out, "%.3s...", (const char *)p + 1);
            } else {
                lv_text_printf(out, "\"%.*s\"", (int)n, (const char *)p);
            }
            p += n;
        }
    }
    assert_true(p == end);
}

static char *only_file(const char *folder) {
    DIR *dir = opendir(folder);
    struct dirent *entry;
    LvText path = {0};
    int count = 0;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.') continue;
        assert_int_equal(strncmp(entry->d_name, "events.out.tfevents.", 20), 0);
        lv_text_printf(&path, "%s/%s", folder, entry->d_name);
        count++;
    }
    closedir(dir);
    assert_int_equal(count, 1);
    return path.data;
}

static void expect_events(const char *folder, const char *const *wanted, int count) {
    char *path = only_file(folder), *data;
    size_t length;
    LvError error = {0};
    assert_true(lv_file_read(path, 1 << 20, &data, &length, &error));
    const unsigned char *p = (const unsigned char *)data, *end = p + length;
    for (int i = 0; i < count; i++) {
        assert_true(end - p >= 16);
        size_t n = (size_t)little(p, 8);
        assert_int_equal(little(p + 8, 4), masked(p, 8));
        assert_true(n <= (size_t)(end - p) - 16);
        assert_int_equal(little(p + 12 + n, 4), masked(p + 12, n));
        LvText text = {0};
        describe(&text, p + 12, n, "");
        assert_string_equal(text.data, wanted[i]);
        lv_text_free(&text);
        p += n + 16;
    }
    assert_true(p == end);
    free(data);
    unlink(path);
    free(path);
    assert_int_equal(rmdir(folder), 0);
}

static void events(void **state) {
    (void)state;
    char folder[] = "/tmp/lverse-events-XXXXXX";
    assert_non_null(mkdtemp(folder));
    LvEvents *out;
    LvError error = {0};
    assert_true(lv_events_open(folder, 1, &out, &error));
    assert_true(lv_events_scalar(out, 7, "loss", 0.5, &error));
    LvPicture picture;
    assert_true(lv_picture_alloc(&picture, 5, 3, &error));
    memset(picture.pixels, 99, 45);
    assert_true(lv_events_picture(out, 300, "val", &picture, &error));
    lv_picture_free(&picture);
    assert_true(lv_events_flush(out, &error));
    lv_events_close(out);
    const char *wanted[] = {"time 3:\"brain.Event:2\"", "time 2:7 5:{1:{1:\"loss\" 2:f0.5}}",
                            "time 2:300 5:{1:{1:\"val\" 4:{1:3 2:5 3:3 4:PNG...}}}"};
    expect_events(folder, wanted, 3);
}

static void resumed(void **state) {
    (void)state;
    char folder[] = "/tmp/lverse-events-XXXXXX";
    assert_non_null(mkdtemp(folder));
    LvEvents *out;
    LvError error = {0};
    assert_true(lv_events_open(folder, 41, &out, &error));
    lv_events_close(out);
    const char *wanted[] = {"time 3:\"brain.Event:2\"", "time 2:41 7:{1:1}"};
    expect_events(folder, wanted, 2);
}

static void no_folder(void **state) {
    (void)state;
    LvEvents *out = NULL;
    LvError error = {0};
    assert_false(lv_events_open("/nonexistent/folder", 1, &out, &error));
    assert_non_null(strstr(error.message, "/nonexistent/folder/events.out.tfevents."));
    lv_error_clear(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum),
        cmocka_unit_test(events),
        cmocka_unit_test(resumed),
        cmocka_unit_test(no_folder),
    };
    return cmocka_run_group_tests_name("tensorboard", tests, NULL, NULL);
}
