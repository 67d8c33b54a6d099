// What a run draws: curves and sheets. That they are drawn, where, and that odd numbers do no harm.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "data/picture.h"
#include "io/contact.h"
#include "io/curve.h"
#include "io/sheet.h"

static char folder[] = "/tmp/lverse-curve-XXXXXX";

static int setup(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static char *in(char *path, const char *name) {
    sprintf(path, "%s/%s", folder, name);
    return path;
}

// Pixels that are neither white nor grey.
static int coloured(const char *path) {
    LvPicture picture;
    LvError error = {0};
    int count = 0;
    assert_true(lv_picture_load(&picture, path, &error));
    for (int i = 0; i < picture.width * picture.height; i++) {
        const uint8_t *p = picture.pixels + 3 * i;
        count += abs(p[0] - p[2]) > 24;
    }
    lv_picture_free(&picture);
    return count;
}

static void drawn(void **state) {
    (void)state;
    char path[128];
    LvPoint loss[200], psnr[5];
    for (int i = 0; i < 200; i++) loss[i] = (LvPoint){i + 1, 1.0 / (i + 1)};
    for (int i = 0; i < 5; i++) psnr[i] = (LvPoint){40 * i + 40, 15 + i};
    LvCurve curve = {"run", loss, psnr, 200, 5, "val_psnr (dB)"};
    LvError error = {0};
    assert_true(lv_curve_draw(&curve, in(path, "curve.png"), &error));
    assert_true(coloured(path) > 500);
}

static void odd_numbers(void **state) {
    (void)state;
    char path[128];
    LvPoint loss[] = {{1, NAN}, {2, INFINITY}, {3, 0}, {4, -1}, {5, 1e300}, {6, 1e-300}};
    LvPoint one = {1, 1}, many[] = {{1e15, 3}, {1e15 + 1, 3}};
    LvCurve curves[] = {{"odd", loss, NULL, 6, 0, NULL}, {"one", &one, &one, 1, 1, "v"}, {NULL, loss, loss, 4, 4, "v"},
                        {"far", many, many, 2, 2, "v"}, {"", NULL, &one, 0, 1, "v"}};
    LvError error = {0};
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) assert_true(lv_curve_draw(&curves[i], in(path, "odd.png"), &error));
}

static void from_log(void **state) {
    (void)state;
    char log[128], path[128];
    LvError error = {0};
    const char *rows = "{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": null}\nnoise\n{\"step\": 3, \"loss\": 0.25}\n{\"step\": 3, \"val_psnr\": 20}\n{\"st";
    assert_true(lv_file_write(in(log, "log.jsonl"), rows, strlen(rows), &error));
    assert_true(lv_curve_draw_log(log, "run", in(path, "log.png"), &error));
    assert_true(coloured(path) > 50);
    assert_true(lv_file_write(log, "\n", 1, &error));
    assert_false(lv_curve_draw_log(log, "run", in(path, "none.png"), &error));
    assert_int_equal(access(path, F_OK), -1);
    lv_error_clear(&error);
}

static void nowhere(void **state) {
    (void)state;
    LvPoint one = {1, 1};
    LvCurve curve = {"", &one, NULL, 1, 0, NULL};
    LvError error = {0};
    assert_false(lv_curve_draw(&curve, "/nonexistent/curve.png", &error));
    assert_non_null(strstr(error.message, "/nonexistent/curve.png"));
    lv_error_clear(&error);
}

// Three pairs of 2 x 2, two a row: black above, red below; each pixel where it must be, white between.
static void sheet(void **state) {
    (void)state;
    LvSheet *pairs = lv_sheet_create(2, 2, 3);
    LvPicture picture;
    LvError error = {0};
    float black[12], red[12];
    for (int i = 0; i < 12; i++) black[i] = -1, red[i] = i < 4 ? 1 : -1;
    assert_false(lv_sheet_draw(pairs, &picture, &error));
    lv_error_clear(&error);
    for (int i = 0; i < 5; i++) lv_sheet_add(pairs, black, red);
    assert_int_equal(pairs->count, 3);
    assert_true(lv_sheet_draw(pairs, &picture, &error));
    int counts[3] = {0};  // black, red, white
    for (int i = 0; i < picture.width * picture.height; i++) {
        const uint8_t *p = picture.pixels + 3 * i;
        if (p[0] == 0 && p[1] == 0) counts[0]++;
        else if (p[0] == 255 && p[1] == 0) counts[1]++;
        else if (p[0] == 255 && p[1] == 255) counts[2]++;
    }
    assert_int_equal(counts[0], 12);
    assert_int_equal(counts[1], 12);
    assert_int_equal(counts[2], picture.width * picture.height - 24);
    lv_picture_free(&picture);
    lv_sheet_destroy(pairs);
}

// Pictures of 3 x 3 are enlarged to 129; labels of every kind: none, long, one word wider than the picture, of other scripts,
// bytes that are no UTF-8. The picture's own pixels are where they must be, text is drawn, the limit holds.
static void contact(void **state) {
    (void)state;
    static const char *const labels[] = {
        "", "a red heart", "the quick brown fox jumps over the lazy dog and over and over again until no line is left for it",
        "Donaudampfschifffahrtsgesellschaftskapitaenskajuetenschluessel",
        "\xE7\x8C\xAB \xD0\xBA\xD0\xBE\xD1\x82 \xF0\x9F\x98\xBA",
        "\xFF\xC0\x80 \xED\xA0\x80 \xF4\x90\x80\x80 \xE2\x82", "two\nlines\tand\x01 more", "beyond the limit"};
    char path[128];
    float red[27];
    LvError error = {0};
    for (int i = 0; i < 27; i++) red[i] = i < 9 ? 1 : -1;
    LvContact *sheet = lv_contact_create(3, 3, 7);
    assert_false(lv_contact_save(sheet, in(path, "contact.png"), &error));
    lv_error_clear(&error);
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) lv_contact_add(sheet, red, labels[i]);
    assert_int_equal(lv_contact_count(sheet), 7);
    assert_true(lv_contact_save(sheet, path, &error));
    assert_int_equal(coloured(path), 7 * 129 * 129);
    LvPicture picture;
    assert_true(lv_picture_load(&picture, path, &error));
    assert_int_equal(picture.width, 3 * 137 + 8);
    int dark = 0;
    for (int i = 0; i < picture.width * picture.height; i++) dark += picture.pixels[3 * i] < 128;
    assert_true(dark > 200);
    lv_picture_free(&picture);
    assert_false(lv_contact_save(sheet, "/nonexistent/contact.png", &error));
    assert_non_null(strstr(error.message, "/nonexistent/contact.png"));
    lv_error_clear(&error);
    lv_contact_destroy(sheet);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drawn), cmocka_unit_test(odd_numbers), cmocka_unit_test(from_log), cmocka_unit_test(nowhere), cmocka_unit_test(sheet),
        cmocka_unit_test(contact),
    };
    return cmocka_run_group_tests_name("curve", tests, setup, teardown);
}
