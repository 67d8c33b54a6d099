// The loop: see train.h. A run is a function of its options and the data: everything that a step depends on is in the store,
// in LvRunState, or follows from the step's number; so a checkpoint is all of it.
#include "train/train.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/vec.h"
#include "io/checkpoint.h"
#include "io/curve.h"
#include "train/feed.h"
#include "train/journal.h"
#include "train/restore.h"
#include "train/run.h"
#include "train/validate.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void run_note(Run *run, const char *format, ...) {
    LvText line = {0};
    va_list args;
    va_start(args, format);
    if (run->rank > 0) lv_text_printf(&line, "rank %d: ", run->rank);
    lv_text_vprintf(&line, format, args);
    va_end(args);
    bool told = run->rank > 0 && !strstr(line.data, "warning: ");  // by rank 0, the same
    if (run->view->note && !told) run->view->note(run->view->user, line.data);
    lv_text_free(&line);
}

static bool stop_asked(const Run *run) {
    return run->ranks > 1 ? run->stopping : run->options->stop && *run->options->stop;
}

// Ranks stop at the same step, once one of them was asked to.
static bool look_for_stop(Run *run, LvError *error) {
    int64_t asked = run->options->stop && *run->options->stop;
    if (run->ranks == 1) return true;
    if (!lv_comm_most(run->options->comm, &asked, "stop at this step?", error)) return false;
    run->stopping = asked;
    return true;
}

// ---- one step

// Pictures of an epoch that are used, of all ranks.
static uint64_t limit_of(const Run *run) { return (uint64_t)(run->options->limit_batches * run->options->batch * run->ranks); }

static bool next_batch(Run *run, const LvBatch **batch, LvError *error) {
    LvPosition at = lv_loader_position(run->loader);
    if (run->options->limit_batches > 0 && at.index >= limit_of(run)) {
        lv_loader_seek(run->loader, (LvPosition){at.epoch + 1, 0});
    }
    return lv_loader_next(run->loader, batch, error);
}

// Something is NaN or infinite: which tensor was so first? Variables are read before gradients are made; where results are read late,
// those are of the step after already.
static bool report_bad(Run *run, int64_t step, const char *result, const char *wrong, LvError *error) {
    int64_t at = 0;
    const char *bad = lv_store_find_bad(run->store, &at), *what = "", *name = result;
    LvText gradient = {0};
    for (int i = 0; !bad && i < run->plan->variable_count && !gradient.length; i++) {
        const LvVariable *v = &run->plan->variables[i];
        size_t bytes;
        if (v->gradient.offset < 0 || !lv_shape_bytes(v->shape, v->dtype, &bytes)) continue;
        float *data = lv_malloc(bytes + 1);
        if (lv_program_get_gradient(run->program, i, data, bytes, error)) {
            for (int64_t k = 0; k < lv_shape_elements(v->shape) && !gradient.length; k++) {
                if (!isfinite(data[k])) lv_text_printf(&gradient, "%s", v->name), at = k;
            }
        }
        free(data);
    }
    if (bad) name = bad;
    else if (gradient.length) what = "the gradient of ", name = gradient.data;
    lv_error_clear(error);
    lv_error_set(error, LV_ERROR_NUMERIC, "step %" PRId64 ": %s %s; first bad tensor: %s'%s'[%" PRId64 "]", step, result, wrong, what,
                 name, at);
    lv_error_hint(error, "the last checkpoint is from before; %sa smaller learning rate (--lr) or --clip 1 may help",
                  strcmp(run->plan->precision, "f16") ? "" : "--precision bf16 has f32's range, f16 ends at 65504; ");
    lv_text_free(&gradient);
    return false;
}

static bool check_results(Run *run, int64_t step, LvError *error) {
    for (int i = 0; i < run->plan->result_count; i++) {
        double x = run->results[i];
        if (!isfinite(x)) return report_bad(run, step, run->plan->results[i].name, isnan(x) ? "is NaN" : "is infinite", error);
    }
    return true;
}

static double result_of(const Run *run, const char *name) {
    for (int i = 0; i < run->plan->result_count; i++) {
        if (!strcmp(run->plan->results[i].name, name)) return run->results[i];
    }
    return NAN;
}

