// lvrun doctor: what this machine has and what is missing, by trying it: a kernel is compiled and run, the library multiplies, on the
// CPU and on a GPU where there is one.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <dnnl.h>

#include "base/folder.h"
#include "command.h"
#include "device/cuda/report.h"
#include "exec/program.h"
#include "io/cache.h"
#include "options.h"
#include "options_compile.h"
#include "peak.h"

static const OptionSpec specs[] = {{"threads", OPTION_VALUE, "N", "threads of the CPU (default: all)"},
                                   {"cpu", OPTION_VALUE, "LEVEL", "as if the processor had no more than avx2 or avx512"},
                                   {"help", OPTION_FLAG, NULL, "this text"},
                                   {0}};

enum { LABEL = 11 };  // columns

static const LvKernelText cpu_text = {"lv_doctor",
                                  "void lv_doctor(char *const *buffers, const LvScalar *scalars) {\n"
                                  "    float *y = (float *)buffers[0]; const float *x = (const float *)buffers[1];\n"
                                  "#pragma omp parallel for\n"
                                  "    for (int i = 0; i < 8; i++) y[i] = x[i] * (float)scalars[0].f;\n}\n"};

static const LvKernelText gpu_text = {"lv_doctor",
                                      "extern \"C\" __global__ void lv_doctor_0(float *y, const float *x, char *scratch, double factor) {\n"
                                      "    if (threadIdx.x < 8) y[threadIdx.x] = x[threadIdx.x] * (float)factor;\n}\n"};

// x * 2 over eight numbers by a compiled kernel, then [2, 4] x [4, 2] by the library: a whole plan in miniature.
static LvPlan *small_plan(const char *target) {
    LvPlan *plan = lv_plan_create();
    bool gpu = strcmp(target, "cpu") != 0;
    plan->model = plan->entry = "doctor";
    plan->device = target;
    plan->precision = "f32";
    plan->batch = 1;
    plan->arena_bytes[LV_ARENA_IO] = 256;
    int64_t a[2] = {2, 4}, b[2] = {4, 2}, y[2] = {2, 2};
    LvPlace at_a = {LV_ARENA_IO, 0}, at_b = {LV_ARENA_IO, 64}, at_y = {LV_ARENA_IO, 128};
    plan->input_count = 1;
    plan->inputs = LV_NEW_ARRAY(plan->arena, LvPort, 1);
    plan->inputs[0] = (LvPort){"x", LV_F32, lv_shape(2, a), at_a};
    plan->result_count = 1;
    plan->results = LV_NEW_ARRAY(plan->arena, LvPort, 1);
    plan->results[0] = (LvPort){"y", LV_F32, lv_shape(2, y), at_y};
    plan->prelude = gpu ? "// doctor\n" : "typedef union { double f; long i; } LvScalar;\n";
    plan->kernel_count = 1;
    plan->kernels = LV_NEW_ARRAY(plan->arena, LvKernelText, 1);
    plan->kernels[0] = gpu ? gpu_text : cpu_text;
    plan->step_count = 2;
    plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, 2);
    LvLayout row = lv_layout_row_major();
    LvStep *kernel = &plan->steps[0], *matmul = &plan->steps[1];
    kernel->operands = LV_NEW_ARRAY(plan->arena, LvOperand, 2);
    kernel->operand_count = 2;
    kernel->operands[0] = (LvOperand){at_b, LV_F32, lv_shape(2, b), row};
    kernel->operands[1] = (LvOperand){at_a, LV_F32, lv_shape(2, a), row};
    kernel->scalars = LV_NEW_ARRAY(plan->arena, LvScalar, 1);
    kernel->scalar_count = 1;
    kernel->scalars[0].f = 2;
    if (gpu) {
        kernel->launch_count = 1;
        kernel->launches = LV_NEW_ARRAY(plan->arena, LvLaunch, 1);
        kernel->launches[0] = (LvLaunch){{1, 1, 1}, 32, 0};
    }
    matmul->kind = LV_STEP_MATMUL;
    matmul->kernel = -1;
    matmul->operands = LV_NEW_ARRAY(plan->arena, LvOperand, 3);
    matmul->operand_count = 3;
    matmul->operands[0] = (LvOperand){at_y, LV_F32, lv_shape(2, y), row};
    matmul->operands[1] = kernel->operands[1];
    matmul->operands[2] = kernel->operands[0];
    matmul->matmul.alpha = 1;
    return plan;
}

