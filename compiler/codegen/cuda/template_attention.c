// attention on GPUs without the T x S matrix, after FlashAttention-2 (Dao 2023): shapes, and the kernel in f32 arithmetic, which takes
// every size and type (template_attention_mma.c has the one for tensor cores).
//
// A block owns 64 queries of a head and goes over blocks of 64 keys: scores s = scale q k^T (4 x 4 a thread, by 16 channels at a time
// through shared memory), running maximum m and sum l, y = y exp(m_old - m) + p v with p through shared memory. Values wider than 256
// are cut into slices, each with a block of its own that computes the scores again. Dropped weights are drawn anew in each
// pass: the numbers depend on their place alone.
#include <stdio.h>

#include "codegen/cuda/template_attention.h"


AttentionShape attention_shape(const Node *node) {
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    return (AttentionShape){.node = node, .dtype = node->inputs[0]->dtype, .heads = q.dim[0] * q.dim[1], .t = q.dim[2], .s = v.dim[2],
                            .d = q.dim[3], .e = v.dim[3], .scale = node_float(node, ATTR_scale, 1),
                            .dropout = node_float(node, ATTR_dropout, 0), .stream = (uint32_t)node_int(node, ATTR_stream, 0),
                            .causal = node_bool(node, ATTR_causal, false), .has_length = node_bool(node, ATTR_length, false)};
}

bool attention_takes(const AttentionShape *z) {
    int64_t most = INT32_MAX / 2, rows = z->heads * (z->t > z->s ? z->t : z->s);
    if (!cuda_is_small_float(z->dtype) || !cuda_all_row_major(z->node)) return false;
    for (int i = 0; z->node->op == OP_attention_grad && i < 6; i++)
        if (i != 4 && z->node->inputs[i]->dtype != z->dtype) return false;
    return rows < most && z->t * z->d < most && z->t * z->e < most && z->s * z->d < most && z->s * z->e < most;
}

// ---- what all kernels share

static const char common_text[] =
    "static __device__ __forceinline__ int $name_reach(int length, int t) {\n"
    "  const int reach = $causal ? length - $t + t + 1 : length;\n"
    "  return reach < 1 ? 1 : reach < $s ? reach : $s;\n"
    "}\n";

// Consecutive weights share a draw of four numbers where rows are whole draws.
static const char dropout_text[] =
    "static __device__ __forceinline__ void $name_kept4(long long seed, int step, long long place, float *kept) {\n"
    "  if ($s % 4 == 0) {\n"
    "    unsigned w[4];\n"
    "    lv_philox((unsigned long long)seed, $stream, (unsigned)step, (unsigned long long)place / 4, w);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) kept[i] = (float)(int)(w[i] >> 8) * 0x1p-24f >= $dropout ? $keep : 0.f;\n"
    "  } else {\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) kept[i] = lv_uniform(seed, $stream, step, place + i) >= $dropout ? $keep : 0.f;\n"
    "  }\n"
    "}\n";

void attention_fill(const AttentionShape *z, const char *name, const char *text, int count, const TemplateWord *more, LvText *out) {
    char scale[48], fixed[32];
    snprintf(scale, sizeof scale, "((float)%.17g)", z->scale);
    snprintf(fixed, sizeof fixed, "%lld", (long long)(z->causal ? z->t : z->s));
    const char *length = z->has_length ? ", const int *length_at" : "";
    const char *seeds = z->dropout > 0 ? ", const long long *seed_at, const int *step_at" : "";
    LvText inputs = {0};
    lv_text_printf(&inputs, "%s%s", length, seeds);
    TemplateWord words[64] = {
        {"name", name, 0}, {"type", cuda_type(z->dtype), 0}, {"from", cuda_from(z->dtype), 0}, {"to", cuda_to(z->dtype), 0},
        {"heads", NULL, z->heads}, {"t", NULL, z->t}, {"s", NULL, z->s}, {"d", NULL, z->d}, {"e", NULL, z->e}, {"d1", NULL, z->d ? z->d : 1},
        {"e1", NULL, z->e ? z->e : 1}, {"scale", scale, 0}, {"causal", NULL, z->causal}, {"inputs", lv_text_get(&inputs), 0},
        {"length", z->has_length ? "*length_at" : fixed, 0},
        {"seeds", z->dropout > 0 ? "  const long long seed = *seed_at;\n  const int step = *step_at;\n" : "", 0},
        {"drops", NULL, z->dropout > 0},
    };
    int own = 0;
    while (words[own].word) own++;
    for (int i = 0; i < count; i++) words[own + i] = more[i];
    template_fill(out, text, own + count, words);
    lv_text_free(&inputs);
}

