// LV_STEP_MATMUL: what of it cuBLASLt does, and what is left.
//
// Operands of another type than the product's are converted first; an activation that the library lacks, a residual behind an
// activation and a result of a type that it does not give are made by a pass over the product. What the library has no algorithm
// for at all (integers, empty sums) goes to a kernel of plain loops. Sums of a are its too, of bf16 and f16: where it has no algorithm that
// makes them, and of other types, a kernel of our own makes them from a.
//
// The dimensions before the last two are the batch. Those that lie in memory like one are made one; where b is the same for all of
// a's, they join a's rows; of what is left the longest is the library's batch, the others are a loop of calls.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/calls.h"
#include "device/cuda/own.h"

enum { OPERANDS = 6, Y = 0, A = 1, B = 2, BIAS = 3, RESIDUAL = 4, SUMS = 5, MOST_LOOPS = LV_MAX_RANK, PLACE_ALIGNMENT = 64 };

typedef enum { FORM_NOTHING, FORM_LIBRARY, FORM_PLAIN } Form;

typedef struct {
    int64_t count, y, a, b;  // how often, and how far apart in elements
} Batch;

// A matrix as it is multiplied: strides of rows and columns.
typedef struct {
    int64_t row, column;
} Strides;

struct MatmulCall {
    Form form;
    LvOperand operands[OPERANDS];  // by what they are
    int index[OPERANDS];           // in the step, -1: it has none
    LvActivation activation;
    double alpha;
    int64_t m, n, k;
    Strides y, a, b;
    Batch batches[MOST_LOOPS];     // the library's own batch first, then the loops
    int batch_count;
    // the library's part
    CudaProduct product;
    CudaMatmul *matmul;
    LvDType types[OPERANDS];       // that it takes: others are converted
    bool finishes;                 // a pass over the product follows
    bool bare;                     // the library has no algorithm with the epilogue: all of that is the pass's
    size_t converted[OPERANDS];    // where in the scratch memory, 0: as it is
    size_t product_at;             // likewise, 0: in the destination
    size_t scratch;
    char implementation[64];
};

static bool has(const MatmulCall *c, int operand) { return c->index[operand] >= 0; }

static bool is_small_float(LvDType dtype) { return dtype == LV_F32 || dtype == LV_BF16 || dtype == LV_F16; }

static int64_t elements(const LvOperand *operand) { return lv_shape_elements(operand->shape); }

static bool same_place(const MatmulCall *c, int i, int j) { return lv_place_equal(c->operands[i].place, c->operands[j].place); }

// ---- shapes

// The last two dimensions; the batch's strides, 0 where it is the same one.
static void read_strides(const MatmulCall *c, int operand, bool transposed, Strides *matrix, int64_t *batch) {
    const LvOperand *o = &c->operands[operand];
    int64_t stride[LV_MAX_RANK];
    int rank = o->shape.rank, full = c->operands[Y].shape.rank, missing = full - rank;
    lv_layout_strides(o->layout, o->shape, stride);
    *matrix = transposed ? (Strides){stride[rank - 1], stride[rank - 2]} : (Strides){stride[rank - 2], stride[rank - 1]};
    for (int i = 0; i < full - 2; i++) batch[i] = i < missing || o->shape.dim[i - missing] == 1 ? 0 : stride[i - missing];
}

static void add_batch(MatmulCall *c, Batch next) {
    Batch *last = c->batch_count ? &c->batches[c->batch_count - 1] : NULL;
    if (next.count == 1) return;
    // from the inside out: the next one goes on where the last one ends
    if (last && next.y == last->count * last->y && next.a == last->count * last->a && next.b == last->count * last->b)
        last->count *= next.count;
    else c->batches[c->batch_count++] = next;
}

// One b for all of the innermost batch: its rows of a are rows of one product.
static void join_rows(MatmulCall *c) {
    while (c->batch_count && c->batches[0].b == 0) {
        Batch inner = c->batches[0];
        bool one = c->m == 1 && inner.a >= c->k && inner.y >= c->n;
        if (!one && (inner.a != c->m * c->a.row || inner.y != c->m * c->y.row)) return;
        if (one) c->a.row = inner.a, c->y.row = inner.y;
        c->m *= inner.count;
        c->batch_count--;
        memmove(c->batches, c->batches + 1, (size_t)c->batch_count * sizeof *c->batches);
    }
}

