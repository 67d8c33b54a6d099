// Two passes over 8-bit rows, with an intermediate that holds only what the second pass reads.
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
static void pass_y(const int32_t *k, int count, const uint8_t *in, size_t stride, size_t bytes, int32_t *sums, uint8_t *out) {
    for (size_t i = 0; i < bytes; i++) sums[i] = 1 << (PRECISION - 1);
    for (int t = 0; t < count; t++) {
        const uint8_t *row = in + (size_t)t * stride;
        int32_t tap = k[t];
        for (size_t i = 0; i < bytes; i++) sums[i] += row[i] * tap;
    }
    for (size_t i = 0; i < bytes; i++) out[i] = clip(sums[i]);
}

// What the window's outputs read of an axis: [*first, *first + *count). An axis whose size stays is copied, not filtered.
static void span_of(const Taps *taps, int outputs, int from, int *first, int *count) {
    *first = from, *count = outputs;
    if (!taps->stride) return;
    int last = 0;
    *first = taps->first[0];
    for (int i = 0; i < outputs; i++) {
        if (taps->first[i] < *first) *first = taps->first[i];
        if (taps->first[i] + taps->count[i] > last) last = taps->first[i] + taps->count[i];
    }
    *count = last - *first;
    for (int i = 0; i < outputs; i++) taps->first[i] -= *first;
}

typedef struct {
    Taps x, y;
    LvBox read;  // of the source, what the window needs
    LvBox window;
    const uint8_t *source;  // the first pixel that is read
    size_t stride;
} Plan;

static void run_x(const Plan *plan, const uint8_t *in, size_t stride, int rows, uint8_t *out) {
    size_t row = (size_t)plan->window.width * 3;
    for (int r = 0; r < rows; r++, in += stride, out += row) {
        if (plan->x.stride) pass_x(&plan->x, in, plan->window.width, out);
        else memcpy(out, in, row);
    }
}

static void run_y(const Plan *plan, const uint8_t *in, size_t stride, size_t bytes, uint8_t *out) {
    int32_t *sums = lv_malloc(bytes * sizeof(int32_t));
    for (int i = 0; i < plan->window.height; i++, out += bytes) {
        const Taps *y = &plan->y;
        pass_y(y->taps + (size_t)i * (size_t)y->stride, y->count[i], in + (size_t)y->first[i] * stride, stride, bytes, sums, out);
    }
    free(sums);
}

void lv_resize_window(const LvPicture *source, LvBox box, int width, int height, LvBox window, LvFilter filter, uint8_t *out) {
    Plan plan = {.window = window, .stride = (size_t)source->width * 3};
    if (width != box.width) plan.x = make_taps(box.width, width, window.x, window.width, filter);
    if (height != box.height) plan.y = make_taps(box.height, height, window.y, window.height, filter);
    span_of(&plan.x, window.width, window.x, &plan.read.x, &plan.read.width);
    span_of(&plan.y, window.height, window.y, &plan.read.y, &plan.read.height);
    plan.source = source->pixels + (size_t)(box.y + plan.read.y) * plan.stride + (size_t)(box.x + plan.read.x) * 3;
    // The order matters to the last bit. Pillow 13 goes along y first when that shrinks by far more; older ones never do.
    bool y_first = height < box.height && box.height - height > 2 * (box.width - width);
    if (!plan.y.stride) {
        run_x(&plan, plan.source, plan.stride, window.height, out);
    } else if (y_first) {
        size_t bytes = (size_t)plan.read.width * 3;
        uint8_t *middle = lv_malloc((size_t)window.height * bytes);
        run_y(&plan, plan.source, plan.stride, bytes, middle);
        run_x(&plan, middle, bytes, window.height, out);
        free(middle);
    } else {
        size_t bytes = (size_t)window.width * 3;
        uint8_t *middle = lv_malloc((size_t)plan.read.height * bytes);
        run_x(&plan, plan.source, plan.stride, plan.read.height, middle);
        run_y(&plan, middle, bytes, bytes, out);
        free(middle);
    }
    free_taps(&plan.x);
    free_taps(&plan.y);
}

bool lv_resize(const LvPicture *source, int width, int height, LvFilter filter, LvPicture *out, LvError *error) {
    if (!lv_picture_alloc(out, width, height, error)) return false;
    LvBox all = {0, 0, source->width, source->height}, window = {0, 0, width, height};
    lv_resize_window(source, all, width, height, window, filter, out->pixels);
    return true;
}
