// Reading members of a JSON object, with messages that name the place.
#ifndef LV_TEXT_JSON_H
#define LV_TEXT_JSON_H

#include <jansson.h>

#include "base/error.h"

// All leave *value alone where the member is absent or null.
static inline bool json_take_flag(const json_t *object, const char *name, bool *value, LvError *error) {
    const json_t *member = json_object_get(object, name);
    if (!member || json_is_null(member)) return true;
    if (!json_is_boolean(member)) return lv_error_set(error, LV_ERROR_FORMAT, "'%s' is neither true nor false", name);
    *value = json_is_true(member);
    return true;
}

static inline bool json_take_text(const json_t *object, const char *name, const char **text, size_t *length, LvError *error) {
    const json_t *member = json_object_get(object, name);
    if (!member || json_is_null(member)) return true;
    if (!json_is_string(member)) return lv_error_set(error, LV_ERROR_FORMAT, "'%s' is no text", name);
    *text = json_string_value(member);
    *length = json_string_length(member);
    return true;
}

static inline bool json_take_integer(const json_t *object, const char *name, int64_t low, int64_t high, int64_t *value,
                                     LvError *error) {
    const json_t *member = json_object_get(object, name);
    if (!member || json_is_null(member)) return true;
    if (!json_is_integer(member) || json_integer_value(member) < low || json_integer_value(member) > high) {
        return lv_error_set(error, LV_ERROR_FORMAT, "'%s' is no number from %lld to %lld", name, (long long)low,
                            (long long)high);
    }
    *value = json_integer_value(member);
    return true;
}

// The `type` of a part of the file; "" where there is none.
static inline const char *json_kind(const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "";
}

#endif
