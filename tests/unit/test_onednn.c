// Library calls against loops written out here: every direction, layout, stride, padding, epilogue, odd and empty shapes,
// f32 and bf16, both algorithms.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/plan_file.h"
#include "base/random.h"
#include "device/device.h"

enum { MAX_OPERANDS = 5 };

typedef struct {
    LvStep step;
    LvOperand operands[MAX_OPERANDS];
    char *buffers[MAX_OPERANDS];
    double *values[MAX_OPERANDS];  // row-major, as stored after rounding
} Case;

static const LvLayout *layout_of(int which) {
    static LvLayout layouts[4];
    layouts[0] = lv_layout_row_major(), layouts[1] = lv_layout_nhwc(), layouts[2] = lv_layout_blocked(1, 16);
    layouts[3] = lv_layout_blocked(1, 8);
    return &layouts[which];
}

static void add_operand(Case *c, LvDType dtype, LvLayout layout, int rank, const int64_t *dim) {
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

static void free_case(Case *c) {
    for (int i = 0; i < c->step.operand_count; i++) free(c->buffers[i]), free(c->values[i]);
}

static double act(LvActivation a, double x) {
    return a == LV_ACTIVATION_RELU ? fmax(x, 0)
           : a == LV_ACTIVATION_SWISH ? x / (1 + exp(-x))
           : a == LV_ACTIVATION_GELU ? 0.5 * x * (1 + erf(x / sqrt(2)))
                                     : x;
}

static void compare(Case *c, int operand, const double *want, double tolerance, const char *what) {
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

static void run(LvDevice *device, Case *c, const char **name) {
    static char text[96];
    LvCall *call;
    LvError error = {0};
    if (!device->ops->prepare(device, NULL, &c->step, &call, &error)) fail_msg("prepare: %s", error.message);
    if (!device->ops->call(device, call, c->buffers, &error)) fail_msg("call: %s", error.message);
    snprintf(text, sizeof text, "%s", device->ops->describe(call));
    *name = text;
    device->ops->discard(device, call);
}

typedef struct {
    int64_t b, c, h, w, o, kh, kw, stride, pad[4];
} Shape;

static const Shape shapes[] = {
    {2, 16, 12, 12, 32, 3, 3, 1, {1, 1, 1, 1}}, {1, 3, 9, 7, 16, 3, 3, 1, {1, 1, 1, 1}},
    {2, 32, 8, 8, 16, 3, 3, 2, {0, 1, 0, 1}},   {3, 5, 7, 11, 13, 2, 3, 1, {0, 2, 1, 0}},
    {2, 16, 8, 8, 3, 3, 3, 1, {1, 1, 1, 1}},    {1, 48, 6, 5, 16, 1, 1, 1, {0, 0, 0, 0}},
    {2, 1, 5, 5, 1, 5, 5, 3, {2, 2, 2, 2}},     {0, 16, 4, 4, 16, 3, 3, 1, {1, 1, 1, 1}},
    {1, 0, 4, 4, 2, 3, 3, 1, {1, 1, 1, 1}},     {2, 32, 16, 16, 64, 3, 3, 1, {1, 1, 1, 1}},
};

static int64_t out_extent(int64_t x, int64_t low, int64_t high, int64_t k, int64_t s) {
    return (x + low + high - k) / s + 1;
}

// One (y, x, w) product of the convolution after another; `f` adds it where the direction wants it.
static void walk(const Shape *s, int64_t oh, int64_t ow, void (*f)(double *, const double *, const double *, int64_t, int64_t, int64_t),
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
static void to_y(double *out, const double *x, const double *w, int64_t iy, int64_t ix, int64_t iw) { out[iy] += x[ix] * w[iw]; }
static void to_x(double *out, const double *y, const double *w, int64_t iy, int64_t ix, int64_t iw) { out[ix] += y[iy] * w[iw]; }
static void to_w(double *out, const double *x, const double *y, int64_t iy, int64_t ix, int64_t iw) { out[iw] += x[ix] * y[iy]; }

static bool layout_fits(int which, int64_t channels) {
    return which < 2 || channels % (which == 2 ? 16 : 8) == 0;
}

static void conv_case(LvDevice *device, const Shape *s, int direction, int xl, int yl, bool bias, bool residual, bool in_place,
                      LvActivation activation, LvDType dtype, LvConvAlgorithm algorithm) {
    int64_t oh = out_extent(s->h, s->pad[2], s->pad[3], s->kh, s->stride), ow = out_extent(s->w, s->pad[0], s->pad[1], s->kw, s->stride);
    int64_t xd[4] = {s->b, s->c, s->h, s->w}, yd[4] = {s->b, s->o, oh, ow}, wd[4] = {s->o, s->c, s->kh, s->kw};
    if (!layout_fits(xl, s->c) || !layout_fits(yl, s->o)) return;
    Case c = {.step = {.kind = LV_STEP_CONV, .label = "conv"}};
    LvConvStep *conv = &c.step.conv;
    *conv = (LvConvStep){.direction = (LvConvDirection)direction, .stride = {s->stride, s->stride}, .has_bias = bias,
                         .has_residual = residual, .activation = activation, .algorithm = algorithm};
    for (int i = 0; i < 4; i++) conv->pad[i] = s->pad[i];
    LvLayout row = lv_layout_row_major();
    if (direction == LV_CONV_FORWARD) {
        add_operand(&c, dtype, *layout_of(yl), 4, yd);
        add_operand(&c, dtype, *layout_of(xl), 4, xd);
        add_operand(&c, LV_F32, row, 4, wd);
        if (bias) add_operand(&c, LV_F32, row, 1, wd);
        if (residual) add_operand(&c, dtype, *layout_of(yl), 4, yd);
        if (residual && in_place) {
            int r = 3 + bias;
            free(c.buffers[0]);
            c.buffers[0] = c.buffers[r];
            c.operands[0].place = c.operands[r].place;
        }
    } else if (direction == LV_CONV_DATA_GRADIENT) {
        add_operand(&c, dtype, *layout_of(xl), 4, xd);
        add_operand(&c, dtype, *layout_of(yl), 4, yd);
        add_operand(&c, LV_F32, row, 4, wd);
    } else {
        add_operand(&c, LV_F32, row, 4, wd);
        add_operand(&c, dtype, *layout_of(xl), 4, xd);
        add_operand(&c, dtype, *layout_of(yl), 4, yd);
        if (bias) add_operand(&c, LV_F32, row, 1, wd);
    }
    int64_t n = lv_shape_elements(c.operands[0].shape);
    double *want = calloc((size_t)n + 1, sizeof *want);
    if (direction == LV_CONV_FORWARD) {
        walk(s, oh, ow, to_y, want, c.values[1], c.values[2]);
        for (int64_t k = 0; k < n; k++) {
            double y = want[k] + (bias ? c.values[3][k / (oh * ow) % s->o] : 0);
            want[k] = act(activation, y) + (residual ? c.values[3 + bias][k] : 0);
        }
    } else if (direction == LV_CONV_DATA_GRADIENT) {
        walk(s, oh, ow, to_x, want, c.values[1], c.values[2]);
    } else {
        walk(s, oh, ow, to_w, want, c.values[2 - 1], c.values[2]);
    }
    const char *name;
    run(device, &c, &name);
    LvText what = {0};
    lv_text_printf(&what, "direction %d b%d c%d h%d o%d k%dx%d s%d layouts %d %d bias %d residual %d/%d act %d type %d algorithm %d (%s)",
                   direction, (int)s->b, (int)s->c, (int)s->h, (int)s->o, (int)s->kh, (int)s->kw, (int)s->stride, xl, yl, bias,
                   residual, in_place, activation, dtype, algorithm, name);
    if (getenv("LV_SHOW")) printf("%s\n", what.data);
    double tolerance = dtype == LV_BF16 ? 1e-2 : algorithm == LV_CONV_DIRECT ? 1e-5 : 1e-4;
    compare(&c, 0, want, tolerance, what.data);
    if (direction == LV_CONV_WEIGHT_GRADIENT && bias) {
        double *db = calloc((size_t)s->o + 1, sizeof *db);
        for (int64_t k = 0; k < s->b * s->o * oh * ow; k++) db[k / (oh * ow) % s->o] += c.values[2][k];
        compare(&c, 3, db, tolerance, what.data);
        free(db);
    }
    lv_text_free(&what);
    free(want);
    if (residual && in_place) c.buffers[0] = NULL;
    free_case(&c);
}

static void test_conv(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            for (int layouts = 0; layouts < 9; layouts++) {
                for (int form = 0; form < 2; form++) {
                    bool bias = direction != LV_CONV_DATA_GRADIENT && form;
                    conv_case(device, &shapes[i], direction, layouts % 3, layouts / 3, bias, false, false, LV_ACTIVATION_NONE, LV_F32,
                              LV_CONV_DIRECT);
                }
            }
        }
    }
}

static void test_conv_epilogue(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int layout = 0; layout < 3; layout++) {
            for (int form = 0; form < 16; form++) {
                conv_case(device, &shapes[i], LV_CONV_FORWARD, layout, layout, form & 1, form & 2, form & 4,
                          form & 8 ? LV_ACTIVATION_SWISH : LV_ACTIVATION_NONE, LV_F32,
                          form & 4 ? LV_CONV_WINOGRAD : LV_CONV_DIRECT);
            }
            conv_case(device, &shapes[i], LV_CONV_FORWARD, layout, layout, true, false, false, LV_ACTIVATION_RELU, LV_F32, LV_CONV_DIRECT);
            conv_case(device, &shapes[i], LV_CONV_FORWARD, layout, layout, true, true, false, LV_ACTIVATION_GELU, LV_F32, LV_CONV_DIRECT);
        }
    }
}

