// Opens what the user named, and reads one sample of it.
#include "data/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/text.h"
#include "data/fake.h"
#include "data/index.h"

enum { NAMED = 3 };  // samples that a warning about many names

void index_warn(LvDataset *dataset, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lv_vec_push(&dataset->warnings, lv_arena_vprintf(dataset->arena, format, args));
    va_end(args);
}

// ---- the kinds of source

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

static const char *folder_of(LvDataset *dataset, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return ".";
    return slash == path ? "/" : lv_arena_copy(dataset->arena, path, (size_t)(slash - path));
}

static bool open_fake(LvDataset *dataset, const char *count, LvError *error) {
    char *end;
    errno = 0;
    unsigned long long samples = strtoull(count, &end, 10);
    if (end == count || *end || errno || *count == '-' || samples < 1 || samples > 100000000) {
        return lv_error_set(error, LV_ERROR_USAGE, "fake:%s: a number of pictures from 1 to 100000000 is needed", count);
    }
    dataset->source = SOURCE_FAKE;
    dataset->captions = true;
    for (unsigned long long i = 0; i < samples; i++) {
        lv_vec_push(&dataset->samples, (Sample){.name = lv_arena_printf(dataset->arena, "fake/%llu.png", i), .offset = i, .shard = -1});
    }
    return true;
}

// "x-{000..012}.tar": the numbers keep the first one's width.
static bool open_braces(LvDataset *dataset, const char *spec, LvError *error) {
    const char *open = strchr(spec, '{'), *dots = strstr(open, ".."), *close = strchr(open, '}');
    char *end = NULL, *stop = NULL;
    long from = strtol(open + 1, &end, 10), to = dots ? strtol(dots + 2, &stop, 10) : 0;
    if (!dots || !close || end != dots || stop != close || from < 0 || to < from || to - from >= 100000) {
        return lv_error_set(error, LV_ERROR_USAGE, "%s: shards are written as name-{000..012}.tar", spec);
    }
    LV_VEC(const char *) paths = {0};
    int width = (int)(dots - open - 1);
    for (long i = from; i <= to; i++) {
        lv_vec_push(&paths, lv_arena_printf(dataset->arena, "%.*s%0*ld%s", (int)(open - spec), spec, width, i, close + 1));
    }
    dataset->source = SOURCE_SHARDS;
    bool good = index_shards(dataset, paths.data, paths.count, error);
    lv_vec_free(&paths);
    return good;
}

static bool open_folder(LvDataset *dataset, const char *path, LvError *error) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    if (dataset->source != SOURCE_TEXT) dataset->source = SOURCE_FOLDER;
    dataset->root = lv_arena_copy(dataset->arena, path, length);
    if (!index_folder(dataset, error)) return false;
    if (dataset->samples.count) return true;
    const char **shards;
    size_t count = folder_shards(dataset, dataset->root, &shards);
    if (!count) {
        free(shards);
        lv_error_set(error, LV_ERROR_IO, "no pictures under %s", path);
        return lv_error_hint(error, "there are .tar shards further down: name the folder that holds them");
    }
    dataset->source = SOURCE_SHARDS;
    bool good = index_shards(dataset, shards, count, error);
    free(shards);
    return good;
}

static bool open_file(LvDataset *dataset, const char *path, const char *pictures, LvError *error) {
    dataset->root = pictures ? lv_arena_strdup(dataset->arena, pictures) : folder_of(dataset, path);
    if (ends_with(path, ".tar") || ends_with(path, ".tgz") || ends_with(path, ".tar.gz")) {
        dataset->source = SOURCE_SHARDS;
        return index_shards(dataset, &path, 1, error);
    }
    dataset->source = SOURCE_LIST;
    if (ends_with(path, ".json")) return index_coco(dataset, path, error);
    if (ends_with(path, ".tsv") || ends_with(path, ".txt")) return index_tsv(dataset, path, error);
    if (lv_picture_known_suffix(path)) {
        const char *slash = strrchr(path, '/');
        lv_vec_push(&dataset->samples, (Sample){.name = lv_arena_strdup(dataset->arena, slash ? slash + 1 : path), .shard = -1});
        return true;
    }
    lv_error_set(error, LV_ERROR_USAGE, "%s: is no data set", path);
    return lv_error_hint(error, "a folder of pictures, .tar shards, a .tsv list or COCO's caption .json is needed");
}

