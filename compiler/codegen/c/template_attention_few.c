// attention of few queries over many keys, as in sampling token by token: reads each key and value once, at memory's speed.
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

static const char scores_text[] =
    "// s[j] = scale q k[j]\n"
    "static void $name_scores(const float *q, const float *k, long count, float *s) {\n"
    "  const long whole = $d / $name_LANES;\n"
    "  long j = 0;\n"
    "  for (; j + 4 <= count; j += 4) {\n"
    "    const float *k0 = k + j * $dL, *k1 = k0 + $dL, *k2 = k1 + $dL, *k3 = k2 + $dL;\n"
    "    $name_v a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};\n"
    "    for (long i = 0; i < whole; i++) {\n"
    "      const $name_v x = *(const $name_u *)(q + i * $name_LANES);\n"
    "      a0 += x * *(const $name_u *)(k0 + i * $name_LANES), a1 += x * *(const $name_u *)(k1 + i * $name_LANES);\n"
    "      a2 += x * *(const $name_u *)(k2 + i * $name_LANES), a3 += x * *(const $name_u *)(k3 + i * $name_LANES);\n"
    "    }\n"
    "    float s0 = $name_sum(a0), s1 = $name_sum(a1), s2 = $name_sum(a2), s3 = $name_sum(a3);\n"
    "    for (long i = whole * $name_LANES; i < $d; i++) {\n"
    "      s0 += q[i] * k0[i], s1 += q[i] * k1[i];\n"
    "      s2 += q[i] * k2[i], s3 += q[i] * k3[i];\n"
    "    }\n"
    "    s[j] = s0 * $scale, s[j + 1] = s1 * $scale, s[j + 2] = s2 * $scale, s[j + 3] = s3 * $scale;\n"
    "  }\n"
    "  for (; j < count; j++) {\n"
    "    const float *kj = k + j * $dL;\n"
    "    $name_v a = {0};\n"
    "    for (long i = 0; i < whole; i++)\n"
    "      a += *(const $name_u *)(q + i * $name_LANES) * *(const $name_u *)(kj + i * $name_LANES);\n"
    "    float one = $name_sum(a);\n"
    "    for (long i = whole * $name_LANES; i < $d; i++) one += q[i] * kj[i];\n"
    "    s[j] = one * $scale;\n"
    "  }\n"
    "}\n";

static const char values_text[] =
    "// y = y factor + sum of p[j] v[j]\n"
    "static void $name_values(const float *p, const float *v, long count, float factor, float *y) {\n"
    "  long i = 0;\n"
    "  for (; i + $name_WIDE * $name_LANES <= $e; i += $name_WIDE * $name_LANES) {\n"
    "    $name_v a[$name_WIDE];\n"
    "    for (int w = 0; w < $name_WIDE; w++) a[w] = *(const $name_u *)(y + i + w * $name_LANES) * factor;\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int w = 0; w < $name_WIDE; w++) a[w] += p[j] * *(const $name_u *)(v + j * $eL + i + w * $name_LANES);\n"
    "    for (int w = 0; w < $name_WIDE; w++) *($name_u *)(y + i + w * $name_LANES) = a[w];\n"
    "  }\n"
    "  for (; i + $name_LANES <= $e; i += $name_LANES) {\n"
    "    $name_v a = *(const $name_u *)(y + i) * factor;\n"
    "    for (long j = 0; j < count; j++) a += p[j] * *(const $name_u *)(v + j * $eL + i);\n"
    "    *($name_u *)(y + i) = a;\n"
    "  }\n"
    "  for (; i < $e; i++) {\n"
    "    float a = y[i] * factor;\n"
    "    for (long j = 0; j < count; j++) a += p[j] * v[j * $eL + i];\n"
    "    y[i] = a;\n"
    "  }\n"
    "}\n";

// A partial result of a query is $e sums, their maximum, their divisor.
static const char task_text[] =
    "LV_F long $name_reach(long length, long t) {\n"
    "  const long reach = $causal ? length - $t + t + 1 : length;\n"
    "  return reach < 1 ? 1 : reach < $s ? reach : $s;\n"
    "}\n"
    "static void $name_task(const float *q, const float *k, const float *v, long length, long first, long last, float *out) {\n"
    "  float p[$name_BLOCK];\n"
    "  for (long t = 0; t < $t; t++) {\n"
    "    for (long i = 0; i < $e; i++) out[t * ($eL + 2) + i] = 0;\n"
    "    out[t * ($eL + 2) + $eL] = -1e30f, out[t * ($eL + 2) + $eL + 1] = 0;\n"
    "  }\n"
    "  for (long block = first; block < last; block += $name_BLOCK)\n"
    "    for (long t = 0; t < $t; t++) {\n"
    "      const long reach = $name_reach(length, t), stop = reach < last ? reach : last;\n"
    "      const long count = stop - block < $name_BLOCK ? stop - block : $name_BLOCK;\n"
    "      float *own = out + t * ($eL + 2), top = own[$e], most = top, sum = 0;\n"
    "      if (count <= 0) continue;\n"
    "      $name_scores(q + t * $dL, k + block * $dL, count, p);\n"
    "      for (long j = 0; j < count; j++) most = p[j] > most ? p[j] : most;\n"
    "      for (long j = 0; j < count; j++) p[j] = lv_exp(p[j] - most);\n"
    "      for (long j = 0; j < count; j++) sum += p[j];\n"
    "      const float factor = lv_exp(top - most);\n"
    "      own[$e] = most, own[$e + 1] = own[$e + 1] * factor + sum;\n"
    "      $name_values(p, v + block * $eL, count, factor, own);\n"
    "    }\n"
    "}\n";

static const char merge_text[] =
    "// the parts of one query, `apart` elements from each other\n"
    "static void $name_merge(const float *parts, long count, long apart, float *y, float *lse) {\n"
    "  float top = -1e30f, sum = 0;\n"
    "  for (long n = 0; n < count; n++) top = parts[n * apart + $e] > top ? parts[n * apart + $e] : top;\n"
    "  for (long i = 0; i < $e; i++) y[i] = 0;\n"
    "  for (long n = 0; n < count; n++) {\n"
    "    const float *part = parts + n * apart, factor = lv_exp(part[$e] - top);\n"
    "    sum += part[$e + 1] * factor;\n"
    "    for (long i = 0; i < $e; i++) y[i] += part[i] * factor;\n"
    "  }\n"
    "  for (long i = 0; i < $e; i++) y[i] /= sum;\n"
    "  *lse = top + lv_log(sum);\n"
    "}\n"
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *q = (const float *)buffers[0], *k = (const float *)buffers[1], *v = (const float *)buffers[2];\n"
    "  const long length = $length;\n"
    "  float *y = (float *)buffers[$y], *lse = (float *)buffers[$y + 1], partial[$room];\n"
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
        if (v->dtype != LV_F32 || !lv_layout_is_row_major(v->layout, v->shape.rank)) return false;
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
    static const char *const texts[] = {types_text, scores_text, values_text, task_text, merge_text};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        TEMPLATE_FILL(out, texts[i], {"name", name, 0}, {"heads", NULL, heads}, {"t", NULL, t}, {"s", NULL, s},
                      {"d", NULL, q.dim[3]}, {"dL", NULL, q.dim[3]}, {"e", NULL, v.dim[3]}, {"eL", NULL, v.dim[3]},
                      {"scale", scale, 0}, {"causal", NULL, causal},
                      {"parts", NULL, parts}, {"room", NULL, room ? room : 1}, {"y", NULL, 3 + has_length},
                      {"length", has_length ? "*(const int32_t *)buffers[3]" : fixed, 0});
    return true;
}
