// Runs the programs of tests/lang: compiles a call's entry to its graph, evaluates that by the reference evaluation, and compares
// with what the comments of the same file expect. No backend takes part: this is about the language and stdlib.
//
//   run_lang FILE.lv...        a line a file: `ok NAME`, `not ok NAME: why`
//
// Directives are lines `//: WORD ...`; what they say is in README.md.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/map.h"
#include "driver/compiler.h"
#include "graph/graph.h"
#include "ops/op.h"

enum { MAX_SETTINGS = 32, MAX_CHECKS = 64 };

typedef struct {
    const char *name, *text;
} Pair;

typedef struct {
    char *entry, *config, *stage;
    int64_t batch;
    bool keeps;                                                      // variables begin as the call before left them
    LvSetting settings[MAX_SETTINGS];
    int setting_count, line;
    Pair inputs[MAX_CHECKS], variables[MAX_CHECKS];                  // name, JSON
    Pair expects[MAX_CHECKS], afters[MAX_CHECKS], shapes[MAX_CHECKS];
    const char *contains[MAX_CHECKS], *lacks[MAX_CHECKS], *lists[MAX_CHECKS];
    int input_count, variable_count, expect_count, after_count, shape_count, contain_count, lack_count, list_count;
} Call;

typedef struct {
    const char *path;
    LvArena *arena;
    Call *call;
    Graph *graph;
    Tensor *values;        // of each variable, before and then after
    bool *written;
    LvMap left;            // name -> Tensor: what the call before left
    LvText *wrong;
} Run;

#define SAY(run, ...) (lv_text_printf((run)->wrong, "%s:%d: ", (run)->path, (run)->call->line), \
                       lv_text_printf((run)->wrong, __VA_ARGS__), lv_text_putc((run)->wrong, '\n'))

static Tensor tensor_new(LvArena *arena, LvDType dtype, LvShape shape) {
    size_t count = (size_t)lv_shape_elements(shape) + 1;
    Tensor tensor = {.shape = shape, .dtype = dtype};
    if (lv_dtype_is_float(dtype)) tensor.f = LV_NEW_ARRAY(arena, double, count);
    else tensor.i = LV_NEW_ARRAY(arena, int64_t, count);
    return tensor;
}

static double tensor_at(const Tensor *tensor, int64_t i) {
    return tensor->f ? tensor->f[i] : (double)tensor->i[i];
}

static void tensor_put(Tensor *tensor, int64_t i, double value) {
    if (tensor->f) tensor->f[i] = value;
    else tensor->i[i] = (int64_t)value;
}

// ---- JSON of nested lists

static double json_value(const json_t *json) {
    if (json_is_boolean(json)) return json_is_true(json);
    if (json_is_string(json)) return strtod(json_string_value(json), NULL);  // "nan", "inf"
    return json_number_value(json);
}

static int64_t json_fill(const json_t *json, Tensor *tensor, int64_t at) {
    if (!json_is_array(json)) {
        if (at < lv_shape_elements(tensor->shape)) tensor_put(tensor, at, json_value(json));
        return at + 1;
    }
    for (size_t i = 0; i < json_array_size(json); i++) at = json_fill(json_array_get(json, i), tensor, at);
    return at;
}

static LvShape json_shape(const json_t *json) {
    LvShape shape = {0};
    for (; json_is_array(json) && shape.rank < LV_MAX_RANK; json = json_array_get(json, 0)) {
        shape.dim[shape.rank++] = (int64_t)json_array_size(json);
        if (!json_array_size(json)) break;
    }
    return shape;
}

