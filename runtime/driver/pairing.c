// Pairing a model with its companions: see pairing.h.
#include "pairing.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint.h"

// ---- the picture tokenizer

static bool make_plan(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error) {
    Pairing *p = user;
    LvCompileOptions compile = p->compile;
    int count;
    const LvModelEntry *entries = lv_model_entries(p->companions.vae.model, &count);
    *plan = NULL;
    for (int i = 0; i < count; i++) {
        if (strcmp(entries[i].name, entry)) continue;
        compile.entry = entry;
        compile.batch = batch;
        return model_compile(&p->companions.vae, &compile, plan, error);
    }
    return true;
}

static bool open_coder(Pairing *p, LvError *error) {
    OpenModel *vae = &p->companions.vae;
    if (!vae->model || p->coder) return true;
    if (!vae->checkpoint) {
        lv_error_set(error, LV_ERROR_USAGE, "--vae: '%s' holds no weights", vae->path);
        return lv_error_hint(error, "name a checkpoint of it, runs/augvae/checkpoints/best.safetensors, say");
    }
    p->description.length = 0;
    model_describe(vae, &p->description);
    // always f32: a code that is wrong by rounding is wrong for good
    p->compile = (LvCompileOptions){.device = lv_device_target(p->device), .precision = LV_PRECISION_F32, .bytes = true};
    LvCoderOptions options = {.plans = {p, make_plan}, .weights = vae->checkpoint, .model = p->description.data, .name = vae->path,
                              .batch = p->batch};
    if (!lv_coder_create(p->device, &options, &p->coder, error)) return false;
    p->sources.coder = p->coder;
    p->sources.code_vocabulary = INT32_MAX;
    model_find_integer(vae->model, "num_tokens", &p->sources.code_vocabulary);
    return true;
}

static bool open_tokenizer(Pairing *p, LvError *error) {
    const LvTokenizer *t = p->companions.tokenizer;
    if (!t) return true;
    p->sources.tokenizer = t;
    p->sources.end_id = lv_tokenizer_end(t);
    if (p->sources.end_id >= 0) return true;
    lv_error_set(error, LV_ERROR_USAGE, "the tokenizer has no token that ends a text");
    return lv_error_hint(error, "its file needs a special token <|endoftext|>, </s> or the like");
}

// ---- parameters that follow

typedef struct {
    const char *name, *what;  // of the model; of the companion
    int64_t value;            // -1: nothing follows
} Derived;

enum { DERIVED = 5, OF_TOKENIZER = 3 };

static void derive(const Pairing *p, Derived out[DERIVED]) {
    const LvTokenizer *t = p->companions.tokenizer;
    int64_t codes = p->coder && p->sources.code_vocabulary < INT32_MAX ? p->sources.code_vocabulary : -1;
    out[0] = (Derived){"text_vocab", "the tokenizer has %" PRId64 " tokens", t ? lv_tokenizer_vocabulary(t) : -1};
    out[1] = (Derived){"end_id", "the tokenizer ends a text with %" PRId64, t ? p->sources.end_id : -1};
    out[2] = (Derived){"vocab", "the tokenizer has %" PRId64 " tokens", t ? lv_tokenizer_vocabulary(t) : -1};
    out[3] = (Derived){"image_vocab", "the picture tokenizer has %" PRId64 " codes (num_tokens)", codes};
    codes = p->coder ? lv_coder_codes(p->coder) : -1;
    out[4] = (Derived){"image_len", "the picture tokenizer makes a picture into %" PRId64 " codes", codes};
}

static bool refuse(const Derived *derived, int64_t has, bool trained, LvError *error) {
    LvText what = {0};
    lv_text_printf(&what, derived->what, derived->value);
    lv_error_set(error, LV_ERROR_USAGE, "the model's %s is %" PRId64 ", and %s", derived->name, has, what.data);
    lv_text_free(&what);
    return trained ? lv_error_hint(error, "a trained model keeps the tokenizers that it was trained with")
                   : lv_error_hint(error, "leave %s out, and it is set to what fits", derived->name);
}

// What is given is checked here already: the model's own checks would tell of a consequence.
static bool set_derived(const Pairing *p, Options *options, LvError *error) {
    Derived derived[DERIVED];
    derive(p, derived);
    for (int i = 0; i < DERIVED; i++) {
        const char *given = NULL;
        char *end;
        for (size_t k = 0; k < options->settings.count; k++) {
            if (!strcmp(options->settings.data[k].name, derived[i].name)) given = options->settings.data[k].value;
        }
        if (derived[i].value < 0) continue;
        if (given) {
            int64_t has = strtoll(given, &end, 10);
            if (end != given && !*end && has >= 0 && has != derived[i].value) return refuse(&derived[i], has, false, error);
            continue;
        }
        const char *value = lv_arena_printf(options->arena, "%" PRId64, derived[i].value);
        const char *origin = i < OF_TOKENIZER ? "--tokenizer" : "--vae";
        lv_vec_push(&options->settings, (OptionSetting){derived[i].name, value, origin, true});
    }
    return true;
}

