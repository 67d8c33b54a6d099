// What attention and its gradient are made of: exponentials, dropout, and what differs between f32 and bf16.
#include "codegen/c/template_attention.h"

#include <stdio.h>

#include "base/arena.h"

static const char head_text[] =
    "enum { $name_BLOCK = 64 };\n"
    "LV_F $name_v $name_most($name_v a, $name_v b) {\n"
    "#if defined(__AVX__)\n"
    "  __asm__(\"vmaxps %1, %2, %0\" : \"=v\"(a) : \"v\"(b), \"v\"(a));\n"
    "  return a;\n"
    "#else\n"
    "  return $name_choose(a > b, a, b);\n"
    "#endif\n"
    "}\n"
    "// lv_exp, lane by lane; with AVX-512 2^k is multiplied with by an instruction that knows where that is 0, subnormal or infinite\n"
    "LV_F $name_v $name_exp($name_v x) {\n"
    "#if defined(__AVX512F__)\n"
    "  x = $name_most(-110.f - ($name_v){0}, x);\n"
    "#endif\n"
    "  const $name_v t = x * 1.44269504f + 12582912.f, k = t - 12582912.f;\n"
    "  const $name_v r = (x - k * 0.693359375f) + k * 2.12194440e-4f;\n"
    "  $name_v p = 1.99184477e-4f * r + 1.3946119e-3f;\n"
    "  p = p * r + 8.33326392e-3f;\n"
    "  p = p * r + 4.16662693e-2f;\n"
    "  p = p * r + 1.66666672e-1f;\n"
    "  p = p * r + 0.5f;\n"
    "  p = (p * r) * r + r + 1.f;\n"
    "#if defined(__AVX512F__)\n"
    "  __asm__(\"vscalefps %1, %0, %0\" : \"+v\"(p) : \"v\"(k));\n"
    "  return p;\n"
    "#else\n"
    "  p = ($name_v)(($name_i)p + (($name_i)t << 23));\n"
    "  p = $name_choose(x > 88.722839f, __builtin_inff() - ($name_v){0}, p);\n"
    "  return $name_choose(x < -87.336544f, ($name_v){0}, p);\n"
    "#endif\n"
    "}\n"
    "// numbers of the lanes of vector v, from `first`\n"
    "LV_F $name_i $name_number(long first, int v) {\n"
    "  $name_i n;\n"
    "  for (int i = 0; i < $name_LANES; i++) n[i] = (int32_t)(first + v * $name_LANES + i);\n"
    "  return n;\n"
    "}\n";

// What the weights of LANES queries or keys are multiplied with, by their places in the stream.
static const char dropout_text[] =
    "LV_F $name_v $name_kept(int64_t seed, int32_t step, int64_t first, int64_t stride, int v) {\n"
    "  union { $name_v v; float f[$name_LANES]; } kept;\n"
    "  for (int i = 0; i < $name_LANES; i++)\n"
    "    kept.f[i] = lv_uniform(seed, $stream, step, first + (v * $name_LANES + i) * stride) >= $dropout ? $keep : 0.f;\n"
    "  return kept.v;\n"
    "}\n";

