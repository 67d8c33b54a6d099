// lvrun caption: text from pictures, by beam search or by choosing token after token.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/transforms.h"
#include "generate/searcher.h"
#include "generator.h"
#include "io/contact.h"
#include "io/jsonl.h"
#include "pictures.h"

enum { BEAMS = 4, CANDIDATES = 8, VAE_BATCH = 8, SHEET_COLUMNS = 8, SHEET_LIMIT = 256 };  // CANDIDATES: what the models name unless told otherwise

static const OptionSpec specs[] = {
    {"beams", OPTION_VALUE, "B", "width of the beam search (default 4); 1 is greedy"},
    {"length-penalty", OPTION_VALUE, "A", "of beam search: captions compare by logprob / ((5 + tokens) / 6)^A (default 0.6)"},
    CHOICE_OPTIONS,
    {"seed", OPTION_VALUE, "S", "of every picture's caption, where chance chooses (default 42)"},
    {"json", OPTION_FLAG, NULL, "a JSON object a line: file, caption, logprob"},
    {"sheet", OPTION_VALUE, "FILE.png", "also one sheet: pictures above captions, 256 at most; in brackets the data set's own caption"},
    {"batch-size", OPTION_VALUE, "N", "rows described together; each beam takes one (default 16)"},
    GENERATOR_OPTIONS,
    {0},
};

typedef struct {
    Generator g;
    bool search, json, several;
    int64_t beams, batch, seed;
    double alpha;
    LvChoice choice;
    LvSearcher *searcher;  // or
    LvWriter *writer;
    LvCoder *coder;
    int64_t group;         // pictures at a time
    uint8_t *pictures;     // [group, 3, R, R]
    int32_t *codes;        // [group, image_length]
    size_t *taken;         // [group] which items stand there
    LvFound *found;        // [group]
    LvContact *sheet;      // NULL: not asked for
    int64_t described;
} Captioner;

static bool read_numbers(Captioner *c, const Options *options, LvError *error) {
    c->beams = BEAMS, c->batch = 16, c->seed = 42, c->alpha = 0.6;
    c->search = !choice_given(options);
    if (!c->search && (options_has(options, "beams") || options_has(options, "length-penalty"))) {
        lv_error_set(error, LV_ERROR_USAGE, "--%s is of beam search, which takes the likeliest caption",
                     options_has(options, "beams") ? "beams" : "length-penalty");
        return lv_error_hint(error, "leave out --greedy, --temperature, --top-k and --top-p; --beams 1 is greedy");
    }
    c->json = options_flag(options, "json", false);
    return options_integer(options, "beams", 1, 1024, &c->beams, error) &&
           options_integer(options, "batch-size", 1, 1 << 16, &c->batch, error) &&
           options_integer(options, "seed", INT64_MIN, INT64_MAX, &c->seed, error) &&
           options_number(options, "length-penalty", &c->alpha, error) && choice_read(options, &c->choice, error);
}

// A wide beam needs as many candidates of each row as it is wide: a parameter of the model.
static bool check(Options *options, LvError *error) {
    Captioner c = {0};
    if (!read_numbers(&c, options, error)) return false;
    if (c.search && c.beams > CANDIDATES) {
        lv_vec_push(&options->settings,
                    (OptionSetting){"beam_candidates", lv_arena_printf(options->arena, "%" PRId64, c.beams), "--beams", true});
    }
    return true;
}

static bool make_programs(Captioner *c, int64_t pictures, LvError *error) {
    int64_t rows = c->search ? c->beams : 1;
    c->group = c->batch / rows > 0 ? c->batch / rows : 1;
    if (c->group > pictures) c->group = pictures;
    int64_t vae_batch = c->group < VAE_BATCH ? c->group : VAE_BATCH;
    bool good = (c->search ? lv_searcher_create(&c->g.network, c->group, c->beams, &c->searcher, error)
                           : lv_writer_create(&c->g.network, "describe", "image", c->group, &c->writer, error)) &&
                generator_coder(&c->g, vae_batch, &c->coder, error);
    if (!good) return false;
    size_t side = (size_t)lv_coder_resolution(c->coder), group = (size_t)c->group;
    c->pictures = lv_calloc(group * 3 * side * side, sizeof *c->pictures);
    c->codes = lv_calloc(group * (size_t)c->g.image_length, sizeof *c->codes);
    c->taken = lv_calloc(group, sizeof *c->taken);
    c->found = lv_calloc(group, sizeof *c->found);
    session_tell_memory(c->g.session);
    return true;
}

