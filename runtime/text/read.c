// tokenizer.json, the format of Hugging Face's tokenizers: what it says is believed only after it is checked.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/internal.h"
#include "text/json.h"

// Values that a file may hold. Each costs up to some 130 bytes of memory while it is read; the largest tokenizers in use have
// two million.
enum { MAX_VALUES = 4000000 };

static bool too_many_values(const char *text, size_t length) {
    size_t values = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        if (quoted && text[i] == '\\') i++;
        else if (text[i] == '"') quoted = !quoted;
        else if (!quoted) values += text[i] == ',' || text[i] == '[' || text[i] == '{';
    }
    return values > MAX_VALUES;
}

// ---- the model

static bool read_vocabulary(LvTokenizer *t, const json_t *json, LvError *error) {
    const char *token;
    json_t *id;
    if (!json_is_object(json)) return lv_error_set(error, LV_ERROR_FORMAT, "the model has no 'vocab'");
    json_object_foreach((json_t *)json, token, id) {
        if (!json_is_integer(id))
            return lv_error_set(error, LV_ERROR_FORMAT, "the token '%.100s' has no whole number for its id", token);
        if (!vocabulary_add(&t->bpe.vocabulary, token, strlen(token), json_integer_value(id), error)) return false;
    }
    return true;
}

static bool read_merge(LvTokenizer *t, const json_t *json, uint32_t rank, LvError *error) {
    const json_t *left = json_array_get(json, 0), *right = json_array_get(json, 1);
    if (json_is_string(left) && json_is_string(right) && json_array_size(json) == 2) {
        return bpe_add_merge(&t->bpe, json_string_value(left), json_string_length(left), json_string_value(right),
                             json_string_length(right), rank, error);
    }
    const char *text = json_string_value(json), *space = text ? strchr(text, ' ') : NULL;
    if (!space || strchr(space + 1, ' ')) {
        return lv_error_set(error, LV_ERROR_FORMAT, "merge %u is neither 'left right' nor [left, right]", rank);
    }
    size_t length = json_string_length(json), cut = (size_t)(space - text);
    return bpe_add_merge(&t->bpe, text, cut, space + 1, length - cut - 1, rank, error);
}

static bool read_merges(LvTokenizer *t, const json_t *json, LvError *error) {
    size_t i;
    json_t *merge;
    uint32_t rank = 0;
    if (!json_is_array(json)) return lv_error_set(error, LV_ERROR_FORMAT, "the model has no 'merges'");
    json_array_foreach((json_t *)json, i, merge) {
        const char *text = json_string_value(merge);
        if (text && !strncmp(text, "#version", 8)) continue;
        if (!read_merge(t, merge, rank++, error)) return false;
    }
    return true;
}

static bool keep_text(LvTokenizer *t, const json_t *json, const char *name, char **kept, size_t *kept_length, LvError *error) {
    const char *text = "";
    size_t length = 0;
    if (!json_take_text(json, name, &text, &length, error)) return false;
    if (length > 64) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "'%s' of %zu bytes", name, length);
    *kept = lv_arena_copy(t->arena, text, length);
    *kept_length = length;
    return true;
}

static bool read_model(LvTokenizer *t, const json_t *json, LvError *error) {
    Bpe *bpe = &t->bpe;
    const char *unknown = NULL, *type = json_kind(json);
    size_t unknown_length = 0;
    const json_t *dropout = json_object_get(json, "dropout");
    if (!json_is_object(json)) return lv_error_set(error, LV_ERROR_FORMAT, "it has no 'model'");
    if (strcmp(type, "BPE") != 0 && *type) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the model is of type '%.40s'", type);
        return lv_error_hint(error, "byte-pair encoding (BPE) is read here; lvrun tokenizer train makes one");
    }
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0) {
        return lv_error_set(error, LV_ERROR_UNSUPPORTED, "'dropout' other than 0: its encoding is random");
    }
    if (!keep_text(t, json, "continuing_subword_prefix", &bpe->prefix, &bpe->prefix_length, error) ||
        !keep_text(t, json, "end_of_word_suffix", &bpe->suffix, &bpe->suffix_length, error) ||
        !json_take_flag(json, "fuse_unk", &bpe->fuse_unknown, error) ||
        !json_take_flag(json, "byte_fallback", &bpe->byte_fallback, error) ||
        !json_take_flag(json, "ignore_merges", &bpe->ignore_merges, error) ||
        !json_take_text(json, "unk_token", &unknown, &unknown_length, error) ||
        !read_vocabulary(t, json_object_get(json, "vocab"), error) || !read_merges(t, json_object_get(json, "merges"), error)) {
        return false;
    }
    if (unknown) bpe->unknown = vocabulary_find(&bpe->vocabulary, unknown, unknown_length);
    bpe_finish(bpe);
    return true;
}

