// Where k was split: the sums of a tile's blocks become one, in the launch that made them.
//
// Pair by pair: neighbours, then neighbouring pairs, and so on. Of two blocks that meet, the one
// that comes first leaves its sums in scratch memory and is done; the other adds them to its own
// and goes on. Which of them comes first does not matter, a + b = b + a, and who meets whom is
// settled by their numbers: the same bits every time, and no block waits for another. The last has
// read log2(splits) others' sums, where one that added them all would read them one after the
// other, splits of them, and would be alone in doing so.
//
// Scratch memory: [tiles, splits, quads of a thread, threads] of four sums; range s of k leaves
// what it has of itself and of those after it at s. Each meeting has a counter in the head of the
// scratch memory, found and left at zero.
#include "codegen/cuda/template_conv.h"

// Others' sums come by way of shared memory, $batch quads at a time: there they wait for each other
// in no register. A thread reads what it copied itself.
static const char join_text[] =
    "LV_D bool $name_join(float (*sum)$sums, char *scratch, float4 *shared, int *last) {\n"
    "  const int tile = (int)(blockIdx.z * gridDim.x + blockIdx.x);\n"
    "  float4 *left = (float4 *)scratch + (size_t)tile * ($splits * $quads * $threads);\n"
    "  float4 *at = shared + threadIdx.x;\n"
    "  left += threadIdx.x;\n"
    "  #pragma unroll 1\n"
    "  for (int d = 1; d < $splits; d *= 2) {\n"
    "    const int mine = (int)blockIdx.y & -d, other = mine ^ d;\n"
    "    const int counter = tile * ($splits - 1) + (mine | d) - 1;\n"
    "    if (other >= $splits) continue;\n"
    "    if (!lv_have_come(scratch, counter, 1, last)) {\n"
    "      #pragma unroll\n"
    "      for (int q = 0; q < $quads; q++) {\n"
    "        const int i = q * $apart / $tn, j = q * $apart % $tn;\n"
    "        left[(mine * $quads + q) * $threads] = make_float4($sum0, $sum1, $sum2, $sum3);\n"
    "      }\n"
    "    }\n"
    "    if (!lv_is_last(scratch, counter, 2, last)) return false;\n"
    "    #pragma unroll\n"
    "    for (int g = 0; g < $quads; g += $batch) {\n"
    "      #pragma unroll\n"
    "      for (int e = 0; e < $batch; e++)\n"
    "        lv_copy_async16(at + e * $threads, left + (other * $quads + g + e) * $threads, 16);\n"
    "      lv_copy_commit();\n"
    "      LV_COPY_WAIT(0);\n"
    "      #pragma unroll\n"
    "      for (int e = 0; e < $batch; e++) {\n"
    "        const int i = (g + e) * $apart / $tn, j = (g + e) * $apart % $tn;\n"
    "        const float4 t = at[e * $threads];\n"
    "        $sum0 += t.x, $sum1 += t.y, $sum2 += t.z, $sum3 += t.w;\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "  __syncthreads();\n"
    "  return true;\n"
    "}\n";

static int64_t counters(const Conv *conv, const ConvTile *tile, int splits) {
    return conv_up(conv->m, tile->m) * conv_up(conv->n, tile->n) * conv->parts * (splits - 1);
}

bool conv_can_join(const Conv *conv, const ConvTile *tile, int splits) {
    return counters(conv, tile, splits) <= LV_SCRATCH_HEAD / 4;
}

int64_t conv_join_bytes(const Conv *conv, const ConvTile *tile) {
    if (tile->splits == 1) return 0;
    if (!conv_can_join(conv, tile, tile->splits))
        lv_internal_error("convolution: more ranges of k than there are counters");
    return 4LL * conv_up(conv->m, tile->m) * conv_up(conv->n, tile->n) * conv->parts *
           tile->splits * tile->m * tile->n;
}

// Quads of each thread that fit into shared memory; a thread has a power of two of them.
static int batch(const Conv *conv, const ConvTile *tile) {
    int quads = tile->m * tile->n / 4 / conv_threads(tile);
    while (16LL * quads * conv_threads(tile) > conv_shared_bytes(conv, tile))
        quads /= 2;
    return quads;
}

void conv_print_join(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    bool tensor = conv->unit != CONV_F32;  // four sums of an mma, or four columns side by side
    conv_words(words, "join", "");
    if (tile->splits == 1) return;
    conv_number(words, "apart", tensor ? 1 : 4);
    conv_number(words, "quads", tile->m * tile->n / 4 / conv_threads(tile));
    conv_number(words, "batch", batch(conv, tile));
    static const char *const names[] = {"sum0", "sum1", "sum2", "sum3"};
    for (int i = 0; i < 4; i++)
        conv_text(words, names[i], tensor ? "sum[i][j][%d]" : "sum[i][j + %d]", i);
    conv_fill(words, join_text, out);
    conv_words(words, "join",
               "  __shared__ int last;\n  if (!$name_join(sum, scratch, (float4 *)shared, &last)) return;\n");
}
