// F(4x4, 3x3) in vectors of 8 floats; compiled for AVX2 and FMA (CMakeLists.txt).
#include "device/cpu/winograd.h"
#if defined(__AVX2__) && defined(__FMA__)
#define LANES 8
#define TILE_ROWS 6
#define TILE_COLUMNS 4
#include "device/cpu/winograd_lanes.h"
const WinogradSet winograd_avx2 = {"winograd:avx2", LANES, scratch_bytes, run};
#else
const WinogradSet winograd_avx2 = {0};
#endif
