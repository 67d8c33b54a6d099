// A plan run end to end on the CPU, and the cache of compiled kernels when the world is unkind.
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "exec/weights.h"
#include "io/cache.h"
#include "small_plan.h"

typedef struct {
    LvPlan *plan;
    LvDevice *device;
    LvStore *store;
    LvProgram *program;
} Run;

static const float x[8] = {1, 2, 3, 4, -1, -2, -3, -4}, w[3] = {1, -1, 2}, b[3] = {0, 0.5f, -1};

static bool start(Run *run, LvError *error) {
    *run = (Run){.plan = small_plan()};
    return lv_device_open("cpu", 2, &run->device, error) && lv_store_create(run->device, run->plan, &run->store, error) &&
           lv_store_write(run->store, lv_store_find(run->store, "conv.weight"), w, sizeof w, error) &&
           lv_store_write(run->store, lv_store_find(run->store, "conv.bias"), b, sizeof b, error) &&
           lv_program_create(run->device, run->plan, run->store, &run->program, error);
}

static void stop(Run *run) {
    lv_program_destroy(run->program);
    lv_store_destroy(run->store);
    if (run->device) lv_device_close(run->device);
    lv_plan_destroy(run->plan);
}

// Runs it and checks the numbers; gives how many kernels were compiled.
static int run_once(void) {
    Run run;
    LvError error = {0};
    float y[2], loss, gradient[3];
    if (!start(&run, &error)) fail_msg("%s", error.message);
    assert_true(lv_program_set_input(run.program, "x", x, sizeof x, &error));
    lv_program_profile(run.program, true);
    if (!lv_program_run(run.program, &error)) fail_msg("%s", error.message);
    assert_true(lv_program_get_result(run.program, "y", y, sizeof y, &error));
    assert_true(lv_program_get_result(run.program, "loss", &loss, sizeof loss, &error));
    for (int i = 0; i < 2; i++) {
        float want = 0;
        for (int c = 0; c < 3; c++) {
            for (int k = 0; k < 4; k++) {
                float h = x[i * 4 + k] * w[c] + b[c];
                want += h > 0 ? h : 0;
            }
        }
        assert_float_equal(y[i], want, 1e-5);  // alpha 2 times 0.5
    }
    assert_float_equal(loss, (y[0] + y[1]) * 0.1f, 1e-5);
    assert_true(lv_program_get_gradient(run.program, 0, gradient, sizeof gradient, &error));
    assert_memory_equal(gradient, b, sizeof b);
    assert_false(lv_program_get_gradient(run.program, 1, gradient, sizeof gradient, &error));
    assert_false(lv_program_set_input(run.program, "x", x, 4, &error));
    assert_false(lv_program_set_input(run.program, "z", x, 4, &error));
    assert_true(lv_program_set_input(run.program, "$seed", x, 8, &error));
    assert_true(lv_program_step_seconds(run.program, 0) > 0);
    int compiled = lv_program_info(run.program).kernels_compiled;
    assert_int_equal(compiled + lv_program_info(run.program).kernels_cached, 1);
    stop(&run);
    lv_error_clear(&error);
    return compiled;
}

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/lv_test_cache_XXXXXX");
    unsetenv("LV_CC");
    return mkdtemp(folder) ? setenv("LV_CACHE_DIR", folder, 1) : -1;
}

