// Which algorithm a convolution takes under LV_CONV_AUTO: both are timed once, briefly, and the answer is kept in the cache
// by library version, processor, thread count and shape. Bits then repeat from run to run on one machine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "device/cpu/onednn.h"
#include "io/cache.h"

// Winograd won by 1.3 to 3 on every processor seen, so on a busy machine a near draw goes to it. The two take turns; a clear
// answer ends the measuring, against Winograd after two turns. 0.05 s in all bounds a model of 100
// distinct convolutions to seconds.
static const double favour = 1.1, clear = 1.4, budget = 0.05;
enum { LEAST_TURNS = 2, MOST_TURNS = 8 };

static void print_key(const LvCpu *cpu, const char *step_key, char key[33]) {
    LvText text = {0};
    int version[3];
    cpu_library_version(version);
    lv_text_printf(&text, "oneDNN %d.%d.%d threads %d", version[0], version[1], version[2], cpu->threads);
    const char *parts[] = {"convolution 3", cpu->processor, lv_text_get(&text), step_key};
    lv_cache_key(key, parts, 4);
    lv_text_free(&text);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// A form ready to be timed; NULL if the library has none.
static LvCall *make_form(LvCpu *cpu, const LvStep *step, bool winograd, char *const *buffers) {
    LvError error = {0};
    LvCall *call = call_create(step);
    bool good = conv_build(cpu->library, call, winograd) && call_make(call) && call_finish(cpu->library, call, &error) &&
                call_execute(cpu->library, call, buffers, &error);
    lv_error_clear(&error);
    if (good) return call;
    call_destroy(call);
    return NULL;
}

static double time_run(LvCpu *cpu, LvCall *call, char *const *buffers) {
    LvError error = {0};
    double begin = now();
    bool good = call_execute(cpu->library, call, buffers, &error);
    lv_error_clear(&error);
    return good ? now() - begin : 1e9;
}

// Best times of both, in turns: whatever else the machine does falls on both.
static bool winograd_wins(LvCpu *cpu, LvCall *winograd, LvCall *direct, char *const *buffers) {
    double best[2] = {1e9, 1e9}, start = now();
    for (int turn = 0; turn < MOST_TURNS; turn++) {
        double w = time_run(cpu, winograd, buffers), d = time_run(cpu, direct, buffers);
        if (w < best[0]) best[0] = w;
        if (d < best[1]) best[1] = d;
        if (best[0] * clear < best[1]) break;
        bool decided = best[1] * clear < best[0];
        if (turn + 1 >= LEAST_TURNS && (decided || now() - start > budget)) break;
    }
    return best[0] < best[1] * favour;
}

static bool measure(LvCpu *cpu, const LvStep *step) {
    char *buffers[8] = {0};
    bool good = step->operand_count <= 8;
    for (int i = 0; good && i < step->operand_count; i++) {
        size_t bytes;
        good = lv_shape_bytes(step->operands[i].shape, step->operands[i].dtype, &bytes);
        if (good) buffers[i] = aligned_alloc(64, (bytes + 127) / 64 * 64);
        good = good && buffers[i];
        if (good) memset(buffers[i], 0, bytes);
    }
    // what the form that loses needs stays with it
    char *scratch = cpu->library->scratch;
    size_t scratch_bytes = cpu->library->scratch_bytes;
    cpu->library->scratch = NULL, cpu->library->scratch_bytes = 0;
    LvCall *winograd = good ? make_form(cpu, step, true, buffers) : NULL;
    LvCall *direct = winograd ? make_form(cpu, step, false, buffers) : NULL;
    bool answer = winograd && (!direct || winograd_wins(cpu, winograd, direct, buffers));
    call_destroy(winograd);
    call_destroy(direct);
    for (int i = 0; i < 8; i++) free(buffers[i]);
    free(cpu->library->scratch);
    cpu->library->scratch = scratch, cpu->library->scratch_bytes = scratch_bytes;
    return answer;
}

static bool may_be_winograd(const LvStep *step) {
    const LvOperand *w = &step->operands[step->conv.direction == LV_CONV_WEIGHT_GRADIENT ? 0 : 2];
    const LvConvStep *c = &step->conv;
    return w->shape.dim[2] == 3 && w->shape.dim[3] == 3 && c->stride[0] == 1 && c->stride[1] == 1 &&
           step->operands[1].dtype == LV_F32;
}

static bool read_choice(const char *path, TuneAnswer *answer) {
    char *text = NULL;
    size_t length;
    bool good = lv_cache_read(path, &text, &length) && (!strcmp(text, "winograd") || !strcmp(text, "direct"));
    if (good) *answer = *text == 'w' ? TUNE_WINOGRAD : TUNE_DIRECT;
    free(text);
    return good;
}

// Where an answer is kept; an empty text if nowhere.
static void choice_path(const LvCpu *cpu, const char *key, LvText *path) {
    if (cpu->cache_dir) lv_text_printf(path, "%s/%s.choice", cpu->cache_dir, key);
}

static TuneAnswer look_up(LvCpu *cpu, const char *key) {
    void *known = lv_map_get(&cpu->library->choices, key);
    if (known) return (intptr_t)known == 1 + LV_CONV_WINOGRAD ? TUNE_WINOGRAD : TUNE_DIRECT;
    LvText path = {0};
    TuneAnswer answer = TUNE_UNKNOWN;
    choice_path(cpu, key, &path);
    if (path.length) read_choice(path.data, &answer);
    lv_text_free(&path);
    return answer;
}

static void remember(LvCpu *cpu, const char *key, TuneAnswer answer) {
    int algorithm = answer == TUNE_WINOGRAD ? LV_CONV_WINOGRAD : LV_CONV_DIRECT;
    lv_map_set(&cpu->library->choices, key, (void *)(intptr_t)(1 + algorithm));
}

TuneAnswer tune_look_up(LvCpu *cpu, const LvStep *step, const char *step_key) {
    char key[33];
    if (!may_be_winograd(step) || !conv_has_winograd(cpu->library, step)) return TUNE_DIRECT;
    print_key(cpu, step_key, key);
    return look_up(cpu, key);
}

bool tune_wants_winograd(LvCpu *cpu, const LvStep *step, const char *step_key) {
    char key[33];
    if (!may_be_winograd(step)) return false;
    print_key(cpu, step_key, key);
    TuneAnswer answer = look_up(cpu, key);
    if (answer == TUNE_UNKNOWN) {
        LvText path = {0};
        choice_path(cpu, key, &path);
        bool winograd = measure(cpu, step);
        const char *word = winograd ? "winograd" : "direct";
        answer = winograd ? TUNE_WINOGRAD : TUNE_DIRECT;
        // of two processes that measure at the same time, both take what the faster one wrote
        if (path.length && !lv_cache_write_first(path.data, word, strlen(word))) read_choice(path.data, &answer);
        lv_text_free(&path);
    }
    remember(cpu, key, answer);
    return answer == TUNE_WINOGRAD;
}
