// Writing and reading artifacts: see plan_file.h for the form. One list of fields serves both: each function here gives a part
// of the plan to the file or takes it from there, by which end of the codec is open. Integers are zigzag LEB128, texts have
// their length before them, lists their count.
#include "base/plan_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static const char magic[8] = "LVERSE\r\n";  // the newline pair shows a transfer in text mode
enum { HEADER = 40, MAX_COUNT = 1 << 20 };
static const size_t most_file = (size_t)4 << 30;

typedef struct {
    LvText *out;                     // writing; NULL: reading
    const unsigned char *at, *end;   // what is left to read
    LvArena *arena;                  // of the plan being read
    LvError *error;
    bool good;                       // once false, nothing more is written or read
} Codec;

static void refuse(Codec *c, const char *key, const char *why) {
    if (c->good) c->good = lv_error_set(c->error, LV_ERROR_FORMAT, "'%s' %s", key, why);
}

static void code_integer(Codec *c, int64_t *value, const char *key) {
    if (c->out) {
        uint64_t rest = (uint64_t)*value << 1 ^ (*value < 0 ? UINT64_MAX : 0);
        for (; rest >= 0x80; rest >>= 7) lv_text_putc(c->out, (char)(rest | 0x80));
        lv_text_putc(c->out, (char)rest);
        return;
    }
    uint64_t bits = 0;
    bool more = true;
    for (int shift = 0; c->good && more; shift += 7) {
        if (c->at == c->end || shift > 63) {
            refuse(c, key, "is cut off");
            break;
        }
        bits |= (uint64_t)(*c->at & 0x7F) << shift;
        more = *c->at++ & 0x80;
    }
    *value = c->good ? (int64_t)(bits >> 1 ^ (bits & 1 ? UINT64_MAX : 0)) : 0;
}

// From `least` to below `limit`.
static void code_int(Codec *c, int *value, int least, int limit, const char *key) {
    int64_t wide = *value;
    code_integer(c, &wide, key);
    if (c->out) return;
    if (wide < least || wide >= limit) refuse(c, key, "is out of range");
    *value = c->good ? (int)wide : least > 0 ? least : 0;
}

// An enum's value below `limit`.
#define CODE_CHOICE(codec, field, limit, key)                        \
    do {                                                             \
        int choice_ = (int)(field);                                  \
        code_int(codec, &choice_, 0, limit, key);                    \
        if (!(codec)->out) (field) = (__typeof__(field))choice_;     \
    } while (0)

static void code_bool(Codec *c, bool *value, const char *key) {
    int number = *value;
    code_int(c, &number, 0, 2, key);
    if (!c->out) *value = number != 0;
}

// A count of things that take a byte each at least: no more of them than there are bytes.
static void code_count(Codec *c, int *count, const char *key) {
    size_t left = (size_t)(c->end - c->at);
    code_int(c, count, 0, !c->out && left < MAX_COUNT ? (int)left + 1 : MAX_COUNT, key);
}

static void code_text(Codec *c, const char **text, const char *key) {
    int64_t length = c->out && *text ? (int64_t)strlen(*text) : 0;
    code_integer(c, &length, key);
    if (c->out) {
        lv_text_append(c->out, *text ? *text : "", (size_t)length);
        return;
    }
    *text = "";
    if (c->good && (length < 0 || length > c->end - c->at || memchr(c->at, 0, (size_t)length))) refuse(c, key, "is no text");
    if (!c->good) return;
    *text = lv_arena_copy(c->arena, (const char *)c->at, (size_t)length);
    c->at += length;
}

static void code_dtype(Codec *c, LvDType *dtype) { CODE_CHOICE(c, *dtype, LV_DTYPE_COUNT, "dtype"); }

static void code_shape(Codec *c, LvShape *shape) {
    code_int(c, &shape->rank, 0, LV_MAX_RANK + 1, "shape");
    for (int i = 0; i < shape->rank; i++) code_integer(c, &shape->dim[i], "shape");
}

static void code_place(Codec *c, LvPlace *place) {
    CODE_CHOICE(c, place->arena, LV_ARENA_COUNT, "arena");
    code_integer(c, &place->offset, "offset");
}

// As text, since reading it checks it. Nothing is row-major.
static void code_layout(Codec *c, LvLayout *layout, int rank) {
    LvText text = {0};
    if (c->out && !lv_layout_is_row_major(*layout, rank)) lv_layout_print(&text, *layout, rank);
    const char *form = lv_text_get(&text);
    code_text(c, &form, "layout");
    if (!c->out) *layout = lv_layout_row_major();
    if (!c->out && *form && !lv_layout_parse(form, rank, layout)) refuse(c, "layout", "is unknown");
    lv_text_free(&text);
}

