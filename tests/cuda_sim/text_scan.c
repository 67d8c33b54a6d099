// Finds the functions of a preprocessed text by their braces, no more of C++ is understood:
//   lv_sim_global ... NAME(...) { ... }   is a kernel; the mark and lv_sim_bounds(...) are taken out
//   __shared__ in a kernel                becomes a static variable in the section lvs_NAME
// A kernel that names, itself or through functions that it calls, what makes threads wait or share memory needs fibers.
#include "text_scan.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *start;
    size_t length;
} Word;

typedef struct {
    Word name, bounds;
    const char *body, *end;
    bool kernel, fibers;
} Function;

typedef struct {
    const char *text, *end;
    Function *functions;
    size_t count, room;
} Scan;

static const char *const makers[] = {"lv_sim_barrier", "lv_sim_collective", "lv_sim_mma", "lv_sim_ldmatrix", "lv_sim_copy",
                                     "lv_sim_copy_commit", "lv_sim_copy_wait", "lv_sim_dynamic_shared", "__shared__"};

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_'; }
static bool word_is(Word w, const char *s) { return w.length == strlen(s) && !memcmp(w.start, s, w.length); }
static bool same_word(Word a, Word b) { return a.length == b.length && !memcmp(a.start, b.start, a.length); }

static const char *skip_quoted(const char *p, const char *end) {
    const char quote = *p++;
    while (p < end && *p != quote && *p != '\n') p += *p == '\\' && p + 1 < end ? 2 : 1;
    return p < end ? p + 1 : end;
}

// The next token that matters from *at on: a word, or one character of punctuation. False at the end.
static bool next_token(const char **at, const char *end, Word *word, char *mark) {
    const char *p = *at;
    bool line_start = p == end || p[-1] == '\n';
    for (; p < end; line_start = p[-1] == '\n') {
        if (*p == '#' && line_start) {
            while (p < end && *p != '\n') p++;
        } else if (isspace((unsigned char)*p)) {
            if (*p == '\n' || !line_start) {
                p++;
            } else {
                while (p < end && (*p == ' ' || *p == '\t')) p++;
                if (p < end && *p == '#') while (p < end && *p != '\n') p++;
                line_start = false;
            }
        } else if (*p == '"' || *p == '\'') {
            p = skip_quoted(p, end);
            *mark = '"', *at = p;
            return true;
        } else if (isdigit((unsigned char)*p)) {
            while (p < end && (is_word(*p) || *p == '.' || *p == '\'')) p++;
        } else if (is_word(*p)) {
            word->start = p;
            while (p < end && is_word(*p)) p++;
            word->length = (size_t)(p - word->start);
            *mark = 'w', *at = p;
            return true;
        } else {
            *mark = *p, *at = p + 1;
            return true;
        }
    }
    *at = end;
    return false;
}

// `at` stands after the opening mark; returns after the closing one.
static const char *skip_to(const char *at, const char *end, char open, char close) {
    Word word;
    char mark;
    for (int depth = 1; depth && next_token(&at, end, &word, &mark);) depth += (mark == open) - (mark == close);
    return at;
}

static bool append(Scan *scan, Function function) {
    if (scan->count == scan->room) {
        const size_t room = scan->room ? 2 * scan->room : 256;
        Function *more = realloc(scan->functions, room * sizeof *more);
        if (!more) return false;
        scan->functions = more, scan->room = room;
    }
    scan->functions[scan->count++] = function;
    return true;
}

static bool find_functions(Scan *scan) {
    const char *at = scan->text;
    Function f = {0};
    Word word = {0}, last = {0};
    char mark, before = 0;
    bool named = false, linkage = false;
    while (next_token(&at, scan->end, &word, &mark)) {
        if (mark == 'w') {
            last = word;
            if (word_is(word, "lv_sim_global")) f.kernel = true;
            if (word_is(word, "extern")) linkage = true;
            else if (before) linkage = false;
        } else if (mark == '(') {
            const char *inside = at;
            at = skip_to(at, scan->end, '(', ')');
            if (word_is(last, "lv_sim_bounds")) {
                f.bounds = (Word){inside - 1, (size_t)(at - inside + 1)};
            } else if (!named && !word_is(last, "__attribute__") && !word_is(last, "decltype")) {
                f.name = last, named = true;
            }
        } else if (mark == '{' && linkage && before == '"') {
            f = (Function){0}, named = false;  // extern "C" {
        } else if (mark == '{') {
            f.body = at;
            at = skip_to(at, scan->end, '{', '}');
            f.end = at;
            if (named && !append(scan, f)) return false;
            if (named) f = (Function){0};
            named = linkage = false;
        } else if (mark == ';' || mark == '}') {
            f = (Function){0};
            named = linkage = false;
        }
        before = mark;
    }
    return true;
}

