// The compiler's public interface: a model's source and settings in, plans out. No printing, no exiting, no globals.
#ifndef LV_COMPILER_H
#define LV_COMPILER_H

#include "base/diag.h"
#include "base/plan.h"

typedef struct LvModel LvModel;

typedef struct {
    const char *name;
    const char *value;   // JSON (`[1, 2]`, `true`, `0.5`) or a bare string
    const char *origin;  // "--set", "--hidden-dim", "quickstart.yaml:3": named in messages about it
    bool optional;       // a model without this parameter passes it over
} LvSetting;

typedef struct {
    const char *name;
    const char *type;           // "int", "float", "bool", "string", "[int]" ...
    const char *default_value;  // JSON
    const char *value;          // JSON, after config and settings
    const char *doc;            // its doc comment, "" if none
} LvModelParameter;

typedef struct {
    const char *name;
    const char *doc;
    int input_count;
    LvPort *inputs;        // dim -1 where a dimension is free (the batch)
    bool trains;           // contains `minimize`
} LvModelEntry;

// Reads, parses and checks `path` (or the bundle of sources of an artifact: then path names bundle[0]), picks the `model`
// block, applies config NAME (NULL: none) and the settings over it. False: `error` says what failed in one line and
// `diagnostics` (initialised by the caller, over its LvSources) holds the program's errors.
bool lv_model_load(const char *path, const LvBundledSource *bundle, int bundle_count, const char *config,
                   const LvSetting *settings, int setting_count, LvDiagnostics *diagnostics, LvModel **model,
                   LvError *error);
void lv_model_destroy(LvModel *model);
const char *lv_model_name(const LvModel *model);
const LvModelParameter *lv_model_parameters(const LvModel *model, int *count);
const LvModelEntry *lv_model_entries(const LvModel *model, int *count);
// NULL if there is none of that name: the error says which there are.
const LvModelEntry *lv_model_find_entry(const LvModel *model, const char *name, LvError *error);
const char *const *lv_model_configs(const LvModel *model, int *count);
const char *lv_model_config(const LvModel *model);  // the one applied, "" if none
// The model's source [0] and every file it imports: what an artifact carries.
const LvBundledSource *lv_model_sources(const LvModel *model, int *count);

typedef enum { LV_PRECISION_F32, LV_PRECISION_BF16, LV_PRECISION_F16, LV_PRECISION_COUNT } LvPrecision;

LvDType lv_precision_dtype(LvPrecision precision);
const char *lv_precision_name(LvPrecision precision);  // "f32", "bf16", "f16"
// Whether plans for the device ("cpu", "cuda:sm_90") may be in that precision; false: error says what may be instead.
bool lv_precision_check(LvPrecision precision, const char *device, LvError *error);

// What decides the plan is part of its key in the cache: a new field goes into print_options of runtime/driver/plan_cache.c.
typedef struct {
    const char *entry;       // "init" computes every variable's initial value
    int64_t batch;           // bound to the free first dimension of the entry's inputs
    LvPrecision precision;
    const char *device;      // "cpu", "cuda", "cuda:sm_90"; NULL is "cpu"
    bool tf32;               // products of f32 may be made in TF32, on a GPU
    int64_t memory_limit;    // bytes, 0: none; remat obeys it
    int64_t (*workspace)(void *user, const LvPlan *plan);  // what the device's library takes on top, for the limit; NULL: nothing
    void *workspace_user;
    LvConvAlgorithm conv;
    int64_t ranks;           // processes that train together, each on a batch of its own; 0 and 1: one by itself. passes/update.c
    int64_t accumulate;      // runs of a training entry that one update sums up; 0 and 1: every run updates. Input $part
    bool bytes;              // inputs f32 [B, 3, R, R] are given as u8, a byte x for the number x / 127.5 - 1
    bool alone;              // no other entry's program shares the variables: what this one does not read has no place, and weights
                             // that it reads only as bf16 or f16 are kept so. Not for entries that train, nor for "init"
    const char *const *beside;  // with `alone`: names, the last NULL, of entries whose programs do share them, this one's own perhaps
                             // among them; what all of these read counts. The same list for each of them. NULL: none
    bool clip;               // the gradient's norm is bounded by the input $clip
    bool gradients;          // all gradients are there after a run, for lv_program_get_gradient; else some are overwritten by others
    bool uncontracted;       // kernels round each product: the same numbers with and without fused multiply-add
    bool no_fuse;            // one kernel a node: for finding faults in the fuser
    bool no_optimize;        // only what is needed to run at all
    const char *emit;        // NULL, or the stage whose text form is wanted: ast graph joint fused loop c memory plan, or a pass's name
    LvText *emitted;         // where it goes
    LvText *explain;         // if not NULL: a line per kernel and library call, with sources, bytes, FLOP
} LvCompileOptions;

// What counts against the limit: the plan's bytes, and what the device's library takes on top.
int64_t lv_model_limited_bytes(const LvCompileOptions *options, const LvPlan *plan);

bool lv_model_compile(LvModel *model, const LvCompileOptions *options, LvDiagnostics *diagnostics, LvPlan **plan,
                      LvError *error);

#endif
