// Growing text, whole-file reading and atomic writing, nearest names.
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"

static void text_reserve(LvText *text, size_t extra) {
    if (text->length + extra + 1 <= text->capacity) return;
    size_t capacity = text->capacity ? text->capacity * 2 : 64;
    while (capacity < text->length + extra + 1) capacity *= 2;
    text->data = lv_realloc(text->data, capacity, 1);
    text->capacity = capacity;
}

void lv_text_append(LvText *text, const char *bytes, size_t length) {
    text_reserve(text, length);
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
}

void lv_text_puts(LvText *text, const char *string) { lv_text_append(text, string, strlen(string)); }
void lv_text_putc(LvText *text, char c) { lv_text_append(text, &c, 1); }

// Most texts fit in what is left: then one pass is enough.
void lv_text_vprintf(LvText *text, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    text_reserve(text, 0);
    size_t room = text->capacity - text->length;
    int length = vsnprintf(text->data + text->length, room, format, args);
    if ((size_t)length >= room) {
        text_reserve(text, (size_t)length);
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
    }
    text->length += (size_t)length;
    va_end(again);
}

void lv_text_printf(LvText *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lv_text_vprintf(text, format, args);
    va_end(args);
}

void lv_text_print_bytes(LvText *text, int64_t bytes) {
    double b = (double)bytes;
    if (b >= 1e9) lv_text_printf(text, "%.2f GB", b / 1e9);
    else if (b >= 1e6) lv_text_printf(text, "%.1f MB", b / 1e6);
    else lv_text_printf(text, "%.1f kB", b / 1e3);
}

const char *lv_text_get(const LvText *text) { return text->data ? text->data : ""; }

void lv_text_free(LvText *text) {
    free(text->data);
    *text = (LvText){0};
}

static bool read_all(int file, const char *path, size_t limit, LvText *text, LvError *error) {
    char block[65536];
    for (;;) {
        ssize_t got = read(file, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lv_error_system(error, "cannot read '%s'", path);
        if (got == 0) return true;
        if (text->length + (size_t)got > limit) {
            return lv_error_set(error, LV_ERROR_FORMAT, "'%s' is larger than %zu bytes", path, limit);
        }
        lv_text_append(text, block, (size_t)got);
    }
}

// -1: error is set.
static int open_regular(const char *path, struct stat *info, LvError *error) {
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) lv_error_system(error, "cannot open '%s'", path);
    if (file < 0 || (fstat(file, info) == 0 && S_ISREG(info->st_mode))) return file;
    close(file);
    lv_error_set(error, LV_ERROR_IO, "'%s' is not a regular file", path);
    return -1;
}

bool lv_file_map(const char *path, void **data, size_t *length, LvError *error) {
    struct stat info;
    int file = open_regular(path, &info, error);
    if (file < 0) return false;
    *data = NULL, *length = (size_t)info.st_size;
    if (*length > 0) *data = mmap(NULL, *length, PROT_READ, MAP_PRIVATE, file, 0);
    bool good = *data != MAP_FAILED || lv_error_system(error, "cannot map '%s'", path);
    close(file);
    return good;
}

bool lv_file_read(const char *path, size_t limit, char **data, size_t *length, LvError *error) {
    struct stat info;
    int file = open_regular(path, &info, error);
    if (file < 0) return false;
    LvText text = {0};
    lv_text_append(&text, "", 0);
    bool done = read_all(file, path, limit, &text, error);
    close(file);
    if (!done) {
        lv_text_free(&text);
        return false;
    }
    *data = text.data;
    *length = text.length;
    return true;
}

static bool write_all(int file, const char *data, size_t length) {
    while (length > 0) {
        ssize_t put = write(file, data, length);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        data += put;
        length -= (size_t)put;
    }
    return true;
}

static void sync_folder_of(const char *path) {
    char *copy = lv_strdup(path);
    int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
    free(copy);
}

bool lv_file_is_special(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

// A device or a pipe is written to: a file renamed to its name would take its place.
static bool write_special(const char *path, const void *data, size_t length, LvError *error) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool good = file >= 0 && write_all(file, data, length);
    if (!good) lv_error_system(error, "cannot write '%s'", path);
    if (file >= 0) close(file);
    return good;
}

bool lv_file_write(const char *path, const void *data, size_t length, LvError *error) {
    if (lv_file_is_special(path)) return write_special(path, data, length, error);
    LvText temporary = {0};
    lv_text_printf(&temporary, "%s.tmp.%ld", path, (long)getpid());
    int file = open(temporary.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        lv_error_system(error, "cannot write '%s'", path);
        lv_text_free(&temporary);
        return false;
    }
    bool good = write_all(file, data, length) && fsync(file) == 0;
    int saved = errno;
    if (close(file) != 0 && good) {
        good = false;
        saved = errno;
    }
    if (good && rename(temporary.data, path) != 0) {
        good = false;
        saved = errno;
    }
    if (!good) {
        unlink(temporary.data);
        errno = saved;
        lv_error_system(error, "cannot write '%s'", path);
    } else {
        sync_folder_of(path);
    }
    lv_text_free(&temporary);
    return good;
}

bool lv_text_bytes(const char *text, int64_t *bytes) {
    char *end;
    double number = strtod(text, &end);
    double unit = *end == 'k' || *end == 'K' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : 1;
    if (unit > 1) end++;
    if (*end == 'B') end++;
    if (end == text || *end || !(number >= 0) || number * unit > 9e18) return false;
    *bytes = (int64_t)(number * unit);
    return true;
}

// Levenshtein distance in one row; words longer than 63 bytes are not compared.
static size_t edit_distance(const char *a, const char *b) {
    size_t row[64], n = strlen(a), m = strlen(b);
    if (n > 63 || m > 63) return 64;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[m];
}

const char *lv_nearest_name(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    size_t length = strlen(word), least = (length + 1) / 3 + 1;  // one letter is near no other; `wdith` is two from `width`
    for (size_t i = 0; i < count; i++) {
        size_t distance = strcasecmp(word, names[i]) == 0 ? 1 : edit_distance(word, names[i]);
        if (strcmp(word, names[i]) != 0 && (distance < least || (!best && strcasecmp(word, names[i]) == 0))) {
            least = distance;
            best = names[i];
        }
    }
    return best;
}
