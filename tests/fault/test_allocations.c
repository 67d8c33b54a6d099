// Memory runs out at the k-th allocation, for every k: readers of outside bytes end with an error, or with the one line and
// exit code 1 that arenas and containers promise; never by a signal. Each k is a process of its own.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "data/picture.h"
#include "io/safetensors.h"
#include "io/yaml.h"

#ifndef LV_SANITIZE

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static long countdown = -1;  // allocations that still go well; -1: all do

static bool fails(void) {
    return countdown >= 0 && (countdown == 0 || countdown-- == 0);  // once it failed, memory stays exhausted
}

void *malloc(size_t size) {
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return fails() ? NULL : __libc_realloc(old, size);
}

typedef bool Work(LvError *error);

static char *bytes;
static size_t length;

// Runs `work` in a child whose k-th allocation fails, k = 0, 1, …, until it needs no more.
static void every_allocation(const char *what, Work *work) {
    for (long k = 0; k < 20000; k += k < 300 ? 1 : 37) {
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            LvError error = {0};
            static const int deaths[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS};  // cmocka would catch them
            for (int i = 0; i < 5; i++) signal(deaths[i], SIG_DFL);
            if (!freopen("/dev/null", "w", stderr)) _exit(9);
            countdown = k;
            bool good = work(&error);
            bool enough = countdown > 0;
            _exit(good && enough ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFSIGNALED(status)) fail_msg("%s, allocation %ld: ended by signal %d", what, k, WTERMSIG(status));
        if (WEXITSTATUS(status) == 0) return;
        if (WEXITSTATUS(status) != 1) fail_msg("%s, allocation %ld: exit code %d", what, k, WEXITSTATUS(status));
    }
    fail_msg("%s: it never had enough", what);
}

static bool read_yaml(LvError *error) {
    LvYaml yaml;
    bool good = lv_yaml_parse(bytes, length, "c.yaml", &yaml, error);
    if (good) lv_yaml_free(&yaml);
    return good;
}

static bool read_tensors(LvError *error) {
    LvTensorFile *file;
    bool good = lv_safetensors_parse(bytes, length, &file, error);
    if (good) lv_safetensors_free(file);
    return good;
}

static bool read_picture(LvError *error) {
    LvPicture picture;
    bool good = lv_picture_decode(&picture, bytes, length, error);
    if (good) lv_picture_free(&picture);
    return good;
}

static void take(const char *text) {
    bytes = lv_strdup(text);
    length = strlen(text);
}

static void take_file(const char *name) {
    LvText path = {0};
    LvError error = {0};
    lv_text_printf(&path, "%s/%s", LV_SOURCE_DIR, name);
    if (!lv_file_read(path.data, 1 << 26, &bytes, &length, &error)) fail_msg("%s", error.message);
    lv_text_free(&path);
}

static void yaml(void **state) {
    (void)state;
    take("epochs: 30\nname: a b\nch_mult: [1, 2, 4]\nlevels:\n- 64\n- '32'\nrate: .5\nuse_attn: no\n");
    every_allocation("yaml", read_yaml);
    free(bytes);
}

static void tensors(void **state) {
    (void)state;
    take_file("tests/fuzz/corpus/safetensors/small");
    every_allocation("safetensors", read_tensors);
    free(bytes);
}

// Not lossless WebP: libwebp 1.2 itself reads through a null pointer when its tables of codes find no memory.
static void pictures(void **state) {
    (void)state;
    static const char *const names[] = {"rgba.png", "palette.png", "colour.jpg", "progressive.jpg", "cmyk.jpg", "lossy.webp", "palette.bmp", "grey.pgm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "tests/unit/pictures/%s", names[i]);
        take_file(name);
        every_allocation(name, read_picture);
        free(bytes);
    }
}

#endif

int main(void) {
#ifdef LV_SANITIZE
    printf("TAP version 13\n1..1\nok 1 - allocations # SKIP the sanitizer's own allocator\n");
    return 0;
#else
    const struct CMUnitTest tests[] = {cmocka_unit_test(yaml), cmocka_unit_test(tensors), cmocka_unit_test(pictures)};
    return cmocka_run_group_tests_name("allocations", tests, NULL, NULL);
#endif
}
