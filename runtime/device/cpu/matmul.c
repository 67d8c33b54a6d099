// Batched matmul by oneDNN. Shapes are brought to the fewest dimensions first: the fast implementations take two or three.
// Transposes are strides. Bias and residual join by post-ops where a scale or an activation stands between.
#include <stdio.h>
#include <string.h>

#include "device/cpu/onednn.h"

enum { DEEPEST = LV_MAX_RANK };

// A matrix operand as [batch..., rows, columns] with strides.
typedef struct {
    int rank;
    int64_t dim[DEEPEST], stride[DEEPEST];
    dnnl_data_type_t type;
} View;

static bool view_of(const LvOperand *operand, bool transposed, int rank, View *view) {
    int given = operand->shape.rank, missing = rank - given;
    int64_t stride[LV_MAX_RANK];
    if (operand->layout.block > 1 || given < 2 || missing < 0 || dnn_type(operand->dtype) == dnnl_data_type_undef) return false;
    lv_layout_strides(operand->layout, operand->shape, stride);
    *view = (View){.rank = rank, .type = dnn_type(operand->dtype)};
    for (int i = 0; i < rank; i++) {
        int from = i - missing;
        if (transposed && i == rank - 2) from++;
        else if (transposed && i == rank - 1) from--;
        view->dim[i] = i < missing ? 1 : operand->shape.dim[from];
        view->stride[i] = i < missing ? 0 : stride[from];
    }
    return true;
}

// Whether dimensions first … last lie in memory like one.
static bool runs_on(const View *view, int first, int last) {
    for (int i = first; i < last; i++) {
        if (view->dim[i] != 1 && view->stride[i] != view->dim[i + 1] * view->stride[i + 1]) return false;
    }
    return true;
}

static void merge(View *view, int first, int last) {
    int64_t dim = 1;
    for (int i = first; i <= last; i++) dim *= view->dim[i];
    view->dim[first] = dim;
    view->stride[first] = view->stride[last];
    for (int i = last + 1; i < view->rank; i++) {
        view->dim[first + i - last] = view->dim[i];
        view->stride[first + i - last] = view->stride[i];
    }
    view->rank -= last - first;
}

static void drop_batch(View *view) {
    view->dim[0] = view->dim[view->rank - 2], view->stride[0] = view->stride[view->rank - 2];
    view->dim[1] = view->dim[view->rank - 1], view->stride[1] = view->stride[view->rank - 1];
    view->rank = 2;
}

// One weight for all of a's batches: a's batch joins its rows. Otherwise, equal batches join each other.
static void simplify(View *y, View *a, View *b, View *residual) {
    int rank = y->rank;
    bool one_b = true, equal = true;
    for (int i = 0; i < rank - 2; i++) {
        if (b->dim[i] != 1) one_b = false;
        if (a->dim[i] != y->dim[i] || b->dim[i] != y->dim[i]) equal = false;
    }
    bool a_full = true;
    for (int i = 0; i < rank - 2; i++) a_full = a_full && a->dim[i] == y->dim[i];
    if (rank == 2) return;
    if (one_b && a_full && runs_on(y, 0, rank - 2) && runs_on(a, 0, rank - 2) && (!residual || runs_on(residual, 0, rank - 2))) {
        merge(y, 0, rank - 2);
        merge(a, 0, rank - 2);
        if (residual) merge(residual, 0, rank - 2);
        drop_batch(b);
        return;
    }
    if (rank > 3 && equal && runs_on(y, 0, rank - 3) && runs_on(a, 0, rank - 3) && runs_on(b, 0, rank - 3) &&
        (!residual || runs_on(residual, 0, rank - 3))) {
        merge(y, 0, rank - 3);
        merge(a, 0, rank - 3);
        merge(b, 0, rank - 3);
        if (residual) merge(residual, 0, rank - 3);
    }
}

