// Kernels: the plan's C text -> shared objects by the system's `cc` -> functions.
// Each kernel has a key, the hash of its text, the prelude, compiler, flags and processor; the cache's KEY.ref names the shared
// object that holds it. Kernels without one are dealt out to a few translation units of about equal length, one for each
// processor core, and compiled in parallel: after an edit of the model only what changed is compiled. A shared object's closing
// footer (io/cache.c) is checked before it is loaded: ELF ignores what follows its sections.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/processor.h"
#include "base/vec.h"
#include "device/cpu/cpu.h"
#include "io/cache.h"

extern char **environ;

typedef void (*KernelFunction)(char *const *buffers, const LvScalar *scalars);

// A shared object in use.
typedef struct {
    char key[33];
    void *handle;
} Library;

struct LvModule {
    LV_VEC(Library) libraries;
    int kernel_count;
    KernelFunction *functions;
};

// -fno-math-errno lets sqrtf be one instruction; contraction to fma is wanted everywhere. No -ffast-math: NaN, infinity
// and the order of sums keep their meaning.
static const char *const compile_flags[] = {"-std=gnu11", "-pipe", "-fno-math-errno", "-fno-trapping-math",
                                            "-ffp-contract=fast", "-ftree-vectorize", "-fopenmp", "-fPIC", "-shared", "-w"};
static const char *const architecture_flags[] = {
    [LV_PROCESSOR_AVX2] = "-march=x86-64-v3", [LV_PROCESSOR_AVX512] = "-march=x86-64-v4", [LV_PROCESSOR_NATIVE] = "-march=native"};
enum { FLAG_COUNT = sizeof compile_flags / sizeof *compile_flags, MAX_UNITS = 16, MAX_COMMAND = 8, SHOWN_LINES = 6 };

typedef struct {
    char *text;    // prelude and kernels
    char key[33];
    char *object;  // path of the shared object
    char *source, *log, *temporary;  // while compiling
    pid_t process;
} Unit;

// $LV_CC, $CC or cc; may hold options ("ccache gcc").
typedef struct {
    char *text, *words[MAX_COMMAND + 1];
    int count;
    char *identity;  // resolved path, size and time of change: another compiler is another key
} Compiler;

static char *find_program(const char *name) {
    char path[PATH_MAX];
    if (strchr(name, '/')) return access(name, X_OK) == 0 ? realpath(name, NULL) : NULL;
    const char *at = getenv("PATH");
    if (!at) at = "/usr/bin:/bin";
    while (*at) {
        size_t length = strcspn(at, ":");
        int n = snprintf(path, sizeof path, "%.*s/%s", (int)length, at, name);
        if (n > 0 && (size_t)n < sizeof path && access(path, X_OK) == 0) return realpath(path, NULL);
        at += length + (at[length] == ':');
    }
    return NULL;
}

static bool find_compiler(Compiler *compiler, LvError *error) {
    const char *command = getenv("LV_CC");
    if (!command || !*command) command = getenv("CC");
    if (!command || !*command) command = "cc";
    *compiler = (Compiler){.text = lv_strdup(command)};
    char *save = NULL;
    for (char *word = strtok_r(compiler->text, " \t", &save); word && compiler->count < MAX_COMMAND;
         word = strtok_r(NULL, " \t", &save)) {
        compiler->words[compiler->count++] = word;
    }
    LvText identity = {0};
    for (int i = 0; i < compiler->count; i++) {
        char *program = find_program(compiler->words[i]);
        struct stat info;
        if (i == 0 && !program) {
            lv_text_free(&identity);
            lv_error_set(error, LV_ERROR_DEVICE, "no C compiler: '%s' is not on the PATH", compiler->words[0]);
            return lv_error_hint(error, "kernels are compiled when a model is first run: install gcc, or name a compiler in LV_CC");
        }
        if (program && stat(program, &info) == 0) {
            lv_text_printf(&identity, "%s %lld %lld ", program, (long long)info.st_size, (long long)info.st_mtime);
        } else {
            lv_text_printf(&identity, "%s ", compiler->words[i]);
        }
        free(program);
    }
    compiler->identity = lv_strdup(lv_text_get(&identity));
    lv_text_free(&identity);
    return true;
}

static void free_compiler(Compiler *compiler) {
    free(compiler->text);
    free(compiler->identity);
}

typedef char Key[33];

// What a load works on.
typedef struct {
    LvCpu *cpu;
    const LvPlan *plan;
    LvModule *module;
    Compiler compiler;
    const char *folder;  // the cache, or a private one
    const char *work;    // the compiler's own files; in memory where that can be had: a busy disk takes a second to delete one
    bool once;  // an entry that runs once is not worth the compiler's time
    bool cache;
    Key *keys;           // [kernel]
    int *unit_of;        // [kernel], -1: found in the cache
    int unit_count;
    Unit units[MAX_UNITS];
} Load;

