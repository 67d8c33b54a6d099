// Validation: see validate.h.
#include "train/validate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/vec.h"
#include "data/transforms.h"
#include "train/feed.h"

enum { SHEET_COLUMNS = 8, SHEET_PAIRS = 16 };

typedef struct {
    LvPlan *plan;
    LvProgram *program;
    LvFeed feed;
} Entry;

struct LvValidator {
    LvDevice *device;
    LvStore *store;
    LvDataset *data;
    LvCodes *codes;        // of the data, where they are kept
    const LvFeedSources *sources;
    LvComm *comm;
    const LvPlanSource *source;          // while it is created
    const LvCodesOptions *codes_options;
    LvLoaderOptions loader;
    int64_t batch, pictures, seed;
    int64_t own;           // of the pictures, those that this rank sees
    Entry eval, encode, decode, reconstruct;
    bool whole;            // `eval` holds the entry validate or one like it, which gives the pictures
    const LvPort *tokens;  // validate's or encode's result, decode's input
    LvSheet *sheet;
    LV_VEC(LvScore) scores;
    double *sums, *weights;  // [eval results]
    double psnr_sum;
    bool *used;            // [codes] seen
    int64_t code_room;
    void *token_data;
    float *output;         // [B, 3, R, R]
    float *picture;        // [3, R, R], of the loader's, in [-1, 1]
    size_t broken, uncaptioned, left_out;
};

// The batch that divides the pictures evenly and lies nearest to the one wished for: then a mean over batches is a mean over
// pictures. Where none lies within half and double, the last batch is padded and counts by its real pictures.
static int64_t even_batch(int64_t wish, int64_t pictures) {
    if (pictures <= wish) return pictures;
    for (int64_t away = 0; away <= wish; away++) {
        if (pictures % (wish + away) == 0) return wish + away;
        if (away <= wish / 2 && wish - away > 0 && pictures % (wish - away) == 0) return wish - away;
    }
    return wish;
}

static bool open_entry(LvValidator *v, const LvPlanSource *source, const char *name, bool pictures, Entry *entry,
                       LvError *error) {
    if (!source->plan(source->user, name, v->batch, &entry->plan, error)) return false;
    if (!entry->plan) return true;
    if (pictures && !lv_feed_bind(&entry->feed, entry->plan, v->sources, error)) return false;
    return lv_program_create(v->device, entry->plan, v->store, &entry->program, error) ||
           lv_error_prefix(error, "entry '%s'", name);
}

static void close_entry(Entry *entry) {
    lv_program_destroy(entry->program);
    lv_plan_destroy(entry->plan);
    *entry = (Entry){0};
}

static const LvPort *port_named(const LvPort *ports, int count, const char *name) {
    for (int i = 0; i < count; i++) {
        if (!strcmp(ports[i].name, name)) return &ports[i];
    }
    return NULL;
}

static bool same_port(const LvPort *a, const LvPort *b) {
    return a && b && a->dtype == b->dtype && lv_shape_equal(a->shape, b->shape);
}

// Whether `entry` gives pictures of the feed's shape as result "image".
static bool gives_pictures(const Entry *entry, const LvFeed *feed) {
    const LvPort *image = entry->plan ? port_named(entry->plan->results, entry->plan->result_count, "image") : NULL;
    return image && image->dtype == LV_F32 && image->shape.rank == 4 && image->shape.dim[0] == feed->batch &&
           image->shape.dim[1] == 3 && image->shape.dim[2] == feed->resolution && image->shape.dim[3] == feed->resolution;
}

static bool gives_tokens(const LvPort *tokens, int64_t batch) {
    return tokens && lv_dtype_is_int(tokens->dtype) && tokens->shape.rank > 0 && tokens->shape.dim[0] == batch;
}

static bool open_losses(LvValidator *v, const LvPlanSource *source, LvError *error) {
    return open_entry(v, source, "validate", true, &v->eval, error) &&
           (v->eval.plan || open_entry(v, source, "eval", true, &v->eval, error));
}

