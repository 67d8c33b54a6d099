// Opening a run: see run.h.
#include "train/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/folder.h"
#include "base/plan_file.h"
#include "base/vec.h"
#include "exec/weights.h"
#include "io/checkpoint.h"

static bool run_agree(const Run *run, bool good, LvError *error) { return lv_comm_agree(run->options->comm, good, error); }

// ---- the folder

// Only names that a run makes are removed: the user may have named a folder with other things in it.
static void clear_folder(const char *folder, bool (*ours)(const char *name)) {
    DIR *dir = opendir(folder);
    struct dirent *entry;
    LvText path = {0};
    while (dir && (entry = readdir(dir))) {
        if (!ours(entry->d_name)) continue;
        path.length = 0;
        lv_text_printf(&path, "%s/%s", folder, entry->d_name);
        unlink(path.data);
    }
    if (dir) closedir(dir);
    lv_text_free(&path);
}

static bool starts(const char *name, const char *with) {
    return !strncmp(name, with, strlen(with));
}

static bool our_checkpoint(const char *name) {
    return strstr(name, ".safetensors") && (starts(name, "step-") || starts(name, "last.") || starts(name, "best."));
}

static bool our_picture(const char *name) {
    return starts(name, "step-") && strstr(name, ".png");
}

static bool our_file(const char *name) {
    return starts(name, "log.jsonl") || starts(name, "events.out.tfevents.") || starts(name, "curve.png");
}