static void read_shapes(MatmulCall *c, const LvMatmulStep *m) {
    int64_t y[LV_MAX_RANK], a[LV_MAX_RANK], b[LV_MAX_RANK];
    const LvShape *shape = &c->operands[Y].shape, *stored = &c->operands[A].shape;
    int rank = shape->rank;
    c->m = shape->dim[rank - 2], c->n = shape->dim[rank - 1];
    c->k = stored->dim[m->transpose_a ? stored->rank - 2 : stored->rank - 1];
    read_strides(c, Y, false, &c->y, y);
    read_strides(c, A, m->transpose_a, &c->a, a);
    read_strides(c, B, m->transpose_b, &c->b, b);
    for (int i = rank - 3; i >= 0; i--) add_batch(c, (Batch){shape->dim[i], y[i], a[i], b[i]});
    if (c->a.column == 1 || c->k == 1) join_rows(c);
    int longest = 0;
    for (int i = 1; i < c->batch_count; i++)
        if (c->batches[i].count > c->batches[longest].count) longest = i;
    if (c->batch_count == 0) c->batches[c->batch_count++] = (Batch){.count = 1};
    Batch first = c->batches[0];
    c->batches[0] = c->batches[longest], c->batches[longest] = first;
}

// A matrix of `rows` x `columns` as rows that lie `*stored` apart, or as columns that do (*transposed). False: as neither.
static bool find_rows(Strides s, int64_t rows, int64_t columns, bool *transposed, int64_t *stored) {
    bool by_rows = (s.column == 1 || columns == 1) && (rows == 1 || s.row >= columns);
    bool by_columns = (s.row == 1 || rows == 1) && (columns == 1 || s.column >= rows);
    *transposed = !by_rows;
    *stored = by_rows ? rows == 1 ? columns : s.row : columns == 1 ? rows : s.column;
    return by_rows || by_columns;
}

// Of all the addresses that calls start from.
static int alignment_of(const MatmulCall *c, int operand, LvDType dtype) {
    int64_t alignment = PLACE_ALIGNMENT;
    for (int i = 0; i < c->batch_count; i++) {
        const Batch *b = &c->batches[i];
        int64_t bytes = (operand == Y ? b->y : operand == A ? b->a : b->b) * (int64_t)lv_dtype_size(dtype);
        while (b->count > 1 && bytes % alignment) alignment /= 2;
    }
    return (int)alignment;
}

// ---- types

// Mixed operands meet in the narrower type, whose product is what the precision asked for.
static LvDType meet(LvDType a, LvDType b) { return a == LV_F32 ? b : a; }

// What the library makes and what is left to the pass behind it.
static bool choose_types(MatmulCall *c) {
    const LvOperand *o = c->operands;
    LvDType operands = meet(o[A].dtype, o[B].dtype), y = o[Y].dtype;
    bool all_wide = o[A].dtype == LV_F64 && o[B].dtype == LV_F64 && y == LV_F64, bias = has(c, BIAS), residual = has(c, RESIDUAL);
    if (all_wide && !bias && c->activation == LV_ACTIVATION_NONE && (!residual || o[RESIDUAL].dtype == LV_F64)) {
        for (int i = 0; i < OPERANDS; i++) c->types[i] = LV_F64;
        c->product.adds = residual;
        return true;
    }
    for (int i = 0; i < OPERANDS; i++)
        if (has(c, i) && !is_small_float(o[i].dtype)) return false;
    bool direct = y == LV_F32 || y == operands, relu = c->activation == LV_ACTIVATION_RELU;
    bool gelu = c->activation == LV_ACTIVATION_GELU && direct && y != LV_F32;  // tanh's, as good as the result can show
    LvActivation own = relu || gelu ? c->activation : LV_ACTIVATION_NONE;
    bool adds = residual && c->activation == LV_ACTIVATION_NONE && o[RESIDUAL].dtype == y;
    c->finishes = !direct || own != c->activation || (residual && !adds);
    if (c->finishes && own == LV_ACTIVATION_GELU) own = LV_ACTIVATION_NONE;
    c->types[A] = c->types[B] = operands;
    c->types[Y] = c->types[BIAS] = c->types[RESIDUAL] = c->finishes ? LV_F32 : y;
    c->product.activation = own;
    c->product.adds = adds && !c->finishes;
    c->product.sums = has(c, SUMS) && !c->finishes && operands != LV_F32 && o[A].dtype == operands;
    return true;
}

