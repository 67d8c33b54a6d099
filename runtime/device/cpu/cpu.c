// The CPU device: copies, clock; memory, kernels and library calls are in memory.c, kernels.c and onednn.c.
#include "device/cpu/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/processor.h"
#include "io/cache.h"

struct LvEvent {
    struct timespec time;
};

enum { PARALLEL_COPY = 1 << 20 };

static bool cpu_allocate(LvDevice *device, size_t bytes, void **memory, LvError *error) {
    return cpu_memory_allocate((LvCpu *)device, bytes, memory, error);
}

static void cpu_release(LvDevice *device, void *memory, size_t bytes) {
    cpu_memory_release((LvCpu *)device, memory, bytes);
}

static bool cpu_copy(LvDevice *device, void *to, const void *from, size_t bytes, LvError *error) {
    (void)device, (void)error;
    if (to == from || bytes == 0) return true;
    if (bytes < PARALLEL_COPY) {
        memmove(to, from, bytes);
        return true;
    }
    int64_t chunks = (int64_t)((bytes + PARALLEL_COPY - 1) / PARALLEL_COPY);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < chunks; i++) {
        size_t at = (size_t)i * PARALLEL_COPY, left = bytes - at;
        memcpy((char *)to + at, (const char *)from + at, left < PARALLEL_COPY ? left : PARALLEL_COPY);
    }
    return true;
}

static bool cpu_transfer(LvDevice *device, void *to, const void *from, size_t bytes, LvError *error) {
    return cpu_copy(device, to, from, bytes, error);
}

static bool cpu_zero(LvDevice *device, void *to, size_t bytes, LvError *error) {
    (void)device, (void)error;
    int64_t chunks = (int64_t)((bytes + PARALLEL_COPY - 1) / PARALLEL_COPY);
#pragma omp parallel for schedule(static) if (chunks > 1)
    for (int64_t i = 0; i < chunks; i++) {
        size_t at = (size_t)i * PARALLEL_COPY, left = bytes - at;
        memset((char *)to + at, 0, left < PARALLEL_COPY ? left : PARALLEL_COPY);
    }
    return true;
}

static bool cpu_load(LvDevice *device, const LvPlan *plan, LvModule **module, LvLoadInfo *info, LvError *error) {
    return cpu_kernels_load((LvCpu *)device, plan, module, info, error);
}

static void cpu_unload(LvDevice *device, LvModule *module) {
    (void)device;
    cpu_kernels_unload(module);
}

static bool cpu_memory(LvDevice *device, size_t *left, size_t *total) {
    (void)device;
    *left = *total = 0;
    return false;
}

static bool cpu_launch(LvDevice *device, LvModule *module, const LvStep *step, char *const *buffers, LvError *error) {
    (void)device, (void)error;
    cpu_kernels_launch(module, step->kernel, buffers, step->scalars);
    return true;
}

static bool cpu_prepare(LvDevice *device, LvModule *module, const LvStep *step, LvCall **call, LvError *error) {
    return cpu_call_prepare((LvCpu *)device, module, step, call, error);
}

static void cpu_discard(LvDevice *device, LvCall *call) {
    cpu_call_discard((LvCpu *)device, call);
}

static bool cpu_call(LvDevice *device, LvCall *call, char *const *buffers, LvError *error) {
    return cpu_call_run((LvCpu *)device, call, buffers, error);
}

static size_t cpu_scratch_bytes(const LvDevice *device) {
    return cpu_library_scratch((const LvCpu *)device);
}

static LvMemoryUse cpu_use(LvDevice *device) {
    LvMemoryUse use = {.shared = true};
    cpu_memory_use((LvCpu *)device, &use);
    cpu_library_use((LvCpu *)device, &use);
    return use;
}

static void cpu_measure(LvDevice *device, const LvPlan *plan) {
    cpu_library_measure((LvCpu *)device, plan);
}

static LvWorkspace cpu_workspace(LvDevice *device, const LvPlan *plan) {
    return cpu_library_workspace((LvCpu *)device, plan);
}

static bool cpu_event_create(LvDevice *device, LvEvent **event, LvError *error) {
    (void)device, (void)error;
    *event = lv_calloc(1, sizeof **event);
    return true;
}

static void cpu_event_destroy(LvDevice *device, LvEvent *event) {
    (void)device;
    free(event);
}

static void cpu_record(LvDevice *device, LvEvent *event) {
    (void)device;
    clock_gettime(CLOCK_MONOTONIC, &event->time);
}

static double cpu_elapsed(LvDevice *device, LvEvent *from, LvEvent *to) {
    (void)device;
    return (double)(to->time.tv_sec - from->time.tv_sec) + 1e-9 * (double)(to->time.tv_nsec - from->time.tv_nsec);
}

static bool cpu_sync(LvDevice *device, LvError *error) {
    (void)device, (void)error;
    return true;
}

static bool cpu_capture_begin(LvDevice *device, LvError *error) {
    (void)device;
    return lv_error_set(error, LV_ERROR_UNSUPPORTED, "the CPU captures nothing");
}