static void kernel_key(const Load *load, const char *text, Key key) {
    const char *parts[7 + FLAG_COUNT] = {"kernels 3", load->plan->prelude ? load->plan->prelude : "", text, load->compiler.identity,
                                         load->cpu->processor, load->once ? "-O2 -DLV_ONCE" : "-O3", architecture_flags[lv_processor_level()]};
    for (int i = 0; i < FLAG_COUNT; i++) parts[7 + i] = compile_flags[i];
    lv_cache_key(key, parts, 7 + FLAG_COUNT);
}

// Longest first to the shortest unit, so that all take about as long to compile; stable, so that keys repeat.
static void deal_kernels(Load *load, int missing) {
    const LvPlan *plan = load->plan;
    size_t *length = lv_calloc((size_t)plan->kernel_count + 1, sizeof *length), given[MAX_UNITS] = {0};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    load->unit_count = missing < MAX_UNITS ? missing : MAX_UNITS;
    if (cores >= 1 && load->unit_count > cores) load->unit_count = (int)cores;
    for (int k = 0; k < plan->kernel_count; k++) length[k] = load->unit_of[k] < 0 ? 0 : strlen(plan->kernels[k].text) + 1;
    for (int done = 0; done < missing; done++) {
        int best = 0, to = 0;
        for (int k = 1; k < plan->kernel_count; k++) {
            if (length[k] > length[best]) best = k;
        }
        for (int u = 1; u < load->unit_count; u++) {
            if (given[u] < given[to]) to = u;
        }
        load->unit_of[best] = to;
        given[to] += length[best] + 200;
        length[best] = 0;
    }
    free(length);
}

static char *print_path(const char *folder, const char *key, const char *suffix, long number);

static void write_units(Load *load) {
    for (int u = 0; u < load->unit_count; u++) {
        LvText text = {0};
        lv_text_puts(&text, load->plan->prelude ? load->plan->prelude : "");
        lv_text_puts(&text, "\n");
        for (int k = 0; k < load->plan->kernel_count; k++) {
            if (load->unit_of[k] != u) continue;
            lv_text_puts(&text, load->plan->kernels[k].text);
            lv_text_puts(&text, "\n");
        }
        load->units[u].text = text.data;
        kernel_key(load, text.data, load->units[u].key);
        load->units[u].object = print_path(load->folder, load->units[u].key, ".so", 0);
    }
}

static char *print_path(const char *folder, const char *key, const char *suffix, long number) {
    LvText text = {0};
    if (number) lv_text_printf(&text, "%s/%s.%ld%s", folder, key, number, suffix);
    else lv_text_printf(&text, "%s/%s%s", folder, key, suffix);
    return text.data;
}

// Our environment with TMPDIR in the work folder; the caller frees [0] and the array.
static char **make_environment(const char *work) {
    size_t count = 0, kept = 1;
    while (environ[count]) count++;
    char **all = lv_calloc(count + 2, sizeof *all);
    LvText text = {0};
    lv_text_printf(&text, "TMPDIR=%s", work);
    all[0] = text.data;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "TMPDIR=", 7)) all[kept++] = environ[i];
    }
    return all;
}

static bool start_compiler(Unit *unit, const Load *load, LvError *error) {
    long number = (long)getpid();
    const Compiler *compiler = &load->compiler;
    unit->source = print_path(load->work, unit->key, ".c", number);
    unit->log = print_path(load->work, unit->key, ".log", number);
    unit->temporary = print_path(load->work, unit->key, ".tmp.so", number);
    FILE *file = fopen(unit->source, "w");
    bool written = file && fputs(unit->text, file) >= 0;
    if (file && fclose(file) != 0) written = false;
    if (!written) return lv_error_system(error, "cannot write '%s'", unit->source);

    char *argv[MAX_COMMAND + FLAG_COUNT + 9];
    int n = 0;
    for (int i = 0; i < compiler->count; i++) argv[n++] = compiler->words[i];
    for (int i = 0; i < FLAG_COUNT; i++) argv[n++] = (char *)(uintptr_t)compile_flags[i];
    argv[n++] = (char *)(uintptr_t)architecture_flags[lv_processor_level()];
    argv[n++] = load->once ? "-O2" : "-O3";
    if (load->once) argv[n++] = "-DLV_ONCE";
    argv[n++] = "-o";
    argv[n++] = unit->temporary;
    argv[n++] = unit->source;
    argv[n++] = "-lm";
    argv[n] = NULL;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, unit->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    char **environment = make_environment(load->work);
    int failed = posix_spawnp(&unit->process, argv[0], &actions, NULL, argv, environment);
    free(environment[0]);
    free(environment);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        unit->process = 0;
        lv_error_set(error, LV_ERROR_DEVICE, "cannot start the C compiler '%s': %s", argv[0], strerror(failed));
        return lv_error_hint(error, "install gcc, or name a compiler in LV_CC");
    }
    return true;
}

