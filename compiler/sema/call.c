// Calls: binding arguments, signatures with named dimensions, instances of modules.
#include "sema/check.h"
#include "sema/value.h"

enum { MAX_FRAMES = 120 };  // a network is some ten deep; more is recursion without an end

// What a call runs in: saved, replaced, put back.
typedef struct {
    SourceFile *file;
    Instance *instance;
    const char *path;
    const Function *function;
    Scope *scope;
    const Frame *frame;
} Context;

static Context context_take(Elaborator *e) { return (Context){e->file, e->instance, e->path, e->function, e->scope, e->frame}; }

static void context_put(Elaborator *e, Context c) {
    e->file = c.file, e->instance = c.instance, e->path = c.path, e->function = c.function, e->scope = c.scope,
    e->frame = c.frame;
}

// ---- types

static const char *const list_types[] = {"int", "float", "bool", "string", "module", "tensor"};

// `[int]`: a type in brackets and nothing before it; `[B]` is a shape
static const char *list_of(const TypeRef *type) {
    if (!type->has_dims || type->name.text || type->dims.count != 1 || type->dims.data[0]->kind != EXPR_NAME) return NULL;
    for (size_t i = 0; i < sizeof list_types / sizeof *list_types; i++)
        if (!strcmp(type->dims.data[0]->name.text, list_types[i])) return list_types[i];
    return NULL;
}

static void write_expr_source(Elaborator *e, const Expr *expr, LvText *out) {
    const LvSource *source = &e->diagnostics->sources->files.data[expr->span.file];
    lv_text_append(out, source->text + expr->span.begin, expr->span.end - expr->span.begin);
}

const char *type_text(Elaborator *e, const TypeRef *type) {
    LvText text = {0};
    if (type->name.text) lv_text_puts(&text, type->name.text);
    if (type->has_dims) {
        lv_text_putc(&text, '[');
        for (int i = 0; i < type->dims.count; i++) {
            if (i) lv_text_puts(&text, ", ");
            write_expr_source(e, type->dims.data[i], &text);
        }
        lv_text_putc(&text, ']');
    }
    const char *copy = lv_arena_strdup(e->arena, lv_text_get(&text));
    lv_text_free(&text);
    return copy;
}

static bool dim_value(Elaborator *e, const Expr *expr, int64_t *dim) {
    Val v = evaluate(e, expr);
    if (v.kind == VAL_POISON) return false;
    if (v.kind != VAL_INT || v.i < 0 || v.i > (int64_t)1 << 40) {
        fail(e, expr->span, "an extent is an int of at least 0 and at most 2^40, not %s", val_text(e, v));
        return false;
    }
    *dim = v.i;
    return true;
}

bool dims_shape(Elaborator *e, const TypeRef *type, LvShape *shape) {
    *shape = (LvShape){0};
    if (type->dims.count > LV_MAX_RANK) {
        fail(e, type->span, "a tensor has at most %d dimensions", LV_MAX_RANK);
        return false;
    }
    for (int i = 0; i < type->dims.count; i++)
        if (!dim_value(e, type->dims.data[i], &shape->dim[shape->rank++])) return false;
    size_t bytes;
    if (lv_shape_bytes(*shape, LV_F64, &bytes) && bytes < (size_t)1 << 45) return true;
    fail(e, type->span, "this tensor is too large");
    return false;
}

// "[B, cin, H, W] = f32[8, 32, ?, ?]": the signature with what is known of it
const char *signature_text(Elaborator *e, const TypeRef *type) {
    LvText text = {0};
    lv_text_printf(&text, "%s = %s[", type_text(e, type), type->name.text ? type->name.text : "f32");
    for (int i = 0; i < type->dims.count; i++) {
        Val v;
        bool known = evaluate_quietly(e, type->dims.data[i], &v) && v.kind == VAL_INT;
        lv_text_printf(&text, "%s%s", i ? ", " : "", known ? val_text(e, v) : "?");
    }
    lv_text_putc(&text, ']');
    const char *copy = lv_arena_strdup(e->arena, lv_text_get(&text));
    lv_text_free(&text);
    return copy;
}

// Whether a parameter's tensor still is what its signature says, so that the names of its dimensions tell something.
static bool has_signature(Elaborator *e, const TypeRef *type, const Value *v) {
    if (!type || !type->has_dims || type->dims.count != v->shape.rank || !v->shape.rank) return false;
    for (int i = 0; i < type->dims.count; i++) {
        Val dim;
        if (!evaluate_quietly(e, type->dims.data[i], &dim) || dim.kind != VAL_INT || dim.i != v->shape.dim[i]) return false;
    }
    return true;
}

