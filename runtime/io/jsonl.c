// JSON lines: see jsonl.h. Bytes of an old log are hostile: a line that is no object, or is longer than any of ours, is dropped.
#include "io/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/arena.h"

enum { MAX_LOG = 1 << 30, MAX_LINE = 1 << 20 };

struct LvLog {
    int file;
    char *path;
};

static bool line_stays(const char *line, size_t length, int64_t steps) {
    json_error_t problem;
    json_t *row = length <= MAX_LINE ? json_loadb(line, length, 0, &problem) : NULL;
    json_t *step = json_object_get(row, "step");
    bool stays = json_is_object(row) && (!json_is_integer(step) || json_integer_value(step) <= steps);
    json_decref(row);
    return stays;
}

// Rewrites the log without what must go; the old one stays whole until the new one is.
static bool cut_back(const char *path, int64_t steps, LvError *error) {
    char *data;
    size_t length;
    if (!lv_file_read(path, MAX_LOG, &data, &length, error)) return false;
    LvText kept = {0};
    for (size_t at = 0; at < length;) {
        const char *end = memchr(data + at, '\n', length - at);
        if (!end) break;
        size_t line = (size_t)(end - (data + at));
        if (line_stays(data + at, line, steps)) lv_text_append(&kept, data + at, line + 1);
        at += line + 1;
    }
    bool good = kept.length == length || lv_file_write(path, lv_text_get(&kept), kept.length, error);
    lv_text_free(&kept);
    free(data);
    return good;
}

bool lv_log_open(const char *path, int64_t steps, LvLog **out, LvError *error) {
    bool fresh = steps == 0 || access(path, F_OK) != 0;
    if (!fresh && !cut_back(path, steps, error)) return false;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (fresh ? O_TRUNC : 0), 0666);
    if (file < 0) return lv_error_system(error, "cannot open '%s'", path);
    *out = lv_calloc(1, sizeof **out);
    (*out)->file = file;
    (*out)->path = lv_strdup(path);
    return true;
}

// One write a line: a kill leaves whole lines, or at worst one that is cut off at the end.
bool lv_log_write(LvLog *log, const LvText *row, LvError *error) {
    LvText line = {0};
    lv_text_puts(&line, row->length ? row->data : "{");
    lv_text_puts(&line, "}\n");
    size_t done = 0;
    while (done < line.length) {
        ssize_t n = write(log->file, line.data + done, line.length - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    bool good = done == line.length || lv_error_system(error, "cannot write '%s'", log->path);
    lv_text_free(&line);
    return good;
}

void lv_log_close(LvLog *log) {
    if (!log) return;
    close(log->file);
    free(log->path);
    free(log);
}

static void put_text(LvText *row, const char *text) {
    json_t *value = json_string(text);
    char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    lv_text_puts(row, quoted ? quoted : "\"\"");  // not UTF-8: nothing of it can stand in JSON
    json_decref(value);
    free(quoted);
}

static void put_key(LvText *row, const char *key) {
    lv_text_puts(row, row->length ? ", " : "{");
    put_text(row, key);
    lv_text_puts(row, ": ");
}

void lv_row_integer(LvText *row, const char *key, int64_t value) {
    put_key(row, key);
    lv_text_printf(row, "%" PRId64, value);
}

void lv_row_number(LvText *row, const char *key, double value) {
    put_key(row, key);
    if (isfinite(value)) lv_text_printf(row, "%.9g", value);
    else lv_text_puts(row, "null");
}

void lv_row_text(LvText *row, const char *key, const char *value) {
    put_key(row, key);
    put_text(row, value);
}
