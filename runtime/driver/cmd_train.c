// lvrun train: opens the model, makes its plans for the trainer (runtime/train), shows what happens.
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "command.h"
#include "pairing.h"
#include "peak.h"
#include "ranks.h"
#include "train_options.h"
#include "view.h"

// A signal handler can reach nothing but a global. The first signal asks the trainer to save and stop, a second one kills.
static volatile sig_atomic_t stop_asked;

static void on_signal(int number) {
    stop_asked = number;
    signal(number, SIG_DFL);
}

static void listen_to_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);  // to ranks, through mpirun: it would end them on the others
    signal(SIGXFSZ, SIG_IGN);  // a file over the limit is then an error of write, as a full disk is
}

static const char examples[] =
    "  lvrun train models/augvae.lv --config tiny --train-dir pictures/train --val-dir pictures/val --steps 1000 --lr 1e-3\n"
    "  lvrun train models/augvae.lv --config imagenet.yaml --train_dir D --val_dir V --epochs 2 --batch_size 4 --hidden-dim 64\n"
    "  lvrun train models/augvae_sl.lv --init runs/augvae/checkpoints/best.safetensors --train-dir D --out runs/sl\n"
    "  lvrun train models/augvae.lv --loss-type lpips_l1 --init perceptual=vgg_lpips.safetensors --train-dir D\n"
    "  lvrun train models/biart.lv --config small --vae runs/augvae/checkpoints/best.safetensors --tokenizer tokenizer.json \\\n"
    "      --train-dir pairs/train --val-dir pairs/val --cache-tokens --steps 5000 --lr 3e-4 --schedule cosine --warmup 200\n"
    "  lvrun train examples/gpt.lv --train-dir text:book.txt:0-90% --val-dir text:book.txt:90-100% --steps 1000 --lr 1e-3\n"
    "  lvrun train models/augvae.lv --config tiny --fake-data --steps 20 --lr 1e-3      trying things without data\n";

typedef struct {
    OpenModel *open;
    LvCompileOptions compile;
    int64_t ranks;  // of entry train
} Source;

static bool make_plan(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error) {
    Source *source = user;
    LvCompileOptions compile = source->compile;
    int count;
    const LvModelEntry *entries = lv_model_entries(source->open->model, &count);
    bool known = !strcmp(entry, "init");
    for (int i = 0; i < count; i++) known = known || !strcmp(entries[i].name, entry);
    *plan = NULL;
    if (!known) return true;
    compile.entry = entry;
    compile.batch = batch;
    compile.ranks = !strcmp(entry, "train") ? source->ranks : 1;
    return model_compile(source->open, &compile, plan, error);
}

// config.yaml: every parameter and option as this run has it; --config takes it back.
static void print_config(const OpenModel *open, const Options *options, LvText *out) {
    int count;
    const LvModelParameter *parameters = lv_model_parameters(open->model, &count);
    lv_text_printf(out, "# lvrun train %s: as resolved\n", open->path);
    for (int i = 0; i < count; i++) {
        if (!strcmp(parameters[i].name, "learning_rate") && options_has(options, "learning-rate")) continue;
        lv_text_printf(out, "%s: %s\n", parameters[i].name, parameters[i].value);
    }
    for (const OptionSpec *s = options->specs; s->name; s++) {
        const char *value = options_get(options, s->name, NULL);
        if (!value || !strcmp(s->name, "fresh") || !strcmp(s->name, "config") || !strcmp(s->name, "init") ||
            !strcmp(s->name, "img-size"))
            continue;
        json_t *text = json_string(value);
        char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
        bool plain = value[0] && strspn(value, "0123456789.e-+") == strlen(value);
        for (const char *p = s->name; *p; p++) lv_text_putc(out, *p == '-' ? '_' : *p);
        lv_text_printf(out, ": %s\n", plain || s->kind == OPTION_FLAG || !quoted ? value : quoted);
        json_decref(text);
        free(quoted);
    }
}

static void print_summary(const LvTrainOptions *t, const LvTrainSummary *s) {
    if (s->was_done) {
        printf("all %" PRId64 " steps are done; --steps or --epochs goes further, --fresh starts anew\n", s->step);
    } else if (s->step > 0) {
        printf("%s after step %" PRId64 ", %" PRId64 " steps in %.1f s", s->stopped ? "stopped and saved" : "done", s->step,
               s->step - s->first_step, s->seconds);
        if (!isnan(s->loss)) printf("; loss %.5g", s->loss);
        if (!isnan(s->psnr)) printf("; val_psnr %.2f dB", s->psnr);
        else if (!isnan(s->val_loss)) printf("; val_loss %.5g", s->val_loss);
        printf("\n");
    }
    if (s->best_step > 0) printf("best validation at step %" PRId64 "\n", s->best_step);
    if (s->broken) printf("%zu broken pictures were passed over\n", s->broken);
    if (s->skipped) {
        printf("%" PRId64 " step%s made no update, for gradients beyond the range of f16; the loss's scale is %g now\n", s->skipped,
               s->skipped == 1 ? "" : "s", s->loss_scale);
    }
    if (s->uncaptioned) printf("%zu pictures without a caption were passed over\n", s->uncaptioned);
    if (s->stopped && s->step == 0) printf("stopped before the first step; the same command goes on from here\n");
    if (s->stopped && s->step == 0) return;
    printf("  %s/checkpoints/last.safetensors\n  %s/log.jsonl, curve.png, images/; tensorboard --logdir %s\n", t->out, t->out,
           t->out);
    if (s->stopped) printf("the same command goes on from here\n");
}

