// lvrun reconstruct, encode and decode: pictures through a model's entries of those names.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "data/transforms.h"
#include "exec/weights.h"
#include "io/sheet.h"
#include "pictures.h"
#include "session.h"
#include "train/feed.h"
#include "train/validate.h"

// One entry over many pictures, a batch at a time; the last batch is filled up with its first picture.
typedef struct {
    Session *session;
    LvPlan *plan;
    LvProgram *program;
    LvFeed feed;
    int64_t batch;
    uint8_t *pictures;  // [batch, 3, R, R]
    size_t *taken;      // [batch] which items stand there
} Job;

static void job_close(Job *job) {
    lv_program_destroy(job->program);
    lv_plan_destroy(job->plan);
    free(job->pictures);
    free(job->taken);
}

static const LvPort *result_named(const LvPlan *plan, const char *name, LvError *error) {
    for (int i = 0; i < plan->result_count; i++) {
        if (!strcmp(plan->results[i].name, name)) return &plan->results[i];
    }
    lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry '%s' gives no '%s'", plan->entry, name);
    return NULL;
}

static size_t elements_of(const Job *job) {
    return (size_t)3 * (size_t)job->feed.resolution * (size_t)job->feed.resolution;
}

static bool job_open(Job *job, Session *session, const char *entry, size_t pictures, LvError *error) {
    job->session = session;
    session->compile.alone = true;
    job->batch = 16;
    if (!options_integer(&session->options, "batch-size", 1, 1 << 20, &job->batch, error)) return false;
    if ((uint64_t)job->batch > pictures) job->batch = (int64_t)pictures;
    if (!session_program(session, entry, job->batch, &job->plan, &job->program, error) ||
        !lv_feed_bind(&job->feed, job->plan, NULL, error))
        return false;
    job->pictures = lv_calloc((size_t)job->batch, elements_of(job));
    job->taken = lv_calloc((size_t)job->batch, sizeof *job->taken);
    session_tell_memory(session);
    return true;
}

// Reads on from *next until the batch is full; broken pictures are named and passed over. Gives how many there are.
static int64_t job_fill(Job *job, const Pictures *pictures, size_t *next) {
    int64_t count = 0;
    LvError error = {0};
    while (count < job->batch && *next < pictures->items.count) {
        size_t at = (*next)++;
        if (pictures_load(pictures, at, job->feed.resolution, job->pictures + (size_t)count * elements_of(job), &error)) {
            job->taken[count++] = at;
        } else {
            fprintf(stderr, "lvrun: warning: '%s' is passed over: %s\n", pictures->items.data[at].name, error.message);
            lv_error_clear(&error);
        }
    }
    for (int64_t i = count; count > 0 && i < job->batch; i++) {
        memcpy(job->pictures + (size_t)i * elements_of(job), job->pictures, elements_of(job));
    }
    return count;
}

static bool job_run(Job *job, LvError *error) {
    LvBatch batch = {.size = (int)job->batch, .pictures = job->pictures};
    uint32_t *draws = lv_calloc((size_t)job->batch, sizeof *draws);
    batch.draws = draws;
    bool good = lv_feed_batch(&job->feed, job->program, &batch, error) && lv_program_run(job->program, error);
    free(draws);
    return good;
}

static bool no_pictures(LvError *error) {
    return lv_error_set(error, LV_ERROR_FORMAT, "none of the pictures can be read");
}

static bool save_picture(const char *folder, const char *name, const float *planes, int side, LvError *error) {
    LvPicture picture = {0};
    LvText path = {0};
    lv_text_printf(&path, "%s/%s", folder, name);
    bool good = lv_picture_alloc(&picture, side, side, error);
    if (good) lv_transform_to_bytes(planes, side, picture.pixels);
    good = good && lv_picture_save_png(&picture, path.data, error);
    lv_picture_free(&picture);
    lv_text_free(&path);
    return good;
}

// ---- reconstruct

