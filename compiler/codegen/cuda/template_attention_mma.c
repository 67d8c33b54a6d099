// attention on tensor cores, for bf16 and f16: FlashAttention-2 (Dao 2023) on mma.m16n8k16.
//
// A warp owns 16 or 32 queries, so that softmax needs no shared memory: scores come out of the products in the lanes that hold them
// as the left side of the next ones. Keys and values go through one buffer each: the values are on their way while scores are made,
// the next keys while those are multiplied with the values. Rows in shared memory are 16 bytes longer than they need to be, which
// spreads the eight rows of an ldmatrix over all banks. Channels are padded with zeros to whole products; values wider than 256
// are cut into slices. Exponentials are powers of 2, the scale takes in the logarithm; maxima are of scores not yet scaled.
#include <stdio.h>

#include "codegen/cuda/template_attention.h"

// Lane l of a warp holds of a 16 x 8 result rows g and g + 8 (g = l / 4), columns 2 (l % 4) and the one after.
static const char mma_text[] =
    "// `count` rows into shared memory, `stride` elements from one to the next, those from `rows` on and columns from `valid` on zero\n"
    "static __device__ __forceinline__ void $name_tile_$which(unsigned short *to, const unsigned short *from, const int stride, int rows, const int count,\n"
    "                                                        int valid, bool vector) {\n"
    "  for (int i = threadIdx.x; i < count * $pieces; i += $threads) {\n"
    "    const int row = i / $pieces, column = i % $pieces * 8;\n"
    "    unsigned short *at = to + row * $pitch + column;\n"
    "    const unsigned short *source = from + (long long)row * stride + column;\n"
    "    const bool there = row < rows && column < valid;\n"
    "    if (vector) lv_copy_async16(at, there ? source : from, there ? 16 : 0);\n"
    "    else {\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < 8; n++) at[n] = row < rows && column + n < valid ? source[n] : (unsigned short)0;\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// c += a b^T over all channels, $tall times 16 rows of a and $columns of b\n"
    "static __device__ __forceinline__ void $name_scores_$which(const unsigned short *a, const unsigned short *b, float c[$tall][$columns / 8][4]) {\n"
    "  const int lane = threadIdx.x % 32;\n"
    "  #pragma unroll $unroll\n"
    "  for (int k = 0; k < $padded; k += 16) {\n"
    "    unsigned l[$tall][4];\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++) lv_ldmatrix4(l[m], a + (16 * m + lane % 16) * $pitch + k + lane / 16 * 8);\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $columns / 16; j++) {\n"
    "      unsigned r[4];\n"
    "      lv_ldmatrix4(r, b + (16 * j + lane % 8 + lane / 16 * 8) * $pitch + k + lane / 8 % 2 * 8);\n"
    "      #pragma unroll\n"
    "      for (int m = 0; m < $tall; m++) $mma(c[m][2 * j], l[m], r), $mma(c[m][2 * j + 1], l[m], r + 2);\n"
    "    }\n"
    "  }\n"
    "}\n"
    "// sums += weights b, weights (as they came out of the scores) of $columns rows of b, $wide of b's columns\n"
    "static __device__ __forceinline__ void $name_gather_$which(const float weights[$tall][$columns / 8][4], const unsigned short *b,\n"
    "                                                          float sums[$tall][$wide / 8][4]) {\n"
    "  const int lane = threadIdx.x % 32;\n"
    "  #pragma unroll\n"
    "  for (int j = 0; j < $columns / 16; j++) {\n"
    "    unsigned l[$tall][4];\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < 4; i++) l[m][i] = $pack(weights[m][2 * j + i / 2][i % 2 * 2], weights[m][2 * j + i / 2][i % 2 * 2 + 1]);\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $wide / 16; n++) {\n"
    "      unsigned r[4];\n"
    "      lv_ldmatrix4_trans(r, b + (16 * j + lane % 16) * $pitch + 16 * n + lane / 16 * 8);\n"
    "      #pragma unroll\n"
    "      for (int m = 0; m < $tall; m++) $mma(sums[m][2 * n], l[m], r), $mma(sums[m][2 * n + 1], l[m], r + 2);\n"
    "    }\n"
    "  }\n"
    "}\n";

