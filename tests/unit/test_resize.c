// Resampling against Pillow 13, bit for bit (hashes of its results), windows against the whole, and the transforms.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/resize.h"
#include "data/transforms.h"

// Byte i of the test picture: (7 i^2 + 13 i) / 8, low 8 bits.
static LvPicture pattern(int width, int height) {
    LvPicture picture;
    assert_true(lv_picture_alloc(&picture, width, height, NULL));
    for (uint64_t i = 0; i < (uint64_t)width * (uint64_t)height * 3; i++) picture.pixels[i] = (uint8_t)((i * i * 7 + i * 13) >> 3);
    return picture;
}

static uint64_t hash_of(const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash;
}

static const struct {
    int width, height, to_width, to_height;
    LvFilter filter;
    uint64_t hash;
} cases[] = {
    {17, 13, 5, 4, LV_FILTER_BICUBIC, 0x6F5F563CDA3DFED2ULL},
    {17, 13, 5, 4, LV_FILTER_BILINEAR, 0x7CBA008293844E61ULL},
    {17, 13, 5, 4, LV_FILTER_LANCZOS, 0x96E40B1231AAD235ULL},
    {17, 13, 5, 4, LV_FILTER_BOX, 0xD83FB15B12C4D556ULL},
    {136, 128, 68, 64, LV_FILTER_BICUBIC, 0x3306C58AA892E68FULL},
    {136, 128, 68, 64, LV_FILTER_BILINEAR, 0x8442249A733E6B2AULL},
    {5, 7, 31, 29, LV_FILTER_BICUBIC, 0x2A2B70FBA04668C2ULL},
    {5, 7, 31, 29, LV_FILTER_LANCZOS, 0x89689DBFC3C83221ULL},
    {40, 90, 20, 45, LV_FILTER_BICUBIC, 0x807AFB8CCFD0BD49ULL},
    {90, 40, 45, 20, LV_FILTER_BILINEAR, 0x1863052E34B87916ULL},
    {30, 30, 30, 11, LV_FILTER_BICUBIC, 0x6D3658DA22B7A06AULL},
    {30, 30, 11, 30, LV_FILTER_BICUBIC, 0x126DF2C78F9BE082ULL},
    {1, 1, 8, 8, LV_FILTER_BICUBIC, 0x720C02AD5C0FE925ULL},
    {100, 3, 7, 3, LV_FILTER_LANCZOS, 0x9B67D00C4A4F494DULL},
    {16, 200, 64, 4, LV_FILTER_BICUBIC, 0xD6FE4B9E7820AAF1ULL},
};

static void test_like_pillow(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        LvPicture picture = pattern(cases[i].width, cases[i].height), out;
        assert_true(lv_resize(&picture, cases[i].to_width, cases[i].to_height, cases[i].filter, &out, NULL));
        if (hash_of(out.pixels, (size_t)out.width * (size_t)out.height * 3) != cases[i].hash) fail_msg("case %zu differs", i);
        lv_picture_free(&picture);
        lv_picture_free(&out);
    }
}

static void test_windows(void **state) {
    (void)state;
    LvPicture picture = pattern(50, 37), whole;
    for (int filter = 0; filter < 4; filter++) {
        static const int sizes[][2] = {{20, 15}, {90, 80}, {50, 12}, {11, 37}, {50, 37}, {80, 4}};
        for (int s = 0; s < 6; s++) {
            int w = sizes[s][0], h = sizes[s][1];
            assert_true(lv_resize(&picture, w, h, (LvFilter)filter, &whole, NULL));
            LvBox window = {w / 4, h / 4, w / 2, h / 2}, all = {0, 0, 50, 37};
            uint8_t *part = malloc((size_t)(window.width * window.height * 3));
            lv_resize_window(&picture, all, w, h, window, (LvFilter)filter, part);
            for (int y = 0; y < window.height; y++) {
                assert_memory_equal(part + y * window.width * 3, whole.pixels + ((window.y + y) * w + window.x) * 3, (size_t)window.width * 3);
            }
            free(part);
            lv_picture_free(&whole);
        }
    }
    lv_picture_free(&picture);
}

// A box is as if the picture had been cut first: what lies outside does not bleed in.
static void test_box(void **state) {
    (void)state;
    LvPicture picture = pattern(40, 30), cut;
    LvBox box = {7, 5, 16, 16};
    assert_true(lv_picture_alloc(&cut, 16, 16, NULL));
    for (int y = 0; y < 16; y++) memcpy(cut.pixels + y * 48, picture.pixels + ((5 + y) * 40 + 7) * 3, 48);
    uint8_t direct[8 * 8 * 3];
    LvPicture want;
    lv_transform_random(&picture, box, 8, LV_FILTER_BICUBIC, direct);
    assert_true(lv_resize(&cut, 8, 8, LV_FILTER_BICUBIC, &want, NULL));
    assert_memory_equal(direct, want.pixels, sizeof direct);
    lv_picture_free(&picture);
    lv_picture_free(&cut);
    lv_picture_free(&want);
}

static void test_crops(void **state) {
    (void)state;
    double mean = 0;
    for (uint64_t sample = 0; sample < 2000; sample++) {
        LvDraws draws = {7, 3, sample};
        LvBox box = lv_crop_random(100, 90, 0.75, 1.0, &draws), again = lv_crop_random(100, 90, 0.75, 1.0, &draws);
        assert_memory_equal(&box, &again, sizeof box);
        assert_true(box.x >= 0 && box.y >= 0 && box.x + box.width <= 100 && box.y + box.height <= 90);
        assert_int_equal(box.width, box.height);
        mean += box.width / 2000.0;
    }
    assert_true(mean > 82 && mean < 90);  // squares of 82 to 90: larger ones are drawn again
    LvDraws draws = {1, 1, 1};
    LvBox box = lv_crop_random(300, 20, 0.75, 1.0, &draws);  // no square holds three quarters of it
    assert_true(box.width == 20 && box.height == 20 && box.x == 140 && box.y == 0);
}

static void test_floats(void **state) {
    (void)state;
    uint8_t rgb[2 * 2 * 3] = {0, 255, 51, 1, 2, 3, 4, 5, 6, 7, 8, 9}, back[12];
    uint8_t bytes[12], mirrored[12];
    float planes[12];
    lv_transform_to_planes(rgb, 2, false, bytes);
    lv_transform_to_planes(rgb, 2, true, mirrored);
    lv_transform_to_floats(bytes, 12, planes);
    assert_true(planes[0] == -1.0f && planes[4] == 1.0f && planes[8] == 51 / 127.5f - 1.0f);
    assert_true(mirrored[1] == bytes[0] && mirrored[0] == bytes[1] && mirrored[3] == bytes[2]);
    lv_transform_to_bytes(planes, 2, back);
    assert_memory_equal(rgb, back, 12);
    float wild[3] = {NAN, 9.0f, -9.0f};
    lv_transform_to_bytes(wild, 1, back);
    assert_true(back[0] == 0 && back[1] == 255 && back[2] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_pillow), cmocka_unit_test(test_windows), cmocka_unit_test(test_box),
        cmocka_unit_test(test_crops), cmocka_unit_test(test_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
