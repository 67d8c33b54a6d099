// One element's C. An op's expression (ops.def) is written with the operands' names for a, b, c and each function replaced
// by the type's own: in f32 the prelude's, which the compiler turns into vector code; in f64 the library's.
#include "codegen/expression.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"

const char *c_type(LvDType dtype) {
    switch (dtype) {
        case LV_F64: return "double";
        case LV_I32: case LV_BOOL: case LV_U8: return "int32_t";
        case LV_I64: return "int64_t";
        default: return "float";
    }
}

const char *c_storage_type(LvDType dtype) {
    switch (dtype) {
        case LV_BF16: return "uint16_t";
        case LV_F16: return "lv_half";
        case LV_BOOL: case LV_U8: return "uint8_t";
        default: return c_type(dtype);
    }
}

bool c_is_float(LvDType dtype) { return dtype == LV_F32 || dtype == LV_BF16 || dtype == LV_F16 || dtype == LV_F64; }
const char *c_load_conversion(LvDType dtype) { return dtype == LV_BF16 ? "lv_from_bf16(" : dtype == LV_F16 ? "lv_from_f16(" : ""; }
const char *c_store_conversion(LvDType dtype) { return dtype == LV_BF16 ? "lv_to_bf16(" : dtype == LV_F16 ? "lv_to_f16(" : ""; }

void c_put_constant(LvDType dtype, double value, LvText *out) {
    if (!c_is_float(dtype)) {
        if (dtype == LV_BOOL) lv_text_puts(out, value != 0 ? "1" : "0");
        else if (value <= -0x1p63) lv_text_puts(out, "INT64_MIN");
        else lv_text_printf(out, "INT64_C(%lld)", value >= 0x1p63 ? (long long)INT64_MAX : (long long)value);
        return;
    }
    bool wide = dtype == LV_F64;
    if (isnan(value)) lv_text_puts(out, wide ? "LV_NAN_F64" : "LV_NAN");
    else if (isinf(value)) lv_text_printf(out, "%sLV_INF%s", value < 0 ? "-" : "", wide ? "_F64" : "");
    else {
        char text[40];
        snprintf(text, sizeof text, wide ? "%.17g" : "%.9g", value);
        lv_text_printf(out, "%s%s%s", text, strpbrk(text, ".e") ? "" : ".0", wide ? "" : "f");
    }
}

void c_put_extreme(LvDType dtype, bool most, LvText *out) {
    if (c_is_float(dtype)) c_put_constant(dtype, most ? INFINITY : -INFINITY, out);
    else if (dtype == LV_BOOL) lv_text_puts(out, most ? "1" : "0");
    else lv_text_printf(out, "INT%d_%s", dtype == LV_I32 ? 32 : 64, most ? "MAX" : "MIN");
}

// The name of a function of ops.def in f32 and in f64.
static const struct {
    const char *name, *f32, *f64;
} functions[] = {
    {"exp", "lv_exp", "lv_exp_f64"},
    {"log", "lv_log", "lv_log_f64"},
    {"sqrt", "lv_sqrt", "lv_sqrt_f64"},
    {"fabs", "lv_fabs", "lv_fabs_f64"},
    {"sin", "lv_sin", "lv_sin_f64"},
    {"cos", "lv_cos", "lv_cos_f64"},
    {"tanh", "lv_tanh", "lv_tanh_f64"},
    {"erf", "lv_erf", "lv_erf_f64"},
    {"floor", "lv_floor", "lv_floor_f64"},
    {"pow", "lv_pow", "lv_pow_f64"},
    {"bits", "lv_bits", ""},  // of f32 alone
};

static void put_expression(const char *expression, LvDType arithmetic, char args[3][16], LvText *out) {
    for (const char *s = expression; *s;) {
        if (!isalpha((unsigned char)*s)) {
            if (*s != ' ') lv_text_putc(out, *s);
            s++;
            continue;
        }
        size_t length = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");
        if (length == 1 && *s >= 'a' && *s <= 'c') {
            lv_text_puts(out, args[*s - 'a']);
        } else {
            const char *name = NULL;
            for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
                if (strlen(functions[i].name) == length && !strncmp(functions[i].name, s, length)) {
                    name = arithmetic == LV_F64 ? functions[i].f64 : functions[i].f32;
                }
            }
            if (!name) lv_internal_error("c: '%s' uses a function that the printer does not know", expression);
            lv_text_puts(out, name);
        }
        s += length;
    }
}

void c_put_op(Op op, LvDType arithmetic, LvDType result, char args[3][16], LvText *out) {
    if (op == OP_from_byte) {  // two roundings: no compiler makes a product, or one operation, of a quotient
        lv_text_printf(out, "(float)%s/127.5f-1.0f", args[0]);
        return;
    }
    if (!c_is_float(arithmetic)) {
        // Where C leaves integers undefined, the prelude's functions say what the reference evaluation says.
        const char *type = arithmetic == LV_I64 ? "i64" : "i32";
        switch (op) {
            case OP_neg: lv_text_printf(out, "lv_neg_%s(%s)", type, args[0]); return;
            case OP_abs: lv_text_printf(out, "%s<0?lv_neg_%s(%s):%s", args[0], type, args[0], args[0]); return;
            case OP_add: case OP_sub: case OP_mul: case OP_div: case OP_mod:
                lv_text_printf(out, "lv_%s_%s(%s,%s)", op_name(op), type, args[0], args[1]);
                return;
            default: break;
        }
    }
    bool narrow = result == LV_BF16 || result == LV_F16;
    if (narrow) lv_text_puts(out, result == LV_BF16 ? "lv_round_bf16(" : "lv_round_f16(");
    put_expression(op_info(op)->expression, arithmetic, args, out);
    if (narrow) lv_text_puts(out, ")");
}

void c_put_cast(LvDType from, LvDType to, const char *arg, LvText *out) {
    if (to == LV_BOOL) lv_text_printf(out, "%s!=0", arg);
    else if (to == LV_BF16) lv_text_printf(out, "lv_round_bf16((float)%s)", arg);
    else if (to == LV_F16) lv_text_printf(out, "lv_round_f16((float)%s)", arg);
    else if (c_is_float(from) && !c_is_float(to))
        lv_text_printf(out, "lv_%s_of_%s(%s)", lv_dtype_name(to), from == LV_F64 ? "f64" : "f32", arg);
    else lv_text_printf(out, "(%s)%s", c_type(to), arg);
}