void attention_print_common(const AttentionShape *z, const char *name, LvText *out) {
    char below[48], keep[48], stream[24];
    ATTENTION_FILL(z, name, common_text, out, {"none", "", 0});
    if (z->dropout == 0) return;
    snprintf(below, sizeof below, "((float)%.17g)", z->dropout);
    snprintf(keep, sizeof keep, "((float)%.17g)", 1 / (1 - z->dropout));
    snprintf(stream, sizeof stream, "%uu", z->stream);
    ATTENTION_FILL(z, name, dropout_text, out, {"stream", stream, 0}, {"dropout", below, 0}, {"keep", keep, 0});
}

// ---- the tile: 64 x 64 products by 256 threads, 4 x 4 each: rows 4 (thread / 16) ..., columns 4 (thread % 16) ...

static const char tile_text[] =
    "// 4 elements of a row that has `valid` of them from p on; zeros behind\n"
    "static __device__ __forceinline__ void $name_four(const $type *p, int valid, bool aligned, float *x) {\n"
    "  if (aligned && valid >= 4) {\n"
    "$wide"
    "  } else {\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) x[i] = i < valid ? $from(p[i]) : 0.f;\n"
    "  }\n"
    "}\n"
    "static __device__ __forceinline__ bool $name_aligned(const $type *p, int width) {\n"
    "  return width % 4 == 0 && ((unsigned long long)p & 15) == 0;\n"
    "}\n"
    "// c = a b^T over `depth` channels; rows of either beyond their number count as zero. tile: [2][16][68]\n"
    "static __device__ __forceinline__ void $name_products(const $type *a, int rows, const $type *b, int columns, const int depth, float *tile, float c[4][4]) {\n"
    "  const int row = threadIdx.x / 4, channel = threadIdx.x % 4 * 4, ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;\n"
    "  const bool a_aligned = $name_aligned(a, depth), b_aligned = $name_aligned(b, depth);\n"
    "  float x[4], y[4];\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < 4; i++)\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4; j++) c[i][j] = 0;\n"
    "  if (depth == 0) return;\n"
    "  $name_four(a + (long long)row * depth + channel, row < rows ? depth - channel : 0, a_aligned, x);\n"
    "  $name_four(b + (long long)row * depth + channel, row < columns ? depth - channel : 0, b_aligned, y);\n"
    "  for (int first = 0; first < depth; first += 16) {\n"
    "    __syncthreads();\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) tile[(channel + i) * 68 + row] = x[i], tile[(16 + channel + i) * 68 + row] = y[i];\n"
    "    __syncthreads();\n"
    "    const int next = first + 16 + channel;\n"
    "    if (first + 16 < depth) {\n"
    "      $name_four(a + (long long)row * depth + next, row < rows ? depth - next : 0, a_aligned, x);\n"
    "      $name_four(b + (long long)row * depth + next, row < columns ? depth - next : 0, b_aligned, y);\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int k = 0; k < 16; k++) {\n"
    "      const float4 u = *(const float4 *)(tile + k * 68 + ty), v = *(const float4 *)(tile + (16 + k) * 68 + tx);\n"
    "      const float l[4] = {u.x, u.y, u.z, u.w}, r[4] = {v.x, v.y, v.z, v.w};\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < 4; i++)\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < 4; j++) c[i][j] = fmaf(l[i], r[j], c[i][j]);\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// weights [64 columns][68], the transpose of the tile, where $name_gather reads them\n"
    "static __device__ __forceinline__ void $name_put(const float c[4][4], float *weights) {\n"
    "  const int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;\n"
    "  #pragma unroll\n"
    "  for (int j = 0; j < 4; j++) *(float4 *)(weights + (tx + j) * 68 + ty) = make_float4(c[0][j], c[1][j], c[2][j], c[3][j]);\n"
    "}\n"
    "// sums (rows as in the tile, columns 4 (thread % 16) + 64 c ...) += weights^T m, of `count` rows of m, `width` wide of which `valid`\n"
    "// are there. tile: [16][64 $wides]\n"
    "static __device__ __forceinline__ void $name_gather(const float *weights, const $type *m, int count, const int width, int valid, float *tile, float sums[4][4 * $wides]) {\n"
    "  const int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;\n"
    "  const bool aligned = $name_aligned(m, width);\n"
    "  for (int first = 0; first < count; first += 16) {\n"
    "    __syncthreads();\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $wides; n++) {\n"
    "      const int at = n * 256 + threadIdx.x, row = at / (16 * $wides), column = at % (16 * $wides) * 4;\n"
    "      float x[4];\n"
    "      $name_four(m + (long long)(first + row) * width + column, first + row < count ? valid - column : 0, aligned, x);\n"
    "      *(float4 *)(tile + row * (64 * $wides) + column) = make_float4(x[0], x[1], x[2], x[3]);\n"
    "    }\n"
    "    __syncthreads();\n"
    "    #pragma unroll 4\n"
    "    for (int k = 0; k < 16; k++) {\n"
    "      const float4 u = *(const float4 *)(weights + (first + k) * 68 + ty);\n"
    "      const float l[4] = {u.x, u.y, u.z, u.w};\n"
    "      #pragma unroll\n"
    "      for (int c = 0; c < $wides; c++) {\n"
    "        const float4 v = *(const float4 *)(tile + k * (64 * $wides) + 64 * c + tx);\n"
    "        const float r[4] = {v.x, v.y, v.z, v.w};\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++)\n"
    "          #pragma unroll\n"
    "          for (int j = 0; j < 4; j++) sums[i][4 * c + j] = fmaf(l[i], r[j], sums[i][4 * c + j]);\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// row 4 (thread / 16) + i of the sums, times `factor`, to y, `valid` elements wide\n"
    "static __device__ __forceinline__ void $name_store(const float *sums, float factor, $type *y, int valid) {\n"
    "  const int tx = threadIdx.x % 16 * 4;\n"
    "  #pragma unroll\n"
    "  for (int c = 0; c < $wides; c++)\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4; j++)\n"
    "      if (64 * c + tx + j < valid) y[64 * c + tx + j] = $to(sums[4 * c + j] * factor);\n"
    "}\n";