// "no such folder", with the nearest name that is there.
static bool say_missing(const char *path, LvError *error) {
    char *copy = lv_strdup(path);
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/') copy[--length] = 0;
    char *slash = strrchr(copy, '/');
    const char *folder = !slash ? "." : slash == copy ? "/" : copy, *base = slash ? slash + 1 : copy;
    LV_VEC(const char *) names = {0};
    if (slash && slash != copy) *slash = 0;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_name[0] != '.') lv_vec_push(&names, lv_strdup(entry->d_name));
    }
    const char *near = entries ? lv_nearest_name(base, names.data, names.count) : NULL;
    lv_error_set(error, LV_ERROR_IO, "no such file or folder: %s", path);
    if (!entries) lv_error_hint(error, "%s is not there either", folder);
    else if (near) lv_error_hint(error, "did you mean %s%s%s?", slash ? folder : "", slash && strcmp(folder, "/") ? "/" : "", near);
    else lv_error_hint(error, "paths are relative to the folder that the command runs in; fake:1000 needs no files");
    if (entries) closedir(entries);
    for (size_t i = 0; i < names.count; i++) free((char *)names.data[i]);
    lv_vec_free(&names);
    free(copy);
    return false;
}

static bool open_path(LvDataset *dataset, const char *spec, LvError *error) {
    struct stat status;
    if (!stat(spec, &status)) {
        if (S_ISDIR(status.st_mode)) return open_folder(dataset, spec, error);
        if (S_ISREG(status.st_mode)) return open_file(dataset, spec, NULL, error);
        return lv_error_set(error, LV_ERROR_IO, "%s: is neither a file nor a folder", spec);
    }
    int number = errno;
    const char *colon = strrchr(spec, ':');  // CAPTIONS.json:DIR
    if (colon) {
        const char *file = lv_arena_copy(dataset->arena, spec, (size_t)(colon - spec));
        if (!stat(file, &status) && S_ISREG(status.st_mode)) return open_file(dataset, file, colon + 1, error);
    }
    if (strchr(spec, '{')) return open_braces(dataset, spec, error);
    errno = number;
    return number == ENOENT || number == ENOTDIR ? say_missing(spec, error) : lv_error_system(error, "%s", spec);
}

// "PATH" or "PATH:0-90%".
static bool open_text(LvDataset *dataset, const char *spec, LvError *error) {
    const char *colon = strrchr(spec, ':');
    struct stat status;
    int from, to, end = 0;
    dataset->source = SOURCE_TEXT;
    dataset->from = 0, dataset->to = 100;
    if (colon && sscanf(colon, ":%3d-%3d%%%n", &from, &to, &end) == 2 && end && !colon[end]) {
        if (from < 0 || to > 100 || from >= to) {
            lv_error_set(error, LV_ERROR_USAGE, "text:%s: a part of the text is written as 0-90%%", spec);
            return lv_error_hint(error, "text:PATH:0-90%% to train with and text:PATH:90-100%% to validate with, say");
        }
        dataset->from = from, dataset->to = to;
        spec = lv_arena_copy(dataset->arena, spec, (size_t)(colon - spec));
    }
    if (stat(spec, &status)) {
        return errno == ENOENT || errno == ENOTDIR ? say_missing(spec, error) : lv_error_system(error, "%s", spec);
    }
    if (S_ISDIR(status.st_mode)) return open_folder(dataset, spec, error);
    dataset->root = folder_of(dataset, spec);
    return index_text(dataset, spec, error);
}

static void take_fingerprint(LvDataset *dataset) {
    dataset->fingerprint = 0;
    for (size_t i = 0; i < dataset->samples.count; i++) {
        const char *name = dataset->samples.data[i].name;
        dataset->fingerprint = XXH64(name, strlen(name) + 1, dataset->fingerprint);
    }
}

