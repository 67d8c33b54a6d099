// attention of few queries over many keys, as in sampling token by token: reads each key and value once, at memory's speed.
// Of bf16 the products with keys and queries are exact, and weights are not rounded: it is half the bytes that count.
//
// A task is a head and a part of its keys (several parts only where there are few heads); within it, blocks of keys, and for each
// query scores, running maximum and sum, and y = y exp(m_old - m) + p v, as in FlashAttention-2 (Dao 2023). Parts are merged in
// their order, and where they end depends on the number of keys alone: the same bits for any number of threads.
#include <stdio.h>

#include "codegen/c/template_text.h"

static const char types_text[] =
    "#if defined(__AVX512F__)\n"
    "enum { $name_LANES = 16 };\n"
    "#else\n"
    "enum { $name_LANES = 8 };\n"
    "#endif\n"
    "enum { $name_BLOCK = 64, $name_WIDE = 8 };\n"
    "typedef float $name_v __attribute__((vector_size(4 * $name_LANES)));\n"
    "typedef float $name_u __attribute__((vector_size(4 * $name_LANES), aligned(4), may_alias));\n"
    "typedef float $name_four __attribute__((vector_size(16)));\n"
    "LV_F float $name_sum($name_v a) {\n"
    "  union { $name_v v; $name_four four[$name_LANES / 4]; } u = {a};\n"
    "  $name_four s = u.four[0];\n"
    "  for (int i = 1; i < $name_LANES / 4; i++) s += u.four[i];\n"
    "  return (s[0] + s[1]) + (s[2] + s[3]);\n"
    "}\n";

// A query as scores read it, STEP elements of it by as many of a key, and values by vectors.
static const char floats_text[] =
    "typedef float $name_e;\n"
    "typedef float $name_q;\n"
    "enum { $name_STEP = $name_LANES };\n"
    "LV_F float $name_one(float x) { return x; }\n"
    "LV_F const float *$name_lay(const float *q, float *room) { (void)room; return q; }\n"
    "LV_F float $name_part(const float *q, long i) { return q[i]; }\n"
    "LV_F $name_v $name_step($name_v c, const float *q, const float *k) { return c + *(const $name_u *)q * *(const $name_u *)k; }\n"
    "LV_F $name_v $name_load(const float *v) { return *(const $name_u *)v; }\n";

// As in template_matvec.c: pairs as they stand where one instruction multiplies them, else the even elements apart from the odd ones.
static const char halves_text[] =
    "typedef uint16_t $name_e;\n"
    "typedef uint32_t $name_h __attribute__((vector_size(4 * $name_LANES), aligned(2), may_alias));\n"
    "typedef uint16_t $name_n __attribute__((vector_size(2 * $name_LANES), aligned(2), may_alias));\n"
    "enum { $name_STEP = 2 * $name_LANES };\n"
    "LV_F float $name_one(uint16_t x) { return lv_from_bf16(x); }\n"
    "#if defined(__AVX512BF16__)\n"
    "typedef uint16_t $name_q;\n"
    "LV_F const uint16_t *$name_lay(const uint16_t *q, uint16_t *room) { (void)room; return q; }\n"
    "LV_F float $name_part(const uint16_t *q, long i) { return lv_from_bf16(q[i]); }\n"
    "LV_F $name_v $name_step($name_v c, const uint16_t *q, const uint16_t *k) {\n"
    "  __asm__(\"vdpbf16ps %2, %1, %0\" : \"+v\"(c) : \"v\"(*(const $name_h *)q), \"vm\"(*(const $name_h *)k));\n"
    "  return c;\n"
    "}\n"
    "#else\n"
    "typedef float $name_q;\n"
    "static const float *$name_lay(const uint16_t *q, float *room) {\n"
    "  long k = 0;\n"
    "  for (; k + $name_STEP <= $d; k += $name_STEP)\n"
    "    for (int i = 0; i < $name_LANES; i++) {\n"
    "      room[k + i] = lv_from_bf16(q[k + 2 * i]);\n"
    "      room[k + $name_LANES + i] = lv_from_bf16(q[k + 2 * i + 1]);\n"
    "    }\n"
    "  for (; k < $d; k++) room[k] = lv_from_bf16(q[k]);\n"
    "  return room;\n"
    "}\n"
    "LV_F float $name_part(const float *q, long i) { return q[i]; }\n"
    "LV_F $name_v $name_step($name_v c, const float *q, const uint16_t *k) {\n"
    "  const $name_h two = *(const $name_h *)k;\n"
    "  c += ($name_v)(two << 16) * *(const $name_u *)q;\n"
    "  c += ($name_v)(two & 0xFFFF0000u) * *(const $name_u *)(q + $name_LANES);\n"
    "  return c;\n"
    "}\n"
    "#endif\n"
    "LV_F $name_v $name_load(const uint16_t *v) {\n"
    "  return ($name_v)(__builtin_convertvector(*(const $name_n *)v, $name_h) << 16);\n"
    "}\n";

