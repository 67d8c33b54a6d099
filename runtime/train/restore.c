// Saving and restoring runs: see restore.h.
#include "train/restore.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/vec.h"
#include "io/checkpoint.h"

// ---- numbers that are none

static int64_t find_bad(const void *data, LvDType dtype, int64_t count) {
    if (!lv_dtype_is_float(dtype)) return -1;
    if (dtype == LV_F32) {
        const float *x = data;
        for (int64_t i = 0; i < count; i++) {
            if (!isfinite(x[i])) return i;
        }
        return -1;
    }
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(lv_element_get(data, dtype, i))) return i;
    }
    return -1;
}

const char *lv_store_find_bad(const LvStore *store, int64_t *index) {
    LvError error = {0};
    const char *name = NULL;
    for (int i = 0; !name && i < lv_store_count(store); i++) {
        const LvVariable *v = lv_store_variable(store, i);
        size_t bytes;
        bool known = v->place.offset >= 0 && v->kind != LV_VARIABLE_TRAINER && lv_shape_bytes(v->shape, v->dtype, &bytes);
        if (!known) continue;
        const void *there = lv_store_peek(store, i);
        void *data = there ? NULL : lv_malloc(bytes + 1);
        if (there || lv_store_read(store, i, data, bytes, &error)) {
            *index = find_bad(there ? there : data, v->dtype, lv_shape_elements(v->shape));
            if (*index >= 0) name = v->name;
        }
        free(data);
    }
    lv_error_clear(&error);
    return name;
}

// ---- saving

// Doubles as hexadecimal text: exact, and the same bytes for the same bits.
static void print_state(const LvRunState *s, LvText *out) {
    lv_text_printf(out, "{\"step\": %" PRId64 ", \"seed\": %" PRId64 ", \"epoch\": %" PRIu64 ", \"index\": %" PRIu64, s->step,
                   s->seed, s->position.epoch, s->position.index);
    lv_text_printf(out, ", \"data\": \"%016" PRIx64 "\", \"scale\": \"%a\", \"plateau_best\": \"%a\"", s->data, s->plateau.scale,
                   s->plateau.best);
    lv_text_printf(out,
                   ", \"bad\": %" PRId64 ", \"cooldown\": %" PRId64 ", \"best_loss\": \"%a\", \"best_step\": %" PRId64
                   ", \"pending\": %s",
                   s->plateau.bad, s->plateau.cooldown, isnan(s->best_loss) ? (double)NAN : s->best_loss, s->best_step,
                   s->pending ? "true" : "false");
    if (s->scaling.scale > 0)
        lv_text_printf(out, ", \"loss_scale\": \"%a\", \"good_steps\": %" PRId64 ", \"skipped_steps\": %" PRId64, s->scaling.scale,
                       s->scaling.good, s->scaling.skipped);
    lv_text_puts(out, "}");
}

static bool write_all(const LvTensorFile *own, const char *model, const char *train, const LvCarried *carried, const char *path,
                      LvError *error) {
    static const LvCarried nothing = {0};
    if (!carried) carried = &nothing;
    LV_VEC(LvTensor) tensors = {0};
    LV_VEC(LvMetadata) metadata = {0};
    bool good = true;
    for (int i = 0; i < lv_safetensors_count(own); i++) lv_vec_push(&tensors, *lv_safetensors_at(own, i));
    for (int i = 0; i < carried->tensor_count; i++) {
        lv_vec_push(&tensors, carried->tensors[i]);
        if (lv_safetensors_find(own, carried->tensors[i].name))
            good = lv_error_set(error, LV_ERROR_UNSUPPORTED, "the model has a variable '%s', as what the checkpoint carries has",
                                carried->tensors[i].name);
    }
    lv_vec_push(&metadata, (LvMetadata){"lverse.model", model});
    lv_vec_push(&metadata, (LvMetadata){"lverse.train", train});
    for (int i = 0; i < carried->metadata_count; i++) lv_vec_push(&metadata, carried->metadata[i]);
    good = good && lv_checkpoint_write(path, tensors.data, (int)tensors.count, metadata.data, (int)metadata.count, error);
    lv_vec_free(&tensors);
    lv_vec_free(&metadata);
    return good;
}

