// Companions of a model: see companions.h.
#include "companions.h"

#include <string.h>

#include "io/checkpoint.h"

static const char *carried(const OpenModel *open, const char *key) {
    return open && open->checkpoint ? lv_safetensors_metadata(open->checkpoint, key) : NULL;
}

bool companions_complete(Companions *c, const OpenModel *open, LvError *error) {
    const char *tokenizer = carried(open, LV_CHECKPOINT_TOKENIZER), *vae = carried(open, LV_CHECKPOINT_VAE);
    if (tokenizer && !c->tokenizer && !lv_tokenizer_parse(&c->tokenizer, tokenizer, strlen(tokenizer), open->path, error)) return false;
    return !vae || c->vae.model ||
           model_open_described(&c->vae, open->path, vae, lv_tensor_file_part(open->checkpoint, LV_CHECKPOINT_VAE_PREFIX), error);
}

bool companions_open(Companions *c, const OpenModel *open, const char *tokenizer, const char *vae, LvError *error) {
    static const OptionSpec none[] = {{0}};
    Options options = {.specs = none};
    *c = (Companions){0};
    if (tokenizer && !lv_tokenizer_open(&c->tokenizer, tokenizer, error)) return false;
    if (vae && !model_open(&c->vae, vae, &options, error)) return lv_error_prefix(error, "--vae");
    return companions_complete(c, open, error);
}

void companions_close(Companions *c) {
    if (c->tokenizer) lv_tokenizer_close(c->tokenizer);
    model_close(&c->vae);
    *c = (Companions){0};
}
