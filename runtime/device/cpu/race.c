// The forms take turns, so that whatever else the machine does falls on all of them; one that is clearly slower is out. A time is the
// least of a form's runs, since nothing makes a run faster than it is. What was only seen while others had the processors may be
// faster than it looked: it is not out for that, and the race goes on for a while to see it undisturbed.
#include "device/cpu/race.h"

// 0.05 s in all bounds a model of 100 distinct convolutions to seconds; on a busy machine twice that.
static const double clear = 1.4, budget = 0.05, busy_budget = 0.1;
enum { LEAST_TURNS = 3, MOST_TURNS = 8, MOST_BUSY_TURNS = 16 };

static double cost(const Racer *racer) { return racer->best * racer->price; }

static int leader(const Racer *racers, int count, int first) {
    for (int f = 0; f < count; f++) {
        if (cost(&racers[f]) < cost(&racers[first])) first = f;
    }
    return first;
}

// How many are left, and whether each but the leader has been seen undisturbed.
static int sort_out(Racer *racers, int count, int first, int turn, bool *sure) {
    int left = 0;
    *sure = true;
    for (int f = 0; f < count; f++) {
        Racer *r = &racers[f];
        if (turn >= r->patience && r->undisturbed && r->best > racers[first].best * clear) r->runs = false;
        left += r->runs;
        *sure = *sure && (!r->runs || r->undisturbed || f == first);
    }
    return left;
}

int race_run(Racer *racers, int count, int first, RaceRun *run, void *user, bool *sure) {
    double spent = 0;
    for (int turn = 1;; turn++) {
        int best = leader(racers, count, first), left = sort_out(racers, count, best, turn, sure);
        bool over = turn >= MOST_TURNS || (turn >= LEAST_TURNS && spent > budget);
        bool too_long = turn >= MOST_BUSY_TURNS || (turn >= LEAST_TURNS && spent > busy_budget);
        if (left < 2 || (over && *sure) || too_long) return best;
        for (int f = count - 1; f >= 0; f--) {
            double seconds;
            if (!racers[f].runs) continue;
            bool undisturbed = run(user, f, &seconds);
            racers[f].undisturbed = racers[f].undisturbed || undisturbed;
            if (seconds < racers[f].best) racers[f].best = seconds;
            spent += seconds;
        }
    }
}
