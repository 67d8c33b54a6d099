// Products of a few rows with a weight: y[m][n] = activation(alpha sum over k of a[m][k] b[n][k] + bias[n]) + residual[m][n].
//
// With few rows the weight is all there is to read, once: threads share its rows, and blocks of them are multiplied with all rows
// of `a` at a time, by vectors along k; sums are f32, and their order depends on nothing but K. The rows of a block lie far apart,
// the block after it has the rows after these: so each of its streams runs on through memory, which processors fetch ahead, while
// rows next to each other are streams too short and too close for that (Zen 4, 768 x 3072 in bf16: 60 GB/s against 23).
// A bf16 weight is multiplied with bf16 as it stands where the processor can do that; elsewhere it is read two elements a lane: the
// upper halves are the odd ones as they stand, the lower halves shifted up the even ones; so `a` is laid out in that order
// beforehand, evens before odds.
#include <stdio.h>

#include "base/plan.h"
#include "codegen/c/template_text.h"

// Up to 8 rows: there oneDNN 2.6 takes 1.2 to 1.9 times as long (768 x 768, Zen 3, one thread, ms for 75 MB of weights: 1 row 4.8
// against 8.8, 3 rows 9.4 against 18, 8 rows 17 against 24); beyond, each weight feeds so many products that its blocking counts.
// `together`: rows of the weight that are read together, so that what is loaded of `a` serves them all. At most 4, which is as
// fast as reading gets; as many sums as 32 or 16 registers leave room for.
enum { MAX_ROWS = 8, MAX_WIDE = 1 << 16, MOST_TOGETHER = 4, SUMS_OF_32 = 18, SUMS_OF_16 = 12, HALF_RUN = 8 };

static int together(int64_t rows, int sums) { return sums / rows < MOST_TOGETHER ? (int)(sums / rows) : MOST_TOGETHER; }

// The quarters of a vector are subscripts: through a union gcc keeps all sums in memory, from the first product on. RUN blocks' sums
// are finished together, by vectors.
static const char types_text[] =
    "#if defined(__AVX512F__)\n"
    "enum { $name_LANES = 16, $name_TOGETHER = $of32 };\n"
    "#else\n"
    "enum { $name_LANES = 8, $name_TOGETHER = $of16 };\n"
    "#endif\n"
    "enum { $name_RUN = $run };\n"
    "typedef float $name_v __attribute__((vector_size(4 * $name_LANES)));\n"
    "typedef float $name_u __attribute__((vector_size(4 * $name_LANES), aligned(4), may_alias));\n"
    "typedef float $name_four __attribute__((vector_size(16)));\n"
    "typedef uint32_t $name_h __attribute__((vector_size(4 * $name_LANES), aligned(2), may_alias));\n"
    "LV_F float $name_sum($name_v a) {\n"
    "  $name_four s = {a[0], a[1], a[2], a[3]};\n"
    "  s += ($name_four){a[4], a[5], a[6], a[7]};\n"
    "#if defined(__AVX512F__)\n"
    "  s += ($name_four){a[8], a[9], a[10], a[11]};\n"
    "  s += ($name_four){a[12], a[13], a[14], a[15]};\n"
    "#endif\n"
    "  return (s[0] + s[1]) + (s[2] + s[3]);\n"
    "}\n"
    "LV_F float $name_finish(float x, long m, long n, char *const *buffers) {\n"
    "  (void)m, (void)n, (void)buffers;\n"
    "$finish"
    "  return x;\n"
    "}\n"
    "LV_F void $name_put(const float *x, long rows, long n, long apart, long count, char *const *buffers) {\n"
    "  $ytype *y = ($ytype *)buffers[$y];\n"
    "  for (long r = 0; r < rows; r++)\n"
    "    for (long m = 0; m < $m; m++)\n"
    "      for (long i = 0; i < count; i++) {\n"
    "        const long at = n + r * apart + i;\n"
    "        const float z = $name_finish(x[(r * $m + m) * $name_RUN + i], m, at, buffers);\n"
    "        y[m * $nL + at] = $ystore;\n"
    "      }\n"
    "}\n";

// What the blocks read `a` as. $dot: whether bf16 meets bf16, in one instruction where there is one.
static const char input_text[] =
    "#if $dot\n"
    "typedef uint16_t $name_a;\n"
    "LV_F float $name_one($name_a x) { return lv_from_bf16(x); }\n"
    "#else\n"
    "typedef float $name_a;\n"
    "LV_F float $name_one($name_a x) { return x; }\n"
    "#endif\n";

// $count rows of the weight, n, n + apart …: their sums with each row of `a`, x[$count][$m][RUN].
static const char block_text[] =
    "LV_F void $name$block(const $name_a *a, const $btype *b, long n, long apart, float *x) {\n"
    "  $name_v s[$count][$m];\n"
    "  for (int r = 0; r < $count; r++) for (int m = 0; m < $m; m++) s[r][m] = ($name_v){0};\n"
    "  long k = 0;\n";

static const char float_text[] =
    "  for (; k + $name_LANES <= $k; k += $name_LANES)\n"
    "    for (int r = 0; r < $count; r++) {\n"
    "      const $name_v w = *(const $name_u *)(b + (n + r * apart) * $kL + k);\n"
    "      for (int m = 0; m < $m; m++) s[r][m] += w * *(const $name_u *)(a + m * $kL + k);\n"
    "    }\n";

