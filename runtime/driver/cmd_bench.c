// lvrun bench MODEL ENTRY: one JSON object about speed, memory and compiling. Inputs are random numbers, weights the
// model's initial values; the cache is an empty folder of its own, so that "cold" is cold.
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/process.h"
#include "base/random.h"
#include "command.h"
#include "exec/weights.h"
#include "io/safetensors.h"
#include "model.h"
#include "peak.h"
#include "profile.h"

static const OptionSpec specs[] = {
    {"batch", OPTION_VALUE, "N", "batch size (default 1)"},
    {"steps", OPTION_VALUE, "N", "steps to time (default 10)"},
    {"warmup", OPTION_VALUE, "N", "steps before (default 2)"},
    {"first", OPTION_VALUE, "ENTRY", "run this entry once before: what fills the caches that ENTRY reads"},
    {"user-cache", OPTION_FLAG, NULL, "use the user's cache of kernels; cold_compile_s is then null"},
    {"profile", OPTION_FLAG, NULL, "a table of steps by time on stderr, and their part of what the machine does at best"},
    {"trace", OPTION_VALUE, "FILE", "one run as a Chrome trace (for ui.perfetto.dev)"},
    MODEL_OPTIONS,
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

typedef struct {
    Options options;
    OpenModel open;
    LvDevice *device;
    LvPlan *plan;
    LvStore *store;
    LvProgram *program, *first;  // of --first
    LvPlan *first_plan;
    LvCompileOptions compile;
    const char *entries[3];  // whose programs share the store: of ENTRY, of --first
    int64_t batch, steps, warmup;
    char folder[64];  // for the private cache and the initial weights
    double cold, warm;
    LvMemoryUse use;  // told before the first step
} Bench;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Random floats in [-1, 1), bytes of any value; small non-negative integers, valid as codes and tokens of any vocabulary of two.
static bool fill_inputs(const LvPlan *plan, LvProgram *program, LvError *error) {
    for (int i = 0; i < plan->input_count; i++) {
        const LvPort *port = &plan->inputs[i];
        size_t bytes;
        if (port->name[0] == '$' || !lv_shape_bytes(port->shape, port->dtype, &bytes)) continue;
        void *data = lv_calloc(bytes + 1, 1);
        int64_t count = lv_shape_elements(port->shape);
        for (int64_t k = 0; k < count; k++) {
            float u = lv_random_uniform(1, (uint32_t)i, 0, (uint64_t)k);
            double x = lv_dtype_is_float(port->dtype) ? 2 * (double)u - 1 : port->dtype == LV_U8 ? 256 * (double)u : u < 0.5f;
            lv_element_set(data, port->dtype, k, x);
        }
        bool good = lv_program_set_input(program, port->name, data, bytes, error);
        free(data);
        if (!good) return false;
    }
    int64_t seed = 42;
    float lr = 1e-5f;
    return lv_program_set_input(program, "$seed", &seed, sizeof seed, error) && lv_program_set_input(program, "$lr", &lr, sizeof lr, error);
}

// The entry of --first. Its program stays: with the last one the caches would go.
static bool make_first(Bench *bench, LvError *error) {
    LvCompileOptions compile = bench->compile;
    compile.entry = options_get(&bench->options, "first", NULL);
    return !compile.entry || (lv_model_find_entry(bench->open.model, compile.entry, error) && model_compile(&bench->open, &compile, &bench->first_plan, error) &&
                              lv_program_create(bench->device, bench->first_plan, bench->store, &bench->first, error) &&
                              fill_inputs(bench->first_plan, bench->first, error));
}

static bool run_step(Bench *bench, int32_t step, LvError *error) {
    return lv_program_set_input(bench->program, "$step", &step, sizeof step, error) && lv_program_run(bench->program, error) &&
           lv_program_wait(bench->program, error);
}

static void release_program(Bench *bench) {
    lv_program_destroy(bench->program);
    lv_plan_destroy(bench->plan);
    bench->program = NULL;
    bench->plan = NULL;
}

#define WEIGHTS "initial.safetensors"  // in the folder
static const unsigned saved_kinds = 1u << LV_VARIABLE_PARAM | 1u << LV_VARIABLE_FROZEN | 1u << LV_VARIABLE_STATE;

// The model's initial values into a file, by a store that has them all.
static bool save_initial(Bench *bench, const char *file, LvError *error) {
    LvCompileOptions compile = bench->compile;
    compile.alone = false;
    return model_open_device(&bench->options, &compile, &bench->device, error) &&
           model_compile(&bench->open, &compile, &bench->plan, error) && lv_store_create(bench->device, bench->plan, &bench->store, error) &&
           model_initialize(&bench->open, &compile, bench->device, bench->store, 42, error) &&
           lv_store_save(bench->store, saved_kinds, file, NULL, 0, error);
}

// An entry that runs alone over a checkpoint, as `lvrun encode` does, has its weights from a file. Another process makes that: this
// one's memory is to be what such a run takes.
static bool make_weights(Bench *bench, LvError *error) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        LvError own = {0};
        char file[128];
        snprintf(file, sizeof file, "%s/" WEIGHTS, bench->folder);
        bool good = save_initial(bench, file, &own);
        _exit(good ? 0 : command_fail(&own));
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return lv_error_system(error, "cannot make the initial weights");
    return status == 0 || lv_error_set(error, LV_ERROR_USAGE, "no initial weights");
}

