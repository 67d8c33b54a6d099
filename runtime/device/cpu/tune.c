// Which algorithm a convolution takes under LV_CONV_AUTO: both are timed once, briefly, and the answer is kept in the cache
// by library version, processor, thread count and shape. Bits then repeat from run to run on one machine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "device/cpu/onednn.h"

// Winograd must win by 5%: it is the less accurate of the two. 0.06 s bounds a model of some 60 distinct ones to seconds;
// the best of several turns, since a single one may meet another process.
static const double margin = 0.95, budget = 0.06;
enum { LEAST_RUNS = 4, MOST_RUNS = 12 };

static void print_key(const LvCpu *cpu, const LvStep *step, char key[33]) {
    LvText text = {0};
    int version[3];
    const LvConvStep *c = &step->conv;
    cpu_library_version(version);
    lv_text_printf(&text, "oneDNN %d.%d.%d threads %d direction %d stride %lld %lld pad", version[0], version[1], version[2],
                   cpu->threads, c->direction, (long long)c->stride[0], (long long)c->stride[1]);
    for (int i = 0; i < 4; i++) lv_text_printf(&text, " %lld", (long long)c->pad[i]);
    lv_text_printf(&text, " bias %d residual %d activation %d", c->has_bias, c->has_residual, c->activation);
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *o = &step->operands[i];
        lv_text_printf(&text, " %s", lv_dtype_name(o->dtype));
        lv_shape_print(&text, o->shape);
        lv_layout_print(&text, o->layout, o->shape.rank);
    }
    const char *parts[] = {"convolution 1", cpu->processor, lv_text_get(&text)};
    cache_key(key, parts, 3);
    lv_text_free(&text);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// A form of the convolution ready to run; NULL if it cannot.
static LvCall *prepare_form(LvCpu *cpu, const LvStep *step, bool winograd, char *const *buffers) {
    LvError error = {0};
    LvCall *call = call_create(step);
    bool good = conv_build(cpu->library, call, winograd) && call_finish(cpu->library, call, &error) &&
                call_execute(cpu->library, call, buffers, &error);
    lv_error_clear(&error);
    if (good) return call;
    cpu_call_discard(call);
    return NULL;
}

static double time_once(LvCpu *cpu, LvCall *call, char *const *buffers) {
    LvError error = {0};
    double begin = now();
    bool good = call_execute(cpu->library, call, buffers, &error);
    lv_error_clear(&error);
    return good ? now() - begin : 1e9;
}

// Whether Winograd's best run beats direct's. The two take turns, so that what else the machine does meets both alike.
static bool race(LvCpu *cpu, LvCall *winograd, LvCall *direct, char *const *buffers) {
    double best[2] = {1e9, 1e9}, start = now();
    for (int run = 0; run < MOST_RUNS && (run < LEAST_RUNS || now() - start < budget); run++) {
        double took[2] = {time_once(cpu, winograd, buffers), time_once(cpu, direct, buffers)};
        for (int k = 0; k < 2; k++) best[k] = took[k] < best[k] ? took[k] : best[k];
    }
    return best[0] < margin * best[1];
}

static bool measure(LvCpu *cpu, const LvStep *step) {
    char *buffers[8] = {0};
    bool good = step->operand_count <= 8, wins = false;
    for (int i = 0; good && i < step->operand_count; i++) {
        size_t bytes;
        good = lv_shape_bytes(step->operands[i].shape, step->operands[i].dtype, &bytes);
        if (good) buffers[i] = aligned_alloc(64, (bytes + 127) / 64 * 64);
        good = good && buffers[i];
        if (good) memset(buffers[i], 0, bytes);
    }
    LvCall *winograd = good ? prepare_form(cpu, step, true, buffers) : NULL;
    LvCall *direct = winograd ? prepare_form(cpu, step, false, buffers) : NULL;
    if (winograd) wins = !direct || race(cpu, winograd, direct, buffers);
    if (winograd) cpu_call_discard(winograd);
    if (direct) cpu_call_discard(direct);
    for (int i = 0; i < 8; i++) free(buffers[i]);
    return wins;
}

bool tune_wants_winograd(LvCpu *cpu, const LvStep *step) {
    const LvOperand *w = &step->operands[step->conv.direction == LV_CONV_WEIGHT_GRADIENT ? 0 : 2];
    const LvConvStep *c = &step->conv;
    if (w->shape.dim[2] != 3 || w->shape.dim[3] != 3 || c->stride[0] != 1 || c->stride[1] != 1) return false;
    if (step->operands[1].dtype != LV_F32) return false;
    char key[33];
    print_key(cpu, step, key);
    void *known = lv_map_get(&cpu->library->choices, key);
    if (known) return (intptr_t)known == 1 + LV_CONV_WINOGRAD;
    LvText path = {0};
    char *text = NULL;
    bool winograd;
    if (cpu->cache_dir) lv_text_printf(&path, "%s/%s.choice", cpu->cache_dir, key);
    if (cpu->cache_dir && cache_read_text(path.data, &text) && (!strcmp(text, "winograd") || !strcmp(text, "direct"))) {
        winograd = !strcmp(text, "winograd");
    } else {
        winograd = measure(cpu, step);
        const char *answer = winograd ? "winograd" : "direct";
        if (cpu->cache_dir) cache_write(path.data, answer, strlen(answer));
    }
    free(text);
    lv_text_free(&path);
    lv_map_set(&cpu->library->choices, key, (void *)(intptr_t)(1 + (winograd ? LV_CONV_WINOGRAD : LV_CONV_DIRECT)));
    return winograd;
}
