// Owned error messages.
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static char *format_text(const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *text = lv_malloc((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void lv_error_clear(LvError *error) {
    if (!error) return;
    free(error->message);
    free(error->hint);
    *error = (LvError){0};
}

bool lv_error_set(LvError *error, LvErrorKind kind, const char *format, ...) {
    if (!error) return false;
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    lv_error_clear(error);
    error->kind = kind;
    error->message = text;
    return false;
}

bool lv_error_hint(LvError *error, const char *format, ...) {
    if (!error) return false;
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    free(error->hint);
    error->hint = text;
    return false;
}

bool lv_error_prefix(LvError *error, const char *format, ...) {
    if (!error || !error->message) return false;
    va_list args;
    va_start(args, format);
    char *prefix = format_text(format, args);
    va_end(args);
    size_t size = strlen(prefix) + strlen(error->message) + 3;
    char *text = lv_malloc(size);
    snprintf(text, size, "%s: %s", prefix, error->message);
    free(prefix);
    free(error->message);
    error->message = text;
    return false;
}

bool lv_error_system(LvError *error, const char *format, ...) {
    int number = errno;
    if (!error) return false;
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    lv_error_set(error, LV_ERROR_IO, "%s: %s", text, strerror(number));
    free(text);
    return false;
}

int lv_error_exit_code(const LvError *error) {
    if (error->kind == LV_ERROR_ELSEWHERE) return 0;  // the other rank's exit code is that of all
    return error->kind == LV_OK ? 0 : error->kind == LV_ERROR_USAGE ? 2 : 1;
}

_Noreturn void lv_internal_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("internal error: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\nThis is a bug in L-Verse, not in your model. Please report it with the model's source.\n", stderr);
    va_end(args);
    abort();
}
