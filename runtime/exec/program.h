// A plan made ready to run on a device: memory, compiled kernels, library primitives.
//
//   LvDevice   a processor or GPU that is open (device/device.h)
//   LvStore    the variables of a model (params, states, moments), shared by all programs of one model
//   LvProgram  one entry: its plan bound to a store
#ifndef LV_EXEC_PROGRAM_H
#define LV_EXEC_PROGRAM_H

#include "base/error.h"
#include "base/plan.h"

typedef struct LvDevice LvDevice;
typedef struct LvStore LvStore;
typedef struct LvProgram LvProgram;

// `name`: "cpu", "cuda" (the first GPU), "cuda:1", "auto" (a GPU where all that it needs is there, else the CPU). threads 0: all
// that the process may use.
bool lv_device_open(const char *name, int threads, LvDevice **device, LvError *error);
void lv_device_close(LvDevice *device);
const char *lv_device_name(const LvDevice *device);    // "cpu (2 threads, AVX-512, AMX)"
const char *lv_device_target(const LvDevice *device);  // what plans for it are compiled for: "cpu", "cuda:sm_90"

// The device becomes that of a rank: collective, before programs of plans for several ranks are made. NULL: nothing changes. The ranks
// outlive the device.
typedef struct LvComm LvComm;
bool lv_device_join(LvDevice *device, LvComm *comm, LvError *error);

// What has come to pass on it that is no failure, but worth a line: given once, to be freed; NULL: nothing.
char *lv_device_note(LvDevice *device);

// Memory that the device's library takes beside a plan's arenas, told without preparing or running anything.
typedef struct {
    size_t bytes;
    int unmeasured;  // different calls whose algorithm will be chosen by timing: counted as the direct one
} LvWorkspace;
LvWorkspace lv_device_workspace(LvDevice *device, const LvPlan *plan);
bool lv_device_memory(LvDevice *device, size_t *left, size_t *total);  // bytes of its own; false: it has the machine's

// What all that was made so far will take once it has run: on the device; and beside that the process itself, its code, its heap and
// what its libraries keep, as it is now.
typedef struct {
    int64_t device_bytes, own_bytes;
    int64_t before;  // the most that the process had so far: measuring algorithms and compiling take some for a while
    bool shared;     // the device has the process's memory
} LvMemoryUse;
LvMemoryUse lv_memory_use(LvDevice *device);
int64_t lv_memory_total(LvMemoryUse use);              // of the device's memory
int64_t lv_memory_peak(LvMemoryUse use);               // the same, or what was needed before, if that is more
void lv_memory_print(LvText *out, LvMemoryUse use);    // "memory: 147.2 MB, 128.7 MB of it for the model, 18.5 MB for the program itself"

// Memory for the variables of `plan` (any plan of the model; moments only where the plan uses them: a training plan). Caches are
// not among them: they come with the first program that uses them, zero, and go with the last.
bool lv_store_create(LvDevice *device, const LvPlan *plan, LvStore **store, LvError *error);
void lv_store_destroy(LvStore *store);
int lv_store_count(const LvStore *store);
const LvVariable *lv_store_variable(const LvStore *store, int index);
int lv_store_find(const LvStore *store, const char *name);  // -1 if absent
// Copies a whole variable, row-major, its own dtype; `bytes` must be its size.
bool lv_store_read(const LvStore *store, int index, void *data, size_t bytes, LvError *error);
const void *lv_store_peek(const LvStore *store, int index);  // the variable where it lies, until a program runs; NULL: not in the host's memory
bool lv_store_write(LvStore *store, int index, const void *data, size_t bytes, LvError *error);

// Every variable of all ranks becomes what it is on rank 0.
bool lv_store_share(LvStore *store, LvError *error);

// Where plans come from. `plan`: *plan is NULL where the model has no such entry; who asks for it destroys what it gets.
typedef struct {
    void *user;
    bool (*plan)(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error);
} LvPlanSource;

// Compiles what the cache lacks and binds. The plan and the store must outlive the program.
bool lv_program_create(LvDevice *device, const LvPlan *plan, LvStore *store, LvProgram **program, LvError *error);
void lv_program_destroy(LvProgram *program);
// For the runs from the next one on. The data is copied.
bool lv_program_set_input(LvProgram *program, const char *name, const void *data, size_t bytes, LvError *error);
// Queues a run: a GPU may be at it still, and its failure shows when something waits for it. The first run waits for every step, so
// that a fault names the step.
bool lv_program_run(LvProgram *program, LvError *error);
bool lv_program_wait(LvProgram *program, LvError *error);  // until all that was queued is done; reading results waits too
// Results of at most LV_LATE_BYTES each, without waiting for the run that makes them: posted after a run, received in the same order;
// then `lv_program_received` gives them until the next are posted. `values` (may be NULL), by the plan's results: those of one
// element, 0 for the others. lv_program_lag: so many runs may be posted before the oldest is received, so that the device need not
// wait for who reads; 0 where nothing is gained by it.
enum { LV_RESULTS_LATE = 1, LV_LATE_BYTES = 1 << 16 };  // LV_RESULTS_LATE: the most that lv_program_lag gives
int lv_program_lag(const LvProgram *program);
bool lv_program_post(LvProgram *program, LvError *error);
bool lv_program_receive(LvProgram *program, double *values, LvError *error);
bool lv_program_received(const LvProgram *program, const char *name, void *data, size_t bytes, LvError *error);
bool lv_program_get_result(LvProgram *program, const char *name, void *data, size_t bytes, LvError *error);
// The gradient of a parameter, after a run of a training plan; in f16 of the loss times its scale (loss_scale.h).
bool lv_program_get_gradient(const LvProgram *program, int variable, void *data, size_t bytes, LvError *error);

typedef struct {
    double compile_seconds;  // kernels and primitives, this load
    int kernels_compiled, kernels_cached;
    int64_t device_bytes;    // arenas allocated for this program alone
    int64_t scratch_bytes;   // of library calls and of kernels on a GPU, shared by all programs of the device; of inputs on their way
    bool captured;           // a run is one launch of all its steps
} LvProgramInfo;
LvProgramInfo lv_program_info(const LvProgram *program);

// Per-step times of the following runs, for `bench --profile`.
void lv_program_profile(LvProgram *program, bool on);
double lv_program_step_seconds(const LvProgram *program, int step);  // summed over the profiled runs
const char *lv_program_step_implementation(const LvProgram *program, int step);  // the library's name for it, "" for a kernel

#endif