static void code_operand(Codec *c, LvOperand *o) {
    code_place(c, &o->place);
    code_dtype(c, &o->dtype);
    code_shape(c, &o->shape);
    code_layout(c, &o->layout, o->shape.rank);
}

static void code_variable(Codec *c, LvVariable *v) {
    code_text(c, &v->name, "name");
    CODE_CHOICE(c, v->kind, LV_VARIABLE_KIND_COUNT, "kind");
    code_dtype(c, &v->dtype);
    code_shape(c, &v->shape);
    code_place(c, &v->place);
    code_place(c, &v->gradient);
}

static void code_ports(Codec *c, LvPort **ports, int *count, const char *key) {
    code_count(c, count, key);
    if (!c->out) *ports = LV_NEW_ARRAY(c->arena, LvPort, *count + 1);
    for (int i = 0; i < *count && c->good; i++) {
        LvPort *port = &(*ports)[i];
        code_text(c, &port->name, "name");
        code_dtype(c, &port->dtype);
        code_shape(c, &port->shape);
        code_place(c, &port->place);
    }
}

// LvBundledSource, LvPlanSetting, LvKernelText: two texts each.
static void code_pairs(Codec *c, void *pairs, int *count, const char *key) {
    const char ***list = pairs;
    code_count(c, count, key);
    if (!c->out) *list = (const char **)LV_NEW_ARRAY(c->arena, LvPlanSetting, *count + 1);
    for (int i = 0; i < 2 * *count && c->good; i++) code_text(c, &(*list)[i], key);
}

static void code_conv(Codec *c, LvConvStep *conv) {
    CODE_CHOICE(c, conv->direction, LV_CONV_WEIGHT_GRADIENT + 1, "direction");
    for (int i = 0; i < 2; i++) code_integer(c, &conv->stride[i], "stride");
    for (int i = 0; i < 4; i++) code_integer(c, &conv->pad[i], "pad");
    code_bool(c, &conv->has_bias, "has_bias");
    code_bool(c, &conv->has_residual, "has_residual");
    code_bool(c, &conv->has_moments, "has_moments");
    CODE_CHOICE(c, conv->activation, LV_ACTIVATION_GELU + 1, "activation");
    CODE_CHOICE(c, conv->algorithm, LV_CONV_WINOGRAD + 1, "algorithm");
}

static void code_matmul(Codec *c, LvMatmulStep *m) {
    LvScalar alpha = {.f = m->alpha};
    code_bool(c, &m->transpose_a, "transpose_a");
    code_bool(c, &m->transpose_b, "transpose_b");
    code_bool(c, &m->has_bias, "has_bias");
    code_bool(c, &m->has_residual, "has_residual");
    code_bool(c, &m->has_sums, "has_sums");
    CODE_CHOICE(c, m->activation, LV_ACTIVATION_GELU + 1, "activation");
    code_integer(c, &alpha.i, "alpha");
    if (!isfinite(alpha.f)) refuse(c, "alpha", "is not finite");
    if (!c->out) m->alpha = alpha.f;
}

static void code_launch(Codec *c, LvLaunch *launch) {
    int grid[3] = {launch->grid[0], launch->grid[1], launch->grid[2]}, block = launch->block, shared = launch->shared;
    for (int i = 0; i < 3; i++) code_int(c, &grid[i], 1, INT32_MAX, "grid");
    code_int(c, &block, 1, 1025, "block");
    code_int(c, &shared, 0, 1 << 20, "shared");
    if (!c->out) *launch = (LvLaunch){{grid[0], grid[1], grid[2]}, block, shared};
}

static void code_step(Codec *c, LvStep *s) {
    CODE_CHOICE(c, s->kind, LV_STEP_KIND_COUNT, "kind");
    code_text(c, &s->label, "label");
    code_text(c, &s->sources, "sources");
    code_integer(c, &s->flops, "flops");
    code_integer(c, &s->bytes, "bytes");
    code_int(c, &s->kernel, -1, MAX_COUNT, "kernel");
    code_count(c, &s->operand_count, "operands");
    if (!c->out) s->operands = LV_NEW_ARRAY(c->arena, LvOperand, s->operand_count + 1);
    for (int i = 0; i < s->operand_count && c->good; i++) code_operand(c, &s->operands[i]);
    code_count(c, &s->scalar_count, "scalars");
    if (!c->out) s->scalars = LV_NEW_ARRAY(c->arena, LvScalar, s->scalar_count + 1);
    for (int i = 0; i < s->scalar_count && c->good; i++) code_integer(c, &s->scalars[i].i, "scalars");
    code_count(c, &s->launch_count, "launches");
    if (!c->out) s->launches = LV_NEW_ARRAY(c->arena, LvLaunch, s->launch_count + 1);
    for (int i = 0; i < s->launch_count && c->good; i++) code_launch(c, &s->launches[i]);
    code_integer(c, &s->scratch, "scratch");
    if (s->kind == LV_STEP_CONV) code_conv(c, &s->conv);
    if (s->kind == LV_STEP_MATMUL) code_matmul(c, &s->matmul);
    if (s->kind == LV_STEP_LINEAR_LOSS) {
        int64_t ignore = s->linear_loss.ignore;
        code_bool(c, &s->linear_loss.gradient, "gradient");
        code_integer(c, &ignore, "ignore");
        if (ignore < INT32_MIN || ignore > INT32_MAX) refuse(c, "ignore", "is out of range");
        if (!c->out) s->linear_loss.ignore = c->good ? (int32_t)ignore : -1;
    }
}