static int64_t wides_of(int64_t columns) {
    if (columns > ATTENTION_SLICE) columns = ATTENTION_SLICE;
    return columns > 64 ? (columns + 63) / 64 : 1;
}

void attention_print_tile(const AttentionShape *z, const char *name, int64_t columns, LvText *out) {
    LvText wide = {0};
    cuda_print_load(z->dtype, 4, "x", "p", &wide);
    ATTENTION_FILL(z, name, tile_text, out, {"wide", lv_text_get(&wide), 0}, {"wides", NULL, wides_of(columns)});
    lv_text_free(&wide);
}

// ---- forward

static const char forward_text[] =
    "extern \"C\" __global__ void $name_0(const $type *q, const $type *k, const $type *v$inputs, $type *y, float *lse, char *scratch) {\n"
    "  __shared__ __align__(16) float weights[64 * 68], tile[$tile];\n"
    "  const int head = blockIdx.x / $tiles, row = ($tiles - 1 - blockIdx.x % $tiles) * 64, slice = blockIdx.y * 256;\n"
    "  const int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4, rows = $t - row < 64 ? $t - row : 64, length = $length;\n"
    "  if (head >= $heads || rows <= 0) return;\n"
    "$seeds"
    "  q += ((long long)head * $t + row) * $d, k += (long long)head * $s * $d, v += (long long)head * $s * $e + slice;\n"
    "  float sums[4][4 * $wides], s[4][4], top[4], sum[4];\n"
    "  int reach[4];\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < 4; i++) {\n"
    "    top[i] = -1e30f, sum[i] = 0, reach[i] = $name_reach(length, row + ty + i);\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4 * $wides; j++) sums[i][j] = 0;\n"
    "  }\n"
    "  const int last = $name_reach(length, row + rows - 1);\n"
    "  for (int first = 0; first < last; first += 64) {\n"
    "    const int count = last - first < 64 ? last - first : 64;\n"
    "    $name_products(q, rows, k + (long long)first * $d, count, $d, tile, s);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) {\n"
    "      float most = top[i];\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) {\n"
    "        s[i][j] *= $scale;\n"
    "        if (first + tx + j < reach[i]) most = fmaxf(most, s[i][j]);\n"
    "      }\n"
    "      most = lv_warp_max(most, 16);\n"
    "      const float factor = expf(top[i] - most);\n"
    "      top[i] = most, sum[i] *= factor;\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) {\n"
    "        s[i][j] = first + tx + j < reach[i] ? expf(s[i][j] - most) : 0.f;\n"
    "        sum[i] += s[i][j];\n"
    "      }\n"
    "$drop"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4 * $wides; j++) sums[i][j] *= factor;\n"
    "    }\n"
    "    $name_put(s, weights);\n"
    "    $name_gather(weights, v + (long long)first * $e, count, $e, $e - slice, tile, sums);\n"
    "  }\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < 4; i++) {\n"
    "    const float all = lv_warp_sum(sum[i], 16);\n"
    "    const long long at = (long long)head * $t + row + ty + i;\n"
    "    if (ty + i >= rows) continue;\n"
    "    $name_store(sums[i], 1 / all, y + at * $e + slice, $e - slice);\n"
    "    if (tx == 0 && slice == 0) lse[at] = top[i] + logf(all);\n"
    "  }\n"
    "}\n";

