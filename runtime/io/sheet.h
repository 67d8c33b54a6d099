// A sheet of pictures in rows and columns: inputs above what the network made of them.
#ifndef LV_IO_SHEET_H
#define LV_IO_SHEET_H

#include "data/picture.h"

typedef struct {
    int side, columns, count;  // pairs kept so far, at most `limit`
    int limit;
    float *above, *below;      // [limit, 3, side, side] in [-1, 1]
} LvSheet;

LvSheet *lv_sheet_create(int side, int columns, int limit);
void lv_sheet_destroy(LvSheet *sheet);
void lv_sheet_add(LvSheet *sheet, const float *above, const float *below);  // [3, side, side] each; beyond the limit: nothing
// Rows of `columns` inputs, each with its row of results under it; white lines between pairs. False: too large.
bool lv_sheet_draw(const LvSheet *sheet, LvPicture *picture, LvError *error);

#endif
