// Reads tests/golden/ops and writes each case as a graph: one op, or the formula of the stdlib function in primitives.
#include "golden.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autodiff/autodiff.h"

static _Noreturn void bad(const char *what, const char *name) {
    fprintf(stderr, "tests/golden/ops: %s: %s\n", name, what);
    abort();
}

// ---- files

typedef struct {
    json_t *header, *cases;
    char *data;  // the tensors' bytes
    size_t bytes;
    char *file;
} Files;

static Files files_open(void) {
    Files f = {0};
    LvError error = {0};
    char *text;
    size_t length;
    uint64_t head;
    if (!lv_file_read(LV_SOURCE_DIR "/tests/golden/ops/ops.json", 1 << 20, &text, &length, &error)) bad(error.message, "ops.json");
    f.cases = json_loadb(text, length, 0, NULL);
    free(text);
    if (!lv_file_read(LV_SOURCE_DIR "/tests/golden/ops/ops.safetensors", 1 << 26, &f.file, &length, &error)) bad(error.message, "ops.safetensors");
    memcpy(&head, f.file, 8);
    if (length < 8 || head > length - 8) bad("cut off", "ops.safetensors");
    f.header = json_loadb(f.file + 8, head, 0, NULL);
    f.data = f.file + 8 + head;
    f.bytes = length - 8 - head;
    if (!f.cases || !f.header) bad("not JSON", "ops");
    return f;
}

// NULL if there is no such tensor.
static Tensor *files_tensor(const Files *f, LvArena *arena, const char *owner, const char *name) {
    json_t *entry = json_object_get(f->header, lv_arena_printf(arena, "%s.%s", owner, name));
    if (!entry) return NULL;
    bool whole = !strcmp(json_string_value(json_object_get(entry, "dtype")), "I32");
    json_t *dims = json_object_get(entry, "shape");
    LvShape shape = {.rank = (int)json_array_size(dims)};
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = json_integer_value(json_array_get(dims, (size_t)i));
    Tensor *t = tensor_new(arena, whole ? LV_I32 : LV_F32, shape);
    size_t begin = (size_t)json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
    int64_t n = lv_shape_elements(shape);
    if (begin + (size_t)n * 4 > f->bytes) bad("cut off", name);
    for (int64_t i = 0; i < n; i++) {
        double v = lv_element_get(f->data + begin, t->dtype, i);
        if (t->f) t->f[i] = v;
        else t->i[i] = (int64_t)v;
    }
    return t;
}

// ---- one case as a graph

typedef struct {
    Graph *g;
    json_t *json, *attributes;
    GoldenCase *out;
} Builder;

#define UNARY(op, a) build_unary(b->g, OP_##op, a)
#define BINARY(op, x, y) build_binary(b->g, OP_##op, x, y)

static Value *input(Builder *b, const char *name) {
    Value *value = graph_find_input(b->g, name);
    if (!value) bad("no such input", name);
    return value;
}
static Value *num(Builder *b, double x) { return build_constant(b->g, x, LV_F32, lv_shape(0, NULL)); }
static double attr(Builder *b, const char *name) { return json_number_value(json_object_get(b->attributes, name)); }
static void result(Builder *b, const char *name, Value *value) { graph_add_result(b->g, name, value); }

