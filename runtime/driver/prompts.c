// Prompts: see prompts.h.
#include "prompts.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

enum { MAX_FILE = 1 << 28 };

static void add(Prompts *prompts, const char *text, size_t length, int64_t number) {
    LvText clean = {0};
    if (length && text[length - 1] == '\r') length--;
    bool whole = utf8_is_whole(text, length);
    utf8_append_lossy(&clean, text, length);
    lv_vec_push(&prompts->items, (Prompt){.text = clean.data ? clean.data : lv_strdup(""), .repaired = !whole, .number = number});
}

static bool read_file(Prompts *prompts, const char *path, LvError *error) {
    char *data;
    size_t length;
    if (!lv_file_read(path, MAX_FILE, &data, &length, error)) return false;
    int64_t number = 0;
    for (size_t at = 0; at < length;) {
        const char *end = memchr(data + at, '\n', length - at);
        size_t line = end ? (size_t)(end - data) - at : length - at;
        number++;
        if (line > 1 || (line == 1 && data[at] != '\r')) add(prompts, data + at, line, number);
        at += line + 1;
    }
    free(data);
    return prompts->items.count > 0 || lv_error_set(error, LV_ERROR_FORMAT, "%s: no prompts in it", path);
}

bool prompts_collect(Prompts *prompts, const Options *options, LvError *error) {
    const char *file = options_get(options, "prompts", NULL);
    prompts->where = file ? file : "prompt";
    if (file) return read_file(prompts, file, error);
    for (size_t i = 0; i < options->given.count; i++) {
        if (strcmp(options->given.data[i].spec->name, "prompt")) continue;
        const char *text = options->given.data[i].value;
        add(prompts, text, strlen(text), (int64_t)prompts->items.count + 1);
    }
    return true;
}

bool prompts_read_line(Prompts *prompts, FILE *stream) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length = getline(&line, &room, stream);
    if (length > 0 && line[length - 1] == '\n') length--;
    if (length >= 0) add(prompts, line, (size_t)length, ++prompts->lines);
    free(line);
    return length >= 0;
}

void prompt_place(const Prompt *prompt, const char *where, LvText *out) {
    lv_text_printf(out, strcmp(where, "prompt") ? "%s:%lld" : "%s %lld", where, (long long)prompt->number);
}

// What the tokens from place `kept` on say.
static bool text_after(Prompt *prompt, const LvTokenizer *tokenizer, size_t kept, int32_t end, LvError *error) {
    LvTokenIds ids = {0};
    LvText rest = {0};
    size_t count = 0;
    bool good = lv_tokenizer_encode(tokenizer, prompt->text, strlen(prompt->text), 0, &ids, error);
    for (size_t i = 0; i < ids.count; i++) {
        if (ids.data[i] != end) ids.data[count++] = ids.data[i];
    }
    size_t left = count > kept ? count - kept : 0;
    good = good && lv_tokenizer_decode(tokenizer, ids.data + kept, left, LV_DECODE_SKIP_SPECIALS, &rest, error);
    if (good) prompt->left_out = rest.data ? rest.data : lv_strdup("");
    else lv_text_free(&rest);
    lv_vec_free(&ids);
    return good;
}

// The characters that alone become no token at all.
static bool find_unknown(Prompt *prompt, const LvTokenizer *tokenizer, LvError *error) {
    LvText unknown = {0};
    LvTokenIds ids = {0};
    bool good = true;
    for (const char *p = prompt->text; good && *p; p += utf8_size(*p)) {
        size_t size = utf8_size(*p), at = 0;
        char letter[5] = {0};
        memcpy(letter, p, size);
        if (utf8_is_space(utf8_next(letter, &at)) || (unknown.data && strstr(unknown.data, letter))) continue;
        ids.count = 0;
        good = lv_tokenizer_encode(tokenizer, letter, size, 0, &ids, error);
        if (good && ids.count == 0) lv_text_puts(&unknown, letter);
    }
    lv_vec_free(&ids);
    prompt->unknown = unknown.data;
    return good;
}

static bool no_tokens(const Prompt *prompt, LvError *error) {
    if (!*prompt->text) {
        lv_error_set(error, LV_ERROR_USAGE, "the prompt is empty");
        return lv_error_hint(error, "a prompt has at least one token, such as a letter or a space");
    }
    lv_error_set(error, LV_ERROR_USAGE, "the tokenizer makes no token of \"%s\"", prompt->text);
    return prompt->unknown ? lv_error_hint(error, "it knows none of %s", prompt->unknown) : false;
}

static bool encode(Prompt *prompt, const LvTokenizer *tokenizer, int64_t text_length, int32_t end, LvError *error) {
    bool truncated = false;
    size_t length = strlen(prompt->text), room = (size_t)text_length;
    prompt->tokens = lv_calloc(room, sizeof *prompt->tokens);
    if (!lv_tokenizer_caption(tokenizer, prompt->text, length, end, room, prompt->tokens, &truncated, error) ||
        !find_unknown(prompt, tokenizer, error))
        return false;
    if (prompt->tokens[0] == end) return no_tokens(prompt, error);
    return !truncated || text_after(prompt, tokenizer, room - 1, end, error);
}

bool prompt_encode(Prompt *prompt, const char *where, const LvTokenizer *tokenizer, int64_t text_length, int32_t end,
                   LvError *error) {
    if (encode(prompt, tokenizer, text_length, end, error)) return true;
    LvText place = {0};
    prompt_place(prompt, where, &place);
    lv_error_prefix(error, "%s", place.data);
    lv_text_free(&place);
    return false;
}

void prompts_clear(Prompts *prompts) {
    for (size_t i = 0; i < prompts->items.count; i++) {
        free(prompts->items.data[i].text);
        free(prompts->items.data[i].tokens);
        free(prompts->items.data[i].left_out);
        free(prompts->items.data[i].unknown);
    }
    lv_vec_free(&prompts->items);
}
