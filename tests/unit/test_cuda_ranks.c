// Two ranks by mpirun, each with a GPU that the stand-ins make, or on the CPU: sums over ranks in the steps of a plan by hand, walked,
// captured and replayed, beside the steps that touch them; and what is said on each rank where something fails on one.
// Skipped where there is no mpirun.
#include "comm/launch.h"
#include "cuda_child.h"
#include "cuda_plan.h"

#include <time.h>

enum { FEW = 16, LONG = 4, MANY = 20000, RUNS = 5, PROFILED = 3 };

typedef struct {
    LvComm *comm;
    LvDevice *device;
    LvPlan *plan;
    LvStore *store;
    LvProgram *program;
    int rank;
} Rank;

// ---- the plan

typedef struct {
    const char *name;
    LvDType dtype;
    int count;
    int64_t in, work, out;  // where: input, values between, result
} Sum;

static Sum sums[] = {{"few", LV_F32, FEW, 0, 0, 0}, {"again", LV_F32, FEW, 0, 0, 0}, {"ints", LV_I32, LONG, 0, 0, 0}, {"longs", LV_I64, LONG, 0, 0, 0},
                     {"doubles", LV_F64, LONG, 0, 0, 0}, {"many", LV_F32, MANY, 0, 0, 0}, {"kept", LV_F32, FEW, 0, 0, 0}, {"late", LV_F32, FEW, 0, 0, 0}};
enum { SUMS = sizeof sums / sizeof *sums, KEPT = SUMS - 2, LATE = SUMS - 1 };

static size_t bytes_of(const Sum *sum) { return (size_t)sum->count * lv_dtype_size(sum->dtype); }

static int64_t place(int64_t *at, const Sum *sum) {
    int64_t here = *at;
    *at += (int64_t)(bytes_of(sum) + 63) / 64 * 64;
    return here;
}

static void add(LvPlan *p, LvStepKind kind, const char *label, const Sum *sum, LvArenaKind to, int64_t at, LvArenaKind from, int64_t from_at) {
    LvStep *step = cuda_plan_step(p, kind, label, kind == LV_STEP_COPY ? 2 : 1);
    step->operands[0] = cuda_plan_operand(to, at, sum->dtype, 1, sum->count, 0);
    if (kind == LV_STEP_COPY) step->operands[1] = cuda_plan_operand(from, from_at, sum->dtype, 1, sum->count, 0);
}

static void take(LvPlan *p, const Sum *s) { add(p, LV_STEP_COPY, "take", s, LV_ARENA_ACTIVATIONS, s->work, LV_ARENA_IO, s->in); }
static void give(LvPlan *p, const Sum *s) { add(p, LV_STEP_COPY, "give", s, LV_ARENA_IO, s->out, LV_ARENA_ACTIVATIONS, s->work); }
static void reduce(LvPlan *p, const Sum *s) { add(p, LV_STEP_ALL_REDUCE, s->name, s, LV_ARENA_ACTIVATIONS, s->work, 0, 0); }

// Each is summed while the next one is taken. The first one's bytes are zeroed once its sum is given; `kept` is overwritten behind its
// sum and gives no sum; `late` is summed where it is read, by nobody in the plan.
static void add_steps(LvPlan *p) {
    for (int i = 0; i < LATE; i++) take(p, &sums[i]), reduce(p, &sums[i]);
    for (int i = 0; i < KEPT; i++) give(p, &sums[i]);
    add(p, LV_STEP_ZERO, "zero", &sums[0], LV_ARENA_ACTIVATIONS, sums[0].work, 0, 0);
    take(p, &sums[KEPT]);
    give(p, &sums[KEPT]);
    add(p, LV_STEP_COPY, "take", &sums[LATE], LV_ARENA_IO, sums[LATE].out, LV_ARENA_IO, sums[LATE].in);
    add(p, LV_STEP_ALL_REDUCE, "late", &sums[LATE], LV_ARENA_IO, sums[LATE].out, 0, 0);
}

