// Variables from files and back: see weights.h.
#include "exec/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

bool lv_elements_convert(void *to, LvDType to_type, const void *from, LvDType from_type, int64_t count) {
    if (to_type == from_type) {
        memcpy(to, from, (size_t)count * lv_dtype_size(to_type));
        return true;
    }
    if (to_type == LV_BF16 && from_type == LV_F32) {
        for (int64_t i = 0; i < count; i++) ((uint16_t *)to)[i] = lv_bf16_from_f32(((const float *)from)[i]);
        return true;
    }
    bool floats = lv_dtype_is_float(to_type) && lv_dtype_is_float(from_type);
    bool integers = lv_dtype_is_int(to_type) && lv_dtype_is_int(from_type);
    if (!floats && !integers) return false;
    for (int64_t i = 0; i < count; i++) lv_element_set(to, to_type, i, lv_element_get(from, from_type, i));
    return true;
}

static bool load_variable(LvStore *store, int index, const LvTensor *tensor, LvError *error) {
    const LvVariable *v = lv_store_variable(store, index);
    if (!lv_shape_equal(v->shape, tensor->shape)) {
        LvText text = {0};
        lv_shape_print(&text, tensor->shape);
        lv_text_puts(&text, " in the file, ");
        lv_shape_print(&text, v->shape);
        lv_error_set(error, LV_ERROR_FORMAT, "'%s' is %s in the model", v->name, text.data);
        lv_error_hint(error, "the model's parameters (--config, --set) must be those that the weights were made with");
        lv_text_free(&text);
        return false;
    }
    if (v->dtype == tensor->dtype) return lv_store_write(store, index, tensor->data, tensor->bytes, error);
    size_t bytes = 0;
    lv_shape_bytes(v->shape, v->dtype, &bytes);
    void *converted = lv_malloc(bytes + 1);
    bool good = lv_elements_convert(converted, v->dtype, tensor->data, tensor->dtype, lv_shape_elements(v->shape));
    if (!good) {
        lv_error_set(error, LV_ERROR_FORMAT, "'%s' is %s in the file, %s in the model", v->name, lv_dtype_name(tensor->dtype),
                     lv_dtype_name(v->dtype));
    }
    good = good && lv_store_write(store, index, converted, bytes, error);
    free(converted);
    return good;
}

bool lv_store_load(LvStore *store, const LvTensorFile *file, const char *prefix, LvLoadReport *report, LvError *error) {
    LvLoadReport own = {0}, *r = report ? report : &own;
    *r = (LvLoadReport){0};
    int present = 0;
    for (int i = 0; i < lv_store_count(store); i++) {
        const LvVariable *v = lv_store_variable(store, i);
        if (v->kind == LV_VARIABLE_TRAINER) continue;
        LvText name = {0};
        lv_text_printf(&name, "%s%s", prefix ? prefix : "", v->name);
        const LvTensor *tensor = lv_safetensors_find(file, name.data);
        lv_text_free(&name);
        if (tensor) present++;
        if (v->place.offset < 0) continue;
        if (!tensor) {
            if (v->kind == LV_VARIABLE_OPTIMIZER) continue;
            if (r->missing++ == 0) snprintf(r->first_missing, sizeof r->first_missing, "%s", v->name);
            continue;
        }
        if (!load_variable(store, i, tensor, error)) return false;
        lv_safetensors_leave(file);
        r->loaded++;
    }
    r->unused = lv_safetensors_count(file) - present;
    for (int i = 0; r->unused > 0 && i < lv_safetensors_count(file) && !r->first_unused[0]; i++) {
        const char *name = lv_safetensors_at(file, i)->name;
        size_t skip = prefix && !strncmp(name, prefix, strlen(prefix)) ? strlen(prefix) : 0;
        if (lv_store_find(store, name + skip) < 0) snprintf(r->first_unused, sizeof r->first_unused, "%s", name);
    }
    if (!report && own.missing) {
        lv_error_set(error, LV_ERROR_FORMAT, "%d of the model's variables are not in the file, '%s' first", own.missing, own.first_missing);
        return lv_error_hint(error, "the model's parameters (--config, --set) must be those that the weights were made with");
    }
    return true;
}

bool lv_store_collect(const LvStore *store, unsigned kinds, LvTensorFile *file, LvError *error) {
    for (int i = 0; i < lv_store_count(store); i++) {
        const LvVariable *v = lv_store_variable(store, i);
        size_t bytes;
        if (!(kinds >> v->kind & 1) || v->place.offset < 0 || !lv_shape_bytes(v->shape, v->dtype, &bytes)) continue;
        const void *there = lv_store_peek(store, i);
        if (there) {
            lv_tensor_file_refer(file, v->name, v->dtype, v->shape, there);
            continue;
        }
        void *data = lv_tensor_file_add(file, v->name, v->dtype, v->shape);
        if (!lv_store_read(store, i, data, bytes, error)) return false;
    }
    return true;
}

bool lv_store_save(const LvStore *store, unsigned kinds, const char *path, const LvMetadata *metadata, int metadata_count,
                   LvError *error) {
    LvTensorFile *file = lv_tensor_file_create();
    bool good = lv_store_collect(store, kinds, file, error);
    int count = lv_safetensors_count(file);
    good = good && lv_safetensors_write(path, count ? lv_safetensors_at(file, 0) : NULL, count, metadata, metadata_count, error);
    lv_safetensors_free(file);
    return good;
}
