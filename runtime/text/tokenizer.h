// Byte-pair encoding: text to ids and back, as Hugging Face's tokenizers does it. A tokenizer is made from
//   tokenizer.json                    the kinds of GPT-2, Llama 3 and CLIP; what this reader cannot do exactly is refused by
//   name bpe_simple_vocab_16e6.txt[.gz]    CLIP's merges, as its authors published them
// and does not change after that: any number of threads may read one. Text is UTF-8; bytes that are not become U+FFFD, as
// Rust's from_utf8_lossy makes them. A caption ends with the end token and is padded with it: there is no other token for
// padding.
#ifndef LV_TEXT_TOKENIZER_H
#define LV_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "base/vec.h"

typedef struct LvTokenizer LvTokenizer;
typedef LV_VEC(int32_t) LvTokenIds;  // lv_vec_free when done

bool lv_tokenizer_open(LvTokenizer **tokenizer, const char *path, LvError *error);
// The same from a file's bytes, for example those that a checkpoint carries. `name` is for messages.
bool lv_tokenizer_parse(LvTokenizer **tokenizer, const char *bytes, size_t length, const char *name, LvError *error);
void lv_tokenizer_close(LvTokenizer *tokenizer);
// The tokenizer as the text of a tokenizer.json: the file's own bytes, or what CLIP's merges amount to. lv_tokenizer_parse of
// it gives the same tokenizer. Closed by a zero byte; belongs to the tokenizer.
const char *lv_tokenizer_text(const LvTokenizer *tokenizer, size_t *length);

int32_t lv_tokenizer_vocabulary(const LvTokenizer *tokenizer);  // greatest id + 1: the least `text_vocab` of a model
int32_t lv_tokenizer_id(const LvTokenizer *tokenizer, const char *token, size_t length);   // -1: no such token
const char *lv_tokenizer_token(const LvTokenizer *tokenizer, int32_t id, size_t *length);  // as the file writes it; NULL: none
bool lv_tokenizer_is_special(const LvTokenizer *tokenizer, int32_t id);
int32_t lv_tokenizer_end(const LvTokenizer *tokenizer);  // `<|endoftext|>` or what plays its part; -1: the file has none

enum {
    LV_ENCODE_SPECIALS = 1,  // with the tokens that the file's post-processor puts around a text
};
// Adds the ids of a text to `ids`. Fails where a pattern of the file takes too long on this text; `ids` is then as it was.
bool lv_tokenizer_encode(const LvTokenizer *tokenizer, const char *text, size_t length, unsigned flags, LvTokenIds *ids,
                         LvError *error);

enum {
    LV_DECODE_SKIP_SPECIALS = 1,
};
// Adds the text of some ids to `text`, always whole UTF-8. Ids that name no token are passed over.
bool lv_tokenizer_decode(const LvTokenizer *tokenizer, const int32_t *ids, size_t count, unsigned flags, LvText *text,
                         LvError *error);

// A caption as a model reads it: out[0 .. count) = the text's ids, then `end_id` at least once and up to the end. A text of
// more than count - 1 ids is cut, and *truncated (may be NULL) says so. End tokens that the text itself spells out are dropped:
// they would end the caption for the model. No tokens of the post-processor.
bool lv_tokenizer_caption(const LvTokenizer *tokenizer, const char *text, size_t length, int32_t end_id, size_t count,
                          int32_t *out, bool *truncated, LvError *error);

#endif
