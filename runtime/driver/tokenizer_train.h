// lvrun tokenizer train.
#ifndef LV_DRIVER_TOKENIZER_TRAIN_H
#define LV_DRIVER_TOKENIZER_TRAIN_H

#include "command.h"
#include "options.h"

extern const OptionSpec tokenizer_train_specs[];
bool tokenizer_train(const Options *options, LvError *error);

#endif
