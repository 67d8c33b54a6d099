// Kernels: the plan's CUDA C++ -> CUBIN by NVRTC -> functions, one a launch.
// As on the CPU, each kernel has a key, the hash of its text, the prelude, NVRTC's version, the architecture and the options; the
// cache's KEY.ref names the binary that holds it. Kernels without one are dealt out to a few programs of about equal length, which
// are compiled side by side: after an edit of a model only what changed is compiled. A binary that is torn or that the driver
// refuses is as good as none, and so is a cache that cannot be written.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/folder.h"
#include "base/vec.h"
#include "device/cuda/compiler.h"
#include "io/cache.h"

// 48 KB of shared memory are everyone's; more has to be asked for.
enum { MOST_UNITS = 128, MOST_KERNELS = 8, UNITS_A_THREAD = 2, FREE_SHARED = 48 << 10, MOST_PARAMETERS = 500, SHOWN_LINES = 6 };

typedef char Key[33];

typedef struct {
    Key key;
    CuModule module;
} Binary;

typedef struct {
    int count;      // of launches
    int *shared;    // [count] bytes of dynamic shared memory, the most that a step asks for
    CuFunction *functions;
} KernelLaunches;

struct LvModule {
    LV_VEC(Binary) binaries;
    int kernel_count;
    KernelLaunches *kernels;
    const char **names;    // [kernel], the plan's
    char *entry;
    CudaScratch *scratch;  // of the plan's steps
    bool tf32;
};

// What a load works on.
typedef struct {
    LvCuda *gpu;
    const LvPlan *plan;
    LvModule *module;
    bool contract;
    LvText compiler;  // its part of the keys
    Key *keys;        // [kernel]
    int *unit_of;     // [kernel], -1: found in the cache
    int unit_count;
    CudaUnit units[MOST_UNITS];
    LvText texts[MOST_UNITS];
} Load;

static char *print_path(const Load *load, const char *key, const char *suffix) {
    LvText text = {0};
    lv_text_printf(&text, "%s/%s%s", load->gpu->cache_dir, key, suffix);
    return text.data;
}

static void print_key(const Load *load, const char *text, Key key) {
    const char *parts[] = {"cuda kernels 1", load->plan->prelude ? load->plan->prelude : "", text, lv_text_get(&load->compiler)};
    lv_cache_key(key, parts, 4);
}

// ---- what launches there are

static bool count_launches(Load *load, LvError *error) {
    const LvPlan *plan = load->plan;
    LvModule *module = load->module;
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        if (step->kernel < 0 || (step->kind != LV_STEP_KERNEL && step->kind != LV_STEP_CONV && step->kind != LV_STEP_LINEAR_LOSS))
            continue;
        if (step->launch_count == 0 || step->operand_count + step->scalar_count >= MOST_PARAMETERS) {
            return lv_error_set(error, LV_ERROR_FORMAT, "step %d, %s: %s", s, step->label ? step->label : "",
                                step->launch_count ? "too many operands for one kernel" : "its kernel has no launches");
        }
        KernelLaunches *kernel = &module->kernels[step->kernel];
        if (kernel->count < step->launch_count) {
            kernel->shared = lv_realloc(kernel->shared, (size_t)step->launch_count, sizeof *kernel->shared);
            for (; kernel->count < step->launch_count; kernel->count++) kernel->shared[kernel->count] = 0;
        }
        for (int i = 0; i < step->launch_count; i++)
            if (kernel->shared[i] < step->launches[i].shared) kernel->shared[i] = step->launches[i].shared;
    }
    for (int k = 0; k < plan->kernel_count; k++)
        module->kernels[k].functions = lv_calloc((size_t)module->kernels[k].count + 1, sizeof(CuFunction));
    return true;
}

static bool find_functions(Load *load, CuModule binary, int index) {
    KernelLaunches *kernel = &load->module->kernels[index];
    for (int i = 0; i < kernel->count; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s_%d", load->plan->kernels[index].name, i);
        if (load->gpu->cu.cuModuleGetFunction(&kernel->functions[i], binary, name) != CU_OK) return false;
    }
    return true;
}

