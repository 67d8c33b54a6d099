// Training a model: steps, validation, checkpoints, logs. The model comes as plans, made by whoever calls (the driver knows
// the compiler, this folder does not); nothing here knows any model's name: results are logged under the names the entries
// give them, and what an entry takes is filled by name from the data set (feed.h).
//
// With several ranks each has its own part of every batch and of what is validated, and rank 0 alone has the folder: it writes and shows.
// All have rank 0's plan, variables and state.
//
// A run folder: log.jsonl, checkpoints/{last,best,step-N}.safetensors, images/step-N.png, curve.png, TensorBoard events.
// Same seed, data and options: the same bits, also when killed at any moment and run again.
#ifndef LV_TRAIN_TRAIN_H
#define LV_TRAIN_TRAIN_H

#include <signal.h>

#include "comm/comm.h"
#include "data/transforms.h"
#include "exec/program.h"
#include "train/feed.h"
#include "train/rate.h"
#include "train/restore.h"

typedef struct {
    int64_t step, steps;
    uint64_t epoch;
    double loss, rate, seconds_left;
    double items_per_second;  // `items`: "pictures", or "tokens" where the model takes such
    const char *items;
    double peak_share;        // of the machine's peak FLOP/s, NAN where that is unknown
    double psnr, val_loss;    // of the last validation, NAN where there is none
    int64_t bytes;
} LvProgress;

// What the user sees. `note` is a line that stays; `progress` comes after every step, `done` by the end of the last.
typedef struct {
    void *user;
    void (*note)(void *user, const char *line);
    void (*progress)(void *user, const LvProgress *progress);
    void (*encoded)(void *user, int64_t done, int64_t all);  // while pictures are encoded into a file; may be NULL
    // Times of the plan's steps over so many of its runs, where options ask for a profile.
    void (*profiled)(void *user, const LvPlan *plan, const LvProgram *program, int runs);
} LvTrainView;

typedef struct {
    const char *prefix;  // tensors of the file go to variables of this prefix: "perceptual." or ""
    const char *path;
} LvInitFile;

typedef struct {
    const char *out;                     // the run's folder
    const char *train_data, *val_data;   // data sets (data/dataset.h); val_data may be NULL
    int64_t steps, epochs;               // 0: no bound; the nearer one holds
    int64_t batch, accumulate;           // pictures a run of the entry, runs an update
    int64_t limit_batches;               // batches of an epoch that are used, 0: all
    double rate;                         // the peak
    double clip;                         // bound of the gradient's norm, 0: none
    double loss_scale;                   // in f16, what a new run's loss is multiplied by at first; 0: as the plan has it
    LvSchedule schedule;
    int64_t warmup, seed;
    int64_t save_every, val_every;       // steps; 0: at the end of each epoch
    int64_t val_limit;                   // pictures of a validation, 0: all
    int keep;                            // step-N checkpoints that stay
    int workers;
    LvCrop crop;
    bool flip;
    double scale_min;
    bool fresh;                          // an earlier run in `out` is thrown away
    bool tensorboard, images;
    const LvInitFile *init;
    int init_count;
    const LvFeedSources *sources;        // of models of text and pictures, else NULL
    const char *codes_folder;            // pictures are encoded once, into files there; NULL: as they come
    int codes_variants;                  // random crops of a picture that are encoded; 0: the centre crop alone
    const LvCarried *carried;            // what each checkpoint carries besides the model's own; may be NULL
    int64_t profile;                     // updates, after the first, whose time is taken step by step; 0: none
    int samples;                         // pairs that the model draws and describes at each validation; 0: none
    double peak;                         // FLOP/s that this machine reaches at best, 0: unknown
    const char *title;                   // of the curve
    LvComm *comm;                        // the ranks that train together, which the device has joined; NULL: this process alone
    const char *model;                   // for the metadata `lverse.model`
    const char *config;                  // config.yaml of the run
    const volatile sig_atomic_t *stop;   // set: save and stop
} LvTrainOptions;

typedef struct {
    int64_t step, first_step;            // done in all; where this call began
    bool stopped, was_done;
    double seconds;                      // of this call
    double loss, psnr, val_loss, best_loss;  // NAN where there is none
    int64_t best_step;
    size_t broken;                       // pictures that could not be read
    size_t uncaptioned;                  // pairs that had to be left out for want of a caption
    int64_t skipped;                     // steps of this call that made no update, in f16
    double loss_scale;                   // of the next step, in f16
} LvTrainSummary;

bool lv_train(LvDevice *device, const LvPlanSource *source, const LvTrainOptions *options, const LvTrainView *view,
              LvTrainSummary *summary, LvError *error);

#endif
