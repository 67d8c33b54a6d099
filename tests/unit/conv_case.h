// A convolution's step with operands of its own, and what it has to compute, by loops written out here.
#ifndef LV_TEST_CONV_CASE_H
#define LV_TEST_CONV_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/plan.h"
#include "base/random.h"

enum { MAX_OPERANDS = 5 };

typedef struct {
    LvStep step;
    LvOperand operands[MAX_OPERANDS];
    char *buffers[MAX_OPERANDS];
    double *values[MAX_OPERANDS];  // row-major, as stored after rounding
} Case;

static inline const LvLayout *layout_of(int which) {
    static LvLayout layouts[4];
    layouts[0] = lv_layout_row_major(), layouts[1] = lv_layout_nhwc(), layouts[2] = lv_layout_blocked(1, 16);
    layouts[3] = lv_layout_blocked(1, 8);
    return &layouts[which];
}

static inline void add_operand(Case *c, LvDType dtype, LvLayout layout, int rank, const int64_t *dim) {
    int i = c->step.operand_count++;
    LvOperand *o = &c->operands[i];
    *o = (LvOperand){.place = {LV_ARENA_ACTIVATIONS, (int64_t)i << 40}, .dtype = dtype, .layout = layout};
    o->shape = lv_shape(rank, dim);
    int64_t n = lv_shape_elements(o->shape);
    c->buffers[i] = aligned_alloc(64, ((size_t)n * lv_dtype_size(dtype) + 127) / 64 * 64);
    c->values[i] = calloc((size_t)n + 1, sizeof(double));
    int64_t index[LV_MAX_RANK] = {0};
    for (int64_t k = 0; k < n; k++) {
        int64_t rest = k;
        for (int d = rank - 1; d >= 0; d--) index[d] = rest % dim[d], rest /= dim[d];
        int64_t at = lv_layout_offset(layout, o->shape, index);
        lv_element_set(c->buffers[i], dtype, at, lv_random_uniform(7, (uint32_t)i, 0, (uint64_t)k) * 2 - 1);
        c->values[i][k] = lv_element_get(c->buffers[i], dtype, at);
    }
    c->step.operands = c->operands;
}

static inline void free_case(Case *c) {
    for (int i = 0; i < c->step.operand_count; i++) free(c->buffers[i]), free(c->values[i]);
}

static inline double act(LvActivation a, double x) {
    return a == LV_ACTIVATION_RELU ? fmax(x, 0)
           : a == LV_ACTIVATION_SWISH ? x / (1 + exp(-x))
           : a == LV_ACTIVATION_GELU ? 0.5 * x * (1 + erf(x / sqrt(2)))
                                     : x;
}

static inline void compare(Case *c, int operand, const double *want, double tolerance, const char *what) {
    LvOperand *o = &c->operands[operand];
    int64_t n = lv_shape_elements(o->shape), index[LV_MAX_RANK] = {0};
    double wrong = 0, size = 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t rest = k;
        for (int d = o->shape.rank - 1; d >= 0; d--) index[d] = rest % o->shape.dim[d], rest /= o->shape.dim[d];
        double got = lv_element_get(c->buffers[operand], o->dtype, lv_layout_offset(o->layout, o->shape, index));
        wrong += (got - want[k]) * (got - want[k]), size += want[k] * want[k];
    }
    if (!(sqrt(wrong) <= tolerance * sqrt(size) + 1e-12)) {
        fail_msg("%s: relative error %g", what, sqrt(wrong / size));
    }
}

typedef struct {
    int64_t b, c, h, w, o, kh, kw, stride, pad[4];
} Shape;

static inline int64_t out_extent(int64_t x, int64_t low, int64_t high, int64_t k, int64_t s) {
    return (x + low + high - k) / s + 1;
}

// One (y, x, w) product of the convolution after another; `f` adds it where the direction wants it.
static inline void walk(const Shape *s, int64_t oh, int64_t ow, void (*f)(double *, const double *, const double *, int64_t, int64_t, int64_t),
                 double *out, const double *p, const double *q) {
    for (int64_t b = 0; b < s->b; b++)
        for (int64_t o = 0; o < s->o; o++)
            for (int64_t i = 0; i < oh; i++)
                for (int64_t j = 0; j < ow; j++)
                    for (int64_t c = 0; c < s->c; c++)
                        for (int64_t u = 0; u < s->kh; u++)
                            for (int64_t v = 0; v < s->kw; v++) {
                                int64_t y = i * s->stride + u - s->pad[2], x = j * s->stride + v - s->pad[0];
                                if (y < 0 || x < 0 || y >= s->h || x >= s->w) continue;
                                f(out, p, q, ((b * s->o + o) * oh + i) * ow + j, ((b * s->c + c) * s->h + y) * s->w + x,
                                  ((o * s->c + c) * s->kh + u) * s->kw + v);
                            }
}
static inline void to_y(double *out, const double *x, const double *w, int64_t iy, int64_t ix, int64_t iw) { out[iy] += x[ix] * w[iw]; }
static inline void to_x(double *out, const double *y, const double *w, int64_t iy, int64_t ix, int64_t iw) { out[ix] += y[iy] * w[iw]; }
static inline void to_w(double *out, const double *x, const double *y, int64_t iy, int64_t ix, int64_t iw) { out[iw] += x[ix] * y[iy]; }