static LvPlan *make_plan(const LvDevice *device) {
    LvPlan *p = lv_plan_create();
    int64_t io = 0, work = 0;
    p->model = "By hand", p->entry = "try", p->device = lv_arena_strdup(p->arena, device->target), p->precision = "f32", p->batch = 1;
    p->ranks = 2, p->prelude = "";
    for (int i = 0; i < SUMS; i++) sums[i].in = place(&io, &sums[i]);
    for (int i = 0; i < SUMS; i++) sums[i].out = place(&io, &sums[i]), sums[i].work = place(&work, &sums[i]);
    p->arena_bytes[LV_ARENA_IO] = io, p->arena_bytes[LV_ARENA_ACTIVATIONS] = work;
    p->input_count = p->result_count = SUMS;
    p->inputs = LV_NEW_ARRAY(p->arena, LvPort, SUMS), p->results = LV_NEW_ARRAY(p->arena, LvPort, SUMS);
    for (int i = 0; i < SUMS; i++) {
        int64_t count = sums[i].count;
        p->inputs[i] = (LvPort){sums[i].name, sums[i].dtype, lv_shape(1, &count), {LV_ARENA_IO, sums[i].in}};
        p->results[i] = (LvPort){sums[i].name, sums[i].dtype, lv_shape(1, &count), {LV_ARENA_IO, sums[i].out}};
    }
    p->steps = LV_NEW_ARRAY(p->arena, LvStep, 4 * SUMS);
    add_steps(p);
    return p;
}

// ---- a rank

// Which it will be, before it has said so: the stand-ins read their settings once. By Open MPI and by MPICH.
static int launched_rank(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return rank ? atoi(rank) : -1;
}

// device NULL: the GPU of its number.
static void start(Rank *r, const char *device) {
    LvError error = {0};
    char own[16];
    *r = (Rank){0};
    child_must(lv_comm_open(&r->comm, &error), &error);
    child_require(lv_comm_size(r->comm) == 2);
    r->rank = lv_comm_rank(r->comm);
    snprintf(own, sizeof own, "cuda:%d", r->rank);
    child_must(lv_device_open(device ? device : own, 1, &r->device, &error), &error);
}

static void make_program(Rank *r) {
    LvError error = {0};
    child_must(lv_device_join(r->device, r->comm, &error), &error);
    r->plan = make_plan(r->device);
    child_must(lv_store_create(r->device, r->plan, &r->store, &error) && lv_program_create(r->device, r->plan, r->store, &r->program, &error), &error);
}

static int stop(Rank *r) {
    lv_program_destroy(r->program);
    lv_store_destroy(r->store);
    lv_device_close(r->device);
    lv_plan_destroy(r->plan);
    lv_comm_close(r->comm, true);
    return CHILD_GOOD;
}

// Numbers that any of the types has, and sums of two.
static double number(int rank, int run, int i) { return (rank + 1) * ((i % 1000) + 1) + 7 * run; }

static void set_inputs(Rank *r, int run) {
    LvError error = {0};
    for (int k = 0; k < SUMS; k++) {
        char *data = calloc(1, bytes_of(&sums[k]));
        for (int i = 0; i < sums[k].count; i++) lv_element_set(data, sums[k].dtype, i, number(r->rank, run, i));
        child_must(lv_program_set_input(r->program, sums[k].name, data, bytes_of(&sums[k]), &error), &error);
        free(data);
    }
}

static void check_results(Rank *r, int run) {
    LvError error = {0};
    for (int k = 0; k < SUMS; k++) {
        char *data = calloc(1, bytes_of(&sums[k]));
        child_must(lv_program_get_result(r->program, sums[k].name, data, bytes_of(&sums[k]), &error), &error);
        for (int i = 0; i < sums[k].count; i++) {
            double want = k == KEPT ? number(r->rank, run, i) : number(0, run, i) + number(1, run, i), got = lv_element_get(data, sums[k].dtype, i);
            if (got >= want && got <= want) continue;
            fprintf(stderr, "rank %d, run %d: %s[%d] is %g, not %g\n", r->rank, run, sums[k].name, i, got, want);
            _exit(CHILD_BAD);
        }
        free(data);
    }
}

static int run_all(Rank *r, bool captured) {
    LvError error = {0};
    make_program(r);
    for (int run = 0; run < RUNS; run++) {
        set_inputs(r, run);
        lv_program_profile(r->program, run == PROFILED);
        child_must(lv_program_run(r->program, &error), &error);
        child_require(run == PROFILED || lv_program_info(r->program).captured == (captured && run > 0));
        check_results(r, run);
    }
    return stop(r);
}

static int on_gpus(void) {
    Rank r;
    start(&r, NULL);
    return run_all(&r, true);
}

static int on_cpus(void) {
    Rank r;
    start(&r, "cpu");
    return run_all(&r, false);
}

// A sum of rank 1 fails while it is recorded: neither rank replays.
static int not_recorded(void) {
    Rank r;
    char fails[64];
    snprintf(fails, sizeof fails, "ncclAllReduce:%d", SUMS + 3);
    if (launched_rank() == 1) setenv("LV_CUDA_SIM_FAIL", fails, 1);
    start(&r, NULL);
    return run_all(&r, false);
}

