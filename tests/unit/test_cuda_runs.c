// The CUDA backend with plans by hand: runs walked and captured, transfers, the cache of kernels when the world is unkind, faults on
// the device, libraries that are missing or do not fit, and every call of theirs failing in turn. On a GPU where there is one; else
// tests/cuda_sim/run puts the stand-ins in its place, without which all of this is skipped.
#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include "cuda_child.h"
#include "cuda_plan.h"
#include "exec/program.h"
#include "io/cache.h"

enum { R = CUDA_PLAN_ROWS, W = CUDA_PLAN_WIDTH, C = CUDA_PLAN_COLUMNS };

typedef struct {
    LvDevice *device;
    LvPlan *plan;
    LvStore *store;
    LvProgram *program;
} Run;

static void stop(Run *run) {
    lv_program_destroy(run->program);
    lv_store_destroy(run->store);
    lv_plan_destroy(run->plan);
    if (run->device) lv_device_close(run->device);
}

static bool write_bias(Run *run, float first, LvError *error) {
    float bias[W];
    for (int i = 0; i < W; i++) bias[i] = first + (float)i;
    return lv_store_write(run->store, 0, bias, sizeof bias, error);
}

static bool start(Run *run, LvError *error) {
    *run = (Run){0};
    if (!lv_device_open("cuda", 0, &run->device, error)) return false;
    run->plan = cuda_plan(run->device);
    return lv_store_create(run->device, run->plan, &run->store, error) && write_bias(run, 1, error) &&
           lv_program_create(run->device, run->plan, run->store, &run->program, error);
}

static void fill(float x[R][W], int turn) {
    for (int i = 0; i < R * W; i++) x[i / W][i % W] = (float)((i * 7 + turn * 3) % 11 - 5);
}

static float element(const float *row, int column, float bias) {
    float want = 0;
    for (int k = 0; k < W; k++) want += (0.5f * row[k] + bias + (float)k) * (float)(k * (column + 1));
    return want;
}

static float sum_of(int turn, float bias) {
    float x[R][W], total = 0;
    fill(x, turn);
    for (int i = 0; i < R * C; i++) total += 2 * element(x[i / C], i % C, bias);
    return total;
}

// A run with x that depends on `turn`; false with the error, bad where the numbers are wrong.
static bool run_turn(Run *run, int turn, int pick, float bias, LvError *error) {
    float x[R][W], y[R][C], row[W], sum;
    fill(x, turn);
    if (!lv_program_set_input(run->program, "x", x, sizeof x, error) ||
        !lv_program_set_input(run->program, "pick", &pick, sizeof pick, error) || !lv_program_run(run->program, error) ||
        !lv_program_get_result(run->program, "y", y, sizeof y, error) ||
        !lv_program_get_result(run->program, "row", row, sizeof row, error) ||
        !lv_program_get_result(run->program, "sum", &sum, sizeof sum, error))
        return false;
    for (int i = 0; i < R * C; i++) child_require(y[i / C][i % C] == element(x[i / C], i % C, bias));
    child_require(sum == sum_of(turn, bias));
    child_require(!memcmp(row, x[pick], sizeof row));
    return true;
}

// ---- runs

// The first run is walked, those behind it are one graph; a profiled one is walked again; what is prepared follows the variables.
static int runs(void *user) {
    Run run;
    LvError error = {0};
    (void)user;
    child_must(start(&run, &error), &error);
    for (int turn = 0; turn < 4; turn++) {
        child_must(run_turn(&run, turn, turn, 1, &error), &error);
        child_require(lv_program_info(run.program).captured == (turn > 0));
    }
    child_must(write_bias(&run, 2, &error), &error);
    child_must(run_turn(&run, 5, 0, 2, &error), &error);
    lv_program_profile(run.program, true);
    child_must(run_turn(&run, 6, 1, 2, &error), &error);
    child_require(lv_program_step_seconds(run.program, 1) > 0);
    lv_program_profile(run.program, false);
    child_must(run_turn(&run, 7, 2, 2, &error), &error);
    child_require(lv_program_info(run.program).scratch_bytes == (int64_t)lv_device_workspace(run.device, run.plan).bytes);
    child_require(!strncmp(lv_device_target(run.device), "cuda:sm_", 8) && strstr(lv_device_name(run.device), "sm_"));
    stop(&run);
    return CHILD_GOOD;
}

