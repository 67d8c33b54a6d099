// A small convolutional autoencoder with its training step, built in C: residual blocks with group_norm and swish, strided
// convolution, nearest upsampling, packed parameters and an update. What the passes see of AugVAE, in a hundred nodes.
#ifndef LV_TESTS_CONV_NET_H
#define LV_TESTS_CONV_NET_H

#include "ops/op.h"

typedef struct {
    Graph *graph;
    LV_VEC(int) params;
    LV_VEC(Value *) values;  // of the parameters
} Net;

static Value *net_param(Net *net, LvShape shape) {
    Variable variable = {.name = lv_arena_printf(net->graph->arena, "p%zu", net->params.count), .kind = LV_VARIABLE_PARAM,
                         .dtype = LV_F32, .shape = shape, .pack = -1};
    int index = graph_add_variable(net->graph, &variable);
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_variable, index);
    Value *value = graph_add_typed(net->graph, OP_state_read, 0, NULL, &attrs, LV_F32, shape);
    lv_vec_push(&net->params, index);
    lv_vec_push(&net->values, value);
    return value;
}

static Value *net_conv(Net *net, Value *x, int64_t out, int64_t kernel, int64_t stride, bool pad) {
    Graph *g = net->graph;
    Value *weight = net_param(net, (LvShape){4, {out, x->shape.dim[1], kernel, kernel}});
    Value *bias = net_param(net, (LvShape){1, {out}});
    int64_t p = pad ? kernel / 2 : 0;
    Attrs attrs = {0};
    attrs_list(&attrs, ATTR_stride, 2, (int64_t[]){stride, stride});
    attrs_list(&attrs, ATTR_pad, 4, (int64_t[]){p, p, p, p});
    Value *y = build_node(g, OP_conv2d, 2, (Value *[]){x, weight}, &attrs);
    Value *wide = build_expand(g, build_reshape(g, bias, (LvShape){4, {1, out, 1, 1}}), y->shape, (int64_t[]){0, 1, 2, 3});
    return build_binary(g, OP_add, y, wide);
}

static Value *net_norm_swish(Net *net, Value *x) {
    Graph *g = net->graph;
    LvShape c = {1, {x->shape.dim[1]}};
    Attrs attrs = {0};
    attrs_int(&attrs, ATTR_groups, 8);
    attrs_float(&attrs, ATTR_eps, 1e-6);
    Value *weight = net_param(net, c), *bias = net_param(net, c);
    Value *y = build_node(g, OP_group_norm, 3, (Value *[]){x, weight, bias}, &attrs);
    return build_binary(g, OP_mul, y, build_unary(g, OP_sigmoid, y));
}

static Value *net_block(Net *net, Value *x, int64_t out) {
    Value *h = net_conv(net, net_norm_swish(net, x), out, 3, 1, true);
    h = net_conv(net, net_norm_swish(net, h), out, 3, 1, true);
    return build_binary(net->graph, OP_add, h, x->shape.dim[1] == out ? x : net_conv(net, x, out, 1, 1, false));
}

static Value *net_upsample(Net *net, Value *x) {
    Graph *g = net->graph;
    int64_t b = x->shape.dim[0], c = x->shape.dim[1], h = x->shape.dim[2], w = x->shape.dim[3];
    Value *wide = build_expand(g, build_reshape(g, x, (LvShape){6, {b, c, h, 1, w, 1}}), (LvShape){6, {b, c, h, 2, w, 2}},
                               (int64_t[]){0, 1, 2, 3, 4, 5});
    return build_reshape(g, wide, (LvShape){4, {b, c, 2 * h, 2 * w}});
}

// The parameters' pack, their gradients, one step of gradient descent with momentum.
static void net_update(Net *net, Value *loss) {
    Graph *g = net->graph;
    int64_t elements = 0;
    int count = (int)net->params.count;
    Value **gradients = LV_NEW_ARRAY(g->arena, Value *, count);
    for (int i = 0; i < count; i++) {
        Variable *variable = &g->variables.data[net->params.data[i]];
        variable->pack_offset = elements;
        elements += (lv_shape_elements(variable->shape) + 15) / 16 * 16;
        gradients[i] = build_node(g, OP_gradient, 2, (Value *[]){loss, net->values.data[i]}, NULL);
    }
    LvShape flat = {1, {elements}};
    Variable pack = {.name = "$params", .kind = LV_VARIABLE_PARAM, .dtype = LV_F32, .shape = flat, .pack = -1, .is_pack = true};
    Variable moment = {.name = "optimizer.m", .kind = LV_VARIABLE_OPTIMIZER, .dtype = LV_F32, .shape = flat, .pack = -1};
    int p = graph_add_variable(g, &pack), m = graph_add_variable(g, &moment);
    for (int i = 0; i < count; i++) g->variables.data[net->params.data[i]].pack = p;
    Attrs of_p = {0}, of_m = {0};
    attrs_int(&of_p, ATTR_variable, p);
    attrs_int(&of_m, ATTR_variable, m);
    Value *old = graph_add_typed(g, OP_state_read, 0, NULL, &of_p, LV_F32, flat);
    Value *momentum = graph_add_typed(g, OP_state_read, 0, NULL, &of_m, LV_F32, flat);
    Value *gradient = build_node(g, OP_pack, count, gradients, NULL);
    momentum = build_binary(g, OP_add, build_binary(g, OP_mul, momentum, build_like(g, 0.9, momentum)), gradient);
    Value *updated = build_binary(g, OP_sub, old, build_binary(g, OP_mul, momentum, build_like(g, 0.1, momentum)));
    graph_add(g, OP_state_write, 1, &momentum, &of_m, NULL);
    graph_add(g, OP_state_write, 1, &updated, &of_p, NULL);
}

static Graph *make_conv_net(int64_t batch, int64_t width, int64_t side) {
    Net net = {.graph = graph_create("train")};
    Graph *g = net.graph;
    Value *image = graph_add_input(g, "image", LV_F32, (LvShape){4, {batch, 3, side, side}});
    Value *x = net_block(&net, net_conv(&net, image, width, 3, 1, true), 2 * width);
    x = build_pad(g, x, (int64_t[]){0, 0, 0, 0}, (int64_t[]){0, 0, 1, 1}, 0);
    x = net_block(&net, net_conv(&net, x, 2 * width, 3, 2, false), 2 * width);
    x = net_block(&net, net_conv(&net, net_upsample(&net, x), width, 3, 1, true), width);
    Value *y = net_conv(&net, net_norm_swish(&net, x), 3, 3, 1, true);
    Value *difference = build_binary(g, OP_sub, y, image);
    Value *sum = build_reduce(g, OP_reduce_sum, build_binary(g, OP_mul, difference, difference), 4, (int64_t[]){0, 1, 2, 3});
    Value *loss = build_binary(g, OP_div, sum, build_like(g, (double)lv_shape_elements(y->shape), sum));
    graph_add_result(g, "loss", loss);
    graph_add_result(g, "image", y);
    graph_add_result(g, "middle", x);
    net_update(&net, loss);
    lv_vec_free(&net.params);
    lv_vec_free(&net.values);
    return g;
}

#endif
