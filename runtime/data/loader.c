// Batches in a ring: batch k lives in ring[k % size]. Workers take one place of the oldest unfinished batch at a time, so
// that the batch the caller waits for is done first; batch k + 1 is opened when its place in the ring is free. The caller
// keeps the batch it was given until it asks for the next. One mutex guards all of it; the work itself is outside.
#include "data/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/sample.h"

enum { MAX_WORKERS = 256, MAX_RESOLUTION = 8192, MAX_BATCH = 1 << 16 };

typedef struct {
    uint8_t *pictures;  // [B, 3, R, R]
    int32_t *tokens;  // [B, T]
    Slot *slots;      // [B]
    int64_t *samples;
    const char **names, **captions;
    uint32_t *draws;
    LvPosition at, after;
    int count, taken, done;  // places given to workers, places finished
    bool end;         // no batch: the epochs are over
} Job;

struct LvLoader {
    const LvDataset *dataset;
    LvLoaderOptions options;
    SampleMaker *maker;
    Job *ring;
    int ring_size;
    uint64_t opened, given;  // batches begun; batches handed to the caller
    bool held;               // batch given - 1 is still in the caller's hands
    LvPosition next, after;  // of the next batch to open; of the last one given
    LvBatch batch;
    uint8_t *reported;       // [count], broken samples that the caller knows of
    size_t broken, uncaptioned;
    double waited;
    pthread_t *threads;
    int thread_count, busy;  // places being worked on
    bool stop, pause;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
};

LvLoaderOptions lv_loader_options(void) {
    return (LvLoaderOptions){.batch = 8, .resolution = 256, .crop = LV_CROP_CENTER, .filter = LV_FILTER_BICUBIC, .scale_min = 0.75,
                             .scale_max = 1.0, .seed = 42, .world = 1, .workers = 1, .prefetch = 4, .epochs = 1,
                             .cache_bytes = 256u << 20};
}

LvLoaderOptions lv_loader_options_training(void) {
    LvLoaderOptions options = lv_loader_options();
    options.crop = LV_CROP_RANDOM, options.flip = options.shuffle = options.drop_last = true, options.epochs = 0;
    return options;
}

// ---- positions

static uint64_t global_batch(const LvLoader *loader) { return (uint64_t)loader->options.batch * (uint64_t)loader->options.world; }

uint64_t lv_loader_batches(const LvLoader *loader) {
    uint64_t count = lv_dataset_count(loader->dataset), step = global_batch(loader), whole = count / step;
    if (loader->options.drop_last) return whole ? whole : 1;  // a data set smaller than a batch is used over and over
    return whole + (count % step != 0);
}

// Moves on to the next epoch when no batch is left in this one.
static LvPosition settle(const LvLoader *loader, LvPosition at) {
    uint64_t count = lv_dataset_count(loader->dataset), step = global_batch(loader);
    bool over = loader->options.drop_last ? at.index > 0 && at.index + step > count : at.index >= count;
    return over ? (LvPosition){at.epoch + 1, 0} : at;
}

static void open_job(LvLoader *loader) {
    Job *job = &loader->ring[loader->opened++ % (uint64_t)loader->ring_size];
    uint64_t count = lv_dataset_count(loader->dataset), first = loader->next.index + (uint64_t)loader->options.rank * (uint64_t)loader->options.batch;
    int batch = loader->options.batch;
    job->at = loader->next;
    job->taken = job->done = 0;
    job->end = loader->options.epochs && job->at.epoch >= loader->options.epochs;
    if (job->end) {
        job->taken = job->done = batch;
        job->after = job->at;
        return;
    }
    job->after = settle(loader, (LvPosition){job->at.epoch, job->at.index + global_batch(loader)});
    uint64_t left = first < count ? count - first : 0;
    job->count = loader->options.drop_last || left > (uint64_t)batch ? batch : (int)left;
    loader->next = job->after;
}

// ---- work

static void do_place(LvLoader *loader, Job *job, int place) {
    const LvLoaderOptions *options = &loader->options;
    size_t each = (size_t)options->resolution * (size_t)options->resolution * 3;
    uint64_t position = job->at.index + (uint64_t)options->rank * (uint64_t)options->batch + (uint64_t)place;
    sample_slot_clear(&job->slots[place]);
    int32_t *tokens = job->tokens + place * lv_dataset_window_length(loader->dataset);
    sample_make(loader->maker, (uint32_t)job->at.epoch, position % lv_dataset_count(loader->dataset), job->pictures + (size_t)place * each,
                tokens, &job->slots[place]);
}

