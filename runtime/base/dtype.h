// Element types, shapes, and conversions between float formats.
#ifndef LV_BASE_DTYPE_H
#define LV_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

// u8 is storage: inputs have it, of which an operation makes numbers; nothing is computed in it.
typedef enum { LV_F32, LV_BF16, LV_F16, LV_F64, LV_I32, LV_I64, LV_BOOL, LV_U8, LV_DTYPE_COUNT } LvDType;

enum { LV_MAX_RANK = 8 };  // 6 for an upsample's [B, C, H, 2, W, 2]; two to spare

typedef struct {
    int rank;
    int64_t dim[LV_MAX_RANK];
} LvShape;

size_t lv_dtype_size(LvDType dtype);
const char *lv_dtype_name(LvDType dtype);                  // "f32" ...
bool lv_dtype_parse(const char *name, LvDType *dtype);
bool lv_dtype_is_float(LvDType dtype);
bool lv_dtype_is_int(LvDType dtype);                      // i32, i64

LvShape lv_shape(int rank, const int64_t *dim);
bool lv_shape_equal(LvShape a, LvShape b);
int64_t lv_shape_elements(LvShape shape);                  // 1 for rank 0; saturates at INT64_MAX
bool lv_shape_bytes(LvShape shape, LvDType dtype, size_t *bytes);  // false on overflow
bool lv_shape_is_pictures(LvShape shape);                  // [B, 3, R, R]
void lv_shape_print(LvText *text, LvShape shape);          // "[8, 32, 64, 64]"

// Round to nearest even; NaN stays NaN.
static inline uint16_t lv_bf16_from_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}
static inline float lv_f32_from_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}
uint16_t lv_f16_from_f32(float x);
float lv_f32_from_f16(uint16_t x);

// One element of a buffer of any type, as f64 and back (ints exactly up to 2^53).
double lv_element_get(const void *data, LvDType dtype, int64_t index);
void lv_element_set(void *data, LvDType dtype, int64_t index, double value);

#endif