// For each type of elements: rows across lanes and back; scores, an entry for each row; sums of rows, each by its entry, for which they
// are made ready PER at a time, in `room` if need be. The factor `scale` is in the lanes, or, where rounding would lose bits, in scores.
static const char floats_text[] =
    "typedef float $name_e;\n"
    "typedef $name_v $name_l;\n"
    "typedef float $name_u __attribute__((vector_size(sizeof($name_v)), aligned(4), may_alias));\n"
    "typedef float $name_k;\n"
    "typedef $name_u $name_f;\n"
    "enum { $name_EACH = 1, $name_STEP = $name_LANES };\n"
    "LV_F float $name_one(float x) { return x; }\n"
    "LV_F $name_v $name_step($name_v c, const float *a, const float *b) { return c + *(const $name_u *)a * *(const $name_u *)b; }\n"
    "LV_F $name_v $name_times($name_v c, const float *x, const float *b) { return c + *x * *(const $name_u *)b; }\n"
    "LV_F void $name_across(const float *x, long count, long width, float scale, $name_v *b) {\n"
    "  $name_transpose(x, width, count, width, scale, b);\n"
    "}\n"
    "LV_F void $name_back($name_v *b, long count, long width, float *y) { $name_untranspose(b, width, count, width, y); }\n"
    "LV_F void $name_scores(const float *a, long count, long width, float scale, const $name_v *b, $name_v *s) {\n"
    "  (void)scale;\n"
    "  $name_multiply(a, width, 1, count, width, b, s, 0);\n"
    "}\n"
    "typedef float $name_r;\n"
    "enum { $name_PER = 1 };\n"
    "#define $name_ROOM(rows, width) 1\n"
    "LV_F const float *$name_rows(const float *a, long count, long width, float *room) { (void)room; return a; }\n"
    "LV_F void $name_sums(const float *a, long count, long width, $name_v *s, $name_v *c) {\n"
    "  $name_multiply(a, 1, width, width, count, s, c, 1);\n"
    "}\n";

// In sums the entries are rounded, and lost.
static const char halves_text[] =
    "typedef uint16_t $name_e;\n"
    "typedef $name_p $name_l;\n"
    "typedef int32_t $name_u __attribute__((vector_size(sizeof($name_v)), aligned(2), may_alias));\n"
    "typedef $name_two $name_k;\n"
    "typedef float $name_f __attribute__((vector_size(sizeof($name_v)), aligned(4), may_alias));\n"
    "enum { $name_EACH = 2, $name_STEP = 2 * $name_LANES };\n"
    "LV_F float $name_one(uint16_t x) { return lv_from_bf16(x); }\n"
    "LV_F $name_v $name_step($name_v c, const uint16_t *a, const uint16_t *b) {\n"
    "  return $name_dot(c, *(const $name_u *)a, *(const $name_u *)b);\n"
    "}\n"
    "LV_F $name_v $name_times($name_v c, const uint16_t *x, const $name_two *b) {\n"
    "  return $name_dot(c, (int32_t)*(const $name_two *)x - ($name_i){0}, *(const $name_u *)b);\n"
    "}\n"
    "LV_F void $name_across(const uint16_t *x, long count, long width, float scale, $name_p *b) {\n"
    "  (void)scale;\n"
    "  $name_transpose_pairs(x, width, count, width, b);\n"
    "}\n"
    "LV_F void $name_back($name_v *b, long count, long width, uint16_t *y) { $name_untranspose_pairs(b, width, count, width, y); }\n"
    "LV_F void $name_scores(const uint16_t *a, long count, long width, float scale, const $name_p *b, $name_v *s) {\n"
    "  $name_multiply_pairs(a, width, 2, count, width / 2, b, s, 0, width % 2, scale);\n"
    "}\n"
    "typedef $name_two $name_r;\n"
    "enum { $name_PER = 2 };\n"
    "#define $name_ROOM(rows, width) (((rows) + 1) / 2 * (width) + 1)\n"
    "LV_F const $name_two *$name_rows(const uint16_t *a, long count, long width, $name_two *room) {\n"
    "  $name_pair(a, width, width, count, room, width);\n"
    "  return room;\n"
    "}\n"
    "LV_F void $name_sums(const $name_two *a, long count, long width, $name_v *s, $name_v *c) {\n"
    "  $name_multiply_pairs((const uint16_t *)a, 2, 2 * width, width, (count + 1) / 2, $name_join(s, count), c, 1, 0, 1.f);\n"
    "}\n";

static void print_dropout(const Node *node, const char *name, LvText *out) {
    double dropout = node_float(node, ATTR_dropout, 0);
    char below[48], keep[48], stream[24];
    if (dropout == 0) return;
    snprintf(below, sizeof below, "((float)%.17g)", dropout);
    snprintf(keep, sizeof keep, "((float)%.17g)", 1 / (1 - dropout));
    snprintf(stream, sizeof stream, "%uu", (unsigned)node_int(node, ATTR_stream, 0));
    TEMPLATE_FILL(out, dropout_text, {"name", name, 0}, {"stream", stream, 0}, {"dropout", below, 0}, {"keep", keep, 0});
}

