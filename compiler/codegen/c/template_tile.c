// The vector tile: c[j][row] (+)= sum over k of a(j, k) * b[k][row], for ROWS rows that lie across vector lanes.
//
// b and c are arrays of WIDTH vectors an entry, ROWS = WIDTH * LANES; a is read an element at a time, anywhere in memory, and
// broadcast. Everything that attention and nearest_code do is of this form once one side is transposed into lanes, and what follows
// a product (maximum, exponential, argmin over j) then runs lane by lane with no sums across a vector.
//
// The register tile is CODES x WIDTH vectors: with AVX-512 8 x 3 accumulators of 16 lanes in its 32 registers, else 6 x 2 of 8 in 16.
// 16 rows rather than 24 waste less where sequences end and at the diagonal of a causal mask.
#include "codegen/c/template_text.h"

static void print_tile(const char *name, int codes, int width, LvText *out) {
    TEMPLATE_FILL(out,
                  "LV_F void $name_tile$codes(const float *a, long sj, long sk, long nk, const $name_v *b, $name_v *c, int add) {\n"
                  "  $name_v ",
                  {"name", name, 0}, {"codes", NULL, codes});
    int count = codes * width;
    for (int i = 0; i < count; i++) lv_text_printf(out, "%sc%d = {0}", i ? ", " : "", i);
    lv_text_puts(out, ";\n  if (add) {\n   ");
    for (int i = 0; i < count; i++) lv_text_printf(out, " c%d = c[%d];", i, i);
    lv_text_printf(out, "\n  }\n  for (long k = 0; k < nk; k++, a += sk, b += %d) {\n   ", width);
    for (int v = 0; v < width; v++) lv_text_printf(out, " const %s_v b%d = b[%d];", name, v, v);
    lv_text_puts(out, "\n");
    for (int j = 0; j < codes; j++) {
        lv_text_printf(out, "    { const float x = a[%d * sj];", j);
        for (int v = 0; v < width; v++) lv_text_printf(out, " c%d += x * b%d;", j * width + v, v);
        lv_text_puts(out, " }\n");
    }
    lv_text_puts(out, "  }\n ");
    for (int i = 0; i < count; i++) lv_text_printf(out, " c[%d] = c%d;", i, i);
    lv_text_puts(out, "\n}\n");
}

static const char multiply_text[] =
    "LV_F $name_v $name_choose($name_i mask, $name_v a, $name_v b) { return ($name_v)((mask & ($name_i)a) | (~mask & ($name_i)b)); }\n"
    "// c[j] (+)= sum of a(j, k) b[k] for nj rows of a\n"
    "static void $name_multiply(const float *a, long sj, long sk, long nj, long nk, const $name_v *b, $name_v *c, int add) {\n"
    "  long j = 0;\n"
    "  for (; j + $name_CODES <= nj && (nj - j != 8 || $name_CODES == 8); j += $name_CODES) $name_tile(a + j * sj, sj, sk, nk, b, c + $name_WIDTH * j, add);\n"
    "  for (; j + 4 <= nj; j += 4) $name_tile4(a + j * sj, sj, sk, nk, b, c + $name_WIDTH * j, add);\n"
    "  for (; j < nj; j++) $name_tile1(a + j * sj, sj, sk, nk, b, c + $name_WIDTH * j, add);\n"
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
        int lanes, codes, width;
    } machines[] = {{"#if defined(__AVX512F__)\n", 16, 8, 3}, {"#else\n", 8, 6, 2}};
    for (int i = 0; i < 2; i++) {
        int lanes = machines[i].lanes, codes = machines[i].codes, width = machines[i].width;
        lv_text_puts(out, machines[i].condition);
        TEMPLATE_FILL(out,
                      "enum { $name_LANES = $lanes, $name_WIDTH = $width, $name_ROWS = $rows, $name_CODES = $codes };\n"
                      "typedef float $name_v __attribute__((vector_size($bytes)));\n"
                      "typedef int32_t $name_i __attribute__((vector_size($bytes)));\n"
                      "#define $name_tile $name_tile$codes\n",
                      {"name", name, 0}, {"lanes", NULL, lanes}, {"width", NULL, width}, {"rows", NULL, width * lanes},
                      {"codes", NULL, codes}, {"bytes", NULL, 4 * lanes});
        print_tile(name, codes, width, out);
        print_tile(name, 4, width, out);
        print_tile(name, 1, width, out);
    }
    lv_text_puts(out, "#endif\n");
    TEMPLATE_FILL(out, multiply_text, {"name", name, 0});
}
