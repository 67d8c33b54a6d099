// Convolution and matmul as plain loops in f64: the formulas of LvConvStep and LvMatmulStep read aloud. Taken where the
// library has nothing (f64, integers, an empty inner dimension), so every plan runs everywhere. Slow, parallel over outputs.
#include <math.h>

#include "device/cpu/cpu.h"

static double activate(LvActivation activation, double x) {
    switch (activation) {
        case LV_ACTIVATION_RELU: return x > 0 ? x : 0;
        case LV_ACTIVATION_SWISH: return x / (1 + exp(-x));
        case LV_ACTIVATION_GELU: return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
        case LV_ACTIVATION_NONE: break;
    }
    return x;
}

static double get4(const LvOperand *o, const char *data, int64_t a, int64_t b, int64_t c, int64_t d) {
    return lv_element_get(data, o->dtype, lv_layout_offset(o->layout, o->shape, (int64_t[]){a, b, c, d}));
}

static void set4(const LvOperand *o, char *data, int64_t a, int64_t b, int64_t c, int64_t d, double value) {
    lv_element_set(data, o->dtype, lv_layout_offset(o->layout, o->shape, (int64_t[]){a, b, c, d}), value);
}

static void conv_forward(const LvStep *step, char *const *buffers) {
    const LvConvStep *conv = &step->conv;
    const LvOperand *y = &step->operands[0], *x = &step->operands[1], *w = &step->operands[2];
    const LvOperand *bias = conv->has_bias ? &step->operands[3] : NULL;
    int r = 3 + conv->has_bias;
    int64_t images = y->shape.dim[0], outs = y->shape.dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t bo = 0; bo < images * outs; bo++) {
        int64_t b = bo / outs, o = bo % outs;
        for (int64_t i = 0; i < y->shape.dim[2]; i++) {
            for (int64_t j = 0; j < y->shape.dim[3]; j++) {
                double sum = bias ? lv_element_get(buffers[3], bias->dtype, o) : 0;
                for (int64_t c = 0; c < x->shape.dim[1]; c++) {
                    for (int64_t u = 0; u < w->shape.dim[2]; u++) {
                        int64_t row = i * conv->stride[0] + u - conv->pad[2];
                        if (row < 0 || row >= x->shape.dim[2]) continue;
                        for (int64_t v = 0; v < w->shape.dim[3]; v++) {
                            int64_t column = j * conv->stride[1] + v - conv->pad[0];
                            if (column < 0 || column >= x->shape.dim[3]) continue;
                            sum += get4(x, buffers[1], b, c, row, column) * get4(w, buffers[2], o, c, u, v);
                        }
                    }
                }
                sum = activate(conv->activation, sum);
                if (conv->has_residual) sum += get4(&step->operands[r], buffers[r], b, o, i, j);
                set4(y, buffers[0], b, o, i, j, sum);
            }
        }
    }
}

static void conv_data_gradient(const LvStep *step, char *const *buffers) {
    const LvConvStep *conv = &step->conv;
    const LvOperand *dx = &step->operands[0], *dy = &step->operands[1], *w = &step->operands[2];
    int64_t images = dx->shape.dim[0], channels = dx->shape.dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t bc = 0; bc < images * channels; bc++) {
        int64_t b = bc / channels, c = bc % channels;
        for (int64_t row = 0; row < dx->shape.dim[2]; row++) {
            for (int64_t column = 0; column < dx->shape.dim[3]; column++) {
                double sum = 0;
                for (int64_t u = 0; u < w->shape.dim[2]; u++) {
                    int64_t i = row + conv->pad[2] - u;
                    if (i < 0 || i % conv->stride[0] || i / conv->stride[0] >= dy->shape.dim[2]) continue;
                    for (int64_t v = 0; v < w->shape.dim[3]; v++) {
                        int64_t j = column + conv->pad[0] - v;
                        if (j < 0 || j % conv->stride[1] || j / conv->stride[1] >= dy->shape.dim[3]) continue;
                        for (int64_t o = 0; o < dy->shape.dim[1]; o++) {
                            sum += get4(dy, buffers[1], b, o, i / conv->stride[0], j / conv->stride[1]) *
                                   get4(w, buffers[2], o, c, u, v);
                        }
                    }
                }
                set4(dx, buffers[0], b, c, row, column, sum);
            }
        }
    }
}

