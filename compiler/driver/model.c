// A model as users see it: loaded from a file or a bundle, its parameters set by config and options, its entries described.
#include <jansson.h>
#include <math.h>

#include "sema/check.h"
#include "sema/elaborate.h"

// ---- compile-time values and JSON

static Val from_json(Elaborator *e, const json_t *json) {
    switch (json_typeof(json)) {
    case JSON_INTEGER: return val_int(json_integer_value(json));
    case JSON_REAL: return val_float(json_real_value(json));
    case JSON_TRUE: return val_bool(true);
    case JSON_FALSE: return val_bool(false);
    case JSON_STRING: return val_string(lv_arena_strdup(e->model->arena, json_string_value(json)));
    case JSON_ARRAY: {
        Val list = val_list(e, (int)json_array_size(json));
        for (int i = 0; i < list.list->count; i++) list.list->at[i] = from_json(e, json_array_get(json, (size_t)i));
        return list;
    }
    default: return val_none();
    }
}

static json_t *to_json(Val v) {
    switch (v.kind) {
    case VAL_INT: return json_integer(v.i);
    case VAL_FLOAT: return isfinite(v.f) ? json_real(v.f) : json_null();
    case VAL_BOOL: return json_boolean(v.i);
    case VAL_STRING: return json_string(v.s);
    case VAL_LIST: {
        json_t *list = json_array();
        for (int i = 0; i < v.list->count; i++) json_array_append_new(list, to_json(v.list->at[i]));
        return list;
    }
    default: return json_null();
    }
}

// The fewest digits that read back as the same number: 4.5e-06, not 4.5000000000000001e-06.
static size_t real_digits(Val v) {
    char text[40];
    for (int digits = 6; v.kind == VAL_FLOAT && digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v.f);
        if (strtod(text, NULL) == v.f) return (size_t)digits;
    }
    return 17;
}

static const char *json_text(LvArena *arena, Val v) {
    json_t *json = to_json(v);
    char *text = json ? json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(real_digits(v))) : NULL;
    const char *copy = lv_arena_strdup(arena, text ? text : "null");
    free(text);
    json_decref(json);
    return copy;
}

// Values live in the arena of the elaboration that made them: those that stay are copied into the model's.
static Val keep(LvModel *model, Val v) {
    if (v.kind == VAL_STRING) v.s = lv_arena_strdup(model->arena, v.s);
    if (v.kind == VAL_LIST) {
        List *list = LV_NEW(model->arena, List);
        list->count = v.list->count;
        list->at = LV_NEW_ARRAY(model->arena, Val, list->count + 1);
        for (int i = 0; i < list->count; i++) list->at[i] = keep(model, v.list->at[i]);
        v.list = list;
    }
    return v;
}

// ---- settings

typedef struct {
    LvModel *model;
    const char *config;
    const LvSetting *settings;
    int setting_count;
    LvError *error;
} Load;

static int find_parameter(const LvModel *model, const char *name) {
    for (int i = 0; i < model->item->params.count; i++)
        if (!strcmp(model->item->params.data[i].name.text, name)) return i;
    return -1;
}

static const char *nearest_parameter(const LvModel *model, const char *name) {
    const char **names = LV_NEW_ARRAY(model->arena, const char *, model->item->params.count + 1);
    for (int i = 0; i < model->item->params.count; i++) names[i] = model->item->params.data[i].name.text;
    return lv_nearest_name(name, names, (size_t)model->item->params.count);
}

static void set_parameter(LvModel *model, int index, Val value, const char *origin) {
    ModelSetting *setting = &model->settings[index];
    setting->value = LV_NEW(model->arena, Val);
    *setting->value = keep(model, value);
    setting->origin = origin;
}

static const Item *find_config(const LvModel *model, const char *name) {
    for (int i = 0; i < model->root->tree->items.count; i++) {
        const Item *item = model->root->tree->items.data[i];
        if (item->kind == ITEM_CONFIG && !strcmp(item->name.text, name)) return item;
    }
    return NULL;
}

