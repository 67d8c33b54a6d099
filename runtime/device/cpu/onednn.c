// Library calls: building, sharing, running, freeing sequences of oneDNN primitives. What a call consists of is conv.c's and
// matmul.c's business. All scratch memory (reordered operands, primitives' scratchpads) is one block for all calls.
#include "device/cpu/onednn.h"

#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/process.h"
#include "base/processor.h"

enum { ALIGN = 64, HUGE_PAGE = 2 << 20 };

static size_t align_up(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

bool cpu_library_open(LvCpu *cpu, LvError *error) {
    LvLibrary *library = cpu->library = lv_calloc(1, sizeof *library);
    if (lv_processor_level() == LV_PROCESSOR_AVX2) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);  // in vain once the library has run
    if (lv_processor_level() == LV_PROCESSOR_AVX512) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core);
    if (dnnl_engine_create(&library->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&library->stream, library->engine, dnnl_stream_default_flags) != dnnl_success) {
        return lv_error_set(error, LV_ERROR_DEVICE, "oneDNN cannot be started");
    }
    return true;
}

void cpu_library_close(LvCpu *cpu) {
    LvLibrary *library = cpu->library;
    if (!library) return;
    for (size_t i = 0; i < library->calls.count; i++) call_destroy(library->calls.entries[i].value);
    lv_map_free(&library->calls);
    lv_map_free(&library->choices);
    if (library->stream) dnnl_stream_destroy(library->stream);
    if (library->engine) dnnl_engine_destroy(library->engine);
    free(library->scratch.data);
    free(library->wide.data);
    free(library);
}

size_t cpu_library_scratch(const LvCpu *cpu) {
    return cpu->library->scratch.bytes + cpu->library->wide.bytes + cpu->library->own_bytes;
}

static void add_block(CallBlock block, LvMemoryUse *use) {
    use->device_bytes += (int64_t)block.bytes;
    if (block.data) use->own_bytes -= (int64_t)lv_process_resident_in(block.data, block.bytes);
}

void cpu_library_use(const LvCpu *cpu, LvMemoryUse *use) {
    add_block(cpu->library->scratch, use);
    add_block(cpu->library->wide, use);
}

void cpu_library_version(int version[3]) {
    const dnnl_version_t *v = dnnl_version();
    version[0] = v->major, version[1] = v->minor, version[2] = v->patch;
}

// ---- a call's life

LvCall *call_create(const LvStep *step) {
    LvCall *call = lv_calloc(1, sizeof *call);
    LvStep *copy = lv_malloc(sizeof *copy);
    *copy = *step;
    copy->operands = lv_calloc((size_t)step->operand_count + 1, sizeof *copy->operands);
    memcpy(copy->operands, step->operands, (size_t)step->operand_count * sizeof *copy->operands);
    copy->label = lv_strdup(step->label ? step->label : "");
    call->step = copy;
    return call;
}

void call_clear(LvCall *call) {
    for (size_t i = 0; i < call->stages.count; i++) {
        if (call->stages.data[i].primitive) dnnl_primitive_destroy(call->stages.data[i].primitive);
        dnnl_primitive_desc_destroy(call->stages.data[i].description);
    }
    for (size_t i = 0; i < call->memories.count; i++) dnnl_memory_destroy(call->memories.data[i].memory);
    lv_vec_free(&call->stages);
    lv_vec_free(&call->memories);
    dnn_pool_free(&call->pool);
    linear_loss_destroy(call->linear_loss);
    LvCall kept = *call;
    *call = (LvCall){.step = call->step, .key = call->key, .users = call->users, .wide_bytes = kept.wide_bytes};
    memcpy(call->wide, kept.wide, sizeof call->wide);
}

void call_destroy(LvCall *call) {
    if (!call) return;
    call_clear(call);
    free(call->step->operands);
    free((char *)(uintptr_t)call->step->label);
    free((LvStep *)(uintptr_t)call->step);
    free(call->key);
    free(call);
}