// Where one entry gives losses, pictures and codes, one program does it all.
static bool open_pictures(LvValidator *v, const LvPlanSource *source, LvError *error) {
    if (v->eval.plan && gives_pictures(&v->eval, &v->eval.feed)) {
        v->tokens = port_named(v->eval.plan->results, v->eval.plan->result_count, "tokens");
        if (!gives_tokens(v->tokens, v->batch)) v->tokens = NULL;
        v->whole = true;
        return true;
    }
    if (!open_entry(v, source, "encode", true, &v->encode, error)) return false;
    if (v->encode.plan) {
        v->tokens = port_named(v->encode.plan->results, v->encode.plan->result_count, "tokens");
        if (!open_entry(v, source, "decode", false, &v->decode, error)) return false;
    }
    bool both = v->decode.plan && v->tokens && lv_dtype_is_int(v->tokens->dtype) && gives_pictures(&v->decode, &v->encode.feed) &&
                same_port(v->tokens, port_named(v->decode.plan->inputs, v->decode.plan->input_count, "tokens"));
    if (both) return true;
    close_entry(&v->decode);
    close_entry(&v->encode);
    v->tokens = NULL;
    if (!open_entry(v, source, "reconstruct", true, &v->reconstruct, error)) return false;
    if (v->reconstruct.plan && !gives_pictures(&v->reconstruct, &v->reconstruct.feed)) close_entry(&v->reconstruct);
    return true;
}

static bool open_entries(void *user, LvError *error) {
    LvValidator *v = user;
    return open_losses(v, v->source, error) && open_pictures(v, v->source, error);
}

static bool make_room(LvValidator *v, LvError *error) {
    const LvFeed *feed = v->encode.plan ? &v->encode.feed : v->reconstruct.plan ? &v->reconstruct.feed : &v->eval.feed;
    if (!feed->batch) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the model has nothing to validate with: no entry eval, reconstruct or encode");
        return lv_error_hint(error, "leave --val-dir out, or add such an entry");
    }
    size_t floats = (size_t)v->batch * 3 * (size_t)feed->resolution * (size_t)feed->resolution;
    v->output = lv_calloc(floats, sizeof *v->output);
    v->picture = lv_calloc(floats / (size_t)v->batch, sizeof *v->picture);
    size_t results = (size_t)(v->eval.plan ? v->eval.plan->result_count : 0);
    v->sums = lv_calloc(results + 1, sizeof *v->sums);
    v->weights = lv_calloc(results + 1, sizeof *v->weights);
    size_t bytes = 0;
    if (v->tokens && lv_shape_bytes(v->tokens->shape, v->tokens->dtype, &bytes)) v->token_data = lv_malloc(bytes + 1);
    if (v->whole || v->encode.plan || v->reconstruct.plan) v->sheet = lv_sheet_create(feed->resolution, SHEET_COLUMNS, SHEET_PAIRS);
    return true;
}

static bool open_codes(void *user, LvError *error) {
    LvValidator *v = user;
    return lv_codes_open(v->data, v->sources->coder, v->codes_options, &v->codes, error);
}

// Pictures of which only the codes count are encoded once, where the caller keeps such.
static bool open_loader(LvValidator *v, LvError *error) {
    LvFeed *feed = v->eval.plan ? &v->eval.feed : v->encode.plan ? &v->encode.feed : &v->reconstruct.feed;
    bool keeps = v->codes_options && feed->codes && !v->sheet;
    if (keeps && !lv_comm_take_turns(v->comm, lv_comm_rank(v->comm) == 0, open_codes, v, error)) return false;
    feed->known = v->codes;
    lv_feed_loader(feed, &v->loader);
    return true;
}

// Batches are dealt to the ranks in turn.
static int64_t own_pictures(const LvValidator *v) {
    int64_t round = v->batch * lv_comm_size(v->comm), rest = v->pictures % round - lv_comm_rank(v->comm) * v->batch;
    return v->pictures / round * v->batch + (rest < 0 ? 0 : rest > v->batch ? v->batch : rest);
}

static bool open_data(LvValidator *v, const LvValidatorOptions *o, LvError *error) {
    if (!lv_feed_open_data(&v->data, o->data, v->sources, &v->left_out, error)) return false;
    v->pictures = (int64_t)lv_dataset_count(v->data);
    if (o->limit > 0 && o->limit < v->pictures) v->pictures = o->limit;
    v->batch = even_batch(o->batch, v->pictures);
    if (lv_dataset_is_text(v->data)) v->pictures -= v->pictures % v->batch;  // rather than a mean that padding has a share in
    v->own = own_pictures(v);
    return true;
}