static void test_conv_algorithms(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            for (int algorithm = 0; algorithm < 3; algorithm++) {
                bool bias = direction != LV_CONV_DATA_GRADIENT;
                conv_case(device, &shapes[i], direction, 2, 2, bias, false, false, LV_ACTIVATION_NONE, LV_F32, (LvConvAlgorithm)algorithm);
                conv_case(device, &shapes[i], direction, 0, 2, bias, false, false, LV_ACTIVATION_NONE, LV_F32, (LvConvAlgorithm)algorithm);
            }
        }
    }
}

// Our own Winograd: channels that fill no pair of vectors, maps that fill no tile, paddings of all kinds, few tiles and many weights
// (threads share a block) and the reverse, several blocks; every epilogue.
static const Shape winograd_shapes[] = {
    {2, 24, 9, 13, 40, 3, 3, 1, {0, 2, 1, 0}}, {1, 8, 5, 5, 8, 3, 3, 1, {1, 1, 1, 1}},    {2, 16, 3, 3, 16, 3, 3, 1, {0, 0, 0, 0}},
    {2, 16, 18, 14, 24, 3, 3, 1, {2, 2, 2, 2}}, {1, 128, 5, 8, 112, 3, 3, 1, {1, 1, 1, 1}}, {3, 16, 20, 20, 16, 3, 3, 1, {1, 1, 1, 1}},
    {1, 16, 4, 70, 16, 3, 3, 1, {1, 0, 2, 1}},
};

