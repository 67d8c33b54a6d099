// Each library is opened and asked for its version; the driver is asked for its GPUs.
#include "device/cuda/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "device/cuda/blas.h"
#include "device/cuda/compiler.h"
#include "device/cuda/cudnn.h"
#include "device/cuda/nccl.h"

typedef struct {
    int width;
    LvText *out;
    LvCuda *gpu;
} Report;

static void begin_line(const Report *r, const char *name) { lv_text_printf(r->out, "%-*s ", r->width, name); }

static void report_error(const Report *r, const char *name, LvError *error) {
    begin_line(r, name);
    lv_text_printf(r->out, "%s\n", error->message);
    if (error->hint) lv_text_printf(r->out, "%*s %s\n", r->width, "", error->hint);
    lv_error_clear(error);
}

static bool report_gpus(const Report *r) {
    LvError error = {0};
    int count = 0, usable = 0;
    if (!cuda_driver_open(r->gpu, &count, &error)) {
        report_error(r, "CUDA driver", &error);
        return false;
    }
    begin_line(r, "CUDA driver");
    lv_text_printf(r->out, "%d.%d, %s\n", r->gpu->version / 1000, r->gpu->version % 1000 / 10, r->gpu->library.path);
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "GPU %d", i);
        if (!cuda_device_read(r->gpu, i, &error)) {
            report_error(r, name, &error);
            continue;
        }
        bool old = r->gpu->sm < CUDA_OLDEST_SM;
        begin_line(r, name);
        lv_text_printf(r->out, "%s, sm_%d, %.1f GB", r->gpu->name, r->gpu->sm, (double)r->gpu->memory / 1e9);
        if (old) lv_text_printf(r->out, ": too old, sm_%d is needed", CUDA_OLDEST_SM);
        lv_text_puts(r->out, "\n");
        usable += !old;
    }
    if (count) cuda_device_read(r->gpu, 0, &error);
    lv_error_clear(&error);
    return usable > 0;
}

static bool report_compiler(const Report *r) {
    LvError error = {0};
    LvCuda *gpu = r->gpu;
    if (!cuda_compiler_load(gpu, &error)) {
        report_error(r, "NVRTC", &error);
        return false;
    }
    begin_line(r, "NVRTC");
    lv_text_printf(r->out, "%d.%d, %s", gpu->compiler->major, gpu->compiler->minor, gpu->compiler->library.path);
    if (cuda_compiler_makes_ptx(gpu->compiler))
        lv_text_printf(r->out, "; does not know sm_%d, PTX for %s serves", gpu->sm, gpu->compiler->target);
    lv_text_puts(r->out, "\n");
    return true;
}

// A number with two digits for each of the lower places, or one of three for cuDNN before version 9.
static void print_version(LvText *out, size_t version, size_t base) {
    lv_text_printf(out, "%zu.%zu.%zu", version / (base * 100), version / 100 % base, version % 100);
}

static bool report_blas(const Report *r) {
    LvError error = {0};
    if (!cuda_blas_open(r->gpu, &error)) {
        report_error(r, "cuBLASLt", &error);
        return false;
    }
    begin_line(r, "cuBLASLt");
    print_version(r->out, cuda_blas_version(r->gpu), 100);
    lv_text_printf(r->out, ", %s\n", cuda_blas_path(r->gpu));
    return true;
}

// What nothing needs.
static void report_missing(const Report *r, CudaLibraryName name) {
    lv_text_printf(r->out, "not there, and not needed: %s\n", cuda_library_package(name));
}

static void report_dnn(const Report *r) {
    const char *path = cuda_dnn_path(r->gpu), *refusal = cuda_dnn_refusal(r->gpu);
    size_t version = cuda_dnn_version(r->gpu);
    begin_line(r, "cuDNN");
    if (!path && refusal) lv_text_printf(r->out, "not looked for, %s\n", refusal);
    else if (!path) report_missing(r, CUDA_CUDNN);
    if (!path) return;
    if (version) print_version(r->out, version, version < 90000 ? 10 : 100), lv_text_puts(r->out, ", ");
    lv_text_puts(r->out, path);
    if (refusal) lv_text_printf(r->out, "; not used, and not needed: %s", refusal);
    lv_text_puts(r->out, "\n");
}

static void report_nccl(const Report *r) {
    CudaLibrary library = {0};
    LvError error = {0};
    Nccl api;
    int version;
    bool good = cuda_nccl_open(&library, &api, &version, &error);
    begin_line(r, "NCCL");
    if (!library.handle) lv_text_printf(r->out, "not there, and needed for several GPUs alone: %s\n", cuda_library_package(CUDA_NCCL));
    else if (!good) lv_text_printf(r->out, "%s; needed for several GPUs alone: %s\n", error.message, cuda_library_package(CUDA_NCCL));
    else print_version(r->out, (size_t)version, 100), lv_text_printf(r->out, ", %s, for several GPUs\n", library.path);
    lv_error_clear(&error);
    cuda_library_close(&library);
}

bool lv_cuda_report(int width, LvText *out) {
    LvCuda *gpu = lv_calloc(1, sizeof *gpu);
    Report r = {width, out, gpu};
    bool good = report_gpus(&r);
    // which NVRTC and cuBLASLt serve depends on the driver; without one the newest are looked for
    if (gpu->version == 0) gpu->version = 99000;
    if (gpu->sm == 0) gpu->sm = CUDA_OLDEST_SM;
    good = report_compiler(&r) && good;
    good = report_blas(&r) && good;
    report_dnn(&r);
    report_nccl(&r);
    cuda_dnn_close(gpu);
    cuda_blas_close(gpu);
    cuda_compiler_close(gpu);
    cuda_driver_close(gpu);
    free(gpu);
    return good;
}