static Value *sum_all(Builder *b, Value *x) {
    int64_t axes[LV_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
    return build_reduce(b->g, OP_reduce_sum, x, x->shape.rank, axes);
}

static void build_conv2d(Builder *b) {
    Attrs attrs = {0};
    int64_t stride = (int64_t)attr(b, "stride");
    attrs_list(&attrs, ATTR_stride, 2, (int64_t[]){stride, stride});
    attrs_list(&attrs, ATTR_pad, 4, (int64_t[]){(int64_t)attr(b, "pad_left"), (int64_t)attr(b, "pad_right"),
                                               (int64_t)attr(b, "pad_top"), (int64_t)attr(b, "pad_bottom")});
    Value *y = build_node(b->g, OP_conv2d, 2, (Value *[]){input(b, "x"), input(b, "weight")}, &attrs);
    result(b, "y", BINARY(add, y, build_expand(b->g, input(b, "bias"), y->shape, (int64_t[]){1})));
}

static void build_norm(Builder *b, Op op) {
    Attrs attrs = {0};
    if (op == OP_group_norm) attrs_int(&attrs, ATTR_groups, (int64_t)attr(b, "groups"));
    attrs_float(&attrs, ATTR_eps, attr(b, "eps"));
    result(b, "y", build_node(b->g, op, 3, (Value *[]){input(b, "x"), input(b, "weight"), input(b, "bias")}, &attrs));
}

static void build_group_norm(Builder *b) { build_norm(b, OP_group_norm); }
static void build_layer_norm(Builder *b) { build_norm(b, OP_layer_norm); }

static void build_gelu(Builder *b) {
    Value *x = input(b, "x"), *inner;
    if (!strcmp(json_string_value(json_object_get(b->attributes, "approximate")), "tanh")) {
        Value *cube = BINARY(mul, x, BINARY(mul, x, x));
        inner = UNARY(tanh, BINARY(mul, num(b, sqrt(2 / acos(-1))), BINARY(add, x, BINARY(mul, num(b, 0.044715), cube))));
    } else inner = UNARY(erf, BINARY(mul, x, num(b, sqrt(0.5))));
    result(b, "y", BINARY(mul, BINARY(mul, num(b, 0.5), x), BINARY(add, num(b, 1), inner)));
}

static void build_swish(Builder *b) { result(b, "y", BINARY(mul, input(b, "x"), UNARY(sigmoid, input(b, "x")))); }

static void build_softmax(Builder *b) {
    Attrs attrs = {0};
    Value *x = input(b, "x");
    int64_t axis = (int64_t)attr(b, "axis");
    attrs_int(&attrs, ATTR_axis, axis < 0 ? axis + x->shape.rank : axis);
    result(b, "y", build_node(b->g, OP_softmax, 1, &x, &attrs));
}

static void build_smooth_l1(Builder *b) {
    double beta = attr(b, "beta");
    Value *d = BINARY(sub, input(b, "x"), input(b, "y")), *size = UNARY(abs, d);
    Value *small = BINARY(mul, BINARY(mul, d, d), num(b, 0.5 / beta)), *large = BINARY(sub, size, num(b, 0.5 * beta));
    Value *loss = build_select(b->g, BINARY(lt, size, build_like(b->g, beta, size)), small, large);
    result(b, "loss", BINARY(mul, sum_all(b, loss), num(b, 1.0 / (double)lv_shape_elements(d->shape))));
}

static void build_upsample_nearest(Builder *b) {
    Value *x = input(b, "x");
    const int64_t *d = x->shape.dim, f = (int64_t)attr(b, "factor");
    LvShape wide = lv_shape(6, (int64_t[]){d[0], d[1], d[2], f, d[3], f});
    Value *y = build_expand(b->g, x, wide, (int64_t[]){0, 1, 2, 4});
    result(b, "y", build_reshape(b->g, y, lv_shape(4, (int64_t[]){d[0], d[1], d[2] * f, d[3] * f})));
}

static void build_max_pool2d(Builder *b) {
    Value *x = input(b, "x");
    const int64_t *d = x->shape.dim, h = d[2] / 2, w = d[3] / 2;
    Value *even = build_slice(b->g, x, (int64_t[]){0, 0, 0, 0}, lv_shape(4, (int64_t[]){d[0], d[1], 2 * h, 2 * w}), NULL);
    Value *windows = build_reshape(b->g, even, lv_shape(6, (int64_t[]){d[0], d[1], h, 2, w, 2}));
    result(b, "y", build_reduce(b->g, OP_reduce_max, windows, 2, (int64_t[]){3, 5}));
}

static void build_cross_entropy(Builder *b) {
    Attrs attrs = {0};
    int64_t ignore = (int64_t)attr(b, "ignore");
    attrs_int(&attrs, ATTR_ignore, ignore);
    Value *target = input(b, "target");
    Value *rows = build_node(b->g, OP_cross_entropy, 2, (Value *[]){input(b, "logits"), target}, &attrs);
    Value *counts = build_cast(b->g, BINARY(ne, target, build_like(b->g, (double)ignore, target)), LV_F32);
    result(b, "loss", BINARY(div, sum_all(b, rows), sum_all(b, counts)));
}

static void build_gather(Builder *b) {
    result(b, "y", build_node(b->g, OP_gather, 2, (Value *[]){input(b, "table"), input(b, "index")}, NULL));
}

static void build_attention(Builder *b) {
    Attrs attrs = {0};
    attrs_bool(&attrs, ATTR_causal, json_is_true(json_object_get(b->attributes, "causal")));
    attrs_float(&attrs, ATTR_scale, attr(b, "scale"));
    result(b, "y", build_node(b->g, OP_attention, 3, (Value *[]){input(b, "q"), input(b, "k"), input(b, "v")}, &attrs));
}

static void build_nearest_code(Builder *b) {
    Value *index = build_node(b->g, OP_nearest_code, 2, (Value *[]){input(b, "x"), input(b, "codes")}, NULL);
    result(b, "index", index);
    result(b, "code", build_node(b->g, OP_gather, 2, (Value *[]){input(b, "codes"), index}, NULL));
}

static void build_codebook_update(Builder *b) {
    double decay = attr(b, "decay"), eps = attr(b, "eps");
    Value *x = input(b, "x"), *size = input(b, "cluster_size"), *average = input(b, "embed_avg"), *index = input(b, "index");
    int64_t k = size->shape.dim[0];
    Attrs rows = {0};
    attrs_int(&rows, ATTR_rows, k);
    Value *ones = build_constant(b->g, 1, LV_F32, lv_shape(1, x->shape.dim));
    Value *count = build_node(b->g, OP_scatter_add, 2, (Value *[]){ones, index}, &rows);
    Value *sum = build_node(b->g, OP_scatter_add, 2, (Value *[]){x, index}, &rows);
    size = BINARY(add, BINARY(mul, num(b, decay), size), BINARY(mul, num(b, 1 - decay), count));
    average = BINARY(add, BINARY(mul, num(b, decay), average), BINARY(mul, num(b, 1 - decay), sum));
    Value *n = sum_all(b, size);
    Value *smoothed = BINARY(mul, BINARY(div, BINARY(add, size, num(b, eps)), BINARY(add, n, num(b, (double)k * eps))), n);
    result(b, "new_cluster_size", size);
    result(b, "new_embed_avg", average);
    result(b, "new_codes", BINARY(div, average, build_expand(b->g, smoothed, average->shape, (int64_t[]){0})));
}

static void build_adamw(Builder *b) {
    double lr = attr(b, "lr"), b1 = attr(b, "beta1"), b2 = attr(b, "beta2"), eps = attr(b, "eps"), wd = attr(b, "weight_decay");
    Value *p = input(b, "p"), *m = build_like(b->g, 0, p), *v = build_like(b->g, 0, p);
    for (int t = 1; t <= 3; t++) {
        Value *g = input(b, lv_arena_printf(b->g->arena, "g%d", t));
        p = BINARY(mul, p, num(b, 1 - lr * wd));
        m = BINARY(add, BINARY(mul, num(b, b1), m), BINARY(mul, num(b, 1 - b1), g));
        v = BINARY(add, BINARY(mul, num(b, b2), v), BINARY(mul, num(b, 1 - b2), BINARY(mul, g, g)));
        Value *root = BINARY(add, UNARY(sqrt, BINARY(mul, v, num(b, 1 / (1 - pow(b2, t))))), num(b, eps));
        p = BINARY(sub, p, BINARY(mul, num(b, lr / (1 - pow(b1, t))), BINARY(div, m, root)));
        result(b, lv_arena_printf(b->g->arena, "p%d", t), p);
    }
    result(b, "m", m);
    result(b, "v", v);
}

static const struct {
    const char *op;
    void (*build)(Builder *b);
} formulas[] = {
    {"conv2d", build_conv2d}, {"group_norm", build_group_norm}, {"layer_norm", build_layer_norm}, {"gelu", build_gelu},
    {"swish", build_swish}, {"softmax", build_softmax}, {"smooth_l1", build_smooth_l1}, {"upsample_nearest", build_upsample_nearest},
    {"max_pool2d", build_max_pool2d}, {"cross_entropy", build_cross_entropy}, {"gather", build_gather}, {"attention", build_attention},
    {"nearest_code", build_nearest_code}, {"codebook_update", build_codebook_update}, {"adamw", build_adamw},
};

static void add_inputs(Builder *b, const Files *f, LvArena *arena) {
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(b->json, "inputs"), i, name) {
        const char *text = lv_arena_strdup(arena, json_string_value(name));
        Tensor *t = files_tensor(f, arena, b->out->name, text);
        if (!t) bad("an input is missing", text);
        set_add(&b->out->inputs, text, t);
    }
    if (!strcmp(b->out->name, "codebook_update")) set_add(&b->out->inputs, "index", files_tensor(f, arena, "nearest_code", "index"));
    for (int k = 0; k < b->out->inputs.count; k++)
        graph_add_input(b->g, b->out->inputs.at[k].name, b->out->inputs.at[k].tensor->dtype, b->out->inputs.at[k].tensor->shape);
}

