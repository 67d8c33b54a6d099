// Binding of inputs: see feed.h.
#include "train/feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static bool takes_pictures(const LvPort *port) {
    return port->dtype == LV_F32 && port->shape.rank == 4 && port->shape.dim[1] == 3 && port->shape.dim[2] == port->shape.dim[3];
}

static bool refuse(const LvPlan *plan, const LvPort *port, LvError *error) {
    LvText shape = {0};
    lv_shape_print(&shape, port->shape);
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' takes '%s' %s%s, which no data set gives", plan->entry, port->name,
                 lv_dtype_name(port->dtype), shape.data);
    lv_text_free(&shape);
    return lv_error_hint(error, "data sets give pictures f32[B, 3, R, R] in [-1, 1]");
}

bool lv_feed_bind(LvFeed *feed, const LvPlan *plan, LvError *error) {
    *feed = (LvFeed){0};
    for (int i = 0; i < plan->input_count; i++) {
        const LvPort *port = &plan->inputs[i];
        if (port->name[0] == '$') continue;
        if (takes_pictures(port) && !feed->picture) {
            feed->picture = port->name;
            feed->batch = port->shape.dim[0];
            feed->resolution = (int)port->shape.dim[2];
        } else if (!strcmp(port->name, "direction") && port->dtype == LV_I32 && port->shape.rank == 1) {
            feed->direction = port->name;
        } else {
            return refuse(plan, port, error);
        }
    }
    return feed->picture || lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' takes no pictures", plan->entry);
}

bool lv_feed_batch(const LvFeed *feed, LvProgram *program, const LvBatch *batch, LvError *error) {
    size_t bytes = (size_t)feed->batch * 3 * (size_t)feed->resolution * (size_t)feed->resolution * sizeof(float);
    if (!lv_program_set_input(program, feed->picture, batch->pictures, bytes, error)) return false;
    if (!feed->direction) return true;
    int32_t *direction = lv_calloc((size_t)feed->batch, sizeof *direction);
    for (int64_t i = 0; i < feed->batch; i++) direction[i] = (int32_t)(batch->draws[i] >> 31);
    bool good = lv_program_set_input(program, feed->direction, direction, (size_t)feed->batch * sizeof *direction, error);
    free(direction);
    return good;
}

bool lv_feed_scalars(LvProgram *program, int64_t seed, int32_t step, float rate, LvError *error) {
    return lv_program_set_input(program, "$seed", &seed, sizeof seed, error) &&
           lv_program_set_input(program, "$step", &step, sizeof step, error) &&
           lv_program_set_input(program, "$lr", &rate, sizeof rate, error);
}
