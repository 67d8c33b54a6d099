// The vector tile: c[j][row] (+)= sum over k of a(j, k) * b[k][row], for ROWS rows that lie across vector lanes.
//
// b and c are arrays of WIDTH vectors an entry, ROWS = WIDTH * LANES; a is read an element at a time, anywhere in memory, and
// broadcast. Everything that attention and nearest_code do is of this form once one side is transposed into lanes, and what follows
// a product (maximum, exponential, argmin over j) then runs lane by lane with no sums across a vector.
//
// The register tile is CODES x WIDTH vectors: with AVX-512 8 x 3 accumulators of 16 lanes in its 32 registers, else 6 x 2 of 8 in 16.
// 16 rows rather than 24 waste less where sequences end and at the diagonal of a causal mask.
//
// Of bf16 k counts pairs, which one instruction multiplies and adds where there is one; a lane of b holds a pair.
#include "codegen/c/template_text.h"

typedef struct {
    const char *condition;
    int lanes, codes, width;
} Machine;

static const Machine machines[] = {{"#if defined(__AVX512F__)\n", 16, 8, 3}, {"#else\n", 8, 6, 2}};

// What a tile multiplies, the types of a and b and how it does so. Pairs have a last one that is half a pair where `half`, and a
// scale of what is not added to.
typedef struct {
    const char *multiply, *tile, *a, *b, *parameters, *arguments;
    const char *read, *read_half, *product;  // x = a(j, k), c += x b[v]
} Factors;

static const Factors floats = {"multiply", "tile", "float", "v", "", "", "const float x = a[$j * sj];", NULL, "c$c += x * b$v;"};
static const Factors pairs = {"multiply_pairs", "pairs", "uint16_t", "p", ", int half, float scale", ", half, scale",
                              "const $name_i x = (int32_t)*(const $name_two *)(a + $j * sj) - ($name_i){0};",
                              "const $name_i x = a[$j * sj] - ($name_i){0};", "c$c = $name_dot(c$c, x, b$v);"};

static void print_step(const char *name, const Factors *factors, const char *read, int codes, int width, LvText *out) {
    lv_text_puts(out, "   ");
    for (int v = 0; v < width; v++) lv_text_printf(out, " const %s_%s b%d = b[%d];", name, factors->b, v, v);
    lv_text_puts(out, "\n");
    for (int j = 0; j < codes; j++) {
        lv_text_puts(out, "    { ");
        TEMPLATE_FILL(out, read, {"name", name, 0}, {"j", NULL, j});
        for (int v = 0; v < width; v++) {
            lv_text_puts(out, " ");
            TEMPLATE_FILL(out, factors->product, {"name", name, 0}, {"c", NULL, j * width + v}, {"v", NULL, v});
        }
        lv_text_puts(out, " }\n");
    }
    lv_text_puts(out, "  }\n");
}

static void print_tile(const char *name, const Factors *factors, int codes, int width, LvText *out) {
    TEMPLATE_FILL(out,
                  "LV_F void $name_$tile_$codes(const $a *a, long sj, long sk, long nk, const $name_$b *b, $name_v *c, int add$parameters) {\n"
                  "  $name_v ",
                  {"name", name, 0}, {"tile", factors->tile, 0}, {"codes", NULL, codes}, {"a", factors->a, 0},
                  {"b", factors->b, 0}, {"parameters", factors->parameters, 0});
    int count = codes * width;
    for (int i = 0; i < count; i++) lv_text_printf(out, "%sc%d = {0}", i ? ", " : "", i);
    lv_text_puts(out, ";\n  if (add) {\n   ");
    for (int i = 0; i < count; i++) lv_text_printf(out, " c%d = c[%d];", i, i);
    lv_text_printf(out, "\n  }\n  for (long k = 0; k < nk; k++, a += sk, b += %d) {\n", width);
    print_step(name, factors, factors->read, codes, width, out);
    if (factors->read_half) {
        lv_text_puts(out, "  if (half) {\n");
        print_step(name, factors, factors->read_half, codes, width, out);
        lv_text_puts(out, "  if (!add) {\n   ");
        for (int i = 0; i < count; i++) lv_text_printf(out, " c%d *= scale;", i);
        lv_text_puts(out, "\n  }\n");
    }
    lv_text_puts(out, " ");
    for (int i = 0; i < count; i++) lv_text_printf(out, " c[%d] = c%d;", i, i);
    lv_text_puts(out, "\n}\n");
}