// A scalar is stored as one element.
static void want(GoldenCase *out, const char *name, Tensor *t, const Value *value) {
    if (!t) bad("a result is missing", name);
    if (value->shape.rank == 0) t->shape = value->shape;
    set_add(&out->want, name, t);
}

static void add_gradients(Builder *b, const Files *f, LvArena *arena) {
    Value *loss = num(b, 0);
    int results = (int)b->g->results.count;
    for (int r = 0; r < results; r++) {
        GraphPort port = b->g->results.data[r];
        want(b->out, port.name, files_tensor(f, arena, b->out->name, port.name), port.value);
        const char *name = lv_arena_printf(arena, "d_%s", port.name);
        Tensor *d = files_tensor(f, arena, b->out->name, name);
        Value *term = port.value;
        if (!lv_dtype_is_float(term->dtype)) continue;
        if (d) {
            set_add(&b->out->inputs, name, d);
            term = BINARY(mul, term, graph_add_input(b->g, name, LV_F32, d->shape));
        }
        loss = BINARY(add, loss, sum_all(b, term));
    }
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(b->json, "gradients"), i, name) {
        const char *text = lv_arena_printf(arena, "grad_%s", json_string_value(name));
        Value *wrt[2] = {loss, input(b, json_string_value(name))};
        want(b->out, text, files_tensor(f, arena, b->out->name, text), wrt[1]);
        graph_add_result(b->g, text, build_node(b->g, OP_gradient, 2, wrt, NULL));
    }
    LvDiagnostics diagnostics;
    LvSources sources = {0};
    lv_diagnostics_init(&diagnostics, &sources);
    if (!autodiff_run(b->g, &diagnostics)) bad("autodiff refuses", b->out->name);
    lv_diagnostics_free(&diagnostics);
}

static void case_load(json_t *json, const Files *f, LvArena *arena, GoldenCase *out) {
    out->name = lv_arena_strdup(arena, json_string_value(json_object_get(json, "name")));
    out->graph = graph_create(out->name);
    Builder b = {out->graph, json, json_object_get(json, "attributes"), out};
    const char *op = json_string_value(json_object_get(json, "op"));
    add_inputs(&b, f, arena);
    bool known = false;
    for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++)
        if (!strcmp(formulas[i].op, op)) known = true, formulas[i].build(&b);
    if (!known) bad("no formula for this op", op);
    add_gradients(&b, f, arena);
}

GoldenCases golden_load(LvArena *arena) {
    Files f = files_open();
    json_t *list = json_object_get(f.cases, "cases"), *json;
    GoldenCases out = {(int)json_array_size(list), LV_NEW_ARRAY(arena, GoldenCase, json_array_size(list) + 1)};
    size_t i;
    json_array_foreach(list, i, json) case_load(json, &f, arena, &out.cases[i]);
    json_decref(f.cases);
    json_decref(f.header);
    free(f.file);
    return out;
}

void golden_free(GoldenCases *cases) {
    for (int i = 0; i < cases->count; i++) graph_destroy(cases->cases[i].graph);
}