// Checks every line of a config; takes its values if it is the one asked for.
static void apply_config(Elaborator *e, const Load *load, const Item *config, bool take) {
    LvModel *model = load->model;
    Scope scope = {0};
    e->scope = &scope;
    for (int i = 0; i < config->body.count; i++) {
        const Stmt *stmt = config->body.data[i];
        bool plain = stmt->kind == STMT_ASSIGN && stmt->targets.count == 1 && stmt->values.count == 1 &&
                     stmt->targets.data[0]->kind == EXPR_NAME;
        if (!plain) {
            fail(e, stmt->span, "a config has lines `parameter = value` and nothing else");
            continue;
        }
        const Name *name = &stmt->targets.data[0]->name;
        int index = find_parameter(model, name->text);
        if (index < 0) {
            const char *near = nearest_parameter(model, name->text);
            fail(e, name->span, "model %s has no parameter '%s'%s%s%s", model->item->name.text, name->text,
                 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
            continue;
        }
        Val v = convert(e, evaluate(e, stmt->values.data[0]), model->item->params.data[index].type,
                        lv_arena_printf(e->arena, "parameter '%s'", name->text), stmt->span);
        if (v.kind != VAL_POISON && take)
            set_parameter(model, index, v, lv_arena_printf(model->arena, "config %s", config->name.text));
    }
    e->scope = NULL;
}

// "[1, 2]" and "true" as JSON; anything that is no JSON is a string. A string parameter takes the text as it is.
static Val parse_setting(Elaborator *e, const LvSetting *setting, const TypeRef *type) {
    bool wants_string = type && type->name.text && !strcmp(type->name.text, "string");
    json_error_t wrong;
    const char *value = !strcmp(setting->value, "True") ? "true" : !strcmp(setting->value, "False") ? "false" : setting->value;
    json_t *json = json_loads(value, JSON_DECODE_ANY, &wrong);
    if (json && wants_string && !json_is_string(json)) json_decref(json), json = NULL;
    Val out = json ? from_json(e, json) : val_string(lv_arena_strdup(e->model->arena, setting->value));
    json_decref(json);
    return out;
}

static bool fits_quietly(Elaborator *e, Val value, const TypeRef *type, Val *out) {
    LvDiagnostics quiet, *loud = e->diagnostics;
    lv_diagnostics_init(&quiet, loud->sources);
    e->diagnostics = &quiet;
    *out = convert(e, value, type, "value", LV_NO_SPAN);
    e->diagnostics = loud;
    bool fine = quiet.errors == 0;
    lv_diagnostics_free(&quiet);
    return fine;
}

static bool apply_setting(Elaborator *e, const Load *load, const LvSetting *setting) {
    LvModel *model = load->model;
    int index = find_parameter(model, setting->name);
    if (index < 0 && setting->optional) return true;
    if (index < 0) {
        const char *near = nearest_parameter(model, setting->name);
        lv_error_set(load->error, LV_ERROR_USAGE, "%s: model %s has no parameter '%s'", setting->origin,
                     model->item->name.text, setting->name);
        return near ? lv_error_hint(load->error, "did you mean '%s'?", near)
                    : lv_error_hint(load->error, "`lvc --help` and the model's file list them");
    }
    const TypeRef *type = model->item->params.data[index].type;
    Val v = parse_setting(e, setting, type), fitted;
    // 1e-3 written as 0.001 is a real; 64.0 where an int is wanted is the int
    if (v.kind == VAL_FLOAT && type && type->name.text && !strcmp(type->name.text, "int") && v.f == floor(v.f) &&
        fabs(v.f) < 1e15)
        v = val_int((int64_t)v.f);
    bool fits = fits_quietly(e, v, type, &fitted);
    if (!fits && v.kind != VAL_LIST) {  // --ch-mult 1: a list of one
        Val list = val_list(e, 1);
        list.list->at[0] = v;
        fits = fits_quietly(e, list, type, &fitted);
    }
    if (!fits) {
        return lv_error_set(load->error, LV_ERROR_USAGE, "%s: parameter '%s' is %s, and '%s' is not", setting->origin,
                            setting->name, type ? type_text(e, type) : "something else", setting->value);
    }
    set_parameter(model, index, fitted, setting->origin);
    return true;
}

// ---- descriptions

static void describe_parameters(Elaborator *e, LvModel *model) {
    const Item *item = model->item;
    Scope scope = {0};
    e->scope = &scope;
    for (int i = 0; i < item->params.count; i++) {
        const Param *param = &item->params.data[i];
        LvModelParameter *out = &model->parameters[i];
        Val standard = param->value ? convert(e, evaluate(e, param->value), param->type,
                                              lv_arena_printf(e->arena, "the default of '%s'", param->name.text),
                                              param->value->span)
                                    : val_none();
        Val value = model->settings[i].value ? *model->settings[i].value : standard;
        if (!param->value && !model->settings[i].value)
            fail(e, param->span, "parameter '%s' has no default and no config or --set gives it", param->name.text);
        out->name = param->name.text;
        out->type = param->type ? lv_arena_strdup(model->arena, type_text(e, param->type)) : "";
        out->default_value = param->value ? json_text(model->arena, standard) : "null";
        out->value = json_text(model->arena, value);
        out->doc = syntax_doc(model->root->tree, e->diagnostics->sources, param->span, model->arena);
        scope_set(e, &scope, param->name.text, value);
    }
    e->scope = NULL;
}

static void describe_entry(Elaborator *e, LvModel *model, const Stmt *stmt, Instance *instance, LvModelEntry *out) {
    const ParamList *params = &stmt->function->params;
    Scope scope = {0};
    out->name = stmt->name.text;
    out->doc = syntax_doc(model->root->tree, e->diagnostics->sources, stmt->span, model->arena);
    out->trains = entry_trains(stmt);
    out->inputs = LV_NEW_ARRAY(model->arena, LvPort, params->count + 1);
    e->instance = instance;
    e->scope = &scope;
    for (int i = 0; i < params->count; i++) {
        LvPort *port = &out->inputs[out->input_count];
        port->name = params->data[i].name.text;
        port->place = (LvPlace){LV_ARENA_IO, -1};
        if (entry_input(e, &params->data[i], -1, &port->dtype, &port->shape)) out->input_count++;
    }
    e->instance = NULL;
    e->scope = NULL;
}

static void describe_entries(Elaborator *e, LvModel *model) {
    Val instance = model_instance(e);
    const StmtList *body = &model->item->body;
    model->entries = LV_NEW_ARRAY(model->arena, LvModelEntry, body->count + 1);
    if (instance.kind != VAL_INSTANCE) return;
    for (int i = 0; i < body->count; i++) {
        if (body->data[i]->kind != STMT_ENTRY) continue;
        describe_entry(e, model, body->data[i], instance.instance, &model->entries[model->entry_count]);
        model->entry_count++;
    }
}

static void settle(Elaborator *e, void *user) {
    Load *load = user;
    LvModel *model = load->model;
    const Item *config = load->config ? find_config(model, load->config) : NULL;
    e->file = model->root;
    if (load->config && !config) {
        const char *near = lv_nearest_name(load->config, model->configs, (size_t)model->config_count);
        lv_error_set(load->error, LV_ERROR_USAGE, "%s has no config '%s'", model->root->path, load->config);
        if (near) lv_error_hint(load->error, "did you mean '%s'?", near);
        return;
    }
    for (int i = 0; i < model->root->tree->items.count; i++) {
        const Item *item = model->root->tree->items.data[i];
        if (item->kind == ITEM_CONFIG) apply_config(e, load, item, item == config);
    }
    for (int i = 0; i < load->setting_count; i++)
        if (!apply_setting(e, load, &load->settings[i])) return;
    describe_parameters(e, model);
    if (e->diagnostics->errors == 0) describe_entries(e, model);
}

// ---- loading

static bool pick_model(LvModel *model, LvDiagnostics *diagnostics) {
    int count = 0;
    const ItemList *items = &model->root->tree->items;
    model->configs = LV_NEW_ARRAY(model->arena, const char *, items->count + 1);
    for (int i = 0; i < items->count; i++) {
        const Item *item = items->data[i];
        if (item->kind == ITEM_CONFIG) model->configs[model->config_count++] = item->name.text;
        if (item->kind != ITEM_MODEL) continue;
        if (count++) lv_report(diagnostics, LV_SEVERE, item->name.span, "a second model in one file; a file has one");
        else model->item = item;
    }
    if (count == 0)
        lv_report(
            diagnostics, LV_SEVERE, (LvSpan){model->root->source, 0, 0},
            "this file has no model, so there is nothing to compile; modules are imported by the files of models");
    return count == 1;
}

static void bundle_sources(LvModel *model, const LvSources *sources) {
    model->source_count = (int)model->files.count;
    model->sources = LV_NEW_ARRAY(model->arena, LvBundledSource, model->source_count + 1);
    for (int i = 0; i < model->source_count; i++)
        model->sources[i] =
            (LvBundledSource){model->files.data[i]->path,
                              lv_arena_strdup(model->arena, sources->files.data[model->files.data[i]->source].text)};
}

bool lv_model_load(const char *path, const LvBundledSource *bundle, int bundle_count, const char *config,
                   const LvSetting *settings, int setting_count, LvDiagnostics *diagnostics, LvModel **out,
                   LvError *error) {
    LvArena *arena = lv_arena_create();
    LvModel *model = LV_NEW(arena, LvModel);
    model->arena = arena;
    model->bundle = bundle;
    model->bundle_count = bundle_count;
    model->config = config && config[0] ? lv_arena_strdup(arena, config) : "";
    *out = NULL;
    bool fine = imports_load(model, lv_arena_strdup(arena, path), diagnostics, error);
    if (fine && diagnostics->errors == 0 && pick_model(model, diagnostics)) check_files(model, diagnostics);
    if (fine && diagnostics->errors == 0) {
        bundle_sources(model, diagnostics->sources);
        model->settings = LV_NEW_ARRAY(arena, ModelSetting, model->item->params.count + 1);
        model->parameters = LV_NEW_ARRAY(arena, LvModelParameter, model->item->params.count + 1);
        Load load = {model, model->config[0] ? model->config : NULL, settings, setting_count, error};
        model_evaluate(model, diagnostics, settle, &load);
    }
    fine = fine && diagnostics->errors == 0 && error->kind == LV_OK;
    if (!fine) {
        if (error->kind == LV_OK)
            lv_error_set(error, LV_ERROR_SOURCE, "%s has %zu error%s", path, diagnostics->errors,
                         diagnostics->errors == 1 ? "" : "s");
        lv_model_destroy(model);
        return false;
    }
    model->bundle = NULL;  // the caller's; sources hold copies
    *out = model;
    return true;
}

void lv_model_destroy(LvModel *model) {
    if (!model) return;
    lv_vec_free(&model->files);
    lv_arena_destroy(model->arena);
}

const char *lv_model_name(const LvModel *model) { return model->item->name.text; }
const char *lv_model_config(const LvModel *model) { return model->config; }

const LvModelParameter *lv_model_parameters(const LvModel *model, int *count) {
    *count = model->item->params.count;
    return model->parameters;
}

const LvModelEntry *lv_model_entries(const LvModel *model, int *count) {
    *count = model->entry_count;
    return model->entries;
}

const LvModelEntry *lv_model_find_entry(const LvModel *model, const char *name, LvError *error) {
    LV_VEC(const char *) names = {0};
    LvText list = {0};
    const LvModelEntry *found = NULL;
    for (int i = 0; i < model->entry_count && !found; i++) {
        if (!strcmp(model->entries[i].name, name)) found = &model->entries[i];
        lv_vec_push(&names, model->entries[i].name);
        lv_text_printf(&list, "%s%s", i ? ", " : "", model->entries[i].name);
    }
    if (!found) {
        const char *near = lv_nearest_name(name, names.data, names.count);
        lv_error_set(error, LV_ERROR_USAGE, "model '%s' has no entry '%s'", lv_model_name(model), name);
        if (near) lv_error_hint(error, "did you mean '%s'?", near);
        else if (list.length) lv_error_hint(error, "it has %s", list.data);
    }
    lv_vec_free(&names);
    lv_text_free(&list);
    return found;
}

const char *const *lv_model_configs(const LvModel *model, int *count) {
    *count = model->config_count;
    return model->configs;
}

const LvBundledSource *lv_model_sources(const LvModel *model, int *count) {
    *count = model->source_count;
    return model->sources;
}
