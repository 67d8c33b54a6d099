// The learning rate of each step: constant, cosine or by plateau, after a linear warm-up.
#ifndef LV_TRAIN_RATE_H
#define LV_TRAIN_RATE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { LV_RATE_CONSTANT, LV_RATE_COSINE, LV_RATE_PLATEAU } LvSchedule;

typedef struct {
    LvSchedule schedule;
    double peak;             // the rate that --lr or base x ranks x batch gives
    int64_t warmup, steps;
} LvRateRule;

// Reduce on plateau, as the original trains: factor 0.5, patience 10, cooldown 10, floor 1e-6; better means under
// best x (1 - 1e-4). Saved with a run, so that it goes on as it was.
typedef struct {
    double scale, best;  // `scale` multiplies the peak
    int64_t bad, cooldown;
} LvPlateau;

LvPlateau lv_plateau_start(void);
void lv_plateau_observe(LvPlateau *plateau, double peak, double loss);  // after each validation
double lv_rate_at(const LvRateRule *rule, const LvPlateau *plateau, int64_t step);  // step from 1

#endif
