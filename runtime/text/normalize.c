// Normal forms by utf8proc's tables. Its own loop sorts combining marks by exchanging neighbours, quadratic in a run of them;
// here a run is sorted by merging.
#include "text/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/vec.h"
#include "text/utf8.h"

typedef LV_VEC(utf8proc_int32_t) Codes;

static bool is_ascii(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] >= 0x80) return false;
    }
    return true;
}

static int mark_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

// Stable, by class: marks of one class keep their order.
static void sort_marks(utf8proc_int32_t *codes, utf8proc_int32_t *spare, size_t count) {
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++) sorted = mark_class(codes[i - 1]) <= mark_class(codes[i]);
    if (sorted) return;
    size_t half = count / 2, a = 0, b = half;
    sort_marks(codes, spare, half);
    sort_marks(codes + half, spare, count - half);
    for (size_t i = 0; i < count; i++) {
        bool left = b == count || (a < half && mark_class(codes[a]) <= mark_class(codes[b]));
        spare[i] = left ? codes[a++] : codes[b++];
    }
    memcpy(codes, spare, count * sizeof *codes);
}

static void order_marks(Codes *codes) {
    Codes spare = {0};
    for (size_t i = 0; i < codes->count;) {
        size_t begin = i;
        while (i < codes->count && mark_class(codes->data[i])) i++;
        if (i > begin + 1) {
            lv_vec_reserve(&spare, i - begin);
            sort_marks(codes->data + begin, spare.data, i - begin);
        }
        if (i == begin) i++;
    }
    lv_vec_free(&spare);
}

static bool normal_form(LvText *text, bool compose, bool compatible, LvError *error) {
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    Codes codes = {0};
    bool good = true;
    for (size_t at = 0; at < text->length && good;) {
        utf8proc_int32_t code = (utf8proc_int32_t)utf8_next(text->data, &at);
        lv_vec_reserve(&codes, codes.count + 32);  // no character becomes more than 18
        utf8proc_ssize_t put = utf8proc_decompose_char(code, codes.data + codes.count, 32, options, NULL);
        good = put >= 0 && put <= 32;
        if (good) codes.count += (size_t)put;
    }
    order_marks(&codes);
    if (good && compose) {
        utf8proc_ssize_t count =
            utf8proc_normalize_utf32(codes.data, (utf8proc_ssize_t)codes.count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        good = count >= 0;
        if (good) codes.count = (size_t)count;
    }
    text->length = 0;
    for (size_t i = 0; i < codes.count; i++) utf8_append(text, (uint32_t)codes.data[i]);
    lv_vec_free(&codes);
    return good || lv_error_set(error, LV_ERROR_FORMAT, "a text cannot be brought to normal form");
}

// Character by character, as Rust's: no rule for a sigma that ends a word. The one capital that becomes two characters is İ.
static void lowercase(LvText *text) {
    LvText out = {0};
    if (is_ascii(text->data, text->length)) {
        for (size_t i = 0; i < text->length; i++) {
            if (text->data[i] >= 'A' && text->data[i] <= 'Z') text->data[i] = (char)(text->data[i] + 32);
        }
        return;
    }
    for (size_t at = 0; at < text->length;) {
        uint32_t code = utf8_next(text->data, &at);
        if (code == 0x130) lv_text_puts(&out, "i\xCC\x87");
        else utf8_append(&out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
    }
    lv_text_free(text);
    *text = out;
}

bool replace_all(const Pattern *pattern, const char *content, size_t content_length, const char *in, size_t length, LvText *out,
                 PatternBudget *budget, LvError *error) {
    PatternSearch search;
    size_t kept = 0, begin, end;
    bool found, good;
    pattern_search(&search, pattern, in, length, budget);
    while ((good = pattern_next(&search, &found, &begin, &end, error)) && found) {
        lv_text_append(out, in + kept, begin - kept);
        lv_text_append(out, content, content_length);
        kept = end;
        if (out->length > MAX_TEXT) {
            good =
                lv_error_set(error, LV_ERROR_FORMAT, "a text grows over %d bytes by what the tokenizer puts into it", MAX_TEXT);
            break;
        }
    }
    if (good) lv_text_append(out, in + kept, length - kept);
    pattern_done(&search);
    return good;
}

static void strip(LvText *text, bool left, bool right) {
    size_t begin = 0, end = text->length;
    for (size_t at = 0; left && at < end && utf8_is_space(utf8_next(text->data, &at));) begin = at;
    while (right && end > begin) {
        size_t at = end - 1;
        while (!utf8_is_start(text->data[at])) at--;
        size_t next = at;
        if (!utf8_is_space(utf8_next(text->data, &next))) break;
        end = at;
    }
    memmove(text->data, text->data + begin, end - begin);
    text->length = end - begin;
}

static bool normalize_one(const Normalizer *step, LvText *text, PatternBudget *budget, LvError *error) {
    LvText out = {0};
    bool plain = is_ascii(text->data, text->length), good = true;
    switch (step->kind) {
        case NORMALIZE_NFC: return plain || normal_form(text, true, false, error);
        case NORMALIZE_NFD: return plain || normal_form(text, false, false, error);
        case NORMALIZE_NFKC: return plain || normal_form(text, true, true, error);
        case NORMALIZE_NFKD: return plain || normal_form(text, false, true, error);
        case NORMALIZE_LOWERCASE: return lowercase(text), true;
        case NORMALIZE_STRIP: return strip(text, step->left, step->right), true;
        case NORMALIZE_PREPEND:
            lv_text_append(&out, step->content, step->content_length);
            lv_text_append(&out, text->data, text->length);
            break;
        case NORMALIZE_REPLACE:
            good =
                replace_all(step->pattern, step->content, step->content_length, text->data, text->length, &out, budget, error);
            break;
    }
    lv_text_free(text);
    *text = out;
    return good;
}

bool normalize(const Normalizer *steps, size_t count, LvText *text, PatternBudget *budget, LvError *error) {
    for (size_t i = 0; i < count && text->length; i++) {
        if (!normalize_one(&steps[i], text, budget, error)) return false;
    }
    return true;
}