// LV_CUDA_SYNC of one rank alone: both wait for every step, and neither replays.
static int one_waits(void) {
    Rank r;
    if (launched_rank() == 1) setenv("LV_CUDA_SYNC", "1", 1);
    start(&r, NULL);
    return run_all(&r, false);
}

// ---- what fails

static bool says(const LvError *error, const char *words) {
    bool good = (error->message && strstr(error->message, words)) || (error->hint && strstr(error->hint, words));
    if (!good) fprintf(stderr, "not '%s': %s; %s\n", words, error->message ? error->message : "no error", error->hint ? error->hint : "no hint");
    return good;
}

// All of the libraries but NCCL, for rank 1.
static void hide_nccl(void) {
    const char *at = strstr(getenv("LD_LIBRARY_PATH"), "cuda_sim"), *path = at;
    char folder[] = "/tmp/lv_test_ranks_XXXXXX", from[4096], to[4096];
    static const char *const files[] = {"libcuda.so.1", "libnvrtc.so.13", "libcublasLt.so.13"};
    while (path > getenv("LD_LIBRARY_PATH") && path[-1] != ':') path--;
    child_require(path && mkdtemp(folder));
    for (int i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%.*s/%s", (int)strcspn(path, ":"), path, files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        child_require(symlink(from, to) == 0);
    }
    setenv("LV_CUDA_PATH", folder, 1);
}

static void drop_folder(void) {
    char command[4200];
    const char *folder = getenv("LV_CUDA_PATH");
    if (!folder) return;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    child_require(system(command) == 0);
}

static int without_nccl(void) {
    Rank r;
    LvError error = {0};
    bool lacks = launched_rank() == 1;
    if (lacks) hide_nccl();
    start(&r, NULL);
    child_require(!lv_device_join(r.device, r.comm, &error) && !r.device->comm);
    child_require(error.kind == (lacks ? LV_ERROR_UNSUPPORTED : LV_ERROR_ELSEWHERE));
    child_require(!lacks || (says(&error, "several GPUs need NCCL") && says(&error, "libnccl2")));
    if (lacks) drop_folder();
    return stop(&r);
}

static int on_one_gpu(void) {
    Rank r;
    LvError error = {0};
    start(&r, "cuda");
    child_require(!lv_device_join(r.device, r.comm, &error));
    child_require(r.rank == 0 ? says(&error, "rank 0: ncclCommInitRank: NCCL: invalid usage (Duplicate GPU detected : rank 0 and rank 1") &&
                                    says(&error, "each rank needs a GPU of its own")
                              : error.kind == LV_ERROR_ELSEWHERE);
    return stop(&r);
}

static int join_fails(void) {
    Rank r;
    LvError error = {0};
    setenv("LV_CUDA_SIM_FAIL", "ncclGetUniqueId", 1);
    start(&r, NULL);
    child_require(!lv_device_join(r.device, r.comm, &error));
    child_require(r.rank == 0 ? says(&error, "rank 0: ncclGetUniqueId: NCCL: unhandled cuda error (it was told to fail)")
                              : error.kind == LV_ERROR_ELSEWHERE);
    return stop(&r);
}

// The others do not wait for a rank that gave up in between.
static int one_fails_to_join(void) {
    Rank r;
    LvError error = {0};
    setenv("LV_CUDA_SIM_NCCL_PATIENCE", "1", 1);
    if (launched_rank() == 1) setenv("LV_CUDA_SIM_FAIL", "ncclCommInitRank", 1);
    start(&r, NULL);
    child_require(!lv_device_join(r.device, r.comm, &error) && !r.device->comm);
    child_require(r.rank == 1 ? error.kind == LV_ERROR_ELSEWHERE
                              : says(&error, "rank 0: ncclCommInitRank: NCCL: invalid argument (rank 1 does not come within 1 seconds)"));
    return stop(&r);
}

static int old_library(void) {
    Rank r;
    LvError error = {0};
    setenv("LV_CUDA_SIM_NCCL", "21703", 1);
    start(&r, NULL);
    child_require(!lv_device_join(r.device, r.comm, &error));
    child_require(r.rank == 0 ? says(&error, "is too old: 2.17.3") && says(&error, "2.18 or later") : error.kind == LV_ERROR_ELSEWHERE);
    return stop(&r);
}

