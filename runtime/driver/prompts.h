// Prompts: from the command line, a file or a stream; made ready for the model.
#ifndef LV_DRIVER_PROMPTS_H
#define LV_DRIVER_PROMPTS_H

#include <stdio.h>

#include "base/vec.h"
#include "options.h"
#include "text/tokenizer.h"

typedef struct {
    char *text;       // UTF-8; bytes that were none are U+FFFD
    bool repaired;    // some were
    int64_t number;   // from 1: its place on the command line, or its line
    int32_t *tokens;  // [text_length] of the model, after prompt_encode
    char *left_out;   // the end of the text that the tokens have no room for, NULL if all fits
    char *unknown;    // characters that the tokenizer has no token for and leaves out, NULL if there are none
} Prompt;

typedef struct {
    LV_VEC(Prompt) items;
    const char *where;  // what numbers count: "prompt", or a file's name
    int64_t lines;      // read from a stream so far
} Prompts;

// Those of --prompt, or the lines of the file --prompts; empty lines of a file are passed over.
bool prompts_collect(Prompts *prompts, const Options *options, LvError *error);
// The next line of a stream, without its end, be it empty. False: there is no more.
bool prompts_read_line(Prompts *prompts, FILE *stream);
// Fills `tokens`, `left_out` and `unknown`. A text without a single token is an error.
bool prompt_encode(Prompt *prompt, const char *where, const LvTokenizer *tokenizer, int64_t text_length, int32_t end,
                   LvError *error);
// The place of a prompt for messages: "prompt 2", "wishes.txt:7".
void prompt_place(const Prompt *prompt, const char *where, LvText *out);
void prompts_clear(Prompts *prompts);  // its items

#endif
