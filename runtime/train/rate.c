// Learning rates: see rate.h.
#include "train/rate.h"

#include <math.h>

LvPlateau lv_plateau_start(void) {
    return (LvPlateau){.scale = 1, .best = INFINITY};
}

void lv_plateau_observe(LvPlateau *plateau, double peak, double loss) {
    const double factor = 0.5, floor_rate = 1e-6, threshold = 1e-4;
    const int64_t patience = 10, cooldown = 10;
    if (loss < plateau->best - threshold * fabs(plateau->best) || !isfinite(plateau->best)) {
        plateau->best = loss;
        plateau->bad = 0;
    } else {
        plateau->bad++;
    }
    if (plateau->cooldown > 0) {
        plateau->cooldown--;
        plateau->bad = 0;
    }
    if (plateau->bad <= patience) return;
    double rate = fmax(peak * plateau->scale * factor, fmin(floor_rate, peak * plateau->scale));
    if (peak > 0) plateau->scale = rate / peak;
    plateau->cooldown = cooldown;
    plateau->bad = 0;
}

double lv_rate_at(const LvRateRule *rule, const LvPlateau *plateau, int64_t step) {
    double rate = rule->peak;
    if (rule->warmup > 0 && step < rule->warmup) rate *= (double)step / (double)rule->warmup;
    if (rule->schedule == LV_RATE_PLATEAU) rate *= plateau->scale;
    if (rule->schedule == LV_RATE_COSINE && step > rule->warmup) {
        int64_t left = rule->steps - rule->warmup;
        rate *= 0.5 * (1 + cos(M_PI * (double)(step - rule->warmup) / (double)(left > 0 ? left : 1)));
    }
    return rate;
}
