// attention without the T x S matrix, after FlashAttention-2 (Dao 2023), on the vector tile.
//
// A group of queries lies across lanes; over blocks of keys, scores s = K Q^T, running maximum m and sum l lane by lane,
// y = y * exp(m_old - m) + V^T p. Deterministic: no sums between threads. With a causal mask, blocks that no lane sees are skipped. Dropped
// weights are drawn anew in each pass: the numbers depend on their place alone. Of bf16 the products are of pairs, whose rows of v lie
// element by element beside each other: made so once for a head where there are many of them, else for each block; weights are rounded.
#include "codegen/c/template_attention.h"

static const char forward_text[] =
    "static void $name_group(const $name_e *q, const $name_e *k, const $values *v, $name_e *y, float *lse, long row, long rows$seeds) {\n"
    "  $name_l qt[$name_WIDTH * $d1];\n"
    "  $name_v yt[$name_WIDTH * $e1], s[$name_WIDTH * $name_BLOCK];\n"
    "  $name_v top[$name_WIDTH], sum[$name_WIDTH];\n"
    "$room"
    "  $name_across(q, rows, $d, $scale, qt);\n"
    "  for (int i = 0; i < $name_WIDTH; i++) top[i] = -1e30f - ($name_v){0}, sum[i] = ($name_v){0};\n"
    "  for (long i = 0; i < $name_WIDTH * $e; i++) yt[i] = ($name_v){0};\n"
    "  const long last = $causal && row + rows < $s ? row + rows : $s;\n"
    "  for (long first = 0; first < last; first += $name_BLOCK) {\n"
    "    const long count = last - first < $name_BLOCK ? last - first : $name_BLOCK;\n"
    "    $name_v factor[$name_WIDTH], most[$name_WIDTH];\n"
    "    $name_scores(k + first * $dL, count, $d, $scale, qt, s);\n"
    "    if ($causal && first + count > row + 1)\n"
    "      for (long j = 0; j < count; j++)\n"
    "        for (int i = 0; i < $name_WIDTH; i++)\n"
    "          s[$name_WIDTH * j + i] = $name_choose($name_number(row, i) >= (int32_t)(first + j), s[$name_WIDTH * j + i], -1e30f - ($name_v){0});\n"
    "    for (int i = 0; i < $name_WIDTH; i++) most[i] = top[i];\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) most[i] = $name_most(s[$name_WIDTH * j + i], most[i]);\n"
    "    for (int i = 0; i < $name_WIDTH; i++) {\n"
    "      factor[i] = $name_exp(top[i] - most[i]);\n"
    "      top[i] = most[i];\n"
    "      sum[i] *= factor[i];\n"
    "    }\n"
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) sum[i] += s[$name_WIDTH * j + i] = $name_exp(s[$name_WIDTH * j + i] - top[i]);\n"
    "$dropout"
    "    if (first > 0) for (long j = 0; j < $e; j++) for (int i = 0; i < $name_WIDTH; i++) yt[$name_WIDTH * j + i] *= factor[i];\n"
    "    $name_sums($valueRows, count, $e, s, yt);\n"
    "  }\n"
    "  for (long j = 0; j < $e; j++) for (int i = 0; i < $name_WIDTH; i++) yt[$name_WIDTH * j + i] /= sum[i];\n"
    "  $name_back(yt, rows, $e, y);\n"
    "  for (long r = 0; r < rows; r++) lse[r] = ((float *)top)[r] + __builtin_logf(((float *)sum)[r]);\n"
    "}\n";

// A task is a group of queries.
static const char groups_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $name_e *q = (const $name_e *)buffers[0], *k = (const $name_e *)buffers[1], *v = (const $name_e *)buffers[2];\n"
    "  $name_e *y = ($name_e *)buffers[$y];\n"
    "  float *lse = (float *)buffers[$y + 1];\n"
    "$readSeeds"
    "  const long groups = ($t + $name_ROWS - 1) / $name_ROWS;\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long task = 0; task < $heads * groups; task++) {\n"
    "    const long head = task / groups, row = task % groups * $name_ROWS, rows = $t - row < $name_ROWS ? $t - row : $name_ROWS;\n"
    "    const long at = head * $tL + row;\n"
    "    $name_group(q + at * $dL, k + head * $sL * $dL, v + head * $sL * $eL, y + at * $eL, lse + at, row, rows$pass);\n"
    "  }\n"
    "}\n";

// A task is a head.
static const char heads_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $name_e *q = (const $name_e *)buffers[0], *k = (const $name_e *)buffers[1], *v = (const $name_e *)buffers[2];\n"
    "  $name_e *y = ($name_e *)buffers[$y];\n"
    "  float *lse = (float *)buffers[$y + 1];\n"
    "$readSeeds"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long head = 0; head < $heads; head++) {\n"
    "    $name_r room[$name_ROOM($s, $e)];\n"
    "    const $name_r *values = $name_rows(v + head * $sL * $eL, $s, $e, room);\n"
    "    for (long row = 0; row < $t; row += $name_ROWS) {\n"
    "      const long at = head * $tL + row, rows = $t - row < $name_ROWS ? $t - row : $name_ROWS;\n"
    "      $name_group(q + at * $dL, k + head * $sL * $dL, values, y + at * $eL, lse + at, row, rows$pass);\n"
    "    }\n"
    "  }\n"
    "}\n";

// Values of a block of keys: made ready in the task of a group of queries, or by the head.
typedef struct {
    const char *type, *room, *rows;
} ValueTexts;

static const ValueTexts value_blocks = {"$name_e", "  $name_r room[$name_ROOM($name_BLOCK, $e)];\n", "$name_rows(v + first * $eL, count, $e, room)"};
static const ValueTexts head_values = {"$name_r", "", "v + first / $name_PER * $eL"};

// Groups of a head share nothing in f32.
static bool by_heads(const Node *node) {
    LvShape v = node->inputs[2]->shape;
    return attention_has_many_heads(node) && attention_is_half(node) && v.dim[2] * (v.dim[3] + 1) / 2 <= ATTENTION_READY;
}

// The texts of a dropout, each empty where there is none.
typedef struct {
    const char *seeds, *pass, *read, *weights;
} Dropout;

static const Dropout no_dropout = {"", "", "", ""};
static const Dropout with_dropout = {
    ATTENTION_DROPOUT,
    "    for (long j = 0; j < count; j++)\n"
    "      for (int i = 0; i < $name_WIDTH; i++) s[$name_WIDTH * j + i] *= $name_kept(seed, step, place + row * $sL + first + j, $sL, i);\n"};

bool print_attention(const Node *node, const char *name, LvText *out) {
    if (!attention_tile_takes(node) || node_bool(node, ATTR_length, false)) return false;
    if (!out) return true;
    const Dropout *dropout = node_float(node, ATTR_dropout, 0) > 0 ? &with_dropout : &no_dropout;
    const ValueTexts *values = by_heads(node) ? &head_values : &value_blocks;
    const TemplateWord texts[] = {
        {"seeds", dropout->seeds, 0}, {"pass", dropout->pass, 0}, {"readSeeds", dropout->read, 0}, {"dropout", dropout->weights, 0},
        {"values", values->type, 0}, {"room", values->room, 0}, {"valueRows", values->rows, 0}};
    attention_tile_print(node, name, 2, (const char *const[]){forward_text, by_heads(node) ? heads_text : groups_text},
                    sizeof texts / sizeof *texts, texts, out);
    return true;
}
