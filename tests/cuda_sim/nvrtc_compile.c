// A text of kernels to a shared object, by g++: text.h and the text through the preprocessor, text_scan.c over what comes out, then
// the compiler with the calls of its sanitizers, which module.c defines. Outcomes are kept by content.
#include "nvrtc_compile.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "text_scan.h"

extern char **environ;

typedef struct {
    const SimSource *source;
    char folder[512], base[640];  // of the cache; of this work's files in it, without an ending
    char library[512];            // libcuda_sim_module.a
    char *log;
} Work;

enum { MOST_ARGUMENTS = 96 };

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t size = 0, room = 0;
    if (!file) return NULL;
    for (size_t got = 1; got; size += got) {
        if (size + 65536 + 1 > room) {
            char *more = realloc(data, room = 2 * room + 65536 + 1);
            if (!more) break;
            data = more;
        }
        got = fread(data + size, 1, 65536, file);
    }
    fclose(file);
    if (data) data[size] = 0;
    *bytes = size;
    return data;
}

// The environment, with messages in English.
static char **surroundings(void) {
    size_t count = 0;
    while (environ[count]) count++;
    char **all = malloc((count + 2) * sizeof *all);
    if (!all) return NULL;
    all[0] = (char *)(uintptr_t)"LC_ALL=C";
    memcpy(all + 1, environ, (count + 1) * sizeof *all);
    return all;
}

// Runs a command with what it says going to BASE.log; its exit status, or -1.
static int run(Work *work, const char *const *arguments) {
    char path[700], **environment = surroundings();
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_t actions;
    snprintf(path, sizeof path, "%s.log", work->base);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (!posix_spawnp(&pid, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments, environment)) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return status;
}

// "name:12:5: error: text" becomes "name(12): error: text"; lines of other forms stay.
static char *as_nvrtc_says(const char *said, const char *name) {
    char *log = malloc(strlen(said) + 2), *to = log;
    const size_t length = strlen(name);
    if (!log) return NULL;
    for (const char *line = said; *line;) {
        const char *end = strchr(line, '\n');
        int number, column, used = 0;
        if (!end) end = line + strlen(line);
        if (!strncmp(line, name, length) && sscanf(line + length, ":%d:%d:%n", &number, &column, &used) == 2 && used) {
            to += sprintf(to, "%s(%d):", name, number);
            line += length + (size_t)used;
        }
        memcpy(to, line, (size_t)(end - line));
        to += end - line;
        *to++ = '\n';
        line = *end ? end + 1 : end;
    }
    *to = 0;
    return log;
}

static bool failed(Work *work, const char *what) {
    char path[700];
    size_t bytes;
    snprintf(path, sizeof path, "%s.log", work->base);
    char *said = read_file(path, &bytes);
    if (said && bytes) work->log = as_nvrtc_says(said, work->source->name);
    else if (asprintf(&work->log, "cuda_sim: %s\n", what) < 0) work->log = NULL;
    free(said);
    return false;
}

static const char *compiler(void) {
    const char *name = getenv("LV_CUDA_SIM_CXX");
    return name && *name ? name : "g++";
}

static bool preprocess(Work *work) {
    const SimSource *s = work->source;
    const char *arguments[MOST_ARGUMENTS];
    char from[700], to[700], architecture[64];
    int n = 0;
    snprintf(from, sizeof from, "%s.cu", work->base);
    snprintf(to, sizeof to, "%s.i", work->base);
    snprintf(architecture, sizeof architecture, "-DLV_SIM_ARCH=%d0", s->architecture);
    FILE *file = fopen(from, "w");
    if (!file) return failed(work, "cannot write into the cache");
    fprintf(file, "#line 1 \"%s\"\n%s\n", s->name, s->text);
    if (fclose(file)) return failed(work, "cannot write into the cache");
    arguments[n++] = compiler();
    const char *const fixed[] = {"-E", "-x", "c++", "-std=c++17", "-w", "-nostdinc", "-include", LV_CUDA_SIM_SOURCE "/text.h", architecture};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) arguments[n++] = fixed[i];
    for (int i = 0; i < s->define_count && n < MOST_ARGUMENTS - 4; i++) arguments[n++] = s->defines[i];
    arguments[n++] = from, arguments[n++] = "-o", arguments[n++] = to, arguments[n] = NULL;
    return !run(work, arguments) || failed(work, "the preprocessor cannot be run");
}

static bool rewrite(Work *work) {
    char from[700], to[700];
    size_t bytes;
    snprintf(from, sizeof from, "%s.i", work->base);
    snprintf(to, sizeof to, "%s.ii", work->base);
    char *text = read_file(from, &bytes);
    FILE *out = text ? fopen(to, "w") : NULL;
    bool ok = out && sim_text_rewrite(text, bytes, out);
    if (out && fclose(out)) ok = false;
    free(text);
    return ok || failed(work, "cannot write into the cache");
}

