// lvrun tokenizer: makes tokenizers, shows what they make of a text.
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "command.h"
#include "options.h"
#include "text/tokenizer.h"
#include "tokenizer_train.h"

// ---- texts or lines, one after the other

typedef struct {
    const Options *options;
    LvTokenizer *tokenizer;
    int64_t length;    // of a caption, 0: as long as it is
    size_t truncated;  // captions that were cut
} Work;

typedef bool DoText(Work *work, const char *text, size_t length, LvError *error);

static bool each_line(Work *work, DoText *one, LvError *error) {
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    for (ssize_t length; good && (length = getline(&line, &room, stdin)) >= 0;) {
        if (length && line[length - 1] == '\n') length--;
        if (length && line[length - 1] == '\r') length--;
        good = one(work, line, (size_t)length, error);
    }
    if (good && ferror(stdin)) good = lv_error_system(error, "cannot read standard input");
    free(line);
    return good;
}

static bool end_output(LvError *error) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    return lv_error_system(error, "cannot write standard output");
}

static bool open_named(Work *work, const char *path, LvError *error) {
    if (path) return lv_tokenizer_open(&work->tokenizer, path, error);
    lv_error_set(error, LV_ERROR_USAGE, "--tokenizer FILE is needed");
    return lv_error_hint(error, "a tokenizer.json, or CLIP's bpe_simple_vocab_16e6.txt.gz");
}

