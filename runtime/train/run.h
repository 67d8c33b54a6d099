// A run in progress; run.c opens it (folder, data, program, variables: new or from a checkpoint), train.c steps it.
#ifndef LV_TRAIN_RUN_H
#define LV_TRAIN_RUN_H

#include "data/loader.h"
#include "train/feed.h"
#include "train/journal.h"
#include "train/restore.h"
#include "train/samples.h"
#include "train/train.h"
#include "train/validate.h"

// A step that is queued and not logged: its results are still to come.
typedef struct {
    int64_t step;
    uint64_t epoch;
    double rate, start;  // start: seconds of the clock, when its first batch was asked for
    int64_t runs;        // whose results are not read yet
} QueuedStep;

typedef struct {
    LvDevice *device;
    const LvPlanSource *source;
    const LvTrainOptions *options;
    const LvTrainView *view;
    LvDataset *data;
    LvLoader *loader;
    LvPlan *plan;  // of entry train
    LvStore *store;
    LvProgram *program;
    LvFeed feed;
    LvCodes *codes;  // of the data, where they are kept in a file
    double flops;    // of an update
    LvJournal *journal;
    LvValidator *validator;  // NULL until the first validation
    LvSamples *samples;      // likewise
    bool no_samples;         // the model cannot make any
    LvRateRule rule;
    LvRunState state;
    int64_t steps;           // the last one
    double *results;         // [plan's results], of the last step that was logged
    QueuedStep queued[LV_RESULTS_LATE + 1];  // a ring: the oldest first
    int first, count;
    int lag, unread;         // runs whose results may be unread, and are
    double *received;        // [plan's results], of a run
    double ended;            // when the last results came, seconds of the clock
    int64_t skipped;         // steps without an update in f16, of all whose results came
    uint64_t epoch;          // of the last batch
    bool epoch_ended;
    int64_t saved;           // step of the last checkpoint written, -1
    double speed, psnr, val_loss;  // pictures or tokens a second; of the last validation
    int64_t bytes;           // of the device's memory that all takes
    int64_t workspace;       // the library's part, as it was told first
    bool new_folder;               // this run made it
    int ranks;               // that train together, and which one of them this is
    int rank;
    bool stopping;           // all ranks know that one was asked to stop
    int lock;                // descriptor of the folder's lock, 0: none
} Run;

bool run_open(Run *run, LvError *error);
void run_close(Run *run);
LvCodesOptions run_codes_options(Run *run);  // of the run's data sets, but for `variants`
void run_note(Run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
