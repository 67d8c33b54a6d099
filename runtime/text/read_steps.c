// The lists of steps in a tokenizer.json: normalizer, pre-tokenizer, decoder, post-processor. A kind of step that is not here
// is refused by its name: leaving it out would give other ids.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/internal.h"
#include "text/json.h"

enum { MAX_STEPS = 64 };  // in one list, with those inside: each step of a cut is a call deeper

static bool unknown_step(const char *part, const char *type, LvError *error) {
    if (!*type) return lv_error_set(error, LV_ERROR_FORMAT, "a %s has no 'type'", part);
    return lv_error_set(error, LV_ERROR_UNSUPPORTED, "the %s '%.40s' is not supported", part, type);
}

// Calls `one` for `json`, or for each member of the list that a Sequence holds under `name`, at any depth.
typedef bool ReadStep(LvTokenizer *t, const json_t *json, LvError *error);
static bool read_sequence(LvTokenizer *t, const json_t *json, const char *name, ReadStep *one, int *room, LvError *error) {
    size_t i;
    json_t *step;
    if (!json || json_is_null(json)) return true;
    if (--*room < 0) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "'%s' holds more than %d steps", name, MAX_STEPS);
    if (strcmp(json_kind(json), "Sequence") != 0) return one(t, json, error);
    const json_t *list = json_object_get(json, name);
    if (!json_is_array(list)) return lv_error_set(error, LV_ERROR_FORMAT, "a Sequence has no list '%s'", name);
    json_array_foreach((json_t *)list, i, step) {
        if (!read_sequence(t, step, name, one, room, error)) return false;
    }
    return true;
}

// {"String": "a"} or {"Regex": "a+"}.
static bool read_pattern(const json_t *json, Pattern **pattern, LvError *error) {
    const json_t *object = json_object_get(json, "pattern"), *text = json_object_get(object, "String"),
                 *regex = text ? NULL : json_object_get(object, "Regex");
    if (json_is_string(text) && json_string_length(text)) {
        *pattern = pattern_literal(json_string_value(text), json_string_length(text));
        return true;
    }
    if (json_is_string(text)) return pattern_regex(pattern, "", 0, error);
    if (json_is_string(regex)) return pattern_regex(pattern, json_string_value(regex), json_string_length(regex), error);
    return lv_error_set(error, LV_ERROR_FORMAT, "a '%.40s' has no 'pattern'", json_kind(json));
}

static bool keep_content(LvTokenizer *t, const json_t *json, const char *name, char **kept, size_t *kept_length,
                         LvError *error) {
    const char *text = NULL;
    if (!json_take_text(json, name, &text, kept_length, error)) return false;
    if (!text) return lv_error_set(error, LV_ERROR_FORMAT, "a '%.40s' has no '%s'", json_kind(json), name);
    *kept = lv_arena_copy(t->arena, text, *kept_length);
    return true;
}

// ---- normalizer

static bool read_one_normalizer(LvTokenizer *t, const json_t *json, LvError *error) {
    static const struct {
        const char *name;
        NormalizeKind kind;
    } kinds[] = {
        {"NFC", NORMALIZE_NFC},
        {"NFD", NORMALIZE_NFD},
        {"NFKC", NORMALIZE_NFKC},
        {"NFKD", NORMALIZE_NFKD},
        {"Lowercase", NORMALIZE_LOWERCASE},
        {"Replace", NORMALIZE_REPLACE},
        {"Strip", NORMALIZE_STRIP},
        {"Prepend", NORMALIZE_PREPEND},
    };
    const char *type = json_kind(json);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].name) != 0) continue;
        Normalizer step = {.kind = kinds[i].kind, .left = true, .right = true};
        bool good =
            json_take_flag(json, "strip_left", &step.left, error) && json_take_flag(json, "strip_right", &step.right, error);
        if (good && step.kind == NORMALIZE_PREPEND)
            good = keep_content(t, json, "prepend", &step.content, &step.content_length, error);
        if (good && step.kind == NORMALIZE_REPLACE) {
            good = keep_content(t, json, "content", &step.content, &step.content_length, error) &&
                   read_pattern(json, &step.pattern, error);
        }
        if (good) lv_vec_push(&t->normalizers, step);
        return good;
    }
    return unknown_step("normalizer", type, error);
}

bool read_normalizer(LvTokenizer *tokenizer, const json_t *json, LvError *error) {
    int room = MAX_STEPS;
    return read_sequence(tokenizer, json, "normalizers", read_one_normalizer, &room, error);
}

// ---- pre-tokenizer

static bool push_split(LvTokenizer *t, const char *regex, SplitBehavior behavior, bool invert, LvError *error) {
    Cut cut = {CUT_SPLIT, behavior, invert, NULL};
    if (!pattern_regex(&cut.pattern, regex, strlen(regex), error)) return false;
    lv_vec_push(&t->cuts, cut);
    return true;
}

