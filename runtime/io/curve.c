// Curves with cairo. The loss is drawn thin as it was and thick as a mean over its neighbours, since single steps are noisy.
#include "io/curve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cairo.h>
#include <jansson.h>

#include "base/arena.h"
#include "base/text.h"
#include "base/vec.h"

enum { WIDTH = 900, HEIGHT = 480, LEFT = 76, RIGHT = 76, TOP = 44, BOTTOM = 52 };

typedef struct {
    cairo_t *cairo;
    double low_x, high_x, low, high;  // of the axis in use; y after `logarithm`
    bool logarithm;
} Axes;

static double place_x(const Axes *a, double x) {
    return LEFT + (x - a->low_x) / (a->high_x - a->low_x) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const Axes *a, double y) {
    double v = a->logarithm ? log10(y) : y;
    return HEIGHT - BOTTOM - (v - a->low) / (a->high - a->low) * (HEIGHT - TOP - BOTTOM);
}

static bool drawable(const Axes *a, LvPoint p) {
    return isfinite(p.x) && isfinite(p.y) && (!a->logarithm || p.y > 0);
}

static void fit(Axes *a, const LvPoint *points, size_t count) {
    a->low = INFINITY, a->high = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (!drawable(a, points[i])) continue;
        double v = a->logarithm ? log10(points[i].y) : points[i].y;
        a->low = fmin(a->low, v), a->high = fmax(a->high, v);
    }
    if (!(a->high > a->low)) a->low = isfinite(a->low) ? a->low - 0.5 : 0, a->high = a->low + 1;
    double margin = 0.05 * (a->high - a->low);
    a->low -= margin, a->high += margin;
}

static void text_at(cairo_t *c, double x, double y, double align, const char *text) {
    cairo_text_extents_t size;
    cairo_text_extents(c, text, &size);
    cairo_move_to(c, x - align * size.x_advance, y);
    cairo_show_text(c, text);
}

