// The options of compiling, as lvc and every command of lvrun have them.
#ifndef LV_DRIVER_OPTIONS_COMPILE_H
#define LV_DRIVER_OPTIONS_COMPILE_H

#include "../../compiler/driver/compiler.h"
#include "options.h"

// --cpu, else $LV_CPU, holds the process to less than the processor has.
bool options_processor(const Options *options, LvError *error);
// That, and `out` is filled from --precision, --tf32, --conv, --memory-limit, --no-fuse, --no-optimize where the command has them.
bool options_compile(const Options *options, LvCompileOptions *out, LvError *error);
// --loss-scale, which only f16 has; 0: not given.
bool options_loss_scale(const Options *options, const LvCompileOptions *compile, double *scale, LvError *error);

#endif
