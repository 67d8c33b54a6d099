// PNM, own reader: P1 to P6 (bits, grey, colour; as text or bytes), any maximum to 65535, comments.
#include <stdlib.h>

#include "data/decoders.h"

typedef struct {
    const uint8_t *at, *end;
} Cursor;

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void skip_space(Cursor *cursor) {
    while (cursor->at < cursor->end && (is_space(*cursor->at) || *cursor->at == '#')) {
        if (*cursor->at == '#') while (cursor->at < cursor->end && *cursor->at != '\n') cursor->at++;
        else cursor->at++;
    }
}

// -1: no number here. Saturates far above any legal value.
static int32_t read_number(Cursor *cursor) {
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at < '0' || *cursor->at > '9') return -1;
    int32_t value = 0;
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        value = value > 10000000 ? value : value * 10 + (*cursor->at - '0');
    }
    return value;
}

static int32_t read_bit(Cursor *cursor) {  // P1: digits may stand without space between
    skip_space(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '0' && *cursor->at != '1')) return -1;
    return *cursor->at++ - '0';
}

static uint8_t scale(int32_t value, int32_t maximum) {
    if (value > maximum) value = maximum;
    return maximum == 255 ? (uint8_t)value : (uint8_t)((value * 255 + maximum / 2) / maximum);
}

static bool cut(LvError *error) { return lv_error_set(error, LV_ERROR_FORMAT, "PNM: ends too early"); }

static void put(uint8_t *out, size_t i, int channels, uint8_t value) {
    if (channels == 3) out[i] = value;
    else out[i * 3] = out[i * 3 + 1] = out[i * 3 + 2] = value;
}

static bool read_text(Cursor *cursor, LvPicture *picture, int kind, int channels, int32_t maximum, LvError *error) {
    size_t count = (size_t)picture->width * (size_t)picture->height * (size_t)channels;
    for (size_t i = 0; i < count; i++) {
        int32_t value = kind == 1 ? read_bit(cursor) : read_number(cursor);
        if (value < 0) return cut(error);
        put(picture->pixels, i, channels, kind == 1 ? (value ? 0 : 255) : scale(value, maximum));
    }
    return true;
}

static bool read_bits(Cursor *cursor, LvPicture *picture, LvError *error) {
    size_t stride = ((size_t)picture->width + 7) / 8;
    if ((size_t)(cursor->end - cursor->at) / stride < (size_t)picture->height) return cut(error);
    for (int y = 0; y < picture->height; y++) {
        const uint8_t *row = cursor->at + (size_t)y * stride;
        for (int x = 0; x < picture->width; x++) {
            put(picture->pixels, (size_t)y * (size_t)picture->width + (size_t)x, 1, row[x / 8] >> (7 - x % 8) & 1 ? 0 : 255);
        }
    }
    return true;
}

static bool read_bytes(Cursor *cursor, LvPicture *picture, int channels, int32_t maximum, LvError *error) {
    size_t count = (size_t)picture->width * (size_t)picture->height * (size_t)channels, each = maximum > 255 ? 2 : 1;
    if ((size_t)(cursor->end - cursor->at) / each < count) return cut(error);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = cursor->at + i * each;
        put(picture->pixels, i, channels, scale(each == 2 ? p[0] << 8 | p[1] : p[0], maximum));
    }
    return true;
}

bool decode_pnm(LvPicture *picture, const uint8_t *bytes, size_t length, LvError *error) {
    Cursor cursor = {bytes + 2, bytes + length};
    int kind = bytes[1] - '0', channels = kind == 3 || kind == 6 ? 3 : 1;
    int32_t width = read_number(&cursor), height = read_number(&cursor);
    int32_t maximum = kind == 1 || kind == 4 ? 1 : read_number(&cursor);
    if (width < 0 || height < 0 || maximum < 1 || maximum > 65535) return lv_error_set(error, LV_ERROR_FORMAT, "PNM: damaged header");
    // Refuse before allocating for pixels that cannot be there: a value takes a byte at least, in P4 a bit.
    uint64_t least = (uint64_t)width * (uint64_t)height * (uint64_t)channels;
    if (length < (kind == 4 ? least / 8 : least)) return cut(error);
    if (!lv_picture_alloc(picture, width, height, error)) return false;
    if (kind >= 4 && cursor.at < cursor.end) cursor.at++;  // the one space before the bytes
    bool good = kind <= 3   ? read_text(&cursor, picture, kind, channels, maximum, error)
                : kind == 4 ? read_bits(&cursor, picture, error)
                            : read_bytes(&cursor, picture, channels, maximum, error);
    if (!good) lv_picture_free(picture);
    return good;
}