// Functions with a name of `list` that is marked mark those that name them, until nothing changes.
static bool names_a_maker(const Scan *scan, const Function *f) {
    const char *at = f->body;
    Word word;
    char mark;
    while (next_token(&at, f->end, &word, &mark)) {
        if (mark != 'w') continue;
        for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
            if (word_is(word, makers[i])) return true;
        }
        for (size_t i = 0; i < scan->count; i++) {
            if (scan->functions[i].fibers && same_word(word, scan->functions[i].name)) return true;
        }
    }
    return false;
}

static void mark_fibers(Scan *scan) {
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < scan->count; i++) {
            Function *f = &scan->functions[i];
            if (f->fibers || !names_a_maker(scan, f)) continue;
            f->fibers = changed = true;
        }
    }
}

// Between two functions, or within one: all as it was, but for the marks. `shares` tells whether a section was opened.
static bool write_part(const char *from, const char *to, const Function *kernel, FILE *out, bool *shares) {
    const char *at = from, *written = from;
    Word word;
    char mark;
    while (next_token(&at, to, &word, &mark)) {
        if (mark != 'w') continue;
        const bool global = word_is(word, "lv_sim_global"), bounds = word_is(word, "lv_sim_bounds");
        const bool shared = kernel && word_is(word, "__shared__");
        if (!global && !bounds && !shared) continue;
        fwrite(written, 1, (size_t)(word.start - written), out);
        if (global) fputs("__attribute__((noinline))", out);
        if (shared) {
            fprintf(out, "static __attribute__((section(\"lvs_%.*s\")))", (int)kernel->name.length, kernel->name.start);
            *shares = true;
        }
        if (bounds) {
            while (at < to && *at != '(') at++;
            at = skip_to(at + 1, to, '(', ')');
        }
        written = at;
    }
    fwrite(written, 1, (size_t)(to - written), out);
    return !ferror(out);
}

// Kernels that open no section have no symbols of its start and end.
static void write_table(const Scan *scan, const bool *shares, FILE *out) {
    int count = 0;
    fputs("\n# 1 \"cuda_sim\"\n", out);
    for (size_t i = 0; i < scan->count; i++) {
        const Function *f = &scan->functions[i];
        const int length = (int)f->name.length;
        if (!f->kernel) continue;
        fprintf(out, "static __attribute__((no_sanitize(\"thread\"))) void lv_sim_enter_%.*s(void **lv_sim_p) { lv_sim_call(%.*s, lv_sim_p); }\n", length,
                f->name.start, length, f->name.start);
        if (!shares[i]) continue;
        fprintf(out, "extern \"C\" __attribute__((weak)) char __start_lvs_%.*s[], __stop_lvs_%.*s[];\n", length, f->name.start, length, f->name.start);
    }
    fputs("#pragma GCC visibility push(hidden)\nextern \"C\" { extern const LvSimKernel lv_sim_kernels[] = {\n", out);
    for (size_t i = 0; i < scan->count; i++) {
        const Function *f = &scan->functions[i];
        const int length = (int)f->name.length;
        const char *name = f->name.start;
        if (!f->kernel) continue;
        count++;
        fprintf(out, "{\"%.*s\", lv_sim_enter_%.*s, decltype(lv_sim_of(%.*s))::count, decltype(lv_sim_of(%.*s))::bytes, %d, lv_sim_first%.*s, ",
                length, name, length, name, length, name, length, name, f->fibers, f->bounds.length ? (int)f->bounds.length : 2,
                f->bounds.length ? f->bounds.start : "()");
        if (shares[i]) fprintf(out, "__start_lvs_%.*s, __stop_lvs_%.*s},\n", length, name, length, name);
        else fputs("0, 0},\n", out);
    }
    fprintf(out, "{0, 0, 0, 0, 0, 0, 0, 0}};\nextern const int lv_sim_kernel_count = %d; }\n#pragma GCC visibility pop\n", count);
}

bool sim_text_rewrite(const char *text, size_t bytes, FILE *out) {
    Scan scan = {.text = text, .end = text + bytes};
    bool *shares = NULL;
    bool ok = find_functions(&scan);
    if (ok) ok = (shares = calloc(scan.count + 1, sizeof *shares));
    if (ok) {
        mark_fibers(&scan);
        const char *at = text;
        bool none = false;
        for (size_t i = 0; i < scan.count && ok; i++) {
            const Function *f = &scan.functions[i];
            ok = write_part(at, f->body, NULL, out, &none) && write_part(f->body, f->end, f->kernel ? f : NULL, out, &shares[i]);
            at = f->end;
        }
        ok = ok && write_part(at, scan.end, NULL, out, &none);
        write_table(&scan, shares, out);
        ok = ok && !ferror(out);
    }
    free(scan.functions);
    free(shares);
    return ok;
}
