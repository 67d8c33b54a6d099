// Kernels of data-dependent places. Rows move as bytes, whatever their type.
// scatter_add is deterministic for any number of threads: places are bucketed by row first, then each row sums its own in
// their order, in f64 for floats.
#include "codegen/c/template_text.h"

static bool all_row_major(const Node *node) {
    for (int i = 0; i < node->input_count; i++)
        if (!lv_layout_is_row_major(node->inputs[i]->layout, node->inputs[i]->shape.rank)) return false;
    for (int i = 0; i < node->result_count; i++)
        if (!lv_layout_is_row_major(node->results[i].layout, node->results[i].shape.rank)) return false;
    return true;
}

// ---- gather: table [K, ...], index [I...] -> [I..., ...]

static const char gather_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const char *restrict table = buffers[0];\n"
    "  const int32_t *restrict index = (const int32_t *)buffers[1];\n"
    "  char *restrict y = buffers[2];\n"
    "  (void)scalars;\n"
    "$parallel"
    "  for (long n = 0; n < $count; n++) {\n"
    "    const long i = index[n], row = i < 0 ? 0 : i >= $rows ? $rows - 1 : i;\n"
    "    __builtin_memcpy(y + n * $bytes, table + row * $bytes, $bytes);\n"
    "  }\n"
    "}\n";

bool print_gather(const Node *node, const char *name, LvText *out) {
    if (!all_row_major(node)) return false;
    if (!out) return true;
    int64_t rows = node->inputs[0]->shape.dim[0], count = lv_shape_elements(node->inputs[1]->shape);
    int64_t bytes = rows ? value_bytes(node->inputs[0]) / rows : 0;
    TEMPLATE_FILL(out, gather_text, {"name", name, 0}, {"parallel", template_parallel(count * bytes), 0}, {"count", NULL, count},
                  {"rows", NULL, rows}, {"bytes", NULL, bytes});
    return true;
}

// ---- scatter_add: updates [I..., ...], index [I...] -> [rows, ...]

static const char scatter_text[] =
    "static void $name_row($type *restrict y, const $type *restrict updates, const int32_t *restrict places, long count, long low, long high) {\n"
    "  for (long k = low; k < high; k += 32) {\n"
    "    const int width = high - k < 32 ? (int)(high - k) : 32;\n"
    "    $sum sum[32] = {0};\n"
    "    for (long p = 0; p < count; p++) {\n"
    "      const $type *restrict u = updates + places[p] * $widthL + k;\n"
    "      if (width == 32) for (int i = 0; i < 32; i++) sum[i] += ($sum)u[i];\n"
    "      else for (int i = 0; i < width; i++) sum[i] += ($sum)u[i];\n"
    "    }\n"
    "    for (int i = 0; i < width; i++) y[k + i] = ($type)sum[i];\n"
    "  }\n"
    "}\n"
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  const $type *restrict updates = (const $type *)buffers[0];\n"
    "  const int32_t *restrict index = (const int32_t *)buffers[1];\n"
    "  $type *restrict y = ($type *)buffers[2];\n"
    "  (void)scalars;\n"
    "  int32_t *begin = __builtin_calloc($rows + 2, 4), *place = __builtin_malloc(4 * ($count + 1));\n"
    "  if (!begin || !place) __builtin_trap();\n"
    "  for (long n = 0; n < $count; n++) if (index[n] >= 0 && index[n] < $rows) begin[index[n] + 2]++;\n"
    "  for (long r = 2; r < $rows + 2; r++) begin[r] += begin[r - 1];\n"
    "  for (long n = 0; n < $count; n++) if (index[n] >= 0 && index[n] < $rows) place[begin[index[n] + 1]++] = (int32_t)n;\n"
    "$parallel"
    "  for (long piece = 0; piece < $rows * $slabs; piece++) {\n"
    "    const long row = piece / $slabs, low = piece % $slabs * $slab;\n"
    "    $name_row(y + row * $widthL, updates, place + begin[row], begin[row + 1] - begin[row], low, low + $slab < $width ? low + $slab : $width);\n"
    "  }\n"
    "  __builtin_free(begin);\n"
    "  __builtin_free(place);\n"
    "}\n";

