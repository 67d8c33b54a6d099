// The checks a plan passes before it is run or believed: see lv_plan_check. All arithmetic is overflow-checked; nothing is
// read through an index that has not been compared with its bound.
#include "base/map.h"
#include "base/plan_file.h"

// 2^46 bytes: more than any machine has, small enough that sums of a few never overflow.
static const int64_t most_bytes = (int64_t)1 << 46;

typedef struct {
    const LvPlan *plan;
    LvError *error;
    const char *what;  // "variable", "input", "step"
    int index;
} Check;

static bool fail(const Check *check, const char *why) {
    return lv_error_set(check->error, LV_ERROR_FORMAT, "%s %d: %s", check->what, check->index, why);
}

static bool check_shape(const Check *check, LvShape shape, LvDType dtype, int64_t *bytes) {
    if ((unsigned)dtype >= LV_DTYPE_COUNT) return fail(check, "unknown type");
    if (shape.rank < 0 || shape.rank > LV_MAX_RANK) return fail(check, "too many dimensions");
    int64_t total = (int64_t)lv_dtype_size(dtype), widest = total;
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] < 0) return fail(check, "negative extent");
        if (__builtin_mul_overflow(total, shape.dim[i], &total)) return fail(check, "too large");
        // Extents beside a zero still enter strides.
        if (shape.dim[i] > 0 && __builtin_mul_overflow(widest, shape.dim[i], &widest)) return fail(check, "too large");
    }
    if (total > most_bytes || widest > most_bytes) return fail(check, "too large");
    *bytes = total;
    return true;
}

static bool check_place(const Check *check, LvPlace place, int64_t bytes, LvDType dtype) {
    if ((unsigned)place.arena >= LV_ARENA_COUNT) return fail(check, "unknown arena");
    if (place.offset == -1) return bytes == 0 || fail(check, "has no place");
    if (place.offset < 0 || place.offset % (int64_t)lv_dtype_size(dtype) != 0) return fail(check, "misplaced");
    if (place.offset > check->plan->arena_bytes[place.arena] - bytes) return fail(check, "outside its arena");
    return true;
}

// `bytes`: of the elements; with a pitch out comes what lies from the first to behind the last.
static bool check_pitch(const Check *check, LvLayout layout, LvShape shape, LvDType dtype, int64_t *bytes) {
    int64_t inside = 1, span = (int64_t)lv_dtype_size(dtype);
    if (layout.pitch < 0 || layout.block > 1 || layout.pitch_place < 0 || layout.pitch_place >= shape.rank) return fail(check, "no layout");
    for (int i = layout.pitch_place + 1; i < shape.rank; i++) inside *= shape.dim[layout.perm[i]];
    if (inside > layout.pitch) return fail(check, "a pitch shorter than what it is of");
    if (*bytes == 0) return true;
    for (int i = 0; i <= layout.pitch_place; i++) {
        if (__builtin_mul_overflow(span, shape.dim[layout.perm[i]], &span)) return fail(check, "too large");
    }
    if (__builtin_mul_overflow(span, layout.pitch, &span) || span > most_bytes) return fail(check, "too large");
    *bytes = lv_layout_span(layout, shape) * (int64_t)lv_dtype_size(dtype);
    return true;
}

static bool check_layout(const Check *check, LvLayout layout, LvShape shape, LvDType dtype, int64_t *bytes) {
    unsigned seen = 0;
    for (int i = 0; i < shape.rank; i++) {
        int dim = layout.perm[i];
        if (dim < 0 || dim >= shape.rank || seen >> dim & 1) return fail(check, "no layout");
        seen |= 1u << dim;
    }
    if (layout.block < 0) return fail(check, "no layout");
    if (layout.pitch) return check_pitch(check, layout, shape, dtype, bytes);
    if (layout.block > 1) {
        if (layout.block_dim < 0 || layout.block_dim >= shape.rank) return fail(check, "no layout");
        if (shape.dim[layout.block_dim] % layout.block != 0) return fail(check, "extent is no multiple of its block");
    }
    return true;
}

