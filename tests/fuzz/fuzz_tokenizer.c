// A tokenizer file and, after a zero byte, a text. What is taken must be sound: ids of the vocabulary, whole UTF-8 back, captions of
// the length asked for, the same ids from the tokenizer that its own text makes. The text is trained on, too.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"
#include "text/train.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_caption(const LvTokenizer *t, const char *text, size_t length) {
    int32_t caption[8];
    bool truncated;
    LvError error = {0};
    if (lv_tokenizer_caption(t, text, length, 7, 8, caption, &truncated, &error)) {
        bool ended = false;
        for (int i = 0; i < 8; i++) {
            if (ended && caption[i] != 7) abort();
            ended = ended || caption[i] == 7;
        }
        if (!ended) abort();
    }
    lv_error_clear(&error);
}

static void check_text(const LvTokenizer *t, const LvTokenizer *again, const char *text, size_t length) {
    LvTokenIds ids = {0}, same = {0};
    LvText out = {0};
    LvError error = {0};
    if (lv_tokenizer_encode(t, text, length, LV_ENCODE_SPECIALS, &ids, &error)) {
        for (size_t i = 0; i < ids.count; i++) {
            if (ids.data[i] < 0 || ids.data[i] >= lv_tokenizer_vocabulary(t)) abort();
        }
        if (!lv_tokenizer_encode(again, text, length, LV_ENCODE_SPECIALS, &same, &error)) abort();
        if (same.count != ids.count || (ids.count && memcmp(ids.data, same.data, ids.count * sizeof *ids.data) != 0)) abort();
        if (lv_tokenizer_decode(t, ids.data, ids.count, 0, &out, &error) && !utf8_is_whole(lv_text_get(&out), out.length)) abort();
    } else if (!error.message || ids.count) {
        abort();
    }
    lv_error_clear(&error);
    lv_text_free(&out);
    lv_vec_free(&ids);
    lv_vec_free(&same);
    check_caption(t, text, length);
}

static void check_training(const char *text, size_t length) {
    LvBpeTrainer *trainer = NULL;
    LvTokenizer *t = NULL;
    LvText json = {0};
    LvError error = {0};
    if (!lv_bpe_create(&trainer, &(LvBpeOptions){300, 2, length % 2, NULL, 0}, &error)) abort();
    if (!lv_bpe_add(trainer, text, length, &error)) abort();
    if (lv_bpe_train(trainer, &json, NULL, &error)) {
        if (!lv_tokenizer_parse(&t, json.data, json.length, "trained", &error)) abort();
        check_text(t, t, text, length);
        lv_tokenizer_close(t);
    }
    lv_error_clear(&error);
    lv_text_free(&json);
    lv_bpe_destroy(trainer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t file = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : "a <s>\xC3\xA9 \xE7\x8B\x97 1 </s>";
    size_t text_length = zero ? size - file - 1 : strlen(text), length;
    LvTokenizer *t = NULL, *again = NULL;
    LvError error = {0};
    if (lv_tokenizer_parse(&t, (const char *)data, file, "fuzz", &error)) {
        const char *json = lv_tokenizer_text(t, &length);
        if (!lv_tokenizer_parse(&again, json, length, "again", &error)) abort();
        check_text(t, again, text, text_length);
        lv_tokenizer_close(again);
        lv_tokenizer_close(t);
    } else if (!error.message) {
        abort();
    }
    lv_error_clear(&error);
    if (zero) check_training(text, text_length);
    return 0;
}
