// TensorBoard event files: scalars and pictures.
#ifndef LV_IO_TENSORBOARD_H
#define LV_IO_TENSORBOARD_H

#include <stdint.h>

#include "data/picture.h"

typedef struct LvEvents LvEvents;

// A new events file in `folder`. `first_step`: events of earlier files from that step on are void (a resumed run).
bool lv_events_open(const char *folder, int64_t first_step, LvEvents **events, LvError *error);
bool lv_events_scalar(LvEvents *events, int64_t step, const char *tag, double value, LvError *error);
bool lv_events_picture(LvEvents *events, int64_t step, const char *tag, const LvPicture *picture, LvError *error);
bool lv_events_flush(LvEvents *events, LvError *error);
void lv_events_close(LvEvents *events);

uint32_t lv_crc32c(const void *data, size_t length);  // Castagnoli; for tests

#endif