// Gradients that are not finite are what the scale is for, until it is so small that it is not to blame.
static bool check_scale(Run *run, int64_t step, LvError *error) {
    double scale = result_of(run, LV_VARIABLE_LOSS_SCALE), skipped = result_of(run, LV_VARIABLE_SKIPPED_STEPS);
    if (isnan(scale)) return true;
    bool halved = (int64_t)skipped > run->skipped;
    run->skipped = (int64_t)skipped;
    if (!halved || scale / 2 >= LV_LOSS_SCALE_LEAST) return true;
    return report_bad(run, step, "the loss's scale", "falls under 1, and gradients are infinite or NaN still", error);
}

static bool log_step(Run *run, const QueuedStep *step, double seconds, LvError *error);

// A result for the trainer, which no entry names.
static bool is_own(const LvPort *result) { return result->name[0] == '$'; }

// The results of the oldest run that is unread; with the last run of its step that is checked and logged. After a failure nothing more is
// read.
static bool receive(Run *run, LvError *error) {
    QueuedStep *step = &run->queued[run->first];
    int results = run->plan->result_count;
    bool good = lv_program_receive(run->program, run->received, error);
    if (step->runs == run->options->accumulate) memset(run->results, 0, (size_t)results * sizeof *run->results);
    for (int i = 0; i < results; i++) {
        if (is_own(&run->plan->results[i])) run->results[i] = run->received[i];
        else run->results[i] += 1.0 / (double)run->options->accumulate * run->received[i];
    }
    run->unread--;
    if (good && --step->runs == 0) {
        double before = fmax(step->start, run->ended);
        run->ended = now();
        good = check_results(run, step->step, error) && check_scale(run, step->step, error) &&
               log_step(run, step, run->ended - before, error);
        run->first = (run->first + 1) % (LV_RESULTS_LATE + 1), run->count--;
    }
    if (!good) run->unread = 0;
    return good;
}

// All steps that are queued are done and logged.
static bool settle(Run *run, LvError *error) {
    while (run->unread > 0)
        if (!receive(run, error)) return false;
    return true;
}

static bool queue_run(Run *run, int32_t part, const LvBatch *batch, LvError *error) {
    if (!lv_program_set_input(run->program, "$part", &part, sizeof part, error) || !lv_feed_batch(&run->feed, run->program, batch, error) ||
        !lv_program_run(run->program, error) || !lv_program_post(run->program, error))
        return false;
    run->unread++;
    while (run->unread > run->lag)
        if (!receive(run, error)) return false;
    return true;
}

// Ranks draw different numbers: each stands for pictures of its own.
static int64_t seed_of(const Run *run) { return (int64_t)((uint64_t)run->options->seed + (uint64_t)run->rank * 0x9e3779b97f4a7c15u); }

// Queues a step, and reads the results of those before it that may be unread no longer.
static bool run_step(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    int32_t step = (int32_t)(run->state.step + 1);
    float clip = (float)o->clip;
    QueuedStep *queued = &run->queued[(run->first + run->count++) % (LV_RESULTS_LATE + 1)];
    *queued = (QueuedStep){.step = step, .rate = lv_rate_at(&run->rule, &run->state.plateau, step), .start = now(), .runs = o->accumulate};
    if (!lv_feed_scalars(run->program, seed_of(run), step, (float)queued->rate, error) ||
        !lv_program_set_input(run->program, "$clip", &clip, sizeof clip, error)) {
        return false;
    }
    for (int32_t part = 0; part < o->accumulate; part++) {
        const LvBatch *batch;
        if (!next_batch(run, &batch, error)) return false;
        run->epoch = queued->epoch = batch->at.epoch;
        if (!queue_run(run, part, batch, error)) return false;
        run->state.position = batch->after;
        run->epoch_ended = batch->after.epoch > batch->at.epoch ||
                           (o->limit_batches > 0 && batch->after.index >= limit_of(run));
    }
    run->state.step = step;
    return true;
}

// ---- what a step leaves behind

static double loss_of(const Run *run) {
    double loss = result_of(run, "loss");
    return isnan(loss) && run->plan->result_count ? run->results[0] : loss;
}

