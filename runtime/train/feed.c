// Binding of inputs: see feed.h.
#include "train/feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "data/transforms.h"

// ---- the data set

static bool check_kind(const LvDataset *data, const LvFeedSources *sources, LvError *error) {
    bool text = sources && sources->window > 0;
    if (text == lv_dataset_is_text(data)) return true;
    if (text) lv_error_set(error, LV_ERROR_USAGE, "%s holds pictures, and the model takes text", lv_dataset_spec(data));
    else lv_error_set(error, LV_ERROR_USAGE, "%s is text, and the model takes pictures", lv_dataset_spec(data));
    if (text) return lv_error_hint(error, "text:PATH names text: a file, or all text files under a folder");
    return lv_error_hint(error, "text is for an input `tokens`, i32[B, T]");
}

static bool need_captions(LvDataset *data, size_t *left_out, LvError *error) {
    size_t all = lv_dataset_count(data), without = lv_dataset_need_captions(data);
    if (left_out) *left_out = without;
    if (lv_dataset_count(data)) return true;
    lv_error_set(error, LV_ERROR_USAGE, "%s: none of its %zu pictures has a caption", lv_dataset_spec(data), all);
    return lv_error_hint(error, "captions are lines of NAME.txt beside NAME.png or in tar shards, of a .tsv list, or in COCO's "
                                ".json");
}

bool lv_feed_open_data(LvDataset **data, const char *spec, const LvFeedSources *s, size_t *left_out, LvError *error) {
    if (left_out) *left_out = 0;
    if (!lv_dataset_open(data, spec, error)) return false;
    bool good = check_kind(*data, s, error);
    if (good && s && s->window > 0) good = lv_dataset_cut(*data, s->window, s->tokenizer, s->token_vocabulary, error);
    else if (good && s && s->tokenizer) good = need_captions(*data, left_out, error);
    if (good) return true;
    lv_dataset_close(*data);
    *data = NULL;
    return false;
}

// ---- binding

bool lv_feed_takes_pictures(const LvPort *port) {
    return (port->dtype == LV_U8 || port->dtype == LV_F32) && lv_shape_is_pictures(port->shape);
}

static bool takes_tokens(const LvPort *port, const char *name) {
    return !strcmp(port->name, name) && port->dtype == LV_I32 && port->shape.rank == 2;
}

static bool refuse(const LvPlan *plan, const LvPort *port, LvError *error) {
    LvText shape = {0};
    lv_shape_print(&shape, port->shape);
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' takes '%s' %s%s, which no data set gives", plan->entry, port->name,
                 lv_dtype_name(port->dtype), shape.data);
    lv_text_free(&shape);
    return lv_error_hint(error, "data sets give pictures f32[B, 3, R, R] in [-1, 1]; of pairs, text i32[B, T] and image i32[B, N]; "
                                "of text alone, tokens i32[B, T]");
}

static bool bind_text(LvFeed *feed, const LvPlan *plan, const LvPort *port, LvError *error) {
    feed->text = port->name;
    feed->batch = port->shape.dim[0];
    feed->text_length = port->shape.dim[1];
    if (feed->sources && feed->sources->tokenizer) return true;
    lv_error_set(error, LV_ERROR_USAGE, "entry '%s' takes text, and there is no tokenizer", plan->entry);
    return lv_error_hint(error, "--tokenizer FILE: a tokenizer.json, or CLIP's bpe_simple_vocab_16e6.txt.gz");
}

static bool bind_tokens(LvFeed *feed, const LvPlan *plan, const LvPort *port, LvError *error) {
    int64_t window = feed->sources ? feed->sources->window : 0;
    feed->tokens = port->name;
    feed->batch = port->shape.dim[0];
    feed->window = port->shape.dim[1];
    if (feed->window == window) return true;
    return lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' takes %lld tokens a sample, and the text's windows are of %lld",
                        plan->entry, (long long)feed->window, (long long)window);
}

static bool bind_codes(LvFeed *feed, const LvPlan *plan, const LvPort *port, LvError *error) {
    const LvFeedSources *s = feed->sources;
    feed->codes = port->name;
    feed->batch = port->shape.dim[0];
    feed->code_count = port->shape.dim[1];
    if (!s || !s->coder) {
        lv_error_set(error, LV_ERROR_USAGE, "entry '%s' takes pictures as codes, and there is no picture tokenizer", plan->entry);
        return lv_error_hint(error, "--vae CHECKPOINT: an AugVAE that was trained, runs/augvae/checkpoints/best.safetensors, say");
    }
    feed->resolution = lv_coder_resolution(s->coder);
    if (lv_coder_codes(s->coder) == feed->code_count) return true;
    return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' takes %lld codes a picture, and the picture tokenizer gives %lld", plan->entry,
                        (long long)feed->code_count, (long long)lv_coder_codes(s->coder));
}

bool lv_feed_bind(LvFeed *feed, const LvPlan *plan, const LvFeedSources *sources, LvError *error) {
    *feed = (LvFeed){.sources = sources};
    for (int i = 0; i < plan->input_count; i++) {
        const LvPort *port = &plan->inputs[i];
        if (port->name[0] == '$') continue;
        if (lv_feed_takes_pictures(port) && !feed->picture) {
            feed->picture = port;
            feed->batch = port->shape.dim[0];
            feed->resolution = (int)port->shape.dim[2];
        } else if (takes_tokens(port, "text")) {
            if (!bind_text(feed, plan, port, error)) return false;
        } else if (takes_tokens(port, "tokens")) {
            if (!bind_tokens(feed, plan, port, error)) return false;
        } else if (takes_tokens(port, "image")) {
            if (!bind_codes(feed, plan, port, error)) return false;
        } else if (!strcmp(port->name, "direction") && port->dtype == LV_I32 && port->shape.rank == 1) {
            feed->direction = port->name;
        } else {
            return refuse(plan, port, error);
        }
    }
    if (!feed->picture && !feed->codes && !feed->text && !feed->tokens)
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' takes no pictures and no text", plan->entry);
    if (feed->tokens && (feed->picture || feed->codes || feed->text))
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' takes `tokens` and more, which no data set gives together",
                            plan->entry);
    if (feed->picture && feed->codes && feed->resolution != lv_coder_resolution(sources->coder))
        return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' takes pictures of side %d, and the picture tokenizer of side %d", plan->entry,
                            feed->resolution, lv_coder_resolution(sources->coder));
    return true;
}

