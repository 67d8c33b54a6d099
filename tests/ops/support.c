// Reading the lines of cases.c, making their graphs and inputs, and comparing tensors.
#include "cases.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autodiff/autodiff.h"

// ---- reading a line

typedef struct {
    const char *at, *line;
} Reader;

static _Noreturn void bad_line(const Reader *r, const char *what) {
    fprintf(stderr, "cases.c: \"%s\": %s at \"%s\"\n", r->line, what, r->at);
    abort();
}

static bool accept(Reader *r, const char *token) {
    while (isspace((unsigned char)*r->at)) r->at++;
    if (strncmp(r->at, token, strlen(token))) return false;
    r->at += strlen(token);
    return true;
}

static void expect(Reader *r, const char *token) {
    if (!accept(r, token)) bad_line(r, token);
}

static void word(Reader *r, char out[32]) {
    int n = 0;
    accept(r, "");
    while ((isalnum((unsigned char)*r->at) || *r->at == '_') && n < 31) out[n++] = *r->at++;
    out[n] = 0;
}

static double number(Reader *r) {
    char *stop;
    double value = strtod(r->at, &stop);
    if (stop == r->at) bad_line(r, "expected a number");
    r->at = stop;
    return value;
}

static int list(Reader *r, int64_t *at) {
    int count = 0;
    expect(r, "[");
    if (accept(r, "]")) return 0;
    do at[count++] = (int64_t)number(r);
    while (accept(r, ","));
    expect(r, "]");
    return count;
}

static void type(Reader *r, LvDType *dtype, LvShape *shape) {
    char name[32];
    word(r, name);
    if (!lv_dtype_parse(name, dtype)) bad_line(r, "no type");
    shape->rank = list(r, shape->dim);
}

static void attribute(Reader *r, OpCase *c) {
    char name[32];
    AttrName attr;
    int64_t at[2 * LV_MAX_RANK];
    word(r, name);
    if (!attr_name_parse(name, &attr) || !op_takes_attr(c->op, attr)) bad_line(r, "no such attribute");
    expect(r, "=");
    switch (attr_kind(attr)) {
    case ATTR_INT:
        if (attr == ATTR_dtype) {
            LvDType dtype;
            word(r, name);
            if (!lv_dtype_parse(name, &dtype)) bad_line(r, "no type");
            attrs_int(&c->attrs, attr, dtype);
        } else attrs_int(&c->attrs, attr, (int64_t)number(r));
        break;
    case ATTR_FLOAT: attrs_float(&c->attrs, attr, number(r)); break;
    case ATTR_BOOL: expect(r, "true"), attrs_bool(&c->attrs, attr, true); break;
    case ATTR_LIST: {
        int count = list(r, at);
        attrs_list(&c->attrs, attr, count, at);
        break;
    }
    case ATTR_NAME: {
        expect(r, "\"");
        size_t length = strcspn(r->at, "\"");
        attrs_name(&c->attrs, attr, lv_arena_printf(c->arena, "%.*s", (int)length, r->at));
        r->at += length;
        expect(r, "\"");
        break;
    }
    default: bad_line(r, "an attribute that cases cannot give");
    }
}

OpCase *case_parse(const char *text, LvArena *arena) {
    OpCase *c = LV_NEW(arena, OpCase);
    Reader r = {text, text};
    char name[32];
    c->text = text;
    c->arena = arena;
    word(&r, name);
    if (!op_parse(name, &c->op)) bad_line(&r, "no such op");
    if (accept(&r, "{")) {
        do attribute(&r, c);
        while (accept(&r, ","));
        expect(&r, "}");
    }
    while (accept(&r, ""), *r.at && *r.at != '-') {
        struct CaseInput *in = &c->inputs[c->input_count++];
        type(&r, &in->dtype, &in->shape);
        in->positive = accept(&r, "+");
        if (accept(&r, ":")) {
            in->whole = true;
            in->low = (int64_t)number(&r);
            expect(&r, ":");
            in->high = (int64_t)number(&r);
        }
    }
    if (accept(&r, "->")) c->typed = true, type(&r, &c->dtype, &c->shape);
    if (*r.at) bad_line(&r, "more than expected");
    return c;
}

