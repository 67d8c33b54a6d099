// Products of a few rows with a weight: y[m][n] = activation(alpha sum over k of a[m][k] b[n][k] + bias[n]) + residual[m][n].
//
// With few rows the weight is all there is to read, once, and many loads must be under way to read it at memory's speed: a group of
// WIDE rows of the weight belongs to `warps` warps that share its k, each lane taking pieces of 16 bytes, and all rows of `a`, which
// stay in cache, are multiplied with a piece while it is in registers. Lanes and warps add up in a fixed tree.
#include <stdio.h>

#include "codegen/cuda/templates.h"

enum { MAX_ROWS = 8, MAX_WIDE = 1 << 16, BLOCK = 256, ENOUGH_WARPS = 16384 };

static const char kernel_text[] =
    "static __device__ __forceinline__ float $name_finish(float x, int m, long long n$operands) {\n"
    "$finish"
    "  return x;\n"
    "}\n"
    "// $piece elements of a row from k on\n"
    "static __device__ __forceinline__ void $name_b(const $btype *b, bool aligned, float *x) {\n"
    "  if (aligned) {\n"
    "$bwide"
    "  } else for (int i = 0; i < $piece; i++) x[i] = $bfrom(b[i]);\n"
    "}\n"
    "static __device__ __forceinline__ void $name_a(const $atype *a, bool aligned, float *x) {\n"
    "  if (aligned) {\n"
    "$awide"
    "  } else for (int i = 0; i < $piece; i++) x[i] = $afrom(a[i]);\n"
    "}\n"
    "extern \"C\" __global__ void $name_0(const $atype *a, const $btype *b$operands, $ytype *y, char *scratch) {\n"
    "  __shared__ float parts[$block / 32][$m * $wide];\n"
    "  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = warp % $warps;\n"
    "  const long long n = ((long long)blockIdx.x * ($block / 32 / $warps) + warp / $warps) * $wide;\n"
    "  const bool a_aligned = ((unsigned long long)a & 15) == 0, b_aligned = ((unsigned long long)b & 15) == 0;\n"
    "  float s[$m][$wide];\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $m; m++)\n"
    "    #pragma unroll\n"
    "    for (int r = 0; r < $wide; r++) s[m][r] = 0;\n"
    "  #pragma unroll $unroll\n"
    "  for (int k = (own * 32 + lane) * $piece; k < $reach; k += $warps * 32 * $piece) {\n"
    "    float w[$wide][$piece];\n"
    "    #pragma unroll\n"
    "    for (int r = 0; r < $wide; r++) $name_b(b + (n + r < $n ? n + r : $n - 1) * $k + k, b_aligned, w[r]);\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $m; m++) {\n"
    "      float x[$piece];\n"
    "      $name_a(a + m * $k + k, a_aligned, x);\n"
    "      #pragma unroll\n"
    "      for (int r = 0; r < $wide; r++)\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < $piece; i++) s[m][r] = fmaf(x[i], w[r][i], s[m][r]);\n"
    "    }\n"
    "  }\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $m; m++)\n"
    "    #pragma unroll\n"
    "    for (int r = 0; r < $wide; r++) {\n"
    "      const float sum = lv_warp_sum(s[m][r]);\n"
    "      if (lane == 0) parts[warp][m * $wide + r] = sum;\n"
    "    }\n"
    "  __syncthreads();\n"
    "  const int m = lane / $wide;\n"
    "  const long long column = n + lane % $wide;\n"
    "  if (own != 0 || m >= $m || column >= $n) return;\n"
    "  float sum = parts[warp][lane];\n"
    "  for (int w = 1; w < $warps; w++) sum += parts[warp + w][lane];\n"
    "  y[m * (long long)$n + column] = $yto($name_finish(sum, m, column$arguments));\n"
    "}\n";

static bool is_plain(const Value *v) { return cuda_is_small_float(v->dtype) && lv_layout_is_row_major(v->layout, v->shape.rank); }

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
    lv_text_printf(out, "  x += %s(e%d[%s]);\n", cuda_from(node->inputs[operand]->dtype), operand, index);
}

// Rows of the weight together, so that a piece of `a` is loaded for several; warps that share a row's k, as many as its length
// feeds and as are wanted to have enough loads under way.
static int warps_of(int64_t n, int64_t k, int wide, int piece) {
    int warps = 1;
    while (warps < BLOCK / 32 && k >= 2 * warps * 32 * piece && (n + wide - 1) / wide * warps < ENOUGH_WARPS) warps *= 2;
    return warps;
}

bool cuda_print_matvec(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    (void)target;
    if (!takes(node)) return false;
    if (!out) return true;
    int64_t m = rows_of(node), n = node->results[0].shape.dim[1], k = node->inputs[0]->shape.dim[1];
    LvDType a = node->inputs[0]->dtype, b = node->inputs[1]->dtype, y = node->results[0].dtype;
    int piece = b == LV_F32 ? 4 : 8, wide = m <= 2 ? 2 : 4;
    if (k % piece) piece = 1;
    int warps = warps_of(n, k, wide, piece);
    LvText finish = {0}, operands = {0}, arguments = {0}, awide = {0}, bwide = {0};
    template_put_epilogue(node, print_add, &finish);
    for (int i = 2; i < node->input_count; i++) {
        lv_text_printf(&operands, ", const %s *e%d", cuda_type(node->inputs[i]->dtype), i);
        lv_text_printf(&arguments, ", e%d", i);
    }
    cuda_print_load(a, piece, "x", "a", &awide);
    cuda_print_load(b, piece, "x", "b", &bwide);
    TEMPLATE_FILL(out, kernel_text, {"name", name, 0}, {"m", NULL, m}, {"n", NULL, n}, {"k", NULL, k}, {"piece", NULL, piece},
                  {"reach", NULL, n ? k : 0},
                  {"wide", NULL, wide}, {"warps", NULL, warps}, {"block", NULL, BLOCK}, {"unroll", NULL, m <= 2 ? 4 : 2},
                  {"atype", cuda_type(a), 0}, {"btype", cuda_type(b), 0}, {"ytype", cuda_type(y), 0}, {"afrom", cuda_from(a), 0},
                  {"bfrom", cuda_from(b), 0}, {"yto", cuda_to(y), 0}, {"finish", lv_text_get(&finish), 0},
                  {"operands", lv_text_get(&operands), 0},
                  {"arguments", lv_text_get(&arguments), 0}, {"awide", lv_text_get(&awide), 0}, {"bwide", lv_text_get(&bwide), 0});
    int64_t groups = (n + wide - 1) / wide, of_block = BLOCK / 32 / warps;
    cuda_push_launch(made, (groups + of_block - 1) / of_block, 1, 1, BLOCK, 0);
    lv_text_free(&finish), lv_text_free(&operands), lv_text_free(&arguments);
    lv_text_free(&awide), lv_text_free(&bwide);
    return true;
}
