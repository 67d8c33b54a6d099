// attention on GPUs without the T x S matrix, after FlashAttention-2 (Dao 2023): shapes, and the kernel in f32 arithmetic, which takes
// every size and type (template_attention_mma.c has the one for tensor cores).
//
// A block owns 64 or 128 queries of a head and goes over blocks of 64 keys: scores s = scale q k^T (4 or 8 x 4 a thread, by 16 channels
// at a time through shared memory), running maximum m and sum l, y = y exp(m_old - m) + p v with p through shared memory. Values wider than 256
// are cut into slices, each with a block of its own that computes the scores again. Dropped weights are drawn anew in each
// pass: the numbers depend on their place alone.
#include <stdio.h>

#include "codegen/cuda/template_attention.h"
#include "ops/op.h"


static AttentionRows rows_of(const Value *value, bool *beside) {
    int64_t stride[LV_MAX_RANK];
    lv_layout_strides(value->layout, value->shape, stride);
    *beside &= value->layout.block <= 1 && (stride[3] == 1 || value->shape.dim[3] <= 1);
    return (AttentionRows){stride[0], stride[1], stride[2]};
}

bool attention_rows_fit(const AttentionRows *rows, int64_t elements) {
    return rows->batch % elements == 0 && rows->head % elements == 0 && rows->row % elements == 0;
}

AttentionShape attention_shape(const Node *node) {
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    AttentionShape z = {.node = node, .dtype = node->inputs[0]->dtype, .heads = q.dim[0] * q.dim[1], .t = q.dim[2], .s = v.dim[2],
                        .d = q.dim[3], .e = v.dim[3], .scale = node_float(node, ATTR_scale, 1), .batch_heads = q.dim[1] ? q.dim[1] : 1,
                        .dropout = node_float(node, ATTR_dropout, 0), .stream = (uint32_t)node_int(node, ATTR_stream, 0),
                        .causal = node_bool(node, ATTR_causal, false), .has_length = node_bool(node, ATTR_length, false),
                        .dense = cuda_all_row_major(node), .beside = true};
    AttentionRows *inputs[6] = {&z.q, &z.k, &z.v, &z.y, NULL, &z.dy}, *results[3] = {&z.dq, &z.dk, &z.dv};
    bool grad = node->op == OP_attention_grad;
    for (int i = 0; i < (grad ? 6 : 3); i++)
        if (inputs[i]) *inputs[i] = rows_of(node->inputs[i], &z.beside);
    if (!grad) results[0] = &z.y;
    for (int i = 0; i < (grad ? 3 : 1); i++) *results[i] = rows_of(&node->results[i], &z.beside);
    return z;
}