static void test_conv_winograd(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof winograd_shapes / sizeof *winograd_shapes; i++) {
        const Shape *s = &winograd_shapes[i];
        for (int layout = 1; layout < 4; layout++) {
            conv_case(device, s, LV_CONV_DATA_GRADIENT, layout, layout, false, false, false, LV_ACTIVATION_NONE, LV_F32, LV_CONV_WINOGRAD);
            conv_case(device, s, LV_CONV_WEIGHT_GRADIENT, layout, layout, i % 2, false, false, LV_ACTIVATION_NONE, LV_F32, LV_CONV_WINOGRAD);
            conv_case(device, s, LV_CONV_FORWARD, layout, layout, i % 2, true, i % 3 == 0, (LvActivation)((int)i % 4), LV_F32, LV_CONV_WINOGRAD);
        }
        conv_case(device, s, LV_CONV_FORWARD, 1, 3, true, false, false, LV_ACTIVATION_NONE, LV_F32, LV_CONV_WINOGRAD);
        conv_case(device, s, LV_CONV_WEIGHT_GRADIENT, 3, 1, true, false, false, LV_ACTIVATION_NONE, LV_F32, LV_CONV_WINOGRAD);
    }
}

// Its bits do not depend on how many threads there are.
static void test_winograd_threads(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{16, 40, 16}, {128, 8, 96}};  // channels, side, results
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            int64_t c = sizes[i][0], side = sizes[i][1], o = sizes[i][2], x[4] = {2, c, side, side}, y[4] = {2, o, side, side}, w[4] = {o, c, 3, 3};
            Case made = {.step = {.kind = LV_STEP_CONV, .label = "conv"}};
            made.step.conv = (LvConvStep){.direction = (LvConvDirection)direction, .stride = {1, 1}, .pad = {1, 1, 1, 1}, .algorithm = LV_CONV_WINOGRAD};
            LvLayout blocked = lv_layout_blocked(1, 16), row = lv_layout_row_major();
            add_operand(&made, LV_F32, direction == 2 ? row : blocked, 4, direction == 0 ? y : direction == 1 ? x : w);
            add_operand(&made, LV_F32, blocked, 4, direction == 1 ? y : x);
            add_operand(&made, LV_F32, direction == 2 ? blocked : row, 4, direction == 2 ? y : w);
            size_t bytes = (size_t)lv_shape_elements(made.operands[0].shape) * sizeof(float);
            char *first = malloc(bytes);
            for (int threads = 1; threads <= 5; threads += 2) {
                LvDevice *device;
                LvError error = {0};
                const char *name;
                if (!lv_device_open("cpu", threads, &device, &error)) fail_msg("%s", error.message);
                run(device, &made, &name);
                if (threads == 1) memcpy(first, made.buffers[0], bytes);
                else if (strncmp(name, "winograd", 8) == 0) assert_memory_equal(first, made.buffers[0], bytes);
                lv_device_close(device);
            }
            free(first);
            free_case(&made);
        }
    }
}