static const OptionSpec reconstruct_specs[] = {
    {"out", OPTION_VALUE, "DIR", "where the PNG go (default reconstructions)"},
    {"grid", OPTION_VALUE, "FILE.png", "also one sheet: pictures above reconstructions, 32 at most"},
    {"batch-size", OPTION_VALUE, "N", "pictures a run (default 16)"},
    SESSION_OPTIONS,
    {0},
};

static bool reconstruct_batch(Job *job, const Pictures *pictures, int64_t count, const char *out, float *made, LvSheet *sheet,
                              double *psnr, LvError *error) {
    size_t floats = elements_of(job);
    float *picture = lv_calloc(floats, sizeof *picture);
    LvText name = {0};
    bool good = job_run(job, error) &&
                lv_program_get_result(job->program, "image", made, floats * (size_t)job->batch * sizeof(float), error);
    for (int64_t i = 0; good && i < count; i++) {
        const float *result = made + (size_t)i * floats;
        lv_transform_to_floats(job->pictures + (size_t)i * floats, floats, picture);
        double each = lv_psnr(picture, result, floats);
        pictures_name_for(&pictures->items.data[job->taken[i]], &name);
        good = save_picture(out, name.data, result, job->feed.resolution, error);
        lv_sheet_add(sheet, picture, result);
        *psnr += each;
        if (good) printf("%s/%s  psnr %.2f\n", out, name.data, each);
    }
    free(picture);
    lv_text_free(&name);
    return good;
}

static bool save_grid(const LvSheet *sheet, const char *path, LvError *error) {
    LvPicture picture = {0};
    bool good = lv_sheet_draw(sheet, &picture, error) && lv_picture_save_png(&picture, path, error);
    lv_picture_free(&picture);
    return good;
}

static bool reconstruct(Session *s, LvError *error) {
    const char *out = options_get(&s->options, "out", "reconstructions"), *grid = options_get(&s->options, "grid", NULL);
    Pictures pictures = {0};
    Job job = {0};
    float *made = NULL;
    LvSheet *sheet = NULL;
    size_t next = 0, done = 0;
    double psnr = 0;
    bool good = pictures_open(&pictures, s->options.words.data + 1, s->options.words.count - 1, error) &&
                job_open(&job, s, "reconstruct", pictures.items.count, error) && result_named(job.plan, "image", error) &&
                session_folder(out, error);
    if (good) {
        made = lv_calloc((size_t)job.batch * elements_of(&job), sizeof *made);
        sheet = lv_sheet_create(job.feed.resolution, 8, 32);
    }
    while (good && next < pictures.items.count) {
        int64_t count = job_fill(&job, &pictures, &next);
        good = count == 0 || reconstruct_batch(&job, &pictures, count, out, made, sheet, &psnr, error);
        done += (size_t)count;
    }
    if (good && done == 0) good = no_pictures(error);
    if (good && done > 1) printf("%zu pictures, mean psnr %.2f\n", done, psnr / (double)done);
    good = good && (!grid || save_grid(sheet, grid, error));
    free(made);
    lv_sheet_destroy(sheet);
    job_close(&job);
    pictures_close(&pictures);
    return good;
}

int cmd_reconstruct(int argc, char **argv) {
    static const SessionCommand command = {
        "lvrun reconstruct MODEL PICTURES... [options]",
        "Sends pictures through the model's entry `reconstruct` and writes what comes out as PNG. PICTURES are files, folders,\n"
        "or anything that --train-dir takes; each is resized and its centre cut out to the model's resolution.",
        "  lvrun reconstruct runs/augvae/checkpoints/best.safetensors cat.jpg dog.png --grid both.png\n"
        "  lvrun reconstruct models/augvae.lv --config tiny --weights W.safetensors pictures/val --out made\n",
        reconstruct_specs, 1, reconstruct, NULL};
    return session_main(&command, argc, argv);
}

// ---- encode

static const OptionSpec encode_specs[] = {
    {"out", OPTION_VALUE, "FILE", "safetensors for the codes (default tokens.safetensors)"},
    {"batch-size", OPTION_VALUE, "N", "pictures a run (default 16)"},
    SESSION_OPTIONS,
    {0},
};