static bool ask_for_shared(Load *load, LvError *error) {
    LvCuda *gpu = load->gpu;
    for (int k = 0; k < load->plan->kernel_count; k++) {
        const KernelLaunches *kernel = &load->module->kernels[k];
        const char *name = load->plan->kernels[k].name;
        for (int i = 0; i < kernel->count; i++) {
            int own = 0;
            CuResult result = gpu->cu.cuFuncGetAttribute(&own, CU_FUNCTION_STATIC_SHARED, kernel->functions[i]);
            if (!cuda_check(gpu, result, error, "kernel '%s'", name)) return false;
            if (kernel->shared[i] == 0 || own + kernel->shared[i] <= FREE_SHARED) continue;
            if (own + kernel->shared[i] > gpu->most_shared) {
                return lv_error_set(error, LV_ERROR_UNSUPPORTED,
                                    "kernel '%s' needs %d bytes of shared memory, a block of this GPU has %d at most", name,
                                    own + kernel->shared[i], gpu->most_shared);
            }
            result = gpu->cu.cuFuncSetAttribute(kernel->functions[i], CU_FUNCTION_DYNAMIC_SHARED, kernel->shared[i]);
            if (!cuda_check(gpu, result, error, "kernel '%s', %d bytes of shared memory", name, kernel->shared[i])) return false;
        }
    }
    return true;
}

// ---- binaries

static CuResult load_binary(Load *load, const Key key, const char *data, LvText *log, CuModule *out) {
    char words[4096] = {0};
    int options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {words, (void *)(uintptr_t)(sizeof words - 1)};
    Binary binary = {0};
    CuResult result = load->gpu->cu.cuModuleLoadDataEx(&binary.module, data, 2, options, values);
    if (result == CU_OK) {
        memcpy(binary.key, key, sizeof binary.key);
        lv_vec_push(&load->module->binaries, binary);
        *out = binary.module;
    } else if (log) {
        lv_text_puts(log, words);
    }
    return result;
}

static bool find_loaded(const LvModule *module, const char *key, CuModule *out) {
    for (size_t i = 0; i < module->binaries.count; i++) {
        if (strcmp(module->binaries.data[i].key, key)) continue;
        *out = module->binaries.data[i].module;
        return true;
    }
    return false;
}

static bool find_cached(Load *load, int kernel) {
    char *path = print_path(load, load->keys[kernel], ".ref"), *name = NULL, *data = NULL;
    size_t length;
    CuModule binary = NULL;
    bool known = lv_cache_read(path, &name, &length) && length == 32 && strspn(name, "0123456789abcdef") == 32;
    free(path);
    if (known && !find_loaded(load->module, name, &binary)) {
        path = print_path(load, name, ".cubin");
        Key key;
        memcpy(key, name, sizeof key);
        known = lv_cache_read(path, &data, &length) && load_binary(load, key, data, NULL, &binary) == CU_OK;
        free(path);
        free(data);
    }
    free(name);
    return known && find_functions(load, binary, kernel);
}

// Returns how many the cache lacks.
static int find_all(Load *load) {
    int missing = 0;
    load->compiler.length = 0;
    cuda_compiler_print_key(load->gpu->compiler, load->contract, &load->compiler);
    for (int k = 0; k < load->plan->kernel_count; k++) {
        print_key(load, load->plan->kernels[k].text, load->keys[k]);
        load->unit_of[k] = load->gpu->cache_dir && find_cached(load, k) ? -1 : 0;
        missing += load->unit_of[k] == 0;
    }
    return missing;
}

// ---- compiling

// Longest first to the shortest program, so that all take about as long; stable, so that keys repeat. Some more programs than
// threads, since length tells little of the time that a kernel takes. The prelude, which each reads, takes a fifth of what a kernel
// does.
static void deal_kernels(Load *load, int missing) {
    const LvPlan *plan = load->plan;
    size_t *length = lv_calloc((size_t)plan->kernel_count + 1, sizeof *length), given[MOST_UNITS] = {0};
    load->unit_count = (missing + MOST_KERNELS - 1) / MOST_KERNELS;
    if (load->unit_count < UNITS_A_THREAD * cuda_compiler_threads()) load->unit_count = UNITS_A_THREAD * cuda_compiler_threads();
    if (load->unit_count > missing) load->unit_count = missing;
    if (load->unit_count > MOST_UNITS) load->unit_count = MOST_UNITS;
    for (int k = 0; k < plan->kernel_count; k++) length[k] = load->unit_of[k] < 0 ? 0 : strlen(plan->kernels[k].text) + 1;
    for (int done = 0; done < missing; done++) {
        int best = 0, to = 0;
        for (int k = 1; k < plan->kernel_count; k++)
            if (length[k] > length[best]) best = k;
        for (int u = 1; u < load->unit_count; u++)
            if (given[u] < given[to]) to = u;
        load->unit_of[best] = to;
        given[to] += length[best] + 200;
        length[best] = 0;
    }
    free(length);
}