static void test_conv_bf16(void **state) {
    LvDevice *device = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int direction = 0; direction < 3; direction++) {
            for (int layout = 0; layout < 3; layout++) {
                bool forward = direction == LV_CONV_FORWARD;
                conv_case(device, &shapes[i], direction, layout, layout, direction != LV_CONV_DATA_GRADIENT, forward, false,
                          forward ? LV_ACTIVATION_SWISH : LV_ACTIVATION_NONE, LV_BF16, LV_CONV_AUTO);
            }
        }
    }
}

static void test_conv_f64(void **state) {
    conv_case(*state, &shapes[3], LV_CONV_FORWARD, 0, 0, true, true, false, LV_ACTIVATION_GELU, LV_F64, LV_CONV_AUTO);
    conv_case(*state, &shapes[3], LV_CONV_DATA_GRADIENT, 0, 0, false, false, false, LV_ACTIVATION_NONE, LV_F64, LV_CONV_AUTO);
    conv_case(*state, &shapes[3], LV_CONV_WEIGHT_GRADIENT, 0, 0, true, false, false, LV_ACTIVATION_NONE, LV_F64, LV_CONV_AUTO);
}

// a [batch..., M, K], b [one or equal batch..., K, N]
static void matmul_case(LvDevice *device, int batch_rank, const int64_t *batch, bool shared_b, int64_t m, int64_t k, int64_t n,
                        int form, double alpha, LvDType dtype) {
    bool ta = form & 1, tb = form & 2, bias = form & 4, residual = form & 8, in_place = form & 16;
    LvActivation activation = form & 32 ? LV_ACTIVATION_GELU : LV_ACTIVATION_NONE;
    Case c = {.step = {.kind = LV_STEP_MATMUL, .label = "matmul"}};
    c.step.matmul = (LvMatmulStep){ta, tb, bias, residual, activation, alpha};
    int64_t y[LV_MAX_RANK], a[LV_MAX_RANK], b[LV_MAX_RANK], batches = 1;
    for (int i = 0; i < batch_rank; i++) y[i] = a[i] = b[i] = batch[i], batches *= batch[i];
    int r = batch_rank, rb = shared_b ? 0 : r;
    y[r] = m, y[r + 1] = n, a[r + ta] = m, a[r + !ta] = k, b[rb + tb] = k, b[rb + !tb] = n;
    LvLayout row = lv_layout_row_major();
    add_operand(&c, dtype, row, r + 2, y);
    add_operand(&c, dtype, row, r + 2, a);
    add_operand(&c, LV_F32, row, rb + 2, b);
    if (bias) add_operand(&c, LV_F32, row, 1, &n);
    if (residual) add_operand(&c, dtype, row, r + 2, y);
    if (residual && in_place) free(c.buffers[0]), c.buffers[0] = c.buffers[3 + bias], c.operands[0].place = c.operands[3 + bias].place;
    double *want = calloc((size_t)(batches * m * n) + 1, sizeof *want);
    for (int64_t q = 0; q < batches; q++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t l = 0; l < k; l++) {
                    sum += c.values[1][q * m * k + (ta ? l * m + i : i * k + l)] *
                           c.values[2][(shared_b ? 0 : q * k * n) + (tb ? j * k + l : l * n + j)];
                }
                int64_t at = (q * m + i) * n + j;
                want[at] = act(activation, alpha * sum + (bias ? c.values[3][j] : 0)) + (residual ? c.values[3 + bias][at] : 0);
            }
    const char *name;
    run(device, &c, &name);
    LvText what = {0};
    lv_text_printf(&what, "matmul %d batches%s %dx%dx%d form %d alpha %g type %d (%s)", (int)batches, shared_b ? " shared b" : "", (int)m,
                   (int)k, (int)n, form, alpha, dtype, name);
    if (getenv("LV_SHOW")) printf("%s\n", what.data);
    compare(&c, 0, want, dtype == LV_BF16 ? 1e-2 : 1e-5, what.data);
    lv_text_free(&what);
    free(want);
    if (residual && in_place) c.buffers[0] = NULL;
    free_case(&c);
}

