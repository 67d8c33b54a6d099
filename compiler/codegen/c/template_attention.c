// attention and its gradient without the T x S matrix, after FlashAttention-2 (Dao 2023), on the vector tile.
//
// Forward: a group of queries lies across lanes; over blocks of keys, scores s = K Q^T, running maximum m and sum l lane by lane,
// y = y * exp(m_old - m) + V^T p. Backward: keys in lanes for dk and dv, p rebuilt from
// logsumexp. With many heads a task is a head, which adds up its dq on the way; with few, dq is made in a second pass with queries
// in lanes. Either is deterministic: no sums between threads. With a causal mask, blocks that no lane sees are skipped. Dropped
// weights are drawn anew in each pass: the numbers depend on their place alone.
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "codegen/c/template_text.h"

static const char head_text[] =
    "enum { $name_BLOCK = 64 };\n"
    "// lv_exp, lane by lane\n"
    "LV_F $name_v $name_exp($name_v x) {\n"
    "  const $name_v t = x * 1.44269504f + 12582912.f, k = t - 12582912.f;\n"
    "  const $name_v r = (x - k * 0.693359375f) + k * 2.12194440e-4f;\n"
    "  $name_v p = 1.99184477e-4f * r + 1.3946119e-3f;\n"
    "  p = p * r + 8.33326392e-3f;\n"
    "  p = p * r + 4.16662693e-2f;\n"
    "  p = p * r + 1.66666672e-1f;\n"
    "  p = p * r + 0.5f;\n"
    "  p = (p * r) * r + r + 1.f;\n"
    "  p = ($name_v)(($name_i)p + (($name_i)t << 23));\n"
    "  p = $name_choose(x > 88.722839f, __builtin_inff() - ($name_v){0}, p);\n"
    "  return $name_choose(x < -87.336544f, ($name_v){0}, p);\n"
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

static const char forward_text[] =
    "static void $name_rows(const float *q, const float *k, const float *v, float *y, float *lse, long row, long rows$seeds) {\n"
    "  $name_v qt[$name_WIDTH * $d1], yt[$name_WIDTH * $e1], s[$name_WIDTH * $name_BLOCK];\n"
    "  $name_v top[$name_WIDTH], sum[$name_WIDTH];\n"
    "  $name_transpose(q, $d, rows, $d, $scale, qt);\n"
    "  for (int i = 0; i < $name_WIDTH; i++) top[i] = -1e30f - ($name_v){0}, sum[i] = ($name_v){0};\n"
    "  for (long i = 0; i < $name_WIDTH * $e; i++) yt[i] = ($name_v){0};\n"
    "  const long last = $causal && row + rows < $s ? row + rows : $s;\n"
    "  for (long first = 0; first < last; first += $name_BLOCK) {\n"
    "    const long count = last - first < $name_BLOCK ? last - first : $name_BLOCK;\n"
    "    $name_v factor[$name_WIDTH];\n"
    "    $name_multiply(k + first * $dL, $d, 1, count, $d, qt, s, 0);\n"
    "    if ($causal && first + count > row + 1)\n"
    "      for (long j = 0; j < count; j++)\n"
    "        for (int i = 0; i < $name_WIDTH; i++)\n"
    "          s[$name_WIDTH * j + i] = $name_choose($name_number(row, i) >= (int32_t)(first + j), s[$name_WIDTH * j + i], -1e30f - ($name_v){0});\n"
    "    for (int i = 0; i < $name_WIDTH; i++) {\n"
    "      $name_v most = top[i];\n"
    "      for (long j = 0; j < count; j++) most = $name_choose(s[$name_WIDTH * j + i] > most, s[$name_WIDTH * j + i], most);\n"
    "      factor[i] = $name_exp(top[i] - most);\n"
    "      top[i] = most;\n"
    "      sum[i] *= factor[i];\n"
    "    }\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) sum[i] += s[$name_WIDTH * j + i] = $name_exp(s[$name_WIDTH * j + i] - top[i]);\n"
    "$dropForward"
    "    for (long j = 0; j < $e; j++) for (int i = 0; i < $name_WIDTH; i++) yt[$name_WIDTH * j + i] *= factor[i];\n"
    "    $name_multiply(v + first * $eL, 1, $e, $e, count, s, yt, 1);\n"
    "  }\n"
    "  for (long j = 0; j < $e; j++) for (int i = 0; i < $name_WIDTH; i++) yt[$name_WIDTH * j + i] /= sum[i];\n"
    "  $name_untranspose(yt, $e, rows, $e, y);\n"
    "  for (long r = 0; r < rows; r++) lse[r] = ((float *)top)[r] + __builtin_logf(((float *)sum)[r]);\n"
    "}\n"
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *q = (const float *)buffers[0], *k = (const float *)buffers[1], *v = (const float *)buffers[2];\n"
    "  float *y = (float *)buffers[$y], *lse = (float *)buffers[$y + 1];\n"
    "$readSeeds"
    "  const long groups = ($t + $name_ROWS - 1) / $name_ROWS;\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long task = 0; task < $heads * groups; task++) {\n"
    "    const long head = task / groups, row = task % groups * $name_ROWS, rows = $t - row < $name_ROWS ? $t - row : $name_ROWS;\n"
    "    const long at = head * $tL + row;\n"
    "    $name_rows(q + at * $dL, k + head * $sL * $dL, v + head * $sL * $eL, y + at * $eL, lse + at, row, rows$pass);\n"
    "  }\n"
    "}\n";

