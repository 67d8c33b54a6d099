// Contact sheets with cairo: see contact.h. Text through cairo's plain font interface, which any build of cairo has.
#include "io/contact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cairo.h>

#include "base/arena.h"
#include "base/text.h"
#include "base/vec.h"
#include "data/transforms.h"

enum {
    GAP = 8,
    LINE = 15,           // pixels from line to line
    FONT = 12,
    LINES = 5,
    LEAST_SIDE = 128,    // narrower, and hardly a word stands in a line
    MOST_HEIGHT = 32000  // cairo's limit is 32767
};

struct LvContact {
    int side, columns, count, limit;
    LV_VEC(uint32_t) pixels;  // [count, side, side], 0x00RRGGBB as cairo's RGB24
    LV_VEC(char *) labels;
};

LvContact *lv_contact_create(int side, int columns, int limit) {
    LvContact *contact = lv_calloc(1, sizeof *contact);
    contact->side = side, contact->columns = columns, contact->limit = limit;
    return contact;
}

void lv_contact_destroy(LvContact *contact) {
    if (!contact) return;
    for (size_t i = 0; i < contact->labels.count; i++) free(contact->labels.data[i]);
    lv_vec_free(&contact->labels);
    lv_vec_free(&contact->pixels);
    free(contact);
}

int lv_contact_count(const LvContact *contact) {
    return contact->count;
}

// Bytes of the character at `text`, 0 if no whole UTF-8 character begins there. Cairo refuses all of a text that has such bytes.
static size_t character(const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
    }
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0;                     // longer than need be
    if (p[0] == 0xED && p[1] > 0x9F) return 0;                     // half of a pair of UTF-16
    if (p[0] == 0xF0 && p[1] < 0x90) return 0;
    return p[0] == 0xF4 && p[1] > 0x8F ? 0 : size;                 // beyond U+10FFFF
}

// One line of text without what cannot be drawn.
static char *clean_label(const char *label) {
    LvText out = {0};
    while (*label) {
        size_t size = character(label);
        if (size == 0) lv_text_putc(&out, '?');
        else if ((unsigned char)*label < ' ' || *label == 127) lv_text_putc(&out, ' ');
        else lv_text_append(&out, label, size);
        label += size ? size : 1;
    }
    return out.data ? out.data : lv_strdup("");
}

void lv_contact_add(LvContact *contact, const float *planes, const char *label) {
    if (contact->count == contact->limit) return;
    size_t area = (size_t)contact->side * (size_t)contact->side;
    uint8_t *rgb = lv_malloc(area * 3);
    lv_transform_to_bytes(planes, contact->side, rgb);
    lv_vec_reserve(&contact->pixels, contact->pixels.count + area);
    uint32_t *to = contact->pixels.data + contact->pixels.count;
    for (size_t i = 0; i < area; i++) to[i] = (uint32_t)rgb[3 * i] << 16 | (uint32_t)rgb[3 * i + 1] << 8 | rgb[3 * i + 2];
    contact->pixels.count += area;
    free(rgb);
    lv_vec_push(&contact->labels, clean_label(label));
    contact->count++;
}

static double width_of(cairo_t *c, const char *text, size_t length) {
    cairo_text_extents_t size;
    char *part = lv_malloc(length + 1);
    memcpy(part, text, length);
    part[length] = 0;
    cairo_text_extents(c, part, &size);
    free(part);
    return size.x_advance;
}

// Bytes of `text` that stand in one line: up to the last space that fits, or where there is none up to the last character.
static size_t fitting(cairo_t *c, const char *text, double width) {
    size_t length = 0, space = 0;
    while (text[length]) {
        size_t next = length + character(text + length);
        if (width_of(c, text, next) > width) return space ? space : length ? length : next;
        if (text[length] == ' ') space = length;
        length = next;
    }
    return length;
}

// Draws the label in `width` from (x, y) down; draws nothing if `count_only`. The number of lines.
static int draw_label(cairo_t *c, const char *label, double x, double y, double width, bool count_only) {
    int lines = 0;
    while (*label == ' ') label++;
    while (*label && lines < LINES) {
        size_t length = fitting(c, label, width);
        bool more = lines == LINES - 1 && label[length + strspn(label + length, " ")];
        LvText line = {0};
        if (more) {
            double dots = width_of(c, "…", strlen("…"));
            lv_text_append(&line, label, fitting(c, label, width - dots));
            lv_text_puts(&line, "…");
        } else {
            lv_text_append(&line, label, length);
        }
        cairo_move_to(c, x, y + lines * LINE);
        if (!count_only) cairo_show_text(c, lv_text_get(&line));
        lv_text_free(&line);
        lines++;
        label += length;
        while (*label == ' ') label++;
    }
    return lines;
}