// What the compiler says of a kernel then names it, and the line of its own text.
static void print_kernel(const LvKernelText *kernel, LvText *out) {
    lv_text_printf(out, "\n#line 1 \"%s\"\n%s\n", kernel->name, kernel->text);
}

static void write_units(Load *load) {
    for (int u = 0; u < load->unit_count; u++) {
        LvText *text = &load->texts[u];
        lv_text_puts(text, load->plan->prelude ? load->plan->prelude : "");
        for (int k = 0; k < load->plan->kernel_count; k++)
            if (load->unit_of[k] == u) print_kernel(&load->plan->kernels[k], text);
        load->units[u] = (CudaUnit){.name = "prelude", .text = text->data, .contract = load->contract};
    }
}

// The kernel that the log's first error speaks of, -1: none.
static int find_guilty(const Load *load, int unit, const char *log) {
    for (const char *line = log; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t name = strcspn(line, "(:\n"), length = strcspn(line, "\n");
        if (!memmem(line, length, "error", 5)) continue;
        for (int k = 0; k < load->plan->kernel_count; k++) {
            const char *own = load->plan->kernels[k].name;
            if (load->unit_of[k] == unit && strlen(own) == name && !strncmp(own, line, name)) return k;
        }
    }
    return -1;
}

static const char *sources_of(const LvPlan *plan, int kernel) {
    for (int s = 0; s < plan->step_count; s++)
        if (plan->steps[s].kernel == kernel && plan->steps[s].sources) return plan->steps[s].sources;
    return "";
}

// The text that was refused, in the cache's folder failed/: its path, NULL if none could be written.
static char *keep_text(const Load *load, int unit, int kernel) {
    LvError ignored = {0};
    LvText path = {0}, text = {0};
    if (!load->gpu->cache_dir) return NULL;
    lv_text_printf(&path, "%s/failed", load->gpu->cache_dir);
    bool good = lv_folder_make(path.data, &ignored);
    lv_text_printf(&path, "/%s.cu", kernel < 0 ? "kernels" : load->plan->kernels[kernel].name);
    if (kernel < 0) lv_text_puts(&text, load->texts[unit].data);
    else lv_text_puts(&text, load->plan->prelude ? load->plan->prelude : ""), print_kernel(&load->plan->kernels[kernel], &text);
    good = good && lv_file_write(path.data, text.data, text.length, &ignored);
    lv_error_clear(&ignored);
    lv_text_free(&text);
    if (good) return path.data;
    lv_text_free(&path);
    return NULL;
}

static bool report_refusal(const Load *load, int unit, LvError *error) {
    const CudaUnit *u = &load->units[unit];
    const char *log = u->log ? u->log : "", *end;
    int kernel = find_guilty(load, unit, log);
    char *path = keep_text(load, unit, kernel);
    const char *sources = kernel < 0 ? "" : sources_of(load->plan, kernel);
    end = log;
    for (int line = 0; line < SHOWN_LINES && *end; line++) end += strcspn(end, "\n"), end += *end == '\n';
    while (end > log && end[-1] == '\n') end--;
    lv_error_set(error, LV_ERROR_DEVICE, "NVRTC %d.%d refused %s%s%s%s%s: %s%s%.*s", load->gpu->compiler->major,
                 load->gpu->compiler->minor, kernel < 0 ? "a program of kernels" : "kernel '",
                 kernel < 0 ? "" : load->plan->kernels[kernel].name, kernel < 0 ? "" : "'", *sources ? ", made from " : "",
                 sources, load->gpu->compiler->nvrtc.nvrtcGetErrorString(u->result), end > log ? "\n" : "", (int)(end - log),
                 log);
    if (path) lv_error_hint(error, "its text is kept in %s", path);
    free(path);
    return false;
}

