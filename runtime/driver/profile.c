// Profiles: see profile.h.
#include "profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/text.h"

typedef struct {
    double seconds;
    int step;
} StepTime;

static const char *const kind_names[LV_STEP_KIND_COUNT] = {
    [LV_STEP_KERNEL] = "kernels", [LV_STEP_CONV] = "convolutions",      [LV_STEP_MATMUL] = "matmuls",
    [LV_STEP_COPY] = "copies",    [LV_STEP_ZERO] = "zeroes",            [LV_STEP_ALL_REDUCE] = "reductions over ranks",
    [LV_STEP_LINEAR_LOSS] = "vocabulary losses",
};

static int by_time(const void *a, const void *b) {
    double x = ((const StepTime *)a)->seconds, y = ((const StepTime *)b)->seconds;
    return (x < y) - (x > y);
}

static double seconds_of(const Profile *p, int step) { return lv_program_step_seconds(p->program, step) / p->runs; }

// The step's part of what the machine does at best, in percent: of its arithmetic or of its memory, whichever is the tighter.
static void print_share(const Profile *p, double flops, double bytes, double seconds, FILE *file) {
    double of_peak = p->peak > 0 ? flops / seconds / p->peak : 0, of_copy = p->copy > 0 ? bytes / seconds / p->copy : 0;
    double share = fmax(of_peak, of_copy);
    if (seconds > 0 && share > 0) fprintf(file, " %5.0f%c", 100 * share, of_peak >= of_copy ? 'f' : 'm');
    else fprintf(file, "      -");
}

static double per_second(double amount, double seconds) { return seconds > 0 ? amount / seconds * 1e-9 : 0; }

void profile_print(const Profile *p, FILE *file) {
    const LvPlan *plan = p->plan;
    StepTime *times = lv_calloc((size_t)plan->step_count + 1, sizeof *times);
    double total = 0, seconds[LV_STEP_KIND_COUNT] = {0}, flops[LV_STEP_KIND_COUNT] = {0}, bytes[LV_STEP_KIND_COUNT] = {0};
    int steps[LV_STEP_KIND_COUNT] = {0};
    for (int s = 0; s < plan->step_count; s++) {
        LvStepKind kind = plan->steps[s].kind;
        times[s] = (StepTime){seconds_of(p, s), s};
        total += times[s].seconds;
        seconds[kind] += times[s].seconds, steps[kind]++;
        flops[kind] += (double)plan->steps[s].flops, bytes[kind] += (double)plan->steps[s].bytes;
    }
    qsort(times, (size_t)plan->step_count, sizeof *times, by_time);
    fprintf(file, "      ms      %%  GFLOP/s     GB/s  of best  step  what\n");
    for (int i = 0; i < plan->step_count; i++) {
        const LvStep *step = &plan->steps[times[i].step];
        double s = times[i].seconds;
        const char *how = lv_program_step_implementation(p->program, times[i].step);
        fprintf(file, "%8.3f %6.2f %8.1f %8.2f ", s * 1e3, total > 0 ? 100 * s / total : 0, per_second((double)step->flops, s),
                per_second((double)step->bytes, s));
        print_share(p, (double)step->flops, (double)step->bytes, s, file);
        fprintf(file, " %6d  %s%s%s%s  %s\n", times[i].step, step->label ? step->label : "", *how ? " [" : "", how, *how ? "]" : "",
                step->sources ? step->sources : "");
    }
    fprintf(file, "\n      ms      %%  GFLOP/s     GB/s  of best  steps\n");
    for (int k = 0; k < LV_STEP_KIND_COUNT; k++) {
        if (!steps[k]) continue;
        fprintf(file, "%8.3f %6.2f %8.1f %8.2f ", seconds[k] * 1e3, total > 0 ? 100 * seconds[k] / total : 0,
                per_second(flops[k], seconds[k]), per_second(bytes[k], seconds[k]));
        print_share(p, flops[k], bytes[k], seconds[k], file);
        fprintf(file, " %6d  %s\n", steps[k], kind_names[k]);
    }
    fprintf(file, "%8.3f %6.2f  in all", total * 1e3, 100.0);
    if (p->peak > 0) fprintf(file, "; at best %.0f GFLOP/s (f)", p->peak * 1e-9);
    if (p->copy > 0) fprintf(file, ", %.1f GB/s read and written (m)", p->copy * 1e-9);
    fprintf(file, "\n");
    free(times);
}

bool profile_write_trace(const Profile *p, const char *path, LvError *error) {
    json_t *events = json_array();
    double at = 0;
    for (int s = 0; s < p->plan->step_count; s++) {
        const LvStep *step = &p->plan->steps[s];
        double seconds = seconds_of(p, s);
        json_array_append_new(
            events, json_pack("{ss, ss, ss, sf, sf, si, si, s{si, ss, ss, sI, sI}}", "name", step->label ? step->label : "", "cat",
                              kind_names[step->kind], "ph", "X", "ts", at * 1e6, "dur", seconds * 1e6, "pid", 1, "tid", 1, "args", "step", s,
                              "how", lv_program_step_implementation(p->program, s), "sources", step->sources ? step->sources : "", "flops",
                              (json_int_t)step->flops, "bytes", (json_int_t)step->bytes));
        at += seconds;
    }
    json_t *trace = json_pack("{so, ss}", "traceEvents", events, "displayTimeUnit", "ms");
    char *text = json_dumps(trace, JSON_REAL_PRECISION(9));
    bool good = text ? lv_file_write(path, text, strlen(text), error) : lv_error_set(error, LV_ERROR_FORMAT, "the trace is no text");
    free(text);
    json_decref(trace);
    return good;
}