static size_t take(MatmulCall *c, int64_t count, LvDType dtype) {
    size_t at = c->scratch;
    c->scratch += cuda_align((size_t)count * lv_dtype_size(dtype));
    return at;
}

static void lay_out(MatmulCall *c) {
    c->scratch = CUDA_BLAS_WORKSPACE;
    for (int i = A; i <= BIAS; i++)
        if (has(c, i) && c->operands[i].dtype != c->types[i]) c->converted[i] = take(c, elements(&c->operands[i]), c->types[i]);
    // in place of the destination, where that is of its type and nothing that is still to be read
    bool there = c->operands[Y].dtype == c->types[Y] && !(has(c, RESIDUAL) && same_place(c, Y, RESIDUAL));
    if (c->finishes && !there) c->product_at = take(c, elements(&c->operands[Y]), c->types[Y]);
}

static void describe_product(MatmulCall *c) {
    CudaProduct *p = &c->product;
    const Batch *batch = &c->batches[0];
    p->operands = c->types[A], p->result = c->types[Y];
    p->has_bias = has(c, BIAS);
    p->alpha = c->alpha;
    p->m = c->m, p->n = c->n, p->k = c->k;
    p->count = batch->count, p->step_a = batch->a, p->step_b = batch->b, p->step_y = batch->y;
    p->alignment_a = alignment_of(c, A, c->types[A]);
    p->alignment_b = alignment_of(c, B, c->types[B]);
    p->alignment_y = alignment_of(c, Y, c->types[Y]);
}

// All that follows from the step alone.
static void analyse(MatmulCall *c, const LvStep *step) {
    const LvMatmulStep *m = &step->matmul;
    bool transposed;
    *c = (MatmulCall){.activation = m->activation, .alpha = m->alpha, .index = {0, 1, 2, -1, -1, -1}};
    if (m->has_bias) c->index[BIAS] = 3;
    if (m->has_residual) c->index[RESIDUAL] = 3 + m->has_bias;
    if (m->has_sums) c->index[SUMS] = 3;
    for (int i = 0; i < OPERANDS; i++)
        if (has(c, i)) c->operands[i] = step->operands[c->index[i]];
    bool empty = elements(&c->operands[Y]) == 0;
    if (empty && !has(c, SUMS)) return;
    read_shapes(c, m);
    if (empty) return;
    CudaProduct *p = &c->product;
    bool rows = find_rows(c->a, c->m, c->k, &p->transpose_a, &p->row_a) &&
                find_rows(c->b, c->k, c->n, &p->transpose_b, &p->row_b) && find_rows(c->y, c->m, c->n, &transposed, &p->row_y) &&
                !transposed;
    c->form = rows && c->k > 0 && choose_types(c) ? FORM_LIBRARY : FORM_PLAIN;
    if (c->form == FORM_PLAIN) return;
    describe_product(c);
    lay_out(c);
}

size_t cuda_matmul_call_scratch(const LvStep *step) {
    MatmulCall call;
    analyse(&call, step);
    return call.scratch;
}

// ---- a call's life

static bool check_residual(const MatmulCall *c, LvError *error) {
    if (!has(c, RESIDUAL) || lv_layout_equal(c->operands[Y].layout, c->operands[RESIDUAL].layout, c->operands[Y].shape.rank))
        return true;
    return lv_error_set(error, LV_ERROR_UNSUPPORTED, "a matmul's residual lies in memory otherwise than its result");
}

