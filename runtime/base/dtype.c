// Element types and shapes.
#include "base/dtype.h"

#include <math.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[LV_DTYPE_COUNT] = {
    [LV_F32] = {"f32", 4}, [LV_BF16] = {"bf16", 2}, [LV_F16] = {"f16", 2},   [LV_F64] = {"f64", 8},
    [LV_I32] = {"i32", 4}, [LV_I64] = {"i64", 8},   [LV_BOOL] = {"bool", 1}, [LV_U8] = {"u8", 1},
};

size_t lv_dtype_size(LvDType dtype) { return dtypes[dtype].size; }
const char *lv_dtype_name(LvDType dtype) { return dtypes[dtype].name; }

bool lv_dtype_parse(const char *name, LvDType *dtype) {
    for (int i = 0; i < LV_DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *dtype = (LvDType)i;
            return true;
        }
    }
    return false;
}

bool lv_dtype_is_float(LvDType dtype) { return dtype <= LV_F64; }
bool lv_dtype_is_int(LvDType dtype) { return dtype == LV_I32 || dtype == LV_I64; }

LvShape lv_shape(int rank, const int64_t *dim) {
    LvShape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) shape.dim[i] = dim[i];
    return shape;
}

bool lv_shape_equal(LvShape a, LvShape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++) {
        if (a.dim[i] != b.dim[i]) return false;
    }
    return true;
}

int64_t lv_shape_elements(LvShape shape) {
    int64_t count = 1;
    bool over = false;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] == 0) return 0;
        over |= __builtin_mul_overflow(count, shape.dim[i], &count);
    }
    return over ? INT64_MAX : count;
}

bool lv_shape_bytes(LvShape shape, LvDType dtype, size_t *bytes) {
    int64_t count = lv_shape_elements(shape);
    return count != INT64_MAX && !__builtin_mul_overflow((size_t)count, lv_dtype_size(dtype), bytes);
}

bool lv_shape_is_pictures(LvShape shape) { return shape.rank == 4 && shape.dim[1] == 3 && shape.dim[2] == shape.dim[3]; }

void lv_shape_print(LvText *text, LvShape shape) {
    lv_text_putc(text, '[');
    for (int i = 0; i < shape.rank; i++) lv_text_printf(text, "%s%lld", i ? ", " : "", (long long)shape.dim[i]);
    lv_text_putc(text, ']');
}

uint16_t lv_f16_from_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u);  // 65520 and above round to infinity
    if (magnitude < 0x38800000u) {                                     // subnormal half: units of 2^-24
        float scaled;
        memcpy(&scaled, &magnitude, sizeof scaled);
        return (uint16_t)(sign | (uint32_t)nearbyintf(scaled * 16777216.0f));
    }
    magnitude += 0xFFFu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((magnitude - 0x38000000u) >> 13));
}

float lv_f32_from_f16(uint16_t x) {
    float sign = x & 0x8000u ? -1.0f : 1.0f;
    int exponent = x >> 10 & 31, fraction = x & 1023;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexpf((float)fraction, -24);
    return sign * ldexpf((float)(1024 + fraction), exponent - 25);
}

double lv_element_get(const void *data, LvDType dtype, int64_t i) {
    switch (dtype) {
        case LV_F32: return ((const float *)data)[i];
        case LV_BF16: return lv_f32_from_bf16(((const uint16_t *)data)[i]);
        case LV_F16: return lv_f32_from_f16(((const uint16_t *)data)[i]);
        case LV_F64: return ((const double *)data)[i];
        case LV_I32: return ((const int32_t *)data)[i];
        case LV_I64: return (double)((const int64_t *)data)[i];
        case LV_BOOL:
        case LV_U8: return ((const uint8_t *)data)[i];
        case LV_DTYPE_COUNT: break;
    }
    return 0;
}

void lv_element_set(void *data, LvDType dtype, int64_t i, double value) {
    switch (dtype) {
        case LV_F32: ((float *)data)[i] = (float)value; break;
        case LV_BF16: ((uint16_t *)data)[i] = lv_bf16_from_f32((float)value); break;
        case LV_F16: ((uint16_t *)data)[i] = lv_f16_from_f32((float)value); break;
        case LV_F64: ((double *)data)[i] = value; break;
        case LV_I32: ((int32_t *)data)[i] = (int32_t)value; break;
        case LV_I64: ((int64_t *)data)[i] = (int64_t)value; break;
        case LV_BOOL: ((uint8_t *)data)[i] = value != 0; break;
        case LV_U8: ((uint8_t *)data)[i] = (uint8_t)value; break;
        case LV_DTYPE_COUNT: break;
    }
}