void cpu_call_discard(LvCpu *cpu, LvCall *call) {
    if (!call || --call->users > 0) return;
    if (call->key) lv_map_set(&cpu->library->calls, call->key, NULL);
    call_destroy(call);
}

void call_print_key(const LvStep *step, LvText *out) {
    if (step->kind == LV_STEP_CONV) {
        const LvConvStep *c = &step->conv;
        lv_text_printf(out, "conv %d %d stride %lld %lld pad", c->direction, c->algorithm, (long long)c->stride[0],
                       (long long)c->stride[1]);
        for (int i = 0; i < 4; i++) lv_text_printf(out, " %lld", (long long)c->pad[i]);
        lv_text_printf(out, " bias %d residual %d activation %d", c->has_bias, c->has_residual, c->activation);
    } else {
        const LvMatmulStep *m = &step->matmul;
        lv_text_printf(out, "matmul %d %d bias %d residual %d activation %d alpha %a", m->transpose_a, m->transpose_b, m->has_bias,
                       m->has_residual, m->activation, m->alpha);
    }
    for (int i = 0; i < step->operand_count; i++) {
        const LvOperand *o = &step->operands[i];
        int first = 0;
        while (!lv_place_equal(step->operands[first].place, o->place)) first++;
        lv_text_printf(out, " %s", lv_dtype_name(o->dtype));
        lv_shape_print(out, o->shape);
        lv_layout_print(out, o->layout, o->shape.rank);
        if (first < i) lv_text_printf(out, " is %d", first);
    }
}

// ---- its parts

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
    CallStage stage = {.description = primitive};
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
    if (good) lv_vec_push(&call->stages, stage);
    else dnnl_primitive_desc_destroy(primitive);
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

bool call_make(LvCall *call) {
    for (size_t i = 0; i < call->stages.count; i++) {
        CallStage *stage = &call->stages.data[i];
        if (!stage->primitive && dnnl_primitive_create(&stage->primitive, stage->description) != dnnl_success) return false;
    }
    return true;
}

size_t call_scratch(const LvCall *call) {
    return call->temporaries + align_up(call->pad);
}

char *call_memory(size_t bytes) {
    const size_t page = bytes < HUGE_PAGE ? 4096 : HUGE_PAGE;
    if (bytes > SIZE_MAX - page) return NULL;
    char *memory = aligned_alloc(page, bytes ? (bytes + page - 1) / page * page : page);
#ifdef MADV_HUGEPAGE
    if (memory && page == HUGE_PAGE) madvise(memory, bytes / page * page, MADV_HUGEPAGE);
#endif
    return memory;
}

static bool reserve(CallBlock *block, size_t bytes, LvError *error) {
    if (bytes <= block->bytes) return true;
    free(block->data);
    *block = (CallBlock){.data = call_memory(bytes)};
    if (!block->data) return lv_error_set(error, LV_ERROR_MEMORY, "no memory for %.1f MB of scratch", (double)bytes / 1e6);
    block->bytes = bytes;
    return true;
}

bool call_room(LvLibrary *library, LvCall *call, LvError *error) {
    for (size_t i = 0; i < call->memories.count; i++) {
        if (call->memories.data[i].operand == -2) {
            call->memories.data[i].operand = -1;
            call->memories.data[i].offset = call->temporaries;
        }
    }
    return reserve(&library->scratch, call_scratch(call), error) && reserve(&library->wide, call->wide_bytes, error);
}

// An empty destination needs nothing; an empty sum is the plain loops' business, and so is what the library refuses.
static bool is_empty(const LvOperand *operand) {
    return lv_shape_elements(operand->shape) == 0;
}

static bool writes_nothing(const LvStep *step) {
    bool also_bias = step->kind == LV_STEP_CONV && step->conv.direction == LV_CONV_WEIGHT_GRADIENT && step->conv.has_bias;
    return is_empty(&step->operands[0]) && (!also_bias || is_empty(&step->operands[3]));
}

