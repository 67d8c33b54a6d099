// Writing and reading artifacts: see plan_file.h for the form. The JSON names fields as plan.h does; operands are arrays,
// [arena, offset, type, shape, layout], since there are thousands. Scalars are integers: the union's bits.
#include "base/plan_file.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

static const char magic[8] = "LVERSE\r\n";  // the newline pair shows a transfer in text mode
enum { HEADER = 40, MAX_COUNT = 1 << 20 };
static const size_t most_file = (size_t)4 << 30;

// ---- writing

typedef struct {
    LvError *error;
    bool good;
} Writer;

static json_t *put_string(Writer *w, const char *text) {
    json_t *value = json_string(text ? text : "");
    if (!value && w->good) {
        w->good = lv_error_set(w->error, LV_ERROR_FORMAT, "text that is not UTF-8 cannot go into an artifact: '%.40s'", text);
    }
    return value ? value : json_null();
}

static json_t *put_shape(LvShape shape) {
    json_t *list = json_array();
    for (int i = 0; i < shape.rank; i++) json_array_append_new(list, json_integer(shape.dim[i]));
    return list;
}

static json_t *put_place(LvPlace place) {
    return json_pack("[s, I]", lv_arena_kind_name(place.arena), (json_int_t)place.offset);
}

static json_t *put_variable(Writer *w, const LvVariable *v) {
    return json_pack("{so, si, ss, so, so, so}", "name", put_string(w, v->name), "kind", (int)v->kind, "dtype",
                     lv_dtype_name(v->dtype), "shape", put_shape(v->shape), "place", put_place(v->place), "gradient",
                     put_place(v->gradient));
}

static json_t *put_ports(Writer *w, const LvPort *ports, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_array_append_new(list, json_pack("{so, ss, so, so}", "name", put_string(w, ports[i].name), "dtype",
                                              lv_dtype_name(ports[i].dtype), "shape", put_shape(ports[i].shape), "place",
                                              put_place(ports[i].place)));
    }
    return list;
}

static json_t *put_operand(const LvOperand *o) {
    LvText layout = {0};
    lv_layout_print(&layout, o->layout, o->shape.rank);
    json_t *value = json_pack("[s, I, s, o, s]", lv_arena_kind_name(o->place.arena), (json_int_t)o->place.offset,
                              lv_dtype_name(o->dtype), put_shape(o->shape), lv_text_get(&layout));
    lv_text_free(&layout);
    return value;
}

static json_t *put_conv(const LvConvStep *c) {
    return json_pack("{si, s[I,I], s[I,I,I,I], sb, sb, si, si}", "direction", (int)c->direction, "stride",
                     (json_int_t)c->stride[0], (json_int_t)c->stride[1], "pad", (json_int_t)c->pad[0], (json_int_t)c->pad[1],
                     (json_int_t)c->pad[2], (json_int_t)c->pad[3], "has_bias", c->has_bias, "has_residual", c->has_residual,
                     "activation", (int)c->activation, "algorithm", (int)c->algorithm);
}

static json_t *put_matmul(Writer *w, const LvMatmulStep *m) {
    json_t *value = json_pack("{sb, sb, sb, sb, si, sf}", "transpose_a", m->transpose_a, "transpose_b", m->transpose_b,
                              "has_bias", m->has_bias, "has_residual", m->has_residual, "activation", (int)m->activation,
                              "alpha", m->alpha);
    if (!value && w->good) w->good = lv_error_set(w->error, LV_ERROR_FORMAT, "a matmul's scale is not finite");
    return value ? value : json_null();
}

