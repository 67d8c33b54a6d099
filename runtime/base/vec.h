// Growing array of any type: `LV_VEC(int) numbers = {0}; lv_vec_push(&numbers, 3); lv_vec_free(&numbers);`
#ifndef LV_BASE_VEC_H
#define LV_BASE_VEC_H

#include <stddef.h>
#include <stdlib.h>

#include "base/arena.h"

#define LV_VEC(Type)            \
    struct {                    \
        Type *data;             \
        size_t count, capacity; \
    }

#define lv_vec_reserve(vec, room)                                                                      \
    do {                                                                                               \
        if ((vec)->capacity < (size_t)(room)) {                                                        \
            size_t lv_cap_ = (vec)->capacity ? (vec)->capacity * 2 : 8;                                \
            if (lv_cap_ < (size_t)(room)) lv_cap_ = (size_t)(room);                                    \
            (vec)->data = lv_realloc((vec)->data, lv_cap_, sizeof *(vec)->data);                       \
            (vec)->capacity = lv_cap_;                                                                 \
        }                                                                                              \
    } while (0)

#define lv_vec_push(vec, ...)                      \
    do {                                           \
        lv_vec_reserve((vec), (vec)->count + 1);   \
        (vec)->data[(vec)->count++] = __VA_ARGS__; \
    } while (0)

#define lv_vec_free(vec)                        \
    do {                                        \
        free((vec)->data);                      \
        (vec)->data = NULL;                     \
        (vec)->count = (vec)->capacity = 0;     \
    } while (0)

#endif
