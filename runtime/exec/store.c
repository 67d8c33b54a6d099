// The variables of a model on a device: three arenas, laid out by the plan that made the store and shared by every program
// whose plan agrees.
#include "exec/store.h"

#include <stdlib.h>

#include "base/arena.h"

bool lv_store_create(LvDevice *device, const LvPlan *plan, LvStore **out, LvError *error) {
    LvStore *store = lv_calloc(1, sizeof *store);
    store->device = device;
    store->count = plan->variable_count;
    store->variables = lv_calloc((size_t)plan->variable_count + 1, sizeof *store->variables);
    for (int i = 0; i < plan->variable_count; i++) {
        store->variables[i] = plan->variables[i];
        store->variables[i].name = lv_strdup(plan->variables[i].name);
        lv_map_set(&store->by_name, plan->variables[i].name, (void *)(intptr_t)(i + 1));
    }
    for (int a = 0; a < LV_STORE_ARENAS; a++) {
        store->bytes[a] = plan->arena_bytes[a];
        if (!device->ops->allocate(device, (size_t)store->bytes[a], &store->memory[a], error)) {
            lv_error_prefix(error, "the model's %s", lv_arena_kind_name((LvArenaKind)a));
            lv_store_destroy(store);
            return false;
        }
    }
    *out = store;
    return true;
}

void lv_store_destroy(LvStore *store) {
    if (!store) return;
    for (int a = 0; a < LV_STORE_ARENAS; a++) {
        if (store->memory[a]) store->device->ops->release(store->device, store->memory[a], (size_t)store->bytes[a]);
    }
    for (int i = 0; i < store->count; i++) free((char *)(uintptr_t)store->variables[i].name);
    free(store->variables);
    lv_map_free(&store->by_name);
    free(store);
}

int lv_store_count(const LvStore *store) {
    return store->count;
}

const LvVariable *lv_store_variable(const LvStore *store, int index) {
    return &store->variables[index];
}

int lv_store_find(const LvStore *store, const char *name) {
    return (int)(intptr_t)lv_map_get(&store->by_name, name) - 1;
}

// The variable's memory, after the checks that read and write share; NULL: error is set, or the variable has no bytes.
static bool locate(const LvStore *store, int index, size_t bytes, char **at, LvError *error) {
    if (index < 0 || index >= store->count) return lv_error_set(error, LV_ERROR_USAGE, "no variable number %d", index);
    const LvVariable *v = &store->variables[index];
    size_t size;
    if (!lv_shape_bytes(v->shape, v->dtype, &size) || size != bytes) {
        return lv_error_set(error, LV_ERROR_FORMAT, "'%s' takes %zu bytes, not %zu", v->name, size, bytes);
    }
    if (v->place.offset < 0 || v->place.arena > LV_ARENA_MOMENTS ||
        v->place.offset + (int64_t)size > store->bytes[v->place.arena]) {
        return lv_error_set(error, LV_ERROR_USAGE, "'%s' has no memory in this plan", v->name);
    }
    *at = (char *)store->memory[v->place.arena] + v->place.offset;
    return true;
}

bool lv_store_read(const LvStore *store, int index, void *data, size_t bytes, LvError *error) {
    char *at;
    return locate(store, index, bytes, &at, error) && store->device->ops->download(store->device, data, at, bytes, error);
}

bool lv_store_write(LvStore *store, int index, const void *data, size_t bytes, LvError *error) {
    char *at;
    return locate(store, index, bytes, &at, error) && store->device->ops->upload(store->device, at, data, bytes, error);
}

bool store_serves(const LvStore *store, const LvPlan *plan, LvError *error) {
    for (int i = 0; i < plan->variable_count; i++) {
        const LvVariable *want = &plan->variables[i];
        if (want->place.offset < 0) continue;
        int at = lv_store_find(store, want->name);
        if (at < 0) {
            lv_error_set(error, LV_ERROR_USAGE, "entry '%s' needs the variable '%s', which the store lacks", plan->entry, want->name);
            return lv_error_hint(error, "make the store from the plan of the training entry");
        }
        const LvVariable *have = &store->variables[at];
        if (have->dtype != want->dtype || !lv_shape_equal(have->shape, want->shape) || have->place.arena != want->place.arena ||
            have->place.offset != want->place.offset) {
            return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' has the variable '%s' elsewhere: other settings of the model?",
                                plan->entry, want->name);
        }
    }
    for (int a = 0; a < LV_STORE_ARENAS; a++) {
        if (plan->arena_bytes[a] > store->bytes[a]) {
            lv_error_set(error, LV_ERROR_USAGE, "entry '%s' needs %lld bytes of %s, the store has %lld", plan->entry,
                         (long long)plan->arena_bytes[a], lv_arena_kind_name((LvArenaKind)a), (long long)store->bytes[a]);
            return lv_error_hint(error, "make the store from the plan of the training entry");
        }
    }
    return true;
}
