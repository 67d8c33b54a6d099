// Measuring the peak: see peak.h.
#include "peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xxhash.h>

#include "base/folder.h"

// Small, so that one of many tries is done in a moment when nobody else has the processor.
enum { SIDE = 256, MOST = 4000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// y = x w, [SIDE, SIDE] each.
static LvPlan *product(void) {
    LvPlan *plan = lv_plan_create();
    plan->model = plan->entry = "peak";
    plan->device = "cpu";
    plan->precision = "f32";
    plan->prelude = "";
    plan->batch = 1;
    int64_t side[2] = {SIDE, SIDE}, bytes = (int64_t)SIDE * SIDE * 4;
    plan->arena_bytes[LV_ARENA_IO] = 3 * bytes;
    plan->step_count = 1;
    plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, 1);
    plan->steps[0] = (LvStep){.kind = LV_STEP_MATMUL, .label = "peak", .sources = "", .operand_count = 3, .matmul = {.alpha = 1}};
    plan->steps[0].operands = LV_NEW_ARRAY(plan->arena, LvOperand, 3);
    for (int i = 0; i < 3; i++) {
        LvPlace place = {LV_ARENA_IO, i * bytes};
        plan->steps[0].operands[i] = (LvOperand){place, LV_F32, lv_shape(2, side), lv_layout_row_major()};
    }
    return plan;
}

static double measure(LvDevice *device) {
    LvPlan *plan = product();
    LvStore *store = NULL;
    LvProgram *program = NULL;
    LvError error = {0};
    double best = 1e9, start = now();
    bool good = lv_store_create(device, plan, &store, &error) && lv_program_create(device, plan, store, &program, &error);
    for (int i = 0; good && i < MOST && (i < 3 || now() - start < 0.1); i++) {
        double begin = now();
        good = lv_program_run(program, &error);
        double seconds = now() - begin;
        if (i > 0 && seconds < best) best = seconds;
    }
    lv_error_clear(&error);
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    return good ? 2.0 * SIDE * SIDE * SIDE / best : 0;
}

double peak_of(LvDevice *device) {
    double peak = measure(device);
    LvText path = {0};
    LvError error = {0};
    if (!lv_folder_cache(&path)) return peak;
    const char *name = lv_device_name(device);
    lv_text_printf(&path, "/peak-%016llx", (unsigned long long)XXH3_64bits(name, strlen(name)));
    char *text = NULL, number[32];
    size_t length;
    double known = lv_file_read(path.data, 64, &text, &length, &error) ? strtod(text, NULL) : 0;
    lv_error_clear(&error);
    free(text);
    if (known >= peak && known < 1e18) {
        peak = known;
    } else if (peak > 0) {
        snprintf(number, sizeof number, "%.4g\n", peak);
        lv_file_write(path.data, number, strlen(number), &error);
        lv_error_clear(&error);
    }
    lv_text_free(&path);
    return peak;
}