static void test_runs(void **state) {
    (void)state;
    child_test(runs, NULL);
}

// Two programs over one store, runs queued without waiting.
static int queued(void *user) {
    Run run;
    LvError error = {0};
    LvProgram *other;
    float y[R][C];
    (void)user;
    child_must(start(&run, &error), &error);
    child_must(lv_program_create(run.device, run.plan, run.store, &other, &error), &error);
    for (int turn = 0; turn < 200; turn++) {
        float x[R][W];
        int pick = turn % R;
        for (int i = 0; i < R * W; i++) x[i / W][i % W] = (float)turn;
        LvProgram *program = turn % 2 ? other : run.program;
        child_must(lv_program_set_input(program, "x", x, sizeof x, &error) &&
                       lv_program_set_input(program, "pick", &pick, sizeof pick, &error) && lv_program_run(program, &error),
                   &error);
    }
    child_must(lv_program_wait(run.program, &error) && lv_program_get_result(other, "y", y, sizeof y, &error), &error);
    float want = 0;
    for (int k = 0; k < W; k++) want += (0.5f * 199 + 1 + (float)k) * (float)k;
    child_require(y[0][0] == want && y[R - 1][0] == want);
    lv_program_destroy(other);
    stop(&run);
    return CHILD_GOOD;
}

static void test_queued(void **state) {
    (void)state;
    child_test(queued, NULL);
}

// Results read a run late, each its own run's: the next inputs are set after that, or before it, when nothing but the copy's own event
// tells that the memory they were sent from is free. Inputs that are not set again stay.
static int late(void *user) {
    enum { TURNS = 30 };
    Run run;
    LvError error = {0};
    bool before = *(bool *)user;
    int read = 0;
    child_must(start(&run, &error), &error);
    int lag = lv_program_lag(run.program), pick = 2;
    bool checked = getenv("LV_CUDA_SYNC") != NULL;
    child_require(lag == (checked ? 0 : 1));
    child_must(lv_program_set_input(run.program, "pick", &pick, sizeof pick, &error), &error);
    for (int turn = 0; turn < TURNS + 2; turn++) {
        float x[R][W], row[W];
        double values[3] = {7, 7, 7};
        fill(x, turn);
        bool more = turn < TURNS;
        if (more && before) child_must(lv_program_set_input(run.program, "x", x, sizeof x, &error), &error);
        if (turn - read == 2 || !more) {
            child_must(lv_program_receive(run.program, values, &error), &error);
            child_require(values[2] == (double)sum_of(read, 1) && values[0] == 0 && values[1] == 0);
            float then[R][W];
            fill(then, read++);
            child_must(lv_program_received(run.program, "row", row, sizeof row, &error), &error);
            child_require(!memcmp(row, then[pick], sizeof row));
        }
        if (!more) continue;
        if (!before) child_must(lv_program_set_input(run.program, "x", x, sizeof x, &error), &error);
        child_must(lv_program_run(run.program, &error) && lv_program_post(run.program, &error), &error);
        if (turn % 7) continue;
        child_must(lv_program_get_result(run.program, "row", row, sizeof row, &error), &error);
        child_require(!memcmp(row, x[pick], sizeof row));
    }
    double values[3];
    child_require(read == TURNS && !lv_program_receive(run.program, values, &error) && strstr(error.message, "no results were posted"));
    lv_error_clear(&error);
    for (int i = 0; i < 2; i++) child_must(lv_program_run(run.program, &error) && lv_program_post(run.program, &error), &error);
    child_require(!lv_program_post(run.program, &error) && strstr(error.message, "results of 2 runs are not read yet"));
    lv_error_clear(&error);
    float row[W];
    child_require(!lv_program_received(run.program, "row", row, sizeof row, &error) && strstr(error.message, "no results were received"));
    lv_error_clear(&error);
    stop(&run);
    return CHILD_GOOD;
}

