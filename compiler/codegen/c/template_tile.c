// The vector tile: c[j][row] (+)= sum over k of a(j, k) * b[k][row], for ROWS rows that lie across vector lanes.
//
// b and c are arrays of 3 vectors an entry, ROWS = 3 * LANES; a is read an element at a time, anywhere in memory, and broadcast.
// Everything that attention and nearest_code do is of this form once one side is transposed into lanes, and what follows a
// product (maximum, exponential, argmin over j) then runs lane by lane with no sums across a vector.
//
// The register tile is CODES x 3 vectors: with AVX-512 24 accumulators of 16 lanes in its 32 registers, else 12 of 8 in 16.
#include "codegen/c/template_text.h"

static void print_tile(const char *name, int codes, LvText *out) {
    TEMPLATE_FILL(out,
                  "LV_F void $name_tile$codes(const float *a, long sj, long sk, long nk, const $name_v *b, $name_v *c, int add) {\n"
                  "  $name_v ",
                  {"name", name, 0}, {"codes", NULL, codes});
    for (int j = 0; j < codes; j++)
        for (int v = 0; v < 3; v++) lv_text_printf(out, "%sc%d%d = {0}", j + v ? ", " : "", j, v);
    lv_text_puts(out, ";\n  if (add) {\n");
    for (int j = 0; j < codes; j++) lv_text_printf(out, "    c%d0 = c[%d], c%d1 = c[%d], c%d2 = c[%d];\n", j, 3 * j, j, 3 * j + 1, j, 3 * j + 2);
    TEMPLATE_FILL(out, "  }\n  for (long k = 0; k < nk; k++, a += sk, b += 3) {\n    const $name_v b0 = b[0], b1 = b[1], b2 = b[2];\n", {"name", name, 0});
    for (int j = 0; j < codes; j++)
        lv_text_printf(out, "    { const float x = a[%d * sj]; c%d0 += x * b0, c%d1 += x * b1, c%d2 += x * b2; }\n", j, j, j, j);
    lv_text_puts(out, "  }\n");
    for (int j = 0; j < codes; j++) lv_text_printf(out, "  c[%d] = c%d0, c[%d] = c%d1, c[%d] = c%d2;\n", 3 * j, j, 3 * j + 1, j, 3 * j + 2, j);
    lv_text_puts(out, "}\n");
}

static const char multiply_text[] =
    "LV_F $name_v $name_choose($name_i mask, $name_v a, $name_v b) { return ($name_v)((mask & ($name_i)a) | (~mask & ($name_i)b)); }\n"
    "// c[j] (+)= sum of a(j, k) b[k] for nj rows of a\n"
    "static void $name_multiply(const float *a, long sj, long sk, long nj, long nk, const $name_v *b, $name_v *c, int add) {\n"
    "  long j = 0;\n"
    "  for (; j + $name_CODES <= nj; j += $name_CODES) $name_tile(a + j * sj, sj, sk, nk, b, c + 3 * j, add);\n"
    "  for (; j < nj; j++) $name_tile1(a + j * sj, sj, sk, nk, b, c + 3 * j, add);\n"
    "}\n"
    "// rows of x, `width` elements each, across lanes; rows beyond `count` repeat the last\n"
    "static void $name_transpose(const float *x, long stride, long count, long width, float scale, $name_v *b) {\n"
    "  float *to = (float *)b;\n"
    "  for (long r = 0; r < $name_ROWS; r++) {\n"
    "    const float *from = x + (r < count ? r : count - 1) * stride;\n"
    "    for (long k = 0; k < width; k++) to[k * $name_ROWS + r] = from[k] * scale;\n"
    "  }\n"
    "}\n"
    "static void $name_untranspose(const $name_v *b, long stride, long count, long width, float *y) {\n"
    "  const float *from = (const float *)b;\n"
    "  for (long r = 0; r < count; r++)\n"
    "    for (long k = 0; k < width; k++) y[r * stride + k] = from[k * $name_ROWS + r];\n"
    "}\n";

void template_tile(const char *name, LvText *out) {
    static const struct {
        const char *condition;
        int lanes, codes;
    } machines[] = {{"#if defined(__AVX512F__)\n", 16, 8}, {"#else\n", 8, 4}};
    for (int i = 0; i < 2; i++) {
        lv_text_puts(out, machines[i].condition);
        TEMPLATE_FILL(out,
                      "enum { $name_LANES = $lanes, $name_ROWS = $rows, $name_CODES = $codes };\n"
                      "typedef float $name_v __attribute__((vector_size($bytes)));\n"
                      "typedef int32_t $name_i __attribute__((vector_size($bytes)));\n"
                      "#define $name_tile $name_tile$codes\n",
                      {"name", name, 0}, {"lanes", NULL, machines[i].lanes}, {"rows", NULL, 3 * machines[i].lanes},
                      {"codes", NULL, machines[i].codes}, {"bytes", NULL, 4 * machines[i].lanes});
        print_tile(name, machines[i].codes, out);
    }
    lv_text_puts(out, "#endif\n");
    print_tile(name, 1, out);
    TEMPLATE_FILL(out, multiply_text, {"name", name, 0});
}
