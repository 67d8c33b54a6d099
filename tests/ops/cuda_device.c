// See cuda_device.h.
#include "cuda_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "device/cuda/library.h"
#include "device/cuda/nvrtc_api.h"

static CuDriver cu;
static Nvrtc rtc;

static bool open_library(CudaLibraryName name, const CudaSymbol *symbols, size_t count, void *table) {
    CudaLibrary library;
    if (!cuda_library_open(name, 0, &library)) return false;
    bool good = !cuda_library_fill(&library, symbols, count, table);
    free(library.path);  // the library itself stays
    return good;
}

bool cuda_device_open(CudaDevice *made) {
    static const CudaSymbol driver[] = {
#define X(type, name, parameters) {#name, offsetof(CuDriver, name)},
        CU_FUNCTIONS(X)
#undef X
    };
    static const CudaSymbol nvrtc[] = {
#define X(type, name, parameters) {#name, offsetof(Nvrtc, name)},
        NVRTC_FUNCTIONS(X)
#undef X
    };
    CuDevice device;
    CuContext context;
    int count = 0, major = 0, minor = 0;
    if (!open_library(CUDA_DRIVER, driver, sizeof driver / sizeof *driver, &cu)) return false;
    if (cu.cuInit(0) != CU_OK || cu.cuDeviceGetCount(&count) != CU_OK || !count) return false;
    if (!open_library(CUDA_NVRTC, nvrtc, sizeof nvrtc / sizeof *nvrtc, &rtc)) return false;
    if (cu.cuDeviceGet(&device, 0) || cu.cuDevicePrimaryCtxRetain(&context, device) || cu.cuCtxSetCurrent(context)) return false;
    cu.cuDeviceGetAttribute(&major, CU_DEVICE_CAPABILITY_MAJOR, device);
    cu.cuDeviceGetAttribute(&minor, CU_DEVICE_CAPABILITY_MINOR, device);
    made->sm = 10 * major + minor;
    return true;
}

static void done(CuResult result, const char *what, const char *which) {
    const char *text = "";
    if (result == CU_OK) return;
    cu.cuGetErrorString(result, &text);
    fail_msg("%s: %s: %s", which, what, text);
}

CuModule cuda_device_compile(const CudaDevice *device, const char *text) {
    NvrtcProgram program;
    CuModule module;
    char arch[32];
    size_t bytes = 0;
    snprintf(arch, sizeof arch, "--gpu-architecture=sm_%d%s", device->sm, nvrtc_suffix(device->sm));
    assert_int_equal(rtc.nvrtcCreateProgram(&program, text, "kernels.cu", 0, NULL, NULL), NVRTC_OK);
    if (rtc.nvrtcCompileProgram(program, 1, (const char *const[]){arch}) != NVRTC_OK) {
        rtc.nvrtcGetProgramLogSize(program, &bytes);
        char *log = lv_calloc(bytes + 1, 1);
        rtc.nvrtcGetProgramLog(program, log);
        fail_msg("%s", log);
    }
    rtc.nvrtcGetCUBINSize(program, &bytes);
    char *image = lv_malloc(bytes + 1);
    rtc.nvrtcGetCUBIN(program, image);
    done(cu.cuModuleLoadData(&module, image), "loading", "kernels");
    rtc.nvrtcDestroyProgram(&program);
    free(image);
    return module;
}

void cuda_device_unload(CuModule module) { done(cu.cuModuleUnload(module), "unloading", "kernels"); }

CuPointer cuda_device_memory(size_t bytes, int fill) {
    CuPointer memory;
    if (!bytes) bytes = 1;
    done(cu.cuMemAlloc_v2(&memory, bytes), "memory", "test");
    done(cu.cuMemsetD8Async(memory, (unsigned char)fill, bytes, NULL), "filling", "test");
    done(cu.cuStreamSynchronize(NULL), "filling", "test");
    return memory;
}

void cuda_device_free(CuPointer memory) { done(cu.cuMemFree_v2(memory), "freeing", "test"); }

void cuda_device_put(CuPointer to, const void *from, size_t bytes) {
    if (bytes) done(cu.cuMemcpyHtoDAsync_v2(to, from, bytes, NULL), "copying", "test");
    done(cu.cuStreamSynchronize(NULL), "copying", "test");
}

void cuda_device_get(void *to, CuPointer from, size_t bytes) {
    if (bytes) done(cu.cuMemcpyDtoHAsync_v2(to, from, bytes, NULL), "copying", "test");
    done(cu.cuStreamSynchronize(NULL), "copying", "test");
}

void cuda_device_launch(CuModule module, const char *name, const LvLaunch *launches, size_t launch_count, unsigned long long *parameters,
                        int count, const char *which) {
    void *slots[32];
    for (int i = 0; i < count; i++) slots[i] = &parameters[i];
    for (size_t i = 0; i < launch_count; i++) {
        const LvLaunch *l = &launches[i];
        char function_name[64];
        CuFunction function;
        snprintf(function_name, sizeof function_name, "%s_%zu", name, i);
        done(cu.cuModuleGetFunction(&function, module, function_name), function_name, which);
        if (l->shared > 48 << 10) done(cu.cuFuncSetAttribute(function, CU_FUNCTION_DYNAMIC_SHARED, l->shared), "shared memory", which);
        done(cu.cuLaunchKernel(function, (unsigned)l->grid[0], (unsigned)l->grid[1], (unsigned)l->grid[2], (unsigned)l->block, 1, 1,
                               (unsigned)l->shared, NULL, slots, NULL), function_name, which);
        done(cu.cuStreamSynchronize(NULL), function_name, which);
    }
}
