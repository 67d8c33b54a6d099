// The two versions of oneDNN's C API behind one form: see api.h.
#include "device/cpu/api.h"

#include <stdlib.h>

#include "base/arena.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t MutableDesc;
#else
typedef dnnl_memory_desc_t *MutableDesc;
#endif

static DnnDesc pool_keep(DnnPool *pool, MutableDesc desc) {
    lv_vec_push(&pool->list, (DnnDesc)desc);
    return desc;
}

void dnn_pool_free(DnnPool *pool) {
    for (size_t i = 0; i < pool->list.count; i++) {
#if DNNL_VERSION_MAJOR >= 3
        dnnl_memory_desc_destroy((MutableDesc)(uintptr_t)pool->list.data[i]);
#else
        free((MutableDesc)(uintptr_t)pool->list.data[i]);
#endif
    }
    lv_vec_free(&pool->list);
}

// The library's dimension arrays have DNNL_MAX_NDIMS entries, ours fewer.
static void widen(dnnl_dims_t out, int rank, const int64_t *in) {
    for (int i = 0; i < DNNL_MAX_NDIMS; i++) out[i] = i < rank ? in[i] : 0;
}

static DnnDesc desc_tag(DnnPool *pool, int rank, const int64_t *dim, dnnl_data_type_t type, dnnl_format_tag_t tag) {
    MutableDesc desc = NULL;
    dnnl_dims_t dims;
    widen(dims, rank, dim);
#if DNNL_VERSION_MAJOR >= 3
    if (dnnl_memory_desc_create_with_tag(&desc, rank, dims, type, tag) != dnnl_success) return NULL;
#else
    desc = lv_calloc(1, sizeof *desc);
    if (dnnl_memory_desc_init_by_tag(desc, rank, dims, type, tag) != dnnl_success) {
        free(desc);
        return NULL;
    }
#endif
    return pool_keep(pool, desc);
}

DnnDesc dnn_desc_any(DnnPool *pool, int rank, const int64_t *dim, dnnl_data_type_t type) {
    return desc_tag(pool, rank, dim, type, dnnl_format_tag_any);
}

DnnDesc dnn_desc_strided(DnnPool *pool, int rank, const int64_t *dim, const int64_t *stride, dnnl_data_type_t type) {
    MutableDesc desc = NULL;
    dnnl_dims_t dims, strides;
    widen(dims, rank, dim);
    widen(strides, rank, stride);
#if DNNL_VERSION_MAJOR >= 3
    if (dnnl_memory_desc_create_with_strides(&desc, rank, dims, type, strides) != dnnl_success) return NULL;
#else
    desc = lv_calloc(1, sizeof *desc);
    if (dnnl_memory_desc_init_by_strides(desc, rank, dims, type, strides) != dnnl_success) {
        free(desc);
        return NULL;
    }
#endif
    return pool_keep(pool, desc);
}

DnnDesc dnn_desc_copy(DnnPool *pool, DnnDesc from) {
    MutableDesc desc = NULL;
#if DNNL_VERSION_MAJOR >= 3
    if (dnnl_memory_desc_clone(&desc, from) != dnnl_success) return NULL;
#else
    desc = lv_malloc(sizeof *desc);
    *desc = *from;
#endif
    return pool_keep(pool, desc);
}

dnnl_data_type_t dnn_type(LvDType type) {
    switch (type) {
        case LV_F32: return dnnl_f32;
        case LV_BF16: return dnnl_bf16;
        case LV_F16: return dnnl_f16;
        default: return dnnl_data_type_undef;
    }
}

DnnDesc dnn_desc_operand(DnnPool *pool, const LvOperand *operand) {
    LvLayout layout = operand->layout;
    LvShape shape = operand->shape;
    dnnl_data_type_t type = dnn_type(operand->dtype);
    if (type == dnnl_data_type_undef || shape.rank < 1) return NULL;
    if (layout.block > 1) {
        LvLayout plain = layout;
        plain.block = 0;
        if (shape.rank != 4 || layout.block_dim != 1 || !lv_layout_is_row_major(plain, 4)) return NULL;
        dnnl_format_tag_t tag = layout.block == 16  ? dnnl_nChw16c
                                : layout.block == 8 ? dnnl_nChw8c
                                : layout.block == 4 ? dnnl_nChw4c
                                                    : dnnl_format_tag_undef;
        return tag == dnnl_format_tag_undef ? NULL : desc_tag(pool, 4, shape.dim, type, tag);
    }
    int64_t stride[LV_MAX_RANK];
    lv_layout_strides(layout, shape, stride);
    return dnn_desc_strided(pool, shape.rank, shape.dim, stride, type);
}

size_t dnn_desc_size(DnnDesc desc) {
    return desc ? dnnl_memory_desc_get_size(desc) : 0;
}