static void test_late(void **state) {
    (void)state;
    for (int before = 0; before < 2; before++) {
        bool which = before;
        child_test(late, &which);
    }
}

// A program that wants more scratch memory than there is gets another block; one that was captured before keeps its own.
static int scratch_grows(void *user) {
    enum { MORE = 48 << 20 };
    Run run;
    LvError error = {0};
    LvProgram *other;
    (void)user;
    child_must(start(&run, &error), &error);
    for (int turn = 0; turn < 3; turn++) child_must(run_turn(&run, turn, 0, 1, &error), &error);
    int64_t before = lv_program_info(run.program).scratch_bytes;
    LvPlan *plan = cuda_plan(run.device);
    for (int s = 0; s < plan->step_count; s++)
        if (plan->steps[s].scratch) plan->steps[s].scratch = MORE;
    child_must(lv_program_create(run.device, plan, run.store, &other, &error), &error);
    int64_t both = lv_program_info(run.program).scratch_bytes;
    child_require(both > before + MORE);
    for (int turn = 0; turn < 4; turn++) {
        Run second = run;
        second.program = other, second.plan = plan;
        child_must(run_turn(&second, turn, 1, 1, &error) && run_turn(&run, turn + 1, 2, 1, &error), &error);
    }
    lv_program_destroy(run.program);
    run.program = NULL;
    child_require(lv_program_info(other).scratch_bytes == both - before);
    lv_program_destroy(other);
    lv_plan_destroy(plan);
    stop(&run);
    return CHILD_GOOD;
}

static void test_scratch_grows(void **state) {
    (void)state;
    child_test(scratch_grows, NULL);
}

// ---- memory

// Pieces of all sizes up and down, in any order, against the same in host memory; more than the pinned ring holds.
static int transfers(void *user) {
    enum { BYTES = 48 << 20, TURNS = 60 };
    LvDevice *device = child_open();
    LvError error = {0};
    void *memory, *none;
    char *host = calloc(1, BYTES), *back = malloc(BYTES);
    unsigned random = 1;
    (void)user;
    child_must(device->ops->allocate(device, BYTES, &memory, &error) && device->ops->allocate(device, 0, &none, &error), &error);
    child_must(device->ops->download(device, back, memory, BYTES, &error), &error);
    child_require(!memcmp(host, back, BYTES));
    for (int turn = 0; turn < TURNS; turn++) {
        random = random * 1664525 + 1013904223;
        size_t most = turn % 4 == 0   ? BYTES
                      : turn % 4 == 1 ? 5 << 20
                                      : 3000,
               bytes = random % most, at = (random >> 7) % (BYTES - bytes);
        for (size_t i = 0; i < bytes; i += 61) host[at + i] = (char)(i + random);
        child_must(device->ops->upload(device, (char *)memory + at, host + at, bytes, &error), &error);
        if (turn % 5 == 4) {
            memset(host + at / 2, 0, bytes / 2);
            child_must(device->ops->zero(device, (char *)memory + at / 2, bytes / 2, &error), &error);
        }
        if (turn % 7 == 6) {
            child_must(device->ops->download(device, back, (char *)memory + at, bytes, &error), &error);
            child_require(!memcmp(back, host + at, bytes));
        }
    }
    child_must(device->ops->download(device, back, memory, BYTES, &error), &error);
    child_require(!memcmp(host, back, BYTES));
    device->ops->release(device, memory, BYTES);
    device->ops->release(device, none, 0);
    lv_device_close(device);
    free(host), free(back);
    return CHILD_GOOD;
}

static void test_transfers(void **state) {
    (void)state;
    child_test(transfers, NULL);
}

