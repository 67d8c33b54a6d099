// Ids to text: the tokens' texts, then the steps of the file's decoder, each from a list of texts to a list of texts.
#include <stdlib.h>
#include <string.h>

#include "text/internal.h"
#include "text/utf8.h"

typedef struct {
    LvText bytes;
    LV_VEC(size_t) ends;  // of each text in `bytes`
} Texts;

static void texts_end(Texts *texts) { lv_vec_push(&texts->ends, texts->bytes.length); }

static void texts_free(Texts *texts) {
    lv_text_free(&texts->bytes);
    lv_vec_free(&texts->ends);
}

static const char *texts_at(const Texts *texts, size_t i, size_t *length) {
    size_t begin = i ? texts->ends.data[i - 1] : 0;
    *length = texts->ends.data[i] - begin;
    return lv_text_get(&texts->bytes) + begin;
}

// A token that holds any other letter stands for itself.
static void add_bytes(const char *token, size_t length, LvText *out) {
    size_t before = out->length;
    for (size_t at = 0; at < length;) {
        int byte = letter_byte(utf8_next(token, &at));
        if (byte < 0) {
            out->length = before;
            lv_text_append(out, token, length);
            return;
        }
        lv_text_putc(out, (char)byte);
    }
}

// ---- the steps

static void join_bytes(const Texts *in, Texts *out) {
    LvText bytes = {0};
    for (size_t i = 0; i < in->ends.count; i++) {
        size_t length;
        const char *token = texts_at(in, i, &length);
        add_bytes(token, length, &bytes);
    }
    utf8_append_lossy(&out->bytes, lv_text_get(&bytes), bytes.length);
    texts_end(out);
    lv_text_free(&bytes);
}

static void join_strip(const Join *join, const char *token, size_t length, LvText *out) {
    size_t begin = 0, end = length, size = join->content_length;
    for (uint32_t i = 0; i < join->start && end - begin >= size && !memcmp(token + begin, join->content, size); i++)
        begin += size;
    for (uint32_t i = 0; i < join->stop && end - begin >= size && !memcmp(token + end - size, join->content, size); i++)
        end -= size;
    lv_text_append(out, token + begin, end - begin);
}

static void join_suffix(const Join *join, const char *token, size_t length, bool last, LvText *out) {
    size_t size = join->content_length;
    for (size_t at = 0; at < length;) {
        const char *found = size ? memmem(token + at, length - at, join->content, size) : NULL;
        size_t begin = found ? (size_t)(found - token) : length;
        lv_text_append(out, token + at, begin - at);
        if (found && !last) lv_text_putc(out, ' ');
        at = found ? begin + size : length;
    }
}

static int fallback_byte(const char *token, size_t length) {
    if (length != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = token[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static void end_fallback(LvText *bytes, Texts *out) {
    if (!bytes->length) return;
    bool whole = utf8_is_whole(bytes->data, bytes->length);
    if (whole) lv_text_append(&out->bytes, bytes->data, bytes->length);
    for (size_t i = 0; i < bytes->length && !whole; i++) lv_text_puts(&out->bytes, "\xEF\xBF\xBD");
    texts_end(out);
    bytes->length = 0;
}

static void join_fallback(const Texts *in, Texts *out) {
    LvText bytes = {0};
    for (size_t i = 0; i < in->ends.count; i++) {
        size_t length;
        const char *token = texts_at(in, i, &length);
        int byte = fallback_byte(token, length);
        if (byte >= 0) {
            lv_text_putc(&bytes, (char)byte);
            continue;
        }
        end_fallback(&bytes, out);
        lv_text_append(&out->bytes, token, length);
        texts_end(out);
    }
    end_fallback(&bytes, out);
    lv_text_free(&bytes);
}

static bool join_each(const Join *join, const Texts *in, Texts *out, PatternBudget *budget, LvError *error) {
    bool good = true;
    for (size_t i = 0; i < in->ends.count && good; i++) {
        size_t length;
        const char *token = texts_at(in, i, &length);
        if (join->kind == JOIN_STRIP) join_strip(join, token, length, &out->bytes);
        else if (join->kind == JOIN_SUFFIX) join_suffix(join, token, length, i + 1 == in->ends.count, &out->bytes);
        else good = replace_all(join->pattern, join->content, join->content_length, token, length, &out->bytes, budget, error);
        texts_end(out);
    }
    return good;
}

static bool join_texts(const Join *join, Texts *texts, PatternBudget *budget, LvError *error) {
    Texts out = {0};
    bool good = true;
    switch (join->kind) {
        case JOIN_BYTES: join_bytes(texts, &out); break;
        case JOIN_FALLBACK: join_fallback(texts, &out); break;
        case JOIN_FUSE:
            lv_text_append(&out.bytes, lv_text_get(&texts->bytes), texts->bytes.length);
            texts_end(&out);
            break;
        case JOIN_REPLACE:
        case JOIN_STRIP:
        case JOIN_SUFFIX: good = join_each(join, texts, &out, budget, error); break;
    }
    texts_free(texts);
    *texts = out;
    return good;
}

bool lv_tokenizer_decode(const LvTokenizer *tokenizer, const int32_t *ids, size_t count, unsigned flags, LvText *text,
                         LvError *error) {
    Texts texts = {0};
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *token = lv_tokenizer_token(tokenizer, ids[i], &length);
        if (!token || ((flags & LV_DECODE_SKIP_SPECIALS) && lv_tokenizer_is_special(tokenizer, ids[i]))) continue;
        if (!tokenizer->has_decoder && texts.ends.count) lv_text_putc(&texts.bytes, ' ');
        lv_text_append(&texts.bytes, token, length);
        texts_end(&texts);
    }
    bool good = true;
    PatternBudget budget;
    pattern_budget(&budget, texts.bytes.length);
    for (size_t i = 0; i < tokenizer->joins.count && good; i++)
        good = join_texts(&tokenizer->joins.data[i], &texts, &budget, error);
    if (good) lv_text_append(text, lv_text_get(&texts.bytes), texts.bytes.length);
    texts_free(&texts);
    return good;
}
