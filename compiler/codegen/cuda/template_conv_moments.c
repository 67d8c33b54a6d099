// The moments of a convolution's result (conv2d_moments): of each channel of a tile's rows, which
// are a strip of one picture, the mean and the sum of squared distances from it, made of what is
// stored while it is at hand.
//
// A thread sums differences from the first result of a column that it stores: with n of them that
// costs at most the digits of n, however large the mean. Then halves of equal length join, by Chan,
// Golub and LeVeque (1983): threads by shuffles, warps of the same columns through shared memory,
// always in the same order. Strips are left to the reader to join: [pictures, strips, channels], a
// tile writes a part of a line.
#include "codegen/cuda/template_conv.h"

static const char join_text[] =
    "LV_D void $name_join_moments(float *mean, float *square, float mean2, float square2, float rows) {\n"
    "  const float d = mean2 - *mean;\n"
    "  *mean = 0.5f * (*mean + mean2);\n"
    "  *square = fmaf(d * d, 0.5f * rows, *square + square2);\n"
    "}\n"
    // Lanes of the same column are `apart` and multiples of it away from each other; each has
    // `rows`.
    "LV_D void $name_join_lanes(float *mean, float *square, int apart, float rows) {\n"
    "  #pragma unroll\n"
    "  for (int d = apart; d < 32; d *= 2, rows *= 2) {\n"
    "    const float mean2 = __shfl_xor_sync(~0u, *mean, d), square2 = __shfl_xor_sync(~0u, *square, d);\n"
    "    $name_join_moments(mean, square, mean2, square2, rows);\n"
    "  }\n"
    "}\n";

// $moments: what the warps left in shared memory, $endpitch apart, becomes the tile's.
static const char tile_text[] =
    "LV_D void $name_moments(float *means, float *squares, const float *shared, int strip, int n0, int tid) {\n"
    "  for (int c = tid; c < $bn && n0 + c < $n; c += $threads) {\n"
    "    const float *at = shared + c / $wn * $endpitch + c % $wn;\n"
    "    float mean[$warpsm], square[$warpsm];\n"
    "    #pragma unroll\n"
    "    for (int w = 0; w < $warpsm; w++) mean[w] = at[w * $warpsn * $endpitch], square[w] = at[w * $warpsn * $endpitch + $wn];\n"
    "    #pragma unroll\n"
    "    for (int d = 1; d < $warpsm; d *= 2) {\n"
    "      #pragma unroll\n"
    "      for (int w = 0; w < $warpsm; w += 2 * d)\n"
    "        $name_join_moments(&mean[w], &square[w], mean[w + d], square[w + d], (float)($wm * d));\n"
    "    }\n"
    "    means[($index)strip * $n + n0 + c] = mean[0];\n"
    "    squares[($index)strip * $n + n0 + c] = square[0];\n"
    "  }\n"
    "}\n";

static const char main_text[] =
    "  __syncthreads();\n"
    "  $name_moments(means, squares, (const float *)shared, m0 / $bm, n0, tid);\n";

// A lane of a warp that stores by way of shared memory has $width columns, the same in each of
// $lanerows rows.
static const char lane_text[] =
    "typedef struct { float first[$width], sum[$width], square[$width]; } $name_run;\n"
    "LV_D void $name_count($name_run *run, const float *v, bool begins) {\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $width; i++) {\n"
    "    if (begins) run->first[i] = v[i], run->sum[i] = 0, run->square[i] = 0;\n"
    "    const float d = v[i] - run->first[i];\n"
    "    run->sum[i] += d;\n"
    "    run->square[i] = fmaf(d, d, run->square[i]);\n"
    "  }\n"
    "}\n"
    "LV_D void $name_leave(const $name_run *run, float *shared, int lane) {\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $width; i++) {\n"
    "    const float off = run->sum[i] * (1.0f / $lanerows);\n"
    "    float mean = run->first[i] + off, square = fmaxf(fmaf(-off, run->sum[i], run->square[i]), 0.0f);\n"
    "    $name_join_lanes(&mean, &square, $wn / $width, $lanerows);\n"
    "    if (lane < $wn / $width) shared[lane * $width + i] = mean, shared[$wn + lane * $width + i] = square;\n"
    "  }\n"
    "}\n";

// A lane that stores its sums has them all at once.
static const char leave_text[] =
    "LV_D void $name_leave(float (*sum)[$tn], float *shared, int lane) {\n"
    "  #pragma unroll\n"
    "  for (int j = 0; j < $tn; j++) {\n"
    "    float mean = 0, square = 0;\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $tm; i++) mean += sum[i][j] * (1.0f / $tm);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $tm; i++) square = fmaf(sum[i][j] - mean, sum[i][j] - mean, square);\n"
    "    $name_join_lanes(&mean, &square, 8, $tm);\n"
    "    const int c = j / 4 * 32 + lane % 8 * 4 + j % 4;\n"
    "    if (lane < 8) shared[c] = mean, shared[$wn + c] = square;\n"
    "  }\n"
    "}\n";

static int lanes_across(const Conv *conv, const ConvTile *tile) {
    return tile->n / tile->warps_n / conv_store_width(conv);
}

bool conv_can_sum_up(const Conv *conv, const ConvTile *tile) {
    return conv->direction != LV_CONV_WEIGHT_GRADIENT && conv->parts == 1 &&
           (conv->unit == CONV_F32 || lanes_across(conv, tile) <= 32);
}

void conv_print_moments(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    static const char *const none[] = {"begin", "count", "leave", "moments", "ask"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        conv_words(words, none[i], "");
    if (conv->summed) conv_print_sums(conv, tile, words, out);
    if (conv->summed || !conv->strips) return;
    bool tensor = conv->unit != CONV_F32;
    int rows = tile->m / tile->warps_m;
    conv_number(words, "tm", rows / (tensor ? 16 : 4));
    conv_number(words, "tn", tile->n / tile->warps_n / 8);
    conv_number(words, "lanerows", rows * lanes_across(conv, tile) / 32);
    conv_fill(words, join_text, out);
    conv_fill(words, tile_text, out);
    conv_fill(words, tensor ? lane_text : leave_text, out);
    if (tensor) {
        conv_words(words, "begin", "  $name_run run;\n");
        conv_words(words, "count", "      $name_count(&run, v, i == 0 && g == 0);\n");
    }
    conv_words(
        words, "leave",
        tensor ? "  $name_leave(&run, shared, lane);\n" : "  $name_leave(sum, shared, lane);\n");
    conv_words(words, "moments", main_text);
}