static const char half_text[] =
    "  for (; k + 2 * $name_LANES <= $k; k += 2 * $name_LANES)\n"
    "    for (int r = 0; r < $count; r++) {\n"
    "      const $name_h w = *(const $name_h *)(b + (n + r * apart) * $kL + k);\n"
    "#if $dot\n"
    "      for (int m = 0; m < $m; m++)\n"
    "        __asm__(\"vdpbf16ps %2, %1, %0\" : \"+v\"(s[r][m]) : \"v\"(w), \"vm\"(*(const $name_h *)(a + m * $kL + k)));\n"
    "#else\n"
    "      const $name_v even = ($name_v)(w << 16), odd = ($name_v)(w & 0xFFFF0000u);\n"
    "      for (int m = 0; m < $m; m++) {\n"
    "        s[r][m] += even * *(const $name_u *)(a + m * $kL + k);\n"
    "        s[r][m] += odd * *(const $name_u *)(a + m * $kL + k + $name_LANES);\n"
    "      }\n"
    "#endif\n"
    "    }\n";

static const char sums_text[] =
    "  for (int r = 0; r < $count; r++)\n"
    "    for (int m = 0; m < $m; m++) {\n"
    "      float one = $name_sum(s[r][m]);\n"
    "      for (long i = k; i < $k; i++) one += $bone(b[(n + r * apart) * $kL + i]) * $name_one(a[m * $kL + i]);\n"
    "      x[(r * $m + m) * $name_RUN] = one;\n"
    "    }\n"
    "}\n";

static const char begin_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $btype *b = (const $btype *)buffers[1];\n"
    "  (void)scalars;\n";

// `a` as the blocks read it.
static const char order_text[] =
    "#if $dot\n"
    "  const uint16_t *a = (const uint16_t *)buffers[0];\n"
    "#else\n"
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
    "  }\n"
    "#endif\n";

static const char widen_text[] =
    "  float a[$m * $kL];\n"
    "  for (long i = 0; i < $m * $kL; i++) a[i] = $aload(((const $atype *)buffers[0])[i]);\n";

static const char main_text[] =
    "  const long apart = $n / $name_TOGETHER;\n"
    "$parallel"
    "  for (long n = 0; n < apart; n += $name_RUN) {\n"
    "    float x[$name_TOGETHER * $m * $name_RUN];\n"
    "    const long count = apart - n < $name_RUN ? apart - n : $name_RUN;\n"
    "    for (long i = 0; i < count; i++) $name_block(a, b, n + i, apart, x + i);\n"
    "    if (count == $name_RUN) $name_put(x, $name_TOGETHER, n, apart, $name_RUN, buffers);\n"
    "    else $name_put(x, $name_TOGETHER, n, apart, count, buffers);\n"
    "  }\n"
    "  for (long n = apart * $name_TOGETHER; n < $n; n++) {\n"
    "    float x[$m * $name_RUN];\n"
    "    $name_row(a, b, n, 0, x);\n"
    "    $name_put(x, 1, n, 0, 1, buffers);\n"
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

// The first two words are the function's name and how many rows of the weight it takes.
static void print_block(const TemplateWord *words, int count, bool half, LvText *out) {
    const char *const texts[] = {block_text, half ? half_text : float_text, sums_text};
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
    int64_t run = half_y && m > 1 ? HALF_RUN : 1;  // rounding to bf16 is dear one by one; what else there is to do, less so than waiting
    TemplateWord words[] = {{"block", "_row", 0}, {"count", NULL, 1}, {"name", name, 0}, {"m", NULL, m}, {"n", NULL, n},
                            {"nL", NULL, n}, {"k", NULL, k}, {"kL", NULL, k}, {"y", NULL, node->input_count},
                            {"run", NULL, run}, {"of32", NULL, together(m, SUMS_OF_32)}, {"of16", NULL, together(m, SUMS_OF_16)},
                            {"dot", half_a && half_b ? "defined(__AVX512BF16__)" : "0", 0},
                            {"atype", half_a ? "uint16_t" : "float", 0}, {"aload", half_a ? "lv_from_bf16" : "", 0},
                            {"btype", half_b ? "uint16_t" : "float", 0},
                            {"bone", half_b ? "lv_from_bf16" : "", 0},
                            {"ytype", half_y ? "uint16_t" : "float", 0}, {"ystore", half_y ? "lv_to_bf16(z)" : "z", 0},
                            {"finish", lv_text_get(&finish), 0},
                            {"parallel", parallel ? "#pragma omp parallel for schedule(static)\n" : "", 0}};
    int count = (int)(sizeof words / sizeof *words);
    LvText together_name = {0};
    lv_text_printf(&together_name, "%s_TOGETHER", name);
    template_fill(out, types_text, count, words);
    template_fill(out, input_text, count, words);
    print_block(words, count, half_b, out);
    words[0].text = "_block", words[1].text = lv_text_get(&together_name);
    print_block(words, count, half_b, out);
    template_fill(out, begin_text, count, words);
    if (half_b) template_fill(out, order_text, count, words);
    else if (half_a) template_fill(out, widen_text, count, words);
    else lv_text_puts(out, "  const float *a = (const float *)buffers[0];\n");
    template_fill(out, main_text, count, words);
    lv_text_free(&together_name);
    lv_text_free(&finish);
    return true;
}
