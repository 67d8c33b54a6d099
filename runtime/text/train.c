// Texts to counted words, words to merges (pairs.c), all to a tokenizer.json (write.c).
#include "text/train.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "text/cut.h"
#include "text/internal.h"
#include "text/pairs.h"
#include "text/utf8.h"
#include "text/write.h"

#define END_TOKEN "<|endoftext|>"

typedef struct {
    const char *text;
    uint32_t length;
    uint64_t hash;
} Word;

struct LvBpeTrainer {
    LvBpeOptions options;           // `specials` is not used: the copies are
    LV_VEC(const char *) specials;  // the end token is the last
    LvArena *arena;                 // of words and tokens
    Normalizer normalizers[2];
    Cut cut;
    LvText text, room;
    LV_VEC(Word) words;
    LV_VEC(uint64_t) counts;  // [words]
    uint32_t *slots;          // open addressing: number of a word + 1
    size_t slot_count, texts;
};

// ---- the options

static bool add_special(LvBpeTrainer *t, const char *text, LvError *error) {
    if (!*text || strlen(text) > MAX_ADDED_LENGTH || !utf8_is_whole(text, strlen(text))) {
        return lv_error_set(error, LV_ERROR_USAGE, "a special token is 1 to %d bytes of UTF-8", MAX_ADDED_LENGTH);
    }
    size_t at = 0;
    int byte = letter_byte(utf8_next(text, &at));
    if (byte >= 0 && !text[at]) {
        return lv_error_set(error, LV_ERROR_USAGE, "the special token '%s' is the letter of a byte", text);
    }
    for (size_t i = 0; i < t->specials.count; i++) {
        if (!strcmp(t->specials.data[i], text))
            return lv_error_set(error, LV_ERROR_USAGE, "the special token '%s' is given twice", text);
    }
    if (!strcmp(text, END_TOKEN)) return true;  // is there in any case
    lv_vec_push(&t->specials, lv_arena_strdup(t->arena, text));
    return true;
}

bool lv_bpe_create(LvBpeTrainer **trainer, const LvBpeOptions *options, LvError *error) {
    LvBpeTrainer *t = lv_calloc(1, sizeof *t);
    t->options = *options;
    t->arena = lv_arena_create();
    t->normalizers[0].kind = NORMALIZE_NFC;
    t->normalizers[1].kind = NORMALIZE_LOWERCASE;
    t->cut = (Cut){.kind = CUT_SPLIT, .behavior = SPLIT_ISOLATED};
    bool good = pattern_regex(&t->cut.pattern, GPT2_WORDS, strlen(GPT2_WORDS), error);
    for (size_t i = 0; i < options->special_count && good; i++) good = add_special(t, options->specials[i], error);
    lv_vec_push(&t->specials, END_TOKEN);
    size_t least = 256 + t->specials.count;
    if (good && (options->vocabulary < least || options->vocabulary > MAX_TOKENS)) {
        good = lv_error_set(error, LV_ERROR_USAGE, "a vocabulary of %zu: it must be in %zu … %d", options->vocabulary, least,
                            MAX_TOKENS);
        lv_error_hint(error, "256 bytes and %zu special token%s come before the first merge", t->specials.count,
                      t->specials.count == 1 ? "" : "s");
    }
    if (good) *trainer = t;
    else lv_bpe_destroy(t);
    return good;
}

void lv_bpe_destroy(LvBpeTrainer *trainer) {
    if (!trainer) return;
    pattern_free(trainer->cut.pattern);
    lv_vec_free(&trainer->specials);
    lv_vec_free(&trainer->words);
    lv_vec_free(&trainer->counts);
    lv_text_free(&trainer->text);
    lv_text_free(&trainer->room);
    free(trainer->slots);
    lv_arena_destroy(trainer->arena);
    free(trainer);
}

// ---- counting

static uint32_t *word_slot(const LvBpeTrainer *t, const char *text, size_t length, uint64_t hash) {
    size_t mask = t->slot_count - 1, at = (size_t)hash & mask;
    for (; t->slots[at]; at = (at + 1) & mask) {
        const Word *word = &t->words.data[t->slots[at] - 1];
        if (word->hash == hash && word->length == length && !memcmp(word->text, text, length)) break;
    }
    return &t->slots[at];
}

static void grow(LvBpeTrainer *t) {
    t->slot_count = t->slot_count ? t->slot_count * 2 : 4096;
    free(t->slots);
    t->slots = lv_calloc(t->slot_count, sizeof *t->slots);
    for (size_t i = 0; i < t->words.count; i++) {
        const Word *word = &t->words.data[i];
        *word_slot(t, word->text, word->length, word->hash) = (uint32_t)i + 1;
    }
}

static bool count_word(void *context, const char *text, size_t length, LvError *error) {
    LvBpeTrainer *t = context;
    uint64_t hash = XXH3_64bits(text, length);
    if (t->words.count * 2 >= t->slot_count) grow(t);
    uint32_t *slot = word_slot(t, text, length, hash);
    if (!*slot) {
        if (t->words.count >= UINT32_MAX / 2) return lv_error_set(error, LV_ERROR_MEMORY, "too many different words");
        lv_vec_push(&t->words, (Word){lv_arena_copy(t->arena, text, length), (uint32_t)length, hash});
        lv_vec_push(&t->counts, 0);
        *slot = (uint32_t)t->words.count;
    }
    t->counts.data[*slot - 1]++;
    return true;
}

