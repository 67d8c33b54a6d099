// Every format against pixels that Pillow decoded (pictures/NAME_SUFFIX.ppm), and every kind of damage.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "data/picture.h"

static const char *const pictures[] = {
    "rgba.png", "rgb.png", "grey_alpha.png", "palette.png", "bits.png", "grey16.png", "colour.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg",
    "lossy.webp", "lossless.webp", "animated.webp", "rgb.bmp", "palette.bmp", "bits.bmp", "grey.pgm",
};
enum { PICTURES = sizeof pictures / sizeof *pictures };

static void path_of(char out[512], const char *name) { snprintf(out, 512, "%s/tests/unit/pictures/%s", LV_SOURCE_DIR, name); }

static void read_bytes(const char *name, char **bytes, size_t *length) {
    char path[512];
    path_of(path, name);
    assert_true(lv_file_read(path, 1 << 20, bytes, length, NULL));
}

static void test_formats(void **state) {
    (void)state;
    for (int i = 0; i < PICTURES; i++) {
        char path[512], expected[512];
        LvPicture got, want;
        LvError error = {0};
        path_of(path, pictures[i]);
        path_of(expected, pictures[i]);
        *strrchr(expected, '.') = '_';
        strcat(expected, ".ppm");
        if (!lv_picture_load(&got, path, &error)) fail_msg("%s", error.message);
        assert_true(lv_picture_load(&want, expected, &error));
        assert_int_equal(got.width, 17);
        assert_int_equal(got.height, 13);
        if (memcmp(got.pixels, want.pixels, 17 * 13 * 3)) fail_msg("%s differs from what Pillow reads", pictures[i]);
        lv_picture_free(&got);
        lv_picture_free(&want);
    }
}

// Cut anywhere: an error or (after the last pixel) the picture; never a crash. Sanitizers watch.
static void test_truncated(void **state) {
    (void)state;
    for (int i = 0; i < PICTURES; i++) {
        char *bytes;
        size_t length;
        read_bytes(pictures[i], &bytes, &length);
        for (size_t cut = 0; cut < length; cut++) {
            char *exact = malloc(cut + 1);  // its own block, so that reading past the cut is seen
            memcpy(exact, bytes, cut);
            char *copy = realloc(exact, cut ? cut : 1);
            LvPicture picture;
            LvError error = {0};
            bool good = lv_picture_decode(&picture, copy, cut, &error);
            if (!good) assert_true(error.message && !picture.pixels);
            if (cut < length / 2) assert_false(good);
            lv_picture_free(&picture);
            lv_error_clear(&error);
            free(copy);
        }
        free(bytes);
    }
}

static void test_noise(void **state) {
    (void)state;
    uint32_t random = 1;
    for (int i = 0; i < PICTURES; i++) {
        char *bytes;
        size_t length;
        read_bytes(pictures[i], &bytes, &length);
        for (int round = 0; round < 200; round++) {
            char *copy = malloc(length);
            memcpy(copy, bytes, length);
            for (int k = 0; k < 3; k++) {
                random = random * 1664525u + 1013904223u;
                copy[(random >> 8) % length] = (char)(random >> 24);
            }
            LvPicture picture;
            LvError error = {0};
            lv_picture_decode(&picture, copy, length, &error);
            lv_picture_free(&picture);
            lv_error_clear(&error);
            free(copy);
        }
        free(bytes);
    }
}

static void expect_error(const void *bytes, size_t length, const char *message) {
    LvPicture picture;
    LvError error = {0};
    assert_false(lv_picture_decode(&picture, bytes, length, &error));
    assert_string_equal(error.message, message);
    assert_null(picture.pixels);
    lv_error_clear(&error);
}