static bool read_behavior(const json_t *json, SplitBehavior *behavior, LvError *error) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const json_t *name = json_object_get(json, "behavior");
    if (!name) return true;
    for (int i = 0; i < 5 && json_is_string(name); i++) {
        if (!strcmp(json_string_value(name), names[i])) return *behavior = (SplitBehavior)i, true;
    }
    return lv_error_set(error, LV_ERROR_FORMAT, "a '%.40s' has an odd 'behavior'", json_kind(json));
}

static bool read_byte_level(LvTokenizer *t, const json_t *json, LvError *error) {
    bool prefix_space = true, regex = true;
    if (!json_take_flag(json, "add_prefix_space", &prefix_space, error) || !json_take_flag(json, "use_regex", &regex, error))
        return false;
    if (prefix_space) lv_vec_push(&t->cuts, (Cut){.kind = CUT_PREFIX_SPACE});
    if (regex && !push_split(t, GPT2_WORDS, SPLIT_ISOLATED, false, error)) return false;
    lv_vec_push(&t->cuts, (Cut){.kind = CUT_BYTES});
    return true;
}

static bool read_split(LvTokenizer *t, const json_t *json, LvError *error) {
    Cut cut = {.kind = CUT_SPLIT};
    if (!json_object_get(json, "behavior")) return lv_error_set(error, LV_ERROR_FORMAT, "a 'Split' has no 'behavior'");
    if (!read_behavior(json, &cut.behavior, error) || !json_take_flag(json, "invert", &cut.invert, error) ||
        !read_pattern(json, &cut.pattern, error)) {
        return false;
    }
    lv_vec_push(&t->cuts, cut);
    return true;
}

static bool read_one_pre_tokenizer(LvTokenizer *t, const json_t *json, LvError *error) {
    const char *type = json_kind(json);
    if (!strcmp(type, "ByteLevel")) return read_byte_level(t, json, error);
    if (!strcmp(type, "Split")) return read_split(t, json, error);
    if (!strcmp(type, "Whitespace")) {  // this one by Rust's \w, which has the joiners
        return push_split(t, "[\\w\\u200C\\u200D]+|[^\\w\\s\\u200C\\u200D]+", SPLIT_REMOVED, true, error);
    }
    if (!strcmp(type, "WhitespaceSplit")) return push_split(t, "\\s", SPLIT_REMOVED, false, error);
    if (!strcmp(type, "Digits")) {
        bool each = false;
        return json_take_flag(json, "individual_digits", &each, error) &&
               push_split(t, "\\p{N}", each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false, error);
    }
    if (!strcmp(type, "Punctuation")) {
        SplitBehavior behavior = SPLIT_ISOLATED;
        return read_behavior(json, &behavior, error) &&
               push_split(t, "[\\p{P}\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]", behavior, false, error);
    }
    return unknown_step("pre-tokenizer", type, error);
}

bool read_pre_tokenizer(LvTokenizer *tokenizer, const json_t *json, LvError *error) {
    int room = MAX_STEPS;
    return read_sequence(tokenizer, json, "pretokenizers", read_one_pre_tokenizer, &room, error);
}

// ---- decoder

static bool read_join(LvTokenizer *t, const json_t *json, Join *join, LvError *error) {
    int64_t start = 0, stop = 0;
    switch (join->kind) {
        case JOIN_REPLACE:
            return keep_content(t, json, "content", &join->content, &join->content_length, error) &&
                   read_pattern(json, &join->pattern, error);
        case JOIN_SUFFIX:
            join->content = "</w>", join->content_length = 4;
            return !json_object_get(json, "suffix") ||
                   keep_content(t, json, "suffix", &join->content, &join->content_length, error);
        case JOIN_STRIP:
            if (!keep_content(t, json, "content", &join->content, &join->content_length, error) ||
                !json_take_integer(json, "start", 0, 1 << 20, &start, error) ||
                !json_take_integer(json, "stop", 0, 1 << 20, &stop, error)) {
                return false;
            }
            join->start = (uint32_t)start, join->stop = (uint32_t)stop;
            return join->content_length > 0 || lv_error_set(error, LV_ERROR_FORMAT, "a 'Strip' has an empty 'content'");
        case JOIN_BYTES:
        case JOIN_FUSE:
        case JOIN_FALLBACK: break;
    }
    return true;
}