const char *operand_text(Elaborator *e, const Expr *expr, const Value *v) {
    for (int i = 0; expr->kind == EXPR_NAME && e->function && i < e->function->params.count; i++) {
        const Param *param = &e->function->params.data[i];
        if (!strcmp(param->name.text, expr->name.text) && has_signature(e, param->type, v)) return signature_text(e, param->type);
    }
    return tensor_text(e, v);
}

static Val wrong_shape(Elaborator *e, const Value *tensor, const TypeRef *type, const char *what, LvSpan span) {
    return fail_at(e, type->span, "declared here", span, "%s is %s, not %s", what, tensor_text(e, tensor),
                   signature_text(e, type));
}

// Binds or checks each dimension of a signature against a tensor.
static Val check_dims(Elaborator *e, Value *tensor, const TypeRef *type, const char *what, LvSpan span) {
    LvDType dtype = LV_F32;
    if (type->name.text && !dtype_find(type->name.text, &dtype))
        return fail(e, type->span, "'%s' is no element type", type->name.text);
    if (tensor->dtype != dtype || tensor->shape.rank != type->dims.count) return wrong_shape(e, tensor, type, what, span);
    for (int i = 0; i < type->dims.count; i++) {
        const Expr *dim = type->dims.data[i];
        if (dim->kind != EXPR_NAME) continue;
        Val known = name_lookup(e, dim->name.text);
        if (known.kind != VAL_INT && e->scope) scope_set(e, e->scope, dim->name.text, val_int(tensor->shape.dim[i]));
    }
    for (int i = 0; i < type->dims.count; i++) {
        int64_t want;
        if (!dim_value(e, type->dims.data[i], &want)) return VAL_BAD;
        if (want != tensor->shape.dim[i]) return wrong_shape(e, tensor, type, what, span);
    }
    return val_tensor(tensor);
}

static Val wrong_type(Elaborator *e, Val v, const TypeRef *type, const char *what, LvSpan span) {
    return fail(e, span, "%s is %s (%s), not %s", what, val_kind_name(v), val_text(e, v), type_text(e, type));
}

static Val convert_scalar(Elaborator *e, Val v, const char *name, const TypeRef *type, const char *what, LvSpan span) {
    LvDType dtype;
    bool fits;
    if (!strcmp(name, "float") && v.kind == VAL_INT) return val_float((double)v.i);
    if (!strcmp(name, "int")) fits = v.kind == VAL_INT;
    else if (!strcmp(name, "float")) fits = v.kind == VAL_FLOAT;
    else if (!strcmp(name, "bool")) fits = v.kind == VAL_BOOL;
    else if (!strcmp(name, "string")) fits = v.kind == VAL_STRING;
    else if (!strcmp(name, "dtype")) fits = v.kind == VAL_DTYPE;
    else if (!strcmp(name, "module")) fits = v.kind == VAL_INSTANCE || v.kind == VAL_NONE;
    else if (!strcmp(name, "tensor")) fits = is_tensor(v) || val_is_number(v) || v.kind == VAL_NONE;
    else if (dtype_find(name, &dtype)) return fail(e, type->span, "a tensor's type has a shape: %s[] for one number", name);
    else {
        static const char *const names[] = {"int", "float", "bool", "string", "dtype", "module", "tensor", "f32", "i32"};
        LvText hint = {0};
        suggest(e, name, names, sizeof names / sizeof *names, &hint);
        fail(e, type->span, "unknown type '%s'%s", name, lv_text_get(&hint));
        lv_text_free(&hint);
        return VAL_BAD;
    }
    return fits ? v : wrong_type(e, v, type, what, span);
}

Val convert(Elaborator *e, Val v, const TypeRef *type, const char *what, LvSpan span) {
    if (!type || v.kind == VAL_POISON) return v;
    const char *item = list_of(type);
    if (item) {
        if (v.kind != VAL_LIST) return wrong_type(e, v, type, what, span);
        Val out = val_list(e, v.list->count);
        for (int i = 0; i < v.list->count; i++) {
            out.list->at[i] = convert_scalar(e, v.list->at[i], item, type, what, span);
            if (out.list->at[i].kind == VAL_POISON) return VAL_BAD;
        }
        return out;
    }
    if (type->has_dims) {
        if (!is_tensor(v) && !(val_is_number(v) && type->dims.count == 0)) return wrong_type(e, v, type, what, span);
        Value *tensor = tensor_of(e, v, NULL, span);
        return tensor ? check_dims(e, tensor, type, what, span) : VAL_BAD;
    }
    if (type->is_tuple) {
        if (v.kind != VAL_TUPLE || v.list->count != type->types.count)
            return fail(e, span, "%s is %s, not %d values", what, val_kind_name(v), type->types.count);
        for (int i = 0; i < v.list->count; i++) v.list->at[i] = convert(e, v.list->at[i], type->types.data[i], what, span);
        return v;
    }
    if (type->is_record) {
        if (v.kind != VAL_RECORD) return fail(e, span, "%s is %s, not a record", what, val_kind_name(v));
        for (int f = 0; f < type->fields.count; f++) {
            int found = -1;
            for (int i = 0; i < v.list->count; i++)
                if (!strcmp(v.list->names[i].text, type->fields.data[f].text)) found = i;
            if (found < 0) return fail(e, span, "%s lacks '%s'", what, type->fields.data[f].text);
            v.list->at[found] = convert(e, v.list->at[found], type->types.data[f],
                                        lv_arena_printf(e->arena, "result '%s'", v.list->names[found].text), span);
        }
        if (v.list->count > type->fields.count) return fail(e, span, "%s has results that its type does not name", what);
        return v;
    }
    return convert_scalar(e, v, type->name.text, type, what, span);
}

