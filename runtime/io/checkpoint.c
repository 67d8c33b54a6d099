// Checkpoints: see checkpoint.h. Writing is safetensors' (temporary name, sync, rename); here are hash, choice and pruning.
#include "io/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/vec.h"

enum { PIECE = 8 << 20 };
enum { MAX_COPY = 256 << 20 };  // larger files get a second name rather than a second copy: disks and time

bool lv_checkpoint_carries(const char *name) {
    return !strncmp(name, LV_CHECKPOINT_VAE_PREFIX, strlen(LV_CHECKPOINT_VAE_PREFIX));
}

static void hash_text(XXH3_state_t *state, const char *text) {
    XXH3_128bits_update(state, text, strlen(text) + 1);
}

// `file`: what the tensor lies in, if a file; no more of it than a piece is kept in memory.
static void hash_tensor(XXH3_state_t *state, const LvTensor *tensor, const LvTensorFile *file) {
    hash_text(state, tensor->name);
    hash_text(state, lv_dtype_name(tensor->dtype));
    int64_t rank = tensor->shape.rank;
    XXH3_128bits_update(state, &rank, sizeof rank);
    XXH3_128bits_update(state, tensor->shape.dim, (size_t)rank * sizeof *tensor->shape.dim);
    for (size_t at = 0; at < tensor->bytes; at += PIECE) {
        size_t left = tensor->bytes - at;
        XXH3_128bits_update(state, (const char *)tensor->data + at, left < PIECE ? left : PIECE);
        if (file) lv_safetensors_leave(file);
    }
}

static void finish_hash(XXH3_state_t *state, char out[33]) {
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    XXH3_freeState(state);
}

static const char *const hashed[] = {"lverse.version", "lverse.model", "lverse.train"};
enum { HASHED = sizeof hashed / sizeof *hashed };

static void hash_metadata(XXH3_state_t *state, const char *value) {
    hash_text(state, value ? value : "\x01");
}

// Came later than the three above, and only some checkpoints have them: hashed with their names, where they are there.
static const char *const hashed_if_there[] = {LV_CHECKPOINT_TOKENIZER, LV_CHECKPOINT_VAE};
enum { HASHED_IF_THERE = sizeof hashed_if_there / sizeof *hashed_if_there };

static void hash_if_there(XXH3_state_t *state, const char *key, const char *value) {
    if (!value) return;
    hash_text(state, key);
    hash_text(state, value);
}

static const char *value_of(const LvMetadata *metadata, size_t count, const char *key) {
    const char *value = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(metadata[i].key, key)) value = metadata[i].value;
    }
    return value;
}

bool lv_checkpoint_write(const char *path, const LvTensor *tensors, int count, const LvMetadata *metadata, int metadata_count,
                         LvError *error) {
    char hash[33];
    XXH3_state_t *state = XXH3_createState();
    LV_VEC(LvMetadata) all = {0};
    XXH3_128bits_reset(state);
    lv_vec_push(&all, (LvMetadata){"lverse.version", "1"});
    for (int i = 0; i < metadata_count; i++) lv_vec_push(&all, metadata[i]);
    for (int h = 0; h < HASHED; h++) hash_metadata(state, value_of(all.data, all.count, hashed[h]));
    for (int h = 0; h < HASHED_IF_THERE; h++)
        hash_if_there(state, hashed_if_there[h], value_of(all.data, all.count, hashed_if_there[h]));
    for (int i = 0; i < count; i++) hash_tensor(state, &tensors[i], NULL);
    finish_hash(state, hash);
    lv_vec_push(&all, (LvMetadata){"lverse.hash", hash});
    bool good = lv_safetensors_write(path, tensors, count, all.data, (int)all.count, error);
    lv_vec_free(&all);
    return good;
}

static bool check(const LvTensorFile *file, bool any, LvError *error) {
    const char *want = lv_safetensors_metadata(file, "lverse.hash"), *version = lv_safetensors_metadata(file, "lverse.version");
    if (!want && any) return true;
    if (!want) return lv_error_set(error, LV_ERROR_FORMAT, "no checkpoint: it has no hash");
    if (!version || strcmp(version, "1")) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the checkpoint has version '%s'; this program reads version 1",
                     version ? version : "");
        return lv_error_hint(error, "a newer lvrun reads it");
    }
    char hash[33];
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    for (int h = 0; h < HASHED; h++) hash_metadata(state, lv_safetensors_metadata(file, hashed[h]));
    for (int h = 0; h < HASHED_IF_THERE; h++)
        hash_if_there(state, hashed_if_there[h], lv_safetensors_metadata(file, hashed_if_there[h]));
    for (int i = 0; i < lv_safetensors_count(file); i++) hash_tensor(state, lv_safetensors_at(file, i), file);
    finish_hash(state, hash);
    return !strcmp(hash, want) ||
           lv_error_set(error, LV_ERROR_FORMAT, "the checkpoint has been altered: its content does not fit its hash");
}

