// --emit memory: what the arena of activations holds at the moment when it is fullest, the largest first.
#include <stdlib.h>

#include "memory/memory.h"
#include "ops/op.h"

static bool holds(const Storage *s, int at) {
    return s->place.arena == LV_ARENA_ACTIVATIONS && s->place.offset >= 0 && s->first <= at && at <= s->last;
}

// All that holds data at a unit. What takes over the memory of an operand counts from the next unit on.
static int64_t bytes_at(const Liveness *live, int at) {
    int64_t bytes = 0;
    for (size_t i = 0; i < live->storages.count; i++) {
        const Storage *s = &live->storages.data[i];
        if (holds(s, at) && (s->in_place_of < 0 || s->first < at)) bytes += s->bytes;
    }
    return bytes;
}

static int larger_first(const void *a, const void *b) {
    const Storage *x = *(const Storage *const *)a, *y = *(const Storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : x->root->id - y->root->id;
}

static void print_storage(const Storage *s, LvText *out) {
    const Node *node = s->root->node;
    lv_text_printf(out, "%12lld  units %d to %d  %%%d = %s %s", (long long)s->bytes, s->first, s->last, s->root->id, op_name(node->op),
                   lv_dtype_name(s->root->dtype));
    lv_shape_print(out, s->root->shape);
    if (node->scope && node->scope[0]) lv_text_printf(out, "  %s", node->scope);
    lv_text_putc(out, '\n');
}

void memory_print(const MemoryPlan *plan, const Schedule *schedule, LvText *out) {
    const Liveness *live = plan->live;
    const Storage **held = LV_NEW_ARRAY(schedule->arena, const Storage *, live->storages.count + 1);
    int fullest = 0, count = 0;
    for (int u = 1; u < schedule->unit_count; u++) {
        if (bytes_at(live, u) > bytes_at(live, fullest)) fullest = u;
    }
    for (size_t i = 0; i < live->storages.count; i++) {
        if (holds(&live->storages.data[i], fullest)) held[count++] = &live->storages.data[i];
    }
    qsort(held, (size_t)count, sizeof *held, larger_first);
    lv_text_printf(out, "activations: an arena of %lld bytes; fullest at unit %d of %d, with %lld bytes\n",
                   (long long)plan->arena_bytes[LV_ARENA_ACTIVATIONS], fullest, schedule->unit_count, (long long)bytes_at(live, fullest));
    for (int i = 0; i < count; i++) print_storage(held[i], out);
}
