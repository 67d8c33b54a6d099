// Helpers of rules.h: tensors of the reference evaluation, index walks, messages of the shape rules.
#include <math.h>
#include <string.h>

#include "ops/rules.h"

void tensor_create(const Evaluation *evaluation, Tensor *tensor, LvDType dtype, LvShape shape) {
    int64_t count = lv_shape_elements(shape);
    tensor->shape = shape;
    tensor->dtype = dtype;
    tensor->f = NULL, tensor->i = NULL;
    if (lv_dtype_is_float(dtype)) tensor->f = LV_NEW_ARRAY(evaluation->arena, double, count ? count : 1);
    else tensor->i = LV_NEW_ARRAY(evaluation->arena, int64_t, count ? count : 1);
}

bool tensor_is_float(const Tensor *tensor) { return tensor->f != NULL; }
double tensor_get(const Tensor *tensor, int64_t at) { return tensor->f ? tensor->f[at] : (double)tensor->i[at]; }

void tensor_set(Tensor *tensor, int64_t at, double value) {
    if (tensor->f) tensor->f[at] = value;
    else tensor->i[at] = (int64_t)value;
}

void tensor_copy_element(Tensor *to, int64_t at, const Tensor *from, int64_t from_at) {
    if (to->f) to->f[at] = from->f[from_at];
    else to->i[at] = from->i[from_at];
}

double round_to(LvDType dtype, double value) {
    switch (dtype) {
    case LV_F32: return (float)value;
    case LV_BF16: return lv_f32_from_bf16(lv_bf16_from_f32((float)value));
    case LV_F16: return lv_f32_from_f16(lv_f16_from_f32((float)value));
    default: return value;
    }
}

void shape_strides(LvShape shape, int64_t stride[LV_MAX_RANK]) {
    int64_t step = 1;
    for (int i = shape.rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= shape.dim[i];
    }
}

bool index_next(LvShape shape, int64_t *index) {
    for (int i = shape.rank - 1; i >= 0; i--) {
        if (++index[i] < shape.dim[i]) return true;
        index[i] = 0;
    }
    return false;
}

const char *refuse(Graph *graph, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *text = lv_arena_vprintf(graph->arena, format, args);
    va_end(args);
    return text;
}

const char *shape_text(Graph *graph, LvShape shape) {
    LvText text = {0};
    lv_shape_print(&text, shape);
    const char *copy = lv_arena_strdup(graph->arena, lv_text_get(&text));
    lv_text_free(&text);
    return copy;
}

void set_result(Node *node, int result, LvDType dtype, LvShape shape) {
    node->results[result].dtype = dtype;
    node->results[result].shape = shape;
}

LvShape shape_without(LvShape shape, int axis_count, const int64_t *axes) {
    LvShape out = {0};
    for (int i = 0; i < shape.rank; i++) {
        bool dropped = false;
        for (int j = 0; j < axis_count; j++) dropped |= axes[j] == i;
        if (!dropped) out.dim[out.rank++] = shape.dim[i];
    }
    return out;
}

const Attr *list_attr(const Node *node, AttrName name, int count) {
    const Attr *attr = node_attr(node, name);
    return attr && (count < 0 || attr->list.count == count) ? attr : NULL;
}
