// Element i of tensor NAME, all mod 2^64:
//   key = FNV-1a(NAME);  x = splitmix64's mix of (key ^ seed) + (i + 1) * 0x9E3779B97F4A7C15
//   value = f32(offset + scale * ((x >> 40) / 2^23 - 1)), computed in f64
// "times": [a, b]: row k of a times element k of b, in f32.
#include "io/recipe.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/random.h"

static const int64_t most_elements = (int64_t)1 << 33;

static void generate(float *out, int64_t count, uint64_t key, double scale, double offset) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t x = key + (uint64_t)(i + 1) * 0x9E3779B97F4A7C15u;
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
        x = (x ^ x >> 27) * 0x94D049BB133111EBu;
        x ^= x >> 31;
        out[i] = (float)(offset + scale * ((double)(x >> 40) / 8388608.0 - 1));
    }
}

static bool add_product(LvTensorFile *file, const char *name, json_t *times, LvError *error) {
    const char *first = json_string_value(json_array_get(times, 0)), *second = json_string_value(json_array_get(times, 1));
    const LvTensor *a = first ? lv_safetensors_find(file, first) : NULL, *b = second ? lv_safetensors_find(file, second) : NULL;
    if (!a || !b || a->shape.rank < 1 || lv_shape_elements(b->shape) != a->shape.dim[0]) {
        return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s': \"times\" takes two earlier tensors that fit", name);
    }
    LvTensor rows = *a, factors = *b;  // adding may move the list
    float *out = lv_tensor_file_add(file, name, LV_F32, rows.shape);
    int64_t count = rows.shape.dim[0], width = count ? lv_shape_elements(rows.shape) / count : 0;
    for (int64_t k = 0; k < count; k++) {
        for (int64_t i = 0; i < width; i++) out[k * width + i] = ((const float *)rows.data)[k * width + i] * ((const float *)factors.data)[k];
    }
    return true;
}

static bool add_tensor(LvTensorFile *file, const char *name, json_t *item, uint64_t seed, LvError *error) {
    json_t *times = json_object_get(item, "times"), *dims = json_object_get(item, "shape");
    if (times) return add_product(file, name, times, error);
    LvShape shape = {.rank = (int)json_array_size(dims)};
    if (!json_is_array(dims) || json_array_size(dims) > LV_MAX_RANK) {
        return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s' has no shape", name);
    }
    for (int i = 0; i < shape.rank; i++) {
        shape.dim[i] = json_integer_value(json_array_get(dims, (size_t)i));
        if (shape.dim[i] < 0) return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s' has a negative extent", name);
    }
    int64_t count = lv_shape_elements(shape);
    if (count > most_elements) return lv_error_set(error, LV_ERROR_FORMAT, "tensor '%s' is too large", name);
    float *out = lv_tensor_file_add(file, name, LV_F32, shape);
    generate(out, count, lv_hash_name(name) ^ seed, json_number_value(json_object_get(item, "scale")),
             json_number_value(json_object_get(item, "offset")));
    return true;
}

bool lv_recipe_read(const char *path, LvTensorFile **out, LvError *error) {
    char *text;
    size_t length;
    if (!lv_file_read(path, (size_t)64 << 20, &text, &length, error)) return false;
    json_error_t problem;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem), *item;
    free(text);
    if (!root) return lv_error_set(error, LV_ERROR_FORMAT, "%s:%d:%d: %s", path, problem.line, problem.column, problem.text);
    json_t *tensors = json_object_get(root, "tensors");
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(root, "seed"));
    bool good = json_is_object(tensors) || lv_error_set(error, LV_ERROR_FORMAT, "%s: no \"tensors\"", path);
    LvTensorFile *file = lv_tensor_file_create();
    const char *name;
    json_object_foreach(tensors, name, item) {
        if (good && !add_tensor(file, name, item, seed, error)) good = lv_error_prefix(error, "%s", path);
    }
    json_decref(root);
    if (good) *out = file;
    else lv_safetensors_free(file);
    return good;
}

bool lv_weights_read(const char *path, LvTensorFile **file, LvError *error) {
    size_t length = strlen(path);
    bool recipe = length > 5 && !strcmp(path + length - 5, ".json");
    return recipe ? lv_recipe_read(path, file, error) : lv_safetensors_read(path, file, error);
}
