// Which convolutions our own Winograd takes, and by which instruction set.
#include "device/cpu/winograd.h"

static const WinogradSet *best_set(void) {
#if defined(__x86_64__)
    if (winograd_avx512.run && __builtin_cpu_supports("avx512f")) return &winograd_avx512;
    if (winograd_avx2.run && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &winograd_avx2;
#endif
    return NULL;
}

// Channels in blocks that are whole vectors, or last; pictures otherwise in order.
static bool place_of(const LvOperand *operand, int lanes, WinogradPlace *place) {
    LvShape shape = operand->shape;
    LvLayout layout = operand->layout;
    int64_t stride[LV_MAX_RANK], channels = shape.dim[1];
    if (shape.rank != 4 || operand->dtype != LV_F32 || channels % lanes) return false;
    lv_layout_strides(layout, shape, stride);
    if (layout.block > 1) {
        if (layout.block_dim != 1 || layout.block % lanes || channels % layout.block) return false;
        *place = (WinogradPlace){stride[0], stride[1], stride[2], stride[3], layout.block};
        return true;
    }
    if (!lv_layout_equal(layout, lv_layout_nhwc(), 4)) return false;
    *place = (WinogradPlace){stride[0], 0, stride[2], stride[3], channels};
    return true;
}

// Bias and residual as plain as the loops expect them.
static bool extras_fit(const LvStep *step) {
    const LvConvStep *conv = &step->conv;
    const LvOperand *y = &step->operands[0], *bias = &step->operands[3], *residual = &step->operands[3 + conv->has_bias];
    if (conv->has_bias && bias->dtype != LV_F32) return false;
    return !conv->has_residual || (residual->dtype == LV_F32 && lv_layout_equal(residual->layout, y->layout, 4));
}

bool winograd_shape(const LvStep *step, int threads, WinogradShape *out) {
    const WinogradSet *set = best_set();
    const LvConvStep *conv = &step->conv;
    if (!set || step->kind != LV_STEP_CONV) return false;
    bool gradient = conv->direction == LV_CONV_WEIGHT_GRADIENT, data = conv->direction == LV_CONV_DATA_GRADIENT;
    const LvOperand *w = &step->operands[gradient ? 0 : 2], *x = &step->operands[1], *y = &step->operands[gradient ? 2 : 0];
    if (w->dtype != LV_F32 || !lv_layout_is_row_major(w->layout, 4) || w->shape.dim[2] != 3 || w->shape.dim[3] != 3) return false;
    if (conv->stride[0] != 1 || conv->stride[1] != 1 || !extras_fit(step)) return false;
    for (int i = 0; i < 4; i++) {
        if (conv->pad[i] < 0 || (data && conv->pad[i] > 2)) return false;
    }
    *out = (WinogradShape){.images = x->shape.dim[0], .in = x->shape.dim[1], .out = y->shape.dim[1], .height = x->shape.dim[2],
                           .width = x->shape.dim[3], .out_height = y->shape.dim[2], .out_width = y->shape.dim[3],
                           .above = conv->pad[2], .left = conv->pad[0], .lane_stride = w->shape.dim[1] * 9, .depth_stride = 9,
                           .gradient = gradient, .activation = conv->activation, .threads = threads};
    if (data) {  // dx = conv(dy, the filter turned by half a circle), padded so that the full sizes come out
        out->above = 2 - conv->pad[2], out->left = 2 - conv->pad[0];
        out->lane_stride = 9, out->depth_stride = w->shape.dim[1] * 9;
        out->flipped = true;
    }
    return place_of(x, set->lanes, &out->x) && place_of(y, set->lanes, &out->y);
}

size_t winograd_scratch(const WinogradShape *shape) { return best_set()->scratch(shape); }
void winograd_run(const WinogradShape *shape, const WinogradData *data) { best_set()->run(shape, data); }
const char *winograd_describe(const WinogradShape *shape) {
    (void)shape;
    return best_set()->name;
}
