// nearest_code on GPUs: x [N,D], codes [K,D] -> index [N], with no N x K matrix anywhere.
//
// As on the CPU: scores |c - p|^2 / 2 - (c - p).(x - p) are f32 products, p the mean of some of the vectors, for squares of large
// numbers hide small distances. Each row keeps its two best codes and the third's score; where the second lies within f32's rounding
// of the best, distances are computed again in f64, of the two or, where the third is as near, of all codes. Of equal codes the lower
// index wins.
//
// Products run on tensor cores where those are strong (template_nearest_code_mma.c). Else in f32: a block has 128 rows and a share of
// the codes, 128 at a time, 8 x 8 a thread, over D by 16 through two buffers in shared memory; squares are summed on the way there,
// and after each tile its scores go into the thread's own best, which stand in shared memory too since registers hold the
// products. A last launch puts shares together and decides what is in doubt.
#include <math.h>
#include <stdio.h>

#include "codegen/cuda/template_nearest_code.h"

enum { TILE = NEAREST_TILE, STEP = 16, BLOCK = 256, PITCH = TILE + 4, WANTED_BLOCKS = 264, MAX_WIDTH = 4096 };

static const char common_text[] =
    "typedef struct { float best, second, third; int index, other; } $name_found;\n"
    "// a score joins those found; of equal ones the lower index goes first\n"
    "static __device__ __forceinline__ void $name_join($name_found *f, float s, int code) {\n"
    "  if (s < f->best || (s == f->best && code < f->index)) {\n"
    "    f->third = f->second, f->second = f->best, f->other = f->index, f->best = s, f->index = code;\n"
    "  } else if (s < f->second || (s == f->second && code < f->other)) {\n"
    "    f->third = f->second, f->second = s, f->other = code;\n"
    "  } else if (s < f->third) f->third = s;\n"
    "}\n"
    "// what lanes up to 2 `apart` from each other found\n"
    "static __device__ __forceinline__ void $name_meet($name_found *f, int apart) {\n"
    "  for (int o = apart; o > 0; o /= 2) {\n"
    "    const float best = __shfl_xor_sync(0xFFFFFFFFu, f->best, o), second = __shfl_xor_sync(0xFFFFFFFFu, f->second, o);\n"
    "    const float third = __shfl_xor_sync(0xFFFFFFFFu, f->third, o);\n"
    "    const int index = __shfl_xor_sync(0xFFFFFFFFu, f->index, o), other = __shfl_xor_sync(0xFFFFFFFFu, f->other, o);\n"
    "    $name_join(f, best, index), $name_join(f, second, other);\n"
    "    f->third = fminf(f->third, third);\n"
    "  }\n"
    "}\n"
    "static __device__ __forceinline__ void $name_leave(const $name_found *f, float *at) {\n"
    "  const long long apart = (long long)$shares * $n;\n"
    "  at[0] = f->best, at[apart] = f->second, at[2 * apart] = f->third;\n"
    "  at[3 * apart] = __int_as_float(f->index), at[4 * apart] = __int_as_float(f->other);\n"
    "}\n"
    "static __device__ __forceinline__ float $name_pivot(const float *x, int column) {\n"
    "  float sum = 0;\n"
    "  #pragma unroll 8\n"
    "  for (int i = 0; i < $samples; i++) sum += x[(long long)($n - 1) * i / $samples * $d + column];\n"
    "  return fabsf(sum) < 1e30f ? sum / $samples : 0.f;\n"
    "}\n";

