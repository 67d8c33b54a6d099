// Order, reading, cropping, flipping of one sample. The cache keeps what comes before the first random choice: decoded
// pictures for random crops, finished ones for centre crops. It fills until its bound and never evicts: every picture is
// asked for once an epoch, so which ones are kept does not matter.
#include "data/sample.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "data/order.h"

enum { FLIP_STREAM = 0x666C6970, CAPTION_STREAM = 0x63617074, USER_STREAM = 0x75736572, WINDOW_STREAM = 0x77696E64 };

typedef struct {
    int width, height;
    uint8_t pixels[];  // [height, width, 3]
} Kept;

struct SampleMaker {
    const LvDataset *dataset;
    LvLoaderOptions options;
    uint64_t count;
    _Atomic(Kept *) *kept;   // [count], NULL when there is no cache
    _Atomic(char *) *texts;  // [count] all captions of a sample, likewise
    atomic_size_t kept_bytes;
    _Atomic(char *) *broken; // [count], why it cannot be read, NULL while nothing is known against it
    atomic_bool hopeless;    // all are broken
};

SampleMaker *sample_maker_create(const LvDataset *dataset, const LvLoaderOptions *options) {
    SampleMaker *maker = lv_calloc(1, sizeof *maker);
    maker->dataset = dataset;
    maker->options = *options;
    maker->count = lv_dataset_count(dataset);
    maker->broken = lv_calloc(maker->count, sizeof *maker->broken);
    if (options->cache_bytes && options->captions) maker->texts = lv_calloc(maker->count, sizeof *maker->texts);
    if (options->cache_bytes) maker->kept = lv_calloc(maker->count, sizeof *maker->kept);
    return maker;
}

void sample_maker_destroy(SampleMaker *maker) {
    if (!maker) return;
    for (uint64_t i = 0; maker->kept && i < maker->count; i++) free(atomic_load(&maker->kept[i]));
    for (uint64_t i = 0; maker->texts && i < maker->count; i++) free(atomic_load(&maker->texts[i]));
    for (uint64_t i = 0; i < maker->count; i++) free(atomic_load(&maker->broken[i]));
    free(maker->texts);
    free(maker->kept);
    free(maker->broken);
    free(maker);
}

void sample_slot_clear(Slot *slot) {
    lv_vec_free(&slot->broken);
    free(slot->caption);
    *slot = (Slot){0};
}

static const Kept *find_kept(SampleMaker *maker, int64_t sample) {
    return maker->kept ? atomic_load_explicit(&maker->kept[sample], memory_order_acquire) : NULL;
}

static void keep(SampleMaker *maker, int64_t sample, int width, int height, const uint8_t *pixels) {
    if (!maker->kept) return;
    size_t bytes = (size_t)width * (size_t)height * 3, all = bytes + sizeof(Kept);
    if (atomic_fetch_add(&maker->kept_bytes, all) + all > maker->options.cache_bytes) {
        atomic_fetch_sub(&maker->kept_bytes, all);
        return;
    }
    Kept *kept = malloc(all), *none = NULL;
    if (kept) {
        kept->width = width, kept->height = height;
        memcpy(kept->pixels, pixels, bytes);
    }
    if (!kept || !atomic_compare_exchange_strong(&maker->kept[sample], &none, kept)) {  // another thread was first
        free(kept);
        atomic_fetch_sub(&maker->kept_bytes, all);
    }
}

static bool make_center(SampleMaker *maker, int64_t sample, uint8_t *rgb, LvError *error) {
    int side = maker->options.resolution;
    const Kept *kept = find_kept(maker, sample);
    if (kept) return memcpy(rgb, kept->pixels, (size_t)side * (size_t)side * 3), true;
    LvPicture picture;
    if (!lv_dataset_picture(maker->dataset, (size_t)sample, &picture, error)) return false;
    lv_transform_center(&picture, side, maker->options.filter, rgb);
    lv_picture_free(&picture);
    keep(maker, sample, side, side, rgb);
    return true;
}

static bool make_random(SampleMaker *maker, int64_t sample, const LvDraws *draws, uint8_t *rgb, LvError *error) {
    const LvLoaderOptions *options = &maker->options;
    const Kept *kept = find_kept(maker, sample);
    LvPicture owned = {0}, picture;
    if (kept) picture = (LvPicture){kept->width, kept->height, (uint8_t *)kept->pixels};
    else if (!lv_dataset_picture(maker->dataset, (size_t)sample, &owned, error)) return false;
    else picture = owned;
    LvBox box = lv_crop_random(picture.width, picture.height, options->scale_min, options->scale_max, draws);
    lv_transform_random(&picture, box, options->resolution, options->filter, rgb);
    if (!kept) keep(maker, sample, picture.width, picture.height, picture.pixels);
    lv_picture_free(&owned);
    return true;
}