bool lv_validator_create(LvDevice *device, LvStore *store, const LvPlanSource *source, const LvValidatorOptions *options,
                         LvValidator **out, LvError *error) {
    LvValidator *v = lv_calloc(1, sizeof *v);
    v->device = device, v->store = store, v->seed = options->seed, v->sources = options->sources;
    v->comm = options->comm, v->source = source, v->codes_options = options->codes;
    v->loader = lv_loader_options();
    v->loader.workers = options->workers;
    v->loader.prefetch = 2;
    v->loader.rank = lv_comm_rank(v->comm);
    v->loader.world = lv_comm_size(v->comm);
    // of each machine one rank first, which compiles what the others find
    bool good = lv_comm_agree(v->comm, open_data(v, options, error), error) &&
                lv_comm_take_turns(v->comm, lv_comm_local_rank(v->comm) == 0, open_entries, v, error) &&
                lv_comm_agree(v->comm, make_room(v, error), error) && open_loader(v, error);
    if (good) *out = v;
    else lv_validator_destroy(v);
    return good;
}

static void clear_scores(LvValidator *v) {
    for (size_t i = 0; i < v->scores.count; i++) free(v->scores.data[i].name);
    v->scores.count = 0;
}

void lv_validator_destroy(LvValidator *v) {
    if (!v) return;
    close_entry(&v->eval);
    close_entry(&v->encode);
    close_entry(&v->decode);
    close_entry(&v->reconstruct);
    lv_codes_close(v->codes);
    if (v->data) lv_dataset_close(v->data);
    lv_sheet_destroy(v->sheet);
    clear_scores(v);
    lv_vec_free(&v->scores);
    free(v->sums);
    free(v->weights);
    free(v->used);
    free(v->token_data);
    free(v->output);
    free(v->picture);
    free(v);
}

double lv_psnr(const float *picture, const float *output, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double y = output[i] < -1 ? -1 : output[i] > 1 ? 1 : (double)output[i], d = y - (double)picture[i];
        sum += d * d;
    }
    return 10 * log10(4 / (sum / (double)count));
}

static bool read_scalar(const Entry *e, const LvPort *port, double *value, LvError *error) {
    char data[16] = {0};
    if (!lv_program_get_result(e->program, port->name, data, lv_dtype_size(port->dtype), error)) return false;
    *value = lv_element_get(data, port->dtype, 0);
    return true;
}

static const LvPort *weight_of(const Entry *e, const LvPort *port) {
    LvText name = {0};
    lv_text_printf(&name, "%s_weight", port->name);
    const LvPort *weight = port_named(e->plan->results, e->plan->result_count, name.data);
    lv_text_free(&name);
    return weight;
}

static bool is_score(const LvPort *port) {
    size_t length = strlen(port->name);
    return lv_shape_elements(port->shape) == 1 && !(length > 7 && !strcmp(port->name + length - 7, "_weight"));
}

static bool add_results(LvValidator *v, int64_t count, LvError *error) {
    const Entry *e = &v->eval;
    for (int i = 0; i < e->plan->result_count; i++) {
        const LvPort *port = &e->plan->results[i], *weighs = weight_of(e, port);
        double value, weight = (double)count;
        if (!is_score(port)) continue;
        if (!read_scalar(e, port, &value, error) || (weighs && !read_scalar(e, weighs, &weight, error))) return false;
        v->sums[i] += value * weight;
        v->weights[i] += weight;
    }
    return true;
}

// Directions are not drawn here: each sample is seen in both, half of them first in the one, half in the other.
static bool run_eval(LvValidator *v, const LvBatch *batch, int64_t count, LvError *error) {
    Entry *e = &v->eval;
    if (!e->program) return true;
    bool good = lv_feed_scalars(e->program, v->seed, 0, 0, error) && lv_feed_batch(&e->feed, e->program, batch, error);
    for (int turn = 0; good && turn < (e->feed.direction ? 2 : 1); turn++) {
        good = lv_feed_turns(&e->feed, e->program, turn, error) && lv_program_run(e->program, error) && add_results(v, count, error);
    }
    return good;
}

