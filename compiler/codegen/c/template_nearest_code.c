// nearest_code: x [N,D], codes [K,D] -> index [N], with no N x K matrix anywhere.
//
// Scores |c|^2 / 2 - x.c are f32 products by the vector tile, rows of x across lanes; each row keeps its two best codes on the
// way. f32 tells codes apart only down to its own rounding, so where the two best lie within that, their distances are
// computed again in f64 and compared exactly. Of equal codes the lower index wins: a later one must be strictly better.
#include <math.h>
#include <stdio.h>

#include "codegen/c/template_text.h"

static const char kernel_text[] =
    "static double $name_distance(const float *x, const float *c) {\n"
    "  double sum = 0;\n"
    "  for (long i = 0; i < $d; i++) { const double a = (double)x[i] - (double)c[i]; sum += a * a; }\n"
    "  return sum;\n"
    "}\n"
    "// codes first ... first + count - 1 against one group of rows\n"
    "static void $name_scan(const float *codes, const float *half, long first, long count, const $name_v *x, $name_v *best,\n"
    "                       $name_i *index, $name_v *second, $name_i *other) {\n"
    "  $name_v dot[3 * $name_CODES];\n"
    "  $name_multiply(codes + first * $dL, $d, 1, count, $d, x, dot, 0);\n"
    "  for (long j = 0; j < count; j++)\n"
    "    for (int v = 0; v < 3; v++) {\n"
    "      const $name_v s = half[j] - dot[3 * j + v];\n"
    "      const $name_i code = (int32_t)(first + j) - ($name_i){0}, lead = s < best[v], next = s < second[v];\n"
    "      const $name_i bits = ($name_i)s, old = ($name_i)best[v];\n"
    "      second[v] = ($name_v)((lead & old) | (~lead & ((next & bits) | (~next & ($name_i)second[v]))));\n"
    "      other[v] = (lead & index[v]) | (~lead & ((next & code) | (~next & other[v])));\n"
    "      best[v] = ($name_v)((lead & bits) | (~lead & old));\n"
    "      index[v] = (lead & code) | (~lead & index[v]);\n"
    "    }\n"
    "}\n"
    "static void $name_rows(const float *x, const float *codes, int32_t *y, long rows) {\n"
    "  $name_v lanes[$groups][3 * $d1], best[$groups][3], second[$groups][3];\n"
    "  $name_i index[$groups][3], other[$groups][3];\n"
    "  const int groups = (int)((rows + $name_ROWS - 1) / $name_ROWS);\n"
    "  for (int g = 0; g < groups; g++) {\n"
    "    $name_transpose(x + g * $name_ROWS * $dL, $d, rows - g * $name_ROWS, $d, 1.f, lanes[g]);\n"
    "    for (int v = 0; v < 3; v++) {\n"
    "      best[g][v] = second[g][v] = 3e38f - ($name_v){0};\n"
    "      index[g][v] = other[g][v] = ($name_i){0};\n"
    "    }\n"
    "  }\n"
    "  for (long first = 0; first < $k; first += $name_CODES) {\n"
    "    const long count = $k - first < $name_CODES ? $k - first : $name_CODES;\n"
    "    float half[$name_CODES];\n"
    "    for (long j = 0; j < count; j++) {\n"
    "      float part[16] = {0};\n"
    "      double sum = 0;\n"
    "      const float *c = codes + (first + j) * $dL;\n"
    "      long i = 0;\n"
    "      for (; i + 16 <= $d; i += 16) for (int l = 0; l < 16; l++) part[l] += c[i + l] * c[i + l];\n"
    "      for (; i < $d; i++) part[0] += c[i] * c[i];\n"
    "      for (int l = 0; l < 16; l++) sum += part[l];\n"
    "      half[j] = (float)(sum / 2);\n"
    "    }\n"
    "    for (int g = 0; g < groups; g++) $name_scan(codes, half, first, count, lanes[g], best[g], index[g], second[g], other[g]);\n"
    "  }\n"
    "  for (long r = 0; r < rows; r++) {\n"
    "    const long g = r / $name_ROWS, lane = r % $name_ROWS;\n"
    "    const float *row = x + r * $dL, s = ((float *)best[g])[lane], t = ((float *)second[g])[lane];\n"
    "    int32_t code = ((int32_t *)index[g])[lane], runner = ((int32_t *)other[g])[lane];\n"
    "    float square = 0;\n"
    "    for (long i = 0; i < $d; i++) square += row[i] * row[i];\n"
    "    // |c|^2 is at most 2 |x|^2 + 2 distance^2\n"
    "    const float doubt = $doubt * (square + __builtin_fabsf(square + 2 * s));\n"
    "    if (t - s <= doubt && code != runner) {\n"
    "      const double a = $name_distance(row, codes + code * $dL), b = $name_distance(row, codes + runner * $dL);\n"
    "      if (b < a || (b == a && runner < code)) code = runner;\n"
    "    }\n"
    "    y[r] = code;\n"
    "  }\n"
    "}\n"
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const float *restrict x = (const float *)buffers[0], *restrict codes = (const float *)buffers[1];\n"
    "  int32_t *restrict y = (int32_t *)buffers[2];\n"
    "  const long chunk = $groups * $name_ROWS;\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long n = 0; n < $n; n += chunk) $name_rows(x + n * $dL, codes, y + n, $n - n < chunk ? $n - n : chunk);\n"
    "}\n";

enum { MAX_WIDTH = 8192 };  // a group of rows in lanes stands on a thread's stack: 48 * 8192 * 4 bytes

bool print_nearest_code(const Node *node, const char *name, LvText *out) {
    const Value *x = node->inputs[0], *codes = node->inputs[1];
    int64_t n = x->shape.dim[0], d = x->shape.dim[1], k = codes->shape.dim[0];
    if (x->dtype != LV_F32 || d > MAX_WIDTH) return false;
    if (!lv_layout_is_row_major(x->layout, 2) || !lv_layout_is_row_major(codes->layout, 2)) return false;
    if (!out) return true;
    // Groups share each pass over the codes; enough pieces for many threads come first.
    int64_t groups = n / (48 * 16), room = d ? MAX_WIDTH / d : 4;
    if (groups > 4) groups = 4;
    if (groups > room) groups = room;
    if (groups < 1) groups = 1;
    char doubt[32];
    snprintf(doubt, sizeof doubt, "%.3ef", 1.2e-7 * (4 + sqrt((double)d)));
    template_tile(name, out);
    TEMPLATE_FILL(out, kernel_text, {"name", name, 0}, {"n", NULL, n}, {"d", NULL, d}, {"dL", NULL, d}, {"d1", NULL, d ? d : 1},
                  {"k", NULL, k}, {"groups", NULL, groups}, {"doubt", doubt, 0},
                  {"parallel", n * k * d >= TEMPLATE_PARALLEL ? "#pragma omp parallel for schedule(dynamic, 1)\n" : "", 0});
    return true;
}
