// Products of a few rows with a weight: y[m][n] = activation(alpha sum over k of a[m][k] b[n][k] + bias[n]) + residual[m][n].
//
// With few rows the weight is all there is to read, once: threads share its rows, and blocks of them are multiplied with all rows of
// `a` at a time, by vectors along k. bf16 operands are widened as they are read (of `a` beforehand); sums are f32. A sum's order
// depends on nothing but K.
#include <stdio.h>

#include "base/plan.h"
#include "codegen/c/template_text.h"

// Rows of the weight that are read together, by rows of `a`: as many sums as registers of 16 hold.
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
    "typedef uint16_t $name_h __attribute__((vector_size(2 * $name_LANES), aligned(2), may_alias));\n"
    "typedef uint32_t $name_w __attribute__((vector_size(4 * $name_LANES)));\n"
    "LV_F float $name_sum($name_v a) {\n"
    "  union { $name_v v; $name_four four[$name_LANES / 4]; } u = {a};\n"
    "  $name_four s = u.four[0];\n"
    "  for (int i = 1; i < $name_LANES / 4; i++) s += u.four[i];\n"
    "  return (s[0] + s[1]) + (s[2] + s[3]);\n"
    "}\n"
    "LV_F float $name_one(const $btype *b) { return $bone; }\n"
    "LV_F $name_v $name_load(const $btype *b) { return $bload; }\n"
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
    "  long k = 0;\n"
    "  for (; k + $name_LANES <= $k; k += $name_LANES)\n"
    "    for (int r = 0; r < $count; r++) {\n"
    "      const $name_v x = $name_load(b + (n + r) * $kL + k);\n"
    "      for (int m = 0; m < $m; m++) s[r][m] += x * *(const $name_u *)(a + m * $kL + k);\n"
    "    }\n"
    "  for (int r = 0; r < $count; r++)\n"
    "    for (int m = 0; m < $m; m++) {\n"
    "      float x = $name_sum(s[r][m]);\n"
    "      for (long i = k; i < $k; i++) x += $name_one(b + (n + r) * $kL + i) * a[m * $kL + i];\n"
    "      x = $name_finish(x, m, n + r, buffers);\n"
    "      (($ytype *)buffers[$y])[m * $nL + n + r] = $ystore;\n"
    "    }\n"
    "}\n";

static const char main_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $btype *b = (const $btype *)buffers[1];\n"
    "  (void)scalars;\n"
    "$widen"
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
    if (node->results[0].shape.rank != 2 || node_bool(node, ATTR_transpose_a, false) || !node_bool(node, ATTR_transpose_b, false)) return false;
    for (int i = 0; i < node->input_count; i++)
        if (!is_plain(node->inputs[i])) return false;
    int64_t rows = rows_of(node), k = node->inputs[0]->shape.dim[1];
    return is_plain(&node->results[0]) && rows >= 1 && rows <= MAX_ROWS && k >= 1 && rows * k <= MAX_WIDE;
}

// The epilogue, a statement a line; operands after a and b: bias, residual.
static void print_finish(const Node *node, LvText *out) {
    int at = 2;
    double alpha = node_float(node, ATTR_scale, 1);
    if (alpha != 1) lv_text_printf(out, "  x *= (float)%.17g;\n", alpha);
    if (node_bool(node, ATTR_bias, false)) {
        bool half = node->inputs[at]->dtype == LV_BF16;
        lv_text_printf(out, half ? "  x += lv_from_bf16(((const uint16_t *)buffers[%d])[n]);\n" : "  x += ((const float *)buffers[%d])[n];\n", at);
        at++;
    }
    switch (node_int(node, ATTR_activation, LV_ACTIVATION_NONE)) {
    case LV_ACTIVATION_RELU: lv_text_puts(out, "  x = x > 0 ? x : 0;\n"); break;
    case LV_ACTIVATION_SWISH: lv_text_puts(out, "  x = x / (1 + lv_exp(-x));\n"); break;
    case LV_ACTIVATION_GELU: lv_text_puts(out, "  x = 0.5f * x * (1 + lv_erf(x * 0.70710678118654752f));\n"); break;
    default: break;
    }
    if (node_bool(node, ATTR_residual, false)) {
        bool half = node->inputs[at]->dtype == LV_BF16;
        lv_text_printf(out, half ? "  x += lv_from_bf16(((const uint16_t *)buffers[%d])[m * %lldL + n]);\n" : "  x += ((const float *)buffers[%d])[m * %lldL + n];\n",
                       at, (long long)node->results[0].shape.dim[1]);
    }
}

static void print_widen(const Node *node, LvText *out) {
    if (node->inputs[0]->dtype == LV_F32) {
        lv_text_puts(out, "  const float *a = (const float *)buffers[0];\n");
        return;
    }
    long long count = (long long)(rows_of(node) * node->inputs[0]->shape.dim[1]);
    lv_text_printf(out, "  float a[%lld];\n  for (long i = 0; i < %lld; i++) a[i] = lv_from_bf16(((const uint16_t *)buffers[0])[i]);\n", count, count);
}

bool print_matvec(const Node *node, const char *name, LvText *out) {
    if (!takes(node)) return false;
    if (!out) return true;
    int64_t m = rows_of(node), n = node->results[0].shape.dim[1], k = node->inputs[0]->shape.dim[1];
    bool half_b = node->inputs[1]->dtype == LV_BF16, half_y = node->results[0].dtype == LV_BF16;
    LvText finish = {0}, widen = {0}, load = {0};
    print_finish(node, &finish);
    print_widen(node, &widen);
    if (half_b) lv_text_printf(&load, "($tag_v)(__builtin_convertvector(*(const $tag_h *)b, $tag_w) << 16)");
    else lv_text_puts(&load, "*(const $tag_u *)b");
    LvText named = {0};
    template_fill(&named, lv_text_get(&load), 1, (TemplateWord[]){{"tag", name, 0}});
    const char *parallel = n * k * (int64_t)lv_dtype_size(node->inputs[1]->dtype) >= TEMPLATE_PARALLEL ? "#pragma omp parallel for schedule(static)\n" : "";
    const TemplateWord words[] = {{"name", name, 0}, {"m", NULL, m}, {"n", NULL, n}, {"nL", NULL, n}, {"k", NULL, k}, {"kL", NULL, k},
                                  {"count", NULL, together[m]}, {"y", NULL, node->input_count}, {"btype", half_b ? "uint16_t" : "float", 0},
                                  {"ytype", half_y ? "uint16_t" : "float", 0}, {"ystore", half_y ? "lv_to_bf16(x)" : "x", 0},
                                  {"bone", half_b ? "lv_from_bf16(*b)" : "*b", 0}, {"bload", lv_text_get(&named), 0},
                                  {"finish", lv_text_get(&finish), 0}, {"widen", lv_text_get(&widen), 0}, {"parallel", parallel, 0}};
    int count = (int)(sizeof words / sizeof *words);
    TemplateWord single[sizeof words / sizeof *words];
    for (int i = 0; i < count; i++) single[i] = words[i];
    single[6].number = 1;
    template_fill(out, types_text, count, words);
    template_fill(out, block_text, count, single);
    if (together[m] > 1) template_fill(out, block_text, count, words);
    template_fill(out, main_text, count, words);
    lv_text_free(&finish), lv_text_free(&widen), lv_text_free(&load), lv_text_free(&named);
    return true;
}
