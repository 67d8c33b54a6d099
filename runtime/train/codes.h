// The codes of all pictures of a data set, made once and kept in a file (io/code_file.h) that later epochs and runs read.
// The file is named after everything that decides the codes: the picture tokenizer's weights, the files of the data set and how
// they are cropped; so another file is never taken for it.
#ifndef LV_TRAIN_CODES_H
#define LV_TRAIN_CODES_H

#include <signal.h>

#include "data/loader.h"
#include "train/coder.h"

typedef struct LvCodes LvCodes;

typedef struct {
    const char *folder;     // where the files are; made where it is missing
    int64_t vocabulary;     // codes are below it
    int variants;           // random crops of each picture that are kept; 0: the centre crop alone
    double scale_min;       // of random crops
    bool flip;              // mirror half of the variants
    uint64_t seed;
    int workers;
    const volatile sig_atomic_t *stop;
    void *user;
    void (*note)(void *user, const char *line);                 // a line that stays
    void (*progress)(void *user, int64_t done, int64_t all);    // while it is made; may be NULL
    LvBrokenFn *broken;
} LvCodesOptions;

// Reads the file or makes it. LV_ERROR_INTERRUPTED where `stop` was set: the same call goes on later.
bool lv_codes_open(const LvDataset *data, LvCoder *coder, const LvCodesOptions *options, LvCodes **codes, LvError *error);
void lv_codes_close(LvCodes *codes);
const uint8_t *lv_codes_lost(const LvCodes *codes);  // [samples] 1: the picture could not be read
// The variant that a sample has in an epoch: they take turns.
void lv_codes_get(const LvCodes *codes, int64_t sample, uint64_t epoch, int32_t *out);

#endif