static bool translate(Work *work) {
    const char *arguments[MOST_ARGUMENTS];
    char from[700], to[700], named[1024];
    int n = 0;
    snprintf(named, sizeof named, "-fdebug-prefix-map=%s.cu=%s", work->base, work->source->name);
    snprintf(from, sizeof from, "%s.ii", work->base);
    snprintf(to, sizeof to, "%s.o", work->base);
    arguments[n++] = compiler();
    const char *const fixed[] = {"-x", "c++-cpp-output", "-std=c++17", "-O1", "-g1", "-gdwarf-4", "-fno-var-tracking", "-w", "-fPIC", "-fvisibility=hidden", "-fno-exceptions",
                                 "-fno-rtti", "-fno-gnu-unique", "-fno-strict-aliasing", "-fwrapv", "-ffp-contract=off", "-fno-math-errno",
                                 "-fno-asynchronous-unwind-tables", "-fno-stack-protector", named, "-c"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) arguments[n++] = fixed[i];
    if (sim_setting("LV_CUDA_SIM_CHECK", 1)) {
        arguments[n++] = "-fsanitize=thread", arguments[n++] = "--param", arguments[n++] = "tsan-instrument-func-entry-exit=0";
        arguments[n++] = "-fsanitize=bounds,integer-divide-by-zero", arguments[n++] = "-fno-sanitize=vptr";
    }
#ifdef __x86_64__
    if (__builtin_cpu_supports("fma")) arguments[n++] = "-mfma";
#endif
    arguments[n++] = from, arguments[n++] = "-o", arguments[n++] = to, arguments[n] = NULL;
    return !run(work, arguments) || failed(work, "the compiler cannot be run");
}

static bool link_object(Work *work, const char *kept) {
    char from[700], to[700];
    snprintf(from, sizeof from, "%s.o", work->base);
    snprintf(to, sizeof to, "%s.so", work->base);
    const char *const arguments[] = {compiler(), "-shared", "-nostartfiles", "-o", to, from, "-Wl,-u,lv_sim_attach", "-Wl,-z,now", "-Wl,--build-id=none",
                                     work->library, "-lm", NULL};
    if (run(work, arguments)) return failed(work, "the linker cannot be run");
    return !rename(to, kept) || failed(work, "cannot write into the cache");
}

static void remove_files(const Work *work) {
    static const char *const endings[] = {".cu", ".i", ".ii", ".o", ".so", ".log"};
    char path[700];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        snprintf(path, sizeof path, "%s%s", work->base, endings[i]);
        unlink(path);
    }
}

static bool find_folders(Work *work) {
    const char *set = getenv("LV_CUDA_SIM_CACHE"), *temporary = getenv("TMPDIR");
    Dl_info info;
    if (set && *set) snprintf(work->folder, sizeof work->folder, "%s", set);
    else snprintf(work->folder, sizeof work->folder, "%s/lv-cuda-sim-%u", temporary && *temporary ? temporary : "/tmp", (unsigned)getuid());
    mkdir(work->folder, 0700);
    if (!dladdr((void *)(uintptr_t)sim_compile, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(work->library, sizeof work->library, "%.*s/libcuda_sim_module.a", slash ? (int)(slash - info.dli_fname) : 1,
             slash ? info.dli_fname : ".");
    return true;
}

// Of all that the outcome depends on; not of this build's flags, so that a sanitized one finds what another has compiled.
static bool key_of(const SimSource *s, char *key, size_t room) {
    uint64_t h[2] = {1, 2};
    char settings[256];
    size_t bytes;
    char *head = read_file(LV_CUDA_SIM_SOURCE "/text.h", &bytes);
    if (!head) return false;
    snprintf(settings, sizeof settings, "%s %d %d %x", compiler(), s->architecture, !!sim_setting("LV_CUDA_SIM_CHECK", 1), LV_CUDA_SIM_FORM);
    for (int i = 0; i < 2; i++) {
        h[i] = sim_hash(settings, strlen(settings), h[i]);
        h[i] = sim_hash(s->name, strlen(s->name), h[i]);
        h[i] = sim_hash(s->text, strlen(s->text), h[i]);
        for (int d = 0; d < s->define_count; d++) h[i] = sim_hash(s->defines[d], strlen(s->defines[d]), h[i]);
        h[i] = sim_hash(head, bytes, h[i]);
    }
    free(head);
    snprintf(key, room, "%016llx%016llx", (unsigned long long)h[0], (unsigned long long)h[1]);
    return true;
}

bool sim_compile(const SimSource *source, char **object, size_t *bytes, char **log) {
    static int works;
    Work work = {.source = source};
    char key[40], kept[640];
    *object = *log = NULL;
    if (!find_folders(&work) || !key_of(source, key, sizeof key)) {
        if (asprintf(log, "cuda_sim: " LV_CUDA_SIM_SOURCE "/text.h cannot be read\n") < 0) *log = NULL;
        return false;
    }
    snprintf(kept, sizeof kept, "%s/%s.so", work.folder, key);
    *object = read_file(kept, bytes);
    if (*object) return true;
    snprintf(work.base, sizeof work.base, "%s/%s.%d.%d", work.folder, key, (int)getpid(), __atomic_fetch_add(&works, 1, __ATOMIC_RELAXED));
    const bool ok = preprocess(&work) && rewrite(&work) && translate(&work) && link_object(&work, kept);
    remove_files(&work);
    *log = work.log;
    if (ok) *object = read_file(kept, bytes);
    return ok && *object;
}
