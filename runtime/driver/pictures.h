// Pictures named on the command line: files and data sets, in order, made ready for a network in batches.
#ifndef LV_DRIVER_PICTURES_H
#define LV_DRIVER_PICTURES_H

#include <jansson.h>

#include "base/dtype.h"
#include "base/text.h"
#include "base/vec.h"
#include "data/dataset.h"

typedef struct {
    LvDataset *data;   // NULL: a file
    size_t sample;
    const char *name;  // relative to its data set, or the file's path
} PictureItem;

typedef struct {
    LV_VEC(PictureItem) items;
    LV_VEC(LvDataset *) sets;
} Pictures;

bool pictures_open(Pictures *pictures, const char *const *words, size_t count, LvError *error);
void pictures_close(Pictures *pictures);
// [3, side, side]: the shorter side resized, the centre cut out. False: unreadable.
bool pictures_load(const Pictures *pictures, size_t index, int side, uint8_t *out, LvError *error);
void pictures_name_for(const PictureItem *item, LvText *out);  // "dir_a.png" from "dir/a.jpg": a flat name for a result
// Codes of pictures in a safetensors file: one tensor `tokens`, [pictures, codes...] whatever the first of `shape` is, and the
// pictures' names, an array of strings, in the metadata `names` as JSON.
bool pictures_write_codes(const char *path, LvDType dtype, LvShape shape, const void *codes, const json_t *names, LvError *error);

#endif
