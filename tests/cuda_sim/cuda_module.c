// Modules: what NVRTC's stand-in made, written to a file in memory and loaded.
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda.h"

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

// From "PTX" back to an image, which the caller frees.
static CuResult assemble(const char *ptx, char **image) {
    const char *at = strchr(ptx, '\n');
    *image = NULL;
    if (atoi(ptx + strlen(SIM_PTX_MARK)) > cuda_architecture()) return CU_NO_BINARY_FOR_GPU;
    if (!at) return CU_INVALID_PTX;
    const size_t bytes = strlen(++at) / 2;
    if (bytes < sizeof(SimImage)) return CU_INVALID_PTX;
    char *made = malloc(bytes);
    if (!made) return CU_OUT_OF_MEMORY;
    for (size_t i = 0; i < bytes; i++) made[i] = (char)(digit(at[2 * i]) << 4 | digit(at[2 * i + 1]));
    const SimImage *head = (const SimImage *)(const void *)made;
    CuResult result = CU_OK;
    if (memcmp(head->mark, SIM_IMAGE_MARK, 8) || sizeof *head + head->object_bytes + head->text_bytes != bytes) result = CU_INVALID_PTX;
    else if ((int)head->toolkit > sim_setting("LV_CUDA_SIM_DRIVER", 13000)) result = CU_UNSUPPORTED_PTX_VERSION;
    if (result) free(made);
    else *image = made;
    return result;
}

// Machine code runs on the same generation, of the same number after the point or a later one.
static bool runs_here(uint32_t architecture) {
    const uint32_t here = (uint32_t)cuda_architecture();
    return architecture / 10 == here / 10 && architecture % 10 <= here % 10;
}

static int find_image(struct dl_phdr_info *info, size_t size, void *data) {
    CuModule module = data;
    (void)size;
    if ((const char *)info->dlpi_addr != module->base) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const char *end = module->base + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && end > module->image_end) module->image_end = end;
    }
    return 1;
}

static bool open_object(CuModule module, const char *object, size_t bytes) {
    char path[64];
    Dl_info info;
    module->file = memfd_create("cuda_sim module", MFD_CLOEXEC);
    if (module->file < 0) return false;
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = write(module->file, object + done, bytes - done);
        if (n <= 0) return false;
        done += (size_t)n;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", module->file);
    module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module->library) {
        fprintf(stderr, "cuda_sim: %s\n", dlerror());
        return false;
    }
    LvSimAttach *attach = (LvSimAttach *)(uintptr_t)dlsym(module->library, "lv_sim_attach");
    if (!attach || !dladdr((void *)(uintptr_t)attach, &info)) return false;
    module->base = info.dli_fbase;
    dl_iterate_phdr(find_image, module);
    attach(&module->sim);
    cuda_memory_attach(module->sim.state);
    return true;
}

static void close_module(CuModule module) {
    if (module->library) dlclose(module->library);
    if (module->file >= 0) close(module->file);
    free(module->functions);
    free(module->text);
    free(module);
}

static CuResult load(CuModule *module, const char *image) {
    SimImage head;
    char *assembled = NULL;
    CuResult result = CU_OK;
    if (!strncmp(image, SIM_PTX_MARK, strlen(SIM_PTX_MARK))) {
        result = assemble(image, &assembled);
        if (result) return result;
        image = assembled;
    }
    if (memcmp(image, SIM_IMAGE_MARK, 8)) return CU_INVALID_IMAGE;
    memcpy(&head, image, sizeof head);
    if (head.form != LV_CUDA_SIM_FORM || head.object_bytes > (1u << 30) || head.text_bytes > (1u << 30)) result = CU_INVALID_IMAGE;
    else if (!assembled && !runs_here(head.architecture)) result = CU_NO_BINARY_FOR_GPU;
    else if (sim_hash(image + sizeof head, head.object_bytes + head.text_bytes, 0) != head.hash) result = CU_INVALID_IMAGE;
    CuModule made = result ? NULL : calloc(1, sizeof *made);
    if (made) {
        made->file = -1;
        made->text = strndup(image + sizeof head + head.object_bytes, head.text_bytes);
        if (!open_object(made, image + sizeof head, head.object_bytes)) result = CU_INVALID_IMAGE;
        made->functions = calloc((size_t)made->sim.count + 1, sizeof *made->functions);
        for (int i = 0; i < made->sim.count && made->functions; i++) {
            made->functions[i] = (struct CuFunctionObject){made, &made->sim.kernels[i], 48 << 10};
        }
        if (result) close_module(made);
        else *module = made;
    }
    free(assembled);
    return result;
}

CuResult cuModuleLoadData(CuModule *module, const void *image) {
    CUDA_ENTER(cuModuleLoadData, CU_INVALID_IMAGE);
    return load(module, image);
}

CuResult cuModuleLoadDataEx(CuModule *module, const void *image, unsigned count, int *options, void **values) {
    CUDA_ENTER(cuModuleLoadDataEx, CU_INVALID_IMAGE);
    const CuResult result = load(module, image);
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == CU_JIT_ERROR_LOG && values[i] && result) strcpy(values[i], "cuda_sim: the image cannot be loaded");
    }
    return result;
}

CuResult cuModuleUnload(CuModule module) {
    CUDA_ENTER(cuModuleUnload, CUDA_UNKNOWN);
    if (!module) return CUDA_INVALID_HANDLE;
    cuda_finish_all();
    close_module(module);
    return CU_OK;
}

CuResult cuModuleGetFunction(CuFunction *function, CuModule module, const char *name) {
    CUDA_ENTER(cuModuleGetFunction, CU_NOT_FOUND);
    if (!module) return CUDA_INVALID_HANDLE;
    for (int i = 0; i < module->sim.count; i++) {
        if (!strcmp(module->sim.kernels[i].name, name)) return *function = &module->functions[i], CU_OK;
    }
    return CU_NOT_FOUND;
}

static int static_shared(CuFunction f) { return (int)(f->kernel->shared_stop - f->kernel->shared_start); }

CuResult cuFuncGetAttribute(int *value, int attribute, CuFunction function) {
    CUDA_ENTER(cuFuncGetAttribute, CUDA_UNKNOWN);
    if (!function) return CUDA_INVALID_HANDLE;
    switch (attribute) {
        case CU_FUNCTION_MOST_THREADS: *value = function->kernel->most_threads ? function->kernel->most_threads : SIM_MOST_THREADS; break;
        case CU_FUNCTION_STATIC_SHARED: *value = static_shared(function); break;
        case 2: *value = 0; break;   // constant memory
        case 3: *value = 0; break;   // local memory of a thread
        case 4: *value = 32; break;  // registers
        case 5:
        case 6: *value = cuda_architecture(); break;
        case CU_FUNCTION_DYNAMIC_SHARED: *value = function->most_dynamic; break;
        default: return CUDA_INVALID_VALUE;
    }
    return CU_OK;
}

CuResult cuFuncSetAttribute(CuFunction function, int attribute, int value) {
    CUDA_ENTER(cuFuncSetAttribute, CUDA_UNKNOWN);
    if (!function) return CUDA_INVALID_HANDLE;
    if (attribute == 9) return CU_OK;  // how much of the cache should be shared memory: a preference
    if (attribute != CU_FUNCTION_DYNAMIC_SHARED || value < 0 || value + static_shared(function) > cuda_most_shared()) return CUDA_INVALID_VALUE;
    function->most_dynamic = value;
    return CU_OK;
}
