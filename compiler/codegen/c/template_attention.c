// attention and its gradient without the T x S matrix, after FlashAttention-2 (Dao 2023), on the vector tile.
//
// Forward: a group of queries lies across lanes; over blocks of keys, scores s = K Q^T, running maximum m and sum l lane by lane,
// y = y * exp(m_old - m) + V^T p. Backward in two passes, each deterministic with no sums between threads: queries in lanes for dq,
// keys in lanes for dk and dv; p is rebuilt from logsumexp. With a causal mask, blocks that no lane sees are skipped.
#include <stdio.h>

#include "codegen/c/template_text.h"

static const char head_text[] =
    "enum { $name_BLOCK = 64 };\n"
    "static void $name_exp($name_v *x, long count) {\n"
    "  float *f = (float *)x;\n"
    "  for (long i = 0; i < count * $name_LANES; i++) f[i] = lv_exp(f[i]);\n"
    "}\n"
    "// numbers of the lanes of vector v, from `first`\n"
    "LV_F $name_i $name_number(long first, int v) {\n"
    "  $name_i n;\n"
    "  for (int i = 0; i < $name_LANES; i++) n[i] = (int32_t)(first + v * $name_LANES + i);\n"
    "  return n;\n"
    "}\n";

static const char forward_text[] =
    "static void $name_rows(const float *q, const float *k, const float *v, float *y, float *lse, long row, long rows) {\n"
    "  $name_v qt[3 * $d1], yt[3 * $e1], s[3 * $name_BLOCK], top[3], sum[3];\n"
    "  $name_transpose(q, $d, rows, $d, $scale, qt);\n"
    "  for (int i = 0; i < 3; i++) top[i] = -1e30f - ($name_v){0}, sum[i] = ($name_v){0};\n"
    "  for (long i = 0; i < 3 * $e; i++) yt[i] = ($name_v){0};\n"
    "  const long last = $causal && row + rows < $s ? row + rows : $s;\n"
    "  for (long first = 0; first < last; first += $name_BLOCK) {\n"
    "    const long count = last - first < $name_BLOCK ? last - first : $name_BLOCK;\n"
    "    $name_v factor[3];\n"
    "    $name_multiply(k + first * $dL, $d, 1, count, $d, qt, s, 0);\n"
    "    if ($causal && first + count > row + 1)\n"
    "      for (long j = 0; j < count; j++)\n"
    "        for (int i = 0; i < 3; i++)\n"
    "          s[3 * j + i] = $name_choose($name_number(row, i) >= (int32_t)(first + j), s[3 * j + i], -1e30f - ($name_v){0});\n"
    "    for (int i = 0; i < 3; i++) {\n"
    "      $name_v most = top[i];\n"
    "      for (long j = 0; j < count; j++) most = $name_choose(s[3 * j + i] > most, s[3 * j + i], most);\n"
    "      factor[i] = top[i] - most;\n"
    "      top[i] = most;\n"
    "      for (long j = 0; j < count; j++) s[3 * j + i] -= most;\n"
    "    }\n"
    "    $name_exp(factor, 3);\n"
    "    $name_exp(s, 3 * count);\n"
    "    for (int i = 0; i < 3; i++) {\n"
    "      $name_v part = {0};\n"
    "      for (long j = 0; j < count; j++) part += s[3 * j + i];\n"
    "      sum[i] = sum[i] * factor[i] + part;\n"
    "    }\n"
    "    for (long j = 0; j < $e; j++) for (int i = 0; i < 3; i++) yt[3 * j + i] *= factor[i];\n"
    "    $name_multiply(v + first * $eL, 1, $e, $e, count, s, yt, 1);\n"
    "  }\n"
    "  for (long j = 0; j < $e; j++) for (int i = 0; i < 3; i++) yt[3 * j + i] /= sum[i];\n"
    "  $name_untranspose(yt, $e, rows, $e, y);\n"
    "  for (long r = 0; r < rows; r++) lse[r] = ((float *)top)[r] + __builtin_logf(((float *)sum)[r]);\n"
    "}\n"
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *q = (const float *)buffers[0], *k = (const float *)buffers[1], *v = (const float *)buffers[2];\n"
    "  float *y = (float *)buffers[3], *lse = (float *)buffers[4];\n"
    "  const long groups = ($t + $name_ROWS - 1) / $name_ROWS;\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long task = 0; task < $heads * groups; task++) {\n"
    "    const long head = task / groups, row = task % groups * $name_ROWS, rows = $t - row < $name_ROWS ? $t - row : $name_ROWS;\n"
    "    const long at = head * $tL + row;\n"
    "    $name_rows(q + at * $dL, k + head * $sL * $dL, v + head * $sL * $eL, y + at * $eL, lse + at, row, rows);\n"
    "  }\n"
    "}\n";

