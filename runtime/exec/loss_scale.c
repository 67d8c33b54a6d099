// The loss's scale: see loss_scale.h.
#include "exec/loss_scale.h"

static bool read_one(const LvStore *store, const char *name, void *data, LvError *error) {
    return lv_store_read(store, lv_store_find(store, name), data, 4, error);
}

static bool write_one(LvStore *store, const char *name, const void *data, LvError *error) {
    return lv_store_write(store, lv_store_find(store, name), data, 4, error);
}

bool lv_loss_scaled(const LvStore *store) {
    return lv_store_find(store, LV_VARIABLE_LOSS_SCALE) >= 0;
}

bool lv_loss_scale_read(const LvStore *store, LvLossScaling *scaling, LvError *error) {
    float scale = 0;
    int32_t good = 0, skipped = 0;
    if (!lv_loss_scaled(store)) return true;
    if (!read_one(store, LV_VARIABLE_LOSS_SCALE, &scale, error) || !read_one(store, LV_VARIABLE_GOOD_STEPS, &good, error) ||
        !read_one(store, LV_VARIABLE_SKIPPED_STEPS, &skipped, error)) {
        return false;
    }
    *scaling = (LvLossScaling){(double)(scale > 0 ? scale : (float)LV_LOSS_SCALE_FIRST), good, skipped};
    return true;
}

bool lv_loss_scale_write(LvStore *store, const LvLossScaling *scaling, LvError *error) {
    float scale = (float)scaling->scale;
    int32_t good = (int32_t)scaling->good, skipped = (int32_t)scaling->skipped;
    if (!lv_loss_scaled(store)) return true;
    return write_one(store, LV_VARIABLE_LOSS_SCALE, &scale, error) && write_one(store, LV_VARIABLE_GOOD_STEPS, &good, error) &&
           write_one(store, LV_VARIABLE_SKIPPED_STEPS, &skipped, error);
}