static inline bool layout_fits(int which, int64_t channels) {
    return which < 2 || channels % (which == 2 ? 16 : 8) == 0;
}

typedef struct {
    int direction, x_layout, y_layout;  // layouts by layout_of
    bool bias, residual, in_place;
    LvActivation activation;
    LvDType dtype, weight, bias_dtype;  // of pictures, of the weight or its gradient, of the bias
    LvConvAlgorithm algorithm;
} ConvCase;

// The step with its operands; false where the layouts do not fit.
static inline bool make_conv(Case *c, const Shape *s, const ConvCase *form) {
    int64_t oh = out_extent(s->h, s->pad[2], s->pad[3], s->kh, s->stride), ow = out_extent(s->w, s->pad[0], s->pad[1], s->kw, s->stride);
    int64_t xd[4] = {s->b, s->c, s->h, s->w}, yd[4] = {s->b, s->o, oh, ow}, wd[4] = {s->o, s->c, s->kh, s->kw};
    if (!layout_fits(form->x_layout, s->c) || !layout_fits(form->y_layout, s->o)) return false;
    *c = (Case){.step = {.kind = LV_STEP_CONV, .label = "conv"}};
    LvConvStep *conv = &c->step.conv;
    *conv = (LvConvStep){.direction = (LvConvDirection)form->direction, .stride = {s->stride, s->stride}, .has_bias = form->bias,
                         .has_residual = form->residual, .activation = form->activation, .algorithm = form->algorithm};
    for (int i = 0; i < 4; i++) conv->pad[i] = s->pad[i];
    LvLayout row = lv_layout_row_major(), of_x = *layout_of(form->x_layout), of_y = *layout_of(form->y_layout);
    if (form->direction == LV_CONV_FORWARD) {
        add_operand(c, form->dtype, of_y, 4, yd);
        add_operand(c, form->dtype, of_x, 4, xd);
        add_operand(c, form->weight, row, 4, wd);
        if (form->bias) add_operand(c, form->bias_dtype, row, 1, wd);
        if (form->residual) add_operand(c, form->dtype, of_y, 4, yd);
        if (form->residual && form->in_place) {
            int r = 3 + form->bias;
            free(c->buffers[0]);
            c->buffers[0] = c->buffers[r];
            c->operands[0].place = c->operands[r].place;
        }
    } else if (form->direction == LV_CONV_DATA_GRADIENT) {
        add_operand(c, form->dtype, of_x, 4, xd);
        add_operand(c, form->dtype, of_y, 4, yd);
        add_operand(c, form->weight, row, 4, wd);
    } else {
        add_operand(c, form->weight, row, 4, wd);
        add_operand(c, form->dtype, of_x, 4, xd);
        add_operand(c, form->dtype, of_y, 4, yd);
        if (form->bias) add_operand(c, form->bias_dtype, row, 1, wd);
    }
    return true;
}

// Compares what was written, with `tolerance` where that is f32 or `rounded` where it is bf16; frees the case. `name`: what ran.
static inline void check_conv(Case *c, const Shape *s, const ConvCase *form, const char *name, double tolerance, double rounded) {
    int64_t oh = out_extent(s->h, s->pad[2], s->pad[3], s->kh, s->stride), ow = out_extent(s->w, s->pad[0], s->pad[1], s->kw, s->stride);
    int64_t n = lv_shape_elements(c->operands[0].shape);
    double *want = calloc((size_t)n + 1, sizeof *want);
    if (form->direction == LV_CONV_FORWARD) {
        walk(s, oh, ow, to_y, want, c->values[1], c->values[2]);
        for (int64_t k = 0; k < n; k++) {
            double y = want[k] + (form->bias ? c->values[3][k / (oh * ow) % s->o] : 0);
            want[k] = act(form->activation, y) + (form->residual ? c->values[3 + form->bias][k] : 0);
        }
    } else if (form->direction == LV_CONV_DATA_GRADIENT) {
        walk(s, oh, ow, to_x, want, c->values[1], c->values[2]);
    } else {
        walk(s, oh, ow, to_w, want, c->values[1], c->values[2]);
    }
    LvText what = {0};
    lv_text_printf(&what, "direction %d b%d c%d h%d o%d k%dx%d s%d layouts %d %d bias %d residual %d/%d act %d types %d %d %d algorithm %d (%s)",
                   form->direction, (int)s->b, (int)s->c, (int)s->h, (int)s->o, (int)s->kh, (int)s->kw, (int)s->stride, form->x_layout,
                   form->y_layout, form->bias, form->residual, form->in_place, form->activation, form->dtype, form->weight,
                   form->bias_dtype, form->algorithm, name);
    if (getenv("LV_SHOW")) printf("%s\n", what.data);
    compare(c, 0, want, c->operands[0].dtype == LV_BF16 ? rounded : tolerance, what.data);
    if (form->direction == LV_CONV_WEIGHT_GRADIENT && form->bias) {
        double *db = calloc((size_t)s->o + 1, sizeof *db);
        for (int64_t k = 0; k < s->b * s->o * oh * ow; k++) db[k / (oh * ow) % s->o] += c->values[2][k];
        compare(c, 3, db, form->bias_dtype == LV_BF16 ? rounded : tolerance, what.data);
        free(db);
    }
    lv_text_free(&what);
    free(want);
    if (form->residual && form->in_place) c->buffers[0] = NULL;
    free_case(c);
}

#endif
