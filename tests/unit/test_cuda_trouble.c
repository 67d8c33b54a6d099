// What is missing, does not fit or fails around the CUDA backend, by the stand-ins of tests/cuda_sim, which can be told to: skipped
// without them. Each machine that is not fit to run on a GPU says so in a line, and --device auto takes the CPU there.
#include <errno.h>
#include <sys/stat.h>

#include "cuda_child.h"
#include "cuda_plan.h"
#include "device/cuda/cublaslt_api.h"
#include "device/cuda/driver_api.h"
#include "device/cuda/nvrtc_api.h"
#include "device/cuda/report.h"
#include "exec/program.h"

enum { R = CUDA_PLAN_ROWS, W = CUDA_PLAN_WIDTH, C = CUDA_PLAN_COLUMNS, NAME = 96 };

static char base[64];  // of the cache, and of folders with some of the libraries

static int empty_cache(void) {
    static int number;
    char cache[NAME];
    snprintf(cache, sizeof cache, "%s/cache%d", base, number++);
    return setenv("LV_CACHE_DIR", cache, 1);
}

static int make_base(void **state) {
    (void)state;
    strcpy(base, "/tmp/lv_test_trouble_XXXXXX");
    return mkdtemp(base) ? empty_cache() : -1;
}

static int remove_base(void **state) {
    (void)state;
    char command[NAME];
    unsetenv("LV_CUDA_PATH");
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command) ? -1 : 0;
}

// ---- a run

// Three runs, whose numbers are right as far as they come. CHILD_ERROR where something fails, with a message.
static int try_runs(void *user) {
    LvError error = {0};
    LvDevice *device = NULL;
    LvPlan *plan = NULL;
    LvStore *store = NULL;
    LvProgram *program = NULL;
    float bias[W] = {0}, x[R][W], y[R][C];
    bool good = lv_device_open("cuda", 0, &device, &error);
    if (good) plan = cuda_plan(device);
    good = good && lv_store_create(device, plan, &store, &error) && lv_store_write(store, 0, bias, sizeof bias, &error) &&
           lv_program_create(device, plan, store, &program, &error);
    for (int turn = 0; good && turn < 3; turn++) {
        for (int i = 0; i < R * W; i++) x[i / W][i % W] = (float)(i % 5 + turn);
        int pick = turn;
        good = lv_program_set_input(program, "x", x, sizeof x, &error) &&
               lv_program_set_input(program, "pick", &pick, sizeof pick, &error) && lv_program_run(program, &error) &&
               lv_program_get_result(program, "y", y, sizeof y, &error);
        for (int i = 0; good && i < R; i++) {
            float want = 0;
            for (int k = 0; k < W; k++) want += 0.5f * x[i][k] * (float)k;
            child_require(y[i][0] == want);
        }
    }
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    if (user && device) snprintf(user, 256, "%s", lv_device_name(device));
    if (device) lv_device_close(device);
    child_require(good || (error.kind != LV_OK && error.message && *error.message));
    if (!good && getenv("LV_TEST_SHOW"))
        fprintf(stderr, "%s: %s%s%s\n", getenv("LV_CUDA_SIM_FAIL"), error.message, error.hint ? "; " : "",
                error.hint ? error.hint : "");
    lv_error_clear(&error);
    return good ? CHILD_GOOD : CHILD_ERROR;
}

static const char *const functions[] = {
#define X(type, name, parameters) #name,
    CU_FUNCTIONS(X) NVRTC_FUNCTIONS(X) LT_FUNCTIONS(X)
#undef X
};

// Every function of the three libraries fails, at its first call, its second ...: an error that says something or a run that is right
// all the same, never a crash and never a wrong number; and afterwards the cache is as good as before.
static void test_every_call(void **state) {
    enum { TURNS = 3 };
    (void)state;
    if (!child_simulated()) skip();
    assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        bool compiles = !strncmp(functions[f], "nvrtc", 5) || !strncmp(functions[f], "cuModule", 8);
        for (int turn = 1; turn <= TURNS; turn++) {
            char trouble[NAME];
            snprintf(trouble, sizeof trouble, "%s:%d", functions[f], turn);
            if (compiles) empty_cache();
            setenv("LV_CUDA_SIM_FAIL", trouble, 1);
            int code = child_run(try_runs, NULL);
            unsetenv("LV_CUDA_SIM_FAIL");
            if (code != CHILD_GOOD && code != CHILD_ERROR) fail_msg("%s: ended with %d", trouble, code);
            if (compiles && turn == 1) assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
        }
    }
    assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
}

// ---- machines that lack something

typedef struct {
    const char *name, *value;  // of the environment
} Variable;

typedef struct {
    const char *what;
    const char *libraries;      // of cuda, nvrtc and cublasLt, those that there are
    Variable environment[3];
    const char *message, *hint; // parts of them
} Lacking;

static const char all_libraries[] = "cuda nvrtc cublasLt";

