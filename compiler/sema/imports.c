// Which files a program is made of: `import nn` is nn.lv beside the importing file, else in the standard library.
// In a bundle (an artifact, a checkpoint) the same paths are looked up among its sources.
#include "sema/imports.h"

#include <libgen.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_FILES = 200, MAX_FILE_BYTES = 4 << 20 };

static bool exists(const char *path) { return access(path, R_OK) == 0; }

// Folders that may hold the standard library, most wanted first.
static const char *stdlib_folder(LvArena *arena) {
    const char *home = getenv("LV_HOME");
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (home) {
        const char *folder = lv_arena_printf(arena, "%s/stdlib", home);
        if (exists(lv_arena_printf(arena, "%s/prelude.lv", folder))) return folder;
    }
    if (length > 0) {
        program[length] = 0;
        const char *bin = dirname(program);
        static const char *const places[] = {"../share/lverse/stdlib", "../../../stdlib", "../../../../stdlib"};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            const char *folder = lv_arena_printf(arena, "%s/%s", bin, places[i]);
            char *real = realpath(folder, NULL);
            if (!real) continue;
            folder = lv_arena_strdup(arena, real);
            free(real);
            if (exists(lv_arena_printf(arena, "%s/prelude.lv", folder))) return folder;
        }
    }
    return "stdlib";
}

static const char *folder_of(LvArena *arena, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? lv_arena_copy(arena, path, (size_t)(slash - path)) : NULL;
}

static const char *beside(LvArena *arena, const char *importer, const char *name) {
    const char *folder = folder_of(arena, importer);
    return folder ? lv_arena_printf(arena, "%s/%s", folder, name) : name;
}

// "a/./b/../c" as "a/c": one file has one name, however it is reached. Leading ".." stay; symbolic links are not looked at.
static const char *tidy(LvArena *arena, const char *path) {
    char *out = lv_arena_alloc(arena, strlen(path) + 2);
    size_t length = 0;
    int names = 0;  // parts in `out` that a ".." may take back
    bool absolute = path[0] == '/';
    if (absolute) out[length++] = '/';
    for (const char *at = path; *at;) {
        size_t part = strcspn(at, "/");
        bool dots = part == 2 && at[0] == '.' && at[1] == '.';
        if (dots && names > 0) {
            while (length && out[length - 1] != '/') length--;
            if (length > (size_t)absolute) length--;
            names--;
        } else if (part && !(part == 1 && at[0] == '.') && !(dots && absolute)) {
            if (length && out[length - 1] != '/') out[length++] = '/';
            memcpy(out + length, at, part);
            length += part;
            names += !dots;
        }
        at += part + (at[part] == '/');
    }
    out[length] = 0;
    return out;
}

static const LvBundledSource *bundled(const LvModel *model, const char *path) {
    for (int i = 0; i < model->bundle_count; i++)
        if (!strcmp(model->bundle[i].path, path)) return &model->bundle[i];
    return NULL;
}

// A standard library file is called "stdlib/NAME" wherever it lies, so that artifacts do not depend on the machine.
typedef struct {
    const char *shown, *real;
} Place;

static bool find_file(LvModel *model, const char *importer, const char *name, Place *place) {
    const char *near = importer ? tidy(model->arena, beside(model->arena, importer, name)) : NULL;
    const char *library = lv_arena_printf(model->arena, "stdlib/%s", name);
    if (model->bundle) {
        place->real = NULL;
        place->shown = near && bundled(model, near) ? near : library;
        return bundled(model, place->shown) != NULL;
    }
    if (near && importer && strncmp(importer, "stdlib/", 7) != 0 && exists(near)) {
        *place = (Place){near, near};
        return true;
    }
    *place = (Place){library, lv_arena_printf(model->arena, "%s/%s", stdlib_folder(model->arena), name)};
    return exists(place->real);
}