static const char scores_text[] =
    "// s[j] = scale q k[j]\n"
    "static void $name_scores(const $name_q *q, const $name_e *k, long count, float *s) {\n"
    "  const long whole = $d / $name_STEP;\n"
    "  long j = 0;\n"
    "  for (; j + 4 <= count; j += 4) {\n"
    "    const $name_e *k0 = k + j * $dL, *k1 = k0 + $dL, *k2 = k1 + $dL, *k3 = k2 + $dL;\n"
    "    $name_v a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};\n"
    "    for (long i = 0; i < whole * $name_STEP; i += $name_STEP) {\n"
    "      a0 = $name_step(a0, q + i, k0 + i), a1 = $name_step(a1, q + i, k1 + i);\n"
    "      a2 = $name_step(a2, q + i, k2 + i), a3 = $name_step(a3, q + i, k3 + i);\n"
    "    }\n"
    "    float s0 = $name_sum(a0), s1 = $name_sum(a1), s2 = $name_sum(a2), s3 = $name_sum(a3);\n"
    "    for (long i = whole * $name_STEP; i < $d; i++) {\n"
    "      const float x = $name_part(q, i);\n"
    "      s0 += x * $name_one(k0[i]), s1 += x * $name_one(k1[i]);\n"
    "      s2 += x * $name_one(k2[i]), s3 += x * $name_one(k3[i]);\n"
    "    }\n"
    "    s[j] = s0 * $scale, s[j + 1] = s1 * $scale, s[j + 2] = s2 * $scale, s[j + 3] = s3 * $scale;\n"
    "  }\n"
    "  for (; j < count; j++) {\n"
    "    const $name_e *kj = k + j * $dL;\n"
    "    $name_v a = {0};\n"
    "    for (long i = 0; i < whole * $name_STEP; i += $name_STEP) a = $name_step(a, q + i, kj + i);\n"
    "    float one = $name_sum(a);\n"
    "    for (long i = whole * $name_STEP; i < $d; i++) one += $name_part(q, i) * $name_one(kj[i]);\n"
    "    s[j] = one * $scale;\n"
    "  }\n"
    "}\n";

static const char values_text[] =
    "// y = y factor + sum of p[j] v[j], of as many vectors as have sums in registers\n"
    "LV_F void $name_columns(const float *p, const $name_e *v, long count, float factor, float *y, int vectors) {\n"
    "  $name_v a[$name_WIDE];\n"
    "#pragma GCC unroll 8\n"
    "  for (int w = 0; w < vectors; w++) a[w] = *(const $name_u *)(y + w * $name_LANES) * factor;\n"
    "  for (long j = 0; j < count; j++)\n"
    "#pragma GCC unroll 8\n"
    "    for (int w = 0; w < vectors; w++) a[w] += p[j] * $name_load(v + j * $eL + w * $name_LANES);\n"
    "#pragma GCC unroll 8\n"
    "  for (int w = 0; w < vectors; w++) *($name_u *)(y + w * $name_LANES) = a[w];\n"
    "}\n"
    "static void $name_values(const float *p, const $name_e *v, long count, float factor, float *y) {\n"
    "  long i = 0;\n"
    "  for (; i + $name_WIDE * $name_LANES <= $e; i += $name_WIDE * $name_LANES) $name_columns(p, v + i, count, factor, y + i, $name_WIDE);\n"
    "  for (; i + 4 * $name_LANES <= $e; i += 4 * $name_LANES) $name_columns(p, v + i, count, factor, y + i, 4);\n"
    "  for (; i + $name_LANES <= $e; i += $name_LANES) $name_columns(p, v + i, count, factor, y + i, 1);\n"
    "  for (; i < $e; i++) {\n"
    "    float a = y[i] * factor;\n"
    "    for (long j = 0; j < count; j++) a += p[j] * $name_one(v[j * $eL + i]);\n"
    "    y[i] = a;\n"
    "  }\n"
    "}\n";

