// Which convolutions our own Winograd takes, and by which instruction set.
#include "device/cpu/winograd.h"

#include "base/processor.h"

bool winograd_has(const WinogradSet *set) {
    if (set == &winograd_avx512) return set->run && lv_processor_has_avx512();
    return set == &winograd_avx2 && set->run && lv_processor_has_avx2();
}

const WinogradSet *winograd_best(void) {
    if (winograd_has(&winograd_avx512)) return &winograd_avx512;
    return winograd_has(&winograd_avx2) ? &winograd_avx2 : NULL;
}

static bool is_read(const LvOperand *operand) { return operand->dtype == LV_F32 || operand->dtype == LV_BF16; }

// Channels in blocks that are whole vectors, or last; pictures otherwise in order.
static bool place_of(const LvOperand *operand, int lanes, WinogradPlace *place) {
    LvShape shape = operand->shape;
    LvLayout layout = operand->layout;
    int64_t stride[LV_MAX_RANK], channels = shape.dim[1];
    bool bf16 = operand->dtype == LV_BF16;
    if (shape.rank != 4 || !is_read(operand) || channels % lanes) return false;
    lv_layout_strides(layout, shape, stride);
    if (layout.block > 1) {
        if (layout.block_dim != 1 || layout.block % lanes || channels % layout.block) return false;
        *place = (WinogradPlace){stride[0], stride[1], stride[2], stride[3], layout.block, bf16};
        return true;
    }
    if (!lv_layout_equal(layout, lv_layout_nhwc(), 4)) return false;
    *place = (WinogradPlace){stride[0], 0, stride[2], stride[3], channels, bf16};
    return true;
}

// Bias and residual as plain as the loops expect them.
static bool extras_fit(const LvStep *step) {
    const LvConvStep *conv = &step->conv;
    const LvOperand *y = &step->operands[0], *bias = &step->operands[3], *residual = &step->operands[3 + conv->has_bias];
    if (conv->has_bias && !is_read(bias)) return false;
    return !conv->has_residual || (residual->dtype == y->dtype && lv_layout_equal(residual->layout, y->layout, 4));
}

bool winograd_shape(const LvStep *step, const WinogradSet *set, int threads, WinogradShape *out) {
    const LvConvStep *conv = &step->conv;
    if (!set || step->kind != LV_STEP_CONV) return false;
    bool gradient = conv->direction == LV_CONV_WEIGHT_GRADIENT, data = conv->direction == LV_CONV_DATA_GRADIENT;
    const LvOperand *w = &step->operands[gradient ? 0 : 2], *x = &step->operands[1], *y = &step->operands[gradient ? 2 : 0];
    if (!is_read(w) || (gradient && w->dtype != LV_F32) || !lv_layout_is_row_major(w->layout, 4) || w->shape.dim[2] != 3 || w->shape.dim[3] != 3) return false;
    if (conv->stride[0] != 1 || conv->stride[1] != 1 || !extras_fit(step)) return false;
    for (int i = 0; i < 4; i++) {
        if (conv->pad[i] < 0 || (data && conv->pad[i] > 2)) return false;
    }
    *out = (WinogradShape){.set = set, .images = x->shape.dim[0], .in = x->shape.dim[1], .out = y->shape.dim[1], .height = x->shape.dim[2],
                           .width = x->shape.dim[3], .out_height = y->shape.dim[2], .out_width = y->shape.dim[3],
                           .above = conv->pad[2], .left = conv->pad[0], .lane_stride = w->shape.dim[1] * 9, .depth_stride = 9,
                           .gradient = gradient, .weight_bf16 = w->dtype == LV_BF16,
                           .bias_bf16 = conv->has_bias && step->operands[3].dtype == LV_BF16, .activation = conv->activation,
                           .threads = threads};
    if (data) {  // dx = conv(dy, the filter turned by half a circle), padded so that the full sizes come out
        out->above = 2 - conv->pad[2], out->left = 2 - conv->pad[0];
        out->lane_stride = 9, out->depth_stride = w->shape.dim[1] * 9;
        out->flipped = true;
    }
    return place_of(x, set->lanes, &out->x) && place_of(y, set->lanes, &out->y);
}

size_t winograd_scratch(const WinogradShape *shape) { return shape->set->scratch(shape); }
void winograd_run(const WinogradShape *shape, const WinogradData *data) { shape->set->run(shape, data); }

WinogradData winograd_data(const LvStep *step, char *const *buffers, char *scratch) {
    const LvConvStep *conv = &step->conv;
    if (conv->direction == LV_CONV_WEIGHT_GRADIENT) {
        return (WinogradData){.w = buffers[0], .x = buffers[1], .y = buffers[2], .dbias = conv->has_bias ? buffers[3] : NULL, .scratch = scratch};
    }
    return (WinogradData){.y = buffers[0], .x = buffers[1], .w = buffers[2], .bias = conv->has_bias ? buffers[3] : NULL,
                          .residual = conv->has_residual ? buffers[3 + conv->has_bias] : NULL, .scratch = scratch};
}
