// The CUDA device: opening it, the table, events, errors. Memory is in memory.c, kernels in kernels.c, library calls in calls.c,
// capture in graph.c.
//
// All work goes to one stream, but what a channel brings (channel.c). Of a fault on the device the driver tells with whatever call comes next, and from then on nothing
// works in this process: the message names the entry that was running, and LV_CUDA_SYNC=1, which waits after every step, the step.
#include "device/cuda/cuda.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/process.h"
#include "device/cuda/blas.h"
#include "device/cuda/compiler.h"
#include "device/cuda/cudnn.h"
#include "device/cuda/nccl.h"
#include "io/cache.h"

enum { OLDEST_CUDA = 12000 };

struct LvEvent {
    CuEvent event;
};

// ---- errors

static bool is_fault(CuResult result) {
    return result == CU_ECC_UNCORRECTABLE || result == CU_ILLEGAL_ADDRESS || result == CU_LAUNCH_TIMEOUT || result == CU_ASSERT ||
           (result >= CU_HARDWARE_STACK_ERROR && result <= CU_LAUNCH_FAILED);
}

bool cuda_check(LvCuda *gpu, CuResult result, LvError *error, const char *format, ...) {
    if (result == CU_OK) return true;
    const char *name = NULL, *words = NULL;
    LvText what = {0};
    va_list args;
    gpu->cu.cuGetErrorName(result, &name);
    gpu->cu.cuGetErrorString(result, &words);
    va_start(args, format);
    lv_text_vprintf(&what, format, args);
    va_end(args);
    bool fault = is_fault(result) && gpu->running;
    if (fault) {
        what.length = 0;
        lv_text_printf(&what, "entry '%s' failed on the GPU", gpu->running);
    }
    lv_error_set(error, result == CU_OUT_OF_MEMORY ? LV_ERROR_MEMORY : LV_ERROR_DEVICE, "%s: %s (%s)", what.data,
                 words ? words : "an error of the driver", name ? name : "unknown");
    if (fault && !gpu->base.checked) lv_error_hint(error, "with LV_CUDA_SYNC=1 in the environment the step that fails is named");
    lv_text_free(&what);
    return false;
}

void cuda_note(LvCuda *gpu, const char *format, ...) {
    LvText text = {0};
    va_list args;
    if (gpu->noted) return;
    va_start(args, format);
    lv_text_vprintf(&text, format, args);
    va_end(args);
    gpu->base.note = text.data;
    gpu->noted = true;
}

void cuda_enter(LvCuda *gpu) { gpu->cu.cuCtxSetCurrent(gpu->context); }

// ---- opening

static bool report_start(LvCuda *gpu, CuResult result, LvError *error) {
    if (result == CU_NO_DEVICE) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the driver is there (%s), but no GPU", gpu->library.path);
        if (visible) return lv_error_hint(error, "CUDA_VISIBLE_DEVICES is '%s'", visible);
        return lv_error_hint(error, "does nvidia-smi list one? A container must be given it (docker run --gpus all)");
    }
    cuda_check(gpu, result, error, "the driver (%s) does not start", gpu->library.path);
    error->kind = LV_ERROR_UNSUPPORTED;
    if (result == CU_STUB_LIBRARY)
        lv_error_hint(error, "this is a toolkit's stand-in: install %s", cuda_library_package(CUDA_DRIVER));
    if (result == CU_SYSTEM_DRIVER_MISMATCH)
        lv_error_hint(error, "the driver was updated while it was running: restart the machine");
    return false;
}

