// Which form a convolution takes under LV_CONV_AUTO: where that is not clear beforehand (is_given), those there are are timed once,
// briefly, and the answer is kept in the cache by library version, processor, thread count and shape. Bits then repeat from run to run
// on one machine. An answer that was found while others had the processors is kept apart: the next process measures anew, and if it has
// no better chance the first answer stays.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/arena.h"
#include "base/process.h"
#include "device/cpu/onednn.h"
#include "device/cpu/race.h"
#include "io/cache.h"

// In f32 Winograd won by 1.3 to 3 on every processor seen, so on a busy machine a near draw goes to it.
static const double favour = 1.1;
// Scratch memory has its price: a form may take 5 MB more for each percent that it is faster. The largest of a plan's steps adds to
// its peak, and one unlucky measurement of many is enough for that: the library's Winograd takes up to 0.2 GB. So what takes more than
// any of ours does must be faster by what no unlucky measurement gives.
static const double scratch_price = 2e-9, much_scratch = 32e6, much_price = 0.5;
// Direct may be out after its first run, Winograd after three.
enum { DIRECT_PATIENCE = 1, PATIENCE = 3 };

static const char *const words[CONV_FORM_COUNT] = {"direct", "library winograd", "winograd"};

static void print_key(const LvCpu *cpu, const char *step_key, char key[33]) {
    LvText text = {0};
    int version[3];
    cpu_library_version(version);
    lv_text_printf(&text, "oneDNN %d.%d.%d threads %d", version[0], version[1], version[2], cpu->threads);
    const char *parts[] = {"convolution 9", cpu->processor, lv_text_get(&text), step_key};
    lv_cache_key(key, parts, 4);
    lv_text_free(&text);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Times that a thread of this process had to leave a processor to somebody else.
static long interruptions(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

typedef struct {
    double seconds;  // 1e9: none
    bool undisturbed;
} Timing;

static Timing time_run(LvCpu *cpu, LvCall *call, char *const *buffers) {
    LvError error = {0};
    long before = interruptions();
    double begin = now();
    bool good = cpu_call_run(cpu, call, buffers, &error);
    lv_error_clear(&error);
    double seconds = good ? now() - begin : 1e9;
    return (Timing){seconds, interruptions() == before};
}

// A form ready to be timed again, and a first run of it; NULL if there is none.
static LvCall *make_form(LvCpu *cpu, const LvStep *step, ConvForm form, char *const *buffers, Timing *first) {
    if (form == CONV_LIBRARY_WINOGRAD && conv_has(cpu, step, CONV_WINOGRAD)) return NULL;  // a step is as fast with ours, in less memory
    LvError error = {0};
    LvCall *call = call_create(step);
    bool good = true;
    if (form == CONV_DIRECT) call_build(cpu, call, form);  // which widens where it must
    else good = conv_build(cpu, call, form);
    good = good && call->form != CALL_PLAIN && call_make(call) && call_room(cpu->library, call, &error);
    lv_error_clear(&error);
    if (good) *first = time_run(cpu, call, buffers);
    if (first->seconds < 1e9) return call;
    call_destroy(call);
    return NULL;
}

typedef struct {
    LvCpu *cpu;
    LvCall *forms[CONV_FORM_COUNT];
    char *buffers[8];
} Tuning;

static bool run_form(void *user, int form, double *seconds) {
    Tuning *t = user;
    Timing timing = time_run(t->cpu, t->forms[form], t->buffers);
    *seconds = timing.seconds;
    return timing.undisturbed;
}

// `first`: the forms' first runs.
static ConvForm fastest(Tuning *t, const Timing *first, bool *sure) {
    Racer racers[CONV_FORM_COUNT];
    for (int f = 0; f < CONV_FORM_COUNT; f++) {
        const LvCall *call = t->forms[f];
        double scratch = call ? (double)(call_scratch(call) + call->wide_bytes) : 0;
        racers[f] = (Racer){.runs = call != NULL, .best = first[f].seconds, .undisturbed = first[f].undisturbed,
                            .patience = f == CONV_DIRECT ? DIRECT_PATIENCE : PATIENCE,
                            .price = 1 + scratch_price * scratch + (scratch > much_scratch ? much_price : 0)};
        if (call && f == CONV_DIRECT && call->step->operands[1].dtype == LV_F32) racers[f].price *= favour;
    }
    return (ConvForm)race_run(racers, CONV_FORM_COUNT, CONV_DIRECT, run_form, t, sure);
}

static ConvForm measure(LvCpu *cpu, const LvStep *step, bool *sure) {
    Tuning t = {.cpu = cpu};
    cpu_memory_finish(cpu);  // or its thread would be at work beside us
    char **buffers = t.buffers;
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
    Timing first[CONV_FORM_COUNT];
    for (int f = 0; f < CONV_FORM_COUNT; f++) first[f] = (Timing){1e9, false};
    for (int f = 0; good && f < CONV_FORM_COUNT; f++) t.forms[f] = make_form(cpu, step, (ConvForm)f, buffers, &first[f]);
    ConvForm answer = fastest(&t, first, sure);
    for (int f = 0; f < CONV_FORM_COUNT; f++) call_destroy(t.forms[f]);
    for (int i = 0; i < 8; i++) free(buffers[i]);
    free(cpu->library->scratch.data);
    free(cpu->library->wide.data);
    cpu->library->scratch = scratch, cpu->library->wide = wide;
    lv_process_give_back();  // a hundred measurements would leave as much in the heap as a small model takes
    return answer;
}

static const LvOperand *weight_of(const LvStep *step) { return &step->operands[step->conv.direction == LV_CONV_WEIGHT_GRADIENT ? 0 : 2]; }

static bool may_be_winograd(const LvStep *step) {
    const LvOperand *w = weight_of(step);
    const LvConvStep *c = &step->conv;
    return w->shape.dim[2] == 3 && w->shape.dim[3] == 3 && c->stride[0] == 1 && c->stride[1] == 1 &&
           (step->operands[1].dtype == LV_F32 || step->operands[1].dtype == LV_BF16);
}

// Smaller ones take less than a fraction of a millisecond either way; direct sums are more exact and need no measuring.
static const double least_flops = 3e7;

static double flops(const LvStep *step) {
    const LvConvStep *c = &step->conv;
    const LvOperand *y = &step->operands[c->direction == LV_CONV_FORWARD ? 0 : c->direction == LV_CONV_DATA_GRADIENT ? 1 : 2];
    return 18.0 * (double)lv_shape_elements(y->shape) * (double)weight_of(step)->shape.dim[1];
}

// In f32 with so many channels on both sides ours has won by 1.3 to 3 on every processor, map and batch seen: nothing to measure.
enum { CLEAR_CHANNELS = 32 };

static bool is_clear(LvCpu *cpu, const LvStep *step) {
    const LvOperand *w = weight_of(step);
    return step->operands[1].dtype == LV_F32 && w->shape.dim[0] >= CLEAR_CHANNELS && w->shape.dim[1] >= CLEAR_CHANNELS &&
           conv_has(cpu, step, CONV_WINOGRAD);
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
static void choice_path(const LvCpu *cpu, const char *key, bool sure, LvText *path) {
    if (cpu->cache_dir) lv_text_printf(path, "%s/%s.%s", cpu->cache_dir, key, sure ? "choice" : "guess");
}

static bool look_up(LvCpu *cpu, const char *key, ConvForm *form) {
    void *known = lv_map_get(&cpu->library->choices, key);
    if (known) *form = (ConvForm)((intptr_t)known - 1);
    if (known) return true;
    LvText path = {0};
    choice_path(cpu, key, true, &path);
    bool found = path.length && read_choice(path.data, form);
    lv_text_free(&path);
    return found;
}

// What needs no measuring: an algorithm that was asked for, the only one there is, or one that always wins.
static bool is_given(LvCpu *cpu, const LvStep *step, ConvForm *form) {
    *form = CONV_DIRECT;
    bool automatic = step->conv.algorithm == LV_CONV_AUTO;
    if (step->conv.algorithm == LV_CONV_DIRECT || (automatic && flops(step) < least_flops) || !has_winograd(cpu, step)) return true;
    if (automatic && !is_clear(cpu, step)) return false;
    *form = conv_has(cpu, step, CONV_WINOGRAD) ? CONV_WINOGRAD : CONV_LIBRARY_WINOGRAD;
    return true;
}

bool tune_look_up(LvCpu *cpu, const LvStep *step, const char *step_key, ConvForm *form) {
    char key[33];
    if (is_given(cpu, step, form)) return true;
    print_key(cpu, step_key, key);
    return look_up(cpu, key, form);
}

// A guess that a second process had no better chance to make stays: measuring costs each start as long as there is none. Of two
// processes that measure at the same time, both take what the faster one wrote.
static void keep(const LvCpu *cpu, const char *key, bool sure, ConvForm *form) {
    LvText guess = {0}, path = {0};
    choice_path(cpu, key, false, &guess);
    if (!sure && guess.length && read_choice(guess.data, form)) sure = true;
    choice_path(cpu, key, sure, &path);
    if (path.length && !lv_cache_write_first(path.data, words[*form], strlen(words[*form]))) read_choice(path.data, form);
    lv_text_free(&guess);
    lv_text_free(&path);
}

ConvForm tune_choose(LvCpu *cpu, const LvStep *step, const char *step_key) {
    char key[33];
    ConvForm form;
    if (is_given(cpu, step, &form)) return form;
    print_key(cpu, step_key, key);
    if (!look_up(cpu, key, &form)) {
        bool sure;
        form = measure(cpu, step, &sure);
        keep(cpu, key, sure, &form);
    }
    lv_map_set(&cpu->library->choices, key, (void *)((intptr_t)form + 1));
    return form;
}
