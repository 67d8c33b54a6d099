// Nests: axes, merging of axes, depths, costs; and the text form of the loop IR.
#include "schedule/loop.h"

#include <string.h>

#include "ops/op.h"

int nest_add_var(Nest *nest, int64_t extent) {
    lv_vec_push(&nest->vars, (Var){.kind = VAR_AXIS, .extent = extent});
    return (int)nest->vars.count - 1;
}

void nest_free(Nest *nest) {
    lv_vec_free(&nest->vars);
    lv_vec_free(&nest->body);
    lv_vec_free(&nest->regions);
    lv_vec_free(&nest->outputs);
}

void kernel_free(Kernel *kernel) {
    for (size_t i = 0; i < kernel->nests.count; i++) nest_free(&kernel->nests.data[i]);
    lv_vec_free(&kernel->nests);
    lv_vec_free(&kernel->buffers);
}

#define COPY_VEC(to, from) \
    for (size_t i_ = 0; i_ < (from)->count; i_++) lv_vec_push(to, (from)->data[i_])

static Nest copy_nest(const Nest *nest) {
    Nest copy = *nest;
    memset(&copy.vars, 0, sizeof copy.vars), memset(&copy.body, 0, sizeof copy.body);
    memset(&copy.regions, 0, sizeof copy.regions), memset(&copy.outputs, 0, sizeof copy.outputs);
    COPY_VEC(&copy.vars, &nest->vars);
    COPY_VEC(&copy.body, &nest->body);
    COPY_VEC(&copy.regions, &nest->regions);
    COPY_VEC(&copy.outputs, &nest->outputs);
    return copy;
}

// The buffer of the same value, which then stands for both; else a new one.
static int join_buffer(Kernel *kernel, const Buffer *buffer) {
    for (size_t i = 0; i < kernel->buffers.count && !buffer->local; i++) {
        Buffer *own = &kernel->buffers.data[i];
        if (own->value != buffer->value || own->local) continue;
        own->read |= buffer->read, own->written |= buffer->written;
        return (int)i;
    }
    lv_vec_push(&kernel->buffers, *buffer);
    return (int)kernel->buffers.count - 1;
}

void kernel_take(Kernel *kernel, Kernel *other) {
    int *map = lv_calloc(other->buffers.count + 1, sizeof *map);
    for (size_t i = 0; i < other->buffers.count; i++) map[i] = join_buffer(kernel, &other->buffers.data[i]);
    for (size_t n = 0; n < other->nests.count; n++) {
        Nest *nest = &other->nests.data[n];
        for (size_t i = 0; i < nest->body.count; i++) {
            if (nest->body.data[i].kind == INSTR_LOAD) nest->body.data[i].buffer = map[nest->body.data[i].buffer];
        }
        for (size_t i = 0; i < nest->outputs.count; i++) nest->outputs.data[i].buffer = map[nest->outputs.data[i].buffer];
        lv_vec_push(&kernel->nests, *nest);
    }
    other->nests.count = 0;  // they moved
    free(map);
}

Kernel *kernel_copy(const Kernel *kernel) {
    Kernel *copy = lv_calloc(1, sizeof *copy);
    *copy = *kernel;
    memset(&copy->buffers, 0, sizeof copy->buffers), memset(&copy->nests, 0, sizeof copy->nests);
    COPY_VEC(&copy->buffers, &kernel->buffers);
    for (size_t i = 0; i < kernel->nests.count; i++) lv_vec_push(&copy->nests, copy_nest(&kernel->nests.data[i]));
    return copy;
}

int64_t nest_points(const Nest *nest) {
    int64_t points = 1;
    for (int i = 0; i < nest->axis_count; i++) points *= nest->vars.data[nest->axes[i].var].extent;
    return points;
}

double op_cost(Op op) {
    const OpInfo *info = op_info(op);
    switch (info->kind) {
        case OP_KIND_ELEMENTWISE: break;
        case OP_KIND_LEAF: return op == OP_random_uniform ? 20 : op == OP_random_normal ? 60 : 0;
        case OP_KIND_ELEMENT_COPY: case OP_KIND_MOVEMENT: return 0.25;
        default: return 1;
    }
    if (!info->expression) return 1;
    // A call in the expression is a polynomial of ten or more terms; a square root or a division takes a few cycles.
    if (op == OP_sqrt || op == OP_rsqrt || op == OP_div) return 4;
    if (op == OP_abs || op == OP_floor || op == OP_sign) return 1;
    if (strstr(info->expression, "pow(")) return 40;
    for (const char *p = info->expression; *p; p++) {
        if (*p == '(' && p > info->expression && p[-1] >= 'a' && p[-1] <= 'z') return 12;
    }
    return 1;
}

