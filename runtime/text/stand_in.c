// A stand-in until the tokenizer is here: bytes are ids, 256 ends.
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "text/tokenizer.h"

struct LvTokenizer {
    char *text;
    size_t length;
};

bool lv_tokenizer_parse(LvTokenizer **tokenizer, const char *bytes, size_t length, const char *name, LvError *error) {
    (void)name, (void)error;
    LvTokenizer *t = lv_calloc(1, sizeof *t);
    t->text = lv_malloc(length + 1);
    memcpy(t->text, bytes, length);
    t->text[length] = 0;
    t->length = length;
    *tokenizer = t;
    return true;
}

bool lv_tokenizer_open(LvTokenizer **tokenizer, const char *path, LvError *error) {
    char *data;
    size_t length;
    if (!lv_file_read(path, 1 << 30, &data, &length, error)) return false;
    lv_tokenizer_parse(tokenizer, data, length, path, error);
    free(data);
    return true;
}

void lv_tokenizer_close(LvTokenizer *tokenizer) {
    if (!tokenizer) return;
    free(tokenizer->text);
    free(tokenizer);
}

const char *lv_tokenizer_text(const LvTokenizer *tokenizer, size_t *length) {
    if (length) *length = tokenizer->length;
    return tokenizer->text;
}

int32_t lv_tokenizer_vocabulary(const LvTokenizer *tokenizer) {
    (void)tokenizer;
    return 257;
}

int32_t lv_tokenizer_end(const LvTokenizer *tokenizer) {
    (void)tokenizer;
    return 256;
}

bool lv_tokenizer_caption(const LvTokenizer *tokenizer, const char *text, size_t length, int32_t end_id, size_t count,
                          int32_t *out, bool *truncated, LvError *error) {
    (void)tokenizer, (void)error;
    size_t n = length < count - 1 ? length : count - 1;
    if (truncated) *truncated = n < length;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)text[i];
    for (size_t i = n; i < count; i++) out[i] = end_id;
    return true;
}