static bool encode(Session *s, LvError *error) {
    const char *out = options_get(&s->options, "out", "tokens.safetensors");
    Pictures pictures = {0};
    Job job = {0};
    LvText codes = {0};
    json_t *names = json_array();
    size_t next = 0, bytes = 0;
    const LvPort *port = NULL;
    bool good = pictures_open(&pictures, s->options.words.data + 1, s->options.words.count - 1, error) &&
                job_open(&job, s, "encode", pictures.items.count, error) &&
                (port = result_named(job.plan, "tokens", error)) != NULL;
    if (good && (port->shape.rank < 1 || port->shape.dim[0] != job.batch || !lv_shape_bytes(port->shape, port->dtype, &bytes))) {
        good = lv_error_set(error, LV_ERROR_UNSUPPORTED, "the tokens of entry 'encode' do not begin with the batch");
    }
    void *data = lv_malloc(bytes + 1);
    while (good && next < pictures.items.count) {
        int64_t count = job_fill(&job, &pictures, &next);
        if (count == 0) continue;
        good = job_run(&job, error) && lv_program_get_result(job.program, "tokens", data, bytes, error);
        if (good) lv_text_append(&codes, data, bytes / (size_t)job.batch * (size_t)count);
        for (int64_t i = 0; good && i < count; i++) {
            json_t *name = json_string(pictures.items.data[job.taken[i]].name);
            json_array_append_new(names, name ? name : json_string("?"));
        }
    }
    if (good && json_array_size(names) == 0) good = no_pictures(error);
    good = good && pictures_write_codes(out, port->dtype, port->shape, codes.data, names, error);
    if (good)
        printf("%s: %zu pictures, %" PRId64 " codes each\n", out, json_array_size(names),
               lv_shape_elements(port->shape) / job.batch);
    free(data);
    json_decref(names);
    lv_text_free(&codes);
    job_close(&job);
    pictures_close(&pictures);
    return good;
}

int cmd_encode(int argc, char **argv) {
    static const SessionCommand command = {
        "lvrun encode MODEL PICTURES... [options]",
        "Turns pictures into codes by the model's entry `encode`: a tensor `tokens` [pictures, codes] in a safetensors file,\n"
        "the pictures' names in its metadata.",
        "  lvrun encode runs/augvae/checkpoints/best.safetensors pictures/val --out val.safetensors\n",
        encode_specs, 1, encode, NULL};
    return session_main(&command, argc, argv);
}

// ---- decode

static const OptionSpec decode_specs[] = {
    {"out", OPTION_VALUE, "DIR", "where the PNG go (default decoded)"},
    {"batch-size", OPTION_VALUE, "N", "pictures a run (default 16)"},
    SESSION_OPTIONS,
    {0},
};

// The name of picture `at`, from the file's metadata or its number.
static void decoded_name(json_t *names, int64_t at, LvText *out) {
    const char *name = json_string_value(json_array_get(names, (size_t)at));
    out->length = 0;
    if (name) pictures_name_for(&(PictureItem){NULL, 0, name}, out);
    else lv_text_printf(out, "%06" PRId64 ".png", at);
}

static bool check_codes(const LvTensor *codes, const LvPort *port, const char *path, LvError *error) {
    LvShape want = port->shape;
    if (codes && codes->shape.rank == want.rank && want.rank > 0) want.dim[0] = codes->shape.dim[0];
    if (!codes) lv_error_set(error, LV_ERROR_FORMAT, "%s: no tensor 'tokens'", path);
    else if (!lv_shape_equal(codes->shape, want) || lv_dtype_is_float(codes->dtype) != lv_dtype_is_float(port->dtype)) {
        LvText text = {0};
        lv_shape_print(&text, codes->shape);
        lv_text_puts(&text, "; the model takes ");
        lv_shape_print(&text, want);
        lv_error_set(error, LV_ERROR_FORMAT, "%s: 'tokens' is %s", path, text.data);
        lv_text_free(&text);
    } else {
        return true;
    }
    return lv_error_hint(error, "lvrun encode writes such files, by the same model");
}