double nest_cost(const Nest *nest) {
    double each = (double)nest->outputs.count;
    for (size_t i = 0; i < nest->body.count; i++) {
        const Instr *instr = &nest->body.data[i];
        each += instr->kind == INSTR_OP ? op_cost(instr->op) : instr->kind == INSTR_UNIFORM ? 20
              : instr->kind == INSTR_NORMAL ? 60 : instr->kind == INSTR_LOAD ? 1 : 0;
    }
    return each * (double)nest_points(nest);
}

// ---- tidying

// Calls `visit` on every index of the nest.
static void each_index(Nest *nest, void (*visit)(Affine *, void *), void *user) {
    for (size_t i = 0; i < nest->vars.count; i++) {
        if (nest->vars.data[i].kind != VAR_AXIS) visit(&nest->vars.data[i].of, user);
    }
    for (size_t i = 0; i < nest->body.count; i++) {
        Instr *instr = &nest->body.data[i];
        if (instr->kind == INSTR_LOAD || instr->kind == INSTR_INDEX || instr->kind == INSTR_UNIFORM ||
            instr->kind == INSTR_NORMAL) {
            visit(&instr->index, user);
        }
    }
    for (size_t i = 0; i < nest->regions.count; i++) visit(&nest->regions.data[i].index, user);
    for (size_t i = 0; i < nest->outputs.count; i++) {
        Output *output = &nest->outputs.data[i];
        visit(&output->index, user);
        if (output->kind == OUTPUT_REDUCE) visit(&output->position, user);
    }
}

typedef struct {
    int outer, inner;
    int64_t extent;
    bool fits;
} Merge;

static void check_merge(Affine *a, void *user) {
    Merge *merge = user;
    if (affine_factor(a, merge->outer) != affine_factor(a, merge->inner) * merge->extent) merge->fits = false;
}
static void drop_outer(Affine *a, void *user) { affine_drop(a, ((Merge *)user)->outer); }

static void remove_axis(Nest *nest, int at) {
    for (int i = at; i + 1 < nest->axis_count; i++) nest->axes[i] = nest->axes[i + 1];
    nest->axis_count--;
}

static void merge_axes(Nest *nest, int fixed) {
    for (int i = nest->axis_count - 2; i >= fixed; i--) {
        if (nest->axes[i].reduced != nest->axes[i + 1].reduced) continue;
        Var *outer = &nest->vars.data[nest->axes[i].var], *inner = &nest->vars.data[nest->axes[i + 1].var];
        Merge merge = {nest->axes[i].var, nest->axes[i + 1].var, inner->extent, true};
        each_index(nest, check_merge, &merge);
        if (!merge.fits) continue;
        each_index(nest, drop_outer, &merge);
        inner->extent *= outer->extent;
        remove_axis(nest, i);
    }
}

typedef struct {
    int outer, inner;
    int64_t factor;
} Cut;

static void add_outer(Affine *a, void *user) {
    const Cut *cut = user;
    *a = affine_add(*a, affine_scale(affine_var(cut->outer), affine_factor(a, cut->inner) * cut->factor));
}

void nest_cut_axis(Nest *nest, int at, int64_t inner, int outer_at) {
    int var = nest->axes[at].var;
    bool reduced = nest->axes[at].reduced;
    int outer = nest_add_var(nest, nest->vars.data[var].extent / inner);
    nest->vars.data[var].extent = inner;
    each_index(nest, add_outer, &(Cut){outer, var, inner});
    for (int i = nest->axis_count; i > outer_at; i--) nest->axes[i] = nest->axes[i - 1];
    nest->axes[outer_at] = (Axis){outer, reduced};
    nest->axis_count++;
}