// The first lines of what the compiler said.
static bool report_failure(const Unit *unit, const Compiler *compiler, int status, LvError *error) {
    char *log = NULL;
    size_t length = 0;
    LvError ignored = {0};
    if (!lv_file_read(unit->log, 1 << 24, &log, &length, &ignored)) {
        lv_error_clear(&ignored);
        log = lv_strdup("");
    }
    char *end = log;
    for (int line = 0; line < SHOWN_LINES && *end; line++) end += strcspn(end, "\n"), end += *end == '\n';
    while (end > log && end[-1] == '\n') end--;
    *end = 0;
    LvText how = {0};
    if (WIFSIGNALED(status)) lv_text_printf(&how, "was killed by signal %d", WTERMSIG(status));
    else lv_text_printf(&how, "failed with exit code %d", WEXITSTATUS(status));
    lv_error_set(error, LV_ERROR_DEVICE, "the C compiler '%s' %s on a generated kernel%s%s", compiler->words[0], how.data,
                 *log ? ":\n" : "", log);
    lv_error_hint(error, "the compiler must be a gcc or clang with OpenMP; name another in LV_CC");
    lv_text_free(&how);
    free(log);
    return false;
}

static bool finish_compiler(Unit *unit, const Compiler *compiler, bool cache, LvError *error) {
    int status = 0;
    while (waitpid(unit->process, &status, 0) < 0) {
        if (errno != EINTR) return lv_error_system(error, "cannot wait for the C compiler");
    }
    unit->process = 0;
    if (status != 0) return report_failure(unit, compiler, status, error);
    if (!cache) {
        if (rename(unit->temporary, unit->object) != 0) return lv_error_system(error, "cannot write '%s'", unit->object);
        return true;
    }
    char *data;
    size_t length;
    if (!lv_file_read(unit->temporary, (size_t)1 << 28, &data, &length, error)) return false;
    bool written = lv_cache_write(unit->object, data, length);
    free(data);
    return written || lv_error_system(error, "cannot write '%s'", unit->object);
}

static void clean_unit(Unit *unit) {
    char *paths[] = {unit->source, unit->log, unit->temporary};
    for (int i = 0; i < 3; i++) {
        if (paths[i]) unlink(paths[i]);
        free(paths[i]);
    }
    unit->source = unit->log = unit->temporary = NULL;
}

// Compiles all units at once. The first error is kept; the others are waited for all the same.
static bool compile_units(Load *load, LvError *error) {
    bool good = true;
    for (int u = 0; u < load->unit_count && good; u++) good = start_compiler(&load->units[u], load, error);
    for (int u = 0; u < load->unit_count; u++) {
        LvError other = {0};
        if (load->units[u].process && !finish_compiler(&load->units[u], &load->compiler, load->cache, good ? error : &other)) good = false;
        lv_error_clear(&other);
        clean_unit(&load->units[u]);
    }
    return good;
}

// NULL: dlerror says why.
static void *open_library(LvModule *module, const Key key, const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return NULL;
    Library library = {.handle = handle};
    memcpy(library.key, key, sizeof library.key);
    lv_vec_push(&module->libraries, library);
    return handle;
}

static bool find_symbol(LvModule *module, void *handle, int kernel, const char *name) {
    void *symbol = dlsym(handle, name);
    if (symbol) memcpy(&module->functions[kernel], &symbol, sizeof symbol);
    return symbol != NULL;
}

// The kernel from the shared object that its reference names. A reference without an object, or an object that is torn or
// does not hold the kernel, is as good as none.
static bool find_cached(Load *load, int kernel) {
    char *path = print_path(load->folder, load->keys[kernel], ".ref", 0), *name = NULL;
    size_t length;
    bool known = lv_cache_read(path, &name, &length) && length == 32 && strspn(name, "0123456789abcdef") == 32;
    free(path);
    void *handle = NULL;
    for (size_t i = 0; known && i < load->module->libraries.count; i++) {
        if (!strcmp(load->module->libraries.data[i].key, name)) handle = load->module->libraries.data[i].handle;
    }
    if (known && !handle) {
        path = print_path(load->folder, name, ".so", 0);
        if (lv_cache_verify(path)) {
            Key key;
            memcpy(key, name, sizeof key);
            handle = open_library(load->module, key, path);
        }
        free(path);
    }
    free(name);
    return handle && find_symbol(load->module, handle, kernel, load->plan->kernels[kernel].name);
}