// The run in which `what` of one rank fails: both learn of it, and nothing that this device is asked for afterwards waits for ever.
static int fail_in_run(const char *fails, int rank, const char *own, const char *others) {
    Rank r;
    LvError error = {0};
    if (launched_rank() == rank) setenv("LV_CUDA_SIM_FAIL", fails, 1);
    start(&r, NULL);
    make_program(&r);
    set_inputs(&r, 0);
    bool good = lv_program_run(r.program, &error) && lv_program_wait(r.program, &error);
    child_require(!good && says(&error, r.rank == rank ? own : others));
    lv_error_clear(&error);
    if (r.rank != rank) {  // the sums of this one are given up
        good = lv_program_run(r.program, &error) && lv_program_wait(r.program, &error);
        child_require(!good);
        lv_error_clear(&error);
    }
    lv_comm_agree(r.comm, false, &error);
    return stop(&r);
}

static int call_fails(void) {
    setenv("LV_CUDA_SIM_NCCL_PATIENCE", "2", 1);
    return fail_in_run("ncclAllReduce:2", 1, "step 3, again: rank 1: again: NCCL: unhandled cuda error (it was told to fail)",
                       "step 3, again: rank 0: sums over ranks: NCCL: remote process exited or there was a network error (rank 1 does not come");
}

static int sum_fails(void) {
    return fail_in_run("summed:3", 0, "step 5, ints: rank 0: sums over ranks: NCCL: remote process exited or there was a network error (it was told to",
                       "step 5, ints: rank 1: sums over ranks: NCCL: remote process exited or there was a network error (rank 0 failed");
}

// Rank 0 waits no longer than it was told to, for one that comes no more.
static int patience_ends(void) {
    Rank r;
    LvError error = {0};
    setenv("LV_COMM_TIMEOUT", "0.000001", 1);
    start(&r, NULL);
    make_program(&r);
    set_inputs(&r, 0);
    child_require(!lv_program_run(r.program, &error) && says(&error, "has waited 0 s for the other ranks, on its GPU"));
    lv_error_clear(&error);
    lv_comm_agree(r.comm, false, &error);
    return stop(&r);
}

// NCCL's end, which may wait for ranks that never come to theirs, is not waited for.
static int ends_alone(void) {
    Rank r;
    LvError error = {0};
    struct timespec from, to;
    setenv("LV_COMM_TIMEOUT", "0.2", 1);
    setenv("LV_CUDA_SIM_NCCL_LINGER", "60", 1);
    start(&r, NULL);
    child_must(lv_device_join(r.device, r.comm, &error), &error);
    clock_gettime(CLOCK_MONOTONIC, &from);
    lv_device_close(r.device);
    clock_gettime(CLOCK_MONOTONIC, &to);
    child_require(to.tv_sec - from.tv_sec < 30);
    lv_comm_close(r.comm, true);
    return CHILD_GOOD;
}

// ---- the tests

static const struct {
    const char *name;
    int (*run)(void);
    bool cpu;
} bodies[] = {
    {"on_gpus", on_gpus, false},       {"on_cpus", on_cpus, true},          {"not_recorded", not_recorded, false}, {"without_nccl", without_nccl, false},
    {"on_one_gpu", on_one_gpu, false}, {"join_fails", join_fails, false},   {"old_library", old_library, false},   {"call_fails", call_fails, false},
    {"sum_fails", sum_fails, false},   {"patience_ends", patience_ends, false}, {"ends_alone", ends_alone, false},
    {"one_waits", one_waits, false},   {"one_fails_to_join", one_fails_to_join, false},
};
enum { BODIES = sizeof bodies / sizeof *bodies };

static char self[4096];

static void test_body(void **state) {
    LvError error = {0};
    const char *name = *state;
    char *argv[] = {self, (char *)(uintptr_t)name, NULL};
    int code = -1;
    bool cpu = false;
    for (int i = 0; i < BODIES; i++)
        if (!strcmp(bodies[i].name, name)) cpu = bodies[i].cpu;
    if (!cpu && !child_simulated()) skip();
    if (!lv_comm_launch(2, argv, &code, &error)) {
        bool missing = error.kind == LV_ERROR_UNSUPPORTED;
        if (missing) print_message("# %s\n", error.message);
        lv_error_clear(&error);
        assert_true(missing);
        skip();
    }
    assert_int_equal(code, CHILD_GOOD);
}

int main(int argc, char **argv) {
    struct CMUnitTest tests[BODIES];
    for (int i = 0; argc > 1 && i < BODIES; i++)
        if (!strcmp(argv[1], bodies[i].name)) _exit(bodies[i].run());
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return 1;
    setenv("LV_CUDA_SIM_DEVICES", "2", 1);
    for (int i = 0; i < BODIES; i++)
        tests[i] = (struct CMUnitTest){.name = bodies[i].name, .test_func = test_body, .initial_state = (void *)(uintptr_t)bodies[i].name};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
