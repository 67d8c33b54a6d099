// The front end: lexer, parser, names, constants, modules, shapes. Whatever the text, an answer or diagnostics, in bounded time
// and memory. The text is the model; a line `//# NAME` begins another file of it; stdlib ($LV_HOME) can be imported.
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/compiler.h"

enum { MAX_OWN = 4, MAX_FILES = 32 };

// Read once for all inputs and kept to the end; global, for libFuzzer's interface has no place for a context.
static LvBundledSource library[MAX_FILES];
static int library_count;

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_library(const char *folder) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries)) && library_count < MAX_FILES - MAX_OWN;) {
        size_t length = strlen(entry->d_name);
        char *path = NULL, *shown = NULL, *text;
        LvError error = {0};
        if (length < 4 || strcmp(entry->d_name + length - 3, ".lv") != 0) continue;
        if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0 || asprintf(&shown, "stdlib/%s", entry->d_name) < 0) abort();
        if (lv_file_read(path, 1 << 20, &text, &length, &error)) library[library_count++] = (LvBundledSource){shown, text};
        else free(shown);
        lv_error_clear(&error);
        free(path);
    }
    if (entries) closedir(entries);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *home = getenv("LV_HOME");
    char *folder = NULL;
    if (asprintf(&folder, "%s/stdlib", home ? home : ".") < 0) abort();
    read_library(folder);
    free(folder);
    return 0;
}

// Cuts the text at lines `//# NAME`; returns the number of files.
static int cut_files(char *text, LvBundledSource *files) {
    int count = 0;
    files[count++] = (LvBundledSource){"fuzz.lv", text};
    for (char *at = text; (at = strstr(at, "\n//# ")) && count < MAX_OWN;) {
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
    for (int i = 0; i < library_count; i++) files[count++] = library[i];
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