static void draw_picture(cairo_t *c, const LvContact *contact, int index, int x, int y, int factor) {
    size_t area = (size_t)contact->side * (size_t)contact->side;
    cairo_surface_t *surface =
        cairo_image_surface_create_for_data((unsigned char *)(contact->pixels.data + (size_t)index * area), CAIRO_FORMAT_RGB24,
                                            contact->side, contact->side, contact->side * 4);
    cairo_save(c);
    cairo_translate(c, x, y);
    cairo_scale(c, factor, factor);
    cairo_set_source_surface(c, surface, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(c), CAIRO_FILTER_NEAREST);
    cairo_paint(c);
    cairo_restore(c);
    cairo_surface_destroy(surface);
}

static void set_font(cairo_t *c) {
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, FONT);
}

// Lines of the longest label of each row of the sheet; the height of the whole.
static int measure(const LvContact *contact, int columns, int side, int *lines) {
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 1, 1);
    cairo_t *c = cairo_create(surface);
    set_font(c);
    int rows = (contact->count + columns - 1) / columns, height = GAP;
    for (int row = 0; row < rows; row++) {
        lines[row] = 0;
        for (int i = row * columns; i < contact->count && i < (row + 1) * columns; i++) {
            int n = draw_label(c, contact->labels.data[i], 0, 0, side, true);
            lines[row] = n > lines[row] ? n : lines[row];
        }
        height += side + (lines[row] ? lines[row] * LINE + GAP / 2 : 0) + GAP;
    }
    cairo_destroy(c);
    cairo_surface_destroy(surface);
    return height;
}

static bool write_png(cairo_surface_t *surface, const char *path, LvError *error) {
    LvText temporary = {0};
    lv_text_printf(&temporary, "%s.tmp", path);
    cairo_status_t status = cairo_surface_write_to_png(surface, temporary.data);
    bool good = status == CAIRO_STATUS_SUCCESS ||
                lv_error_set(error, LV_ERROR_IO, "cannot write '%s': %s", path, cairo_status_to_string(status));
    if (good && rename(temporary.data, path) != 0) good = lv_error_system(error, "cannot write '%s'", path);
    if (!good) remove(temporary.data);
    lv_text_free(&temporary);
    return good;
}

bool lv_contact_save(const LvContact *contact, const char *path, LvError *error) {
    if (contact->count == 0) return lv_error_set(error, LV_ERROR_USAGE, "a sheet without pictures");
    int factor = contact->side < LEAST_SIDE ? (LEAST_SIDE + contact->side - 1) / contact->side : 1, side = factor * contact->side;
    int columns = contact->count < contact->columns ? contact->count : contact->columns;
    int *lines = lv_calloc((size_t)contact->count, sizeof *lines), y = GAP;
    int height = measure(contact, columns, side, lines), width = columns * (side + GAP) + GAP;
    if (height > MOST_HEIGHT || width > MOST_HEIGHT) {
        free(lines);
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "'%s': a sheet of %d x %d is too large", path, width, height);
    }
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
    cairo_t *c = cairo_create(surface);
    cairo_set_source_rgb(c, 1, 1, 1);
    cairo_paint(c);
    set_font(c);
    for (int i = 0; i < contact->count; i++) {
        int row = i / columns, x = GAP + i % columns * (side + GAP);
        draw_picture(c, contact, i, x, y, factor);
        cairo_set_source_rgb(c, 0.15, 0.15, 0.15);
        draw_label(c, contact->labels.data[i], x, y + side + GAP / 2 + FONT, side, false);
        if (i % columns == columns - 1) y += side + (lines[row] ? lines[row] * LINE + GAP / 2 : 0) + GAP;
    }
    free(lines);
    cairo_surface_flush(surface);
    bool good = write_png(surface, path, error);
    cairo_destroy(c);
    cairo_surface_destroy(surface);
    return good;
}
