// Convolutions by cuDNN beside the plan's own kernels: the same results whichever makes them, the faster one chosen and remembered,
// and whatever cuDNN lacks, refuses or fails at, a run that is right all the same. With its stand-in (tests/cuda_sim/cudnn.c); on a GPU
// the results alone, by whatever is installed there.
#include "../unit/cuda_child.h"
#include "backend.h"
#include "device/cuda/cudnn_api.h"
#include "device/cuda/report.h"
#include "io/cache.h"

#include <dirent.h>

// A convolution, by `label` told from the others of its plan; T is the type, R f32. `f32`, `halves`: whether it is for cuDNN.
typedef struct {
    const char *label, *text;
    bool f32, halves;
} Line;

static const Line lines[] = {
    {"conv2d 3x3 8->16,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1]} T[2, 8, 9, 7] T[16, 8, 3, 3]", true, true},
    {"conv2d 3x3 8->17,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true} T[2, 8, 9, 7] T[17, 8, 3, 3] T[17]", true, true},
    {"conv2d 3x3 8->18,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, activation = 1} T[2, 8, 9, 7] T[18, 8, 3, 3] T[18]", true, true},
    {"conv2d 1x1 8->19,", "conv2d {stride = [1, 1], pad = [0, 0, 0, 0], bias = true, residual = true} T[2, 8, 9, 7] T[19, 8, 1, 1] T[19] T[2, 19, 9, 7]", true, true},
    {"conv2d 4x4 8->20,", "conv2d {stride = [2, 2], pad = [1, 1, 1, 1], bias = true} T[1, 8, 12, 10] T[20, 8, 4, 4] T[20]", true, true},
    {"conv2d 3x3 8->21,", "conv2d {stride = [2, 2], pad = [1, 0, 1, 0]} T[2, 8, 8, 10] T[21, 8, 3, 3]", true, true},
    {"conv2d 5x2 8->22,", "conv2d {stride = [1, 3], pad = [1, 1, 2, 2]} T[2, 8, 7, 9] T[22, 8, 5, 2]", true, true},
    {"conv2d 3x3 8->23,", "conv2d {stride = [2, 2], pad = [0, 1, 0, 1]} T[2, 8, 10, 8] T[23, 8, 3, 3]", false, false},
    {"conv2d 3x3 8->24,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, activation = 2} T[2, 8, 5, 7] T[24, 8, 3, 3] T[24]", false, false},
    {"conv2d 3x3 8->25,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], residual = true} T[2, 8, 5, 7] T[25, 8, 3, 3] T[2, 25, 5, 7]", false, false},
    {"conv2d 3x3 8->26,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true} T[2, 8, 5, 7] T[26, 8, 3, 3] f32[26]", true, false},
    {"conv2d 3x3 8->27,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], dtype = R} T[2, 8, 5, 7] T[27, 8, 3, 3]", true, false},
    {"conv2d 3x3 8->28,", "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true, residual = true, activation = 1} T[2, 8, 5, 7] T[28, 8, 3, 3] T[28] T[2, 28, 5, 7]", false, false},
    {"conv2d data gradient 3x3 8->16,", "conv2d_data_grad {stride = [1, 1], pad = [1, 1, 1, 1], shape = [2, 8, 9, 7]} T[2, 16, 9, 7] T[16, 8, 3, 3]", true, true},
    {"conv2d data gradient 4x4 8->17,", "conv2d_data_grad {stride = [2, 2], pad = [1, 1, 1, 1], shape = [2, 8, 10, 8]} T[2, 17, 5, 4] T[17, 8, 4, 4]", true, true},
    {"conv2d data gradient 3x3 8->18,", "conv2d_data_grad {stride = [2, 2], pad = [0, 1, 0, 1], shape = [2, 8, 10, 8]} T[2, 18, 5, 4] T[18, 8, 3, 3]", false, false},
    {"conv2d data gradient 4x4 8->19,", "conv2d_data_grad {stride = [2, 2], pad = [1, 1, 1, 1], shape = [2, 8, 10, 8], bias = true} T[2, 19, 5, 4] T[19, 8, 4, 4] T[8]", false, false},
    {"conv2d weight gradient 3x3 8->16,", "conv2d_weight_grad {stride = [1, 1], pad = [1, 1, 1, 1], kernel = [3, 3]} T[2, 8, 9, 7] T[2, 16, 9, 7]", true, false},
    {"conv2d weight gradient 1x1 8->17,", "conv2d_weight_grad {stride = [1, 1], pad = [0, 0, 0, 0], kernel = [1, 1]} T[2, 8, 9, 7] T[2, 17, 9, 7]", true, true},
    {"conv2d weight gradient 4x4 8->18,", "conv2d_weight_grad {stride = [2, 2], pad = [1, 1, 1, 1], kernel = [4, 4]} T[2, 8, 10, 8] T[2, 18, 5, 4]", true, false},
    {"conv2d weight gradient 1x1 8->19,", "conv2d_weight_grad {stride = [1, 1], pad = [0, 0, 0, 0], kernel = [1, 1], dtype = R} T[2, 8, 9, 7] T[2, 19, 9, 7]", true, false},
};
enum { LINES = sizeof lines / sizeof *lines, NAME = 128 };

