// The gradient of attention without the T x S matrix, after FlashAttention-2 (Dao 2023), on the vector tile.
//
// Keys in lanes for dk and dv, p rebuilt from logsumexp. With many heads a task is a head, which adds up its dq on the way, in bf16 apart as
// f32; with few, dq is made in a second pass with queries in lanes. Either is deterministic: no sums between threads. With a causal
// mask, blocks that no lane sees are skipped. Of bf16 p and ds are rounded where they are multiplied.
#include "codegen/c/template_attention.h"

static const char dots_text[] =
    "// sums of dy y by row\n"
    "static void $name_dots(const $name_e *dy, const $name_e *y, long rows, float *out) {\n"
    "  for (long r = 0; r < rows; r++, dy += $e, y += $e) {\n"
    "    $name_v part = {0};\n"
    "    long i = 0;\n"
    "    float sum = 0;\n"
    "    for (; i + $name_STEP <= $e; i += $name_STEP) part = $name_step(part, dy + i, y + i);\n"
    "    for (; i < $e; i++) sum += $name_one(dy[i]) * $name_one(y[i]);\n"
    "    for (int l = 0; l < $name_LANES; l++) sum += part[l];\n"
    "    out[r] = sum;\n"
    "  }\n"
    "}\n";

// dq[j] += sum over keys of ds(j, key) k[key]: 6 queries by 2 vectors of channels in registers. In f32 `keys` are keys, dq and k have
// rows of D; in bf16 they are pairs, and the rows, of f32 sums and of pairs, those of whole vectors.
static const char add_queries_text[] =
    "$narrow\n"
    "LV_F void $name_patch(const $name_e *ds, const $name_k *k, long keys, float *dq, int rows, int vectors) {\n"
    "  $name_v c[6][2];\n"
    "#pragma GCC unroll 6\n"
    "  for (int r = 0; r < rows; r++)\n"
    "#pragma GCC unroll 2\n"
    "    for (int v = 0; v < vectors; v++) c[r][v] = *(const $name_f *)(dq + r * $rowL + v * $name_LANES);\n"
    "  for (long key = 0; key < keys; key++, k += $row, ds += $name_EACH)\n"
    "#pragma GCC unroll 6\n"
    "    for (int r = 0; r < rows; r++)\n"
    "#pragma GCC unroll 2\n"
    "      for (int v = 0; v < vectors; v++) c[r][v] = $name_times(c[r][v], ds + r * $name_ROWS, k + v * $name_LANES);\n"
    "#pragma GCC unroll 6\n"
    "  for (int r = 0; r < rows; r++)\n"
    "#pragma GCC unroll 2\n"
    "    for (int v = 0; v < vectors; v++) *($name_f *)(dq + r * $rowL + v * $name_LANES) = c[r][v];\n"
    "}\n"
    "static void $name_add_queries(const $name_e *ds, const $name_k *k, long keys, long count, float *dq) {\n"
    "  long j = 0;\n"
    "  for (; j + 6 <= count; j += 6) {\n"
    "    long i = 0;\n"
    "    for (; i + 2 * $name_LANES <= $row; i += 2 * $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $rowL + i, 6, 2);\n"
    "    for (; i + $name_LANES <= $row; i += $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $rowL + i, 6, 1);\n"
    "  }\n"
    "  for (; j < count; j++) {\n"
    "    long i = 0;\n"
    "    for (; i + 2 * $name_LANES <= $row; i += 2 * $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $rowL + i, 1, 2);\n"
    "    for (; i + $name_LANES <= $row; i += $name_LANES) $name_patch(ds + j * $name_ROWS, k + i, keys, dq + j * $rowL + i, 1, 1);\n"
    "  }\n"
    "$rest"
    "}\n";

static const char rest_text[] =
    "  for (long i = $d - $d % $name_LANES; i < $d; i++)\n"
    "    for (j = 0; j < count; j++) {\n"
    "      float sum = dq[j * $dL + i];\n"
    "      for (long key = 0; key < keys; key++) sum += ds[j * $name_ROWS + key] * k[key * $dL + i];\n"
    "      dq[j * $dL + i] = sum;\n"
    "    }\n";

static const char narrow_text[] =
    "typedef uint16_t $name_n __attribute__((vector_size(sizeof($name_v) / 2), may_alias));\n"
    "static void $name_narrow(const $name_v *s, long count, $name_n *to) {\n"
    "  for (long i = 0; i < $name_WIDTH * count; i++) to[i] = __builtin_convertvector($name_round(s[i]) >> 16, $name_n);\n"
    "}\n";