static const char store_text[] =
    "// two neighbours of a row that has `valid` elements, from `column` on\n"
    "static __device__ __forceinline__ void $name_pair(unsigned short *row, int column, int valid, bool vector, float a, float b) {\n"
    "  if (vector && column < valid) *(unsigned *)(row + column) = $pack(a, b);\n"
    "  else {\n"
    "    if (column < valid) row[column] = $to(a);\n"
    "    if (column + 1 < valid) row[column + 1] = $to(b);\n"
    "  }\n"
    "}\n";

// Where rows are whole draws of four numbers, a lane draws for a neighbour too, and one draw serves four weights.
static const char kept_text[] =
    "// of the weights at `upper` and the one after, then at `lower` and the one after; the first place of a lane is that of 2 (lane % 4)\n"
    "static __device__ __forceinline__ void $name_kept_rows(long long seed, int step, long long upper, long long lower, float kept[4]) {\n"
    "  unsigned u[4];\n"
    "  if ($s % 4 == 0) {\n"
    "    const bool odd = threadIdx.x & 1;\n"
    "    unsigned w[4];\n"
    "    lv_philox((unsigned long long)seed, $stream, (unsigned)step, (unsigned long long)(odd ? lower - 2 : upper) / 4, w);\n"
    "    const unsigned x = __shfl_xor_sync(0xFFFFFFFFu, odd ? w[0] : w[2], 1), y = __shfl_xor_sync(0xFFFFFFFFu, odd ? w[1] : w[3], 1);\n"
    "    u[0] = odd ? x : w[0], u[1] = odd ? y : w[1], u[2] = odd ? w[2] : x, u[3] = odd ? w[3] : y;\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) kept[i] = (float)(int)(u[i] >> 8) * 0x1p-24f >= $dropout ? $keep : 0.f;\n"
    "  } else {\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) kept[i] = lv_uniform(seed, $stream, step, (i / 2 ? lower : upper) + i % 2) >= $dropout ? $keep : 0.f;\n"
    "  }\n"
    "}\n"
    "// rows are keys, columns queries: of (key, query), (key, query + 1), (key + 8, query), (key + 8, query + 1); `place` is of the first,\n"
    "// key that of lane / 4\n"
    "static __device__ __forceinline__ void $name_kept_columns(long long seed, int step, long long place, float kept[4]) {\n"
    "  if ($s % 4 == 0) {\n"
    "    const int own = threadIdx.x / 4 % 4;\n"
    "    unsigned w[4], u[4];\n"
    "    const long long first = place - own + (own & 1 ? $s : 0) + (own & 2 ? 8 : 0);\n"
    "    lv_philox((unsigned long long)seed, $stream, (unsigned)step, (unsigned long long)first / 4, w);\n"
    "    #pragma unroll\n"
    "    for (int r = 0; r < 4; r++) {\n"
    "      const int other = own ^ r;\n"
    "      const unsigned sent = other == 0 ? w[0] : other == 1 ? w[1] : other == 2 ? w[2] : w[3];\n"
    "      const unsigned got = r ? __shfl_xor_sync(0xFFFFFFFFu, sent, 4 * r) : sent;\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < 4; i++) u[i] = i == other ? got : r ? u[i] : 0;\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) kept[i] = (float)(int)(u[i] >> 8) * 0x1p-24f >= $dropout ? $keep : 0.f;\n"
    "  } else {\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < 4; i++) kept[i] = lv_uniform(seed, $stream, step, place + i % 2 * (long long)$s + i / 2 * 8) >= $dropout ? $keep : 0.f;\n"
    "  }\n"
    "}\n";

