// gather, dynamic_slice, dynamic_update for GPUs: rows move in pieces of up to 16 bytes, a piece a thread, neighbours beside
// each other. Which row a piece belongs to comes from divisions by literals, once a piece.
#include "codegen/cuda/templates.h"

enum { BLOCK = 256 };

static int64_t blocks_of(int64_t pieces) { return (pieces + BLOCK - 1) / BLOCK; }

// ---- gather: table [K, ...], index [I...] -> [I..., ...]; an index out of range is clamped

static const char gather_text[] =
    "// Row index[n] of the table becomes row n: $each pieces of $bytes bytes a row.\n"
    "extern \"C\" __global__ void $name_0(const $type *table, const int *index, $type *y, char *scratch) {\n"
    "  const $number at = ($number)blockIdx.x * $block + threadIdx.x;\n"
    "  if (at >= $pieces) return;\n"
    "  const $number n = at / $each, part = at - n * $each;\n"
    "  int row = index[n];\n"
    "  row = row < 0 ? 0 : row > $last ? $last : row;\n"
    "  const long long from = (long long)row * $each + part;\n"
    "  if ((((unsigned long long)table | (unsigned long long)y) & ($bytes - 1)) == 0) (($wide *)y)[at] = ((const $wide *)table)[from];\n"
    "  else for (int i = 0; i < $run; i++) y[at * $run + i] = table[from * $run + i];\n"
    "}\n";

bool cuda_print_gather(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    (void)target;
    if (!cuda_all_row_major(node)) return false;
    if (!out) return true;
    const Value *table = node->inputs[0];
    int64_t rows = table->shape.dim[0], elements = lv_shape_elements(node->results[0].shape);
    int64_t width = rows ? lv_shape_elements(table->shape) / rows : 0, size = (int64_t)lv_dtype_size(table->dtype);
    int bytes = cuda_piece(width * size);
    int64_t each = width * size / bytes, pieces = elements * size / bytes, last = rows > INT32_MAX ? INT32_MAX : rows - 1;
    TEMPLATE_FILL(out, gather_text, {"name", name, 0}, {"type", cuda_type(table->dtype), 0}, {"wide", cuda_piece_type(bytes), 0},
                  {"bytes", NULL, bytes}, {"run", NULL, bytes / size}, {"each", NULL, each ? each : 1}, {"pieces", NULL, pieces},
                  {"last", NULL, last}, {"block", NULL, BLOCK}, {"number", cuda_index_type(elements + BLOCK), 0});
    cuda_push_launch(made, blocks_of(pieces), 1, 1, BLOCK, 0);
    return true;
}

// ---- windows

// A window of the whole. Dimension `last` is the last one in which they differ, -1 if none does: behind it, `run` elements lie
// together in both, and rows are counted over the dimensions up to it.
typedef struct {
    LvShape small, whole;
    int last;
    int64_t size, run, small_rows, whole_rows;
    int bytes;  // of a piece
} Window;

static Window window_of(const Value *small, const Value *whole) {
    Window w = {small->shape, whole->shape, -1, (int64_t)lv_dtype_size(whole->dtype), 1, 1, 1, 1};
    for (int i = 0; i < w.whole.rank; i++)
        if (w.small.dim[i] != w.whole.dim[i]) w.last = i;
    for (int i = w.last + 1; i < w.whole.rank; i++) w.run *= w.whole.dim[i];
    for (int i = 0; i <= w.last; i++) w.small_rows *= w.small.dim[i], w.whole_rows *= w.whole.dim[i];
    w.bytes = cuda_piece(w.run * w.size);
    return w;
}

static int64_t pieces_of_row(const Window *w) { return w->run * w->size / w->bytes; }

// The start of dimension i, clamped so that the window lies inside.
static void print_start(const Window *w, int i, LvText *out) {
    long long most = (long long)(w->whole.dim[i] - w->small.dim[i]);
    if (most) lv_text_printf(out, "(starts[%d] < 0 ? 0 : starts[%d] > %lld ? %lld : starts[%d])", i, i, most, most, i);
    else lv_text_puts(out, "0");
}

static void print_split(int i, int64_t extent, LvText *out) {
    if (i > 0) lv_text_printf(out, "rest %% %lld; rest /= %lld;", (long long)extent, (long long)extent);
    else lv_text_puts(out, "rest;");
}

// `to`: the row of the whole at which row `row` of the window stands.
static void print_outward(const Window *w, const char *number, LvText *out) {
    long long stride = 1;
    lv_text_printf(out, "    %s rest = row, to = 0;\n    (void)rest;\n", number);
    for (int i = w->last; i >= 0; i--) {
        lv_text_printf(out, "    { const %s i = ", number);
        print_split(i, w->small.dim[i] ? w->small.dim[i] : 1, out);
        lv_text_puts(out, " to += (");
        print_start(w, i, out);
        lv_text_printf(out, " + i) * %lld; }\n", stride);
        stride *= (long long)w->whole.dim[i];
    }
}