static bool log_step(Run *run, const QueuedStep *step, double seconds, LvError *error) {
    if (run->rank > 0) return true;
    int64_t positions = lv_feed_positions(&run->feed), each = positions > 0 ? positions : 1;
    double all = (double)(run->options->batch * run->options->accumulate * run->ranks * each), items = all / fmax(seconds, 1e-9);
    double share = run->options->peak > 0 ? run->flops / fmax(seconds, 1e-9) / run->options->peak : NAN;
    run->speed = run->speed > 0 ? 0.95 * run->speed + 0.05 * items : items;
    lv_journal_begin(run->journal, "train", step->step);
    lv_journal_integer(run->journal, "epoch", (int64_t)step->epoch);
    for (int i = 0; i < run->plan->result_count; i++) {
        if (lv_shape_elements(run->plan->results[i].shape) == 1 && !is_own(&run->plan->results[i])) {
            lv_journal_number(run->journal, run->plan->results[i].name, run->results[i]);
        }
    }
    lv_journal_number(run->journal, "lr", step->rate);
    double scale = result_of(run, LV_VARIABLE_LOSS_SCALE);
    if (!isnan(scale)) {
        lv_journal_number(run->journal, "loss_scale", scale);
        lv_journal_integer(run->journal, "skipped_steps", run->skipped);
    }
    lv_journal_number(run->journal, positions > 0 ? "tokens_per_s" : "images_per_s", items);
    if (!isnan(share)) lv_journal_number(run->journal, "peak_share", share);
    if (!lv_journal_end(run->journal, error)) return false;
    if (!run->view->progress) return true;
    double left = (double)(run->steps - step->step) * all / run->speed;
    LvProgress progress = {.step = step->step, .steps = run->steps, .epoch = step->epoch, .loss = loss_of(run), .rate = step->rate,
                           .items_per_second = run->speed, .items = positions > 0 ? "tokens" : "pictures", .peak_share = share,
                           .seconds_left = left, .psnr = run->psnr, .val_loss = run->val_loss, .bytes = run->bytes};
    run->view->progress(run->view->user, &progress);
    return true;
}

static bool save_sheet(Run *run, LvError *error) {
    const LvSheet *sheet = lv_validator_sheet(run->validator);
    LvPicture picture = {0};
    if (!sheet || !run->options->images) return true;
    LvText path = {0};
    lv_text_printf(&path, "%s/images/step-%06" PRId64 ".png", run->options->out, run->state.step);
    bool good = lv_sheet_draw(sheet, &picture, error) && lv_picture_save_png(&picture, path.data, error) &&
                lv_journal_picture(run->journal, "val/pictures", run->state.step, &picture, error);
    lv_picture_free(&picture);
    lv_text_free(&path);
    return good;
}

static bool journal_file(Run *run, const char *path, LvError *error) {
    LvPicture picture = {0};
    char *bytes;
    size_t length;
    if (!run->options->tensorboard) return true;
    if (!lv_file_read(path, LV_PICTURE_MAX_FILE, &bytes, &length, error)) return false;
    bool good = lv_picture_decode(&picture, bytes, length, error) &&
                lv_journal_picture(run->journal, "val/samples", run->state.step, &picture, error);
    lv_picture_free(&picture);
    free(bytes);
    return good;
}

static bool log_samples(Run *run, LvError *error) {
    LvText path = {0};
    bool good = true;
    for (int i = 0; good && i < lv_samples_count(run->samples); i++) {
        LvSample sample = lv_samples_at(run->samples, i);
        lv_journal_begin(run->journal, "val", run->state.step);
        lv_journal_text(run->journal, "picture", sample.name);
        lv_journal_text(run->journal, "caption", sample.given);
        lv_journal_text(run->journal, "written", sample.written);
        good = lv_journal_end(run->journal, error);
    }
    lv_text_printf(&path, "%s/images/step-%06" PRId64 "-samples.png", run->options->out, run->state.step);
    good = good && lv_samples_save(run->samples, path.data, error) && journal_file(run, path.data, error);
    lv_text_free(&path);
    return good;
}

// For the eye alone: what goes wrong with it does not end a run.
static bool show_samples(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    LvNetwork network = {run->device, run->store, *run->source};
    LvError wrong = {0};
    bool able = o->samples > 0 && o->sources && o->sources->tokenizer && o->sources->coder && !run->no_samples;
    if (!able) return true;
    bool good = (run->samples || lv_samples_create(o->val_data, o->samples, o->seed, o->sources, &run->samples, &wrong)) &&
                lv_samples_take(run->samples, &network, &able, &wrong);
    if (!good) run_note(run, "warning: no samples: %s", wrong.message);
    lv_error_clear(&wrong);
    run->no_samples = !good || !able;
    return run->no_samples || log_samples(run, error);
}