static const char forward_text[] =
    "extern \"C\" __global__ void __launch_bounds__($threads) $name_0(const $type *q, const $type *k, const $type *v$inputs,\n"
    "    $type *y, float *lse, char *scratch) {\n"
    "  LV_SHARED(unsigned short, shared);\n"
    "  unsigned short *qs = shared, *ks = qs + $rows * $pitchd, *vs = ks + $columns * $pitchd;\n"
    "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4 * 2;\n"
    "  const int head = blockIdx.x / $tiles, row = ($tiles - 1 - blockIdx.x % $tiles) * $rows, slice = blockIdx.y * 256, length = $length;\n"
    "  const int count = $t - row < $rows ? $t - row : $rows, own = row + warp * (16 * $tall), valid = $e - slice < 256 ? $e - slice : 256;\n"
    "  if (head >= $heads || count <= 0) return;\n"
    "$seeds"
    "  const bool d_vector = $dfits && (((unsigned long long)q | (unsigned long long)k) & 15) == 0;\n"
    "  const bool e_vector = $efits && ((unsigned long long)v & 15) == 0;\n"
    "  q += $qat + (long long)row * $qrow, k += $kat, v += $vat + slice;\n"
    "  const int last = $name_reach(length, row + count - 1);\n"
    "  $name_tile_d(qs, q, $qrow, count, $rows, $d, d_vector);\n"
    "  $name_tile_d(ks, k, $krow, last, $columns, $d, d_vector);\n"
    "  lv_copy_commit();\n"
    "  float sums[$tall][$wide / 8][4], top[$tall][2], sum[$tall][2];\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $tall; m++) {\n"
    "    top[m][0] = top[m][1] = -1e30f, sum[m][0] = sum[m][1] = 0;\n"
    "    #pragma unroll\n"
    "    for (int n = 0; n < $wide / 8; n++) sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0;\n"
    "  }\n"
    "  for (int first = 0; first < last; first += $columns) {\n"
    "    LV_COPY_WAIT(0);\n"
    "    __syncthreads();\n"
    "    $name_tile_e(vs, v + (long long)first * $vrow, $vrow, last - first, $columns, valid, e_vector);\n"
    "    lv_copy_commit();\n"
    "    float s[$tall][$columns / 8][4];\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $columns / 8; j++) s[m][j][0] = s[m][j][1] = s[m][j][2] = s[m][j][3] = 0;\n"
    "    $name_scores_d(qs + warp * (16 * $tall) * $pitchd, ks, s);\n"
    "$prescale"
    "    if (first + $columns > $name_reach(length, own)) {\n"
    "      #pragma unroll\n"
    "      for (int m = 0; m < $tall; m++)\n"
    "        #pragma unroll\n"
    "        for (int h = 0; h < 2; h++) {\n"
    "          const int reach = $name_reach(length, own + 16 * m + 8 * h + g);\n"
    "          #pragma unroll\n"
    "          for (int j = 0; j < $columns / 8; j++)\n"
    "            #pragma unroll\n"
    "            for (int i = 0; i < 2; i++)\n"
    "              if (first + 8 * j + c + i >= reach) s[m][j][2 * h + i] = -1e30f;\n"
    "        }\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int h = 0; h < 2; h++) {\n"
    "        float most = top[m][h];\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < $columns / 8; j++) most = fmaxf(most, fmaxf(s[m][j][2 * h], s[m][j][2 * h + 1]));\n"
    "        most = lv_warp_max(most, 4);\n"
    "        const float factor = lv_exp2((top[m][h] - most) * $scale2), base = most * $scale2;\n"
    "        float all = 0;\n"
    "        #pragma unroll\n"
    "        for (int j = 0; j < $columns / 8; j++)\n"
    "          #pragma unroll\n"
    "          for (int i = 0; i < 2; i++) {\n"
    "            s[m][j][2 * h + i] = lv_exp2(fmaf(s[m][j][2 * h + i], $scale2, -base));\n"
    "            all += s[m][j][2 * h + i];\n"
    "          }\n"
    "        top[m][h] = most, sum[m][h] = sum[m][h] * factor + all;\n"
    "        #pragma unroll\n"
    "        for (int n = 0; n < $wide / 8; n++) sums[m][n][2 * h] *= factor, sums[m][n][2 * h + 1] *= factor;\n"
    "      }\n"
    "$drop"
    "    LV_COPY_WAIT(0);\n"
    "    __syncthreads();\n"
    "    if (first + $columns < last) {\n"
    "      $name_tile_d(ks, k + (long long)(first + $columns) * $krow, $krow, last - first - $columns, $columns, $d, d_vector);\n"
    "      lv_copy_commit();\n"
    "    }\n"
    "    $name_gather_e(s, vs, sums);\n"
    "  }\n"
    "  const bool y_vector = $yfits && ((unsigned long long)y & 3) == 0;\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < $tall; m++)\n"
    "    #pragma unroll\n"
    "    for (int h = 0; h < 2; h++) {\n"
    "      const int query = own + 16 * m + 8 * h + g;\n"
    "      const float all = lv_warp_sum(sum[m][h], 4), factor = 1 / all;\n"
    "      if (query >= $t) continue;\n"
    "      const long long at = (long long)head * $t + query;\n"
    "      #pragma unroll\n"
    "      for (int n = 0; n < $wide / 8; n++)\n"
    "        $name_pair(y + $yat + (long long)query * $yrow + slice, 8 * n + c, valid, y_vector, sums[m][n][2 * h] * factor, sums[m][n][2 * h + 1] * factor);\n"
    "      if (c == 0 && slice == 0) lse[at] = top[m][h] * ($scale2 * 0.693147180559945309f) + logf(all);\n"
    "    }\n"
    "}\n";