// What the backward pass needs besides the tile.
static const char backward_head_text[] =
    "typedef float $name_u __attribute__((vector_size(sizeof($name_v)), aligned(4)));\n"
    "// sums of dy y by row\n"
    "static void $name_dots(const float *dy, const float *y, long rows, float *out) {\n"
    "  for (long r = 0; r < rows; r++, dy += $e, y += $e) {\n"
    "    $name_v part = {0};\n"
    "    long i = 0;\n"
    "    float sum = 0;\n"
    "    for (; i + $name_LANES <= $e; i += $name_LANES) part += *(const $name_u *)(dy + i) * *(const $name_u *)(y + i);\n"
    "    for (; i < $e; i++) sum += dy[i] * y[i];\n"
    "    for (int l = 0; l < $name_LANES; l++) sum += part[l];\n"
    "    out[r] = sum;\n"
    "  }\n"
    "}\n";

// dq[j] += sum over keys of ds(j, key) k[key]: 6 queries by 2 vectors of channels in registers.
static const char add_queries_text[] =
    "LV_F void $name_patch(const float *ds, const float *k, long keys, float *dq, int rows, int vectors) {\n"
    "  $name_v c[6][2];\n"
    "#pragma GCC unroll 6\n"
    "  for (int r = 0; r < rows; r++)\n"
    "#pragma GCC unroll 2\n"
    "    for (int v = 0; v < vectors; v++) c[r][v] = *(const $name_u *)(dq + r * $dL + v * $name_LANES);\n"
    "  for (long key = 0; key < keys; key++, k += $d, ds++)\n"
    "#pragma GCC unroll 6\n"
    "    for (int r = 0; r < rows; r++)\n"
    "#pragma GCC unroll 2\n"
    "      for (int v = 0; v < vectors; v++) c[r][v] += ds[r * $name_ROWS] * *(const $name_u *)(k + v * $name_LANES);\n"
    "#pragma GCC unroll 6\n"
    "  for (int r = 0; r < rows; r++)\n"
    "#pragma GCC unroll 2\n"
    "    for (int v = 0; v < vectors; v++) *($name_u *)(dq + r * $dL + v * $name_LANES) = c[r][v];\n"
    "}\n"
    "static void $name_add_queries(const float *ds, const float *k, long keys, long count, float *dq) {\n"
    "  long j = 0;\n"
    "  for (; j + 6 <= count; j += 6) {\n"
    "    long i = 0;\n"
    "    for (; i + 2 * $name_LANES <= $d; i += 2 * $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $dL + i, 6, 2);\n"
    "    for (; i + $name_LANES <= $d; i += $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $dL + i, 6, 1);\n"
    "  }\n"
    "  for (; j < count; j++) {\n"
    "    long i = 0;\n"
    "    for (; i + 2 * $name_LANES <= $d; i += 2 * $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $dL + i, 1, 2);\n"
    "    for (; i + $name_LANES <= $d; i += $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $dL + i, 1, 1);\n"
    "  }\n"
    "  for (long i = $d - $d % $name_LANES; i < $d; i++)\n"
    "    for (j = 0; j < count; j++) {\n"
    "      float sum = dq[j * $dL + i];\n"
    "      for (long key = 0; key < keys; key++) sum += ds[j * $name_ROWS + key] * k[key * $dL + i];\n"
    "      dq[j * $dL + i] = sum;\n"
    "    }\n"
    "}\n";

