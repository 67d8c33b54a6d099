// The loop over slices and its products, and the end of a block, on tensor cores or by multiply-adds; by warp groups:
// template_conv_group.c.
//
// A warp's fragments come from shared memory by ldmatrix: four 8 x 8 matrices of halves, or 8 x 4 of f32, transposed on the way
// where the operand lies across k; f32 across k has no such load and is read element by element. TF32 is rounded to nearest in
// registers, for the tensor cores cut off the rest. Sums go through shared memory once more, 16 rows a warp at a time, to leave
// in whole lines.
#include "codegen/cuda/template_conv.h"

static const char tensor_text[] =
    // Fragments for a step of k. a and b: where the slice lies; froma and fromb: what this lane begins to read of it.
    "typedef struct { unsigned x[$tm][4], y[$tn][2]; } $name_parts;\n"
    "LV_D int $name_from_a(int row, int lane) { return $name_at_a($linea); }\n"
    "LV_D int $name_from_b(int column, int lane) { return $name_at_b($lineb); }\n"
    "LV_D void $name_fetch($name_parts *p, const $type *a, const $type *b, int k, int froma, int fromb) {\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tm; i++) {\n"
    "    $fetcha\n"
    "  }\n"
    "  #pragma unroll\n"
    "  for (int j = 0; j < $tn; j += 2) {\n"
    "    unsigned t[4];\n"
    "    $fetchb\n"
    "    p->y[j][0] = t[0], p->y[j][1] = t[1], p->y[j + 1][0] = t[2], p->y[j + 1][1] = t[3];\n"
    "  }\n"
    "}\n"
    "LV_D void $name_multiply(float (*sum)[$tn][4], const $name_parts *p) {\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tm; i++) {\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $tn; j++) $mma(sum[i][j], p->x[i], p->y[j]);\n"
    "  }\n"
    "}\n";

// Fragments are fetched a step ahead, at the end of a slice those of the next: so the barrier and the loads that follow it pass
// while the tensor cores have the last step's products to do. After the barrier nobody reads the slice before any more, whose place
// is filled again.
static const char tensor_loop_text[] =
    "  $name_parts parts[2];\n"
    "  int now = 0, next = $stages - 1;\n"
    "  LV_COPY_WAIT($wait);\n"
    "  __syncthreads();\n"
    "  if (begin < end) $name_fetch(&parts[0], shared, shared + $offset, 0, froma, fromb);\n"
    "  for (int slice = begin; slice < end; slice++) {\n"
    "    const $type *at = shared + now * $stage;\n"
    "    now = now + 1 == $stages ? 0 : now + 1;\n"
    "    #pragma unroll\n"
    "    for (int s = 0; s < $steps; s++) {\n"
    "      if (s + 1 < $steps) {\n"
    "        $name_fetch(&parts[(s + 1) % 2], at, at + $offset, (s + 1) * $kstep, froma, fromb);\n"
    "      } else {\n"
    "        LV_COPY_WAIT($wait);\n"
    "        __syncthreads();\n"
    "        $name_fetch(&parts[0], shared + now * $stage, shared + now * $stage + $offset, 0, froma, fromb);\n"
    "      }\n"
    "      if (s == 0) {\n"
    "        $name_copy_a(&a, part, shared + next * $stage, slice + $stages - 1 < end);\n"
    "        $name_copy_b(&b, part, shared + next * $stage + $offset, slice + $stages - 1 < end);\n"
    "        lv_copy_commit();\n"
    "        next = next + 1 == $stages ? 0 : next + 1;\n"
    "      }\n"
    "      $name_multiply(sum, &parts[s % 2]);\n"
    "    }\n"
    "  }\n";

static const char float_loop_text[] =
    "  int now = 0, next = $stages - 1;\n"
    "  for (int slice = begin; slice < end; slice++) {\n"
    "    LV_COPY_WAIT($wait);\n"
    "    __syncthreads();\n"
    "    if (slice + $stages - 1 < end) {\n"
    "      $name_copy_a(&a, part, shared + next * $stage, true);\n"
    "      $name_copy_b(&b, part, shared + next * $stage + $offset, true);\n"
    "    }\n"
    "    lv_copy_commit();\n"
    "    $name_multiply(sum, shared + now * $stage, shared + now * $stage + $offset, froma, fromb);\n"
    "    now = now + 1 == $stages ? 0 : now + 1, next = next + 1 == $stages ? 0 : next + 1;\n"
    "  }\n";