// One run a folder. A run that was just killed may hold the lock for a moment more: it is waited for.
static bool lock_folder(Run *run, const char *path, LvError *error) {
    run->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int tries = 0; run->lock >= 0 && flock(run->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; tries++) {
        if (tries == 60) {
            lv_error_set(error, LV_ERROR_IO, "another run is at work in '%s'", run->options->out);
            return lv_error_hint(error, "wait for it, or name another folder by --out");
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return true;
}

// What a killed run was writing: NAME.tmp.PID, NAME.png.tmp.
static bool our_temporary(const char *name) {
    const char *at = strstr(name, ".tmp");
    if (!at) return false;
    bool whole = !at[4] && at - name >= 4 && !memcmp(at - 4, ".png", 4);
    return whole || (at[4] == '.' && at[5] && strspn(at + 5, "0123456789") == strlen(at + 5));
}

static bool open_folder(Run *run, LvError *error) {
    static const char *const parts[] = {"", "/checkpoints", "/images"};
    static bool (*const ours[])(const char *) = {our_file, our_checkpoint, our_picture};
    LvText path = {0};
    bool good = true;
    run->new_folder = access(run->options->out, F_OK) != 0;
    for (int i = 0; good && i < 3; i++) {
        path.length = 0;
        lv_text_printf(&path, "%s%s", run->options->out, parts[i]);
        good = lv_folder_make(path.data, error);
        if (good && i == 0) {
            good = lock_folder(run, path.data, error);
        }
        if (good) clear_folder(path.data, our_temporary);
        if (good && run->options->fresh) clear_folder(path.data, ours[i]);
    }
    lv_text_free(&path);
    return good;
}

// A run that could not begin leaves no empty folder behind.
static void leave_folder(const Run *run) {
    static const char *const parts[] = {"/checkpoints", "/images", ""};
    LvText path = {0};
    for (int i = 0; run->new_folder && i < 3; i++) {
        path.length = 0;
        lv_text_printf(&path, "%s%s", run->options->out, parts[i]);
        rmdir(path.data);
    }
    lv_text_free(&path);
}

// ---- data

static void on_broken(void *user, const char *name, const char *message) {
    Run *run = user;
    run_note(run, "warning: picture '%s' is passed over: %s", name, message);
}

static void on_note(void *user, const char *line) {
    run_note(user, "%s", line);
}

static void on_encoded(void *user, int64_t done, int64_t all) {
    const Run *run = user;
    if (run->view->encoded) run->view->encoded(run->view->user, done, all);
}

LvCodesOptions run_codes_options(Run *run) {
    const LvTrainOptions *o = run->options;
    return (LvCodesOptions){.folder = o->codes_folder, .vocabulary = o->sources ? o->sources->code_vocabulary : 0, .workers = o->workers,
                            .seed = (uint64_t)o->seed, .scale_min = o->scale_min, .flip = o->flip, .stop = o->stop, .user = run,
                            .note = on_note, .progress = on_encoded, .broken = on_broken};
}

// Before anything is made or compiled: what is wrong with the data is said at once, and leaves nothing behind.
static bool open_data(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    if (!lv_feed_open_data(&run->data, o->train_data, o->sources, NULL, error)) return false;
    for (size_t i = 0; run->rank == 0 && i < lv_dataset_warnings(run->data) && i < 5; i++)
        run_note(run, "warning: %s", lv_dataset_warning(run->data, i));
    size_t count = lv_dataset_count(run->data);
    if ((int64_t)count < o->batch * run->ranks) {
        lv_error_set(error, LV_ERROR_USAGE, "%s: %zu %s are less than a batch of %" PRId64, o->train_data, count, lv_dataset_unit(run->data),
                     o->batch * run->ranks);
        return (int64_t)count < run->ranks ? false : lv_error_hint(error, "--batch-size %zu", count / (size_t)run->ranks);
    }
    if (o->val_data && run->rank == 0) {  // found wanting now rather than after an hour
        LvDataset *validation = NULL;
        if (!lv_feed_open_data(&validation, o->val_data, o->sources, NULL, error)) return false;
        lv_dataset_close(validation);
    }
    return true;
}

static bool open_codes(void *user, LvError *error) {
    Run *run = user;
    LvCodesOptions codes = run_codes_options(run);
    codes.variants = run->options->codes_variants;
    bool good = lv_codes_open(run->data, run->options->sources->coder, &codes, &run->codes, error);
    run->feed.known = run->codes;
    return good;
}

// Also encodes the pictures, where that is done once: the last thing before the first step, as it may take hours.
static bool open_loader(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    LvLoaderOptions loader = lv_loader_options_training();
    if (run->feed.codes && o->codes_folder && !lv_comm_take_turns(o->comm, run->rank == 0, open_codes, run, error)) return false;
    lv_feed_loader(&run->feed, &loader);
    loader.crop = o->crop;
    loader.flip = o->flip;
    loader.scale_min = o->scale_min;
    loader.seed = (uint64_t)o->seed;
    loader.rank = run->rank;
    loader.world = run->ranks;
    loader.workers = o->workers;
    loader.broken = on_broken;
    loader.broken_user = run;
    if (!lv_loader_create(&run->loader, run->data, &loader, error)) return false;
    lv_loader_seek(run->loader, run->state.position);
    return true;
}

// How far the run goes, and its rates.
static bool plan_steps(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    int64_t batches = (int64_t)lv_dataset_count(run->data) / (o->batch * run->ranks);
    if (o->limit_batches > 0 && o->limit_batches < batches) batches = o->limit_batches;
    int64_t by_epochs = o->epochs > 0 ? o->epochs * batches / o->accumulate : INT64_MAX;
    run->steps = o->steps > 0 && o->steps < by_epochs ? o->steps : by_epochs;
    if (run->steps < 1 || run->steps > INT32_MAX) {
        return lv_error_set(error, LV_ERROR_USAGE, "a run of %" PRId64 " steps",
                            run->steps == INT64_MAX ? (int64_t)0 : run->steps);
    }
    run->rule = (LvRateRule){o->schedule, o->rate, o->warmup, run->steps};
    return true;
}

// ---- variables

static bool run_init(Run *run, LvError *error) {
    LvPlan *plan = NULL;
    LvProgram *program = NULL;
    bool good = run->source->plan(run->source->user, "init", 1, &plan, error);
    if (good && !plan) good = lv_error_set(error, LV_ERROR_FORMAT, "the model has no entry 'init'");
    good = good && lv_program_create(run->device, plan, run->store, &program, error) &&
           lv_feed_scalars(program, run->options->seed, 0, 0, error) && lv_program_run(program, error);
    lv_program_destroy(program);
    lv_plan_destroy(plan);
    return good;
}

// Weights that nothing trains are worth nothing at their initial values: a loss network that is noise.
static bool check_frozen(const Run *run, const bool *taken, LvError *error) {
    for (int i = 0; i < lv_store_count(run->store); i++) {
        const LvVariable *v = lv_store_variable(run->store, i);
        if (v->kind != LV_VARIABLE_FROZEN || v->place.offset < 0 || taken[i]) continue;
        const char *dot = strchr(v->name, '.');
        lv_error_set(error, LV_ERROR_USAGE, "'%s' is frozen, so its weights must come from a file", v->name);
        return lv_error_hint(error, "--init %.*s=FILE takes the tensors of FILE for names that begin with '%.*s.'",
                             dot ? (int)(dot - v->name) : 0, v->name, dot ? (int)(dot - v->name) : 0, v->name);
    }
    return true;
}

// Takes the tensors of all --init files. Done before the initial values are made, so that files that do not fit are told
// of at once, and again after it.
static bool take_files(Run *run, bool tell, LvError *error) {
    const LvTrainOptions *o = run->options;
    bool *taken = lv_calloc((size_t)lv_store_count(run->store) + 1, sizeof *taken), good = true;
    for (int i = 0; good && i < o->init_count; i++) {
        LvTensorFile *file = NULL;
        LvText report = {0};
        good = lv_checkpoint_read(o->init[i].path, true, &file, error) &&
               (lv_weights_take(run->store, file, o->init[i].prefix, taken, &report, error) ||
                lv_error_prefix(error, "%s", o->init[i].path));
        if (good && tell) run_note(run, "%s: %s", o->init[i].path, report.data);
        lv_text_free(&report);
        lv_safetensors_free(file);
    }
    good = good && check_frozen(run, taken, error);
    free(taken);
    return good;
}

static bool start_anew(Run *run, LvError *error) {
    const LvTrainOptions *o = run->options;
    run->state = (LvRunState){
        .seed = o->seed, .data = lv_dataset_fingerprint(run->data), .plateau = lv_plateau_start(), .best_loss = NAN};
    return take_files(run, true, error) && run_init(run, error) && (o->init_count == 0 || take_files(run, false, error));
}

// A run that went on with another tokenizer or other codes would learn nothing but noise.
static bool same_companions(const Run *run, const LvTensorFile *file, LvError *error) {
    const LvCarried *c = run->options->carried;
    const char *other = NULL;
    for (int i = 0; c && !other && i < c->metadata_count; i++) {
        const char *had = lv_safetensors_metadata(file, c->metadata[i].key);
        if (!had || strcmp(had, c->metadata[i].value)) other = c->metadata[i].key;
    }
    for (int i = 0; c && !other && i < c->tensor_count; i++) {
        const LvTensor *had = lv_safetensors_find(file, c->tensors[i].name);
        if (!had || had->bytes != c->tensors[i].bytes || memcmp(had->data, c->tensors[i].data, had->bytes)) other = c->tensors[i].name;
    }
    if (!other) return true;
    bool text = !strcmp(other, LV_CHECKPOINT_TOKENIZER);
    lv_error_set(error, LV_ERROR_USAGE, "the run in '%s' began with another %s", run->options->out,
                 text ? "tokenizer" : "picture tokenizer");
    return lv_error_hint(error, "name the one it began with by --%s, another folder by --out, or start anew by --fresh",
                         text ? "tokenizer" : "vae");
}

static bool go_on(Run *run, const LvTensorFile *file, const char *path, LvError *error) {
    const LvTrainOptions *o = run->options;
    if (!lv_run_restore(run->store, file, &run->state, error)) {
        lv_error_prefix(error, "%s", path);
        return false;
    }
    if (run->state.seed != o->seed) {
        lv_error_set(error, LV_ERROR_USAGE, "the run in '%s' has seed %" PRId64 ", not %" PRId64, o->out, run->state.seed,
                     o->seed);
        return lv_error_hint(error, "--seed %" PRId64 " goes on with it, --fresh starts it anew, --out names another folder",
                             run->state.seed);
    }
    if (run->state.data != lv_dataset_fingerprint(run->data)) {
        run_note(run, "warning: the %s of '%s' are not those that the run began with", lv_dataset_unit(run->data), o->train_data);
        run->state.data = lv_dataset_fingerprint(run->data);
    }
    if (!same_companions(run, file, error)) return false;
    const char *model = lv_safetensors_metadata(file, "lverse.model");
    if (model && o->model && strcmp(model, o->model))
        run_note(run, "note: the model's source or settings were changed since step %" PRId64, run->state.step);
    run_note(run, "going on from step %" PRId64 " (%s)", run->state.step, path);
    run->saved = run->state.step;
    return true;
}

static bool open_first_variables(Run *run, LvError *error) {
    LvText folder = {0}, path = {0}, refused = {0};
    LvTensorFile *file = NULL;
    lv_text_printf(&folder, "%s/checkpoints", run->options->out);
    bool good = lv_checkpoint_find(folder.data, &file, &path, &refused, error);
    if (good && refused.length) {
        refused.data[strcspn(refused.data, "\n")] = 0;
        run_note(run, "warning: %s; the one before it is used", refused.data);
    }
    good = good && (file ? go_on(run, file, path.data, error) : start_anew(run, error));
    if (run->state.scaling.scale <= 0) run->state.scaling.scale = run->options->loss_scale;
    good = good && lv_loss_scale_write(run->store, &run->state.scaling, error) &&
           lv_loss_scale_read(run->store, &run->state.scaling, error);
    lv_safetensors_free(file);
    lv_text_free(&folder);
    lv_text_free(&path);
    lv_text_free(&refused);
    return good;
}

// All ranks begin as rank 0 does.
static bool open_variables(Run *run, LvError *error) {
    LvComm *comm = run->options->comm;
    bool good = run_agree(run, run->rank > 0 || open_first_variables(run, error), error) &&
                lv_comm_share(comm, &run->state, sizeof run->state, error) && lv_comm_share(comm, &run->saved, sizeof run->saved, error) &&
                lv_store_share(run->store, error);
    run->skipped = run->state.scaling.skipped;
    return good;
}

// ---- all together

static void print_bytes(LvText *out, const char *what, int64_t bytes) {
    lv_text_printf(out, "%s ", what);
    lv_text_print_bytes(out, bytes);
}

static void tell_memory(Run *run) {
    const LvPlan *p = run->plan;
    LvText line = {0};
    int64_t parameters = 0;
    for (int i = 0; i < p->variable_count; i++) {
        if (p->variables[i].kind == LV_VARIABLE_PARAM) parameters += lv_shape_elements(p->variables[i].shape);
    }
    LvWorkspace workspace = lv_device_workspace(run->device, p);
    int64_t own = lv_memory_use(run->device).own_bytes;  // the library's code too, which has just told
    run->workspace = (int64_t)workspace.bytes;
    lv_text_printf(&line, "%s: %" PRId64 " parameters; training takes", p->model, parameters);
    print_bytes(&line, "", lv_plan_bytes(p) + run->workspace);
    print_bytes(&line, ": weights", p->arena_bytes[LV_ARENA_PARAMS] + p->arena_bytes[LV_ARENA_STATE]);
    print_bytes(&line, ", moments", p->arena_bytes[LV_ARENA_MOMENTS]);
    if (p->arena_bytes[LV_ARENA_GRADIENTS]) print_bytes(&line, ", gradients", p->arena_bytes[LV_ARENA_GRADIENTS]);
    print_bytes(&line, ", activations", p->arena_bytes[LV_ARENA_ACTIVATIONS]);
    print_bytes(&line, ", workspace", run->workspace);
    if (workspace.unmeasured) {
        lv_text_printf(&line, " (%d convolutions are not measured yet: counted as direct)", workspace.unmeasured);
    }
    print_bytes(&line, "; beside it the program itself", own);
    if (run->feed.codes) print_bytes(&line, ", the picture tokenizer", lv_coder_bytes(run->options->sources->coder));
    run_note(run, "%s", line.data);
    lv_text_free(&line);
}

// What it comes to, now that algorithms are chosen and kernels loaded.
static void tell_ready(Run *run) {
    LvText line = {0};
    LvProgramInfo info = lv_program_info(run->program);
    LvMemoryUse use = lv_memory_use(run->device);
    run->bytes = lv_memory_total(use);
    lv_memory_print(&line, use);
    if (info.scratch_bytes != run->workspace) print_bytes(&line, "; the algorithms chosen take a workspace of", info.scratch_bytes);
    run_note(run, "%s", line.data);
    run_note(run, "%s; %d kernels, %d of them compiled now; ready in %.1f s", lv_device_name(run->device),
             info.kernels_compiled + info.kernels_cached, info.kernels_compiled, info.compile_seconds);
    lv_text_free(&line);
}

static bool make_plan(Run *run, LvError *error) {
    if (!run->source->plan(run->source->user, "train", run->options->batch, &run->plan, error)) return false;
    if (run->plan) return true;
    lv_error_set(error, LV_ERROR_USAGE, "the model has no entry 'train'");
    return lv_error_hint(error, "entry train(image: f32[B, 3, R, R]) { …; minimize(loss, optim.AdamW()); return {loss} }");
}

// What the machine has free decides on plans, and ranks whose plans differed would wait for each other's sums for ever.
static bool share_plan(Run *run, LvError *error) {
    LvText text = {0};
    if (run->ranks == 1) return true;
    bool good = run_agree(run, run->rank > 0 || lv_plan_encode(run->plan, &text, error), error) &&
                lv_comm_share_text(run->options->comm, &text, error) &&
                (run->rank == 0 || lv_plan_decode(text.data, text.length, &run->plan, error));
    lv_text_free(&text);
    return good;
}

// The plan alone: kernels are compiled last, when nothing else can be wrong any more.
static bool open_plan(Run *run, LvError *error) {
    if (!run_agree(run, run->rank > 0 || make_plan(run, error), error) || !share_plan(run, error)) return false;
    for (int i = 0; i < run->plan->step_count; i++) run->flops += (double)(run->plan->steps[i].flops * run->options->accumulate);
    run->results = lv_calloc((size_t)run->plan->result_count + 1, sizeof *run->results);
    run->received = lv_calloc((size_t)run->plan->result_count + 1, sizeof *run->received);
    return lv_feed_bind(&run->feed, run->plan, run->options->sources, error) && lv_store_create(run->device, run->plan, &run->store, error);
}

static bool write_config(const Run *run, LvError *error) {
    LvText path = {0};
    lv_text_printf(&path, "%s/config.yaml", run->options->out);
    const char *text = run->options->config ? run->options->config : "";
    bool good = lv_file_write(path.data, text, strlen(text), error);
    lv_text_free(&path);
    return good;
}

static bool open_program(void *user, LvError *error) {
    Run *run = user;
    int32_t rank = run->rank;
    return lv_program_create(run->device, run->plan, run->store, &run->program, error) &&
           lv_program_set_input(run->program, "$rank", &rank, sizeof rank, error);
}

static bool open_all(Run *run, LvError *error) {
    if (!run_agree(run, open_data(run, error), error) || !open_plan(run, error)) return false;
    bool good = (run->rank > 0 || open_folder(run, error)) && plan_steps(run, error);
    if (!run_agree(run, good, error)) return false;
    tell_memory(run);
    return open_variables(run, error) && run_agree(run, run->rank > 0 || write_config(run, error), error);
}

bool run_open(Run *run, LvError *error) {
    if (!open_all(run, error)) {
        leave_folder(run);
        return false;
    }
    run->epoch = run->state.position.epoch;
    if (run->state.step >= run->steps && !run->state.pending) return true;
    if (!run_agree(run, open_loader(run, error), error)) return false;
    // of each machine one rank first: the others find in the cache what it compiles and measures
    LvComm *comm = run->options->comm;
    if (!lv_comm_take_turns(comm, lv_comm_local_rank(comm) == 0, open_program, run, error)) return false;
    run->lag = run->options->profile > 0 ? 0 : lv_program_lag(run->program);
    tell_ready(run);
    run_note(run, "%s: %zu %s; steps %" PRId64 " to %" PRId64 ", batch %" PRId64 "%s", run->options->train_data,
             lv_dataset_count(run->data), lv_dataset_unit(run->data), run->state.step + 1, run->steps,
             run->options->batch * run->options->accumulate, run->ranks > 1 ? " a rank" : "");
    if (run->ranks > 1) run_note(run, "%d ranks: %" PRId64 " a step", run->ranks, run->options->batch * run->options->accumulate * run->ranks);
    return run->rank > 0 || lv_journal_open(run->options->out, run->state.step, run->options->tensorboard, &run->journal, error);
}

void run_close(Run *run) {
    lv_validator_destroy(run->validator);
    lv_samples_destroy(run->samples);
    lv_journal_close(run->journal);
    lv_loader_destroy(run->loader);
    lv_codes_close(run->codes);
    if (run->data) lv_dataset_close(run->data);
    lv_program_destroy(run->program);
    lv_store_destroy(run->store);
    lv_plan_destroy(run->plan);
    free(run->results);
    free(run->received);
    if (run->lock > 0) close(run->lock);
}