static const char product_text[] =
    "static __device__ __forceinline__ float4 $name_four(const float *p, int valid, bool aligned) {\n"
    "  if (aligned && valid >= 4) return *(const float4 *)p;\n"
    "  return make_float4(valid > 0 ? p[0] : 0.f, valid > 1 ? p[1] : 0.f, valid > 2 ? p[2] : 0.f, valid > 3 ? p[3] : 0.f);\n"
    "}\n"
    "// into shared memory, moved by the pivot; their squares\n"
    "static __device__ __forceinline__ float $name_put(float *to, float4 a, float4 p) {\n"
    "  a.x -= p.x, a.y -= p.y, a.z -= p.z, a.w -= p.w;\n"
    "  to[0] = a.x, to[$pitch] = a.y, to[2 * $pitch] = a.z, to[3 * $pitch] = a.w;\n"
    "  return fmaf(a.x, a.x, a.y * a.y) + fmaf(a.z, a.z, a.w * a.w);\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__($block, $together) $name_0(const float *x, const float *codes, int *y, char *scratch) {\n"
    "  LV_SHARED(float, shared);\n"
    "  float *rows = shared, *columns = shared + 2 * 16 * $pitch, *pivot = shared + 4 * 16 * $pitch;  // [2][16][PITCH] each; [D]\n"
    "  float *halves = pivot + $padded;  // [2][128]: half the squares of a tile's codes\n"
    "  float *state = halves + 2 * $tile;  // [5][8][256]: best, second, third, index, other of each of a thread's rows\n"
    "  const int thread = threadIdx.x, tx = thread % 16 * 4, ty = thread / 16 * 4, own = thread / 4, channel = thread % 4 * 4;\n"
    "  const int row = blockIdx.x * $tile, begin = blockIdx.y * $share, end = begin + $share < $k ? begin + $share : $k;\n"
    "  if (row >= $n) return;\n"
    "  const bool x_aligned = $d % 4 == 0 && ((unsigned long long)x & 15) == 0, c_aligned = $d % 4 == 0 && ((unsigned long long)codes & 15) == 0;\n"
    "  for (int i = thread; i < $padded; i += $block) pivot[i] = i < $d ? $name_pivot(x, i) : 0.f;\n"
    "  for (int i = 0; i < 8; i++) {\n"
    "    for (int f = 0; f < 3; f++) state[(f * 8 + i) * $block + thread] = 3e38f;\n"
    "    for (int f = 3; f < 5; f++) state[(f * 8 + i) * $block + thread] = __int_as_float(0);\n"
    "  }\n"
    "  const float *x0 = x + (long long)(row + own < $n ? row + own : $n - 1) * $d, *x1 = x + (long long)(row + own + 64 < $n ? row + own + 64 : $n - 1) * $d;\n"
    "  const float *c0 = codes + (long long)(begin + own < $k ? begin + own : $k - 1) * $d;\n"
    "  const float *c1 = codes + (long long)(begin + own + 64 < $k ? begin + own + 64 : $k - 1) * $d;\n"
    "  float4 a0 = $name_four(x0 + channel, $d - channel, x_aligned), a1 = $name_four(x1 + channel, $d - channel, x_aligned);\n"
    "  float4 b0 = $name_four(c0 + channel, $d - channel, c_aligned), b1 = $name_four(c1 + channel, $d - channel, c_aligned);\n"
    "  __syncthreads();\n"
    "  float sums[8][8];\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < 8; i++)\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 8; j++) sums[i][j] = 0;\n"
    "  float r0 = 0, r1 = 0, q0 = 0, q1 = 0;  // squares of this thread's quarter of its rows and codes\n"
    "  int code = begin, depth = 0, buffer = 0, parity = 0;\n"
    "  while (code < end) {\n"
    "    const float4 p = *(const float4 *)(pivot + depth + channel);\n"
    "    float *to_row = rows + (buffer * 16 + channel) * $pitch + own, *to_column = columns + (buffer * 16 + channel) * $pitch + own;\n"
    "    r0 += $name_put(to_row, a0, p), r1 += $name_put(to_row + 64, a1, p);\n"
    "    q0 += $name_put(to_column, b0, p), q1 += $name_put(to_column + 64, b1, p);\n"
    "    const bool whole = depth + 16 >= $padded;  // the tile is complete after this step\n"
    "    if (whole) {\n"
    "      q0 = lv_warp_sum(q0, 4), q1 = lv_warp_sum(q1, 4);\n"
    "      if (channel == 0) halves[parity * $tile + own] = q0 / 2, halves[parity * $tile + own + 64] = q1 / 2;\n"
    "      if (code == begin && blockIdx.y == 0) {\n"
    "        r0 = lv_warp_sum(r0, 4), r1 = lv_warp_sum(r1, 4);\n"
    "        float *squares = (float *)(scratch + $squares);\n"
    "        if (channel == 0 && row + own < $n) squares[row + own] = r0;\n"
    "        if (channel == 0 && row + own + 64 < $n) squares[row + own + 64] = r1;\n"
    "      }\n"
    "      q0 = q1 = 0;\n"
    "    }\n"
    "    __syncthreads();\n"
    "    const int next = whole ? 0 : depth + 16, next_code = whole ? code + $tile : code;\n"
    "    if (next_code < end) {\n"
    "      if (whole) {\n"
    "        c0 = codes + (long long)(next_code + own < $k ? next_code + own : $k - 1) * $d;\n"
    "        c1 = codes + (long long)(next_code + own + 64 < $k ? next_code + own + 64 : $k - 1) * $d;\n"
    "      }\n"
    "      const int at = next + channel;\n"
    "      a0 = $name_four(x0 + at, $d - at, x_aligned), a1 = $name_four(x1 + at, $d - at, x_aligned);\n"
    "      b0 = $name_four(c0 + at, $d - at, c_aligned), b1 = $name_four(c1 + at, $d - at, c_aligned);\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int k = 0; k < 16; k++) {\n"
    "      const float *from_row = rows + (buffer * 16 + k) * $pitch + ty, *from_column = columns + (buffer * 16 + k) * $pitch + tx;\n"
    "      const float4 l0 = *(const float4 *)from_row, l1 = *(const float4 *)(from_row + 64);\n"
    "      const float4 r0 = *(const float4 *)from_column, r1 = *(const float4 *)(from_column + 64);\n"
    "      const float l[8] = {l0.x, l0.y, l0.z, l0.w, l1.x, l1.y, l1.z, l1.w}, r[8] = {r0.x, r0.y, r0.z, r0.w, r1.x, r1.y, r1.z, r1.w};\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < 8; i++)\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < 8; j++) sums[i][j] = fmaf(l[i], r[j], sums[i][j]);\n"
    "    }\n"
    "    if (whole) {\n"
    "      float h[8];\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 8; j++) {\n"
    "        const int n = tx + j % 4 + j / 4 * 64;\n"
    "        h[j] = code + n < end ? halves[parity * $tile + n] : LV_INF;\n"
    "      }\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < 8; i++) {\n"
    "        float least = LV_INF;\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < 8; j++) {\n"
    "          sums[i][j] = h[j] - sums[i][j];\n"
    "          least = fminf(least, sums[i][j]);\n"
    "        }\n"
    "        float *at = state + i * $block + thread;\n"
    "        if (least < at[2 * 8 * $block]) {\n"
    "          $name_found f = {at[0], at[8 * $block], at[16 * $block], __float_as_int(at[24 * $block]), __float_as_int(at[32 * $block])};\n"
    "          #pragma unroll\n"
    "          for (int j = 0; j < 8; j++) $name_join(&f, sums[i][j], code + tx + j % 4 + j / 4 * 64);\n"
    "          at[0] = f.best, at[8 * $block] = f.second, at[16 * $block] = f.third;\n"
    "          at[24 * $block] = __int_as_float(f.index), at[32 * $block] = __int_as_float(f.other);\n"
    "        }\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < 8; j++) sums[i][j] = 0;\n"
    "      }\n"
    "      parity ^= 1;\n"
    "    }\n"
    "    code = next_code, depth = next, buffer ^= 1;\n"
    "  }\n"
    "  float *found = (float *)(scratch + $found) + (long long)blockIdx.y * $n;\n"
    "  for (int i = 0; i < 8; i++) {\n"
    "    const float *at = state + i * $block + thread;\n"
    "    $name_found f = {at[0], at[8 * $block], at[16 * $block], __float_as_int(at[24 * $block]), __float_as_int(at[32 * $block])};\n"
    "    $name_meet(&f, 8);\n"
    "    const int n = row + ty + i % 4 + i / 4 * 64;\n"
    "    if (tx == 0 && n < $n) $name_leave(&f, found + n);\n"
    "  }\n"
    "}\n";