bool attention_takes(const AttentionShape *z) {
    int64_t most = INT32_MAX / 2, rows = z->heads * (z->t > z->s ? z->t : z->s);
    if (!cuda_is_small_float(z->dtype) || !z->beside) return false;
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
    const struct {
        const char *at, *row;
        const AttentionRows *rows;
    } operands[] = {{"qat", "qrow", &z->q},    {"kat", "krow", &z->k},    {"vat", "vrow", &z->v},    {"yat", "yrow", &z->y},
                    {"dyat", "dyrow", &z->dy}, {"dqat", "dqrow", &z->dq}, {"dkat", "dkrow", &z->dk}, {"dvat", "dvrow", &z->dv}};
    char places[8][96];
    int own = 0;
    while (words[own].word) own++;
    for (int i = 0; i < 8; i++) {
        const AttentionRows *rows = operands[i].rows;
        long long batch = rows->batch, head = rows->head, heads = z->batch_heads;
        if (batch == heads * head) snprintf(places[i], sizeof places[i], "(long long)head * %lld", head);
        else snprintf(places[i], sizeof places[i], "((long long)(head / %lld) * %lld + head %% %lld * %lldLL)", heads, batch, heads, head);
        words[own++] = (TemplateWord){operands[i].at, places[i], 0};
        words[own++] = (TemplateWord){operands[i].row, NULL, rows->row};
    }
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

// ---- the tile: $rows x 64 products by 256 threads, $tall (4 or 8) x 4 each: rows $tall (thread / 16) ..., columns 4 (thread % 16) ...

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
    "// c = a b^T over `depth` channels; rows of either beyond their number count as zero. tile: [16][$pitch] and [16][68]\n"
    "static __device__ __forceinline__ void $name_products(const $type *a, int rows, const $type *b, int columns, const int depth,\n"
    "                                                     float *tile, float c[$tall][4]) {\n"
    "  const int row = threadIdx.x / 4, channel = threadIdx.x % 4 * 4, ty = threadIdx.x / 16 * $tall, tx = threadIdx.x % 16 * 4;\n"
    "  const bool a_aligned = $name_aligned(a, depth), b_aligned = $name_aligned(b, depth);\n"
    "  float x[$tall / 4][4], y[4], *other = tile + 16 * $pitch;\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tall; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;\n"
    "  if (depth == 0) return;\n"
    "  #pragma unroll\n"
    "  for (int n = 0; n < $tall / 4; n++)\n"
    "    $name_four(a + (long long)(row + 64 * n) * depth + channel, row + 64 * n < rows ? depth - channel : 0, a_aligned, x[n]);\n"
    "  $name_four(b + (long long)row * depth + channel, row < columns ? depth - channel : 0, b_aligned, y);\n"
    "  for (int first = 0; first < depth; first += 16) {\n"
    "    __syncthreads();\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) {\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $tall / 4; n++) tile[(channel + i) * $pitch + row + 64 * n] = x[n][i];\n"
    "      other[(channel + i) * 68 + row] = y[i];\n"
    "    }\n"
    "    __syncthreads();\n"
    "    const int next = first + 16 + channel;\n"
    "    if (first + 16 < depth) {\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $tall / 4; n++)\n"
    "        $name_four(a + (long long)(row + 64 * n) * depth + next, row + 64 * n < rows ? depth - next : 0, a_aligned, x[n]);\n"
    "      $name_four(b + (long long)row * depth + next, row < columns ? depth - next : 0, b_aligned, y);\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int k = 0; k < 16; k++) {\n"
    "      float l[$tall], r[4];\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $tall; n += 4) lv_load4(l + n, tile + k * $pitch + ty + n);\n"
    "      lv_load4(r, other + k * 68 + tx);\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $tall; i++)\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < 4; j++) c[i][j] = fmaf(l[i], r[j], c[i][j]);\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// weights [64 columns][$pitch], the transpose of the tile, where $name_gather reads them\n"
    "static __device__ __forceinline__ void $name_put(const float c[$tall][4], float *weights) {\n"
    "  const int ty = threadIdx.x / 16 * $tall, tx = threadIdx.x % 16 * 4;\n"
    "  #pragma unroll\n"
    "  for (int j = 0; j < 4; j++)\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $tall; n += 4)\n"
    "      *(float4 *)(weights + (tx + j) * $pitch + ty + n) = make_float4(c[n][j], c[n + 1][j], c[n + 2][j], c[n + 3][j]);\n"
    "}\n"
    "// sums (rows as in the tile, columns 4 (thread % 16) + 64 c ...) += weights^T m, of `count` rows of m, `width` wide of which `valid`\n"
    "// are there. tile: [16][64 $wides]\n"
    "static __device__ __forceinline__ void $name_gather(const float *weights, const $type *m, int count, const int width, int valid,\n"
    "                                                   float *tile, float sums[$tall][4 * $wides]) {\n"
    "  const int ty = threadIdx.x / 16 * $tall, tx = threadIdx.x % 16 * 4;\n"
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
    "      float l[$tall];\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $tall; n += 4) lv_load4(l + n, weights + (first + k) * $pitch + ty + n);\n"
    "      #pragma unroll\n"
    "      for (int c = 0; c < $wides; c++) {\n"
    "        float r[4];\n"
    "        lv_load4(r, tile + k * (64 * $wides) + 64 * c + tx);\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < $tall; i++)\n"
    "          #pragma unroll\n"
    "          for (int j = 0; j < 4; j++) sums[i][4 * c + j] = fmaf(l[i], r[j], sums[i][4 * c + j]);\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// row $tall (thread / 16) + i of the sums, times `factor`, to y, `valid` elements wide\n"
    "static __device__ __forceinline__ void $name_store(const float *sums, float factor, $type *y, int valid) {\n"
    "  const int tx = threadIdx.x % 16 * 4;\n"
    "  #pragma unroll\n"
    "  for (int c = 0; c < $wides; c++)\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4; j++)\n"
    "      if (64 * c + tx + j < valid) y[64 * c + tx + j] = $to(sums[4 * c + j] * factor);\n"
    "}\n";

enum { FEW_BLOCKS = 128 };  // with fewer, blocks are the smaller ones

AttentionTile attention_tile(const AttentionShape *z, int64_t columns, int64_t slice) {
    bool grad = z->node->op == OP_attention_grad;
    int64_t shorter = grad && z->s < z->t ? z->s : z->t;
    AttentionTile a = {.slice = slice, .wides = columns <= 64 ? 1 : ((columns < slice ? columns : slice) + 63) / 64};
    a.tall = z->dropout == 0 && a.wides <= (grad ? 1 : 2) && z->heads * ((shorter + 127) / 128) >= FEW_BLOCKS ? 8 : 4;
    a.rows = 16 * a.tall, a.pitch = a.rows + 4;
    int64_t products = 16 * (a.pitch + 68), gathers = 16 * 64 * a.wides;
    a.room = products > gathers ? products : gathers;
    return a;
}

void attention_fill_tile(const AttentionShape *z, const char *name, const AttentionTile *a, const char *text, int64_t owned, const char *drop,
                         const char *parameters, LvText *out) {
    LvText wide = {0};
    cuda_print_load(z->dtype, 4, "x", "p", &wide);
    ATTENTION_FILL(z, name, text, out, {"wide", lv_text_get(&wide), 0}, {"wides", NULL, a->wides}, {"tall", NULL, a->tall},
                   {"rows", NULL, a->rows}, {"pitch", NULL, a->pitch}, {"tile", NULL, a->room}, {"slice", NULL, a->slice},
                   {"tiles", NULL, owned ? (owned + a->rows - 1) / a->rows : 1}, {"drop", drop, 0}, {"parameters", parameters, 0},
                   {"first", z->causal ? "row / 64 * 64" : "0", 0});
    lv_text_free(&wide);
}

void attention_print_tile(const AttentionShape *z, const char *name, const AttentionTile *a, LvText *out) {
    attention_fill_tile(z, name, a, tile_text, 0, "", "", out);
}

// ---- forward

static const char forward_text[] =
    "extern \"C\" __global__ void __launch_bounds__(256, 1) $name_0(const $type *q, const $type *k, const $type *v$inputs, $type *y, float *lse, char *scratch) {\n"
    "  __shared__ __align__(16) float weights[64 * $pitch], tile[$tile];\n"
    "  const int head = blockIdx.x / $tiles, row = ($tiles - 1 - blockIdx.x % $tiles) * $rows, slice = blockIdx.y * $slice;\n"
    "  const int ty = threadIdx.x / 16 * $tall, tx = threadIdx.x % 16 * 4, rows = $t - row < $rows ? $t - row : $rows, length = $length;\n"
    "  if (head >= $heads || rows <= 0) return;\n"
    "$seeds"
    "  q += ((long long)head * $t + row) * $d, k += (long long)head * $s * $d, v += (long long)head * $s * $e + slice;\n"
    "  float sums[$tall][4 * $wides], s[$tall][4], top[$tall], sum[$tall];\n"
    "  int reach[$tall];\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tall; i++) {\n"
    "    top[i] = -1e30f, sum[i] = 0, reach[i] = $name_reach(length, row + ty + i);\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4 * $wides; j++) sums[i][j] = 0;\n"
    "  }\n"
    "  const int last = $name_reach(length, row + rows - 1);\n"
    "  for (int first = 0; first < last; first += 64) {\n"
    "    const int count = last - first < 64 ? last - first : 64;\n"
    "    $name_products(q, rows, k + (long long)first * $d, count, $d, tile, s);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $tall; i++) {\n"
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
    "  for (int i = 0; i < $tall; i++) {\n"
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
    bool tensor_cores = attention_takes(&z) && attention_mma_takes(&z, target);
    if (!attention_takes(&z) || !(tensor_cores || z.dense)) return false;
    if (!out) return true;
    if (tensor_cores) {
        attention_print_mma_forward(&z, name, out, made);
        return true;
    }
    AttentionTile tile = attention_tile(&z, z.e, ATTENTION_SLICE);
    LvText drop = {0};
    if (z.dropout > 0) ATTENTION_FILL(&z, name, drop_text, &drop, {"none", "", 0});
    attention_print_common(&z, name, out);
    attention_print_tile(&z, name, &tile, out);
    attention_fill_tile(&z, name, &tile, forward_text, z.t, lv_text_get(&drop), "", out);
    cuda_push_launch(made, z.heads * ((z.t + tile.rows - 1) / tile.rows), (z.e + tile.slice - 1) / tile.slice, 1, ATTENTION_BLOCK, 0);
    lv_text_free(&drop);
    return true;
}
