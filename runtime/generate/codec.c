// Pictures and codes: see codec.h.
#include "generate/codec.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

struct LvCodec {
    LvEntryProgram entry;
    int64_t batch, codes;
    int side;
    int32_t *tokens;  // [B, N]
    float *pictures;  // [B, 3, R, R]
};

static size_t floats_of(const LvCodec *codec) {
    return (size_t)3 * (size_t)codec->side * (size_t)codec->side;
}

static bool find_side(LvCodec *c, LvCodecWay way, LvError *error) {
    const LvPlan *plan = c->entry.plan;
    const LvPort *ports = way == LV_CODEC_ENCODE ? plan->inputs : plan->results;
    int count = way == LV_CODEC_ENCODE ? plan->input_count : plan->result_count;
    for (int i = 0; i < count; i++) {
        LvShape s = ports[i].shape;
        bool square = ports[i].dtype == LV_F32 && s.rank == 4 && s.dim[0] == c->batch && s.dim[1] == 3 && s.dim[2] == s.dim[3];
        if (!strcmp(ports[i].name, "image") && square) c->side = (int)s.dim[2];
    }
    return c->side > 0 ||
           lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' of the picture tokenizer has no 'image' f32[B, 3, R, R]",
                        plan->entry);
}

bool lv_codec_create(const LvNetwork *network, LvCodecWay way, int64_t batch, int64_t codes, LvCodec **out, LvError *error) {
    LvCodec *c = lv_calloc(1, sizeof *c);
    c->batch = batch;
    bool good = lv_entry_open(&c->entry, network, way == LV_CODEC_ENCODE ? "encode" : "decode", batch, error) &&
                find_side(c, way, error) &&
                (c->codes = lv_entry_row(&c->entry, "tokens", LV_I32, way == LV_CODEC_ENCODE, error)) > 0;
    if (good && c->codes != codes) {
        good = lv_error_set(error, LV_ERROR_USAGE, "the picture tokenizer has %lld codes a picture, the model takes %lld",
                            (long long)c->codes, (long long)codes);
        lv_error_hint(error, "a model is used with the picture tokenizer that it was trained with");
    }
    if (!good) {
        lv_codec_destroy(c);
        return false;
    }
    c->tokens = lv_calloc((size_t)(batch * codes), sizeof *c->tokens);
    c->pictures = lv_calloc((size_t)batch * floats_of(c), sizeof *c->pictures);
    *out = c;
    return true;
}

void lv_codec_destroy(LvCodec *codec) {
    if (!codec) return;
    lv_entry_close(&codec->entry);
    free(codec->tokens);
    free(codec->pictures);
    free(codec);
}

int lv_codec_side(const LvCodec *codec) {
    return codec->side;
}

// `count` items of `size` bytes from `from` into a batch; what is left is filled up with the first.
static void fill(const LvCodec *c, void *batch, const void *from, int64_t count, size_t size) {
    memcpy(batch, from, (size_t)count * size);
    for (int64_t i = count; i < c->batch; i++) memcpy((char *)batch + (size_t)i * size, from, size);
}

bool lv_codec_encode(LvCodec *c, const float *pictures, int64_t count, int32_t *tokens, LvError *error) {
    size_t picture = floats_of(c) * sizeof(float), row = (size_t)c->codes * sizeof(int32_t), b = (size_t)c->batch;
    bool good = true;
    for (int64_t at = 0; good && at < count; at += c->batch) {
        int64_t n = count - at < c->batch ? count - at : c->batch;
        fill(c, c->pictures, pictures + (size_t)at * floats_of(c), n, picture);
        good = lv_program_set_input(c->entry.program, "image", c->pictures, b * picture, error) &&
               lv_program_run(c->entry.program, error) &&
               lv_program_get_result(c->entry.program, "tokens", c->tokens, b * row, error);
        if (good) memcpy(tokens + at * c->codes, c->tokens, (size_t)n * row);
    }
    return good;
}

bool lv_codec_decode(LvCodec *c, const int32_t *tokens, int64_t count, float *pictures, LvError *error) {
    size_t picture = floats_of(c) * sizeof(float), row = (size_t)c->codes * sizeof(int32_t), b = (size_t)c->batch;
    bool good = true;
    for (int64_t at = 0; good && at < count; at += c->batch) {
        int64_t n = count - at < c->batch ? count - at : c->batch;
        fill(c, c->tokens, tokens + at * c->codes, n, row);
        good = lv_program_set_input(c->entry.program, "tokens", c->tokens, b * row, error) &&
               lv_program_run(c->entry.program, error) &&
               lv_program_get_result(c->entry.program, "image", c->pictures, b * picture, error);
        if (good) memcpy(pictures + (size_t)at * floats_of(c), c->pictures, (size_t)n * picture);
    }
    return good;
}
