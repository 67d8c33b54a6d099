// JPEG through libjpeg-turbo: baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK (converted as Pillow does).
// libjpeg reports errors by longjmp; everything that the jump must release is in one struct, reached through the
// decompressor, so that no local variable changes between setjmp and longjmp.
#include <setjmp.h>
#include <stdio.h>  // before jpeglib.h, which needs FILE
#include <stdlib.h>

#include <jerror.h>
#include <jpeglib.h>

#include "data/decoders.h"

enum { MAX_SCANS = 200 };  // a few bytes per scan make a progressive file cost minutes; real ones have about ten

typedef struct {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
    bool truncated;
    LvPicture *picture;
    uint8_t *row;  // one row as libjpeg gives it, when that is not RGB
} Jpeg;

static Jpeg *of(j_common_ptr common) { return (Jpeg *)common->client_data; }

static void on_error(j_common_ptr common) {
    common->err->format_message(common, of(common)->message);
    longjmp(of(common)->escape, 1);
}

// libjpeg goes on after damage and fills the rest with grey. A file that ends early is broken; other damage is let pass.
static void on_message(j_common_ptr common, int level) {
    if (level < 0) {
        common->err->num_warnings++;
        if (common->err->msg_code == JWRN_JPEG_EOF) of(common)->truncated = true;
    }
}

static void on_output(j_common_ptr common) { (void)common; }

static void on_progress(j_common_ptr common) {
    if (((j_decompress_ptr)common)->input_scan_number > MAX_SCANS) {
        snprintf(of(common)->message, JMSG_LENGTH_MAX, "more than %d scans", MAX_SCANS);
        longjmp(of(common)->escape, 1);
    }
}

// Adobe writes CMYK inverted; Pillow turns it round only when Adobe's marker is there.
static void cmyk_row(const uint8_t *in, uint8_t *out, int width, bool inverted) {
    for (int x = 0; x < width; x++, in += 4, out += 3) {
        int flip = inverted ? 255 : 0, white = 255 - (in[3] ^ flip);
        for (int c = 0; c < 3; c++) {
            int value = white - multiply_255(in[c] ^ flip, white);
            out[c] = (uint8_t)(value < 0 ? 0 : value);
        }
    }
}

static bool decode(Jpeg *state, const uint8_t *bytes, size_t length, LvError *error) {
    j_decompress_ptr jpeg = &state->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->client_data = state;
    jpeg->progress = &state->progress;
    state->progress.progress_monitor = on_progress;
    jpeg_mem_src(jpeg, bytes, length);
    jpeg_read_header(jpeg, TRUE);
    if (!lv_picture_alloc(state->picture, jpeg->image_width, jpeg->image_height, error)) return false;
    bool four = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    jpeg->out_color_space = four ? JCS_CMYK : JCS_RGB;  // grey becomes RGB inside
    jpeg_start_decompress(jpeg);
    int width = (int)jpeg->output_width;
    if (four) state->row = malloc((size_t)width * 4);
    if (four && !state->row) return lv_error_set(error, LV_ERROR_MEMORY, "JPEG: no memory");
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *out = state->picture->pixels + (size_t)jpeg->output_scanline * (size_t)width * 3;
        JSAMPROW row = four ? state->row : out;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (four) cmyk_row(state->row, out, width, jpeg->saw_Adobe_marker);
    }
    if (state->truncated) return lv_error_set(error, LV_ERROR_FORMAT, "JPEG: ends too early");
    return true;
}

bool decode_jpeg(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    Jpeg state = {.picture = picture};
    state.jpeg.err = jpeg_std_error(&state.errors);
    state.jpeg.client_data = &state;
    state.errors.error_exit = on_error;
    state.errors.emit_message = on_message;
    state.errors.output_message = on_output;
    bool good = setjmp(state.escape) ? lv_error_set(error, LV_ERROR_FORMAT, "JPEG: %s", state.message)
                                     : decode(&state, bytes, length, error);
    jpeg_destroy_decompress(&state.jpeg);
    free(state.row);
    if (!good) lv_picture_free(picture);
    return good;
}