static const char multiply_text[] =
    "// c[j] (+)= sum of a(j, k) b[k] for nj rows of a\n"
    "static void $name_$multiply(const $a *a, long sj, long sk, long nj, long nk, const $name_$b *b, $name_v *c, int add$parameters) {\n"
    "  long j = 0;\n"
    "  for (; j + $name_CODES <= nj && (nj - j != 8 || $name_CODES == 8); j += $name_CODES)\n"
    "    $name_$tile(a + j * sj, sj, sk, nk, b, c + $name_WIDTH * j, add$arguments);\n"
    "  for (; j + 4 <= nj; j += 4) $name_$tile_4(a + j * sj, sj, sk, nk, b, c + $name_WIDTH * j, add$arguments);\n"
    "  for (; j < nj; j++) $name_$tile_1(a + j * sj, sj, sk, nk, b, c + $name_WIDTH * j, add$arguments);\n"
    "}\n";

static void print_multiply(const char *name, const Factors *factors, LvText *out) {
    for (int i = 0; i < 2; i++) {
        const int codes[] = {machines[i].codes, 4, 1};
        lv_text_puts(out, machines[i].condition);
        lv_text_printf(out, "#define %s_%s %s_%s_%d\n", name, factors->tile, name, factors->tile, machines[i].codes);
        for (int k = 0; k < 3; k++) print_tile(name, factors, codes[k], machines[i].width, out);
    }
    lv_text_puts(out, "#endif\n");
    TEMPLATE_FILL(out, multiply_text, {"name", name, 0}, {"multiply", factors->multiply, 0}, {"tile", factors->tile, 0},
                  {"a", factors->a, 0}, {"b", factors->b, 0}, {"parameters", factors->parameters, 0},
                  {"arguments", factors->arguments, 0});
}

static void print_types(const char *name, LvText *out) {
    for (int i = 0; i < 2; i++) {
        int lanes = machines[i].lanes, width = machines[i].width;
        lv_text_puts(out, machines[i].condition);
        TEMPLATE_FILL(out,
                      "enum { $name_LANES = $lanes, $name_WIDTH = $width, $name_ROWS = $rows, $name_CODES = $codes };\n"
                      "typedef float $name_v __attribute__((vector_size($bytes)));\n"
                      "typedef int32_t $name_i __attribute__((vector_size($bytes)));\n",
                      {"name", name, 0}, {"lanes", NULL, lanes}, {"width", NULL, width}, {"rows", NULL, width * lanes},
                      {"codes", NULL, machines[i].codes}, {"bytes", NULL, 4 * lanes});
    }
    lv_text_puts(out, "#endif\n");
    TEMPLATE_FILL(out,
                  "LV_F $name_v $name_choose($name_i mask, $name_v a, $name_v b) { return ($name_v)((mask & ($name_i)a) | (~mask & ($name_i)b)); }\n",
                  {"name", name, 0});
}

static const char transpose_text[] =
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
    print_types(name, out);
    print_multiply(name, &floats, out);
    TEMPLATE_FILL(out, transpose_text, {"name", name, 0});
}