// The tensor of a JSON text. A single number stands for all elements of `shape`.
static bool read_tensor(Run *run, const char *text, LvDType dtype, const LvShape *shape, Tensor *out) {
    json_error_t error;
    json_t *json = json_loads(text, JSON_DECODE_ANY, &error);
    if (!json) {
        SAY(run, "not JSON: %s: %s", text, error.text);
        return false;
    }
    LvShape own = json_shape(json);
    *out = tensor_new(run->arena, dtype, shape ? *shape : own);
    bool ok = true;
    if (!json_is_array(json)) {
        for (int64_t i = 0; i < lv_shape_elements(out->shape); i++) tensor_put(out, i, json_value(json));
    } else if (shape && !lv_shape_equal(own, *shape)) {
        LvText a = {0}, b = {0};
        lv_shape_print(&a, own);
        lv_shape_print(&b, *shape);
        SAY(run, "the test gives shape %s where the program has %s", lv_text_get(&a), lv_text_get(&b));
        lv_text_free(&a);
        lv_text_free(&b);
        ok = false;
    } else {
        json_fill(json, out, 0);
    }
    json_decref(json);
    return ok;
}

static void print_tensor(LvText *out, const Tensor *tensor) {
    lv_text_puts(out, lv_dtype_name(tensor->dtype));
    lv_shape_print(out, tensor->shape);
    for (int64_t i = 0; i < lv_shape_elements(tensor->shape) && i < 24; i++) lv_text_printf(out, " %.9g", tensor_at(tensor, i));
}

static void compare(Run *run, const char *what, const char *name, const char *text, const Tensor *got) {
    Tensor want;
    if (!read_tensor(run, text, got->dtype, &got->shape, &want)) return;
    for (int64_t i = 0; i < lv_shape_elements(got->shape); i++) {
        double a = tensor_at(got, i), b = tensor_at(&want, i);
        if ((isnan(a) && isnan(b)) || fabs(a - b) <= 1e-6 + 1e-5 * fabs(b) || a == b) continue;
        LvText shown = {0};
        print_tensor(&shown, got);
        SAY(run, "%s %s: element %lld is %.9g, expected %.9g; all: %s", what, name, (long long)i, a, b, lv_text_get(&shown));
        lv_text_free(&shown);
        return;
    }
}

// ---- the call

static const Pair *find(const Pair *pairs, int count, const char *name) {
    for (int i = 0; i < count; i++) {
        if (!strcmp(pairs[i].name, name)) return &pairs[i];
    }
    return NULL;
}

static const Tensor *give_input(void *user, const Node *node) {
    Run *run = user;
    const char *name = node_attr(node, ATTR_name)->s;
    const Pair *given = find(run->call->inputs, run->call->input_count, name);
    const char *text = given ? given->text : !strcmp(name, "$seed") ? "42" : !strcmp(name, "$step") ? "1" : !strcmp(name, "$lr") ? "0.1" : "0";
    Tensor *tensor = LV_NEW(run->arena, Tensor);
    if (!read_tensor(run, text, node->results[0].dtype, &node->results[0].shape, tensor))
        *tensor = tensor_new(run->arena, node->results[0].dtype, node->results[0].shape);
    return tensor;
}

static void pack_gather(Run *run, int pack) {
    for (size_t v = 0; v < run->graph->variables.count; v++) {
        const Variable *variable = &run->graph->variables.data[v];
        if (variable->pack != pack) continue;
        for (int64_t i = 0; i < lv_shape_elements(variable->shape); i++)
            tensor_put(&run->values[pack], variable->pack_offset + i, tensor_at(&run->values[v], i));
    }
}

static const Tensor *give_variable(void *user, const Node *node, int index) {
    (void)node;
    Run *run = user;
    return &run->values[index];
}

static void take_write(void *user, int index, const Tensor *value) {
    Run *run = user;
    Tensor *after = &run->values[index];
    *after = tensor_new(run->arena, value->dtype, value->shape);
    for (int64_t i = 0; i < lv_shape_elements(value->shape); i++) tensor_put(after, i, tensor_at(value, i));
    run->written[index] = true;
    for (size_t v = 0; run->graph->variables.data[index].is_pack && v < run->graph->variables.count; v++) {
        const Variable *variable = &run->graph->variables.data[v];
        if (variable->pack != index) continue;
        run->values[v] = tensor_new(run->arena, variable->dtype, variable->shape);
        for (int64_t i = 0; i < lv_shape_elements(variable->shape); i++)
            tensor_put(&run->values[v], i, tensor_at(after, variable->pack_offset + i));
        run->written[v] = true;
    }
}

