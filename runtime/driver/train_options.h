// The options of `lvrun train`: its own, and the original's train_vae.py.
#ifndef LV_DRIVER_TRAIN_OPTIONS_H
#define LV_DRIVER_TRAIN_OPTIONS_H

#include "model.h"
#include "train/train.h"

extern const OptionSpec train_option_specs[];

// Reads everything but the model's part; texts live as long as `options`. `base_rate`: the model's own learning_rate, or NAN.
bool train_options_read(Options *options, const OpenModel *open, LvComm *comm, LvTrainOptions *train, LvError *error);
// What must be known before the model is opened: aliases of its parameters, devices that this machine lacks.
bool train_options_prepare(Options *options, LvError *error);

// --text-to-image-share.
bool train_share(const Options *options, double *share, LvError *error);

#endif