static bool check_derived(const Pairing *p, const OpenModel *open, LvError *error) {
    Derived derived[DERIVED];
    derive(p, derived);
    for (int i = 0; i < DERIVED; i++) {
        int64_t has, vocabulary = 0;
        if (derived[i].value < 0 || !model_find_integer(open->model, derived[i].name, &has)) continue;
        bool last = !strcmp(derived[i].name, "end_id") && has < 0;
        if (last && model_find_integer(open->model, "text_vocab", &vocabulary)) has = vocabulary - 1;
        if (has != derived[i].value) return refuse(&derived[i], has, open->checkpoint != NULL, error);
    }
    return true;
}

// ---- the model

static bool check_needs(const Pairing *p, const OpenModel *open, const LvModelEntry *entry, LvError *error) {
    bool text = model_entry_takes(entry, "text"), codes = model_entry_takes(entry, "image");
    const char *model = lv_model_name(open->model);
    if (text && !p->companions.tokenizer) {
        lv_error_set(error, LV_ERROR_USAGE, "--tokenizer is missing: entry '%s' of %s takes text", entry->name, model);
        return lv_error_hint(error, "--tokenizer FILE: a tokenizer.json, or CLIP's bpe_simple_vocab_16e6.txt.gz");
    }
    if (codes && !p->coder) {
        lv_error_set(error, LV_ERROR_USAGE, "--vae is missing: entry '%s' of %s takes pictures as codes", entry->name, model);
        return lv_error_hint(error, "--vae FILE: a checkpoint of an AugVAE, runs/augvae/checkpoints/best.safetensors, say");
    }
    if (!text && !model_entry_takes(entry, "tokens") && p->companions.tokenizer)
        return lv_error_set(error, LV_ERROR_USAGE, "--tokenizer: entry '%s' of %s takes no text", entry->name, model);
    if (!codes && p->coder)
        return lv_error_set(error, LV_ERROR_USAGE, "--vae: entry '%s' of %s takes no pictures as codes", entry->name, model);
    return true;
}

static void collect_carried(Pairing *p) {
    LV_VEC(LvTensor) tensors = {0};
    LV_VEC(LvMetadata) metadata = {0};
    const LvTensorFile *file = p->companions.vae.checkpoint;
    if (p->companions.tokenizer)
        lv_vec_push(&metadata, (LvMetadata){LV_CHECKPOINT_TOKENIZER, lv_tokenizer_text(p->companions.tokenizer, NULL)});
    if (p->coder) lv_vec_push(&metadata, (LvMetadata){LV_CHECKPOINT_VAE, p->description.data});
    for (int i = 0; p->coder && i < lv_safetensors_count(file); i++) {
        LvTensor tensor = *lv_safetensors_at(file, i);
        if (!lv_coder_has(p->coder, tensor.name)) continue;
        tensor.name = lv_arena_printf(p->arena, "%s%s", LV_CHECKPOINT_VAE_PREFIX, tensor.name);
        lv_vec_push(&tensors, tensor);
    }
    p->carried = (LvCarried){tensors.data, (int)tensors.count, metadata.data, (int)metadata.count};
}

bool pairing_open(Pairing *p, Options *options, LvDevice *device, int64_t batch, LvError *error) {
    *p = (Pairing){.device = device, .batch = batch, .arena = lv_arena_create(), .sources = {.text_to_image = 0.5}};
    const char *tokenizer = options_get(options, "tokenizer", NULL), *vae = options_get(options, "vae", NULL);
    if (!companions_open(&p->companions, NULL, tokenizer, vae, error) || !open_coder(p, error) || !open_tokenizer(p, error))
        return false;
    const char *path = options->words.count ? options->words.data[0] : "", *dot = strrchr(path, '.');
    bool settled = dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".lvm"));  // its parameters are in it
    return settled || set_derived(p, options, error);
}

bool pairing_complete(Pairing *p, const OpenModel *open, const char *entry, LvError *error) {
    const LvModelEntry *taken = lv_model_find_entry(open->model, entry, error);
    if (!taken || !companions_complete(&p->companions, open, error) || !open_coder(p, error) || !open_tokenizer(p, error) ||
        !check_needs(p, open, taken, error) || !check_derived(p, open, error)) {
        return false;
    }
    const LvPort *tokens = model_entry_input(taken, "tokens");
    if (tokens && tokens->dtype == LV_I32 && tokens->shape.rank == 2) p->sources.window = tokens->shape.dim[1];
    if (p->sources.window > 0) model_find_integer(open->model, "vocab", &p->sources.token_vocabulary);
    if (p->sources.code_vocabulary == INT32_MAX) model_find_integer(open->model, "image_vocab", &p->sources.code_vocabulary);
    collect_carried(p);
    return true;
}

void pairing_close(Pairing *p) {
    lv_coder_destroy(p->coder);
    free((void *)p->carried.tensors);
    free((void *)p->carried.metadata);
    companions_close(&p->companions);
    lv_text_free(&p->description);
    if (p->arena) lv_arena_destroy(p->arena);
    *p = (Pairing){0};
}
