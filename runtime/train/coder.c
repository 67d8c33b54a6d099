// The frozen picture tokenizer: see coder.h.
#include "train/coder.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/arena.h"
#include "exec/weights.h"
#include "train/feed.h"
#include "train/restore.h"

struct LvCoder {
    LvDevice *device;
    LvCoderOptions options;
    LvPlan *plan;
    LvStore *store;
    LvProgram *program;  // NULL until the first picture
    const LvPort *picture, *tokens;
    int64_t batch, codes;
    int resolution;
    uint8_t *pictures;  // [batch, 3, R, R], for a last run that is not full
    void *results;      // [batch, codes] as the plan gives them
};

static bool say_no_tokenizer(const LvCoder *c, const char *why, LvError *error) {
    lv_error_set(error, LV_ERROR_USAGE, "%s is no picture tokenizer: %s", c->options.name, why);
    return lv_error_hint(error,
                         "a checkpoint of a model with an entry encode(image: f32[B, 3, R, R]) -> "
                         "{tokens: i32[B, N]} is needed");
}

static bool bind(LvCoder *c, LvError *error) {
    for (int i = 0; i < c->plan->input_count; i++) {
        const LvPort *p = &c->plan->inputs[i];
        if (p->name[0] == '$') continue;
        if (!lv_feed_takes_pictures(p) || c->picture)
            return say_no_tokenizer(c, "its entry 'encode' takes something else than pictures",
                                    error);
        c->picture = p;
    }
    for (int i = 0; i < c->plan->result_count; i++) {
        const LvPort *p = &c->plan->results[i];
        if (!strcmp(p->name, "tokens") && lv_dtype_is_int(p->dtype) && p->shape.rank == 2)
            c->tokens = p;
    }
    if (!c->picture || !c->tokens)
        return say_no_tokenizer(c, "its entry 'encode' gives no tokens", error);
    c->batch = c->picture->shape.dim[0];
    c->resolution = (int)c->picture->shape.dim[2];
    c->codes = c->tokens->shape.dim[1];
    if (c->tokens->shape.dim[0] != c->batch)
        return say_no_tokenizer(c, "its tokens are not a row a picture", error);
    c->pictures = lv_calloc((size_t)lv_shape_elements(c->picture->shape), 1);
    c->results = lv_calloc((size_t)(c->batch * c->codes), lv_dtype_size(c->tokens->dtype));
    return true;
}

bool lv_coder_create(LvDevice *device, const LvCoderOptions *options, LvCoder **out,
                     LvError *error) {
    LvCoder *c = lv_calloc(1, sizeof *c);
    c->device = device;
    c->options = *options;
    bool good = options->plans.plan(options->plans.user, "encode", options->batch, &c->plan, error);
    if (good && !c->plan) good = say_no_tokenizer(c, "it has no entry 'encode'", error);
    good = good && bind(c, error) && lv_store_create(device, c->plan, &c->store, error) &&
           ((lv_weights_check(c->store, options->weights, false, error) &&
             lv_store_load(c->store, options->weights, NULL, NULL, error)) ||
            lv_error_prefix(error, "%s", options->name));
    if (good)
        *out = c;
    else
        lv_coder_destroy(c);
    return good;
}

void lv_coder_destroy(LvCoder *c) {
    if (!c) return;
    lv_program_destroy(c->program);
    lv_store_destroy(c->store);
    lv_plan_destroy(c->plan);
    free(c->pictures);
    free(c->results);
    free(c);
}

int lv_coder_resolution(const LvCoder *c) {
    return c->resolution;
}

int64_t lv_coder_bytes(const LvCoder *c) {
    return lv_plan_bytes(c->plan);
}

LvNetwork lv_coder_network(const LvCoder *c) {
    return (LvNetwork){c->device, c->store, c->options.plans};
}

int64_t lv_coder_codes(const LvCoder *c) {
    return c->codes;
}

bool lv_coder_has(const LvCoder *c, const char *name) {
    int at = lv_store_find(c->store, name);
    return at >= 0 && lv_store_variable(c->store, at)->kind != LV_VARIABLE_OPTIMIZER;
}

static void hash_text(XXH3_state_t *state, const char *text) {
    XXH3_128bits_update(state, text, strlen(text) + 1);
}

void lv_coder_hash(const LvCoder *c, uint64_t hash[2]) {
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    hash_text(state, c->options.model);
    hash_text(state, c->plan->device);
    hash_text(state, c->plan->precision);
    for (int i = 0; i < lv_safetensors_count(c->options.weights); i++) {
        const LvTensor *t = lv_safetensors_at(c->options.weights, i);
        if (!lv_coder_has(c, t->name)) continue;
        hash_text(state, t->name);
        XXH3_128bits_update(state, t->data, t->bytes);
    }
    XXH128_hash_t all = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    hash[0] = all.low64;
    hash[1] = all.high64;
}

static bool run(LvCoder *c, const uint8_t *pictures, int64_t count, int32_t *codes, LvError *error) {
    size_t each = (size_t)3 * (size_t)c->resolution * (size_t)c->resolution;
    if (count < c->batch) {
        memcpy(c->pictures, pictures, (size_t)count * each);
        pictures = c->pictures;
    }
    if (!lv_feed_pictures(c->program, c->picture, pictures, error) ||
        !lv_program_run(c->program, error) ||
        !lv_program_get_result(c->program, "tokens", c->results,
                               (size_t)(c->batch * c->codes) * lv_dtype_size(c->tokens->dtype),
                               error)) {
        return false;
    }
    return lv_elements_convert(codes, LV_I32, c->results, c->tokens->dtype, count * c->codes);
}

bool lv_coder_encode(LvCoder *c, const uint8_t *pictures, int64_t count, int32_t *codes,
                     LvError *error) {
    size_t each = (size_t)3 * (size_t)c->resolution * (size_t)c->resolution;
    if (!c->program && !lv_program_create(c->device, c->plan, c->store, &c->program, error))
        return lv_error_prefix(error, "the picture tokenizer's entry 'encode'");
    for (int64_t at = 0; at < count; at += c->batch) {
        int64_t some = count - at < c->batch ? count - at : c->batch;
        if (!run(c, pictures + (size_t)at * each, some, codes + at * c->codes, error)) return false;
    }
    return true;
}
