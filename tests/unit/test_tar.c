// The tar reader over archives made here: plain, ustar prefix, GNU long names, pax; and damaged ones.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "data/tar.h"

static void seal(char *header) {
    unsigned sum = 0;
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum & 0777777u);
}

static void add(LvText *tar, const char *prefix, const char *name, char type, const char *content, size_t size) {
    char header[512] = {0}, zeros[512] = {0};
    memcpy(header, name, strnlen(name, 100));
    memcpy(header + 100, "0000644", 8);
    snprintf(header + 124, 12, "%011zo", size);
    header[156] = type;
    memcpy(header + 257, "ustar\00000", 8);
    memcpy(header + 345, prefix, strnlen(prefix, 155));
    seal(header);
    lv_text_append(tar, header, 512);
    lv_text_append(tar, content, size);
    lv_text_append(tar, zeros, (512 - size % 512) % 512);
}

static void finish(LvText *tar) {
    char zeros[1024] = {0};
    lv_text_append(tar, zeros, sizeof zeros);
}

typedef struct {
    LvText lines;
    const char *bytes;
    int count;
} Seen;

static bool note(void *user, const LvTarMember *member) {
    Seen *seen = user;
    lv_text_printf(&seen->lines, "%s=%.*s\n", member->name, (int)member->size, seen->bytes + member->offset);
    seen->count++;
    return true;
}

static bool list(const char *bytes, size_t length, Seen *seen, LvError *error) {
    const void *holder;
    LvTarInput input = lv_tar_memory(bytes, length, &holder);
    *seen = (Seen){.bytes = bytes};
    return lv_tar_list(&input, note, seen, error);
}

static LvText sample_tar(void) {
    LvText tar = {0};
    char name[300];
    memset(name, 'n', 299), name[299] = 0;
    add(&tar, "", "a/", '5', "", 0);
    add(&tar, "", "a/one.txt", '0', "1", 1);
    add(&tar, "some/where", "two.txt", '0', "22", 2);
    add(&tar, "", "././@LongLink", 'L', name, 300);
    add(&tar, "", "short", '0', "333", 3);
    static const char pax[] = "18 path=pax/4.txt\n9 size=4\n";
    add(&tar, "", "PaxHeaders/4", 'x', pax, sizeof pax - 1);
    add(&tar, "", "cut", '0', "4444", 4);
    add(&tar, "", "link", '2', "", 0);
    add(&tar, "", "last", '0', "", 0);
    finish(&tar);
    return tar;
}

static void test_names(void **state) {
    (void)state;
    LvText tar = sample_tar();
    Seen seen;
    LvError error = {0};
    if (!list(tar.data, tar.length, &seen, &error)) fail_msg("%s", error.message);
    char want[512], name[300];
    memset(name, 'n', 299), name[299] = 0;
    snprintf(want, sizeof want, "a/one.txt=1\nsome/where/two.txt=22\n%s=333\npax/4.txt=4444\nlast=\n", name);
    assert_string_equal(lv_text_get(&seen.lines), want);
    lv_text_free(&seen.lines);
    lv_text_free(&tar);
}

static void test_truncated(void **state) {
    (void)state;
    LvText tar = sample_tar();
    for (size_t cut = 0; cut < tar.length; cut += 37) {
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, tar.data, cut);
        Seen seen;
        LvError error = {0};
        bool good = list(copy, cut, &seen, &error);
        if (!good) assert_non_null(strstr(error.message, "at byte"));
        lv_error_clear(&error);
        lv_text_free(&seen.lines);
        free(copy);
    }
    lv_text_free(&tar);
}

static void test_noise(void **state) {
    (void)state;
    LvText tar = sample_tar();
    uint32_t random = 7;
    for (int round = 0; round < 3000; round++) {
        char *copy = malloc(tar.length);
        memcpy(copy, tar.data, tar.length);
        random = random * 1664525u + 1013904223u;
        size_t header = (random >> 8) % (tar.length / 512) * 512;
        for (int k = 0; k < 2; k++) {
            random = random * 1664525u + 1013904223u;
            copy[header + (random >> 8) % 512] = (char)(random >> 24);
        }
        seal(copy + header);  // so that it is believed
        Seen seen;
        LvError error = {0};
        list(copy, tar.length, &seen, &error);
        lv_error_clear(&error);
        lv_text_free(&seen.lines);
        free(copy);
    }
    lv_text_free(&tar);
}

static void expect(const LvText *tar, const char *message, int members) {
    Seen seen;
    LvError error = {0};
    assert_false(list(tar->data, tar->length, &seen, &error));
    assert_string_equal(error.message, message);
    assert_int_equal(seen.count, members);
    lv_error_clear(&error);
    lv_text_free(&seen.lines);
}

static void test_damage(void **state) {
    (void)state;
    LvText tar = {0};
    add(&tar, "", "one", '0', "1", 1);
    add(&tar, "", "two", '0', "2", 1);
    tar.data[1024] = 'x';  // the second header no longer sums up
    expect(&tar, "tar: damaged header at byte 1024", 1);
    tar.data[1024] = 't';
    memcpy(tar.data + 1024 + 124, "77777777777", 12);
    seal(tar.data + 1024);
    expect(&tar, "tar: ends too early: a member is cut off at byte 1536", 1);
    memset(tar.data + 1024 + 124, 0xFF, 12);  // base 256, negative
    seal(tar.data + 1024);
    expect(&tar, "tar: damaged size at byte 1536", 1);
    lv_text_free(&tar);
    LvText pax = {0};
    static const char lies[] = "999 path=x\n";
    add(&pax, "", "p", 'x', lies, sizeof lies - 1);
    expect(&pax, "tar: damaged pax header at byte 512", 0);
    lv_text_free(&pax);
    LvText noise = {0};
    for (int i = 0; i < 2000; i++) lv_text_putc(&noise, (char)(i * 31 + 1));
    expect(&noise, "tar: is no tar file: damaged header at byte 0", 0);
    lv_text_free(&noise);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_truncated), cmocka_unit_test(test_noise), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
