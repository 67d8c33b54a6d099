// Samples of a model in training: see samples.h.
#include "train/samples.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "data/transforms.h"
#include "generate/painter.h"
#include "generate/writer.h"

static const LvChoice drawing = {.temperature = 1, .top_p = 0.95f},
                      writing_down = {.temperature = 0, .top_p = 1};

struct LvSamples {
    LvFeedSources sources;
    int count, side;
    int64_t codes;   // of a picture, N
    int64_t length;  // of a text as the model takes it; 0: not looked yet, -1: the model has not
                     // the entries
    char **names, **given, **written;  // [count]
    int64_t *seeds;
    uint8_t *pictures;  // [count, 3, R, R] given
    int32_t *encoded;  // [count, N]
    float *drawn;      // [count, 3, R, R]
};

static size_t elements_of(const LvSamples *s) {
    return (size_t)3 * (size_t)s->side * (size_t)s->side;
}

// ---- the pairs

// False: this sample has no caption or no picture, and the next one may.
static bool take_pair(LvSamples *s, const LvDataset *data, size_t sample, uint8_t *rgb) {
    char *text = NULL;
    LvPicture picture = {0};
    LvError error = {0};
    bool good = lv_dataset_captions(data, sample, &text, &error) && *text &&
                lv_dataset_picture(data, sample, &picture, &error);
    if (good) {
        lv_transform_center(&picture, s->side, LV_FILTER_BICUBIC, rgb);
        lv_transform_to_planes(rgb, s->side, false, s->pictures + (size_t)s->count * elements_of(s));
        text[strcspn(text, "\n")] = 0;
        s->names[s->count] = lv_strdup(lv_dataset_name(data, sample));
        s->given[s->count++] = text;
    } else {
        free(text);
    }
    lv_picture_free(&picture);
    lv_error_clear(&error);
    return good;
}

static void take_pairs(LvSamples *s, const LvDataset *data, int count) {
    size_t all = lv_dataset_count(data), next = 0;
    uint8_t *rgb = lv_malloc((size_t)s->side * (size_t)s->side * 3);
    for (int i = 0; i < count; i++) {
        size_t wished = (2 * (size_t)i + 1) * all / (2 * (size_t)count);
        if (next < wished) next = wished;
        while (next < all && !take_pair(s, data, next++, rgb)) {
        }
    }
    free(rgb);
}

bool lv_samples_create(const char *spec, int count, int64_t seed, const LvFeedSources *sources,
                       LvSamples **out, LvError *error) {
    LvSamples *s = lv_calloc(1, sizeof *s);
    size_t room = (size_t)count;
    LvDataset *data = NULL;
    s->sources = *sources;
    s->side = lv_coder_resolution(sources->coder);
    s->codes = lv_coder_codes(sources->coder);
    s->names = lv_calloc(room, sizeof *s->names);
    s->given = lv_calloc(room, sizeof *s->given);
    s->written = lv_calloc(room, sizeof *s->written);
    s->seeds = lv_calloc(room, sizeof *s->seeds);
    s->pictures = lv_calloc(room * elements_of(s), sizeof *s->pictures);
    s->drawn = lv_calloc(room * elements_of(s), sizeof *s->drawn);
    s->encoded = lv_calloc(room * (size_t)s->codes, sizeof *s->encoded);
    bool good = lv_dataset_open(&data, spec, error);
    if (good) take_pairs(s, data, count);
    if (good && s->count == 0)
        good = lv_error_set(error, LV_ERROR_FORMAT, "%s: no pair that could be read", spec);
    if (good) good = lv_coder_encode(sources->coder, s->pictures, s->count, s->encoded, error);
    for (int i = 0; i < s->count; i++)
        s->seeds[i] = seed + i;
    if (data) lv_dataset_close(data);
    if (good)
        *out = s;
    else
        lv_samples_destroy(s);
    return good;
}

void lv_samples_destroy(LvSamples *s) {
    if (!s) return;
    for (int i = 0; i < s->count; i++) {
        free(s->names[i]);
        free(s->given[i]);
        free(s->written[i]);
    }
    free(s->names);
    free(s->given);
    free(s->written);
    free(s->seeds);
    free(s->pictures);
    free(s->drawn);
    free(s->encoded);
    free(s);
}

// ---- drawing and writing

