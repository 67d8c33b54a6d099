// A plan bound to a device and a store: arenas of its own, kernels loaded, library calls prepared, every operand's address
// known. A run is one walk over the steps; on a device that captures, the second run's walk is recorded and every run from then on
// replays it.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/plan_file.h"
#include "base/process.h"
#include "exec/ports.h"
#include "exec/store.h"
#include "exec/sums.h"

struct LvProgram {
    LvDevice *device;
    const LvPlan *plan;
    LvStore *store;
    LvModule *module;
    void *memory[LV_ARENA_COUNT];  // the store's or, from GRADIENTS on, its own
    LvPorts *ports;
    bool caches;                   // it is one of the store's users of caches
    int64_t prepared;              // version of the variables that PREPARED was computed from, 0: none
    LvCall **calls;                // [step], NULL where the step is no library call
    char ***buffers;               // [step][operand]
    char **addresses;              // one block behind `buffers`
    int *waits;                    // [step], sums.h
    LvProgramInfo info;
    bool profile;
    double *seconds;               // [step]
    LvEvent *before, *after;
    bool walked;                   // it has run before
    bool uncapturable;
    LvGraph *graph;                // the steps that are no preparation, captured
};

static char *address_of(const LvProgram *program, LvPlace place) {
    return place.offset < 0 ? NULL : (char *)program->memory[place.arena] + place.offset;
}

static bool allocate_arenas(LvProgram *program, LvError *error) {
    const LvPlan *plan = program->plan;
    LvDevice *device = program->device;
    for (int a = 0; a < LV_ARENA_COUNT; a++) {
        if (a < LV_STORE_ARENAS) {
            program->memory[a] = program->store->memory[a];
            continue;
        }
        if (a == LV_ARENA_CACHE) {
            if (!store_share_caches(program->store, plan, error)) return false;
            program->caches = true;
            program->memory[a] = program->store->cache_memory;
            continue;
        }
        if (!device->ops->allocate(device, (size_t)plan->arena_bytes[a], &program->memory[a], error)) {
            return lv_error_prefix(error, "%s of entry '%s'", lv_arena_kind_name((LvArenaKind)a), plan->entry);
        }
        program->info.device_bytes += plan->arena_bytes[a];
    }
    size_t constants = (size_t)plan->arena_bytes[LV_ARENA_CONSTANTS];
    return constants == 0 ||
           device->ops->upload(device, program->memory[LV_ARENA_CONSTANTS], plan->constants, constants, error);
}

// Where memory is short: the batch that would fit, values between steps growing with it, and what --memory-limit would be.
static void suggest_batch(const LvProgram *program, LvError *error) {
    const LvPlan *plan = program->plan;
    size_t left, total;
    if (error->kind != LV_ERROR_MEMORY || !program->device->ops->memory(program->device, &left, &total)) return;
    double grows = (double)(plan->arena_bytes[LV_ARENA_ACTIVATIONS] + plan->arena_bytes[LV_ARENA_IO]), shared = 0, own = 0;
    for (int a = 0; a < LV_ARENA_COUNT; a++) *(a <= LV_ARENA_CACHE ? &shared : &own) += (double)plan->arena_bytes[a];
    double room = (double)left + (double)program->info.device_bytes;
    double others = own - grows + (double)program->device->ops->workspace(program->device, plan).bytes;
    double batch = grows > 0 ? floor((double)plan->batch * (room - others) / grows) : 0;
    if (batch >= 1 && batch < (double)plan->batch) {
        lv_error_hint(error, "a batch of %.0f would about fit, or --memory-limit %.1fG recomputes rather than stores", batch,
                      (shared + room) * 1e-9);
    } else if (room + shared < (double)total) {
        lv_error_hint(error, "other programs hold %.1f GB of the GPU's memory", ((double)total - room - shared) * 1e-9);
    }
}

static void bind_addresses(LvProgram *program) {
    const LvPlan *plan = program->plan;
    size_t total = 0, at = 0;
    for (int s = 0; s < plan->step_count; s++) total += (size_t)plan->steps[s].operand_count;
    program->buffers = lv_calloc((size_t)plan->step_count + 1, sizeof *program->buffers);
    program->addresses = lv_calloc(total + 1, sizeof *program->addresses);
    for (int s = 0; s < plan->step_count; s++) {
        program->buffers[s] = program->addresses + at;
        for (int o = 0; o < plan->steps[s].operand_count; o++) {
            program->addresses[at++] = address_of(program, plan->steps[s].operands[o].place);
        }
    }
}

