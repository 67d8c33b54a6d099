// requires     nothing
// establishes  no input is f32 [B, 3, R, R]: such are u8, and from_byte makes of them what the entry reads
// breaks       nothing
//
// Pictures of files are bytes. Sent as such they are a quarter of what they become, on the way to a device and in its memory;
// what reads them fuses the conversion. A gradient with respect to such an input is that with respect to the numbers.
#include "ops/op.h"
#include "passes/pass.h"

bool pass_bytes(Graph *graph, PassContext *context) {
    (void)context;
    for (size_t i = 0; i < graph->inputs.count; i++) {
        GraphPort *port = &graph->inputs.data[i];
        Value *numbers = port->value;
        if (numbers->dtype != LV_F32 || !lv_shape_is_pictures(numbers->shape)) continue;
        rewrite_at(graph, numbers->node);
        port->value = graph_add_typed(graph, OP_input, 0, NULL, &numbers->node->attrs, LV_U8, numbers->shape);
        graph_replace(graph, numbers, build_unary(graph, OP_from_byte, port->value));
        graph_remove(graph, numbers->node);
    }
    rewrite_end(graph);
    return true;
}
