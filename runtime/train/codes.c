// Codes of a data set: see codes.h. Record v * samples + s is variant v of sample s: what the training loader would have given
// in epoch v.
#include "train/codes.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/folder.h"
#include "io/code_file.h"

struct LvCodes {
    LvCodeFile *file;
    int64_t samples, variants;
    uint8_t *lost;
};

static int64_t kept_variants(const LvCodesOptions *o) {
    return o->variants > 0 ? o->variants : 1;
}

static LvLoaderOptions loader_options(const LvCoder *coder, const LvCodesOptions *o) {
    LvLoaderOptions loader = lv_loader_options();
    loader.resolution = lv_coder_resolution(coder);
    loader.crop = o->variants > 0 ? LV_CROP_RANDOM : LV_CROP_CENTER;
    loader.scale_min = o->scale_min;
    loader.flip = o->flip && o->variants > 0;
    loader.seed = o->seed;
    loader.workers = o->workers;
    loader.epochs = (uint64_t)kept_variants(o);
    loader.cache_bytes = o->variants > 1 ? loader.cache_bytes : 0;
    loader.broken = o->broken;
    loader.broken_user = o->user;
    return loader;
}

static LvCodeShape make_shape(const LvDataset *data, const LvCoder *coder, const LvCodesOptions *o) {
    LvLoaderOptions loader = loader_options(coder, o);
    LvText text = {0};
    uint64_t tokenizer[2];
    lv_coder_hash(coder, tokenizer);
    lv_text_printf(&text, "%016llx%016llx %016llx side %d crop %d filter %d", (unsigned long long)tokenizer[0],
                   (unsigned long long)tokenizer[1], (unsigned long long)lv_dataset_signature(data), loader.resolution,
                   (int)loader.crop, (int)loader.filter);
    if (o->variants > 0)
        lv_text_printf(&text, " scale %a seed %llu flip %d variants %d", o->scale_min, (unsigned long long)o->seed, o->flip, o->variants);
    XXH128_hash_t hash = XXH3_128bits(text.data, text.length);
    lv_text_free(&text);
    return (LvCodeShape){.key = {hash.low64, hash.high64}, .records = (int64_t)lv_dataset_count(data) * kept_variants(o),
                         .codes = lv_coder_codes(coder), .vocabulary = o->vocabulary};
}

static void note(const LvCodesOptions *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(const LvCodesOptions *o, const char *format, ...) {
    LvText line = {0};
    va_list args;
    va_start(args, format);
    lv_text_vprintf(&line, format, args);
    va_end(args);
    if (o->note) o->note(o->user, line.data);
    lv_text_free(&line);
}

// ---- making

// Where the loader gave another sample for a broken one, that one is the record.
static bool add_batch(LvCodeWriter *writer, LvCoder *coder, const LvBatch *batch, int32_t *codes, LvError *error) {
    if (!lv_coder_encode(coder, batch->pictures, batch->count, codes, error)) return false;
    for (int i = 0; i < batch->count; i++) {
        bool same = batch->samples[i] == (int64_t)batch->at.index + i;
        if (!lv_code_writer_add(writer, same ? codes + i * lv_coder_codes(coder) : NULL, error)) return false;
    }
    return true;
}

static bool make_records(LvCodeWriter *writer, const LvDataset *data, LvCoder *coder, const LvCodesOptions *o, int64_t all,
                         LvError *error) {
    LvLoaderOptions options = loader_options(coder, o);
    LvLoader *loader = NULL;
    const LvBatch *batch = NULL;
    int64_t samples = (int64_t)lv_dataset_count(data), done = lv_code_writer_done(writer);
    bool good = lv_loader_create(&loader, data, &options, error);
    int32_t *codes = lv_calloc((size_t)(options.batch * lv_coder_codes(coder)), sizeof *codes);
    if (good) lv_loader_seek(loader, (LvPosition){(uint64_t)(done / samples), (uint64_t)(done % samples)});
    while (good && done < all) {
        good = lv_loader_next(loader, &batch, error) && batch && add_batch(writer, coder, batch, codes, error);
        done = lv_code_writer_done(writer);
        if (good && o->progress) o->progress(o->user, done, all);
        if (good && done < all && o->stop && *o->stop)
            good = lv_error_set(error, LV_ERROR_INTERRUPTED, "stopped while encoding pictures, %lld of %lld", (long long)done, (long long)all);
    }
    free(codes);
    if (loader) lv_loader_destroy(loader);
    return good;
}

static bool make_file(const char *path, const LvCodeShape *shape, const LvDataset *data, LvCoder *coder, const LvCodesOptions *o,
                      LvError *error) {
    LvCodeWriter *writer = NULL;
    if (!lv_code_writer_open(path, shape, o->stop, &writer, error)) return false;
    if (!writer) return true;
    int64_t done = lv_code_writer_done(writer);
    note(o, "%s: encoding %lld pictures%s into %s", lv_dataset_spec(data), (long long)(shape->records - done),
         done ? " that an earlier run left" : "", path);
    bool good = make_records(writer, data, coder, o, shape->records, error) && lv_code_writer_finish(writer, error);
    if (!good && error->kind == LV_ERROR_IO) lv_error_hint(error, "make room, or name another folder by --cache-dir");
    lv_code_writer_close(writer);
    return good;
}

// ---- opening

static void find_lost(LvCodes *c, int64_t codes) {
    int32_t *record = lv_calloc((size_t)codes, sizeof *record);
    c->lost = lv_calloc((size_t)c->samples, 1);
    for (int64_t i = 0; i < c->samples * c->variants; i++)
        if (!lv_code_file_get(c->file, i, record)) c->lost[i % c->samples] = 1;
    free(record);
}

bool lv_codes_open(const LvDataset *data, LvCoder *coder, const LvCodesOptions *o, LvCodes **out, LvError *error) {
    LvCodeShape shape = make_shape(data, coder, o);
    LvText path = {0};
    LvCodes *c = lv_calloc(1, sizeof *c);
    c->samples = (int64_t)lv_dataset_count(data);
    c->variants = kept_variants(o);
    lv_text_printf(&path, "%s/%016llx%016llx.codes", o->folder, (unsigned long long)shape.key[1], (unsigned long long)shape.key[0]);
    bool good = lv_folder_make(o->folder, error);
    bool known = good && lv_code_file_open(path.data, &shape, &c->file, error);
    if (known) note(o, "%s: codes of %lld pictures from %s", lv_dataset_spec(data), (long long)shape.records, path.data);
    if (good && !known) {
        if (error->kind == LV_ERROR_FORMAT) note(o, "warning: %s; it is made anew", error->message);
        lv_error_clear(error);
        good = make_file(path.data, &shape, data, coder, o, error) && lv_code_file_open(path.data, &shape, &c->file, error);
    }
    lv_text_free(&path);
    if (good) find_lost(c, shape.codes);
    if (good) *out = c;
    else lv_codes_close(c);
    return good;
}

void lv_codes_close(LvCodes *c) {
    if (!c) return;
    lv_code_file_close(c->file);
    free(c->lost);
    free(c);
}

const uint8_t *lv_codes_lost(const LvCodes *c) {
    return c->lost;
}

void lv_codes_get(const LvCodes *c, int64_t sample, uint64_t epoch, int32_t *out) {
    int64_t variant = (int64_t)((epoch + (uint64_t)sample) % (uint64_t)c->variants);
    lv_code_file_get(c->file, variant * c->samples + sample, out);
}