static const Lacking lacking[] = {
    {"no driver", "nvrtc cublasLt", {{0}}, "no NVIDIA driver", "nvidia-driver"},
    {"no NVRTC",
     "cuda cublasLt",
     {{0}},
     "NVRTC (libnvrtc.so.13), which compiles the kernels, is not installed",
     "nvidia-cuda-nvrtc"},
    {"no cuBLASLt",
     "cuda nvrtc",
     {{0}},
     "cuBLASLt (libcublasLt.so.13), which multiplies matrices, is not installed",
     "nvidia-cublas"},
    {"no GPU", all_libraries, {{"LV_CUDA_SIM_DEVICES", "0"}}, "but no GPU", "nvidia-smi"},
    {"no GPU that is shown",
     all_libraries,
     {{"LV_CUDA_SIM_DEVICES", "0"}, {"CUDA_VISIBLE_DEVICES", "7"}},
     "but no GPU",
     "CUDA_VISIBLE_DEVICES is '7'"},
    {"an old GPU", all_libraries, {{"LV_CUDA_SIM_ARCH", "75"}}, "is sm_75: sm_80 (Ampere) or later is needed", "--device cpu"},
    {"an old driver",
     all_libraries,
     {{"LV_CUDA_SIM_DRIVER", "11080"}},
     "it serves CUDA 11.8, CUDA 12 is needed",
     "nvidia-driver"},
    {"a driver older than NVRTC",
     all_libraries,
     {{"LV_CUDA_SIM_DRIVER", "12040"}},
     "the driver (CUDA 12.4) is too old for the NVRTC",
     "a newer driver, or NVRTC of CUDA 12"},
    {"an NVRTC older than all",
     all_libraries,
     {{"LV_CUDA_SIM_ARCHS", "50,60,75"}},
     "knows no architecture between sm_80 and the GPU's sm_90",
     ""},
};

static void offer_file(const char *folder, const char *file) {
    char from[1024], to[2 * NAME];
    const char *path = getenv("LD_LIBRARY_PATH");
    snprintf(from, sizeof from, "%.*s/%s", (int)strcspn(path, ":"), path, file);
    snprintf(to, sizeof to, "%s/%s", folder, file);
    assert_int_equal(symlink(from, to), 0);
}

// A folder with links to some of the stand-ins, and nothing else is looked at.
static void offer(const char *libraries) {
    static int number;
    char folder[NAME];
    snprintf(folder, sizeof folder, "%s/libraries%d", base, number++);
    assert_int_equal(mkdir(folder, 0700), 0);
    offer_file(folder, "libcuda_sim_module.a");  // NVRTC's stand-in wants it beside it
    if (strstr(libraries, "cuda")) offer_file(folder, "libcuda.so.1");
    if (strstr(libraries, "nvrtc")) offer_file(folder, "libnvrtc.so.13");
    if (strstr(libraries, "cublasLt")) offer_file(folder, "libcublasLt.so.13");
    setenv("LV_CUDA_PATH", folder, 1);
}

static int lacks(void *user) {
    const Lacking *l = user;
    LvDevice *device = NULL;
    LvError error = {0};
    LvText report = {0};
    for (int i = 0; i < 3 && l->environment[i].name; i++) setenv(l->environment[i].name, l->environment[i].value, 1);
    bool opened = lv_device_open("cuda", 0, &device, &error);
    bool hinted = !*l->hint || (error.hint && strstr(error.hint, l->hint));
    if (opened || error.kind != LV_ERROR_UNSUPPORTED || !strstr(error.message, l->message) || !hinted) {
        fprintf(stderr, "%s: it says '%s', '%s'\n", l->what, opened ? "" : error.message, error.hint ? error.hint : "");
        return CHILD_BAD;
    }
    child_require(!lv_cuda_report(11, &report) && strstr(report.data, "CUDA driver"));
    if (!strstr(l->what, "old GPU")) child_require(strstr(report.data, l->message));
    lv_text_free(&report);
    lv_error_clear(&error);
    child_must(lv_device_open("auto", 1, &device, &error), &error);
    child_require(!strcmp(lv_device_target(device), "cpu"));
    lv_device_close(device);
    return CHILD_GOOD;
}

static void test_lacking(void **state) {
    (void)state;
    if (!child_simulated()) skip();
    for (size_t i = 0; i < sizeof lacking / sizeof *lacking; i++) {
        Lacking l = lacking[i];
        offer(l.libraries);
        empty_cache();
        assert_int_equal(child_run(lacks, &l), CHILD_GOOD);
    }
    offer(all_libraries);
    assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
}

