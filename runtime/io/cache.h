// The user's cache: files named by the hash of all that they were made from, safe to delete at any time. Whatever is torn,
// altered or unreadable counts as absent; nothing here is ever an error.
#ifndef LV_IO_CACHE_H
#define LV_IO_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The folder to use ($LV_CACHE_DIR, $XDG_CACHE_HOME/lverse, ~/.cache/lverse), made if need be; NULL if none can be written.
char *lv_cache_open(void);
// 128-bit hash of all parts, each with its length, as 32 hex digits.
void lv_cache_key(char key[33], const char *const *parts, int count);
// A cached file ends in a footer with its length and hash. False: absent, torn or altered.
bool lv_cache_verify(const char *path);
bool lv_cache_read(const char *path, char **data, size_t *length);  // without the footer; closed by a zero, so text is text
bool lv_cache_write(const char *path, const void *data, size_t length);  // temporary name, then rename
bool lv_cache_write_first(const char *path, const void *data, size_t length);  // false also where another process was faster
// Bytes of the folder's cached files; those of other names and folders inside it do not count.
int64_t lv_cache_size(const char *folder);
// How many there may be: $LV_CACHE_SIZE ("512M", "2G"), 2 GB where it is not set or says no number of bytes.
int64_t lv_cache_limit(void);
// Removes files, those first that were used longest ago, until no more are there than may be. Safe while others use them.
void lv_cache_trim(const char *folder);

#endif