static bool has_work(const LvStep *step) {
    return !is_empty(&step->operands[0]) && !is_empty(&step->operands[1]) && !is_empty(&step->operands[2]);
}

static void use_plain_loops(LvCall *call) {
    call_clear(call);
    call->form = CALL_PLAIN;
    snprintf(call->implementation, sizeof call->implementation, "plain loops");
}

void call_build(LvCpu *cpu, LvCall *call, ConvForm form) {
    const LvStep *step = call->step;
    bool built = false;
    if (writes_nothing(step)) {
        call->form = CALL_NOTHING;
        snprintf(call->implementation, sizeof call->implementation, "nothing");
        return;
    }
    if (has_work(step)) {
        if (step->kind == LV_STEP_CONV) built = (form != CONV_DIRECT && conv_build(cpu, call, form)) || conv_build(cpu, call, CONV_DIRECT);
        else built = matmul_build(cpu->library, call);
    }
    if ((!built || call->reference) && has_work(step) && widen_step(call)) {
        call_build(cpu, call, form);
        return;
    }
    if (!built) use_plain_loops(call);
}

// A step's call by its key: the one there is, or a new one with its primitives described.
static LvCall *describe(LvCpu *cpu, const LvStep *step, const char *key, ConvForm form) {
    LvCall *call = lv_map_get(&cpu->library->calls, key);
    if (call) return call;
    call = call_create(step);
    call_build(cpu, call, form);
    call->key = lv_strdup(key);
    lv_map_set(&cpu->library->calls, key, call);
    return call;
}

static bool prepare_linear_loss(LvCpu *cpu, LvModule *module, const LvStep *step, LvCall **out, LvError *error) {
    LvCall *call = call_create(step);
    call->form = CALL_LINEAR_LOSS;
    if (!linear_loss_create(cpu, module, call->step, &call->linear_loss, error)) {
        call_destroy(call);
        return false;
    }
    snprintf(call->implementation, sizeof call->implementation, "%s", linear_loss_describe(call->linear_loss));
    call->users = 1;
    *out = call;
    return true;
}

static bool is_for_a_gpu(const LvStep *step) {
    const LvConvStep *conv = &step->conv;
    if (step->kind == LV_STEP_MATMUL) return step->matmul.has_sums;
    bool epilogue = conv->has_bias || conv->has_residual || conv->activation != LV_ACTIVATION_NONE;
    return conv->has_moments || (conv->direction == LV_CONV_DATA_GRADIENT && epilogue);
}

void cpu_library_measure(LvCpu *cpu, const LvPlan *plan) {
    LvText key = {0};
    omp_set_num_threads(cpu->threads);
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        if (step->kind != LV_STEP_CONV || is_for_a_gpu(step) || !has_work(step)) continue;
        key.length = 0;
        call_print_key(step, &key);
        if (!lv_map_has(&cpu->library->calls, key.data)) tune_choose(cpu, step, key.data);
    }
    lv_text_free(&key);
}

// Equal steps share a call: a model has a dozen times more of them than different ones, and primitives take long to make.
bool cpu_call_prepare(LvCpu *cpu, LvModule *module, const LvStep *step, LvCall **out, LvError *error) {
    LvLibrary *library = cpu->library;
    LvText key = {0};
    if (step->kind == LV_STEP_LINEAR_LOSS) return prepare_linear_loss(cpu, module, step, out, error);
    if (is_for_a_gpu(step))
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "a product that also makes sums or moments, or is transposed with a bias: the plan was made for a GPU");
    omp_set_num_threads(cpu->threads);  // primitives are made for as many
    call_print_key(step, &key);
    bool known = lv_map_get(&library->calls, key.data) != NULL;
    bool chosen = !known && step->kind == LV_STEP_CONV && has_work(step);
    LvCall *call = *out = describe(cpu, step, key.data, chosen ? tune_choose(cpu, step, key.data) : CONV_DIRECT);
    lv_text_free(&key);
    call->users++;
    if (call->form == CALL_STAGES && !call_make(call)) use_plain_loops(call);
    if (call_room(library, call, error)) return true;
    cpu_call_discard(cpu, call);
    return false;
}

