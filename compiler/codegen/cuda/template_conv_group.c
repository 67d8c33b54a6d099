// The products of a block whose warps multiply in groups of four (wgmma, sm_90): 64 rows by all columns of the tile, both operands
// read from shared memory by the tensor cores themselves, in the order of 16 k at a time. This is how that architecture reaches its
// peak; mma.sync stays at some six tenths of it.
//
// A slice is 64 of k, lines of 128 bytes whose eight pieces change places by the number of the line, xor (template_conv_copy.c): what
// the manual calls 128-byte swizzling, whose pattern repeats every 1024 bytes, so that tiles begin at multiples of those. An operand
// along k has a line of k for each row; one across k has for each 64 rows (CONV_SEGMENT) a line for each k, segment after segment.
//
// The tensor cores see shared memory through another proxy than the threads: who copied fences its copies (fence.proxy.async) before
// the barrier. They work on while the threads go on: of a group is waited for when the next has been handed over, and only after the
// barrier that follows may its slice be written again. Sums are the tensor cores' until the last wait.
//
// Slices come by cp.async and not by TMA, counted in the SASS of AugVAE's step (188 such kernels, sm_90a): the loop issues 120 to 139
// instructions a warp and slice, addresses and copies included. On the four schedulers of a multiprocessor that is 278 slots for a tile of
// 128 x 256, whose products take the tensor cores 1024 clocks, and 250 of 512 for 128 x 128: threads wait for the tensor cores, which work
// on by themselves. TMA would leave most of those slots empty, and no product would come sooner. Only 64 x 64 (12 of the 188, small maps)
// has more slots, 150, than products, 128 clocks.
#include "codegen/cuda/template_conv.h"

enum { GROUP_ROWS = 64, STEP = 16, SLICE = 64, LINE_BYTES = 2 * SLICE, REPEAT = 8 * LINE_BYTES };

static const char group_text[] =
    "LV_D void $name_wgmma(float (*d)[4], unsigned long long a, unsigned long long b) {\n"
    "#ifdef LV_SIM\n"
    "  $product($wn, $acrossa, $acrossb, d, a, b);\n"
    "#else\n"
    "  asm volatile(\"{\\n.reg .pred p;\\nsetp.eq.u32 p, 0, 0;\\nwgmma.mma_async.sync.aligned.$shape.f32.$short.$short \"\n"
    "    \"{$places}, $placea, $placeb, p, 1, 1, $acrossa, $acrossb;\\n}\"\n"
    "    : $sumoperands : \"l\"(a), \"l\"(b));\n"
    "#endif\n"
    "}\n";

static const char from_text[] =
    "  const unsigned long long froma = lv_wgmma_descriptor(shared + warp / 4 * $grouprows * $bk, $segment, $repeat);\n"
    "  const unsigned long long fromb = lv_wgmma_descriptor(shared + $offset, $segment, $repeat);\n";

static const char loop_text[] =
    "  int now = 0, next = $ahead;\n"
    "  for (int slice = begin; slice < end; slice++) {\n"
    "    LV_COPY_WAIT($wait);\n"
    "    lv_fence_proxy_async();\n"
    "    __syncthreads();\n"
    "    const unsigned long long at = now * ($stage / 8);\n"
    "    lv_wgmma_fence();\n"
    "    #pragma unroll\n"
    "    for (int s = 0; s < $steps; s++) $name_wgmma(sum[0], froma + at + s * $stepa, fromb + at + s * $stepb);\n"
    "    lv_wgmma_commit();\n"
    "    $name_copy_a(&a, part, shared + next * $stage, slice + $ahead < end);\n"
    "    $name_copy_b(&b, part, shared + next * $stage + $offset, slice + $ahead < end);\n"
    "    lv_copy_commit();\n"
    "    now = now + 1 == $stages ? 0 : now + 1, next = next + 1 == $stages ? 0 : next + 1;\n"
    "    LV_WGMMA_WAIT(1);\n"
    "  }\n"
    "  LV_WGMMA_WAIT(0);\n"
    "  #pragma unroll\n"
    "  for (int j = 0; j < $tn; j++) lv_wgmma_keep(sum[0][j]);\n";

bool conv_can_group(const Conv *conv, const ConvTile *tile) {
    return conv->groups && (conv_along_k(conv, CONV_B) || tile->n % CONV_SEGMENT == 0);
}

// {%0,%1, ... and "+f"(d[0][0]), ...
static void words_of_sums(const ConvTile *tile, ConvWords *words) {
    LvText places = {0}, operands = {0};
    int count = tile->n / 2;
    for (int i = 0; i < count; i++) {
        lv_text_printf(&places, "%s%%%d", i ? "," : "", i);
        lv_text_printf(&operands, "%s\"+f\"(d[%d][%d])", i ? ", " : "", i / 4, i % 4);
    }
    conv_text(words, "places", "%s", lv_text_get(&places));
    conv_text(words, "sumoperands", "%s", lv_text_get(&operands));
    conv_text(words, "placea", "%%%d", count);
    conv_text(words, "placeb", "%%%d", count + 1);
    lv_text_free(&places);
    lv_text_free(&operands);
}

// Descriptors count in 16 bytes; a step is 16 elements further along a line, or 16 lines.
static void words_of_operand(const Conv *conv, ConvOperand operand, ConvWords *words) {
    bool a = operand == CONV_A, along = conv_along_k(conv, operand);
    conv_number(words, a ? "acrossa" : "acrossb", !along);
    conv_number(words, a ? "stepa" : "stepb", (along ? 2 * STEP : STEP * LINE_BYTES) / 16);
}

void conv_print_group(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    words_of_sums(tile, words);
    words_of_operand(conv, CONV_A, words);
    words_of_operand(conv, CONV_B, words);
    conv_text(words, "shape", "m%dn%dk%d", GROUP_ROWS, tile->n, STEP);
    conv_text(words, "product", conv->type == LV_F16 ? "lv_wgmma_f16" : "lv_wgmma_bf16");
    conv_text(words, "short", conv->type == LV_F16 ? "f16" : "bf16");
    conv_number(words, "grouprows", GROUP_ROWS);
    conv_number(words, "segment", 2 * CONV_SEGMENT * tile->k);
    conv_number(words, "repeat", REPEAT);
    conv_number(words, "steps", tile->k / STEP);
    conv_words(words, "align", "  shared = ($type *)lv_align_shared(shared);\n");
    conv_words(words, "from", from_text);
    conv_words(words, "loop", loop_text);
    conv_fill(words, group_text, out);
}
