// Progress: see view.h.
#include "view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "peak.h"
#include "profile.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void note(void *user, const char *line) {
    View *view = user;
    if (view->open) printf("\r\033[K");
    view->open = false;
    printf("%s\n", line);
    fflush(stdout);
}

static void print_time(LvText *out, double seconds) {
    long s = isfinite(seconds) && seconds < 1e9 ? lround(seconds) : 0;
    if (s >= 3600) lv_text_printf(out, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else lv_text_printf(out, "%ld:%02ld", s / 60, s % 60);
}

// On a terminal ten times a second; elsewhere the first step, the last, and a line each ten seconds.
static void progress(void *user, const LvProgress *p) {
    View *view = user;
    double at = now();
    bool edge = p->step == 1 || p->step == p->steps;
    if (!edge && at - view->shown < (view->terminal ? 0.1 : 10)) return;
    view->shown = at;
    LvText line = {0};
    lv_text_printf(&line, "step %lld/%lld  epoch %llu  loss %.5g  lr %.3g  %.*f %s/s", (long long)p->step, (long long)p->steps,
                   (unsigned long long)p->epoch, p->loss, p->rate, p->items_per_second < 1000, p->items_per_second, p->items);
    if (!isnan(p->peak_share)) lv_text_printf(&line, "  %.0f%% of peak", 100 * p->peak_share);
    if (!isnan(p->psnr)) lv_text_printf(&line, "  val_psnr %.2f", p->psnr);
    else if (!isnan(p->val_loss)) lv_text_printf(&line, "  val_loss %.4g", p->val_loss);
    lv_text_printf(&line, "  %.0f MB  ", (double)p->bytes / 1e6);
    print_time(&line, p->seconds_left);
    lv_text_puts(&line, " left");
    if (view->terminal) printf("\r\033[K%s", line.data);
    else printf("%s\n", line.data);
    view->open = view->terminal;
    fflush(stdout);
    lv_text_free(&line);
}

static void encoded(void *user, int64_t done, int64_t all) {
    View *view = user;
    double at = now();
    if (done == all && view->open) printf("\r\033[K");
    if (done == all) view->open = false;
    if (view->shown == 0) view->shown = at;
    if (done == all || at - view->shown < (view->terminal ? 0.1 : 10)) return;
    view->shown = at;
    printf(view->terminal ? "\r\033[Kencoded %lld/%lld pictures" : "encoded %lld/%lld pictures\n", (long long)done, (long long)all);
    view->open = view->terminal;
    fflush(stdout);
}

static void profiled(void *user, const LvPlan *plan, const LvProgram *program, int runs) {
    View *view = user;
    LvDType dtype = LV_F32;
    if (plan->precision) lv_dtype_parse(plan->precision, &dtype);
    Profile profile = {.plan = plan, .program = program, .runs = runs, .copy = peak_copy(view->device)};
    profile.peak = peak_of(view->device, dtype);
    if (view->open) printf("\n");
    view->open = false;
    fflush(stdout);
    profile_print(&profile, stderr);
}

// Of ranks it is what started them that knows.
static bool is_terminal(void) {
    const char *known = getenv("LV_TERMINAL");
    return lv_comm_launched() > 1 ? known && !strcmp(known, "1") : isatty(1);
}

LvTrainView view_open(View *view, LvDevice *device) {
    *view = (View){.terminal = is_terminal(), .device = device};
    return (LvTrainView){view, note, progress, encoded, profiled};
}

void view_close(View *view) {
    if (view->open) printf("\n");
    view->open = false;
    fflush(stdout);
}
