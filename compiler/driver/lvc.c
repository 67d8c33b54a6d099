// lvc: checks and compiles a model, says what it will cost, writes the artifact. The only part of the compiler that prints.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/plan_file.h"
#include "device/device.h"
#include "driver/compiler.h"
#include "driver/pipeline.h"
#include "driver/roofline.h"
#include "exec/program.h"
#include "sema/sema.h"
#include "syntax/ast.h"
#include "../../runtime/driver/options_compile.h"

static const OptionSpec specs[] = {
    {"config", OPTION_VALUE, "NAME|FILE.yaml", "a config block of the model, or a YAML file of its parameters"},
    {"entry", OPTION_VALUE, "NAME", "entry to compile (default: the one that trains, else the first)"},
    {"batch", OPTION_VALUE, "N", "batch size (default 8)"},
    {"device", OPTION_VALUE, "DEVICE", "cpu, or cuda:sm_90 for GPUs of that architecture; cuda alone is any from sm_80 on (default cpu)"},
    {"precision", OPTION_VALUE, "P", "f32 or bf16, f16 for GPUs (default f32)"},
    {"cpu", OPTION_VALUE, "LEVEL", "use no more of the processor than avx2 or avx512 (default native)"},
    {"conv", OPTION_VALUE, "A", "algorithm of convolutions: direct, winograd or auto (default)"},
    {"ranks", OPTION_VALUE, "N", "processes that train together, each on a batch (default 1)"},
    {"tf32", OPTION_FLAG, NULL, "products of f32 may be made in TF32, on a GPU"},
    {"bytes", OPTION_FLAG, NULL, "pictures among the inputs come as bytes, as lvrun gives them (default); --no-bytes: as f32, as call does"},
    {"memory-limit", OPTION_VALUE, "BYTES", "recompute rather than store more than this; k, M, G after the number"},
    {"emit", OPTION_VALUE, "STAGE", "print ast, graph, joint, fused, loop, c (cuda), memory or plan, or the graph after a pass, and write nothing"},
    {"explain", OPTION_FLAG, NULL, "a line a kernel and library call: FLOP, bytes, source lines"},
    {"gpu", OPTION_VALUE, "GPU", "what its roofline allows: a100, h100, h200, b200 or rtx4090; with --explain a line a step"},
    {"format", OPTION_FLAG, NULL, "print the file in the canonical style, and nothing else"},
    {"pass", OPTION_VALUE, "NAMES", "MODEL is a graph (.lvg): run these passes on it, fold,cse, and print it"},
    {"no-fuse", OPTION_FLAG, NULL, "one kernel a node: for finding faults"},
    {"no-optimize", OPTION_FLAG, NULL, "only what is needed to run"},
    {"output", OPTION_VALUE, "FILE", "-o FILE: the artifact (default: MODEL with .lvm, in this folder)"},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

static const char about[] =
    "usage: lvc MODEL.lv [options] [--set name=value]...\n\n"
    "Checks and compiles a model, prints what a step of it costs, writes the artifact.\n\n";
static const char examples[] =
    "\n  A parameter of the model may be an option of its own name: --hidden-dim 64 is --set hidden_dim=64.\n\n"
    "examples:\n"
    "  lvc models/augvae.lv --config small --batch 8       what a step of training costs; augvae.lvm\n"
    "  lvc models/augvae.lv --entry encode --explain       the kernels of encoding, each with its source lines\n"
    "  lvc models/augvae.lv --device cuda:sm_90 --gpu h100 the least time that the roofline of an H100 allows\n"
    "  lvc mine.lv --emit graph --entry train              the graph before differentiation\n"
    "  lvc mine.lv --format > tidy.lv                      the same file in the canonical style\n";

typedef struct {
    Options options;
    LvSources sources;
    LvDiagnostics diagnostics;
    LvModel *model;
    LvPlan *plan;
    LvDevice *device;  // asked what its library takes; nothing runs on it
    const RooflineGpu *gpu;  // of --gpu
    const char *path;
} Command;

static int fail(LvError *error) {
    int code = lv_error_exit_code(error);
    fprintf(stderr, "lvc: error: %s\n", error->message ? error->message : "failed");
    if (error->hint) fprintf(stderr, "  hint: %s\n", error->hint);
    lv_error_clear(error);
    return code ? code : 1;
}

// Prints what there is so far, once.
static void print_diagnostics(Command *command) {
    LvText text = {0};
    lv_diagnostics_render(&command->diagnostics, isatty(2), &text);
    fputs(lv_text_get(&text), stderr);
    lv_text_free(&text);
    lv_diagnostics_free(&command->diagnostics);
    lv_diagnostics_init(&command->diagnostics, &command->sources);
}

static void print_help(void) {
    LvText text = {0};
    options_print_help(specs, &text);
    printf("%s%s%s", about, lv_text_get(&text), examples);
    lv_text_free(&text);
}

// ---- what the options say

static bool read_options(const Options *options, LvCompileOptions *out, LvError *error) {
    out->batch = 8;
    out->emit = options_get(options, "emit", NULL);
    out->bytes = options_flag(options, "bytes", true);
    return options_compile(options, out, error) && options_integer(options, "ranks", 1, INT32_MAX, &out->ranks, error) &&
           options_integer(options, "batch", 1, 1 << 20, &out->batch, error);
}

// The entry asked for, else the first that trains, else the first.
static const char *choose_entry(const Command *command, LvError *error) {
    int count;
    const LvModelEntry *entries = lv_model_entries(command->model, &count), *found = NULL;
    const char *wanted = options_get(&command->options, "entry", NULL);
    if (wanted && !strcmp(wanted, "init")) return "init";
    if (wanted) found = lv_model_find_entry(command->model, wanted, error);
    for (int i = 0; i < count && !found && !wanted; i++) {
        if (entries[i].trains) found = &entries[i];
    }
    if (!found && !wanted && count) found = &entries[0];
    if (!found && !wanted) lv_error_set(error, LV_ERROR_USAGE, "model '%s' has no entry", lv_model_name(command->model));
    return found ? found->name : NULL;
}

// ---- what it costs

static void print_amount(const char *name, double amount, double base, const char *const *units, int count) {
    int unit = 0;
    while (amount >= base && unit + 1 < count) amount /= base, unit++;
    printf(unit ? "  %-16s %10.1f %s\n" : "  %-16s %10.0f %s\n", name, amount, units[unit]);
}

static void print_bytes(const char *name, int64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (bytes) print_amount(name, (double)bytes, 1024, units, 5);
}

static void print_grouped(const char *name, int64_t value, const char *rest) {
    char digits[32], out[48];
    int n = snprintf(digits, sizeof digits, "%" PRId64, value), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    printf("  %-16s %10s%s\n", name, out, rest);
}

// What the library takes for its own ends, on this machine with all its threads.
static void print_workspace(LvWorkspace workspace) {
    print_bytes("  workspace", (int64_t)workspace.bytes);
    if (!workspace.unmeasured) return;
    printf("  %-16s %10d convolutions are not measured yet: their workspace is the direct algorithm's\n", "", workspace.unmeasured);
}

static void print_cost(const LvPlan *plan, LvWorkspace workspace, double seconds) {
    static const char *const units[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"};
    int counts[LV_STEP_KIND_COUNT] = {0}, tensors = 0;
    int64_t flops = 0, trained = 0, frozen = 0, states = 0;
    for (int i = plan->prepare_count; i < plan->step_count; i++) counts[plan->steps[i].kind]++, flops += plan->steps[i].flops;
    for (int i = 0; i < plan->variable_count; i++) {
        int64_t elements = lv_shape_elements(plan->variables[i].shape);
        if (plan->variables[i].kind == LV_VARIABLE_PARAM) trained += elements, tensors++;
        else if (plan->variables[i].kind == LV_VARIABLE_FROZEN) frozen += elements;
        else if (plan->variables[i].kind == LV_VARIABLE_STATE) states += elements;
    }
    char rest[64];
    snprintf(rest, sizeof rest, " in %d tensors", tensors);
    printf("%s.%s, batch %" PRId64 ", %s, %s%s%s\n", plan->model, plan->entry, plan->batch, plan->precision, plan->device,
           plan->config && plan->config[0] ? ", config " : "", plan->config ? plan->config : "");
    print_grouped("parameters", trained, rest);
    if (frozen) print_grouped("frozen", frozen, "");
    if (states) print_grouped("states", states, "");
    print_amount("a run", (double)flops, 1000, units, 6);
    if (plan->batch > 1) print_amount("a sample", (double)flops / (double)plan->batch, 1000, units, 6);
    printf("  %-16s %10d (%d different)\n", "kernels", counts[LV_STEP_KERNEL], plan->kernel_count);
    if (plan->prepare_count) printf("  %-16s %10d steps, at the first run\n", "prepared", plan->prepare_count);
    printf("  %-16s %10d convolutions, %d matmuls", "library calls", counts[LV_STEP_CONV], counts[LV_STEP_MATMUL]);
    if (counts[LV_STEP_LINEAR_LOSS]) printf(", %d vocabulary losses", counts[LV_STEP_LINEAR_LOSS]);
    printf("\n");
    print_bytes("peak memory", lv_plan_bytes(plan) + (int64_t)workspace.bytes);
    static const struct {
        LvArenaKind kind;
        const char *name;
    } kinds[] = {{LV_ARENA_PARAMS, "  weights"}, {LV_ARENA_STATE, "  states, frozen"}, {LV_ARENA_MOMENTS, "  moments"},
                 {LV_ARENA_CACHE, "  caches"},
                 {LV_ARENA_GRADIENTS, "  gradients"}, {LV_ARENA_PREPARED, "  prepared"}, {LV_ARENA_ACTIVATIONS, "  activations"}, {LV_ARENA_CONSTANTS, "  constants"},
                 {LV_ARENA_IO, "  inputs, results"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) print_bytes(kinds[i].name, plan->arena_bytes[kinds[i].kind]);
    print_workspace(workspace);
    printf("  %-16s %10.2f s\n", "compiled in", seconds);
}

static bool print_roofline(Command *command, const LvCompileOptions *options, LvError *error) {
    LvCompileOptions keeping = *options;
    LvPlan *whole = NULL;
    LvText text = {0};
    keeping.gradients = true;
    keeping.memory_limit = 0;
    keeping.explain = NULL;
    bool trains = command->plan->writes_variables;  // any other plan is the same with all gradients
    if (trains && !lv_model_compile(command->model, &keeping, &command->diagnostics, &whole, error)) return false;
    roofline_print(command->plan, trains ? whole : command->plan, command->gpu, options_flag(&command->options, "explain", false), &text);
    fputs(lv_text_get(&text), stdout);
    lv_text_free(&text);
    lv_plan_destroy(whole);
    return true;
}

// ---- what it does

// `dir/name.lv` -> "name.lvm"
static char *artifact_path(const char *model) {
    const char *slash = strrchr(model, '/'), *name = slash ? slash + 1 : model, *dot = strrchr(name, '.');
    LvText text = {0};
    lv_text_append(&text, name, dot ? (size_t)(dot - name) : strlen(name));
    lv_text_puts(&text, ".lvm");
    return text.data;
}

// --format and --emit ast need no more than the file's own tree.
static int print_source(Command *command, bool format) {
    LvError error = {0};
    char *text;
    size_t length;
    if (!lv_file_read(command->path, 16 << 20, &text, &length, &error)) return fail(&error);
    int32_t file = lv_sources_add(&command->sources, command->path, text, length);
    free(text);
    LvArena *arena = lv_arena_create();
    SyntaxTree *tree = syntax_parse(file, arena, &command->diagnostics);
    bool good = command->diagnostics.errors == 0;
    LvText out = {0};
    if (good && format) syntax_format(tree, &command->sources, &out);
    else if (good) syntax_print(tree, &out);
    fputs(lv_text_get(&out), stdout);
    lv_text_free(&out);
    lv_arena_destroy(arena);
    return good ? 0 : 1;
}

static int run_passes(Command *command, const char *names) {
    LvError error = {0};
    LvCompileOptions options = {0};
    char *text = NULL;
    size_t length;
    Graph *graph = NULL;
    Target target;
    bool good = read_options(&command->options, &options, &error);
    options.device = options_get(&command->options, "device", "cpu");
    good = good && target_parse(options.device, &target, &error) && lv_file_read(command->path, 64 << 20, &text, &length, &error) &&
                (graph = graph_parse(text, length, &error)) && lv_pass_run(names, graph, &options, &command->diagnostics, &error);
    LvText out = {0};
    if (good) graph_print(graph, &out);
    fputs(lv_text_get(&out), stdout);
    lv_text_free(&out);
    if (graph) graph_destroy(graph);
    free(text);
    return good ? 0 : fail(&error);
}

// The model refused a name: it may be an option of lvc's own, misspelt.
static void suggest_option(const Options *options, LvError *error) {
    const char *names[sizeof specs / sizeof *specs];
    size_t count = 0;
    for (const OptionSpec *s = specs; s->name; s++) names[count++] = s->name;
    for (size_t i = 0; i < options->settings.count; i++) {
        const char *origin = options->settings.data[i].origin;
        if (strncmp(origin, "--", 2) || !error->message || strncmp(error->message, origin, strlen(origin))) continue;
        const char *near = lv_nearest_name(origin + 2, names, count);
        if (near && !(error->hint && strstr(error->hint, "did you mean"))) lv_error_hint(error, "did you mean '--%s'?", near);
    }
}

static bool load(Command *command, LvError *error) {
    const Options *options = &command->options;
    LV_VEC(LvSetting) settings = {0};
    for (size_t i = 0; i < options->settings.count; i++) {
        OptionSetting s = options->settings.data[i];
        lv_vec_push(&settings, (LvSetting){s.name, s.value, s.origin, false});
    }
    bool good = lv_model_load(command->path, NULL, 0, options_get(options, "config", NULL), settings.data, (int)settings.count,
                              &command->diagnostics, &command->model, error);
    lv_vec_free(&settings);
    if (!good) suggest_option(options, error);
    return good;
}

// Every entry is checked, and the initial values, not only what is compiled. Entries share functions: those behind the first
// that is wrong would only say the same again.
static bool check_entries(Command *command, const LvCompileOptions *options, LvError *error) {
    int count;
    const LvModelEntry *entries = lv_model_entries(command->model, &count);
    for (int i = -1; i < count; i++) {
        Graph *graph = lv_model_elaborate(command->model, i < 0 ? "init" : entries[i].name, options->batch, &command->diagnostics, error);
        if (!graph) return false;
        graph_destroy(graph);
    }
    return true;
}

// Of a GPU, which need not be here, it is told by the plan alone.
static LvWorkspace workspace_on(LvDevice *device, const LvPlan *plan) {
    return device ? lv_device_workspace(device, plan) : lv_cuda_workspace(plan);
}

static int64_t workspace_of(void *device, const LvPlan *plan) {
    return (int64_t)workspace_on(device, plan).bytes;
}

static bool compile(Command *command, LvCompileOptions *compile, LvText *emitted, LvText *explain, LvError *error) {
    const char *device = options_get(&command->options, "device", "cpu");
    if (!read_options(&command->options, compile, error) || !load(command, error)) return false;
    if (!strncmp(device, "cuda", 4)) {
        compile->device = device;  // compiling for a GPU needs none
    } else {
        if (!lv_device_open(device, 0, &command->device, error)) return false;
        compile->device = lv_device_target(command->device);
    }
    compile->workspace = workspace_of;
    compile->workspace_user = command->device;
    compile->entry = choose_entry(command, error);
    if (!compile->entry || (!compile->emit && !check_entries(command, compile, error))) return false;
    compile->emitted = emitted;
    const char *gpu = options_get(&command->options, "gpu", NULL);
    if (gpu && !(command->gpu = roofline_gpu(gpu, compile->device, error))) return false;
    if (options_flag(&command->options, "explain", false) && !gpu) compile->explain = explain;
    return lv_model_compile(command->model, compile, &command->diagnostics, &command->plan, error);
}

static int compile_model(Command *command) {
    LvError error = {0};
    LvCompileOptions options = {0};
    LvText emitted = {0}, explain = {0};
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    bool good = compile(command, &options, &emitted, &explain, &error);
    clock_gettime(CLOCK_MONOTONIC, &end);
    fputs(lv_text_get(&explain), stdout);
    fputs(lv_text_get(&emitted), stdout);
    if (good && !options.emit && command->plan) {
        print_cost(command->plan, workspace_on(command->device, command->plan),
                   (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
        good = !command->gpu || print_roofline(command, &options, &error);
        char *standard = artifact_path(command->path);
        const char *output = options_get(&command->options, "output", standard);
        good = good && lv_plan_write(command->plan, output, &error);
        if (good) printf("wrote %s\n", output);
        free(standard);
    }
    lv_text_free(&emitted);
    lv_text_free(&explain);
    if (!good) print_diagnostics(command);
    return good ? 0 : fail(&error);
}

static int run(Command *command, int argc, char **argv) {
    LvError error = {0};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-o")) argv[i] = "--output";
        if (!strcmp(argv[i], "-h")) argv[i] = "--help";
    }
    if (!options_parse(&command->options, specs, true, argc, argv, &error)) return fail(&error);
    if (options_flag(&command->options, "help", false)) return print_help(), 0;
    if (command->options.words.count != 1) {
        lv_error_set(&error, LV_ERROR_USAGE, command->options.words.count ? "one model at a time" : "no model named");
        lv_error_hint(&error, "lvc MODEL.lv; lvc --help tells more");
        return fail(&error);
    }
    command->path = command->options.words.data[0];
    const char *emit = options_get(&command->options, "emit", ""), *passes = options_get(&command->options, "pass", NULL);
    bool format = options_flag(&command->options, "format", false);
    if (format || !strcmp(emit, "ast")) return print_source(command, format);
    if (passes) return run_passes(command, passes);
    return compile_model(command);
}

int main(int argc, char **argv) {
    Command command = {0};
    lv_diagnostics_init(&command.diagnostics, &command.sources);
    int status = run(&command, argc, argv);
    print_diagnostics(&command);
    if (fflush(stdout) || ferror(stdout)) status = status ? status : 1;
    if (command.model) lv_model_destroy(command.model);
    lv_plan_destroy(command.plan);
    if (command.device) lv_device_close(command.device);
    options_free(&command.options);
    lv_diagnostics_free(&command.diagnostics);
    lv_sources_free(&command.sources);
    return status;
}
