// What `lvrun train` shows: lines that stay on stdout, and on a terminal a line of progress that is overwritten.
#ifndef LV_DRIVER_VIEW_H
#define LV_DRIVER_VIEW_H

#include "train/train.h"

typedef struct {
    bool terminal, open;  // `open`: a progress line stands there
    double shown;         // when
    LvDevice *device;     // whose peaks a profile is measured by
} View;

LvTrainView view_open(View *view, LvDevice *device);
void view_close(View *view);

#endif