// Everything open and checked that the command line names.
static bool open_all(Options *options, OpenModel *open, Source *source, Pairing *pairing, LvDevice *device, LvComm *comm, LvTrainOptions *t,
                     LvError *error) {
    int64_t batch = 8;
    return options_integer(options, "batch-size", 1, 1 << 20, &batch, error) &&
           pairing_open(pairing, options, device, batch, error) && model_open(open, options->words.data[0], options, error) &&
           train_options_read(options, open, comm, t, error) &&
           options_loss_scale(options, &source->compile, &t->loss_scale, error) && pairing_complete(pairing, open, "train", error) &&
           train_share(options, &pairing->sources.text_to_image, error);
}

static bool train(Options *options, OpenModel *open, LvComm *comm, LvDevice **opened, Pairing *pairing, LvError *error) {
    LvTrainOptions t;
    LvTrainSummary summary;
    View view;
    Source source = {.open = open, .ranks = lv_comm_size(comm)};
    LvPlanSource plans = {&source, make_plan};
    bool good = train_options_prepare(options, error) && options_compile(options, &source.compile, error);
    if (!lv_comm_agree(comm, good, error) || !ranks_open_device(options, comm, &source.compile, opened, error)) return false;
    LvDevice *device = *opened;
    if (!lv_comm_agree(comm, open_all(options, open, &source, pairing, device, comm, &t, error), error)) return false;
    LvText model = {0}, config = {0};
    model_describe(open, &model);
    print_config(open, options, &config);
    t.model = model.data;
    t.config = config.data;
    t.title = t.out;
    t.stop = &stop_asked;
    t.sources = pairing->coder || pairing->companions.tokenizer || pairing->sources.window ? &pairing->sources : NULL;
    t.carried = &pairing->carried;
    t.peak = t.sources ? peak_of(device, LV_F32) : 0;  // convolutions may take fewer operations than they are counted as
    listen_to_signals();
    source.compile.accumulate = t.accumulate;
    source.compile.clip = t.clip > 0;
    source.compile.bytes = true;
    LvTrainView shown = view_open(&view, device);
    good = lv_train(device, &plans, &t, &shown, &summary, error);
    view_close(&view);
    if (good && lv_comm_rank(comm) == 0) print_summary(&t, &summary);
    lv_text_free(&model);
    lv_text_free(&config);
    return good;
}

int cmd_train(int argc, char **argv) {
    Options options = {0};
    OpenModel open = {0};
    LvDevice *device = NULL;
    Pairing pairing = {0};
    LvError error = {0};
    LvComm *comm = NULL;
    int code = 0, launched = -1;
    bool good = options_parse(&options, train_option_specs, true, argc, argv, &error);
    if (good && options_flag(&options, "help", false)) {
        code = options_help_page(
            "lvrun train MODEL --train-dir DATA [options] [--PARAMETER value]...",
            "Trains a model's entry `train`. Flags beat the YAML file, which beats the model's defaults. Saves and stops on\n"
            "SIGINT and SIGTERM; the same command goes on from the last checkpoint, to the same bits as never stopped.",
            train_option_specs, examples);
    } else {
        if (good && options.words.count != 1) {
            good = options.words.count
                       ? lv_error_set(&error, LV_ERROR_USAGE, "train takes one MODEL, not also '%s'", options.words.data[1])
                       : lv_error_set(&error, LV_ERROR_USAGE, "train takes a MODEL");
            lv_error_hint(&error, "lvrun train models/augvae.lv --config tiny --train-dir PICTURES; lvrun help train tells more");
        }
        good = good && ranks_open(&options, argv, &comm, &launched, &error);
        if (good && launched >= 0) code = launched;
        else good = good && train(&options, &open, comm, &device, &pairing, &error);
        if (!good && lv_comm_rank(comm) > 0) lv_error_prefix(&error, "rank %d", lv_comm_rank(comm));
        if (!good) code = command_fail(&error);
    }
    pairing_close(&pairing);
    model_close(&open);
    command_close_device(device);
    lv_comm_close(comm, good);
    options_free(&options);
    return code;
}
