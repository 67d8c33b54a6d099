// Diagnostics about the user's program: spans into source files, collected, rendered the way clang does.
#ifndef LV_BASE_DIAG_H
#define LV_BASE_DIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "base/vec.h"

typedef struct {
    int32_t file;         // index into LvSources, -1: no place
    uint32_t begin, end;  // byte offsets, end exclusive
} LvSpan;

#define LV_NO_SPAN ((LvSpan){-1, 0, 0})

typedef struct {
    char *path;   // as shown to the user
    char *text;   // closing zero after `length` bytes
    size_t length;
    LV_VEC(uint32_t) lines;  // offset of each line's first byte
} LvSource;

typedef struct {
    LV_VEC(LvSource) files;
} LvSources;

typedef enum { LV_NOTE, LV_WARNING, LV_SEVERE } LvSeverity;

typedef struct {
    LvSeverity severity;
    LvSpan span;
    char *message;
} LvDiagnostic;  // a note belongs to the error or warning before it

typedef struct {
    LvSources *sources;
    LV_VEC(LvDiagnostic) list;
    size_t errors;
    bool repeated;  // the last error was said before at its place: its notes go the same way
    size_t limit;  // errors kept; further ones are only counted. 0: 20
} LvDiagnostics;

int32_t lv_sources_add(LvSources *sources, const char *path, const char *text, size_t length);  // copies both
void lv_sources_free(LvSources *sources);
void lv_sources_locate(const LvSources *sources, int32_t file, uint32_t offset, int *line, int *column);  // from 1

void lv_diagnostics_init(LvDiagnostics *diagnostics, LvSources *sources);
void lv_diagnostics_free(LvDiagnostics *diagnostics);
void lv_report(LvDiagnostics *diagnostics, LvSeverity severity, LvSpan span, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// "path:line:col: error: message", the source line, a caret under the span; colour when asked.
void lv_diagnostics_render(const LvDiagnostics *diagnostics, bool colour, LvText *out);

#endif
