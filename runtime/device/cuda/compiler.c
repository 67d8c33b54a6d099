// NVRTC. It need not even be installed where everything is in the cache already: which version was used last, for which
// architecture, and what its file looked like (size, time of change) are kept there, and while that file is the same its version is
// known without loading it.
//
// CUBIN is asked for, which every driver of the same major version loads. For an architecture that NVRTC does not know it makes PTX
// of the newest that it knows, which the driver compiles on.
#include "device/cuda/compiler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "io/cache.h"

enum { MOST_OPTIONS = 8, MOST_ARCHITECTURES = 128, MOST_THREADS = 64 };

static const char *const shared_options[] = {"--std=c++17", "-default-device", "--disable-warnings"};
enum { SHARED_OPTIONS = sizeof shared_options / sizeof *shared_options };

bool cuda_compiler_makes_ptx(const CudaCompiler *compiler) { return !strncmp(compiler->target, "compute_", 8); }

static const char *contraction(bool contract) { return contract ? "--fmad=true" : "--fmad=false"; }

void cuda_compiler_print_key(const CudaCompiler *compiler, bool contract, LvText *out) {
    lv_text_printf(out, "NVRTC %d.%d %s %s", compiler->major, compiler->minor, compiler->target, contraction(contract));
    for (int i = 0; i < SHARED_OPTIONS; i++) lv_text_printf(out, " %s", shared_options[i]);
}

// ---- what is remembered

// "MAJOR MINOR TARGET SIZE TIME PATH"
static char *record_path(const LvCuda *gpu) {
    char key[33], number[64];
    if (!gpu->cache_dir) return NULL;
    snprintf(number, sizeof number, "driver %d sm %d", gpu->version, gpu->sm);
    const char *parts[] = {"nvrtc in use 1", number};
    lv_cache_key(key, parts, 2);
    LvText path = {0};
    lv_text_printf(&path, "%s/%s.nvrtc", gpu->cache_dir, key);
    return path.data;
}

// `same`: the file it tells of is there and unchanged.
static bool read_record(LvCuda *gpu, bool *same) {
    CudaCompiler *c = gpu->compiler;
    char *path = record_path(gpu), *text = NULL;
    size_t length;
    long long size = 0, changed = 0;
    int at = 0;
    struct stat info;
    bool good = path && lv_cache_read(path, &text, &length) &&
                sscanf(text, "%d %d %23s %lld %lld %n", &c->major, &c->minor, c->target, &size, &changed, &at) == 5 && at > 0;
    *same = good && stat(text + at, &info) == 0 && info.st_size == size && info.st_mtime == changed;
    free(path);
    free(text);
    return good;
}

static void write_record(LvCuda *gpu) {
    CudaCompiler *c = gpu->compiler;
    char *path = record_path(gpu);
    struct stat info;
    if (path && stat(c->library.path, &info) == 0) {
        LvText text = {0};
        lv_text_printf(&text, "%d %d %s %lld %lld %s", c->major, c->minor, c->target, (long long)info.st_size,
                       (long long)info.st_mtime, c->library.path);
        lv_cache_write(path, text.data, text.length);
        lv_text_free(&text);
    }
    free(path);
}

bool cuda_compiler_find(LvCuda *gpu, LvError *error) {
    if (!gpu->compiler) gpu->compiler = lv_calloc(1, sizeof *gpu->compiler);
    if (gpu->compiler->known) return true;
    CudaCompiler *c = gpu->compiler;
    bool same, recorded = read_record(gpu, &same);
    CudaCompiler before = *c;
    if (!same && !cuda_compiler_load(gpu, error)) {
        if (!recorded) return false;
        // it is gone; what it made is still good
        c->major = before.major, c->minor = before.minor;
        memcpy(c->target, before.target, sizeof c->target);
        lv_error_clear(error);
    }
    return c->known = true;
}

// ---- loading it

static bool report_missing(LvCuda *gpu, LvError *error) {
    CudaLibrary other = {0};
    if (cuda_library_open(CUDA_NVRTC, 0, &other)) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the driver (CUDA %d.%d) is too old for the NVRTC that is installed, %s",
                     gpu->version / 1000, gpu->version % 1000 / 10, other.path);
        lv_error_hint(error, "a newer driver, or NVRTC of CUDA %d", gpu->version / 1000);
        cuda_library_close(&other);
        return false;
    }
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "NVRTC (%s), which compiles the kernels, is not installed",
                 cuda_library_file(CUDA_NVRTC));
    return lv_error_hint(error, "%s; its folder may stand in LD_LIBRARY_PATH or CUDA_HOME", cuda_library_package(CUDA_NVRTC));
}

// The GPU's own architecture, or the newest before it.
static bool choose_target(LvCuda *gpu, LvError *error) {
    CudaCompiler *c = gpu->compiler;
    int count = 0, best = 0, list[MOST_ARCHITECTURES] = {0};
    if (c->nvrtc.nvrtcGetNumSupportedArchs(&count) != NVRTC_OK || count > MOST_ARCHITECTURES ||
        c->nvrtc.nvrtcGetSupportedArchs(list) != NVRTC_OK)
        count = 0;
    for (int i = 0; i < count; i++)
        if (list[i] <= gpu->sm && list[i] > best) best = list[i];
    if (best < CUDA_OLDEST_SM) {
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "NVRTC %d.%d knows no architecture between sm_%d and the GPU's sm_%d",
                            c->major, c->minor, CUDA_OLDEST_SM, gpu->sm);
    }
    bool own = best == gpu->sm;
    snprintf(c->target, sizeof c->target, "%s_%d%s", own ? "sm" : "compute", best, own ? nvrtc_suffix(best) : "");
    return true;
}