// More than there is: what was needed, what is free, and the batch that would fit.
static int too_large(void *user) {
    Run run;
    LvError error = {0};
    size_t left, total;
    (void)user;
    child_must(start(&run, &error), &error);
    child_require(run.device->ops->memory(run.device, &left, &total) && left <= total);
    LvProgram *other = NULL;
    run.plan->batch = 1000;
    run.plan->arena_bytes[LV_ARENA_ACTIVATIONS] = (int64_t)(2 * total) / 64 * 64;
    child_require(!lv_program_create(run.device, run.plan, run.store, &other, &error));
    child_require(error.kind == LV_ERROR_MEMORY && strstr(error.message, "out of GPU memory") &&
                  strstr(error.message, "are free"));
    child_require(strstr(error.hint, "a batch of ") && strstr(error.hint, "--memory-limit "));
    double batch = strtod(strstr(error.hint, "a batch of ") + 11, NULL);
    child_require(batch > 0 && batch <= 500);
    lv_error_clear(&error);
    run.plan->arena_bytes[LV_ARENA_ACTIVATIONS] = 256;
    child_must(run_turn(&run, 1, 1, 1, &error), &error);  // what there was still works
    stop(&run);
    return CHILD_GOOD;
}

static void test_too_large(void **state) {
    (void)state;
    child_test(too_large, NULL);
}

// ---- the cache

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/lv_test_cuda_XXXXXX");
    return mkdtemp(folder) ? setenv("LV_CACHE_DIR", folder, 1) : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) ? -1 : 0;
}

// As many kernels as `user` says are compiled, the rest come from the cache.
static int compiles(void *user) {
    Run run;
    LvError error = {0};
    child_must(start(&run, &error), &error);
    child_require(lv_program_info(run.program).kernels_compiled == *(int *)user);
    child_require(lv_program_info(run.program).kernels_cached == run.plan->kernel_count - *(int *)user);
    child_must(run_turn(&run, 3, 2, 1, &error), &error);
    stop(&run);
    return CHILD_GOOD;
}

static int all = 3, none = 0;

// Cut, emptied, altered, replaced by what has a good footer and is no binary: compiled anew, and whole again.
static void harm(const char *suffix, int how) {
    DIR *dir = opendir(folder);
    for (struct dirent *item; (item = readdir(dir));) {
        char path[512];
        struct stat info;
        if (!strstr(item->d_name, suffix)) continue;
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        assert_int_equal(stat(path, &info), 0);
        if (how < 2) assert_int_equal(truncate(path, how ? 0 : info.st_size / 2), 0);
        if (how == 2) {
            FILE *file = fopen(path, "r+");
            fseek(file, info.st_size / 3, SEEK_SET);
            fputs("nonsense", file);
            fclose(file);
        }
        if (how == 3) {
            assert_true(lv_cache_write(path, "no binary, no name of one either", 32));
        }
    }
    closedir(dir);
}

static void test_cache(void **state) {
    (void)state;
    child_test(compiles, &all);
    child_test(compiles, &none);
    static const char *const suffixes[] = {".cubin", ".ref", ".nvrtc"};
    for (int s = 0; s < 3; s++) {
        for (int how = 0; how < 4; how++) {
            harm(suffixes[s], how);
            child_test(compiles, s < 2 ? &all : &none);
            child_test(compiles, &none);
        }
    }
}

static bool disk_is_full;

// Files of the cache cannot be filled: in place of the libc's.
FILE *fopen(const char *path, const char *mode) {
    FILE *(*real)(const char *, const char *) = NULL;
    void *symbol = dlsym(RTLD_NEXT, "fopen");
    memcpy(&real, &symbol, sizeof real);
    return real(disk_is_full && *mode == 'w' && !strncmp(path, folder, strlen(folder)) ? "/dev/full" : path, mode);
}

static int full_disk(void *user) {
    disk_is_full = true;
    return compiles(user);
}

static int no_folder(void *user) {
    setenv("LV_CACHE_DIR", "/proc/none", 1);
    return compiles(user);
}

static void test_no_room(void **state) {
    (void)state;
    child_test(full_disk, &all);
    child_test(no_folder, &all);
    child_test(compiles, &all);
    child_test(full_disk, &none);
}

