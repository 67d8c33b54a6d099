// Each element of the result is a sum in f64, which is rounded once.
#include "cudnn_convolution.h"

#include <string.h>

#include "common.h"

static float factor(const Convolution *v, const void *data, int64_t i) {
    const float x = number_load(data, v->type, i);
    return v->tf32 ? half_of_bits(half_to_tf32(x)) : x;
}

static int64_t in_filter(const Convolution *v, int o, int c, int i, int j) {
    return v->filter_rows ? (((int64_t)o * v->c + c) * v->kh + i) * v->kw + j : (((int64_t)o * v->kh + i) * v->kw + j) * v->c + c;
}

static int64_t in_x(const Convolution *v, int n, int c, int h, int w) { return (((int64_t)n * v->h + h) * v->w + w) * v->c + c; }
static int64_t in_y(const Convolution *v, int n, int o, int h, int w) { return (((int64_t)n * v->oh + h) * v->ow + w) * v->o + o; }

static void forward(const Convolution *v, int n, int o, int h, int w) {
    double sum = 0;
    for (int i = 0; i < v->kh; i++) {
        for (int j = 0; j < v->kw; j++) {
            const int row = h * v->stride_h + i - v->pad_h, column = w * v->stride_w + j - v->pad_w;
            if (row < 0 || row >= v->h || column < 0 || column >= v->w) continue;
            for (int c = 0; c < v->c; c++)
                sum += (double)factor(v, v->x, in_x(v, n, c, row, column)) * (double)factor(v, v->filter, in_filter(v, o, c, i, j));
        }
    }
    if (v->bias) sum += (double)number_load(v->bias, v->type, o);
    if (v->add) sum += (double)number_load(v->add, v->type, in_y(v, n, o, h, w));
    if (v->relu && sum < 0) sum = 0;
    number_store(v->y, v->type, in_y(v, n, o, h, w), (float)sum);
}

static void data_gradient(const Convolution *v, int n, int c, int h, int w) {
    double sum = 0;
    for (int i = 0; i < v->kh; i++) {
        for (int j = 0; j < v->kw; j++) {
            const int row = h + v->pad_h - i, column = w + v->pad_w - j;
            if (row < 0 || column < 0 || row % v->stride_h || column % v->stride_w) continue;
            if (row / v->stride_h >= v->oh || column / v->stride_w >= v->ow) continue;
            for (int o = 0; o < v->o; o++)
                sum += (double)factor(v, v->y, in_y(v, n, o, row / v->stride_h, column / v->stride_w)) *
                       (double)factor(v, v->filter, in_filter(v, o, c, i, j));
        }
    }
    number_store(v->x, v->type, in_x(v, n, c, h, w), (float)sum);
}

static void filter_gradient(const Convolution *v, int o, int c, int i, int j) {
    double sum = 0;
    for (int n = 0; n < v->n; n++) {
        for (int h = 0; h < v->oh; h++) {
            for (int w = 0; w < v->ow; w++) {
                const int row = h * v->stride_h + i - v->pad_h, column = w * v->stride_w + j - v->pad_w;
                if (row < 0 || row >= v->h || column < 0 || column >= v->w) continue;
                sum += (double)factor(v, v->x, in_x(v, n, c, row, column)) * (double)factor(v, v->y, in_y(v, n, o, h, w));
            }
        }
    }
    number_store(v->filter, v->type, in_filter(v, o, c, i, j), (float)sum);
}

typedef void Element(const Convolution *v, int a, int b, int c, int d);

static void each(const Convolution *v, Element *element, int a, int b, int c, int d) {
    for (int i = 0; i < a; i++)
        for (int j = 0; j < b; j++)
            for (int k = 0; k < c; k++)
                for (int l = 0; l < d; l++) element(v, i, j, k, l);
}

void convolution_run(void *convolution) {
    const Convolution *v = convolution;
    void (*pass)(int microseconds) = (void (*)(int))(uintptr_t)sim_of_driver("lv_sim_clock_pass");
    memset(v->workspace, 0xFF, v->workspace_bytes);
    switch (v->kind) {
        case CONVOLUTION_FORWARD: each(v, forward, v->n, v->o, v->oh, v->ow); break;
        case CONVOLUTION_DATA: each(v, data_gradient, v->n, v->c, v->h, v->w); break;
        case CONVOLUTION_FILTER: each(v, filter_gradient, v->o, v->c, v->kh, v->kw); break;
    }
    if (pass) pass(v->time);
}
