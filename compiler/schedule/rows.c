// Row-wise kernels: kernels that walk the same rows, of which later ones read a row only after an earlier one has made all
// of it, become one kernel that does everything to a row while it is in cache. Softmax and layer_norm come out of it: their
// reductions, what is computed from them for each row, and the pass that uses both.
//
// A row is one iteration of the outermost axis. The rule is on the loop IR alone: every access to what the kernel itself has
// written is `row * (elements / rows) + something inside the row`, on both sides.
//
// On a GPU the last of them may fold all rows into one (columns): what the backward pass of a layer_norm leaves for its weight and bias,
// beside the gradient of each row.
#include "schedule/internal.h"

enum { MIN_COLUMNS = 128, WIDE_COLUMNS = 1024, MAX_COLUMN_SUMS = 24 };  // the sums of a thread where a block has four columns a thread
enum { MIN_ROWS = 32, MAX_ROW_BYTES = 1 << 18, MAX_ROW_NESTS = 16, MAX_LOCAL_ROW = 8192 };

static int row_var(const Nest *nest) { return nest->axes[0].var; }

int64_t rows_of(const Kernel *kernel) {
    if (kernel->nests.count != 1) return 0;
    const Nest *nest = &kernel->nests.data[0];
    if (nest->axis_count < 2 || nest->axes[0].reduced) return 0;
    bool reduces = false;
    for (size_t i = 0; i < nest->outputs.count; i++) reduces |= nest->outputs.data[i].kind == OUTPUT_REDUCE;
    for (int i = 1; i < nest->axis_count; i++) {
        if (!nest->axes[i].reduced) return 0;  // what is reduced is the row, whole
    }
    int64_t rows = nest->vars.data[row_var(nest)].extent, points = nest_points(nest);
    return reduces && rows >= MIN_ROWS && points / rows * 4 <= MAX_ROW_BYTES ? rows : 0;
}

// Makes the outermost axis of every nest the row, where it can be.
static bool align(Kernel *kernel, int64_t rows) {
    for (size_t i = 0; i < kernel->nests.count; i++) {
        Nest *nest = &kernel->nests.data[i];
        if (nest->axis_count == 0 || nest->axes[0].reduced) return false;
        int64_t extent = nest->vars.data[row_var(nest)].extent;
        if (extent < rows || extent % rows || nest->axis_count + 1 >= LOOP_MAX_AXES) return false;
        if (nest_points(nest) / rows * 4 > MAX_ROW_BYTES) return false;
        if (extent > rows) nest_cut_axis(nest, 0, extent / rows, 0);
        nest_tidy(nest, 1);
    }
    return true;
}

// The axis of the rows where these alone are reduced, to keep what lies along memory; -1.
static int find_folded_rows(const Nest *nest, int64_t rows) {
    int place = -1, count = 0;
    int64_t sums = 0, columns = rows ? nest_points(nest) / rows : 0;
    for (int i = 0; i < nest->axis_count; i++)
        if (nest->axes[i].reduced) place = i, count++;
    if (count != 1 || place == nest->axis_count - 1 || nest->vars.data[nest->axes[place].var].extent != rows) return -1;
    for (size_t i = 0; i < nest->outputs.count; i++) {
        const Output *output = &nest->outputs.data[i];
        if (output->kind != OUTPUT_REDUCE) continue;
        if (output->op == OP_argmax || output->op == OP_argmin) return -1;
        for (int k = 0; k < output->index.count; k++)
            if (nest->vars.data[output->index.term[k].var].kind != VAR_AXIS) return -1;
        sums += 4;
    }
    bool fits = columns >= MIN_COLUMNS && columns * 4 <= MAX_ROW_BYTES;
    return fits && (columns + WIDE_COLUMNS - 1) / WIDE_COLUMNS * sums <= MAX_COLUMN_SUMS ? place : -1;
}

static bool fold_rows(Kernel *kernel, int64_t rows) {
    if (kernel->nests.count != 1) return false;
    Nest *nest = &kernel->nests.data[0];
    int place = find_folded_rows(nest, rows);
    if (place < 0) return false;
    Axis axis = nest->axes[place];
    for (int i = place; i > 0; i--) nest->axes[i] = nest->axes[i - 1];
    nest->axes[0] = axis;
    nest_tidy(nest, 1);
    return true;
}

