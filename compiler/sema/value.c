// Compile-time values: making, comparing, naming them; scopes; errors with the chain of calls.
#include "sema/value.h"

#include <math.h>

const Val VAL_BAD = {.kind = VAL_POISON};

Val val_none(void) { return (Val){.kind = VAL_NONE}; }
Val val_int(int64_t i) { return (Val){.kind = VAL_INT, .i = i}; }
Val val_float(double f) { return (Val){.kind = VAL_FLOAT, .f = f}; }
Val val_bool(bool b) { return (Val){.kind = VAL_BOOL, .i = b}; }
Val val_string(const char *s) { return (Val){.kind = VAL_STRING, .s = s}; }
Val val_tensor(Value *tensor) { return tensor ? (Val){.kind = VAL_TENSOR, .tensor = tensor} : VAL_BAD; }

Val val_list(Elaborator *e, int count) {
    List *list = LV_NEW(e->arena, List);
    list->count = count;
    list->at = LV_NEW_ARRAY(e->arena, Val, count ? count : 1);
    return (Val){.kind = VAL_LIST, .list = list};
}

bool val_is_number(Val v) { return v.kind == VAL_INT || v.kind == VAL_FLOAT; }
double val_number(Val v) { return v.kind == VAL_INT ? (double)v.i : v.f; }

enum { MAX_NESTING = 100 };  // lists in lists; more than any table needs

Val list_done(Elaborator *e, Val list, LvSpan span) {
    for (int i = 0; i < list.list->count; i++) {
        Val item = list.list->at[i];
        bool is_list = item.kind == VAL_LIST || item.kind == VAL_TUPLE || item.kind == VAL_RECORD;
        if (is_list && item.list->depth >= list.list->depth) list.list->depth = item.list->depth + 1;
    }
    return list.list->depth > MAX_NESTING ? fail(e, span, "lists are nested more than %d deep", MAX_NESTING) : list;
}

bool val_equal(Elaborator *e, Val a, Val b) {
    if (val_is_number(a) && val_is_number(b))
        return a.kind == VAL_INT && b.kind == VAL_INT ? a.i == b.i : val_number(a) == val_number(b);
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case VAL_NONE: return true;
    case VAL_BOOL:
    case VAL_VARIABLE:
    case VAL_DTYPE: return a.i == b.i;
    case VAL_STRING: return !strcmp(a.s, b.s);
    case VAL_INSTANCE: return a.instance == b.instance;
    case VAL_TENSOR: return a.tensor == b.tensor;
    case VAL_LIST:
        if (a.list == b.list) return true;
        if (a.list->count != b.list->count || (e->work += a.list->count) > MAX_WORK) return false;
        for (int i = 0; i < a.list->count; i++)
            if (!val_equal(e, a.list->at[i], b.list->at[i])) return false;
        return true;
    default: return false;
    }
}

bool dtype_find(const char *name, LvDType *dtype) {
    return lv_dtype_parse(name, dtype) && (*dtype == LV_F32 || *dtype == LV_I32 || *dtype == LV_I64 || *dtype == LV_BOOL);
}

const char *val_kind_name(Val v) {
    static const char *const names[] = {
        [VAL_POISON] = "an error", [VAL_NONE] = "none",          [VAL_INT] = "an int",         [VAL_FLOAT] = "a float",
        [VAL_BOOL] = "a bool",     [VAL_STRING] = "a string",    [VAL_LIST] = "a list",        [VAL_TUPLE] = "several values",
        [VAL_RECORD] = "a record", [VAL_INSTANCE] = "an instance", [VAL_TENSOR] = "a tensor",  [VAL_VARIABLE] = "a tensor",
        [VAL_DTYPE] = "an element type", [VAL_FUNCTION] = "a function", [VAL_MODULE] = "a module", [VAL_NAMESPACE] = "a file",
        [VAL_BUILTIN] = "a function"};
    return names[v.kind];
}

