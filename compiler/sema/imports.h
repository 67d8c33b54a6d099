// Private to sema/ and driver/: source files of a program, what they import, and the checked model.
#ifndef LV_SEMA_IMPORTS_H
#define LV_SEMA_IMPORTS_H

#include "driver/compiler.h"
#include "syntax/ast.h"

typedef struct SourceFile SourceFile;

struct SourceFile {
    const char *path;      // as shown, and as it stands in a bundle
    int32_t source;        // index into LvSources
    SyntaxTree *tree;
    bool loading;          // on the way from the root: met again, the imports are a cycle
    struct Import {
        Name name;
        SourceFile *file;
        const char *spelled;  // "nn", "dir/x.lv"
    } *imports;
    int import_count;
};

typedef struct {
    const Param *param;
    struct Val *value;     // after config and settings; NULL: its default, evaluated with the others
    const char *origin;    // "--set", "config tiny"; NULL
} ModelSetting;

struct LvModel {
    LvArena *arena;
    LV_VEC(SourceFile *) files;  // [0] is the model's; the prelude is loaded for every program
    SourceFile *root, *prelude;
    const Item *item;
    const char *config;
    const LvBundledSource *bundle;  // where files come from, NULL: the file system
    int bundle_count;
    ModelSetting *settings;      // one a parameter
    LvModelParameter *parameters;
    LvModelEntry *entries;
    int entry_count;
    const char **configs;
    int config_count;
    LvBundledSource *sources;
    int source_count;
};

// Reads and parses `path` and all that it imports. False: errors are in the diagnostics, or the file cannot be read.
bool imports_load(LvModel *model, const char *path, LvDiagnostics *diagnostics, LvError *error);
const Item *file_find(const SourceFile *file, const char *name);  // module, fn, const or model of that name; NULL

#endif