static bool check_ports(Check *check, const LvPort *ports, int count, const char *what) {
    LvMap names = {0};
    bool good = true;
    check->what = what;
    if (count < 0) return fail(check, "negative count");
    for (int i = 0; good && i < count; i++) {
        int64_t bytes;
        check->index = i;
        good = (ports[i].name || fail(check, "no name")) && check_shape(check, ports[i].shape, ports[i].dtype, &bytes) &&
               check_place(check, ports[i].place, bytes, ports[i].dtype) &&
               (!lv_map_has(&names, ports[i].name) || fail(check, "two of one name"));
        if (good) lv_map_set(&names, ports[i].name, (void *)1);
    }
    lv_map_free(&names);
    return good;
}

static bool check_variables(Check *check) {
    const LvPlan *plan = check->plan;
    LvMap names = {0};
    bool good = true;
    check->what = "variable";
    for (int i = 0; good && i < plan->variable_count; i++) {
        const LvVariable *v = &plan->variables[i];
        int64_t bytes;
        check->index = i;
        good = (v->name || fail(check, "no name")) && ((unsigned)v->kind < LV_VARIABLE_KIND_COUNT || fail(check, "unknown kind")) &&
               check_shape(check, v->shape, v->dtype, &bytes) &&
               (!lv_map_has(&names, v->name) || fail(check, "two of one name"));
        if (good && v->place.offset != -1) {
            bool cache = v->kind == LV_VARIABLE_CACHE;
            good = (cache ? v->place.arena == LV_ARENA_CACHE : (unsigned)v->place.arena <= LV_ARENA_MOMENTS) ||
                   fail(check, "not in an arena of variables");
            good = good && check_place(check, v->place, bytes, v->dtype);
        }
        if (good && v->gradient.offset != -1) {
            good = v->gradient.arena == LV_ARENA_GRADIENTS || fail(check, "gradient not among gradients");
            good = good && check_place(check, v->gradient, bytes, v->dtype);
        }
        if (good) lv_map_set(&names, v->name, (void *)1);
    }
    lv_map_free(&names);
    return good;
}

static bool same(LvShape shape, int rank, const int64_t *dim) {
    return lv_shape_equal(shape, lv_shape(rank, dim));
}

// Output extent of a padded, strided window, -1 if there is none.
static int64_t window(int64_t extent, int64_t low, int64_t high, int64_t kernel, int64_t stride) {
    int64_t padded = extent + low + high;
    return padded < kernel ? -1 : (padded - kernel) / stride + 1;
}

static bool check_moments(const Check *check, const LvOperand *moments, const int64_t *y) {
    for (int i = 0; i < 2; i++) {
        LvShape shape = moments[i].shape;
        int64_t strips = shape.rank == 3 ? shape.dim[1] : 0;
        if (moments[i].dtype != LV_F32 || strips < 1 || !same(shape, 3, (int64_t[]){y[0], moments[0].shape.dim[1], y[1]}) || y[2] * y[3] % strips)
            return fail(check, "the moments do not fit");
    }
    return true;
}

static bool check_conv(const Check *check, const LvStep *step) {
    const LvConvStep *c = &step->conv;
    if ((unsigned)c->direction > LV_CONV_WEIGHT_GRADIENT || (unsigned)c->activation > LV_ACTIVATION_GELU ||
        (unsigned)c->algorithm > LV_CONV_WINOGRAD) {
        return fail(check, "unknown kind of convolution");
    }
    bool forward = c->direction == LV_CONV_FORWARD, weights = c->direction == LV_CONV_WEIGHT_GRADIENT;
    if ((!forward && c->has_moments) || (weights && (c->has_residual || c->activation != LV_ACTIVATION_NONE))) {
        return fail(check, "a gradient has no such epilogue");
    }
    if (step->operand_count != 3 + c->has_bias + c->has_residual + 2 * c->has_moments) return fail(check, "wrong number of operands");
    for (int i = 0; i < 2; i++) {
        if (c->stride[i] < 1 || c->stride[i] > 1 << 20) return fail(check, "stride out of range");
    }
    for (int i = 0; i < 4; i++) {
        if (c->pad[i] < -(1 << 20) || c->pad[i] > 1 << 20) return fail(check, "padding out of range");
    }
    for (int i = 0; i < 3; i++) {
        if (step->operands[i].shape.rank != 4) return fail(check, "a convolution takes four dimensions");
    }
    const int64_t *y = step->operands[forward ? 0 : weights ? 2 : 1].shape.dim;
    const int64_t *x = step->operands[forward || weights ? 1 : 0].shape.dim, *w = step->operands[weights ? 0 : 2].shape.dim;
    if (x[0] != y[0] || x[1] != w[1] || y[1] != w[0]) return fail(check, "shapes do not fit");
    if (w[2] < 1 || w[3] < 1 || y[2] != window(x[2], c->pad[2], c->pad[3], w[2], c->stride[0]) ||
        y[3] != window(x[3], c->pad[0], c->pad[1], w[3], c->stride[1])) {
        if (!(y[2] == 0 || y[3] == 0)) return fail(check, "shapes do not fit");
    }
    bool transposed = c->direction == LV_CONV_DATA_GRADIENT;
    if (c->has_bias && !same(step->operands[3].shape, 1, &w[transposed])) return fail(check, "the bias does not fit");
    if (c->has_residual && !same(step->operands[3 + c->has_bias].shape, 4, transposed ? x : y)) return fail(check, "the residual does not fit");
    if (c->has_moments) return check_moments(check, &step->operands[3 + c->has_bias + c->has_residual], y);
    return true;
}