bool dnn_desc_equal(DnnDesc a, DnnDesc b) {
    return dnnl_memory_desc_equal(a, b) != 0;
}

DnnDesc dnn_query(const_dnnl_primitive_desc_t primitive, dnnl_query_t what) {
    return dnnl_primitive_desc_query_md(primitive, what, 0);
}

const char *dnn_implementation(const_dnnl_primitive_desc_t primitive) {
    const char *name = NULL;
    return dnnl_primitive_desc_query(primitive, dnnl_query_impl_info_str, 0, (void *)&name) == dnnl_success && name ? name : "";
}

static bool activation_of(LvActivation activation, dnnl_alg_kind_t *kind, float *alpha) {
    *alpha = 0;
    switch (activation) {
        case LV_ACTIVATION_RELU: *kind = dnnl_eltwise_relu; return true;
        case LV_ACTIVATION_SWISH: *kind = dnnl_eltwise_swish, *alpha = 1; return true;
        case LV_ACTIVATION_GELU: *kind = dnnl_eltwise_gelu_erf; return true;
        case LV_ACTIVATION_NONE: break;
    }
    return false;
}

static bool append_post(dnnl_post_ops_t ops, const DnnPost *post) {
    dnnl_alg_kind_t kind = dnnl_eltwise_linear;
    float alpha = post->scale;
    if (post->kind == DNN_POST_ADD) return dnnl_post_ops_append_binary(ops, dnnl_binary_add, post->desc) == dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    if (post->kind == DNN_POST_SUM) return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef) == dnnl_success;
    if (post->kind == DNN_POST_ACTIVATION && !activation_of(post->activation, &kind, &alpha)) return true;
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0) == dnnl_success;
#else
    if (post->kind == DNN_POST_SUM) return dnnl_post_ops_append_sum(ops, 1) == dnnl_success;
    if (post->kind == DNN_POST_ACTIVATION && !activation_of(post->activation, &kind, &alpha)) return true;
    return dnnl_post_ops_append_eltwise(ops, 1, kind, alpha, 0) == dnnl_success;
#endif
}

static dnnl_primitive_attr_t make_attributes(const DnnPost *posts, int count) {
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t ops = NULL;
    if (dnnl_primitive_attr_create(&attributes) != dnnl_success) return NULL;
    bool good = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
    if (good && count > 0) {
        good = dnnl_post_ops_create(&ops) == dnnl_success;
        for (int i = 0; good && i < count; i++) good = append_post(ops, &posts[i]);
        good = good && dnnl_primitive_attr_set_post_ops(attributes, ops) == dnnl_success;
        if (ops) dnnl_post_ops_destroy(ops);
    }
    if (good) return attributes;
    dnnl_primitive_attr_destroy(attributes);
    return NULL;
}

// In version 2 a primitive descriptor is made from an operation descriptor; in version 3 `made` is the whole call.
#if DNNL_VERSION_MAJOR >= 3
#define MAKE(Description, v2, v3)                                     \
    if (attributes && (v3) != dnnl_success) primitive = NULL;
#else
#define MAKE(Description, v2, v3)                                                                              \
    Description op;                                                                                            \
    if (attributes && ((v2) != dnnl_success ||                                                                 \
                       dnnl_primitive_desc_create(&primitive, &op, attributes, engine, NULL) != dnnl_success)) \
        primitive = NULL;
#endif

dnnl_primitive_desc_t dnn_conv_forward(dnnl_engine_t engine, const DnnConv *conv, DnnDesc x, DnnDesc w, DnnDesc bias,
                                       DnnDesc y, const DnnPost *posts, int post_count) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_primitive_attr_t attributes = make_attributes(posts, post_count);
    MAKE(dnnl_convolution_desc_t,
         dnnl_dilated_convolution_forward_desc_init(&op, dnnl_forward_training, conv->algorithm, x, w, bias, y, conv->stride,
                                                    conv->dilate, conv->before, conv->after),
         dnnl_convolution_forward_primitive_desc_create(&primitive, engine, dnnl_forward_training, conv->algorithm, x, w, bias,
                                                        y, conv->stride, conv->dilate, conv->before, conv->after, attributes))
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}

