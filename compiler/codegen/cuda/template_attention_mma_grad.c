// The gradient of attention on tensor cores, for bf16 and f16, after FlashAttention-2 (Dao 2023): dq and delta = sums of dy y by row,
// then dk and dv, as in template_attention_grad.c.
//
// For dk and dv a warp owns keys: it makes the transposed scores k q^T and v dy^T, whose results lie in the lanes as the left
// side of dv += p^T dy and dk += ds^T q; queries and their dy stand once in shared memory for both uses. For dq a warp owns queries,
// and keys and values take their place. Sums wider than 128 are cut into slices, whose blocks make the scores again. Where
// shared memory allows it there are two buffers, and the next rows are on their way while these are multiplied.
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "codegen/cuda/template_attention.h"

static const char queries_text[] =
    "static __device__ __forceinline__ void $name_eight(const $type *p, int valid, bool aligned, float *x) {\n"
    "  if (aligned) {\n"
    "$eight"
    "  } else {\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 8; i++) x[i] = i < valid ? $from(p[i]) : 0.f;\n"
    "  }\n"
    "}\n"
    "// a b over a row, by four lanes\n"
    "static __device__ __forceinline__ float $name_dot(const $type *a, const $type *b) {\n"
    "  const bool aligned = $e % 8 == 0 && (((unsigned long long)a | (unsigned long long)b) & 15) == 0;\n"
    "  float sum = 0;\n"
    "  for (int i = threadIdx.x % 4 * 8; i < $e; i += 32) {\n"
    "    float x[8], y[8];\n"
    "    $name_eight(a + i, $e - i, aligned, x), $name_eight(b + i, $e - i, aligned, y);\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < 8; n++) sum = fmaf(x[n], y[n], sum);\n"
    "  }\n"
    "  return lv_warp_sum(sum, 4);\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__($threads, 2) $name_0($parameters) {\n"
    "  LV_SHARED(unsigned short, shared);\n"
    "  unsigned short *qs = shared, *dys = qs + $rows * $pitchd, *ks = dys + $rows * $pitche, *vs = ks + $buffers * $columns * $pitchd;\n"
    "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4 * 2;\n"
    "  const int head = blockIdx.x / $tiles, row = ($tiles - 1 - blockIdx.x % $tiles) * $rows, slice = blockIdx.y * $slice;\n"
    "  const int count = $t - row < $rows ? $t - row : $rows, own = row + warp * (16 * $tall);\n"
    "  if (head >= $heads || count <= 0) return;\n"
    "$seeds"
    "  const bool d_vector = $dfits && (((unsigned long long)q | (unsigned long long)k) & 15) == 0;\n"
    "  const bool e_vector = $efits && (((unsigned long long)v | (unsigned long long)dy) & 15) == 0;\n"
    "  float *delta = (float *)scratch + (long long)head * $t;\n"
    "  const $type *dyg = dy + $dyat, *yg = y + $yat;\n"
    "  q += $qat + (long long)row * $qrow, dy += $dyat + (long long)row * $dyrow, lse += (long long)head * $t;\n"
    "  k += $kat, v += $vat;\n"
    "  $name_queries_tile_d(qs, q, $qrow, count, $rows, $d, d_vector);\n"
    "  $name_queries_tile_e(dys, dy, $dyrow, count, $rows, $e, e_vector);\n"
    "  float dqs[$tall][$wided / 8][4], l[$tall][2], dot[$tall][2];\n"
    "  int reach[$tall][2];\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $tall; m++) {\n"
    "    #pragma unroll\n"
    "    for (int h = 0; h < 2; h++) {\n"
    "      const int query = own + 16 * m + 8 * h + g;\n"
    "      const long long at = query < $t ? query : $t - 1;\n"
    "      l[m][h] = lse[at] * 1.44269504088896341f, dot[m][h] = $name_dot(dyg + at * $dyrow, yg + at * $yrow);\n"
    "      if (query < $t && c == 0 && slice == 0) delta[query] = dot[m][h];\n"
    "      reach[m][h] = query < $t ? $name_reach($length, query) : 0;\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $wided / 8; n++) dqs[m][n][0] = dqs[m][n][1] = dqs[m][n][2] = dqs[m][n][3] = 0;\n"
    "  }\n"
    "  const int last = $name_reach($length, row + count - 1);\n"
    "  int buffer = 0;\n"
    "  for (int next = 0, first = -$columns * ($buffers - 1); first < last; first += $columns, next += $columns) {\n"
    "    const int at = $buffers == 2 ? buffer : 0;\n"
    "    if ($buffers == 1 || first < 0) __syncthreads();\n"
    "    if (next < last) {\n"
    "      $name_queries_tile_d(ks + at * ($columns * $pitchd), k + (long long)next * $krow, $krow, last - next, $columns, $d, d_vector);\n"
    "      $name_queries_tile_e(vs + at * ($columns * $pitche), v + (long long)next * $vrow, $vrow, last - next, $columns, $e, e_vector);\n"
    "    }\n"
    "    lv_copy_commit();\n"
    "    buffer ^= 1;\n"
    "    if (first < 0) continue;\n"
    "    if ($buffers == 2) LV_COPY_WAIT(1);\n"
    "    else LV_COPY_WAIT(0);\n"
    "    __syncthreads();\n"
    "    const int now = $buffers == 2 ? buffer : 0;\n"
    "    const unsigned short *kn = ks + now * ($columns * $pitchd), *vn = vs + now * ($columns * $pitche);\n"
    "    float s[$tall][$columns / 8][4], ds[$tall][$columns / 8][4];\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $columns / 8; j++)\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++) s[m][j][i] = ds[m][j][i] = 0;\n"
    "    $name_queries_scores_d(qs + warp * (16 * $tall) * $pitchd, kn, s);\n"
    "    $name_queries_scores_e(dys + warp * (16 * $tall) * $pitche, vn, ds);\n"
    "    const bool masked = first + $columns > (own < $t ? $name_reach($length, own) : 0);\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $columns / 8; j++) {\n"
    "        float kept[4] = {1, 1, 1, 1};\n"
    "$drop"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++) {\n"
    "          float p = lv_exp2(fmaf(s[m][j][i], $scale2, -l[m][i / 2]));\n"
    "          if (masked && first + 8 * j + c + i % 2 >= reach[m][i / 2]) p = 0;\n"
    "          ds[m][j][i] = p * (ds[m][j][i] * kept[i] - dot[m][i / 2]) * $scale;\n"
    "        }\n"
    "      }\n"
    "    $name_queries_gather_d(ds, kn + slice, dqs);\n"
    "    if ($buffers == 2) __syncthreads();\n"
    "  }\n"
    "  const bool dq_vector = $dqfits && ((unsigned long long)dq & 3) == 0;\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $tall; m++)\n"
    "    #pragma unroll\n"
    "    for (int h = 0; h < 2; h++) {\n"
    "      const int query = own + 16 * m + 8 * h + g;\n"
    "      if (query >= $t) continue;\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $wided / 8; n++)\n"
    "        $name_queries_pair(dq + $dqat + (long long)query * $dqrow, slice + 8 * n + c, $d, dq_vector, dqs[m][n][2 * h], dqs[m][n][2 * h + 1]);\n"
    "    }\n"
    "}\n";

static const char drop_queries_text[] =
    "        const long long place = ((long long)head * $t + own + 16 * m + g) * $s + first + 8 * j + c;\n"
    "        $name_queries_kept_rows(seed, step, place, place + 8LL * $s, kept);\n";

static const char keys_text[] =
    "extern \"C\" __global__ void __launch_bounds__($threads, 2) $name_1($parameters) {\n"
    "  LV_SHARED(unsigned short, shared);\n"
    "  unsigned short *ks = shared, *vs = ks + $rows * $pitchd, *qs = vs + $rows * $pitche, *dys = qs + $buffers * $columns * $pitchd;\n"
    "  float *lses = (float *)(dys + $buffers * $columns * $pitche), *deltas = lses + $buffers * $columns;\n"
    "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4 * 2;\n"
    "  const int head = blockIdx.x / $tiles, row = blockIdx.x % $tiles * $rows, slice = blockIdx.y * $slice;\n"
    "  const int count = $s - row < $rows ? $s - row : $rows, own = row + warp * (16 * $tall);\n"
    "  if (head >= $heads) return;\n"
    "$seeds"
    "  const bool d_vector = $dfits && (((unsigned long long)q | (unsigned long long)k) & 15) == 0;\n"
    "  const bool e_vector = $efits && (((unsigned long long)v | (unsigned long long)dy) & 15) == 0;\n"
    "  const float *delta = (const float *)scratch + (long long)head * $t;\n"
    "  q += $qat, dy += $dyat, lse += (long long)head * $t;\n"
    "  k += $kat + (long long)row * $krow, v += $vat + (long long)row * $vrow;\n"
    "  $name_keys_tile_d(ks, k, $krow, count, $rows, $d, d_vector);\n"
    "  $name_keys_tile_e(vs, v, $vrow, count, $rows, $e, e_vector);\n"
    "  float dks[$tall][$wided / 8][4], dvs[$tall][$widee / 8][4];\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $tall; m++) {\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $wided / 8; n++) dks[m][n][0] = dks[m][n][1] = dks[m][n][2] = dks[m][n][3] = 0;\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $widee / 8; n++) dvs[m][n][0] = dvs[m][n][1] = dvs[m][n][2] = dvs[m][n][3] = 0;\n"
    "  }\n"
    "  const int begin = $begin;\n"
    "  int buffer = 0;\n"
    "  for (int next = begin, first = begin - $columns * ($buffers - 1); first < $t; first += $columns, next += $columns) {\n"
    "    // with two buffers the first round only starts the copies of the next\n"
    "    const int at = $buffers == 2 ? buffer : 0;\n"
    "    if ($buffers == 1 || first < begin) __syncthreads();\n"
    "    if (next < $t) {\n"
    "      $name_keys_tile_d(qs + at * ($columns * $pitchd), q + (long long)next * $qrow, $qrow, $t - next, $columns, $d, d_vector);\n"
    "      $name_keys_tile_e(dys + at * ($columns * $pitche), dy + (long long)next * $dyrow, $dyrow, $t - next, $columns, $e, e_vector);\n"
    "      for (int i = threadIdx.x; i < $columns; i += $threads) {\n"
    "        lses[at * $columns + i] = next + i < $t ? lse[next + i] * 1.44269504088896341f : 0.f;\n"
    "        deltas[at * $columns + i] = next + i < $t ? delta[next + i] : 0.f;\n"
    "      }\n"
    "    }\n"
    "    lv_copy_commit();\n"
    "    buffer ^= 1;\n"
    "    if (first < begin) continue;\n"
    "    if ($buffers == 2) LV_COPY_WAIT(1);\n"
    "    else LV_COPY_WAIT(0);\n"
    "    __syncthreads();\n"
    "    const int now = $buffers == 2 ? buffer : 0;\n"
    "    const unsigned short *qn = qs + now * ($columns * $pitchd), *dyn = dys + now * ($columns * $pitche);\n"
    "    float s[$tall][$columns / 8][4], ds[$tall][$columns / 8][4];\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $columns / 8; j++)\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++) s[m][j][i] = ds[m][j][i] = 0;\n"
    "    $name_keys_scores_d(ks + warp * (16 * $tall) * $pitchd, qn, s);\n"
    "    $name_keys_scores_e(vs + warp * (16 * $tall) * $pitche, dyn, ds);\n"
    "    const bool masked = first + $columns > $t || own + 16 * $tall > $name_reach($length, first);\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $columns / 8; j++) {\n"
    "      const float l[2] = {lses[now * $columns + 8 * j + c], lses[now * $columns + 8 * j + c + 1]};\n"
    "      const float dot[2] = {deltas[now * $columns + 8 * j + c], deltas[now * $columns + 8 * j + c + 1]};\n"
    "      const int query = first + 8 * j + c;\n"
    "      const int reach[2] = {query < $t ? $name_reach($length, query) : 0, query + 1 < $t ? $name_reach($length, query + 1) : 0};\n"
    "      #pragma unroll\n"
    "      for (int m = 0; m < $tall; m++) {\n"
    "        float kept[4] = {1, 1, 1, 1};\n"
    "$drop"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++) {\n"
    "          float p = lv_exp2(fmaf(s[m][j][i], $scale2, -l[i % 2]));\n"
    "          if (masked && own + 16 * m + g + i / 2 * 8 >= reach[i % 2]) p = 0;\n"
    "          ds[m][j][i] = p * (ds[m][j][i] * kept[i] - dot[i % 2]) * $scale;\n"
    "          s[m][j][i] = p * kept[i];\n"
    "        }\n"
    "      }\n"
    "    }\n"
    "    $name_keys_gather_e(s, dyn + slice, dvs);\n"
    "    $name_keys_gather_d(ds, qn + slice, dks);\n"
    "    if ($buffers == 2) __syncthreads();\n"
    "  }\n"
    "  const bool dk_vector = $dkfits && ((unsigned long long)dk & 3) == 0, dv_vector = $dvfits && ((unsigned long long)dv & 3) == 0;\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $tall; m++)\n"
    "    #pragma unroll\n"
    "    for (int h = 0; h < 2; h++) {\n"
    "      const int key = own + 16 * m + 8 * h + g;\n"
    "      if (key >= $s) continue;\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $wided / 8; n++) $name_keys_pair(dk + $dkat + (long long)key * $dkrow, slice + 8 * n + c, $d, dk_vector, dks[m][n][2 * h], dks[m][n][2 * h + 1]);\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $widee / 8; n++) $name_keys_pair(dv + $dvat + (long long)key * $dvrow, slice + 8 * n + c, $e, dv_vector, dvs[m][n][2 * h], dvs[m][n][2 * h + 1]);\n"
    "    }\n"
    "}\n";

static const char drop_keys_text[] =
    "        $name_keys_kept_columns(seed, step, ((long long)head * $t + query) * $s + own + 16 * m + g, kept);\n";

enum { MAX_CHANNELS = 256, SLICE = 128 };

// Of the blocks that own keys, and of those that own queries: sizes, and buffers for what goes by.
typedef struct {
    AttentionMma a;
    int buffers;
    int64_t slice, shared;
    const char *part, *text, *drop;
    bool keys;
} Pass;

static Pass pass_of(const AttentionShape *z, const Target *target, bool keys) {
    int64_t widest = z->d > z->e ? z->d : z->e;
    Pass p = {.a = attention_sizes(z, 1, widest <= 64 ? 64 : 32, 4), .buffers = 2, .slice = SLICE, .keys = keys,
              .part = keys ? "keys" : "queries", .text = keys ? keys_text : queries_text, .drop = keys ? drop_keys_text : drop_queries_text};
    if (!keys) p.slice = MAX_CHANNELS;
    for (int i = 0; i < 2; i++)
        if (p.a.wide[i] > p.slice) p.a.wide[i] = p.slice;
    for (;; p.buffers--) {
        int64_t rows = p.a.rows + p.buffers * p.a.columns;
        p.shared = 2 * rows * (p.a.padded[0] + p.a.padded[1] + 16) + (keys ? 8 * p.buffers * p.a.columns : 0);
        if (p.buffers == 1 || p.shared <= cuda_shared_room(target)) return p;
    }
}

bool attention_mma_grad_takes(const AttentionShape *z, const Target *target) {
    return z->dtype != LV_F32 && z->d <= MAX_CHANNELS && z->e <= MAX_CHANNELS && pass_of(z, target, true).shared <= cuda_shared_room(target);
}

static void print_pass(const AttentionShape *z, const Target *target, const char *name, const char *parameters, bool keys, LvText *out,
                       CudaKernel *made) {
    Pass p = pass_of(z, target, keys);
    char scale[48];
    snprintf(scale, sizeof scale, "((float)%.17g)", z->scale * 1.4426950408889634074);
    LvText prefix = {0}, drop = {0};
    lv_text_printf(&prefix, "%s_%s", name, p.part);
    if (z->dropout > 0) ATTENTION_FILL(z, name, p.drop, &drop, {"none", "", 0});
    attention_print_mma(z, lv_text_get(&prefix), &p.a, out);
    int64_t owned = keys ? z->s : z->t, tiles = owned ? (owned + p.a.rows - 1) / p.a.rows : 1;
    int64_t widest = keys && z->e > z->d ? z->e : z->d, slices = widest ? (widest + p.slice - 1) / p.slice : 1;
    LvText begin = {0}, eight = {0};
    cuda_print_load(z->dtype, 8, "x", "p", &eight);
    if (z->causal) lv_text_printf(&begin, "row / %d * %d", p.a.columns, p.a.columns);
    ATTENTION_FILL(z, name, p.text, out, {"parameters", parameters, 0}, {"threads", NULL, 32 * p.a.warps}, {"rows", NULL, p.a.rows},
                   {"columns", NULL, p.a.columns}, {"tall", NULL, p.a.tall}, {"pitchd", NULL, p.a.padded[0] + 8},
                   {"pitche", NULL, p.a.padded[1] + 8}, {"wided", NULL, p.a.wide[0]}, {"widee", NULL, p.a.wide[1]},
                   {"tiles", NULL, tiles}, {"slice", NULL, p.slice}, {"buffers", NULL, p.buffers}, {"scale2", scale, 0},
                   {"drop", lv_text_get(&drop), 0}, {"begin", z->causal ? lv_text_get(&begin) : "0", 0},
                   {"eight", lv_text_get(&eight), 0},
                   {"dfits", NULL, z->d % 8 == 0 && attention_rows_fit(&z->q, 8) && attention_rows_fit(&z->k, 8)},
                   {"efits", NULL, z->e % 8 == 0 && attention_rows_fit(&z->v, 8) && attention_rows_fit(&z->dy, 8)},
                   {"dqfits", NULL, z->d % 2 == 0 && attention_rows_fit(&z->dq, 2)},
                   {"dkfits", NULL, z->d % 2 == 0 && attention_rows_fit(&z->dk, 2)},
                   {"dvfits", NULL, z->e % 2 == 0 && attention_rows_fit(&z->dv, 2)});
    cuda_push_launch(made, z->heads * tiles, slices, 1, 32 * p.a.warps, p.shared);
    lv_text_free(&prefix), lv_text_free(&drop), lv_text_free(&begin), lv_text_free(&eight);
}

void attention_print_mma_grad(const AttentionShape *z, const Target *target, const char *name, const char *parameters, LvText *out,
                              CudaKernel *made) {
    print_pass(z, target, name, parameters, false, out, made);
    print_pass(z, target, name, parameters, true, out, made);
}