int64_t lv_feed_positions(const LvFeed *feed) {
    return feed->text_length + feed->code_count + feed->window;
}

void lv_feed_loader(const LvFeed *feed, LvLoaderOptions *options) {
    bool reads = feed->picture || (feed->codes && !feed->known);
    options->batch = (int)feed->batch;
    options->resolution = reads ? feed->resolution : 0;
    options->captions = feed->text != NULL;
    options->lost = feed->known ? lv_codes_lost(feed->known) : NULL;
}

// ---- a batch

bool lv_feed_pictures(LvProgram *program, const LvPort *port, const uint8_t *pictures, LvError *error) {
    size_t count = (size_t)lv_shape_elements(port->shape);
    if (port->dtype == LV_U8) return lv_program_set_input(program, port->name, pictures, count, error);
    float *numbers = lv_malloc(count * sizeof *numbers + 1);
    lv_transform_to_floats(pictures, count, numbers);
    bool good = lv_program_set_input(program, port->name, numbers, count * sizeof *numbers, error);
    free(numbers);
    return good;
}

static bool feed_text(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error) {
    size_t length = (size_t)feed->text_length;
    int32_t *ids = lv_calloc((size_t)feed->batch * length, sizeof *ids);
    bool good = true;
    for (int64_t i = 0; good && i < feed->batch; i++) {
        const char *caption = batch->captions[i];
        good = lv_tokenizer_caption(feed->sources->tokenizer, caption, strlen(caption), feed->sources->end_id, length,
                                    ids + (size_t)i * length, NULL, error);
        if (!good) lv_error_prefix(error, "the caption of '%s'", batch->names[i]);
    }
    good = good && lv_program_set_input(program, feed->text, ids, (size_t)feed->batch * length * sizeof *ids, error);
    free(ids);
    return good;
}

// A code beyond the model's vocabulary would be taken for another token.
static bool check_codes(const LvFeed *feed, const int32_t *codes, LvError *error) {
    for (int64_t i = 0; i < feed->batch * feed->code_count; i++) {
        if (codes[i] >= 0 && codes[i] < feed->sources->code_vocabulary) continue;
        return lv_error_set(error, LV_ERROR_FORMAT, "the picture tokenizer gives code %d, which is not below %lld", codes[i],
                            (long long)feed->sources->code_vocabulary);
    }
    return true;
}

static bool feed_codes(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error) {
    size_t bytes = (size_t)(feed->batch * feed->code_count) * sizeof(int32_t);
    int32_t *codes = lv_malloc(bytes + 1);
    for (int64_t i = 0; feed->known && i < feed->batch; i++)
        lv_codes_get(feed->known, batch->samples[i], batch->at.epoch, codes + i * feed->code_count);
    bool good = (feed->known || lv_coder_encode(feed->sources->coder, batch->pictures, feed->batch, codes, error)) &&
                check_codes(feed, codes, error) && lv_program_set_input(program, feed->codes, codes, bytes, error);
    free(codes);
    return good;
}

static bool feed_direction(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error) {
    double share = feed->sources ? feed->sources->text_to_image : 0.5;
    int32_t *direction = lv_calloc((size_t)feed->batch, sizeof *direction);
    for (int64_t i = 0; i < feed->batch; i++) direction[i] = (double)batch->draws[i] >= share * 4294967296.0;
    bool good = lv_program_set_input(program, feed->direction, direction, (size_t)feed->batch * sizeof *direction, error);
    free(direction);
    return good;
}

bool lv_feed_batch(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error) {
    size_t window = (size_t)(feed->batch * feed->window) * sizeof *batch->tokens;
    return (!feed->tokens || lv_program_set_input(program, feed->tokens, batch->tokens, window, error)) &&
           (!feed->picture || lv_feed_pictures(program, feed->picture, batch->pictures, error)) &&
           (!feed->text || feed_text(feed, program, batch, error)) && (!feed->codes || feed_codes(feed, program, batch, error)) &&
           (!feed->direction || feed_direction(feed, program, batch, error));
}

bool lv_feed_turns(const LvFeed *feed, LvProgram *program, int turn, LvError *error) {
    if (!feed->direction) return true;
    int32_t *direction = lv_calloc((size_t)feed->batch, sizeof *direction);
    for (int64_t i = 0; i < feed->batch; i++) direction[i] = (int32_t)((i + turn) & 1);
    bool good = lv_program_set_input(program, feed->direction, direction, (size_t)feed->batch * sizeof *direction, error);
    free(direction);
    return good;
}

bool lv_feed_scalars(LvProgram *program, int64_t seed, int32_t step, float rate, LvError *error) {
    return lv_program_set_input(program, "$seed", &seed, sizeof seed, error) &&
           lv_program_set_input(program, "$step", &step, sizeof step, error) &&
           lv_program_set_input(program, "$lr", &rate, sizeof rate, error);
}
