// Products of a few rows with a weight: y[m][n] = activation(alpha sum over k of a[m][k] b[n][k] + bias[n]) + residual[m][n].
//
// With few rows the weight is all there is to read, once: threads share its rows, and blocks of them are multiplied with all rows
// of `a` at a time, by vectors along k; sums are f32, and their order depends on nothing but K. A bf16 weight is read two
// elements a lane: the upper halves are the odd ones as they stand, the lower halves shifted up the even ones; so `a` is laid out
// in that order beforehand, evens before odds.
#include <stdio.h>

#include "base/plan.h"
#include "codegen/c/template_text.h"

// Up to 8 rows: there oneDNN 2.6 takes 1.2 to 1.9 times as long (768 x 768, Zen 3, one thread, ms for 75 MB of weights: 1 row 4.8
// against 8.8, 3 rows 9.4 against 18, 8 rows 17 against 24); beyond, each weight feeds so many products that its blocking counts.
// `together`: rows of the weight that are read together, by rows of `a`: as many sums as 16 registers hold.
enum { MAX_ROWS = 8, MAX_WIDE = 1 << 16 };
static const int together[MAX_ROWS + 1] = {0, 8, 4, 4, 2, 2, 2, 1, 1};

static const char types_text[] =
    "#if defined(__AVX512F__)\n"
    "enum { $name_LANES = 16 };\n"
    "#else\n"
    "enum { $name_LANES = 8 };\n"
    "#endif\n"
    "typedef float $name_v __attribute__((vector_size(4 * $name_LANES)));\n"
    "typedef float $name_u __attribute__((vector_size(4 * $name_LANES), aligned(4), may_alias));\n"
    "typedef float $name_four __attribute__((vector_size(16)));\n"
    "typedef uint32_t $name_h __attribute__((vector_size(4 * $name_LANES), aligned(2), may_alias));\n"
    "LV_F float $name_sum($name_v a) {\n"
    "  union { $name_v v; $name_four four[$name_LANES / 4]; } u = {a};\n"
    "  $name_four s = u.four[0];\n"
    "  for (int i = 1; i < $name_LANES / 4; i++) s += u.four[i];\n"
    "  return (s[0] + s[1]) + (s[2] + s[3]);\n"
    "}\n"
    "LV_F float $name_finish(float x, long m, long n, char *const *buffers) {\n"
    "  (void)m, (void)n, (void)buffers;\n"
    "$finish"
    "  return x;\n"
    "}\n";

// $count rows of the weight from n on.
static const char block_text[] =
    "LV_F void $name_block$count(const float *a, const $btype *b, long n, char *const *buffers) {\n"
    "  $name_v s[$count][$m];\n"
    "  for (int r = 0; r < $count; r++) for (int m = 0; m < $m; m++) s[r][m] = ($name_v){0};\n"
    "  long k = 0;\n";

static const char float_text[] =
    "  for (; k + $name_LANES <= $k; k += $name_LANES)\n"
    "    for (int r = 0; r < $count; r++) {\n"
    "      const $name_v x = *(const $name_u *)(b + (n + r) * $kL + k);\n"
    "      for (int m = 0; m < $m; m++) s[r][m] += x * *(const $name_u *)(a + m * $kL + k);\n"
    "    }\n";

static const char half_text[] =
    "  for (; k + 2 * $name_LANES <= $k; k += 2 * $name_LANES)\n"
    "    for (int r = 0; r < $count; r++) {\n"
    "      const $name_h x = *(const $name_h *)(b + (n + r) * $kL + k);\n"
    "      const $name_v even = ($name_v)(x << 16), odd = ($name_v)(x & 0xFFFF0000u);\n"
    "      for (int m = 0; m < $m; m++) {\n"
    "        s[r][m] += even * *(const $name_u *)(a + m * $kL + k);\n"
    "        s[r][m] += odd * *(const $name_u *)(a + m * $kL + k + $name_LANES);\n"
    "      }\n"
    "    }\n";

static const char store_text[] =
    "  for (int r = 0; r < $count; r++)\n"
    "    for (int m = 0; m < $m; m++) {\n"
    "      float x = $name_sum(s[r][m]);\n"
    "      for (long i = k; i < $k; i++) x += $bone(b[(n + r) * $kL + i]) * a[m * $kL + i];\n"
    "      x = $name_finish(x, m, n + r, buffers);\n"
    "      (($ytype *)buffers[$y])[m * $nL + n + r] = $ystore;\n"
    "    }\n"
    "}\n";

