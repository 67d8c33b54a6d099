// The graph's text form (.lvg) and back.
//
//   graph train {
//     variable "conv.weight" param f32[32, 3, 3, 3] in 4 at 0      (a slice of variable 4)
//     variable "$params" pack param f32[896]
//     %0: f32[8, 3, 64, 64] = input {name = "image"}
//     %1: f32[8, 32, 64, 64]:0123b1x16 = relayout %0                (a physical layout that is not row-major)
//     state_write %7 {variable = 0}
//     result "loss" = %5
//   }
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/op.h"

// ---- printing

static void print_quoted(LvText *out, const char *text) {
    lv_text_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') lv_text_putc(out, '\\');
        if (*text == '\n') lv_text_puts(out, "\\n");
        else lv_text_putc(out, *text);
    }
    lv_text_putc(out, '"');
}

static void print_type(LvText *out, LvDType dtype, LvShape shape) {
    lv_text_puts(out, lv_dtype_name(dtype));
    lv_shape_print(out, shape);
}

static void print_attr(LvText *out, const Node *node, const Attr *attr) {
    lv_text_printf(out, "%s = ", attr_name_text(attr->name));
    switch (attr_kind(attr->name)) {
    case ATTR_INT:
        if (attr->name == ATTR_dtype) lv_text_puts(out, lv_dtype_name((LvDType)attr->i));
        else lv_text_printf(out, "%lld", (long long)attr->i);
        break;
    case ATTR_FLOAT: lv_text_printf(out, "%.17g", attr->f); break;
    case ATTR_BOOL: lv_text_puts(out, attr->b ? "true" : "false"); break;
    case ATTR_NAME: print_quoted(out, attr->s); break;
    case ATTR_LIST:
        lv_text_putc(out, '[');
        for (int i = 0; i < attr->list.count; i++) lv_text_printf(out, "%s%lld", i ? ", " : "", (long long)attr->list.at[i]);
        lv_text_putc(out, ']');
        break;
    case ATTR_DATA: {
        const Value *value = &node->results[0];
        const unsigned char *bytes = attr->data;
        size_t count = (size_t)lv_shape_elements(value->shape) * lv_dtype_size(value->dtype);
        lv_text_puts(out, "0x");
        for (size_t i = 0; i < count; i++) lv_text_printf(out, "%02x", bytes[i]);
        break;
    }
    }
}

static void print_node(LvText *out, const Node *node) {
    lv_text_puts(out, "  ");
    for (int r = 0; r < node->result_count; r++) {
        const Value *value = &node->results[r];
        lv_text_printf(out, "%s%%%d: ", r ? ", " : "", value->id);
        print_type(out, value->dtype, value->shape);
        if (!lv_layout_is_row_major(value->layout, value->shape.rank)) {
            lv_text_putc(out, ':');
            lv_layout_print(out, value->layout, value->shape.rank);
        }
    }
    lv_text_printf(out, "%s%s", node->result_count ? " = " : "", op_name(node->op));
    for (int i = 0; i < node->input_count; i++) lv_text_printf(out, "%s %%%d", i ? "," : "", node->inputs[i]->id);
    for (int i = 0; i < node->attrs.count; i++) {
        lv_text_puts(out, i ? ", " : " {");
        print_attr(out, node, &node->attrs.at[i]);
    }
    lv_text_puts(out, node->attrs.count ? "}\n" : "\n");
}

static const char *const variable_kinds[] = {"param", "frozen", "state", "optimizer", "cache", "trainer"};

void graph_print(const Graph *graph, LvText *out) {
    lv_text_printf(out, "graph %s {\n", graph->name);
    for (size_t i = 0; i < graph->variables.count; i++) {
        const Variable *v = &graph->variables.data[i];
        lv_text_puts(out, "  variable ");
        print_quoted(out, v->name);
        lv_text_printf(out, "%s %s ", v->is_pack ? " pack" : v->is_part ? " part" : v->operands ? " operands" : "", variable_kinds[v->kind]);
        print_type(out, v->dtype, v->shape);
        if (v->pack >= 0) lv_text_printf(out, " in %d at %lld", v->pack, (long long)v->pack_offset);
        lv_text_putc(out, '\n');
    }
    for GRAPH_EACH(graph, node) print_node(out, node);
    for (size_t i = 0; i < graph->results.count; i++) {
        lv_text_puts(out, "  result ");
        print_quoted(out, graph->results.data[i].name);
        lv_text_printf(out, " = %%%d\n", graph->results.data[i].value->id);
    }
    lv_text_puts(out, "}\n");
}

