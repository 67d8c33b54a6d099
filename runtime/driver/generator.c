// Checkpoints that draw and describe: see generator.h.
#include "generator.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_entry(const OpenModel *open, const char *name) {
    int count;
    const LvModelEntry *entries = lv_model_entries(open->model, &count);
    for (int i = 0; i < count; i++) {
        if (!strcmp(entries[i].name, name)) return true;
    }
    return false;
}

static bool check_model(const OpenModel *open, LvError *error) {
    static const char *const needed[] = {"draw_begin", "draw_next", "describe_begin", "describe_next", "score"};
    if (!has_entry(open, "draw_begin") && has_entry(open, "encode") && has_entry(open, "decode")) {
        lv_error_set(error, LV_ERROR_USAGE, "'%s' is a picture tokenizer (%s): it knows no text, and neither draws nor describes",
                     open->path, lv_model_name(open->model));
        return lv_error_hint(error, "a model that does: lvrun train models/biart.lv --vae %s --tokenizer T --train-dir PAIRS",
                             open->path);
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!lv_model_find_entry(open->model, needed[i], error)) return false;
    }
    return true;
}

// n of the entry's input [B, n]; 0 if it is something else.
static int64_t row_of(const OpenModel *open, const char *entry, const char *input) {
    const LvModelEntry *e = lv_model_find_entry(open->model, entry, &(LvError){0});
    for (int i = 0; e && i < e->input_count; i++) {
        if (!strcmp(e->inputs[i].name, input) && e->inputs[i].shape.rank == 2) return e->inputs[i].shape.dim[1];
    }
    return 0;
}

static int64_t parameter(const OpenModel *open, const char *name, int64_t otherwise) {
    int count;
    const LvModelParameter *parameters = lv_model_parameters(open->model, &count);
    for (int i = 0; i < count; i++) {
        if (!strcmp(parameters[i].name, name)) return strtoll(parameters[i].value, NULL, 10);
    }
    return otherwise;
}

static bool read_sizes(Generator *g, const OpenModel *open, LvError *error) {
    g->text_length = row_of(open, "draw_begin", "text");
    g->image_length = row_of(open, "describe_begin", "image");
    int64_t end = parameter(open, "end_id", -1);
    if (end < 0) end = parameter(open, "text_vocab", 0) - 1;
    g->end = end < 0 ? lv_tokenizer_end(g->companions.tokenizer) : (int32_t)end;
    return (g->text_length > 0 && g->image_length > 0) ||
           lv_error_set(error, LV_ERROR_UNSUPPORTED, "'%s': draw_begin takes no text[B, n], or describe_begin no image[B, n]",
                        open->path);
}

// Companions of another run may have more tokens than the model knows.
static bool check_vocabularies(const Generator *g, LvError *error) {
    const OpenModel *open = &g->session->open, *vae = &g->companions.vae;
    int64_t texts = lv_tokenizer_vocabulary(g->companions.tokenizer), known = parameter(open, "text_vocab", texts);
    int64_t drawn = parameter(open, "image_vocab", 0), codes = parameter(vae, "num_tokens", drawn);
    if (texts > known)
        lv_error_set(error, LV_ERROR_USAGE, "the tokenizer has %lld tokens, the model's text_vocab is %lld", (long long)texts,
                     (long long)known);
    else if (drawn > codes)
        lv_error_set(error, LV_ERROR_USAGE, "the model's image_vocab is %lld, the picture tokenizer has %lld codes",
                     (long long)drawn, (long long)codes);
    else return true;
    return lv_error_hint(error, "a model goes with the tokenizers that it was trained with");
}

static bool lacks(const OpenModel *open, const char *what, const char *option, LvError *error) {
    lv_error_set(error, LV_ERROR_USAGE, "'%s' carries no %s", open->path, what);
    return lv_error_hint(error, "name one by --%s FILE; lvrun train models/biart.lv --vae V --tokenizer T puts both in", option);
}

static bool open_companions(Generator *g, LvError *error) {
    const Options *options = &g->session->options;
    const OpenModel *open = &g->session->open;
    const char *tokenizer = options_get(options, "tokenizer", NULL), *vae = options_get(options, "vae", NULL);
    if (!companions_open(&g->companions, open, tokenizer, vae, error)) return false;
    if (!g->companions.tokenizer) return lacks(open, "tokenizer", "tokenizer", error);
    if (!g->companions.vae.model) return lacks(open, "picture tokenizer", "vae", error);
    if (!g->companions.vae.checkpoint) {
        lv_error_set(error, LV_ERROR_USAGE, "--vae: '%s' holds no weights", g->companions.vae.path);
        return lv_error_hint(error, "name a checkpoint of it, runs/augvae/checkpoints/best.safetensors, say");
    }
    return lv_model_find_entry(g->companions.vae.model, "encode", error) && lv_model_find_entry(g->companions.vae.model, "decode", error);
}