static bool try_plan(LvDevice *device, LvProgramInfo *info, LvError *error) {
    LvPlan *plan = small_plan(lv_device_target(device));
    LvStore *store = NULL;
    LvProgram *program = NULL;
    float x[8] = {0, 1, 2, 3, 4, 5, 6, 7}, y[4] = {0};
    bool good = lv_store_create(device, plan, &store, error) && lv_program_create(device, plan, store, &program, error) &&
                lv_program_set_input(program, "x", x, sizeof x, error) && lv_program_run(program, error) &&
                lv_program_get_result(program, "y", y, sizeof y, error);
    if (good) {
        *info = lv_program_info(program);
        // x as [2, 4] times 2x as [4, 2]: the first element is 2 * (0*0 + 1*2 + 2*4 + 3*6).
        if (y[0] != 56) good = lv_error_set(error, LV_ERROR_DEVICE, "a small sum came out as %g instead of 56", (double)y[0]);
    }
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    return good;
}

static void report_cache(void) {
    LvText path = {0};
    struct statvfs space;
    if (!lv_folder_cache(&path)) printf("cache       none: neither LV_CACHE_DIR nor HOME is set\n");
    else if (access(path.data, W_OK) != 0) printf("cache       %s cannot be written: kernels are compiled at every start\n", path.data);
    else if (statvfs(path.data, &space) == 0) {
        const char *limit = getenv("LV_CACHE_SIZE");
        int64_t bytes;
        printf("cache       %s, %.1f MB of at most %.0f MB, %.1f GB free\n", path.data, (double)lv_cache_size(path.data) / 1e6,
               (double)lv_cache_limit() / 1e6, (double)space.f_bavail * (double)space.f_frsize / 1e9);
        if (limit && !lv_text_bytes(limit, &bytes)) printf("            LV_CACHE_SIZE is no number of bytes (512M, 2G): '%s'\n", limit);
    }
    lv_text_free(&path);
}

static void report_library(const char *label, const char *const *names, const char *how) {
    for (int i = 0; names[i]; i++) {
        void *handle = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
        if (!handle) continue;
        dlclose(handle);
        printf("%-*s %s\n", LABEL, label, names[i]);
        return;
    }
    printf("%-*s missing (%s)\n", LABEL, label, how);
}

// False: a GPU that ought to work does not.
static bool report_cuda(LvError *error) {
    LvText found = {0};
    LvDevice *device = NULL;
    LvProgramInfo info = {0};
    bool usable = lv_cuda_report(LABEL, &found);
    fputs(lv_text_get(&found), stdout);
    lv_text_free(&found);
    if (!usable) {
        printf("%-*s the CPU does all the work\n", LABEL, "");
        return true;
    }
    bool good = lv_device_open("cuda", 0, &device, error) && try_plan(device, &info, error);
    if (good) printf("%-*s kernels compiled and run on it in %.2f s%s\n", LABEL, "GPU 0", info.compile_seconds, info.kernels_cached ? " (cached)" : "");
    if (device) lv_device_close(device);
    return good;
}

int cmd_doctor(int argc, char **argv) {
    Options options = {0};
    LvError error = {0};
    LvDevice *device = NULL;
    LvProgramInfo info = {0};
    int64_t threads = 0;
    bool good = options_parse(&options, specs, false, argc, argv, &error) &&
                options_integer(&options, "threads", 1, 4096, &threads, &error) && options_processor(&options, &error);
    if (good && options_flag(&options, "help", false)) {
        printf("lvrun doctor\nTries what running a model needs and prints what it finds.\n");
        options_free(&options);
        return 0;
    }
    good = good && lv_device_open("cpu", (int)threads, &device, &error);
    if (good) {
        const dnnl_version_t *version = dnnl_version();
        printf("device      %s\n", lv_device_name(device));
        printf("memory      %.1f GB\n", (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1e9);
        printf("oneDNN      %d.%d.%d%s\n", version->major, version->minor, version->patch,
               version->major == DNNL_VERSION_MAJOR ? "" : " (built for another version)");
        report_cache();
        good = try_plan(device, &info, &error);
        if (good) printf("kernels     compiled and run in %.2f s%s\n", info.compile_seconds, info.kernels_cached ? " (cached)" : "");
        if (good) printf("at best     %.0f GFLOP/s in f32, %.0f in bf16; %.1f GB/s read and written\n", peak_of(device, LV_F32) * 1e-9,
                         peak_of(device, LV_BF16) * 1e-9, peak_copy(device) * 1e-9);
        static const char *const mpi[] = {"libmpi.so.40", "libmpi.so.12", "libmpi.so", NULL};
        report_library("MPI", mpi, "several processes need it: apt install openmpi-bin");
        good = report_cuda(&error) && good;
    }
    int code = good ? 0 : command_fail(&error);
    if (good) printf("all is well\n");
    if (device) lv_device_close(device);
    options_free(&options);
    return code;
}
