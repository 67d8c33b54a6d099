// lvrun sample: pictures from prompts. Rows of the batch are (prompt, seed) pairs, whatever prompt they belong to; a prompt whose
// rows are all drawn is ranked, turned into pictures and written.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/folder.h"
#include "data/transforms.h"
#include "generate/scorer.h"
#include "generator.h"
#include "io/contact.h"
#include "io/jsonl.h"
#include "pictures.h"
#include "prompts.h"

enum { MAX_COUNT = 1 << 20, SHEET_COLUMNS = 8, SHEET_LIMIT = 256, VAE_BATCH = 8 };

static const OptionSpec specs[] = {
    {"prompt", OPTION_WORDS, "TEXT...", "what to draw; several texts, or the option several times"},
    {"prompts", OPTION_VALUE, "FILE", "a prompt a line; - reads standard input and answers line by line"},
    {"count", OPTION_VALUE, "N", "pictures of each prompt (default 1)"},
    {"rerank", OPTION_VALUE, "M", "draw M, keep the N for which the model finds the prompt likeliest"},
    CHOICE_OPTIONS,
    {"seed", OPTION_VALUE, "S", "picture i of a prompt (from 0) has seed S + i (default 42)"},
    {"out", OPTION_VALUE, "DIR", "where PNG, samples.jsonl and sheet.png go (default samples)"},
    {"tokens", OPTION_VALUE, "FILE", "also the codes of the pictures, as lvrun encode writes them"},
    {"batch-size", OPTION_VALUE, "B", "pictures drawn together (default 16); less takes less memory"},
    GENERATOR_OPTIONS,
    {0},
};

typedef struct {
    Generator g;
    Prompts prompts;   // all of them; of a stream, the line that is being answered
    LvChoice choice;
    int64_t count, drawn, seed, batch;  // kept of a prompt, drawn of a prompt
    const char *out;
    LvWriter *writer;
    LvScorer *scorer;  // NULL: no reranking
    LvPainter *painter;
    LvLog *log;
    LvContact *sheet;
    LvText codes;      // of all pictures so far, for --tokens, and
    json_t *names;     // their files; NULL: not asked for
    int64_t pictures, refused;
    double seconds;    // of drawing
    int64_t tokens;    // drawn in them
} Sampler;

static bool read_numbers(Sampler *s, const Options *options, LvError *error) {
    s->count = 1, s->drawn = 0, s->seed = 42, s->batch = 16;
    if (!options_integer(options, "count", 1, MAX_COUNT, &s->count, error) ||
        !options_integer(options, "rerank", 1, MAX_COUNT, &s->drawn, error) ||
        !options_integer(options, "seed", INT64_MIN, INT64_MAX - MAX_COUNT, &s->seed, error) ||
        !options_integer(options, "batch-size", 1, 1 << 16, &s->batch, error) || !choice_read(options, &s->choice, error)) {
        return false;
    }
    if (options_has(options, "rerank") && s->drawn < s->count) {
        return lv_error_set(error, LV_ERROR_USAGE, "--rerank %lld is less than --count %lld: it draws so many to keep those",
                            (long long)s->drawn, (long long)s->count);
    }
    if (s->drawn == 0) s->drawn = s->count;
    if (s->choice.temperature <= 0 && s->drawn > 1) {
        lv_error_set(error, LV_ERROR_USAGE, "without chance the %lld pictures of a prompt would all be the same",
                     (long long)s->drawn);
        return lv_error_hint(error, "--count 1 goes with --greedy; --temperature above 0 with more");
    }
    return true;
}

// Words that the command does not know may be the model's parameters; one that is nearly --prompt is none.
static const char *nearly_prompt(const Options *options) {
    static const char *const names[] = {"prompt", "prompts"};
    for (size_t i = 0; i < options->settings.count; i++) {
        if (lv_nearest_name(options->settings.data[i].name, names, 2)) return options->settings.data[i].origin;
    }
    return NULL;
}