static SourceFile *file_loaded(const LvModel *model, const char *path) {
    for (size_t i = 0; i < model->files.count; i++)
        if (!strcmp(model->files.data[i]->path, path)) return model->files.data[i];
    return NULL;
}

static SourceFile *load(LvModel *model, Place place, LvDiagnostics *diagnostics, LvError *error);

static void import_one(LvModel *model, SourceFile *file, const Item *item, LvDiagnostics *diagnostics) {
    struct Import *import = &file->imports[file->import_count];
    const char *name = item->path ? item->path : lv_arena_printf(model->arena, "%s.lv", item->name.text);
    Place place;
    if (!find_file(model, file->path, name, &place)) {
        lv_report(diagnostics, LV_SEVERE, item->span, "there is no '%s' beside this file or in the standard library", name);
        return;
    }
    SourceFile *found = file_loaded(model, place.shown);
    if (found && found->loading) {
        lv_report(diagnostics, LV_SEVERE, item->span, "'%s' imports itself, directly or through others", found->path);
        return;
    }
    LvError error = {0};
    if (!found) found = load(model, place, diagnostics, &error);
    if (!found) {
        lv_report(diagnostics, LV_SEVERE, item->span, "%s", error.message ? error.message : "the file cannot be read");
        lv_error_clear(&error);
        return;
    }
    *import = (struct Import){item->name, found, item->path ? item->path : item->name.text};
    file->import_count++;
}

static SourceFile *load(LvModel *model, Place place, LvDiagnostics *diagnostics, LvError *error) {
    if (model->files.count >= MAX_FILES) {
        lv_error_set(error, LV_ERROR_SOURCE, "more than %d files are imported", MAX_FILES);
        return NULL;
    }
    char *text = NULL;
    size_t length = 0;
    const LvBundledSource *source = model->bundle ? bundled(model, place.shown) : NULL;
    if (model->bundle && !source) {
        lv_error_set(error, LV_ERROR_FORMAT, "the bundle of sources lacks '%s'", place.shown);
        return NULL;
    }
    if (source) length = strlen(source->text);
    else if (!lv_file_read(place.real, MAX_FILE_BYTES, &text, &length, error)) return NULL;
    SourceFile *file = LV_NEW(model->arena, SourceFile);
    file->path = lv_arena_strdup(model->arena, place.shown);
    file->source = lv_sources_add(diagnostics->sources, place.shown, source ? source->text : text, length);
    free(text);
    lv_vec_push(&model->files, file);
    file->loading = true;
    file->tree = syntax_parse(file->source, model->arena, diagnostics);
    file->imports = LV_NEW_ARRAY(model->arena, struct Import, file->tree->items.count + 1);
    for (int i = 0; i < file->tree->items.count; i++)
        if (file->tree->items.data[i]->kind == ITEM_IMPORT) import_one(model, file, file->tree->items.data[i], diagnostics);
    file->loading = false;
    return file;
}

bool imports_load(LvModel *model, const char *path, LvDiagnostics *diagnostics, LvError *error) {
    if (!model->bundle) path = tidy(model->arena, path);
    Place root = {path, path}, prelude;
    model->root = load(model, root, diagnostics, error);
    if (!model->root) return false;
    if (!find_file(model, NULL, "prelude.lv", &prelude)) {
        lv_error_set(error, LV_ERROR_IO, "the standard library is not to be found");
        return lv_error_hint(error, "set LV_HOME to the folder that holds stdlib/");
    }
    model->prelude = file_loaded(model, prelude.shown);
    if (!model->prelude) model->prelude = load(model, prelude, diagnostics, error);
    return model->prelude != NULL;
}

const Item *file_find(const SourceFile *file, const char *name) {
    for (int i = 0; i < file->tree->items.count; i++) {
        const Item *item = file->tree->items.data[i];
        bool named = item->kind == ITEM_MODULE || item->kind == ITEM_FN || item->kind == ITEM_CONST || item->kind == ITEM_MODEL;
        if (named && !strcmp(item->name.text, name)) return item;
    }
    return NULL;
}
