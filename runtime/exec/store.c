// The variables of a model on a device: three arenas, laid out by the plan that made the store and shared by every program
// whose plan agrees; and a fourth of caches, for as long as a program uses them. Caches are none of the variables that the store
// lists: nothing saves, loads or initializes them.
#include "exec/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

bool lv_store_create(LvDevice *device, const LvPlan *plan, LvStore **out, LvError *error) {
    LvStore *store = lv_calloc(1, sizeof *store);
    store->device = device;
    store->version = 1;
    store->variables = lv_calloc((size_t)plan->variable_count + 1, sizeof *store->variables);
    for (int i = 0; i < plan->variable_count; i++) {
        if (plan->variables[i].kind == LV_VARIABLE_CACHE) continue;
        store->variables[store->count] = plan->variables[i];
        store->variables[store->count++].name = lv_strdup(plan->variables[i].name);
        lv_map_set(&store->by_name, plan->variables[i].name, (void *)(intptr_t)store->count);
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

static void free_variables(LvVariable *variables, int count) {
    for (int i = 0; i < count; i++) free((char *)(uintptr_t)variables[i].name);
    free(variables);
}

static void free_caches(LvStore *store) {
    if (store->cache_memory) store->device->ops->release(store->device, store->cache_memory, (size_t)store->cache_bytes);
    free_variables(store->caches, store->cache_count);
    store->cache_memory = NULL, store->caches = NULL, store->cache_count = 0, store->cache_bytes = 0;
}

void lv_store_destroy(LvStore *store) {
    if (!store) return;
    free_caches(store);
    for (int a = 0; a < LV_STORE_ARENAS; a++) {
        if (store->memory[a]) store->device->ops->release(store->device, store->memory[a], (size_t)store->bytes[a]);
    }
    free_variables(store->variables, store->count);
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

const void *lv_store_peek(const LvStore *store, int index) {
    const LvVariable *v = &store->variables[index];
    size_t bytes;
    char *at;
    LvError error = {0};
    if (!store->device->ops->on_host || !lv_shape_bytes(v->shape, v->dtype, &bytes)) return NULL;
    if (locate(store, index, bytes, &at, &error)) return at;
    lv_error_clear(&error);
    return NULL;
}

bool lv_store_write(LvStore *store, int index, const void *data, size_t bytes, LvError *error) {
    char *at;
    store->version++;
    return locate(store, index, bytes, &at, error) && store->device->ops->upload(store->device, at, data, bytes, error);
}

// Through the host, a piece at a time, where the device has its own memory.
static bool share_pieces(LvStore *store, char *memory, size_t bytes, LvError *error) {
    enum { PIECE = 64 << 20 };
    const LvDeviceOps *ops = store->device->ops;
    LvComm *comm = store->device->comm;
    bool first = lv_comm_rank(comm) == 0, good = true;
    char *room = lv_malloc(bytes < PIECE ? bytes + 1 : PIECE);
    for (size_t at = 0; good && at < bytes; at += PIECE) {
        size_t piece = bytes - at < PIECE ? bytes - at : PIECE;
        good = (!first || ops->download(store->device, room, memory + at, piece, error)) && lv_comm_share(comm, room, piece, error) &&
               (first || ops->upload(store->device, memory + at, room, piece, error));
    }
    free(room);
    return good;
}

bool lv_store_share(LvStore *store, LvError *error) {
    bool good = true;
    store->version++;
    for (int a = 0; good && store->device->comm && a < LV_STORE_ARENAS; a++) {
        if (store->device->ops->on_host) good = lv_comm_share(store->device->comm, store->memory[a], (size_t)store->bytes[a], error);
        else good = share_pieces(store, store->memory[a], (size_t)store->bytes[a], error);
    }
    return good;
}

bool store_serves(const LvStore *store, const LvPlan *plan, LvError *error) {
    for (int i = 0; i < plan->variable_count; i++) {
        const LvVariable *want = &plan->variables[i];
        if (want->place.offset < 0 || want->kind == LV_VARIABLE_CACHE) continue;
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

// ---- caches

static const LvVariable *find_cache(const LvStore *store, const char *name) {
    for (int i = 0; i < store->cache_count; i++)
        if (!strcmp(store->caches[i].name, name)) return &store->caches[i];
    return NULL;
}

static bool make_caches(LvStore *store, const LvPlan *plan, LvError *error) {
    store->cache_bytes = plan->arena_bytes[LV_ARENA_CACHE];
    if (!store->device->ops->allocate(store->device, (size_t)store->cache_bytes, &store->cache_memory, error))
        return lv_error_prefix(error, "the caches of entry '%s'", plan->entry);
    store->caches = lv_calloc((size_t)plan->variable_count + 1, sizeof *store->caches);
    for (int i = 0; i < plan->variable_count; i++) {
        if (plan->variables[i].kind != LV_VARIABLE_CACHE) continue;
        store->caches[store->cache_count] = plan->variables[i];
        store->caches[store->cache_count++].name = lv_strdup(plan->variables[i].name);
    }
    return true;
}

static bool refuse_cache(const LvPlan *plan, const LvVariable *want, const LvVariable *have, LvError *error) {
    LvText text = {0};
    lv_text_printf(&text, "%s", lv_dtype_name(want->dtype));
    lv_shape_print(&text, want->shape);
    lv_text_printf(&text, " here, %s", have ? lv_dtype_name(have->dtype) : "unknown");
    if (have) lv_shape_print(&text, have->shape);
    lv_error_set(error, LV_ERROR_USAGE, "entry '%s': the cache '%s' is %s in a program that shares it", plan->entry, want->name,
                 lv_text_get(&text));
    lv_text_free(&text);
    return lv_error_hint(error, "programs that run over one store share their caches: compile them for the same batch");
}

bool store_share_caches(LvStore *store, const LvPlan *plan, LvError *error) {
    if (plan->arena_bytes[LV_ARENA_CACHE] == 0) return true;
    if (store->cache_users == 0 && !make_caches(store, plan, error)) {
        free_caches(store);
        return false;
    }
    for (int i = 0; i < plan->variable_count; i++) {
        const LvVariable *want = &plan->variables[i];
        if (want->kind != LV_VARIABLE_CACHE || want->place.offset < 0) continue;
        const LvVariable *have = find_cache(store, want->name);
        bool same = have && have->dtype == want->dtype && lv_shape_equal(have->shape, want->shape);
        if (!same || have->place.offset != want->place.offset) return refuse_cache(plan, want, have, error);
    }
    if (plan->arena_bytes[LV_ARENA_CACHE] > store->cache_bytes)
        return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' has other caches than the programs before it", plan->entry);
    store->cache_users++;
    return true;
}

void store_leave_caches(LvStore *store, const LvPlan *plan) {
    if (plan->arena_bytes[LV_ARENA_CACHE] && --store->cache_users == 0) free_caches(store);
}