static bool decode_all(Session *s, const LvTensorFile *file, const LvTensor *codes, int64_t batch, const char *out,
                       LvError *error) {
    LvPlan *plan = NULL;
    LvProgram *program = NULL;
    const LvPort *image = NULL;
    const char *path = s->options.words.data[1];
    const char *list = lv_safetensors_metadata(file, "names");
    json_t *names = list ? json_loads(list, 0, NULL) : NULL;
    LvText name = {0};
    s->compile.alone = true;
    bool good =
        session_program(s, "decode", batch, &plan, &program, error) && (image = result_named(plan, "image", error)) != NULL;
    const LvPort *port = NULL;
    for (int i = 0; good && i < plan->input_count; i++) {
        if (!strcmp(plan->inputs[i].name, "tokens")) port = &plan->inputs[i];
    }
    if (good && !port) good = lv_error_set(error, LV_ERROR_UNSUPPORTED, "entry 'decode' takes no 'tokens'");
    good = good && check_codes(codes, port, path, error);
    size_t in_bytes = 0, out_bytes = 0;
    good = good && lv_shape_bytes(port->shape, port->dtype, &in_bytes) && lv_shape_bytes(image->shape, image->dtype, &out_bytes);
    bool square = good && image->shape.rank == 4 && image->shape.dim[1] == 3 && image->shape.dim[2] == image->shape.dim[3];
    if (good && !square) good = lv_error_set(error, LV_ERROR_UNSUPPORTED, "the image of entry 'decode' is not [B, 3, R, R]");
    char *input = lv_calloc(in_bytes + 1, 1);
    float *made = lv_calloc(out_bytes + 1, 1);
    if (good) session_tell_memory(s);
    int64_t total = codes ? codes->shape.dim[0] : 0, per = good ? lv_shape_elements(port->shape) / batch : 0;
    for (int64_t at = 0; good && at < total; at += batch) {
        int64_t count = total - at < batch ? total - at : batch;
        lv_elements_convert(input, port->dtype, (const char *)codes->data + (size_t)(at * per) * lv_dtype_size(codes->dtype),
                            codes->dtype, count * per);
        good = lv_program_set_input(program, "tokens", input, in_bytes, error) && lv_program_run(program, error) &&
               lv_program_get_result(program, "image", made, out_bytes, error);
        for (int64_t i = 0; good && i < count; i++) {
            decoded_name(names, at + i, &name);
            good = save_picture(out, name.data, made + (size_t)i * out_bytes / sizeof(float) / (size_t)batch,
                                (int)image->shape.dim[2], error);
        }
    }
    if (good) printf("%s: %" PRId64 " pictures\n", out, total);
    free(input);
    free(made);
    lv_text_free(&name);
    json_decref(names);
    lv_program_destroy(program);
    lv_plan_destroy(plan);
    return good;
}

static bool decode(Session *s, LvError *error) {
    const char *out = options_get(&s->options, "out", "decoded");
    LvTensorFile *file = NULL;
    int64_t batch = 16;
    if (!options_integer(&s->options, "batch-size", 1, 1 << 20, &batch, error) ||
        !lv_safetensors_read(s->options.words.data[1], &file, error)) {
        return false;
    }
    const LvTensor *codes = lv_safetensors_find(file, "tokens");
    bool good = true;
    if (!codes || codes->shape.rank < 1 || codes->shape.dim[0] < 1) {
        good = lv_error_set(error, LV_ERROR_FORMAT, "%s: no tensor 'tokens' with pictures in it", s->options.words.data[1]);
        lv_error_hint(error, "lvrun encode writes such files");
    }
    if (good && batch > codes->shape.dim[0]) batch = codes->shape.dim[0];
    good = good && session_folder(out, error) && decode_all(s, file, codes, batch, out, error);
    lv_safetensors_free(file);
    return good;
}

int cmd_decode(int argc, char **argv) {
    static const SessionCommand command = {
        "lvrun decode MODEL TOKENS.safetensors [options]",
        "Turns codes, as `lvrun encode` writes them, into PNG by the model's entry `decode`.",
        "  lvrun decode runs/augvae/checkpoints/best.safetensors val.safetensors --out decoded\n",
        decode_specs, 1, decode, NULL};
    return session_main(&command, argc, argv);
}
