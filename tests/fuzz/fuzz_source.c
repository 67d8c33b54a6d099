// The front end: lexer, parser, names, constants, modules, shapes. Whatever the text, an answer or diagnostics, in bounded time
// and memory. The text is the model; what it imports is found in stdlib, unless a line `//# NAME` begins another file of it.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver/compiler.h"

enum { MAX_FILES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Cuts the text at lines `//# NAME`; returns the number of files.
static int cut_files(char *text, LvBundledSource *files) {
    int count = 0;
    files[count++] = (LvBundledSource){"fuzz.lv", text};
    for (char *at = text; (at = strstr(at, "\n//# ")) && count < MAX_FILES;) {
        *at = 0;
        char *name = at + 5, *end = strchr(name, '\n');
        if (!end) break;
        *end = 0;
        files[count++] = (LvBundledSource){name, end + 1};
        at = end + 1;
    }
    return count;
}

static void compile_entries(LvModel *model, LvDiagnostics *diagnostics) {
    int count;
    const LvModelEntry *entries = lv_model_entries(model, &count);
    for (int i = -1; i < count && i < 3; i++) {
        LvError error = {0};
        LvText text = {0};
        LvPlan *plan = NULL;
        LvCompileOptions options = {.entry = i < 0 ? "init" : entries[i].name, .batch = 2, .device = "cpu", .emit = "graph", .emitted = &text};
        lv_model_compile(model, &options, diagnostics, &plan, &error);
        if (plan) lv_plan_destroy(plan);
        lv_error_clear(&error);
        lv_text_free(&text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    LvBundledSource files[MAX_FILES];
    int count = cut_files(text, files);
    LvSources sources = {0};
    LvDiagnostics diagnostics;
    lv_diagnostics_init(&diagnostics, &sources);
    LvModel *model = NULL;
    LvError error = {0};
    if (lv_model_load("fuzz.lv", files, count, NULL, NULL, 0, &diagnostics, &model, &error)) compile_entries(model, &diagnostics);
    LvText shown = {0};
    lv_diagnostics_render(&diagnostics, true, &shown);
    lv_text_free(&shown);
    if (model) lv_model_destroy(model);
    lv_error_clear(&error);
    lv_diagnostics_free(&diagnostics);
    lv_sources_free(&sources);
    free(text);
    return 0;
}