// ---- parsing: recursive descent over one line-free token stream; the first error ends it

typedef struct {
    const char *at, *begin, *end;
    Graph *graph;
    LvError *error;
    LV_VEC(Value *) values;  // by the id of the text
} Reader;

static bool fail(Reader *r, const char *what) {
    int line = 1;
    for (const char *p = r->begin; p < r->at; p++) line += *p == '\n';
    return lv_error_set(r->error, LV_ERROR_FORMAT, "line %d: %s", line, what);
}

static void skip_space(Reader *r) {
    for (;;) {
        while (r->at < r->end && isspace((unsigned char)*r->at)) r->at++;
        if (r->end - r->at < 2 || r->at[0] != '/' || r->at[1] != '/') return;
        while (r->at < r->end && *r->at != '\n') r->at++;
    }
}

static bool peek(Reader *r, const char *token) {
    skip_space(r);
    size_t length = strlen(token);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, token, length)) return false;
    bool word = isalnum((unsigned char)token[length - 1]);
    return !word || r->at + length == r->end || !(isalnum((unsigned char)r->at[length]) || r->at[length] == '_');
}

static bool accept(Reader *r, const char *token) {
    if (!peek(r, token)) return false;
    r->at += strlen(token);
    return true;
}

static bool expect(Reader *r, const char *token) {
    if (accept(r, token)) return true;
    char what[64];
    snprintf(what, sizeof what, "expected '%s'", token);
    return fail(r, what);
}

static bool read_word(Reader *r, char word[64]) {
    skip_space(r);
    size_t length = 0;
    while (r->at < r->end && (isalnum((unsigned char)*r->at) || *r->at == '_') && length < 63) word[length++] = *r->at++;
    word[length] = 0;
    return length ? true : fail(r, "expected a word");
}

static bool read_int(Reader *r, int64_t *value) {
    skip_space(r);
    char *stop;
    errno = 0;
    *value = strtoll(r->at, &stop, 10);  // the text is closed by a zero byte
    if (stop == r->at || errno) return fail(r, "expected an integer");
    r->at = stop;
    return true;
}

static bool read_string(Reader *r, const char **string) {
    LvText text = {0};
    if (!expect(r, "\"")) return false;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at == '\\' && r->at + 1 < r->end) r->at++, lv_text_putc(&text, *r->at == 'n' ? '\n' : *r->at);
        else lv_text_putc(&text, *r->at);
        r->at++;
    }
    *string = lv_arena_strdup(r->graph->arena, lv_text_get(&text));
    lv_text_free(&text);
    return expect(r, "\"");
}

static bool read_list(Reader *r, int limit, int *count, int64_t *numbers) {
    *count = 0;
    if (!expect(r, "[")) return false;
    if (accept(r, "]")) return true;
    do {
        if (*count == limit) return fail(r, "too many numbers in the list");
        if (!read_int(r, &numbers[(*count)++])) return false;
    } while (accept(r, ","));
    return expect(r, "]");
}

static bool read_type(Reader *r, LvDType *dtype, LvShape *shape) {
    char word[64];
    memset(shape, 0, sizeof *shape);
    if (!read_word(r, word)) return false;
    if (!lv_dtype_parse(word, dtype)) return fail(r, "unknown element type");
    if (!read_list(r, LV_MAX_RANK, &shape->rank, shape->dim)) return false;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] < 0) return fail(r, "negative extent");
    size_t bytes;
    return lv_shape_bytes(*shape, *dtype, &bytes) ? true : fail(r, "the tensor is too large");
}

static bool read_variable(Reader *r) {
    Variable v = {.pack = -1, .span = LV_NO_SPAN};
    char word[64];
    int kind = -1;
    if (!read_string(r, &v.name)) return false;
    v.is_pack = accept(r, "pack");
    v.is_part = accept(r, "part");
    v.operands = accept(r, "operands");
    if (!read_word(r, word)) return false;
    for (int i = 0; i < LV_VARIABLE_KIND_COUNT; i++)
        if (!strcmp(word, variable_kinds[i])) kind = i;
    if (kind < 0) return fail(r, "expected param, frozen, state, optimizer, cache or trainer");
    v.kind = (LvVariableKind)kind;
    if (!read_type(r, &v.dtype, &v.shape)) return false;
    if (accept(r, "in")) {
        int64_t pack;
        if (!read_int(r, &pack) || !expect(r, "at") || !read_int(r, &v.pack_offset)) return false;
        v.pack = (int)pack;
    }
    graph_add_variable(r->graph, &v);
    return true;
}