static bool cpu_capture_end(LvDevice *device, LvGraph **graph, LvError *error) {
    *graph = NULL;
    return cpu_capture_begin(device, error);
}

static bool cpu_replay(LvDevice *device, LvGraph *graph, LvError *error) {
    (void)graph;
    return cpu_capture_begin(device, error);
}

static void cpu_graph_destroy(LvDevice *device, LvGraph *graph) {
    (void)device, (void)graph;
}

static bool cpu_join(LvDevice *device, LvComm *comm, LvError *error) {
    (void)error;
    device->comm = comm;
    return true;
}

static bool cpu_all_reduce(LvDevice *device, int number, void *data, size_t count, LvDType dtype, const char *what, LvError *error) {
    (void)number;
    return lv_comm_sum(device->comm, data, count, dtype, what, error);
}

static bool cpu_all_reduce_wait(LvDevice *device, int number, LvError *error) {
    (void)device, (void)number, (void)error;
    return true;
}

// The thread count is OpenMP's setting of the calling thread; kernels and oneDNN both read it.
static void cpu_begin(LvDevice *device) {
    LvCpu *cpu = (LvCpu *)device;
    omp_set_num_threads(cpu->threads);
    cpu_memory_finish(cpu);
}

static void cpu_close(LvDevice *device) {
    LvCpu *cpu = (LvCpu *)device;
    cpu_library_close(cpu);
    cpu_memory_close(cpu);
    free(cpu->processor);
    free(cpu->cache_dir);
    free(cpu->base.description);
    free(cpu);
}

static const LvDeviceOps cpu_ops = {
    .name = "cpu",
    .on_host = true,
    .close = cpu_close,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .upload = cpu_transfer,
    .download = cpu_transfer,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .memory = cpu_memory,
    .load = cpu_load,
    .unload = cpu_unload,
    .launch = cpu_launch,
    .measure = cpu_measure,
    .prepare = cpu_prepare,
    .discard = cpu_discard,
    .call = cpu_call,
    .describe = cpu_call_describe,
    .scratch_bytes = cpu_scratch_bytes,
    .use = cpu_use,
    .workspace = cpu_workspace,
    .event_create = cpu_event_create,
    .event_destroy = cpu_event_destroy,
    .record = cpu_record,
    .elapsed = cpu_elapsed,
    .sync = cpu_sync,
    .capture_begin = cpu_capture_begin,
    .capture_end = cpu_capture_end,
    .replay = cpu_replay,
    .graph_destroy = cpu_graph_destroy,
    .channel_create = cpu_channel_create,
    .channel_destroy = cpu_channel_destroy,
    .channel_room = cpu_channel_room,
    .channel_send = cpu_channel_send,
    .channel_give = cpu_channel_give,
    .channel_read = cpu_channel_read,
    .join = cpu_join,
    .all_reduce = cpu_all_reduce,
    .all_reduce_wait = cpu_all_reduce_wait,
    .begin = cpu_begin,
};

// What decides which code runs: vendor, family, model, name, instruction sets, by /proc/cpuinfo, and the level that we keep to.
static char *read_processor(void) {
    LvText text = {0};
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && getline(&line, &room, file) > 1) {
        static const char *const keys[] = {"vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer",
                                           "CPU part", "Features"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            if (!strncmp(line, keys[i], strlen(keys[i]))) {
                lv_text_puts(&text, line);
                break;
            }
        }
    }
    if (lv_processor_level() != LV_PROCESSOR_NATIVE) lv_text_printf(&text, "level %s\n", lv_processor_level_name());
    free(line);
    if (file) fclose(file);
    char *processor = lv_strdup(lv_text_get(&text));
    lv_text_free(&text);
    return processor;
}

bool lv_cpu_open(int threads, LvDevice **device, LvError *error) {
    LvCpu *cpu = lv_calloc(1, sizeof *cpu);
    cpu->base.ops = &cpu_ops;
    cpu->base.target = "cpu";
    cpu->threads = threads > 0 ? threads : omp_get_max_threads();
    cpu->processor = read_processor();
    cpu->cache_dir = lv_cache_open();
    cpu_memory_open(cpu);
    LvText text = {0};
    lv_text_printf(&text, "cpu (%d thread%s%s%s%s%s)", cpu->threads, cpu->threads == 1 ? "" : "s",
                   lv_processor_has_avx512() ? ", AVX-512" : "", lv_processor_has_bf16() ? ", bf16" : "", lv_processor_has_amx() ? ", AMX" : "",
                   lv_processor_level() == LV_PROCESSOR_AVX2 ? ", AVX2 alone" : "");
    cpu->base.description = lv_strdup(lv_text_get(&text));
    lv_text_free(&text);
    omp_set_num_threads(cpu->threads);
    if (!cpu_library_open(cpu, error)) {
        cpu_close(&cpu->base);
        return false;
    }
    *device = &cpu->base;
    return true;
}
