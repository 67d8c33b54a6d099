// The user's cache: files named by the hash of all that they were made from, written under a temporary name and renamed,
// closed by a footer with length and hash. Whatever fails the check counts as absent; nothing here is ever an error.
#include "io/cache.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/arena.h"
#include "base/folder.h"
#include "base/text.h"

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