static bool find_alone(Bench *bench, const char *path, LvError *error) {
    if (!model_open(&bench->open, path, &bench->options, error)) return false;
    const LvModelEntry *entry = lv_model_find_entry(bench->open.model, bench->compile.entry, error);
    bench->entries[0] = bench->compile.entry, bench->entries[1] = options_get(&bench->options, "first", NULL);
    const LvModelEntry *first = bench->entries[1] ? lv_model_find_entry(bench->open.model, bench->entries[1], error) : entry;
    bench->compile.alone = entry && first && !entry->trains && !first->trains;
    bench->compile.beside = bench->entries;
    return entry && first;
}

static bool fill_store(Bench *bench, LvError *error) {
    LvTensorFile *file = NULL;
    LvText path = {0};
    if (!bench->compile.alone) return model_initialize(&bench->open, &bench->compile, bench->device, bench->store, 42, error);
    lv_text_printf(&path, "%s/" WEIGHTS, bench->folder);
    bool good = lv_safetensors_read(path.data, &file, error) && lv_store_load(bench->store, file, NULL, NULL, error);
    lv_safetensors_free(file);
    lv_text_free(&path);
    return good;
}

// Source to runnable program; the store is made on the way, once, outside the clock.
static bool build(Bench *bench, const char *path, double *seconds, LvError *error) {
    model_close(&bench->open);
    double start = now();
    if (!model_open(&bench->open, path, &bench->options, error) || !lv_model_find_entry(bench->open.model, bench->compile.entry, error) ||
        !model_compile(&bench->open, &bench->compile, &bench->plan, error)) {
        return false;
    }
    double middle = now();
    if (!bench->store) {
        if (!lv_store_create(bench->device, bench->plan, &bench->store, error)) return false;
        if (!fill_store(bench, error)) return false;
    }
    double again = now();
    if (!lv_program_create(bench->device, bench->plan, bench->store, &bench->program, error)) return false;
    *seconds = middle - start + (now() - again);
    return true;
}

// One run more, step by step, on stderr and into --trace.
static bool show_profile(Bench *bench, LvError *error) {
    const char *trace = options_get(&bench->options, "trace", NULL);
    bool table = options_flag(&bench->options, "profile", false);
    if (!table && !trace) return true;
    Profile profile = {.plan = bench->plan, .program = bench->program, .runs = 1};
    profile.peak = table ? peak_of(bench->device, lv_precision_dtype(bench->compile.precision)) : 0;
    profile.copy = table ? peak_copy(bench->device) : 0;
    lv_program_profile(bench->program, true);
    if (!run_step(bench, (int32_t)(bench->warmup + bench->steps + 1), error)) return false;
    lv_program_profile(bench->program, false);
    if (table) profile_print(&profile, stderr);
    return !trace || profile_write_trace(&profile, trace, error);
}

static void print_report(const Bench *bench, const double *times, const char *entry) {
    const LvPlan *plan = bench->plan;
    int64_t calls = 0, launches = 0, flops = 0, n = bench->steps;
    double median = n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
    for (int s = plan->prepare_count; s < plan->step_count; s++) {
        LvStepKind kind = plan->steps[s].kind;
        bool own = kind == LV_STEP_CONV && plan->steps[s].launch_count > 0;  // a GPU's convolutions are kernels
        calls += (kind == LV_STEP_CONV && !own) || kind == LV_STEP_MATMUL || kind == LV_STEP_LINEAR_LOSS;
        if (own || kind == LV_STEP_KERNEL) launches += plan->steps[s].launch_count > 0 ? plan->steps[s].launch_count : 1;
        flops += plan->steps[s].flops;
    }
    json_t *report = json_pack(
        "{ss, ss, ss, ss, sI, sI, sf, sf, sf, sf, sf, sI, sI, sI, sI, sI, sI, si, sI, sb, sI, so, sf}", "model", lv_model_name(bench->open.model),
        "entry", entry, "device", lv_device_name(bench->device), "precision", plan->precision ? plan->precision : "", "batch",
        (json_int_t)bench->batch, "steps", (json_int_t)n, "step_ms", median * 1e3, "step_ms_min", times[0] * 1e3, "step_ms_max",
        times[n - 1] * 1e3, "items_per_s", (double)bench->batch / median, "gflops_per_s", (double)flops / median * 1e-9, "flops",
        (json_int_t)flops, "peak_bytes", (json_int_t)(lv_plan_bytes(plan) + lv_program_info(bench->program).scratch_bytes), "activation_bytes",
        (json_int_t)plan->arena_bytes[LV_ARENA_ACTIVATIONS], "resident_bytes", (json_int_t)lv_process_peak(), "announced_bytes",
        (json_int_t)lv_memory_peak(bench->use), "own_bytes", (json_int_t)bench->use.own_bytes, "kernels",
        plan->kernel_count, "kernel_launches", (json_int_t)launches, "captured", lv_program_info(bench->program).captured,
        "library_calls", (json_int_t)calls, "cold_compile_s", bench->cold >= 0 ? json_real(bench->cold) : json_null(), "warm_compile_s", bench->warm);
    char *text = json_dumps(report, JSON_REAL_PRECISION(6));
    puts(text ? text : "{}");
    free(text);
    json_decref(report);
}