// A warp for a row; the whole block for one that has to see all codes.
static const char decide_text[] =
    "static __device__ double $name_distance(const float *x, const float *c) {\n"
    "  double sum = 0;\n"
    "  for (int i = threadIdx.x % 32; i < $d; i += 32) {\n"
    "    const double apart = (double)x[i] - (double)c[i];\n"
    "    sum += apart * apart;\n"
    "  }\n"
    "  return lv_warp_sum(sum, 32);\n"
    "}\n"
    "extern \"C\" __global__ void $name_$launch(const float *x, const float *codes, int *y, char *scratch) {\n"
    "  __shared__ double leasts[8];\n"
    "  __shared__ int bests[8], open[8];\n"
    "  const float *found = (const float *)(scratch + $found);\n"
    "  const int warp = threadIdx.x / 32, row = blockIdx.x * 8 + warp, lane = threadIdx.x % 32;\n"
    "  bool all = false;\n"
    "  if (row < $n) {\n"
    "    $name_found f = {3e38f, 3e38f, 3e38f, 0, 0};\n"
    "    for (int share = 0; share < $shares; share++) {\n"
    "      const long long apart = (long long)$shares * $n, at = (long long)share * $n + row;\n"
    "      $name_join(&f, found[at], __float_as_int(found[3 * apart + at]));\n"
    "      $name_join(&f, found[apart + at], __float_as_int(found[4 * apart + at]));\n"
    "      f.third = fminf(f.third, found[2 * apart + at]);\n"
    "    }\n"
    "    const float square = ((const float *)(scratch + $squares))[row];\n"
    "    // |x|^2 and |c|^2 are O(|x|^2 + distance^2)\n"
    "    const float doubt = $doubt * (square + fabsf(square + 2 * f.best));\n"
    "    if (f.second - f.best <= doubt && f.index != f.other) {\n"
    "      const float *own = x + (long long)row * $d;\n"
    "      all = f.third - f.best <= doubt;\n"
    "      if (!all) {\n"
    "        const double a = $name_distance(own, codes + (long long)f.index * $d), b = $name_distance(own, codes + (long long)f.other * $d);\n"
    "        if (b < a || (b == a && f.other < f.index)) f.index = f.other;\n"
    "      }\n"
    "    }\n"
    "    if (lane == 0) y[row] = f.index;\n"
    "  }\n"
    "  if (lane == 0) open[warp] = all;\n"
    "  __syncthreads();\n"
    "  for (int w = 0; w < 8; w++) {\n"
    "    if (!open[w]) continue;\n"
    "    const float *own = x + (blockIdx.x * 8LL + w) * $d;\n"
    "    double least = LV_INF_F64;\n"
    "    int best = 0;\n"
    "    for (int c = warp; c < $k; c += 8) {\n"
    "      const double distance = $name_distance(own, codes + (long long)c * $d);\n"
    "      if (distance < least) least = distance, best = c;\n"
    "    }\n"
    "    if (lane == 0) leasts[warp] = least, bests[warp] = best;\n"
    "    __syncthreads();\n"
    "    if (threadIdx.x == 0) {\n"
    "      for (int o = 1; o < 8; o++)\n"
    "        if (leasts[o] < least || (leasts[o] == least && bests[o] < best)) least = leasts[o], best = bests[o];\n"
    "      y[blockIdx.x * 8 + w] = best;\n"
    "    }\n"
    "    __syncthreads();\n"
    "  }\n"
    "}\n";