static bool read_data(Reader *r, LvDType dtype, LvShape shape, const void **data) {
    size_t bytes;
    skip_space(r);
    if (r->end - r->at < 2 || r->at[0] != '0' || r->at[1] != 'x') return fail(r, "expected 0x and hexadecimal digits");
    r->at += 2;
    if (!lv_shape_bytes(shape, dtype, &bytes)) return false;
    unsigned char *to = lv_arena_alloc(r->graph->arena, bytes ? bytes : 1);
    if ((size_t)(r->end - r->at) < 2 * bytes) return fail(r, "the literal is cut off");
    for (size_t i = 0; i < bytes; i++, r->at += 2) {
        char pair[3] = {r->at[0], r->at[1], 0}, *stop;
        to[i] = (unsigned char)strtoul(pair, &stop, 16);
        if (stop != pair + 2) return fail(r, "expected hexadecimal digits");
    }
    *data = to;
    return true;
}

static bool read_attr(Reader *r, Op op, Attrs *attrs, LvDType dtype, LvShape shape) {
    char word[64];
    AttrName name;
    if (!read_word(r, word)) return false;
    if (!attr_name_parse(word, &name) || !op_takes_attr(op, name)) return fail(r, "the operation has no such attribute");
    if (!expect(r, "=")) return false;
    switch (attr_kind(name)) {
    case ATTR_INT: {
        int64_t i;
        LvDType type;
        if (name == ATTR_dtype) {
            if (!read_word(r, word) || !lv_dtype_parse(word, &type)) return fail(r, "unknown element type");
            i = type;
        } else if (!read_int(r, &i)) return false;
        attrs_int(attrs, name, i);
        return true;
    }
    case ATTR_FLOAT: {
        skip_space(r);
        char *stop;
        double f = strtod(r->at, &stop);
        if (stop == r->at) return fail(r, "expected a number");
        r->at = stop;
        attrs_float(attrs, name, f);
        return true;
    }
    case ATTR_BOOL:
        if (!peek(r, "true") && !peek(r, "false")) return fail(r, "expected true or false");
        attrs_bool(attrs, name, accept(r, "true"));
        accept(r, "false");
        return true;
    case ATTR_NAME: {
        const char *s = NULL;
        if (!read_string(r, &s)) return false;
        attrs_name(attrs, name, s);
        return true;
    }
    case ATTR_LIST: {
        int count;
        int64_t at[2 * LV_MAX_RANK];
        if (!read_list(r, 2 * LV_MAX_RANK, &count, at)) return false;
        attrs_list(attrs, name, count, at);
        return true;
    }
    case ATTR_DATA: {
        const void *data = NULL;
        if (!read_data(r, dtype, shape, &data)) return false;
        attrs_data(attrs, name, data);
        return true;
    }
    }
    return false;
}

static bool read_use(Reader *r, Value **value) {
    int64_t id;
    if (!expect(r, "%") || !read_int(r, &id)) return false;
    if (id < 0 || (size_t)id >= r->values.count || !r->values.data[id]) return fail(r, "use of a value that is not defined above");
    *value = r->values.data[id];
    return true;
}

enum { MAX_RESULTS = 4, MAX_INPUTS = 65536, MAX_ID = 1 << 24 };

typedef struct {
    int64_t id;
    LvDType dtype;
    LvShape shape;
    LvLayout layout;
} Definition;

static bool read_definition(Reader *r, Definition *d) {
    if (!expect(r, "%") || !read_int(r, &d->id) || !expect(r, ":") || !read_type(r, &d->dtype, &d->shape)) return false;
    if (d->id < 0 || d->id > MAX_ID) return fail(r, "value number out of range");
    d->layout = lv_layout_row_major();
    if (!accept(r, ":")) return true;
    char word[64];
    if (!read_word(r, word)) return false;
    return lv_layout_parse(word, d->shape.rank, &d->layout) ? true : fail(r, "not a layout of that rank");
}

