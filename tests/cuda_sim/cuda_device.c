// libcuda's stand-in: the device, the context, errors. LV_CUDA_SIM_DEVICES, _ARCH and _DRIVER say what there is.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

static pthread_mutex_t lock;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool started;
static int retained;
static CuResult error;
static __thread CuContext current;

static void make_lock(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &attributes);
}

CudaLock cuda_lock(void) {
    pthread_once(&once, make_lock);
    pthread_mutex_lock(&lock);
    return (CudaLock){0};
}

void cuda_unlock(CudaLock *held) {
    (void)held;
    pthread_mutex_unlock(&lock);
}

// LV_CUDA_SIM_LOG: a file that takes the names of all functions called, in order.
static void log_call(const char *function) {
    static FILE *file;
    const char *path = getenv("LV_CUDA_SIM_LOG");
    if (!path || !*path) return;
    if (!file) file = fopen(path, "a");
    if (file) fprintf(file, "%s\n", function), fflush(file);
}

CuResult cuda_enter_without_context(const char *function, CuResult usual) {
    log_call(function);
    const CuResult trouble = sim_trouble(function, usual);
    if (trouble) return trouble;
    return started ? CU_OK : CUDA_NOT_INITIALIZED;
}

CuResult cuda_enter(const char *function, CuResult usual) {
    const CuResult trouble = cuda_enter_without_context(function, usual);
    if (trouble) return trouble;
    return !current || !retained ? CUDA_INVALID_CONTEXT : error;
}

CuResult cuda_error(void) { return error; }

void cuda_set_error(CuResult result) {
    if (!error) error = result;
}

static int device_count(void) { return sim_setting("LV_CUDA_SIM_DEVICES", 1); }

int cuda_architecture(void) { return sim_setting("LV_CUDA_SIM_ARCH", 90); }

int cuda_most_shared(void) {
    switch (cuda_architecture()) {
        case 75: return 65536;
        case 80:
        case 87: return 163 << 10;
        case 86:
        case 89:
        case 120: return 99 << 10;
        default: return 227 << 10;
    }
}

static int multiprocessors(void) {
    const int architecture = cuda_architecture();
    return architecture == 80 ? 108 : architecture == 89 ? 128 : architecture >= 100 ? 148 : 132;
}

CuResult cuInit(unsigned flags) {
    CUDA_LOCK();
    const CuResult trouble = sim_trouble("cuInit", CUDA_UNKNOWN);
    if (trouble) return trouble;
    if (flags) return CUDA_INVALID_VALUE;
    if (device_count() <= 0) return CU_NO_DEVICE;
    if (!started) {
        sim_start();
        cuda_memory_start();
        started = true;
    }
    return CU_OK;
}

CuResult cuDriverGetVersion(int *version) {
    *version = sim_setting("LV_CUDA_SIM_DRIVER", 13000);
    return sim_trouble("cuDriverGetVersion", CUDA_UNKNOWN);
}

