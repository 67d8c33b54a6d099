// Library calls: which of the backend's implementations a step takes, the scratch memory that it runs in.
#include "device/cuda/calls.h"

#include <stdlib.h>

#include "base/arena.h"

struct LvCall {
    LvModule *module;
    LvStep *step;          // our copy of it
    CudaScratch *scratch;
    MatmulCall *matmul;    // one of these
    LossCall *loss;
    ConvCall *conv;
};

static size_t step_scratch(LvCuda *gpu, const LvStep *step) {
    if (step->kind == LV_STEP_MATMUL) return cuda_matmul_call_scratch(step);
    if (step->kind == LV_STEP_LINEAR_LOSS) return cuda_loss_call_scratch(step);
    if (step->kind == LV_STEP_CONV) return cuda_conv_call_scratch(gpu, step);
    return (size_t)step->scratch;
}

size_t cuda_plan_scratch(LvCuda *gpu, const LvPlan *plan) {
    size_t most = 0;
    for (int s = 0; s < plan->step_count; s++) {
        size_t bytes = step_scratch(gpu, &plan->steps[s]);
        if (bytes > most) most = bytes;
    }
    return most;
}

static LvStep *copy_step(const LvStep *step) {
    LvStep *copy = lv_malloc(sizeof *copy);
    *copy = *step;
    copy->operands = lv_calloc((size_t)step->operand_count + 1, sizeof *copy->operands);
    copy->launches = lv_calloc((size_t)step->launch_count + 1, sizeof *copy->launches);
    for (int i = 0; i < step->operand_count; i++) copy->operands[i] = step->operands[i];
    for (int i = 0; i < step->launch_count; i++) copy->launches[i] = step->launches[i];
    copy->scalar_count = 0, copy->scalars = NULL;
    copy->label = copy->sources = NULL;
    return copy;
}

static bool create(LvCuda *gpu, LvCall *call, const LvStep *step, LvError *error) {
    if (step->kind == LV_STEP_MATMUL) return cuda_matmul_call_create(gpu, call->module, step, &call->matmul, error);
    if (step->kernel < 0 || step->launch_count == 0 || !call->module)
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "the plan has no kernel for it: it was not made for a GPU");
    if (step->kind == LV_STEP_LINEAR_LOSS) return cuda_loss_call_create(gpu, call->module, step, &call->loss, error);
    call->conv = cuda_conv_call_create(gpu, call->module, call->step, cuda_scratch_memory(call->scratch));
    return true;
}

bool cuda_call_prepare(LvCuda *gpu, LvModule *module, const LvStep *step, LvCall **out, LvError *error) {
    LvCall *call = *out = lv_calloc(1, sizeof *call);
    call->module = module;
    call->step = copy_step(step);
    bool good = cuda_scratch_take(gpu, step_scratch(gpu, step), &call->scratch, error) && create(gpu, call, step, error);
    if (!good) {
        cuda_call_discard(gpu, call);
        *out = NULL;
    }
    return good;
}

void cuda_call_discard(LvCuda *gpu, LvCall *call) {
    if (!call) return;
    cuda_matmul_call_destroy(gpu, call->matmul);
    cuda_loss_call_destroy(gpu, call->loss);
    cuda_conv_call_destroy(gpu, call->conv);
    cuda_scratch_leave(gpu, call->scratch);
    free(call->step->operands);
    free(call->step->launches);
    free(call->step);
    free(call);
}

bool cuda_call_run(LvCuda *gpu, LvCall *call, char *const *buffers, LvError *error) {
    char *scratch = cuda_scratch_memory(call->scratch);
    if (call->matmul) return cuda_matmul_call_run(gpu, call->matmul, buffers, scratch, error);
    if (call->loss) return cuda_loss_call_run(gpu, call->loss, buffers, scratch, error);
    return cuda_conv_call_run(gpu, call->module, call->step, call->conv, buffers, scratch, error);
}

const char *cuda_call_describe(const LvCall *call) {
    if (call->matmul) return cuda_matmul_call_describe(call->matmul);
    return call->loss ? cuda_loss_call_describe(call->loss) : cuda_conv_call_describe(call->conv);
}