static json_t *id_list(const int32_t *ids, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static void print_object(json_t *object) {
    json_dumpf(object, stdout, JSON_COMPACT);
    printf("\n");
    json_decref(object);
}

// ---- encode

static const OptionSpec encode_specs[] = {
    {"tokenizer", OPTION_VALUE, "FILE", "tokenizer.json, or CLIP's bpe_simple_vocab_16e6.txt[.gz]"},
    {"specials", OPTION_FLAG, NULL, "with the special tokens that the file puts around a text"},
    {"length", OPTION_VALUE, "N", "as a model reads a caption: N ids, cut or filled up with the end token"},
    {"json", OPTION_FLAG, NULL, "an object a text: text, ids, tokens"},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

// What the tokenizer saw of the text: bytes that are no UTF-8 cannot stand in JSON.
static json_t *text_as_json(const char *text, size_t length) {
    json_t *json = json_stringn(text, length);
    return json ? json : json_null();
}

static void print_encoded(const Work *work, const char *text, size_t length, const LvTokenIds *ids, bool truncated) {
    if (!options_flag(work->options, "json", false)) {
        for (size_t i = 0; i < ids->count; i++) printf("%s%" PRId32, i ? " " : "", ids->data[i]);
        printf("\n");
        return;
    }
    json_t *object = json_object(), *tokens = json_array();
    for (size_t i = 0; i < ids->count; i++) {
        size_t size;
        const char *token = lv_tokenizer_token(work->tokenizer, ids->data[i], &size);
        json_array_append_new(tokens, text_as_json(token ? token : "", size));
    }
    json_object_set_new(object, "text", text_as_json(text, length));
    json_object_set_new(object, "ids", id_list(ids->data, ids->count));
    json_object_set_new(object, "tokens", tokens);
    if (work->length) json_object_set_new(object, "truncated", json_boolean(truncated));
    print_object(object);
}

static bool encode_text(Work *work, const char *text, size_t length, LvError *error) {
    LvTokenIds ids = {0};
    bool truncated = false, good;
    if (work->length) {
        lv_vec_reserve(&ids, work->length);
        ids.count = (size_t)work->length;
        good = lv_tokenizer_caption(work->tokenizer, text, length, lv_tokenizer_end(work->tokenizer), ids.count, ids.data,
                                    &truncated, error);
        work->truncated += truncated;
    } else {
        unsigned flags = options_flag(work->options, "specials", false) ? LV_ENCODE_SPECIALS : 0;
        good = lv_tokenizer_encode(work->tokenizer, text, length, flags, &ids, error);
    }
    if (good) print_encoded(work, text, length, &ids, truncated);
    lv_vec_free(&ids);
    return good;
}

static bool from_input(const Options *options) {
    return !options->words.count || (options->words.count == 1 && !strcmp(options->words.data[0], "-"));
}

static bool run_encode(const Options *options, LvError *error) {
    Work work = {.options = options};
    bool good = options_integer(options, "length", 1, 1 << 20, &work.length, error) &&
                open_named(&work, options_get(options, "tokenizer", NULL), error);
    if (good && work.length && lv_tokenizer_end(work.tokenizer) < 0) {
        good = lv_error_set(error, LV_ERROR_FORMAT, "%s has no end token for --length", options_get(options, "tokenizer", ""));
    }
    if (good && from_input(options)) {
        good = each_line(&work, encode_text, error);
    } else {
        for (size_t i = 0; good && i < options->words.count; i++) {
            good = encode_text(&work, options->words.data[i], strlen(options->words.data[i]), error);
        }
    }
    if (work.truncated) {
        fprintf(stderr, "lvrun: warning: %zu text%s cut to %" PRId64 " ids\n", work.truncated,
                work.truncated == 1 ? " was" : "s were", work.length);
    }
    lv_tokenizer_close(work.tokenizer);
    return good && end_output(error);
}

// ---- decode

static const OptionSpec decode_specs[] = {
    {"tokenizer", OPTION_VALUE, "FILE", "tokenizer.json, or CLIP's bpe_simple_vocab_16e6.txt[.gz]"},
    {"specials", OPTION_FLAG, NULL, "show special tokens"},
    {"json", OPTION_FLAG, NULL, "an object a line: ids, text"},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

// Numbers with spaces, commas or brackets between, so that lists from elsewhere can be pasted.
static bool read_ids(const Work *work, const char *text, size_t length, LvTokenIds *ids, LvError *error) {
    for (size_t at = 0; at < length;) {
        char *end;
        if (isspace((unsigned char)text[at]) || (text[at] && strchr(",[]", text[at]))) {
            at++;
            continue;
        }
        errno = 0;
        long long id = strtoll(text + at, &end, 10);
        if (end == text + at) {
            int shown = (int)strcspn(text + at, " \t,]");
            return lv_error_set(error, LV_ERROR_USAGE, "ids are whole numbers, not '%.*s'", shown < 40 ? shown : 40, text + at);
        }
        if (errno || id < 0 || id > INT32_MAX || !lv_tokenizer_token(work->tokenizer, (int32_t)id, NULL)) {
            lv_error_set(error, LV_ERROR_USAGE, "no token has the id %.*s", (int)(end - text - (ptrdiff_t)at), text + at);
            return lv_error_hint(error, "the greatest is %" PRId32, lv_tokenizer_vocabulary(work->tokenizer) - 1);
        }
        lv_vec_push(ids, (int32_t)id);
        at = (size_t)(end - text);
    }
    return true;
}

static bool decode_line(Work *work, const char *line, size_t length, LvError *error) {
    LvTokenIds ids = {0};
    LvText text = {0};
    unsigned flags = options_flag(work->options, "specials", false) ? 0 : LV_DECODE_SKIP_SPECIALS;
    bool good = read_ids(work, line, length, &ids, error) &&
                lv_tokenizer_decode(work->tokenizer, ids.data, ids.count, flags, &text, error);
    if (good && options_flag(work->options, "json", false)) {
        json_t *object = json_object();
        json_object_set_new(object, "ids", id_list(ids.data, ids.count));
        json_object_set_new(object, "text", text_as_json(lv_text_get(&text), text.length));
        print_object(object);
    } else if (good) {
        fwrite(lv_text_get(&text), 1, text.length, stdout);
        printf("\n");
    }
    lv_vec_free(&ids);
    lv_text_free(&text);
    return good;
}

static bool run_decode(const Options *options, LvError *error) {
    Work work = {.options = options};
    bool good = open_named(&work, options_get(options, "tokenizer", NULL), error);
    if (good && from_input(options)) {
        good = each_line(&work, decode_line, error);
    } else if (good) {
        LvText line = {0};
        for (size_t i = 0; i < options->words.count; i++) lv_text_printf(&line, "%s ", options->words.data[i]);
        good = decode_line(&work, line.data, line.length, error);
        lv_text_free(&line);
    }
    lv_tokenizer_close(work.tokenizer);
    return good && end_output(error);
}

// ---- info

static const OptionSpec info_specs[] = {
    {"tokens", OPTION_FLAG, NULL, "every token with its id"},
    {"json", OPTION_FLAG, NULL, "as JSON"},
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

// The types of a part's steps, those inside a Sequence too, as a list.
static void add_types(json_t *list, const json_t *part) {
    static const char *const inside[] = {"normalizers", "pretokenizers", "decoders", "processors"};
    const char *type = json_string_value(json_object_get(part, "type"));
    size_t i;
    json_t *step;
    if (type && strcmp(type, "Sequence") != 0) json_array_append_new(list, json_string(type));
    for (size_t k = 0; k < sizeof inside / sizeof *inside; k++) {
        json_array_foreach(json_object_get(part, inside[k]), i, step) add_types(list, step);
    }
}

static json_t *describe(const LvTokenizer *tokenizer, const char *path) {
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "decoder", "post_processor"};
    size_t length, i;
    const char *text = lv_tokenizer_text(tokenizer, &length);
    json_t *file = json_loadb(text, length, JSON_ALLOW_NUL, NULL), *object = json_object(), *added = json_array(), *token;
    int32_t end = lv_tokenizer_end(tokenizer);
    json_object_set_new(object, "file", json_string(path));
    json_object_set_new(object, "vocabulary", json_integer(lv_tokenizer_vocabulary(tokenizer)));
    size_t merges = json_array_size(json_object_get(json_object_get(file, "model"), "merges"));
    json_object_set_new(object, "merges", json_integer((json_int_t)merges));
    json_object_set_new(object, "end", end < 0 ? json_null() : json_integer(end));
    json_array_foreach(json_object_get(file, "added_tokens"), i, token) {
        json_t *one = json_object();
        json_object_set(one, "id", json_object_get(token, "id"));
        json_object_set(one, "content", json_object_get(token, "content"));
        json_object_set_new(one, "special", json_boolean(json_is_true(json_object_get(token, "special"))));
        json_array_append_new(added, one);
    }
    json_object_set_new(object, "added", added);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        json_t *types = json_array();
        add_types(types, json_object_get(file, parts[k]));
        json_object_set_new(object, parts[k], types);
    }
    json_decref(file);
    return object;
}

static void print_types(const char *label, const json_t *types) {
    size_t i;
    json_t *type;
    printf("%-15s", label);
    json_array_foreach((json_t *)types, i, type) printf(" %s", json_string_value(type));
    printf("%s\n", json_array_size(types) ? "" : " none");
}

static void print_description(const json_t *object, const LvTokenizer *tokenizer) {
    int32_t end = lv_tokenizer_end(tokenizer);
    size_t i;
    json_t *token;
    printf("%s\nvocabulary      %" PRId32 " ids, %" JSON_INTEGER_FORMAT " merges\n",
           json_string_value(json_object_get(object, "file")), lv_tokenizer_vocabulary(tokenizer),
           json_integer_value(json_object_get(object, "merges")));
    if (end >= 0) printf("end token       %s, %" PRId32 "\n", lv_tokenizer_token(tokenizer, end, NULL), end);
    else printf("end token       none\n");
    print_types("normalizer", json_object_get(object, "normalizer"));
    print_types("pre-tokenizer", json_object_get(object, "pre_tokenizer"));
    print_types("decoder", json_object_get(object, "decoder"));
    print_types("post-processor", json_object_get(object, "post_processor"));
    json_array_foreach(json_object_get(object, "added"), i, token) {
        printf("%-15s %s, %" JSON_INTEGER_FORMAT "\n", json_is_true(json_object_get(token, "special")) ? "special" : "added",
               json_string_value(json_object_get(token, "content")), json_integer_value(json_object_get(token, "id")));
    }
}

static void print_tokens(const LvTokenizer *tokenizer) {
    for (int32_t id = 0; id < lv_tokenizer_vocabulary(tokenizer); id++) {
        const char *token = lv_tokenizer_token(tokenizer, id, NULL);
        if (token) printf("%" PRId32 "\t%s\n", id, token);
    }
}

static bool run_info(const Options *options, LvError *error) {
    LvTokenizer *tokenizer = NULL;
    if (options->words.count != 1) return lv_error_set(error, LV_ERROR_USAGE, "tokenizer info takes one FILE");
    const char *path = options->words.data[0];
    if (!lv_tokenizer_open(&tokenizer, path, error)) return false;
    json_t *object = describe(tokenizer, path);
    if (options_flag(options, "json", false)) {
        json_dumpf(object, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_description(object, tokenizer);
    }
    if (options_flag(options, "tokens", false)) print_tokens(tokenizer);
    json_decref(object);
    lv_tokenizer_close(tokenizer);
    return end_output(error);
}

// ---- the command

static const struct Task {
    const char *name;
    const OptionSpec *specs;
    bool (*run)(const Options *options, LvError *error);
    const char *usage, *about, *examples;
} tasks[] = {
    {"train", tokenizer_train_specs, tokenizer_train, "lvrun tokenizer train --captions DIR|FILE [options]",
     "Makes a byte-level tokenizer from captions and writes it as a tokenizer.json, which Hugging Face's tokenizers reads "
     "too.\n"
     "The last id is <|endoftext|>: it ends a caption and fills it up. Where the captions give fewer tokens than asked for,\n"
     "the tokenizer has those.",
     "  lvrun tokenizer train --captions coco/captions_train2017.json --vocab-size 16384 -o tokenizer.json\n"
     "  lvrun tokenizer train --captions captions.txt --vocab-size 4096 --lowercase --special '<|photo|>'\n"},
    {"encode", encode_specs, run_encode, "lvrun tokenizer encode --tokenizer FILE [options] [TEXT...]",
     "The ids of each TEXT, a line each; of each line of standard input where there is no TEXT, or it is -.",
     "  lvrun tokenizer encode --tokenizer tokenizer.json 'a cat on a table'\n"
     "  lvrun tokenizer encode --tokenizer tokenizer.json --length 64 --json <captions.txt\n"},
    {"decode", decode_specs, run_decode, "lvrun tokenizer decode --tokenizer FILE [options] [ID...]",
     "The text of the IDs; of each line of standard input where there is none, or it is -.",
     "  lvrun tokenizer decode --tokenizer tokenizer.json 64 2368 319 257 3084\n"
     "  lvrun tokenizer encode --tokenizer t.json <captions.txt | lvrun tokenizer decode --tokenizer t.json\n"},
    {"info", info_specs, run_info, "lvrun tokenizer info FILE [options]", "What a tokenizer is made of.",
     "  lvrun tokenizer info bpe_simple_vocab_16e6.txt.gz\n  lvrun tokenizer info tokenizer.json --tokens\n"},
};
enum { TASKS = sizeof tasks / sizeof *tasks };

static int print_usage(FILE *file) {
    fprintf(
        file,
        "usage: lvrun tokenizer TASK [options]; lvrun tokenizer TASK --help tells more\n\n"
        "  train      make a tokenizer from captions\n"
        "  encode     texts to ids\n"
        "  decode     ids to texts\n"
        "  info       what a tokenizer is made of\n\n"
        "A tokenizer is a tokenizer.json of Hugging Face's tokenizers (byte-pair encoding: the kinds of GPT-2, Llama 3, CLIP)\n"
        "or CLIP's bpe_simple_vocab_16e6.txt[.gz].\n\n"
        "Examples:\n"
        "  lvrun tokenizer train --captions captions.txt --vocab-size 8192 -o tokenizer.json\n"
        "  lvrun tokenizer encode --tokenizer tokenizer.json 'a cat on a table'\n");
    return file == stdout ? 0 : 2;
}

static int run_task(const struct Task *task, int argc, char **argv) {
    Options options = {0};
    LvError error = {0};
    int code = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (task->run == tokenizer_train && !strcmp(argv[i], "-o")) argv[i] = (char *)(uintptr_t) "--output";
    }
    bool good = options_parse(&options, task->specs, false, argc, argv, &error);
    if (good && options_flag(&options, "help", false))
        code = options_help_page(task->usage, task->about, task->specs, task->examples);
    else if (!good || !task->run(&options, &error)) code = command_fail(&error);
    options_free(&options);
    return code;
}

int cmd_tokenizer(int argc, char **argv) {
    const char *names[TASKS];
    if (argc < 2) return print_usage(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return print_usage(stdout);
    for (int i = 0; i < TASKS; i++) {
        if (!strcmp(argv[1], tasks[i].name)) return run_task(&tasks[i], argc - 1, argv + 1);
        names[i] = tasks[i].name;
    }
    LvError error = {0};
    const char *near = lv_nearest_name(argv[1], names, TASKS);
    lv_error_set(&error, LV_ERROR_USAGE, "tokenizer has no task '%s'", argv[1]);
    if (near) lv_error_hint(&error, "did you mean '%s'?", near);
    else lv_error_hint(&error, "lvrun tokenizer --help lists them");
    return command_fail(&error);
}