// Reads on from *next until the group is full; broken pictures are named and passed over. Gives how many there are.
static int64_t fill(Captioner *c, const Pictures *pictures, size_t *next) {
    int side = lv_coder_resolution(c->coder);
    int64_t count = 0;
    LvError error = {0};
    while (count < c->group && *next < pictures->items.count) {
        size_t at = (*next)++;
        if (pictures_load(pictures, at, side, c->pictures + (size_t)(count * 3 * side * side), &error)) {
            c->taken[count++] = at;
        } else {
            fprintf(stderr, "lvrun: warning: '%s' is passed over: %s\n", pictures->items.data[at].name, error.message);
            lv_error_clear(&error);
        }
    }
    return count;
}

static bool write_captions(Captioner *c, int64_t count, LvError *error) {
    int64_t length = c->g.text_length;
    int32_t *tokens = lv_calloc((size_t)(c->group * length), sizeof *tokens);
    double *logprob = lv_calloc((size_t)c->group, sizeof *logprob);
    int64_t *seeds = lv_calloc((size_t)c->group, sizeof *seeds);
    for (int64_t i = 0; i < count; i++) seeds[i] = c->seed;
    LvWriting writing = {.rows = count, .reference = c->codes, .seeds = seeds, .choice = c->choice, .length = length,
                         .end = c->g.end, .ticker = c->g.ticker};
    bool good = lv_writer_run(c->writer, &writing, tokens, logprob, error);
    for (int64_t i = 0; good && i < count; i++) {
        LvFound *f = &c->found[i];
        *f = (LvFound){.tokens = lv_calloc((size_t)length, sizeof(int32_t)), .logprob = logprob[i]};
        while (f->length < length && tokens[i * length + f->length] != c->g.end) f->length++;
        memcpy(f->tokens, tokens + i * length, (size_t)f->length * sizeof(int32_t));
        f->ended = f->length < length;
    }
    free(tokens);
    free(logprob);
    free(seeds);
    return good;
}

// A caption as one line: a model may well write a newline.
static void print_line(const char *name, const char *caption) {
    if (name) printf("%s: ", name);
    for (const char *p = caption; *p; p++) putchar((unsigned char)*p < ' ' || *p == 127 ? ' ' : *p);
    putchar('\n');
}

// What is said of the picture, and what its data set says, where that is something else.
static bool add_to_sheet(Captioner *c, const PictureItem *item, const uint8_t *planes, const char *caption, LvError *error) {
    LvText label = {0};
    char *given = NULL;
    bool good = !item->data || lv_dataset_captions(item->data, item->sample, &given, error);
    if (given) given[strcspn(given, "\n")] = 0;
    lv_text_puts(&label, caption);
    if (given && *given && strcasecmp(given, caption)) lv_text_printf(&label, " [%s]", given);
    size_t side = (size_t)lv_coder_resolution(c->coder), count = 3 * side * side;
    float *numbers = lv_calloc(count, sizeof *numbers);
    lv_transform_to_floats(planes, count, numbers);
    if (good) lv_contact_add(c->sheet, numbers, lv_text_get(&label));
    free(numbers);
    lv_text_free(&label);
    free(given);
    return good;
}

static bool print_caption(Captioner *c, const PictureItem *item, const uint8_t *planes, const LvFound *found, LvError *error) {
    const char *name = item->name;
    LvText caption = {0}, row = {0};
    bool good = lv_tokenizer_decode(c->g.companions.tokenizer, found->tokens, (size_t)found->length, LV_DECODE_SKIP_SPECIALS,
                                    &caption, error);
    if (good && c->json) {
        lv_row_text(&row, "file", name);
        lv_row_text(&row, "caption", lv_text_get(&caption));
        lv_row_number(&row, "logprob", found->logprob);
        printf("%s}\n", row.data);
    } else if (good) {
        print_line(c->several ? name : NULL, lv_text_get(&caption));
    }
    if (good && fflush(stdout) != 0) good = lv_error_system(error, "cannot write to standard output");
    if (good && c->sheet) good = add_to_sheet(c, item, planes, lv_text_get(&caption), error);
    lv_text_free(&caption);
    lv_text_free(&row);
    return good;
}