static void check_result(void *user, const char *name, const Tensor *value) {
    Run *run = user;
    const Pair *expect = find(run->call->expects, run->call->expect_count, name);
    if (expect) compare(run, "result", name, expect->text, value);
    const Pair *shape = find(run->call->shapes, run->call->shape_count, name);
    LvText shown = {0};
    lv_text_puts(&shown, lv_dtype_name(value->dtype));
    lv_shape_print(&shown, value->shape);
    if (shape && strcmp(shape->text, lv_text_get(&shown))) SAY(run, "result %s is %s, expected %s", name, lv_text_get(&shown), shape->text);
    lv_text_free(&shown);
}

static void check_names(Run *run) {
    for (int i = 0; i < run->call->list_count; i++) {
        LvText names = {0};
        for (size_t v = 0; v < run->graph->variables.count; v++) {
            const Variable *variable = &run->graph->variables.data[v];
            if (variable->is_pack) continue;
            lv_text_printf(&names, "%s%s", names.length ? " " : "", variable->name);
        }
        if (strcmp(lv_text_get(&names), run->call->lists[i])) SAY(run, "the variables are %s", lv_text_get(&names));
        lv_text_free(&names);
    }
}

static Graph *compile(Run *run, const char *entry, const char *stage) {
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    lv_diagnostics_init(&diagnostics, &sources);
    LvModel *model = NULL;
    LvError error = {0};
    LvText text = {0};
    Graph *graph = NULL;
    LvPlan *plan = NULL;
    LvCompileOptions options = {.entry = entry, .batch = run->call->batch, .device = "cpu", .emit = stage, .emitted = &text};
    if (lv_model_load(run->path, NULL, 0, run->call->config, run->call->settings, run->call->setting_count, &diagnostics, &model, &error) &&
        lv_model_compile(model, &options, &diagnostics, &plan, &error)) {
        graph = graph_parse(lv_text_get(&text), text.length, &error);
    }
    if (!graph) {
        LvText shown = {0};
        lv_diagnostics_render(&diagnostics, false, &shown);
        SAY(run, "%s: %s\n%s", entry, error.message ? error.message : "failed", lv_text_get(&shown));
        lv_text_free(&shown);
    }
    for (int i = 0; graph && !strcmp(entry, run->call->entry) && i < run->call->contain_count; i++) {
        if (!strstr(lv_text_get(&text), run->call->contains[i])) SAY(run, "the graph has no '%s':\n%s", run->call->contains[i], lv_text_get(&text));
    }
    for (int i = 0; graph && !strcmp(entry, run->call->entry) && i < run->call->lack_count; i++) {
        if (strstr(lv_text_get(&text), run->call->lacks[i])) SAY(run, "the graph has '%s'", run->call->lacks[i]);
    }
    lv_plan_destroy(plan);
    if (model) lv_model_destroy(model);
    lv_error_clear(&error);
    lv_text_free(&text);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    return graph;
}

static void evaluate(Run *run, bool results) {
    EvaluationHooks hooks = {run, give_input, give_variable, take_write, results ? check_result : NULL};
    for (size_t v = 0; v < run->graph->variables.count; v++) {
        if (run->graph->variables.data[v].is_pack) pack_gather(run, (int)v);
    }
    graph_evaluate(run->graph, false, &hooks, run->arena);
}

