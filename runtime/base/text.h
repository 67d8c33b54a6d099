// Growing text, always closed by a zero byte; and "did you mean" over a list of names.
#ifndef LV_BASE_TEXT_H
#define LV_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct {
    char *data;  // NULL when empty and never written; lv_text_get gives "" then
    size_t length, capacity;
} LvText;

void lv_text_append(LvText *text, const char *bytes, size_t length);
void lv_text_puts(LvText *text, const char *string);
void lv_text_putc(LvText *text, char c);
void lv_text_printf(LvText *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lv_text_vprintf(LvText *text, const char *format, va_list args);
void lv_text_print_bytes(LvText *text, int64_t bytes);  // "3.53 GB", "596.4 MB", "12.0 kB"
const char *lv_text_get(const LvText *text);
void lv_text_free(LvText *text);

// Whole file into memory (closing zero added, not counted). Refuses files over `limit` bytes, folders, special files.
bool lv_file_read(const char *path, size_t limit, char **data, size_t *length, LvError *error);
// The whole file where the kernel has it, to be read only: pages come as they are touched and may go again. NULL: it is empty.
bool lv_file_map(const char *path, void **data, size_t *length, LvError *error);
bool lv_file_is_special(const char *path);  // there, and neither a file nor a folder: a device, a pipe
// Written under a temporary name beside `path`, synced, renamed: the old file or the new one, never a torn one. What is special
// is written to in its place.
bool lv_file_write(const char *path, const void *data, size_t length, LvError *error);

// "1024", "512M", "8G", "8GB" in bytes (k, M, G: 1000, 1000², 1000³); false: no such text, `bytes` stays.
bool lv_text_bytes(const char *text, int64_t *bytes);

// Nearest of `names` by edit distance (at most a third of the word wrong), NULL if none is near.
const char *lv_nearest_name(const char *word, const char *const *names, size_t count);

#endif
