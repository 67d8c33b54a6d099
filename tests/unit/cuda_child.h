// What tests of the CUDA backend share. Each runs in a process of its own: after a fault nothing works in the one that had it, and the
// stand-ins of tests/cuda_sim read their settings once. Without a GPU, real or simulated, they are skipped.
#ifndef LV_TEST_CUDA_CHILD_H
#define LV_TEST_CUDA_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/device.h"

enum { CHILD_GOOD = 0, CHILD_BAD = 1, CHILD_ERROR = 2, CHILD_NO_GPU = 77 };

#define child_require(condition)                                                          \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);       \
            fflush(stderr);                                                               \
            _exit(CHILD_BAD);                                                             \
        }                                                                                 \
    } while (0)

// Says what the error is and ends, where something that must work does not.
static inline void child_must(bool good, const LvError *error) {
    if (good) return;
    fprintf(stderr, "%s%s%s\n", error->message ? error->message : "an error without a message", error->hint ? "; " : "",
            error->hint ? error->hint : "");
    fflush(stderr);
    _exit(CHILD_BAD);
}

// The first GPU; `auto` would give the CPU where one is missing.
static inline LvDevice *child_open(void) {
    LvDevice *device = NULL;
    LvError error = {0};
    child_must(lv_device_open("cuda", 0, &device, &error), &error);
    return device;
}

// Of the sanitized build: _exit, which leaves the parent's streams alone, would not look for leaks.
extern void __lsan_do_leak_check(void) __attribute__((weak));

// The code with which `body` ends, what it returns or one of those above. A signal is bad.
static inline int child_run(int body(void *user), void *user) {
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child == 0) {
        int code = body(user);
        if (__lsan_do_leak_check) __lsan_do_leak_check();
        _exit(code);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return CHILD_BAD;
    if (WIFSIGNALED(status)) fprintf(stderr, "killed by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_BAD;
}

static inline int child_look_for_gpu(void *user) {
    LvDevice *device = NULL;
    LvError error = {0};
    (void)user;
    if (!lv_device_open("cuda", 0, &device, &error)) return CHILD_NO_GPU;
    lv_device_close(device);
    return CHILD_GOOD;
}

// A cmocka test's body: skipped without a GPU.
static inline void child_test(int body(void *user), void *user) {
    if (child_run(child_look_for_gpu, NULL) != CHILD_GOOD) skip();
    assert_int_equal(child_run(body, user), CHILD_GOOD);
}

// Whether it is the stand-ins that answer: they can be told to fail.
static inline bool child_simulated(void) {
    const char *path = getenv("LD_LIBRARY_PATH");
    return path && strstr(path, "cuda_sim") != NULL;
}

#endif