static void set_variables(Run *run) {
    Graph *graph = run->graph;
    for (int i = 0; i < run->call->variable_count; i++) {
        const Pair *given = &run->call->variables[i];
        bool found = false;
        for (size_t v = 0; v < graph->variables.count; v++) {
            if (strcmp(graph->variables.data[v].name, given->name)) continue;
            found = true;
            Tensor tensor;
            if (read_tensor(run, given->text, graph->variables.data[v].dtype, &graph->variables.data[v].shape, &tensor)) run->values[v] = tensor;
        }
        if (!found) SAY(run, "no variable %s", given->name);
    }
}

static void check_afters(Run *run) {
    for (int i = 0; i < run->call->after_count; i++) {
        const Pair *after = &run->call->afters[i];
        bool found = false;
        for (size_t v = 0; v < run->graph->variables.count; v++) {
            if (strcmp(run->graph->variables.data[v].name, after->name)) continue;
            found = true;
            compare(run, "variable", after->name, after->text, &run->values[v]);
        }
        if (!found) SAY(run, "no variable %s", after->name);
    }
}

// Variables of the graph that `init` writes take that value; others (the optimizer's) stay zero.
static void take_initial(Run *run, Graph *init) {
    Run first = *run;
    first.graph = init;
    first.values = LV_NEW_ARRAY(run->arena, Tensor, init->variables.count + 1);
    first.written = LV_NEW_ARRAY(run->arena, bool, init->variables.count + 1);
    for (size_t v = 0; v < init->variables.count; v++) first.values[v] = tensor_new(run->arena, init->variables.data[v].dtype, init->variables.data[v].shape);
    evaluate(&first, false);
    for (size_t v = 0; v < run->graph->variables.count; v++) {
        for (size_t i = 0; i < init->variables.count; i++) {
            if (!strcmp(run->graph->variables.data[v].name, init->variables.data[i].name)) run->values[v] = first.values[i];
        }
    }
}

static void run_call(Run *run) {
    Call *call = run->call;
    if (!call->batch) {
        call->batch = 1;
        for (int i = 0; i < call->input_count; i++) {
            json_t *json = call->inputs[i].name[0] == '$' ? NULL : json_loads(call->inputs[i].text, JSON_DECODE_ANY, NULL);
            if (json_is_array(json)) call->batch = (int64_t)json_array_size(json);
            json_decref(json);
        }
    }
    Graph *graph = compile(run, call->entry, call->stage ? call->stage : "graph");
    if (!graph) return;
    run->graph = graph;
    check_names(run);
    size_t count = graph->variables.count;
    run->values = LV_NEW_ARRAY(run->arena, Tensor, count + 1);
    run->written = LV_NEW_ARRAY(run->arena, bool, count + 1);
    for (size_t v = 0; v < count; v++) run->values[v] = tensor_new(run->arena, graph->variables.data[v].dtype, graph->variables.data[v].shape);
    if (count && strcmp(call->entry, "init")) {
        Graph *init = compile(run, "init", "graph");
        if (init) take_initial(run, init);
        if (init) graph_destroy(init);
    }
    for (size_t v = 0; v < count && call->keeps; v++) {
        const Tensor *left = lv_map_get(&run->left, graph->variables.data[v].name);
        if (left && lv_shape_equal(left->shape, run->values[v].shape)) run->values[v] = *left;
    }
    set_variables(run);
    if (call->expect_count || call->shape_count || call->after_count) evaluate(run, true);
    for (int i = 0; i < call->expect_count + call->shape_count; i++) {
        const char *name = i < call->expect_count ? call->expects[i].name : call->shapes[i - call->expect_count].name;
        bool found = false;
        for (size_t r = 0; r < graph->results.count; r++) found |= !strcmp(graph->results.data[r].name, name);
        if (!found) SAY(run, "no result %s", name);
    }
    check_afters(run);
    for (size_t v = 0; v < count; v++)
        lv_map_set(&run->left, lv_arena_strdup(run->arena, graph->variables.data[v].name), &run->values[v]);
    graph_destroy(graph);
}

// ---- the file