static bool load_units(Load *load, LvError *error) {
    for (int u = 0; u < load->unit_count; u++) {
        void *handle = open_library(load->module, load->units[u].key, load->units[u].object);
        if (!handle) return lv_error_set(error, LV_ERROR_DEVICE, "cannot load compiled kernels: %s", dlerror());
        for (int k = 0; k < load->plan->kernel_count; k++) {
            if (load->unit_of[k] != u) continue;
            if (!find_symbol(load->module, handle, k, load->plan->kernels[k].name)) {
                return lv_error_set(error, LV_ERROR_DEVICE, "the text of kernel '%s' does not define it", load->plan->kernels[k].name);
            }
            char *path = print_path(load->folder, load->keys[k], ".ref", 0);
            if (load->cache) lv_cache_write(path, load->units[u].key, 32);
            free(path);
        }
    }
    return true;
}

// A private folder, for when no cache can be written; its files are gone once loaded.
static char *private_folder(LvError *error) {
    const char *base = getenv("TMPDIR");
    LvText text = {0};
    lv_text_printf(&text, "%s/lverse-XXXXXX", base && *base ? base : "/tmp");
    if (mkdtemp(text.data)) return text.data;
    lv_error_system(error, "no folder for compiled kernels can be written");
    lv_error_hint(error, "name one in LV_CACHE_DIR");
    lv_text_free(&text);
    return NULL;
}

// A folder in memory for the files of one compilation; NULL if there is none.
static char *memory_folder(void) {
    char *path = lv_strdup("/dev/shm/lverse-XXXXXX");
    if (mkdtemp(path)) return path;
    free(path);
    return NULL;
}

static bool build(Load *load, LvLoadInfo *info, LvError *error) {
    int count = load->plan->kernel_count, missing = 0;
    for (int k = 0; k < count; k++) {
        kernel_key(load, load->plan->kernels[k].text, load->keys[k]);
        load->unit_of[k] = load->cache && find_cached(load, k) ? -1 : 0;
        missing += load->unit_of[k] == 0;
    }
    info->compiled = missing;
    info->cached = count - missing;
    if (missing == 0) return true;
    deal_kernels(load, missing);
    write_units(load);
    char *work = load->cache ? memory_folder() : NULL;
    load->work = work ? work : load->folder;
    bool good = compile_units(load, error) && load_units(load, error);
    if (work) rmdir(work);
    free(work);
    if (load->cache) lv_cache_trim(load->folder);
    return good;
}

bool cpu_kernels_load(LvCpu *cpu, const LvPlan *plan, LvModule **out, LvLoadInfo *info, LvError *error) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    *info = (LvLoadInfo){0};
    LvModule *module = lv_calloc(1, sizeof *module);
    module->kernel_count = plan->kernel_count;
    module->functions = lv_calloc((size_t)plan->kernel_count + 1, sizeof *module->functions);
    Load *load = lv_calloc(1, sizeof *load);
    char *made = NULL;
    *load = (Load){.cpu = cpu, .plan = plan, .module = module, .folder = cpu->cache_dir, .cache = cpu->cache_dir != NULL};
    load->once = plan->entry && strcmp(plan->entry, "init") == 0;
    load->keys = lv_calloc((size_t)plan->kernel_count + 1, sizeof *load->keys);
    load->unit_of = lv_calloc((size_t)plan->kernel_count + 1, sizeof *load->unit_of);
    bool good = plan->kernel_count == 0 || find_compiler(&load->compiler, error);
    if (good && plan->kernel_count > 0 && !load->folder) {
        load->folder = made = private_folder(error);
        good = made != NULL;
    }
    good = good && (plan->kernel_count == 0 || build(load, info, error));
    for (int u = 0; u < load->unit_count; u++) {
        if (made && load->units[u].object) unlink(load->units[u].object);
        free(load->units[u].object);
        free(load->units[u].text);
    }
    if (made) rmdir(made);
    free(made);
    free(load->keys);
    free(load->unit_of);
    free_compiler(&load->compiler);
    free(load);
    clock_gettime(CLOCK_MONOTONIC, &end);
    info->seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    if (!good) {
        cpu_kernels_unload(module);
        return false;
    }
    *out = module;
    return true;
}

void cpu_kernels_unload(LvModule *module) {
    if (!module) return;
    for (size_t i = 0; i < module->libraries.count; i++) dlclose(module->libraries.data[i].handle);
    lv_vec_free(&module->libraries);
    free(module->functions);
    free(module);
}

void cpu_kernels_launch(LvModule *module, int kernel, char *const *buffers, const LvScalar *scalars) {
    module->functions[kernel](buffers, scalars);
}
