// Validation: the model's own entries over a data set, as many of these as the model has.
//   validate(image) -> {image, tokens: int, …}   each scalar result, mean over pictures, as val_NAME, and all that follows
// or, where there is none or it gives no pictures:
//   eval(image)                        the scalar results
//   encode(image) -> {tokens: int}, decode(tokens) -> {image}, or else reconstruct(image) -> {image}:
//       val_psnr, mean over pictures of 10 log10(4 / mse), outputs clamped to [-1, 1]; with encode: val_codes_used
// A result NAME_weight says what NAME weighs in its mean, where that is not the number of pictures: tokens that a loss counts,
// say. An entry with an input `direction` sees each picture in both directions.
#ifndef LV_TRAIN_VALIDATE_H
#define LV_TRAIN_VALIDATE_H

#include "io/sheet.h"
#include "train/train.h"

typedef struct LvValidator LvValidator;

typedef struct {
    const char *data;              // a data set (data/dataset.h)
    int64_t batch;                 // about how many pictures a run
    int64_t limit;                 // pictures in all, 0: every one
    int workers;
    LvComm *comm;                  // ranks that share the pictures among them; NULL: this process alone
    int64_t seed;
    const LvFeedSources *sources;  // of models of text and pictures, else NULL
    const LvCodesOptions *codes;   // where the pictures' codes are kept, NULL: nowhere
} LvValidatorOptions;

typedef struct {
    char *name;  // "val_loss"
    double value;
} LvScore;

// Of several ranks all call these two, and all have the scores; the sheet is of the pictures that each saw itself.
bool lv_validator_create(LvDevice *device, LvStore *store, const LvPlanSource *source, const LvValidatorOptions *options,
                         LvValidator **validator, LvError *error);
void lv_validator_destroy(LvValidator *validator);
// Fills the scores. `sheet` (may be NULL) gets pictures spread over the data set above their reconstructions.
bool lv_validator_run(LvValidator *validator, const volatile sig_atomic_t *stop, LvError *error);
int lv_validator_scores(const LvValidator *validator, const LvScore **scores);
double lv_validator_score(const LvValidator *validator, const char *name);  // NAN if it has none of that name
const LvSheet *lv_validator_sheet(const LvValidator *validator);            // of the last run; NULL: no pictures come out
int64_t lv_validator_pictures(const LvValidator *validator);                // in one run
const char *lv_validator_unit(const LvValidator *validator);                // what these are: "pictures", "windows" of text
size_t lv_validator_broken(const LvValidator *validator);       // pictures that could not be read
size_t lv_validator_uncaptioned(const LvValidator *validator);  // pairs left out for want of a caption

double lv_psnr(const float *picture, const float *output, size_t count);    // `output` is clamped first

#endif