// Plans of the picture tokenizer: in f32 whatever the model's precision, since a code is the nearest one or another.
static bool vae_plan(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error) {
    Generator *g = user;
    LvCompileOptions compile = g->vae_compile;
    compile.entry = entry, compile.batch = batch;
    *plan = NULL;
    return !has_entry(&g->companions.vae, entry) || model_compile(&g->companions.vae, &compile, plan, error);
}

static bool check_codes(const Generator *g, int64_t codes, LvError *error) {
    if (codes == g->image_length) return true;
    lv_error_set(error, LV_ERROR_USAGE, "the picture tokenizer makes a picture into %lld codes, the model takes %lld",
                 (long long)codes, (long long)g->image_length);
    return lv_error_hint(error, "a model goes with the picture tokenizer that it was trained with");
}

bool generator_painter(Generator *g, int64_t batch, LvPainter **painter, LvError *error) {
    LvPlan *plan = NULL;
    bool good = vae_plan(g, "decode", 1, &plan, error) && lv_store_create(g->session->device, plan, &g->vae.store, error) &&
                model_load_weights(&g->companions.vae, g->vae.store, error) && lv_painter_create(&g->vae, batch, painter, error);
    lv_plan_destroy(plan);
    return good ? check_codes(g, lv_painter_codes(*painter), error) : lv_error_prefix(error, "the picture tokenizer");
}

bool generator_coder(Generator *g, int64_t batch, LvCoder **coder, LvError *error) {
    const OpenModel *vae = &g->companions.vae;
    model_describe(vae, &g->vae_text);
    LvCoderOptions options = {.plans = g->vae.plans, .weights = vae->checkpoint, .model = lv_text_get(&g->vae_text),
                              .name = vae->path, .batch = batch};
    return lv_coder_create(g->session->device, &options, coder, error) && check_codes(g, lv_coder_codes(*coder), error);
}

static void tick(void *user, int64_t token, int64_t tokens) {
    Generator *g = user;
    if (token % 8 && token != tokens) return;
    fprintf(stderr, "\r\033[K%s %lld of %lld: token %lld of %lld", g->doing, (long long)g->done, (long long)g->all,
            (long long)token, (long long)tokens);
    fflush(stderr);
}

void generator_quiet(Generator *g) {
    if (g->ticker.tick) fprintf(stderr, "\r\033[K");
}

bool generator_open(Generator *g, Session *session, const char *const *entries, LvError *error) {
    session->compile.alone = true, session->compile.beside = entries;
    *g = (Generator){.session = session, .doing = ""};
    bool bare = !session->open.checkpoint && !options_has(&session->options, "weights");
    if (!check_model(&session->open, error)) return false;
    if (bare) {
        lv_error_set(error, LV_ERROR_USAGE, "'%s' holds no weights", session->open.path);
        return lv_error_hint(error, "name a checkpoint, such as runs/biart/checkpoints/best.safetensors");
    }
    if (!open_companions(g, error) || !read_sizes(g, &session->open, error) || !check_vocabularies(g, error) ||
        !session_store(session, entries[0], 1, error)) {
        return false;
    }
    g->vae_compile = session->compile;
    g->vae_compile.precision = LV_PRECISION_F32;
    g->vae_compile.alone = false, g->vae_compile.beside = NULL;
    g->vae = (LvNetwork){.device = session->device, .plans = {g, vae_plan}};
    g->network = (LvNetwork){session->device, session->store, session_plans(session)};
    if (isatty(2)) g->ticker = (LvTicker){g, tick};
    return true;
}

void generator_close(Generator *g) {
    lv_store_destroy(g->vae.store);
    lv_text_free(&g->vae_text);
    companions_close(&g->companions);
    *g = (Generator){0};
}

bool choice_given(const Options *options) {
    return options_flag(options, "greedy", false) || options_has(options, "temperature") || options_has(options, "top-k") ||
           options_has(options, "top-p");
}

bool choice_read(const Options *options, LvChoice *choice, LvError *error) {
    static const char *const others[] = {"temperature", "top-k", "top-p"};
    double temperature = 1, top_p = 1;
    int64_t top_k = 0;
    bool greedy = options_flag(options, "greedy", false);
    for (size_t i = 0; greedy && i < sizeof others / sizeof *others; i++) {
        if (options_has(options, others[i]))
            return lv_error_set(error, LV_ERROR_USAGE, "--greedy takes the likeliest token: --%s has nothing to choose",
                                others[i]);
    }
    if (!options_number(options, "temperature", &temperature, error) || !options_number(options, "top-p", &top_p, error) ||
        !options_integer(options, "top-k", 0, INT32_MAX, &top_k, error))
        return false;
    if (temperature < 0) return lv_error_set(error, LV_ERROR_USAGE, "--temperature is at least 0, not %g", temperature);
    if (!(top_p > 0 && top_p <= 1)) return lv_error_set(error, LV_ERROR_USAGE, "--top-p is above 0 and at most 1, not %g", top_p);
    *choice = (LvChoice){greedy ? 0 : (float)temperature, (int32_t)top_k, (float)top_p};
    return true;
}
