// The options of compiling: see options_compile.h.
#include "options_compile.h"

#include <stdlib.h>
#include <string.h>

#include "base/processor.h"

bool options_processor(const Options *options, LvError *error) {
    const char *level = options_get(options, "cpu", getenv("LV_CPU"));
    return !level || !*level || lv_processor_limit(level, error);
}

bool options_compile(const Options *options, LvCompileOptions *out, LvError *error) {
    const char *precision = options_get(options, "precision", "f32"), *conv = options_get(options, "conv", NULL);
    if (!options_processor(options, error)) return false;
    out->device = "cpu";
    if (!strcmp(precision, "f32") || !strcmp(precision, "32")) out->precision = LV_PRECISION_F32;
    else if (!strcmp(precision, "bf16") || !strcmp(precision, "16")) out->precision = LV_PRECISION_BF16;
    else if (!strcmp(precision, "f16")) out->precision = LV_PRECISION_F16;
    else return lv_error_set(error, LV_ERROR_USAGE, "--precision is f32, bf16 or f16, not '%s'", precision);
    if (conv) {
        if (!strcmp(conv, "direct")) out->conv = LV_CONV_DIRECT;
        else if (!strcmp(conv, "winograd")) out->conv = LV_CONV_WINOGRAD;
        else if (!strcmp(conv, "auto")) out->conv = LV_CONV_AUTO;
        else return lv_error_set(error, LV_ERROR_USAGE, "--conv is direct, winograd or auto, not '%s'", conv);
    }
    if (!options_bytes(options, "memory-limit", &out->memory_limit, error)) return false;
    out->tf32 = options_flag(options, "tf32", false);
    out->no_fuse = options_flag(options, "no-fuse", false);
    out->no_optimize = options_flag(options, "no-optimize", false);
    return true;
}

bool options_loss_scale(const Options *options, const LvCompileOptions *compile, double *scale, LvError *error) {
    *scale = 0;
    if (!options_has(options, "loss-scale")) return true;
    if (!options_number(options, "loss-scale", scale, error)) return false;
    if (compile->precision != LV_PRECISION_F16) return lv_error_set(error, LV_ERROR_USAGE, "--loss-scale is for --precision f16");
    if (*scale >= LV_LOSS_SCALE_LEAST && *scale <= LV_LOSS_SCALE_MOST) return true;
    return lv_error_set(error, LV_ERROR_USAGE, "--loss-scale is from %d to %d, not %g", LV_LOSS_SCALE_LEAST, LV_LOSS_SCALE_MOST, *scale);
}