static bool log_validation(Run *run, double seconds, LvError *error) {
    const LvScore *scores;
    int count = lv_validator_scores(run->validator, &scores);
    LvText line = {0};
    lv_journal_begin(run->journal, "val", run->state.step);
    lv_journal_integer(run->journal, "epoch", (int64_t)run->epoch);
    for (int i = 0; i < count; i++) {
        lv_journal_number(run->journal, scores[i].name, scores[i].value);
        lv_text_printf(&line, "  %s %.5g", scores[i].name, scores[i].value);
    }
    run_note(run, "step %" PRId64 ":%s  (%.1f s)", run->state.step, lv_text_get(&line), seconds);
    lv_text_free(&line);
    return lv_journal_end(run->journal, error);
}

// Opened at the first validation: training starts without waiting for kernels that it does not need yet.
static bool open_validator(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    LvCodesOptions codes = run_codes_options(run);
    LvValidatorOptions options = {.data = o->val_data, .batch = o->batch, .limit = o->val_limit, .workers = o->workers, .comm = o->comm, .seed = o->seed,
                                  .sources = o->sources, .codes = o->codes_folder ? &codes : NULL};
    return run->validator || lv_validator_create(run->device, run->store, run->source, &options, &run->validator, error);
}

// All ranks see their part of the pictures and have the scores of all; rank 0 shows them.
static bool validate(Run *run, bool *best, LvError *error) {
    double start = now();
    if (!open_validator(run, error) || !lv_validator_run(run->validator, run->options->stop, error)) return false;
    double loss = lv_validator_score(run->validator, "val_loss");
    run->val_loss = loss;
    run->psnr = lv_validator_score(run->validator, "val_psnr");
    double rank = isfinite(loss) ? loss : -run->psnr;
    lv_plateau_observe(&run->state.plateau, run->rule.peak, rank);
    *best = isnan(run->state.best_loss) || rank < run->state.best_loss;
    if (*best) run->state.best_loss = rank, run->state.best_step = run->state.step;
    bool shown = run->rank > 0 || (log_validation(run, now() - start, error) && save_sheet(run, error) && show_samples(run, error));
    return lv_comm_agree_in(run->options->comm, shown, "a validation's end", error);
}

// step-N first, then the names `last` and, if it is so, `best` for the same file: at any moment all names are whole files.
static bool save_first(Run *run, bool best, LvError *error) {
    const LvTrainOptions *o = run->options;
    LvText file = {0}, last = {0}, best_name = {0};
    lv_text_printf(&file, "%s/checkpoints/step-%" PRId64 ".safetensors", o->out, run->state.step);
    lv_text_printf(&last, "%s/checkpoints/last.safetensors", o->out);
    lv_text_printf(&best_name, "%s/checkpoints/best.safetensors", o->out);
    bool good = lv_loss_scale_read(run->store, &run->state.scaling, error) &&
                lv_run_save(run->store, &run->state, o->model, o->carried, file.data, error) &&
                (!best || lv_checkpoint_link(file.data, best_name.data, error)) &&
                lv_checkpoint_link(file.data, last.data, error);
    if (!good && error->kind == LV_ERROR_IO)
        lv_error_hint(error, "make room; earlier checkpoints are whole, and the same command goes on from them");
    if (good) {
        LvText folder = {0};
        lv_text_printf(&folder, "%s/checkpoints", o->out);
        lv_checkpoint_prune(folder.data, o->keep);
        lv_text_free(&folder);
    }
    lv_text_free(&file);
    lv_text_free(&last);
    lv_text_free(&best_name);
    return good;
}

static bool save(Run *run, bool best, LvError *error) {
    bool good = lv_comm_agree_in(run->options->comm, run->rank > 0 || save_first(run, best, error), "a checkpoint", error);
    if (good) run->saved = run->state.step;
    return good;
}

static bool due(int64_t every, const Run *run) {
    return every > 0 ? run->state.step % every == 0 : run->epoch_ended;
}

static bool finish_step(Run *run, LvError *error) {
    bool last = run->state.step >= run->steps, best = false, resumed = run->saved == run->state.step;
    bool saves = last || resumed || due(run->options->save_every, run);
    if ((run->state.pending || saves) && !settle(run, error)) return false;
    if (run->state.pending && !stop_asked(run)) {
        if (validate(run, &best, error)) run->state.pending = false;
        else if (error->kind != LV_ERROR_INTERRUPTED) return false;
        lv_error_clear(error);
    }
    if (run->state.pending) return true;  // asked to stop: saved as it is, and validated first when the run goes on
    return !(best || saves) || save(run, best, error);
}