// All captions of a sample; *own is theirs to free, NULL where the text stays in the cache.
static const char *find_captions(SampleMaker *maker, int64_t sample, char **own) {
    const char *kept = maker->texts ? atomic_load_explicit(&maker->texts[sample], memory_order_acquire) : NULL;
    char *text, *none = NULL;
    LvError error = {0};
    *own = NULL;
    if (kept) return kept;
    if (!lv_dataset_captions(maker->dataset, (size_t)sample, &text, &error)) {
        lv_error_clear(&error);  // a caption that cannot be read is no caption
        return "";
    }
    size_t bytes = strlen(text) + 1;
    bool room = maker->texts && atomic_fetch_add(&maker->kept_bytes, bytes) + bytes <= maker->options.cache_bytes;
    if (maker->texts && !room) atomic_fetch_sub(&maker->kept_bytes, bytes);
    if (!room || !atomic_compare_exchange_strong(&maker->texts[sample], &none, text)) *own = text;
    return text;
}

// One line of several: a drawn one when shuffling, else the first.
static char *pick_caption(SampleMaker *maker, int64_t sample, const LvDraws *draws) {
    char *own;
    const char *from = find_captions(maker, sample, &own);
    uint64_t lines = 1, pick = 0;
    for (const char *c = from; *c; c++) lines += *c == '\n';
    if (maker->options.shuffle) pick = lv_draw_word(draws, CAPTION_STREAM, 0) * lines >> 32;
    while (pick--) from = strchr(from, '\n') + 1;
    size_t length = strcspn(from, "\n");
    char *line = lv_malloc(length + 1);
    memcpy(line, from, length);
    line[length] = 0;
    free(own);
    return line;
}

static const char no_caption[] = "it has no caption";

bool sample_is_uncaptioned(const SampleMaker *maker, int64_t sample) {
    return !strcmp(sample_broken_message(maker, sample), no_caption);
}

const char *sample_broken_message(const SampleMaker *maker, int64_t sample) { return atomic_load(&maker->broken[sample]); }

static void mark_broken(SampleMaker *maker, int64_t sample, const char *message) {
    char *copy = lv_strdup(message ? message : "cannot be read"), *none = NULL;
    if (!atomic_compare_exchange_strong(&maker->broken[sample], &none, copy)) free(copy);  // another thread met it too
}

static bool make_picture(SampleMaker *maker, int64_t sample, const LvDraws *draws, uint8_t *rgb) {
    LvError error = {0};
    if (maker->options.resolution == 0) {
        if (!maker->options.lost || !maker->options.lost[sample]) return true;
        return mark_broken(maker, sample, "it could not be read when its codes were made"), false;
    }
    bool good = maker->options.crop == LV_CROP_RANDOM ? make_random(maker, sample, draws, rgb, &error)
                                                      : make_center(maker, sample, rgb, &error);
    if (!good) mark_broken(maker, sample, error.message);
    lv_error_clear(&error);
    return good;
}

static bool make_caption(SampleMaker *maker, int64_t sample, const LvDraws *draws, Slot *slot) {
    if (!maker->options.captions) return true;
    free(slot->caption);
    slot->caption = pick_caption(maker, sample, draws);
    if (!*slot->caption) mark_broken(maker, sample, no_caption);
    return *slot->caption;
}

static void make_window(const SampleMaker *maker, int64_t sample, const LvDraws *draws, int32_t *tokens) {
    uint32_t draw = lv_draw_word(draws, WINDOW_STREAM, 0);
    if (!lv_dataset_is_text(maker->dataset)) return;
    lv_dataset_window(maker->dataset, (size_t)sample, maker->options.shuffle ? &draw : NULL, tokens);
}

void sample_make(SampleMaker *maker, uint32_t epoch, uint64_t position, uint8_t *out, int32_t *tokens, Slot *slot) {
    const LvLoaderOptions *options = &maker->options;
    uint8_t *rgb = lv_malloc((size_t)options->resolution * (size_t)options->resolution * 3 + 1);
    for (uint64_t tried = 0; tried < maker->count && !atomic_load(&maker->hopeless); tried++) {
        uint64_t at = (position + tried) % maker->count;
        int64_t sample = (int64_t)(options->shuffle ? order_shuffled(options->seed, epoch, maker->count, at) : at);
        LvDraws draws = {options->seed, epoch, (uint64_t)sample};
        if (atomic_load(&maker->broken[sample]) || !make_caption(maker, sample, &draws, slot) ||
            !make_picture(maker, sample, &draws, rgb)) {
            lv_vec_push(&slot->broken, sample);
            continue;
        }
        bool flip = options->flip && lv_draw_word(&draws, FLIP_STREAM, 0) & 1;
        if (options->resolution) lv_transform_to_planes(rgb, options->resolution, flip, out);
        make_window(maker, sample, &draws, tokens);
        slot->sample = sample;
        slot->draw = lv_draw_word(&draws, USER_STREAM, 0);
        free(rgb);
        return;
    }
    atomic_store(&maker->hopeless, true);
    slot->failed = true;
    free(rgb);
}