static void test_messages(void **state) {
    (void)state;
    expect_error("", 0, "empty file");
    expect_error("GIF89a..", 8, "is a GIF; JPEG, PNG, WebP, BMP and PNM can be read");
    expect_error("<html>", 6, "is a text (HTML or SVG?); JPEG, PNG, WebP, BMP and PNM can be read");
    expect_error("hello there", 11, "is no picture: JPEG, PNG, WebP, BMP and PNM can be read");
    expect_error("P6 60000 60000 255\n", 19, "PNM: ends too early");
    expect_error("P5 0 4 255\n....", 15, "no pixels: 0 x 4");
    expect_error("P5 2 2 70000\n....", 17, "PNM: damaged header");
    expect_error("P5 99999999999999999999 2 255\n....", 34, "PNM: ends too early");
    char *png;
    size_t length;
    read_bytes("rgb.png", &png, &length);
    memcpy(png + 16, "\0\0\xFF\xFF\0\0\xFF\xFF", 8);  // 65535 x 65535, with the checksum of that
    memcpy(png + 29, "\x91\x83\xB9\x3D", 4);
    LvPicture picture;
    LvError error = {0};
    assert_false(lv_picture_decode(&picture, png, length, &error));
    lv_error_clear(&error);
    free(png);
}

static void test_pnm(void **state) {
    (void)state;
    static const struct { const char *bytes; size_t length; uint8_t first, last; } cases[] = {
        {"P1 # a comment\n2 2\n10\n0 1", 25, 0, 0},
        {"P2\n2 2\n15\n0 5 10 15\n", 20, 0, 255},
        {"P3 1 2 255 1 2 3 4 5 6", 22, 1, 6},
        {"P4 9 2\n\x80\x00\x00\x80", 11, 0, 0},
        {"P5 2 2 65535\n\x00\x00\x80\x00\x01\x00\xFF\xFF", 21, 0, 255},
        {"P6 1 1 255\n\x09\x08\x07", 14, 9, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LvPicture picture;
        LvError error = {0};
        if (!lv_picture_decode(&picture, cases[i].bytes, cases[i].length, &error)) fail_msg("P%zu: %s", i + 1, error.message);
        assert_int_equal(picture.pixels[0], cases[i].first);
        assert_int_equal(picture.pixels[picture.width * picture.height * 3 - 1], cases[i].last);
        lv_picture_free(&picture);
    }
}

// RLE8, 4 x 2 with a palette of three: run of 3, one plain row of 3 padded, end.
static void test_bmp_runs(void **state) {
    (void)state;
    uint8_t bmp[54 + 12 + 16] = "BM";
    bmp[10] = 54 + 12, bmp[14] = 40, bmp[18] = 4, bmp[22] = 2, bmp[26] = 1, bmp[28] = 8, bmp[30] = 1, bmp[46] = 3;
    static const uint8_t palette[12] = {0, 0, 0, 0, 10, 20, 30, 0, 40, 50, 60, 0};
    static const uint8_t runs[] = {3, 1, 1, 2, 0, 0, 0, 3, 1, 2, 0, 0, 0, 1};
    memcpy(bmp + 54, palette, sizeof palette);
    memcpy(bmp + 66, runs, sizeof runs);
    LvPicture picture;
    LvError error = {0};
    if (!lv_picture_decode(&picture, bmp, 66 + sizeof runs, &error)) fail_msg("%s", error.message);
    static const uint8_t want[24] = {30, 20, 10, 60, 50, 40, 0, 0, 0, 0, 0, 0, 30, 20, 10, 30, 20, 10, 30, 20, 10, 60, 50, 40};
    assert_memory_equal(picture.pixels, want, 24);
    lv_picture_free(&picture);
}

static void test_save(void **state) {
    (void)state;
    char path[] = "/tmp/lv-picture-XXXXXX";
    close(mkstemp(path));
    LvPicture out, back;
    LvError error = {0};
    assert_true(lv_picture_alloc(&out, 5, 3, &error));
    for (int i = 0; i < 45; i++) out.pixels[i] = (uint8_t)(i * 5);
    assert_true(lv_picture_save_png(&out, path, &error));
    assert_true(lv_picture_load(&back, path, &error));
    assert_memory_equal(out.pixels, back.pixels, 45);
    lv_picture_free(&out);
    lv_picture_free(&back);
    unlink(path);
    assert_false(lv_picture_load(&back, path, &error));
    assert_non_null(strstr(error.message, path));
    lv_error_clear(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats), cmocka_unit_test(test_truncated), cmocka_unit_test(test_noise), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_pnm), cmocka_unit_test(test_bmp_runs), cmocka_unit_test(test_save),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