static void conv_weight_gradient(const LvStep *step, char *const *buffers) {
    const LvConvStep *conv = &step->conv;
    const LvOperand *dw = &step->operands[0], *x = &step->operands[1], *dy = &step->operands[2];
    int64_t outs = dw->shape.dim[0], channels = dw->shape.dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t oc = 0; oc < outs * channels; oc++) {
        int64_t o = oc / channels, c = oc % channels;
        for (int64_t u = 0; u < dw->shape.dim[2]; u++) {
            for (int64_t v = 0; v < dw->shape.dim[3]; v++) {
                double sum = 0;
                for (int64_t b = 0; b < dy->shape.dim[0]; b++) {
                    for (int64_t i = 0; i < dy->shape.dim[2]; i++) {
                        int64_t row = i * conv->stride[0] + u - conv->pad[2];
                        if (row < 0 || row >= x->shape.dim[2]) continue;
                        for (int64_t j = 0; j < dy->shape.dim[3]; j++) {
                            int64_t column = j * conv->stride[1] + v - conv->pad[0];
                            if (column < 0 || column >= x->shape.dim[3]) continue;
                            sum += get4(dy, buffers[2], b, o, i, j) * get4(x, buffers[1], b, c, row, column);
                        }
                    }
                }
                set4(dw, buffers[0], o, c, u, v, sum);
            }
        }
    }
    if (!conv->has_bias) return;
    for (int64_t o = 0; o < step->operands[3].shape.dim[0]; o++) {
        double sum = 0;
        for (int64_t b = 0; b < dy->shape.dim[0]; b++) {
            for (int64_t i = 0; i < dy->shape.dim[2]; i++) {
                for (int64_t j = 0; j < dy->shape.dim[3]; j++) sum += get4(dy, buffers[2], b, o, i, j);
            }
        }
        lv_element_set(buffers[3], step->operands[3].dtype, o, sum);
    }
}

void cpu_plain_conv(const LvStep *step, char *const *buffers) {
    switch (step->conv.direction) {
        case LV_CONV_FORWARD: conv_forward(step, buffers); break;
        case LV_CONV_DATA_GRADIENT: conv_data_gradient(step, buffers); break;
        case LV_CONV_WEIGHT_GRADIENT: conv_weight_gradient(step, buffers); break;
    }
}

// Index of an operand with fewer or stretched batch dimensions, from the destination's index.
static void batch_index(const LvOperand *o, int rank, const int64_t *index, int64_t *out) {
    for (int i = 0; i < o->shape.rank - 2; i++) {
        out[i] = o->shape.dim[i] == 1 ? 0 : index[i + rank - o->shape.rank];
    }
}

void cpu_plain_matmul(const LvStep *step, char *const *buffers) {
    const LvMatmulStep *mm = &step->matmul;
    const LvOperand *y = &step->operands[0], *a = &step->operands[1], *b = &step->operands[2];
    int rank = y->shape.rank, ar = a->shape.rank, br = b->shape.rank, r = 3 + mm->has_bias;
    int64_t inner = a->shape.dim[mm->transpose_a ? ar - 2 : ar - 1], count = lv_shape_elements(y->shape);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < count; n++) {
        int64_t index[LV_MAX_RANK], ia[LV_MAX_RANK], ib[LV_MAX_RANK], rest = n;
        for (int i = rank - 1; i >= 0; i--) {
            index[i] = rest % y->shape.dim[i];
            rest /= y->shape.dim[i];
        }
        batch_index(a, rank, index, ia);
        batch_index(b, rank, index, ib);
        double sum = 0;
        for (int64_t k = 0; k < inner; k++) {
            ia[ar - 2] = mm->transpose_a ? k : index[rank - 2], ia[ar - 1] = mm->transpose_a ? index[rank - 2] : k;
            ib[br - 2] = mm->transpose_b ? index[rank - 1] : k, ib[br - 1] = mm->transpose_b ? k : index[rank - 1];
            sum += lv_element_get(buffers[1], a->dtype, lv_layout_offset(a->layout, a->shape, ia)) *
                   lv_element_get(buffers[2], b->dtype, lv_layout_offset(b->layout, b->shape, ib));
        }
        sum *= mm->alpha;
        if (mm->has_bias) sum += lv_element_get(buffers[3], step->operands[3].dtype, index[rank - 1]);
        sum = activate(mm->activation, sum);
        if (mm->has_residual) {
            const LvOperand *res = &step->operands[r];
            sum += lv_element_get(buffers[r], res->dtype, lv_layout_offset(res->layout, res->shape, index));
        }
        lv_element_set(buffers[0], y->dtype, lv_layout_offset(y->layout, y->shape, index), sum);
    }
}