bool cuda_driver_open(LvCuda *gpu, int *count, LvError *error) {
#define X(type, name, parameters) {#name, offsetof(CuDriver, name)},
    static const CudaSymbol symbols[] = {CU_FUNCTIONS(X)};
#undef X
    if (!cuda_library_open(CUDA_DRIVER, 0, &gpu->library)) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "no NVIDIA driver: %s is nowhere to be found", cuda_library_file(CUDA_DRIVER));
        return lv_error_hint(error, "%s; or --device cpu", cuda_library_package(CUDA_DRIVER));
    }
    const char *missing = cuda_library_fill(&gpu->library, symbols, sizeof symbols / sizeof *symbols, &gpu->cu);
    if (missing) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the driver (%s) is too old: it has no function '%s'", gpu->library.path,
                     missing);
        return lv_error_hint(error, "a driver for CUDA 12 or later: %s", cuda_library_package(CUDA_DRIVER));
    }
    CuResult result = gpu->cu.cuInit(0);
    if (result == CU_OK) result = gpu->cu.cuDriverGetVersion(&gpu->version);
    if (result == CU_OK && gpu->version < OLDEST_CUDA) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the driver (%s) is too old: it serves CUDA %d.%d, CUDA 12 is needed",
                     gpu->library.path, gpu->version / 1000, gpu->version % 1000 / 10);
        return lv_error_hint(error, "%s", cuda_library_package(CUDA_DRIVER));
    }
    if (result == CU_OK) result = gpu->cu.cuDeviceGetCount(count);
    if (result == CU_OK && *count == 0) result = CU_NO_DEVICE;
    return result == CU_OK || report_start(gpu, result, error);
}

int lv_cuda_count(void) {
    LvCuda *gpu = lv_calloc(1, sizeof *gpu);
    LvError none = {0};
    int count = 0;
    if (!cuda_driver_open(gpu, &count, &none)) count = 0;
    lv_error_clear(&none);
    cuda_driver_close(gpu);
    free(gpu);
    return count;
}

void cuda_driver_close(LvCuda *gpu) { cuda_library_close(&gpu->library); }

bool cuda_device_read(LvCuda *gpu, int index, LvError *error) {
    const CuDriver *cu = &gpu->cu;
    int major = 0, minor = 0;
    CuResult result = cu->cuDeviceGet(&gpu->device, index);
    if (result == CU_OK) result = cu->cuDeviceGetName(gpu->name, sizeof gpu->name, gpu->device);
    if (result == CU_OK) result = cu->cuDeviceGetAttribute(&major, CU_DEVICE_CAPABILITY_MAJOR, gpu->device);
    if (result == CU_OK) result = cu->cuDeviceGetAttribute(&minor, CU_DEVICE_CAPABILITY_MINOR, gpu->device);
    if (result == CU_OK) result = cu->cuDeviceGetAttribute(&gpu->most_shared, CU_DEVICE_MOST_SHARED, gpu->device);
    if (result == CU_OK) result = cu->cuDeviceTotalMem_v2(&gpu->memory, gpu->device);
    gpu->sm = 10 * major + minor;
    snprintf(gpu->target, sizeof gpu->target, "cuda:sm_%d", gpu->sm);
    return cuda_check(gpu, result, error, "GPU %d", index);
}

static bool check_device(LvCuda *gpu, int index, int count, LvError *error) {
    if (index >= count) {
        lv_error_set(error, LV_ERROR_USAGE, "there is no GPU %d", index);
        return lv_error_hint(error, count == 1 ? "there is one: cuda:0" : "there are %d: cuda:0 to cuda:%d", count, count - 1);
    }
    if (!cuda_device_read(gpu, index, error)) return false;
    if (gpu->sm >= CUDA_OLDEST_SM) return true;
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "GPU %d, %s, is sm_%d: sm_%d (Ampere) or later is needed", index, gpu->name,
                 gpu->sm, CUDA_OLDEST_SM);
    return lv_error_hint(error, "use --device cpu");
}

static bool start(LvCuda *gpu, LvError *error) {
    if (!cuda_check(gpu, gpu->cu.cuDevicePrimaryCtxRetain(&gpu->context, gpu->device), error, "GPU %s", gpu->name)) return false;
    cuda_enter(gpu);
    return cuda_check(gpu, gpu->cu.cuStreamCreate(&gpu->stream, CU_STREAM_OF_ITS_OWN), error, "cannot create a stream") &&
           cuda_check(gpu, gpu->cu.cuStreamCreate(&gpu->transfers, CU_STREAM_OF_ITS_OWN), error, "cannot create a stream") &&
           cuda_staging_open(gpu, error);
}

