// Ranks of a communicator: processes of this machine that share a piece of memory named by the id.
#ifndef LV_CUDA_SIM_NCCL_RANKS_H
#define LV_CUDA_SIM_NCCL_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RANKS_MOST = 16, RANKS_ROOM = 64 << 10 };  // bytes of a rank's data that are summed at once

typedef struct {
    int ranks, device;       // what it was told and works on
    uint64_t sum, count;     // which sum it is at, from 1 on, and of how many elements
    int type, op;
    bool bad;                // it has failed
} RankNote;

typedef struct {
    _Atomic int process;     // 0: nobody has come yet
    _Atomic uint64_t steps;  // barriers that it has come to
    RankNote note;           // written before a barrier, read after it
    char room[RANKS_ROOM];
} RankSlot;

typedef struct {
    RankSlot slots[RANKS_MOST];
} RankShared;

typedef struct {
    RankShared *shared;
    int rank, ranks;
    uint64_t steps;
    char last[256];  // what went wrong
} Ranks;

void ranks_name(char name[128]);  // a new one
// All ranks have come, once it returns. False after saying why: a rank that came twice, or never.
bool ranks_open(Ranks *r, const char *name, int rank, int ranks);
void ranks_close(Ranks *r);
// False where another does not come within LV_CUDA_SIM_NCCL_PATIENCE seconds, or its process has ended.
bool ranks_meet(Ranks *r);
bool ranks_say(Ranks *r, const char *format, ...) __attribute__((format(printf, 2, 3)));  // to stderr and `last`; false

#endif
