// Convolution by oneDNN. Activations stay in the plan's layout wherever the library has a fast implementation for it;
// weights are row-major in the plan and reordered to what the primitive wants, inside the step (they change every update).
// Where only the library's reference loop serves the given layouts, activations are reordered too.
#include <stdio.h>
#include <string.h>

#include "device/cpu/onednn.h"

// How a build may deviate from "as given, all fused".
typedef struct {
    bool winograd;
    bool x_free, y_free;    // the library chooses the layout
    bool separate;          // activation and residual as primitives of their own
    bool residual_by_copy;  // residual copied to y first, added there, instead of read by a post-op
} Form;

static void conv_describe(const LvConvStep *conv, bool winograd, DnnConv *out) {
    *out = (DnnConv){.algorithm = winograd ? dnnl_convolution_winograd : dnnl_convolution_direct};
    out->stride[0] = conv->stride[0], out->stride[1] = conv->stride[1];
    out->before[0] = conv->pad[2], out->before[1] = conv->pad[0];
    out->after[0] = conv->pad[3], out->after[1] = conv->pad[1];
}

static DnnDesc free_desc(LvCall *call, const LvOperand *operand, dnnl_data_type_t type) {
    return dnn_desc_any(&call->pool, operand->shape.rank, operand->shape.dim, type);
}

static void note_implementation(LvCall *call, const_dnnl_primitive_desc_t primitive, const Form *form) {
    const char *name = dnn_implementation(primitive);
    // gemm: the library's fallback for plain layouts, by an im2col it repeats for every image.
    call->reference = strstr(name, "ref") != NULL || strstr(name, "gemm") != NULL;
    snprintf(call->implementation, sizeof call->implementation, "%s%s%s", name, form->x_free || form->y_free ? ", reordered" : "",
             form->separate ? ", epilogue apart" : "");
}

// y = activation(conv(x, w) + bias) + residual
static bool build_forward(LvLibrary *library, LvCall *call, const Form *form) {
    const LvStep *step = call->step;
    const LvConvStep *conv = &step->conv;
    const LvOperand *y = &step->operands[0], *x = &step->operands[1], *w = &step->operands[2];
    int bias_at = 3, residual_at = 3 + conv->has_bias;
    DnnConv shape;
    conv_describe(conv, form->winograd, &shape);
    dnnl_data_type_t compute = dnn_type(x->dtype);
    DnnDesc y_given = dnn_desc_operand(&call->pool, y), x_given = dnn_desc_operand(&call->pool, x);
    DnnDesc w_given = dnn_desc_operand(&call->pool, w);
    DnnDesc bias = conv->has_bias ? dnn_desc_operand(&call->pool, &step->operands[bias_at]) : NULL;
    DnnDesc residual = conv->has_residual ? dnn_desc_operand(&call->pool, &step->operands[residual_at]) : NULL;
    if (!y_given || !x_given || !w_given || (conv->has_bias && !bias) || (conv->has_residual && !residual)) return false;
    DnnDesc y_desc = form->y_free ? free_desc(call, y, dnn_type(y->dtype)) : y_given;
    DnnDesc x_desc = form->x_free ? free_desc(call, x, compute) : x_given;

    bool active = conv->activation != LV_ACTIVATION_NONE;
    bool in_place = conv->has_residual && lv_place_equal(step->operands[residual_at].place, y->place) && !form->y_free;
    bool sum = conv->has_residual && (in_place || form->residual_by_copy);
    DnnPost posts[DNN_MAX_POSTS];
    int count = 0;
    if (!form->separate) {
        if (active) posts[count++] = (DnnPost){.kind = DNN_POST_ACTIVATION, .activation = conv->activation};
        if (sum) posts[count++] = (DnnPost){.kind = DNN_POST_SUM};
        else if (conv->has_residual) posts[count++] = (DnnPost){.kind = DNN_POST_ADD, .desc = residual};
    }
    dnnl_primitive_desc_t primitive = dnn_conv_forward(library->engine, &shape, x_desc, free_desc(call, w, compute), bias, y_desc,
                                                       posts, count);
    if (!primitive) return false;
    note_implementation(call, primitive, form);
    x_desc = dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_src_md));
    y_desc = dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_dst_md));
    DnnDesc w_desc = dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_weights_md));

    dnnl_memory_t x_memory = call_read(library, call, 1, x_given, x_desc);
    dnnl_memory_t w_memory = call_read(library, call, 2, w_given, w_desc);
    dnnl_memory_t y_memory = call_operand(library, call, 0, y_given), out = y_memory;
    dnnl_memory_t residual_memory = residual ? call_operand(library, call, residual_at, residual) : NULL;
    bool apart_residual = form->separate && conv->has_residual;
    if (!dnn_desc_equal(y_given, y_desc) || apart_residual) out = call_temporary(library, call, y_desc);
    bool good = x_memory && w_memory && out;
    if (sum && !form->separate && !in_place) {
        good = good && call_reorder(library, call, residual, residual_memory, y_desc, out);
    }
    int bias_arg = bias ? DNNL_ARG_BIAS : 0;
    dnnl_memory_t bias_memory = bias ? call_operand(library, call, bias_at, bias) : NULL;
    if (!good) {
        dnnl_primitive_desc_destroy(primitive);
        return false;
    }
    int add_at = !form->separate && conv->has_residual && !sum ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(count - 1) | DNNL_ARG_SRC_1 : 0;
    if (bias && add_at) {
        good = call_stage(library, call, primitive, DNNL_ARG_SRC, x_memory, DNNL_ARG_WEIGHTS, w_memory, DNNL_ARG_DST, out,
                          bias_arg, bias_memory, add_at, residual_memory, 0);
    } else if (add_at) {
        good = call_stage(library, call, primitive, DNNL_ARG_SRC, x_memory, DNNL_ARG_WEIGHTS, w_memory, DNNL_ARG_DST, out,
                          add_at, residual_memory, 0);
    } else {
        good = call_stage(library, call, primitive, DNNL_ARG_SRC, x_memory, DNNL_ARG_WEIGHTS, w_memory, DNNL_ARG_DST, out,
                          bias_arg, bias_memory, 0);
    }
    if (good && form->separate && active) {
        good = call_stage(library, call, dnn_activation(library->engine, conv->activation, y_desc), DNNL_ARG_SRC, out,
                          DNNL_ARG_DST, out, 0);
    }
    if (good && apart_residual) {
        return call_stage(library, call, dnn_add(library->engine, y_desc, residual, y_given), DNNL_ARG_SRC_0, out,
                          DNNL_ARG_SRC_1, residual_memory, DNNL_ARG_DST, y_memory, 0);
    }
    return good && (out == y_memory || call_reorder(library, call, y_desc, out, y_given, y_memory));
}