static bool check(Options *options, LvError *error) {
    Sampler s = {0};
    if (options_has(options, "prompt") && options_has(options, "prompts"))
        return lv_error_set(error, LV_ERROR_USAGE, "--prompt and --prompts: one of them");
    if (!options_has(options, "prompt") && !options_has(options, "prompts")) {
        const char *near = nearly_prompt(options);
        lv_error_set(error, LV_ERROR_USAGE, "no prompt: what is to be drawn?");
        if (near) return lv_error_hint(error, "did you mean '--prompt' by '%s'?", near);
        return lv_error_hint(error, "--prompt \"a red heart\", or --prompts FILE with one a line");
    }
    if (options->words.count > 1)
        return lv_error_set(error, LV_ERROR_USAGE, "'%s': a prompt stands after --prompt", options->words.data[1]);
    return read_numbers(&s, options, error);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- one batch after another

// The rows of `count` prompts, `drawn` each: prompt r / drawn with seed + r % drawn.
typedef struct {
    int64_t rows;
    int32_t *texts;   // [rows, text_length]
    int64_t *seeds;   // [rows]
    int32_t *codes;   // [rows, image_length]
    double *logprob;  // [rows]
    double *rank;     // [rows], of the text given the picture; NULL without reranking
} Rows;

static Rows rows_of(const Sampler *s, const Prompt *prompts, int64_t count) {
    Rows r = {.rows = count * s->drawn};
    size_t rows = (size_t)r.rows, text = (size_t)s->g.text_length;
    r.texts = lv_calloc(rows * text, sizeof *r.texts);
    r.seeds = lv_calloc(rows, sizeof *r.seeds);
    r.codes = lv_calloc(rows * (size_t)s->g.image_length, sizeof *r.codes);
    r.logprob = lv_calloc(rows, sizeof *r.logprob);
    if (s->scorer) r.rank = lv_calloc(rows, sizeof *r.rank);
    for (int64_t i = 0; i < r.rows; i++) {
        memcpy(r.texts + (size_t)i * text, prompts[i / s->drawn].tokens, text * sizeof *r.texts);
        r.seeds[i] = s->seed + i % s->drawn;
    }
    return r;
}

static void rows_free(Rows *r) {
    free(r->texts);
    free(r->seeds);
    free(r->codes);
    free(r->logprob);
    free(r->rank);
}

static bool draw_rows(Sampler *s, Rows *r, LvError *error) {
    bool good = true;
    double start = now();
    for (int64_t at = 0; good && at < r->rows; at += s->batch) {
        int64_t n = r->rows - at < s->batch ? r->rows - at : s->batch;
        int32_t *texts = r->texts + at * s->g.text_length, *codes = r->codes + at * s->g.image_length;
        LvWriting writing = {.rows = n, .reference = texts, .seeds = r->seeds + at, .choice = s->choice,
                             .length = s->g.image_length, .end = -1, .ticker = s->g.ticker};
        good = lv_writer_run(s->writer, &writing, codes, r->logprob + at, error) &&
               (!s->scorer || lv_scorer_run(s->scorer, texts, codes, 1, n, r->rank + at, error));
        s->g.done += n;
    }
    s->seconds += now() - start;
    s->tokens += r->rows * s->g.image_length;
    return good;
}

// ---- writing

// "001-a-red-heart-s42.png": letters and digits of the prompt, for the eye.
static void file_name(const Prompt *prompt, int64_t seed, LvText *out) {
    enum { MOST = 40 };
    out->length = 0;
    lv_text_printf(out, "%03" PRId64 "-", prompt->number);
    size_t start = out->length;
    for (const char *p = prompt->text; *p && out->length < start + MOST; p++) {
        bool digit = *p >= '0' && *p <= '9', small = *p >= 'a' && *p <= 'z', capital = *p >= 'A' && *p <= 'Z';
        if (digit || small) lv_text_putc(out, *p);
        else if (capital) lv_text_putc(out, (char)(*p - 'A' + 'a'));
        else if (out->data[out->length - 1] != '-') lv_text_putc(out, '-');
    }
    if (out->data[out->length - 1] != '-') lv_text_putc(out, '-');
    lv_text_printf(out, "s%" PRId64 ".png", seed);
}

static bool save_png(const float *planes, int side, const char *path, LvError *error) {
    LvPicture picture = {0};
    bool good = lv_picture_alloc(&picture, side, side, error);
    if (good) lv_transform_to_bytes(planes, side, picture.pixels);
    good = good && lv_picture_save_png(&picture, path, error);
    lv_picture_free(&picture);
    return good;
}

static bool print_row(Sampler *s, const LvText *row, LvError *error) {
    printf("%s}\n", row->data);
    if (fflush(stdout) != 0) return lv_error_system(error, "cannot write to standard output");
    return !s->log || lv_log_write(s->log, row, error);
}

static bool write_sample(Sampler *s, const Prompt *prompt, const Rows *r, int64_t at, const float *planes, LvError *error) {
    LvText name = {0}, path = {0}, row = {0}, label = {0};
    file_name(prompt, r->seeds[at], &name);
    lv_text_printf(&path, "%s/%s", s->out, name.data);
    bool good = save_png(planes, lv_painter_side(s->painter), path.data, error);
    if (s->count > 1) lv_text_printf(&label, "%" PRId64 ": ", r->seeds[at]);
    lv_text_puts(&label, prompt->text);
    lv_contact_add(s->sheet, planes, lv_text_get(&label));
    lv_row_text(&row, "prompt", prompt->text);
    lv_row_integer(&row, "seed", r->seeds[at]);
    lv_row_number(&row, "logprob", r->logprob[at]);
    if (r->rank) lv_row_number(&row, "rerank_logprob", r->rank[at]);
    lv_row_text(&row, "file", path.data);
    if (prompt->left_out) lv_row_text(&row, "left_out", prompt->left_out);
    good = good && print_row(s, &row, error);
    s->pictures += good;
    if (good && s->names) {
        size_t n = (size_t)s->g.image_length;
        lv_text_append(&s->codes, (const char *)(r->codes + (size_t)at * n), n * sizeof *r->codes);
        json_array_append_new(s->names, json_string(name.data));
    }
    lv_text_free(&name);
    lv_text_free(&path);
    lv_text_free(&row);
    lv_text_free(&label);
    return good;
}

// The rows of each prompt that are kept, the best first where they are ranked; painted together.
static bool write_rows(Sampler *s, const Prompt *prompts, int64_t count, const Rows *r, LvError *error) {
    int64_t kept = count * s->count, n = s->g.image_length;
    size_t side = (size_t)lv_painter_side(s->painter), floats = 3 * side * side;
    int64_t *places = lv_calloc((size_t)kept, sizeof *places);
    int32_t *codes = lv_calloc((size_t)(kept * n), sizeof *codes);
    float *pictures = lv_calloc((size_t)kept * floats, sizeof *pictures);
    for (int64_t p = 0; p < count; p++) {
        int64_t *own = places + p * s->count, first = p * s->drawn;
        if (r->rank) lv_rank(r->rank + first, s->drawn, s->count, own);
        else for (int64_t i = 0; i < s->count; i++) own[i] = i;
        for (int64_t i = 0; i < s->count; i++) own[i] += first;
    }
    for (int64_t i = 0; i < kept; i++) memcpy(codes + i * n, r->codes + places[i] * n, (size_t)n * sizeof *codes);
    bool good = lv_painter_run(s->painter, codes, kept, pictures, error);
    generator_quiet(&s->g);
    for (int64_t i = 0; good && i < kept; i++)
        good = write_sample(s, &prompts[i / s->count], r, places[i], pictures + (size_t)i * floats, error);
    free(places);
    free(codes);
    free(pictures);
    return good;
}

static bool draw_prompts(Sampler *s, const Prompt *prompts, int64_t count, LvError *error) {
    Rows rows = rows_of(s, prompts, count);
    bool good = draw_rows(s, &rows, error) && write_rows(s, prompts, count, &rows, error);
    rows_free(&rows);
    return good;
}

// ---- where prompts come from

static void warn(const Prompt *prompt, const char *where, int64_t text_length) {
    LvText place = {0};
    prompt_place(prompt, where, &place);
    if (prompt->repaired) fprintf(stderr, "lvrun: warning: %s is not UTF-8: U+FFFD stands for what is not\n", place.data);
    if (prompt->unknown) fprintf(stderr, "lvrun: warning: %s: the tokenizer knows no %s\n", place.data, prompt->unknown);
    if (prompt->left_out) {
        fprintf(stderr, "lvrun: warning: %s is cut to %" PRId64 " tokens; left out: \"%s\"\n", place.data, text_length - 1,
                prompt->left_out);
    }
    lv_text_free(&place);
}

static bool prepare(Sampler *s, size_t at, LvError *error) {
    Prompt *prompt = &s->prompts.items.data[at];
    if (!prompt_encode(prompt, s->prompts.where, s->g.companions.tokenizer, s->g.text_length, s->g.end, error)) return false;
    warn(prompt, s->prompts.where, s->g.text_length);
    return true;
}

static bool make_programs(Sampler *s, LvError *error) {
    int64_t vae_batch = s->batch < VAE_BATCH ? s->batch : VAE_BATCH;
    bool good = lv_writer_create(&s->g.network, "draw", "text", s->batch, &s->writer, error) &&
                (!options_has(&s->g.session->options, "rerank") || lv_scorer_create(&s->g.network, s->batch, &s->scorer, error)) &&
                generator_painter(&s->g, vae_batch, &s->painter, error);
    if (good) session_tell_memory(s->g.session);
    return good;
}

static int64_t common_divisor(int64_t a, int64_t b) {
    return b ? common_divisor(b, a % b) : a;
}

static int sheet_columns(const Sampler *s, int64_t prompts) {
    if (s->count > 1) return s->count < SHEET_COLUMNS ? (int)s->count : SHEET_COLUMNS;
    return prompts <= 16 ? SHEET_COLUMNS / 2 : SHEET_COLUMNS;
}

static bool sample_all(Sampler *s, LvError *error) {
    const Prompt *prompts = s->prompts.items.data;
    int64_t count = (int64_t)s->prompts.items.count, rows = count * s->drawn;
    if (s->batch > rows) s->batch = rows;
    if (!make_programs(s, error)) return false;
    int64_t group = s->batch / common_divisor(s->batch, s->drawn);  // so many prompts at a time fill whole batches
    bool good = true;
    s->g.all = rows;
    s->sheet = lv_contact_create(lv_painter_side(s->painter), sheet_columns(s, count), SHEET_LIMIT);
    for (int64_t at = 0; good && at < count; at += group)
        good = draw_prompts(s, prompts + at, count - at < group ? count - at : group, error);
    return good;
}

// A line that cannot be drawn is answered too, so that whoever asks line by line is not left waiting.
static bool answer_refusal(Sampler *s, const Prompt *prompt, LvError *error) {
    LvText row = {0};
    lv_row_text(&row, "prompt", prompt->text);
    lv_row_text(&row, "error", error->message);
    lv_error_clear(error);
    s->refused++;
    bool good = print_row(s, &row, error);
    lv_text_free(&row);
    return good;
}

static bool sample_stream(Sampler *s, LvError *error) {
    if (s->batch > s->drawn) s->batch = s->drawn;
    if (!make_programs(s, error)) return false;
    bool good = true;
    s->sheet = lv_contact_create(lv_painter_side(s->painter), sheet_columns(s, SHEET_LIMIT), SHEET_LIMIT);
    for (; good && prompts_read_line(&s->prompts, stdin); prompts_clear(&s->prompts)) {
        s->g.done = 0, s->g.all = s->drawn;
        if (prepare(s, 0, error)) good = draw_prompts(s, s->prompts.items.data, 1, error);
        else good = error->kind == LV_ERROR_USAGE && answer_refusal(s, s->prompts.items.data, error);
    }
    return good;
}

static bool write_sheet(Sampler *s, LvError *error) {
    LvText path = {0};
    lv_text_printf(&path, "%s/sheet.png", s->out);
    bool good = s->pictures == 0 || lv_contact_save(s->sheet, path.data, error);
    if (good && s->pictures) {
        fprintf(stderr, "%s: %" PRId64 " picture%s, %" PRId64 " tokens each, %.0f tokens/s; sheet.png shows %s\n", s->out,
                s->pictures, s->pictures == 1 ? "" : "s", s->g.image_length, s->seconds > 0 ? (double)s->tokens / s->seconds : 0,
                s->pictures > lv_contact_count(s->sheet) ? "the first" : "all");
    }
    lv_text_free(&path);
    return good;
}

static bool write_codes(Sampler *s, LvError *error) {
    LvShape shape = {.rank = 2, .dim = {0, s->g.image_length}};
    const char *path = options_get(&s->g.session->options, "tokens", NULL);
    return !path || pictures_write_codes(path, LV_I32, shape, s->codes.data, s->names, error);
}

static bool open_out(Sampler *s, LvError *error) {
    LvText path = {0};
    lv_text_printf(&path, "%s/samples.jsonl", s->out);
    bool good = lv_folder_make(s->out, error) && lv_log_open(path.data, 0, &s->log, error);
    lv_text_free(&path);
    return good;
}

static bool sample(Session *session, LvError *error) {
    Sampler s = {.out = options_get(&session->options, "out", "samples")};
    static const char *const drawing[] = {"draw_begin", "draw_next", NULL}, *const ranking[] = {"draw_begin", "draw_next", "score", NULL};
    const char *const *entries = options_has(&session->options, "rerank") ? ranking : drawing;
    bool stream = !strcmp(options_get(&session->options, "prompts", ""), "-");
    bool good = read_numbers(&s, &session->options, error) &&
                (stream || prompts_collect(&s.prompts, &session->options, error)) && generator_open(&s.g, session, entries, error);
    if (stream) s.prompts.where = "prompt";
    s.g.doing = "drawing";
    if (options_has(&session->options, "tokens")) s.names = json_array();
    for (size_t i = 0; good && i < s.prompts.items.count; i++) good = prepare(&s, i, error);
    good = good && open_out(&s, error) && (stream ? sample_stream(&s, error) : sample_all(&s, error)) && write_sheet(&s, error) &&
           write_codes(&s, error);
    if (good && s.refused)
        good = lv_error_set(error, LV_ERROR_FORMAT, "%" PRId64 " of the prompts could not be drawn", s.refused);
    prompts_clear(&s.prompts);
    lv_writer_destroy(s.writer);
    lv_scorer_destroy(s.scorer);
    lv_painter_destroy(s.painter);
    lv_log_close(s.log);
    lv_contact_destroy(s.sheet);
    lv_text_free(&s.codes);
    json_decref(s.names);
    generator_close(&s.g);
    return good;
}

int cmd_sample(int argc, char **argv) {
    static const SessionCommand command = {
        .usage = "lvrun sample CHECKPOINT --prompt TEXT... | --prompts FILE [options]",
        .about =
            "Draws pictures from text: a PNG each, named by prompt and seed; DIR/sheet.png with all of them above their\n"
            "prompts (256 at most); a JSON line each, on stdout and in DIR/samples.jsonl: prompt, seed, logprob (natural, of\n"
            "all its tokens, each among the codes of pictures and at temperature 1), file.\n"
            "\n"
            "The same checkpoint, prompt, seed and options give the same picture, whatever is drawn beside it (up to the\n"
            "rounding of matmuls of other batch sizes, which could turn one choice in millions). --rerank draws M pictures,\n"
            "asks the same model how likely it would describe each by the prompt (rerank_logprob), and keeps the best. A\n"
            "prompt of more tokens than the model reads is cut, and characters that its tokenizer does not know are left out,\n"
            "with a warning; an empty prompt is refused. --prompts - answers each line of standard input as it comes, one it\n"
            "cannot draw by {\"prompt\", \"error\"}; the sheet is drawn at the end.",
        .examples =
            "  lvrun sample runs/biart/checkpoints/best.safetensors --prompt \"a red heart\" \"a blue heart\" --count 4\n"
            "  lvrun sample best.safetensors --prompts wishes.txt --temperature 0.9 --top-p 0.95 --seed 7\n"
            "  lvrun sample best.safetensors --prompt \"flag of Italy\" --count 2 --rerank 16\n"
            "  echo \"a smiling cat\" | lvrun sample best.safetensors --prompts - --greedy\n",
        .specs = specs, .check = check, .work = sample};
    return session_main(&command, argc, argv);
}