static const char tensor_end_text[] =
    "LV_D void $name_end($parameters, $name_part part, float (*sum)[$tn][4], float *shared, int m0, int n0, int lane) {\n"
    "$begin"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tm; i++) {\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $tn; j++) {\n"
    "      float *at = shared + lane / 4 * $pitch + j * 8 + lane % 4 * 2;\n"
    "      *(float2 *)at = make_float2(sum[i][j][0], sum[i][j][1]);\n"
    "      *(float2 *)(at + 8 * $pitch) = make_float2(sum[i][j][2], sum[i][j][3]);\n"
    "    }\n"
    "    __syncwarp();\n"
    "    #pragma unroll $unroll\n"
    "    for (int g = 0; g < $wn / $width / 2; g++) {\n"
    "      const int e = g * 32 + lane, r = e / ($wn / $width), c = e % ($wn / $width) * $width;\n"
    "      float v[$width];\n"
    "      $name_read_row(shared + r * $pitch + c, v);\n"
    "      $name_put($arguments, part, m0 + i * 16 + r, n0 + c, v);\n"
    "$count"
    "    }\n"
    "    __syncwarp();\n"
    "  }\n"
    "$leave"
    "}\n";

// A lane has rows 4 (lane / 8) + 16 g and columns 4 (lane % 8) + 32 g, four of each.
static const char float_text[] =
    "LV_D int $name_from_a(int row, int lane) { return row + lane / 8 * 4; }\n"
    "LV_D int $name_from_b(int column, int lane) { return column + lane % 8 * 4; }\n"
    "LV_D void $name_multiply(float (*sum)[$tn], const float *a, const float *b, int froma, int fromb) {\n"
    "  #pragma unroll\n"
    "  for (int k = 0; k < $bk; k++) {\n"
    "    float x[$tm], y[$tn];\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $tm; i += 4) {\n"
    "      const float4 t = *(const float4 *)(a + froma + i * 4 + k * ($bm + 4));\n"
    "      x[i] = t.x, x[i + 1] = t.y, x[i + 2] = t.z, x[i + 3] = t.w;\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $tn; j += 4) {\n"
    "      const float4 t = *(const float4 *)(b + fromb + j * 8 + k * ($bn + 4));\n"
    "      y[j] = t.x, y[j + 1] = t.y, y[j + 2] = t.z, y[j + 3] = t.w;\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $tm; i++) {\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < $tn; j++) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);\n"
    "    }\n"
    "  }\n"
    "}\n"
    "LV_D void $name_end($parameters, $name_part part, float (*sum)[$tn], float *shared, int m0, int n0, int lane) {\n"
    "$begin"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tm; i++) {\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $tn; j += $width) {\n"
    "      const int m = m0 + i / 4 * 16 + lane / 8 * 4 + i % 4, n = n0 + j / 4 * 32 + lane % 8 * 4 + j % 4;\n"
    "      $name_put($arguments, part, m, n, &sum[i][j]);\n"
    "$count"
    "    }\n"
    "  }\n"
    "$leave"
    "}\n";

// ---- fragments: of a, rows row + 16 i ... + 15 and a step of k; of b, columns column + 8 j ... + 15 likewise
//
// Pieces change places by xor, and tiles, warps and steps are powers of two: the next piece of the same line is an xor away; the
// same piece of a line eight on, a sum away, which is part of the instruction.

typedef struct {
    const char *line, *fetch;
} Fragment;

static const Fragment a_along = {"row + lane % 16, lane / 16 * $piece", "lv_ldmatrix4(p->x[i], a + (froma ^ k) + i * 16 * $bk);"};
static const Fragment a_across = {"row + lane / 8 % 2 * 8, lane % 8 + lane / 16 * 8",
                                  "lv_ldmatrix4_trans(p->x[i], a + (froma ^ i * 16) + k * $bm);"};
static const Fragment b_along = {"column + lane % 8 + lane / 16 * 8, lane / 8 % 2 * $piece",
                                 "lv_ldmatrix4(t, b + (fromb ^ k) + j * 8 * $bk);"};
static const Fragment b_across = {"column + lane / 16 * 8, lane % 8 + lane / 8 % 2 * 8",
                                  "lv_ldmatrix4_trans(t, b + (fromb ^ j * 8) + k * $bn);"};
static const Fragment a_float = {"row + lane / 4, lane % 4",
                                 "#pragma unroll\n"
                                 "      for (int e = 0; e < 4; e++)\n"
                                 "        p->x[i][e] = __float_as_uint(a[(froma ^ (e % 2 * 8 + i * 16)) + (k + e / 2 * 4) * $bm]);"};
static const Fragment b_float = {"column + lane / 4, lane % 4",
                                 "#pragma unroll\n"
                                 "      for (int e = 0; e < 4; e++)\n"
                                 "        t[e] = __float_as_uint(b[(fromb ^ (e / 2 * 8 + j * 8)) + (k + e % 2 * 4) * $bn]);"};
static const char a_round_text[] =
    "\n      #pragma unroll\n      for (int e = 0; e < 4; e++) p->x[i][e] = lv_to_tf32(__uint_as_float(p->x[i][e]));";
static const char b_round_text[] = "\n      #pragma unroll\n      for (int e = 0; e < 4; e++) t[e] = lv_to_tf32(__uint_as_float(t[e]));";

static void words_of_fragment(const Conv *conv, ConvOperand operand, ConvWords *words) {
    bool a = operand == CONV_A, along = conv_along_k(conv, operand), half = conv->unit == CONV_HALF;
    const Fragment *of = along ? a ? &a_along : &b_along : half ? a ? &a_across : &b_across : a ? &a_float : &b_float;
    conv_words(words, a ? "linea" : "lineb", of->line);
    const char *round = half ? "" : a ? a_round_text : b_round_text;
    conv_words(words, a ? "fetcha" : "fetchb", lv_arena_printf(words->arena, "%s%s", of->fetch, round));
}

static void print_fragments(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    conv_number(words, "piece", 16 / conv_size(conv));
    conv_number(words, "kstep", 32 / conv_size(conv));
    conv_text(words, "mma", "%s", conv->unit == CONV_TF32 ? "lv_mma_tf32" : conv->type == LV_BF16 ? "lv_mma_bf16" : "lv_mma_f16");
    words_of_fragment(conv, CONV_A, words);
    words_of_fragment(conv, CONV_B, words);
    conv_number(words, "steps", tile->k * conv_size(conv) / 32);
    conv_words(words, "loop", tensor_loop_text);
    conv_fill(words, tensor_text, out);
}

static void print_tensor(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    conv_number(words, "tm", tile->m / tile->warps_m / 16);
    conv_number(words, "tn", tile->n / tile->warps_n / 8);
    conv_number(words, "pitch", conv_end_pitch(tile));
    if (tile->grouped) conv_print_group(conv, tile, words, out);
    else print_fragments(conv, tile, words, out);
    conv_print_read_row(conv, words, out);
    // without an exponential to compute, loads of the residual can be under way together
    conv_number(words, "unroll", conv->activation < LV_ACTIVATION_SWISH ? 32 : 1);
    conv_fill(words, tensor_end_text, out);
}

static const char from_text[] = "  const int froma = $name_from_a(row, lane), fromb = $name_from_b(column, lane);\n";

void conv_print_product(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    conv_words(words, "align", "");
    conv_words(words, "from", from_text);
    if (conv->unit != CONV_F32) {
        print_tensor(conv, tile, words, out);
        return;
    }
    conv_number(words, "tm", tile->m / tile->warps_m / 4);
    conv_number(words, "tn", tile->n / tile->warps_n / 8);
    conv_words(words, "loop", float_loop_text);
    conv_fill(words, float_text, out);
}
