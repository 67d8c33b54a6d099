// Text that both preludes have, in C that CUDA C takes too; LV_F is how a function is declared, LV_DRAW one that draws random numbers.
#ifndef LV_CODEGEN_PRELUDE_H
#define LV_CODEGEN_PRELUDE_H

// Conversions and arithmetic of integers without undefined cases: what the reference evaluation says.
#define PRELUDE_INTEGERS \
    "LV_F int32_t lv_i32_of_f32(float x) {\n" \
    "  const int32_t i = (int32_t)(x > -2147483648.f && x < 2147483648.f ? x : 0.f);\n" \
    "  return x >= 2147483648.f ? INT32_MAX : x <= -2147483648.f ? INT32_MIN : i;\n" \
    "}\n" \
    "LV_F int64_t lv_i64_of_f32(float x) {\n" \
    "  const int64_t i = (int64_t)(x > -0x1p63f && x < 0x1p63f ? x : 0.f);\n" \
    "  return x >= 0x1p63f ? INT64_MAX : x <= -0x1p63f ? INT64_MIN : i;\n" \
    "}\n" \
    "LV_F int32_t lv_i32_of_f64(double x) {\n" \
    "  const int32_t i = (int32_t)(x > -2147483649. && x < 2147483648. ? x : 0.);\n" \
    "  return x >= 2147483648. ? INT32_MAX : x <= -2147483648. ? INT32_MIN : i;\n" \
    "}\n" \
    "LV_F int64_t lv_i64_of_f64(double x) {\n" \
    "  const int64_t i = (int64_t)(x > -0x1p63 && x < 0x1p63 ? x : 0.);\n" \
    "  return x >= 0x1p63 ? INT64_MAX : x <= -0x1p63 ? INT64_MIN : i;\n" \
    "}\n" \
    "#define LV_INTEGERS(S, T, U, W) \\\n" \
    "  LV_F T lv_neg_##S(T a) { return (T)((U)0 - (U)a); } \\\n" \
    "  LV_F T lv_add_##S(T a, W b) { return (T)((U)a + (U)b); } \\\n" \
    "  LV_F T lv_sub_##S(T a, W b) { return (T)((U)a - (U)b); } \\\n" \
    "  LV_F T lv_mul_##S(T a, W b) { return (T)((U)a * (U)b); } \\\n" \
    "  LV_F T lv_div_##S(T a, W b) { return b == 0 ? 0 : b == -1 ? lv_neg_##S(a) : a / b; } \\\n" \
    "  LV_F T lv_mod_##S(T a, W b) { \\\n" \
    "    if (b == 0 || b == -1) return 0; \\\n" \
    "    const T r = a % b; \\\n" \
    "    return r && (r < 0) != (b < 0) ? r + b : r; \\\n" \
    "  }\n" \
    "LV_INTEGERS(i32, int32_t, uint32_t, int32_t)\n" \
    "LV_INTEGERS(i64, int64_t, uint64_t, int64_t)\n"

// Philox 4x32-10 as in base/random.h. Its rounds are written out: gcc makes vector code of a loop only where no loop is left inside.
// Words are kept in an lv_word, of which the lower half counts: 32 bits on a GPU, 64 where vectors would be packed and unpacked else.
#define PRELUDE_PHILOX(WORD) \
    "typedef " WORD " lv_word;\n" \
    "#define LV_PHILOX(K) { \\\n" \
    "  const uint64_t a = (uint64_t)0xD2511F53u * (uint32_t)c0, b = (uint64_t)0xCD9E8D57u * (uint32_t)c2; \\\n" \
    "  const lv_word n0 = (lv_word)(b >> 32) ^ c1 ^ (k0 + K * 0x9E3779B9u), n2 = (lv_word)(a >> 32) ^ c3 ^ (k1 + K * 0xBB67AE85u); \\\n" \
    "  c0 = n0, c1 = (lv_word)b, c2 = n2, c3 = (lv_word)a; \\\n" \
    "}\n" \
    "LV_F void lv_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t block, uint32_t *out) {\n" \
    "  const uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);\n" \
    "  lv_word c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = stream, c3 = step;\n" \
    "  LV_PHILOX(0) LV_PHILOX(1) LV_PHILOX(2) LV_PHILOX(3) LV_PHILOX(4)\n" \
    "  LV_PHILOX(5) LV_PHILOX(6) LV_PHILOX(7) LV_PHILOX(8) LV_PHILOX(9)\n" \
    "  out[0] = (uint32_t)c0, out[1] = (uint32_t)c1, out[2] = (uint32_t)c2, out[3] = (uint32_t)c3;\n" \
    "}\n" \
    "LV_DRAW float lv_uniform(int64_t seed, uint32_t stream, int32_t step, int64_t index) {\n" \
    "  uint32_t w[4];\n" \
    "  lv_philox((uint64_t)seed, stream, (uint32_t)step, (uint64_t)index / 4, w);\n" \
    "  const uint32_t low = index & 1 ? w[1] : w[0], high = index & 1 ? w[3] : w[2];\n" \
    "  return (float)(int32_t)((index & 2 ? high : low) >> 8) * 0x1p-24f;\n" \
    "}\n"

#endif