static int remove_folder(void **state) {
    (void)state;
    DIR *dir = opendir(folder);
    char path[512];
    for (struct dirent *item; dir && (item = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        unlink(path);
    }
    if (dir) closedir(dir);
    rmdir(folder);
    return 0;
}

// The one shared object in the cache; nothing else may be left there.
static void find_object(char path[512]) {
    DIR *dir = opendir(folder);
    int count = 0;
    for (struct dirent *item; (item = readdir(dir));) {
        if (item->d_name[0] == '.' || strstr(item->d_name, ".ref")) continue;
        assert_non_null(strstr(item->d_name, ".so"));
        snprintf(path, 512, "%s/%s", folder, item->d_name);
        count++;
    }
    closedir(dir);
    assert_int_equal(count, 1);
}

static void test_cached(void **state) {
    (void)state;
    assert_int_equal(run_once(), 1);
    assert_int_equal(run_once(), 0);
}

// Cut, altered, empty, replaced by nonsense: compiled again, and whole again.
static void test_torn(void **state) {
    (void)state;
    char path[512];
    assert_int_equal(run_once(), 1);
    find_object(path);
    for (int harm = 0; harm < 4; harm++) {
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        if (harm == 0) assert_int_equal(truncate(path, info.st_size / 2), 0);
        if (harm == 1) assert_int_equal(truncate(path, 0), 0);
        if (harm >= 2) {
            FILE *file = fopen(path, harm == 2 ? "r+" : "w");
            fseek(file, harm == 2 ? info.st_size / 3 : 0, SEEK_SET);
            fputs("nonsense", file);
            fclose(file);
        }
        assert_int_equal(run_once(), 1);
        assert_int_equal(run_once(), 0);
    }
}

// One more kernel: only that is compiled.
static void test_added(void **state) {
    (void)state;
    Run run;
    LvError error = {0};
    assert_int_equal(run_once(), 1);
    if (!start(&run, &error)) fail_msg("%s", error.message);
    LvKernelText two[2] = {run.plan->kernels[0], {"twice", "void twice(char *const *b, const LvScalar *s) { *(float *)b[0] *= (float)s[0].f; }\n"}};
    run.plan->kernels = two;
    run.plan->kernel_count = 2;
    LvProgram *program = NULL;
    if (!lv_program_create(run.device, run.plan, run.store, &program, &error)) fail_msg("%s", error.message);
    assert_int_equal(lv_program_info(program).kernels_compiled, 1);
    assert_int_equal(lv_program_info(program).kernels_cached, 1);
    lv_program_destroy(program);
    two[1].text = "this is no C";
    assert_false(lv_program_create(run.device, run.plan, run.store, &program, &error));
    assert_non_null(strstr(error.message, "error"));
    lv_error_clear(&error);
    stop(&run);
}

static void expect_failure(const char *words, const char *hint) {
    Run run;
    LvError error = {0};
    assert_false(start(&run, &error));
    if (!strstr(error.message, words)) fail_msg("not in \"%s\": %s", error.message, words);
    if (!error.hint || !strstr(error.hint, hint)) fail_msg("not in hint \"%s\": %s", error.hint ? error.hint : "", hint);
    assert_int_equal(error.kind, LV_ERROR_DEVICE);
    lv_error_clear(&error);
    stop(&run);
}

static void test_no_compiler(void **state) {
    (void)state;
    setenv("LV_CC", "no-such-compiler -O1", 1);
    expect_failure("no C compiler: 'no-such-compiler'", "LV_CC");
    unsetenv("LV_CC");
}

static void test_failing_compiler(void **state) {
    (void)state;
    char script[512];
    snprintf(script, sizeof script, "%s/cc.so", folder);
    FILE *file = fopen(script, "w");
    fputs("#!/bin/sh\necho 'first words of the compiler' >&2\nexit 3\n", file);
    fclose(file);
    chmod(script, 0755);
    setenv("LV_CC", script, 1);
    expect_failure("first words of the compiler", "LV_CC");
    unsetenv("LV_CC");
    char path[512];
    find_object(path);  // only the script: nothing of the failed attempt stays
    assert_string_equal(path, script);
}

// A file of the cache as old as so many hours.
static void make_old(const char *name, int64_t bytes, int hours) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(truncate(path, bytes), 0);
    struct timespec times[2] = {{.tv_sec = time(NULL) - 3600 * hours}, {.tv_sec = time(NULL) - 3600 * hours}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool is_there(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void remove_file(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
}

// What was used longest ago makes room; what is not the cache's own stays; a use counts.
static void test_bounded(void **state) {
    (void)state;
    static const char *const names[] = {"00112233445566778899aabbccddeeff.so", "10112233445566778899aabbccddeeff.plan",
                                        "20112233445566778899aabbccddeeff.so.tmp.1", "notes.txt"};
    char used[512];
    setenv("LV_CACHE_SIZE", "1M", 1);
    for (int i = 0; i < 4; i++) make_old(names[i], 600000, 9 - i);
    assert_int_equal(lv_cache_size(folder), 1800000);
    assert_int_equal(run_once(), 1);  // adds some 20 kB
    assert_false(is_there(names[0]) || is_there(names[1]));
    assert_true(is_there(names[2]) && is_there(names[3]));
    assert_int_equal(run_once(), 0);
    remove_file(names[2]), remove_file(names[3]);
    find_object(used);
    make_old(names[0], 990000, 5);
    struct timespec old[2] = {{.tv_sec = time(NULL) - 7200 * 5}, {.tv_sec = time(NULL) - 7200 * 5}};
    assert_int_equal(utimensat(AT_FDCWD, used, old, 0), 0);
    assert_int_equal(run_once(), 0);  // found, and thereby new again
    lv_cache_trim(folder);
    assert_false(is_there(names[0]));
    assert_int_equal(run_once(), 0);
    setenv("LV_CACHE_SIZE", "1", 1);
    lv_cache_trim(folder);
    assert_int_equal(lv_cache_size(folder), 0);
    assert_int_equal(run_once(), 1);
    setenv("LV_CACHE_SIZE", "many", 1);
    assert_int_equal(lv_cache_limit(), 2000000000);
    unsetenv("LV_CACHE_SIZE");
}

static void test_no_cache(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/file.so", folder);
    fclose(fopen(path, "w"));
    snprintf(path, sizeof path, "%s/file.so/below", folder);
    setenv("LV_CACHE_DIR", path, 1);
    assert_int_equal(run_once(), 1);
    assert_int_equal(run_once(), 1);
    setenv("LV_CACHE_DIR", folder, 1);
}

static void test_store_files(void **state) {
    (void)state;
    Run run;
    LvError error = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/w.so", folder);
    if (!start(&run, &error)) fail_msg("%s", error.message);
    assert_true(lv_store_save(run.store, 1u << LV_VARIABLE_PARAM, path, (LvMetadata[]){{"format", "pt"}}, 1, &error));
    float zero[3] = {0}, back[3];
    assert_true(lv_store_write(run.store, 0, zero, sizeof zero, &error));
    LvTensorFile *file = NULL;
    LvLoadReport report;
    assert_true(lv_safetensors_read(path, &file, &error));
    assert_string_equal(lv_safetensors_metadata(file, "format"), "pt");
    assert_true(lv_store_load(run.store, file, NULL, &report, &error));
    assert_int_equal(report.loaded, 2);
    assert_int_equal(report.missing + report.unused, 0);
    assert_true(lv_store_read(run.store, 0, back, sizeof back, &error));
    assert_memory_equal(back, w, sizeof w);
    assert_true(lv_store_load(run.store, file, "vae.", &report, &error));
    assert_int_equal(report.missing, 2);
    assert_false(lv_store_load(run.store, file, "vae.", NULL, &error));
    lv_error_clear(&error);
    lv_safetensors_free(file);
    stop(&run);
}

// A store of other settings is refused.
static void test_other_store(void **state) {
    (void)state;
    Run run;
    LvError error = {0};
    if (!start(&run, &error)) fail_msg("%s", error.message);
    LvProgram *program = NULL;
    run.plan->variables[1].place.offset = 32;
    assert_false(lv_program_create(run.device, run.plan, run.store, &program, &error));
    run.plan->variables[1].place.offset = 64;
    run.plan->variables[1].name = "other";
    assert_false(lv_program_create(run.device, run.plan, run.store, &program, &error));
    lv_error_clear(&error);
    stop(&run);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {CASE(test_cached),      CASE(test_torn),       CASE(test_added),
                                       CASE(test_no_compiler), CASE(test_failing_compiler), CASE(test_no_cache),
                                       CASE(test_bounded),     CASE(test_store_files), CASE(test_other_store)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
