// Inputs and results: see ports.h. Ports that lie next to each other travel as one piece.
#include "exec/ports.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { ALIGN = 64 };  // of places: what lies between the end of a port and the next multiple belongs to nobody

struct LvPorts {
    LvDevice *device;
    const LvPlan *plan;
    LvChannel *channel;
    int64_t inputs, results;   // where in the arena the channel's bytes begin
    LvPiece *set, *given;      // pieces: of the inputs set and not sent; of the small results
    const char *received;      // the small results received last, NULL: none, or others were posted
    int set_count, given_count;
    int unread;                // results posted and not received
};

static bool is_late(const LvPort *port) {
    size_t bytes;
    return lv_shape_bytes(port->shape, port->dtype, &bytes) && bytes <= LV_LATE_BYTES;
}

static LvPiece piece_of(const LvPort *port, int64_t begin) {
    size_t bytes = 0;
    lv_shape_bytes(port->shape, port->dtype, &bytes);
    return (LvPiece){(size_t)(port->place.offset - begin), bytes};
}

static int by_place(const void *a, const void *b) {
    size_t x = ((const LvPiece *)a)->at, y = ((const LvPiece *)b)->at;
    return (x > y) - (x < y);
}

// In order, neighbours as one. Gives how many are left.
static int join(LvPiece *pieces, int count) {
    int last = 0;
    qsort(pieces, (size_t)count, sizeof *pieces, by_place);
    for (int i = 1; i < count; i++) {
        size_t end = pieces[last].at + pieces[last].bytes;
        if (pieces[i].at <= (end + ALIGN - 1) / ALIGN * ALIGN) pieces[last].bytes = pieces[i].at + pieces[i].bytes - pieces[last].at;
        else pieces[++last] = pieces[i];
    }
    return count ? last + 1 : 0;
}

bool ports_create(LvDevice *device, const LvPlan *plan, char *io, LvPorts **out, LvError *error) {
    LvPorts *p = lv_calloc(1, sizeof *p);
    int64_t input_bytes = lv_ports_span(plan->inputs, plan->input_count, &p->inputs);
    p->device = device, p->plan = plan;
    p->set = lv_calloc((size_t)plan->input_count + 1, sizeof *p->set);
    p->given = lv_calloc((size_t)plan->result_count + 1, sizeof *p->given);
    LvPort *late = lv_calloc((size_t)plan->result_count + 1, sizeof *late);
    for (int i = 0; i < plan->result_count; i++)
        if (is_late(&plan->results[i])) late[p->given_count++] = plan->results[i];
    int64_t result_bytes = lv_ports_span(late, p->given_count, &p->results);
    for (int i = 0; i < p->given_count; i++) p->given[i] = piece_of(&late[i], p->results);
    p->given_count = join(p->given, p->given_count);
    free(late);
    bool good = device->ops->channel_create(device, io + p->inputs, (size_t)input_bytes, io + p->results, (size_t)result_bytes,
                                            &p->channel, error);
    if (good) *out = p;
    else ports_destroy(p);
    return good;
}

void ports_destroy(LvPorts *p) {
    if (!p) return;
    if (p->channel) p->device->ops->channel_destroy(p->device, p->channel);
    free(p->set);
    free(p->given);
    free(p);
}

bool ports_set(LvPorts *p, const LvPort *input, const void *data, size_t bytes, LvError *error) {
    LvPiece piece = piece_of(input, p->inputs);
    char *room;
    if (bytes == 0) return true;
    if (!p->device->ops->channel_room(p->device, p->channel, &room, error)) return false;
    memcpy(room + piece.at, data, bytes);
    for (int i = 0; i < p->set_count; i++)
        if (p->set[i].at == piece.at) return true;
    p->set[p->set_count++] = piece;
    return true;
}

bool ports_send(LvPorts *p, LvError *error) {
    int count = join(p->set, p->set_count);
    p->set_count = 0;
    return p->device->ops->channel_send(p->device, p->channel, p->set, count, error);
}

bool ports_post(LvPorts *p, LvError *error) {
    if (p->unread == LV_CHANNEL_DEPTH) return lv_error_set(error, LV_ERROR_USAGE, "results of %d runs are not read yet", p->unread);
    p->unread++;
    p->received = NULL;
    return p->device->ops->channel_give(p->device, p->channel, p->given, p->given_count, error);
}

bool ports_receive(LvPorts *p, double *values, LvError *error) {
    const char *data;
    if (p->unread == 0) return lv_error_set(error, LV_ERROR_USAGE, "no results were posted");
    p->unread--;
    if (!p->device->ops->channel_read(p->device, p->channel, &data, error)) return false;
    p->received = data;
    for (int i = 0; values && i < p->plan->result_count; i++) {
        const LvPort *port = &p->plan->results[i];
        bool one = lv_shape_elements(port->shape) == 1;
        values[i] = one ? lv_element_get(data + (port->place.offset - p->results), port->dtype, 0) : 0;
    }
    return true;
}

bool ports_received(const LvPorts *p, const LvPort *result, void *data, size_t bytes, LvError *error) {
    if (!is_late(result)) return lv_error_set(error, LV_ERROR_USAGE, "result '%s' is too large to be read late", result->name);
    if (!p->received) return lv_error_set(error, LV_ERROR_USAGE, "no results were received");
    memcpy(data, p->received + (result->place.offset - p->results), bytes);
    return true;
}