// ---- added tokens

// The id that tokenizers gives a token: its own in the model, or the next after all.
static int64_t expected_id(const LvTokenizer *t, const AddedToken *token) {
    int32_t id = vocabulary_find(&t->bpe.vocabulary, token->text, token->length);
    if (id >= 0) return id;
    int64_t size = (int64_t)t->bpe.vocabulary.count, greatest = (int64_t)t->added.vocabulary.limit - 1;
    return greatest >= size ? greatest + 1 : size;
}

static bool read_added(LvTokenizer *t, const json_t *json, LvError *error) {
    AddedToken token = {0};
    const char *text = NULL;
    size_t length = 0;
    int64_t id = -1;
    if (!json_take_text(json, "content", &text, &length, error) ||
        !json_take_integer(json, "id", 0, MAX_TOKENS - 1, &id, error)) {
        return false;
    }
    if (!text || id < 0) return lv_error_set(error, LV_ERROR_FORMAT, "an added token lacks its 'content' or 'id'");
    if (!length) return true;  // it can be nowhere in a text
    token.text = text;
    token.length = length > MAX_ADDED_LENGTH ? MAX_ADDED_LENGTH + 1 : (uint32_t)length;
    token.id = (int32_t)id;
    token.normalized = true;  // but for special ones, where the file does not say
    if (!json_take_flag(json, "special", &token.special, error)) return false;
    token.normalized = !token.special;
    if (!json_take_flag(json, "normalized", &token.normalized, error) ||
        !json_take_flag(json, "single_word", &token.single_word, error) ||
        !json_take_flag(json, "lstrip", &token.left_strip, error) ||
        !json_take_flag(json, "rstrip", &token.right_strip, error)) {
        return false;
    }
    if (id != expected_id(t, &token)) {
        return lv_error_set(error, LV_ERROR_FORMAT, "the added token '%.100s' has the id %lld where %lld is due", text,
                            (long long)id, (long long)expected_id(t, &token));
    }
    return added_push(&t->added, token, error);
}

static bool read_all_added(LvTokenizer *t, const json_t *json, LvError *error) {
    size_t i;
    json_t *token;
    if (json && !json_is_null(json) && !json_is_array(json)) {
        return lv_error_set(error, LV_ERROR_FORMAT, "'added_tokens' is no list");
    }
    json_array_foreach((json_t *)json, i, token) {
        if (!read_added(t, token, error)) return false;
    }
    return added_finish(&t->added, t->normalizers.data, t->normalizers.count, error);
}

// ---- the whole

static int32_t find_end(const LvTokenizer *t) {
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>",       "<eos>",
                                        "[EOS]",         "[SEP]",           "<|im_end|>", "<|eot_id|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = lv_tokenizer_id(t, names[i], strlen(names[i]));
        if (id >= 0) return id;
    }
    return -1;
}

static bool read_root(LvTokenizer *t, const json_t *root, LvError *error) {
    if (!json_is_object(root)) return lv_error_set(error, LV_ERROR_FORMAT, "is no tokenizer.json");
    if (!read_normalizer(t, json_object_get(root, "normalizer"), error) ||
        !read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), error) ||
        !read_model(t, json_object_get(root, "model"), error) ||
        !read_all_added(t, json_object_get(root, "added_tokens"), error)) {
        return false;
    }
    t->vocabulary = t->bpe.vocabulary.limit > t->added.vocabulary.limit ? t->bpe.vocabulary.limit : t->added.vocabulary.limit;
    if (!t->vocabulary) return lv_error_set(error, LV_ERROR_FORMAT, "has no tokens");
    t->end = find_end(t);
    return read_decoder(t, json_object_get(root, "decoder"), error) &&
           read_post_processor(t, json_object_get(root, "post_processor"), error);
}

bool tokenizer_read_json(LvTokenizer *tokenizer, const char *text, size_t length, LvError *error) {
    json_error_t where;
    if (too_many_values(text, length)) return lv_error_set(error, LV_ERROR_FORMAT, "holds more than %d values", MAX_VALUES);
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root) return lv_error_set(error, LV_ERROR_FORMAT, "line %d: %s", where.line, where.text);
    bool good = read_root(tokenizer, root, error);
    json_decref(root);
    return good;
}