// dq: queries in lanes. ds^T = p^T * (v dy^T - delta) * scale; dq^T = k^T ds^T.
static const char query_text[] =
    "static void $name_queries(const $name_e *q, const $name_e *k, const $name_e *v, const $name_e *y, const float *lse, const $name_e *dy,\n"
    "                          $name_e *dq, long row, long rows$seeds) {\n"
    "  $name_l qt[$name_WIDTH * $d1], dyt[$name_WIDTH * $e1];\n"
    "  $name_v dqt[$name_WIDTH * $d1], p[$name_WIDTH * $name_BLOCK], ds[$name_WIDTH * $name_BLOCK];\n"
    "  $name_v delta[$name_WIDTH], sums[$name_WIDTH];\n"
    "  $name_r room[$name_ROOM($name_BLOCK, $d)];\n"
    "  $name_across(q, rows, $d, $scale, qt);\n"
    "  $name_across(dy, rows, $e, 1.f, dyt);\n"
    "  $name_dots(dy, y, rows, (float *)delta);\n"
    "  for (long r = rows; r < $name_ROWS; r++) ((float *)delta)[r] = ((float *)delta)[rows - 1];\n"
    "  for (long r = 0; r < $name_ROWS; r++) ((float *)sums)[r] = lse[r < rows ? r : rows - 1];\n"
    "  for (long i = 0; i < $name_WIDTH * $d; i++) dqt[i] = ($name_v){0};\n"
    "  const long last = $causal && row + rows < $s ? row + rows : $s;\n"
    "  for (long first = 0; first < last; first += $name_BLOCK) {\n"
    "    const long count = last - first < $name_BLOCK ? last - first : $name_BLOCK;\n"
    "    $name_scores(k + first * $dL, count, $d, $scale, qt, p);\n"
    "    $name_scores(v + first * $eL, count, $e, 1.f, dyt, ds);\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) p[$name_WIDTH * j + i] = $name_exp(p[$name_WIDTH * j + i] - sums[i]);\n"
    "$dropQueries"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) {\n"
    "        $name_v d = p[$name_WIDTH * j + i] * (ds[$name_WIDTH * j + i] - delta[i]) * $scale;\n"
    "        if ($causal && first + count > row + 1) d = $name_choose($name_number(row, i) >= (int32_t)(first + j), d, ($name_v){0});\n"
    "        ds[$name_WIDTH * j + i] = d;\n"
    "      }\n"
    "    $name_sums($name_rows(k + first * $dL, count, $d, room), count, $d, ds, dqt);\n"
    "  }\n"
    "  $name_back(dqt, rows, $d, dq);\n"
    "}\n";

// dk, dv: keys in lanes. p = exp(scale q k^T - lse); dv^T = dy^T p; dk^T = q^T ds.
static const char key_text[] =
    "static void $name_keys(const $name_e *q, const $name_e *k, const $name_e *v, const $name_e *y, const float *lse, const $name_e *dy,\n"
    "                       float *dq, $name_e *dk, $name_e *dv, long key, long keys$given$seeds) {\n"
    "  $name_l kt[$name_WIDTH * $d1], vt[$name_WIDTH * $e1];\n"
    "  $name_v dkt[$name_WIDTH * $d1], dvt[$name_WIDTH * $e1];\n"
    "  $name_v p[$name_WIDTH * $name_BLOCK], ds[$name_WIDTH * $name_BLOCK];\n"
    "$own"
    "  $name_across(k, keys, $d, $scale, kt);\n"
    "  $name_across(v, keys, $e, 1.f, vt);\n"
    "  for (long i = 0; i < $name_WIDTH * $d; i++) dkt[i] = ($name_v){0};\n"
    "  for (long i = 0; i < $name_WIDTH * $e; i++) dvt[i] = ($name_v){0};\n"
    "  for (long first = $causal ? key : 0; first < $t; first += $name_BLOCK) {\n"
    "    const long count = $t - first < $name_BLOCK ? $t - first : $name_BLOCK;\n"
    "    $name_scores(q + first * $dL, count, $d, $scale, kt, p);\n"
    "    $name_scores(dy + first * $eL, count, $e, 1.f, vt, ds);\n"
    "$block"
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
    "$addQueries"
    "    $name_sums(q_rows, count, $d, ds, dkt);\n"
    "    $name_sums(dy_rows, count, $e, p, dvt);\n"
    "  }\n"
    "  (void)dq, (void)y;\n"
    "  $name_back(dkt, keys, $d, dk);\n"
    "  $name_back(dvt, keys, $e, dv);\n"
    "}\n";

// How the kernel begins, whatever its tasks are.
#define KERNEL_BEGIN \
    "void $name(char *const *buffers, const LvScalar *scalars) {\n" \
    "  const $name_e *q = (const $name_e *)buffers[0], *k = (const $name_e *)buffers[1], *v = (const $name_e *)buffers[2];\n" \
    "  const $name_e *y = (const $name_e *)buffers[3], *dy = (const $name_e *)buffers[5];\n" \
    "  const float *lse = (const float *)buffers[4];\n" \
    "  $name_e *dq = ($name_e *)buffers[$y], *dk = ($name_e *)buffers[$y + 1], *dv = ($name_e *)buffers[$y + 2];\n" \
    "$readSeeds"

static const char backward_text[] =
    KERNEL_BEGIN
    "  const long query_groups = ($t + $name_ROWS - 1) / $name_ROWS, key_groups = ($s + $name_ROWS - 1) / $name_ROWS;\n"
    "  const long groups = query_groups + key_groups;\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long task = 0; task < $heads * groups; task++) {\n"
    "    const long head = task / groups, group = task % groups;\n"
    "    const $name_e *hq = q + head * $tL * $dL, *hk = k + head * $sL * $dL, *hv = v + head * $sL * $eL;\n"
    "    const $name_e *hy = y + head * $tL * $eL, *hdy = dy + head * $tL * $eL;\n"
    "    const float *hl = lse + head * $tL;\n"
    "    if (group < query_groups) {\n"
    "      const long row = group * $name_ROWS, rows = $t - row < $name_ROWS ? $t - row : $name_ROWS;\n"
    "      $name_queries(hq + row * $dL, hk, hv, hy + row * $eL, hl + row, hdy + row * $eL, dq + (head * $tL + row) * $dL, row, rows$pass);\n"
    "    } else {\n"
    "      const long key = (group - query_groups) * $name_ROWS, keys = $s - key < $name_ROWS ? $s - key : $name_ROWS;\n"
    "      $name_keys(hq, hk + key * $dL, hv + key * $eL, hy, hl, hdy, 0, dk + (head * $sL + key) * $dL, dv + (head * $sL + key) * $eL, key, keys$pass);\n"
    "    }\n"
    "  }\n"
    "}\n";

static const char heads_text[] =
    KERNEL_BEGIN
    "  (void)scalars;\n"
    "$parallel"
    "  for (long head = 0; head < $heads; head++) {\n"
    "    const long qs = head * $tL * $dL, ks = head * $sL * $dL, vs = head * $sL * $eL, ys = head * $tL * $eL;\n"
    "    float deltas[$t + 1];\n"
    "    $name_r room_q[$name_ROOM($t, $d)], room_dy[$name_ROOM($t, $e)];\n"
    "    const $name_r *all_q = $name_rows(q + qs, $t, $d, room_q), *all_dy = $name_rows(dy + ys, $t, $e, room_dy);\n"
    "    $name_dots(dy + ys, y + ys, $t, deltas);\n"
    "$open"
    "    for (long key = 0; key < $s; key += $name_ROWS)\n"
    "      $name_keys(q + qs, k + ks + key * $dL, v + vs + key * $eL, y + ys, lse + head * $tL, dy + ys, sums, dk + ks + key * $dL,\n"
    "                 dv + vs + key * $eL, key, $s - key < $name_ROWS ? $s - key : $name_ROWS, deltas, all_q, all_dy$pass);\n"
    "$close"
    "  }\n"
    "}\n";

// Rows of queries as the tasks of keys have them: made ready block by block, or by the head. And dq of a head, of which each task of
// keys adds its part: where it is to be, or, in bf16, as sums that are rounded at the end.
typedef struct {
    const char *given, *own, *block, *add, *open, *close;
} QueryTexts;

#define GIVEN ", const float *deltas, const $name_r *all_q, const $name_r *all_dy"
#define BY_HEAD \
    "    const float *delta = deltas + first;\n" \
    "    const $name_r *q_rows = all_q + first / $name_PER * $dL, *dy_rows = all_dy + first / $name_PER * $eL;\n"

static const QueryTexts by_blocks = {
    "",
    "  float delta[$name_BLOCK];\n"
    "  $name_r room_q[$name_ROOM($name_BLOCK, $d)], room_dy[$name_ROOM($name_BLOCK, $e)];\n",
    "    const $name_r *q_rows = $name_rows(q + first * $dL, count, $d, room_q), *dy_rows = $name_rows(dy + first * $eL, count, $e, room_dy);\n"
    "    $name_dots(dy + first * $eL, y + first * $eL, count, delta);\n",
    "", "", ""};
static const QueryTexts float_heads = {
    GIVEN, "", BY_HEAD, "    $name_add_queries((const float *)ds, k, keys, count, dq + first * $dL);\n",
    "    float *sums = dq + qs;\n"
    "    for (long i = 0; i < $tL * $dL; i++) sums[i] = 0;\n", ""};
static const QueryTexts half_heads = {
    GIVEN,
    "  $name_two own[$name_ROWS / 2 * $wide + 1];\n"
    "  $name_n rounded[$name_WIDTH * $name_BLOCK];\n"
    "  for (long i = 0; i < $name_ROWS / 2 * $wide; i++) own[i] = 0;\n"
    "  $name_pair(k, $d, $d, keys, own, $wide);\n",
    BY_HEAD,
    "    $name_narrow(ds, count, rounded);\n"
    "    $name_add_queries((const uint16_t *)rounded, own, (keys + 1) / 2, count, dq + first * $wideL);\n",
    "    float sums[$t * $wide + 1];\n"
    "    for (long i = 0; i < $tL * $wide; i++) sums[i] = 0;\n",
    "    for (long t = 0; t < $t; t++)\n"
    "      for (long i = 0; i < $d; i++) dq[qs + t * $dL + i] = lv_to_bf16(sums[t * $wideL + i]);\n"};

// Whether a task is a head.
static bool by_heads(const Node *node) {
    int64_t t = node->inputs[0]->shape.dim[2], d = node->inputs[0]->shape.dim[3], e = node->inputs[2]->shape.dim[3];
    int64_t ready = attention_is_half(node) ? 1 + attention_whole_vectors(d) + (d + e + 1) / 2 : 1;
    return attention_has_many_heads(node) && t * ready <= ATTENTION_READY;  // beyond, two passes over fewer heads balance better
}

// The texts of a dropout, each empty where there is none.
typedef struct {
    const char *seeds, *pass, *read, *queries, *keys, *values;
} Dropout;

static const Dropout no_dropout = {"", "", "", "", "", ""};
static const Dropout with_dropout = {
    ATTENTION_DROPOUT,
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) ds[$name_WIDTH * j + i] *= $name_kept(seed, step, place + row * $sL + first + j, $sL, i);\n",
    "        const $name_v kept = $name_kept(seed, step, place + (first + j) * $sL + key, 1, i);\n"
    "        ds[$name_WIDTH * j + i] *= kept;\n",
    "        p[$name_WIDTH * j + i] *= kept;\n"};