// `a` as the blocks read it.
static const char order_text[] =
    "  float a[$m * $kL];\n"
    "  for (long m = 0; m < $m; m++) {\n"
    "    const $atype *from = (const $atype *)buffers[0] + m * $kL;\n"
    "    float *to = a + m * $kL;\n"
    "    long k = 0;\n"
    "    for (; k + 2 * $name_LANES <= $k; k += 2 * $name_LANES)\n"
    "      for (int i = 0; i < $name_LANES; i++) {\n"
    "        to[k + i] = $aload(from[k + 2 * i]);\n"
    "        to[k + $name_LANES + i] = $aload(from[k + 2 * i + 1]);\n"
    "      }\n"
    "    for (; k < $k; k++) to[k] = $aload(from[k]);\n"
    "  }\n";

static const char widen_text[] =
    "  float a[$m * $kL];\n"
    "  for (long i = 0; i < $m * $kL; i++) a[i] = $aload(((const $atype *)buffers[0])[i]);\n";

static const char begin_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $btype *b = (const $btype *)buffers[1];\n"
    "  (void)scalars;\n";

static const char main_text[] =
    "$parallel"
    "  for (long n = 0; n < $n; n += $count) {\n"
    "    if (n + $count <= $n) $name_block$count(a, b, n, buffers);\n"
    "    else for (long i = n; i < $n; i++) $name_block1(a, b, i, buffers);\n"
    "  }\n"
    "}\n";

static bool is_plain(const Value *v) {
    return (v->dtype == LV_F32 || v->dtype == LV_BF16) && lv_layout_is_row_major(v->layout, v->shape.rank);
}

static int64_t rows_of(const Node *node) { return node->results[0].shape.dim[0]; }

static bool takes(const Node *node) {
    bool turned = node_bool(node, ATTR_transpose_b, false) && !node_bool(node, ATTR_transpose_a, false);
    if (node->results[0].shape.rank != 2 || !turned) return false;
    for (int i = 0; i < node->input_count; i++)
        if (!is_plain(node->inputs[i])) return false;
    int64_t rows = rows_of(node), k = node->inputs[0]->shape.dim[1];
    return is_plain(&node->results[0]) && rows >= 1 && rows <= MAX_ROWS && k >= 1 && rows * k <= MAX_WIDE;
}

// x += an element of an operand of the epilogue.
static void print_add(const Node *node, int operand, const char *index, LvText *out) {
    bool half = node->inputs[operand]->dtype == LV_BF16;
    lv_text_printf(out, "  x += %s((const %s *)buffers[%d])[%s]%s;\n", half ? "lv_from_bf16(" : "", half ? "uint16_t" : "float",
                   operand, index, half ? ")" : "");
}

static void print_block(const TemplateWord *words, int count, bool half, LvText *out) {
    const char *const texts[] = {block_text, half ? half_text : float_text, store_text};
    for (int i = 0; i < 3; i++) template_fill(out, texts[i], count, words);
}

bool print_matvec(const Node *node, const char *name, LvText *out) {
    if (!takes(node)) return false;
    if (!out) return true;
    int64_t m = rows_of(node), n = node->results[0].shape.dim[1], k = node->inputs[0]->shape.dim[1];
    bool half_a = node->inputs[0]->dtype == LV_BF16, half_b = node->inputs[1]->dtype == LV_BF16;
    bool half_y = node->results[0].dtype == LV_BF16;
    LvText finish = {0};
    template_put_epilogue(node, print_add, &finish);
    bool parallel = n * k * (int64_t)lv_dtype_size(node->inputs[1]->dtype) >= TEMPLATE_PARALLEL;
    TemplateWord words[] = {{"count", NULL, 1}, {"name", name, 0}, {"m", NULL, m}, {"n", NULL, n}, {"nL", NULL, n},
                            {"k", NULL, k}, {"kL", NULL, k}, {"y", NULL, node->input_count},
                            {"atype", half_a ? "uint16_t" : "float", 0}, {"aload", half_a ? "lv_from_bf16" : "", 0},
                            {"btype", half_b ? "uint16_t" : "float", 0},
                            {"bone", half_b ? "lv_from_bf16" : "", 0},
                            {"ytype", half_y ? "uint16_t" : "float", 0}, {"ystore", half_y ? "lv_to_bf16(x)" : "x", 0},
                            {"finish", lv_text_get(&finish), 0},
                            {"parallel", parallel ? "#pragma omp parallel for schedule(static)\n" : "", 0}};
    int count = (int)(sizeof words / sizeof *words);
    template_fill(out, types_text, count, words);
    print_block(words, count, half_b, out);
    words[0].number = together[m];
    if (together[m] > 1) print_block(words, count, half_b, out);
    template_fill(out, begin_text, count, words);
    if (half_b) template_fill(out, order_text, count, words);
    else if (half_a) template_fill(out, widen_text, count, words);
    else lv_text_puts(out, "  const float *a = (const float *)buffers[0];\n");
    template_fill(out, main_text, count, words);
    lv_text_free(&finish);
    return true;
}
