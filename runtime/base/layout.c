// Physical layouts: strides and offsets.
#include "base/layout.h"

#include <stdlib.h>

LvLayout lv_layout_row_major(void) {
    LvLayout layout = {0};
    for (int i = 0; i < LV_MAX_RANK; i++) layout.perm[i] = (int8_t)i;
    return layout;
}

LvLayout lv_layout_nhwc(void) {
    LvLayout layout = lv_layout_row_major();
    layout.perm[1] = 2;
    layout.perm[2] = 3;
    layout.perm[3] = 1;
    return layout;
}

LvLayout lv_layout_blocked(int dim, int block) {
    LvLayout layout = lv_layout_row_major();
    layout.block_dim = (int8_t)dim;
    layout.block = (int16_t)block;
    return layout;
}

bool lv_layout_equal(LvLayout a, LvLayout b, int rank) {
    int block_a = a.block > 1 ? a.block : 1, block_b = b.block > 1 ? b.block : 1;
    if (block_a != block_b || (block_a > 1 && a.block_dim != b.block_dim)) return false;
    if (a.pitch != b.pitch || (a.pitch && a.pitch_place != b.pitch_place)) return false;
    for (int i = 0; i < rank; i++) {
        if (a.perm[i] != b.perm[i]) return false;
    }
    return true;
}

bool lv_layout_is_row_major(LvLayout layout, int rank) {
    return lv_layout_equal(layout, lv_layout_row_major(), rank);
}

void lv_layout_strides(LvLayout layout, LvShape shape, int64_t stride[LV_MAX_RANK]) {
    bool blocked = layout.block > 1;
    int64_t step = blocked ? layout.block : 1;
    for (int i = shape.rank - 1; i >= 0; i--) {
        int dim = layout.perm[i];
        if (layout.pitch && layout.pitch_place == i) step = layout.pitch;
        stride[dim] = step;
        step *= blocked && dim == layout.block_dim ? shape.dim[dim] / layout.block : shape.dim[dim];
    }
}

int64_t lv_layout_span(LvLayout layout, LvShape shape) {
    int64_t stride[LV_MAX_RANK], last = 0, elements = lv_shape_elements(shape);
    if (!layout.pitch || elements == 0) return elements;
    lv_layout_strides(layout, shape, stride);
    for (int i = 0; i < shape.rank; i++) last += (shape.dim[i] - 1) * stride[i];
    return last + 1;
}

int64_t lv_layout_offset(LvLayout layout, LvShape shape, const int64_t *index) {
    int64_t stride[LV_MAX_RANK], offset = 0;
    lv_layout_strides(layout, shape, stride);
    for (int i = 0; i < shape.rank; i++) {
        if (layout.block > 1 && i == layout.block_dim) {
            offset += index[i] / layout.block * stride[i] + index[i] % layout.block;
        } else {
            offset += index[i] * stride[i];
        }
    }
    return offset;
}

void lv_layout_print(LvText *text, LvLayout layout, int rank) {
    for (int i = 0; i < rank; i++) lv_text_putc(text, (char)('0' + layout.perm[i]));
    if (layout.block > 1) lv_text_printf(text, "b%dx%d", layout.block_dim, layout.block);
    if (layout.pitch) lv_text_printf(text, "p%dx%d", layout.pitch_place, (int)layout.pitch);
}

bool lv_layout_parse(const char *text, int rank, LvLayout *layout) {
    unsigned seen = 0;
    *layout = lv_layout_row_major();
    for (int i = 0; i < rank; i++) {
        int dim = text[i] - '0';
        if (dim < 0 || dim >= rank || seen >> dim & 1) return false;
        seen |= 1u << dim;
        layout->perm[i] = (int8_t)dim;
    }
    text += rank;
    if (*text == 0) return true;
    char kind = text[0], *end;
    if ((kind != 'b' && kind != 'p') || text[1] < '0' || text[1] - '0' >= rank || text[2] != 'x') return false;
    long number = strtol(text + 3, &end, 10);
    if (*end || number < (kind == 'b' ? 2 : 1) || number > (kind == 'b' ? 1024 : INT32_MAX)) return false;
    if (kind == 'b') layout->block_dim = (int8_t)(text[1] - '0'), layout->block = (int16_t)number;
    else layout->pitch_place = (int8_t)(text[1] - '0'), layout->pitch = (int32_t)number;
    return true;
}
