// Measuring the peaks: see peak.h.
#include "peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xxhash.h>

#include "base/folder.h"

// On the CPU a product large enough to run as large ones do, small enough that one of many tries is done in a moment when nobody
// else has the processor. A GPU wants larger ones: they grow for as long as a run is over in `enough` seconds.
enum { SIDE = 768, GPU_SIDE = 256, GPU_MOST_SIDE = 8192, MOST = 4000, COPIED = 1 << 24, GPU_BLOCK = 256 };
static const double enough = 5e-4;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_gpu(const LvDevice *device) { return strncmp(lv_device_target(device), "cuda", 4) == 0; }

// A plan of one step over `count` tensors of as many bytes each, the first one written.
static LvPlan *one_step(const LvDevice *device, LvStepKind kind, int count, LvShape shape, const LvDType *dtypes) {
    LvPlan *plan = lv_plan_create();
    plan->model = plan->entry = "peak";
    plan->device = lv_device_target(device);
    plan->precision = "f32";
    plan->prelude = is_gpu(device) ? "// peak\n" : "typedef union { double f; long i; } LvScalar;\n";
    plan->batch = 1;
    plan->step_count = 1;
    plan->steps = LV_NEW_ARRAY(plan->arena, LvStep, 1);
    plan->steps[0] = (LvStep){.kind = kind, .label = "peak", .sources = "", .operand_count = count};
    plan->steps[0].operands = LV_NEW_ARRAY(plan->arena, LvOperand, (size_t)count);
    int64_t bytes = lv_shape_elements(shape) * 4;
    for (int i = 0; i < count; i++) {
        plan->steps[0].operands[i] = (LvOperand){{LV_ARENA_IO, i * bytes}, dtypes[i], shape, lv_layout_row_major()};
    }
    plan->arena_bytes[LV_ARENA_IO] = count * bytes;
    return plan;
}

// Seconds of the plan's fastest run; 0 where it does not run.
static double fastest(LvDevice *device, LvPlan *plan) {
    LvStore *store = NULL;
    LvProgram *program = NULL;
    LvError error = {0};
    double best = 1e9, start = 0;
    bool good = lv_store_create(device, plan, &store, &error) && lv_program_create(device, plan, store, &program, &error);
    for (int i = 0; good && i < MOST && (i < 3 || now() - start < 0.1); i++) {
        double begin = now();
        if (i == 0) start = begin;
        good = lv_program_run(program, &error) && lv_program_wait(program, &error);
        double seconds = now() - begin;
        if (i > 0 && seconds < best) best = seconds;
    }
    lv_error_clear(&error);
    lv_program_destroy(program);
    lv_store_destroy(store);
    lv_plan_destroy(plan);
    return good ? best : 0;
}

// The best of what is measured now and what is kept under this name, which is kept from now on.
static double best_known(LvDevice *device, const char *kind, double peak) {
    LvText path = {0};
    LvError error = {0};
    if (!lv_folder_cache(&path)) return peak;
    const char *name = lv_device_name(device);
    lv_text_printf(&path, "/peak-%s-%016llx", kind, (unsigned long long)XXH3_64bits(name, strlen(name)));
    char *text = NULL, number[32];
    size_t length;
    double known = lv_file_read(path.data, 64, &text, &length, &error) ? strtod(text, NULL) : 0;
    lv_error_clear(&error);
    free(text);
    if (known >= peak && known < 1e18) {
        peak = known;
    } else if (peak > 0) {
        snprintf(number, sizeof number, "%.4g\n", peak);
        lv_file_write(path.data, number, strlen(number), &error);
        lv_error_clear(&error);
    }
    lv_text_free(&path);
    return peak;
}

double peak_of(LvDevice *device, LvDType dtype) {
    LvDType dtypes[3] = {LV_F32, dtype, dtype};
    double peak = 0, seconds;
    bool gpu = is_gpu(device);
    int64_t side = gpu ? GPU_SIDE : SIDE;
    do {
        LvPlan *plan = one_step(device, LV_STEP_MATMUL, 3, lv_shape(2, (int64_t[]){side, side}), dtypes);
        plan->steps[0].matmul.alpha = 1;
        plan->steps[0].kernel = -1;
        seconds = fastest(device, plan);
        double reached = seconds > 0 ? 2.0 * (double)side * (double)side * (double)side / seconds : 0;
        if (reached > peak) peak = reached;
        side *= 2;
    } while (gpu && seconds > 0 && seconds < enough && side <= GPU_MOST_SIDE);
    return best_known(device, lv_dtype_name(dtype), peak);
}

static const LvKernelText copy_text = {"lv_copy",
                                       "void lv_copy(char *const *buffers, const LvScalar *scalars) {\n"
                                       "    float *restrict y = (float *)buffers[0]; const float *restrict x = (const float *)buffers[1];\n"
                                       "#pragma omp parallel for\n"
                                       "    for (int i = 0; i < 16777216; i++) y[i] = x[i] + 1;\n}\n"};

// A block copies GPU_BLOCK times four numbers.
static const LvKernelText gpu_copy_text = {"lv_copy",
                                           "extern \"C\" __global__ void lv_copy_0(float *y, const float *x, char *scratch) {\n"
                                           "    const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                                           "    float4 a = ((const float4 *)x)[i];\n"
                                           "    a.x += 1.0f, a.y += 1.0f, a.z += 1.0f, a.w += 1.0f;\n"
                                           "    ((float4 *)y)[i] = a;\n}\n"};

double peak_copy(LvDevice *device) {
    LvPlan *plan = one_step(device, LV_STEP_KERNEL, 2, lv_shape(1, (int64_t[]){COPIED}), (LvDType[]){LV_F32, LV_F32});
    LvLaunch launch = {{COPIED / 4 / GPU_BLOCK, 1, 1}, GPU_BLOCK, 0};
    plan->kernel_count = 1;
    plan->kernels = LV_NEW_ARRAY(plan->arena, LvKernelText, 1);
    plan->kernels[0] = is_gpu(device) ? gpu_copy_text : copy_text;
    if (is_gpu(device)) plan->steps[0].launch_count = 1, plan->steps[0].launches = &launch;
    double seconds = fastest(device, plan);
    return best_known(device, "copy", seconds > 0 ? 8.0 * COPIED / seconds : 0);
}