// Shares of the codes, so many that with `row_tiles` tiles of rows all multiprocessors have work.
static void divide(NearestCode *z, int64_t row_tiles) {
    int64_t tiles = (z->k + TILE - 1) / TILE, shares = row_tiles ? WANTED_BLOCKS / row_tiles : 1;
    if (shares < 1) shares = 1;
    if (shares > tiles) shares = tiles;
    z->share = (tiles + shares - 1) / shares * TILE;
    z->shares = (z->k + z->share - 1) / z->share;
}

static void fill(const NearestCode *z, const char *name, const char *text, LvText *out, const CudaKernel *made) {
    int64_t padded = z->d ? (z->d + STEP - 1) / STEP * STEP : STEP;
    char doubt[32];
    snprintf(doubt, sizeof doubt, "%.3ef", z->doubt);
    TEMPLATE_FILL(out, text, {"name", name, 0}, {"n", NULL, z->n}, {"d", NULL, z->d}, {"k", NULL, z->k},
                  {"samples", NULL, z->n < NEAREST_SAMPLES ? z->n + !z->n : NEAREST_SAMPLES}, {"squares", NULL, z->squares},
                  {"found", NULL, z->found}, {"share", NULL, z->share}, {"shares", NULL, z->shares}, {"padded", NULL, padded},
                  {"pitch", NULL, PITCH}, {"tile", NULL, TILE}, {"block", NULL, BLOCK}, {"doubt", doubt, 0},
                  {"together", NULL, z->d % 4 ? 1 : 2},  // blocks on a multiprocessor: rows read element by element take more registers
                  {"launch", NULL, (int64_t)made->launches.count});
}

static void print_f32(NearestCode *z, const char *name, LvText *out, CudaKernel *made) {
    int64_t padded = z->d ? (z->d + STEP - 1) / STEP * STEP : STEP, tiles = (z->n + TILE - 1) / TILE;
    fill(z, name, product_text, out, made);
    cuda_push_launch(made, tiles, z->shares, 1, BLOCK, 4 * (4 * STEP * PITCH + padded + 2 * TILE + 5 * 8 * BLOCK));
}

bool cuda_print_nearest_code(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    const Value *x = node->inputs[0], *codes = node->inputs[1];
    NearestCode z = {.n = x->shape.dim[0], .d = x->shape.dim[1], .k = codes->shape.dim[0]};
    if (x->dtype != LV_F32 || z.d > MAX_WIDTH || z.n > INT32_MAX / 2 || z.k > INT32_MAX / 2 || !cuda_all_row_major(node)) return false;
    if (!out) return true;
    bool tensor_cores = nearest_code_mma_takes(&z, target);
    divide(&z, (z.n + TILE - 1) / TILE);
    z.doubt = 1.2e-7 * (4 + sqrt((double)z.d));  // rounding of a sum of D products
    if (tensor_cores) z.shares *= 2;
    z.squares = cuda_take_scratch(made, 4 * z.n), z.found = cuda_take_scratch(made, 20 * z.shares * z.n);
    fill(&z, name, common_text, out, made);
    if (tensor_cores) nearest_code_print_mma(&z, name, out, made);
    else print_f32(&z, name, out, made);
    fill(&z, name, decide_text, out, made);
    cuda_push_launch(made, (z.n + 7) / 8, 1, 1, BLOCK, 0);
    return true;
}
