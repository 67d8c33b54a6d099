// nearest_code's products on tensor cores: x - p and c - p as sums of two bf16 each, high and low, and of their product all but low
// times low. That leaves errors of 2^-17 of |x| |c|, a fiftieth of TF32's; what lies within them is decided in f64 as ever, so that
// the indices are those of f32 products, or better ones.
//
// The first launch splits vectors and codes and sums their squares. In the second a block has 128 vectors and a share of the codes,
// 128 at a time; a warp has 32 x 64 of the products. Slices of 32 channels come by asynchronous copies into two buffers; in
// their 64-byte rows pieces of 16 bytes are permuted so that an ldmatrix meets every bank once.
#include <math.h>

#include "codegen/cuda/template_nearest_code.h"

enum { BLOCK = 256, SPLIT_ROWS = 32, SLICE = 32, TILE = NEAREST_TILE };

static const char split_text[] =
    "extern \"C\" __global__ void $name_0(const float *x, const float *codes, int *y, char *scratch) {\n"
    "  __shared__ float pivot[$padded];\n"
    "  const bool of_x = blockIdx.x < $xblocks;\n"
    "  const int lane = threadIdx.x % 32, first = (of_x ? blockIdx.x : blockIdx.x - $xblocks) * $rows + threadIdx.x / 32, count = of_x ? $n : $k;\n"
    "  const float *from = of_x ? x : codes;\n"
    "  unsigned *high = (unsigned *)(scratch + (of_x ? $xhigh : $chigh)), *low = (unsigned *)(scratch + (of_x ? $xlow : $clow));\n"
    "  for (int i = threadIdx.x; i < $padded; i += $block) pivot[i] = i < $d ? $name_pivot(x, i) : 0.f;\n"
    "  __syncthreads();\n"
    "  for (int row = first; row < first + $rows && row < count; row += $block / 32) {\n"
    "    float sum = 0;\n"
    "    for (int i = 2 * lane; i < $padded; i += 64) {\n"
    "      const float a = i < $d ? from[(long long)row * $d + i] - pivot[i] : 0.f, b = i + 1 < $d ? from[(long long)row * $d + i + 1] - pivot[i + 1] : 0.f;\n"
    "      const unsigned both = lv_pack_bf16(a, b);\n"
    "      const long long at = ((long long)row * $padded + i) / 2;\n"
    "      high[at] = both;\n"
    "      low[at] = lv_pack_bf16(a - __uint_as_float(both << 16), b - __uint_as_float(both & 0xFFFF0000u));\n"
    "      sum = fmaf(a, a, sum), sum = fmaf(b, b, sum);\n"
    "    }\n"
    "    sum = lv_warp_sum(sum);\n"
    "    if (lane == 0) ((float *)(scratch + (of_x ? $squares : $halves)))[row] = of_x ? sum : sum / 2;\n"
    "  }\n"
    "}\n";