static bool build_data_gradient(LvLibrary *library, LvCall *call, const Form *form) {
    const LvStep *step = call->step;
    const LvOperand *dx = &step->operands[0], *dy = &step->operands[1], *w = &step->operands[2];
    DnnConv shape;
    conv_describe(&step->conv, form->winograd, &shape);
    dnnl_data_type_t compute = dnn_type(dy->dtype);
    DnnDesc dx_given = dnn_desc_operand(&call->pool, dx), dy_given = dnn_desc_operand(&call->pool, dy);
    DnnDesc w_given = dnn_desc_operand(&call->pool, w);
    if (!dx_given || !dy_given || !w_given) return false;
    dnnl_primitive_desc_t primitive =
        dnn_conv_data(library->engine, &shape, form->x_free ? free_desc(call, dx, dnn_type(dx->dtype)) : dx_given,
                      free_desc(call, w, compute), form->y_free ? free_desc(call, dy, compute) : dy_given);
    if (!primitive) return false;
    note_implementation(call, primitive, form);
    DnnDesc dx_desc = dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_diff_src_md));
    dnnl_memory_t dy_memory =
        call_read(library, call, 1, dy_given, dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_diff_dst_md)));
    dnnl_memory_t w_memory =
        call_read(library, call, 2, w_given, dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_weights_md)));
    dnnl_memory_t dx_memory = call_operand(library, call, 0, dx_given), out = dx_memory;
    if (!dnn_desc_equal(dx_given, dx_desc)) out = call_temporary(library, call, dx_desc);
    return call_stage(library, call, primitive, DNNL_ARG_DIFF_DST, dy_memory, DNNL_ARG_WEIGHTS, w_memory, DNNL_ARG_DIFF_SRC,
                      out, 0) &&
           (out == dx_memory || call_reorder(library, call, dx_desc, out, dx_given, dx_memory));
}

