// Where the time of a program goes, step by step of its plan: what `bench --profile`, `train --profile N` and --trace show.
#ifndef LV_DRIVER_PROFILE_H
#define LV_DRIVER_PROFILE_H

#include <stdio.h>

#include "exec/program.h"

typedef struct {
    const LvPlan *plan;
    const LvProgram *program;  // lv_program_profile was on
    int runs;                  // for so many runs
    double peak, copy;         // what the machine does at best (peak.h): FLOP/s, bytes a second; 0: unknown
} Profile;

// A line a step, the slowest first: time, share of the run, FLOP/s, bytes a second, the nearer of both to what the machine does at
// best, what it is, its source lines; then the sums by kind.
void profile_print(const Profile *profile, FILE *file);
// One run as a Chrome trace (JSON, for chrome://tracing or ui.perfetto.dev), the steps one after the other.
bool profile_write_trace(const Profile *profile, const char *path, LvError *error);

#endif