static bool in_row(const Nest *nest, const Affine *index, int64_t rows, int64_t elements) {
    if (elements % rows) return false;
    int64_t low, high, row = elements / rows;
    Affine rest = *index;
    if (affine_factor(index, row_var(nest)) != row) return false;
    affine_drop(&rest, row_var(nest));
    affine_range(nest, &rest, &low, &high);
    return low >= 0 && high < row;
}

static bool reads_in_row(const Kernel *kernel, int buffer, int64_t rows) {
    for (size_t n = 0; n < kernel->nests.count; n++) {
        const Nest *nest = &kernel->nests.data[n];
        for (size_t i = 0; i < nest->body.count; i++) {
            const Instr *instr = &nest->body.data[i];
            if (instr->kind != INSTR_LOAD || instr->buffer != buffer) continue;
            if (!in_row(nest, &instr->index, rows, kernel->buffers.data[buffer].elements)) return false;
        }
    }
    return true;
}

static bool writes_in_row(const Kernel *kernel, int buffer, int64_t rows) {
    for (size_t n = 0; n < kernel->nests.count; n++) {
        const Nest *nest = &kernel->nests.data[n];
        for (size_t i = 0; i < nest->outputs.count; i++) {
            const Output *output = &nest->outputs.data[i];
            if (output->buffer == buffer && !in_row(nest, &output->index, rows, kernel->buffers.data[buffer].elements))
                return false;
        }
    }
    return true;
}

static int find_buffer(const Kernel *kernel, const Value *value) {
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        if (kernel->buffers.data[i].value == value) return (int)i;
    }
    return -1;
}

static bool fits(const Plan *plan, const Kernel *kernel, const Kernel *next, int64_t rows) {
    bool shares = false;
    for (size_t i = 0; i < next->buffers.count; i++) {
        const Buffer *buffer = &next->buffers.data[i];
        // The same storage under another name would not be recognised below.
        bool renamed = plan->place[buffer->value->id] == PLACE_ALIAS;
        if (renamed && find_buffer(kernel, plan->alias_of[buffer->value->id]) >= 0) return false;
        int at = find_buffer(kernel, buffer->value);
        if (at < 0) continue;
        const Buffer *own = &kernel->buffers.data[at];
        if (buffer->elements >= rows) shares = true;
        if (own->written && !(writes_in_row(kernel, at, rows) && reads_in_row(next, (int)i, rows))) return false;
    }
    return shares;
}

bool rows_append(const Plan *plan, Kernel *kernel, Kernel *next) {
    if (kernel->columns || kernel->nests.count + next->nests.count > MAX_ROW_NESTS) return false;
    int64_t rows = kernel->nests.data[0].vars.data[row_var(&kernel->nests.data[0])].extent;
    bool folds = plan->cuda && fold_rows(next, rows);
    if (!(folds || align(next, rows)) || !align(kernel, rows) || !fits(plan, kernel, next, rows)) return false;
    kernel_take(kernel, next);
    kernel->shared = 1;
    if (folds) kernel->columns = (int)kernel->nests.count - 1;
    return true;
}

// A buffer that only this kernel uses holds one row, in the frame.
void rows_make_local(Kernel *kernel, int buffer) {
    int64_t rows = kernel->nests.data[0].vars.data[row_var(&kernel->nests.data[0])].extent;
    Buffer *b = &kernel->buffers.data[buffer];
    if (b->elements % rows || b->elements / rows > MAX_LOCAL_ROW) return;
    b->elements /= rows;
    b->local = true;
    for (size_t n = 0; n < kernel->nests.count; n++) {
        Nest *nest = &kernel->nests.data[n];
        for (size_t i = 0; i < nest->body.count; i++) {
            if (nest->body.data[i].kind == INSTR_LOAD && nest->body.data[i].buffer == buffer)
                affine_drop(&nest->body.data[i].index, row_var(nest));
        }
        for (size_t i = 0; i < nest->outputs.count; i++) {
            if (nest->outputs.data[i].buffer == buffer) affine_drop(&nest->outputs.data[i].index, row_var(nest));
        }
        nest_tidy(nest, 1);
    }
}