static bool describe(Captioner *c, const Pictures *pictures, int64_t count, LvError *error) {
    bool good = lv_coder_encode(c->coder, c->pictures, count, c->codes, error);
    good = good && (c->search ? lv_searcher_run(c->searcher, c->codes, count, c->g.text_length, c->g.end, c->alpha, c->found,
                                                error)
                              : write_captions(c, count, error));
    if (!good) return false;
    generator_quiet(&c->g);
    size_t side = (size_t)lv_coder_resolution(c->coder), each = 3 * side * side;
    for (int64_t i = 0; i < count; i++) {
        const PictureItem *item = &pictures->items.data[c->taken[i]];
        good = good && print_caption(c, item, c->pictures + (size_t)i * each, &c->found[i], error);
        free(c->found[i].tokens);
    }
    c->described += count;
    return good;
}

static bool caption(Session *session, LvError *error) {
    Captioner c = {0};
    Pictures pictures = {0};
    size_t next = 0;
    static const char *const searching[] = {"beam_begin", "beam_next", NULL}, *const writing[] = {"describe_begin", "describe_next", NULL};
    bool good = read_numbers(&c, &session->options, error) &&
                pictures_open(&pictures, session->options.words.data + 1, session->options.words.count - 1, error) &&
                generator_open(&c.g, session, c.search ? searching : writing, error);
    c.several = pictures.items.count > 1;
    c.g.doing = "describing", c.g.all = (int64_t)pictures.items.count;
    good = good && make_programs(&c, (int64_t)pictures.items.count, error);
    const char *sheet = options_get(&session->options, "sheet", NULL);
    int columns = pictures.items.count <= 2 * SHEET_COLUMNS ? SHEET_COLUMNS / 2 : SHEET_COLUMNS;
    if (good && sheet) c.sheet = lv_contact_create(lv_coder_resolution(c.coder), columns, SHEET_LIMIT);
    while (good && next < pictures.items.count) {
        int64_t count = fill(&c, &pictures, &next);
        good = count == 0 || describe(&c, &pictures, count, error);
        c.g.done += count;
    }
    if (good && c.described == 0) good = lv_error_set(error, LV_ERROR_FORMAT, "none of the pictures can be read");
    good = good && (!c.sheet || lv_contact_save(c.sheet, sheet, error));
    lv_contact_destroy(c.sheet);
    lv_searcher_destroy(c.searcher);
    lv_writer_destroy(c.writer);
    lv_coder_destroy(c.coder);
    free(c.pictures);
    free(c.codes);
    free(c.taken);
    free(c.found);
    pictures_close(&pictures);
    generator_close(&c.g);
    return good;
}

int cmd_caption(int argc, char **argv) {
    static const SessionCommand command = {
        .usage = "lvrun caption CHECKPOINT PICTURES... [options]",
        .about =
            "Describes pictures: a caption a line, after the file's name where there are several. PICTURES are files,\n"
            "folders, or anything that --train-dir takes; each is resized and its centre cut out to the side that the model's\n"
            "picture tokenizer reads. logprob is natural and of all tokens, the one that ends the caption included.\n"
            "\n"
            "Captions are found by beam search; with --greedy, --temperature, --top-k or --top-p each token is chosen as it\n"
            "comes. Beams narrow as captions end (Sutskever et al., 2014), and finished ones compare by the length-normalised\n"
            "score of Wu et al., 2016, equation 14.",
        .examples =
            "  lvrun caption runs/biart/checkpoints/best.safetensors cat.jpg\n"
            "  lvrun caption best.safetensors pictures/val --beams 8 --json --sheet sheet.png >captions.jsonl\n"
            "  lvrun caption best.safetensors cat.jpg --temperature 0.7 --seed 3\n",
        .specs = specs, .least = 1, .check = check, .work = caption};
    return session_main(&command, argc, argv);
}
