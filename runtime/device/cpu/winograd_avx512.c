// F(4x4, 3x3) in vectors of 16 floats; compiled for AVX-512 (CMakeLists.txt).
#include "device/cpu/winograd.h"
#if defined(__AVX512F__)
#define LANES 16
#define TILE_ROWS 12
#define TILE_COLUMNS 8
#include "device/cpu/winograd_lanes.h"
const WinogradSet winograd_avx512 = {"winograd:avx512", LANES, scratch_bytes, run};
#else
const WinogradSet winograd_avx512 = {0};
#endif