// Several at once, each with what it compiled or what another one did.
static void test_together(void **state) {
    enum { MANY = 4 };
    pid_t children[MANY];
    (void)state;
    if (child_run(child_look_for_gpu, NULL) != CHILD_GOOD) skip();
    for (int i = 0; i < MANY; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(runs(NULL));
    }
    for (int i = 0; i < MANY; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    child_test(compiles, &none);
}

// ---- kernels that are wrong

static int refused(void *user) {
    Run run = {.device = child_open()};
    LvError error = {0};
    char path[512], *text;
    size_t length;
    (void)user;
    run.plan = cuda_plan(run.device);
    run.plan->kernels[1].text =
        "extern \"C\" __global__ void take_0(float *row, const float *x, const int *pick, char *scratch) {\n"
        "  row[0] = x[picked[0]];\n}\n";
    child_must(lv_store_create(run.device, run.plan, &run.store, &error), &error);
    child_require(!lv_program_create(run.device, run.plan, run.store, &run.program, &error));
    child_require(error.kind == LV_ERROR_DEVICE && strstr(error.message, "kernel 'take'") &&
                  strstr(error.message, "by hand:2 by hand:3"));
    child_require(strstr(error.message, "picked") && strstr(error.message, "take"));
    child_require(sscanf(error.hint, "its text is kept in %511s", path) == 1);
    lv_error_clear(&error);
    child_must(lv_file_read(path, 1 << 20, &text, &length, &error), &error);
    child_require(strstr(text, "x[picked[0]]") && !strstr(text, "scale_0"));
    free(text);
    stop(&run);
    return CHILD_GOOD;
}

static void test_refused(void **state) {
    (void)state;
    child_test(refused, NULL);
}

// A row that is far from there: in the first run the step is named, in a later one the entry and how to find the step.
static int faulty(void *user) {
    Run run;
    LvError error = {0};
    int good_runs = *(int *)user;
    child_must(start(&run, &error), &error);
    for (int turn = 0; turn < good_runs; turn++) child_must(run_turn(&run, turn, 0, 1, &error), &error);
    child_require(!run_turn(&run, 9, 1 << 28, 1, &error));
    child_require(error.kind == LV_ERROR_DEVICE && strstr(error.message, "entry 'try' failed on the GPU") && error.hint);
    bool named = strstr(error.message, "take a row") && strstr(error.message, "kernel 'take'") &&
                 !strcmp(error.hint, "made from by hand:2 by hand:3");
    bool checked = getenv("LV_CUDA_SYNC") != NULL;
    child_require(named == (good_runs == 0 || checked));
    if (!named) child_require(strstr(error.hint, "LV_CUDA_SYNC=1"));
    lv_error_clear(&error);
    child_require(!run_turn(&run, 9, 0, 1, &error));  // and from then on nothing works
    lv_error_clear(&error);
    stop(&run);
    return CHILD_GOOD;
}

static void test_faults(void **state) {
    (void)state;
    for (int good_runs = 0; good_runs < 3; good_runs++) child_test(faulty, &good_runs);
    int later = 2;
    setenv("LV_CUDA_SYNC", "1", 1);
    child_test(faulty, &later);
    unsetenv("LV_CUDA_SYNC");
}

static int made_for_another(void *user) {
    Run run = {.device = child_open()};
    LvError error = {0};
    (void)user;
    run.plan = cuda_plan(run.device);
    child_must(lv_store_create(run.device, run.plan, &run.store, &error), &error);
    static const char *const others[] = {"cpu", "cuda:sm_999"};
    for (int i = 0; i < 2; i++) {
        run.plan->device = others[i];
        child_require(!lv_program_create(run.device, run.plan, run.store, &run.program, &error));
        child_require(strstr(error.message, others[i]) && strstr(error.hint, lv_device_target(run.device)));
        lv_error_clear(&error);
    }
    stop(&run);
    return CHILD_GOOD;
}

static void test_made_for_another(void **state) {
    (void)state;
    child_test(made_for_another, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_queued, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_late, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_scratch_grows, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_transfers, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_too_large, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_cache, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_no_room, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_together, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_faults, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_made_for_another, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
