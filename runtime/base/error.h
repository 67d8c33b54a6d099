// The outside world (file, device, network) fails by a returned error: a kind, a message, a hint what to do.
// A function that can fail returns bool and takes `LvError *error` last; on false the error is set.
// Libraries never print and never exit; the drivers print `lvrun: error: MESSAGE` and, if there is one, `  hint: HINT`.
#ifndef LV_BASE_ERROR_H
#define LV_BASE_ERROR_H

#include <stdbool.h>

typedef enum {
    LV_OK,
    LV_ERROR_IO,           // the system refused: open, read, write, space
    LV_ERROR_FORMAT,       // bytes from outside are not what they claim to be
    LV_ERROR_USAGE,        // the user asked for what makes no sense: exit code 2
    LV_ERROR_UNSUPPORTED,  // asked for something that this build or machine does not have
    LV_ERROR_MEMORY,
    LV_ERROR_DEVICE,       // a compiler, a library or a GPU failed
    LV_ERROR_NUMERIC,      // NaN or infinity where numbers must be finite
    LV_ERROR_SOURCE,       // the user's program has errors; diagnostics hold them
    LV_ERROR_INTERRUPTED,
    LV_ERROR_ELSEWHERE,    // on another rank, which tells it
} LvErrorKind;

typedef struct {
    LvErrorKind kind;
    char *message;  // owned, NULL when kind is LV_OK
    char *hint;     // owned, may be NULL
} LvError;

// All return false, so that a caller can write `return lv_error_set(...)`.
bool lv_error_set(LvError *error, LvErrorKind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool lv_error_hint(LvError *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool lv_error_prefix(LvError *error, const char *format, ...) __attribute__((format(printf, 2, 3)));  // "PREFIX: message"
bool lv_error_system(LvError *error, const char *format, ...) __attribute__((format(printf, 2, 3)));  // adds strerror(errno)
void lv_error_clear(LvError *error);
// Our own bug: one line on stderr, then abort.
_Noreturn void lv_internal_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

int lv_error_exit_code(const LvError *error);  // 0 done, 1 the work failed, 2 bad usage

#endif