bool lv_checkpoint_read(const char *path, bool any, LvTensorFile **file, LvError *error) {
    *file = NULL;
    if (!lv_safetensors_read(path, file, error)) return false;
    if (check(*file, any, error)) return true;
    lv_error_prefix(error, "%s", path);
    lv_safetensors_free(*file);
    *file = NULL;
    return false;
}

// N of "step-N.safetensors", -1 for any other name.
static long long step_of(const char *name) {
    long long step;
    int end = 0;
    if (sscanf(name, "step-%lld.safetensors%n", &step, &end) != 1 || end == 0 || name[end] || step < 0) return -1;
    return step;
}

static int newest_first(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x < y) - (x > y);
}

typedef LV_VEC(long long) Steps;

static Steps list_steps(const char *folder) {
    Steps steps = {0};
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        long long step = step_of(entry->d_name);
        if (step >= 0) lv_vec_push(&steps, step);
    }
    if (dir) closedir(dir);
    if (steps.count) qsort(steps.data, steps.count, sizeof *steps.data, newest_first);
    return steps;
}

// Reads one candidate; what is wrong with it goes to `refused`.
static LvTensorFile *try_file(const char *path, LvText *refused) {
    LvTensorFile *file = NULL;
    LvError error = {0};
    if (access(path, F_OK) != 0) return NULL;
    if (!lv_checkpoint_read(path, false, &file, &error)) {
        lv_text_printf(refused, "%s\n", error.message ? error.message : path);
        lv_error_clear(&error);
    }
    return file;
}

bool lv_checkpoint_find(const char *folder, LvTensorFile **file, LvText *path, LvText *refused, LvError *error) {
    Steps steps = list_steps(folder);
    path->length = 0;
    lv_text_printf(path, "%s/last.safetensors", folder);
    *file = try_file(path->data, refused);
    for (size_t i = 0; !*file && i < steps.count; i++) {
        path->length = 0;
        lv_text_printf(path, "%s/step-%lld.safetensors", folder, steps.data[i]);
        *file = try_file(path->data, refused);
    }
    lv_vec_free(&steps);
    if (*file || refused->length == 0) return true;
    lv_error_set(error, LV_ERROR_FORMAT, "no checkpoint in '%s' is whole: %.*s", folder,
                 (int)strcspn(refused->data, "\n"), refused->data);
    return lv_error_hint(error, "--fresh starts the run anew; --out names another folder");
}

void lv_checkpoint_prune(const char *folder, int keep) {
    Steps steps = list_steps(folder);
    LvText path = {0};
    for (size_t i = (size_t)(keep > 0 ? keep : 1); i < steps.count; i++) {
        path.length = 0;
        lv_text_printf(&path, "%s/step-%lld.safetensors", folder, steps.data[i]);
        unlink(path.data);
    }
    lv_vec_free(&steps);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (!strstr(entry->d_name, ".safetensors.tmp")) continue;
        path.length = 0;
        lv_text_printf(&path, "%s/%s", folder, entry->d_name);
        unlink(path.data);
    }
    if (dir) closedir(dir);
    lv_text_free(&path);
}

static bool copy_file(const char *from, const char *to, LvError *error) {
    char *data;
    size_t length;
    if (!lv_file_read(from, (size_t)1 << 40, &data, &length, error)) return false;
    bool good = lv_file_write(to, data, length, error);
    free(data);
    return good;
}

bool lv_checkpoint_link(const char *from, const char *to, LvError *error) {
    struct stat info;
    if (stat(from, &info) == 0 && info.st_size <= MAX_COPY) return copy_file(from, to, error);
    LvText temporary = {0};
    lv_text_printf(&temporary, "%s.tmp.%ld", to, (long)getpid());
    unlink(temporary.data);
    bool linked = link(from, temporary.data) == 0;
    // rename does nothing when both names are one file already, and leaves the temporary one
    bool good = linked ? rename(temporary.data, to) == 0 || lv_error_system(error, "cannot write '%s'", to)
                       : copy_file(from, to, error);
    if (linked) unlink(temporary.data);
    lv_text_free(&temporary);
    return good;
}
