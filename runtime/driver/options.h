// Options of a subcommand: `--name value`, `--name=value`, `--flag`, `--no-flag`; `-` and `_` in names are alike.
// `--ch-mult 1 2 4` is `--ch-mult [1, 2, 4]`; `-c` is `--config`.
// A name that the command does not know may be a parameter of the model: kept as a setting for whoever loads the model,
// who knows its parameters and refuses what is none (with "did you mean").
#ifndef LV_DRIVER_OPTIONS_H
#define LV_DRIVER_OPTIONS_H

#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "base/vec.h"

// Numbers: one or several words, a list. Words: all up to the next option, each as if the option stood before it.
typedef enum { OPTION_FLAG, OPTION_VALUE, OPTION_NUMBERS, OPTION_WORDS } OptionKind;

typedef struct {
    const char *name;   // with '-': "weights-out"
    OptionKind kind;
    const char *value;  // what it is called in the help: "FILE"; NULL for a flag
    const char *help;
} OptionSpec;  // a table ends in {0}

typedef struct {
    const char *name, *value, *origin;  // `origin`: "--set" or "--hidden-dim", for messages
    bool optional;                      // only for models that have such a parameter
} OptionSetting;

typedef struct {
    const OptionSpec *specs;
    LV_VEC(struct OptionGiven { const OptionSpec *spec; const char *value; const char *origin; }) given;  // origin: "c.yaml:3"
    LV_VEC(const char *) words;       // arguments that are no options
    LV_VEC(OptionSetting) settings;   // --set k=v and unknown options, in order
    size_t config_settings;           // how many of them, at the front, come from a file
    LvArena *arena;
} Options;

// `settings`: whether --set and unknown options are allowed.
bool options_parse(Options *options, const OptionSpec *specs, bool settings, int argc, char **argv, LvError *error);
void options_free(Options *options);
const char *options_get(const Options *options, const char *name, const char *otherwise);  // the last one given
bool options_has(const Options *options, const char *name);
bool options_flag(const Options *options, const char *name, bool otherwise);  // --name or --no-name
bool options_integer(const Options *options, const char *name, int64_t low, int64_t high, int64_t *value, LvError *error);
bool options_number(const Options *options, const char *name, double *value,
                    LvError *error);  // these leave *value alone if it is absent
bool options_bytes(const Options *options, const char *name, int64_t *value, LvError *error);  // "512M", "8G", "8GB"
void options_print_help(const OptionSpec *specs, LvText *out);
// A subcommand's page: usage, what it does, its options, examples. Prints to stdout, returns 0.
int options_help_page(const char *usage, const char *about, const OptionSpec *specs, const char *examples);

// options_config.c. If --config names a YAML file: its entries, before those of the command line, which therefore beat them;
// its `config` entry (or none) stands for --config from then on. options_parse does this for commands that have --config.
bool options_read_config(Options *options, LvError *error);

#endif