#define ENTER_WITHOUT_CONTEXT(FUNCTION)                                                   \
    CUDA_LOCK();                                                                          \
    do {                                                                                  \
        const CuResult trouble = cuda_enter_without_context(#FUNCTION, CUDA_UNKNOWN);     \
        if (trouble) return trouble;                                                      \
    } while (0)

CuResult cuDeviceGetCount(int *count) {
    ENTER_WITHOUT_CONTEXT(cuDeviceGetCount);
    *count = device_count();
    return CU_OK;
}

CuResult cuDeviceGet(CuDevice *device, int index) {
    ENTER_WITHOUT_CONTEXT(cuDeviceGet);
    if (index < 0 || index >= device_count()) return CUDA_INVALID_DEVICE;
    *device = index;
    return CU_OK;
}

CuResult cuDeviceGetName(char *name, int room, CuDevice device) {
    ENTER_WITHOUT_CONTEXT(cuDeviceGetName);
    if (device < 0 || device >= device_count()) return CUDA_INVALID_DEVICE;
    snprintf(name, (size_t)room, "Simulated GPU sm_%d", cuda_architecture());
    return CU_OK;
}

CuResult cuDeviceGetAttribute(int *value, int attribute, CuDevice device) {
    ENTER_WITHOUT_CONTEXT(cuDeviceGetAttribute);
    if (device < 0 || device >= device_count()) return CUDA_INVALID_DEVICE;
    switch (attribute) {
        case 1: *value = SIM_MOST_THREADS; break;      // threads of a block
        case 2: *value = SIM_MOST_THREADS; break;      // along x
        case 3: *value = SIM_MOST_THREADS; break;
        case 4: *value = 64; break;
        case 5: *value = 0x7FFFFFFF; break;            // blocks along x
        case 6:
        case 7: *value = 65535; break;
        case 8: *value = 48 << 10; break;              // shared memory of a block, without the opt-in
        case 10: *value = SIM_WARP; break;
        case 12: *value = 65536; break;                // registers of a block
        case 13: *value = 1000000; break;              // kHz
        case CU_DEVICE_MULTIPROCESSORS: *value = multiprocessors(); break;
        case 36: *value = 1000000; break;              // memory clock, kHz
        case 37: *value = 5120; break;                 // memory bus, bits
        case 38: *value = 50 << 20; break;             // L2, bytes
        case 39: *value = 2048; break;                 // threads of a multiprocessor
        case 40: *value = 1; break;                    // copies beside kernels
        case 41: *value = 1; break;                    // unified addresses
        case CU_DEVICE_CAPABILITY_MAJOR: *value = cuda_architecture() / 10; break;
        case CU_DEVICE_CAPABILITY_MINOR: *value = cuda_architecture() % 10; break;
        case 81: *value = cuda_most_shared() + 1024; break;  // shared memory of a multiprocessor
        case 82: *value = 65536; break;
        case CU_DEVICE_MOST_SHARED: *value = cuda_most_shared(); break;
        default: return CUDA_INVALID_VALUE;
    }
    return CU_OK;
}

CuResult cuDeviceTotalMem_v2(size_t *bytes, CuDevice device) {
    ENTER_WITHOUT_CONTEXT(cuDeviceTotalMem_v2);
    if (device < 0 || device >= device_count()) return CUDA_INVALID_DEVICE;
    *bytes = cuda_memory_total();
    return CU_OK;
}

static char the_context;
static CuDevice the_device;  // whose context was taken last

// For libnccl's stand-in: which of the machine's devices this process works on, whether its context is current, and a fault of it.
PUBLIC int lv_sim_device(void);
int lv_sim_device(void) {
    CUDA_LOCK();
    return current && retained ? the_device : -1;
}

PUBLIC void lv_sim_fault(void);
void lv_sim_fault(void) {
    CUDA_LOCK();
    cuda_set_error(CU_LAUNCH_FAILED);
}

CuResult cuDevicePrimaryCtxRetain(CuContext *context, CuDevice device) {
    ENTER_WITHOUT_CONTEXT(cuDevicePrimaryCtxRetain);
    if (device < 0 || device >= device_count()) return CUDA_INVALID_DEVICE;
    retained++;
    the_device = device;
    *context = (CuContext)(void *)&the_context;
    return CU_OK;
}

// The last release ends the context, and with it its memory's and its errors' time.
CuResult cuDevicePrimaryCtxRelease_v2(CuDevice device) {
    ENTER_WITHOUT_CONTEXT(cuDevicePrimaryCtxRelease_v2);
    if (device < 0 || device >= device_count()) return CUDA_INVALID_DEVICE;
    if (!retained) return CUDA_INVALID_CONTEXT;
    if (--retained) return CU_OK;
    cuda_finish_all();
    cuda_memory_free_all();
    error = CU_OK;
    return CU_OK;
}

CuResult cuCtxSetCurrent(CuContext context) {
    ENTER_WITHOUT_CONTEXT(cuCtxSetCurrent);
    if (context && context != (CuContext)(void *)&the_context) return CUDA_INVALID_CONTEXT;
    current = context;
    return CU_OK;
}

PUBLIC CuResult cuCtxSynchronize(void);
CuResult cuCtxSynchronize(void) {
    CUDA_ENTER(cuCtxSynchronize, CUDA_UNKNOWN);
    const CuResult forbidden = cuda_capture_forbids(CUDA_CAPTURE_UNSUPPORTED);
    if (forbidden) return forbidden;
    cuda_finish_all();
    return error;
}

static const struct {
    CuResult result;
    const char *name, *text;
} names[] = {
    {CU_OK, "CUDA_SUCCESS", "no error"},
    {CUDA_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CU_STUB_LIBRARY, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CU_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CU_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {CU_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CU_UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {CUDA_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CU_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {CU_LAUNCH_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {CU_ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {CU_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CU_SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {CUDA_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CU_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CUDA_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
    {CUDA_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CUDA_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {CUDA_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {CUDA_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
    {CUDA_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

CuResult cuGetErrorName(CuResult result, const char **name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].result == result) return *name = names[i].name, CU_OK;
    }
    *name = NULL;
    return CUDA_INVALID_VALUE;
}

CuResult cuGetErrorString(CuResult result, const char **text) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].result == result) return *text = names[i].text, CU_OK;
    }
    *text = NULL;
    return CUDA_INVALID_VALUE;
}
