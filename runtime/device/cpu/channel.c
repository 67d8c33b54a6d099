// A channel where nothing is apart: inputs are written where the steps read them; results are copied, since the next run writes
// its own in their place.
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cpu/cpu.h"

struct LvChannel {
    char *inputs;
    const char *results;
    char *given[LV_CHANNEL_DEPTH];  // a ring: copies of `results`
    int first, unread;              // the oldest that is not read, and how many
};

bool cpu_channel_create(LvDevice *device, void *inputs, size_t input_bytes, void *results, size_t result_bytes, LvChannel **out,
                        LvError *error) {
    (void)device, (void)input_bytes, (void)error;
    LvChannel *c = *out = lv_calloc(1, sizeof *c);
    c->inputs = inputs;
    c->results = results;
    for (int i = 0; i < LV_CHANNEL_DEPTH; i++) c->given[i] = lv_calloc(result_bytes + 1, 1);
    return true;
}

void cpu_channel_destroy(LvDevice *device, LvChannel *c) {
    (void)device;
    for (int i = 0; i < LV_CHANNEL_DEPTH; i++) free(c->given[i]);
    free(c);
}

bool cpu_channel_room(LvDevice *device, LvChannel *c, char **room, LvError *error) {
    (void)device, (void)error;
    *room = c->inputs;
    return true;
}

bool cpu_channel_send(LvDevice *device, LvChannel *c, const LvPiece *pieces, int count, LvError *error) {
    (void)device, (void)c, (void)pieces, (void)count, (void)error;
    return true;
}

bool cpu_channel_give(LvDevice *device, LvChannel *c, const LvPiece *pieces, int count, LvError *error) {
    (void)device, (void)error;
    int at = (c->first + c->unread++) % LV_CHANNEL_DEPTH;
    for (int i = 0; i < count; i++) memcpy(c->given[at] + pieces[i].at, c->results + pieces[i].at, pieces[i].bytes);
    return true;
}

bool cpu_channel_read(LvDevice *device, LvChannel *c, const char **results, LvError *error) {
    (void)device, (void)error;
    *results = c->given[c->first];
    c->first = (c->first + 1) % LV_CHANNEL_DEPTH, c->unread--;
    return true;
}