// The oldest batch with a place to work on, NULL when there is none now. Under the lock.
static Job *find_job(LvLoader *loader) {
    for (uint64_t k = loader->given; k < loader->opened; k++) {
        Job *job = &loader->ring[k % (uint64_t)loader->ring_size];
        if (job->end) return NULL;
        if (job->taken < loader->options.batch) return job;
    }
    uint64_t oldest = loader->given - loader->held;
    if (loader->opened - oldest >= (uint64_t)loader->ring_size) return NULL;
    open_job(loader);
    Job *job = &loader->ring[(loader->opened - 1) % (uint64_t)loader->ring_size];
    if (job->end) pthread_cond_broadcast(&loader->ready);
    return job->end ? NULL : job;
}

static void *run_worker(void *argument) {
    LvLoader *loader = argument;
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        Job *job = loader->pause ? NULL : find_job(loader);
        if (!job) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        int place = job->taken++;
        loader->busy++;
        pthread_mutex_unlock(&loader->lock);
        do_place(loader, job, place);
        pthread_mutex_lock(&loader->lock);
        loader->busy--;
        if (++job->done == loader->options.batch || loader->pause) pthread_cond_broadcast(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// Until the next batch is whole. Under the lock.
static Job *await_job(LvLoader *loader) {
    double start = seconds();
    Job *job = &loader->ring[loader->given % (uint64_t)loader->ring_size];
    if (loader->thread_count == 0) {
        if (loader->opened == loader->given) open_job(loader);
        for (; job->taken < loader->options.batch; job->done++) do_place(loader, job, job->taken++);
    } else {
        pthread_cond_broadcast(&loader->work);
        while (loader->opened == loader->given || job->done < loader->options.batch) pthread_cond_wait(&loader->ready, &loader->lock);
    }
    loader->waited += seconds() - start;
    return job;
}

// ---- what the caller sees

static bool report_broken(LvLoader *loader, const Job *job, LvError *error) {
    for (int i = 0; i < loader->options.batch; i++) {
        const Slot *slot = &job->slots[i];
        for (size_t k = 0; k < slot->broken.count; k++) {
            int64_t sample = slot->broken.data[k];
            if (loader->reported[sample]) continue;
            loader->reported[sample] = 1;
            bool uncaptioned = sample_is_uncaptioned(loader->maker, sample);
            loader->uncaptioned += uncaptioned;
            loader->broken += !uncaptioned;
            if (loader->options.broken) {
                loader->options.broken(loader->options.broken_user, lv_dataset_name(loader->dataset, (size_t)sample),
                                       sample_broken_message(loader->maker, sample));
            }
        }
    }
    for (int i = 0; i < loader->options.batch; i++) {
        if (!job->slots[i].failed) continue;
        lv_error_set(error, LV_ERROR_FORMAT, "%s: none of its %zu pictures %s", lv_dataset_spec(loader->dataset),
                     lv_dataset_count(loader->dataset), loader->uncaptioned ? "has a caption and can be read" : "can be read");
        if (!loader->broken && loader->uncaptioned) return lv_error_hint(error, "all captions are empty");
        return lv_error_hint(error, "each was named with the reason; JPEG, PNG, WebP, BMP and PNM are read");
    }
    return true;
}

static void describe(LvLoader *loader, Job *job) {
    for (int i = 0; i < loader->options.batch; i++) {
        job->samples[i] = job->slots[i].sample;
        job->names[i] = lv_dataset_name(loader->dataset, (size_t)job->slots[i].sample);
        job->captions[i] = job->slots[i].caption;
        job->draws[i] = job->slots[i].draw;
    }
    const uint8_t *pictures = loader->options.resolution ? job->pictures : NULL;
    const int32_t *tokens = lv_dataset_is_text(loader->dataset) ? job->tokens : NULL;
    loader->batch = (LvBatch){loader->options.batch, job->count, pictures, tokens, job->samples, job->names,
                              loader->options.captions ? job->captions : NULL, job->draws, job->at, job->after};
}

bool lv_loader_next(LvLoader *loader, const LvBatch **batch, LvError *error) {
    *batch = NULL;
    pthread_mutex_lock(&loader->lock);
    loader->held = false;  // the last batch goes back
    Job *job = await_job(loader);
    if (!job->end) {
        loader->given++;
        loader->held = true;
        loader->after = job->after;
    }
    pthread_mutex_unlock(&loader->lock);
    if (job->end) return true;
    if (!report_broken(loader, job, error)) return false;
    describe(loader, job);
    *batch = &loader->batch;
    return true;
}

void lv_loader_seek(LvLoader *loader, LvPosition position) {
    pthread_mutex_lock(&loader->lock);
    loader->pause = true;
    while (loader->busy) pthread_cond_wait(&loader->ready, &loader->lock);
    loader->opened = loader->given = 0;
    loader->held = loader->pause = false;
    loader->next = loader->after = settle(loader, position);
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

LvPosition lv_loader_position(const LvLoader *loader) { return loader->after; }
size_t lv_loader_broken(const LvLoader *loader) { return loader->broken; }
size_t lv_loader_uncaptioned(const LvLoader *loader) { return loader->uncaptioned; }
double lv_loader_waited(const LvLoader *loader) { return loader->waited; }

// ---- making and ending

static bool check_options(const LvDataset *dataset, const LvLoaderOptions *options, LvError *error) {
    const char *wrong = NULL;
    if (!lv_dataset_count(dataset)) wrong = "the data set is empty";
    else if (options->batch < 1 || options->batch > MAX_BATCH) wrong = "the batch must be from 1 to 65536";
    else if (options->resolution < 0 || options->resolution > MAX_RESOLUTION) wrong = "the resolution must be from 1 to 8192";
    else if (options->world < 1 || options->rank < 0 || options->rank >= options->world) wrong = "the rank must be below the number of ranks";
    else if (options->workers < 0 || options->workers > MAX_WORKERS) wrong = "the number of data workers must be from 0 to 256";
    else if (!(options->scale_min > 0 && options->scale_min <= options->scale_max && options->scale_max <= 1)) wrong = "the crop's share must be above 0 and at most 1";
    return wrong ? lv_error_set(error, LV_ERROR_USAGE, "%s", wrong) : true;
}

static bool make_job(Job *job, const LvLoaderOptions *options, size_t window) {
    size_t batch = (size_t)options->batch, each = (size_t)options->resolution * (size_t)options->resolution * 3;
    job->pictures = aligned_alloc(64, (batch * each + 64) / 64 * 64);
    job->tokens = lv_calloc(batch * window + 1, sizeof *job->tokens);
    job->slots = lv_calloc(batch, sizeof *job->slots);
    job->samples = lv_calloc(batch, sizeof *job->samples);
    job->names = lv_calloc(batch, sizeof *job->names);
    job->captions = lv_calloc(batch, sizeof *job->captions);
    job->draws = lv_calloc(batch, sizeof *job->draws);
    return job->pictures != NULL;
}

// Workers leave signals to the thread that trains. Fewer threads than asked for, even none, change nothing but speed.
static void start_workers(LvLoader *loader) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    loader->threads = lv_calloc((size_t)loader->options.workers + 1, sizeof *loader->threads);
    while (loader->thread_count < loader->options.workers &&
           !pthread_create(&loader->threads[loader->thread_count], NULL, run_worker, loader)) {
        loader->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool lv_loader_create(LvLoader **out, const LvDataset *dataset, const LvLoaderOptions *options, LvError *error) {
    *out = NULL;
    if (!check_options(dataset, options, error)) return false;
    LvLoader *loader = lv_calloc(1, sizeof *loader);
    loader->dataset = dataset;
    loader->options = *options;
    if (lv_dataset_is_text(dataset)) loader->options.resolution = 0, loader->options.cache_bytes = 0;  // it is in memory
    int ahead = options->workers ? (options->prefetch < 2 ? 2 : options->prefetch) : 1;
    loader->ring_size = ahead + 1;  // and the one in the caller's hands
    loader->ring = lv_calloc((size_t)loader->ring_size, sizeof *loader->ring);
    loader->reported = lv_calloc(lv_dataset_count(dataset), 1);
    loader->maker = sample_maker_create(dataset, &loader->options);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    size_t window = (size_t)lv_dataset_window_length(dataset);
    bool good = true;
    for (int i = 0; i < loader->ring_size; i++) good &= make_job(&loader->ring[i], &loader->options, window);
    if (!good) {
        lv_loader_destroy(loader);
        return lv_error_set(error, LV_ERROR_MEMORY, "no memory for %d batches of %d pictures at %d x %d", ahead + 1, options->batch,
                            options->resolution, options->resolution);
    }
    start_workers(loader);
    *out = loader;
    return true;
}

void lv_loader_destroy(LvLoader *loader) {
    if (!loader) return;
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->thread_count; i++) pthread_join(loader->threads[i], NULL);
    for (int i = 0; i < loader->ring_size; i++) {
        Job *job = &loader->ring[i];
        for (int k = 0; job->slots && k < loader->options.batch; k++) sample_slot_clear(&job->slots[k]);
        free(job->pictures);
        free(job->tokens);
        free(job->slots);
        free(job->samples);
        free(job->names);
        free(job->captions);
        free(job->draws);
    }
    sample_maker_destroy(loader->maker);
    free(loader->ring);
    free(loader->reported);
    free(loader->threads);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->ready);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
