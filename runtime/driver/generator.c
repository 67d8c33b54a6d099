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
        if (!model_entry(open, needed[i], error)) return false;
    }
    return true;
}

// n of the entry's input [B, n]; 0 if it is something else.
static int64_t row_of(const OpenModel *open, const char *entry, const char *input) {
    const LvModelEntry *e = model_entry(open, entry, &(LvError){0});
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

static bool lacks(const OpenModel *open, const char *what, const char *option, LvError *error) {
    lv_error_set(error, LV_ERROR_USAGE, "'%s' carries no %s", open->path, what);
    return lv_error_hint(error, "name one by --%s FILE; lvrun train models/biart.lv --vae V --tokenizer T writes one that has both",
                         option);
}

static bool open_companions(Generator *g, LvError *error) {
    const Options *options = &g->session->options;
    const OpenModel *open = &g->session->open;
    const char *tokenizer = options_get(options, "tokenizer", NULL), *vae = options_get(options, "vae", NULL);
    if (!companions_open(&g->companions, open, tokenizer, vae, error)) return false;
    if (!g->companions.tokenizer) return lacks(open, "tokenizer", "tokenizer", error);
    if (!g->companions.vae.model) return lacks(open, "picture tokenizer", "vae", error);
    return model_entry(&g->companions.vae, "encode", error) && model_entry(&g->companions.vae, "decode", error);
}

// Plans of the picture tokenizer: in f32 whatever the model's precision, since a code is the nearest one or another.
static bool vae_plan(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error) {
    Generator *g = user;
    LvCompileOptions compile = g->vae_compile;
    compile.entry = entry, compile.batch = batch;
    *plan = NULL;
    return !has_entry(&g->companions.vae, entry) || model_compile(&g->companions.vae, &compile, plan, error);
}

static bool open_vae(Generator *g, LvError *error) {
    LvPlan *plan = NULL;
    g->vae_compile = g->session->compile;
    g->vae_compile.precision = LV_PRECISION_F32;
    g->vae = (LvNetwork){.device = g->session->device, .plans = {g, vae_plan}};
    bool good = vae_plan(g, "decode", 1, &plan, error) && lv_store_create(g->session->device, plan, &g->vae.store, error) &&
                model_load_weights(&g->companions.vae, g->vae.store, error);
    lv_plan_destroy(plan);
    return good || lv_error_prefix(error, "the picture tokenizer");
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

bool generator_open(Generator *g, Session *session, LvError *error) {
    *g = (Generator){.session = session, .doing = ""};
    bool bare = !session->open.checkpoint && !options_has(&session->options, "weights");
    if (!check_model(&session->open, error)) return false;
    if (bare) {
        lv_error_set(error, LV_ERROR_USAGE, "'%s' holds no weights", session->open.path);
        return lv_error_hint(error, "name a checkpoint, such as runs/biart/checkpoints/best.safetensors");
    }
    if (!open_companions(g, error) || !read_sizes(g, &session->open, error) || !open_vae(g, error) ||
        !session_store(session, "score", 1, error)) {
        return false;
    }
    g->network = (LvNetwork){session->device, session->store, session_plans(session)};
    if (isatty(2)) g->ticker = (LvTicker){g, tick};
    return true;
}

void generator_close(Generator *g) {
    lv_store_destroy(g->vae.store);
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