static void write_val(Elaborator *e, LvText *out, Val v, int depth) {
    switch (v.kind) {
    case VAL_INT: lv_text_printf(out, "%lld", (long long)v.i); break;
    case VAL_FLOAT: lv_text_printf(out, "%.10g", v.f); break;
    case VAL_BOOL: lv_text_puts(out, v.i ? "true" : "false"); break;
    case VAL_STRING: lv_text_printf(out, "\"%s\"", v.s); break;
    case VAL_TENSOR: lv_text_puts(out, tensor_text(e, v.tensor)); break;
    case VAL_INSTANCE: lv_text_printf(out, "a %s", v.instance->item->name.text); break;
    case VAL_DTYPE: lv_text_puts(out, lv_dtype_name((LvDType)v.i)); break;
    case VAL_LIST:
        lv_text_putc(out, '[');
        for (int i = 0; i < v.list->count; i++) {
            if (i) lv_text_puts(out, ", ");
            if (i == 12 || depth > 2) {
                lv_text_puts(out, "…");
                break;
            }
            write_val(e, out, v.list->at[i], depth + 1);
        }
        lv_text_putc(out, ']');
        break;
    default: lv_text_puts(out, val_kind_name(v));
    }
}

const char *val_text(Elaborator *e, Val v) {
    LvText text = {0};
    write_val(e, &text, v, 0);
    const char *copy = lv_arena_strdup(e->arena, lv_text_get(&text));
    lv_text_free(&text);
    return copy;
}

const char *tensor_text(Elaborator *e, const Value *value) {
    LvText text = {0};
    lv_text_puts(&text, lv_dtype_name(value->dtype));
    lv_shape_print(&text, value->shape);
    const char *copy = lv_arena_strdup(e->arena, lv_text_get(&text));
    lv_text_free(&text);
    return copy;
}

// ---- scopes

Val *scope_find(Scope *scope, const char *name) {
    for (int i = scope ? scope->count - 1 : -1; i >= 0; i--)
        if (!strcmp(scope->at[i].name, name)) return &scope->at[i].value;
    return NULL;
}

void scope_set(Elaborator *e, Scope *scope, const char *name, Val value) {
    Val *old = scope_find(scope, name);
    if (old) {
        *old = value;
        return;
    }
    if (scope->count == scope->capacity) {
        int room = scope->capacity ? 2 * scope->capacity : 8;
        struct Binding *bigger = LV_NEW_ARRAY(e->arena, struct Binding, room);
        if (scope->count) memcpy(bigger, scope->at, (size_t)scope->count * sizeof *bigger);
        scope->at = bigger;
        scope->capacity = room;
    }
    scope->at[scope->count++] = (struct Binding){name, value, false};
}

// ---- errors

enum { NOTES = 6 };  // frames shown under an error: enough to see the way, short enough to read

static Val fail_list(Elaborator *e, LvSpan place, const char *note, LvSpan span, const char *format, va_list args) {
    LvText text = {0};
    if (e->stopped) return VAL_BAD;
    lv_text_vprintf(&text, format, args);
    size_t before = e->diagnostics->errors;
    lv_report(e->diagnostics, LV_SEVERE, span, "%s", lv_text_get(&text));
    lv_text_free(&text);
    if (note) lv_report(e->diagnostics, LV_NOTE, place, "%s", note);
    int shown = 0, hidden = 0;
    for (const Frame *f = e->frame; f && f->outer; f = f->outer) {  // the outermost is the model or entry itself: no news
        if (shown++ < NOTES) lv_report(e->diagnostics, LV_NOTE, f->span, "%s", f->what);
        else hidden++;
    }
    if (hidden) lv_report(e->diagnostics, LV_NOTE, LV_NO_SPAN, "and %d calls further out", hidden);
    if (before >= 20) e->stopped = true;
    return VAL_BAD;
}

Val fail(Elaborator *e, LvSpan span, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_list(e, LV_NO_SPAN, NULL, span, format, args);
    va_end(args);
    return VAL_BAD;
}

Val fail_at(Elaborator *e, LvSpan place, const char *note, LvSpan span, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_list(e, place, note, span, format, args);
    va_end(args);
    return VAL_BAD;
}

void suggest(Elaborator *e, const char *word, const char *const *names, size_t count, LvText *out) {
    (void)e;
    const char *near = lv_nearest_name(word, names, count);
    if (near) lv_text_printf(out, "; did you mean '%s'?", near);
}
