// What a model of text and pictures needs besides itself: the tokenizer of its captions, and the frozen picture tokenizer, which
// is a model of its own with entries `encode` and `decode`. They come from files that the user names, or from inside the model's
// checkpoint, which carries both:
//   lverse.tokenizer   metadata: the text of a tokenizer.json
//   lverse.vae         metadata: the picture tokenizer as model_describe writes it
//   vae.NAME           its tensors
//
//   Companions companions;
//   if (!companions_open(&companions, &open, NULL, NULL, &error)) ...          open: the checkpoint as model_open gave it
//   companions.tokenizer                                                       NULL: the checkpoint carries none
//   model_compile(&companions.vae, &compile, &plan, &error)                    .vae.model NULL: it carries none
//   lv_store_create(device, plan, &store, &error) && model_load_weights(&companions.vae, store, &error)
//   companions_close(&companions)                                              before model_close(&open)
#ifndef LV_DRIVER_COMPANIONS_H
#define LV_DRIVER_COMPANIONS_H

#include "model.h"
#include "text/tokenizer.h"

typedef struct {
    LvTokenizer *tokenizer;
    OpenModel vae;  // as if its own checkpoint had been opened: vae.checkpoint has its weights, under their own names
} Companions;

// `tokenizer` and `vae` name files and go before what `open` carries; each may be NULL, and so may `open`. What is found nowhere
// stays empty, which is no error. Tensors are shared with `open`, which must outlive the companions.
bool companions_open(Companions *companions, const OpenModel *open, const char *tokenizer, const char *vae, LvError *error);
// Takes what is still missing from `open`; companions_open does it by itself.
bool companions_complete(Companions *companions, const OpenModel *open, LvError *error);
void companions_close(Companions *companions);

#endif