static json_t *put_step(Writer *w, const LvStep *s) {
    json_t *operands = json_array(), *scalars = json_array();
    for (int i = 0; i < s->operand_count; i++) json_array_append_new(operands, put_operand(&s->operands[i]));
    for (int i = 0; i < s->scalar_count; i++) json_array_append_new(scalars, json_integer(s->scalars[i].i));
    json_t *step = json_pack("{si, so, so, sI, sI, so, si, so}", "kind", (int)s->kind, "label", put_string(w, s->label),
                             "sources", put_string(w, s->sources), "flops", (json_int_t)s->flops, "bytes",
                             (json_int_t)s->bytes, "operands", operands, "kernel", s->kernel, "scalars", scalars);
    if (s->kind == LV_STEP_CONV) json_object_set_new(step, "conv", put_conv(&s->conv));
    if (s->kind == LV_STEP_MATMUL) json_object_set_new(step, "matmul", put_matmul(w, &s->matmul));
    if (s->kind == LV_STEP_LINEAR_LOSS)
        json_object_set_new(step, "linear_loss",
                            json_pack("{sb, si}", "gradient", s->linear_loss.gradient, "ignore", (int)s->linear_loss.ignore));
    return step;
}

static json_t *put_pairs(Writer *w, const char *first, const char *second, const void *pairs, int count) {
    json_t *list = json_array();
    const char *const *at = pairs;  // LvBundledSource, LvPlanSetting, LvKernelText: two strings each
    for (int i = 0; i < count; i++) {
        json_array_append_new(list, json_pack("{so, so}", first, put_string(w, at[2 * i]), second, put_string(w, at[2 * i + 1])));
    }
    return list;
}

static json_t *put_plan(Writer *w, const LvPlan *plan) {
    json_t *root = json_object(), *arenas = json_object(), *variables = json_array(), *steps = json_array();
    json_object_set_new(root, "model", put_string(w, plan->model));
    if (plan->config) json_object_set_new(root, "config", put_string(w, plan->config));
    json_object_set_new(root, "entry", put_string(w, plan->entry));
    json_object_set_new(root, "device", put_string(w, plan->device));
    json_object_set_new(root, "precision", put_string(w, plan->precision));
    json_object_set_new(root, "batch", json_integer(plan->batch));
    for (int a = 0; a < LV_ARENA_COUNT; a++) {
        json_object_set_new(arenas, lv_arena_kind_name((LvArenaKind)a), json_integer(plan->arena_bytes[a]));
    }
    json_object_set_new(root, "arena_bytes", arenas);
    json_object_set_new(root, "settings", put_pairs(w, "name", "value", plan->settings, plan->setting_count));
    json_object_set_new(root, "sources", put_pairs(w, "path", "text", plan->sources, plan->source_count));
    for (int i = 0; i < plan->variable_count; i++) json_array_append_new(variables, put_variable(w, &plan->variables[i]));
    json_object_set_new(root, "variables", variables);
    json_object_set_new(root, "inputs", put_ports(w, plan->inputs, plan->input_count));
    json_object_set_new(root, "results", put_ports(w, plan->results, plan->result_count));
    json_object_set_new(root, "prelude", put_string(w, plan->prelude));
    json_object_set_new(root, "kernels", put_pairs(w, "name", "text", plan->kernels, plan->kernel_count));
    for (int i = 0; i < plan->step_count; i++) json_array_append_new(steps, put_step(w, &plan->steps[i]));
    json_object_set_new(root, "steps", steps);
    json_object_set_new(root, "prepare_count", json_integer(plan->prepare_count));
    json_object_set_new(root, "writes_variables", json_boolean(plan->writes_variables));
    return root;
}

