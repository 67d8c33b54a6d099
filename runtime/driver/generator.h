// What sample and caption share: a checkpoint that draws and describes, open with its tokenizer and its picture tokenizer.
#ifndef LV_DRIVER_GENERATOR_H
#define LV_DRIVER_GENERATOR_H

#include "companions.h"
#include "generate/painter.h"
#include "generate/writer.h"
#include "session.h"
#include "train/coder.h"

typedef struct {
    Session *session;
    Companions companions;
    LvCompileOptions vae_compile;
    LvText vae_text;                    // the picture tokenizer as model_describe writes it
    LvNetwork network, vae;             // the model, and its picture tokenizer, whose store comes with the painter
    int64_t text_length, image_length;  // tokens of a caption and of a picture
    int32_t end;                        // the token that ends a caption
    LvTicker ticker;                    // progress on a terminal
    const char *doing;                  // what the line of progress says: "drawing"
    int64_t done, all;                  // of how many
} Generator;

// Refuses a model that cannot, and a checkpoint that lacks a companion, with words that say how to get one. `entries`: what is going to run,
// the last NULL; they outlive the session.
bool generator_open(Generator *generator, Session *session, const char *const *entries, LvError *error);
void generator_close(Generator *generator);
// The picture tokenizer both ways. It has as many codes a picture as the model takes, or is refused.
bool generator_painter(Generator *generator, int64_t batch, LvPainter **painter, LvError *error);
bool generator_coder(Generator *generator, int64_t batch, LvCoder **coder, LvError *error);
// One line on a terminal's stderr, overwritten; nothing elsewhere. `generator_quiet` takes it away.
void generator_quiet(Generator *generator);

// --temperature, --top-k, --top-p, --greedy, by which tokens are chosen; checked against one another.
bool choice_read(const Options *options, LvChoice *choice, LvError *error);
bool choice_given(const Options *options);  // whether there is any of them

#define CHOICE_OPTIONS                                                                                   \
    {"temperature", OPTION_VALUE, "T", "divides the logits: below 1 bolder, above 1 wilder, 0 greedy (default 1)"}, \
    {"top-k", OPTION_VALUE, "K", "choose among the K likeliest tokens (default 0: all)"},              \
    {"top-p", OPTION_VALUE, "P", "among the fewest tokens that have this much of the probability (default 1: all)"}, \
    {"greedy", OPTION_FLAG, NULL, "always the likeliest token"}

// The options of SESSION_OPTIONS but --seed, which these commands say more about, and the companions.
#define GENERATOR_OPTIONS                                                                                \
    {"tokenizer", OPTION_VALUE, "FILE", "tokenizer.json, in place of the checkpoint's own"},           \
    {"vae", OPTION_VALUE, "FILE", "checkpoint of a picture tokenizer, in place of the checkpoint's own"}, \
    {"weights", OPTION_VALUE, "FILE", "safetensors with the model's weights, where MODEL has none"},   \
    {"set", OPTION_VALUE, "NAME=VALUE", "a parameter of the model; --NAME VALUE does the same"},       \
    MODEL_OPTIONS,                                                                                       \
    {"help", OPTION_FLAG, NULL, "this text"}

#endif
