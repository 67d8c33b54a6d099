// The user's cache: files named by the hash of all that they were made from, written under a temporary name and renamed,
// closed by a footer with length and hash. Whatever fails the check counts as absent; nothing here is ever an error.
#include "io/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/arena.h"
#include "base/folder.h"
#include "base/text.h"
#include "base/vec.h"

typedef struct {
    char magic[8];
    uint64_t length, hash;
} Footer;

static const char footer_magic[8] = "LVCACHE1";
enum { MAX_CACHED = 1 << 28 };  // a shared object of 256 MB is no kernel of ours

static bool make_folders(char *path) {
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
        *p = '/';
        if (!ok) return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

char *lv_cache_open(void) {
    LvText path = {0};
    if (!lv_folder_cache(&path) || !make_folders(path.data) || access(path.data, W_OK | X_OK) != 0) {
        lv_text_free(&path);
        return NULL;
    }
    // Kernels are code: a folder that others may write to is not trusted.
    struct stat info;
    if (stat(path.data, &info) != 0 || (info.st_mode & S_IWOTH) ||
        (info.st_uid != geteuid() && info.st_uid != 0)) {
        lv_text_free(&path);
        return NULL;
    }
    return path.data;
}

void lv_cache_key(char key[33], const char *const *parts, int count) {
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    for (int i = 0; i < count; i++) {
        uint64_t length = strlen(parts[i]);
        XXH3_128bits_update(state, &length, sizeof length);
        XXH3_128bits_update(state, parts[i], length);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(key, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

// A file's time of change says when it was used last, to the hour: a start need not write what hardly changes.
static void mark_used(const char *path) {
    struct stat info;
    if (stat(path, &info) == 0 && time(NULL) - info.st_mtime > 3600) utimensat(AT_FDCWD, path, NULL, 0);
}

bool lv_cache_read(const char *path, char **data, size_t *length) {
    LvError error = {0};
    if (!lv_file_read(path, MAX_CACHED, data, length, &error)) {
        lv_error_clear(&error);
        return false;
    }
    Footer footer;
    bool good = *length >= sizeof footer;
    if (good) {
        *length -= sizeof footer;
        memcpy(&footer, *data + *length, sizeof footer);
        good = !memcmp(footer.magic, footer_magic, 8) && footer.length == *length &&
               footer.hash == XXH3_64bits(*data, *length);
    }
    if (good) {
        (*data)[*length] = 0;
        mark_used(path);
        return true;
    }
    free(*data);
    *data = NULL;
    return false;
}

bool lv_cache_verify(const char *path) {
    char *data;
    size_t length;
    if (!lv_cache_read(path, &data, &length)) return false;
    free(data);
    return true;
}

// Not synced: what a crash of the machine tears, the footer shows. `first`: a file that is there already stays.
static bool write_file(const char *path, const void *data, size_t length, bool first) {
    Footer footer = {.length = length, .hash = XXH3_64bits(data, length)};
    LvText temporary = {0};
    memcpy(footer.magic, footer_magic, 8);
    lv_text_printf(&temporary, "%s.tmp.%ld", path, (long)getpid());
    FILE *file = fopen(temporary.data, "we");
    bool good = file && fwrite(data, 1, length, file) == length && fwrite(&footer, sizeof footer, 1, file) == 1;
    if (file && fclose(file) != 0) good = false;
    if (first) good = good && link(temporary.data, path) == 0;
    else good = good && rename(temporary.data, path) == 0;
    if (file && (first || !good)) unlink(temporary.data);
    lv_text_free(&temporary);
    return good;
}

bool lv_cache_write(const char *path, const void *data, size_t length) {
    return write_file(path, data, length, false);
}

bool lv_cache_write_first(const char *path, const void *data, size_t length) {
    if (access(path, F_OK) == 0 && !lv_cache_verify(path)) unlink(path);
    return write_file(path, data, length, true);
}

typedef struct {
    char *name;
    int64_t size;
    struct timespec used;
} Cached;

typedef LV_VEC(Cached) CachedList;

static bool is_ours(const char *name) { return strspn(name, "0123456789abcdef") == 32 && name[32] == '.'; }

// What is cached in the folder; the sum of its bytes.
static int64_t list_cached(const char *folder, CachedList *list) {
    DIR *dir = opendir(folder);
    int64_t sum = 0;
    for (struct dirent *item; dir && (item = readdir(dir));) {
        struct stat info;
        if (!is_ours(item->d_name) || fstatat(dirfd(dir), item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!S_ISREG(info.st_mode)) continue;
        lv_vec_push(list, (Cached){.name = lv_strdup(item->d_name), .size = info.st_size, .used = info.st_mtim});
        sum += info.st_size;
    }
    if (dir) closedir(dir);
    return sum;
}

static void free_list(CachedList *list) {
    for (size_t i = 0; i < list->count; i++) free(list->data[i].name);
    lv_vec_free(list);
}

static int by_use(const void *left, const void *right) {
    const struct timespec *a = &((const Cached *)left)->used, *b = &((const Cached *)right)->used;
    if (a->tv_sec != b->tv_sec) return a->tv_sec < b->tv_sec ? -1 : 1;
    return (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

int64_t lv_cache_size(const char *folder) {
    CachedList list = {0};
    int64_t sum = list_cached(folder, &list);
    free_list(&list);
    return sum;
}

int64_t lv_cache_limit(void) {
    const char *text = getenv("LV_CACHE_SIZE");
    int64_t bytes = 2000000000;
    if (text) lv_text_bytes(text, &bytes);
    return bytes;
}

void lv_cache_trim(const char *folder) {
    CachedList list = {0};
    int64_t left = list_cached(folder, &list), limit = lv_cache_limit();
    if (left > limit) qsort(list.data, list.count, sizeof *list.data, by_use);
    for (size_t i = 0; i < list.count && left > limit; i++) {
        LvText path = {0};
        lv_text_printf(&path, "%s/%s", folder, list.data[i].name);
        unlink(path.data);
        left -= list.data[i].size;
        lv_text_free(&path);
    }
    free_list(&list);
}