static bool prepare_calls(LvProgram *program, LvError *error) {
    const LvPlan *plan = program->plan;
    program->calls = lv_calloc((size_t)plan->step_count + 1, sizeof *program->calls);
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        if (step->kind != LV_STEP_CONV && step->kind != LV_STEP_MATMUL && step->kind != LV_STEP_LINEAR_LOSS) continue;
        if (!program->device->ops->prepare(program->device, program->module, step, &program->calls[s], error)) {
            return lv_error_prefix(error, "step %d, %s", s, step->label ? step->label : "");
        }
    }
    return true;
}

// A plan by itself may run on a rank too: it sums nothing over ranks.
static bool check_ranks(const LvDevice *device, const LvPlan *plan, LvError *error) {
    int ranks = lv_comm_size(device->comm);
    if (plan->ranks <= 1 || plan->ranks == ranks) return true;
    return lv_error_set(error, LV_ERROR_USAGE, "the plan is for %lld ranks, and there %s %d", (long long)plan->ranks, ranks == 1 ? "is" : "are", ranks);
}

bool lv_program_create(LvDevice *device, const LvPlan *plan, LvStore *store, LvProgram **out, LvError *error) {
    struct timespec start, end;
    LvLoadInfo load = {0};
    if (!lv_plan_check(plan, error) || !store_serves(store, plan, error) || !check_ranks(device, plan, error)) return false;
    clock_gettime(CLOCK_MONOTONIC, &start);
    LvProgram *program = lv_calloc(1, sizeof *program);
    program->device = device, program->plan = plan, program->store = store;
    if (device->ops->measure) device->ops->measure(device, plan);
    // memory first: a device may be making it ready while kernels are loaded
    bool good = allocate_arenas(program, error) && ports_create(device, plan, program->memory[LV_ARENA_IO], &program->ports, error) &&
                device->ops->load(device, plan, &program->module, &load, error) &&
                prepare_calls(program, error) && device->ops->event_create(device, &program->before, error) &&
                device->ops->event_create(device, &program->after, error);
    if (!good) {
        suggest_batch(program, error);
        lv_program_destroy(program);
        return false;
    }
    bind_addresses(program);
    program->waits = sums_waits(plan);
    program->seconds = lv_calloc((size_t)plan->step_count + 1, sizeof *program->seconds);
    clock_gettime(CLOCK_MONOTONIC, &end);
    program->info.compile_seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    program->info.kernels_compiled = load.compiled;
    program->info.kernels_cached = load.cached;
    *out = program;
    return true;
}

void lv_program_destroy(LvProgram *program) {
    if (!program) return;
    const LvDeviceOps *ops = program->device->ops;
    if (program->graph) ops->graph_destroy(program->device, program->graph);
    for (int s = 0; program->calls && s < program->plan->step_count; s++) {
        if (program->calls[s]) ops->discard(program->device, program->calls[s]);
    }
    ports_destroy(program->ports);
    if (program->caches) store_leave_caches(program->store, program->plan);
    for (int a = LV_ARENA_CACHE + 1; a < LV_ARENA_COUNT; a++) {
        if (program->memory[a]) ops->release(program->device, program->memory[a], (size_t)program->plan->arena_bytes[a]);
    }
    if (program->module) ops->unload(program->device, program->module);
    if (program->before) ops->event_destroy(program->device, program->before);
    if (program->after) ops->event_destroy(program->device, program->after);
    free(program->calls);
    free(program->buffers);
    free(program->addresses);
    free(program->waits);
    free(program->seconds);
    free(program);
}

static const LvPort *find_port(const LvPort *ports, int count, const char *name) {
    for (int i = 0; i < count; i++) {
        if (!strcmp(ports[i].name, name)) return &ports[i];
    }
    return NULL;
}

static bool check_bytes(const LvPort *port, const char *what, size_t bytes, LvError *error) {
    size_t size;
    if (lv_shape_bytes(port->shape, port->dtype, &size) && size == bytes) return true;
    LvText text = {0};
    lv_shape_print(&text, port->shape);
    lv_error_set(error, LV_ERROR_FORMAT, "%s '%s' is %s%s, %zu bytes, not %zu", what, port->name, lv_dtype_name(port->dtype),
                 lv_text_get(&text), size, bytes);
    lv_text_free(&text);
    return false;
}

// Inputs of the runtime ('$seed') are set whether the plan has them or not.
bool lv_program_set_input(LvProgram *program, const char *name, const void *data, size_t bytes, LvError *error) {
    const LvPort *port = find_port(program->plan->inputs, program->plan->input_count, name);
    if (!port && name[0] == '$') return true;
    if (!port) return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' has no input '%s'", program->plan->entry, name);
    return check_bytes(port, "input", bytes, error) && ports_set(program->ports, port, data, bytes, error);
}

bool lv_program_get_result(LvProgram *program, const char *name, void *data, size_t bytes, LvError *error) {
    const LvPort *port = find_port(program->plan->results, program->plan->result_count, name);
    if (!port) return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' has no result '%s'", program->plan->entry, name);
    return check_bytes(port, "result", bytes, error) &&
           (bytes == 0 ||
            program->device->ops->download(program->device, data, address_of(program, port->place), bytes, error));
}