static bool check_sums(const Check *check, const LvStep *step, int64_t rows) {
    const LvMatmulStep *m = &step->matmul;
    const LvOperand *o = step->operands;
    if (m->has_bias || m->has_residual || m->activation != LV_ACTIVATION_NONE || m->alpha != 1) return fail(check, "sums beside another epilogue");
    if (o[0].shape.rank != 2 || o[3].dtype != o[0].dtype || !same(o[3].shape, 1, &rows)) return fail(check, "the sums do not fit");
    return true;
}

static bool check_matmul(const Check *check, const LvStep *step) {
    const LvMatmulStep *m = &step->matmul;
    if ((unsigned)m->activation > LV_ACTIVATION_GELU) return fail(check, "unknown activation");
    if (step->operand_count != 3 + m->has_bias + m->has_residual + m->has_sums) return fail(check, "wrong number of operands");
    LvShape y = step->operands[0].shape, a = step->operands[1].shape, b = step->operands[2].shape;
    if (y.rank < 2 || a.rank < 2 || b.rank < 2 || a.rank > y.rank || b.rank > y.rank) return fail(check, "wrong ranks");
    int64_t am = a.dim[a.rank - 2], ak = a.dim[a.rank - 1], bk = b.dim[b.rank - 2], bn = b.dim[b.rank - 1], swap;
    if (m->transpose_a) swap = am, am = ak, ak = swap;
    if (m->transpose_b) swap = bk, bk = bn, bn = swap;
    if (ak != bk || y.dim[y.rank - 2] != am || y.dim[y.rank - 1] != bn) return fail(check, "shapes do not fit");
    for (int i = 0; i < y.rank - 2; i++) {
        int ia = i - (y.rank - a.rank), ib = i - (y.rank - b.rank);
        if ((ia >= 0 && a.dim[ia] != 1 && a.dim[ia] != y.dim[i]) || (ib >= 0 && b.dim[ib] != 1 && b.dim[ib] != y.dim[i])) {
            return fail(check, "batches do not fit");
        }
    }
    if (m->has_bias && !same(step->operands[3].shape, 1, &bn)) return fail(check, "the bias does not fit");
    if (m->has_residual && !lv_shape_equal(step->operands[3 + m->has_bias].shape, y)) return fail(check, "the residual does not fit");
    return !m->has_sums || check_sums(check, step, am);
}

static bool check_linear_loss(const Check *check, const LvStep *step) {
    bool gradient = step->linear_loss.gradient;
    if (step->operand_count != (gradient ? 7 : 4)) return fail(check, "wrong number of operands");
    if (step->kernel < 0 || step->kernel >= check->plan->kernel_count) return fail(check, "no such kernel");
    const LvOperand *o = step->operands, *x = &o[gradient ? 3 : 1], *weight = x + 1, *target = x + 2;
    if (x->shape.rank != 2 || weight->shape.rank != 2 || weight->shape.dim[1] != x->shape.dim[1] || weight->shape.dim[0] < 1 ||
        !same(target->shape, 1, x->shape.dim)) {
        return fail(check, "shapes do not fit");
    }
    if (target->dtype != LV_I32 || x->dtype != weight->dtype || (x->dtype != LV_F32 && x->dtype != LV_BF16 && x->dtype != LV_F16))
        return fail(check, "wrong types");
    const LvOperand *rows[] = {gradient ? &o[2] : &o[0], gradient ? &o[6] : &o[0]};
    for (int i = 0; i < 2; i++) {
        if (rows[i]->dtype != LV_F32 || !same(rows[i]->shape, 1, x->shape.dim)) return fail(check, "losses do not fit");
    }
    for (int i = 0; gradient && i < 2; i++) {
        if (o[i].dtype != LV_F32 || !lv_shape_equal(o[i].shape, o[3 + i].shape)) return fail(check, "gradients do not fit");
    }
    for (int i = 0; i < step->operand_count; i++) {
        if (!lv_layout_is_row_major(o[i].layout, o[i].shape.rank)) return fail(check, "operands are row-major");
    }
    return true;
}