// Whether the model has the entries, and how long its texts are, from a plan's shape.
static bool look_at_entries(LvSamples *s, const LvNetwork *network, LvError *error) {
    static const char *const names[] = {"draw_begin", "draw_next", "describe_begin",
                                        "describe_next"};
    for (int i = 0; s->length >= 0 && i < 4; i++) {
        LvPlan *plan = NULL;
        if (!network->plans.plan(network->plans.user, names[i], s->count, &plan, error))
            return false;
        if (!plan) s->length = -1;
        for (int k = 0; plan && i == 0 && k < plan->input_count; k++) {
            const LvPort *p = &plan->inputs[k];
            if (!strcmp(p->name, "text") && p->dtype == LV_I32 && p->shape.rank == 2)
                s->length = p->shape.dim[1];
        }
        lv_plan_destroy(plan);
    }
    return s->length != 0 ||
           lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry 'draw_begin' takes no text i32[B, n]");
}

static bool run_writer(LvSamples *s, const LvNetwork *network, const char *name, const char *input,
                       const int32_t *reference, const LvWriting *how, int32_t *tokens,
                       LvError *error) {
    LvWriter *writer = NULL;
    LvWriting writing = *how;
    double *logprob = lv_calloc((size_t)s->count, sizeof *logprob);
    writing.rows = s->count;
    writing.seeds = s->seeds;
    writing.reference = reference;
    bool good = lv_writer_create(network, name, input, s->count, &writer, error) &&
                lv_writer_run(writer, &writing, tokens, logprob, error);
    lv_writer_destroy(writer);
    free(logprob);
    return good;
}

static bool draw(LvSamples *s, const LvNetwork *network, LvError *error) {
    int64_t length = s->length;
    int32_t *text = lv_calloc((size_t)(s->count * length), sizeof *text);
    int32_t *codes = lv_calloc((size_t)(s->count * s->codes), sizeof *codes);
    LvPainter *painter = NULL;
    LvNetwork vae = lv_coder_network(s->sources.coder);
    bool good = true;
    for (int i = 0; good && i < s->count; i++) {
        good =
            lv_tokenizer_caption(s->sources.tokenizer, s->given[i], strlen(s->given[i]),
                                 s->sources.end_id, (size_t)length, text + i * length, NULL, error);
    }
    LvWriting how = {.choice = drawing, .length = s->codes, .end = -1};
    good = good && run_writer(s, network, "draw", "text", text, &how, codes, error) &&
           lv_painter_create(&vae, s->count, &painter, error) &&
           lv_painter_run(painter, codes, s->count, s->drawn, error);
    lv_painter_destroy(painter);
    free(text);
    free(codes);
    return good;
}

static bool describe(LvSamples *s, const LvNetwork *network, LvError *error) {
    int64_t length = s->length;
    int32_t *text = lv_calloc((size_t)(s->count * length), sizeof *text);
    LvWriting how = {.choice = writing_down, .length = length, .end = s->sources.end_id};
    bool good = run_writer(s, network, "describe", "image", s->encoded, &how, text, error);
    for (int i = 0; good && i < s->count; i++) {
        LvText written = {0};
        size_t count = 0;
        while (count < (size_t)length && text[i * length + (int64_t)count] != s->sources.end_id)
            count++;
        good = lv_tokenizer_decode(s->sources.tokenizer, text + i * length, count,
                                   LV_DECODE_SKIP_SPECIALS, &written, error);
        free(s->written[i]);
        s->written[i] = lv_strdup(lv_text_get(&written));
        lv_text_free(&written);
    }
    free(text);
    return good;
}

bool lv_samples_take(LvSamples *s, const LvNetwork *network, bool *able, LvError *error) {
    if (s->length == 0 && !look_at_entries(s, network, error)) return false;
    *able = s->length > 0;
    return !*able || (draw(s, network, error) && describe(s, network, error));
}

// ---- what came of it

int lv_samples_count(const LvSamples *s) {
    return s->count;
}

LvSample lv_samples_at(const LvSamples *s, int i) {
    return (LvSample){s->names[i], s->given[i], s->written[i] ? s->written[i] : ""};
}

bool lv_samples_save(const LvSamples *s, const char *path, LvError *error) {
    LvContact *contact = lv_contact_create(s->side, s->count, 2 * s->count);
    for (int i = 0; i < s->count; i++)
        lv_contact_add(contact, s->drawn + (size_t)i * elements_of(s), s->given[i]);
    float *numbers = lv_calloc(elements_of(s), sizeof *numbers);
    for (int i = 0; i < s->count; i++) {
        lv_transform_to_floats(s->pictures + (size_t)i * elements_of(s), elements_of(s), numbers);
        lv_contact_add(contact, numbers, lv_samples_at(s, i).written);
    }
    free(numbers);
    bool good = lv_contact_save(contact, path, error);
    lv_contact_destroy(contact);
    return good;
}
