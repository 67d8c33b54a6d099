// A command started anew as several ranks of this machine.
#ifndef LV_COMM_LAUNCH_H
#define LV_COMM_LAUNCH_H

#include <stdbool.h>

#include "base/error.h"

// Runs argv (argv[0] a path) as `ranks` processes by mpirun and waits for them. SIGINT and SIGTERM reach them as SIGUSR1, which mpirun
// passes on where it would end them at the others. *code: the ranks' exit code; a rank that a
// signal ended is an error.
bool lv_comm_launch(int ranks, char *const *argv, int *code, LvError *error);

#endif
