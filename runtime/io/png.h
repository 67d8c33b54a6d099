// PNG files from pictures, through libspng.
#ifndef LV_IO_PNG_H
#define LV_IO_PNG_H

#include "base/text.h"
#include "data/picture.h"

bool lv_png_encode(const LvPicture *picture, LvText *out, LvError *error);  // appends the file's bytes

#endif