bool cuda_compiler_load(LvCuda *gpu, LvError *error) {
#define X(type, name, parameters) {#name, offsetof(Nvrtc, name)},
    static const CudaSymbol symbols[] = {NVRTC_FUNCTIONS(X)};
#undef X
    if (!gpu->compiler) gpu->compiler = lv_calloc(1, sizeof *gpu->compiler);
    CudaCompiler *c = gpu->compiler;
    if (c->library.handle) return true;
    if (!cuda_library_open(CUDA_NVRTC, gpu->version / 1000, &c->library)) return report_missing(gpu, error);
    const char *missing = cuda_library_fill(&c->library, symbols, sizeof symbols / sizeof *symbols, &c->nvrtc);
    bool good = false;
    if (missing) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "%s has no function '%s': CUDA 12 or 13 is needed", c->library.path, missing);
        lv_error_hint(error, "%s", cuda_library_package(CUDA_NVRTC));
    } else if (c->nvrtc.nvrtcVersion(&c->major, &c->minor) != NVRTC_OK) {
        lv_error_set(error, LV_ERROR_DEVICE, "%s does not tell its version", c->library.path);
    } else if (c->major > gpu->version / 1000) {
        report_missing(gpu, error);
    } else {
        good = choose_target(gpu, error);
    }
    if (!good) {
        cuda_library_close(&c->library);
        return false;
    }
    c->known = true;
    write_record(gpu);
    return true;
}

void cuda_compiler_close(LvCuda *gpu) {
    if (gpu->compiler) cuda_library_close(&gpu->compiler->library);
    free(gpu->compiler);
    gpu->compiler = NULL;
}

// ---- compiling

// Threads take the units one after the other.
typedef struct {
    const CudaCompiler *compiler;
    CudaUnit *units;
    int count;
    atomic_int next;
} Work;

static void take_binary(const CudaCompiler *c, NvrtcProgram program, CudaUnit *unit) {
    bool ptx = cuda_compiler_makes_ptx(c);
    unit->result = ptx ? c->nvrtc.nvrtcGetPTXSize(program, &unit->length) : c->nvrtc.nvrtcGetCUBINSize(program, &unit->length);
    if (unit->result != NVRTC_OK) return;
    unit->binary = lv_calloc(unit->length + 1, 1);
    unit->result = ptx ? c->nvrtc.nvrtcGetPTX(program, unit->binary) : c->nvrtc.nvrtcGetCUBIN(program, unit->binary);
    if (unit->result == NVRTC_OK && unit->length) return;
    free(unit->binary);
    unit->binary = NULL;
}

static void take_log(const CudaCompiler *c, NvrtcProgram program, CudaUnit *unit) {
    size_t bytes = 0;
    if (c->nvrtc.nvrtcGetProgramLogSize(program, &bytes) != NVRTC_OK) bytes = 0;
    unit->log = lv_calloc(bytes + 1, 1);
    if (bytes) c->nvrtc.nvrtcGetProgramLog(program, unit->log);
}

static void compile(const CudaCompiler *c, CudaUnit *unit) {
    NvrtcProgram program = NULL;
    char architecture[48];
    const char *options[MOST_OPTIONS];
    int count = 0;
    snprintf(architecture, sizeof architecture, "--gpu-architecture=%s", c->target);
    options[count++] = architecture;
    options[count++] = contraction(unit->contract);
    for (int i = 0; i < SHARED_OPTIONS; i++) options[count++] = shared_options[i];
    unit->result = c->nvrtc.nvrtcCreateProgram(&program, unit->text, unit->name, 0, NULL, NULL);
    if (unit->result != NVRTC_OK) return;
    unit->result = c->nvrtc.nvrtcCompileProgram(program, count, options);
    take_log(c, program, unit);
    if (unit->result == NVRTC_OK) take_binary(c, program, unit);
    c->nvrtc.nvrtcDestroyProgram(&program);
}

static void *take_units(void *user) {
    Work *work = user;
    for (int i; (i = atomic_fetch_add(&work->next, 1)) < work->count;) compile(work->compiler, &work->units[i]);
    return NULL;
}

int cuda_compiler_threads(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > MOST_THREADS ? MOST_THREADS : (int)cores;
}

bool cuda_compiler_run(LvCuda *gpu, CudaUnit *units, int count, LvError *error) {
    pthread_t threads[MOST_THREADS];
    int wanted = cuda_compiler_threads(), started = 0;
    if (!cuda_compiler_load(gpu, error)) return false;
    Work work = {.compiler = gpu->compiler, .units = units, .count = count};
    // this one works too; where no other can be had, alone
    while (started < wanted - 1 && started < count - 1 && pthread_create(&threads[started], NULL, take_units, &work) == 0)
        started++;
    take_units(&work);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    bool good = true;
    for (int i = 0; i < count; i++) good = good && units[i].binary;
    return good;
}

void cuda_unit_free(CudaUnit *unit) {
    free(unit->binary);
    free(unit->log);
    *unit = (CudaUnit){0};
}
