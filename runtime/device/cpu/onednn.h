// A library call: a short sequence of oneDNN primitives (reorders, the contraction, what could not be fused) over memory
// that is either an operand of the step or a part of the device's shared scratch memory.
#ifndef LV_DEVICE_CPU_ONEDNN_H
#define LV_DEVICE_CPU_ONEDNN_H

#include "base/map.h"
#include "device/cpu/api.h"
#include "device/cpu/cpu.h"
#include "device/cpu/winograd.h"

typedef struct LvLinearLoss LvLinearLoss;

// Memory shared by all calls: they run one after another.
typedef struct {
    char *data;
    size_t bytes;
} CallBlock;

struct LvLibrary {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    CallBlock scratch, wide;  // `wide`: widened operands
    size_t own_bytes;      // of calls that keep memory of their own
    LvMap choices;         // measured algorithms of this process, by key: (void *)(1 + ConvForm)
    LvMap calls;           // LvCall *, by key: equal steps share one
};

enum { CALL_MAX_ARGS = 8, CALL_MAX_OPERANDS = 5 };

// An operand that is bf16 in the plan and f32 in the call.
typedef struct {
    int64_t elements;  // 0: it is not
    size_t offset;     // in LvLibrary.wide
} WideOperand;

typedef struct {
    dnnl_memory_t memory;
    int operand;    // -1: scratch
    size_t offset;  // in scratch
} CallMemory;

typedef struct {
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;  // NULL until the call is to run: making it compiles code
    int count;
    dnnl_exec_arg_t args[CALL_MAX_ARGS];
} CallStage;

struct LvCall {
    const LvStep *step;   // a copy that the call owns
    char *key;            // in LvLibrary.calls; NULL: not there
    int users;            // 0: described only, to tell its scratch memory
    enum { CALL_STAGES, CALL_PLAIN, CALL_NOTHING, CALL_LINEAR_LOSS, CALL_WINOGRAD } form;
    LvLinearLoss *linear_loss;
    WinogradShape winograd;
    DnnPool pool;
    LV_VEC(CallMemory) memories;
    LV_VEC(CallStage) stages;
    size_t temporaries;   // bytes of scratch taken by values between stages
    size_t pad;           // bytes of the largest scratchpad of a stage, behind the temporaries
    char implementation[96];
    WideOperand wide[CALL_MAX_OPERANDS];
    size_t wide_bytes;    // 0: nothing is widened
    bool reference;       // the library's slow form, or something that begins with it
};

// How a convolution is computed: the library's direct one, the library's Winograd (version 2, AVX-512), or ours.
typedef enum { CONV_DIRECT, CONV_LIBRARY_WINOGRAD, CONV_WINOGRAD, CONV_FORM_COUNT } ConvForm;

LvCall *call_create(const LvStep *step);
void call_destroy(LvCall *call);
void call_clear(LvCall *call);  // back to no stages, for another try

// Memory of an operand as it lies, or of a temporary. The descriptor is copied.
dnnl_memory_t call_operand(LvLibrary *library, LvCall *call, int operand, DnnDesc desc);
dnnl_memory_t call_temporary(LvLibrary *library, LvCall *call, DnnDesc desc);
// Adds a stage, which takes the primitive descriptor; false where it is NULL or the library refuses. `args` are pairs
// (argument number, memory), closed by 0.
bool call_stage(LvLibrary *library, LvCall *call, dnnl_primitive_desc_t primitive, ...);
bool call_reorder(LvLibrary *library, LvCall *call, DnnDesc from_desc, dnnl_memory_t from, DnnDesc to_desc, dnnl_memory_t to);
// The operand in the form `wanted`: itself, or a temporary that a reorder fills.
dnnl_memory_t call_read(LvLibrary *library, LvCall *call, int operand, DnnDesc given, DnnDesc wanted);
// Fills an empty call: in that form, or directly where the step has no such form.
void call_build(LvCpu *cpu, LvCall *call, ConvForm form);
// Bytes of scratch memory of a call that is whole; its primitives; room for what it needs.
size_t call_scratch(const LvCall *call);
bool call_make(LvCall *call);
bool call_room(LvLibrary *library, LvCall *call, LvError *error);
// Memory for one block, to be freed, in huge pages as arenas are: in small ones the same call is up to a third slower, by how they happen
// to fall together in the caches.
char *call_memory(size_t bytes);

// conv.c, matmul.c: fill an empty call; false: there is no such form.
bool conv_build(LvCpu *cpu, LvCall *call, ConvForm form);
bool matmul_build(LvLibrary *library, LvCall *call);
// A 1 x 1 convolution, or a gradient of one, over pictures with their channels last: a product of matrices.
bool matmul_build_conv(LvLibrary *library, LvCall *call);
bool conv_has(LvCpu *cpu, const LvStep *step, ConvForm form);

// widen.c: the step that the call owns, with f32 for bf16; false where there is no bf16. Running it.
bool widen_step(LvCall *call);
bool widen_run(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error);
// What the call does over operands as its own step has them.
bool call_run_form(LvCpu *cpu, LvCall *call, char *const *buffers, LvError *error);

// linear_loss.c: the parts of such a call; `create` leaves something to destroy also where it fails.
bool linear_loss_create(LvCpu *cpu, LvModule *module, const LvStep *step, LvLinearLoss **loss, LvError *error);
void linear_loss_destroy(LvLinearLoss *loss);
bool linear_loss_run(LvCpu *cpu, const LvLinearLoss *loss, const LvStep *step, char *const *buffers, LvError *error);
// Bytes that such a call keeps for itself; hands its matmuls to `each`.
size_t linear_loss_sizes(const LvStep *step, void *user, void each(void *user, const LvStep *product));
const char *linear_loss_describe(const LvLinearLoss *loss);

// All that decides what a step's call is: kind, sizes, types, layouts, which operands are one.
void call_print_key(const LvStep *step, LvText *out);

// tune.c: the form of a convolution. LV_CONV_AUTO: by measurement, remembered in the cache. `step_key` is call_print_key's.
ConvForm tune_choose(LvCpu *cpu, const LvStep *step, const char *step_key);
// The same without measuring; false: it would have to be measured.
bool tune_look_up(LvCpu *cpu, const LvStep *step, const char *step_key, ConvForm *form);

#endif