// Backward primitives ask for the forward one as a hint; the CPU implementations look only at whether it is there.
#if DNNL_VERSION_MAJOR >= 3
static dnnl_primitive_desc_t forward_hint(dnnl_engine_t engine, const DnnConv *conv, DnnDesc x, DnnDesc w, DnnDesc y) {
    DnnPool pool = {0};
    DnnDesc from[3] = {x, w, y}, any[3];
    for (int i = 0; i < 3; i++) {
        dnnl_dims_t *dims;
        dnnl_data_type_t type;
        int rank;
        dnnl_memory_desc_query(from[i], dnnl_query_ndims_s32, &rank);
        dnnl_memory_desc_query(from[i], dnnl_query_dims, &dims);
        dnnl_memory_desc_query(from[i], dnnl_query_data_type, &type);
        any[i] = dnn_desc_any(&pool, rank, *dims, i == 1 && type == dnnl_f32 ? dnnl_f32 : type);
    }
    DnnConv direct = *conv;
    direct.algorithm = dnnl_convolution_direct;
    dnnl_primitive_desc_t hint = dnn_conv_forward(engine, &direct, any[0], any[1], NULL, any[2], NULL, 0);
    dnn_pool_free(&pool);
    return hint;
}
#endif

dnnl_primitive_desc_t dnn_conv_data(dnnl_engine_t engine, const DnnConv *conv, DnnDesc dx, DnnDesc w, DnnDesc dy) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_primitive_attr_t attributes = make_attributes(NULL, 0);
#if DNNL_VERSION_MAJOR >= 3
    dnnl_primitive_desc_t hint = forward_hint(engine, conv, dx, w, dy);
#endif
    MAKE(dnnl_convolution_desc_t,
         dnnl_dilated_convolution_backward_data_desc_init(&op, conv->algorithm, dx, w, dy, conv->stride, conv->dilate,
                                                          conv->before, conv->after),
         dnnl_convolution_backward_data_primitive_desc_create(&primitive, engine, conv->algorithm, dx, w, dy, conv->stride,
                                                              conv->dilate, conv->before, conv->after, hint, attributes))
#if DNNL_VERSION_MAJOR >= 3
    if (hint) dnnl_primitive_desc_destroy(hint);
#endif
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}

dnnl_primitive_desc_t dnn_conv_weights(dnnl_engine_t engine, const DnnConv *conv, DnnDesc x, DnnDesc dw, DnnDesc db, DnnDesc dy) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_primitive_attr_t attributes = make_attributes(NULL, 0);
#if DNNL_VERSION_MAJOR >= 3
    dnnl_primitive_desc_t hint = forward_hint(engine, conv, x, dw, dy);
#endif
    MAKE(dnnl_convolution_desc_t,
         dnnl_dilated_convolution_backward_weights_desc_init(&op, conv->algorithm, x, dw, db, dy, conv->stride, conv->dilate,
                                                             conv->before, conv->after),
         dnnl_convolution_backward_weights_primitive_desc_create(&primitive, engine, conv->algorithm, x, dw, db, dy,
                                                                 conv->stride, conv->dilate, conv->before, conv->after, hint,
                                                                 attributes))
#if DNNL_VERSION_MAJOR >= 3
    if (hint) dnnl_primitive_desc_destroy(hint);
#endif
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}

dnnl_primitive_desc_t dnn_matmul(dnnl_engine_t engine, DnnDesc a, DnnDesc b, DnnDesc bias, DnnDesc y, const DnnPost *posts,
                                 int post_count) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_primitive_attr_t attributes = make_attributes(posts, post_count);
    MAKE(dnnl_matmul_desc_t, dnnl_matmul_desc_init(&op, a, b, bias, y),
         dnnl_matmul_primitive_desc_create(&primitive, engine, a, b, bias, y, attributes))
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}

dnnl_primitive_desc_t dnn_activation(dnnl_engine_t engine, LvActivation activation, DnnDesc x) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_alg_kind_t kind;
    float alpha;
    if (!activation_of(activation, &kind, &alpha)) return NULL;
    dnnl_primitive_attr_t attributes = make_attributes(NULL, 0);
    MAKE(dnnl_eltwise_desc_t, dnnl_eltwise_forward_desc_init(&op, dnnl_forward_inference, kind, x, alpha, 0),
         dnnl_eltwise_forward_primitive_desc_create(&primitive, engine, dnnl_forward_inference, kind, x, x, alpha, 0, attributes))
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}

dnnl_primitive_desc_t dnn_add(dnnl_engine_t engine, DnnDesc a, DnnDesc b, DnnDesc y) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_primitive_attr_t attributes = make_attributes(NULL, 0);
    MAKE(dnnl_binary_desc_t, dnnl_binary_desc_init(&op, dnnl_binary_add, a, b, y),
         dnnl_binary_primitive_desc_create(&primitive, engine, dnnl_binary_add, a, b, y, attributes))
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}

dnnl_primitive_desc_t dnn_reorder(dnnl_engine_t engine, DnnDesc from, DnnDesc to) {
    dnnl_primitive_desc_t primitive = NULL;
    dnnl_primitive_attr_t attributes = make_attributes(NULL, 0);
    if (attributes && dnnl_reorder_primitive_desc_create(&primitive, from, engine, to, engine, attributes) != dnnl_success) {
        primitive = NULL;
    }
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    return primitive;
}