// A scale that is no positive number does not keep the order of the scores, and one beside all measure not what masks them: then
// they are multiplied first.
static const char prescale_text[] =
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $columns / 8; j++)\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++) s[m][j][i] *= $scale2;\n";

static const char drop_text[] =
    "    #pragma unroll\n"
    "    for (int m = 0; m < $tall; m++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $columns / 8; j++) {\n"
    "        float kept[4];\n"
    "        const long long place = ((long long)head * $t + own + 16 * m + g) * $s + first + 8 * j + c;\n"
    "        $name_kept_rows(seed, step, place, place + 8LL * $s, kept);\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 4; i++) s[m][j][i] *= kept[i];\n"
    "      }\n";

AttentionMma attention_sizes(const AttentionShape *z, int tall, int columns, int warps) {
    AttentionMma a = {.tall = tall, .columns = columns, .warps = warps, .rows = 16 * tall * warps};
    int64_t channels[2] = {z->d, z->e};
    for (int i = 0; i < 2; i++) a.padded[i] = a.wide[i] = channels[i] ? (channels[i] + 15) / 16 * 16 : 16;
    return a;
}

void attention_print_mma(const AttentionShape *z, const char *prefix, const AttentionMma *a, LvText *out) {
    bool bf16 = z->dtype == LV_BF16;
    const char *pack = bf16 ? "lv_pack_bf16" : "lv_pack_f16";
    for (int i = 0; i < 2; i++) {
        int64_t padded = a->padded[i];
        ATTENTION_FILL(z, prefix, mma_text, out, {"which", i ? "e" : "d", 0}, {"pieces", NULL, padded / 8}, {"padded", NULL, padded},
                       {"pitch", NULL, padded + 8}, {"wide", NULL, a->wide[i]}, {"tall", NULL, a->tall},
                       {"columns", NULL, a->columns}, {"threads", NULL, 32 * a->warps}, {"unroll", NULL, padded <= 128 ? 8 : 4},
                       {"mma", bf16 ? "lv_mma_bf16" : "lv_mma_f16", 0}, {"pack", pack, 0});
    }
    ATTENTION_FILL(z, prefix, store_text, out, {"pack", pack, 0});
    if (z->dropout == 0) return;
    char below[48], keep[48], stream[24];
    snprintf(below, sizeof below, "((float)%.17g)", z->dropout);
    snprintf(keep, sizeof keep, "((float)%.17g)", 1 / (1 - z->dropout));
    snprintf(stream, sizeof stream, "%uu", z->stream);
    ATTENTION_FILL(z, prefix, kept_text, out, {"stream", stream, 0}, {"dropout", below, 0}, {"keep", keep, 0});
}

