// The front end as its callers see it: parsing and formatting of every program in the tree, recovery, loading a model with
// settings, its description, and the bundle of sources from which it loads again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver/compiler.h"
#include "sema/sema.h"
#include "syntax/ast.h"

typedef struct {
    LvSources sources;
    LvDiagnostics diagnostics;
    LvModel *model;
    LvError error;
} Loaded;

static void loaded_init(Loaded *l) {
    *l = (Loaded){0};
    lv_diagnostics_init(&l->diagnostics, &l->sources);
}

static void loaded_free(Loaded *l) {
    lv_model_destroy(l->model);
    lv_error_clear(&l->error);
    lv_diagnostics_free(&l->diagnostics);
    lv_sources_free(&l->sources);
}

// A model whose text is given; the standard library comes from the tree.
static bool load_text(Loaded *l, const char *text, const char *config, const LvSetting *settings, int count) {
    static const char *const names[] = {"prelude.lv", "nn.lv", "init.lv", "optim.lv"};
    LvBundledSource bundle[5] = {{"test.lv", text}};
    loaded_init(l);
    for (int i = 0; i < 4; i++) {
        char path[4096], *content;
        size_t length;
        snprintf(path, sizeof path, "%s/stdlib/%s", LV_SOURCE_DIR, names[i]);
        if (!lv_file_read(path, 1 << 20, &content, &length, &l->error)) fail_msg("%s", l->error.message);
        snprintf(path, sizeof path, "stdlib/%s", names[i]);
        bundle[i + 1] = (LvBundledSource){strdup(path), content};
    }
    bool fine = lv_model_load("test.lv", bundle, 5, config, settings, count, &l->diagnostics, &l->model, &l->error);
    for (int i = 1; i < 5; i++) free((char *)bundle[i].path), free((char *)bundle[i].text);
    return fine;
}

static const char *first_message(const Loaded *l) { return l->diagnostics.list.count ? l->diagnostics.list.data[0].message : ""; }

// ---- every program of the tree

static SyntaxTree *parse(Loaded *l, LvArena *arena, const char *name, const char *text, size_t length) {
    int32_t file = lv_sources_add(&l->sources, name, text, length);
    return syntax_parse(file, arena, &l->diagnostics);
}

// Formatting changes nothing about what a program means, and formatting again changes nothing at all.
static void check_format(const char *path) {
    Loaded l;
    LvArena *arena = lv_arena_create();
    LvText tree = {0}, formatted = {0}, tree_again = {0}, formatted_again = {0};
    char *text;
    size_t length;
    loaded_init(&l);
    if (!lv_file_read(path, 1 << 20, &text, &length, &l.error)) fail_msg("%s", l.error.message);
    SyntaxTree *first = parse(&l, arena, path, text, length);
    if (l.diagnostics.errors) fail_msg("%s: %s", path, first_message(&l));
    syntax_print(first, &tree);
    syntax_format(first, &l.sources, &formatted);
    SyntaxTree *second = parse(&l, arena, path, formatted.data, formatted.length);
    if (l.diagnostics.errors) fail_msg("%s, formatted: %s", path, first_message(&l));
    syntax_print(second, &tree_again);
    syntax_format(second, &l.sources, &formatted_again);
    if (strcmp(lv_text_get(&tree), lv_text_get(&tree_again)) != 0) fail_msg("%s: formatting changes the program", path);
    if (strcmp(lv_text_get(&formatted), lv_text_get(&formatted_again)) != 0) fail_msg("%s: formatting twice differs", path);
    free(text);
    lv_text_free(&tree), lv_text_free(&formatted), lv_text_free(&tree_again), lv_text_free(&formatted_again);
    lv_arena_destroy(arena);
    loaded_free(&l);
}

static void test_programs(void **state) {
    (void)state;
    static const char *const folders[] = {"stdlib", "models", "examples", "tests/lang"};
    int count = 0;
    for (int i = 0; i < 4; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", LV_SOURCE_DIR, folders[i]);
        DIR *folder = opendir(path);
        assert_non_null(folder);
        for (struct dirent *entry; (entry = readdir(folder));) {
            const char *dot = strrchr(entry->d_name, '.');
            if (!dot || strcmp(dot, ".lv") != 0) continue;
            snprintf(path, sizeof path, "%s/%s/%s", LV_SOURCE_DIR, folders[i], entry->d_name);
            check_format(path);
            count++;
        }
        closedir(folder);
    }
    assert_true(count > 20);
}

