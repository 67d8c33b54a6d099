// Library calls: building, running, freeing sequences of oneDNN primitives. What a call consists of is conv.c's and
// matmul.c's business. All scratch memory (reordered operands, primitives' scratchpads) is one block for all calls.
#include "device/cpu/onednn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { ALIGN = 64 };

static size_t align_up(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

bool cpu_library_open(LvCpu *cpu, LvError *error) {
    LvLibrary *library = cpu->library = lv_calloc(1, sizeof *library);
    if (dnnl_engine_create(&library->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&library->stream, library->engine, dnnl_stream_default_flags) != dnnl_success) {
        return lv_error_set(error, LV_ERROR_DEVICE, "oneDNN cannot be started");
    }
    return true;
}

void cpu_library_close(LvCpu *cpu) {
    LvLibrary *library = cpu->library;
    if (!library) return;
    if (library->stream) dnnl_stream_destroy(library->stream);
    if (library->engine) dnnl_engine_destroy(library->engine);
    lv_map_free(&library->choices);
    free(library->scratch);
    free(library);
}

size_t cpu_library_scratch(const LvCpu *cpu) {
    return cpu->library->scratch_bytes + cpu->library->own_bytes;
}

void cpu_library_version(int version[3]) {
    const dnnl_version_t *v = dnnl_version();
    version[0] = v->major, version[1] = v->minor, version[2] = v->patch;
}

LvCall *call_create(const LvStep *step) {
    LvCall *call = lv_calloc(1, sizeof *call);
    call->step = step;
    return call;
}

void call_clear(LvCall *call) {
    for (size_t i = 0; i < call->stages.count; i++) dnnl_primitive_destroy(call->stages.data[i].primitive);
    for (size_t i = 0; i < call->memories.count; i++) dnnl_memory_destroy(call->memories.data[i].memory);
    lv_vec_free(&call->stages);
    lv_vec_free(&call->memories);
    dnn_pool_free(&call->pool);
    linear_loss_destroy(call->linear_loss);
    *call = (LvCall){.step = call->step};
}

void cpu_call_discard(LvCall *call) {
    if (!call) return;
    call_clear(call);
    free(call);
}

static dnnl_memory_t add_memory(LvLibrary *library, LvCall *call, DnnDesc desc, int operand, size_t offset) {
    dnnl_memory_t memory = NULL;
    if (!desc || dnnl_memory_create(&memory, desc, library->engine, DNNL_MEMORY_NONE) != dnnl_success) return NULL;
    lv_vec_push(&call->memories, (CallMemory){memory, operand, offset});
    return memory;
}

dnnl_memory_t call_operand(LvLibrary *library, LvCall *call, int operand, DnnDesc desc) {
    return add_memory(library, call, desc, operand, 0);
}

dnnl_memory_t call_temporary(LvLibrary *library, LvCall *call, DnnDesc desc) {
    size_t offset = call->temporaries;
    call->temporaries += align_up(dnn_desc_size(desc));
    return add_memory(library, call, desc, -1, offset);
}

// A scratchpad's place is behind the temporaries, known only in call_finish: marked by operand -2 until then.
static bool add_scratchpad(LvLibrary *library, LvCall *call, CallStage *stage, const_dnnl_primitive_desc_t primitive) {
    DnnDesc desc = dnn_query(primitive, dnnl_query_scratchpad_md);
    size_t bytes = dnn_desc_size(desc);
    if (bytes == 0) return true;
    if (bytes > call->pad) call->pad = bytes;
    dnnl_memory_t memory = add_memory(library, call, desc, -2, 0);
    stage->args[stage->count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, memory};
    return memory != NULL;
}

bool call_stage(LvLibrary *library, LvCall *call, dnnl_primitive_desc_t primitive, ...) {
    if (!primitive) return false;
    CallStage stage = {0};
    va_list args;
    va_start(args, primitive);
    bool good = true;
    for (int number; (number = va_arg(args, int)) != 0;) {
        dnnl_memory_t memory = va_arg(args, dnnl_memory_t);
        if (memory && stage.count < CALL_MAX_ARGS - 1) stage.args[stage.count++] = (dnnl_exec_arg_t){number, memory};
        else good = false;
    }
    va_end(args);
    good = good && add_scratchpad(library, call, &stage, primitive);
    good = good && dnnl_primitive_create(&stage.primitive, primitive) == dnnl_success;
    dnnl_primitive_desc_destroy(primitive);
    if (good) lv_vec_push(&call->stages, stage);
    return good;
}

bool call_reorder(LvLibrary *library, LvCall *call, DnnDesc from_desc, dnnl_memory_t from, DnnDesc to_desc, dnnl_memory_t to) {
    return call_stage(library, call, dnn_reorder(library->engine, from_desc, to_desc), DNNL_ARG_FROM, from, DNNL_ARG_TO, to, 0);
}

dnnl_memory_t call_read(LvLibrary *library, LvCall *call, int operand, DnnDesc given, DnnDesc wanted) {
    dnnl_memory_t memory = call_operand(library, call, operand, given);
    if (dnn_desc_equal(given, wanted)) return memory;
    dnnl_memory_t other = call_temporary(library, call, wanted);
    return call_reorder(library, call, given, memory, wanted, other) ? other : NULL;
}

bool call_finish(LvLibrary *library, LvCall *call, LvError *error) {
    for (size_t i = 0; i < call->memories.count; i++) {
        if (call->memories.data[i].operand == -2) {
            call->memories.data[i].operand = -1;
            call->memories.data[i].offset = call->temporaries;
        }
    }
    size_t need = call->temporaries + align_up(call->pad);
    if (need <= library->scratch_bytes) return true;
    free(library->scratch);
    library->scratch_bytes = 0;
    library->scratch = aligned_alloc(4096, (need + 4095) / 4096 * 4096);
    if (!library->scratch) return lv_error_set(error, LV_ERROR_MEMORY, "no memory for %.1f MB of scratch", (double)need / 1e6);
    library->scratch_bytes = need;
    return true;
}

// An empty destination needs nothing; an empty sum is the plain loops' business, and so is what the library refuses.
static bool is_empty(const LvOperand *operand) {
    return lv_shape_elements(operand->shape) == 0;
}

static bool prepare_linear_loss(LvCpu *cpu, LvModule *module, LvCall *call, LvError *error) {
    call->form = CALL_LINEAR_LOSS;
    if (!linear_loss_create(cpu, module, call->step, &call->linear_loss, error)) return false;
    snprintf(call->implementation, sizeof call->implementation, "%s", linear_loss_describe(call->linear_loss));
    return true;
}

bool cpu_call_prepare(LvCpu *cpu, LvModule *module, const LvStep *step, LvCall **out, LvError *error) {
    LvCall *call = call_create(step);
    if (step->kind == LV_STEP_LINEAR_LOSS) {
        bool good = prepare_linear_loss(cpu, module, call, error);
        if (good) *out = call;
        else cpu_call_discard(call);
        return good;
    }
    bool conv = step->kind == LV_STEP_CONV, built = false;
    bool destination_empty = is_empty(&step->operands[0]);
    if (conv && step->conv.direction == LV_CONV_WEIGHT_GRADIENT && step->conv.has_bias) {
        destination_empty = destination_empty && is_empty(&step->operands[3]);
    }
    if (destination_empty) {
        call->form = CALL_NOTHING;
        snprintf(call->implementation, sizeof call->implementation, "nothing");
        *out = call;
        return true;
    }
    if (!is_empty(&step->operands[0]) && !is_empty(&step->operands[1]) && !is_empty(&step->operands[2])) {
        if (conv) {
            bool winograd = step->conv.algorithm == LV_CONV_WINOGRAD;
            if (step->conv.algorithm == LV_CONV_AUTO) winograd = tune_wants_winograd(cpu, step);
            built = (winograd && conv_build(cpu->library, call, true)) || conv_build(cpu->library, call, false);
        } else {
            built = matmul_build(cpu->library, call);
        }
    }
    if (!built) {
        call_clear(call);
        call->form = CALL_PLAIN;
        snprintf(call->implementation, sizeof call->implementation, "plain loops");
    } else if (!call_finish(cpu->library, call, error)) {
        cpu_call_discard(call);
        return false;
    }
    *out = call;
    return true;
}

bool call_execute(LvLibrary *library, LvCall *call, char *const *buffers, LvError *error) {
    for (size_t i = 0; i < call->memories.count; i++) {
        const CallMemory *m = &call->memories.data[i];
        dnnl_memory_set_data_handle(m->memory, m->operand >= 0 ? buffers[m->operand] : library->scratch + m->offset);
    }
    for (size_t i = 0; i < call->stages.count; i++) {
        const CallStage *stage = &call->stages.data[i];
        dnnl_status_t status = dnnl_primitive_execute(stage->primitive, library->stream, stage->count, stage->args);
        if (status != dnnl_success) {
            return lv_error_set(error, LV_ERROR_DEVICE, "oneDNN failed with status %d in '%s' (%s)", (int)status,
                                call->step->label ? call->step->label : "", call->implementation);
        }
    }
    return dnnl_stream_wait(library->stream) == dnnl_success || lv_error_set(error, LV_ERROR_DEVICE, "oneDNN failed");
}

bool cpu_call_run(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error) {
    switch (call->form) {
        case CALL_NOTHING: return true;
        case CALL_LINEAR_LOSS: return linear_loss_run(cpu, call->linear_loss, call->step, buffers, error);
        case CALL_STAGES: return call_execute(cpu->library, call, buffers, error);
        case CALL_PLAIN:
            if (call->step->kind == LV_STEP_CONV) cpu_plain_conv(call->step, buffers);
            else cpu_plain_matmul(call->step, buffers);
    }
    return true;
}

const char *cpu_call_describe(const LvCall *call) {
    return call->implementation;
}