static void code_plan(Codec *c, LvPlan *plan) {
    code_text(c, &plan->model, "model");
    code_text(c, &plan->config, "config");
    code_text(c, &plan->entry, "entry");
    code_text(c, &plan->device, "device");
    code_text(c, &plan->precision, "precision");
    code_integer(c, &plan->batch, "batch");
    code_bool(c, &plan->tf32, "tf32");
    code_integer(c, &plan->ranks, "the number of ranks");
    for (int a = 0; a < LV_ARENA_COUNT; a++) code_integer(c, &plan->arena_bytes[a], "arena_bytes");
    code_pairs(c, &plan->settings, &plan->setting_count, "settings");
    code_pairs(c, &plan->sources, &plan->source_count, "sources");
    code_count(c, &plan->variable_count, "variables");
    if (!c->out) plan->variables = LV_NEW_ARRAY(c->arena, LvVariable, plan->variable_count + 1);
    for (int i = 0; i < plan->variable_count && c->good; i++) code_variable(c, &plan->variables[i]);
    code_ports(c, &plan->inputs, &plan->input_count, "inputs");
    code_ports(c, &plan->results, &plan->result_count, "results");
    code_text(c, &plan->prelude, "prelude");
    code_pairs(c, &plan->kernels, &plan->kernel_count, "kernels");
    code_count(c, &plan->step_count, "steps");
    if (!c->out) plan->steps = LV_NEW_ARRAY(c->arena, LvStep, plan->step_count + 1);
    for (int i = 0; i < plan->step_count && c->good; i++) code_step(c, &plan->steps[i]);
    code_int(c, &plan->prepare_count, 0, MAX_COUNT, "prepare_count");
    code_bool(c, &plan->writes_variables, "writes_variables");
}

// ---- the file

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
    unsigned char header[HEADER] = {0};
    size_t constants = (size_t)plan->arena_bytes[LV_ARENA_CONSTANTS], at = out->length;
    lv_text_append(out, (const char *)header, HEADER);
    Codec codec = {.out = out, .error = error, .good = true};
    code_plan(&codec, (LvPlan *)(uintptr_t)plan);  // written from, not to
    if (!codec.good) return false;
    memcpy(header, magic, 8);
    put_number(header + 8, LV_PLAN_FILE_VERSION, 4);
    put_number(header + 16, out->length - at - HEADER, 8);
    put_number(header + 24, constants, 8);
    if (constants) lv_text_append(out, plan->constants, constants);
    unsigned char *whole = (unsigned char *)out->data + at;
    memcpy(whole, header, HEADER);
    put_number(whole + 32, hash_file(whole, out->length - at), 8);
    return true;
}

bool lv_plan_write(const LvPlan *plan, const char *path, LvError *error) {
    LvText out = {0};
    bool good = lv_plan_encode(plan, &out, error) && lv_file_write(path, out.data, out.length, error);
    lv_text_free(&out);
    return good;
}

// Header and hash; gives the lengths of the two parts.
static bool check_header(const unsigned char *data, size_t length, size_t *plan_bytes, size_t *constants, LvError *error) {
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
    *plan_bytes = (size_t)a;
    *constants = (size_t)b;
    return true;
}

bool lv_plan_decode(const void *bytes, size_t length, LvPlan **out, LvError *error) {
    const unsigned char *data = bytes;
    size_t plan_bytes = 0, constants = 0;
    if (!check_header(data, length, &plan_bytes, &constants, error)) return false;
    LvPlan *plan = lv_plan_create();
    const unsigned char *start = data + HEADER;
    Codec codec = {.at = start, .end = start + plan_bytes, .arena = plan->arena, .error = error, .good = true};
    code_plan(&codec, plan);
    if (codec.at != codec.end) refuse(&codec, "plan", "has bytes too many");
    if ((uint64_t)plan->arena_bytes[LV_ARENA_CONSTANTS] != constants) {
        refuse(&codec, "constants", "have another length than the plan says");
    }
    if (codec.good) {
        plan->constants = lv_arena_copy(plan->arena, (const char *)start + plan_bytes, constants);
        codec.good = lv_plan_check(plan, error);
    }
    if (!codec.good) {
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
