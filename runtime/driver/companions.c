// Companions of a model: see companions.h.
#include "companions.h"

#include <string.h>

#include "io/checkpoint.h"

static bool open_tokenizer(Companions *c, const OpenModel *open, const char *path, LvError *error) {
    if (path) return lv_tokenizer_open(&c->tokenizer, path, error);
    const char *text = open && open->checkpoint ? lv_safetensors_metadata(open->checkpoint, LV_CHECKPOINT_TOKENIZER) : NULL;
    return !text || lv_tokenizer_parse(&c->tokenizer, text, strlen(text), open->path, error);
}

static bool open_vae(Companions *c, const OpenModel *open, const char *path, LvError *error) {
    static const OptionSpec none[] = {{0}};
    Options options = {.specs = none};
    if (path) return model_open(&c->vae, path, &options, error);
    const char *text = open && open->checkpoint ? lv_safetensors_metadata(open->checkpoint, LV_CHECKPOINT_VAE) : NULL;
    return !text || model_open_described(&c->vae, open->path, text,
                                         lv_tensor_file_part(open->checkpoint, LV_CHECKPOINT_VAE_PREFIX), error);
}

bool companions_open(Companions *c, const OpenModel *open, const char *tokenizer, const char *vae, LvError *error) {
    *c = (Companions){0};
    return open_tokenizer(c, open, tokenizer, error) && open_vae(c, open, vae, error);
}

void companions_close(Companions *c) {
    if (c->tokenizer) lv_tokenizer_close(c->tokenizer);
    model_close(&c->vae);
    *c = (Companions){0};
}
