// A subcommand of lvrun: `argv[0]` is its name. Returns the process's exit code: 0 done, 1 the work failed, 2 bad usage.
#ifndef LV_DRIVER_COMMAND_H
#define LV_DRIVER_COMMAND_H

#include "base/error.h"
#include "exec/program.h"

typedef int Command(int argc, char **argv);

Command cmd_train, cmd_eval, cmd_reconstruct, cmd_encode, cmd_decode, cmd_sample, cmd_caption, cmd_generate, cmd_tokenizer, cmd_info,
    cmd_call, cmd_bench, cmd_doctor;

// Prints `lvrun: error: …` and the hint to stderr, clears the error, gives its exit code.
int command_fail(LvError *error);
// Says what is to be noted of the device, on stderr, and closes it. NULL: nothing.
void command_close_device(LvDevice *device);

#endif