static char base[] = "/tmp/lv_test_cudnn_XXXXXX";
static bool simulated;

// ---- surroundings

// Every choice that is remembered becomes this, under a footer of the cache's or bare; NULL: is forgotten. Returns how many.
static int spoil(const void *data, size_t length, bool bare) {
    char path[2 * NAME + 300];
    DIR *folder = opendir(getenv("LV_CACHE_DIR"));
    int count = 0;
    for (struct dirent *item; folder && (item = readdir(folder));) {
        size_t name = strlen(item->d_name);
        if (name < 7 || strcmp(item->d_name + name - 7, ".choice")) continue;
        snprintf(path, sizeof path, "%s/%s", getenv("LV_CACHE_DIR"), item->d_name);
        FILE *file = data && bare ? fopen(path, "w") : NULL;
        if (file) assert_true(fwrite(data, 1, length, file) == length && fclose(file) == 0);
        else if (data) assert_true(lv_cache_write(path, data, length));
        else unlink(path);
        count++;
    }
    if (folder) closedir(folder);
    return count;
}

static void forget(void) { spoil(NULL, 0, false); }

// The stand-ins' folder alone, or with cuDNN's.
static void offer(bool cudnn) {
    const char *all = getenv("LD_LIBRARY_PATH");
    char path[4096];
    int length = (int)strcspn(all, ":");
    snprintf(path, sizeof path, cudnn ? "%.*s:%.*s/cudnn" : "%.*s", length, all, length, all);
    setenv("LV_CUDA_PATH", path, 1);
    setenv("LV_CUDNN", "1", 1);
}

static int begin(void **state) {
    (void)state;
    simulated = child_simulated();
    if (!simulated) return 0;
    if (!mkdtemp(base) || setenv("LV_CACHE_DIR", base, 1)) return -1;
    offer(true);
    setenv("LV_CUDA_SIM_TICK", "100", 1);  // microseconds of a kernel; cuDNN takes 60, or 210 where it is to be slower
    setenv("LV_CUDA_SIM_CUDNN_TIME", "-40", 1);
    return 0;
}

static int end(void **state) {
    char command[NAME];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", base);
    return simulated && system(command) ? -1 : 0;
}

// ---- a plan of some lines

typedef struct {
    const char *type;
    int first, count;    // of the lines
    bool chosen;         // what is for cuDNN must be cuDNN's, where this is one of the stand-in
    const char *how;     // of a plan of one line: part of what its implementation is called; NULL: whichever
    const char *note;    // part of what is noted of the device; NULL: nothing
    bool fails;          // with a note or without
    bool tf32, in_place; // the residual lies where the result does; neither is compared with f32's values
    int runs;            // 0: three
    size_t foretold;     // scratch memory
    double off[LINES];   // what came of it
} Work;

static const char *with_type(const char *line, const char *type, LvArena *arena) {
    LvText text = {0};
    for (const char *at = line; *at; at++) {
        if (*at == 'T' && at[1] == '[') lv_text_puts(&text, type);
        else if (*at == 'R' && (at[1] == '}' || at[1] == ',')) lv_text_puts(&text, "f32");
        else lv_text_putc(&text, *at);
    }
    const char *made = lv_arena_strdup(arena, lv_text_get(&text));
    lv_text_free(&text);
    return made;
}