static bool define(Reader *r, const Definition *d, Value *value) {
    while (r->values.count <= (size_t)d->id) lv_vec_push(&r->values, NULL);
    if (r->values.data[d->id]) return fail(r, "value defined twice");
    value->layout = d->layout;
    r->values.data[d->id] = value;
    return true;
}

static bool add_node(Reader *r, Op op, int input_count, Value **inputs, const Attrs *attrs, int count, const Definition *d) {
    const OpInfo *info = op_info(op);
    if (count != info->results) return fail(r, "wrong number of results");
    if (info->kind == OP_KIND_LEAF) {
        if (info->inputs != input_count) return fail(r, "wrong number of inputs");
        Value *value = graph_add_typed(r->graph, op, input_count, inputs, attrs, d->dtype, d->shape);
        if (op == OP_input && node_attr(value->node, ATTR_name))
            lv_vec_push(&r->graph->inputs, (GraphPort){node_attr(value->node, ATTR_name)->s, value, LV_NO_SPAN});
        return define(r, d, value);
    }
    const char *reason;
    if (!graph_add(r->graph, op, input_count, inputs, attrs, &reason)) return fail(r, reason);
    Node *node = r->graph->last;
    for (int i = 0; i < count; i++) {
        if (node->results[i].dtype != d[i].dtype || !lv_shape_equal(node->results[i].shape, d[i].shape))
            return fail(r, "the shape rule gives another result type");
        if (!define(r, &d[i], &node->results[i])) return false;
    }
    return true;
}

static bool read_node(Reader *r) {
    Definition definitions[MAX_RESULTS] = {0};
    LV_VEC(Value *) inputs = {0};
    Attrs attrs = {0};
    char word[64];
    int count = 0;
    Op op;
    bool fine = true;
    if (peek(r, "%")) {
        do {
            if (count == MAX_RESULTS) return fail(r, "too many results");
            if (!read_definition(r, &definitions[count++])) return false;
        } while (accept(r, ","));
        if (!expect(r, "=")) return false;
    }
    if (!read_word(r, word)) return false;
    if (!op_parse(word, &op)) return fail(r, "unknown operation");
    if (peek(r, "%") && (op_info(op)->kind != OP_KIND_LEAF || op_info(op)->inputs)) {
        do {
            Value *value = NULL;
            fine = inputs.count < MAX_INPUTS ? read_use(r, &value) : fail(r, "too many inputs");
            if (fine) lv_vec_push(&inputs, value);
        } while (fine && accept(r, ","));
    }
    if (fine && accept(r, "{")) {
        do fine = attrs.count < MAX_ATTRS ? read_attr(r, op, &attrs, definitions[0].dtype, definitions[0].shape) : fail(r, "too many attributes");
        while (fine && accept(r, ","));
        fine = fine && expect(r, "}");
    }
    fine = fine && add_node(r, op, (int)inputs.count, inputs.data, &attrs, count, definitions);
    lv_vec_free(&inputs);
    return fine;
}

static bool read_result(Reader *r) {
    const char *name;
    Value *value;
    if (!read_string(r, &name) || !expect(r, "=") || !read_use(r, &value)) return false;
    graph_add_result(r->graph, name, value);
    return true;
}

static bool read_graph(Reader *r) {
    char name[64];
    if (!expect(r, "graph") || !read_word(r, name) || !expect(r, "{")) return false;
    r->graph->name = lv_arena_strdup(r->graph->arena, name);
    while (!peek(r, "}")) {
        if (r->at >= r->end) return fail(r, "the graph is cut off");
        if (!(accept(r, "variable") ? read_variable(r) : accept(r, "result") ? read_result(r) : read_node(r))) return false;
    }
    if (!expect(r, "}")) return false;
    skip_space(r);
    if (r->at != r->end) return fail(r, "text after the graph");
    const char *wrong = graph_verify(r->graph, r->graph->arena);
    return wrong ? fail(r, wrong) : true;
}

Graph *graph_parse(const char *text, size_t length, LvError *error) {
    Graph *graph = graph_create("");
    char *copy = lv_arena_copy(graph->arena, text, length);
    Reader reader = {.at = copy, .begin = copy, .end = copy + length, .graph = graph, .error = error};
    bool fine = read_graph(&reader);
    lv_vec_free(&reader.values);
    if (fine) return graph;
    graph_destroy(graph);
    return NULL;
}