// dq: queries in lanes. ds^T = p^T * (v dy^T - delta) * scale; dq^T = k^T ds^T.
static const char query_text[] =
    "static void $name_queries(const float *q, const float *k, const float *v, const float *y, const float *lse, const float *dy,\n"
    "                          float *dq, long row, long rows) {\n"
    "  $name_v qt[3 * $d1], dyt[3 * $e1], dqt[3 * $d1], p[3 * $name_BLOCK], ds[3 * $name_BLOCK], delta[3], sums[3];\n"
    "  $name_transpose(q, $d, rows, $d, $scale, qt);\n"
    "  $name_transpose(dy, $e, rows, $e, 1.f, dyt);\n"
    "  for (long r = 0; r < $name_ROWS; r++) {\n"
    "    const long own = r < rows ? r : rows - 1;\n"
    "    float dot = 0;\n"
    "    for (long i = 0; i < $e; i++) dot += dy[own * $eL + i] * y[own * $eL + i];\n"
    "    ((float *)delta)[r] = dot;\n"
    "    ((float *)sums)[r] = lse[own];\n"
    "  }\n"
    "  for (long i = 0; i < 3 * $d; i++) dqt[i] = ($name_v){0};\n"
    "  const long last = $causal && row + rows < $s ? row + rows : $s;\n"
    "  for (long first = 0; first < last; first += $name_BLOCK) {\n"
    "    const long count = last - first < $name_BLOCK ? last - first : $name_BLOCK;\n"
    "    $name_multiply(k + first * $dL, $d, 1, count, $d, qt, p, 0);\n"
    "    $name_multiply(v + first * $eL, $e, 1, count, $e, dyt, ds, 0);\n"
    "    for (long j = 0; j < count; j++) for (int i = 0; i < 3; i++) p[3 * j + i] -= sums[i];\n"
    "    $name_exp(p, 3 * count);\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < 3; i++) {\n"
    "        $name_v d = p[3 * j + i] * (ds[3 * j + i] - delta[i]) * $scale;\n"
    "        if ($causal && first + count > row + 1) d = $name_choose($name_number(row, i) >= (int32_t)(first + j), d, ($name_v){0});\n"
    "        ds[3 * j + i] = d;\n"
    "      }\n"
    "    $name_multiply(k + first * $dL, 1, $d, $d, count, ds, dqt, 1);\n"
    "  }\n"
    "  $name_untranspose(dqt, $d, rows, $d, dq);\n"
    "}\n";

// dk, dv: keys in lanes. p = exp(scale q k^T - lse); dv^T = dy^T p; dk^T = q^T ds.
static const char key_text[] =
    "static void $name_keys(const float *q, const float *k, const float *v, const float *y, const float *lse, const float *dy,\n"
    "                       float *dk, float *dv, long key, long keys) {\n"
    "  $name_v kt[3 * $d1], vt[3 * $e1], dkt[3 * $d1], dvt[3 * $e1], p[3 * $name_BLOCK], ds[3 * $name_BLOCK];\n"
    "  $name_transpose(k, $d, keys, $d, $scale, kt);\n"
    "  $name_transpose(v, $e, keys, $e, 1.f, vt);\n"
    "  for (long i = 0; i < 3 * $d; i++) dkt[i] = ($name_v){0};\n"
    "  for (long i = 0; i < 3 * $e; i++) dvt[i] = ($name_v){0};\n"
    "  for (long first = $causal ? key : 0; first < $t; first += $name_BLOCK) {\n"
    "    const long count = $t - first < $name_BLOCK ? $t - first : $name_BLOCK;\n"
    "    $name_multiply(q + first * $dL, $d, 1, count, $d, kt, p, 0);\n"
    "    $name_multiply(dy + first * $eL, $e, 1, count, $e, vt, ds, 0);\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < 3; i++) p[3 * j + i] -= lse[first + j];\n"
    "    $name_exp(p, 3 * count);\n"
    "    for (long j = 0; j < count; j++) {\n"
    "      float delta = 0;\n"
    "      for (long i = 0; i < $e; i++) delta += dy[(first + j) * $eL + i] * y[(first + j) * $eL + i];\n"
    "      for (int i = 0; i < 3; i++) {\n"
    "        if ($causal && first < key + $name_ROWS)\n"
    "          p[3 * j + i] = $name_choose($name_number(key, i) <= (int32_t)(first + j), p[3 * j + i], ($name_v){0});\n"
    "        ds[3 * j + i] = p[3 * j + i] * (ds[3 * j + i] - delta) * $scale;\n"
    "      }\n"
    "    }\n"
    "    $name_multiply(q + first * $dL, 1, $d, $d, count, ds, dkt, 1);\n"
    "    $name_multiply(dy + first * $eL, 1, $e, $e, count, p, dvt, 1);\n"
    "  }\n"
    "  $name_untranspose(dkt, $d, keys, $d, dk);\n"
    "  $name_untranspose(dvt, $e, keys, $e, dv);\n"
    "}\n";