// The plan's program is refused with this in its message, and with this hint (NULL: any). `prelude`, `target` NULL: the plan's own.
static int refused(const char *prelude, const char *target, const char *message, const char *hint) {
    LvDevice *device = NULL;
    LvError error = {0};
    LvStore *store = NULL;
    LvProgram *program = NULL;
    child_must(lv_device_open("cuda", 0, &device, &error), &error);
    LvPlan *plan = cuda_plan(device);
    if (prelude) plan->prelude = prelude;
    if (target) plan->device = target;
    child_must(lv_store_create(device, plan, &store, &error), &error);
    child_require(!lv_program_create(device, plan, store, &program, &error) && strstr(error.message, message));
    child_require(!hint || !strcmp(error.hint, hint));
    lv_error_clear(&error);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    lv_device_close(device);
    return CHILD_GOOD;
}

// What was compiled once needs no NVRTC; what was not says that it is missing.
static int still_needs(void *user) {
    (void)user;
    return refused("// another\n", NULL, "NVRTC (libnvrtc.so.13)", NULL);
}

static void test_warm_start(void **state) {
    (void)state;
    if (!child_simulated()) skip();
    offer(all_libraries);
    assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
    char command[2 * NAME];
    snprintf(command, sizeof command, "rm -f %s/libnvrtc.so.13", getenv("LV_CUDA_PATH"));
    assert_int_equal(system(command), 0);
    assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
    assert_int_equal(child_run(still_needs, NULL), CHILD_GOOD);
}

// An architecture that NVRTC does not know: PTX of the one before it, and the device says so.
static int unknown_architecture(void *user) {
    char name[256];
    (void)user;
    child_require(try_runs(name) == CHILD_GOOD);
    child_require(strstr(name, "does not know sm_90, kernels are PTX for compute_86"));
    child_require(try_runs(name) == CHILD_GOOD);  // from the cache
    return CHILD_GOOD;
}

static void test_unknown_architecture(void **state) {
    (void)state;
    if (!child_simulated()) skip();
    setenv("LV_CUDA_SIM_ARCHS", "75,80,86,100", 1);
    assert_int_equal(child_run(unknown_architecture, NULL), CHILD_GOOD);
    unsetenv("LV_CUDA_SIM_ARCHS");
    empty_cache();  // what NVRTC knows is remembered for as long as its file is the same
    assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
}

// PTX that is newer than the driver.
static int newer_ptx(void *user) {
    (void)user;
    return refused(NULL, NULL, "the driver does not take what NVRTC 13.2 made for compute_86", "a newer driver, or an NVRTC that is not newer than it");
}

static void test_newer_ptx(void **state) {
    (void)state;
    if (!child_simulated()) skip();
    setenv("LV_CUDA_SIM_ARCHS", "75,80,86", 1);
    setenv("LV_CUDA_SIM_NVRTC", "13020", 1);
    assert_int_equal(child_run(newer_ptx, NULL), CHILD_GOOD);
    unsetenv("LV_CUDA_SIM_ARCHS");
    unsetenv("LV_CUDA_SIM_NVRTC");
}

// Some instructions are sm_90's alone: neither what is older nor what is newer has them.
static int made_for_another(void *user) {
    (void)user;
    return refused(NULL, "cuda:sm_90", "is made for 'cuda:sm_90', this is 'cuda:sm_", NULL);
}

static void test_made_for_another(void **state) {
    (void)state;
    if (!child_simulated()) skip();
    static const char *const others[] = {"80", "100"};
    for (int i = 0; i < 2; i++) {
        setenv("LV_CUDA_SIM_ARCH", others[i], 1);
        assert_int_equal(child_run(made_for_another, NULL), CHILD_GOOD);
        assert_int_equal(child_run(try_runs, NULL), CHILD_GOOD);
    }
    unsetenv("LV_CUDA_SIM_ARCH");
}

static int second_gpu(void *user) {
    LvDevice *device = NULL;
    LvError error = {0};
    (void)user;
    child_must(lv_device_open("cuda:1", 0, &device, &error), &error);
    lv_device_close(device);
    child_require(!lv_device_open("cuda:2", 0, &device, &error) && error.kind == LV_ERROR_USAGE &&
                  strstr(error.hint, "cuda:0 to cuda:1"));
    lv_error_clear(&error);
    static const char *const wrong[] = {"cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999999999", "CUDA"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        child_require(!lv_device_open(wrong[i], 0, &device, &error) && error.kind == LV_ERROR_USAGE);
        lv_error_clear(&error);
    }
    child_must(lv_device_open("auto", 0, &device, &error), &error);
    child_require(!strncmp(lv_device_target(device), "cuda:sm_", 8));
    lv_device_close(device);
    return CHILD_GOOD;
}

static void test_second_gpu(void **state) {
    (void)state;
    if (!child_simulated()) skip();
    setenv("LV_CUDA_SIM_DEVICES", "2", 1);
    assert_int_equal(child_run(second_gpu, NULL), CHILD_GOOD);
    unsetenv("LV_CUDA_SIM_DEVICES");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lacking, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_warm_start, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_unknown_architecture, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_newer_ptx, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_made_for_another, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_second_gpu, make_base, remove_base),
        cmocka_unit_test_setup_teardown(test_every_call, make_base, remove_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