// dq: queries in lanes. ds^T = p^T * (v dy^T - delta) * scale; dq^T = k^T ds^T.
static const char query_text[] =
    "static void $name_queries(const float *q, const float *k, const float *v, const float *y, const float *lse, const float *dy,\n"
    "                          float *dq, long row, long rows$seeds) {\n"
    "  $name_v qt[$name_WIDTH * $d1], dyt[$name_WIDTH * $e1], dqt[$name_WIDTH * $d1], p[$name_WIDTH * $name_BLOCK], ds[$name_WIDTH * $name_BLOCK];\n"
    "  $name_v delta[$name_WIDTH], sums[$name_WIDTH];\n"
    "  $name_transpose(q, $d, rows, $d, $scale, qt);\n"
    "  $name_transpose(dy, $e, rows, $e, 1.f, dyt);\n"
    "  for (long r = 0; r < $name_ROWS; r++) {\n"
    "    const long own = r < rows ? r : rows - 1;\n"
    "    float dot = 0;\n"
    "    for (long i = 0; i < $e; i++) dot += dy[own * $eL + i] * y[own * $eL + i];\n"
    "    ((float *)delta)[r] = dot;\n"
    "    ((float *)sums)[r] = lse[own];\n"
    "  }\n"
    "  for (long i = 0; i < $name_WIDTH * $d; i++) dqt[i] = ($name_v){0};\n"
    "  const long last = $causal && row + rows < $s ? row + rows : $s;\n"
    "  for (long first = 0; first < last; first += $name_BLOCK) {\n"
    "    const long count = last - first < $name_BLOCK ? last - first : $name_BLOCK;\n"
    "    $name_multiply(k + first * $dL, $d, 1, count, $d, qt, p, 0);\n"
    "    $name_multiply(v + first * $eL, $e, 1, count, $e, dyt, ds, 0);\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) p[$name_WIDTH * j + i] = $name_exp(p[$name_WIDTH * j + i] - sums[i]);\n"
    "$dropQueries"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) {\n"
    "        $name_v d = p[$name_WIDTH * j + i] * (ds[$name_WIDTH * j + i] - delta[i]) * $scale;\n"
    "        if ($causal && first + count > row + 1) d = $name_choose($name_number(row, i) >= (int32_t)(first + j), d, ($name_v){0});\n"
    "        ds[$name_WIDTH * j + i] = d;\n"
    "      }\n"
    "    $name_multiply(k + first * $dL, 1, $d, $d, count, ds, dqt, 1);\n"
    "  }\n"
    "  $name_untranspose(dqt, $d, rows, $d, dq);\n"
    "}\n";

// dk, dv: keys in lanes. p = exp(scale q k^T - lse); dv^T = dy^T p; dk^T = q^T ds.
static const char key_text[] =
    "static void $name_keys(const float *q, const float *k, const float *v, const float *y, const float *lse, const float *dy,\n"
    "                       float *dq, float *dk, float *dv, long key, long keys$seeds) {\n"
    "  float delta[$name_BLOCK];\n"
    "  const float *own = k;\n"
    "  $name_v kt[$name_WIDTH * $d1], vt[$name_WIDTH * $e1], dkt[$name_WIDTH * $d1], dvt[$name_WIDTH * $e1];\n"
    "  $name_v p[$name_WIDTH * $name_BLOCK], ds[$name_WIDTH * $name_BLOCK];\n"
    "  $name_transpose(k, $d, keys, $d, $scale, kt);\n"
    "  $name_transpose(v, $e, keys, $e, 1.f, vt);\n"
    "  for (long i = 0; i < $name_WIDTH * $d; i++) dkt[i] = ($name_v){0};\n"
    "  for (long i = 0; i < $name_WIDTH * $e; i++) dvt[i] = ($name_v){0};\n"
    "  for (long first = $causal ? key : 0; first < $t; first += $name_BLOCK) {\n"
    "    const long count = $t - first < $name_BLOCK ? $t - first : $name_BLOCK;\n"
    "    $name_multiply(q + first * $dL, $d, 1, count, $d, kt, p, 0);\n"
    "    $name_multiply(dy + first * $eL, $e, 1, count, $e, vt, ds, 0);\n"
    "    $name_dots(dy + first * $eL, y + first * $eL, count, delta);\n"
    "    for (long j = 0; j < count; j++) {\n"
    "      for (int i = 0; i < $name_WIDTH; i++) {\n"
    "        p[$name_WIDTH * j + i] = $name_exp(p[$name_WIDTH * j + i] - lse[first + j]);\n"
    "        if ($causal && first < key + $name_ROWS)\n"
    "          p[$name_WIDTH * j + i] = $name_choose($name_number(key, i) <= (int32_t)(first + j), p[$name_WIDTH * j + i], ($name_v){0});\n"
    "$dropKeys"
    "        ds[$name_WIDTH * j + i] = p[$name_WIDTH * j + i] * (ds[$name_WIDTH * j + i] - delta[j]) * $scale;\n"
    "$dropValues"
    "      }\n"
    "    }\n"
    "    $name_multiply(q + first * $dL, 1, $d, $d, count, ds, dkt, 1);\n"
    "    $name_multiply(dy + first * $eL, 1, $e, $e, count, p, dvt, 1);\n"
    "$addQueries"
    "  }\n"
    "  (void)dq, (void)own;\n"
    "  $name_untranspose(dkt, $d, keys, $d, dk);\n"
    "  $name_untranspose(dvt, $e, keys, $e, dv);\n"
    "}\n";

static const char backward_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *q = (const float *)buffers[0], *k = (const float *)buffers[1], *v = (const float *)buffers[2];\n"
    "  const float *y = (const float *)buffers[3], *lse = (const float *)buffers[4], *dy = (const float *)buffers[5];\n"
    "  float *dq = (float *)buffers[$y], *dk = (float *)buffers[$y + 1], *dv = (float *)buffers[$y + 2];\n"
    "$readSeeds"
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
    "      $name_queries(hq + row * $dL, hk, hv, hy + row * $eL, hl + row, hdy + row * $eL, dq + (head * $tL + row) * $dL, row, rows$pass);\n"
    "    } else {\n"
    "      const long key = (group - query_groups) * $name_ROWS, keys = $s - key < $name_ROWS ? $s - key : $name_ROWS;\n"
    "      $name_keys(hq, hk + key * $dL, hv + key * $eL, hy, hl, hdy, 0, dk + (head * $sL + key) * $dL, dv + (head * $sL + key) * $eL, key, keys$pass);\n"
    "    }\n"
    "  }\n"
    "}\n";

static const char backward_heads_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *q = (const float *)buffers[0], *k = (const float *)buffers[1], *v = (const float *)buffers[2];\n"
    "  const float *y = (const float *)buffers[3], *lse = (const float *)buffers[4], *dy = (const float *)buffers[5];\n"
    "  float *dq = (float *)buffers[$y], *dk = (float *)buffers[$y + 1], *dv = (float *)buffers[$y + 2];\n"
    "$readSeeds"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long head = 0; head < $heads; head++) {\n"
    "    const long qs = head * $tL * $dL, ks = head * $sL * $dL, vs = head * $sL * $eL, ys = head * $tL * $eL;\n"
    "    for (long i = 0; i < $tL * $dL; i++) dq[qs + i] = 0;\n"
    "    for (long key = 0; key < $s; key += $name_ROWS)\n"
    "      $name_keys(q + qs, k + ks + key * $dL, v + vs + key * $eL, y + ys, lse + head * $tL, dy + ys, dq + qs, dk + ks + key * $dL,\n"
    "                 dv + vs + key * $eL, key, $s - key < $name_ROWS ? $s - key : $name_ROWS$pass);\n"
    "  }\n"
    "}\n";

enum { MANY_HEADS = 16 };  // enough for the threads there are; beyond, two passes over fewer heads balance better

enum { MAX_CHANNELS = 1024 };  // lanes of q, k, v and their gradients stand on a thread's stack: 4 * 48 * 1024 * 4 bytes

static bool takes(const Node *node) {
    int seeds = node_float(node, ATTR_dropout, 0) > 0 ? 2 : 0;
    for (int i = 0; i < node->input_count - seeds; i++) {
        const Value *v = node->inputs[i];
        if (v->dtype != LV_F32 || !lv_layout_is_row_major(v->layout, v->shape.rank)) return false;
    }
    for (int i = 0; i < node->result_count; i++)
        if (!lv_layout_is_row_major(node->results[i].layout, node->results[i].shape.rank)) return false;
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape, v = node->inputs[2]->shape;
    return q.dim[3] <= MAX_CHANNELS && v.dim[3] <= MAX_CHANNELS && q.dim[2] < INT32_MAX && k.dim[2] < INT32_MAX;
}

// The texts of a dropout, each empty where there is none.
typedef struct {
    const char *seeds, *pass, *read, *forward, *queries, *keys, *values;
} Dropout;

static const Dropout no_dropout = {"", "", "", "", "", "", ""};
static const Dropout with_dropout = {
    ", int64_t place, int64_t seed, int32_t step",
    ", head * $tL * $sL, seed, step",
    "  const int64_t seed = *(const int64_t *)buffers[$y - 2];\n"
    "  const int32_t step = *(const int32_t *)buffers[$y - 1];\n",
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) s[$name_WIDTH * j + i] *= $name_kept(seed, step, place + row * $sL + first + j, $sL, i);\n",
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) ds[$name_WIDTH * j + i] *= $name_kept(seed, step, place + row * $sL + first + j, $sL, i);\n",
    "        const $name_v kept = $name_kept(seed, step, place + (first + j) * $sL + key, 1, i);\n"
    "        ds[$name_WIDTH * j + i] *= kept;\n",
    "        p[$name_WIDTH * j + i] *= kept;\n",
};

