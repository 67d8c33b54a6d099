// Pictures, or texts, under a folder, any depth, links followed, sorted as Python sorts paths (component by component, by bytes).
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/text.h"
#include "data/index.h"

enum { MAX_DEPTH = 64 };  // deeper is a loop of links that device and inode did not show

typedef struct {
    char *name;
    unsigned char type;
} Entry;

typedef LV_VEC(Entry) Entries;

typedef struct {
    dev_t device;
    ino_t inode;
} Place;

typedef struct {
    LvDataset *dataset;
    LvText path;        // root / relative
    size_t root;        // length of root and its slash
    Place above[MAX_DEPTH];
    size_t others, shards;  // files that are no picture and no caption
    char other[64];     // the first such suffix, for the hint
} Walk;

static int by_name(const void *a, const void *b) { return strcmp(((const Entry *)a)->name, ((const Entry *)b)->name); }

static bool list_folder(Walk *walk, Entries *entries) {
    const char *path = lv_text_get(&walk->path);
    DIR *folder = opendir(*path ? path : ".");
    if (!folder) return index_warn(walk->dataset, "%s: %s", path, strerror(errno)), false;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] != '.') lv_vec_push(entries, (Entry){lv_strdup(entry->d_name), entry->d_type});
    }
    closedir(folder);
    if (entries->count) qsort(entries->data, entries->count, sizeof *entries->data, by_name);
    return true;
}

static bool is_shard(const char *name) {
    size_t length = strlen(name);
    return (length > 4 && !strcasecmp(name + length - 4, ".tar")) || (length > 4 && !strcasecmp(name + length - 4, ".tgz")) ||
           (length > 7 && !strcasecmp(name + length - 7, ".tar.gz"));
}

static bool has_caption(const Entries *entries, const char *picture) {
    size_t stem = (size_t)(strrchr(picture, '.') - picture);
    char *name = lv_malloc(stem + 5);
    memcpy(name, picture, stem);
    memcpy(name + stem, ".txt", 5);
    Entry key = {name, 0};
    bool found = bsearch(&key, entries->data, entries->count, sizeof key, by_name) != NULL;
    free(name);
    return found;
}

static void walk_folder(Walk *walk, int depth);

static void visit(Walk *walk, const Entries *entries, const Entry *entry, int depth) {
    LvDataset *dataset = walk->dataset;
    bool folder = entry->type == DT_DIR, file = entry->type == DT_REG;
    struct stat status;
    if (!folder && !file) {  // a link, or a file system that does not tell
        if (stat(lv_text_get(&walk->path), &status)) {
            if (lv_picture_known_suffix(entry->name)) index_warn(dataset, "%s: %s", lv_text_get(&walk->path), strerror(errno));
            return;
        }
        folder = S_ISDIR(status.st_mode), file = S_ISREG(status.st_mode);
    }
    if (folder) {
        walk_folder(walk, depth + 1);
    } else if (file && dataset->source == SOURCE_TEXT) {
        const char *path = lv_text_get(&walk->path);
        if (!text_is_text(dataset, path)) walk->others++;
        else lv_vec_push(&dataset->samples, (Sample){.name = lv_arena_strdup(dataset->arena, path + walk->root), .shard = -1});
    } else if (file && lv_picture_known_suffix(entry->name)) {
        Sample sample = {.name = lv_arena_strdup(dataset->arena, lv_text_get(&walk->path) + walk->root), .shard = -1};
        sample.caption_beside = has_caption(entries, entry->name);
        dataset->captions |= sample.caption_beside;
        lv_vec_push(&dataset->samples, sample);
    } else if (file) {
        const char *dot = strrchr(entry->name, '.');
        walk->shards += is_shard(entry->name);
        if (!dot || strcasecmp(dot, ".txt")) {
            walk->others++;
            if (dot && !walk->other[0] && strlen(dot) < sizeof walk->other) strcpy(walk->other, dot);
        }
    }
}

static bool enter(Walk *walk, int depth) {
    struct stat status;
    const char *path = lv_text_get(&walk->path);
    if (stat(*path ? path : ".", &status)) return index_warn(walk->dataset, "%s: %s", path, strerror(errno)), false;
    for (int i = 0; i < depth; i++) {
        if (walk->above[i].device != status.st_dev || walk->above[i].inode != status.st_ino) continue;
        return index_warn(walk->dataset, "%s: a link to a folder above it; not followed", path), false;
    }
    walk->above[depth] = (Place){status.st_dev, status.st_ino};
    return true;
}

static void walk_folder(Walk *walk, int depth) {
    Entries entries = {0};
    if (depth >= MAX_DEPTH) {
        index_warn(walk->dataset, "%s: more than %d folders deep; not followed", lv_text_get(&walk->path), MAX_DEPTH);
        return;
    }
    size_t length = walk->path.length;
    if (!enter(walk, depth) || !list_folder(walk, &entries)) return;
    for (size_t i = 0; i < entries.count; i++) {
        if (length && walk->path.data[length - 1] != '/') lv_text_putc(&walk->path, '/');
        lv_text_puts(&walk->path, entries.data[i].name);
        visit(walk, &entries, &entries.data[i], depth);
        walk->path.length = length;
        walk->path.data[length] = 0;
    }
    for (size_t i = 0; i < entries.count; i++) free(entries.data[i].name);
    lv_vec_free(&entries);
}

static bool say_empty(const Walk *walk, LvError *error) {
    if (walk->dataset->source == SOURCE_TEXT) {
        lv_error_set(error, LV_ERROR_IO, "no text under %s", walk->dataset->root);
        if (!walk->others) return lv_error_hint(error, "the folder is empty, or all in it is hidden");
        return lv_error_hint(error, "it holds %zu file%s, none of UTF-8 without zero bytes; what is hidden is not looked at",
                             walk->others, walk->others == 1 ? "" : "s");
    }
    lv_error_set(error, LV_ERROR_IO, "no pictures under %s", walk->dataset->root);
    if (!walk->others) return lv_error_hint(error, "the folder is empty; .png .jpg .webp .bmp .ppm at any depth, or .tar shards, are read");
    return lv_error_hint(error, "it holds %zu other file%s (%s ...); .png .jpg .webp .bmp .ppm at any depth, or .tar shards, are read",
                         walk->others, walk->others == 1 ? "" : "s", walk->other[0] ? walk->other : "no suffix");
}

bool index_folder(LvDataset *dataset, LvError *error) {
    Walk walk = {.dataset = dataset};
    lv_text_puts(&walk.path, dataset->root);
    walk.root = walk.path.length + (walk.path.length && walk.path.data[walk.path.length - 1] != '/');
    walk_folder(&walk, 0);
    lv_text_free(&walk.path);
    if (dataset->samples.count || walk.shards) return true;
    if (dataset->warnings.count) return lv_error_set(error, LV_ERROR_IO, "no pictures under %s (%s)", dataset->root, dataset->warnings.data[0]);
    return say_empty(&walk, error);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

size_t folder_shards(LvDataset *dataset, const char *folder, const char ***paths) {
    LV_VEC(const char *) found = {0};
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_name[0] != '.' && is_shard(entry->d_name)) {
            lv_vec_push(&found, lv_arena_printf(dataset->arena, "%s/%s", folder, entry->d_name));
        }
    }
    if (entries) closedir(entries);
    if (found.count) qsort(found.data, found.count, sizeof *found.data, by_text);
    *paths = found.data;
    return found.count;
}
