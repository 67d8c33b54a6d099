// lvrun eval: the scores of a model over a data set, as one JSON object.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonl.h"
#include "pairing.h"
#include "session.h"
#include "train/validate.h"

static const OptionSpec specs[] = {
    {"val-dir", OPTION_VALUE, "DATA", "pictures: a folder of any depth, tar shards, LIST.tsv, COCO.json, fake:N; text:PATH"},
    {"batch-size", OPTION_VALUE, "N", "pictures a run (default 16)"},
    {"val-limit", OPTION_VALUE, "N", "pictures in all (default: every one)"},
    {"num-workers", OPTION_VALUE, "N", "threads that read pictures (default 2)"},
    {"grid", OPTION_VALUE, "FILE.png", "some pictures above their reconstructions"},
    PAIRING_OPTIONS,
    SESSION_OPTIONS,
    {0},
};

static bool write_grid(const LvValidator *v, const char *path, LvError *error) {
    const LvSheet *sheet = lv_validator_sheet(v);
    LvPicture picture = {0};
    if (!sheet) return lv_error_set(error, LV_ERROR_USAGE, "--grid: the model gives no pictures (it has no entry reconstruct)");
    bool good = lv_sheet_draw(sheet, &picture, error) && lv_picture_save_png(&picture, path, error);
    lv_picture_free(&picture);
    return good;
}

// Whether the model's losses are of text or codes or both; *entry is then the one that gives them.
static bool wants_pairs(const OpenModel *open, const char **entry) {
    static const char *const names[] = {"eval", "validate"};
    int count;
    const LvModelEntry *entries = lv_model_entries(open->model, &count);
    bool pairs = false;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < count; i++) {
            if (strcmp(entries[i].name, names[k]) || !model_entry_is_paired(&entries[i])) continue;
            *entry = names[k];
            pairs = true;
        }
    }
    return pairs;
}

static bool evaluate(Session *s, LvError *error) {
    int64_t batch = 16, limit = 0, workers = 2, seed = 42;
    const char *data = options_get(&s->options, "val-dir", NULL), *grid = options_get(&s->options, "grid", NULL);
    LvValidator *v = NULL;
    Pairing pairing = {0};
    LvPlanSource plans = session_plans(s);
    int count;
    if (!data) {
        lv_error_set(error, LV_ERROR_USAGE, "--val-dir is missing");
        return lv_error_hint(error, "lvrun eval runs/x/checkpoints/best.safetensors --val-dir PICTURES");
    }
    if (!options_integer(&s->options, "batch-size", 1, 1 << 20, &batch, error) ||
        !options_integer(&s->options, "val-limit", 0, INT64_MAX, &limit, error) ||
        !options_integer(&s->options, "num-workers", 0, 256, &workers, error) ||
        !options_integer(&s->options, "seed", INT64_MIN, INT64_MAX, &seed, error)) {
        return false;
    }
    const LvModelEntry *entries = lv_model_entries(s->open.model, &count);
    const char *entry = count ? entries[0].name : "eval";  // any that does not train: the store has no moments
    for (int i = 0; i < count; i++) {
        if (!entries[i].trains) entry = entries[i].name;
    }
    bool pairs = wants_pairs(&s->open, &entry);
    LvValidatorOptions options = {.data = data, .batch = batch, .limit = limit, .workers = (int)workers, .seed = seed,
                                  .sources = pairs ? &pairing.sources : NULL};
    bool good = (!pairs || (pairing_open(&pairing, &s->options, s->device, batch, error) &&
                            pairing_complete(&pairing, &s->open, entry, error))) &&
                session_store(s, entry, 1, error) &&
                lv_validator_create(s->device, s->store, &plans, &options, &v, error);
    if (good) session_tell_memory(s);
    good = good && lv_validator_run(v, NULL, error);
    if (good) {
        const LvScore *scores;
        LvText row = {0};
        int n = lv_validator_scores(v, &scores);
        lv_row_integer(&row, lv_validator_unit(v), lv_validator_pictures(v));
        for (int i = 0; i < n; i++) lv_row_number(&row, scores[i].name, scores[i].value);
        if (lv_validator_broken(v)) lv_row_integer(&row, "broken", (int64_t)lv_validator_broken(v));
        if (lv_validator_uncaptioned(v)) lv_row_integer(&row, "uncaptioned", (int64_t)lv_validator_uncaptioned(v));
        printf("%s}\n", row.data);
        lv_text_free(&row);
    }
    good = good && (!grid || write_grid(v, grid, error));
    lv_validator_destroy(v);
    pairing_close(&pairing);
    return good;
}

int cmd_eval(int argc, char **argv) {
    static const SessionCommand command = {
        "lvrun eval MODEL --val-dir DATA [options]",
        "Runs the model over a data set: the results of its entry `validate` or `eval` as val_NAME, and val_psnr of its\n"
        "reconstructions (mean over pictures of 10 log10(4 / mse), outputs clamped to [-1, 1]). Prints one JSON object.",
        "  lvrun eval runs/augvae/checkpoints/best.safetensors --val-dir pictures/val\n"
        "  lvrun eval models/augvae.lv --config tiny --weights W.safetensors --val-dir V --grid grid.png\n",
        specs, 0, evaluate, NULL};
    return session_main(&command, argc, argv);
}