bool lv_program_get_gradient(const LvProgram *program, int variable, void *data, size_t bytes, LvError *error) {
    const LvPlan *plan = program->plan;
    if (variable < 0 || variable >= plan->variable_count) {
        return lv_error_set(error, LV_ERROR_USAGE, "no variable number %d", variable);
    }
    const LvVariable *v = &plan->variables[variable];
    if (v->gradient.offset < 0) return lv_error_set(error, LV_ERROR_USAGE, "'%s' has no gradient in this entry", v->name);
    size_t size;
    if (!lv_shape_bytes(v->shape, v->dtype, &size) || size != bytes) {
        return lv_error_set(error, LV_ERROR_FORMAT, "the gradient of '%s' takes %zu bytes, not %zu", v->name, size, bytes);
    }
    return program->device->ops->download(program->device, data, address_of(program, v->gradient), bytes, error);
}

static bool run_step(LvProgram *program, int index, LvError *error) {
    const LvStep *step = &program->plan->steps[index];
    const LvDeviceOps *ops = program->device->ops;
    LvDevice *device = program->device;
    char **buffers = program->buffers[index];
    size_t bytes = 0;
    switch (step->kind) {
        case LV_STEP_KERNEL: return ops->launch(device, program->module, step, buffers, error);
        case LV_STEP_CONV:
        case LV_STEP_MATMUL:
        case LV_STEP_LINEAR_LOSS: return ops->call(device, program->calls[index], buffers, error);
        case LV_STEP_COPY:
            lv_shape_bytes(step->operands[0].shape, step->operands[0].dtype, &bytes);
            return ops->copy(device, buffers[0], buffers[1], bytes, error);
        case LV_STEP_ZERO:
            lv_shape_bytes(step->operands[0].shape, step->operands[0].dtype, &bytes);
            return ops->zero(device, buffers[0], bytes, error);
        case LV_STEP_ALL_REDUCE:
            return ops->all_reduce(device, index, buffers[0], (size_t)lv_shape_elements(step->operands[0].shape), step->operands[0].dtype,
                                   step->label ? step->label : "", error);
        case LV_STEP_KIND_COUNT: break;
    }
    return lv_error_set(error, LV_ERROR_FORMAT, "step %d is of no known kind", index);
}

// "step 3, conv2d 3x3 64->64 (kernel 'conv_7'): ..."; the hint names the source lines where the device failed.
static bool report_step(const LvProgram *program, int index, LvError *error) {
    const LvStep *step = &program->plan->steps[index];
    const char *label = step->label ? step->label : "";
    bool gpu = step->launch_count > 0 && step->kernel >= 0;
    if (error->kind == LV_ERROR_DEVICE && step->sources && *step->sources) lv_error_hint(error, "made from %s", step->sources);
    if (gpu) return lv_error_prefix(error, "step %d, %s (kernel '%s')", index, label, program->plan->kernels[step->kernel].name);
    return lv_error_prefix(error, "step %d, %s", index, label);
}

// A sum over ranks is waited for at once, but for steps that are recorded: what is walked is looked at step by step.
static bool wait_for_sums(LvProgram *program, int index, bool recorded, LvError *error) {
    int sum = recorded ? program->waits[index] : program->plan->steps[index].kind == LV_STEP_ALL_REDUCE ? index : -1;
    return sum < 0 || program->device->ops->all_reduce_wait(program->device, sum, error);
}

typedef enum { WALK_ON, WALK_WAITING, WALK_RECORDED } WalkKind;

// WAITING: for each step, so that one that fails on a device that works on behind us is the one that is named.
static bool walk(LvProgram *program, int first, int end, WalkKind kind, LvError *error) {
    LvDevice *device = program->device;
    bool waits = kind == WALK_WAITING;
    for (int s = first; s < end; s++) {
        if (program->profile) device->ops->record(device, program->before);
        if (!run_step(program, s, error) || !wait_for_sums(program, s, kind == WALK_RECORDED, error) || (waits && !device->ops->sync(device, error))) return report_step(program, s, error);
        if (program->profile) {
            device->ops->record(device, program->after);
            program->seconds[s] += device->ops->elapsed(device, program->before, program->after);
        }
    }
    return true;
}

// Sums over ranks are recorded on all of them or on none.
static bool all_captured(const LvProgram *program, bool good, LvError *error) {
    int64_t failed = !good;
    return (program->plan->ranks <= 1 || lv_comm_most(program->device->comm, &failed, "captured?", error)) && !failed;
}

