// Options of training: see train_options.h.
#include "train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"

static bool integer(Options *options, const char *name, int64_t low, int64_t high, int64_t otherwise, int64_t *value,
                    LvError *error) {
    *value = otherwise;
    return options_integer(options, name, low, high, value, error);
}

// A number above or at `low`.
static bool number(Options *options, const char *name, double low, double *value, LvError *error) {
    if (!options_number(options, name, value, error)) return false;
    if (!options_has(options, name) || *value >= low) return true;
    return lv_error_set(error, LV_ERROR_USAGE, "--%s must be at least %g, not %g", name, low, *value);
}

bool train_options_prepare(Options *options, LvError *error) {
    double weight = 1;
    if (!options_number(options, "codebook-weight", &weight, error)) return false;
    if (weight != 1) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "--codebook-weight is 1 here, not %g", weight);
        return lv_error_hint(error, "the commitment loss has the weight quant_beta: --quant-beta %g", 0.25 * weight);
    }
    const char *size = options_get(options, "img-size", NULL);
    if (size) lv_vec_push(&options->settings, (OptionSetting){"resolution", size, "--img-size", false});
    return true;
}

// ---- the learning rate

static double model_rate(const OpenModel *open) {
    int count;
    const LvModelParameter *parameters = lv_model_parameters(open->model, &count);
    for (int i = 0; i < count; i++) {
        if (!strcmp(parameters[i].name, "learning_rate")) return strtod(parameters[i].value, NULL);
    }
    return NAN;
}

static bool read_schedule(Options *options, LvSchedule *schedule, LvError *error) {
    static const char *const names[] = {"constant", "cosine", "plateau"};
    const char *text = options_get(options, "schedule", options_flag(options, "lr-decay", false) ? "plateau" : "constant");
    for (int i = 0; i < 3; i++) {
        if (!strcmp(text, names[i])) {
            *schedule = (LvSchedule)i;
            return true;
        }
    }
    const char *near = lv_nearest_name(text, names, 3);
    lv_error_set(error, LV_ERROR_USAGE, "--schedule is constant, plateau or cosine, not '%s'", text);
    return near ? lv_error_hint(error, "did you mean '%s'?", near) : false;
}

static bool train_takes(const OpenModel *open, const char *tokens) {
    int count;
    const LvModelEntry *entries = lv_model_entries(open->model, &count);
    for (int i = 0; i < count; i++) {
        if (!strcmp(entries[i].name, "train")) return model_entry_takes(&entries[i], tokens);
    }
    return false;
}

static bool read_rate(Options *options, const OpenModel *open, LvTrainOptions *t, LvError *error) {
    double base = model_rate(open), rate = NAN;
    t->clip = train_takes(open, "text") || train_takes(open, "tokens") ? 1 : 0;  // minGPT's
    if (!number(options, "learning-rate", 0, &base, error) || !number(options, "lr", 0, &rate, error) ||
        !read_schedule(options, &t->schedule, error) || !integer(options, "warmup", 0, INT32_MAX, 0, &t->warmup, error) ||
        !number(options, "clip", 0, &t->clip, error)) {
        return false;
    }
    t->rate = isnan(rate) ? base * (double)(t->batch * lv_comm_size(t->comm)) : rate;
    if (!isnan(t->rate)) return true;
    lv_error_set(error, LV_ERROR_USAGE, "no learning rate: the model has no parameter learning_rate");
    return lv_error_hint(error, "--lr 1e-3, say");
}

// ---- data

static bool read_crop(Options *options, LvTrainOptions *t, LvError *error) {
    const char *crop = options_get(options, "crop", "random");
    t->scale_min = 0.75;
    t->flip = options_flag(options, "flip", false);
    if (!number(options, "resize-ratio", 0.01, &t->scale_min, error)) return false;
    if (t->scale_min > 1) return lv_error_set(error, LV_ERROR_USAGE, "--resize-ratio is at most 1, not %g", t->scale_min);
    if (!strcmp(crop, "random")) t->crop = LV_CROP_RANDOM;
    else if (!strcmp(crop, "center") || !strcmp(crop, "centre")) t->crop = LV_CROP_CENTER;
    else return lv_error_set(error, LV_ERROR_USAGE, "--crop is random or center, not '%s'", crop);
    return true;
}

static bool read_limit(Options *options, LvTrainOptions *t, LvError *error) {
    double limit = 0;
    if (!number(options, "limit-train-batches", 0, &limit, error)) return false;
    if (limit > 0 && limit < 1) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "--limit-train-batches takes a number of batches here, not a share");
        return lv_error_hint(error, "a share of 1.0 means all of them, and is the default");
    }
    const char *text = options_get(options, "limit-train-batches", "");
    t->limit_batches = strchr(text, '.') ? 0 : (int64_t)limit;  // 1.0 is all, 1 is one
    return true;
}

static bool read_data(Options *options, LvTrainOptions *t, LvError *error) {
    bool fake = options_flag(options, "fake-data", false);
    int64_t workers;
    t->train_data = options_get(options, "train-dir", fake ? "fake:1000" : NULL);
    t->val_data = options_get(options, "val-dir", fake ? "fake:64" : NULL);
    if (!strcmp(options_get(options, "val-percent-check", ""), "0")) t->val_data = NULL;
    if (!t->train_data) {
        lv_error_set(error, LV_ERROR_USAGE, "--train-dir is missing");
        return lv_error_hint(error, "--train-dir FOLDER of pictures, text:PATH, or --fake-data to try things without");
    }
    if (!integer(options, "num-workers", 0, 256, 2, &workers, error)) return false;
    t->workers = (int)workers;
    return read_crop(options, t, error) && read_limit(options, t, error) &&
           integer(options, "val-limit", 0, INT64_MAX, 0, &t->val_limit, error);
}

