// What a model of text and pictures makes while it is trained: pictures drawn from a few captions
// of the validation data, and captions written for their pictures. By the model's entries
// draw_begin, draw_next, describe_begin and describe_next (generate/writer.h) and the picture
// tokenizer's entry decode (generate/painter.h).
#ifndef LV_TRAIN_SAMPLES_H
#define LV_TRAIN_SAMPLES_H

#include "io/contact.h"
#include "train/feed.h"

typedef struct LvSamples LvSamples;

typedef struct {
    const char *name, *given,
        *written;  // of the picture; its caption; the caption that the model wrote for it
} LvSample;

// `count` pairs spread over the data set. Their pictures are read, encoded and kept.
bool lv_samples_create(const char *data, int count, int64_t seed, const LvFeedSources *sources,
                       LvSamples **samples, LvError *error);
void lv_samples_destroy(LvSamples *samples);
// Draws and writes with the weights as they are. The caches that this takes are given back. *able
// false: the model has not the entries for it, and nothing is done.
bool lv_samples_take(LvSamples *samples, const LvNetwork *network, bool *able, LvError *error);
int lv_samples_count(const LvSamples *samples);
LvSample lv_samples_at(const LvSamples *samples, int index);
// The pictures drawn, over their captions; the pictures given, over what was written for them.
bool lv_samples_save(const LvSamples *samples, const char *path, LvError *error);

#endif
