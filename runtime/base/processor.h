// Which instruction sets compiled kernels, the library and layouts may use on the CPU: those that the processor has, or fewer.
// `--cpu avx2` and $LV_CPU hold a process to less than its machine has: to see what another machine would do, and to test for it.
#ifndef LV_PROCESSOR_H
#define LV_PROCESSOR_H

#include <stdbool.h>

#include "base/error.h"

typedef enum {
    LV_PROCESSOR_AVX2,    // AVX2 and FMA: x86-64-v3
    LV_PROCESSOR_AVX512,  // the five parts of AVX-512 that x86-64-v4 has: no bf16, no AMX
    LV_PROCESSOR_NATIVE,  // all that it has
} LvProcessorLevel;

// "avx2", "avx512" or "native". Once, before anything is compiled or a device opened. Fails where the processor has less.
bool lv_processor_limit(const char *name, LvError *error);
// From $LV_CPU until lv_processor_limit was called; native where that names nothing.
LvProcessorLevel lv_processor_level(void);
const char *lv_processor_level_name(void);

// Of this processor, within the level.
bool lv_processor_has_avx2(void);    // with FMA
bool lv_processor_has_avx512(void);  // F, BW, CD, DQ and VL
bool lv_processor_has_bf16(void);    // dot products of bf16, by AVX-512 or AMX
bool lv_processor_has_amx(void);

#endif