// ---- arguments

static bool find_argument(const ParamList *params, int index, int count, const Name *names, int *found) {
    *found = -1;
    for (int i = 0; i < count; i++) {
        bool by_name = names && names[i].text;
        if (by_name ? !strcmp(names[i].text, params->data[index].name.text) : i == index) *found = i;
    }
    return *found >= 0;
}

static void report_argument(void *user, LvSpan span, const char *message) { fail(user, span, "%s", message); }

// Into e->scope, in order, so that a default may use the parameters before it.
static bool bind_arguments(Elaborator *e, const ParamList *params, int count, const Val *values, const Name *names,
                           const LvSpan *spans, LvSpan span, const char *what, bool keep_variables,
                           const Frame *caller) {
    bool fine = true;
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->data[i];
        int at;
        Val v = VAL_BAD;
        LvSpan where = span;
        if (find_argument(params, i, count, names, &at)) {
            v = values[at];
            where = spans ? spans[at] : span;
        } else if (param->value) v = evaluate(e, param->value), where = param->value->span;
        if (v.kind == VAL_VARIABLE && !keep_variables) v = val_tensor(tensor_of(e, v, NULL, where));
        if (v.kind != VAL_POISON) {
            const Frame *own = e->frame;
            e->frame = caller;
            bool plain = v.kind == VAL_VARIABLE;  // keeps being one after its type is checked
            Val checked = convert(e, v, param->type,
                                  lv_arena_printf(e->arena, "argument '%s' of %s", param->name.text, what), where);
            v = plain && checked.kind != VAL_POISON ? v : checked;
            e->frame = own;
        }
        fine = fine && v.kind != VAL_POISON;
        scope_set(e, e->scope, param->name.text, v);
    }
    return fine;
}

static bool deep(Elaborator *e, LvSpan span) {
    if (!e->frame || e->frame->depth < MAX_FRAMES) return false;
    fail(e, span, "%d calls within each other; is this recursion without an end?", MAX_FRAMES);
    e->stopped = true;
    return true;
}

// A path for a message: endless ones lose their middle.
static const char *path_text(Elaborator *e, const char *path) {
    size_t length = strlen(path);
    return length <= 100 ? path : lv_arena_printf(e->arena, "%.40s ... %s", path, path + length - 40);
}

static Frame frame_make(Elaborator *e, LvSpan span, const char *what) {
    return (Frame){e->frame, span, what, e->frame ? e->frame->depth + 1 : 1};
}

static Val no_return(Elaborator *e, const Function *function) {
    return fail(e, function->name.span, "'%s' ends without 'return', but its result is %s", function->name.text,
                function->result->is_record || function->result->is_tuple ? "declared" : type_text(e, function->result));
}

Val call_function(Elaborator *e, const Function *function, SourceFile *file, Instance *self, int count, const Val *values,
                  const Name *names, const LvSpan *spans, LvSpan span, const char *what) {
    if (deep(e, span) || !check_call(&function->params, count, names, spans, span, what, report_argument, e)) return VAL_BAD;
    Context caller = context_take(e);
    Scope locals = {0};
    const char *where = lv_arena_printf(e->arena, "in %s", what);
    Frame frame = frame_make(e, span, where);
    e->file = file, e->instance = self, e->function = function, e->scope = &locals, e->frame = &frame;
    if (self) e->path = self->path;
    Val result = VAL_BAD;
    if (bind_arguments(e, &function->params, count, values, names, spans, span, what, false, caller.frame)) {
        bool returned = false;
        result = val_none();
        if (!run_block(e, &function->body, false, &result, &returned)) result = VAL_BAD;
        if (function->result && !returned && result.kind != VAL_POISON && !e->stopped) result = no_return(e, function);
        if (function->result && result.kind != VAL_POISON)
            result = convert(e, result, function->result, lv_arena_printf(e->arena, "the result of %s", what),
                             function->result->span);
    }
    context_put(e, caller);
    return result;
}

// ---- modules

