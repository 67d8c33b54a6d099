// Which of a few forms of a call is the fastest, by runs that take turns on a machine that may have other work.
#ifndef LV_DEVICE_CPU_RACE_H
#define LV_DEVICE_CPU_RACE_H

#include <stdbool.h>

typedef struct {
    bool runs;         // there is such a form, and it is not clearly slower than another
    double price;      // its seconds count so many times
    int patience;      // turns before it may be out
    double best;       // seconds of its fastest run so far; very many where there is no such form
    bool undisturbed;  // nothing else had the processors during one of its runs
} Racer;

// Runs a form once. False: something else had the processors meanwhile, so that the form may be faster than `seconds`.
typedef bool RaceRun(void *user, int form, double *seconds);

// The form of the best time at its price, `first` where two are alike. All fields are given, `best` by a run before. *sure: no form
// that was in the race to its end, this one apart, was only seen disturbed; where it is not, a later race may end otherwise.
int race_run(Racer *racers, int count, int first, RaceRun *run, void *user, bool *sure);

#endif