// In shared memory a slice is [4: x high, x low, codes high, codes low][128 rows][32 channels].
static const char product_text[] =
    "static __device__ __forceinline__ void $name_slice(unsigned short *to, const char *scratch, int row, int code, int depth) {\n"
    "  const int thread = threadIdx.x, piece = thread % 4;\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < 8; i++) {\n"
    "    const int own = thread / 4 + i % 2 * 64, at = (i < 4 ? row : code) + own;\n"
    "    const unsigned short *from = (const unsigned short *)(scratch + (i < 2 ? $xhigh : i < 4 ? $xlow : i < 6 ? $chigh : $clow));\n"
    "    const bool there = at < (i < 4 ? $n : $k);\n"
    "    lv_copy_async16(to + i / 2 * 4096 + own * 32 + (piece ^ own / 2 % 4) * 8, from + (there ? (long long)at * $padded + depth + piece * 8 : 0), there ? 16 : 0);\n"
    "  }\n"
    "}\n"
    "static __device__ __forceinline__ const unsigned short *$name_at(const unsigned short *slice, int row, int piece) {\n"
    "  return slice + row * 32 + (piece ^ row / 2 % 4) * 8;\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__($block, 2) $name_1(const float *x, const float *codes, int *y, char *scratch) {\n"
    "  LV_SHARED(unsigned short, shared);\n"
    "  const float *halves = (const float *)(scratch + $halves);\n"
    "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4 * 2, down = warp % 4 * 32, across = warp / 4 * 64;\n"
    "  const int row = blockIdx.x * $tile, begin = blockIdx.y * $share, end = begin + $share < $k ? begin + $share : $k;\n"
    "  if (row >= $n) return;\n"
    "  float sums[2][8][4];\n"
    "  float best[2][2], second[2][2], third[2][2];\n"
    "  unsigned both[2][2];  // their indices, 16 bits each: registers are dear\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < 2; m++) {\n"
    "    #pragma unroll\n"
    "    for (int h = 0; h < 2; h++) best[m][h] = second[m][h] = third[m][h] = 3e38f, both[m][h] = 0;\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < 8; j++) sums[m][j][0] = sums[m][j][1] = sums[m][j][2] = sums[m][j][3] = 0;\n"
    "  }\n"
    "  $name_slice(shared, scratch, row, begin, 0);\n"
    "  lv_copy_commit();\n"
    "  int code = begin, depth = 0, buffer = 0;\n"
    "  while (code < end) {\n"
    "    const bool whole = depth + 32 >= $padded;\n"
    "    const int next = whole ? 0 : depth + 32, next_code = whole ? code + $tile : code;\n"
    "    if (next_code < end) $name_slice(shared + (buffer ^ 1) * 16384, scratch, row, next_code, next);\n"
    "    lv_copy_commit();\n"
    "    LV_COPY_WAIT(1);\n"
    "    __syncthreads();\n"
    "    const unsigned short *slice = shared + buffer * 16384;\n"
    "    #pragma unroll 1\n"
    "    for (int k = 0; k < 4; k += 2) {\n"
    "      unsigned high[2][4], low[2][4];\n"
    "      #pragma unroll\n"
    "      for (int m = 0; m < 2; m++) {\n"
    "        lv_ldmatrix4(high[m], $name_at(slice, down + 16 * m + lane % 16, k + lane / 16));\n"
    "        lv_ldmatrix4(low[m], $name_at(slice + 4096, down + 16 * m + lane % 16, k + lane / 16));\n"
    "      }\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) {\n"
    "        unsigned r[4];\n"
    "        const int of = across + 16 * j + lane % 8 + lane / 16 * 8;\n"
    "        lv_ldmatrix4(r, $name_at(slice + 8192, of, k + lane / 8 % 2));\n"
    "        #pragma unroll\n"
    "        for (int m = 0; m < 2; m++) {\n"
    "          lv_mma_bf16(sums[m][2 * j], low[m], r), lv_mma_bf16(sums[m][2 * j + 1], low[m], r + 2);\n"
    "          lv_mma_bf16(sums[m][2 * j], high[m], r), lv_mma_bf16(sums[m][2 * j + 1], high[m], r + 2);\n"
    "        }\n"
    "        lv_ldmatrix4(r, $name_at(slice + 12288, of, k + lane / 8 % 2));\n"
    "        #pragma unroll\n"
    "        for (int m = 0; m < 2; m++) lv_mma_bf16(sums[m][2 * j], high[m], r), lv_mma_bf16(sums[m][2 * j + 1], high[m], r + 2);\n"
    "      }\n"
    "    }\n"
    "    if (whole) {\n"
    "      float least[2][2] = {{LV_INF, LV_INF}, {LV_INF, LV_INF}};\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 8; j++)\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < 2; i++) {\n"
    "          const int own = code + across + 8 * j + c + i;\n"
    "          const float half = ($k % $tile == 0 && $share % $tile == 0) || own < end ? halves[own] : LV_INF;\n"  // a constant, mostly
    "          #pragma unroll\n"
    "          for (int m = 0; m < 2; m++)\n"
    "            #pragma unroll\n"
    "            for (int h = 0; h < 2; h++) {\n"
    "              sums[m][j][2 * h + i] = half - sums[m][j][2 * h + i];\n"
    "              least[m][h] = fminf(least[m][h], sums[m][j][2 * h + i]);\n"
    "            }\n"
    "        }\n"
    "      #pragma unroll\n"
    "      for (int m = 0; m < 2; m++)\n"
    "        #pragma unroll\n"
    "        for (int h = 0; h < 2; h++) {\n"
    "          if (least[m][h] < third[m][h]) {\n"
    "            $name_found f = {best[m][h], second[m][h], third[m][h], (int)(both[m][h] & 65535), (int)(both[m][h] >> 16)};\n"
    "            #pragma unroll\n"
    "            for (int j = 0; j < 8; j++)\n"
    "              #pragma unroll\n"
    "              for (int i = 0; i < 2; i++) $name_join(&f, sums[m][j][2 * h + i], code + across + 8 * j + c + i);\n"
    "            best[m][h] = f.best, second[m][h] = f.second, third[m][h] = f.third, both[m][h] = f.index | f.other << 16;\n"
    "          }\n"
    "          #pragma unroll\n"
    "          for (int j = 0; j < 8; j++) sums[m][j][2 * h] = sums[m][j][2 * h + 1] = 0;\n"
    "        }\n"
    "    }\n"
    "    __syncthreads();\n"
    "    code = next_code, depth = next, buffer ^= 1;\n"
    "  }\n"
    "  float *out = (float *)(scratch + $found) + (blockIdx.y * 2LL + warp / 4) * $n;\n"
    "  #pragma unroll\n"
    "  for (int m = 0; m < 2; m++)\n"
    "    #pragma unroll\n"
    "    for (int h = 0; h < 2; h++) {\n"
    "      const int n = row + down + 16 * m + 8 * h + g;\n"
    "      $name_found f = {best[m][h], second[m][h], third[m][h], (int)(both[m][h] & 65535), (int)(both[m][h] >> 16)};\n"
    "      $name_meet(&f, 2);\n"
    "      if (c == 0 && n < $n) $name_leave(&f, out + n);\n"
    "    }\n"
    "}\n";