// A partial result of a query is $e sums, their maximum, their divisor.
static const char task_text[] =
    "LV_F long $name_reach(long length, long t) {\n"
    "  const long reach = $causal ? length - $t + t + 1 : length;\n"
    "  return reach < 1 ? 1 : reach < $s ? reach : $s;\n"
    "}\n"
    "static void $name_task(const $name_e *q, const $name_e *k, const $name_e *v, long length, long first, long last, float *out) {\n"
    "  float p[$name_BLOCK];\n"
    "  $name_q room[$t * $dL + 1];\n"
    "  const $name_q *laid[$t];\n"
    "  for (long t = 0; t < $t; t++) {\n"
    "    laid[t] = $name_lay(q + t * $dL, room + t * $dL);\n"
    "    for (long i = 0; i < $e; i++) out[t * ($eL + 2) + i] = 0;\n"
    "    out[t * ($eL + 2) + $eL] = -1e30f, out[t * ($eL + 2) + $eL + 1] = 0;\n"
    "  }\n"
    "  for (long block = first; block < last; block += $name_BLOCK)\n"
    "    for (long t = 0; t < $t; t++) {\n"
    "      const long reach = $name_reach(length, t), stop = reach < last ? reach : last;\n"
    "      const long count = stop - block < $name_BLOCK ? stop - block : $name_BLOCK;\n"
    "      float *own = out + t * ($eL + 2), top = own[$e], most = top, sum = 0;\n"
    "      if (count <= 0) continue;\n"
    "      $name_scores(laid[t], k + block * $dL, count, p);\n"
    "      for (long j = 0; j < count; j++) most = p[j] > most ? p[j] : most;\n"
    "      for (long j = 0; j < count; j++) p[j] = lv_exp(p[j] - most);\n"
    "      for (long j = 0; j < count; j++) sum += p[j];\n"
    "      const float factor = lv_exp(top - most);\n"
    "      own[$e] = most, own[$e + 1] = own[$e + 1] * factor + sum;\n"
    "      $name_values(p, v + block * $eL, count, factor, own);\n"
    "    }\n"
    "}\n";