bool lv_run_save(const LvStore *store, const LvRunState *state, const char *model, const LvCarried *carried, const char *path,
                 LvError *error) {
    LvTensorFile *file = lv_tensor_file_create();
    LvText text = {0};
    print_state(state, &text);
    bool good = lv_store_collect(store, LV_ALL_VARIABLES, file, error);
    int count = lv_safetensors_count(file);
    for (int i = 0; good && i < count; i++) {
        const LvTensor *t = lv_safetensors_at(file, i);
        int64_t at = find_bad(t->data, t->dtype, lv_shape_elements(t->shape));
        if (at < 0) continue;
        good = lv_error_set(error, LV_ERROR_NUMERIC, "step %" PRId64 ": '%s'[%" PRId64 "] is %s; not saved", state->step,
                            t->name, at, isnan(lv_element_get(t->data, t->dtype, at)) ? "NaN" : "infinite");
        lv_error_hint(error, "a smaller learning rate (--lr) or --clip 1 may help; earlier checkpoints are whole");
    }
    good = good && write_all(file, model ? model : "{}", text.data, carried, path, error);
    lv_text_free(&text);
    lv_safetensors_free(file);
    return good;
}

// ---- comparing and taking

static bool same_shape(const LvVariable *v, const LvTensor *t) {
    return lv_shape_equal(v->shape, t->shape) && lv_dtype_is_float(v->dtype) == lv_dtype_is_float(t->dtype);
}

static void print_difference(LvText *list, const LvVariable *v, const LvTensor *t) {
    lv_text_printf(list, "%s'%s' is ", list->length ? "; " : "", v->name);
    lv_shape_print(list, v->shape);
    lv_text_puts(list, " in the model, ");
    if (t) lv_shape_print(list, t->shape);
    else lv_text_puts(list, "missing");
    if (t) lv_text_puts(list, " in the file");
}

bool lv_weights_check(const LvStore *store, const LvTensorFile *file, bool optimizer, LvError *error) {
    LvText list = {0};
    int wrong = 0, all = 0;
    for (int i = 0; i < lv_store_count(store); i++) {
        const LvVariable *v = lv_store_variable(store, i);
        if (v->place.offset < 0 || v->kind == LV_VARIABLE_TRAINER || (v->kind == LV_VARIABLE_OPTIMIZER && !optimizer)) continue;
        const LvTensor *t = lv_safetensors_find(file, v->name);
        all++;
        if (t && same_shape(v, t)) continue;
        if (wrong++ < 3) print_difference(&list, v, t);
    }
    if (wrong) {
        lv_error_set(error, LV_ERROR_FORMAT, "the weights are of another model: %d of %d tensors do not fit: %s%s", wrong,
                     all, list.data, wrong > 3 ? "; …" : "");
        lv_error_hint(error, "the model and its parameters (--config, --set) must be those that the file was made with");
    }
    lv_text_free(&list);
    return wrong == 0;
}

