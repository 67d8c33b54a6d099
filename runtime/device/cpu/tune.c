// Which form a convolution takes under LV_CONV_AUTO: those there are are timed once, briefly, and the answer is kept in the cache
// by library version, processor, thread count and shape. Bits then repeat from run to run on one machine.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "device/cpu/onednn.h"
#include "io/cache.h"

// In f32 Winograd won by 1.3 to 3 on every processor seen, so on a busy machine a near draw goes to it. The forms take turns; one
// that is clearly slower is out. 0.05 s in all bounds a model of 100 distinct convolutions to seconds.
static const double favour = 1.1, clear = 1.4, budget = 0.05;
// Scratch memory has its price: a form may take 5 MB more for each percent that it is faster. The largest of a plan's steps adds to
// its peak, and one unlucky measurement of many is enough for that: the library's Winograd takes up to 0.2 GB to be as fast as ours. So what
// takes more than any of ours does must be faster by what no unlucky measurement gives.
static const double scratch_price = 2e-9, much_scratch = 32e6, much_price = 0.5;
enum { LEAST_TURNS = 3, MOST_TURNS = 8 };

static const char *const words[CONV_FORM_COUNT] = {"direct", "library winograd", "winograd"};

static void print_key(const LvCpu *cpu, const char *step_key, char key[33]) {
    LvText text = {0};
    int version[3];
    cpu_library_version(version);
    lv_text_printf(&text, "oneDNN %d.%d.%d threads %d", version[0], version[1], version[2], cpu->threads);
    const char *parts[] = {"convolution 8", cpu->processor, lv_text_get(&text), step_key};
    lv_cache_key(key, parts, 4);
    lv_text_free(&text);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_run(LvCpu *cpu, LvCall *call, char *const *buffers) {
    LvError error = {0};
    double begin = now();
    bool good = cpu_call_run(cpu, call, buffers, &error);
    lv_error_clear(&error);
    return good ? now() - begin : 1e9;
}

// A form ready to be timed again, and the time of a first run; NULL if there is none.
static LvCall *make_form(LvCpu *cpu, const LvStep *step, ConvForm form, char *const *buffers, double *first) {
    LvError error = {0};
    LvCall *call = call_create(step);
    bool good = true;
    if (form == CONV_DIRECT) call_build(cpu, call, form);  // which widens where it must
    else good = conv_build(cpu, call, form);
    good = good && call->form != CALL_PLAIN && call_make(call) && call_room(cpu->library, call, &error);
    lv_error_clear(&error);
    *first = good ? time_run(cpu, call, buffers) : 1e9;
    if (*first < 1e9) return call;
    call_destroy(call);
    return NULL;
}

// The form of the best time at its price, in turns: whatever else the machine does falls on all of them. `best`: of their first runs.
static ConvForm fastest(LvCpu *cpu, LvCall *const *forms, double *best, char *const *buffers) {
    double start = now(), price[CONV_FORM_COUNT];
    bool runs[CONV_FORM_COUNT];
    ConvForm first = CONV_DIRECT;
    for (int f = 0; f < CONV_FORM_COUNT; f++) {
        runs[f] = forms[f] != NULL;
        double scratch = runs[f] ? (double)(call_scratch(forms[f]) + forms[f]->wide_bytes) : 0;
        price[f] = 1 + scratch_price * scratch + (scratch > much_scratch ? much_price : 0);
        if (runs[f] && f == CONV_DIRECT && forms[f]->step->operands[1].dtype == LV_F32) price[f] *= favour;
    }
    for (int turn = 1;; turn++) {
        int left = 0;
        first = CONV_DIRECT;
        for (int f = 1; f < CONV_FORM_COUNT; f++) {
            if (forms[f] && best[f] * price[f] < best[first] * price[first]) first = (ConvForm)f;
        }
        // direct is out after one turn, Winograd after three: a first run may have been interrupted
        for (int f = 0; f < CONV_FORM_COUNT; f++) {
            if (turn >= LEAST_TURNS || f == CONV_DIRECT) runs[f] = runs[f] && best[f] <= best[first] * clear;
            left += runs[f];
        }
        if (left < 2 || turn == MOST_TURNS || (turn >= LEAST_TURNS && now() - start > budget)) return first;
        for (int f = CONV_FORM_COUNT - 1; f >= 0; f--) {
            double time = runs[f] ? time_run(cpu, forms[f], buffers) : 1e9;
            if (time < best[f]) best[f] = time;
        }
    }
}

static ConvForm measure(LvCpu *cpu, const LvStep *step) {
    char *buffers[8] = {0};
    bool good = step->operand_count <= 8;
    for (int i = 0; good && i < step->operand_count; i++) {
        size_t bytes;
        good = lv_shape_bytes(step->operands[i].shape, step->operands[i].dtype, &bytes);
        if (good) buffers[i] = call_memory(bytes);
        good = good && buffers[i];
        if (good) memset(buffers[i], 0, bytes);
    }
    // what the form that loses needs stays with it
    CallBlock scratch = cpu->library->scratch, wide = cpu->library->wide;
    cpu->library->scratch = cpu->library->wide = (CallBlock){0};
    LvCall *forms[CONV_FORM_COUNT];
    double best[CONV_FORM_COUNT];
    for (int f = 0; f < CONV_FORM_COUNT; f++) forms[f] = good ? make_form(cpu, step, (ConvForm)f, buffers, &best[f]) : NULL;
    ConvForm answer = fastest(cpu, forms, best, buffers);
    for (int f = 0; f < CONV_FORM_COUNT; f++) call_destroy(forms[f]);
    for (int i = 0; i < 8; i++) free(buffers[i]);
    free(cpu->library->scratch.data);
    free(cpu->library->wide.data);
    cpu->library->scratch = scratch, cpu->library->wide = wide;
    malloc_trim(0);  // a hundred measurements would leave as much in the heap as a small model takes
    return answer;
}

static bool may_be_winograd(const LvStep *step) {
    const LvOperand *w = &step->operands[step->conv.direction == LV_CONV_WEIGHT_GRADIENT ? 0 : 2];
    const LvConvStep *c = &step->conv;
    return w->shape.dim[2] == 3 && w->shape.dim[3] == 3 && c->stride[0] == 1 && c->stride[1] == 1 &&
           (step->operands[1].dtype == LV_F32 || step->operands[1].dtype == LV_BF16);
}

// Smaller ones take less than a fraction of a millisecond either way; direct sums are more exact and need no measuring.
static const double least_flops = 3e7;

static double flops(const LvStep *step) {
    const LvConvStep *c = &step->conv;
    const LvOperand *y = &step->operands[c->direction == LV_CONV_FORWARD ? 0 : c->direction == LV_CONV_DATA_GRADIENT ? 1 : 2];
    const LvOperand *w = &step->operands[c->direction == LV_CONV_WEIGHT_GRADIENT ? 0 : 2];
    return 18.0 * (double)lv_shape_elements(y->shape) * (double)w->shape.dim[1];
}

static bool has_winograd(LvCpu *cpu, const LvStep *step) {
    return may_be_winograd(step) && (conv_has(cpu, step, CONV_WINOGRAD) || conv_has(cpu, step, CONV_LIBRARY_WINOGRAD));
}

static bool read_choice(const char *path, ConvForm *form) {
    char *text = NULL;
    size_t length;
    bool good = false;
    if (lv_cache_read(path, &text, &length)) {
        for (int f = 0; f < CONV_FORM_COUNT; f++) {
            if (strcmp(text, words[f]) == 0) *form = (ConvForm)f, good = true;
        }
    }
    free(text);
    return good;
}

// Where an answer is kept; an empty text if nowhere.
static void choice_path(const LvCpu *cpu, const char *key, LvText *path) {
    if (cpu->cache_dir) lv_text_printf(path, "%s/%s.choice", cpu->cache_dir, key);
}

static bool look_up(LvCpu *cpu, const char *key, ConvForm *form) {
    void *known = lv_map_get(&cpu->library->choices, key);
    if (known) *form = (ConvForm)((intptr_t)known - 1);
    if (known) return true;
    LvText path = {0};
    choice_path(cpu, key, &path);
    bool found = path.length && read_choice(path.data, form);
    lv_text_free(&path);
    return found;
}

// What needs no measuring: an algorithm that was asked for, or the only one there is.
static bool is_given(LvCpu *cpu, const LvStep *step, ConvForm *form) {
    *form = CONV_DIRECT;
    bool automatic = step->conv.algorithm == LV_CONV_AUTO;
    if (step->conv.algorithm == LV_CONV_DIRECT || (automatic && flops(step) < least_flops) || !has_winograd(cpu, step)) return true;
    if (automatic) return false;
    *form = conv_has(cpu, step, CONV_WINOGRAD) ? CONV_WINOGRAD : CONV_LIBRARY_WINOGRAD;
    return true;
}

bool tune_look_up(LvCpu *cpu, const LvStep *step, const char *step_key, ConvForm *form) {
    char key[33];
    if (is_given(cpu, step, form)) return true;
    print_key(cpu, step_key, key);
    return look_up(cpu, key, form);
}

ConvForm tune_choose(LvCpu *cpu, const LvStep *step, const char *step_key) {
    char key[33];
    ConvForm form;
    if (is_given(cpu, step, &form)) return form;
    print_key(cpu, step_key, key);
    if (!look_up(cpu, key, &form)) {
        LvText path = {0};
        choice_path(cpu, key, &path);
        form = measure(cpu, step);
        // of two processes that measure at the same time, both take what the faster one wrote
        if (path.length && !lv_cache_write_first(path.data, words[form], strlen(words[form]))) read_choice(path.data, &form);
        lv_text_free(&path);
    }
    lv_map_set(&cpu->library->choices, key, (void *)((intptr_t)form + 1));
    return form;
}