static const char drop_text[] =
    "      float kept[4];\n"
    "      $name_kept4(seed, step, ((long long)head * $t + row + ty + i) * $s + first + tx, kept);\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) s[i][j] *= kept[j];\n";

bool cuda_print_attention(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    AttentionShape z = attention_shape(node);
    if (!attention_takes(&z)) return false;
    if (!out) return true;
    if (attention_mma_takes(&z, target)) {
        attention_print_mma_forward(&z, name, out, made);
        return true;
    }
    int64_t wides = wides_of(z.e), slices = z.e > ATTENTION_SLICE ? (z.e + ATTENTION_SLICE - 1) / ATTENTION_SLICE : 1;
    int64_t tile = 16 * 64 * wides, least = 2 * 16 * 68, tiles = (z.t + ATTENTION_TILE - 1) / ATTENTION_TILE;
    LvText drop = {0};
    if (z.dropout > 0) ATTENTION_FILL(&z, name, drop_text, &drop, {"none", "", 0});
    attention_print_common(&z, name, out);
    attention_print_tile(&z, name, z.e, out);
    ATTENTION_FILL(&z, name, forward_text, out, {"wides", NULL, wides}, {"tile", NULL, tile > least ? tile : least},
                   {"tiles", NULL, tiles ? tiles : 1}, {"drop", lv_text_get(&drop), 0});
    cuda_push_launch(made, z.heads * tiles, slices, 1, ATTENTION_BLOCK, 0);
    lv_text_free(&drop);
    return true;
}