static void test_matmul(void **state) {
    static const int64_t batches[][2] = {{3, 2}, {1, 1}, {0, 2}}, sizes[][3] = {{7, 5, 11}, {64, 32, 48}, {1, 13, 17}, {17, 13, 1}, {5, 0, 4}, {1, 1, 1}};
    for (int size = 0; size < 6; size++) {
        for (int form = 0; form < 64; form++) {
            double alpha = form % 3 ? 1 : 0.25;
            const int64_t *s = sizes[size];
            matmul_case(*state, 0, NULL, false, s[0], s[1], s[2], form, alpha, LV_F32);
            for (int rank = 1; rank <= 2; rank++) {
                for (int which = 0; which < 3; which++) {
                    matmul_case(*state, rank, batches[which], false, s[0], s[1], s[2], form, alpha, LV_F32);
                    matmul_case(*state, rank, batches[which], true, s[0], s[1], s[2], form, alpha, form & 1 ? LV_F32 : LV_BF16);
                }
            }
        }
    }
    matmul_case(*state, 1, batches[0], false, 4, 3, 5, 15, 2, LV_F64);
}

static int open_device(void **state) {
    LvDevice *device;
    LvError error = {0};
    if (!lv_device_open("cpu", 2, &device, &error)) return -1;
    *state = device;
    return 0;
}

static int close_device(void **state) {
    lv_device_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conv),      cmocka_unit_test(test_conv_epilogue), cmocka_unit_test(test_conv_algorithms),
                                       cmocka_unit_test(test_conv_winograd), cmocka_unit_test(test_winograd_threads),
                                       cmocka_unit_test(test_conv_bf16), cmocka_unit_test(test_conv_f64),      cmocka_unit_test(test_matmul)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
