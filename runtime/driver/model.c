// Opening MODEL and compiling its entries: the runtime's one place that calls the compiler.
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/plan_file.h"
#include "base/process.h"
#include "base/processor.h"
#include "exec/weights.h"
#include "io/checkpoint.h"
#include "train/restore.h"
#include "plan_cache.h"

static bool ends_in(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static void print_diagnostics(OpenModel *open) {
    LvText text = {0};
    lv_diagnostics_render(&open->diagnostics, isatty(2), &text);
    if (text.length) fputs(text.data, stderr);
    lv_text_free(&text);
    lv_diagnostics_free(&open->diagnostics);
    lv_diagnostics_init(&open->diagnostics, &open->sources);
}

typedef LV_VEC(LvSetting) Settings;
typedef LV_VEC(LvBundledSource) Bundle;

// A checkpoint's metadata "lverse.model": {"sources": [{"path", "text"}…], "settings": {name: JSON text}}.
static bool read_description(const char *text, LvArena *arena, Settings *settings, Bundle *bundle, LvError *error) {
    json_t *root = text ? json_loads(text, 0, NULL) : NULL, *item;
    size_t i;
    const char *name;
    json_array_foreach(json_object_get(root, "sources"), i, item) {
        const char *path = json_string_value(json_object_get(item, "path")),
                   *source = json_string_value(json_object_get(item, "text"));
        if (path && source) lv_vec_push(bundle, (LvBundledSource){lv_arena_strdup(arena, path), lv_arena_strdup(arena, source)});
    }
    json_object_foreach(json_object_get(root, "settings"), name, item) {
        if (!json_is_string(item)) continue;
        lv_vec_push(settings, (LvSetting){lv_arena_strdup(arena, name), lv_arena_strdup(arena, json_string_value(item)),
                                          "the checkpoint", false});
    }
    json_decref(root);
    if (bundle->count) return true;
    lv_error_set(error, LV_ERROR_USAGE, "the file holds weights but no model");
    return lv_error_hint(error, "name the model's .lv file, and this file as --weights");
}

// An option that the model refused may be one of the command's own, misspelt: the model suggests only its parameters.
static void suggest_option(const Options *options, LvError *error) {
    LV_VEC(const char *) names = {0};
    for (const OptionSpec *s = options->specs; s->name; s++) lv_vec_push(&names, s->name);
    for (size_t i = 0; i < options->settings.count; i++) {
        OptionSetting s = options->settings.data[i];
        size_t length = strlen(s.origin);
        if (strncmp(error->message, s.origin, length) || !strstr(error->message, "has no parameter")) continue;
        char name[64];
        snprintf(name, sizeof name, "%s", s.name);
        for (char *p = name; *p; p++) *p = *p == '_' ? '-' : *p;
        const char *near = lv_nearest_name(name, names.data, names.count);
        bool own = error->hint && strstr(error->hint, "did you mean");
        if (near && !own) lv_error_hint(error, strncmp(s.origin, "--", 2) ? "did you mean '%s'?" : "did you mean '--%s'?", near);
        break;
    }
    lv_vec_free(&names);
}

bool model_open(OpenModel *open, const char *path, const Options *options, LvError *error) {
    *open = (OpenModel){0};
    lv_diagnostics_init(&open->diagnostics, &open->sources);
    Settings settings = {0};
    Bundle bundle = {0};
    LvArena *arena = lv_arena_create();
    bool good = true;
    if (ends_in(path, ".lvm")) {
        good = lv_plan_read(path, &open->artifact, error);
        for (int i = 0; good && i < open->artifact->source_count; i++) lv_vec_push(&bundle, open->artifact->sources[i]);
        for (int i = 0; good && i < open->artifact->setting_count; i++) {
            LvPlanSetting s = open->artifact->settings[i];
            lv_vec_push(&settings, (LvSetting){s.name, s.value, path, false});
        }
    } else if (ends_in(path, ".safetensors")) {
        good = lv_checkpoint_read(path, true, &open->checkpoint, error) &&
               (read_description(lv_safetensors_metadata(open->checkpoint, "lverse.model"), arena, &settings, &bundle, error) || lv_error_prefix(error, "%s", path));
    }
    for (size_t i = 0; i < options->settings.count; i++) {
        OptionSetting s = options->settings.data[i];
        lv_vec_push(&settings, (LvSetting){s.name, s.value, s.origin, s.optional});
    }
    const char *config = options_get(options, "config", NULL);
    open->path = lv_strdup(path);
    open->changed = config || options->settings.count > 0;
    good = good && lv_model_load(bundle.count ? bundle.data[0].path : path, bundle.count ? bundle.data : NULL, (int)bundle.count,
                                 config, settings.data, (int)settings.count, &open->diagnostics, &open->model, error);
    if (!good && error->kind == LV_ERROR_USAGE) suggest_option(options, error);
    print_diagnostics(open);
    lv_vec_free(&settings);
    lv_vec_free(&bundle);
    lv_arena_destroy(arena);
    return good;
}

bool model_open_described(OpenModel *open, const char *name, const char *description, LvTensorFile *weights, LvError *error) {
    *open = (OpenModel){.checkpoint = weights, .path = lv_strdup(name)};
    lv_diagnostics_init(&open->diagnostics, &open->sources);
    Settings settings = {0};
    Bundle bundle = {0};
    LvArena *arena = lv_arena_create();
    bool good = (read_description(description, arena, &settings, &bundle, error) || lv_error_prefix(error, "%s", name)) &&
                lv_model_load(bundle.data[0].path, bundle.data, (int)bundle.count, NULL, settings.data, (int)settings.count,
                              &open->diagnostics, &open->model, error);
    print_diagnostics(open);
    lv_vec_free(&settings);
    lv_vec_free(&bundle);
    lv_arena_destroy(arena);
    return good;
}

bool model_load_weights(const OpenModel *open, LvStore *store, LvError *error) {
    if (!open->checkpoint) {
        lv_error_set(error, LV_ERROR_USAGE, "'%s' holds no weights", open->path);
        return lv_error_hint(error, "name a checkpoint (.safetensors)");
    }
    return (lv_weights_check(store, open->checkpoint, false, error) &&
            lv_store_load(store, open->checkpoint, NULL, NULL, error)) ||
           lv_error_prefix(error, "%s", open->path);
}

void model_describe(const OpenModel *open, LvText *out) {
    int count;
    json_t *root = json_object(), *sources = json_array(), *settings = json_object();
    const LvBundledSource *files = lv_model_sources(open->model, &count);
    for (int i = 0; i < count; i++)
        json_array_append_new(sources, json_pack("{ss, ss}", "path", files[i].path, "text", files[i].text));
    const LvModelParameter *parameters = lv_model_parameters(open->model, &count);
    for (int i = 0; i < count; i++) json_object_set_new(settings, parameters[i].name, json_string(parameters[i].value));
    json_object_set_new(root, "name", json_string(lv_model_name(open->model)));
    json_object_set_new(root, "config", json_string(lv_model_config(open->model)));
    json_object_set_new(root, "sources", sources);
    json_object_set_new(root, "settings", settings);
    char *text = json_dumps(root, JSON_COMPACT);
    lv_text_puts(out, text ? text : "{}");
    free(text);
    json_decref(root);
}

void model_close(OpenModel *open) {
    if (open->model) lv_model_destroy(open->model);
    lv_plan_destroy(open->artifact);
    free(open->path);
    lv_safetensors_free(open->checkpoint);
    lv_diagnostics_free(&open->diagnostics);
    lv_sources_free(&open->sources);
    *open = (OpenModel){0};
}

bool model_find_integer(const LvModel *model, const char *name, int64_t *value) {
    int count;
    const LvModelParameter *parameters = lv_model_parameters(model, &count);
    for (int i = 0; i < count; i++) {
        if (strcmp(parameters[i].name, name) || strcmp(parameters[i].type, "int")) continue;
        *value = strtoll(parameters[i].value, NULL, 10);
        return true;
    }
    return false;
}

const LvPort *model_entry_input(const LvModelEntry *entry, const char *name) {
    for (int i = 0; i < entry->input_count; i++) {
        if (!strcmp(entry->inputs[i].name, name)) return &entry->inputs[i];
    }
    return NULL;
}

bool model_entry_takes(const LvModelEntry *entry, const char *tokens) {
    const LvPort *port = model_entry_input(entry, tokens);
    return port && port->dtype == LV_I32;
}

bool model_entry_is_paired(const LvModelEntry *entry) {
    return model_entry_takes(entry, "text") || model_entry_takes(entry, "image") || model_entry_takes(entry, "tokens");
}

static int64_t workspace_of(void *device, const LvPlan *plan) {
    return (int64_t)lv_device_workspace(device, plan).bytes;
}

bool model_use_device(LvDevice *device, LvCompileOptions *compile, LvError *error) {
    compile->device = lv_device_target(device);
    compile->workspace = workspace_of;
    compile->workspace_user = device;
    return lv_precision_check(compile->precision, compile->device, error);
}

bool model_open_device(const Options *options, LvCompileOptions *compile, LvDevice **device, LvError *error) {
    int64_t threads = 0;
    if (!options_integer(options, "threads", 1, 4096, &threads, error) ||
        !lv_device_open(options_get(options, "device", "cpu"), (int)threads, device, error)) {
        return false;
    }
    return model_use_device(*device, compile, error);
}

// Whether it takes pictures, if it takes any, in the form asked for.
static bool takes_bytes(const LvPlan *plan, bool bytes) {
    bool same = true;
    for (int i = 0; i < plan->input_count; i++) {
        const LvPort *port = &plan->inputs[i];
        if (lv_shape_is_pictures(port->shape) && port->dtype == (bytes ? LV_F32 : LV_U8)) same = false;
    }
    return same;
}

// Artifacts are made with the default settings of everything but entry, batch, precision and the form of pictures.
static bool artifact_serves(const OpenModel *open, const LvCompileOptions *o) {
    const LvPlan *plan = open->artifact;
    return plan && !open->changed && !strcmp(plan->entry, o->entry) && plan->batch == o->batch &&
           !strcmp(plan->device, o->device) && takes_bytes(plan, o->bytes) &&
           !strcmp(plan->precision, lv_precision_name(o->precision)) && o->conv == LV_CONV_AUTO && lv_processor_level() == LV_PROCESSOR_NATIVE &&
           o->memory_limit == 0 && o->accumulate <= 1 && o->ranks <= 1 && !o->clip && !o->gradients && !o->no_fuse &&
           !o->no_optimize && !o->emit && !o->explain;
}

static bool compile_or_find(OpenModel *open, const LvCompileOptions *options, LvPlan **plan, LvError *error) {
    PlanCache cache = plan_cache_open(open->model, options);
    bool good = plan_cache_find(&cache, options, plan);
    if (!good) {
        good = lv_model_compile(open->model, options, &open->diagnostics, plan, error);
        lv_process_give_back();  // graphs take more than a small model
        // what the compiler had to say is said again the next time
        if (good && *plan && open->diagnostics.list.count == 0) plan_cache_keep(&cache, *plan);
        print_diagnostics(open);
    }
    plan_cache_close(&cache);
    return good;
}

// Bytes that a plan may take where the device has memory of its own, `share` PARTS of what is free, in steps of a part of all, so that
// what others hold changes no plan until it is much. 0: not known.
enum { PARTS = 64 };

static int64_t room_of(const LvCompileOptions *options, int share) {
    size_t left, total;
    bool opened = options->workspace == workspace_of && lv_device_memory(options->workspace_user, &left, &total);
    if (!opened || total < PARTS) return 0;
    int64_t part = (int64_t)(total / PARTS);
    return (int64_t)left / part * share / PARTS * part;
}

// The plan within so many bytes in place of *plan, if there is one.
static bool fit(OpenModel *open, const LvCompileOptions *options, int64_t bytes, LvPlan **plan) {
    LvCompileOptions within = *options;
    LvError refused = {0};
    LvPlan *fitting = NULL;
    within.memory_limit = bytes;
    bool good = compile_or_find(open, &within, &fitting, &refused) && fitting;
    lv_error_clear(&refused);
    if (!good) return false;
    fprintf(stderr, "lvrun: note: entry '%s' would take %.3g GB, too much of what is free on the GPU: it recomputes, and takes %.3g GB\n",
            options->entry, (double)lv_model_limited_bytes(options, *plan) * 1e-9, (double)lv_model_limited_bytes(options, fitting) * 1e-9);
    lv_plan_destroy(*plan);
    *plan = fitting;
    return true;
}

// A step that keeps too much of what the device has free is taken for one that makes more again, if there is one that fits; if not, whoever
// asks for the memory is told what would. Recomputing takes a few percent longer, running out of memory stops: a quarter is left for the
// programs beside it, which validate and draw, if it can be, and a part in any case, for what a driver takes for kernels and graphs.
static void fit_room(OpenModel *open, const LvCompileOptions *options, LvPlan **plan) {
    static const int SHARES[] = {PARTS * 3 / 4, PARTS - 1};
    LvError none = {0};
    const LvModelEntry *entry = lv_model_find_entry(open->model, options->entry, &none);
    bool settled = !*plan || !entry || !entry->trains || options->memory_limit || options->no_optimize;
    lv_error_clear(&none);
    for (size_t i = 0; !settled && i < sizeof SHARES / sizeof *SHARES; i++) {
        int64_t room = room_of(options, SHARES[i]);
        settled = room == 0 || lv_model_limited_bytes(options, *plan) <= room || fit(open, options, room, plan);
    }
}

bool model_compile(OpenModel *open, const LvCompileOptions *options, LvPlan **plan, LvError *error) {
    bool good = artifact_serves(open, options) ? lv_plan_read(open->path, plan, error) : compile_or_find(open, options, plan, error);
    if (good) fit_room(open, options, plan);
    return good;
}

bool model_initialize(OpenModel *open, const LvCompileOptions *options, LvDevice *device, LvStore *store, int64_t seed,
                      LvError *error) {
    LvCompileOptions init = *options;
    LvPlan *plan = NULL;
    LvProgram *program = NULL;
    init.entry = "init";
    init.batch = 1;
    init.emit = NULL;
    init.emitted = init.explain = NULL;
    int32_t step = 0;
    bool good = model_compile(open, &init, &plan, error) && lv_program_create(device, plan, store, &program, error) &&
                lv_program_set_input(program, "$seed", &seed, sizeof seed, error) &&
                lv_program_set_input(program, "$step", &step, sizeof step, error) && lv_program_run(program, error);
    lv_program_destroy(program);
    lv_plan_destroy(plan);
    return good;
}
