// lvrun tokenizer train: captions of a data set, or lines of a text, to a tokenizer.json.
#include "tokenizer_train.h"

#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "data/dataset.h"
#include "text/train.h"

const OptionSpec tokenizer_train_specs[] = {
    {"captions", OPTION_VALUE, "DIR|FILE", "any data set with captions, a text with a caption a line, or - for standard input"},
    {"vocab-size", OPTION_VALUE, "N", "tokens wanted, bytes and special tokens counted (default 8192)"},
    {"output", OPTION_VALUE, "FILE", "-o FILE: the tokenizer (default tokenizer.json)"},
    {"lowercase", OPTION_FLAG, NULL, "the tokenizer turns capitals into small letters"},
    {"min-frequency", OPTION_VALUE, "N", "a pair must be there N times to become a token (default 2)"},
    {"special", OPTION_VALUE, "TOKEN", "a token of its own, never cut; may be given several times"},
    {"json", OPTION_FLAG, NULL, "say what was made as JSON"},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

// ---- captions

static bool ends_in(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

// A file of captions, not a list of pictures: by its name, and a .txt by its first line.
static bool is_plain_text(const char *path) {
    static const char *const sets[] = {".tar", ".tgz", ".tar.gz", ".tsv", ".json"};
    struct stat info;
    if (stat(path, &info) != 0 || S_ISDIR(info.st_mode)) return false;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if (ends_in(path, sets[i])) return false;
    }
    if (!S_ISREG(info.st_mode)) return true;
    if (!ends_in(path, ".txt")) return !lv_picture_known_suffix(path);
    FILE *file = fopen(path, "r");
    char line[4096] = "";
    if (file && !fgets(line, sizeof line, file)) *line = 0;
    if (file) fclose(file);
    char *tab = strchr(line, '\t');
    if (tab) *tab = 0;
    return !tab || !lv_picture_known_suffix(line);
}

static bool add_lines(LvBpeTrainer *trainer, FILE *file, const char *name, LvError *error) {
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    for (ssize_t length; good && (length = getline(&line, &room, file)) >= 0;) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) length--;
        if (length) good = lv_bpe_add(trainer, line, (size_t)length, error);
    }
    if (good && ferror(file)) good = lv_error_system(error, "cannot read '%s'", name);
    free(line);
    return good;
}

static bool add_text_file(LvBpeTrainer *trainer, const char *path, LvError *error) {
    if (!strcmp(path, "-")) return add_lines(trainer, stdin, "standard input", error);
    FILE *file = fopen(path, "r");
    if (!file) return lv_error_system(error, "cannot open '%s'", path);
    bool good = add_lines(trainer, file, path, error);
    fclose(file);
    return good;
}

// What cannot be read is named once and counted, as in training.
static bool add_data_set(LvBpeTrainer *trainer, const char *spec, LvError *error) {
    LvDataset *data = NULL;
    size_t broken = 0;
    bool good = lv_dataset_open(&data, spec, error);
    for (size_t i = 0; good && i < lv_dataset_count(data); i++) {
        char *text = NULL, *save = NULL;
        LvError unread = {0};
        if (!lv_dataset_captions(data, i, &text, &unread)) {
            if (!broken++) fprintf(stderr, "lvrun: warning: %s\n", unread.message);
            lv_error_clear(&unread);
            continue;
        }
        for (char *line = strtok_r(text, "\n", &save); line && good; line = strtok_r(NULL, "\n", &save)) {
            good = lv_bpe_add(trainer, line, strlen(line), error);
        }
        free(text);
    }
    if (broken > 1) fprintf(stderr, "lvrun: warning: the captions of %zu samples could not be read\n", broken);
    if (good && !lv_dataset_has_captions(data)) {
        good = lv_error_set(error, LV_ERROR_FORMAT, "%s has no captions", spec);
        lv_error_hint(error, "name.txt beside name.png holds a picture's captions, a line each; a text file does too");
    }
    lv_dataset_close(data);
    return good;
}

// ---- the command

static void report(const Options *options, const LvBpeResult *result, int64_t wanted, int64_t least, const char *path) {
    if (result->tokens < (size_t)wanted) {
        fprintf(stderr,
                "lvrun: warning: %zu tokens, not %" PRId64 ": no two neighbours are left that are there %" PRId64 " times\n",
                result->tokens, wanted, least);
    }
    if (options_flag(options, "json", false)) {
        json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "file", path, "captions", (json_int_t)result->texts,
                                   "words", (json_int_t)result->words, "merges", (json_int_t)result->merges, "tokens",
                                   (json_int_t)result->tokens, "end", (json_int_t)result->tokens - 1);
        json_dumpf(object, stdout, 0);
        printf("\n");
        json_decref(object);
        return;
    }
    printf("%zu captions, %zu different words\n%s: %zu tokens, %zu merges; the end token is %zu\n", result->texts,
           result->words, path, result->tokens, result->merges, result->tokens - 1);
}

// Said before the work, not after it.
static bool can_write(const char *path, LvError *error) {
    char *copy = lv_strdup(path);
    bool good = access(dirname(copy), W_OK) == 0 || lv_error_system(error, "cannot write '%s'", path);
    free(copy);
    return good;
}

static bool train_on(const Options *options, const LvBpeOptions *wanted, const char *captions, LvError *error) {
    const char *path = options_get(options, "output", "tokenizer.json");
    LvBpeTrainer *trainer = NULL;
    LvBpeResult result = {0};
    LvText json = {0};
    bool plain = !strcmp(captions, "-") || is_plain_text(captions);
    bool good = can_write(path, error) && lv_bpe_create(&trainer, wanted, error);
    good = good && (plain ? add_text_file(trainer, captions, error) : add_data_set(trainer, captions, error));
    if (good && !lv_bpe_train(trainer, &json, &result, error)) good = lv_error_prefix(error, "%s", captions);
    good = good && lv_file_write(path, json.data, json.length, error);
    if (good) report(options, &result, (int64_t)wanted->vocabulary, (int64_t)wanted->least, path);
    lv_bpe_destroy(trainer);
    lv_text_free(&json);
    return good;
}

bool tokenizer_train(const Options *options, LvError *error) {
    const char *captions = options_get(options, "captions", NULL);
    int64_t vocabulary = 8192, least = 2;
    LV_VEC(const char *) specials = {0};
    if (!captions) {
        lv_error_set(error, LV_ERROR_USAGE, "tokenizer train needs --captions DIR|FILE");
        return lv_error_hint(error, "a data set with captions, or a text with a caption a line");
    }
    if (options->words.count) {
        lv_error_set(error, LV_ERROR_USAGE, "tokenizer train takes no '%s'", options->words.data[0]);
        return lv_error_hint(error, "captions are named by --captions, each special token by a --special of its own");
    }
    if (!options_integer(options, "vocab-size", 1, INT32_MAX, &vocabulary, error) ||
        !options_integer(options, "min-frequency", 1, INT64_MAX, &least, error)) {
        return false;
    }
    for (size_t i = 0; i < options->given.count; i++) {
        if (!strcmp(options->given.data[i].spec->name, "special")) lv_vec_push(&specials, options->given.data[i].value);
    }
    LvBpeOptions wanted = {(size_t)vocabulary, (uint64_t)least, options_flag(options, "lowercase", false), specials.data,
                           specials.count};
    bool good = train_on(options, &wanted, captions, error);
    lv_vec_free(&specials);
    return good;
}