static void look(void *user, const LvPlan *plan, LvProgram *program) {
    const Work *w = user;
    int found = 0;
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        if (step->kind != LV_STEP_CONV) continue;
        const char *how = lv_program_step_implementation(program, s);
        const Line *line = NULL;
        for (int i = w->first; i < w->first + w->count; i++)
            if (!strncmp(step->label, lines[i].label, strlen(lines[i].label))) line = &lines[i];
        child_require(line);
        found++;
        bool cudnn = !strncmp(how, "cuDNN", 5), is_for_it = strcmp(w->type, "f32") ? line->halves : line->f32;
        bool good = (is_for_it || !cudnn) && (!w->chosen || !simulated || cudnn == is_for_it) && (!w->how || strstr(how, w->how));
        if (getenv("LV_TEST_SHOW") || !good) fprintf(stderr, "%s %s: %s\n", w->type, step->label, how);
        child_require(good);
    }
    child_require(found == w->count);
    LvProgramInfo info = lv_program_info(program);
    child_require(info.scratch_bytes == (int64_t)w->foretold && (info.captured == (w->runs != 1) || !simulated));
}

// A cuDNN that is not used says so on no account but its own failure.
static void check_note(LvDevice *device, const Work *w) {
    char *note = lv_device_note(device);
    if (getenv("LV_TEST_SHOW") && note) fprintf(stderr, "note: %s\n", note);
    child_require(w->fails || !simulated || (w->note ? note && strstr(note, w->note) : !note));
    free(note);
    child_require(!lv_device_note(device));
}

static int work(void *user) {
    Work *w = user;
    LvArena *arena = lv_arena_create();
    LvError error = {0};
    LvDevice *device = child_open();
    Graph *graph = graph_create("cases"), *own[LINES];
    OpCase *cases[LINES];
    TensorSet inputs[LINES] = {0}, want[LINES] = {0}, got[LINES] = {0};
    BackendPart parts[LINES];
    for (int i = 0; i < w->count; i++) {
        cases[i] = case_parse(with_type(lines[w->first + i].text, w->type, arena), arena);
        for (int k = 0; k < cases[i]->input_count; k++) set_add(&inputs[i], lv_arena_printf(arena, "x%d", k), case_input(cases[i], k));
        own[i] = case_graph(cases[i]);
        evaluate_set(own[i], false, &inputs[i], &want[i], arena);
        parts[i] = (BackendPart){lv_arena_printf(arena, "%d:", i), &inputs[i], &got[i]};
        graph_append(graph, own[i], parts[i].prefix);
    }
    LvPlan *plan = backend_plan(graph, lv_device_target(device), false, &error);
    child_must(plan != NULL, &error);
    plan->tf32 = w->tf32;
    for (int s = 0; w->in_place && s < plan->step_count; s++)
        if (plan->steps[s].kind == LV_STEP_CONV) plan->steps[s].operands[4].place = plan->steps[s].operands[0].place;
    w->foretold = lv_device_workspace(device, plan).bytes;
    child_must(backend_run_plan(device, plan, parts, w->count, w->runs ? w->runs : 3, look, w, arena, &error), &error);
    child_require(w->foretold <= lv_cuda_workspace(plan).bytes);
    for (int i = 0; i < w->count; i++) {
        LvText wrong = {0};
        const char *name = want[i].at[0].name;
        w->off[i] = tensor_distance(set_find(&got[i], name), want[i].at[0].tensor);
        if (!w->tf32 && !w->in_place && !backend_compare(cases[i], &inputs[i], &want[i], &got[i], "by either", &wrong)) {
            fprintf(stderr, "%s\n", wrong.data);
            return CHILD_BAD;
        }
        graph_destroy(own[i]);
    }
    check_note(device, w);
    lv_plan_destroy(plan);
    graph_destroy(graph);
    lv_device_close(device);
    lv_arena_destroy(arena);
    return CHILD_GOOD;
}

// A plan of the first line, by one of the two.
static void run_times(int runs, const char *how, const char *note) {
    Work w = {.type = "f32", .count = 1, .how = how, .note = note, .runs = runs};
    assert_int_equal(child_run(work, &w), CHILD_GOOD);
}

static void run_one(const char *how, const char *note) { run_times(0, how, note); }

// The one that the stand-in has as the fastest.
static const char by_cudnn[] = "cuDNN, algorithm 0, in 0.50 of the kernel's time", by_kernel[] = "the plan's kernel";
static const char slower[] = "the plan's kernel, in 0.50 of cuDNN's time";

// ---- results

static void test_results(void **state) {
    static const char *const types[] = {"f32", "bf16", "f16"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        Work w = {.type = types[i], .count = LINES, .chosen = true};
        child_test(work, &w);
    }
}

// A call that failed half-way would have spoiled the residual.
static void test_in_place(void **state) {
    (void)state;
    if (!simulated) skip();
    Work w = {.type = "f32", .first = 3, .count = 1, .how = by_kernel, .in_place = true};
    assert_int_equal(child_run(work, &w), CHILD_GOOD);
}

