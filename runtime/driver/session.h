// What eval, reconstruct, encode and decode share: a model open with its weights on a device, and its entries made ready.
#ifndef LV_DRIVER_SESSION_H
#define LV_DRIVER_SESSION_H

#include "command.h"
#include "model.h"
#include "train/train.h"

typedef struct {
    Options options;
    OpenModel open;
    LvDevice *device;
    LvStore *store;  // made by the first plan
    LvCompileOptions compile;
} Session;

// Parses, shows help, opens; runs `work` and prints what fails. `least`: words after MODEL that are needed at least.
typedef struct {
    const char *usage, *about, *examples;
    const OptionSpec *specs;
    size_t least;
    bool (*work)(Session *session, LvError *error);
    bool (*check)(Options *options, LvError *error);  // before anything is opened; may be NULL
} SessionCommand;
int session_main(const SessionCommand *command, int argc, char **argv);

// The entry's plan and program at a batch, over the weights: the checkpoint's, or those of --weights.
bool session_program(Session *session, const char *entry, int64_t batch, LvPlan **plan, LvProgram **program, LvError *error);
LvPlanSource session_plans(Session *session);
// The store, from the plan of `entry`, with the weights in it.
bool session_store(Session *session, const char *entry, int64_t batch, LvError *error);
void session_tell_memory(const Session *session);  // what it takes, on stderr: when all programs are made, before the first runs
bool session_folder(const char *path, LvError *error);  // makes it where it is missing

#define SESSION_OPTIONS                                                                          \
    {"weights", OPTION_VALUE, "FILE", "safetensors with the model's weights, where MODEL has none"}, \
    {"seed", OPTION_VALUE, "N", "seed of random operations (default 42)"},                       \
    {"set", OPTION_VALUE, "NAME=VALUE", "a parameter of the model; --NAME VALUE does the same"}, \
    MODEL_OPTIONS,                                                                               \
    {"help", OPTION_FLAG, NULL, "this text"}

#endif
