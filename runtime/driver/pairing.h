// What training and evaluation feed a model of text and pictures, or of text alone, with: its companions opened, checked against
// the model, and made ready.
#ifndef LV_DRIVER_PAIRING_H
#define LV_DRIVER_PAIRING_H

#include "companions.h"
#include "train/train.h"

typedef struct {
    Companions companions;
    LvDevice *device;
    LvCompileOptions compile;  // of the picture tokenizer
    int64_t batch;
    LvCoder *coder;
    LvFeedSources sources;     // of both, once complete
    LvCarried carried;         // what a checkpoint of the model needs of them
    LvArena *arena;
    LvText description;        // of the picture tokenizer
} Pairing;

// --tokenizer and --vae, before the model is opened: parameters of a model that follow from them (text_vocab, end_id, vocab,
// image_len, image_vocab) are set in `options` where they are not given. `batch`: pictures that are encoded in one run.
bool pairing_open(Pairing *pairing, Options *options, LvDevice *device, int64_t batch, LvError *error);
// What the files did not give is taken from the model's checkpoint. Refuses what does not fit the entry or the parameters.
bool pairing_complete(Pairing *pairing, const OpenModel *open, const char *entry, LvError *error);
void pairing_close(Pairing *pairing);

#define PAIRING_OPTIONS                                                                                          \
    {"tokenizer", OPTION_VALUE, "FILE", "of text: tokenizer.json or bpe_simple_vocab_16e6.txt.gz; text:PATH without it: bytes"}, \
    {"vae", OPTION_VALUE, "FILE", "checkpoint of the picture tokenizer (AugVAE), for models of pictures as codes"}

#endif