// ---- forward

enum { MAX_CHANNELS = 512, FEW_BLOCKS = 128 };

// 32 queries a warp where accumulators leave room for it: each fragment of keys and values then serves two products.
static AttentionMma forward_sizes(const AttentionShape *z) {
    int64_t widest = z->d > z->e ? z->d : z->e;
    bool tall = widest <= 128 && z->dropout == 0 && z->heads * ((z->t + 127) / 128) >= FEW_BLOCKS;
    bool draws_each = z->dropout > 0 && z->s % 4;  // whose arithmetic takes many registers
    bool wide = !draws_each && (widest <= 64 || (widest <= 128 && !tall));
    AttentionMma a = attention_sizes(z, tall ? 2 : 1, wide ? 64 : 32, 4);
    if (a.padded[1] > ATTENTION_SLICE) a.padded[1] = a.wide[1] = ATTENTION_SLICE;
    return a;
}

static int64_t forward_shared(const AttentionMma *a) {
    return 2 * ((a->rows + a->columns) * (a->padded[0] + 8) + a->columns * (a->padded[1] + 8));
}

bool attention_mma_takes(const AttentionShape *z, const Target *target) {
    AttentionMma a = forward_sizes(z);
    return z->dtype != LV_F32 && z->d <= MAX_CHANNELS && forward_shared(&a) <= cuda_shared_room(target);
}

void attention_print_mma_forward(const AttentionShape *z, const char *name, LvText *out, CudaKernel *made) {
    AttentionMma a = forward_sizes(z);
    int64_t tiles = z->t ? (z->t + a.rows - 1) / a.rows : 1, slices = z->e ? (z->e + ATTENTION_SLICE - 1) / ATTENTION_SLICE : 1;
    char scale[48];
    snprintf(scale, sizeof scale, "((float)%.17g)", z->scale * 1.4426950408889634074);
    LvText drop = {0}, prescale = {0};
    if (!(z->scale > 1e-20 && z->scale < 1e6)) {
        TEMPLATE_FILL(&prescale, prescale_text, {"tall", NULL, a.tall}, {"columns", NULL, a.columns}, {"scale2", scale, 0});
        snprintf(scale, sizeof scale, "1.f");
    }
    if (z->dropout > 0) ATTENTION_FILL(z, name, drop_text, &drop, {"tall", NULL, a.tall}, {"columns", NULL, a.columns});
    attention_print_common(z, name, out);
    attention_print_mma(z, name, &a, out);
    ATTENTION_FILL(z, name, forward_text, out, {"threads", NULL, 32 * a.warps}, {"rows", NULL, a.rows}, {"columns", NULL, a.columns},
                   {"tall", NULL, a.tall}, {"pitchd", NULL, a.padded[0] + 8}, {"tiles", NULL, tiles}, {"wide", NULL, a.wide[1]},
                   {"scale2", scale, 0}, {"drop", lv_text_get(&drop), 0}, {"prescale", lv_text_get(&prescale), 0},
                   {"dfits", NULL, z->d % 8 == 0 && attention_rows_fit(&z->q, 8) && attention_rows_fit(&z->k, 8)},
                   {"efits", NULL, z->e % 8 == 0 && attention_rows_fit(&z->v, 8)}, {"yfits", NULL, z->e % 2 == 0 && attention_rows_fit(&z->y, 2)});
    cuda_push_launch(made, z->heads * tiles, slices, 1, 32 * a.warps, forward_shared(&a));
    lv_text_free(&drop), lv_text_free(&prescale);
}
