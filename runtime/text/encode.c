// Text to ids: repair, added tokens, normal form, added tokens again, words, symbols.
#include <stdlib.h>
#include <string.h>

#include "text/cut.h"
#include "text/internal.h"
#include "text/utf8.h"

typedef struct {
    const LvTokenizer *tokenizer;
    LvText normal;  // a piece in normal form
    LvText *rooms;  // [cuts]
    BpeScratch scratch;
    PatternBudget budget;
    Symbols ids;
} Encoder;

static bool take_word(void *context, const char *word, size_t length, LvError *error) {
    Encoder *e = context;
    (void)error;
    bpe_encode(&e->tokenizer->bpe, &e->scratch, word, length, &e->ids);
    return true;
}

static bool encode_piece(Encoder *e, const char *text, size_t length, LvError *error) {
    const LvTokenizer *t = e->tokenizer;
    const AddedToken *token;
    AddedWalk walk;
    size_t begin, end;
    e->normal.length = 0;
    lv_text_append(&e->normal, text, length);
    if (!normalize(t->normalizers.data, t->normalizers.count, &e->normal, &e->budget, error)) return false;
    added_walk(&walk, &t->added.normalized, lv_text_get(&e->normal), e->normal.length);
    while (added_next(&walk, &token, &begin, &end)) {
        if (token) lv_vec_push(&e->ids, token->id);
        else if (!cut_text(t->cuts.data, t->cuts.count, e->rooms, walk.text + begin, end - begin, &e->budget,
                           (WordTaker){take_word, e}, error)) {
            return false;
        }
    }
    return true;
}

static bool encode_whole(Encoder *e, const char *text, size_t length, LvError *error) {
    const AddedToken *token;
    AddedWalk walk;
    size_t begin, end;
    added_walk(&walk, &e->tokenizer->added.raw, text, length);
    while (added_next(&walk, &token, &begin, &end)) {
        if (token) lv_vec_push(&e->ids, token->id);
        else if (!encode_piece(e, text + begin, end - begin, error)) return false;
    }
    return true;
}

bool lv_tokenizer_encode(const LvTokenizer *tokenizer, const char *text, size_t length, unsigned flags, LvTokenIds *ids,
                         LvError *error) {
    Encoder e = {.tokenizer = tokenizer};
    LvText whole = {0};
    if (length > MAX_TEXT)
        return lv_error_set(error, LV_ERROR_FORMAT, "a text of %zu bytes; the longest taken is %d", length, MAX_TEXT);
    if (!utf8_is_whole(text, length)) {
        utf8_append_lossy(&whole, text, length);
        text = whole.data, length = whole.length;
    }
    pattern_budget(&e.budget, length);
    e.rooms = lv_calloc(tokenizer->cuts.count + 1, sizeof *e.rooms);
    bool good = encode_whole(&e, text, length, error), around = flags & LV_ENCODE_SPECIALS;
    if (good) {
        size_t before = around ? tokenizer->before.count : 0, after = around ? tokenizer->after.count : 0;
        lv_vec_reserve(ids, ids->count + before + e.ids.count + after);
        for (size_t i = 0; i < before; i++) ids->data[ids->count++] = tokenizer->before.data[i];
        for (size_t i = 0; i < e.ids.count; i++) ids->data[ids->count++] = e.ids.data[i];
        for (size_t i = 0; i < after; i++) ids->data[ids->count++] = tokenizer->after.data[i];
    }
    for (size_t i = 0; i < tokenizer->cuts.count; i++) lv_text_free(&e.rooms[i]);
    free(e.rooms);
    lv_text_free(&e.normal);
    lv_text_free(&whole);
    lv_vec_free(&e.ids);
    bpe_scratch_free(&e.scratch);
    return good;
}

bool lv_tokenizer_caption(const LvTokenizer *tokenizer, const char *text, size_t length, int32_t end_id, size_t count,
                          int32_t *out, bool *truncated, LvError *error) {
    LvTokenIds ids = {0};
    size_t put = 0;
    if (truncated) *truncated = false;
    if (!lv_tokenizer_encode(tokenizer, text, length, 0, &ids, error)) return false;
    for (size_t i = 0; i < ids.count; i++) {
        if (ids.data[i] == end_id) continue;
        if (put + 1 < count) out[put++] = ids.data[i];
        else if (truncated) *truncated = true;
    }
    while (put < count) out[put++] = end_id;
    lv_vec_free(&ids);
    return true;
}