static bool read_one_decoder(LvTokenizer *t, const json_t *json, LvError *error) {
    static const struct {
        const char *name;
        JoinKind kind;
    } kinds[] = {
        {"ByteLevel", JOIN_BYTES}, {"Replace", JOIN_REPLACE},   {"Strip", JOIN_STRIP},
        {"Fuse", JOIN_FUSE},       {"BPEDecoder", JOIN_SUFFIX}, {"ByteFallback", JOIN_FALLBACK},
    };
    const char *type = json_kind(json);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].name) != 0) continue;
        Join join = {.kind = kinds[i].kind};
        if (!read_join(t, json, &join, error)) return false;
        lv_vec_push(&t->joins, join);
        return true;
    }
    return unknown_step("decoder", type, error);
}

// CLIP's files have ByteLevel alone and leave `</w>` in the text for their readers in Python to replace; that is done here.
static void finish_clip_words(LvTokenizer *t) {
    Bpe *bpe = &t->bpe;
    bool bytes_alone = t->joins.count == 1 && t->joins.data[0].kind == JOIN_BYTES;
    if (!bytes_alone || !bpe->suffix_length) return;
    Pattern *suffix = pattern_literal(bpe->suffix, bpe->suffix_length);
    lv_vec_push(&t->joins, (Join){.kind = JOIN_REPLACE, .pattern = suffix, .content = " ", .content_length = 1});
    lv_vec_push(&t->joins, (Join){.kind = JOIN_STRIP, .content = " ", .content_length = 1, .start = 1, .stop = 1});
}

bool read_decoder(LvTokenizer *tokenizer, const json_t *json, LvError *error) {
    int room = MAX_STEPS;
    tokenizer->has_decoder = json && !json_is_null(json);
    if (!read_sequence(tokenizer, json, "decoders", read_one_decoder, &room, error)) return false;
    finish_clip_words(tokenizer);
    return true;
}

// ---- post-processor

static bool push_id(const LvTokenizer *t, Symbols *ids, const json_t *id, LvError *error) {
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= t->vocabulary) {
        return lv_error_set(error, LV_ERROR_FORMAT, "the post-processor adds a token whose id is not in the vocabulary");
    }
    lv_vec_push(ids, (int32_t)json_integer_value(id));
    return true;
}

// What a step adds goes around what those before it added.
static void wrap(LvTokenizer *t, const Symbols *before, const Symbols *after) {
    Symbols all = {0};
    for (size_t i = 0; i < before->count; i++) lv_vec_push(&all, before->data[i]);
    for (size_t i = 0; i < t->before.count; i++) lv_vec_push(&all, t->before.data[i]);
    t->before.count = 0;
    for (size_t i = 0; i < all.count; i++) lv_vec_push(&t->before, all.data[i]);
    for (size_t i = 0; i < after->count; i++) lv_vec_push(&t->after, after->data[i]);
    lv_vec_free(&all);
}

static bool read_template(LvTokenizer *t, const json_t *json, Symbols *before, Symbols *after, LvError *error) {
    const json_t *single = json_object_get(json, "single"), *specials = json_object_get(json, "special_tokens");
    size_t i, j;
    json_t *piece, *id;
    int texts = 0;
    if (!json_is_array(single)) return lv_error_set(error, LV_ERROR_FORMAT, "a 'TemplateProcessing' has no list 'single'");
    json_array_foreach((json_t *)single, i, piece) {
        const char *text = json_string_value(json_object_get(json_object_get(piece, "Sequence"), "id"));
        const char *name = json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        if (text && !strcmp(text, "A")) {
            texts++;
            continue;
        }
        const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
        if (!json_is_array(ids)) return lv_error_set(error, LV_ERROR_FORMAT, "a piece of the post-processor's 'single' is odd");
        json_array_foreach((json_t *)ids, j, id) {
            if (!push_id(t, texts ? after : before, id, error)) return false;
        }
    }
    return texts == 1 || lv_error_set(error, LV_ERROR_UNSUPPORTED, "the post-processor has the text %d times, not once", texts);
}

static bool read_one_post_processor(LvTokenizer *t, const json_t *json, LvError *error) {
    const char *type = json_kind(json);
    Symbols before = {0}, after = {0};
    bool good;
    if (!strcmp(type, "ByteLevel")) return true;  // about offsets alone
    if (!strcmp(type, "TemplateProcessing")) good = read_template(t, json, &before, &after, error);
    else if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing")) {
        good = push_id(t, &before, json_array_get(json_object_get(json, "cls"), 1), error) &&
               push_id(t, &after, json_array_get(json_object_get(json, "sep"), 1), error);
    } else {
        good = unknown_step("post-processor", type, error);
    }
    if (good) wrap(t, &before, &after);
    lv_vec_free(&before);
    lv_vec_free(&after);
    return good;
}

bool read_post_processor(LvTokenizer *tokenizer, const json_t *json, LvError *error) {
    int room = MAX_STEPS;
    return read_sequence(tokenizer, json, "processors", read_one_post_processor, &room, error);
}
