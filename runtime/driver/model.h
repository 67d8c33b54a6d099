// MODEL of the command line, opened: a .lv file, an artifact (.lvm), or a checkpoint (.safetensors with the model inside).
#ifndef LV_DRIVER_MODEL_H
#define LV_DRIVER_MODEL_H

#include "../../compiler/driver/compiler.h"
#include "exec/program.h"
#include "io/safetensors.h"
#include "options_compile.h"

typedef struct {
    LvSources sources;
    LvDiagnostics diagnostics;
    LvModel *model;
    LvPlan *artifact;          // where MODEL was one
    char *path;                // MODEL
    bool changed;              // --set or --config was given
    LvTensorFile *checkpoint;  // where MODEL was one
} OpenModel;

// Applies --config and the settings. On failure the diagnostics, if any, have been printed to stderr.
bool model_open(OpenModel *open, const char *path, const Options *options, LvError *error);
// The same from what model_describe wrote; `name` is for messages. Takes the weights, which become `checkpoint`.
bool model_open_described(OpenModel *open, const char *name, const char *description, LvTensorFile *weights, LvError *error);
void model_close(OpenModel *open);
// The weights of `checkpoint` into a store made for a plan of the model; refuses those that do not fit.
bool model_load_weights(const OpenModel *open, LvStore *store, LvError *error);
// A parameter of the model that is an int.
bool model_find_integer(const LvModel *model, const char *name, int64_t *value);
// Whether it takes tokens under that name: `text`, `image` for pictures as codes, `tokens` for text alone.
bool model_entry_takes(const LvModelEntry *entry, const char *tokens);
bool model_entry_is_paired(const LvModelEntry *entry);  // takes any of these
// The input of that name, NULL if there is none.
const LvPort *model_entry_input(const LvModelEntry *entry, const char *name);
// The device of --device and --threads: plans are compiled for it, and what its library takes on top of one counts against
// --memory-limit.
bool model_open_device(const Options *options, LvCompileOptions *compile, LvDevice **device, LvError *error);
bool model_use_device(LvDevice *device, LvCompileOptions *compile, LvError *error);  // the same of one that is open
// Takes the artifact's own plan where that is what was asked for, and compiles otherwise.
bool model_compile(OpenModel *open, const LvCompileOptions *options, LvPlan **plan, LvError *error);
// Runs entry `init` with the seed: every variable's initial value.
bool model_initialize(OpenModel *open, const LvCompileOptions *options, LvDevice *device, LvStore *store, int64_t seed,
                      LvError *error);

// The model as a checkpoint's metadata `lverse.model` carries it: sources and settings.
void model_describe(const OpenModel *open, LvText *out);

#define MODEL_OPTIONS                                                                                      \
    {"config", OPTION_VALUE, "NAME", "a config block of the model, or a flat YAML file"},                  \
    {"device", OPTION_VALUE, "DEVICE", "cpu, cuda (cuda:1: the second GPU) or auto (default cpu)"},        \
    {"precision", OPTION_VALUE, "P", "f32 or bf16, f16 on a GPU (default f32)"},                           \
    {"tf32", OPTION_FLAG, NULL, "products of f32 may be made in TF32, on a GPU"},                          \
    {"threads", OPTION_VALUE, "N", "threads of the CPU (default: all)"},                                   \
    {"cpu", OPTION_VALUE, "LEVEL", "use no more of the processor than avx2 or avx512 (default native)"},   \
    {"conv", OPTION_VALUE, "A", "algorithm of convolutions: direct, winograd or auto"},                    \
    {"memory-limit", OPTION_VALUE, "BYTES", "recompute rather than store more than this (k, M, G allowed)"}, \
    {"no-fuse", OPTION_FLAG, NULL, "one kernel a node: for finding faults"},                               \
    {"no-optimize", OPTION_FLAG, NULL, "only what is needed to run"}

#endif