// A dimension of extent 1 may have any stride; one that makes the matrix look dense keeps the fast implementations.
static DnnDesc view_desc(LvCall *call, View view) {
    int r = view.rank;
    if (view.dim[r - 1] == 1) view.stride[r - 1] = 1;
    else if (view.dim[r - 2] == 1) view.stride[r - 2] = view.dim[r - 1] * view.stride[r - 1];
    for (int i = r - 3; i >= 0; i--) {
        if (view.dim[i] == 1) view.stride[i] = view.dim[i + 1] * view.stride[i + 1];
    }
    return dnn_desc_strided(&call->pool, r, view.dim, view.stride, view.type);
}

static DnnDesc bias_desc(LvCall *call, const LvOperand *bias, int rank) {
    int64_t dim[DEEPEST], stride[DEEPEST], length = lv_shape_elements(bias->shape);
    if (dnn_type(bias->dtype) == dnnl_data_type_undef) return NULL;
    for (int i = 0; i < rank; i++) dim[i] = i == rank - 1 ? length : 1, stride[i] = i == rank - 1 ? 1 : length;
    return dnn_desc_strided(&call->pool, rank, dim, stride, dnn_type(bias->dtype));
}

typedef struct {
    DnnDesc y, a, b, bias, residual, compute_a, compute_b;
    bool bias_apart;  // a scale comes between product and bias
    bool sum;         // residual stands in y already
} Descs;

static bool describe(LvCall *call, const LvStep *step, Descs *d) {
    const LvMatmulStep *mm = &step->matmul;
    const LvOperand *y = &step->operands[0];
    const LvOperand *residual = mm->has_residual ? &step->operands[3 + mm->has_bias] : NULL;
    View vy, va, vb, vr;
    int rank = y->shape.rank;
    if (!view_of(y, false, rank, &vy) || !view_of(&step->operands[1], mm->transpose_a, rank, &va) ||
        !view_of(&step->operands[2], mm->transpose_b, rank, &vb) || (residual && !view_of(residual, false, rank, &vr))) {
        return false;
    }
    simplify(&vy, &va, &vb, residual ? &vr : NULL);
    *d = (Descs){.y = view_desc(call, vy), .a = view_desc(call, va), .b = view_desc(call, vb)};
    // Mixed types meet in the narrower one, whose product is what the precision asked for.
    dnnl_data_type_t type = va.type == vb.type ? va.type : va.type == dnnl_f32 ? vb.type : va.type;
    View ca = va, cb = vb;
    ca.type = cb.type = type;
    d->compute_a = view_desc(call, ca);
    d->compute_b = view_desc(call, cb);
    if (mm->has_bias) d->bias = bias_desc(call, &step->operands[3], vy.rank);
    if (residual) d->residual = view_desc(call, vr);
    d->bias_apart = mm->has_bias && mm->alpha != 1;
    d->sum = residual && residual->place.arena == y->place.arena && residual->place.offset == y->place.offset;
    return d->y && d->a && d->b && d->compute_a && d->compute_b && (!mm->has_bias || d->bias) && (!residual || d->residual);
}