static int in_tf32(void *user) {
    Work *w = user;
    int code = work(w);
    child_require(code == CHILD_GOOD && w->off[0] > 5e-5 && w->off[0] < 2e-3);
    return code;
}

// f32 is multiplied in TF32 where the plan says so, and nowhere else.
static void test_tf32(void **state) {
    (void)state;
    if (!simulated) skip();
    forget();
    Work w = {.type = "f32", .count = 1, .how = by_cudnn, .tf32 = true};
    assert_int_equal(child_run(in_tf32, &w), CHILD_GOOD);
    setenv("LV_CUDA_SIM_CUDNN_TIME", "110", 1);
    run_one(slower, NULL);  // a choice of its own
    setenv("LV_CUDA_SIM_CUDNN_TIME", "-40", 1);
    forget();
    run_one(by_cudnn, NULL);
}

// ---- choosing

static void test_slower(void **state) {
    (void)state;
    if (!simulated) skip();
    forget();
    setenv("LV_CUDA_SIM_CUDNN_TIME", "110", 1);
    run_one(slower, NULL);
    setenv("LV_CUDA_SIM_CUDNN_TIME", "-40", 1);
    run_one(slower, NULL);  // it was remembered
}

static void test_remembered(void **state) {
    (void)state;
    if (!simulated) skip();
    forget();
    run_one(by_cudnn, NULL);
    setenv("LV_CUDA_SIM_CUDNN_TIME", "110", 1);
    run_one(by_cudnn, NULL);
    setenv("LV_CUDA_SIM_CUDNN", "92000", 1);  // another version is measured anew
    run_one(slower, NULL);
    unsetenv("LV_CUDA_SIM_CUDNN");
    setenv("LV_CUDA_SIM_CUDNN_TIME", "-40", 1);
    setenv("LV_CUDA_SIM_CUDNN_WORKSPACE", "100000000", 1);  // what is remembered wants more than there is now
    setenv("LV_CUDA_SIM_FAIL", "cudnnGetConvolutionForwardWorkspaceSize:2,cudnnGetConvolutionForwardWorkspaceSize:3", 1);
    run_one(by_kernel, NULL);
    unsetenv("LV_CUDA_SIM_FAIL");
    unsetenv("LV_CUDA_SIM_CUDNN_WORKSPACE");
}

// Without a cache there is nothing to remember in, and so nothing is chosen by timing.
static void test_no_cache(void **state) {
    (void)state;
    if (!simulated) skip();
    setenv("LV_CACHE_DIR", "/proc/none", 1);
    run_one(by_kernel, NULL);
    setenv("LV_CACHE_DIR", base, 1);
}

// A choice that nobody wrote so is measured anew, and replaced: the next run finds a good one.
static void test_spoiled(void **state) {
    static const char *const wrong[] = {
        "", "algorithm", "algorithm 1", "algorithm 9, 5 ns, the kernel 9 ns\n", "algorithm -2, 5 ns, the kernel 9 ns\n",
        "algorithm 1, -5 ns, the kernel 9 ns\n", "algorithm 1, 5 ns, the kernel 9 ns\n and more", "algorithm 01, 5 ns, the kernel 9 ns\n",
        "algorithm 99999999999999999999, 5 ns, the kernel 9 ns\n", "\xFF\xFE\0\0\1",
    };
    (void)state;
    if (!simulated) skip();
    forget();
    run_one(by_cudnn, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(spoil(wrong[i], strlen(wrong[i]), i % 3 == 2), 1);
        run_one(by_cudnn, NULL);
    }
    setenv("LV_CUDA_SIM_CUDNN_TIME", "110", 1);
    run_one(by_cudnn, NULL);
    setenv("LV_CUDA_SIM_CUDNN_TIME", "-40", 1);
    char kernel[] = "algorithm -1, 9 ns, the kernel 5 ns\n";
    assert_int_equal(spoil(kernel, strlen(kernel), false), 1);
    run_one("the plan's kernel, in 0.56 of cuDNN's time", NULL);
}

static void test_workspace(void **state) {
    (void)state;
    if (!simulated) skip();
    forget();
    setenv("LV_CUDA_SIM_CUDNN_WORKSPACE", "33554432", 1);  // all that it may have
    run_one(by_cudnn, NULL);
    forget();
    Work w = {.type = "f32", .first = 13, .count = 1, .how = "cuDNN, algorithm 1, in 0.60 of the kernel's time"};
    assert_int_equal(child_run(work, &w), CHILD_GOOD);
    setenv("LV_CUDA_SIM_CUDNN_WORKSPACE", "33554433", 1);
    w.how = by_kernel;
    assert_int_equal(child_run(work, &w), CHILD_GOOD);
    unsetenv("LV_CUDA_SIM_CUDNN_WORKSPACE");
}