static char *word(char **at) {
    while (**at == ' ') (*at)++;
    char *begin = *at;
    while (**at && **at != ' ') (*at)++;
    if (**at) *(*at)++ = 0;
    while (**at == ' ') (*at)++;
    return begin;
}

static bool add_pair(Pair *pairs, int *count, char *rest) {
    if (*count == MAX_CHECKS) return false;
    pairs[*count].name = word(&rest);
    if (*rest == '=' || *rest == ':') word(&rest);
    pairs[(*count)++].text = rest;
    return true;
}

static bool add_text(const char **texts, int *count, const char *text) {
    if (*count == MAX_CHECKS) return false;
    texts[(*count)++] = text;
    return true;
}

static bool directive(Call *call, char *kind, char *rest) {
    if (!strcmp(kind, "batch")) return (call->batch = atoll(rest)) > 0;
    if (!strcmp(kind, "keep")) return call->keeps = true;
    if (!strcmp(kind, "config")) return (call->config = rest) != NULL;
    if (!strcmp(kind, "stage")) return (call->stage = rest) != NULL;
    if (!strcmp(kind, "input")) return add_pair(call->inputs, &call->input_count, rest);
    if (!strcmp(kind, "variable")) return add_pair(call->variables, &call->variable_count, rest);
    if (!strcmp(kind, "expect")) return add_pair(call->expects, &call->expect_count, rest);
    if (!strcmp(kind, "after")) return add_pair(call->afters, &call->after_count, rest);
    if (!strcmp(kind, "shape")) return add_pair(call->shapes, &call->shape_count, rest);
    if (!strcmp(kind, "contains")) return add_text(call->contains, &call->contain_count, rest);
    if (!strcmp(kind, "lacks")) return add_text(call->lacks, &call->lack_count, rest);
    if (!strcmp(kind, "variables")) return add_text(call->lists, &call->list_count, rest);
    Pair pair;
    int one = 0;
    if (strcmp(kind, "set") || call->setting_count == MAX_SETTINGS || !add_pair(&pair, &one, rest)) return false;
    call->settings[call->setting_count++] = (LvSetting){pair.name, pair.text, "the test", false};
    return true;
}

static int run_file(const char *path, LvText *wrong) {
    char *text;
    size_t length;
    LvError error = {0};
    if (!lv_file_read(path, 1 << 20, &text, &length, &error)) {
        lv_text_printf(wrong, "%s\n", error.message);
        lv_error_clear(&error);
        return 0;
    }
    Run run = {.path = path, .arena = lv_arena_create(), .wrong = wrong};
    int calls = 0, line = 0;
    for (char *at = text, *next; at && *at; at = next) {
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        line++;
        if (strncmp(at, "//:", 3)) continue;
        at += 3;
        char *kind = word(&at);
        if (!strcmp(kind, "call")) {
            if (run.call) run_call(&run);
            run.call = LV_NEW(run.arena, Call);
            *run.call = (Call){.entry = word(&at), .line = line};
            calls++;
        } else if (!run.call || !directive(run.call, kind, at)) {
            lv_text_printf(wrong, "%s:%d: directive '%s' is unknown, has no call before it, or is one too many\n", path, line, kind);
        }
    }
    if (run.call) run_call(&run);
    if (!calls) lv_text_printf(wrong, "%s: no call in it\n", path);
    lv_map_free(&run.left);
    lv_arena_destroy(run.arena);
    free(text);
    return calls;
}

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        LvText wrong = {0};
        const char *slash = strrchr(argv[i], '/'), *name = slash ? slash + 1 : argv[i];
        int length = (int)strcspn(name, ".");
        run_file(argv[i], &wrong);
        if (wrong.length) printf("%s", lv_text_get(&wrong));
        printf("%s %.*s\n", wrong.length ? "not ok" : "ok", length, name);
        fflush(stdout);
        failed += wrong.length > 0;
        lv_text_free(&wrong);
    }
    return failed > 0;
}
