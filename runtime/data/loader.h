// Batches for training and evaluation: worker threads read, decode and transform ahead of the caller, at most `prefetch`
// batches ahead. What a batch holds depends on (data set, seed, rank, world, batch, position) alone: not on the number of
// workers, on timing, or on what was read before; so a loader put back at a saved position gives the same bits.
//
//   LvLoader *loader;
//   LvLoaderOptions options = lv_loader_options();
//   options.batch = 8, options.resolution = 64;  // or start from lv_loader_options_training()
//   if (!lv_loader_create(&loader, dataset, &options, &error)) ...
//   const LvBatch *batch;
//   while (lv_loader_next(loader, &batch, &error) && batch) { use batch->pictures; save batch->after; }
//   lv_loader_destroy(loader);
#ifndef LV_DATA_LOADER_H
#define LV_DATA_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "data/dataset.h"
#include "data/transforms.h"

typedef struct LvLoader LvLoader;

// Where the next sample comes from: over all ranks, so that it is the same number on each of them.
typedef struct {
    uint64_t epoch, index;  // index: samples of this epoch already given out, 0 at its start
} LvPosition;

// Called on the thread that calls lv_loader_next, once per broken sample, in the order in which they stand in batches.
typedef void LvBrokenFn(void *user, const char *name, const char *message);

typedef struct {
    int batch;             // per rank
    int resolution;        // 0: no pictures are read; of text none are
    LvCrop crop;           // LV_CROP_CENTER unless training asks for LV_CROP_RANDOM
    LvFilter filter;       // LV_FILTER_BICUBIC
    bool flip;             // mirror half of the samples
    double scale_min, scale_max;  // random crop: share of the picture's area, 0.75 and 1 as in the original
    uint64_t seed;
    int rank, world;       // 0 of 1
    int workers;           // threads; 0: the caller's own thread does the work
    int prefetch;          // batches ready or under way, 2 at least with workers
    bool shuffle;          // another order each epoch
    bool drop_last;        // only full batches; else the last one is padded and its `count` is smaller
    uint64_t epochs;       // batch NULL after so many; 0: goes on for ever
    bool captions;         // read captions too; a sample without one is passed over as a broken picture is
    const uint8_t *lost;   // [samples] not 0: known to be broken, though pictures are not read; NULL: nothing is known
    size_t cache_bytes;    // decoded pictures kept in memory; 256 MiB, 0: none
    LvBrokenFn *broken;    // may be NULL
    void *broken_user;
} LvLoaderOptions;

LvLoaderOptions lv_loader_options(void);           // evaluation: in order, centre crop, one epoch, nothing dropped
LvLoaderOptions lv_loader_options_training(void);  // shuffled, flips, random crop, full batches, endless

typedef struct {
    int size;               // B as asked for
    int count;              // real samples; those after are padding (the epoch's first samples), not to be counted
    const uint8_t *pictures;  // [B, 3, R, R]; NULL where none are read
    const int32_t *tokens;  // [B, T] windows of a text, drawn when shuffling, else side by side; NULL of other data sets
    const int64_t *samples;            // [B] indexes into the data set
    const char *const *names;          // [B]
    const char *const *captions;       // [B] one caption each, a line of several drawn each epoch; NULL unless asked for
    const uint32_t *draws;             // [B] a random word per sample, of (seed, epoch, sample): for choices outside the loader
    LvPosition at, after;              // where this batch begins, and where the one after it does: what a checkpoint saves
} LvBatch;

// The data set must outlive the loader.
bool lv_loader_create(LvLoader **loader, const LvDataset *dataset, const LvLoaderOptions *options, LvError *error);
void lv_loader_destroy(LvLoader *loader);

// The next batch, valid until the next call; NULL after the last epoch. False when nothing in the data set can be read.
bool lv_loader_next(LvLoader *loader, const LvBatch **batch, LvError *error);

void lv_loader_seek(LvLoader *loader, LvPosition position);  // drops what was prefetched
LvPosition lv_loader_position(const LvLoader *loader);       // `after` of the last batch given out
uint64_t lv_loader_batches(const LvLoader *loader);          // batches in one epoch, per rank
size_t lv_loader_broken(const LvLoader *loader);             // broken samples met so far
size_t lv_loader_uncaptioned(const LvLoader *loader);        // samples met so far that lack nothing but a caption
double lv_loader_waited(const LvLoader *loader);             // seconds that callers of lv_loader_next spent waiting

#endif