// "NVIDIA H100 (sm_90, 85.0 GB, driver for CUDA 12.4)", and what is out of the ordinary.
static void describe(LvCuda *gpu) {
    LvText text = {0};
    lv_text_printf(&text, "%s (sm_%d, %.1f GB, driver for CUDA %d.%d", gpu->name, gpu->sm, (double)gpu->memory / 1e9,
                   gpu->version / 1000, gpu->version % 1000 / 10);
    if (cuda_compiler_makes_ptx(gpu->compiler)) {
        lv_text_printf(&text, "; NVRTC %d.%d does not know sm_%d, kernels are PTX for %s", gpu->compiler->major,
                       gpu->compiler->minor, gpu->sm, gpu->compiler->target);
    }
    if (gpu->base.checked) lv_text_puts(&text, "; every step is waited for");
    lv_text_puts(&text, ")");
    gpu->base.description = text.data;
}

// ---- the table

static void close_device(LvDevice *device) {
    LvCuda *gpu = (LvCuda *)device;
    if (gpu->context) {
        cuda_enter(gpu);
        if (gpu->stream) gpu->cu.cuStreamSynchronize(gpu->stream);
        cuda_nccl_close(gpu);
        cuda_kernels_unload(gpu, gpu->own);
        cuda_scratch_leave(gpu, gpu->scratch);
        cuda_staging_close(gpu);
    }
    cuda_blas_close(gpu);
    cuda_dnn_close(gpu);
    cuda_compiler_close(gpu);
    if (gpu->transfers) gpu->cu.cuStreamDestroy_v2(gpu->transfers);
    if (gpu->stream) gpu->cu.cuStreamDestroy_v2(gpu->stream);
    if (gpu->context) gpu->cu.cuDevicePrimaryCtxRelease_v2(gpu->device);
    cuda_driver_close(gpu);
    free(gpu->cache_dir);
    free(gpu->base.description);
    free(gpu->base.note);
    free(gpu);
}

static bool allocate(LvDevice *device, size_t bytes, void **memory, LvError *error) {
    LvCuda *gpu = (LvCuda *)device;
    if (!cuda_allocate(gpu, bytes, memory, error)) return false;
    gpu->block_bytes += bytes;
    return true;
}

static void release(LvDevice *device, void *memory, size_t bytes) {
    LvCuda *gpu = (LvCuda *)device;
    if (memory) gpu->block_bytes -= bytes;
    cuda_release(gpu, memory);
}

static bool upload(LvDevice *device, void *to, const void *host, size_t bytes, LvError *error) {
    return cuda_upload((LvCuda *)device, to, host, bytes, error);
}

static bool download(LvDevice *device, void *host, const void *from, size_t bytes, LvError *error) {
    return cuda_download((LvCuda *)device, host, from, bytes, error);
}

static bool copy(LvDevice *device, void *to, const void *from, size_t bytes, LvError *error) {
    LvCuda *gpu = (LvCuda *)device;
    if (to == from || bytes == 0) return true;
    return cuda_check(gpu, gpu->cu.cuMemcpyDtoDAsync_v2((CuPointer)(uintptr_t)to, (CuPointer)(uintptr_t)from, bytes, gpu->stream),
                      error, "copy");
}

static bool zero(LvDevice *device, void *to, size_t bytes, LvError *error) {
    LvCuda *gpu = (LvCuda *)device;
    return bytes == 0 || cuda_check(gpu, gpu->cu.cuMemsetD8Async((CuPointer)(uintptr_t)to, 0, bytes, gpu->stream), error, "zero");
}