bool print_attention_grad(const Node *node, const char *name, LvText *out) {
    if (!attention_tile_takes(node)) return false;
    if (!out) return true;
    bool half = attention_is_half(node);
    const Dropout *dropout = node_float(node, ATTR_dropout, 0) > 0 ? &with_dropout : &no_dropout;
    const QueryTexts *queries = !by_heads(node) ? &by_blocks : half ? &half_heads : &float_heads;
    const TemplateWord texts[] = {
        {"seeds", dropout->seeds, 0}, {"pass", dropout->pass, 0}, {"readSeeds", dropout->read, 0}, {"dropQueries", dropout->queries, 0},
        {"dropKeys", dropout->keys, 0}, {"dropValues", dropout->values, 0}, {"given", queries->given, 0}, {"own", queries->own, 0},
        {"block", queries->block, 0}, {"addQueries", queries->add, 0}, {"open", queries->open, 0}, {"close", queries->close, 0},
        {"narrow", half ? narrow_text : "", 0}, {"rest", half ? "" : rest_text, 0}};
    const char *const heads[] = {dots_text, add_queries_text, key_text, heads_text};
    const char *const passes[] = {dots_text, query_text, key_text, backward_text};
    attention_tile_print(node, name, 4, by_heads(node) ? heads : passes, sizeof texts / sizeof *texts, texts, out);
    return true;
}