// Scratch memory of one step's call, told by its descriptions alone. Where its form is not known yet, that of the direct one, and
// the call is not kept.
static size_t step_workspace(LvCpu *cpu, const LvStep *step, const char *key, int *unmeasured) {
    ConvForm form = CONV_DIRECT;
    bool known = step->kind != LV_STEP_CONV || !has_work(step) || tune_look_up(cpu, step, key, &form);
    *unmeasured += !known;
    LvCall *call = describe(cpu, step, key, form);
    size_t bytes = call_scratch(call) + call->wide_bytes;
    if (!known && call->users == 0) {
        call->users = 1;
        cpu_call_discard(cpu, call);
    }
    return bytes;
}

typedef struct {
    LvCpu *cpu;
    LvMap seen;  // keys
    size_t shared;
    int unmeasured;
} Sizes;

static void add_step(void *user, const LvStep *step) {
    Sizes *sizes = user;
    LvText key = {0};
    call_print_key(step, &key);
    if (!lv_map_has(&sizes->seen, key.data)) {
        lv_map_set(&sizes->seen, key.data, sizes);
        size_t bytes = step_workspace(sizes->cpu, step, key.data, &sizes->unmeasured);
        if (bytes > sizes->shared) sizes->shared = bytes;
    }
    lv_text_free(&key);
}

LvWorkspace cpu_library_workspace(LvCpu *cpu, const LvPlan *plan) {
    Sizes sizes = {.cpu = cpu};
    size_t own = 0;
    omp_set_num_threads(cpu->threads);
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        if (step->kind == LV_STEP_CONV || step->kind == LV_STEP_MATMUL) add_step(&sizes, step);
        if (step->kind == LV_STEP_LINEAR_LOSS) own += linear_loss_sizes(step, &sizes, add_step);
    }
    lv_map_free(&sizes.seen);
    return (LvWorkspace){sizes.shared + own, sizes.unmeasured};
}

static bool run_stages(LvLibrary *library, LvCall *call, char *const *buffers, LvError *error) {
    for (size_t i = 0; i < call->memories.count; i++) {
        const CallMemory *m = &call->memories.data[i];
        dnnl_memory_set_data_handle(m->memory, m->operand >= 0 ? buffers[m->operand] : library->scratch.data + m->offset);
    }
    for (size_t i = 0; i < call->stages.count; i++) {
        const CallStage *stage = &call->stages.data[i];
        dnnl_status_t status = dnnl_primitive_execute(stage->primitive, library->stream, stage->count, stage->args);
        if (status != dnnl_success) {
            return lv_error_set(error, LV_ERROR_DEVICE, "oneDNN failed with status %d in '%s' (%s)", (int)status,
                                call->step->label, call->implementation);
        }
    }
    return dnnl_stream_wait(library->stream) == dnnl_success || lv_error_set(error, LV_ERROR_DEVICE, "oneDNN failed");
}

bool call_run_form(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error) {
    switch (call->form) {
        case CALL_NOTHING: return true;
        case CALL_LINEAR_LOSS: return linear_loss_run(cpu, call->linear_loss, call->step, buffers, error);
        case CALL_STAGES: return run_stages(cpu->library, call, buffers, error);
        case CALL_WINOGRAD: {
            WinogradData data = winograd_data(call->step, buffers, cpu->library->scratch.data);
            winograd_run(&call->winograd, &data);
            break;
        }
        case CALL_PLAIN:
            if (call->step->kind == LV_STEP_CONV) cpu_plain_conv(call->step, buffers);
            else cpu_plain_matmul(call->step, buffers);
            break;
    }
    return true;
}

bool cpu_call_run(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error) {
    return call->wide_bytes ? widen_run(cpu, call, buffers, error) : call_run_form(cpu, call, buffers, error);
}

const char *cpu_call_describe(const LvCall *call) {
    return call->implementation;
}
