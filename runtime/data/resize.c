// Two passes over 8-bit rows: along x into an intermediate that holds only the rows the second pass reads, then along y.
// A coefficient is w * 2^22 rounded away from zero; w sums to 1, |w| < 2, so a sum of 8-bit products stays within 32 bits.
#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { PRECISION = 22 };

bool lv_filter_parse(const char *name, LvFilter *filter) {
    static const char *const names[] = {"bicubic", "bilinear", "lanczos", "box"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(name, names[i])) return *filter = (LvFilter)i, true;
    }
    return false;
}

static double sinc(double x) { return x == 0.0 ? 1.0 : sin(x * M_PI) / (x * M_PI); }

static double weight(LvFilter filter, double x) {
    double a = fabs(x);
    switch (filter) {
        case LV_FILTER_BOX: return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
        case LV_FILTER_BILINEAR: return a < 1.0 ? 1.0 - a : 0.0;
        case LV_FILTER_LANCZOS: return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
        case LV_FILTER_BICUBIC: {  // Keys, a = -0.5
            const double k = -0.5;
            if (a < 1.0) return ((k + 2.0) * a - (k + 3.0)) * a * a + 1;
            return a < 2.0 ? (((a - 5) * a + 8) * a - 4) * k : 0.0;
        }
    }
    return 0.0;
}

static double support_of(LvFilter filter) {
    static const double supports[] = {[LV_FILTER_BICUBIC] = 2.0, [LV_FILTER_BILINEAR] = 1.0, [LV_FILTER_LANCZOS] = 3.0, [LV_FILTER_BOX] = 0.5};
    return supports[filter];
}

// Output i of the window is the sum over t < count[i] of in[first[i] + t] * taps[i * stride + t].
typedef struct {
    int stride, *first, *count;
    int32_t *taps;
} Taps;

static void free_taps(Taps *taps) {
    free(taps->first);
    free(taps->count);
    free(taps->taps);
}

static Taps make_taps(int in, int out, int from, int outputs, LvFilter filter) {
    double scale = (double)in / out, wide = scale < 1.0 ? 1.0 : scale, support = support_of(filter) * wide;
    int stride = (int)ceil(support) * 2 + 1;
    Taps taps = {stride, lv_calloc((size_t)outputs, sizeof(int)), lv_calloc((size_t)outputs, sizeof(int)),
                 lv_calloc((size_t)outputs * (size_t)stride, sizeof(int32_t))};
    double *w = lv_calloc((size_t)stride, sizeof(double)), inverse = 1.0 / wide;
    for (int i = 0; i < outputs; i++) {
        double center = (from + i + 0.5) * scale, sum = 0.0;
        int first = (int)(center - support + 0.5), last = (int)(center + support + 0.5);
        if (first < 0) first = 0;
        if (last > in) last = in;
        for (int t = 0; t < last - first; t++) sum += w[t] = weight(filter, (t + first - center + 0.5) * inverse);
        for (int t = 0; t < last - first; t++) {
            double fixed = (sum != 0.0 ? w[t] / sum : w[t]) * (1 << PRECISION);
            taps.taps[(size_t)i * (size_t)stride + (size_t)t] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
        }
        taps.first[i] = first, taps.count[i] = last - first;
    }
    free(w);
    return taps;
}

static inline uint8_t clip(int32_t sum) {
    sum >>= PRECISION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void pass_x(const Taps *taps, const uint8_t *in, int width, uint8_t *out) {
    for (int x = 0; x < width; x++, out += 3) {
        const int32_t *k = taps->taps + (size_t)x * (size_t)taps->stride;
        const uint8_t *p = in + (size_t)taps->first[x] * 3;
        int32_t r = 1 << (PRECISION - 1), g = r, b = r;
        for (int t = 0; t < taps->count[x]; t++, p += 3) r += p[0] * k[t], g += p[1] * k[t], b += p[2] * k[t];
        out[0] = clip(r), out[1] = clip(g), out[2] = clip(b);
    }
}

// One output row from `count` rows of `bytes` each; the compiler makes vectors of the inner loops.
static void pass_y(const int32_t *k, int count, const uint8_t *in, size_t bytes, int32_t *sums, uint8_t *out) {
    for (size_t i = 0; i < bytes; i++) sums[i] = 1 << (PRECISION - 1);
    for (int t = 0; t < count; t++) {
        const uint8_t *row = in + (size_t)t * bytes;
        int32_t tap = k[t];
        for (size_t i = 0; i < bytes; i++) sums[i] += row[i] * tap;
    }
    for (size_t i = 0; i < bytes; i++) out[i] = clip(sums[i]);
}

void lv_resize_window(const LvPicture *source, LvBox box, int width, int height, LvBox window, LvFilter filter, uint8_t *out) {
    size_t stride = (size_t)source->width * 3, row = (size_t)window.width * 3;
    const uint8_t *corner = source->pixels + (size_t)box.y * stride + (size_t)box.x * 3;
    bool along_x = width != box.width, along_y = height != box.height;  // an untouched axis is copied, as Pillow does
    Taps x = {0}, y = {0};
    int first = window.y, rows = window.height;
    if (along_x) x = make_taps(box.width, width, window.x, window.width, filter);
    if (along_y) {
        y = make_taps(box.height, height, window.y, window.height, filter);
        int last = 0;
        first = box.height;
        for (int i = 0; i < window.height; i++) {
            if (y.first[i] < first) first = y.first[i];
            if (y.first[i] + y.count[i] > last) last = y.first[i] + y.count[i];
        }
        rows = last - first;
    }
    uint8_t *middle = along_y ? lv_malloc((size_t)rows * row) : out;
    for (int r = 0; r < rows; r++) {
        const uint8_t *in = corner + (size_t)(first + r) * stride;
        if (along_x) pass_x(&x, in, window.width, middle + (size_t)r * row);
        else memcpy(middle + (size_t)r * row, in + (size_t)window.x * 3, row);
    }
    if (along_y) {
        int32_t *sums = lv_malloc(row * sizeof(int32_t));
        for (int i = 0; i < window.height; i++) {
            const uint8_t *in = middle + (size_t)(y.first[i] - first) * row;
            pass_y(y.taps + (size_t)i * (size_t)y.stride, y.count[i], in, row, sums, out + (size_t)i * row);
        }
        free(sums);
        free(middle);
    }
    free_taps(&x);
    free_taps(&y);
}

bool lv_resize(const LvPicture *source, int width, int height, LvFilter filter, LvPicture *out, LvError *error) {
    if (!lv_picture_alloc(out, width, height, error)) return false;
    LvBox all = {0, 0, source->width, source->height}, window = {0, 0, width, height};
    lv_resize_window(source, all, width, height, window, filter, out->pixels);
    return true;
}
