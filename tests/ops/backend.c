// See backend.h.
#include "backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "driver/pipeline.h"

static void *tensor_bytes(const Tensor *t, size_t *bytes) {
    int64_t n = lv_shape_elements(t->shape);
    *bytes = (size_t)n * lv_dtype_size(t->dtype);
    char *data = lv_malloc(*bytes + 8);
    for (int64_t i = 0; i < n; i++) lv_element_set(data, t->dtype, i, tensor_at(t, i));
    return data;
}

LvPlan *backend_plan(Graph *graph, const char *target, bool no_fuse, LvError *error) {
    LvDiagnostics diagnostics;
    LvSources sources = {0};
    LvPlan *plan = NULL;
    bool stopped = false;
    LvCompileOptions options = {.entry = graph->name, .batch = 1, .device = target, .no_fuse = no_fuse, .no_optimize = no_fuse,
                                .conv = LV_CONV_DIRECT};
    lv_diagnostics_init(&diagnostics, &sources);
    if (pipeline_run(graph, &options, 0, &diagnostics, &stopped, error)) pipeline_finish(graph, &options, &diagnostics, &plan);
    lv_diagnostics_free(&diagnostics);
    return plan;
}

static const BackendPart *find_part(const BackendPart *parts, int count, const char *name, const char **own) {
    for (int i = 0; i < count; i++) {
        size_t length = strlen(parts[i].prefix);
        if (strncmp(name, parts[i].prefix, length)) continue;
        *own = name + length;
        return &parts[i];
    }
    lv_internal_error("no part has the port '%s'", name);
}

static bool set_inputs(LvProgram *program, const LvPlan *plan, const BackendPart *parts, int count, LvError *error) {
    bool good = true;
    for (int i = 0; i < plan->input_count && good; i++) {
        const char *own;
        const BackendPart *part = find_part(parts, count, plan->inputs[i].name, &own);
        size_t bytes;
        void *data = tensor_bytes(set_find(part->inputs, own), &bytes);
        good = lv_program_set_input(program, plan->inputs[i].name, data, bytes, error);
        free(data);
    }
    return good;
}

static bool get_result(LvProgram *program, const LvPort *port, const char *name, TensorSet *results, LvArena *arena, LvError *error) {
    Tensor *t = tensor_new(arena, port->dtype, port->shape);
    int64_t n = lv_shape_elements(port->shape);
    size_t bytes = (size_t)n * lv_dtype_size(port->dtype);
    char *data = lv_malloc(bytes + 8);
    bool good = lv_program_get_result(program, port->name, data, bytes, error);
    for (int64_t k = 0; k < n && good; k++) {
        double v = lv_element_get(data, port->dtype, k);
        if (t->f) t->f[k] = v;
        else t->i[k] = (int64_t)v;
    }
    free(data);
    if (good) set_add(results, lv_arena_strdup(arena, name), t);
    return good;
}

static bool run_program(LvProgram *program, const LvPlan *plan, const BackendPart *parts, int count, LvArena *arena, LvError *error) {
    if (!set_inputs(program, plan, parts, count, error) || !lv_program_run(program, error)) return false;
    for (int i = 0; i < count; i++) parts[i].results->count = 0;
    for (int i = 0; i < plan->result_count; i++) {
        const char *own;
        const BackendPart *part = find_part(parts, count, plan->results[i].name, &own);
        if (!get_result(program, &plan->results[i], own, part->results, arena, error)) return false;
    }
    return true;
}

bool backend_run_plan(LvDevice *device, const LvPlan *plan, const BackendPart *parts, int count, int runs, BackendLook *look, void *user,
                      LvArena *arena, LvError *error) {
    LvStore *store = NULL;
    LvProgram *program = NULL;
    bool good = lv_store_create(device, plan, &store, error) && lv_program_create(device, plan, store, &program, error);
    for (int i = 0; good && i < runs; i++) good = run_program(program, plan, parts, count, arena, error);
    if (good && look) look(user, plan, program);
    if (program) lv_program_destroy(program);
    if (store) lv_store_destroy(store);
    return good;
}

bool backend_run(LvDevice *device, const char *target, Graph *graph, bool no_fuse, const BackendPart *parts, int count, LvArena *arena,
                 LvError *error) {
    LvPlan *plan = backend_plan(graph, target, no_fuse, error);
    bool good = plan && backend_run_plan(device, plan, parts, count, 1, NULL, NULL, arena, error);
    if (plan) lv_plan_destroy(plan);
    return good;
}

static double tolerance(const Tensor *want, bool gradient, double coarsest) {
    return !want->f ? 0 : coarsest > 0 ? coarsest : gradient ? 2e-5 : 5e-6;
}

// Of the narrowest type among them, 0 where that is f32.
static double coarseness(const TensorSet *set) {
    double most = 0;
    for (int i = 0; i < set->count; i++) {
        LvDType dtype = set->at[i].tensor->dtype;
        most = fmax(most, dtype == LV_BF16 ? 1e-2 : dtype == LV_F16 ? 1.5e-3 : 0);
    }
    return most;
}

bool backend_compare(const OpCase *c, const TensorSet *inputs, const TensorSet *want, const TensorSet *got, const char *how, LvText *message) {
    double coarsest = fmax(coarseness(want), coarseness(inputs));
    for (int i = 0; i < want->count; i++) {
        const char *name = want->at[i].name;
        if (!strcmp(name, "loss")) continue;  // a sum that cancels: what it is made of is compared
        double apart = tensor_distance(set_find(got, name), want->at[i].tensor);
        if (apart <= tolerance(want->at[i].tensor, name[0] == 'd', coarsest)) continue;
        lv_text_printf(message, "%s: %s %s is off by %g", c->text, name, how, apart);
        return false;
    }
    return true;
}

bool backend_has_gradient(const OpCase *c) {
    for (int i = 0; i < c->attrs.count; i++) {
        AttrName name = c->attrs.at[i].name;
        if (name == ATTR_bias || name == ATTR_residual || name == ATTR_activation) return false;
    }
    return op_info(c->op)->gradient && case_smooth(c);
}