static const char merge_text[] =
    "// the parts of one query, `apart` elements from each other, in the first\n"
    "static void $name_merge(float *parts, long count, long apart, $name_e *y, float *lse) {\n"
    "  float top = -1e30f, sum = 0;\n"
    "  for (long n = 0; n < count; n++) top = parts[n * apart + $e] > top ? parts[n * apart + $e] : top;\n"
    "  for (long n = 0; n < count; n++) {\n"
    "    const float *part = parts + n * apart, factor = lv_exp(part[$e] - top);\n"
    "    sum += part[$e + 1] * factor;\n"
    "    for (long i = 0; i < $e; i++) parts[i] = n ? parts[i] + part[i] * factor : part[i] * factor;\n"
    "  }\n"
    "  for (long i = 0; i < $e; i++) y[i] = $store(parts[i] / sum);\n"
    "  *lse = top + lv_log(sum);\n"
    "}\n"
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $name_e *q = (const $name_e *)buffers[0], *k = (const $name_e *)buffers[1], *v = (const $name_e *)buffers[2];\n"
    "  const long length = $length;\n"
    "  $name_e *y = ($name_e *)buffers[$y];\n"
    "  float *lse = (float *)buffers[$y + 1], partial[$room];\n"
    "  const long keys = $name_reach(length, $t - 1), part = (keys + $parts - 1) / $parts;\n"
    "  const long each = (part + $name_BLOCK - 1) / $name_BLOCK * $name_BLOCK;\n"
    "  (void)scalars;\n"
    "#pragma omp parallel for schedule(static) if ($heads > 0 && $heads * keys * ($d + $e) >= 16384)\n"
    "  for (long task = 0; task < $heads * $parts; task++) {\n"
    "    const long head = task / $parts, first = task % $parts * each, last = first + each < keys ? first + each : keys;\n"
    "    $name_task(q + head * $t * $dL, k + head * $s * $dL, v + head * $s * $eL, length, first, last,\n"
    "               partial + task * $t * ($eL + 2));\n"
    "  }\n"
    "  for (long row = 0; row < $heads * $t; row++)\n"
    "    $name_merge(partial + (row / $t * $parts * $t + row % $t) * ($eL + 2), $parts, $t * ($eL + 2), y + row * $eL,\n"
    "                lse + row);\n"
    "}\n";

enum { FEW = 8, MAX_ROOM = 1 << 18 };  // queries; floats of the partial results, which stand on the stack

static int64_t room_of(const Node *node, int64_t parts) {
    LvShape q = node->inputs[0]->shape;
    return q.dim[0] * q.dim[1] * parts * q.dim[2] * (node->inputs[2]->shape.dim[3] + 2);
}

static bool takes(const Node *node) {
    LvShape q = node->inputs[0]->shape;
    for (int i = 0; i < 3; i++) {
        const Value *v = node->inputs[i];
        if ((v->dtype != LV_F32 && v->dtype != LV_BF16) || !lv_layout_is_row_major(v->layout, v->shape.rank)) return false;
    }
    if (node_float(node, ATTR_dropout, 0) > 0) return false;
    return q.dim[2] < FEW && lv_layout_is_row_major(node->results[0].layout, 4) && room_of(node, 1) <= MAX_ROOM;
}

// Parts of a head's keys: enough for many threads to have work, and no fewer than 256 keys each.
static int64_t parts_of(const Node *node) {
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape;
    int64_t heads = q.dim[0] * q.dim[1], parts = 1;
    while (heads * parts < 16 && k.dim[2] > 256 * parts && room_of(node, 2 * parts) <= MAX_ROOM) parts *= 2;
    return parts;
}

bool print_attention_few(const Node *node, const char *name, LvText *out) {
    if (!takes(node)) return false;
    if (!out) return true;
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    int64_t heads = q.dim[0] * q.dim[1], t = q.dim[2], s = v.dim[2], parts = parts_of(node), room = room_of(node, parts);
    bool has_length = node_bool(node, ATTR_length, false), causal = node_bool(node, ATTR_causal, false);
    char scale[48], fixed[32];
    snprintf(scale, sizeof scale, "((float)%.17g)", node_float(node, ATTR_scale, 1));
    snprintf(fixed, sizeof fixed, "%lld", (long long)(causal ? t : s));
    bool half = node->inputs[0]->dtype == LV_BF16;
    const char *const texts[] = {types_text, half ? halves_text : floats_text, scores_text, values_text, task_text, merge_text};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        TEMPLATE_FILL(out, texts[i], {"name", name, 0}, {"heads", NULL, heads}, {"t", NULL, t}, {"s", NULL, s},
                      {"d", NULL, q.dim[3]}, {"dL", NULL, q.dim[3]}, {"e", NULL, v.dim[3]}, {"eL", NULL, v.dim[3]},
                      {"scale", scale, 0}, {"causal", NULL, causal}, {"store", half ? "lv_to_bf16" : "", 0},
                      {"parts", NULL, parts}, {"room", NULL, room ? room : 1}, {"y", NULL, 3 + has_length},
                      {"length", has_length ? "*(const int32_t *)buffers[3]" : fixed, 0});
    return true;
}