static bool memory_left(LvDevice *device, size_t *left, size_t *total) {
    LvCuda *gpu = (LvCuda *)device;
    cuda_enter(gpu);
    return gpu->cu.cuMemGetInfo_v2(left, total) == CU_OK;
}

static bool load(LvDevice *device, const LvPlan *plan, LvModule **module, LvLoadInfo *info, LvError *error) {
    return cuda_kernels_load((LvCuda *)device, plan, module, info, error);
}

static void unload(LvDevice *device, LvModule *module) { cuda_kernels_unload((LvCuda *)device, module); }

static bool launch(LvDevice *device, LvModule *module, const LvStep *step, char *const *buffers, LvError *error) {
    return cuda_kernels_launch((LvCuda *)device, module, step, buffers, error);
}

static bool prepare(LvDevice *device, LvModule *module, const LvStep *step, LvCall **call, LvError *error) {
    return cuda_call_prepare((LvCuda *)device, module, step, call, error);
}

static void discard(LvDevice *device, LvCall *call) { cuda_call_discard((LvCuda *)device, call); }

static bool call_run(LvDevice *device, LvCall *call, char *const *buffers, LvError *error) {
    return cuda_call_run((LvCuda *)device, call, buffers, error);
}

static size_t scratch_bytes(const LvDevice *device) {
    const LvCuda *gpu = (const LvCuda *)device;
    return gpu->scratch_bytes + gpu->landing_bytes;
}

static LvMemoryUse use(LvDevice *device) {
    size_t bytes = ((LvCuda *)device)->block_bytes + scratch_bytes(device);
    return (LvMemoryUse){.device_bytes = (int64_t)bytes, .own_bytes = lv_process_resident()};
}

static LvWorkspace workspace_of(LvCuda *gpu, const LvPlan *plan) {
    size_t bytes = cuda_plan_scratch(gpu, plan);
    int64_t begin, landing = lv_ports_span(plan->inputs, plan->input_count, &begin);
    return (LvWorkspace){.bytes = (bytes ? bytes + LV_SCRATCH_HEAD : 0) + (size_t)landing};
}

LvWorkspace lv_cuda_workspace(const LvPlan *plan) { return workspace_of(NULL, plan); }

static LvWorkspace workspace(LvDevice *device, const LvPlan *plan) { return workspace_of((LvCuda *)device, plan); }

static bool event_create(LvDevice *device, LvEvent **event, LvError *error) {
    LvCuda *gpu = (LvCuda *)device;
    LvEvent *made = *event = lv_calloc(1, sizeof *made);
    return cuda_check(gpu, gpu->cu.cuEventCreate(&made->event, CU_EVENT_TIMED), error, "cannot create an event");
}

static void event_destroy(LvDevice *device, LvEvent *event) {
    LvCuda *gpu = (LvCuda *)device;
    if (event->event) gpu->cu.cuEventDestroy_v2(event->event);
    free(event);
}

static void record(LvDevice *device, LvEvent *event) {
    LvCuda *gpu = (LvCuda *)device;
    gpu->cu.cuEventRecord(event->event, gpu->stream);
}

static double elapsed(LvDevice *device, LvEvent *from, LvEvent *to) {
    LvCuda *gpu = (LvCuda *)device;
    float milliseconds = 0;
    LvError ignored = {0};
    bool good = cuda_wait(gpu, to->event, "a step", &ignored) && gpu->cu.cuEventElapsedTime(&milliseconds, from->event, to->event) == CU_OK;
    lv_error_clear(&ignored);
    return good ? 1e-3 * (double)milliseconds : 0;
}

static bool sync_stream(LvDevice *device, LvError *error) {
    LvCuda *gpu = (LvCuda *)device;
    cuda_enter(gpu);
    return cuda_wait(gpu, NULL, "the GPU", error);
}

static bool capture_begin(LvDevice *device, LvError *error) { return cuda_capture_begin((LvCuda *)device, error); }

static bool capture_end(LvDevice *device, LvGraph **graph, LvError *error) {
    return cuda_capture_end((LvCuda *)device, graph, error);
}