// ---- syntax

static void test_recovery(void **state) {
    (void)state;
    // each line that is wrong is reported once, and what is right around it is read
    static const char text[] = "module A(n: int) {\n"
                               "    a = 1 2\n"
                               "    b = 3\n"
                               "    c = (1 *)\n"
                               "    fn f(x: tensor { return x }\n"
                               "    fn g(x: tensor) { retrun x }\n"
                               "    d = 4\n"
                               "}\n"
                               "module B() { e = 1 }\n";
    Loaded l;
    LvArena *arena = lv_arena_create();
    loaded_init(&l);
    SyntaxTree *tree = parse(&l, arena, "test.lv", text, strlen(text));
    assert_true(l.diagnostics.errors >= 4);
    assert_int_equal(tree->items.count, 2);
    assert_string_equal(tree->items.data[1]->name.text, "B");
    int last = 0;
    for (size_t i = 0; i < l.diagnostics.list.count; i++) {
        int line, column;
        lv_sources_locate(&l.sources, 0, l.diagnostics.list.data[i].span.begin, &line, &column);
        assert_true(line > last);
        last = line;
    }
    lv_arena_destroy(arena);
    loaded_free(&l);
}

static void test_newlines(void **state) {
    (void)state;
    static const char text[] = "model M() {\r\n"
                               "    a = [1,\r\n 2]; b = (1 +\r\n 2)\r\n"
                               "    if a == b { c = 1 } // not this\r\n"
                               "    // nor this\r\n\r\n"
                               "    else { c = 2 }\r\n"
                               "    d = a[0] *\r\n        b\r\n"
                               "}";
    Loaded l;
    LvArena *arena = lv_arena_create();
    loaded_init(&l);
    SyntaxTree *tree = parse(&l, arena, "test.lv", text, strlen(text));
    if (l.diagnostics.errors) fail_msg("%s", first_message(&l));
    assert_int_equal(tree->items.data[0]->body.count, 4);
    assert_int_equal(tree->items.data[0]->body.data[2]->otherwise.count, 1);
    lv_arena_destroy(arena);
    loaded_free(&l);
}

