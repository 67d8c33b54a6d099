// A model of the tree compiled and run on the CPU: its entries as programs over one store.
#ifndef LV_TEST_MODEL_RUN_H
#define LV_TEST_MODEL_RUN_H

#include <stdio.h>
#include <string.h>

#include "driver/compiler.h"
#include "exec/weights.h"

enum { MODEL_PROGRAMS = 8 };
#define MODEL_SETTING(name_, value_) {.name = name_, .value = value_, .origin = "--set"}

typedef struct {
    LvSources sources;
    LvDiagnostics diagnostics;
    LvModel *model;
    LvDevice *device;
    LvStore *store;
    bool bytes;  // plans take pictures as bytes
    int count;
    LvPlan *plans[MODEL_PROGRAMS];
    LvProgram *programs[MODEL_PROGRAMS];
    LvError error;
} ModelRun;

static inline void model_run_open(ModelRun *run, const char *path, const LvSetting *settings, int count) {
    char full[4096];
    *run = (ModelRun){0};
    snprintf(full, sizeof full, "%s/%s", LV_SOURCE_DIR, path);
    lv_diagnostics_init(&run->diagnostics, &run->sources);
    if (!lv_model_load(full, NULL, 0, NULL, settings, count, &run->diagnostics, &run->model, &run->error) ||
        !lv_device_open("cpu", 2, &run->device, &run->error))
        fail_msg("%s: %s", path, run->error.message);
}

static inline LvPlan *model_run_plan(ModelRun *run, const char *entry, int64_t batch, LvPrecision precision) {
    LvCompileOptions options = {.entry = entry, .batch = batch, .device = "cpu", .precision = precision, .bytes = run->bytes};
    LvPlan *plan = NULL;
    if (!lv_model_compile(run->model, &options, &run->diagnostics, &plan, &run->error)) {
        LvText text = {0};
        lv_diagnostics_render(&run->diagnostics, false, &text);
        fail_msg("%s: %s\n%s", entry, run->error.message, lv_text_get(&text));
    }
    return plan;
}

// NULL, and run->error says why, if the store does not take it.
static inline LvProgram *model_run_program(ModelRun *run, const char *entry, int64_t batch, LvPrecision precision) {
    LvProgram *program = NULL;
    LvPlan *plan = model_run_plan(run, entry, batch, precision);
    if (!run->store && !lv_store_create(run->device, plan, &run->store, &run->error)) fail_msg("%s", run->error.message);
    if (!lv_program_create(run->device, plan, run->store, &program, &run->error)) {
        lv_plan_destroy(plan);
        return NULL;
    }
    assert_true(run->count < MODEL_PROGRAMS);
    run->plans[run->count] = plan;
    run->programs[run->count++] = program;
    return program;
}

static inline void model_run_end_programs(ModelRun *run) {
    for (int i = 0; i < run->count; i++) {
        lv_program_destroy(run->programs[i]);
        lv_plan_destroy(run->plans[i]);
    }
    run->count = 0;
}

static inline void model_run_close(ModelRun *run) {
    model_run_end_programs(run);
    lv_store_destroy(run->store);
    if (run->device) lv_device_close(run->device);
    lv_model_destroy(run->model);
    lv_error_clear(&run->error);
    lv_diagnostics_free(&run->diagnostics);
    lv_sources_free(&run->sources);
}

static inline void model_run_set(LvProgram *program, const char *name, const void *data, size_t bytes) {
    LvError error = {0};
    if (!lv_program_set_input(program, name, data, bytes, &error)) fail_msg("%s", error.message);
}

static inline void model_run_once(LvProgram *program) {
    LvError error = {0};
    if (!lv_program_run(program, &error)) fail_msg("%s", error.message);
}

static inline void model_run_get(LvProgram *program, const char *name, void *data, size_t bytes) {
    LvError error = {0};
    if (!lv_program_get_result(program, name, data, bytes, &error)) fail_msg("%s", error.message);
}

#endif
