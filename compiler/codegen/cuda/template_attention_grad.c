// The gradient of attention on GPUs in f32 arithmetic, for every size and type: blocks that own 64 queries go over the keys for dq, and
// leave delta, the sums of dy y by row; then blocks that own 64 keys go over the queries for dk and dv. p is rebuilt from
// logsumexp in both, so that nothing is summed between blocks. On the tile of template_attention.c; widths over 256 in slices.
#include <stdlib.h>

#include "base/arena.h"
#include "codegen/cuda/template_attention.h"

static const char queries_text[] =
    "extern \"C\" __global__ void __launch_bounds__(256, 1) $name_0($parameters) {\n"
    "  __shared__ __align__(16) float weights[64 * $pitch], tile[$tile];\n"
    "  const int head = blockIdx.x / $tiles, row = ($tiles - 1 - blockIdx.x % $tiles) * $rows, slice = blockIdx.y * $slice;\n"
    "  const int ty = threadIdx.x / 16 * $tall, tx = threadIdx.x % 16 * 4, rows = $t - row < $rows ? $t - row : $rows;\n"
    "  if (head >= $heads || rows <= 0) return;\n"
    "$seeds"
    "  float *delta = (float *)scratch + (long long)head * $t + row;\n"
    "  y += ((long long)head * $t + row) * $e;\n"
    "  q += ((long long)head * $t + row) * $d, dy += ((long long)head * $t + row) * $e, lse += (long long)head * $t + row;\n"
    "  k += (long long)head * $s * $d, v += (long long)head * $s * $e;\n"
    "  float dqs[$tall][4 * $wides], s[$tall][4], ds[$tall][4], own[$tall], dot[$tall];\n"
    "  int reach[$tall];\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tall; i++) {\n"
    "    const bool there = ty + i < rows;\n"
    "    own[i] = there ? lse[ty + i] : 0.f, dot[i] = 0, reach[i] = there ? $name_reach($length, row + ty + i) : 0;\n"
    "    for (int n = tx / 4; there && n < $e; n += 16) dot[i] = fmaf($from(dy[(ty + i) * $e + n]), $from(y[(ty + i) * $e + n]), dot[i]);\n"
    "    dot[i] = lv_warp_sum(dot[i], 16);\n"
    "    if (there && tx == 0 && slice == 0) delta[ty + i] = dot[i];\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4 * $wides; j++) dqs[i][j] = 0;\n"
    "  }\n"
    "  const int last = $name_reach($length, row + rows - 1);\n"
    "  for (int first = 0; first < last; first += 64) {\n"
    "    const int count = last - first < 64 ? last - first : 64;\n"
    "    $name_products(q, rows, k + (long long)first * $d, count, $d, tile, s);\n"
    "    $name_products(dy, rows, v + (long long)first * $e, count, $e, tile, ds);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $tall; i++) {\n"
    "      float kept[4] = {1, 1, 1, 1};\n"
    "$drop"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) {\n"
    "        const float p = first + tx + j < reach[i] ? expf(s[i][j] * $scale - own[i]) : 0.f;\n"
    "        ds[i][j] = p * (ds[i][j] * kept[j] - dot[i]) * $scale;\n"
    "      }\n"
    "    }\n"
    "    $name_put(ds, weights);\n"
    "    $name_gather(weights, k + (long long)first * $d + slice, count, $d, $d - slice, tile, dqs);\n"
    "  }\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tall; i++)\n"
    "    if (ty + i < rows) $name_store(dqs[i], 1.f, dq + ((long long)head * $t + row + ty + i) * $d + slice, $d - slice);\n"
    "}\n";

static const char drop_queries_text[] =
    "      $name_kept4(seed, step, ((long long)head * $t + row + ty + i) * $s + first + tx, kept);\n";

static const char keys_text[] =
    "extern \"C\" __global__ void __launch_bounds__(256, 1) $name_1($parameters) {\n"
    "  __shared__ __align__(16) float weights[64 * $pitch], tile[$tile];\n"
    "  const int head = blockIdx.x / $tiles, row = blockIdx.x % $tiles * $rows, slice = blockIdx.y * $slice;\n"
    "  const int ty = threadIdx.x / 16 * $tall, tx = threadIdx.x % 16 * 4, rows = $s - row < $rows ? $s - row : $rows;\n"
    "  if (head >= $heads) return;\n"
    "$seeds"
    "  const float *delta = (const float *)scratch + (long long)head * $t;\n"
    "  q += (long long)head * $t * $d, dy += (long long)head * $t * $e, lse += (long long)head * $t;\n"
    "  k += ((long long)head * $s + row) * $d, v += ((long long)head * $s + row) * $e;\n"
    "  float dks[$tall][4 * $wides], dvs[$tall][4 * $wides], s[$tall][4], ds[$tall][4];\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tall; i++)\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4 * $wides; j++) dks[i][j] = dvs[i][j] = 0;\n"
    "  for (int first = $first; first < $t; first += 64) {\n"
    "    const int count = $t - first < 64 ? $t - first : 64;\n"
    "    $name_products(k, rows, q + (long long)first * $d, count, $d, tile, s);\n"
    "    $name_products(v, rows, dy + (long long)first * $e, count, $e, tile, ds);\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 4; j++) {\n"
    "      const int query = first + tx + j, reach = query < $t ? $name_reach($length, query) : 0;\n"
    "      const float own = query < $t ? lse[query] : 0.f, dot = query < $t ? delta[query] : 0.f;\n"
    "      float kept[$tall];\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $tall; i++) kept[i] = 1;\n"
    "$drop"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $tall; i++) {\n"
    "        const float p = row + ty + i < reach ? expf(s[i][j] * $scale - own) : 0.f;\n"
    "        ds[i][j] = p * (ds[i][j] * kept[i] - dot) * $scale;\n"
    "        s[i][j] = p * kept[i];\n"
    "      }\n"
    "    }\n"
    "    $name_put(s, weights);\n"
    "    $name_gather(weights, dy + (long long)first * $e + slice, count, $e, $e - slice, tile, dvs);\n"
    "    __syncthreads();\n"
    "    $name_put(ds, weights);\n"
    "    $name_gather(weights, q + (long long)first * $d + slice, count, $d, $d - slice, tile, dks);\n"
    "  }\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tall; i++) {\n"
    "    const long long at = (long long)head * $s + row + ty + i;\n"
    "    if (ty + i >= rows) continue;\n"
    "    $name_store(dks[i], 1.f, dk + at * $d + slice, $d - slice);\n"
    "    $name_store(dvs[i], 1.f, dv + at * $e + slice, $e - slice);\n"
    "  }\n"
    "}\n";

static const char drop_keys_text[] =
    "      #pragma unroll\n"
    "      for (int n = 0; n < $tall; n += 4) $name_kept4(seed, step, ((long long)head * $t + query) * $s + row + ty + n, kept + n);\n";

static const char parameters_text[] =
    "const $type *q, const $type *k, const $type *v, const $type *y, const float *lse, const $type *dy$inputs, $type *dq, $type *dk, $type *dv, "
    "char *scratch";

static char *filled(const AttentionShape *z, const char *name, const char *text) {
    LvText out = {0};
    if (*text) ATTENTION_FILL(z, name, text, &out, {"none", "", 0});
    return out.data ? out.data : lv_strdup("");
}

enum { NARROW_SLICE = 128 };  // with dropout registers do not hold 256

static void print_plain(const AttentionShape *z, const char *name, const char *parameters, LvText *out, CudaKernel *made) {
    int64_t widest = z->d > z->e ? z->d : z->e;
    AttentionTile tile = attention_tile(z, widest, z->dropout > 0 ? NARROW_SLICE : ATTENTION_SLICE);
    attention_print_tile(z, name, &tile, out);
    for (int i = 0; i < 2; i++) {
        LvText drop = {0};
        int64_t owned = i ? z->s : z->t, columns = i ? widest : z->d;
        if (z->dropout > 0) ATTENTION_FILL(z, name, i ? drop_keys_text : drop_queries_text, &drop, {"tall", NULL, tile.tall});
        attention_fill_tile(z, name, &tile, i ? keys_text : queries_text, owned, lv_text_get(&drop), parameters, out);
        cuda_push_launch(made, z->heads * ((owned + tile.rows - 1) / tile.rows), (columns + tile.slice - 1) / tile.slice, 1, ATTENTION_BLOCK, 0);
        lv_text_free(&drop);
    }
}

bool cuda_print_attention_grad(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    AttentionShape z = attention_shape(node);
    bool tensor_cores = attention_takes(&z) && attention_mma_grad_takes(&z, target);
    if (!attention_takes(&z) || !(tensor_cores || z.dense)) return false;
    if (!out) return true;
    char *parameters = filled(&z, name, parameters_text);
    attention_print_common(&z, name, out);
    cuda_take_scratch(made, 4 * z.heads * z.t);
    if (tensor_cores) attention_print_mma_grad(&z, target, name, parameters, out, made);
    else print_plain(&z, name, parameters, out, made);
    free(parameters);
    return true;
}
