// Runs the tests, each in a process of its own, since an error of a device lasts: test_cuda_sim [NAME...]
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

TestApi api;

bool test_open(void) {
    CuDevice device;
    CuContext context;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *nvrtc = dlopen("libnvrtc.so.13", RTLD_NOW), *lt = dlopen("libcublasLt.so.13", RTLD_NOW);
    if (!driver || !nvrtc || !lt) return printf("# %s\n", dlerror()), false;
#define X(type, name, parameters)                                                    \
    api.name = (type(*) parameters)(uintptr_t)dlsym(library, #name);                 \
    if (!api.name) return printf("# no function %s\n", #name), false;
    void *library = driver;
    CU_FUNCTIONS(X)
    TEST_MORE_FUNCTIONS(X)
    library = nvrtc;
    NVRTC_FUNCTIONS(X)
    library = lt;
    LT_FUNCTIONS(X)
#undef X
    return !api.cuInit(0) && !api.cuDeviceGet(&device, 0) && !api.cuDevicePrimaryCtxRetain(&context, device) && !api.cuCtxSetCurrent(context);
}

bool test_build(const char *text, const char *name, CuFunction *function) {
    const char *const options[] = {"--gpu-architecture=sm_90a", "--std=c++17"};
    NvrtcProgram program;
    CuModule module;
    size_t bytes;
    if (api.nvrtcCreateProgram(&program, text, "test.cu", 0, NULL, NULL)) return false;
    if (api.nvrtcCompileProgram(program, 2, options)) {
        api.nvrtcGetProgramLogSize(program, &bytes);
        char *log = malloc(bytes);
        api.nvrtcGetProgramLog(program, log);
        fprintf(stderr, "%s", log);
        return false;
    }
    api.nvrtcGetCUBINSize(program, &bytes);
    char *cubin = malloc(bytes);
    if (!cubin || api.nvrtcGetCUBIN(program, cubin) || api.nvrtcDestroyProgram(&program)) return false;
    const bool ok = !api.cuModuleLoadData(&module, cubin) && !api.cuModuleGetFunction(function, module, name);
    free(cubin);
    return ok;
}

CuPointer test_room(size_t bytes) {
    CuPointer memory = 0;
    if (api.cuMemAlloc_v2(&memory, bytes)) abort();
    return memory;
}

CuPointer test_put(const void *data, size_t bytes) {
    const CuPointer memory = test_room(bytes);
    if (api.cuMemcpyHtoDAsync_v2(memory, data, bytes, NULL)) abort();
    return memory;
}

bool test_get(void *data, CuPointer from, size_t bytes) {
    return !api.cuStreamSynchronize(NULL) && !api.cuMemcpyDtoHAsync_v2(data, from, bytes, NULL) && !api.cuStreamSynchronize(NULL);
}

float test_number(uint64_t i) {
    i = (i + 1) * 0x9E3779B97F4A7C15u;
    i = (i ^ i >> 31) * 0xBF58476D1CE4E5B9u;
    return (float)((int)(i >> 58) - 32) / 32.0f;
}

// ---- running

typedef struct {
    int status;       // of the process; -1: died
    char said[4096];  // on stderr
    char noted[4096]; // on stdout
} Outcome;

static void drain(int from, char *text, size_t room) {
    size_t at = 0;
    char rest[512];
    for (;;) {
        char *to = at + 1 < room ? text + at : rest;
        const ssize_t n = read(from, to, at + 1 < room ? room - 1 - at : sizeof rest);
        if (n <= 0) break;
        if (to != rest) at += (size_t)n;
    }
    text[at] = 0;
    close(from);
}

static Outcome in_process(const TestKernel *kernel, const char *text, const char *check, const TestCase *test) {
    Outcome outcome = {.status = -1};
    int said[2], noted[2], status;
    if (pipe(said) || pipe(noted)) abort();
    fflush(stdout);
    const pid_t pid = fork();
    if (!pid) {
        dup2(said[1], 2), dup2(noted[1], 1);
        close(said[0]), close(noted[0]), close(said[1]), close(noted[1]);
        if (check) setenv("LV_CUDA_SIM_CHECK", check, 1);
        for (int i = 0; test && i < 4 && test->environment[i]; i++) putenv((char *)(uintptr_t)test->environment[i]);
        int result;
        if (test) result = test->run() ? 0 : 1;
        else result = test_open() ? (int)kernel->run(text) : 3;
        fflush(NULL);
        _exit(result);
    }
    close(said[1]), close(noted[1]);
    drain(said[0], outcome.said, sizeof outcome.said);
    drain(noted[0], outcome.noted, sizeof outcome.noted);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
    return outcome;
}

static int failures;

static void say(bool ok, const char *name, const char *what, const char *why) {
    char line[256];
    snprintf(line, sizeof line, "%s%s%s", name, what ? "." : "", what ? what : "");
    for (char *c = line; *c; c++) {
        if (*c == ' ') *c = '_';
    }
    if (ok) printf("ok cuda_sim/%s\n", line);
    else printf("not ok cuda_sim/%s: %s\n", line, why);
    failures += !ok;
}

static char *changed(const char *text, const TestMutation *m) {
    const char *at = strstr(text, m->from);
    char *out = at ? malloc(strlen(text) + strlen(m->to) + 1) : NULL;
    if (out) sprintf(out, "%.*s%s%s", (int)(at - text), text, m->to, at + strlen(m->from));
    return out;
}

static void run_kernel(const TestKernel *kernel) {
    static const char *const checks[] = {"0", "1", "2"}, *const names[] = {"unchecked", NULL, "checked for more"};
    Outcome o;
    for (int i = 0; i < 3; i++) {
        o = in_process(kernel, kernel->text, checks[i], NULL);
        say(o.status == TEST_RIGHT && !o.said[0], kernel->name, names[i], o.status == TEST_WRONG ? "wrong values" : o.said[0] ? o.said : "an error");
        if (o.noted[0]) printf("%s", o.noted);
    }
    for (const TestMutation *m = kernel->mutations; m && m->what; m++) {
        char *text = changed(kernel->text, m);
        if (!text) {
            say(false, kernel->name, m->what, "the text has no such place");
            continue;
        }
        o = in_process(kernel, text, "2", NULL);
        const bool failed = o.status == TEST_WRONG || o.status == TEST_FAULT;
        say(failed && (!m->said || strstr(o.said, m->said)), kernel->name, m->what,
            o.status == TEST_RIGHT ? "nothing was noticed" : failed ? o.said : "the process died");
        if (o.said[0]) printf("# %s", o.said);
        free(text);
    }
}

static void run_case(const TestCase *c) {
    const Outcome o = in_process(NULL, NULL, NULL, c);
    say(!o.status, c->name, NULL, o.status < 0 ? "the process died" : o.noted[0] ? o.noted + 2 : o.said);
    if (o.said[0]) printf("# %s", o.said);
}

static bool is_wanted(const char *name, char **wanted) {
    if (!*wanted) return true;
    for (; *wanted; wanted++) {
        if (!strcmp(*wanted, name)) return true;
    }
    return false;
}

int main(int count, char **arguments) {
    const TestKernel *const lists[] = {test_threads, test_matrices};
    const TestCase *const cases[] = {test_host, test_dnn, test_nccl};
    (void)count;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (const TestKernel *k = lists[i]; k->name; k++) {
            if (is_wanted(k->name, arguments + 1)) run_kernel(k);
        }
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (const TestCase *c = cases[i]; c->name; c++) {
            if (is_wanted(c->name, arguments + 1)) run_case(c);
        }
    }
    return failures ? 1 : 0;
}