// A step of 1, 2 or 5 times a power of ten that gives about `wanted` marks.
static double mark_step(double range, int wanted) {
    double rough = range / wanted, power = pow(10, floor(log10(rough))), part = rough / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static void draw_marks_x(const Axes *a) {
    cairo_t *c = a->cairo;
    double step = mark_step(a->high_x - a->low_x, 8);
    for (double x = ceil(a->low_x / step) * step; x <= a->high_x + 1e-9 * step; x += step) {
        char label[32];
        snprintf(label, sizeof label, "%g", x);
        cairo_set_source_rgb(c, 0.9, 0.9, 0.9);
        cairo_move_to(c, place_x(a, x), TOP);
        cairo_line_to(c, place_x(a, x), HEIGHT - BOTTOM);
        cairo_stroke(c);
        cairo_set_source_rgb(c, 0.3, 0.3, 0.3);
        text_at(c, place_x(a, x), HEIGHT - BOTTOM + 18, 0.5, label);
    }
    text_at(c, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14, 0.5, "step");
}

static void draw_marks_y(const Axes *a, bool right) {
    cairo_t *c = a->cairo;
    double step = mark_step(a->high - a->low, 6);
    for (double v = ceil(a->low / step) * step; v <= a->high + 1e-9 * step; v += step) {
        char label[32];
        double y = HEIGHT - BOTTOM - (v - a->low) / (a->high - a->low) * (HEIGHT - TOP - BOTTOM);
        snprintf(label, sizeof label, "%.3g", a->logarithm ? pow(10, v) : fabs(v) < 1e-12 ? 0 : v);
        text_at(c, right ? WIDTH - RIGHT + 8 : LEFT - 8, y + 4, right ? 0 : 1, label);
    }
}

static void draw_line(const Axes *a, const LvPoint *points, size_t count) {
    bool open = false;
    for (size_t i = 0; i < count; i++) {
        if (!drawable(a, points[i])) continue;
        if (open) cairo_line_to(a->cairo, place_x(a, points[i].x), place_y(a, points[i].y));
        else cairo_move_to(a->cairo, place_x(a, points[i].x), place_y(a, points[i].y));
        open = true;
    }
    cairo_stroke(a->cairo);
}

// The geometric mean of each point's neighbours, a fiftieth of the run wide: the axis is logarithmic, and a mean of what
// came before would lie above a falling loss.
static LvPoint *smoothed(const LvPoint *points, size_t count) {
    LvPoint *out = lv_calloc(count + 1, sizeof *out);
    double *sum = lv_calloc(count + 1, sizeof *sum), *number = lv_calloc(count + 1, sizeof *number);
    size_t reach = count / 100 + 2;
    for (size_t i = 0; i < count; i++) {
        bool drawn = isfinite(points[i].y) && points[i].y > 0;
        sum[i + 1] = sum[i] + (drawn ? log(points[i].y) : 0);
        number[i + 1] = number[i] + drawn;
    }
    for (size_t i = 0; i < count; i++) {
        size_t from = i > reach ? i - reach : 0, to = i + reach < count ? i + reach + 1 : count;
        double n = number[to] - number[from];
        out[i] = (LvPoint){points[i].x, n > 0 ? exp((sum[to] - sum[from]) / n) : NAN};
    }
    free(sum);
    free(number);
    return out;
}

static void draw_loss(Axes *a, const LvCurve *curve) {
    cairo_t *c = a->cairo;
    LvPoint *mean = smoothed(curve->loss, curve->loss_count);
    a->logarithm = true;
    fit(a, curve->loss, curve->loss_count);
    cairo_set_source_rgba(c, 0.12, 0.35, 0.75, 0.3);
    cairo_set_line_width(c, 0.8);
    draw_line(a, curve->loss, curve->loss_count);
    cairo_set_source_rgb(c, 0.12, 0.35, 0.75);
    cairo_set_line_width(c, 2);
    draw_line(a, mean, curve->loss_count);
    draw_marks_y(a, false);
    text_at(c, LEFT, TOP - 10, 0, "loss");
    free(mean);
}

static void draw_validation(Axes *a, const LvCurve *curve) {
    cairo_t *c = a->cairo;
    a->logarithm = false;
    fit(a, curve->validation, curve->validation_count);
    cairo_set_source_rgb(c, 0.85, 0.35, 0.1);
    cairo_set_line_width(c, 2);
    draw_line(a, curve->validation, curve->validation_count);
    for (size_t i = 0; i < curve->validation_count; i++) {
        if (!drawable(a, curve->validation[i])) continue;
        cairo_arc(c, place_x(a, curve->validation[i].x), place_y(a, curve->validation[i].y), 3, 0, 2 * M_PI);
        cairo_fill(c);
    }
    draw_marks_y(a, true);
    text_at(c, WIDTH - RIGHT, TOP - 10, 1, curve->validation_name);
}

bool lv_curve_draw(const LvCurve *curve, const char *path, LvError *error) {
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, WIDTH, HEIGHT);
    Axes axes = {.cairo = cairo_create(surface), .low_x = INFINITY, .high_x = -INFINITY};
    cairo_t *c = axes.cairo;
    const LvPoint *sets[2] = {curve->loss, curve->validation};
    size_t counts[2] = {curve->loss_count, curve->validation_count};
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < counts[s]; i++)
            axes.low_x = fmin(axes.low_x, sets[s][i].x), axes.high_x = fmax(axes.high_x, sets[s][i].x);
    }
    if (!(axes.high_x > axes.low_x)) axes.low_x = isfinite(axes.low_x) ? axes.low_x - 1 : 0, axes.high_x = axes.low_x + 2;
    cairo_set_source_rgb(c, 1, 1, 1);
    cairo_paint(c);
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, 12);
    cairo_set_line_width(c, 1);
    draw_marks_x(&axes);
    cairo_set_source_rgb(c, 0.3, 0.3, 0.3);
    cairo_rectangle(c, LEFT + 0.5, TOP + 0.5, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    cairo_stroke(c);
    text_at(c, WIDTH / 2.0, 22, 0.5, curve->title ? curve->title : "");
    if (curve->loss_count) draw_loss(&axes, curve);
    if (curve->validation_count) draw_validation(&axes, curve);
    LvText temporary = {0};
    lv_text_printf(&temporary, "%s.tmp", path);
    cairo_status_t status = cairo_surface_write_to_png(surface, temporary.data);
    bool good = status == CAIRO_STATUS_SUCCESS;
    if (!good) lv_error_set(error, LV_ERROR_IO, "cannot write '%s': %s", path, cairo_status_to_string(status));
    if (good && rename(temporary.data, path) != 0) good = lv_error_system(error, "cannot write '%s'", path);
    if (!good) remove(temporary.data);
    lv_text_free(&temporary);
    cairo_destroy(c);
    cairo_surface_destroy(surface);
    return good;
}

typedef LV_VEC(LvPoint) Points;

static void take(Points *points, json_t *object, const char *name) {
    json_t *x = json_object_get(object, "step"), *y = json_object_get(object, name);
    if (json_is_number(x) && json_is_number(y)) lv_vec_push(points, (LvPoint){json_number_value(x), json_number_value(y)});
}

bool lv_curve_draw_log(const char *log, const char *title, const char *path, LvError *error) {
    FILE *file = fopen(log, "re");
    if (!file) return lv_error_system(error, "cannot open '%s'", log);
    Points loss = {0}, psnr = {0}, val_loss = {0};
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        take(&loss, object, "loss");
        take(&psnr, object, "val_psnr");
        take(&val_loss, object, "val_loss");
        json_decref(object);
    }
    free(line);
    fclose(file);
    const Points *validation = psnr.count ? &psnr : &val_loss;
    LvCurve curve = {.title = title, .loss = loss.data, .loss_count = loss.count, .validation = validation->data,
                     .validation_count = validation->count, .validation_name = psnr.count ? "val_psnr (dB)" : "val_loss"};
    bool good = loss.count + validation->count > 0 || lv_error_set(error, LV_ERROR_FORMAT, "%s: nothing to draw", log);
    good = good && lv_curve_draw(&curve, path, error);
    lv_vec_free(&loss);
    lv_vec_free(&psnr);
    lv_vec_free(&val_loss);
    return good;
}