static bool report_unloadable(const Load *load, CuResult result, const LvText *log, LvError *error) {
    const CudaCompiler *c = load->gpu->compiler;
    cuda_check(load->gpu, result, error, "the driver does not take what NVRTC %d.%d made for %s", c->major, c->minor, c->target);
    if (result == CU_UNSUPPORTED_PTX_VERSION) lv_error_hint(error, "a newer driver, or an NVRTC that is not newer than it");
    else if (log->length) lv_error_hint(error, "it says: %s", log->data);
    return false;
}

static bool load_unit(Load *load, int unit, LvError *error) {
    CudaUnit *u = &load->units[unit];
    CuModule binary = NULL;
    LvText log = {0};
    Key key;
    print_key(load, u->text, key);
    CuResult result = load_binary(load, key, u->binary, &log, &binary);
    bool good = result == CU_OK || report_unloadable(load, result, &log, error);
    lv_text_free(&log);
    if (!good) return false;
    char *path = print_path(load, key, ".cubin");
    bool kept = load->gpu->cache_dir && lv_cache_write(path, u->binary, u->length);
    free(path);
    for (int k = 0; k < load->plan->kernel_count; k++) {
        if (load->unit_of[k] != unit) continue;
        if (!find_functions(load, binary, k)) {
            return lv_error_set(error, LV_ERROR_DEVICE, "the text of kernel '%s' does not define its %d functions",
                                load->plan->kernels[k].name, load->module->kernels[k].count);
        }
        path = print_path(load, load->keys[k], ".ref");
        if (kept) lv_cache_write(path, key, 32);
        free(path);
    }
    return true;
}

static bool compile_missing(Load *load, int missing, LvError *error) {
    deal_kernels(load, missing);
    write_units(load);
    bool good = cuda_compiler_run(load->gpu, load->units, load->unit_count, error);
    for (int u = 0; !good && error->kind == LV_OK && u < load->unit_count; u++)
        if (!load->units[u].binary) report_refusal(load, u, error);
    for (int u = 0; good && u < load->unit_count; u++) good = load_unit(load, u, error);
    for (int u = 0; u < load->unit_count; u++) {
        cuda_unit_free(&load->units[u]);
        lv_text_free(&load->texts[u]);
    }
    if (load->gpu->cache_dir) lv_cache_trim(load->gpu->cache_dir);
    return good;
}

static bool build(Load *load, LvLoadInfo *info, LvError *error) {
    if (!count_launches(load, error)) return false;
    if (load->plan->kernel_count == 0) return true;
    if (!cuda_compiler_find(load->gpu, error)) return false;
    int missing = find_all(load);
    if (missing && !cuda_compiler_load(load->gpu, error)) return false;
    LvText now = {0};
    cuda_compiler_print_key(load->gpu->compiler, load->contract, &now);
    if (strcmp(now.data, load->compiler.data)) missing = find_all(load);  // it is another than the one that was remembered
    lv_text_free(&now);
    info->compiled = missing;
    info->cached = load->plan->kernel_count - missing;
    return (missing == 0 || compile_missing(load, missing, error)) && ask_for_shared(load, error);
}

// ---- a plan's kernels

// Kernels for an architecture run on those after it, but for instructions that these have no more.
static bool check_plan(const LvCuda *gpu, const LvPlan *plan, LvError *error) {
    const char *device = plan->device ? plan->device : "cpu";
    int sm = 0;
    bool named = sscanf(device, "cuda:sm_%d", &sm) == 1;
    if (strncmp(device, "cuda", 4) || (named && (sm > gpu->sm || (sm < gpu->sm && *nvrtc_suffix(sm))))) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the plan of entry '%s' is made for '%s', this is '%s'", plan->entry, device,
                     gpu->target);
        return lv_error_hint(error, "compile it for this device: lvc --device %s", gpu->target);
    }
    return true;
}