bool lv_dataset_open(LvDataset **out, const char *spec, LvError *error) {
    LvDataset *dataset = lv_calloc(1, sizeof *dataset);
    LvError none = {0};
    if (!error) error = &none;
    *out = NULL;
    dataset->arena = lv_arena_create();
    dataset->spec = lv_arena_strdup(dataset->arena, spec);
    bool good = !strncmp(spec, "fake:", 5)   ? open_fake(dataset, spec + 5, error)
                : !strncmp(spec, "text:", 5) ? open_text(dataset, spec + 5, error)
                                             : open_path(dataset, spec, error);
    if (!good) {
        lv_dataset_close(dataset);
        lv_error_clear(&none);
        return false;
    }
    take_fingerprint(dataset);
    *out = dataset;
    return true;
}

void lv_dataset_close(LvDataset *dataset) {
    if (!dataset) return;
    for (size_t i = 0; i < dataset->shards.count; i++) {
        if (dataset->shards.data[i].fd >= 0) close(dataset->shards.data[i].fd);
    }
    lv_vec_free(&dataset->samples);
    lv_vec_free(&dataset->shards);
    lv_vec_free(&dataset->warnings);
    text_free(dataset);
    lv_arena_destroy(dataset->arena);
    free(dataset);
}

// ---- what is in it

size_t lv_dataset_count(const LvDataset *dataset) {
    return lv_dataset_is_text(dataset) ? (size_t)dataset->windows : dataset->samples.count;
}

const char *lv_dataset_spec(const LvDataset *dataset) { return dataset->spec; }

const char *lv_dataset_name(const LvDataset *dataset, size_t sample) {
    return lv_dataset_is_text(dataset) ? dataset->spec : dataset->samples.data[sample].name;
}

const char *lv_dataset_unit(const LvDataset *dataset) { return lv_dataset_is_text(dataset) ? "windows" : "pictures"; }
bool lv_dataset_is_text(const LvDataset *dataset) { return dataset->source == SOURCE_TEXT; }
bool lv_dataset_has_captions(const LvDataset *dataset) { return dataset->captions; }
uint64_t lv_dataset_fingerprint(const LvDataset *dataset) { return dataset->fingerprint; }
size_t lv_dataset_warnings(const LvDataset *dataset) { return dataset->warnings.count; }
const char *lv_dataset_warning(const LvDataset *dataset, size_t i) { return dataset->warnings.data[i]; }

const char *lv_dataset_class(const LvDataset *dataset, size_t sample, size_t *length) {
    const char *name = lv_dataset_name(dataset, sample), *slash = strchr(name, '/');
    *length = slash ? (size_t)(slash - name) : 0;
    return name;
}

static bool lacks_caption(const LvDataset *dataset, const Sample *sample) {
    return dataset->source != SOURCE_FAKE && !sample->caption_beside && !sample->caption;
}

size_t lv_dataset_need_captions(LvDataset *dataset) {
    LvText names = {0};
    size_t kept = 0, all = lv_dataset_is_text(dataset) ? 0 : dataset->samples.count;
    if (!all) return 0;
    for (size_t i = 0; i < all; i++) {
        const Sample *sample = &dataset->samples.data[i];
        if (!lacks_caption(dataset, sample)) dataset->samples.data[kept++] = *sample;
        else if (i - kept < NAMED) lv_text_printf(&names, "%s'%s'", names.length ? ", " : "", sample->name);
    }
    dataset->samples.count = kept;
    if (kept == all) return 0;
    index_warn(dataset, "%zu of %zu pictures have no caption and are left out: %s%s", all - kept, all, names.data,
               all - kept > NAMED ? ", ..." : "");
    lv_text_free(&names);
    take_fingerprint(dataset);
    return all - kept;
}

