// Collects diagnostics and renders them with the source line and a caret.
#include "base/diag.h"

#include <stdlib.h>
#include <string.h>

int32_t lv_sources_add(LvSources *sources, const char *path, const char *text, size_t length) {
    LvSource source = {.path = lv_strdup(path), .text = lv_malloc(length + 1), .length = length};
    if (length) memcpy(source.text, text, length);
    source.text[length] = 0;
    lv_vec_push(&source.lines, 0);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n') lv_vec_push(&source.lines, (uint32_t)(i + 1));
    }
    lv_vec_push(&sources->files, source);
    return (int32_t)sources->files.count - 1;
}

void lv_sources_free(LvSources *sources) {
    for (size_t i = 0; i < sources->files.count; i++) {
        LvSource *source = &sources->files.data[i];
        free(source->path);
        free(source->text);
        lv_vec_free(&source->lines);
    }
    lv_vec_free(&sources->files);
}

void lv_sources_locate(const LvSources *sources, int32_t file, uint32_t offset, int *line, int *column) {
    const LvSource *source = &sources->files.data[file];
    size_t low = 0, high = source->lines.count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (source->lines.data[middle] <= offset) low = middle;
        else high = middle;
    }
    *line = (int)low + 1;
    *column = (int)(offset - source->lines.data[low]) + 1;
}

void lv_diagnostics_init(LvDiagnostics *diagnostics, LvSources *sources) {
    *diagnostics = (LvDiagnostics){.sources = sources, .limit = 20};
}

void lv_diagnostics_free(LvDiagnostics *diagnostics) {
    for (size_t i = 0; i < diagnostics->list.count; i++) free(diagnostics->list.data[i].message);
    lv_vec_free(&diagnostics->list);
}

// A module that is wrong in itself is wrong in each of its instances: the first of them says it.
static bool is_repeated(const LvDiagnostics *diagnostics, LvSpan span, const char *message) {
    if (span.file < 0) return false;
    for (size_t i = 0; i < diagnostics->list.count; i++) {
        const LvDiagnostic *d = &diagnostics->list.data[i];
        if (d->severity != LV_NOTE && d->span.file == span.file && d->span.begin == span.begin && d->span.end == span.end &&
            !strcmp(d->message, message)) {
            return true;
        }
    }
    return false;
}

void lv_report(LvDiagnostics *diagnostics, LvSeverity severity, LvSpan span, const char *format, ...) {
    if (severity == LV_SEVERE) diagnostics->errors++;
    if (diagnostics->errors > diagnostics->limit) return;
    LvText text = {0};
    va_list args;
    va_start(args, format);
    lv_text_vprintf(&text, format, args);
    va_end(args);
    if (severity != LV_NOTE) diagnostics->repeated = is_repeated(diagnostics, span, text.data);
    if (diagnostics->repeated) {
        if (severity == LV_SEVERE) diagnostics->errors--;
        lv_text_free(&text);
        return;
    }
    lv_vec_push(&diagnostics->list, (LvDiagnostic){severity, span, text.data});
}

enum { WIDEST_LINE = 160 };  // longer source lines are cut: a caret nobody can find helps nobody

static void render_line(const LvSource *source, LvSpan span, int line, int column, bool colour, LvText *out) {
    const char *text = source->text + source->lines.data[line - 1];
    size_t length = strcspn(text, "\r\n"), start = (size_t)column - 1, from = 0;
    if (start > length) start = length;
    if (start > WIDEST_LINE - 40) from = start - (WIDEST_LINE - 40);
    size_t shown = length - from > WIDEST_LINE ? WIDEST_LINE : length - from;
    lv_text_printf(out, "%5d | ", line);
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)text[from + i];
        lv_text_putc(out, c == '\t' ? ' ' : c < 32 || c == 127 ? '?' : (char)c);
    }
    lv_text_printf(out, "\n      | ");
    for (size_t i = from; i < start; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) lv_text_putc(out, ' ');
    }
    size_t last = start + (span.end > span.begin ? span.end - span.begin : 1);
    if (last > from + shown) last = from + shown;
    lv_text_puts(out, colour ? "\033[1;32m^" : "^");
    for (size_t i = start + 1; i < last; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) lv_text_putc(out, '~');
    }
    lv_text_puts(out, colour ? "\033[0m\n" : "\n");
}

void lv_diagnostics_render(const LvDiagnostics *diagnostics, bool colour, LvText *out) {
    static const char *const names[] = {"note", "warning", "error"};
    static const char *const colours[] = {"\033[1;36m", "\033[1;35m", "\033[1;31m"};
    for (size_t i = 0; i < diagnostics->list.count; i++) {
        const LvDiagnostic *d = &diagnostics->list.data[i];
        bool placed = d->span.file >= 0 && (size_t)d->span.file < diagnostics->sources->files.count;
        int line = 0, column = 0;
        if (placed) {
            lv_sources_locate(diagnostics->sources, d->span.file, d->span.begin, &line, &column);
            lv_text_printf(out, "%s:%d:%d: ", diagnostics->sources->files.data[d->span.file].path, line, column);
        }
        lv_text_printf(out, "%s%s:%s %s\n", colour ? colours[d->severity] : "", names[d->severity],
                       colour ? "\033[0m" : "", d->message);
        if (placed) render_line(&diagnostics->sources->files.data[d->span.file], d->span, line, column, colour, out);
    }
    if (diagnostics->errors > diagnostics->limit) {
        lv_text_printf(out, "%zu more errors not shown\n", diagnostics->errors - diagnostics->limit);
    }
}