enum { LEAST_PRODUCTS = 1 << 24, MOST_CODES = 1 << 16 };  // below, splitting costs more than it saves; indices have 16 bits

// Where tensor cores are worth three products of bf16 for one of f32: not on GPUs for play.
bool nearest_code_mma_takes(const NearestCode *z, const Target *target) {
    bool strong = target->sm == 80 || (target->sm >= 90 && target->sm < 120);
    return strong && z->d >= SLICE / 2 && z->k >= TILE && z->k <= MOST_CODES && z->n * z->k * z->d >= LEAST_PRODUCTS;
}

void nearest_code_print_mma(NearestCode *z, const char *name, LvText *out, CudaKernel *made) {
    int64_t padded = (z->d + SLICE - 1) / SLICE * SLICE, x_blocks = (z->n + SPLIT_ROWS - 1) / SPLIT_ROWS;
    int64_t tiles = (z->n + TILE - 1) / TILE;
    int64_t x_high = cuda_take_scratch(made, 2 * z->n * padded), x_low = cuda_take_scratch(made, 2 * z->n * padded);
    int64_t c_high = cuda_take_scratch(made, 2 * z->k * padded), c_low = cuda_take_scratch(made, 2 * z->k * padded);
    int64_t halves = cuda_take_scratch(made, 4 * z->k);
    // what is left out of a product, and the sums of tensor cores, which round towards zero
    z->doubt += 1.2e-5 + 1.2e-7 * 3 * (double)padded / 16;
    const char *const texts[] = {split_text, product_text};
    for (int i = 0; i < 2; i++)
        TEMPLATE_FILL(out, texts[i], {"name", name, 0}, {"n", NULL, z->n}, {"d", NULL, z->d}, {"k", NULL, z->k}, {"padded", NULL, padded},
                      {"xblocks", NULL, x_blocks}, {"rows", NULL, SPLIT_ROWS}, {"xhigh", NULL, x_high}, {"xlow", NULL, x_low},
                      {"chigh", NULL, c_high}, {"clow", NULL, c_low}, {"halves", NULL, halves}, {"squares", NULL, z->squares},
                      {"found", NULL, z->found}, {"share", NULL, z->share}, {"tile", NULL, TILE}, {"block", NULL, BLOCK});
    cuda_push_launch(made, x_blocks + (z->k + SPLIT_ROWS - 1) / SPLIT_ROWS, 1, 1, BLOCK, 0);
    cuda_push_launch(made, tiles, z->shares / 2, 1, BLOCK, 2 * 4 * TILE * SLICE * 2);
}