static void bind_functions(Elaborator *e, Instance *instance, const StmtList *body) {
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->data[i];
        if (stmt->kind != STMT_FN) continue;
        scope_set(
            e, &instance->scope, stmt->name.text,
            (Val){.kind = VAL_FUNCTION, .function = stmt->function, .file = instance->file, .instance = instance});
    }
}

Val instantiate(Elaborator *e, const Item *item, SourceFile *file, const char *path, int count, const Val *values,
                const Name *names, const LvSpan *spans, LvSpan span) {
    const char *what = lv_arena_printf(e->arena, "module %s", item->name.text);
    if (deep(e, span) || !check_call(&item->params, count, names, spans, span, what, report_argument, e)) return VAL_BAD;
    Context caller = context_take(e);
    bool was_in_entry = e->in_entry;
    Instance *instance = LV_NEW(e->arena, Instance);
    instance->item = item;
    instance->file = file;
    instance->path = path;
    Frame frame = frame_make(e, span, path[0] ? lv_arena_printf(e->arena, "in %s (%s)", path_text(e, path), item->name.text)
                                              : lv_arena_printf(e->arena, "in model %s", item->name.text));
    e->file = file, e->instance = instance, e->path = path, e->function = NULL, e->scope = &instance->scope,
    e->frame = &frame, e->in_entry = false;
    Val result = {.kind = VAL_INSTANCE, .instance = instance};
    if (bind_arguments(e, &item->params, count, values, names, spans, span, what, true, caller.frame)) {
        bool returned = false;
        Val nothing;
        bind_functions(e, instance, &item->body);
        if (!run_block(e, &item->body, true, &nothing, &returned)) result = VAL_BAD;
        instance->complete = true;
    } else result = VAL_BAD;
    context_put(e, caller);
    e->in_entry = was_in_entry;
    return result;
}

// ---- call expressions

static Val call_arguments(Elaborator *e, Val callee, const Expr *call, const char *naming, const char *what) {
    int count = call->items.count - 1;
    Val *values = LV_NEW_ARRAY(e->arena, Val, count + 1);
    LvSpan *spans = LV_NEW_ARRAY(e->arena, LvSpan, count + 1);
    bool bad = false;
    for (int i = 0; i < count; i++) {
        const Expr *argument = call->items.data[i + 1];
        const char *path = NULL;
        if (naming && callee.kind == VAL_MODULE)
            path = call->names.data[i].text ? lv_arena_printf(e->arena, "%s.%s", naming, call->names.data[i].text)
                                            : lv_arena_printf(e->arena, "%s.argument%d", naming, i);
        values[i] = path ? evaluate_named(e, argument, path) : evaluate(e, argument);
        spans[i] = argument->span;
        bad |= values[i].kind == VAL_POISON;
    }
    if (bad) return VAL_BAD;
    if (callee.kind == VAL_MODULE)
        return instantiate(e, callee.item, callee.file, naming, count, values, call->names.data, spans, call->span);
    return call_function(e, callee.function, callee.file, callee.instance, count, values, call->names.data, spans,
                         call->span, what);
}

// "'forward' of encoders.0 (Encoder)"
static const char *function_text(Elaborator *e, Val function) {
    const Instance *self = function.instance;
    if (!self || !self->path[0]) return lv_arena_printf(e->arena, "'%s'", function.function->name.text);
    return lv_arena_printf(e->arena, "'%s' of %s (%s)", function.function->name.text, path_text(e, self->path),
                           self->item->name.text);
}

Val call_value(Elaborator *e, Val callee, const Expr *call, const Expr *callee_expr) {
    const char *naming = e->naming;
    e->naming = NULL;
    switch (callee.kind) {
    case VAL_POISON:  // look at the arguments all the same: they may hold errors of their own
        for (int i = 1; i < call->items.count; i++) evaluate(e, call->items.data[i]);
        return VAL_BAD;
    case VAL_BUILTIN: return builtin_call(e, (int)callee.i, call);
    case VAL_FUNCTION: return call_arguments(e, callee, call, NULL, function_text(e, callee));
    case VAL_MODULE:
        if (callee.item->kind == ITEM_MODEL) return fail(e, call->span, "a model is not part of another; make it a module");
        if (naming) return call_arguments(e, callee, call, naming, NULL);
        return fail(e, call->span, "an instance of %s needs a name: bind it in the body of a module, as in `x = %s(…)`",
                    callee.item->name.text, callee.item->name.text);
    case VAL_INSTANCE: {
        Val *forward = scope_find(&callee.instance->scope, "forward");
        if (!forward || forward->kind != VAL_FUNCTION)
            return fail(e, callee_expr->span, "module %s has no fn forward", callee.instance->item->name.text);
        return call_arguments(e, *forward, call, NULL, function_text(e, *forward));
    }
    default: return fail(e, callee_expr->span, "%s cannot be called", val_kind_name(callee));
    }
}
