// oneDNN's C API as far as it is used here, in one form for versions 2 (memory descriptors are structs, primitives are made
// through operation descriptors) and 3 (opaque descriptors, one call a primitive). Descriptors made here live in a pool.
#ifndef LV_DEVICE_CPU_API_H
#define LV_DEVICE_CPU_API_H

#include <dnnl.h>

#include "base/plan.h"
#include "base/vec.h"

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t DnnDesc;
#else
typedef const dnnl_memory_desc_t *DnnDesc;
#endif

typedef struct {
    LV_VEC(DnnDesc) list;
} DnnPool;  // owns descriptors

void dnn_pool_free(DnnPool *pool);

// NULL where the library does not know the type or layout.
DnnDesc dnn_desc_any(DnnPool *pool, int rank, const int64_t *dim, dnnl_data_type_t type);
DnnDesc dnn_desc_strided(DnnPool *pool, int rank, const int64_t *dim, const int64_t *stride, dnnl_data_type_t type);
DnnDesc dnn_desc_operand(DnnPool *pool, const LvOperand *operand);
DnnDesc dnn_desc_copy(DnnPool *pool, DnnDesc desc);
dnnl_data_type_t dnn_type(LvDType type);  // dnnl_data_type_undef: none
size_t dnn_desc_size(DnnDesc desc);
bool dnn_desc_equal(DnnDesc a, DnnDesc b);
DnnDesc dnn_query(const_dnnl_primitive_desc_t primitive, dnnl_query_t what);  // owned by the primitive descriptor
const char *dnn_implementation(const_dnnl_primitive_desc_t primitive);

typedef struct {
    dnnl_alg_kind_t algorithm;
    dnnl_dims_t stride, dilate, before, after;
} DnnConv;

// What follows a contraction inside its primitive, in this order; `count` says how many there are.
typedef struct {
    enum { DNN_POST_SCALE, DNN_POST_ADD, DNN_POST_ACTIVATION, DNN_POST_SUM } kind;
    float scale;              // SCALE: y * scale
    DnnDesc desc;             // ADD: y + this operand, broadcast
    LvActivation activation;
} DnnPost;
enum { DNN_MAX_POSTS = 4 };

// All return NULL where the library refuses. The scratch memory of every primitive is the caller's.
dnnl_primitive_desc_t dnn_conv_forward(dnnl_engine_t engine, const DnnConv *conv, DnnDesc x, DnnDesc w, DnnDesc bias,
                                       DnnDesc y, const DnnPost *posts, int post_count);
dnnl_primitive_desc_t dnn_conv_data(dnnl_engine_t engine, const DnnConv *conv, DnnDesc dx, DnnDesc w, DnnDesc dy);
dnnl_primitive_desc_t dnn_conv_weights(dnnl_engine_t engine, const DnnConv *conv, DnnDesc x, DnnDesc dw, DnnDesc db, DnnDesc dy);
dnnl_primitive_desc_t dnn_matmul(dnnl_engine_t engine, DnnDesc a, DnnDesc b, DnnDesc bias, DnnDesc y, const DnnPost *posts,
                                 int post_count);
dnnl_primitive_desc_t dnn_activation(dnnl_engine_t engine, LvActivation activation, DnnDesc x);  // in place
dnnl_primitive_desc_t dnn_add(dnnl_engine_t engine, DnnDesc a, DnnDesc b, DnnDesc y);
dnnl_primitive_desc_t dnn_reorder(dnnl_engine_t engine, DnnDesc from, DnnDesc to);

#endif