// As many elements are summed as the shape says, so that there must be no others between them.
static bool check_all_reduce(const Check *check, const LvStep *step) {
    const LvOperand *o = step->operands;
    if (step->operand_count != 1) return fail(check, "takes one operand");
    if (o->dtype != LV_F32 && o->dtype != LV_F64 && o->dtype != LV_I32 && o->dtype != LV_I64) return fail(check, "wrong type");
    return lv_layout_is_row_major(o->layout, o->shape.rank) || fail(check, "the operand is row-major");
}

static bool check_step(Check *check, const LvStep *step) {
    int64_t bytes[2] = {0, 0}, size;
    if (step->operand_count < 0 || step->scalar_count < 0) return fail(check, "negative count");
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *o = &step->operands[i];
        if (!check_shape(check, o->shape, o->dtype, &size) || !check_layout(check, o->layout, o->shape, o->dtype, &size) ||
            !check_place(check, o->place, size, o->dtype)) {
            return false;
        }
        if (i < 2) bytes[i] = size;
    }
    if (step->scratch < 0 || step->scratch > most_bytes) return fail(check, "scratch memory of an impossible size");
    if (step->kernel < -1 || step->kernel >= check->plan->kernel_count) return fail(check, "no such kernel");
    if (step->launch_count < 0 || (step->launch_count && step->kernel < 0)) return fail(check, "launches of no kernel");
    switch (step->kind) {
        case LV_STEP_KERNEL:
            return (step->kernel >= 0 && step->kernel < check->plan->kernel_count) || fail(check, "no such kernel");
        case LV_STEP_CONV: return check_conv(check, step);
        case LV_STEP_MATMUL: return check_matmul(check, step);
        case LV_STEP_LINEAR_LOSS: return check_linear_loss(check, step);
        case LV_STEP_COPY:
            return (step->operand_count == 2 && bytes[0] == bytes[1]) || fail(check, "a copy of unequal sizes");
        case LV_STEP_ALL_REDUCE: return check_all_reduce(check, step);
        case LV_STEP_ZERO: return step->operand_count == 1 || fail(check, "takes one operand");
        case LV_STEP_KIND_COUNT: break;
    }
    return fail(check, "unknown kind");
}

bool lv_plan_check(const LvPlan *plan, LvError *error) {
    Check check = {plan, error, "arena", 0};
    for (int a = 0; a < LV_ARENA_COUNT; a++) {
        check.index = a;
        if (plan->arena_bytes[a] < 0 || plan->arena_bytes[a] > most_bytes) return fail(&check, "impossible size");
    }
    if (plan->arena_bytes[LV_ARENA_CONSTANTS] > 0 && !plan->constants) return fail(&check, "constants are missing");
    check.what = "ranks";
    if (plan->ranks < 0 || plan->ranks > INT32_MAX) return fail(&check, "an impossible number");
    check.what = "kernel";
    for (int k = 0; k < plan->kernel_count; k++) {
        check.index = k;
        if (!plan->kernels[k].name || !plan->kernels[k].text) return fail(&check, "no text");
    }
    if (!check_variables(&check) || !check_ports(&check, plan->inputs, plan->input_count, "input") ||
        !check_ports(&check, plan->results, plan->result_count, "result")) {
        return false;
    }
    if (plan->prepare_count < 0 || plan->prepare_count > plan->step_count) return fail(&check, "prepares more steps than there are");
    check.what = "step";
    for (int s = 0; s < plan->step_count; s++) {
        check.index = s;
        if (!check_step(&check, &plan->steps[s])) return false;
    }
    return true;
}