// A text of the dropout with its own words filled in.
static char *filled(const Node *node, const char *name, const char *text, int64_t y) {
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape;
    LvText out = {0};
    TEMPLATE_FILL(&out, text, {"name", name, 0}, {"tL", NULL, q.dim[2]}, {"sL", NULL, k.dim[2]}, {"y", NULL, y});
    return out.data ? out.data : lv_strdup("");
}

static void print_dropout(const Node *node, const char *name, LvText *out) {
    double dropout = node_float(node, ATTR_dropout, 0);
    char below[48], keep[48], stream[24];
    if (dropout == 0) return;
    snprintf(below, sizeof below, "((float)%.17g)", dropout);
    snprintf(keep, sizeof keep, "((float)%.17g)", 1 / (1 - dropout));
    snprintf(stream, sizeof stream, "%uu", (unsigned)node_int(node, ATTR_stream, 0));
    TEMPLATE_FILL(out, dropout_text, {"name", name, 0}, {"stream", stream, 0}, {"dropout", below, 0}, {"keep", keep, 0});
}

static void print_parts(const Node *node, const char *name, int count, const char *const *parts, LvText *out) {
    bool drops = node_float(node, ATTR_dropout, 0) > 0;
    const Dropout *d_text = drops ? &with_dropout : &no_dropout;
    const char *const texts[] = {d_text->seeds, d_text->pass, d_text->read, d_text->forward, d_text->queries, d_text->keys, d_text->values};
    enum { TEXTS = sizeof texts / sizeof *texts };
    char *full[TEXTS];
    for (int i = 0; i < TEXTS; i++) full[i] = filled(node, name, texts[i], node->input_count);
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    int64_t heads = q.dim[0] * q.dim[1], t = q.dim[2], s = v.dim[2], d = q.dim[3], e = v.dim[3];
    char scale[48];
    snprintf(scale, sizeof scale, "((float)%.17g)", node_float(node, ATTR_scale, 1));
    const char *parallel = heads * t * s * (d + e) >= TEMPLATE_PARALLEL ? "#pragma omp parallel for schedule(dynamic, 1)\n" : "";
    LvText add = {0};
    if (heads >= MANY_HEADS) TEMPLATE_FILL(&add, "    $name_add_queries((const float *)ds, own, keys, count, dq + first * $dL);\n",
                                           {"name", name, 0}, {"dL", NULL, d});
    const char *add_queries = lv_text_get(&add);
    template_tile(name, out);
    for (int i = 0; i < count; i++) {
        if (i == 1) print_dropout(node, name, out);
        TEMPLATE_FILL(out, parts[i], {"name", name, 0}, {"heads", NULL, heads}, {"t", NULL, t}, {"tL", NULL, t}, {"s", NULL, s},
                      {"sL", NULL, s}, {"d", NULL, d}, {"dL", NULL, d}, {"d1", NULL, d ? d : 1}, {"e", NULL, e}, {"eL", NULL, e},
                      {"e1", NULL, e ? e : 1}, {"scale", scale, 0}, {"causal", NULL, node_bool(node, ATTR_causal, false)},
                      {"parallel", parallel, 0}, {"y", NULL, node->input_count}, {"seeds", full[0], 0}, {"pass", full[1], 0},
                      {"readSeeds", full[2], 0}, {"dropForward", full[3], 0}, {"dropQueries", full[4], 0}, {"dropKeys", full[5], 0},
                      {"dropValues", full[6], 0}, {"addQueries", add_queries, 0});
    }
    for (int i = 0; i < TEXTS; i++) free(full[i]);
    lv_text_free(&add);
}

bool print_attention(const Node *node, const char *name, LvText *out) {
    if (!takes(node) || node_bool(node, ATTR_length, false)) return false;
    if (out) print_parts(node, name, 2, (const char *const[]){head_text, forward_text}, out);
    return true;
}

bool print_attention_grad(const Node *node, const char *name, LvText *out) {
    if (!takes(node)) return false;
    if (!out) return true;
    LvShape q = node->inputs[0]->shape;
    if (q.dim[0] * q.dim[1] >= MANY_HEADS)
        print_parts(node, name, 5, (const char *const[]){head_text, backward_head_text, add_queries_text, key_text, backward_heads_text}, out);
    else print_parts(node, name, 5, (const char *const[]){head_text, backward_head_text, query_text, key_text, backward_text}, out);
    return true;
}