// What cannot be captured is walked: slower, and if something is wrong with it that is where it shows.
static bool capture(LvProgram *program) {
    const LvPlan *plan = program->plan;
    LvDevice *device = program->device;
    LvError ignored = {0};
    if (program->graph || program->uncapturable) return program->graph != NULL;
    bool good = device->ops->capture_begin(device, &ignored);
    if (good) {
        bool recorded = walk(program, plan->prepare_count, plan->step_count, WALK_RECORDED, &ignored);
        good = device->ops->capture_end(device, &program->graph, &ignored) && recorded;
    }
    good = all_captured(program, good, &ignored);
    if (!good && program->graph) device->ops->graph_destroy(device, program->graph), program->graph = NULL;
    program->uncapturable = !good;
    lv_error_clear(&ignored);
    return good;
}

bool lv_program_run(LvProgram *program, LvError *error) {
    const LvPlan *plan = program->plan;
    LvDevice *device = program->device;
    LvStore *store = program->store;
    bool waits = !program->walked || device->checked;
    WalkKind kind = waits ? WALK_WAITING : WALK_ON;
    bool prepares = program->prepared != store->version;
    bool replays = device->ops->captures && !waits && !program->profile;
    device->ops->begin(device);
    if (!ports_send(program->ports, error)) return false;
    if (prepares && !walk(program, 0, plan->prepare_count, kind, error)) return false;
    if (replays && capture(program)) {
        if (!device->ops->replay(device, program->graph, error)) return false;
    } else if (!walk(program, plan->prepare_count, plan->step_count, kind, error)) {
        return false;
    }
    program->walked = true;
    // What it writes itself, it has prepared nothing from.
    program->prepared = plan->writes_variables ? ++store->version : store->version;
    return true;
}

bool lv_program_wait(LvProgram *program, LvError *error) {
    return program->device->ops->sync(program->device, error);
}

int lv_program_lag(const LvProgram *program) {
    const LvDevice *device = program->device;
    return device->ops->behind && !device->checked ? LV_RESULTS_LATE : 0;
}

bool lv_program_post(LvProgram *program, LvError *error) {
    return ports_post(program->ports, error);
}

bool lv_program_receive(LvProgram *program, double *values, LvError *error) {
    return ports_receive(program->ports, values, error);
}

bool lv_program_received(const LvProgram *program, const char *name, void *data, size_t bytes, LvError *error) {
    const LvPort *port = find_port(program->plan->results, program->plan->result_count, name);
    if (!port) return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' has no result '%s'", program->plan->entry, name);
    return check_bytes(port, "result", bytes, error) && ports_received(program->ports, port, data, bytes, error);
}

bool lv_device_join(LvDevice *device, LvComm *comm, LvError *error) {
    return lv_comm_size(comm) == 1 || device->ops->join(device, comm, error);
}

LvWorkspace lv_device_workspace(LvDevice *device, const LvPlan *plan) {
    return device->ops->workspace(device, plan);
}

bool lv_device_memory(LvDevice *device, size_t *left, size_t *total) {
    return device->ops->memory(device, left, total);
}

LvMemoryUse lv_memory_use(LvDevice *device) {
    LvMemoryUse use = device->ops->use(device);
    use.before = lv_process_peak();
    return use;
}

int64_t lv_memory_total(LvMemoryUse use) { return use.device_bytes + (use.shared ? use.own_bytes : 0); }

int64_t lv_memory_peak(LvMemoryUse use) {
    int64_t total = lv_memory_total(use);
    return use.shared && use.before > total ? use.before : total;
}

void lv_memory_print(LvText *out, LvMemoryUse use) {
    lv_text_puts(out, "memory: ");
    lv_text_print_bytes(out, lv_memory_total(use));
    if (use.shared) {
        lv_text_puts(out, ", ");
        lv_text_print_bytes(out, use.device_bytes);
        lv_text_puts(out, " of it for the model, ");
    } else {
        lv_text_puts(out, " of the GPU's, and of the machine's ");
    }
    lv_text_print_bytes(out, use.own_bytes);
    lv_text_puts(out, " for the program itself");
    if (lv_memory_peak(use) == lv_memory_total(use)) return;
    lv_text_puts(out, "; before, while it was made ready, ");
    lv_text_print_bytes(out, use.before);
}

LvProgramInfo lv_program_info(const LvProgram *program) {
    LvProgramInfo info = program->info;
    info.scratch_bytes = (int64_t)program->device->ops->scratch_bytes(program->device);
    info.captured = program->graph != NULL;
    return info;
}

void lv_program_profile(LvProgram *program, bool on) {
    program->profile = on;
    if (on) memset(program->seconds, 0, (size_t)program->plan->step_count * sizeof *program->seconds);
}

double lv_program_step_seconds(const LvProgram *program, int step) {
    return program->seconds[step];
}

const char *lv_program_step_implementation(const LvProgram *program, int step) {
    return program->calls[step] ? program->device->ops->describe(program->calls[step]) : "";
}
