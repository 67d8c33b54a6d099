// Every picture format: an error, or pixels that can be resampled. Seeds: tests/unit/pictures.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "data/picture.h"
#include "data/transforms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { SIDE = 16 };
    LvPicture picture;
    LvError error = {0};
    if (!lv_picture_decode(&picture, data, size, &error)) {
        if (!error.message || picture.pixels) abort();
        lv_error_clear(&error);
        return 0;
    }
    if ((int64_t)picture.width * picture.height < 1 << 20) {  // larger ones only cost time
        uint8_t out[SIDE * SIDE * 3];
        LvDraws draws = {size, 0, 0};
        lv_transform_center(&picture, SIDE, (LvFilter)(size % 4), out);
        lv_transform_random(&picture, lv_crop_random(picture.width, picture.height, 0.75, 1.0, &draws), SIDE, (LvFilter)(size % 4), out);
    }
    lv_picture_free(&picture);
    return 0;
}