static LvModule *create_module(const LvPlan *plan) {
    LvModule *module = lv_calloc(1, sizeof *module);
    module->kernel_count = plan->kernel_count;
    module->kernels = lv_calloc((size_t)plan->kernel_count + 1, sizeof *module->kernels);
    module->names = lv_calloc((size_t)plan->kernel_count + 1, sizeof *module->names);
    for (int k = 0; k < plan->kernel_count; k++) module->names[k] = plan->kernels[k].name;
    module->entry = lv_strdup(plan->entry ? plan->entry : "");
    module->tf32 = plan->tf32;
    return module;
}

bool cuda_kernels_load(LvCuda *gpu, const LvPlan *plan, LvModule **out, LvLoadInfo *info, LvError *error) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    *info = (LvLoadInfo){0};
    if (!check_plan(gpu, plan, error)) return false;
    cuda_enter(gpu);
    Load *load = lv_calloc(1, sizeof *load);
    *load = (Load){.gpu = gpu, .plan = plan, .module = create_module(plan)};
    load->contract = !plan->prelude || strncmp(plan->prelude, "// lv: uncontracted", 19);
    load->keys = lv_calloc((size_t)plan->kernel_count + 1, sizeof *load->keys);
    load->unit_of = lv_calloc((size_t)plan->kernel_count + 1, sizeof *load->unit_of);
    LvModule *module = load->module;
    bool good = cuda_scratch_take(gpu, cuda_plan_scratch(gpu, plan), &module->scratch, error) && build(load, info, error);
    free(load->keys);
    free(load->unit_of);
    lv_text_free(&load->compiler);
    free(load);
    clock_gettime(CLOCK_MONOTONIC, &end);
    info->seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    if (!good) {
        cuda_kernels_unload(gpu, module);
        return false;
    }
    *out = module;
    return true;
}

void cuda_kernels_unload(LvCuda *gpu, LvModule *module) {
    if (!module) return;
    cuda_enter(gpu);
    gpu->cu.cuStreamSynchronize(gpu->stream);
    for (size_t i = 0; i < module->binaries.count; i++) gpu->cu.cuModuleUnload(module->binaries.data[i].module);
    lv_vec_free(&module->binaries);
    for (int k = 0; k < module->kernel_count; k++) {
        free(module->kernels[k].shared);
        free(module->kernels[k].functions);
    }
    cuda_scratch_leave(gpu, module->scratch);
    if (gpu->running == module->entry) gpu->running = NULL;
    free(module->kernels);
    free(module->names);
    free(module->entry);
    free(module);
}

const char *cuda_kernels_name(const LvModule *module, int kernel) { return module->names[kernel]; }

bool cuda_kernels_tf32(const LvModule *module) { return module->tf32; }

// ---- launching

bool cuda_kernels_launch_one(LvCuda *gpu, const LvModule *module, int kernel, int number, LvLaunch launch, uint64_t *parameters,
                             int count, LvError *error) {
    void *pointers[MOST_PARAMETERS + 1];
    for (int i = 0; i < count; i++) pointers[i] = &parameters[i];
    CuResult result = gpu->cu.cuLaunchKernel(module->kernels[kernel].functions[number], (unsigned)launch.grid[0],
                                             (unsigned)launch.grid[1], (unsigned)launch.grid[2], (unsigned)launch.block, 1, 1,
                                             (unsigned)launch.shared, gpu->stream, pointers, NULL);
    return result == CU_OK || cuda_check(gpu, result, error, "kernel '%s', launch %d", module->names[kernel], number);
}

bool cuda_kernels_launch(LvCuda *gpu, LvModule *module, const LvStep *step, char *const *buffers, LvError *error) {
    uint64_t parameters[MOST_PARAMETERS + 1];
    int count = 0;
    for (int i = 0; i < step->operand_count; i++) parameters[count++] = (uint64_t)(uintptr_t)buffers[i];
    parameters[count++] = step->scratch ? (uint64_t)(uintptr_t)cuda_scratch_memory(module->scratch) : 0;
    for (int i = 0; i < step->scalar_count; i++) memcpy(&parameters[count++], &step->scalars[i], sizeof *parameters);
    gpu->running = module->entry;
    for (int i = 0; i < step->launch_count; i++)
        if (!cuda_kernels_launch_one(gpu, module, step->kernel, i, step->launches[i], parameters, count, error)) return false;
    return true;
}