bool lv_bpe_add(LvBpeTrainer *trainer, const char *text, size_t length, LvError *error) {
    LvBpeTrainer *t = trainer;
    if (length > MAX_TEXT)
        return lv_error_set(error, LV_ERROR_FORMAT, "a text of %zu bytes; the longest taken is %d", length, MAX_TEXT);
    PatternBudget budget;
    pattern_budget(&budget, length);
    t->texts++;
    t->text.length = 0;
    utf8_append_lossy(&t->text, text, length);
    return normalize(t->normalizers, t->options.lowercase ? 2 : 1, &t->text, &budget, error) &&
           cut_text(&t->cut, 1, &t->room, lv_text_get(&t->text), t->text.length, &budget, (WordTaker){count_word, t}, error);
}

// ---- merging

// Bytes get their ids in order of their letters, as tokenizers orders an alphabet.
static void add_bytes(Vocabulary *vocabulary, WrittenTokenizer *out, LvArena *arena, int32_t ids[256]) {
    for (uint32_t letter = 0; letter < SMALL_LETTERS; letter++) {
        int byte = letter_byte(letter);
        char text[4];
        if (byte < 0) continue;
        size_t length = utf8_put(letter, text);
        ids[byte] = (int32_t)out->tokens.count;
        vocabulary_add(vocabulary, text, length, ids[byte], NULL);
        lv_vec_push(&out->tokens, lv_arena_copy(arena, text, length));
    }
}

// All words' bytes, as ids, one word after the other. `words`: to which each belongs.
static Pairs *spread(const LvBpeTrainer *t, const int32_t ids[256], uint32_t **words, LvError *error) {
    size_t length = 0, at = 0;
    for (size_t i = 0; i < t->words.count; i++) length += t->words.data[i].length;
    if (length >= UINT32_MAX) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "the different words are %zu bytes together; 4 GiB is the limit", length);
        return NULL;
    }
    int32_t *symbols = lv_malloc((length + 1) * sizeof *symbols);
    *words = lv_malloc((length + 1) * sizeof **words);
    for (size_t i = 0; i < t->words.count; i++) {
        for (size_t j = 0; j < t->words.data[i].length; j++, at++) {
            symbols[at] = ids[(unsigned char)t->words.data[i].text[j]];
            (*words)[at] = (uint32_t)i;
        }
    }
    return pairs_create(symbols, *words, length, t->counts.data);
}

static bool is_special(const LvBpeTrainer *t, const char *text) {
    for (size_t i = 0; i < t->specials.count; i++) {
        if (!strcmp(t->specials.data[i], text)) return true;
    }
    return false;
}

static void merge_all(LvBpeTrainer *t, Pairs *pairs, Vocabulary *vocabulary, WrittenTokenizer *out) {
    size_t wanted = t->options.vocabulary - t->specials.count;
    int32_t left, right;
    while (out->tokens.count < wanted && pairs_best(pairs, t->options.least, &left, &right)) {
        const char *text = lv_arena_printf(t->arena, "%s%s", out->tokens.data[left], out->tokens.data[right]);
        size_t length = strlen(text);
        int32_t id = vocabulary_find(vocabulary, text, length);  // found: other two parts have made it
        bool is_new = id < 0;
        if (is_new) id = (int32_t)out->tokens.count;
        if (is_special(t, text) || (is_new && !vocabulary_add(vocabulary, text, length, id, NULL))) {
            pairs_drop(pairs, left, right);  // a special token's text is never cut into words; or it is too long for a token
            continue;
        }
        if (is_new) lv_vec_push(&out->tokens, text);
        lv_vec_push(&out->merges, (struct WrittenMerge){left, right});
        pairs_merge(pairs, left, right, id);
    }
}

static void add_specials(const LvBpeTrainer *t, WrittenTokenizer *out) {
    out->first_special = (int32_t)out->tokens.count;
    for (size_t i = 0; i < t->specials.count; i++) lv_vec_push(&out->tokens, t->specials.data[i]);
}

bool lv_bpe_train(LvBpeTrainer *trainer, LvText *json, LvBpeResult *result, LvError *error) {
    WrittenTokenizer out = {.lowercase = trainer->options.lowercase};
    Vocabulary vocabulary;
    int32_t ids[256];
    uint32_t *words = NULL;
    if (!trainer->words.count) return lv_error_set(error, LV_ERROR_FORMAT, "there is no text to train on");
    vocabulary_init(&vocabulary, trainer->arena);
    add_bytes(&vocabulary, &out, trainer->arena, ids);
    Pairs *pairs = spread(trainer, ids, &words, error);
    if (pairs) {
        merge_all(trainer, pairs, &vocabulary, &out);
        add_specials(trainer, &out);
        write_tokenizer(&out, json);
    }
    if (result) *result = (LvBpeResult){trainer->texts, trainer->words.count, out.merges.count, out.tokens.count};
    bool good = pairs != NULL;
    pairs_destroy(pairs);
    free(words);
    vocabulary_free(&vocabulary);
    lv_vec_free(&out.tokens);
    lv_vec_free(&out.merges);
    return good;
}