int nest_affine_depth(const Nest *nest, const Affine *a) {
    int depth = 0;
    for (int i = 0; i < a->count; i++) {
        int var = a->term[i].var, at = 0;
        if (nest->vars.data[var].kind != VAR_AXIS) {
            at = nest_affine_depth(nest, &nest->vars.data[var].of);
        } else {
            while (at < nest->axis_count && nest->axes[at].var != var) at++;
            at++;
        }
        if (at > depth) depth = at;
    }
    return depth;
}

static int region_depth(const Nest *nest, int region, bool parents) {
    int depth = 0;
    for (; region >= 0; region = parents ? nest->regions.data[region].parent : -1) {
        int at = nest_affine_depth(nest, &nest->regions.data[region].index);
        if (at > depth) depth = at;
    }
    return depth;
}

static void find_depths(Nest *nest) {
    for (size_t i = 0; i < nest->body.count; i++) {
        Instr *instr = &nest->body.data[i];
        instr->depth = 0;
        if (instr->kind == INSTR_LOAD || instr->kind == INSTR_INDEX || instr->kind == INSTR_UNIFORM ||
            instr->kind == INSTR_NORMAL) {
            instr->depth = nest_affine_depth(nest, &instr->index);
        }
        if (instr->kind == INSTR_LOAD || instr->kind == INSTR_CHOOSE) {
            int depth = region_depth(nest, instr->region, instr->kind == INSTR_LOAD);
            if (depth > instr->depth) instr->depth = depth;
        }
        for (int k = 0; k < 3; k++) {
            if (instr->args[k] >= 0 && nest->body.data[instr->args[k]].depth > instr->depth) {
                instr->depth = nest->body.data[instr->args[k]].depth;
            }
        }
    }
}

enum { MAX_LANES = 2048 };

// A reduction that keeps its innermost axis holds an accumulator for each of its elements: cut long ones into tiles. 2048 doubles
// leave half of a 32 KB cache to the rows that stream past; tiles of 256 read pieces of 1 KB, which no prefetcher follows, and took
// twice as long. One that cannot be cut goes outside the reduced axes, of which the last is then innermost.
static void tile_kept_axis(Nest *nest, int fixed) {
    int last = nest->axis_count - 1, kept = 0;
    if (last < 1 || nest->axes[last].reduced) return;
    while (kept < last && !nest->axes[kept].reduced) kept++;
    int64_t extent = nest->vars.data[nest->axes[last].var].extent, sums = 0;
    for (size_t i = 0; i < nest->outputs.count; i++) sums += nest->outputs.data[i].kind == OUTPUT_REDUCE;
    int64_t tile = MAX_LANES / (sums ? sums : 1);
    if (kept == last || extent <= tile || kept < fixed) return;
    while (tile >= 8 && extent % tile) tile--;
    if (tile >= 8 && nest->axis_count < LOOP_MAX_AXES) {
        nest_cut_axis(nest, last, tile, kept);
        return;
    }
    Axis axis = nest->axes[last];
    for (int i = last; i > kept; i--) nest->axes[i] = nest->axes[i - 1];
    nest->axes[kept] = axis;
}

void nest_tidy(Nest *nest, int fixed) {
    merge_axes(nest, fixed);
    tile_kept_axis(nest, fixed);
    find_depths(nest);
}

// ---- text

static void var_print(const Nest *nest, int var, LvText *out) {
    const Var *v = &nest->vars.data[var];
    if (v->kind == VAR_AXIS) {
        lv_text_printf(out, "i%d", var);
        return;
    }
    lv_text_puts(out, "(");
    affine_print(nest, &v->of, out);
    lv_text_printf(out, ")%s%lld", v->kind == VAR_QUOTIENT ? "/" : "%", (long long)v->by);
}

void affine_print(const Nest *nest, const Affine *a, LvText *out) {
    for (int i = 0; i < a->count; i++) {
        int64_t factor = a->term[i].factor;
        if (i) lv_text_puts(out, factor < 0 ? " - " : " + ");
        else if (factor < 0) lv_text_puts(out, "-");
        var_print(nest, a->term[i].var, out);
        if (factor != 1 && factor != -1) lv_text_printf(out, "*%lld", (long long)(factor < 0 ? -factor : factor));
    }
    if (a->constant || !a->count) {
        lv_text_printf(out, a->count ? (a->constant < 0 ? " - %lld" : " + %lld") : "%lld",
                       (long long)(a->count && a->constant < 0 ? -a->constant : a->constant));
    }
}