static void put_number(unsigned char *at, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) at[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get_number(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static uint64_t hash_file(const unsigned char *data, size_t length) {
    XXH64_state_t *state = XXH64_createState();
    XXH64_reset(state, 0);
    XXH64_update(state, data, 32);
    XXH64_update(state, data + HEADER, length - HEADER);
    uint64_t hash = XXH64_digest(state);
    XXH64_freeState(state);
    return hash;
}

bool lv_plan_encode(const LvPlan *plan, LvText *out, LvError *error) {
    Writer writer = {error, true};
    json_t *root = put_plan(&writer, plan);
    char *text = writer.good ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return writer.good ? lv_error_set(error, LV_ERROR_FORMAT, "a plan that JSON cannot hold") : false;
    unsigned char header[HEADER] = {0};
    size_t constants = (size_t)plan->arena_bytes[LV_ARENA_CONSTANTS], at = out->length;
    memcpy(header, magic, 8);
    put_number(header + 8, LV_PLAN_FILE_VERSION, 4);
    put_number(header + 16, strlen(text), 8);
    put_number(header + 24, constants, 8);
    lv_text_append(out, (const char *)header, HEADER);
    lv_text_append(out, text, strlen(text));
    if (constants) lv_text_append(out, plan->constants, constants);
    free(text);
    unsigned char *whole = (unsigned char *)out->data + at;
    put_number(whole + 32, hash_file(whole, out->length - at), 8);
    return true;
}

bool lv_plan_write(const LvPlan *plan, const char *path, LvError *error) {
    LvText out = {0};
    bool good = lv_plan_encode(plan, &out, error) && lv_file_write(path, out.data, out.length, error);
    lv_text_free(&out);
    return good;
}

// ---- reading

typedef struct {
    LvArena *arena;
    LvError *error;
    bool good;  // once false, what follows reads nothing more
} Reader;

static void refuse(Reader *r, const char *key, const char *why) {
    if (r->good) r->good = lv_error_set(r->error, LV_ERROR_FORMAT, "'%s' %s", key, why);
}

static json_t *get(Reader *r, const json_t *object, const char *key) {
    json_t *value = r->good ? json_object_get(object, key) : NULL;
    if (!value) refuse(r, key, "is missing");
    return value;
}

static const char *text_of(Reader *r, const json_t *value, const char *key) {
    if (!r->good || !json_is_string(value)) {
        refuse(r, key, "is no text");
        return "";
    }
    return lv_arena_copy(r->arena, json_string_value(value), json_string_length(value));
}

static const char *get_text(Reader *r, const json_t *object, const char *key) {
    return text_of(r, get(r, object, key), key);
}

static int64_t integer_of(Reader *r, const json_t *value, const char *key) {
    if (r->good && json_is_integer(value)) return json_integer_value(value);
    refuse(r, key, "is no integer");
    return 0;
}

static int64_t get_integer(Reader *r, const json_t *object, const char *key) {
    return integer_of(r, get(r, object, key), key);
}

// An integer below `limit`, for enums.
static int get_choice(Reader *r, const json_t *object, const char *key, int limit) {
    int64_t value = get_integer(r, object, key);
    if (r->good && value >= 0 && value < limit) return (int)value;
    refuse(r, key, "is out of range");
    return 0;
}

static bool get_bool(Reader *r, const json_t *object, const char *key) {
    const json_t *value = get(r, object, key);
    if (!json_is_boolean(value)) refuse(r, key, "is neither true nor false");
    return json_is_true(value);
}

static json_t *get_list(Reader *r, const json_t *object, const char *key, int *count) {
    json_t *list = get(r, object, key);
    *count = 0;
    if (!r->good) return NULL;
    if (!json_is_array(list) || json_array_size(list) > MAX_COUNT) {
        refuse(r, key, "is no list, or too long");
        return NULL;
    }
    *count = (int)json_array_size(list);
    return list;
}

static LvArenaKind arena_of(Reader *r, const json_t *value) {
    const char *name = json_string_value(value);
    for (int a = 0; name && a < LV_ARENA_COUNT; a++) {
        if (!strcmp(name, lv_arena_kind_name((LvArenaKind)a))) return (LvArenaKind)a;
    }
    refuse(r, "arena", "is unknown");
    return LV_ARENA_PARAMS;
}

static LvDType dtype_of(Reader *r, const json_t *value) {
    LvDType dtype = LV_F32;
    const char *name = json_string_value(value);
    if (!name || !lv_dtype_parse(name, &dtype)) refuse(r, "dtype", "is unknown");
    return dtype;
}

static LvShape shape_of(Reader *r, const json_t *value) {
    LvShape shape = {0};
    if (!json_is_array(value) || json_array_size(value) > LV_MAX_RANK) {
        refuse(r, "shape", "is no list, or too long");
        return shape;
    }
    shape.rank = (int)json_array_size(value);
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = integer_of(r, json_array_get(value, (size_t)i), "shape");
    return shape;
}

static LvPlace get_place(Reader *r, const json_t *object, const char *key) {
    json_t *value = get(r, object, key);
    LvPlace place = {.arena = arena_of(r, json_array_get(value, 0))};
    place.offset = integer_of(r, json_array_get(value, 1), key);
    return place;
}

static LvOperand operand_of(Reader *r, const json_t *value) {
    LvOperand o = {.layout = lv_layout_row_major()};
    o.place.arena = arena_of(r, json_array_get(value, 0));
    o.place.offset = integer_of(r, json_array_get(value, 1), "offset");
    o.dtype = dtype_of(r, json_array_get(value, 2));
    o.shape = shape_of(r, json_array_get(value, 3));
    const char *layout = json_string_value(json_array_get(value, 4));
    if (r->good && (!layout || !lv_layout_parse(layout, o.shape.rank, &o.layout))) refuse(r, "layout", "is unknown");
    return o;
}

static void get_pairs(Reader *r, const json_t *root, const char *key, const char *first, const char *second, void **pairs,
                      int *count) {
    json_t *list = get_list(r, root, key, count);
    const char **at = (const char **)LV_NEW_ARRAY(r->arena, LvPlanSetting, *count + 1);
    *pairs = at;
    for (int i = 0; i < *count && r->good; i++) {
        json_t *item = json_array_get(list, (size_t)i);
        at[2 * i] = get_text(r, item, first);
        at[2 * i + 1] = get_text(r, item, second);
    }
}

static void get_variables(Reader *r, const json_t *root, LvPlan *plan) {
    json_t *list = get_list(r, root, "variables", &plan->variable_count);
    plan->variables = LV_NEW_ARRAY(r->arena, LvVariable, plan->variable_count + 1);
    for (int i = 0; i < plan->variable_count && r->good; i++) {
        json_t *item = json_array_get(list, (size_t)i);
        LvVariable *v = &plan->variables[i];
        v->name = get_text(r, item, "name");
        v->kind = (LvVariableKind)get_choice(r, item, "kind", LV_VARIABLE_CACHE + 1);
        v->dtype = dtype_of(r, get(r, item, "dtype"));
        v->shape = shape_of(r, get(r, item, "shape"));
        v->place = get_place(r, item, "place");
        v->gradient = get_place(r, item, "gradient");
    }
}

static void get_ports(Reader *r, const json_t *root, const char *key, LvPort **ports, int *count) {
    json_t *list = get_list(r, root, key, count);
    *ports = LV_NEW_ARRAY(r->arena, LvPort, *count + 1);
    for (int i = 0; i < *count && r->good; i++) {
        json_t *item = json_array_get(list, (size_t)i);
        LvPort *port = &(*ports)[i];
        port->name = get_text(r, item, "name");
        port->dtype = dtype_of(r, get(r, item, "dtype"));
        port->shape = shape_of(r, get(r, item, "shape"));
        port->place = get_place(r, item, "place");
    }
}

static void get_conv(Reader *r, const json_t *c, LvConvStep *conv) {
    json_t *stride = get(r, c, "stride"), *pad = get(r, c, "pad");
    conv->direction = (LvConvDirection)get_choice(r, c, "direction", LV_CONV_WEIGHT_GRADIENT + 1);
    for (size_t i = 0; i < 2; i++) conv->stride[i] = integer_of(r, json_array_get(stride, i), "stride");
    for (size_t i = 0; i < 4; i++) conv->pad[i] = integer_of(r, json_array_get(pad, i), "pad");
    conv->has_bias = get_bool(r, c, "has_bias");
    conv->has_residual = get_bool(r, c, "has_residual");
    conv->activation = (LvActivation)get_choice(r, c, "activation", LV_ACTIVATION_GELU + 1);
    conv->algorithm = (LvConvAlgorithm)get_choice(r, c, "algorithm", LV_CONV_WINOGRAD + 1);
}

static void get_matmul(Reader *r, const json_t *m, LvMatmulStep *matmul) {
    json_t *alpha = get(r, m, "alpha");
    matmul->transpose_a = get_bool(r, m, "transpose_a");
    matmul->transpose_b = get_bool(r, m, "transpose_b");
    matmul->has_bias = get_bool(r, m, "has_bias");
    matmul->has_residual = get_bool(r, m, "has_residual");
    matmul->activation = (LvActivation)get_choice(r, m, "activation", LV_ACTIVATION_GELU + 1);
    if (!json_is_number(alpha)) refuse(r, "alpha", "is no number");
    else matmul->alpha = json_number_value(alpha);
}

static void get_step(Reader *r, const json_t *item, LvStep *s) {
    s->kind = (LvStepKind)get_choice(r, item, "kind", LV_STEP_KIND_COUNT);
    s->label = get_text(r, item, "label");
    s->sources = get_text(r, item, "sources");
    s->flops = get_integer(r, item, "flops");
    s->bytes = get_integer(r, item, "bytes");
    json_t *operands = get_list(r, item, "operands", &s->operand_count);
    s->operands = LV_NEW_ARRAY(r->arena, LvOperand, s->operand_count + 1);
    for (int i = 0; i < s->operand_count && r->good; i++) s->operands[i] = operand_of(r, json_array_get(operands, (size_t)i));
    int64_t kernel = get_integer(r, item, "kernel");
    s->kernel = kernel >= 0 && kernel < MAX_COUNT ? (int)kernel : -1;
    json_t *scalars = get_list(r, item, "scalars", &s->scalar_count);
    s->scalars = LV_NEW_ARRAY(r->arena, LvScalar, s->scalar_count + 1);
    for (int i = 0; i < s->scalar_count && r->good; i++) {
        s->scalars[i].i = integer_of(r, json_array_get(scalars, (size_t)i), "scalars");
    }
    if (r->good && s->kind == LV_STEP_CONV) get_conv(r, get(r, item, "conv"), &s->conv);
    if (r->good && s->kind == LV_STEP_MATMUL) get_matmul(r, get(r, item, "matmul"), &s->matmul);
    if (r->good && s->kind == LV_STEP_LINEAR_LOSS) {
        const json_t *loss = get(r, item, "linear_loss");
        int64_t ignore = get_integer(r, loss, "ignore");
        s->linear_loss.gradient = get_bool(r, loss, "gradient");
        s->linear_loss.ignore = ignore >= INT32_MIN && ignore <= INT32_MAX ? (int32_t)ignore : -1;
    }
}

static void get_plan(Reader *r, const json_t *root, LvPlan *plan) {
    void *pairs;
    plan->model = get_text(r, root, "model");
    plan->config = json_object_get(root, "config") ? get_text(r, root, "config") : NULL;
    plan->entry = get_text(r, root, "entry");
    plan->device = get_text(r, root, "device");
    plan->precision = get_text(r, root, "precision");
    plan->batch = get_integer(r, root, "batch");
    json_t *arenas = get(r, root, "arena_bytes");
    for (int a = 0; a < LV_ARENA_COUNT; a++) plan->arena_bytes[a] = get_integer(r, arenas, lv_arena_kind_name((LvArenaKind)a));
    get_pairs(r, root, "settings", "name", "value", &pairs, &plan->setting_count);
    plan->settings = pairs;
    get_pairs(r, root, "sources", "path", "text", &pairs, &plan->source_count);
    plan->sources = pairs;
    get_variables(r, root, plan);
    get_ports(r, root, "inputs", &plan->inputs, &plan->input_count);
    get_ports(r, root, "results", &plan->results, &plan->result_count);
    plan->prelude = get_text(r, root, "prelude");
    get_pairs(r, root, "kernels", "name", "text", &pairs, &plan->kernel_count);
    plan->kernels = pairs;
    json_t *steps = get_list(r, root, "steps", &plan->step_count);
    plan->steps = LV_NEW_ARRAY(r->arena, LvStep, plan->step_count + 1);
    for (int i = 0; i < plan->step_count && r->good; i++) get_step(r, json_array_get(steps, (size_t)i), &plan->steps[i]);
    plan->prepare_count = get_choice(r, root, "prepare_count", plan->step_count + 1);
    plan->writes_variables = get_bool(r, root, "writes_variables");
}

// Header and hash; gives the lengths of the two parts.
static bool check_header(const unsigned char *data, size_t length, size_t *json_bytes, size_t *constants, LvError *error) {
    if (length < HEADER || memcmp(data, magic, 8)) return lv_error_set(error, LV_ERROR_FORMAT, "no L-Verse artifact");
    uint64_t version = get_number(data + 8, 4), a = get_number(data + 16, 8), b = get_number(data + 24, 8);
    if (version != LV_PLAN_FILE_VERSION) {
        lv_error_set(error, LV_ERROR_FORMAT, "artifact version %u; this program reads %d", (unsigned)version, LV_PLAN_FILE_VERSION);
        return lv_error_hint(error, "compile the model again with lvc");
    }
    size_t rest = length - HEADER;
    if (a > rest || b != rest - a) return lv_error_set(error, LV_ERROR_FORMAT, "the artifact is cut off or has bytes too many");
    if (get_number(data + 32, 8) != hash_file(data, length)) {
        return lv_error_set(error, LV_ERROR_FORMAT, "the artifact's checksum is wrong: it was altered or damaged");
    }
    *json_bytes = (size_t)a;
    *constants = (size_t)b;
    return true;
}

bool lv_plan_decode(const void *bytes, size_t length, LvPlan **out, LvError *error) {
    const unsigned char *data = bytes;
    size_t json_bytes = 0, constants = 0;
    if (!check_header(data, length, &json_bytes, &constants, error)) return false;
    json_error_t problem;
    json_t *root = json_loadb((const char *)data + HEADER, json_bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!root) return lv_error_set(error, LV_ERROR_FORMAT, "the artifact's plan is no JSON: %s", problem.text);
    LvPlan *plan = lv_plan_create();
    Reader reader = {plan->arena, error, true};
    if (!json_is_object(root)) refuse(&reader, "plan", "is no object");
    get_plan(&reader, root, plan);
    json_decref(root);
    if (reader.good && (uint64_t)plan->arena_bytes[LV_ARENA_CONSTANTS] != constants) {
        refuse(&reader, "constants", "have another length than the plan says");
    }
    if (reader.good) {
        plan->constants = lv_arena_copy(plan->arena, (const char *)data + HEADER + json_bytes, constants);
        reader.good = lv_plan_check(plan, error);
    }
    if (!reader.good) {
        lv_error_prefix(error, "the artifact's plan");
        lv_plan_destroy(plan);
        return false;
    }
    *out = plan;
    return true;
}

bool lv_plan_read(const char *path, LvPlan **plan, LvError *error) {
    char *data;
    size_t length;
    if (!lv_file_read(path, most_file, &data, &length, error)) return false;
    bool good = lv_plan_decode(data, length, plan, error) || lv_error_prefix(error, "%s", path);
    free(data);
    return good;
}