char *sample_path(const LvDataset *dataset, const char *name) {
    bool bare = name[0] == '/' || !dataset->root;
    size_t size = strlen(name) + (bare ? 0 : strlen(dataset->root)) + 2;
    char *path = lv_malloc(size);
    snprintf(path, size, "%s%s%s", bare ? "" : dataset->root, bare ? "" : "/", name);
    return path;
}

// Messages do not repeat the sample's name: the caller has it.
bool lv_dataset_picture(const LvDataset *dataset, size_t number, LvPicture *picture, LvError *error) {
    const Sample *sample = &dataset->samples.data[number];
    *picture = (LvPicture){0};
    if (dataset->source == SOURCE_TEXT) return lv_error_set(error, LV_ERROR_FORMAT, "is text, no picture");
    if (dataset->source == SOURCE_FAKE) return fake_picture(sample->offset, picture, error);
    char *bytes, *path = NULL;
    size_t length = (size_t)sample->size;
    bool good;
    if (dataset->source == SOURCE_SHARDS) {
        good = shard_read(dataset, sample->shard, sample->offset, sample->size, &bytes, error);
    } else {
        path = sample_path(dataset, sample->name);
        good = lv_file_read(path, LV_PICTURE_MAX_FILE, &bytes, &length, error);
        free(path);
    }
    if (!good) return false;
    good = lv_picture_decode(picture, bytes, length, error);
    free(bytes);
    return good;
}

uint64_t lv_dataset_signature(const LvDataset *dataset) {
    uint64_t hash = dataset->fingerprint;
    int32_t shard = -1;
    for (size_t i = 0; i < dataset->samples.count; i++) {
        const Sample *sample = &dataset->samples.data[i];
        struct stat info;
        uint64_t words[4] = {sample->offset, sample->size, 0, 0};
        bool inside = dataset->source == SOURCE_SHARDS;
        if (dataset->source == SOURCE_FAKE || (inside && sample->shard == shard)) {
            hash = XXH64(words, sizeof words, hash);
            continue;
        }
        char *path = inside ? lv_strdup(dataset->shards.data[sample->shard].path) : sample_path(dataset, sample->name);
        if (stat(path, &info) == 0) {
            words[2] = (uint64_t)info.st_size;
            words[3] = (uint64_t)info.st_mtim.tv_sec * 1000000000u + (uint64_t)info.st_mtim.tv_nsec;
        }
        free(path);
        shard = sample->shard;
        hash = XXH64(words, sizeof words, hash);
    }
    return hash;
}

// Trims each line, drops empty ones, in place.
static void tidy_lines(char *text) {
    char *out = text, *save = NULL;
    if (!strncmp(text, "\xEF\xBB\xBF", 3)) memmove(text, text + 3, strlen(text + 3) + 1);  // the mark of some editors
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        line += strspn(line, " \t");
        size_t length = strlen(line);
        while (length && strchr(" \t", line[length - 1])) length--;
        if (!length) continue;
        if (out != text) *out++ = '\n';
        memmove(out, line, length);
        out += length;
    }
    *out = 0;
}

bool lv_dataset_captions(const LvDataset *dataset, size_t number, char **text, LvError *error) {
    const Sample *sample = &dataset->samples.data[number];
    size_t length;
    *text = NULL;
    if (dataset->source == SOURCE_FAKE) {
        if (asprintf(text, "a made-up picture, number %llu", (unsigned long long)sample->offset) < 0) *text = NULL;
        return *text ? true : lv_error_set(error, LV_ERROR_MEMORY, "no memory for a caption");
    }
    if (!sample->caption_beside) {
        *text = lv_strdup(sample->caption ? sample->caption : "");
    } else if (dataset->source == SOURCE_SHARDS) {
        if (!shard_read(dataset, sample->shard, sample->caption_offset, sample->caption_size, text, error)) return false;
    } else {
        char *path = sample_path(dataset, sample->name);
        strcpy(strrchr(path, '.'), ".txt");  // no suffix that is read is shorter
        bool good = lv_file_read(path, MAX_CAPTION_FILE, text, &length, error);
        free(path);
        if (!good) return false;
    }
    tidy_lines(*text);
    return true;
}