// ---- a cuDNN that does not serve

static int report(void *user) {
    LvText text = {0};
    child_require(lv_cuda_report(11, &text));
    const char *line = strstr(text.data, "\ncuDNN ");
    if (!line || !strstr(line, user)) {
        fprintf(stderr, "%s", text.data);
        return CHILD_BAD;
    }
    lv_text_free(&text);
    return CHILD_GOOD;
}

static void test_unfit(void **state) {
    static const struct {
        bool there;
        const char *name, *value, *line;
    } unfit[] = {
        {true, "LV_CUDNN", "1", "9.19.0, /"},
        {true, "LV_CUDA_SIM_CUDNN", "8907", "8.9.7, /"},
        {false, "LV_CUDNN", "1", "not there, and not needed: apt install cudnn9"},
        {true, "LV_CUDNN", "0", "not looked for, LV_CUDNN is 0"},
        {true, "LV_CUDA_SIM_CUDNN", "8400", "not used, and not needed: too old, 8.9 or later is wanted"},
        {true, "LV_CUDA_SIM_CUDNN_TOOLKIT", "14000", "not used, and not needed: made for CUDA 14, the driver serves 13.0"},
    };
    (void)state;
    if (!simulated) skip();
    forget();
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
        offer(unfit[i].there);
        setenv(unfit[i].name, unfit[i].value, 1);
        assert_int_equal(child_run(report, (void *)(uintptr_t)unfit[i].line), CHILD_GOOD);
        run_one(i < 2 ? by_cudnn : by_kernel, NULL);
        unsetenv(unfit[i].name);
    }
    offer(true);
}

// ---- calls that fail

static void run_failing(int runs, const char *trouble, const char *how, const char *note) {
    setenv("LV_CUDA_SIM_FAIL", trouble, 1);
    run_times(runs, how, note);
    unsetenv("LV_CUDA_SIM_FAIL");
}

// The kernel does what a call has failed at, in the run it failed in too, which is said once.
static void test_said_once(void **state) {
    (void)state;
    if (!simulated) skip();
    forget();
    run_one(by_cudnn, NULL);
    for (int turn = 1; turn <= 2; turn++) {  // a run that is walked, one that is captured
        char trouble[NAME];
        snprintf(trouble, sizeof trouble, "cudnnConvolutionForward:%d:5000", turn);
        run_failing(turn, trouble, "the plan's kernel: cuDNN failed, CUDNN_STATUS_EXECUTION_FAILED",
                    "fails at a convolution 3x3 8->16, 9x7 (CUDNN_STATUS_EXECUTION_FAILED): the plan's own kernel makes it");
    }
    run_failing(1, "cudnnCreate:1", by_kernel, "does not start (CUDNN_STATUS_INTERNAL_ERROR): convolutions go by the plan's own kernels");
}

// Every function at its first calls, with nothing remembered and with a choice: the run is right, always.
static void test_every_call(void **state) {
    static const char *const functions[] = {
#define X(type, name, parameters) #name,
        DNN_FUNCTIONS(X)
#undef X
    };
    (void)state;
    Work w = {.type = "f32", .first = 1, .count = 1, .fails = true};
    if (!simulated) skip();
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        if (strstr(functions[f], "Version") || strstr(functions[f], "ErrorString")) continue;  // these do not fail
        for (int turn = 1; turn <= 3; turn++) {  // its first call, with nothing remembered; the next, with what came of that; the second
            char trouble[NAME];
            snprintf(trouble, sizeof trouble, "%s:%d", functions[f], turn == 3 ? 2 : 1);
            if (turn != 2) forget();
            setenv("LV_CUDA_SIM_FAIL", trouble, 1);
            int code = child_run(work, &w);
            unsetenv("LV_CUDA_SIM_FAIL");
            if (code != CHILD_GOOD) fail_msg("%s: ended with %d", trouble, code);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results), cmocka_unit_test(test_in_place), cmocka_unit_test(test_tf32), cmocka_unit_test(test_slower),
        cmocka_unit_test(test_remembered), cmocka_unit_test(test_no_cache), cmocka_unit_test(test_spoiled), cmocka_unit_test(test_workspace),
        cmocka_unit_test(test_unfit), cmocka_unit_test(test_said_once), cmocka_unit_test(test_every_call),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