bool case_smooth(const OpCase *c) {
    for (int i = 0; i < c->input_count; i++)
        if (lv_dtype_is_float(c->inputs[i].dtype) && c->inputs[i].whole) return false;
    return true;
}

// ---- tensors

double hash_uniform(uint64_t seed, uint64_t i) {
    uint64_t x = seed * 0xD1342543DE82EF95u + (i + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return (double)((x ^ x >> 31) >> 40) / (double)(1 << 24);
}

Tensor *tensor_new(LvArena *arena, LvDType dtype, LvShape shape) {
    Tensor *t = LV_NEW(arena, Tensor);
    int64_t count = lv_shape_elements(shape);
    t->dtype = dtype, t->shape = shape;
    if (lv_dtype_is_float(dtype)) t->f = LV_NEW_ARRAY(arena, double, count + 1);
    else t->i = LV_NEW_ARRAY(arena, int64_t, count + 1);
    return t;
}

double tensor_at(const Tensor *t, int64_t i) { return t->f ? t->f[i] : (double)t->i[i]; }

static double exact(LvDType dtype, double x) {
    if (dtype == LV_BF16) return lv_f32_from_bf16(lv_bf16_from_f32((float)x));
    if (dtype == LV_F16) return lv_f32_from_f16(lv_f16_from_f32((float)x));
    return dtype == LV_F64 ? x : (float)x;
}

Tensor *case_input(const OpCase *c, int input) {
    const struct CaseInput *in = &c->inputs[input];
    Tensor *t = tensor_new(c->arena, in->dtype, in->shape);
    for (int64_t i = 0, n = lv_shape_elements(in->shape); i < n; i++) {
        double u = hash_uniform((uint64_t)input + 1, (uint64_t)i), wide = 0.1 + 1.6 * u;
        double x = in->whole ? (double)in->low + floor(u * (double)(in->high - in->low)) : in->positive ? 0.3 + 1.7 * u : wide;
        if (!in->whole && !in->positive) x = wide < 0.9 ? wide : 0.8 - wide;  // 0.1 ... 0.9, then -0.1 ... -0.9
        if (in->dtype == LV_BOOL) t->i[i] = u < 0.5;
        else if (t->i) t->i[i] = (int64_t)x;
        else t->f[i] = exact(in->dtype, x);
    }
    return t;
}

void set_add(TensorSet *set, const char *name, Tensor *tensor) {
    set->at[set->count].name = name;
    set->at[set->count++].tensor = tensor;
}

Tensor *set_find(const TensorSet *set, const char *name) {
    for (int i = 0; i < set->count; i++)
        if (!strcmp(set->at[i].name, name)) return set->at[i].tensor;
    return NULL;
}

double tensor_distance(const Tensor *got, const Tensor *want) {
    if (!got || got->dtype != want->dtype || !lv_shape_equal(got->shape, want->shape)) return INFINITY;
    double apart = 0, size = 0;
    int64_t n = lv_shape_elements(want->shape);
    for (int64_t i = 0; i < n; i++) {
        double g = tensor_at(got, i), w = tensor_at(want, i);
        if (!want->f) {
            apart += g != w;
            size = (double)n;
        } else if (!(g == w)) {  // infinities may be equal
            if (!isfinite(g) || !isfinite(w)) return INFINITY;
            apart += (g - w) * (g - w);
        }
        if (want->f && isfinite(w)) size += w * w;
    }
    if (!want->f) return n ? apart / size : 0;
    return apart == 0 ? 0 : size == 0 ? sqrt(apart / (double)n) : sqrt(apart / size);
}

double tensor_tolerance(const Tensor *want, double floats) { return !want->f ? 0 : want->dtype == LV_BF16 ? 4e-3 : floats; }

bool loss_cancels(const char *result, const char *case_text) { return !strcmp(result, "loss") && strstr(case_text, "bf16"); }

// ---- graphs

Graph *case_graph(const OpCase *c) {
    Graph *g = graph_create("case");
    Value *inputs[CASE_MAX_INPUTS];
    for (int i = 0; i < c->input_count; i++)
        inputs[i] = graph_add_input(g, lv_arena_printf(g->arena, "x%d", i), c->inputs[i].dtype, c->inputs[i].shape);
    Attrs attrs = c->attrs;
    Value *y;
    if (c->op == OP_literal) {
        char *data = lv_arena_alloc(g->arena, (size_t)lv_shape_elements(c->shape) * 8);
        for (int64_t i = 0; i < lv_shape_elements(c->shape); i++) lv_element_set(data, c->dtype, i, (double)(i * i) - 3);
        attrs_data(&attrs, ATTR_data, data);
    }
    const char *reason = NULL;
    y = c->typed ? graph_add_typed(g, c->op, c->input_count, inputs, &attrs, c->dtype, c->shape)
                 : graph_add(g, c->op, c->input_count, inputs, &attrs, &reason);
    if (!y) {
        fprintf(stderr, "cases.c: \"%s\": %s\n", c->text, reason);
        abort();
    }
    for (int r = 0; r < y->node->result_count; r++)
        graph_add_result(g, lv_arena_printf(g->arena, "y%d", r), &y->node->results[r]);
    return g;
}

typedef struct {
    const TensorSet *inputs;
    TensorSet *results;
    LvArena *arena;
} Sets;

static const Tensor *give_input(void *user, const Node *node) { return set_find(((Sets *)user)->inputs, node_attr(node, ATTR_name)->s); }

static void take_result(void *user, const char *name, const Tensor *value) {
    Sets *sets = user;
    Tensor *copy = LV_NEW(sets->arena, Tensor);
    *copy = *value;
    set_add(sets->results, name, copy);
}

void evaluate_set(const Graph *graph, bool round, const TensorSet *inputs, TensorSet *results, LvArena *arena) {
    Sets sets = {inputs, results, arena};
    EvaluationHooks hooks = {.user = &sets, .input = give_input, .result = take_result};
    results->count = 0;
    graph_evaluate(graph, round, &hooks, arena);
}

void graph_decompose_all(Graph *graph) {
    for (Node *node = graph->first, *next; node; node = next) {
        next = node->next;
        const OpInfo *info = op_info(node->op);
        Value *with[CASE_MAX_RESULTS] = {0};
        if (!info->decompose) continue;
        Node *before = node->prev;
        graph->insert_before = node;
        if (!info->decompose(graph, node, with)) continue;
        for (int r = 0; r < node->result_count; r++) graph_replace(graph, &node->results[r], with[r]);
        next = before ? before->next : graph->first;  // what was emitted may itself have decompositions
        graph_remove(graph, node);
    }
    graph->insert_before = NULL;
}

bool case_differentiate(Graph *g, const OpCase *c, unsigned mask, LvArena *arena, TensorSet *weights) {
    Value *loss = build_constant(g, 0, LV_F32, lv_shape(0, NULL));
    int results = (int)g->results.count;
    for (int r = 0; r < results; r++) {
        Value *y = g->results.data[r].value;
        if (!(mask >> r & 1) || !lv_dtype_is_float(y->dtype)) continue;
        const char *name = lv_arena_printf(arena, "w%d", r);
        Tensor *w = tensor_new(arena, LV_F32, y->shape);
        for (int64_t i = 0, n = lv_shape_elements(y->shape); i < n; i++) w->f[i] = (float)(hash_uniform(77 + (uint64_t)r, (uint64_t)i) - 0.4);
        set_add(weights, name, w);
        int64_t axes[LV_MAX_RANK];
        for (int i = 0; i < LV_MAX_RANK; i++) axes[i] = i;
        Value *product = build_binary(g, OP_mul, build_cast(g, y, LV_F32), graph_add_input(g, name, LV_F32, y->shape));
        loss = build_binary(g, OP_add, loss, build_reduce(g, OP_reduce_sum, product, y->shape.rank, axes));
    }
    graph_add_result(g, "loss", loss);
    for (int i = 0; i < c->input_count; i++) {
        if (!lv_dtype_is_float(c->inputs[i].dtype)) continue;
        const char *name = lv_arena_printf(g->arena, "x%d", i);
        Value *wrt[2] = {loss, graph_find_input(g, name)};
        graph_add_result(g, lv_arena_printf(g->arena, "d_x%d", i), build_node(g, OP_gradient, 2, wrt, NULL));
    }
    LvDiagnostics diagnostics;
    LvSources sources = {0};
    lv_diagnostics_init(&diagnostics, &sources);
    bool fine = autodiff_run(g, &diagnostics);
    lv_diagnostics_free(&diagnostics);
    return fine;
}