// A subnormal factor counts as 0 in vdpbf16ps.
static const char dot_text[] =
    "typedef uint32_t $name_two __attribute__((aligned(2), may_alias));\n"
    "typedef int32_t $name_p __attribute__((vector_size(sizeof($name_v)), may_alias));\n"
    "// c + the products of the first and of the second elements of two pairs\n"
    "LV_F $name_v $name_dot($name_v c, $name_i a, $name_i b) {\n"
    "#if defined(__AVX512BF16__)\n"
    "  __asm__(\"vdpbf16ps %2, %1, %0\" : \"+v\"(c) : \"v\"(a), \"v\"(b));\n"
    "#else\n"
    "  c += ($name_v)(a << 16) * ($name_v)(b << 16);\n"
    "  c += ($name_v)(a & -65536) * ($name_v)(b & -65536);\n"
    "#endif\n"
    "  return c;\n"
    "}\n";

// Rounding is lv_to_bf16's, but for NaN of a kind that no operation makes.
static const char pairs_text[] =
    "// the upper half of each lane is bf16\n"
    "LV_F $name_i $name_round($name_v x) { return ($name_i)x + 0x7FFF + (($name_i)x >> 16 & 1); }\n"
    "// entries 2 j and 2 j + 1, rounded, are pairs of entry j, in place; after an odd count comes 0\n"
    "static $name_p *$name_join($name_v *s, long count) {\n"
    "  $name_p *to = ($name_p *)s;\n"
    "  for (long j = 0; j + 2 <= count; j += 2)\n"
    "    for (int i = 0; i < $name_WIDTH; i++) {\n"
    "      const $name_v *two = s + $name_WIDTH * j + i;\n"
    "      to[$name_WIDTH * (j / 2) + i] = ($name_round(two[0]) >> 16 & 0xFFFF) | ($name_round(two[$name_WIDTH]) & -65536);\n"
    "    }\n"
    "  if (count % 2)\n"
    "    for (int i = 0; i < $name_WIDTH; i++) to[$name_WIDTH * (count / 2) + i] = $name_round(s[$name_WIDTH * (count - 1) + i]) >> 16 & 0xFFFF;\n"
    "  return to;\n"
    "}\n"
    "// rows 2 j and 2 j + 1 of a, `width` elements each, as pairs; after an odd count comes 0\n"
    "static void $name_pair(const uint16_t *a, long stride, long width, long count, $name_two *restrict to, long apart) {\n"
    "  for (long j = 0; j < count; j += 2, a += 2 * stride, to += apart) {\n"
    "    if (j + 1 < count) for (long i = 0; i < width; i++) to[i] = a[i] | (uint32_t)a[stride + i] << 16;\n"
    "    else for (long i = 0; i < width; i++) to[i] = a[i];\n"
    "  }\n"
    "}\n"
    "// rows of x across lanes, a pair of elements in each; rows beyond `count` repeat the last\n"
    "static void $name_transpose_pairs(const uint16_t *x, long stride, long count, long width, $name_p *b) {\n"
    "  $name_two *to = ($name_two *)b;\n"
    "  for (long r = 0; r < $name_ROWS; r++) {\n"
    "    const uint16_t *from = x + (r < count ? r : count - 1) * stride;\n"
    "    for (long k = 0; k < width / 2; k++) to[k * $name_ROWS + r] = *(const $name_two *)(from + 2 * k);\n"
    "    if (width % 2) to[width / 2 * $name_ROWS + r] = from[width - 1];\n"
    "  }\n"
    "}\n"
    "// and back, rounded; b is lost\n"
    "static void $name_untranspose_pairs($name_v *b, long stride, long count, long width, uint16_t *y) {\n"
    "  const $name_two *from = (const $name_two *)$name_join(b, width);\n"
    "  for (long r = 0; r < count; r++) {\n"
    "    for (long k = 0; k < width / 2; k++) *($name_two *)(y + r * stride + 2 * k) = from[k * $name_ROWS + r];\n"
    "    if (width % 2) y[r * stride + width - 1] = (uint16_t)from[width / 2 * $name_ROWS + r];\n"
    "  }\n"
    "}\n";

void template_tile_pairs(const char *name, LvText *out) {
    print_types(name, out);
    TEMPLATE_FILL(out, dot_text, {"name", name, 0});
    print_multiply(name, &pairs, out);
    TEMPLATE_FILL(out, pairs_text, {"name", name, 0});
}