static void count_codes(LvValidator *v, int64_t pictures) {
    int64_t per_picture = lv_shape_elements(v->tokens->shape) / v->batch;
    for (int64_t i = 0; i < pictures * per_picture; i++) {
        int64_t code = (int64_t)lv_element_get(v->token_data, v->tokens->dtype, i);
        if (code < 0 || code > 1 << 26) continue;
        if (code >= v->code_room) {
            int64_t room = code * 2 + 1024;
            v->used = lv_realloc(v->used, (size_t)room, sizeof *v->used);
            memset(v->used + v->code_room, 0, (size_t)(room - v->code_room) * sizeof *v->used);
            v->code_room = room;
        }
        v->used[code] = true;
    }
}

static bool read_tokens(LvValidator *v, const Entry *entry, int64_t count, LvError *error) {
    size_t bytes = 0;
    if (!v->tokens) return true;
    lv_shape_bytes(v->tokens->shape, v->tokens->dtype, &bytes);
    if (!lv_program_get_result(entry->program, "tokens", v->token_data, bytes, error)) return false;
    count_codes(v, count);
    return true;
}

static bool run_reconstruct(LvValidator *v, const LvBatch *batch, LvError *error) {
    const Entry *e = &v->reconstruct;
    return lv_feed_scalars(e->program, v->seed, 0, 0, error) && lv_feed_batch(&e->feed, e->program, batch, error) &&
           lv_program_run(e->program, error);
}

static bool run_codec(LvValidator *v, const LvBatch *batch, int64_t count, LvError *error) {
    size_t bytes = 0;
    lv_shape_bytes(v->tokens->shape, v->tokens->dtype, &bytes);
    return lv_feed_scalars(v->encode.program, v->seed, 0, 0, error) &&
                lv_feed_batch(&v->encode.feed, v->encode.program, batch, error) && lv_program_run(v->encode.program, error) &&
                read_tokens(v, &v->encode, count, error) &&
                lv_program_set_input(v->decode.program, "tokens", v->token_data, bytes, error) &&
                lv_feed_scalars(v->decode.program, v->seed, 0, 0, error) && lv_program_run(v->decode.program, error);
}

// Pictures of the sheet are spread evenly over those that this rank sees.
static bool on_sheet(const LvValidator *v, int64_t at) {
    int64_t pairs = v->own < SHEET_PAIRS ? v->own : SHEET_PAIRS;
    return v->sheet->count < pairs && at == (2 * v->sheet->count + 1) * v->own / (2 * pairs);
}

static bool run_pictures(LvValidator *v, const LvBatch *batch, int64_t first, int64_t count, LvError *error) {
    if (!v->sheet) return true;
    Entry *last = v->whole ? &v->eval : v->encode.program ? &v->decode : &v->reconstruct;
    size_t floats = (size_t)3 * (size_t)v->loader.resolution * (size_t)v->loader.resolution;
    bool good = v->whole              ? read_tokens(v, &v->eval, count, error)
                : v->encode.program   ? run_codec(v, batch, count, error)
                                      : run_reconstruct(v, batch, error);
    good = good && lv_program_get_result(last->program, "image", v->output, floats * (size_t)v->batch * sizeof(float), error);
    for (int64_t i = 0; good && i < count; i++) {
        const float *output = v->output + (size_t)i * floats;
        lv_transform_to_floats(batch->pictures + (size_t)i * floats, floats, v->picture);
        v->psnr_sum += lv_psnr(v->picture, output, floats);
        if (on_sheet(v, first + i)) lv_sheet_add(v->sheet, v->picture, output);
    }
    return good;
}

static void add_score(LvValidator *v, const char *name, double value) {
    LvText full = {0};
    lv_text_printf(&full, "val_%s", name);
    lv_vec_push(&v->scores, (LvScore){full.data, value});
}

static bool share_codes(LvValidator *v, LvError *error) {
    int64_t room = v->code_room;
    if (!lv_comm_most(v->comm, &room, "codes used", error)) return false;
    int32_t *used = lv_calloc((size_t)room + 1, sizeof *used);
    for (int64_t i = 0; i < v->code_room; i++) used[i] = v->used[i];
    bool good = lv_comm_sum(v->comm, used, (size_t)room, LV_I32, "codes used", error);
    v->used = lv_realloc(v->used, (size_t)room + 1, sizeof *v->used);
    for (int64_t i = 0; i < room; i++) v->used[i] = used[i] > 0;
    v->code_room = room;
    free(used);
    return good;
}

