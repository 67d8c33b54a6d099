// nearest_code: x [N,D], codes [K,D] -> index [N], with no N x K matrix anywhere.
//
// Scores |c - p|^2 / 2 - (c - p).(x - p) are f32 products by the vector tile, rows of x across lanes; p, the mean of the rows, is
// there because squares of large numbers hide small distances. Each row keeps its two best codes and the third's score. f32 tells
// codes apart only down to its own rounding: where the second lies within that of the best, distances are computed again in f64,
// of the two or, where the third is as near, of all codes. Of equal codes the lower index wins: a later one must be strictly better.
#include <math.h>
#include <stdio.h>

#include "codegen/c/template_text.h"

static const char kernel_text[] =
    "static double $name_distance(const float *x, const float *c) {\n"
    "  double part[8] = {0}, sum = 0;\n"
    "  long i = 0;\n"
    "  for (; i + 8 <= $d; i += 8)\n"
    "    for (int l = 0; l < 8; l++) { const double a = (double)x[i + l] - (double)c[i + l]; part[l] += a * a; }\n"
    "  for (; i < $d; i++) { const double a = (double)x[i] - (double)c[i]; part[0] += a * a; }\n"
    "  for (int l = 0; l < 8; l++) sum += part[l];\n"
    "  return sum;\n"
    "}\n"
    "typedef struct { $name_v best[$name_WIDTH], second[$name_WIDTH], third[$name_WIDTH]; $name_i index[$name_WIDTH], other[$name_WIDTH]; } $name_found;\n"
    "// codes first ... first + count - 1, moved by the pivot, against one group of rows\n"
    "static void $name_scan(const float *codes, const float *half, long first, long count, const $name_v *x, $name_found *f) {\n"
    "  $name_v dot[$name_WIDTH * $name_CODES];\n"
    "  $name_multiply(codes, $d, 1, count, $d, x, dot, 0);\n"
    "  for (long j = 0; j < count; j++)\n"
    "    for (int v = 0; v < $name_WIDTH; v++) {\n"
    "      const $name_v s = half[j] - dot[$name_WIDTH * j + v], old = f->best[v], next = f->second[v];\n"
    "      const $name_i code = (int32_t)(first + j) - ($name_i){0}, leads = s < old, follows = s < next;\n"
    "      const $name_v left = $name_choose(follows, next, s);\n"
    "      f->third[v] = $name_choose(left < f->third[v], left, f->third[v]);\n"
    "      f->second[v] = $name_choose(leads, old, $name_choose(follows, s, next));\n"
    "      f->other[v] = (leads & f->index[v]) | (~leads & ((follows & code) | (~follows & f->other[v])));\n"
    "      f->best[v] = $name_choose(leads, s, old);\n"
    "      f->index[v] = (leads & code) | (~leads & f->index[v]);\n"
    "    }\n"
    "}\n"
    "static void $name_pivot(const float *x, long rows, float *p) {\n"
    "  for (long i = 0; i < $d; i++) p[i] = 0;\n"
    "  for (long r = 0; r < rows; r++) for (long i = 0; i < $d; i++) p[i] += x[r * $dL + i];\n"
    "  for (long i = 0; i < $d; i++) p[i] = __builtin_fabsf(p[i]) < 1e30f ? p[i] / rows : 0.f;\n"
    "}\n"
    "// What f32 leaves open, in f64.\n"
    "static int32_t $name_decide(const float *x, const float *codes, int32_t code, int32_t other, int all) {\n"
    "  if (!all) {\n"
    "    const double a = $name_distance(x, codes + code * $dL), b = $name_distance(x, codes + other * $dL);\n"
    "    return b < a || (b == a && other < code) ? other : code;\n"
    "  }\n"
    "  double least = __builtin_inf();\n"
    "  for (long k = 0; k < $k; k++) {\n"
    "    const double a = $name_distance(x, codes + k * $dL);\n"
    "    if (a < least) least = a, code = (int32_t)k;\n"
    "  }\n"
    "  return code;\n"
    "}\n"
    "static void $name_rows(const float *x, const float *codes, int32_t *y, long rows) {\n"
    "  $name_v lanes[$groups][$name_WIDTH * $d1];\n"
    "  $name_found found[$groups];\n"
    "  float pivot[$d1], moved[$name_CODES * $d1], square[$name_ROWS * $groups];\n"
    "  const int groups = (int)((rows + $name_ROWS - 1) / $name_ROWS);\n"
    "  $name_pivot(x, rows, pivot);\n"
    "  for (int g = 0; g < groups; g++) {\n"
    "    float *to = (float *)lanes[g];\n"
    "    for (long r = 0; r < $name_ROWS; r++) {\n"
    "      const long row = g * $name_ROWS + r < rows ? g * $name_ROWS + r : rows - 1;\n"
    "      float sum = 0;\n"
    "      for (long i = 0; i < $d; i++) { const float a = x[row * $dL + i] - pivot[i]; to[i * $name_ROWS + r] = a; sum += a * a; }\n"
    "      square[g * $name_ROWS + r] = sum;\n"
    "    }\n"
    "    for (int v = 0; v < $name_WIDTH; v++) {\n"
    "      found[g].best[v] = found[g].second[v] = found[g].third[v] = 3e38f - ($name_v){0};\n"
    "      found[g].index[v] = found[g].other[v] = ($name_i){0};\n"
    "    }\n"
    "  }\n"
    "  for (long first = 0; first < $k; first += $name_CODES) {\n"
    "    const long count = $k - first < $name_CODES ? $k - first : $name_CODES;\n"
    "    float half[$name_CODES];\n"
    "    for (long j = 0; j < count; j++) {\n"
    "      float part[16] = {0}, *to = moved + j * $dL;\n"
    "      double sum = 0;\n"
    "      const float *c = codes + (first + j) * $dL;\n"
    "      long i = 0;\n"
    "      for (; i + 16 <= $d; i += 16)\n"
    "        for (int l = 0; l < 16; l++) { const float a = c[i + l] - pivot[i + l]; to[i + l] = a; part[l] += a * a; }\n"
    "      for (; i < $d; i++) { const float a = c[i] - pivot[i]; to[i] = a; part[0] += a * a; }\n"
    "      for (int l = 0; l < 16; l++) sum += part[l];\n"
    "      half[j] = (float)(sum / 2);\n"
    "    }\n"
    "    for (int g = 0; g < groups; g++) $name_scan(moved, half, first, count, lanes[g], &found[g]);\n"
    "  }\n"
    "  for (long r = 0; r < rows; r++) {\n"
    "    const long lane = r % $name_ROWS;\n"
    "    const $name_found *f = &found[r / $name_ROWS];\n"
    "    const float best = ((const float *)f->best)[lane], second = ((const float *)f->second)[lane], third = ((const float *)f->third)[lane];\n"
    "    // rounding of a score: |x|^2 and |c|^2 = O(|x|^2 + distance^2) times that of a sum of D products\n"
    "    const float doubt = $doubt * (square[r] + __builtin_fabsf(square[r] + 2 * best));\n"
    "    const int32_t code = ((const int32_t *)f->index)[lane], other = ((const int32_t *)f->other)[lane];\n"
    "    y[r] = second - best <= doubt && code != other ? $name_decide(x + r * $dL, codes, code, other, third - best <= doubt) : code;\n"
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