// `inside`: whether row `row` of the whole is covered by the window, and `from`, by which row of it.
static void print_inward(const Window *w, const char *number, LvText *out) {
    long long stride = 1;
    lv_text_printf(out, "    %s rest = row, from = 0;\n    bool inside = %s;\n    (void)rest;\n", number,
                   lv_shape_elements(w->small) ? "true" : "false");
    for (int i = w->last; i >= 0; i--) {
        lv_text_printf(out, "    { %s i = ", number);
        print_split(i, w->whole.dim[i] ? w->whole.dim[i] : 1, out);
        lv_text_puts(out, " i -= ");
        print_start(w, i, out);
        lv_text_printf(out, "; inside = inside && i < %lld; from += i * %lld; }\n", (long long)w->small.dim[i], stride);
        stride *= (long long)w->small.dim[i];
    }
}

static void print_window(const Window *w, const char *name, LvDType dtype, const char *const *texts, int count, LvText *out) {
    const char *number = cuda_index_type(lv_shape_elements(w->whole) + (1 << 20));
    LvText outward = {0}, inward = {0};
    int64_t each = pieces_of_row(w) ? pieces_of_row(w) : 1;
    print_outward(w, number, &outward);
    print_inward(w, number, &inward);
    for (int i = 0; i < count; i++)
        TEMPLATE_FILL(out, texts[i], {"name", name, 0}, {"type", cuda_type(dtype), 0}, {"wide", cuda_piece_type(w->bytes), 0},
                      {"bytes", NULL, w->bytes}, {"run", NULL, w->bytes / w->size}, {"each", NULL, each}, {"block", NULL, BLOCK},
                      {"small", NULL, w->small_rows * pieces_of_row(w)}, {"whole", NULL, w->whole_rows * pieces_of_row(w)},
                      {"number", number, 0}, {"outward", lv_text_get(&outward), 0}, {"inward", lv_text_get(&inward), 0});
    lv_text_free(&outward);
    lv_text_free(&inward);
}

static const char slice_text[] =
    "extern \"C\" __global__ void $name_0(const $type *x, const int *starts, $type *y, char *scratch) {\n"
    "  const bool aligned = (((unsigned long long)x | (unsigned long long)y) & ($bytes - 1)) == 0;\n"
    "  const $number at = ($number)blockIdx.x * $block + threadIdx.x;\n"
    "  if (at < $small) {\n"
    "    const $number row = at / $each, part = at - row * $each;\n"
    "$outward"
    "    const $number piece = to * $each + part;\n"
    "    if (aligned) (($wide *)y)[at] = ((const $wide *)x)[piece];\n"
    "    else for (int i = 0; i < $run; i++) y[at * $run + i] = x[piece * $run + i];\n"
    "  }\n"
    "}\n";

bool cuda_print_dynamic_slice(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    (void)target;
    if (!cuda_all_row_major(node)) return false;
    if (!out) return true;
    Window w = window_of(&node->results[0], node->inputs[0]);
    print_window(&w, name, node->inputs[0]->dtype, (const char *const[]){slice_text}, 1, out);
    cuda_push_launch(made, blocks_of(w.small_rows * pieces_of_row(&w)), 1, 1, BLOCK, 0);
    return true;
}

// In one launch, so that no block may write what another copies: a piece of the result has one owner in either case.
static const char update_text[] =
    "static __device__ __forceinline__ void $name_move(const $type *from, $type *to, $number source, $number target, bool aligned) {\n"
    "  if (aligned) (($wide *)to)[target] = ((const $wide *)from)[source];\n"
    "  else for (int i = 0; i < $run; i++) to[target * $run + i] = from[source * $run + i];\n"
    "}\n"
    "extern \"C\" __global__ void $name_0(const $type *x, const $type *update, const int *starts, $type *y, char *scratch) {\n"
    "  const bool aligned = (((unsigned long long)x | (unsigned long long)update | (unsigned long long)y) & ($bytes - 1)) == 0;\n"
    "  const $number first = blockIdx.x * $block + threadIdx.x, step = gridDim.x * $block;\n"
    "  if (x == y) for ($number at = first; at < $small; at += step) {  // in place: the window alone\n"
    "    const $number row = at / $each, part = at - row * $each;\n"
    "$outward"
    "    $name_move(update, y, at, to * $each + part, aligned);\n"
    "  }\n"
    "  else for ($number at = first; at < $whole; at += step) {\n"
    "    const $number row = at / $each, part = at - row * $each;\n"
    "$inward"
    "    if (inside) $name_move(update, y, from * $each + part, at, aligned);\n"
    "    else $name_move(x, y, at, at, aligned);\n"
    "  }\n"
    "}\n";

enum { UPDATE_BLOCKS = 528 };  // enough to copy at full speed, few enough to end at once where only a small window is written

bool cuda_print_dynamic_update(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    (void)target;
    if (!cuda_all_row_major(node)) return false;
    if (!out) return true;
    Window w = window_of(node->inputs[1], node->inputs[0]);
    print_window(&w, name, node->inputs[0]->dtype, (const char *const[]){update_text}, 1, out);
    int64_t blocks = blocks_of(w.whole_rows * pieces_of_row(&w));
    cuda_push_launch(made, blocks < UPDATE_BLOCKS ? blocks : UPDATE_BLOCKS, 1, 1, BLOCK, 0);
    return true;
}