// The updates after the first one that this process makes are timed step by step, as many as are asked for.
static void profile_step(Run *run, int64_t done) {
    int64_t wanted = run->options->profile;
    if (done == 1 && wanted > 0) lv_program_profile(run->program, true);
    if (done != wanted + 1 || wanted == 0) return;
    lv_program_profile(run->program, false);
    run->view->profiled(run->view->user, run->plan, run->program, (int)(wanted * run->options->accumulate));
}

// A step could not be queued: those before it are logged all the same, and what is wrong with them came first.
static bool settle_after(Run *run, LvError *error) {
    LvError earlier = {0};
    if (settle(run, &earlier)) return false;
    lv_error_clear(error);
    *error = earlier;
    return false;
}

static void note_device(Run *run) {
    char *note = lv_device_note(run->device);
    if (note) run_note(run, "note: %s", note);
    free(note);
}

static bool loop(Run *run, LvError *error) {
    if (run->state.pending && !finish_step(run, error)) return false;
    int64_t first = run->state.step;
    while (look_for_stop(run, error) && run->state.step < run->steps && !stop_asked(run)) {
        if (!run_step(run, error)) return settle_after(run, error);
        note_device(run);
        profile_step(run, run->state.step - first);
        run->state.pending = run->options->val_data && (due(run->options->val_every, run) || run->state.step >= run->steps);
        if (!finish_step(run, error)) return false;
    }
    return error->kind == LV_OK && settle(run, error);
}

// ---- a whole run

static void draw_curve(Run *run) {
    LvText log = {0}, path = {0};
    LvError error = {0};
    lv_text_printf(&log, "%s/log.jsonl", run->options->out);
    lv_text_printf(&path, "%s/curve.png", run->options->out);
    if (!lv_curve_draw_log(log.data, run->options->title, path.data, &error))
        run_note(run, "warning: no curve: %s", error.message);
    lv_error_clear(&error);
    lv_text_free(&log);
    lv_text_free(&path);
}

static bool work(Run *run, LvTrainSummary *summary, LvError *error) {
    double start = now();
    if (!run_open(run, error)) {
        summary->stopped = error->kind == LV_ERROR_INTERRUPTED;
        if (!summary->stopped) return false;
        run_note(run, "%s", error->message);
        lv_error_clear(error);
        return true;
    }
    summary->first_step = run->state.step;
    int64_t skipped = run->state.scaling.skipped;
    summary->was_done = run->state.step >= run->steps && !run->state.pending;
    bool good = summary->was_done || loop(run, error);
    if (good && stop_asked(run) && (run->state.step < run->steps || run->state.pending)) {
        summary->stopped = true;
        good = run->saved == run->state.step || save(run, false, error);
    }
    if (good && !summary->was_done && run->rank == 0) draw_curve(run);
    summary->step = run->state.step;
    summary->seconds = now() - start;
    summary->loss = summary->was_done ? NAN : loss_of(run);
    summary->psnr = run->psnr;
    summary->best_loss = run->state.best_loss;
    summary->best_step = run->state.best_step;
    summary->val_loss = run->val_loss;
    summary->broken = run->loader ? lv_loader_broken(run->loader) : 0;
    summary->skipped = run->skipped - skipped;
    summary->loss_scale = run->state.scaling.scale;
    summary->uncaptioned = run->loader ? lv_loader_uncaptioned(run->loader) : 0;
    return good;
}

bool lv_train(LvDevice *device, const LvPlanSource *source, const LvTrainOptions *options, const LvTrainView *view,
              LvTrainSummary *summary, LvError *error) {
    Run run = {.device = device, .source = source, .options = options, .view = view, .psnr = NAN, .val_loss = NAN, .saved = -1};
    *summary = (LvTrainSummary){.psnr = NAN, .val_loss = NAN, .best_loss = NAN, .loss = NAN};
    run.ranks = lv_comm_size(options->comm);
    run.rank = lv_comm_rank(options->comm);
    bool good = work(&run, summary, error);
    // numbers are means over ranks: bad ones are seen by all, at the same step
    if (!good && run.rank > 0 && error->kind == LV_ERROR_NUMERIC) error->kind = LV_ERROR_ELSEWHERE;
    run_close(&run);
    return good;
}
