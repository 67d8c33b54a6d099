// lvrun info: what a file holds, for people.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/plan_file.h"
#include "command.h"
#include "io/checkpoint.h"
#include "model.h"
#include "text/tokenizer.h"

static const OptionSpec specs[] = {
    {"tensors", OPTION_FLAG, NULL, "every tensor with its type and shape"},
    {"source", OPTION_FLAG, NULL, "the model's source that the file carries"},
    {"config", OPTION_VALUE, "NAME", "of a .lv: show the parameters as this config sets them"},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

static void print_size(int64_t bytes) {
    if (bytes >= 1 << 30) printf("%.2f GiB", (double)bytes / (1 << 30));
    else if (bytes >= 1 << 20) printf("%.1f MiB", (double)bytes / (1 << 20));
    else printf("%.1f KiB", (double)bytes / 1024);
}

// ---- checkpoints

static void print_model(const char *label, const char *text, bool source) {
    json_t *root = text ? json_loads(text, 0, NULL) : NULL, *value, *item;
    const char *name;
    size_t i;
    if (!root) return;
    const char *config = json_string_value(json_object_get(root, "config")),
               *model = json_string_value(json_object_get(root, "name"));
    printf("%-11s %s%s%s\n", label, model ? model : "?", config && *config ? ", config " : "", config ? config : "");
    json_object_foreach(json_object_get(root, "settings"), name, value) {
        printf("  %-20s %s\n", name, json_is_string(value) ? json_string_value(value) : "?");
    }
    json_array_foreach(json_object_get(root, "sources"), i, item) {
        const char *path = json_string_value(json_object_get(item, "path")),
                   *code = json_string_value(json_object_get(item, "text"));
        if (!path || !code) continue;
        printf("source      %s, %zu bytes\n", path, strlen(code));
        if (source) printf("%s\n", code);
    }
    json_decref(root);
}

// The model's own tensors, or those of the picture tokenizer that it carries.
static void print_tensors(const char *label, const LvTensorFile *file, bool carried) {
    int64_t elements = 0, bytes = 0;
    int count = 0;
    for (int i = 0; i < lv_safetensors_count(file); i++) {
        const LvTensor *t = lv_safetensors_at(file, i);
        if (lv_checkpoint_carries(t->name) != carried) continue;
        count++;
        elements += lv_shape_elements(t->shape), bytes += (int64_t)t->bytes;
    }
    if (carried && count == 0) return;
    printf("%-11s %d, %" PRId64 " elements, ", label, count, elements);
    print_size(bytes);
    printf("\n");
}

static void print_tokenizer(const char *path, const char *text) {
    LvTokenizer *tokenizer = NULL;
    LvError error = {0};
    if (!text) return;
    if (lv_tokenizer_parse(&tokenizer, text, strlen(text), path, &error))
        printf("tokenizer   %d tokens, %d ends a text; %zu bytes\n", lv_tokenizer_vocabulary(tokenizer), lv_tokenizer_end(tokenizer),
               strlen(text));
    else printf("tokenizer   cannot be used: %s\n", error.message);
    lv_error_clear(&error);
    if (tokenizer) lv_tokenizer_close(tokenizer);
}

static bool show_tensors(const char *path, const Options *options, LvError *error) {
    LvTensorFile *file = NULL;
    if (!lv_checkpoint_read(path, true, &file, error)) return false;
    int count = lv_safetensors_count(file);
    printf("%s\n", path);
    print_tensors("tensors", file, false);
    json_t *state = lv_safetensors_metadata(file, "lverse.train")
                        ? json_loads(lv_safetensors_metadata(file, "lverse.train"), 0, NULL)
                        : NULL;
    if (state) {
        printf("training    step %" JSON_INTEGER_FORMAT ", epoch %" JSON_INTEGER_FORMAT ", seed %" JSON_INTEGER_FORMAT "\n",
               json_integer_value(json_object_get(state, "step")), json_integer_value(json_object_get(state, "epoch")),
               json_integer_value(json_object_get(state, "seed")));
    }
    json_decref(state);
    if (lv_safetensors_metadata(file, "lverse.hash"))
        printf("hash        %s, as it should be\n", lv_safetensors_metadata(file, "lverse.hash"));
    bool source = options_flag(options, "source", false);
    print_model("model", lv_safetensors_metadata(file, "lverse.model"), source);
    print_tokenizer(path, lv_safetensors_metadata(file, LV_CHECKPOINT_TOKENIZER));
    print_model("vae", lv_safetensors_metadata(file, LV_CHECKPOINT_VAE), source);
    print_tensors("vae tensors", file, true);
    for (int i = 0; options_flag(options, "tensors", false) && i < count; i++) {
        const LvTensor *t = lv_safetensors_at(file, i);
        LvText shape = {0};
        lv_shape_print(&shape, t->shape);
        printf("  %-56s %-4s %s\n", t->name, lv_dtype_name(t->dtype), lv_text_get(&shape));
        lv_text_free(&shape);
    }
    lv_safetensors_free(file);
    return true;
}

// ---- artifacts

static bool show_artifact(const char *path, const Options *options, LvError *error) {
    LvPlan *p = NULL;
    if (!lv_plan_read(path, &p, error)) return false;
    int kinds[LV_STEP_KIND_COUNT] = {0};
    for (int i = p->prepare_count; i < p->step_count; i++) kinds[p->steps[i].kind]++;
    printf("%s\nmodel       %s%s%s, entry %s, batch %" PRId64 ", %s on %s\n", path, p->model, *p->config ? ", config " : "",
           p->config, p->entry, p->batch, p->precision, p->device);
    printf("steps       %d: %d kernels (%d different), %d convolutions, %d matmuls\n", p->step_count, kinds[LV_STEP_KERNEL],
           p->kernel_count, kinds[LV_STEP_CONV], kinds[LV_STEP_MATMUL]);
    printf("memory      ");
    print_size(lv_plan_bytes(p));
    printf("\n");
    for (int a = 0; a < LV_ARENA_COUNT; a++) {
        printf("  %-20s ", lv_arena_kind_name((LvArenaKind)a));
        print_size(p->arena_bytes[a]);
        printf("\n");
    }
    for (int i = 0; i < p->setting_count; i++) printf("  %-20s %s\n", p->settings[i].name, p->settings[i].value);
    for (int i = 0; i < p->source_count; i++) {
        printf("source      %s, %zu bytes\n", p->sources[i].path, strlen(p->sources[i].text));
        if (options_flag(options, "source", false)) printf("%s\n", p->sources[i].text);
    }
    for (int i = 0; options_flag(options, "tensors", false) && i < p->variable_count; i++) {
        LvText shape = {0};
        lv_shape_print(&shape, p->variables[i].shape);
        printf("  %-56s %-4s %s\n", p->variables[i].name, lv_dtype_name(p->variables[i].dtype), lv_text_get(&shape));
        lv_text_free(&shape);
    }
    lv_plan_destroy(p);
    return true;
}

// ---- sources

static void print_doc(const char *doc) {
    if (!doc || !*doc) return;
    printf("  %.*s", (int)strcspn(doc, "\n"), doc);
}

static bool show_source(const char *path, const Options *options, LvError *error) {
    OpenModel open;
    int count;
    bool good = model_open(&open, path, options, error);
    if (good) {
        printf("%s\nmodel       %s\n", path, lv_model_name(open.model));
        const LvModelParameter *parameters = lv_model_parameters(open.model, &count);
        printf("parameters\n");
        for (int i = 0; i < count; i++) {
            printf("  %-20s %-8s %-20s", parameters[i].name, parameters[i].type, parameters[i].value);
            print_doc(parameters[i].doc);
            printf("\n");
        }
        const LvModelEntry *entries = lv_model_entries(open.model, &count);
        printf("entries\n");
        for (int i = 0; i < count; i++) {
            printf("  %-20s %s", entries[i].name, entries[i].trains ? "(trains)" : "");
            print_doc(entries[i].doc);
            printf("\n");
        }
        const char *const *configs = lv_model_configs(open.model, &count);
        printf("configs    ");
        for (int i = 0; i < count; i++) printf(" %s", configs[i]);
        printf("%s\n", count ? "" : " none");
    }
    model_close(&open);
    return good;
}

static bool ends_in(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

int cmd_info(int argc, char **argv) {
    Options options = {0};
    LvError error = {0};
    int code = 0;
    bool good = options_parse(&options, specs, true, argc, argv, &error);
    if (good && options_flag(&options, "help", false)) {
        code = options_help_page(
            "lvrun info FILE [options]",
            "What a file holds: a model's parameters, entries and configs (.lv), an artifact's plan (.lvm), a checkpoint's\n"
            "training state, model and tensors (.safetensors).",
            specs,
            "  lvrun info models/augvae.lv --config tiny\n  lvrun info runs/augvae/checkpoints/last.safetensors --tensors\n");
    } else {
        if (good && options.words.count != 1) good = lv_error_set(&error, LV_ERROR_USAGE, "info takes one FILE");
        const char *path = good ? options.words.data[0] : "";
        good = good && (ends_in(path, ".lvm")            ? show_artifact(path, &options, &error)
                        : ends_in(path, ".safetensors") ? show_tensors(path, &options, &error)
                                                         : show_source(path, &options, &error));
        if (!good) code = command_fail(&error);
    }
    options_free(&options);
    return code;
}