// ---- pairs

static bool read_pairs(Options *options, const OpenModel *open, LvTrainOptions *t, LvError *error) {
    int64_t variants = 0, samples;
    const char *folder = options_get(options, "cache-dir", NULL);
    bool keep = options_flag(options, "cache-tokens", options_has(options, "cache-variants") || folder);
    LvText cache = {0};
    if (!integer(options, "samples", 0, 64, 4, &samples, error) || !integer(options, "cache-variants", 1, 4096, 0, &variants, error))
        return false;
    t->samples = (int)samples;
    if (!keep) return true;
    if (t->flip && variants == 0) {
        lv_error_set(error, LV_ERROR_USAGE, "--flip: the pictures whose codes are kept are centre crops, which are not mirrored");
        return lv_error_hint(error, "--cache-variants N keeps N random crops of each picture, half of them mirrored");
    }
    if (!folder && lv_folder_cache(&cache)) folder = lv_arena_printf(options->arena, "%s/codes", cache.data);
    lv_text_free(&cache);
    if (!folder) return lv_error_set(error, LV_ERROR_USAGE, "--cache-tokens: there is no cache folder; name one by --cache-dir");
    if (!train_takes(open, "image"))
        return lv_error_set(error, LV_ERROR_USAGE, "--cache-tokens: the model takes pictures, not their codes");
    t->codes_folder = folder;
    t->codes_variants = (int)variants;
    return true;
}

bool train_share(const Options *options, double *share, LvError *error) {
    *share = 0.5;
    if (!options_number(options, "text-to-image-share", share, error)) return false;
    return (*share >= 0 && *share <= 1) ||
           lv_error_set(error, LV_ERROR_USAGE, "--text-to-image-share is from 0 to 1, not %g", *share);
}

// ---- the rest

static bool read_length(Options *options, LvTrainOptions *t, LvError *error) {
    bool steps = options_has(options, "steps"), epochs = options_has(options, "epochs");
    int64_t keep;
    if (!integer(options, "steps", 1, INT32_MAX, 0, &t->steps, error) ||
        !integer(options, "epochs", 1, INT32_MAX, steps && !epochs ? 0 : 30, &t->epochs, error) ||
        !integer(options, "batch-size", 1, 1 << 20, 8, &t->batch, error) ||
        !integer(options, "accumulate", 1, 1 << 20, 1, &t->accumulate, error) ||
        !integer(options, "val-every", 0, INT32_MAX, 0, &t->val_every, error) ||
        !integer(options, options_has(options, "save-every") ? "save-every" : "backup-steps", 0, INT32_MAX, 0,
                 &t->save_every, error) ||
        !integer(options, "keep", 1, 1 << 20, 3, &keep, error)) {
        return false;
    }
    t->keep = (int)keep;
    if (!integer(options, "profile", 0, 1 << 20, 0, &t->profile, error)) return false;
    return integer(options, "seed", INT64_MIN, INT64_MAX, 42, &t->seed, error);
}

// runs/augvae-tiny: the same for the same command, so that running it again goes on.
static const char *default_out(const Options *options, const OpenModel *open) {
    const char *slash = strrchr(open->path, '/'), *name = slash ? slash + 1 : open->path, *dot = strrchr(name, '.');
    const char *config = lv_model_config(open->model);
    int length = dot && dot > name ? (int)(dot - name) : (int)strlen(name);
    return lv_arena_printf(options->arena, "runs/%.*s%s%s", length, name, config && *config ? "-" : "", config ? config : "");
}

// A checkpoint as MODEL gives its weights too; --init files come over them.
static void read_init(const Options *options, const OpenModel *open, LvTrainOptions *t) {
    LvInitFile *files = LV_NEW_ARRAY(options->arena, LvInitFile, options->given.count + 2);
    if (open->checkpoint) files[t->init_count++] = (LvInitFile){"", open->path};
    for (size_t i = 0; i < options->given.count; i++) {
        const char *name = options->given.data[i].spec->name;
        if (strcmp(name, "init") && strcmp(name, "pretrained-path") && strcmp(name, "ckpt-path")) continue;
        const char *text = options->given.data[i].value, *equals = strchr(text, '=');
        LvInitFile file = {"", text};
        if (equals) file = (LvInitFile){lv_arena_printf(options->arena, "%.*s.", (int)(equals - text), text), equals + 1};
        files[t->init_count++] = file;
    }
    t->init = files;
}

bool train_options_read(Options *options, const OpenModel *open, LvComm *comm, LvTrainOptions *t, LvError *error) {
    *t = (LvTrainOptions){.comm = comm, .fresh = options_flag(options, "fresh", false), .images = true};
    t->tensorboard = options_flag(options, "tensorboard", true);
    t->out = options_get(options, "out", options_get(options, "log-dir", NULL));
    if (!t->out) t->out = default_out(options, open);
    read_init(options, open, t);
    return read_length(options, t, error) && read_rate(options, open, t, error) && read_data(options, t, error) &&
           read_pairs(options, open, t, error);
}