// Long runs of what is scanned, looked ahead over or nested: linear time, no deep stack.
static void test_hostile_text(void **state) {
    (void)state;
    static const struct { const char *before, *part, *after; bool fine; } cases[] = {
        {"", "\n", "", true},
        {"module A() { if true { a = 1 }", "\n// c", "\nelse { a = 2 } }", true},
        {"const a = ", "(", "", false},
        {"const a = 1", " + 1", "", false},
        {"module A() {", "{", "", false},
        {"module A() { if true { } ", "else if true { } ", "}", false},
        {"const a = ", "[", "", false},
        {"const a = \"", "\\n", "\"", false},
        {"", "$", "", false},
        {"const ", "x", " = 1", false},
        {"const a = ", "9", "", false},
        {"const a = x", ".x", "", false},
        {"const a = x", "(1)", "", false},
        {"", "\xff\xfe", "", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Loaded l;
        LvText text = {0};
        LvArena *arena = lv_arena_create();
        loaded_init(&l);
        lv_text_puts(&text, cases[i].before);
        for (int k = 0; k < 200000; k++) lv_text_puts(&text, cases[i].part);
        lv_text_puts(&text, cases[i].after);
        parse(&l, arena, "test.lv", text.data, text.length);
        if ((l.diagnostics.errors == 0) != cases[i].fine) fail_msg("case %zu: %s", i, first_message(&l));
        lv_text_free(&text);
        lv_arena_destroy(arena);
        loaded_free(&l);
    }
}

// ---- models

static const char net[] = "import nn\n"
                          "import optim\n"
                          "/// Learns.\n"
                          "model Net(\n"
                          "    /// how wide\n"
                          "    width: int = 4, rates: [float] = [1, 0.5], kind: string = \"a\", deep: bool = false) {\n"
                          "    layer = nn.Linear(width, 2)\n"
                          "    other = nn.Linear(width, 2)\n"
                          "    /// One step.\n"
                          "    entry train(x: f32[B, width], y: i32[B]) {\n"
                          "        loss = mean(cross_entropy(layer(x) + other(x), y))\n"
                          "        minimize(loss, optim.AdamW())\n"
                          "        return {loss}\n"
                          "    }\n"
                          "    entry run(x: f32[B, width]) { return {y: nn.dropout(layer(x), 0.5)} }\n"
                          "    entry fixed(x: f32[3, width]) { return {y: layer(x)} }\n"
                          "}\n"
                          "config wide { width = 8; kind = \"b\" }\n";

static const char *value_of(const Loaded *l, const char *name) {
    int count;
    const LvModelParameter *parameters = lv_model_parameters(l->model, &count);
    for (int i = 0; i < count; i++)
        if (strcmp(parameters[i].name, name) == 0) return parameters[i].value;
    return NULL;
}

static void test_description(void **state) {
    (void)state;
    Loaded l;
    int count;
    if (!load_text(&l, net, NULL, NULL, 0)) fail_msg("%s: %s", l.error.message, first_message(&l));
    assert_string_equal(lv_model_name(l.model), "Net");
    const LvModelParameter *parameters = lv_model_parameters(l.model, &count);
    assert_int_equal(count, 4);
    assert_string_equal(parameters[0].doc, "how wide");
    assert_string_equal(parameters[0].type, "int");
    assert_string_equal(parameters[1].default_value, "[1.0, 0.5]");
    const LvModelEntry *entries = lv_model_entries(l.model, &count);
    assert_int_equal(count, 3);
    assert_true(entries[0].trains && !entries[1].trains);
    assert_string_equal(entries[0].doc, "One step.");
    assert_int_equal(entries[0].inputs[0].shape.dim[0], -1);
    assert_int_equal(entries[0].inputs[0].shape.dim[1], 4);
    assert_int_equal(entries[0].inputs[1].dtype, LV_I32);
    assert_int_equal(entries[2].inputs[0].shape.dim[0], 3);
    assert_string_equal(lv_model_configs(l.model, &count)[0], "wide");
    loaded_free(&l);
}

static void test_settings(void **state) {
    (void)state;
    static const LvSetting good[] = {{"width", "16", "--set", false}, {"rates", "[2, 3.5]", "--set", false}, {"deep", "true", "--set", false}};
    static const struct { LvSetting setting; const char *message, *hint; } bad[] = {
        {{"widht", "1", "--set", false}, "--set: model Net has no parameter 'widht'", "did you mean 'width'?"},
        {{"width", "1.5", "--set", false}, "--set: parameter 'width' is int, and '1.5' is not", NULL},
        {{"width", "[1]", "--width", false}, "--width: parameter 'width' is int, and '[1]' is not", NULL},
        {{"width", "99999999999999999999", "x.yaml:3", false}, "x.yaml:3: parameter 'width' is int, and '99999999999999999999' is not", NULL},
        {{"rates", "[1, \"a\"]", "--set", false}, "--set: parameter 'rates' is [float], and '[1, \"a\"]' is not", NULL},
        {{"deep", "1", "--set", false}, "--set: parameter 'deep' is bool, and '1' is not", NULL},
        {{"width", "", "--set", false}, "--set: parameter 'width' is int, and '' is not", NULL},
    };
    Loaded l;
    assert_true(load_text(&l, net, "wide", good, 3));
    assert_string_equal(value_of(&l, "width"), "16");
    assert_string_equal(value_of(&l, "rates"), "[2.0, 3.5]");
    assert_string_equal(value_of(&l, "deep"), "true");
    assert_string_equal(value_of(&l, "kind"), "\"b\"");
    assert_string_equal(lv_model_config(l.model), "wide");
    loaded_free(&l);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(load_text(&l, net, NULL, &bad[i].setting, 1));
        assert_int_equal(l.error.kind, LV_ERROR_USAGE);
        assert_string_equal(l.error.message, bad[i].message);
        if (bad[i].hint) assert_string_equal(l.error.hint, bad[i].hint);
        loaded_free(&l);
    }
    assert_false(load_text(&l, net, "wede", NULL, 0));
    assert_string_equal(l.error.hint, "did you mean 'wide'?");
    loaded_free(&l);
}