// Lanes of q, k, v and their gradients stand on a thread's stack: 4 * 48 * 1024 * 4 bytes.
enum { MANY_HEADS = 16, MAX_CHANNELS = 1024, MOST_LANES = 16 };

bool attention_is_half(const Node *node) { return node->inputs[0]->dtype == LV_BF16; }

bool attention_has_many_heads(const Node *node) {
    return node->inputs[0]->shape.dim[0] * node->inputs[0]->shape.dim[1] >= MANY_HEADS;
}

int64_t attention_whole_vectors(int64_t channels) { return (channels + MOST_LANES - 1) / MOST_LANES * MOST_LANES; }

bool attention_tile_takes(const Node *node) {
    int seeds = node_float(node, ATTR_dropout, 0) > 0 ? 2 : 0;
    for (int i = 0; i < node->input_count - seeds; i++) {
        const Value *v = node->inputs[i];
        LvDType expected = attention_is_half(node) && i != ATTENTION_LOGSUMEXP ? LV_BF16 : LV_F32;
        if (v->dtype != expected || !lv_layout_is_row_major(v->layout, v->shape.rank)) return false;
    }
    for (int i = 0; i < node->result_count; i++)
        if (!lv_layout_is_row_major(node->results[i].layout, node->results[i].shape.rank)) return false;
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape, v = node->inputs[2]->shape;
    return q.dim[3] <= MAX_CHANNELS && v.dim[3] <= MAX_CHANNELS && q.dim[2] < INT32_MAX && k.dim[2] < INT32_MAX;
}

void attention_tile_print(const Node *node, const char *name, int count, const char *const *parts, int text_count, const TemplateWord *texts,
                     LvText *out) {
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    int64_t heads = q.dim[0] * q.dim[1], t = q.dim[2], s = v.dim[2], d = q.dim[3], e = v.dim[3];
    bool half = attention_is_half(node);
    int64_t wide = attention_whole_vectors(d), row = half ? wide : d;
    char scale[48];
    snprintf(scale, sizeof scale, "((float)%.17g)", node_float(node, ATTR_scale, 1));
    const char *parallel = heads * t * s * (d + e) >= TEMPLATE_PARALLEL ? "#pragma omp parallel for schedule(dynamic, 1)\n" : "";
    enum { OWN = 20, MOST = OWN + ATTENTION_TEXTS };
    TemplateWord words[MOST] = {
        {"name", name, 0}, {"heads", NULL, heads}, {"t", NULL, t}, {"tL", NULL, t}, {"s", NULL, s}, {"sL", NULL, s}, {"d", NULL, d},
        {"dL", NULL, d}, {"d1", NULL, d ? d : 1}, {"e", NULL, e}, {"eL", NULL, e}, {"e1", NULL, e ? e : 1}, {"wide", NULL, wide},
        {"wideL", NULL, wide}, {"row", NULL, row}, {"rowL", NULL, row}, {"scale", scale, 0},
        {"causal", NULL, node_bool(node, ATTR_causal, false)}, {"parallel", parallel, 0}, {"y", NULL, node->input_count}};
    LvText full[ATTENTION_TEXTS] = {{0}};
    for (int i = 0; i < text_count; i++) {
        template_fill(&full[i], texts[i].text, OWN, words);
        words[OWN + i] = (TemplateWord){texts[i].word, lv_text_get(&full[i]), 0};
    }
    (half ? template_tile_pairs : template_tile)(name, out);
    template_fill(out, head_text, OWN, words);
    template_fill(out, half ? halves_text : floats_text, OWN, words);
    print_dropout(node, name, out);
    for (int i = 0; i < count; i++) template_fill(out, parts[i], OWN + text_count, words);
    for (int i = 0; i < text_count; i++) lv_text_free(&full[i]);
}