bool print_scatter_add(const Node *node, const char *name, LvText *out) {
    static const struct {
        const char *type, *sum;
    } types[LV_DTYPE_COUNT] = {[LV_F32] = {"float", "double"}, [LV_F64] = {"double", "double"}, [LV_I32] = {"int32_t", "uint32_t"},
                               [LV_I64] = {"int64_t", "uint64_t"}};
    LvDType dtype = node->inputs[0]->dtype;
    int64_t count = lv_shape_elements(node->inputs[1]->shape), rows = node->results[0].shape.dim[0];
    if (!types[dtype].type || count > INT32_MAX || rows > INT32_MAX - 2 || !all_row_major(node)) return false;
    if (!out) return true;
    int64_t width = rows ? lv_shape_elements(node->results[0].shape) / rows : 0, slab = width < 128 ? width : 64;
    int64_t slabs = slab ? (width + slab - 1) / slab : 0;
    const char *parallel = (count + rows) * width >= TEMPLATE_PARALLEL / 4 ? "#pragma omp parallel for schedule(dynamic, 16)\n" : "";
    TEMPLATE_FILL(out, scatter_text, {"name", name, 0}, {"type", types[dtype].type, 0}, {"sum", types[dtype].sum, 0},
                  {"parallel", parallel, 0}, {"count", NULL, count}, {"rows", NULL, rows}, {"width", NULL, width},
                  {"widthL", NULL, width}, {"slab", NULL, slab}, {"slabs", NULL, slabs ? slabs : 1});
    return true;
}

// ---- dynamic_slice and dynamic_update: a window of the whole at computed starts, clamped into it

// Copies the window by runs that are contiguous in both: dimensions from `from` on are whole.
static void print_window(LvText *out, LvShape window, LvShape whole, size_t element, bool slice) {
    int from = whole.rank;
    int64_t run = (int64_t)element, stride[LV_MAX_RANK], step = (int64_t)element;
    while (from > 0 && window.dim[from - 1] == whole.dim[from - 1]) run *= whole.dim[--from];
    if (from > 0) run *= window.dim[--from];
    for (int i = whole.rank - 1; i >= 0; i--) stride[i] = step, step *= whole.dim[i];
    lv_text_puts(out, "  long base = 0;\n");
    for (int i = 0; i < whole.rank; i++) {
        long long last = (long long)(whole.dim[i] - window.dim[i]);
        if (last) lv_text_printf(out, "  base += (starts[%d] < 0 ? 0 : starts[%d] > %lld ? %lld : (long)starts[%d]) * %lld;\n", i, i, last, last, i, (long long)stride[i]);
    }
    bool first = true;
    for (int i = 0; i < from; i++) {
        if (window.dim[i] > 1 && first) lv_text_puts(out, template_parallel(lv_shape_elements(window) * (int64_t)element));
        if (window.dim[i] > 1) first = false;
        lv_text_printf(out, "  for (long i%d = 0; i%d < %lld; i%d++)\n", i, i, (long long)window.dim[i], i);
    }
    LvText at = {0}, place = {0};
    int64_t own = run;
    for (int i = from - 1; i >= 0; i--) {
        lv_text_printf(&at, " + i%d * %lldL", i, (long long)own);
        lv_text_printf(&place, " + i%d * %lldL", i, (long long)stride[i]);
        own *= window.dim[i];
    }
    const char *small = lv_text_get(&at), *large = lv_text_get(&place);
    if (slice) lv_text_printf(out, "    __builtin_memcpy(y%s, x + base%s, %lld);\n", small, large, (long long)run);
    else lv_text_printf(out, "    __builtin_memcpy(y + base%s, update%s, %lld);\n", large, small, (long long)run);
    lv_text_free(&at);
    lv_text_free(&place);
}

bool print_dynamic_slice(const Node *node, const char *name, LvText *out) {
    if (!all_row_major(node)) return false;
    if (!out) return true;
    TEMPLATE_FILL(out,
                  "void $name(char *const *buffers, const LvScalar *scalars) {\n"
                  "  const char *restrict x = buffers[0];\n"
                  "  const int32_t *restrict starts = (const int32_t *)buffers[1];\n"
                  "  char *restrict y = buffers[2];\n"
                  "  (void)scalars, (void)starts;\n",
                  {"name", name, 0});
    LvShape window = node->results[0].shape, whole = node->inputs[0]->shape;
    if (lv_shape_elements(window)) print_window(out, window, whole, lv_dtype_size(node->results[0].dtype), true);
    else lv_text_puts(out, "  (void)x, (void)y;\n");
    lv_text_puts(out, "}\n");
    return true;
}

bool print_dynamic_update(const Node *node, const char *name, LvText *out) {
    if (!all_row_major(node)) return false;
    if (!out) return true;
    TEMPLATE_FILL(out,
                  "void $name(char *const *buffers, const LvScalar *scalars) {\n"
                  "  const char *x = buffers[0], *restrict update = buffers[1];\n"
                  "  const int32_t *restrict starts = (const int32_t *)buffers[2];\n"
                  "  char *y = buffers[3];\n"
                  "  (void)scalars, (void)starts, (void)update;\n"
                  "  if (y != x) __builtin_memcpy(y, x, $bytes);\n",
                  {"name", name, 0}, {"bytes", NULL, value_bytes(node->inputs[0])});
    LvShape window = node->inputs[1]->shape, whole = node->inputs[0]->shape;
    if (lv_shape_elements(window)) print_window(out, window, whole, lv_dtype_size(node->results[0].dtype), false);
    lv_text_puts(out, "}\n");
    return true;
}