// `at`: by the product's operands, which one of the call's step each is.
static bool build_product(LvLibrary *library, LvCall *call, const LvStep *step, const int *at) {
    const LvMatmulStep *mm = &step->matmul;
    Descs d;
    call_clear(call);
    if (!describe(call, step, &d)) return false;
    DnnPost posts[DNN_MAX_POSTS];
    int count = 0, bias_post = -1, residual_post = -1;
    if (mm->alpha != 1) posts[count++] = (DnnPost){.kind = DNN_POST_SCALE, .scale = (float)mm->alpha};
    if (d.bias_apart) bias_post = count, posts[count++] = (DnnPost){.kind = DNN_POST_ADD, .desc = d.bias};
    if (mm->activation != LV_ACTIVATION_NONE) {
        posts[count++] = (DnnPost){.kind = DNN_POST_ACTIVATION, .activation = mm->activation};
    }
    if (mm->has_residual && d.sum) posts[count++] = (DnnPost){.kind = DNN_POST_SUM};
    else if (mm->has_residual) residual_post = count, posts[count++] = (DnnPost){.kind = DNN_POST_ADD, .desc = d.residual};

    dnnl_primitive_desc_t primitive = dnn_matmul(library->engine, d.compute_a, d.compute_b,
                                                 mm->has_bias && !d.bias_apart ? d.bias : NULL, d.y, posts, count);
    if (!primitive) return false;
    const char *name = dnn_implementation(primitive);
    call->reference = strstr(name, "ref") != NULL && !strstr(name, "gemm");
    snprintf(call->implementation, sizeof call->implementation, "%s", name);
    dnnl_memory_t a = call_read(library, call, at[1], d.a, d.compute_a), b = call_read(library, call, at[2], d.b, d.compute_b);
    dnnl_memory_t y = call_operand(library, call, at[0], d.y), extra[2] = {NULL, NULL};
    int number[2] = {0, 0}, extras = 0;
    if (mm->has_bias) {
        number[extras] = d.bias_apart ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(bias_post) | DNNL_ARG_SRC_1 : DNNL_ARG_BIAS;
        extra[extras++] = call_operand(library, call, at[3], d.bias);
    }
    if (residual_post >= 0) {
        number[extras] = DNNL_ARG_ATTR_MULTIPLE_POST_OP(residual_post) | DNNL_ARG_SRC_1;
        extra[extras++] = call_operand(library, call, at[3 + mm->has_bias], d.residual);
    }
    return call_stage(library, call, primitive, DNNL_ARG_SRC, a, DNNL_ARG_WEIGHTS, b, DNNL_ARG_DST, y, number[0], extra[0],
                      number[1], extra[1], 0);
}

bool matmul_build(LvLibrary *library, LvCall *call) {
    return build_product(library, call, call->step, (const int[]){0, 1, 2, 3, 4});
}

// ---- 1 x 1 convolutions

static bool is_pixelwise(const LvStep *step) {
    const LvConvStep *c = &step->conv;
    const LvOperand *w = &step->operands[c->direction == LV_CONV_WEIGHT_GRADIENT ? 0 : 2];
    bool padded = c->pad[0] || c->pad[1] || c->pad[2] || c->pad[3];
    return w->shape.dim[2] == 1 && w->shape.dim[3] == 1 && c->stride[0] == 1 && c->stride[1] == 1 && !padded &&
           !(c->direction == LV_CONV_WEIGHT_GRADIENT && c->has_bias);
}

// A matrix of what lies like one: pictures with their channels last [B*H*W,C], 1 x 1 weights [O,C]; a bias stays as it is.
static bool flatten(LvOperand *operand, bool is_weight) {
    const LvShape given = operand->shape;
    if (given.rank != 4) return true;
    LvLayout wanted = is_weight ? lv_layout_row_major() : lv_layout_nhwc();
    if (!lv_layout_equal(operand->layout, wanted, 4)) return false;
    int64_t rows = is_weight ? given.dim[0] : given.dim[0] * given.dim[2] * given.dim[3];
    operand->shape = lv_shape(2, (int64_t[]){rows, given.dim[1]});
    operand->layout = lv_layout_row_major();
    return true;
}

bool matmul_build_conv(LvLibrary *library, LvCall *call) {
    const LvStep *step = call->step;
    const LvConvStep *c = &step->conv;
    bool weights = c->direction == LV_CONV_WEIGHT_GRADIENT;
    if (!is_pixelwise(step)) return false;
    // y = x w^T, dx = dy w, dw = dy^T x
    const int at[] = {0, weights ? 2 : 1, weights ? 1 : 2, 3, 4};
    LvOperand operands[CALL_MAX_OPERANDS];
    for (int i = 0; i < step->operand_count; i++) {
        operands[i] = step->operands[at[i]];
        if (!flatten(&operands[i], at[i] == (weights ? 0 : 2))) return false;
    }
    LvStep product = {.kind = LV_STEP_MATMUL, .label = step->label, .operands = operands, .operand_count = step->operand_count};
    product.matmul = (LvMatmulStep){.transpose_a = weights, .transpose_b = c->direction == LV_CONV_FORWARD, .has_bias = c->has_bias,
                                    .has_residual = c->has_residual, .activation = c->activation, .alpha = 1};
    return build_product(library, call, &product, at);
}