static Graph *elaborate(Loaded *l, const char *entry, int64_t batch) {
    Graph *graph = lv_model_elaborate(l->model, entry, batch, &l->diagnostics, &l->error);
    if (!graph) fail_msg("%s: %s", l->error.message, first_message(l));
    const char *wrong = graph_verify(graph, graph->arena);
    if (wrong) fail_msg("%s: %s", entry, wrong);
    return graph;
}

// Every entry sees the same variables in the same places, and the bundle gives the same model again.
static void test_variables_and_bundle(void **state) {
    (void)state;
    Loaded l, again;
    int count;
    assert_true(load_text(&l, net, NULL, NULL, 0));
    const LvBundledSource *sources = lv_model_sources(l.model, &count);
    loaded_init(&again);
    if (!lv_model_load("test.lv", sources, count, NULL, NULL, 0, &again.diagnostics, &again.model, &again.error)) fail_msg("%s", again.error.message);
    static const char *const entries[] = {"init", "train", "run", "fixed"};
    Graph *first = elaborate(&l, "init", 1);
    assert_string_equal(first->variables.data[0].name, "layer.weight");
    for (int i = 0; i < 4; i++) {
        LvText one = {0}, two = {0};
        Graph *a = elaborate(&l, entries[i], 5), *b = elaborate(&again, entries[i], 5);
        graph_print(a, &one);
        graph_print(b, &two);
        assert_string_equal(lv_text_get(&one), lv_text_get(&two));
        for (size_t v = 0; v < first->variables.count; v++) {
            assert_string_equal(a->variables.data[v].name, first->variables.data[v].name);
            assert_int_equal(a->variables.data[v].pack_offset, first->variables.data[v].pack_offset);
        }
        assert_int_equal(a->variables.count, first->variables.count + (i == 1 ? 2 : 0));  // the optimizer's m and v
        lv_text_free(&one);
        lv_text_free(&two);
        graph_destroy(a);
        graph_destroy(b);
    }
    graph_destroy(first);
    loaded_free(&l);
    loaded_free(&again);
}

// Each initial value has a stream of its own, named by the variable, so that adding a layer changes no other.
static void test_streams(void **state) {
    (void)state;
    Loaded l;
    assert_true(load_text(&l, net, NULL, NULL, 0));
    Graph *graph = elaborate(&l, "init", 1);
    int64_t streams[16];
    int count = 0;
    for GRAPH_EACH(graph, node) {
        if (node->op != OP_random_uniform) continue;
        streams[count] = node_int(node, ATTR_stream, -1);
        for (int i = 0; i < count; i++) assert_int_not_equal(streams[i], streams[count]);
        count++;
    }
    assert_int_equal(count, 4);
    graph_destroy(graph);
    loaded_free(&l);
}

static void test_entries(void **state) {
    (void)state;
    Loaded l;
    assert_true(load_text(&l, net, NULL, NULL, 0));
    assert_null(lv_model_elaborate(l.model, "tran", 1, &l.diagnostics, &l.error));
    assert_int_equal(l.error.kind, LV_ERROR_USAGE);
    assert_string_equal(l.error.hint, "did you mean 'train'?");
    lv_error_clear(&l.error);
    assert_null(lv_model_elaborate(l.model, "train", 0, &l.diagnostics, &l.error));
    assert_int_equal(l.error.kind, LV_ERROR_USAGE);
    lv_error_clear(&l.error);
    assert_null(lv_model_elaborate(l.model, "train", INT64_MAX, &l.diagnostics, &l.error));
    assert_int_equal(l.error.kind, LV_ERROR_SOURCE);
    loaded_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_programs),    cmocka_unit_test(test_recovery),      cmocka_unit_test(test_newlines),
        cmocka_unit_test(test_hostile_text), cmocka_unit_test(test_description),   cmocka_unit_test(test_settings),
        cmocka_unit_test(test_variables_and_bundle), cmocka_unit_test(test_streams), cmocka_unit_test(test_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
