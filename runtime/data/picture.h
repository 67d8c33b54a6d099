// A decoded picture: RGB, 8 bits, rows packed. Readers for JPEG, PNG, WebP, BMP and PNM over bytes in memory; the format
// is told by the bytes, never by the name. Alpha is laid over white, grey becomes RGB, CMYK is converted as Pillow does;
// EXIF orientation and colour profiles are ignored, as by the original's loader.
// The bytes are hostile: sizes are checked against the limits before anything is allocated for them.
#ifndef LV_DATA_PICTURE_H
#define LV_DATA_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct {
    int width, height;
    uint8_t *pixels;  // [height, width, 3], owned
} LvPicture;

enum {
    LV_PICTURE_MAX_SIDE = 65535,                 // what JPEG can say; also keeps every product within 64 bits
    LV_PICTURE_MAX_PIXELS = 128 * 1024 * 1024,   // 384 MiB decoded: larger is a bomb, not a training picture
    LV_PICTURE_MAX_FILE = 512 * 1024 * 1024,     // bytes of one encoded picture
};

bool lv_picture_decode(LvPicture *picture, const void *bytes, size_t length, LvError *error);
bool lv_picture_load(LvPicture *picture, const char *path, LvError *error);  // decode of a whole file, path in the message
void lv_picture_free(LvPicture *picture);
bool lv_picture_known_suffix(const char *name);  // .png .jpg .jpeg .webp .bmp .ppm .pgm .pbm .pnm in any case

// Allocates `pixels` for a size already known; false and an error when it breaks the limits.
bool lv_picture_alloc(LvPicture *picture, int64_t width, int64_t height, LvError *error);

// PNG, for grids, reconstructions and tests.
bool lv_picture_save_png(const LvPicture *picture, const char *path, LvError *error);

#endif
