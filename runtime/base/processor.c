#include "base/processor.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[] = {"avx2", "avx512", "native"};
static int level = -1;  // not known yet

#if defined(__x86_64__)
// Bits of leaf 7 of cpuid; whether the system keeps such registers is asked of __builtin_cpu_supports, which names none of these.
static bool leaf_7(unsigned subleaf, bool in_eax, unsigned bit) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, subleaf, &a, &b, &c, &d) && ((in_eax ? a : d) >> bit & 1);
}

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_amx(void) { return has_avx512() && leaf_7(0, false, 24); }
static bool has_bf16(void) { return has_avx512() && leaf_7(1, true, 5); }
#else
static bool has_avx512(void) { return false; }
static bool has_avx2(void) { return false; }
static bool has_amx(void) { return false; }
static bool has_bf16(void) { return false; }
#endif

static int find_level(const char *name) {
    for (int i = 0; i <= LV_PROCESSOR_NATIVE; i++) {
        if (!strcmp(name, names[i])) return i;
    }
    return -1;
}

bool lv_processor_limit(const char *name, LvError *error) {
    int wanted = find_level(name);
    if (wanted < 0) {
        lv_error_set(error, LV_ERROR_USAGE, "there is no level '%s' of processors", name);
        return lv_error_hint(error, "avx2, avx512, or native: all that this one has");
    }
    if ((wanted == LV_PROCESSOR_AVX512 && !has_avx512()) || (wanted == LV_PROCESSOR_AVX2 && !has_avx2())) {
        lv_error_set(error, LV_ERROR_DEVICE, "this processor has no %s", wanted == LV_PROCESSOR_AVX2 ? "AVX2" : "AVX-512");
        return lv_error_hint(error, "leave out --cpu (and LV_CPU) to use what it has");
    }
    level = wanted;
    return true;
}

LvProcessorLevel lv_processor_level(void) {
    if (level < 0) {
        const char *name = getenv("LV_CPU");
        LvError error = {0};
        if (!name || !*name || !lv_processor_limit(name, &error)) level = LV_PROCESSOR_NATIVE;
        lv_error_clear(&error);
    }
    return (LvProcessorLevel)level;
}

const char *lv_processor_level_name(void) { return names[lv_processor_level()]; }

bool lv_processor_has_avx2(void) { return has_avx2(); }
bool lv_processor_has_avx512(void) { return lv_processor_level() >= LV_PROCESSOR_AVX512 && has_avx512(); }
bool lv_processor_has_bf16(void) { return lv_processor_level() == LV_PROCESSOR_NATIVE && has_bf16(); }
bool lv_processor_has_amx(void) { return lv_processor_level() == LV_PROCESSOR_NATIVE && has_amx(); }