static bool replay(LvDevice *device, LvGraph *graph, LvError *error) { return cuda_replay((LvCuda *)device, graph, error); }

static void graph_destroy(LvDevice *device, LvGraph *graph) { cuda_graph_destroy((LvCuda *)device, graph); }

static bool channel_create(LvDevice *device, void *inputs, size_t input_bytes, void *results, size_t result_bytes, LvChannel **channel,
                           LvError *error) {
    return cuda_channel_create((LvCuda *)device, inputs, input_bytes, results, result_bytes, channel, error);
}

static void channel_destroy(LvDevice *device, LvChannel *channel) { cuda_channel_destroy((LvCuda *)device, channel); }

static bool channel_room(LvDevice *device, LvChannel *channel, char **room, LvError *error) {
    return cuda_channel_room((LvCuda *)device, channel, room, error);
}

static bool channel_send(LvDevice *device, LvChannel *channel, const LvPiece *pieces, int count, LvError *error) {
    return cuda_channel_send((LvCuda *)device, channel, pieces, count, error);
}

static bool channel_give(LvDevice *device, LvChannel *channel, const LvPiece *pieces, int count, LvError *error) {
    return cuda_channel_give((LvCuda *)device, channel, pieces, count, error);
}

static bool channel_read(LvDevice *device, LvChannel *channel, const char **results, LvError *error) {
    return cuda_channel_read((LvCuda *)device, channel, results, error);
}

static void begin(LvDevice *device) { cuda_enter((LvCuda *)device); }

static bool join(LvDevice *device, LvComm *comm, LvError *error) { return cuda_nccl_join((LvCuda *)device, comm, error); }

static bool all_reduce(LvDevice *device, int number, void *data, size_t count, LvDType dtype, const char *what, LvError *error) {
    return cuda_nccl_sum((LvCuda *)device, number, data, count, dtype, what, error);
}

static bool all_reduce_wait(LvDevice *device, int number, LvError *error) { return cuda_nccl_wait((LvCuda *)device, number, error); }

static const LvDeviceOps cuda_ops = {
    .name = "cuda",
    .behind = true,
    .captures = true,
    .close = close_device,
    .allocate = allocate,
    .release = release,
    .upload = upload,
    .download = download,
    .copy = copy,
    .zero = zero,
    .memory = memory_left,
    .load = load,
    .unload = unload,
    .launch = launch,
    .prepare = prepare,
    .discard = discard,
    .call = call_run,
    .describe = cuda_call_describe,
    .scratch_bytes = scratch_bytes,
    .use = use,
    .workspace = workspace,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .record = record,
    .elapsed = elapsed,
    .sync = sync_stream,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .replay = replay,
    .graph_destroy = graph_destroy,
    .channel_create = channel_create,
    .channel_destroy = channel_destroy,
    .channel_room = channel_room,
    .channel_send = channel_send,
    .channel_give = channel_give,
    .channel_read = channel_read,
    .join = join,
    .all_reduce = all_reduce,
    .all_reduce_wait = all_reduce_wait,
    .begin = begin,
};

// What all models need is looked for at once, so that what is missing is said before anything is compiled.
bool lv_cuda_open(int index, LvDevice **device, LvError *error) {
    const char *sync = getenv("LV_CUDA_SYNC");
    LvCuda *gpu = lv_calloc(1, sizeof *gpu);
    int count = 0;
    gpu->base.ops = &cuda_ops;
    gpu->base.target = gpu->target;
    gpu->base.checked = sync && *sync && strcmp(sync, "0");
    gpu->cache_dir = lv_cache_open();
    bool good = cuda_driver_open(gpu, &count, error) && check_device(gpu, index, count, error) &&
                cuda_compiler_find(gpu, error) && cuda_blas_open(gpu, error) && start(gpu, error);
    if (!good) {
        close_device(&gpu->base);
        return false;
    }
    describe(gpu);
    *device = &gpu->base;
    return true;
}