static int64_t turns_of(const MatmulCall *c) {
    int64_t turns = 1;
    for (int i = 1; i < c->batch_count; i++) turns *= c->batches[i].count;
    return turns;
}

static bool sums_itself(const MatmulCall *c) { return has(c, SUMS) && !(c->form == FORM_LIBRARY && c->product.sums); }

static void describe(MatmulCall *c) {
    LvText text = {0};
    if (c->form == FORM_LIBRARY) lv_text_puts(&text, cuda_matmul_describe(c->matmul));
    else lv_text_puts(&text, c->form == FORM_PLAIN ? "plain loops" : "nothing");
    if (c->form == FORM_LIBRARY && turns_of(c) > 1) lv_text_printf(&text, ", %lld calls", (long long)turns_of(c));
    if (c->form == FORM_LIBRARY && c->finishes) lv_text_puts(&text, ", a pass behind it");
    if (has(c, SUMS)) lv_text_puts(&text, sums_itself(c) ? ", sums by a kernel" : ", sums");
    snprintf(c->implementation, sizeof c->implementation, "%s", text.data);
    lv_text_free(&text);
}

bool cuda_matmul_call_create(LvCuda *gpu, const LvModule *module, const LvStep *step, MatmulCall **out, LvError *error) {
    MatmulCall *c = *out = lv_calloc(1, sizeof *c);
    analyse(c, step);
    if (module) c->product.tf32 = c->types[A] == LV_F32 && cuda_kernels_tf32(module);
    bool good = check_residual(c, error) && (c->form != FORM_LIBRARY || cuda_matmul_get(gpu, &c->product, &c->matmul, error));
    if (good && c->product.sums && !c->matmul) {
        c->product.sums = false;
        good = cuda_matmul_get(gpu, &c->product, &c->matmul, error);
    }
    if (good && c->form == FORM_LIBRARY && !c->matmul && (c->product.has_bias || c->product.activation != LV_ACTIVATION_NONE)) {
        c->bare = c->finishes = true;
        c->product.has_bias = false, c->product.activation = LV_ACTIVATION_NONE;
        good = cuda_matmul_get(gpu, &c->product, &c->matmul, error);
    }
    if (good && c->form == FORM_LIBRARY && !c->matmul) c->form = FORM_PLAIN;
    bool converts = c->form == FORM_PLAIN || c->finishes || sums_itself(c) || c->converted[A] || c->converted[B] || c->converted[BIAS];
    good = good && (!converts || cuda_own_load(gpu, error));
    if (!good) {
        cuda_matmul_call_destroy(gpu, c);
        *out = NULL;
        return false;
    }
    describe(c);
    return true;
}

void cuda_matmul_call_destroy(LvCuda *gpu, MatmulCall *call) {
    if (!call) return;
    cuda_matmul_release(gpu, call->matmul);
    free(call);
}

const char *cuda_matmul_call_describe(const MatmulCall *call) { return call->implementation; }

// ---- running it

// Element offsets of the `number`-th turn of the loops.
static Batch offsets_of(const MatmulCall *c, int64_t number) {
    Batch at = {0};
    for (int i = 1; i < c->batch_count; i++) {
        int64_t turn = number % c->batches[i].count;
        number /= c->batches[i].count;
        at.y += turn * c->batches[i].y, at.a += turn * c->batches[i].a, at.b += turn * c->batches[i].b;
    }
    return at;
}

static char *moved(char *at, int64_t by, LvDType dtype) { return at ? at + by * (int64_t)lv_dtype_size(dtype) : NULL; }

