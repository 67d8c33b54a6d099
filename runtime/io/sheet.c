// Sheets of pictures: see sheet.h.
#include "io/sheet.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "data/transforms.h"

enum { GAP = 2 };  // pixels between pictures; twice as much between pairs of rows

LvSheet *lv_sheet_create(int side, int columns, int limit) {
    LvSheet *sheet = lv_calloc(1, sizeof *sheet);
    size_t floats = (size_t)3 * (size_t)side * (size_t)side;
    *sheet = (LvSheet){.side = side, .columns = columns, .limit = limit};
    sheet->above = lv_calloc((size_t)limit * floats, sizeof(float));
    sheet->below = lv_calloc((size_t)limit * floats, sizeof(float));
    return sheet;
}

void lv_sheet_destroy(LvSheet *sheet) {
    if (!sheet) return;
    free(sheet->above);
    free(sheet->below);
    free(sheet);
}

void lv_sheet_add(LvSheet *sheet, const float *above, const float *below) {
    if (sheet->count == sheet->limit) return;
    size_t floats = (size_t)3 * (size_t)sheet->side * (size_t)sheet->side;
    memcpy(sheet->above + (size_t)sheet->count * floats, above, floats * sizeof(float));
    memcpy(sheet->below + (size_t)sheet->count * floats, below, floats * sizeof(float));
    sheet->count++;
}

static void place(LvPicture *picture, const float *planes, int side, int x, int y, uint8_t *scratch) {
    lv_transform_to_bytes(planes, side, scratch);
    for (int row = 0; row < side; row++) {
        uint8_t *to = picture->pixels + ((size_t)(y + row) * (size_t)picture->width + (size_t)x) * 3;
        memcpy(to, scratch + (size_t)row * (size_t)side * 3, (size_t)side * 3);
    }
}

bool lv_sheet_draw(const LvSheet *sheet, LvPicture *picture, LvError *error) {
    int columns = sheet->count < sheet->columns ? sheet->count : sheet->columns;
    if (columns == 0) return lv_error_set(error, LV_ERROR_USAGE, "a sheet without pictures");
    int rows = (sheet->count + columns - 1) / columns, step = sheet->side + GAP, pair = 2 * sheet->side + 3 * GAP;
    if (!lv_picture_alloc(picture, (int64_t)columns * step + GAP, (int64_t)rows * pair + GAP, error)) return false;
    memset(picture->pixels, 255, (size_t)picture->width * (size_t)picture->height * 3);
    uint8_t *scratch = lv_malloc((size_t)sheet->side * (size_t)sheet->side * 3);
    size_t floats = (size_t)3 * (size_t)sheet->side * (size_t)sheet->side;
    for (int i = 0; i < sheet->count; i++) {
        int x = GAP + i % columns * step, y = GAP + i / columns * pair;
        place(picture, sheet->above + (size_t)i * floats, sheet->side, x, y, scratch);
        place(picture, sheet->below + (size_t)i * floats, sheet->side, x, y + sheet->side + GAP / 2, scratch);
    }
    free(scratch);
    return true;
}