static void region_print(const Nest *nest, int region, bool parents, LvText *out) {
    for (bool first = true; region >= 0; region = parents ? nest->regions.data[region].parent : -1, first = false) {
        const Region *r = &nest->regions.data[region];
        lv_text_printf(out, "%s%lld <= ", first ? "" : " and ", (long long)r->low);
        affine_print(nest, &r->index, out);
        lv_text_printf(out, " < %lld", (long long)r->high);
    }
}

static void instr_print(const Nest *nest, size_t at, LvText *out) {
    const Instr *instr = &nest->body.data[at];
    lv_text_printf(out, "    v%zu: %s = ", at, lv_dtype_name(instr->dtype));
    switch (instr->kind) {
        case INSTR_CONSTANT: lv_text_printf(out, "%.9g", instr->value); break;
        case INSTR_LOAD:
            lv_text_printf(out, "b%d[", instr->buffer);
            affine_print(nest, &instr->index, out);
            lv_text_puts(out, "]");
            if (instr->region >= 0) {
                lv_text_puts(out, " where ");
                region_print(nest, instr->region, true, out);
            }
            break;
        case INSTR_INDEX: lv_text_puts(out, "index "), affine_print(nest, &instr->index, out); break;
        case INSTR_CHOOSE:
            lv_text_puts(out, "choose ");
            region_print(nest, instr->region, false, out);
            lv_text_printf(out, ", v%d, v%d", instr->args[0], instr->args[1]);
            break;
        case INSTR_UNIFORM: case INSTR_NORMAL:
            lv_text_printf(out, "%s(v%d, v%d, stream %lld, ", instr->kind == INSTR_UNIFORM ? "uniform" : "normal",
                           instr->args[0], instr->args[1], (long long)instr->stream);
            affine_print(nest, &instr->index, out);
            lv_text_puts(out, ")");
            break;
        case INSTR_OP: case INSTR_CAST:
            lv_text_puts(out, instr->kind == INSTR_CAST ? "cast" : op_name(instr->op));
            for (int k = 0; k < 3 && instr->args[k] >= 0; k++) lv_text_printf(out, "%s v%d", k ? "," : "", instr->args[k]);
            break;
    }
    if (instr->depth < nest->axis_count) lv_text_printf(out, "  @%d", instr->depth);
    lv_text_puts(out, "\n");
}

static void nest_print(const Nest *nest, LvText *out) {
    lv_text_puts(out, "  nest");
    for (int i = 0; i < nest->axis_count; i++) {
        lv_text_printf(out, " %si%d<%lld", nest->axes[i].reduced ? "reduce " : "", nest->axes[i].var,
                       (long long)nest->vars.data[nest->axes[i].var].extent);
    }
    lv_text_puts(out, "\n");
    for (size_t i = 0; i < nest->body.count; i++) instr_print(nest, i, out);
    for (size_t i = 0; i < nest->outputs.count; i++) {
        const Output *output = &nest->outputs.data[i];
        lv_text_printf(out, "    b%d[", output->buffer);
        affine_print(nest, &output->index, out);
        lv_text_printf(out, "] = %s%sv%d\n", output->kind == OUTPUT_REDUCE ? op_name(output->op) : "",
                       output->kind == OUTPUT_REDUCE ? " " : "", output->value);
    }
}

void kernel_print(const Kernel *kernel, const char *name, LvText *out) {
    lv_text_printf(out, "kernel %s%s", name, kernel->serial ? " serial" : "");
    if (kernel->shared) lv_text_printf(out, " shared %d", kernel->shared);
    lv_text_puts(out, "\n");
    for (size_t i = 0; i < kernel->buffers.count; i++) {
        const Buffer *b = &kernel->buffers.data[i];
        lv_text_printf(out, "  b%zu: %s[%lld]%s%s", i, lv_dtype_name(b->dtype), (long long)b->elements,
                       b->local ? " local" : "", b->written ? " written" : "");
        if (b->value) lv_text_printf(out, " %%%d", b->value->id);
        lv_text_puts(out, "\n");
    }
    for (size_t i = 0; i < kernel->nests.count; i++) nest_print(&kernel->nests.data[i], out);
}