static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *item; folder && (item = readdir(folder));) {
        LvText file = {0};
        lv_text_printf(&file, "%s/%s", path, item->d_name);
        if (item->d_name[0] != '.') unlink(file.data);
        lv_text_free(&file);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

static bool read_options(Bench *bench, int argc, char **argv, LvError *error) {
    bench->batch = 1, bench->steps = 10, bench->warmup = 2;
    bench->compile.conv = LV_CONV_AUTO;
    bench->compile.bytes = true;
    return options_parse(&bench->options, specs, true, argc, argv, error) &&
           options_integer(&bench->options, "batch", 1, 1 << 20, &bench->batch, error) &&
           options_integer(&bench->options, "steps", 1, 1 << 20, &bench->steps, error) &&
           options_integer(&bench->options, "warmup", 0, 1 << 20, &bench->warmup, error) &&
           options_compile(&bench->options, &bench->compile, error);
}

static bool measure(Bench *bench, const char *path, const char *entry, LvError *error) {
    bool private_cache = !options_flag(&bench->options, "user-cache", false);
    bench->compile.entry = entry;
    bench->compile.batch = bench->batch;
    snprintf(bench->folder, sizeof bench->folder, "/tmp/lverse-bench-XXXXXX");
    if (!mkdtemp(bench->folder)) {
        bench->folder[0] = 0;
        return lv_error_system(error, "cannot make a folder in /tmp");
    }
    if (private_cache) setenv("LV_CACHE_DIR", bench->folder, 1);
    if (!find_alone(bench, path, error) || (bench->compile.alone && !make_weights(bench, error))) return false;
    if (!model_open_device(&bench->options, &bench->compile, &bench->device, error) || !build(bench, path, &bench->cold, error)) {
        return false;
    }
    release_program(bench);
    if (!build(bench, path, &bench->warm, error) || !fill_inputs(bench->plan, bench->program, error) || !make_first(bench, error))
        return false;
    bench->use = lv_memory_use(bench->device);
    if (bench->first && !lv_program_run(bench->first, error)) return false;
    if (!private_cache) bench->cold = -1;
    double *times = lv_calloc((size_t)bench->steps, sizeof *times);
    bool good = true;
    for (int64_t i = 0; good && i < bench->warmup + bench->steps; i++) {
        double start = now();
        good = run_step(bench, (int32_t)(i + 1), error);
        if (i >= bench->warmup) times[i - bench->warmup] = now() - start;
    }
    if (good) {
        qsort(times, (size_t)bench->steps, sizeof *times, compare_doubles);
        print_report(bench, times, entry);
        good = show_profile(bench, error);
    }
    free(times);
    return good;
}

int cmd_bench(int argc, char **argv) {
    Bench bench = {0};
    LvError error = {0};
    int code = 0;
    bool good = read_options(&bench, argc, argv, &error);
    if (good && options_flag(&bench.options, "help", false)) {
        code = options_help_page("lvrun bench MODEL ENTRY --batch N [options] [--PARAMETER value]...",
                                 "Times an entry on random inputs; prints one JSON object: median step, items a second, peak bytes, kernels, library\n"
                                 "calls, seconds of compiling cold and warm.",
                                 specs,
                                 "  lvrun bench models/augvae.lv train --config small --batch 8\n"
                                 "  lvrun bench models/augvae.lv train --config small --batch 8 --profile --user-cache\n"
                                 "  lvrun bench models/biart.lv draw_next --config small --first draw_begin --steps 250\n");
    } else {
        if (good && bench.options.words.count != 2) {
            good = lv_error_set(&error, LV_ERROR_USAGE, "bench takes MODEL and ENTRY");
            lv_error_hint(&error, "lvrun bench models/augvae.lv train --batch 8");
        }
        good = good && measure(&bench, bench.options.words.data[0], bench.options.words.data[1], &error);
        if (!good) code = command_fail(&error);
    }
    lv_program_destroy(bench.first);
    lv_plan_destroy(bench.first_plan);
    release_program(&bench);
    lv_store_destroy(bench.store);
    model_close(&bench.open);
    command_close_device(bench.device);
    if (bench.folder[0]) remove_folder(bench.folder);
    options_free(&bench.options);
    return code;
}
