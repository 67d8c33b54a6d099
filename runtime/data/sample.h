// Private to the loader: one sample made ready, as a pure function of (data set, options, epoch, position). Holds what
// the threads share: which pictures are known to be broken; decoded pictures and captions kept in memory.
#ifndef LV_DATA_SAMPLE_H
#define LV_DATA_SAMPLE_H

#include "base/vec.h"
#include "data/loader.h"

typedef struct SampleMaker SampleMaker;

typedef struct {
    int64_t sample;   // the one that was used
    char *caption;    // owned, NULL unless asked for
    uint32_t draw;
    LV_VEC(int64_t) broken;  // those passed over before it
    bool failed;      // all are broken
} Slot;

SampleMaker *sample_maker_create(const LvDataset *dataset, const LvLoaderOptions *options);
void sample_maker_destroy(SampleMaker *maker);

// Fills `picture` ([3, R, R]), of text `tokens` ([T]), and `slot` with the sample at `position` of the epoch, or the next good
// one after it.
// Safe to call from several threads.
void sample_make(SampleMaker *maker, uint32_t epoch, uint64_t position, uint8_t *picture, int32_t *tokens, Slot *slot);
void sample_slot_clear(Slot *slot);
bool sample_is_uncaptioned(const SampleMaker *maker, int64_t sample);  // broken for want of a caption
const char *sample_broken_message(const SampleMaker *maker, int64_t sample);  // of one that a slot named as broken

#endif
