// Made-up pictures for the data set "fake:N".
#ifndef LV_DATA_FAKE_H
#define LV_DATA_FAKE_H

#include "data/picture.h"

bool fake_picture(uint64_t sample, LvPicture *picture, LvError *error);

#endif