static bool run_plain(LvCuda *gpu, const MatmulCall *c, char *const at[OPERANDS], LvError *error) {
    const LvOperand *o = c->operands;
    const Batch *batch = &c->batches[0];
    OwnMatmul m = {.type_y = o[Y].dtype,
                   .type_a = o[A].dtype,
                   .type_b = o[B].dtype,
                   .type_bias = o[BIAS].dtype,
                   .type_add = o[RESIDUAL].dtype,
                   .m = c->m,
                   .n = c->n,
                   .k = c->k,
                   .count = batch->count,
                   .y_row = c->y.row,
                   .y_column = c->y.column,
                   .y_step = batch->y,
                   .a_row = c->a.row,
                   .a_column = c->a.column,
                   .a_step = batch->a,
                   .b_row = c->b.row,
                   .b_column = c->b.column,
                   .b_step = batch->b,
                   .alpha = c->alpha,
                   .activation = c->activation};
    for (int64_t turn = 0; turn < turns_of(c); turn++) {
        Batch by = offsets_of(c, turn);
        if (!cuda_own_matmul(gpu, &m, moved(at[Y], by.y, o[Y].dtype), moved(at[A], by.a, o[A].dtype),
                             moved(at[B], by.b, o[B].dtype), at[BIAS], moved(at[RESIDUAL], by.y, o[RESIDUAL].dtype), error))
            return false;
    }
    return true;
}

static bool convert(LvCuda *gpu, const MatmulCall *c, int operand, char *scratch, char **at, LvError *error) {
    if (!c->converted[operand]) return true;
    OwnFinish f = {.to = scratch + c->converted[operand], .from = *at, .to_type = c->types[operand],
                   .from_type = c->operands[operand].dtype, .count = elements(&c->operands[operand])};
    *at = f.to;
    return cuda_own_finish(gpu, &f, error);
}

static bool finish(LvCuda *gpu, const MatmulCall *c, char *const at[OPERANDS], char *product, LvError *error) {
    OwnFinish f = {.to = at[Y], .from = product, .bias = c->bare ? at[BIAS] : NULL, .add = c->product.adds ? NULL : at[RESIDUAL],
                   .to_type = c->operands[Y].dtype, .from_type = c->types[Y], .bias_type = c->operands[BIAS].dtype,
                   .add_type = c->operands[RESIDUAL].dtype, .count = elements(&c->operands[Y]), .columns = c->n};
    f.activation = c->product.activation == LV_ACTIVATION_NONE ? c->activation : LV_ACTIVATION_NONE;
    return cuda_own_finish(gpu, &f, error);
}

static bool run_library(LvCuda *gpu, const MatmulCall *c, char *const given[OPERANDS], char *scratch, LvError *error) {
    char *at[OPERANDS];
    memcpy(at, given, sizeof at);
    for (int i = A; i <= BIAS; i++)
        if (!(i == BIAS && c->bare) && !convert(gpu, c, i, scratch, &at[i], error)) return false;
    char *y = c->product_at ? scratch + c->product_at : at[Y];
    for (int64_t turn = 0; turn < turns_of(c); turn++) {
        Batch by = offsets_of(c, turn);
        char *add = c->product.adds ? moved(at[RESIDUAL], by.y, c->types[Y]) : NULL;
        if (!cuda_matmul_run(gpu, c->matmul, moved(y, by.y, c->types[Y]), moved(at[A], by.a, c->types[A]),
                             moved(at[B], by.b, c->types[B]), c->product.sums ? at[SUMS] : at[BIAS], add, scratch, error))
            return false;
    }
    return !c->finishes || finish(gpu, c, given, y, error);
}

static bool sum_rows(LvCuda *gpu, const MatmulCall *c, char *const at[OPERANDS], LvError *error) {
    const LvOperand *o = c->operands;
    OwnSums s = {.to_type = o[SUMS].dtype, .from_type = o[A].dtype, .rows = c->m, .columns = c->k, .row = c->a.row, .column = c->a.column};
    return cuda_own_sums(gpu, &s, at[SUMS], at[A], error);
}

bool cuda_matmul_call_run(LvCuda *gpu, const MatmulCall *c, char *const *buffers, char *scratch, LvError *error) {
    char *at[OPERANDS];
    for (int i = 0; i < OPERANDS; i++) at[i] = has(c, i) ? buffers[c->index[i]] : NULL;
    if (sums_itself(c) && !sum_rows(gpu, c, at, error)) return false;
    if (c->form == FORM_NOTHING) return true;
    return c->form == FORM_PLAIN ? run_plain(gpu, c, at, error) : run_library(gpu, c, at, scratch, error);
}