// What all ranks have seen together.
static bool share_sums(LvValidator *v, int64_t *done, LvError *error) {
    size_t results = (size_t)(v->eval.plan ? v->eval.plan->result_count : 0);
    double pictures[] = {v->psnr_sum, (double)*done};
    if (lv_comm_size(v->comm) == 1) return true;
    bool good = lv_comm_sum(v->comm, v->sums, results, LV_F64, "validation", error) &&
                lv_comm_sum(v->comm, v->weights, results, LV_F64, "validation", error) &&
                lv_comm_sum(v->comm, pictures, 2, LV_F64, "validation", error) && share_codes(v, error);
    v->psnr_sum = pictures[0];
    *done = (int64_t)pictures[1];
    return good;
}

static void collect_scores(LvValidator *v, int64_t done) {
    clear_scores(v);
    for (int i = 0; v->eval.plan && i < v->eval.plan->result_count; i++) {
        const LvPort *port = &v->eval.plan->results[i];
        if (is_score(port)) add_score(v, port->name, v->weights[i] > 0 ? v->sums[i] / v->weights[i] : 0);
    }
    if (v->sheet) add_score(v, "psnr", v->psnr_sum / (double)done);
    if (!v->tokens) return;
    int64_t codes = 0;
    for (int64_t i = 0; i < v->code_room; i++) codes += v->used[i];
    add_score(v, "codes_used", (double)codes);
}

bool lv_validator_run(LvValidator *v, const volatile sig_atomic_t *stop, LvError *error) {
    LvLoader *loader = NULL;
    const LvBatch *batch = NULL;
    int64_t done = 0;
    v->psnr_sum = 0;
    size_t results = (size_t)(v->eval.plan ? v->eval.plan->result_count : 0);
    memset(v->sums, 0, results * sizeof *v->sums);
    memset(v->weights, 0, results * sizeof *v->weights);
    if (v->used) memset(v->used, 0, (size_t)v->code_room * sizeof *v->used);
    if (v->sheet) v->sheet->count = 0;
    bool good = lv_loader_create(&loader, v->data, &v->loader, error);
    while (good && done < v->own) {
        good = lv_loader_next(loader, &batch, error);
        if (!good || !batch) break;
        int64_t count = batch->count < v->own - done ? batch->count : v->own - done;
        good = run_eval(v, batch, count, error) && run_pictures(v, batch, done, count, error);
        done += count;
        if (good && stop && *stop) good = lv_error_set(error, LV_ERROR_INTERRUPTED, "stopped while validating");
    }
    if (loader) v->broken = lv_loader_broken(loader), v->uncaptioned = lv_loader_uncaptioned(loader), lv_loader_destroy(loader);
    good = lv_comm_agree_in(v->comm, good, "validation", error) && share_sums(v, &done, error);
    if (good && done == 0)
        good = lv_error_set(error, LV_ERROR_FORMAT, "%s: no picture to validate with", lv_dataset_spec(v->data));
    if (good) collect_scores(v, done);
    return good;
}

int lv_validator_scores(const LvValidator *v, const LvScore **scores) {
    *scores = v->scores.data;
    return (int)v->scores.count;
}

double lv_validator_score(const LvValidator *v, const char *name) {
    for (size_t i = 0; i < v->scores.count; i++) {
        if (!strcmp(v->scores.data[i].name, name)) return v->scores.data[i].value;
    }
    return NAN;
}

const LvSheet *lv_validator_sheet(const LvValidator *v) {
    return v->sheet && v->sheet->count ? v->sheet : NULL;
}

int64_t lv_validator_pictures(const LvValidator *v) {
    return v->pictures;
}

const char *lv_validator_unit(const LvValidator *v) {
    return lv_dataset_unit(v->data);
}

size_t lv_validator_uncaptioned(const LvValidator *v) {
    return v->uncaptioned + v->left_out;
}

size_t lv_validator_broken(const LvValidator *v) {
    return v->broken;
}
