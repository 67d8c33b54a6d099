// The ranks of `lvrun train`: how many are asked for, started, and which device each one has.
#ifndef LV_DRIVER_RANKS_H
#define LV_DRIVER_RANKS_H

#include "comm/comm.h"
#include "model.h"

// --gpus and --ranks. Where several are asked for and no launcher started this process, argv is run anew as so many: *code is their exit
// code then, and nothing is left to do; else -1, and *comm the ranks that this process is one of (NULL: it is by itself).
bool ranks_open(const Options *options, char **argv, LvComm **comm, int *code, LvError *error);
// model_open_device for a rank: of several GPUs its own, of the processors its share. Collective: it fails on all ranks or on none.
bool ranks_open_device(const Options *options, LvComm *comm, LvCompileOptions *compile, LvDevice **device, LvError *error);

#endif
