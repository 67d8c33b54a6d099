// Opening and closing, and what is known of single tokens.
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "text/internal.h"

enum {
    MAX_FILE = 64 << 20,  // bytes, packed or not; the largest tokenizers in use take some 35 MB
};

// ---- what kind of file

static bool unzip(const char *bytes, size_t length, LvText *out, LvError *error) {
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)length};
    unsigned char block[65536];
    int answer = Z_OK;
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) return lv_error_set(error, LV_ERROR_MEMORY, "no memory to unpack it");
    while (answer == Z_OK && out->length <= MAX_FILE) {
        stream.next_out = block;
        stream.avail_out = sizeof block;
        answer = inflate(&stream, Z_NO_FLUSH);
        lv_text_append(out, (const char *)block, sizeof block - stream.avail_out);
    }
    inflateEnd(&stream);
    if (out->length > MAX_FILE) return lv_error_set(error, LV_ERROR_FORMAT, "is more than %d bytes when unpacked", MAX_FILE);
    if (answer != Z_STREAM_END) return lv_error_set(error, LV_ERROR_FORMAT, "is broken gzip");
    return true;
}

static bool begins_with(const char *text, size_t length, const char *start) {
    return length >= strlen(start) && !memcmp(text, start, strlen(start));
}

// `json`: what the bytes amount to as tokenizer.json.
static bool to_json(const char *bytes, size_t length, LvText *json, LvError *error) {
    LvText unpacked = {0};
    bool good = true;
    if (length > MAX_FILE) return lv_error_set(error, LV_ERROR_FORMAT, "is more than %d bytes", MAX_FILE);
    if (begins_with(bytes, length, "\x1F\x8B")) {
        good = unzip(bytes, length, &unpacked, error);
        bytes = lv_text_get(&unpacked), length = unpacked.length;
    }
    size_t start = 0;
    while (start < length && strchr(" \t\r\n", bytes[start]) && bytes[start]) start++;
    if (good && start < length && bytes[start] == '{') {
        lv_text_append(json, bytes, length);
    } else if (good && begins_with(bytes, length, "\"bpe_simple_vocab")) {
        good = clip_to_json(bytes, length, json, error);
    } else if (good) {
        good = lv_error_set(error, LV_ERROR_FORMAT, "is no tokenizer");
        lv_error_hint(error,
                      "a tokenizer.json of Hugging Face's tokenizers or CLIP's bpe_simple_vocab_16e6.txt[.gz] is needed");
    }
    lv_text_free(&unpacked);
    return good;
}

// ---- opening

bool lv_tokenizer_parse(LvTokenizer **tokenizer, const char *bytes, size_t length, const char *name, LvError *error) {
    LvText json = {0};
    LvTokenizer *t = lv_calloc(1, sizeof *t);
    t->arena = lv_arena_create();
    bpe_init(&t->bpe, t->arena);
    added_init(&t->added, t->arena);
    bool good = to_json(bytes, length, &json, error);
    t->text = json.data, t->text_length = json.length;
    good = good && tokenizer_read_json(t, t->text, t->text_length, error);
    if (!good) {
        lv_error_prefix(error, "%s", name);
        lv_tokenizer_close(t);
        return false;
    }
    *tokenizer = t;
    return true;
}

bool lv_tokenizer_open(LvTokenizer **tokenizer, const char *path, LvError *error) {
    char *bytes;
    size_t length;
    if (!lv_file_read(path, MAX_FILE, &bytes, &length, error)) return false;
    bool good = lv_tokenizer_parse(tokenizer, bytes, length, path, error);
    free(bytes);
    return good;
}

void lv_tokenizer_close(LvTokenizer *tokenizer) {
    if (!tokenizer) return;
    for (size_t i = 0; i < tokenizer->normalizers.count; i++) pattern_free(tokenizer->normalizers.data[i].pattern);
    for (size_t i = 0; i < tokenizer->cuts.count; i++) pattern_free(tokenizer->cuts.data[i].pattern);
    for (size_t i = 0; i < tokenizer->joins.count; i++) pattern_free(tokenizer->joins.data[i].pattern);
    lv_vec_free(&tokenizer->normalizers);
    lv_vec_free(&tokenizer->cuts);
    lv_vec_free(&tokenizer->joins);
    lv_vec_free(&tokenizer->before);
    lv_vec_free(&tokenizer->after);
    bpe_free(&tokenizer->bpe);
    added_free(&tokenizer->added);
    free(tokenizer->text);
    lv_arena_destroy(tokenizer->arena);
    free(tokenizer);
}

// ---- what is in it

const char *lv_tokenizer_text(const LvTokenizer *tokenizer, size_t *length) {
    if (length) *length = tokenizer->text_length;
    return tokenizer->text;
}

int32_t lv_tokenizer_vocabulary(const LvTokenizer *tokenizer) { return tokenizer->vocabulary; }

int32_t lv_tokenizer_end(const LvTokenizer *tokenizer) { return tokenizer->end; }

int32_t lv_tokenizer_id(const LvTokenizer *tokenizer, const char *token, size_t length) {
    int32_t id = vocabulary_find(&tokenizer->added.vocabulary, token, length);
    return id >= 0 ? id : vocabulary_find(&tokenizer->bpe.vocabulary, token, length);
}

const char *lv_tokenizer_token(const LvTokenizer *tokenizer, int32_t id, size_t *length) {
    const Token *token = vocabulary_at(&tokenizer->added.vocabulary, id);
    if (!token) token = vocabulary_at(&tokenizer->bpe.vocabulary, id);
    if (length) *length = token ? token->length : 0;
    return token ? token->text : NULL;
}

bool lv_tokenizer_is_special(const LvTokenizer *tokenizer, int32_t id) {
    if (!vocabulary_at(&tokenizer->added.vocabulary, id)) return false;
    for (size_t i = 0; i < tokenizer->added.tokens.count; i++) {
        if (tokenizer->added.tokens.data[i].id == id) return tokenizer->added.tokens.data[i].special;
    }
    return false;
}
