// What a tokenizer is made of. Filled by read.c, never changed after that.
#ifndef LV_TEXT_INTERNAL_H
#define LV_TEXT_INTERNAL_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pattern.h"
#include "text/tokenizer.h"

typedef enum { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT, SPLIT_CONTIGUOUS } SplitBehavior;

typedef enum {
    CUT_SPLIT,         // at the matches of `pattern`
    CUT_PREFIX_SPACE,  // a space before a piece that does not begin with one
    CUT_BYTES,         // each byte becomes a letter of the byte alphabet
} CutKind;

typedef struct {
    CutKind kind;
    SplitBehavior behavior;
    bool invert;
    Pattern *pattern;
} Cut;  // a step of the pre-tokenizer

// GPT-2's words, those of a ByteLevel that has no others. As in its authors' encoder.py.
#define GPT2_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef enum {
    JOIN_BYTES,     // letters of the byte alphabet to bytes, all tokens to one text
    JOIN_REPLACE,   // every match of `pattern` by `content`
    JOIN_STRIP,     // up to `start` of the character `content` from the left end, `stop` from the right
    JOIN_FUSE,      // all tokens to one text
    JOIN_SUFFIX,    // `content` to a space, but to nothing in the last token
    JOIN_FALLBACK,  // `<0x0A>` to bytes
} JoinKind;

typedef struct {
    JoinKind kind;
    Pattern *pattern;
    char *content;
    size_t content_length;
    uint32_t start, stop;
} Join;  // a step of the decoder

struct LvTokenizer {
    LvArena *arena;
    char *text;  // tokenizer.json
    size_t text_length;
    LV_VEC(Normalizer) normalizers;
    LV_VEC(Cut) cuts;
    Bpe bpe;
    AddedTokens added;
    LV_VEC(int32_t) before, after;  // what the post-processor puts around a text
    LV_VEC(Join) joins;
    bool has_decoder;  // none: tokens with spaces between
    int32_t vocabulary, end;
};

// read.c: tokenizer.json into `tokenizer`, which is empty but for its arena.
bool tokenizer_read_json(LvTokenizer *tokenizer, const char *text, size_t length, LvError *error);
// read_steps.c: the parts of a file that are lists of steps.
struct json_t;
bool read_normalizer(LvTokenizer *tokenizer, const struct json_t *json, LvError *error);
bool read_pre_tokenizer(LvTokenizer *tokenizer, const struct json_t *json, LvError *error);
bool read_decoder(LvTokenizer *tokenizer, const struct json_t *json, LvError *error);
bool read_post_processor(LvTokenizer *tokenizer, const struct json_t *json, LvError *error);
// clip.c: CLIP's list of merges, unpacked, as tokenizer.json.
bool clip_to_json(const char *text, size_t length, LvText *json, LvError *error);

#endif
