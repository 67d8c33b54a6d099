// Targets by name; precisions, and which target has them.
#include "driver/target.h"

#include <stdlib.h>
#include <string.h>

#include "driver/compiler.h"

bool target_parse(const char *device, Target *target, LvError *error) {
    *target = (Target){0};
    if (!device || !strcmp(device, "cpu") || !strcmp(device, "auto")) return true;
    target->cuda = true, target->sm = TARGET_OLDEST_SM, target->any = !strcmp(device, "cuda");
    if (target->any) return true;
    if (!strncmp(device, "cuda:sm_", 8)) {
        char *end;
        long sm = strtol(device + 8, &end, 10);
        if (end != device + 8 && !*end && sm >= TARGET_OLDEST_SM && sm < 1000) {
            target->sm = (int)sm;
            return true;
        }
        if (end != device + 8 && !*end && sm > 0 && sm < TARGET_OLDEST_SM) {
            lv_error_set(error, LV_ERROR_UNSUPPORTED, "GPUs older than sm_%d are not supported, '%s' is one", TARGET_OLDEST_SM, device);
            return false;
        }
    }
    lv_error_set(error, LV_ERROR_USAGE, "unknown device '%s'", device);
    return lv_error_hint(error, "cpu, auto, cuda, or cuda:sm_90 for an architecture");
}

LvDType lv_precision_dtype(LvPrecision precision) {
    static const LvDType dtypes[LV_PRECISION_COUNT] = {
        [LV_PRECISION_F32] = LV_F32, [LV_PRECISION_BF16] = LV_BF16, [LV_PRECISION_F16] = LV_F16};
    return dtypes[precision];
}

const char *lv_precision_name(LvPrecision precision) { return lv_dtype_name(lv_precision_dtype(precision)); }

// The CPU's library has no products of f16 before AVX-512 FP16, and where it has bf16 that is as fast and needs no scaled losses.
bool lv_precision_check(LvPrecision precision, const char *device, LvError *error) {
    Target target;
    if (!target_parse(device, &target, error)) return false;
    if (precision != LV_PRECISION_F16 || target.cuda) return true;
    lv_error_set(error, LV_ERROR_USAGE, "f16 is for GPUs: the CPU computes in f32 or bf16");
    return lv_error_hint(error, "--precision bf16 here, or f16 with --device cuda");
}