static const char backward_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *q = (const float *)buffers[0], *k = (const float *)buffers[1], *v = (const float *)buffers[2];\n"
    "  const float *y = (const float *)buffers[3], *lse = (const float *)buffers[4], *dy = (const float *)buffers[5];\n"
    "  float *dq = (float *)buffers[6], *dk = (float *)buffers[7], *dv = (float *)buffers[8];\n"
    "  const long query_groups = ($t + $name_ROWS - 1) / $name_ROWS, key_groups = ($s + $name_ROWS - 1) / $name_ROWS;\n"
    "  const long groups = query_groups + key_groups;\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long task = 0; task < $heads * groups; task++) {\n"
    "    const long head = task / groups, group = task % groups;\n"
    "    const float *hq = q + head * $tL * $dL, *hk = k + head * $sL * $dL, *hv = v + head * $sL * $eL;\n"
    "    const float *hy = y + head * $tL * $eL, *hl = lse + head * $tL, *hdy = dy + head * $tL * $eL;\n"
    "    if (group < query_groups) {\n"
    "      const long row = group * $name_ROWS, rows = $t - row < $name_ROWS ? $t - row : $name_ROWS;\n"
    "      $name_queries(hq + row * $dL, hk, hv, hy + row * $eL, hl + row, hdy + row * $eL, dq + (head * $tL + row) * $dL, row, rows);\n"
    "    } else {\n"
    "      const long key = (group - query_groups) * $name_ROWS, keys = $s - key < $name_ROWS ? $s - key : $name_ROWS;\n"
    "      $name_keys(hq, hk + key * $dL, hv + key * $eL, hy, hl, hdy, dk + (head * $sL + key) * $dL, dv + (head * $sL + key) * $eL, key, keys);\n"
    "    }\n"
    "  }\n"
    "}\n";

enum { MAX_CHANNELS = 1024 };  // lanes of q, k, v and their gradients stand on a thread's stack: 4 * 48 * 1024 * 4 bytes

static bool takes(const Node *node) {
    for (int i = 0; i < node->input_count; i++) {
        const Value *v = node->inputs[i];
        if (v->dtype != LV_F32 || !lv_layout_is_row_major(v->layout, v->shape.rank)) return false;
    }
    for (int i = 0; i < node->result_count; i++)
        if (!lv_layout_is_row_major(node->results[i].layout, node->results[i].shape.rank)) return false;
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape, v = node->inputs[2]->shape;
    return q.dim[3] <= MAX_CHANNELS && v.dim[3] <= MAX_CHANNELS && q.dim[2] < INT32_MAX && k.dim[2] < INT32_MAX;
}

static void print_parts(const Node *node, const char *name, int count, const char *const *parts, LvText *out) {
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    int64_t heads = q.dim[0] * q.dim[1], t = q.dim[2], s = v.dim[2], d = q.dim[3], e = v.dim[3];
    char scale[48];
    snprintf(scale, sizeof scale, "((float)%.17g)", node_float(node, ATTR_scale, 1));
    const char *parallel = heads * t * s * (d + e) >= TEMPLATE_PARALLEL ? "#pragma omp parallel for schedule(dynamic, 1)\n" : "";
    template_tile(name, out);
    for (int i = 0; i < count; i++)
        TEMPLATE_FILL(out, parts[i], {"name", name, 0}, {"heads", NULL, heads}, {"t", NULL, t}, {"tL", NULL, t}, {"s", NULL, s},
                      {"sL", NULL, s}, {"d", NULL, d}, {"dL", NULL, d}, {"d1", NULL, d ? d : 1}, {"e", NULL, e}, {"eL", NULL, e},
                      {"e1", NULL, e ? e : 1}, {"scale", scale, 0}, {"causal", NULL, node_bool(node, ATTR_causal, false)},
                      {"parallel", parallel, 0});
}

bool print_attention(const Node *node, const char *name, LvText *out) {
    if (!takes(node) || node_bool(node, ATTR_length, false)) return false;
    if (out) print_parts(node, name, 2, (const char *const[]){head_text, forward_text}, out);
    return true;
}

bool print_attention_grad(const Node *node, const char *name, LvText *out) {
    if (!takes(node)) return false;
    if (out) print_parts(node, name, 4, (const char *const[]){head_text, query_text, key_text, backward_text}, out);
    return true;
}
