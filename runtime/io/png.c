// PNG writing: see png.h.
#include "io/png.h"

#include <stdlib.h>

#include <spng.h>

bool lv_png_encode(const LvPicture *picture, LvText *out, LvError *error) {
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!context) return lv_error_set(error, LV_ERROR_MEMORY, "no memory for a PNG");
    struct spng_ihdr header = {.width = (uint32_t)picture->width, .height = (uint32_t)picture->height, .bit_depth = 8,
                               .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    size_t bytes = (size_t)picture->width * (size_t)picture->height * 3, length = 0;
    void *file = NULL;
    int code = spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    if (!code) code = spng_set_ihdr(context, &header);
    if (!code) code = spng_encode_image(context, picture->pixels, bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    if (!code) file = spng_get_png_buffer(context, &length, &code);
    if (!code) lv_text_append(out, file, length);
    free(file);
    spng_ctx_free(context);
    return code == 0 || lv_error_set(error, LV_ERROR_IO, "cannot write a PNG of %d x %d: %s", picture->width, picture->height,
                                     spng_strerror(code));
}