static bool build_weight_gradient(LvLibrary *library, LvCall *call, const Form *form) {
    const LvStep *step = call->step;
    const LvOperand *dw = &step->operands[0], *x = &step->operands[1], *dy = &step->operands[2];
    DnnConv shape;
    conv_describe(&step->conv, form->winograd, &shape);
    dnnl_data_type_t compute = dnn_type(x->dtype);
    DnnDesc dw_given = dnn_desc_operand(&call->pool, dw), x_given = dnn_desc_operand(&call->pool, x);
    DnnDesc dy_given = dnn_desc_operand(&call->pool, dy);
    DnnDesc db = step->conv.has_bias ? dnn_desc_operand(&call->pool, &step->operands[3]) : NULL;
    if (!dw_given || !x_given || !dy_given || (step->conv.has_bias && !db)) return false;
    dnnl_primitive_desc_t primitive =
        dnn_conv_weights(library->engine, &shape, form->x_free ? free_desc(call, x, compute) : x_given,
                         free_desc(call, dw, dnn_type(dw->dtype)), db, form->y_free ? free_desc(call, dy, compute) : dy_given);
    if (!primitive) return false;
    note_implementation(call, primitive, form);
    DnnDesc dw_desc = dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_diff_weights_md));
    dnnl_memory_t x_memory =
        call_read(library, call, 1, x_given, dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_src_md)));
    dnnl_memory_t dy_memory =
        call_read(library, call, 2, dy_given, dnn_desc_copy(&call->pool, dnn_query(primitive, dnnl_query_diff_dst_md)));
    dnnl_memory_t dw_memory = call_operand(library, call, 0, dw_given), out = dw_memory;
    if (!dnn_desc_equal(dw_given, dw_desc)) out = call_temporary(library, call, dw_desc);
    dnnl_memory_t db_memory = db ? call_operand(library, call, 3, db) : NULL;
    return call_stage(library, call, primitive, DNNL_ARG_SRC, x_memory, DNNL_ARG_DIFF_DST, dy_memory, DNNL_ARG_DIFF_WEIGHTS,
                      out, db ? DNNL_ARG_DIFF_BIAS : 0, db_memory, 0) &&
           (out == dw_memory || call_reorder(library, call, dw_desc, out, dw_given, dw_memory));
}

static bool build(LvLibrary *library, LvCall *call, const Form *form) {
    call_clear(call);
    switch (call->step->conv.direction) {
        case LV_CONV_FORWARD: return build_forward(library, call, form);
        case LV_CONV_DATA_GRADIENT: return build_data_gradient(library, call, form);
        case LV_CONV_WEIGHT_GRADIENT: return build_weight_gradient(library, call, form);
    }
    return false;
}

// The epilogue as well fused as the library can: all of it, the residual through the destination, or nothing.
static bool build_best_epilogue(LvLibrary *library, LvCall *call, Form form) {
    bool has_residual = call->step->conv.has_residual;
    if (build(library, call, &form) && !call->reference) return true;
    bool slow = call->stages.count > 0 && call->reference;
    if (call->step->conv.direction != LV_CONV_FORWARD) return slow || build(library, call, &form);
    if (has_residual) {
        Form copy = form;
        copy.residual_by_copy = true;
        if (build(library, call, &copy) && !call->reference) return true;
    }
    if (has_residual || call->step->conv.activation != LV_ACTIVATION_NONE) {
        Form separate = form;
        separate.separate = true;
        if (build(library, call, &separate) && !call->reference) return true;
    }
    Form separate = form;
    separate.separate = has_residual || call->step->conv.activation != LV_ACTIVATION_NONE;
    return build(library, call, &form) || build(library, call, &separate);
}

static bool build_own(LvCpu *cpu, LvCall *call) {
    if (!winograd_shape(call->step, winograd_best(), cpu->threads, &call->winograd)) return false;
    call->form = CALL_WINOGRAD;
    call->temporaries = winograd_scratch(&call->winograd);
    snprintf(call->implementation, sizeof call->implementation, "%s", call->winograd.set->name);
    return true;
}

// As given if the library is fast there; else with the layouts that it likes best; else as slow as it has it.
static bool build_library(LvLibrary *library, LvCall *call, bool winograd) {
    static const struct {
        bool x_free, y_free;
    } tries[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    for (int i = 0; i < 4; i++) {
        Form form = {.winograd = winograd, .x_free = tries[i].x_free, .y_free = tries[i].y_free};
        if (build_best_epilogue(library, call, form) && !call->reference) return true;
    }
    Form form = {0};
    return !winograd && build_best_epilogue(library, call, form);
}

// The library's 1 x 1 convolutions copy whole maps where there is a residual, and in gradients: up to two maps of f32 for one of bf16. A
// product of matrices copies nothing and takes up to a fifth longer, so it is for those whose copies were the largest scratch of a step.
enum { MUCH_SCRATCH = 16 << 20 };

bool conv_build(LvCpu *cpu, LvCall *call, ConvForm wanted) {
    LvLibrary *library = cpu->library;
    bool winograd = wanted == CONV_LIBRARY_WINOGRAD;
    if (wanted == CONV_WINOGRAD) return build_own(cpu, call);
    bool built = build_library(library, call, winograd);
    if (winograd || (built && call_scratch(call) <= MUCH_SCRATCH && !call->reference)) return built;
    return (matmul_build_conv(library, call) && !call->reference) || build_library(library, call, winograd);
}

bool conv_has(LvCpu *cpu, const LvStep *step, ConvForm form) {
    LvCall *call = call_create(step);
    bool has = conv_build(cpu, call, form);
    call_destroy(call);
    return has;
}