bool lv_run_restore(LvStore *store, const LvTensorFile *file, LvRunState *state, LvError *error) {
    const char *text = lv_safetensors_metadata(file, "lverse.train");
    json_t *root = text ? json_loads(text, 0, NULL) : NULL;
    const char *data = json_string_value(json_object_get(root, "data")),
               *scale = json_string_value(json_object_get(root, "scale"));
    const char *plateau = json_string_value(json_object_get(root, "plateau_best"));
    const char *best = json_string_value(json_object_get(root, "best_loss"));
    bool good = data && scale && plateau && best && json_integer_value(json_object_get(root, "step")) >= 0;
    if (!good) lv_error_set(error, LV_ERROR_FORMAT, "the checkpoint is not of a training run: it has no state to go on from");
    if (good) {
        state->step = json_integer_value(json_object_get(root, "step"));
        state->seed = json_integer_value(json_object_get(root, "seed"));
        state->position.epoch = (uint64_t)json_integer_value(json_object_get(root, "epoch"));
        state->position.index = (uint64_t)json_integer_value(json_object_get(root, "index"));
        state->data = strtoull(data, NULL, 16);
        state->plateau = (LvPlateau){strtod(scale, NULL), strtod(plateau, NULL), json_integer_value(json_object_get(root, "bad")),
                                     json_integer_value(json_object_get(root, "cooldown"))};
        state->best_loss = strtod(best, NULL);
        state->best_step = json_integer_value(json_object_get(root, "best_step"));
        state->pending = json_is_true(json_object_get(root, "pending"));
        const char *loss_scale = json_string_value(json_object_get(root, "loss_scale"));  // of runs in f16
        state->scaling = (LvLossScaling){loss_scale ? strtod(loss_scale, NULL) : 0, json_integer_value(json_object_get(root, "good_steps")),
                                         json_integer_value(json_object_get(root, "skipped_steps"))};
    }
    json_decref(root);
    return good && lv_weights_check(store, file, true, error) && lv_store_load(store, file, NULL, NULL, error);
}

static bool take_one(LvStore *store, int index, const LvTensor *t, LvError *error) {
    const LvVariable *v = lv_store_variable(store, index);
    size_t bytes;
    if (!lv_shape_bytes(v->shape, v->dtype, &bytes)) return false;
    void *data = lv_malloc(bytes + 1);
    bool good = (lv_elements_convert(data, v->dtype, t->data, t->dtype, lv_shape_elements(v->shape)) ||
                 lv_error_set(error, LV_ERROR_FORMAT, "'%s' is %s in the file, %s in the model", v->name, lv_dtype_name(t->dtype),
                              lv_dtype_name(v->dtype))) &&
                lv_store_write(store, index, data, bytes, error);
    free(data);
    return good;
}

bool lv_weights_take(LvStore *store, const LvTensorFile *file, const char *prefix, bool *taken, LvText *report, LvError *error) {
    int count = 0, missing = 0, differ = 0, present = 0, carried = 0;
    const LvVariable *first_missing = NULL;
    size_t skip = strlen(prefix);
    LvText differences = {0};
    for (int i = 0; i < lv_store_count(store); i++) {
        const LvVariable *v = lv_store_variable(store, i);
        if (v->place.offset < 0 || v->kind == LV_VARIABLE_TRAINER || strncmp(v->name, prefix, skip)) continue;
        const LvTensor *t = lv_safetensors_find(file, v->name + skip);
        if (t) present++;
        if (v->kind == LV_VARIABLE_OPTIMIZER) continue;  // moments start anew, and nobody misses the file's
        if (!t && missing++ == 0) first_missing = v;
        if (t && !same_shape(v, t) && differ++ < 3) print_difference(&differences, v, t);
        if (!t || !same_shape(v, t)) continue;
        if (!take_one(store, i, t, error)) return false;
        taken[i] = true;
        count++;
    }
    lv_text_printf(report, "%d tensors taken", count);
    if (missing) lv_text_printf(report, ", %d of the model are not in it ('%s' first)", missing, first_missing->name);
    if (differ) lv_text_printf(report, ", %d differ in shape (%s%s)", differ, differences.data, differ > 3 ? "; …" : "");
    for (int i = 0; i < lv_safetensors_count(file); i++) carried += lv_checkpoint_carries(lv_safetensors_at(file, i)->name);
    if (lv_safetensors_count(file) > present + carried)
        lv_text_printf(report, ", %d of its own are not used", lv_safetensors_count(file) - present - carried);
    lv_text_free(&differences);
    if (count) return true;
    lv_error_set(error, LV_ERROR_FORMAT, "no tensor of it fits the model: %s", report->data);
    return lv_error_hint(
        error,
        "names and shapes must be the model's; lvrun info lists a file's, --init PREFIX=FILE puts a prefix before them");
}
